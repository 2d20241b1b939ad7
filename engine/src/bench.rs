//! `tollbook bench`: load, and what came of it beside what the machine can do at most.
//!
//! Every figure stands beside its limit, measured in the same run: shared machines are too noisy for anything else.
//! `docs/benchmarks.md` says what each one means.

mod admission;
mod alerts;
mod append;
mod fold;
mod gate;
mod http;
mod ingest;
mod report;
mod scratch;
mod start;
mod traffic;

use std::path::PathBuf;

use clap::Subcommand;
use tollbook_projections::ids::IdsError;

pub use self::admission::Admission;
pub use self::alerts::Alerts;
pub use self::append::Append;
pub use self::fold::Fold;
pub use self::gate::Gate;
pub use self::http::Http;
pub use self::ingest::Ingest;
pub use self::start::Start;

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Fold usage entries from memory on one core, as rebuilds and the owner do.
    Fold(Fold),
    /// Append opaque entries to an embedded log.
    Append(Append),
    /// Submit usage in process until it is durable and applied, with an embedded log or on JetStream.
    Ingest(Ingest),
    /// Decide whether requests may pass, in process.
    Admission(Admission),
    /// Submit usage by which every organization crosses its threshold, in process.
    Alerts(Alerts),
    /// Ask a running server whether requests may pass, over HTTP or NATS.
    Gate(Gate),
    /// Post CloudEvents to a running server.
    Http(Http),
    /// Start from the views of a large ledger, and see what its organizations take in memory.
    Start(Start),
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A directory cannot be used.
    #[error("{} cannot be used: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What the benchmark made for itself was refused: a fault of the benchmark or of what it measures.
    #[error("the benchmark's own data was refused: {0}")]
    Made(String),
    /// The index of ids cannot be used.
    #[error("the index of ids cannot be used: {0}")]
    Ids(#[source] IdsError),
    /// Usage did not count as it should have.
    #[error("usage was not booked: {0}")]
    NotBooked(String),
    /// The server refused, or cannot be reached.
    #[error("the server: {0}")]
    Http(String),
    /// Something went wrong on NATS.
    #[error("NATS: {0}")]
    Nats(String),
    /// Two folds of the same log differ.
    #[error("two folds of the same entries gave different digests")]
    Different,
}

impl BenchError {
    fn made(error: impl std::fmt::Display) -> Self {
        Self::Made(error.to_string())
    }

    fn http(error: reqwest::Error) -> Self {
        Self::Http(format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
    }

    const fn ids(error: IdsError) -> Self {
        Self::Ids(error)
    }
}

/// Measures, and prints what was measured.
pub async fn run(command: BenchCommand) -> Result<(), BenchError> {
    let is_child = match &command {
        BenchCommand::Start(options) => options.is_child(),
        BenchCommand::Gate(options) => options.is_child(),
        BenchCommand::Fold(_)
        | BenchCommand::Append(_)
        | BenchCommand::Ingest(_)
        | BenchCommand::Admission(_)
        | BenchCommand::Alerts(_)
        | BenchCommand::Http(_) => false,
    };
    if !is_child {
        report::say(&format!("{}\n", report::machine()));
    }
    match command {
        BenchCommand::Fold(options) => fold::run(&options),
        BenchCommand::Append(options) => append::run(&options).await,
        BenchCommand::Ingest(options) => ingest::run(&options).await,
        BenchCommand::Admission(options) => admission::run(&options).await,
        BenchCommand::Alerts(options) => alerts::run(&options).await,
        BenchCommand::Gate(options) => gate::run(&options).await,
        BenchCommand::Http(options) => http::run(&options).await,
        BenchCommand::Start(options) => start::run(&options).await,
    }
}

/// A count as a number for arithmetic with others.
fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
