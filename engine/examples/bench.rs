//! `tollbook bench` by itself: `cargo run --release -p tollbook-engine --example bench -- fold`.

use clap::Parser;
use tollbook_engine::bench::{self, BenchCommand, BenchError};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[tokio::main]
async fn main() -> Result<(), BenchError> {
    bench::run(Arguments::parse().command).await
}
