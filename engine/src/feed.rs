//! From the log to the owner: reads the tail, decodes, looks ids up, all ahead of State and off its task.
//!
//! ```text
//! log ─ tail ─> task ─ bounded ─> thread: decode, hash, ids ─ bounded ─> owner: apply
//! ```

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tollbook_projections::first::{Lookup, Sighting, SightingError};
use tollbook_projections::ids::{IdIndex, IdsError};
use tollbook_projections::record::Record;
use tollbook_projections::state::State;
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::PartitionId;

use crate::log::{EventLog, ReadError, Stored};

/// Messages between the log and decoding: enough to keep a thread busy while the other waits for disk.
const READ_AHEAD: usize = 256;
/// Records decoded at once: one write to the index of ids for all of them, a few milliseconds of folding at most.
const DECODE_MAX: usize = 32;
/// Decoded chunks between the thread and the owner.
const CHUNKS_AHEAD: usize = 4;

/// A record, and where the ids of its rows came first.
#[derive(Debug)]
pub struct Ready {
    /// The record.
    pub record: Record,
    /// Sightings of its rows that go by id.
    pub sightings: Vec<Sighting>,
}

/// Why nothing more will be fed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The log cannot be read on.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The index of ids cannot be used.
    #[error(transparent)]
    Ids(#[from] SightingError<IdsError>),
    /// The thread could not be started.
    #[error("no thread to decode on: {0}")]
    Thread(std::io::Error),
}

/// What the owner gets.
pub type Chunk = Result<Vec<Ready>, FeedError>;

/// Feeds everything of `partition` after where `state` stands, for ever. Ends when the receiver is dropped, and after an error.
pub fn start(
    log: &Arc<dyn EventLog>,
    ledger: LedgerId,
    partition: PartitionId,
    state: &State,
    ids: IdIndex,
) -> mpsc::Receiver<Chunk> {
    let (chunks, fed) = mpsc::channel(CHUNKS_AHEAD);
    let (stored, read) = mpsc::channel(READ_AHEAD);
    let mut tail = log.tail(partition, state.head().position);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = tail.next() => next,
                // Nobody folds any more: the log need not be watched for ever.
                () = stored.closed() => None,
            };
            let Some(next) = next else { break };
            let over = next.is_err();
            if stored.send(next).await.is_err() || over {
                break;
            }
        }
    });
    let decoder = Decoder { ledger, partition, lookup: Lookup::new(state, ids) };
    let failed = chunks.clone();
    let thread = std::thread::Builder::new().name(format!("decode-{partition}"));
    if let Err(error) = thread.spawn(move || decoder.run(read, &chunks)) {
        tokio::spawn(async move { failed.send(Err(FeedError::Thread(error))).await });
    }
    fed
}

struct Decoder {
    ledger: LedgerId,
    partition: PartitionId,
    lookup: Lookup<IdIndex>,
}

impl Decoder {
    fn run(mut self, mut read: mpsc::Receiver<Result<Stored, ReadError>>, chunks: &mpsc::Sender<Chunk>) {
        let mut waiting = Vec::with_capacity(DECODE_MAX);
        loop {
            if read.blocking_recv_many(&mut waiting, DECODE_MAX) == 0 {
                return;
            }
            let mut failed = None;
            let mut stored = Vec::with_capacity(waiting.len());
            for next in waiting.drain(..) {
                match next {
                    Ok(next) => stored.push(next),
                    Err(error) => failed = Some(error),
                }
            }
            let chunk = self.decode(stored);
            let over = chunk.is_err() || failed.is_some();
            if chunks.blocking_send(chunk).is_err() {
                return;
            }
            if let Some(error) = failed
                && chunks.blocking_send(Err(error.into())).is_err()
            {
                return;
            }
            if over {
                return;
            }
        }
    }

    fn decode(&mut self, stored: Vec<Stored>) -> Chunk {
        let mut ready = Vec::with_capacity(stored.len());
        for next in stored {
            let record =
                Record::read(&self.ledger, self.partition, next.position, &next.subject, &next.payload);
            let sightings = self.lookup.sightings(&record)?;
            ready.push(Ready { record, sightings });
        }
        if let Some(last) = ready.last() {
            self.lookup.places().keep(last.record.position).map_err(SightingError::Places)?;
        }
        Ok(ready)
    }
}
