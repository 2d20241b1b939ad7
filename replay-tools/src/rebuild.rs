//! `rebuild`: fresh views from the log.

use std::path::PathBuf;

use clap::Args;
use tollbook_projections::ids::Ids;
use tollbook_projections::state::Effect;
use tollbook_projections::view::{Rows, Views};
use tollbook_schemas::position::PartitionId;

use crate::Failure;
use crate::fold::fold;
use crate::source::SourceArgs;

/// Effects and changed rows are written after so many entries.
const WRITE_EVERY: u64 = 1_000;

/// What to rebuild.
#[derive(Args, Debug)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// An empty or new directory; a stopped server takes it as its `views`
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

/// Folds every partition from zero into views of the kind that a server has.
pub(crate) async fn run(args: RebuildArgs) -> Result<(), Failure> {
    let check = |error: &dyn std::fmt::Display| Failure::Check(error.to_string());
    let source = args.source.open().await?;
    if args.into.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::Check(format!("{} is not empty", args.into.display())));
    }
    std::fs::create_dir_all(&args.into).map_err(|error| check(&error))?;
    let views = Views::open(&args.into.join("state")).map_err(|error| check(&error))?;
    let ids = Ids::open(&args.into.join("ids")).map_err(|error| check(&error))?;
    for partition in (0..source.ledger.partitions).map(PartitionId) {
        let view = views.partition(partition).map_err(|error| check(&error))?;
        let index = ids.partition(partition).map_err(|error| check(&error))?;
        let mut waiting: Vec<Effect> = Vec::new();
        let folded = fold(&source, partition, None, index, |state, effects, ended, index| {
            waiting.extend(effects);
            let position = state.head().position;
            if ended || position.0.is_multiple_of(WRITE_EVERY) {
                // The index first: it may be ahead of the view, never behind.
                index.keep(position).map_err(|error| check(&error))?;
                let rows = Rows::collect(state, &waiting).map_err(|error| check(&error))?;
                waiting.clear();
                view.write(rows).map_err(|error| check(&error))?;
            }
            Ok(())
        })
        .await?;
        say(partition, folded.state.head().position.0, folded.records_per_second);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is a command's output")]
fn say(partition: PartitionId, position: u64, records_per_second: u128) {
    println!("partition {partition}: {position} entries, {records_per_second} records a second");
}
