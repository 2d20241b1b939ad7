//! `tollbook-replay`: read-only tools for finance and support. The log is folded again, from zero, by the same code.

mod books;
mod export;
mod fold;
mod rebuild;
mod source;
mod statement;
mod trace;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::source::SourceError;

/// Read-only tools for finance and support
#[derive(Debug, Parser)]
#[command(name = "tollbook-replay", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fold the log from zero and say whether it is whole; with --views, whether they are what the log says
    Verify(verify::VerifyArgs),
    /// Fold the log from zero into fresh views
    Rebuild(rebuild::RebuildArgs),
    /// An organization's statement of a month, from the log alone: to the byte what the server says
    Statement(statement::StatementArgs),
    /// Write the log, or what of it is about one organization or time, for other programs
    Export(export::ExportArgs),
    /// Follow one usage record through the whole log: accepted, duplicate, quarantined, released, reversed
    Trace(trace::TraceArgs),
}

/// What a command found.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// A check failed: exit code 1.
    #[error("{0}")]
    Check(String),
    /// The log has nothing of what was asked for: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The source is absent or locked: exit code 3.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The output takes no more: exit code 1.
    #[error("cannot write: {0}")]
    Write(#[from] std::io::Error),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match cli.command {
                Command::Verify(args) => verify::run(args).await,
                Command::Rebuild(args) => rebuild::run(args).await,
                Command::Statement(args) => statement::run(args).await,
                Command::Export(args) => export::run(args).await,
                Command::Trace(args) => trace::run(args).await,
            }
        }),
        Err(error) => Err(Failure::Check(format!("cannot start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

#[expect(clippy::print_stderr, reason = "this is where a command tells a person why it failed")]
fn complain(failure: &Failure) -> ExitCode {
    eprintln!("tollbook-replay: {failure}");
    match failure {
        Failure::Check(_) | Failure::Write(_) => ExitCode::from(1),
        Failure::Usage(_) => ExitCode::from(2),
        Failure::Source(_) => ExitCode::from(3),
    }
}
