//! Folding a whole partition from zero.

use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tollbook_engine::clock::Stopwatch;
use tollbook_projections::first::{FirstPlaces, Lookup};
use tollbook_projections::record::Record;
use tollbook_projections::state::{Effect, State};
use tollbook_schemas::position::{PartitionId, Position};

use crate::Failure;
use crate::source::{Source, SourceError};

/// What a fold came to.
pub(crate) struct Folded {
    pub(crate) state: State,
    /// Events folded per second, usage records and decisions alike.
    pub(crate) records_per_second: u128,
}

/// Folds `partition` up to where its log ends now, or to `until`; `each` sees every step.
pub(crate) async fn fold<P: FirstPlaces<Error: std::fmt::Display>>(
    source: &Source,
    partition: PartitionId,
    until: Option<Position>,
    places: P,
    mut each: impl FnMut(&mut State, Vec<Effect>, bool, &mut P) -> Result<(), Failure>,
) -> Result<Folded, Failure> {
    let last = source.log.last(partition).await.map_err(SourceError::from)?;
    let last = until.map_or(last, |until| until.min(last));
    let bar = ProgressBar::new(last.0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} entries  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let watch = Stopwatch::start();
    let mut tail = source.log.tail(partition, Position::ZERO);
    let mut state = State::empty(partition);
    let mut lookup = Lookup::new(&state, places);
    while state.head().position < last {
        let Some(stored) = tail.next().await else { break };
        let stored = stored.map_err(|error| Failure::Check(error.to_string()))?;
        let record =
            Record::read(&source.ledger.id, partition, stored.position, &stored.subject, &stored.payload);
        let sightings = lookup.sightings(&record).map_err(|error| Failure::Check(error.to_string()))?;
        let effects = state.apply(&record, &sightings).map_err(|error| {
            Failure::Check(format!("the log cannot be folded at {partition}-{}: {error}", record.position))
        })?;
        let ended = record.position == last;
        each(&mut state, effects, ended, lookup.places())?;
        bar.set_position(record.position.0);
    }
    bar.finish_and_clear();
    if state.head().position < last {
        return Err(Failure::Check(format!(
            "the log of partition {partition} ends at {}, before {last}",
            state.head().position
        )));
    }
    let records = u128::from(state.head().usage_records.max(last.0));
    let records_per_second =
        records.saturating_mul(1_000_000).checked_div(watch.elapsed().as_micros()).unwrap_or(records);
    Ok(Folded { state, records_per_second })
}
