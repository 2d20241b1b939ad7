//! Token windows after a start: found again from the last minute of the log (R5.6). Leases and request counts of the
//! process before are gone.

use futures_util::StreamExt;
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::State;
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::Timestamp;

use super::Desk;
use super::window::SlidingWindow;
use crate::log::{EventLog, ReadError};

/// Why token windows were not found again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeedError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Where the last minute is read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) log: &'a dyn EventLog,
    pub(crate) ledger: &'a LedgerId,
    pub(crate) view: &'a View,
}

impl Source<'_> {
    /// Counts usage that State holds and that was recorded in the minute before `now`.
    pub(crate) async fn seed(self, desk: &Desk, state: &State, now: Timestamp) -> Result<(), SeedError> {
        let since = now.plus_nanos(SlidingWindow::SPAN.saturating_mul(-1_000_000));
        let (partition, last) = (state.partition(), state.head().position);
        if state.head().recorded_at < since {
            return Ok(());
        }
        let first = self.first_since(partition, last, since).await?;
        let mut tail = self.log.tail(partition, Position(first.0.saturating_sub(1)));
        while let Some(stored) = tail.next().await.transpose()? {
            if stored.position > last {
                break;
            }
            let (position, subject) = (stored.position, stored.subject.as_str());
            let record = Record::read(self.ledger, partition, position, subject, &stored.payload);
            if self.view.skipped(position)?.is_none() {
                desk.seed(state, &record, &self.view.unbooked(position)?);
            }
            if position == last {
                break;
            }
        }
        Ok(())
    }

    /// The first entry up to `last` that was recorded at or after an instant.
    async fn first_since(
        self,
        partition: PartitionId,
        last: Position,
        since: Timestamp,
    ) -> Result<Position, ReadError> {
        // Recorded times of several writers differ by less than a second, so the search starts a little early.
        let since = since.plus_seconds(-1);
        let (mut low, mut high) = (1_u64, last.0);
        while low < high {
            let middle = low.midpoint(high);
            let stored = self.log.get(partition, Position(middle)).await?;
            let recorded = stored.and_then(|stored| {
                let record =
                    Record::read(self.ledger, partition, stored.position, &stored.subject, &stored.payload);
                match record.content {
                    Content::Entry(_, entry) => Some(entry.recorded_at),
                    Content::Foreign(_) => None,
                }
            });
            // What is no entry says nothing: more is read rather than less.
            if recorded.is_some_and(|recorded| recorded < since) {
                low = middle.saturating_add(1);
            } else {
                high = middle;
            }
        }
        Ok(Position(low))
    }
}
