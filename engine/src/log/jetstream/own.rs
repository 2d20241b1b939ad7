//! Entries this process appended, kept until its tails have passed them: reading every payload back from the
//! servers would cost a tenth to a third of the throughput.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

/// Bound of what waits in memory for a slow tail; what is dropped is read from the server instead.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// What was appended, without its position.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) subject: String,
    pub(super) payload: Bytes,
}

/// Own entries of one partition.
#[derive(Debug, Default)]
pub(super) struct Own {
    entries: Mutex<Entries>,
    /// Changes with each acknowledged entry.
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    /// By entry id: sent, not yet acknowledged.
    pending: HashMap<String, Body>,
    /// By stream sequence: acknowledged, not yet passed by every tail.
    acknowledged: BTreeMap<u64, Body>,
    bytes: usize,
    /// The last sequence each tail has passed.
    readers: BTreeMap<u64, u64>,
    last_reader: u64,
}

impl Entries {
    fn drop_first(&mut self) {
        if let Some((_, body)) = self.acknowledged.pop_first() {
            self.bytes = self.bytes.saturating_sub(body.payload.len());
        }
    }

    /// Drops what every tail has passed; everything when there is none.
    fn trim(&mut self) {
        let passed = self.readers.values().min().copied().unwrap_or(u64::MAX);
        while self.acknowledged.first_key_value().is_some_and(|(sequence, _)| *sequence <= passed)
            || self.bytes > BYTES_MAX
        {
            self.drop_first();
        }
    }
}

impl Own {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Nothing in here can be left half done by a panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers an entry that is about to be sent.
    pub(super) fn begin(self: &Arc<Self>, id: &str, body: Body) -> Pending {
        self.entries().pending.insert(id.to_owned(), body);
        Pending { own: Arc::clone(self), id: id.to_owned() }
    }

    /// A tail that has passed `sequence`.
    pub(super) fn reader(self: &Arc<Self>, sequence: u64) -> Reader {
        let mut entries = self.entries();
        let id = entries.last_reader.saturating_add(1);
        entries.last_reader = id;
        entries.readers.insert(id, sequence);
        drop(entries);
        Reader { own: Arc::clone(self), id, acknowledged: self.acknowledged.subscribe() }
    }
}

/// An entry in flight; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Pending {
    own: Arc<Own>,
    id: String,
}

impl Pending {
    /// The entry stands at `sequence`.
    pub(super) fn acknowledged(self, sequence: u64) {
        let mut entries = self.own.entries();
        if let Some(body) = entries.pending.remove(&self.id) {
            entries.bytes = entries.bytes.saturating_add(body.payload.len());
            if let Some(same) = entries.acknowledged.insert(sequence, body) {
                entries.bytes = entries.bytes.saturating_sub(same.payload.len());
            }
            entries.trim();
        }
        drop(entries);
        self.own.acknowledged.send_modify(|last| *last = sequence);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.own.entries().pending.remove(&self.id);
    }
}

/// A tail's view of the own entries.
#[derive(Debug)]
pub(super) struct Reader {
    own: Arc<Own>,
    id: u64,
    acknowledged: watch::Receiver<u64>,
}

impl Reader {
    /// The own entry at `sequence`, if it was acknowledged.
    pub(super) fn at(&self, sequence: u64) -> Option<Body> {
        self.own.entries().acknowledged.get(&sequence).cloned()
    }

    /// The own entry with this id, if its acknowledgement is still on its way.
    pub(super) fn in_flight(&self, id: &str) -> Option<Body> {
        self.own.entries().pending.get(id).cloned()
    }

    /// This tail has passed `sequence`.
    pub(super) fn passed(&self, sequence: u64) {
        let mut entries = self.own.entries();
        entries.readers.insert(self.id, sequence);
        entries.trim();
    }

    /// Whether an own entry after `sequence` was acknowledged.
    pub(super) fn reaches_beyond(&self, sequence: u64) -> bool {
        self.own.entries().acknowledged.last_key_value().is_some_and(|(last, _)| *last > sequence)
    }

    /// Waits until the own entry at `sequence` is acknowledged; for ever if it is somebody else's.
    pub(super) async fn arrives(&mut self, sequence: u64) {
        while self.at(sequence).is_none() {
            self.changed().await;
        }
    }

    /// Waits for the next acknowledgement since the last call.
    pub(super) async fn changed(&mut self) {
        if self.acknowledged.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut entries = self.own.entries();
        entries.readers.remove(&self.id);
        entries.trim();
    }
}
