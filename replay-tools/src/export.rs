//! `export`: the log as other programs read it.

use std::io::{self, BufWriter, Write};

use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use tollbook_engine::export::{Export, Point, Wanted};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{PartitionId, Position};

use crate::Failure;
use crate::source::{Source, SourceArgs, SourceError};

/// What to export, and how.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// How it is written
    #[arg(long)]
    format: Format,
    /// Only what is about this organization, or about everybody
    #[arg(long, value_name = "ORG", value_parser = organization)]
    org: Option<OrgId>,
    /// Only entries recorded from this time on, or from this position on in its partition
    #[arg(long, value_name = "TIME|POSITION")]
    from: Option<Point>,
    /// Only entries recorded before this time, or before this position in its partition
    #[arg(long, value_name = "TIME|POSITION")]
    to: Option<Point>,
}

/// How books are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// One JSON object per line and entry, as docs/export.md describes them
    Jsonl,
}

fn organization(text: &str) -> Result<OrgId, String> {
    OrgId::parse(text).map_err(|error| error.to_string())
}

/// Writes to standard output. A reader that has seen enough and goes is no failure.
pub(crate) async fn run(args: ExportArgs) -> Result<(), Failure> {
    let ExportArgs { source, format: Format::Jsonl, org: organization, from, to } = args;
    let source = source.open().await?;
    let wanted = Wanted { organization, from, to };
    let mut out = BufWriter::new(io::stdout().lock());
    let partitions = source.ledger.partitions;
    for partition in (0..partitions).map(PartitionId) {
        if wanted.concerns(partition, partitions) {
            match export(&source, partition, &wanted, &mut out).await {
                Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One partition, up to where its log ends now.
async fn export(
    source: &Source,
    partition: PartitionId,
    wanted: &Wanted,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let last = source.log.last(partition).await.map_err(SourceError::from)?;
    let mut tail = source.log.tail(partition, Position::ZERO);
    let mut export = Export::new(&source.ledger, partition, wanted);
    writeln!(out, "{}", export.head().map_err(unwritable)?)?;
    let mut position = Position::ZERO;
    while position < last {
        let Some(stored) = tail.next().await else {
            return Err(Failure::Check(format!(
                "the log of partition {partition} ends at {position}, before {last}"
            )));
        };
        let stored = stored.map_err(|error| Failure::Check(error.to_string()))?;
        if stored.position != position.next() {
            let missing = position.next();
            return Err(Failure::Check(format!("the log of partition {partition} has no entry {missing}")));
        }
        position = stored.position;
        let line = export.line(position, &stored.subject, &stored.payload).map_err(unwritable)?;
        if let Some(line) = line {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::Write(io::Error::other(error))
}
