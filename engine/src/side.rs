//! A small durable map beside the log, for what must never stand in it: the keys that make personal data readable
//! (R9), and secrets of the ledger itself.

pub mod kv;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Why the map could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the store beside the log cannot be used: {0}")]
pub struct SideError(pub String);

/// A durable map of small values. What was answered is durable. Keys are `[A-Za-z0-9_-]` and `.` between parts.
pub trait SideStore: Send + Sync + std::fmt::Debug {
    /// The value of `key`.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Bytes>, SideError>>;

    /// Stores `value` unless the key has one already, and answers with the value that is there now: of two writers
    /// one wins and both learn which.
    fn put_new(&self, key: &str, value: Bytes) -> BoxFuture<'_, Result<Bytes, SideError>>;

    /// Removes the key so that its value cannot be brought back from the store.
    fn erase(&self, key: &str) -> BoxFuture<'_, Result<(), SideError>>;
}
