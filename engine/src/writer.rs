//! This process as a writer of one partition: counts its entries and keeps the counts in flight close together, so
//! that every fold can tell its entries from copies in bounded memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tollbook_projections::writers::COUNT_WINDOW;
use tollbook_schemas::entry::{Body, Entry};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{EntryId, PartitionId, WriterId};
use tollbook_schemas::time::Timestamp;

/// One process's pen for one partition. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Writer {
    ledger: LedgerId,
    partition: PartitionId,
    writer: WriterId,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    state: Mutex<InFlight>,
    done: Notify,
}

#[derive(Debug, Default)]
struct InFlight {
    last: u64,
    open: BTreeSet<u64>,
}

/// A count for one entry. Dropped when it is known what became of the entry, or when nobody waits for it any more.
#[derive(Debug)]
pub struct Ticket {
    count: u64,
    counts: Arc<Counts>,
}

impl Writer {
    /// A writer whose counts begin at 1.
    pub fn new(ledger: LedgerId, partition: PartitionId, writer: WriterId) -> Self {
        Self { ledger, partition, writer, counts: Arc::default() }
    }

    /// Who writes.
    pub const fn id(&self) -> WriterId {
        self.writer
    }

    /// The ledger written to.
    pub const fn ledger(&self) -> &LedgerId {
        &self.ledger
    }

    /// The partition written to.
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The next count, or `None` while the oldest entry in flight is too far behind.
    pub fn try_begin(&self) -> Option<Ticket> {
        let mut state = self.counts.lock();
        let count = state.last.saturating_add(1);
        if state.open.first().is_some_and(|oldest| count.saturating_sub(*oldest) >= COUNT_WINDOW) {
            return None;
        }
        state.last = count;
        state.open.insert(count);
        Some(Ticket { count, counts: self.counts.clone() })
    }

    /// The next count, once the oldest entry in flight is near enough.
    pub async fn begin(&self) -> Ticket {
        loop {
            let done = self.counts.done.notified();
            if let Some(ticket) = self.try_begin() {
                return ticket;
            }
            done.await;
        }
    }

    /// The entry that says `body`.
    pub fn entry(&self, ticket: &Ticket, recorded_at: Timestamp, body: Body) -> Entry {
        let id = EntryId {
            ledger: self.ledger.clone(),
            partition: self.partition,
            writer: self.writer,
            count: ticket.count,
        };
        Entry { id, recorded_at, body }
    }
}

impl Ticket {
    /// The count.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

impl Counts {
    fn lock(&self) -> MutexGuard<'_, InFlight> {
        // Nothing can panic halfway under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.counts.lock().open.remove(&self.count);
        self.counts.done.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_flight_stay_within_the_window() {
        let writer = Writer::new(LedgerId::from_bits(1), PartitionId(0), WriterId(1));
        let oldest = writer.try_begin().unwrap();
        let others: Vec<_> = std::iter::from_fn(|| writer.try_begin()).take(10_000).collect();
        assert_eq!(u64::try_from(others.len()).unwrap(), COUNT_WINDOW - 1);
        drop(others);
        assert!(writer.try_begin().is_none(), "the oldest is still in flight");
        drop(oldest);
        assert_eq!(writer.try_begin().unwrap().count(), COUNT_WINDOW + 1);
    }
}
