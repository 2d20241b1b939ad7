//! The alert feed of the embedded log: a database beside it, written by a thread of its own.
//!
//! ```text
//! raise ──bounded queue──> thread: compare with the subject's last, one batch, one fdatasync ──> answer
//! after ─────────────────> wherever blocking is allowed
//!
//! m <sequence>     an alert's event
//! s <subject>      the last alert of a subject: its sequence, position and number
//! t <partition>    up to where everything was raised
//! l                the ledger
//! ```

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tollbook_schemas::alert::{Alert, AlertPlace};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};

use super::feed::{AlertFeed, AlertFeedError, Raised, event};
use crate::log::EventLog;
use crate::metrics;

/// Requests that wait before callers do; a publisher per partition has one at a time.
const QUEUE: usize = 16;

/// Blocks read lately: alerts are read once, when they are new.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// Journals on disk, replayed on opening.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

const LEDGER_KEY: &[u8] = b"l";

type Answer<T> = oneshot::Sender<Result<T, AlertFeedError>>;

/// The feed in a directory. Dropping it waits for its thread.
pub struct EmbeddedFeed {
    store: Arc<Store>,
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    last: watch::Receiver<u64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What is stored; fields are dropped in this order.
struct Store {
    keyspace: Keyspace,
    database: Database,
    ledger: LedgerId,
    // Its lock says that nobody else has the directory: so the log closes after the feed.
    _log: Arc<dyn EventLog>,
}

enum Request {
    Raise(Vec<Alert>, Answer<usize>),
    Mark(PartitionId, Position, Answer<()>),
}

impl fmt::Debug for EmbeddedFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EmbeddedFeed({} alerts)", *self.last.borrow())
    }
}

impl EmbeddedFeed {
    /// Opens the feed of a ledger in `dir`, which belongs to `log`, and creates it if there is none. Blocks.
    pub fn open(dir: &Path, log: Arc<dyn EventLog>, ledger: LedgerId) -> Result<Self, AlertFeedError> {
        let failed = |error: fjall::Error| AlertFeedError(format!("{}: {error}", dir.display()));
        let database = Database::builder(dir)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(failed)?;
        let keyspace = database.keyspace("alerts", KeyspaceCreateOptions::default).map_err(failed)?;
        let store = Arc::new(Store { keyspace, database, ledger, _log: log });
        store.check_ledger(dir)?;
        let (raised, last) = watch::channel(store.last()?);
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer { store: store.clone(), last: raised, failed: None };
        let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(move || writer.run(queue));
        let thread = thread.map_err(|error| AlertFeedError(error.to_string()))?;
        let (requests, thread) = (Mutex::new(Some(requests)), Mutex::new(Some(thread)));
        Ok(Self { store, requests, last, thread })
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request + Send) -> Result<T, AlertFeedError> {
        let closed = || AlertFeedError("it is closed".to_owned());
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (answer, answered) = oneshot::channel();
        requests.ok_or_else(closed)?.send(request(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, AlertFeedError> + Send + 'static,
    ) -> Result<T, AlertFeedError> {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || read(&store)).await;
        read.unwrap_or_else(|error| Err(AlertFeedError(error.to_string())))
    }
}

impl Drop for EmbeddedFeed {
    fn drop(&mut self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the alert feed panicked");
        }
    }
}

impl AlertFeed for EmbeddedFeed {
    fn raise(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<usize, AlertFeedError>> {
        Box::pin(self.ask(|answer| Request::Raise(alerts, answer)))
    }

    fn last(&self) -> BoxFuture<'_, Result<u64, AlertFeedError>> {
        Box::pin(std::future::ready(Ok(*self.last.borrow())))
    }

    fn after(&self, sequence: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Raised>, AlertFeedError>> {
        if *self.last.borrow() <= sequence {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        Box::pin(self.read(move |store| store.after(sequence, limit)))
    }

    fn wait(&self, sequence: u64) -> BoxFuture<'_, Result<(), AlertFeedError>> {
        let mut last = self.last.clone();
        Box::pin(async move {
            let more = last.wait_for(|last| *last > sequence).await;
            more.map(drop).map_err(|_| AlertFeedError("it is closed".to_owned()))
        })
    }

    fn through(&self, partition: PartitionId) -> BoxFuture<'_, Result<Position, AlertFeedError>> {
        Box::pin(self.read(move |store| store.through(partition)))
    }

    fn mark_through(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> BoxFuture<'_, Result<(), AlertFeedError>> {
        Box::pin(self.ask(move |answer| Request::Mark(partition, position, answer)))
    }
}

impl Store {
    /// Alerts of another ledger would be taken for ours that were raised.
    fn check_ledger(&self, dir: &Path) -> Result<(), AlertFeedError> {
        match self.get(LEDGER_KEY)? {
            Some(found) if found == self.ledger.as_str().as_bytes() => Ok(()),
            Some(found) => Err(AlertFeedError(format!(
                "{} holds alerts of ledger {}, not of {}; restore what belongs to the log, or delete it if those alerts are not needed",
                dir.display(),
                String::from_utf8_lossy(&found),
                self.ledger,
            ))),
            None => {
                let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
                batch.insert(&self.keyspace, LEDGER_KEY, self.ledger.as_str());
                batch.commit().map_err(failed)
            }
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, AlertFeedError> {
        self.keyspace.get(key).map(|value| value.map(Bytes::from)).map_err(failed)
    }

    fn last(&self) -> Result<u64, AlertFeedError> {
        let Some(last) = self.keyspace.range(b"m".as_slice()..b"n".as_slice()).next_back() else {
            return Ok(0);
        };
        let key = last.key().map_err(failed)?;
        number(key.last_chunk()).ok_or_else(damaged)
    }

    fn after(&self, sequence: u64, limit: usize) -> Result<Vec<Raised>, AlertFeedError> {
        let mut expected = sequence;
        let mut found = Vec::new();
        let from = message_key(sequence.saturating_add(1));
        for row in self.keyspace.range(from..b"n".to_vec()).take(limit) {
            let (key, event) = row.into_inner().map_err(failed)?;
            expected = expected.saturating_add(1);
            if number(key.last_chunk()) != Some(expected) {
                return Err(AlertFeedError(format!("alert {expected} is missing")));
            }
            found.push(Raised::parse(expected, event.into())?);
        }
        Ok(found)
    }

    fn through(&self, partition: PartitionId) -> Result<Position, AlertFeedError> {
        let Some(value) = self.get(&through_key(partition))? else { return Ok(Position::ZERO) };
        number(value.last_chunk()).map(Position).ok_or_else(damaged)
    }

    fn place(&self, subject: &str) -> Result<Option<AlertPlace>, AlertFeedError> {
        let Some(value) = self.get(&subject_key(subject))? else { return Ok(None) };
        let place = || {
            let (partition, rest) = value.split_first_chunk()?;
            let (position, count) = rest.split_first_chunk()?;
            let position = LogPosition {
                partition: PartitionId(u16::from_be_bytes(*partition)),
                position: Position(u64::from_be_bytes(*position)),
            };
            Some(AlertPlace { position, number: u32::from_be_bytes(*count.first_chunk()?) })
        };
        place().map(Some).ok_or_else(damaged)
    }
}

/// The thread's own.
struct Writer {
    store: Arc<Store>,
    last: watch::Sender<u64>,
    /// After a failed sync nobody can know what the disk holds, until it is read again.
    failed: Option<AlertFeedError>,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            // Whoever asked may have left.
            match request {
                Request::Raise(alerts, answer) => drop(answer.send(self.raise(&alerts))),
                Request::Mark(partition, position, answer) => {
                    drop(answer.send(self.mark(partition, position)));
                }
            }
        }
    }

    fn raise(&mut self, alerts: &[Alert]) -> Result<usize, AlertFeedError> {
        let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncData));
        let mut places: HashMap<String, AlertPlace> = HashMap::new();
        let mut last = *self.last.borrow();
        let mut new = Vec::new();
        for alert in alerts {
            let (subject, place) = (alert.subject(), alert.place());
            let before = match places.get(&subject) {
                Some(place) => Some(*place),
                None => self.store.place(&subject)?,
            };
            if before.is_some_and(|before| !place.is_after(before)) {
                continue;
            }
            last = last.saturating_add(1);
            let (keyspace, ledger) = (&self.store.keyspace, &self.store.ledger);
            batch.insert(keyspace, message_key(last), event(ledger, alert));
            batch.insert(keyspace, subject_key(&subject), place_value(place));
            places.insert(subject, place);
            new.push(alert.kind());
        }
        if !new.is_empty() {
            self.commit(batch)?;
            self.last.send_replace(last);
        }
        for kind in &new {
            metrics::alert_raised(*kind);
        }
        Ok(new.len())
    }

    fn mark(&mut self, partition: PartitionId, position: Position) -> Result<(), AlertFeedError> {
        if self.store.through(partition)? >= position {
            return Ok(());
        }
        let mut batch = self.store.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.store.keyspace, through_key(partition), position.0.to_be_bytes());
        self.commit(batch)
    }

    fn commit(&mut self, batch: fjall::OwnedWriteBatch) -> Result<(), AlertFeedError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        batch.commit().map_err(|error| {
            tracing::error!(%error, "the alert feed's disk failed");
            let reason = format!("writing failed, free the disk or repair it and start again: {error}");
            self.failed.insert(AlertFeedError(reason)).clone()
        })
    }
}

fn failed(error: fjall::Error) -> AlertFeedError {
    AlertFeedError(error.to_string())
}

fn damaged() -> AlertFeedError {
    AlertFeedError("it is damaged".to_owned())
}

fn number(bytes: Option<&[u8; 8]>) -> Option<u64> {
    bytes.map(|bytes| u64::from_be_bytes(*bytes))
}

fn message_key(sequence: u64) -> Vec<u8> {
    [b"m".as_slice(), &sequence.to_be_bytes()].concat()
}

fn subject_key(subject: &str) -> Vec<u8> {
    [b"s", subject.as_bytes()].concat()
}

fn through_key(partition: PartitionId) -> Vec<u8> {
    [b"t".as_slice(), &partition.0.to_be_bytes()].concat()
}

fn place_value(AlertPlace { position, number }: AlertPlace) -> Vec<u8> {
    let (partition, position) = (position.partition.0.to_be_bytes(), position.position.0.to_be_bytes());
    [partition.as_slice(), &position, &number.to_be_bytes()].concat()
}
