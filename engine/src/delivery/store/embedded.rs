//! Records beside the embedded log, in a database of their own.
//!
//! ```text
//! r <alert>              a record
//! o <partition> <alert>  it has deliveries to be attempted
//! d <day> <alert>        the day on which it was made, to be forgotten by
//! c <partition>          up to where the feed is taken over
//! ```

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use futures_util::future::BoxFuture;
use tollbook_schemas::id::AlertId;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;

use super::{DeliveryStore, Record, StoreError, Stored, decode, encode};
use crate::delivery::record::KEPT_SECONDS;
use crate::log::EventLog;

const CACHE_BYTES: u64 = 4 * 1024 * 1024;
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
const SECONDS_PER_DAY: i64 = 24 * 3_600;
/// Records forgotten in one batch.
const SWEEP: usize = 1_000;

/// The records in a directory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EmbeddedDeliveries {
    store: Arc<Store>,
}

/// Fields are dropped in this order.
struct Store {
    keyspace: Keyspace,
    database: Database,
    // Its lock says that nobody else has the directory: so the log closes after the records.
    _log: Arc<dyn EventLog>,
}

impl fmt::Debug for EmbeddedDeliveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedDeliveries")
    }
}

impl EmbeddedDeliveries {
    /// Opens the records in `dir`, which belongs to `log`, and creates them if there are none. Blocks.
    pub(crate) fn open(dir: &Path, log: Arc<dyn EventLog>) -> Result<Self, StoreError> {
        let failed = |error: fjall::Error| StoreError(format!("{}: {error}", dir.display()));
        let database = Database::builder(dir)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .open()
            .map_err(failed)?;
        let keyspace = database.keyspace("deliveries", KeyspaceCreateOptions::default).map_err(failed)?;
        Ok(Self { store: Arc::new(Store { keyspace, database, _log: log }) })
    }

    fn run<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let store = self.store.clone();
        Box::pin(async move {
            let ran = tokio::task::spawn_blocking(move || run(&store)).await;
            ran.unwrap_or_else(|error| Err(StoreError(error.to_string())))
        })
    }
}

impl DeliveryStore for EmbeddedDeliveries {
    fn cursor(&self, partition: PartitionId) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.run(move |store| {
            let value = store.keyspace.get(cursor_key(partition)).map_err(failed)?;
            let number = |value: fjall::UserValue| Some(u64::from_be_bytes(*value.first_chunk()?));
            value.map_or(Ok(0), |value| number(value).ok_or_else(|| StoreError("a mark is damaged".into())))
        })
    }

    fn open_records(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<AlertId>, StoreError>> {
        self.run(move |store| {
            let prefix = open_prefix(partition);
            let mut found = Vec::new();
            for row in store.keyspace.prefix(&prefix) {
                let key = row.key().map_err(failed)?;
                found.push(id_of(key.get(prefix.len()..).unwrap_or_default())?);
            }
            Ok(found)
        })
    }

    fn get(&self, id: AlertId) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        self.run(move |store| {
            let value = store.keyspace.get(record_key(&id)).map_err(failed)?;
            value.map(|value| Ok(Stored { revision: 0, record: decode(&value)? })).transpose()
        })
    }

    fn create(
        &self,
        partition: PartitionId,
        records: Vec<Record>,
        cursor: u64,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<AlertId>, StoreError>> {
        self.run(move |store| {
            let mut batch = store.batch();
            let mut added = Vec::new();
            for record in records {
                let id = record.told.id.clone();
                if store.keyspace.contains_key(record_key(&id)).map_err(failed)? {
                    continue;
                }
                batch.insert(&store.keyspace, day_key(now, &id), b"".as_slice());
                store.put(&mut batch, partition, &record)?;
                added.push(id);
            }
            batch.insert(&store.keyspace, cursor_key(partition), cursor.to_be_bytes());
            batch.commit().map_err(failed)?;
            Ok(added)
        })
    }

    fn update(
        &self,
        partition: PartitionId,
        records: Vec<Stored>,
    ) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        self.run(move |store| {
            let mut batch = store.batch();
            for stored in &records {
                store.put(&mut batch, partition, &stored.record)?;
            }
            batch.commit().map_err(failed)?;
            Ok(records.iter().map(|stored| stored.revision).collect())
        })
    }

    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        self.run(move |store| {
            let end = day_prefix(now.plus_seconds(KEPT_SECONDS.saturating_neg()));
            loop {
                let mut batch = store.batch();
                let mut count = 0usize;
                for row in store.keyspace.range(b"d".to_vec()..end.clone()).take(SWEEP) {
                    let key = row.key().map_err(failed)?;
                    let id = id_of(key.get(end.len()..).unwrap_or_default())?;
                    store.forget(&mut batch, &id, now)?;
                    batch.remove(&store.keyspace, key);
                    count = count.saturating_add(1);
                }
                if count == 0 {
                    return Ok(());
                }
                batch.commit().map_err(failed)?;
            }
        })
    }
}

impl Store {
    fn batch(&self) -> OwnedWriteBatch {
        self.database.batch().durability(Some(PersistMode::SyncData))
    }

    fn put(
        &self,
        batch: &mut OwnedWriteBatch,
        partition: PartitionId,
        record: &Record,
    ) -> Result<(), StoreError> {
        let id = &record.told.id;
        batch.insert(&self.keyspace, record_key(id), encode(record)?);
        let open = open_key(partition, id);
        if record.is_open() {
            batch.insert(&self.keyspace, open, b"".as_slice());
        } else {
            batch.remove(&self.keyspace, open);
        }
        Ok(())
    }

    /// Removes a record and its mark; one that has deliveries to be attempted stays as if it were made now, since it is
    /// written again when they are.
    fn forget(&self, batch: &mut OwnedWriteBatch, id: &AlertId, now: Timestamp) -> Result<(), StoreError> {
        let Some(value) = self.keyspace.get(record_key(id)).map_err(failed)? else { return Ok(()) };
        // One that is not readable is of no use to anybody.
        let record: Option<Record> = decode(&value).ok();
        if record.as_ref().is_some_and(Record::is_open) {
            batch.insert(&self.keyspace, day_key(now, id), b"".as_slice());
            return Ok(());
        }
        batch.remove(&self.keyspace, record_key(id));
        if let Some(record) = record {
            batch.remove(&self.keyspace, open_key(record.told.position.partition, id));
        }
        Ok(())
    }
}

fn failed(error: fjall::Error) -> StoreError {
    StoreError(error.to_string())
}

fn id_of(bytes: &[u8]) -> Result<AlertId, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|error| StoreError(error.to_string()))?;
    AlertId::parse(text).map_err(|error| StoreError(format!("a key is damaged: {error}")))
}

fn record_key(id: &AlertId) -> Vec<u8> {
    [b"r", id.as_str().as_bytes()].concat()
}

fn open_prefix(partition: PartitionId) -> Vec<u8> {
    [b"o".as_slice(), &partition.0.to_be_bytes()].concat()
}

fn open_key(partition: PartitionId, id: &AlertId) -> Vec<u8> {
    [open_prefix(partition).as_slice(), id.as_str().as_bytes()].concat()
}

fn cursor_key(partition: PartitionId) -> Vec<u8> {
    [b"c".as_slice(), &partition.0.to_be_bytes()].concat()
}

fn day_prefix(at: Timestamp) -> Vec<u8> {
    let day = u32::try_from(at.seconds().div_euclid(SECONDS_PER_DAY)).unwrap_or(0);
    [b"d".as_slice(), &day.to_be_bytes()].concat()
}

fn day_key(at: Timestamp, id: &AlertId) -> Vec<u8> {
    [day_prefix(at).as_slice(), id.as_str().as_bytes()].concat()
}
