//! `tollbook`: arguments, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use tollbook_engine::cli::Cli;

fn main() -> ExitCode {
    tollbook_engine::cli::main(Cli::parse())
}
