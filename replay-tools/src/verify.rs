//! `verify`: whether the log is whole, and whether views are what it says.

use std::path::PathBuf;

use clap::Args;
use tollbook_projections::first::FirstPlacesInMemory;
use tollbook_projections::state::State;
use tollbook_projections::view::Views;
use tollbook_schemas::position::{PartitionId, Position};

use crate::Failure;
use crate::books::Books;
use crate::fold::{Folded, fold};
use crate::source::SourceArgs;

/// What to verify.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Views of a stopped server to compare with: the `views` directory in its data directory
    #[arg(long, value_name = "DIR")]
    views: Option<PathBuf>,
}

/// Exit code 1 with the first difference named.
pub(crate) async fn run(args: VerifyArgs) -> Result<(), Failure> {
    let source = args.source.open().await?;
    let views = match &args.views {
        Some(path) => Some(Views::open(&path.join("state")).map_err(check)?),
        None => None,
    };
    for partition in (0..source.ledger.partitions).map(PartitionId) {
        let viewed = match &views {
            Some(views) => views.partition(partition).map_err(check)?.load().map_err(check)?,
            None => None,
        };
        let at = viewed.as_ref().map(|state| state.head().position);
        let mut compared = None;
        let mut books = Books::default();
        let folded =
            fold(&source, partition, None, FirstPlacesInMemory::default(), |state, effects, _, _| {
                // From the first entry on, which is never usage.
                state.report_charges();
                books.step(state, &effects)?;
                if Some(state.head().position) == at {
                    compared = Some(state.digest().map_err(check)?);
                }
                Ok(())
            })
            .await?;
        conserved(&folded.state)?;
        books.end(&folded.state)?;
        if let Some(viewed) = &viewed {
            compare(viewed, compared)?;
        } else if args.views.is_some() {
            return Err(Failure::Check(format!("there is no view of partition {partition}")));
        }
        report(partition, &folded, at, &books)?;
    }
    Ok(())
}

fn check(error: impl std::fmt::Display) -> Failure {
    Failure::Check(error.to_string())
}

/// Recharged plus granted equals spent plus remaining, for everybody, exactly.
fn conserved(state: &State) -> Result<(), Failure> {
    match state.organizations().find(|organization| !organization.purse.conserves()) {
        Some(organization) => {
            Err(Failure::Check(format!("the money of {} does not add up", organization.id)))
        }
        None => Ok(()),
    }
}

fn compare(viewed: &State, folded: Option<[u8; 32]>) -> Result<(), Failure> {
    let (partition, position) = (viewed.partition(), viewed.head().position);
    let Some(folded) = folded else {
        return Err(Failure::Check(format!(
            "the view is at {partition}-{position}, past the end of the log"
        )));
    };
    if viewed.digest().map_err(check)? == folded {
        return Ok(());
    }
    Err(Failure::Check(format!("the view at {partition}-{position} is not what the log says there")))
}

#[expect(clippy::print_stdout, reason = "this is a command's output")]
fn report(
    partition: PartitionId,
    folded: &Folded,
    viewed: Option<Position>,
    books: &Books,
) -> Result<(), Failure> {
    let head = folded.state.head();
    let digest: String =
        folded.state.digest().map_err(check)?.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("partition   {partition}");
    println!("position    {partition}-{}", head.position);
    println!("digest      {digest}");
    println!("usage       {} records, {} in quarantine", head.usage_records, head.quarantined);
    println!("skipped     {} messages that were no entries, copies, or void", head.skipped);
    println!("postings    {} sum to zero and are the trial balance", books.postings);
    println!("statements  {} sealed, each what its seal says", books.seals);
    println!("folded      {} records a second", folded.records_per_second);
    if let Some(viewed) = viewed {
        println!("views       equal at {partition}-{viewed}");
    }
    Ok(())
}
