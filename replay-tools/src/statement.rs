//! `statement`: a month of an organization, from the log alone.

use std::io::{self, ErrorKind, Write};

use clap::{Args, ValueEnum};
use tollbook_engine::cli::statement_table;
use tollbook_engine::clock::Clock;
use tollbook_engine::http::statement_json;
use tollbook_engine::partition::partition_of;
use tollbook_projections::books::Seal;
use tollbook_projections::first::FirstPlacesInMemory;
use tollbook_projections::state::Effect;
use tollbook_projections::statement::{Gathered, Kept};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::time::Month;

use crate::Failure;
use crate::fold::fold;
use crate::source::SourceArgs;

/// Which statement.
#[derive(Args, Debug)]
pub(crate) struct StatementArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The organization, org_…
    #[arg(long, value_name = "ORG", value_parser = OrgId::parse)]
    org: OrgId,
    /// The month, by when things were booked
    #[arg(long, value_name = "YYYY-MM")]
    month: Month,
    /// How it is written; csv is to the byte what the server says and the seal is of
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// Folds the organization's partition and writes the statement to standard output.
pub(crate) async fn run(args: StatementArgs) -> Result<(), Failure> {
    let source = args.source.open().await?;
    let (org, month) = (args.org, args.month);
    let partition = partition_of(&org, source.ledger.partitions);
    let mut gathered = Gathered::default();
    let mut sealed: Option<Seal> = None;
    let folded = fold(&source, partition, None, FirstPlacesInMemory::default(), |_, effects, _, _| {
        for effect in effects.iter().filter(|effect| effect.organization() == Some(&org)) {
            gathered.note(effect);
            if let Effect::Sealed { seal, .. } = effect
                && seal.month == month
            {
                sealed = Some(seal.clone());
            }
        }
        Ok(())
    });
    let state = folded.await?.state;
    let known =
        state.organization(&org).ok_or_else(|| Failure::Usage(format!("there is no organization {org}")))?;
    let kept = Kept::of(&state, known, month, Clock::System.now());
    let kept = kept.map_err(|error| Failure::Usage(format!("there is no such statement: {error}")))?;
    let closed = kept.closed;
    let statement = kept.with(gathered.booked(&org, month)).map_err(check)?;
    let csv = statement.csv();
    let calendar = &known.calendar;
    let bounds = (calendar.start_of_month(month), calendar.start_of_month(month.next()));
    let json = || statement_json(statement, closed, sealed.as_ref(), bounds).map_err(check);
    let bytes = match args.format {
        Format::Csv => csv,
        Format::Json => format!("{:#}\n", json()?).into_bytes(),
        Format::Table => format!("{}\n", statement_table(&json()?)).into_bytes(),
    };
    print(&bytes).map_err(check)
}

fn check(error: impl std::fmt::Display) -> Failure {
    Failure::Check(error.to_string())
}

/// A reader that has seen enough, such as `head`, is no fault.
fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
