//! Where records of deliveries are kept: durable beside the feed, as the log is.

pub(crate) mod bucket;
pub(crate) mod embedded;

use std::fmt;

use futures_util::future::BoxFuture;
use tollbook_schemas::id::AlertId;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;

use super::record::Record;

/// Why the store cannot be used. What was attempted may have been done or not: read again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the deliveries cannot be used: {0}")]
pub struct StoreError(pub(crate) String);

/// A record as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The condition for the next write, where more than one process may write.
    pub(crate) revision: u64,
    /// What is stored.
    pub(crate) record: Record,
}

/// Records of deliveries. What was answered is durable. One task writes those of a partition: its owner's.
pub(crate) trait DeliveryStore: Send + Sync + fmt::Debug {
    /// Up to where the feed is taken over into records, for a partition.
    fn cursor(&self, partition: PartitionId) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Records of a partition that have deliveries to be attempted.
    fn open_records(&self, partition: PartitionId) -> BoxFuture<'_, Result<Vec<AlertId>, StoreError>>;

    /// A record.
    fn get(&self, id: AlertId) -> BoxFuture<'_, Result<Option<Stored>, StoreError>>;

    /// Takes over a piece of the feed: adds records, made `now`, except for those that are there already, and moves the
    /// cursor. Says which were added.
    fn create(
        &self,
        partition: PartitionId,
        records: Vec<Record>,
        cursor: u64,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<AlertId>, StoreError>>;

    /// Replaces records that were read before. Says their new revisions, in the same order.
    fn update(
        &self,
        partition: PartitionId,
        records: Vec<Stored>,
    ) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// Forgets records that were made longer ago than they are kept, as far as nothing of them is to be attempted.
    fn sweep(&self, now: Timestamp) -> BoxFuture<'_, Result<(), StoreError>>;
}

fn encode(record: &Record) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(record).map_err(|error| StoreError(error.to_string()))
}

fn decode(bytes: &[u8]) -> Result<Record, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError(format!("a record is not readable: {error}")))
}

#[cfg(test)]
mod tests;
