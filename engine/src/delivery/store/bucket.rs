//! Records in the JetStream bucket `TOLLBOOK_DELIVERIES`.
//!
//! ```text
//! record.<alert>            a record; expires 30 days after its last write
//! open.<partition>.<alert>  it has deliveries to be attempted: written before it, removed after
//! cursor.<partition>        up to where the feed is taken over
//! ```

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use tollbook_schemas::id::AlertId;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;

use super::{DeliveryStore, Record, StoreError, Stored, decode, encode};
use crate::delivery::record::KEPT_SECONDS;
use crate::log::jetstream::JetStream;
use crate::log::jetstream::bucket::{Bucket, BucketError, Written};

/// Name of the bucket.
const BUCKET: &str = "TOLLBOOK_DELIVERIES";
/// How long the mark of a key stays that is gone.
const MARKER_TTL: Duration = Duration::from_secs(60);
/// Writes at the same time.
const AT_ONCE: usize = 64;

/// The records of a ledger whose log is on JetStream.
#[derive(Clone, Debug)]
pub(crate) struct BucketDeliveries {
    bucket: Bucket,
}

impl BucketDeliveries {
    /// Finds or creates the bucket, replicated as the log is.
    pub(crate) async fn open(log: &JetStream) -> Result<Self, StoreError> {
        let bucket = Bucket::open(log.context(), BUCKET, log.replicas(), Some(MARKER_TTL)).await;
        Ok(Self { bucket: bucket.map_err(failed)? })
    }

    async fn add(&self, partition: PartitionId, record: Record) -> Result<Option<AlertId>, StoreError> {
        let id = record.told.id.clone();
        let slot = self.bucket.get(&record_key(&id)).await.map_err(failed)?;
        if slot.value.is_some() {
            return Ok(None);
        }
        if record.is_open() {
            self.mark_open(partition, &id).await?;
        }
        match self.put(&record, slot.revision).await? {
            Written::Revision(_) => Ok(Some(id)),
            // Whoever was faster has the same.
            Written::Conflict => Ok(None),
        }
    }

    async fn replace(&self, partition: PartitionId, stored: Stored) -> Result<u64, StoreError> {
        let Stored { revision, record } = stored;
        let id = &record.told.id;
        if record.is_open() {
            self.mark_open(partition, id).await?;
        }
        let Written::Revision(revision) = self.put(&record, revision).await? else {
            return Err(StoreError(format!("somebody else wrote the deliveries of {id}")));
        };
        if !record.is_open() {
            let key = open_key(partition, id);
            let slot = self.bucket.get(&key).await.map_err(failed)?;
            if slot.value.is_some() {
                self.bucket.release(&key, slot.revision, MARKER_TTL).await.map_err(failed)?;
            }
        }
        Ok(revision)
    }

    async fn put(&self, record: &Record, revision: u64) -> Result<Written, StoreError> {
        let kept = Duration::from_secs(KEPT_SECONDS.unsigned_abs());
        let value = Bytes::from(encode(record)?);
        self.bucket.put(&record_key(&record.told.id), value, revision, Some(kept)).await.map_err(failed)
    }

    async fn mark_open(&self, partition: PartitionId, id: &AlertId) -> Result<(), StoreError> {
        let key = open_key(partition, id);
        let slot = self.bucket.get(&key).await.map_err(failed)?;
        if slot.value.is_none() {
            self.bucket.put(&key, Bytes::from_static(b"1"), slot.revision, None).await.map_err(failed)?;
        }
        Ok(())
    }
}

impl DeliveryStore for BucketDeliveries {
    fn cursor(&self, partition: PartitionId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let slot = self.bucket.get(&cursor_key(partition)).await.map_err(failed)?;
            let Some(value) = slot.value else { return Ok(0) };
            let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            number.ok_or_else(|| StoreError("a mark is damaged".to_owned()))
        })
    }

    fn open_records(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<AlertId>, StoreError>> {
        Box::pin(async move {
            let keys = self.bucket.keys(&format!("open.{partition}.*")).await.map_err(failed)?;
            let of = |key: String| AlertId::parse(key.rsplit('.').next().unwrap_or_default()).ok();
            Ok(keys.into_iter().filter_map(of).collect())
        })
    }

    fn get(&self, id: AlertId) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        Box::pin(async move {
            let slot = self.bucket.get(&record_key(&id)).await.map_err(failed)?;
            let revision = slot.revision;
            slot.value.map(|value| Ok(Stored { revision, record: decode(&value)? })).transpose()
        })
    }

    fn create(
        &self,
        partition: PartitionId,
        records: Vec<Record>,
        cursor: u64,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<AlertId>, StoreError>> {
        Box::pin(async move {
            let adding = stream::iter(records).map(|record| self.add(partition, record));
            let added: Vec<_> = adding.buffered(AT_ONCE).try_collect().await?;
            let key = cursor_key(partition);
            let slot = self.bucket.get(&key).await.map_err(failed)?;
            let value = Bytes::from(cursor.to_string());
            match self.bucket.put(&key, value, slot.revision, None).await.map_err(failed)? {
                Written::Revision(_) => Ok(added.into_iter().flatten().collect()),
                Written::Conflict => Err(StoreError("somebody else follows the feed".to_owned())),
            }
        })
    }

    fn update(
        &self,
        partition: PartitionId,
        records: Vec<Stored>,
    ) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(async move {
            let writing = stream::iter(records).map(|stored| self.replace(partition, stored));
            writing.buffered(AT_ONCE).try_collect().await
        })
    }

    /// The server forgets them by itself.
    fn sweep(&self, _: Timestamp) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn failed(error: BucketError) -> StoreError {
    StoreError(error.to_string())
}

fn record_key(id: &AlertId) -> String {
    format!("record.{id}")
}

fn open_key(partition: PartitionId, id: &AlertId) -> String {
    format!("open.{partition}.{id}")
}

fn cursor_key(partition: PartitionId) -> String {
    format!("cursor.{partition}")
}
