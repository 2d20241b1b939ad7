//! Appends in bulk, and what must be true of the log afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::task::JoinSet;
use tollbook_engine::log::jetstream::JetStream;
use tollbook_engine::log::{Append, EventLog, Stored, Topic};
use tollbook_schemas::id::{LedgerId, OrgId};
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};

/// The only partition.
pub(crate) const P0: PartitionId = PartitionId(0);

pub(crate) fn entry(writer: u64, count: u64) -> Append {
    Append {
        id: EntryId { ledger: LedgerId::from_bits(1), partition: P0, writer: WriterId(writer), count },
        topic: Topic::UsageMixed,
        payload: Bytes::from(format!("{writer}/{count}")),
        expected: None,
    }
}

pub(crate) fn decision(org: u128, writer: u64, count: u64, expected: Position) -> Append {
    let topic = Topic::Organization(OrgId::from_bits(org));
    Append { topic, expected: Some(expected), ..entry(writer, count) }
}

/// The next `count` entries.
pub(crate) async fn take(log: &JetStream, after: Position, count: usize) -> Vec<Stored> {
    let read = log.tail(P0, after).take(count).map(|entry| entry.unwrap());
    tokio::time::timeout(super::DEADLINE, read.collect()).await.expect("readable in time")
}

/// Many appends at once, until told to stop.
#[derive(Clone, Default)]
pub(crate) struct Load {
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) done: Arc<AtomicU64>,
}

impl Load {
    /// Every second writer appends conditionally, on an organization of its own. Gives back who stands where.
    pub(crate) async fn run(self, log: JetStream, writers: u64) -> BTreeMap<Position, Bytes> {
        let mut tasks = JoinSet::new();
        for writer in 1..=writers {
            let (load, log) = (self.clone(), log.clone());
            tasks.spawn(async move {
                let mut last = Position::ZERO;
                let mut stored = Vec::new();
                for count in 1.. {
                    if load.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let append = if writer % 2 == 0 {
                        decision(writer.into(), writer, count, last)
                    } else {
                        entry(writer, count)
                    };
                    last = log.append(append.clone()).await.unwrap();
                    stored.push((last, append.payload));
                    load.done.fetch_add(1, Ordering::Relaxed);
                }
                stored
            });
        }
        let mut all = BTreeMap::new();
        for (position, payload) in tasks.join_all().await.into_iter().flatten() {
            assert_eq!(all.insert(position, payload), None, "two entries at {position}");
        }
        all
    }
}

/// Reads everything back: the log has exactly what was acknowledged, once each, without gaps.
pub(crate) async fn check(log: &JetStream, acknowledged: &BTreeMap<Position, Bytes>) {
    let last = log.last(P0).await.unwrap();
    let read = take(log, Position::ZERO, usize::try_from(last.0).unwrap()).await;
    let read: BTreeMap<Position, Bytes> =
        read.into_iter().map(|entry| (entry.position, entry.payload)).collect();
    assert_eq!(read.len(), acknowledged.len());
    assert!(read == *acknowledged, "the log has what was acknowledged");
    assert_eq!(last.0, u64::try_from(read.len()).unwrap());
}
