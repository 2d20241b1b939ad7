//! The thread that writes the embedded log: it takes what waits, writes it at once, syncs once, answers everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use tokio::sync::{mpsc, oneshot, watch};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};

use super::layout::{chain, encode_row, entry_key, id_key, position_value, topic_key};
use super::recent::{Fresh, Recent};
use super::store::{End, read_index, read_topic};
use crate::log::{Append, AppendError, Stored, Topic};

/// Entries that share one sync. Beyond this, waiting for the others costs more than another sync would.
const BATCH_ENTRIES: usize = 256;

/// Payload bytes that share one sync: what a disk writes in some 20 ms.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// Writers whose highest count is remembered. Each run of a process is one, so a few are at work at a time.
const WRITERS: usize = 1024;

/// What an append came to.
pub(super) type Answer = Result<Position, AppendError>;

/// One append, and who waits for it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) append: Append,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// One partition as the writer knows it.
#[derive(Debug)]
pub(super) struct Line {
    /// Its end, ahead of the disk while a batch is being written.
    pub(super) end: End,
    /// Tells readers how far they may read.
    pub(super) last: watch::Sender<Position>,
    /// Where readers find what was just written.
    pub(super) recent: Arc<Recent>,
}

/// Everything that writing needs; owned by one thread.
pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) keyspace: Keyspace,
    pub(super) lines: Vec<Line>,
    highest: BTreeMap<(PartitionId, LedgerId, WriterId), u64>,
    failure: Option<Failure>,
}

/// Why nothing is written any more: after a failed sync nobody can know what the disk holds, until it is read again.
struct Failure {
    reason: String,
    /// Entries that may be stored in spite of it.
    unknown: BTreeSet<EntryId>,
}

/// What one commit holds.
struct Batch {
    write: OwnedWriteBatch,
    ids: BTreeMap<EntryId, Position>,
    topics: BTreeMap<(PartitionId, Topic), Position>,
    fresh: BTreeMap<PartitionId, Vec<Fresh>>,
}

impl Writer {
    pub(super) fn new(database: Database, keyspace: Keyspace, lines: Vec<Line>) -> Self {
        Self { database, keyspace, lines, highest: BTreeMap::new(), failure: None }
    }

    /// Writes until all who could append are gone, and what they left behind.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.append.payload.len();
            let mut taken = vec![first];
            // What arrived during the last sync shares the next one.
            while taken.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes = bytes.saturating_add(next.append.payload.len());
                taken.push(next);
            }
            self.write(taken);
        }
    }

    fn write(&mut self, requests: Vec<Request>) {
        let mut batch = Batch {
            write: self.database.batch().durability(Some(PersistMode::SyncData)),
            ids: BTreeMap::new(),
            topics: BTreeMap::new(),
            fresh: BTreeMap::new(),
        };
        let mut answers = Vec::with_capacity(requests.len());
        for Request { append, answer } in requests {
            let planned = self.plan(&mut batch, append);
            answers.push((answer, planned));
        }
        let committed = self.commit(batch);
        for (answer, planned) in answers {
            // Conflicts, too, may speak of entries that were just written.
            let result = match (&committed, planned) {
                (Ok(()), planned) | (Err(_), planned @ Err(AppendError::Refused { .. })) => planned,
                (Err(reason), _) => Err(AppendError::Unknown { reason: reason.clone() }),
            };
            // Whoever asked may have left; a retry will find the entry by its id.
            drop(answer.send(result));
        }
    }

    /// Decides where `append` goes, and adds it to `batch` unless it is there already or must not be.
    fn plan(&mut self, batch: &mut Batch, append: Append) -> Answer {
        if let Some(failure) = &self.failure {
            let reason = failure.reason.clone();
            let unknown = failure.unknown.contains(&append.id);
            return Err(if unknown {
                AppendError::Unknown { reason }
            } else {
                AppendError::Refused { reason }
            });
        }
        let partition = append.id.partition;
        let refused = |reason| AppendError::Refused { reason };
        if let Some(position) = self.find(batch, &append.id).map_err(refused)? {
            return Ok(position);
        }
        if let Some(expected) = append.expected {
            let pending = batch.topics.get(&(partition, append.topic.clone()));
            let actual = match pending {
                Some(position) => *position,
                None => read_topic(&self.keyspace, partition, &append.topic).map_err(refused)?,
            };
            if actual != expected {
                return Err(AppendError::Conflict { expected, actual });
            }
        }
        let Some(line) = self.lines.get_mut(usize::from(partition.0)) else {
            return Err(refused(format!("it has no partition {partition}")));
        };
        let position = line.end.last.next();
        let subject = append.topic.subject(partition);
        let after = chain(&line.end.chain, position, &subject, &append.payload);
        let (value, payload) = encode_row(&after, &subject, &append.id, &append.payload);
        batch.write.insert(&self.keyspace, entry_key(partition, position), value);
        batch.write.insert(&self.keyspace, id_key(&append.id), position_value(position));
        line.end = End { last: position, chain: after };
        let stored = Stored { position, subject, payload };
        batch.fresh.entry(partition).or_default().push(Fresh { stored, chain: after });
        batch.topics.insert((partition, append.topic), position);
        self.remember(&append.id);
        batch.ids.insert(append.id, position);
        Ok(position)
    }

    /// Where the entry with this id stands or is about to.
    fn find(&mut self, batch: &Batch, id: &EntryId) -> Result<Option<Position>, String> {
        if let Some(position) = batch.ids.get(id) {
            return Ok(Some(*position));
        }
        // Writers count up, so most ids are higher than any known one, and new without looking.
        let writer = (id.partition, id.ledger.clone(), id.writer);
        let highest = match self.highest.get(&writer) {
            Some(highest) => *highest,
            None => self.find_highest(id)?,
        };
        if id.count > highest {
            return Ok(None);
        }
        read_index(&self.keyspace, &id_key(id))
    }

    /// The highest stored count of this id's writer, 0 when there is none.
    fn find_highest(&self, id: &EntryId) -> Result<u64, String> {
        let first = id_key(&EntryId { count: 0, ..id.clone() });
        let last = id_key(&EntryId { count: u64::MAX, ..id.clone() });
        let Some(guard) = self.keyspace.range(first..=last).next_back() else { return Ok(0) };
        let key = guard.key().map_err(|error| error.to_string())?;
        let count = key.last_chunk().ok_or("an id's key is too short")?;
        Ok(u64::from_be_bytes(*count))
    }

    fn remember(&mut self, id: &EntryId) {
        let writer = (id.partition, id.ledger.clone(), id.writer);
        if self.highest.len() >= WRITERS && !self.highest.contains_key(&writer) {
            // Those still at work are found again by one look each.
            self.highest.clear();
        }
        let highest = self.highest.entry(writer).or_default();
        *highest = id.count.max(*highest);
    }

    /// Writes and syncs `batch`, then shows it to readers. Errors: why nothing can be written any more.
    fn commit(&mut self, batch: Batch) -> Result<(), String> {
        let Batch { mut write, ids, topics, fresh } = batch;
        if ids.is_empty() {
            return Ok(());
        }
        for ((partition, topic), position) in topics {
            let key = topic_key(partition, &topic.subject(partition));
            write.insert(&self.keyspace, key, position_value(position));
        }
        if let Err(error) = write.commit() {
            let reason = format!("writing failed, free the disk or repair it and start again: {error}");
            tracing::error!(%error, "the log's disk failed");
            self.failure = Some(Failure { reason: reason.clone(), unknown: ids.into_keys().collect() });
            return Err(reason);
        }
        for (partition, fresh) in fresh {
            if let Some(line) = self.lines.get(usize::from(partition.0)) {
                line.recent.extend(fresh);
                line.last.send_replace(line.end.last);
            }
        }
        Ok(())
    }
}
