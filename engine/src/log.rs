//! The event log: the one append-only truth, on JetStream or embedded.
//!
//! A log stores opaque payloads; what they mean is the codec's and the fold's business. One value of a type that
//! implements [`EventLog`] serves every partition of one ledger.

pub mod embedded;
pub mod jetstream;

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tollbook_schemas::position::{EntryId, PartitionId, Position};
pub use tollbook_schemas::topic::Topic;

/// Longest payload of one entry, in bytes.
pub const PAYLOAD_MAX: usize = 1024 * 1024;

/// One entry to be appended.
#[derive(Clone, Debug)]
pub struct Append {
    /// Makes retries recognizable; its partition is where the entry goes.
    pub id: EntryId,
    /// The series it belongs to.
    pub topic: Topic,
    /// The encoded entry, at most [`PAYLOAD_MAX`] bytes.
    pub payload: Bytes,
    /// Where the last entry of this topic must stand ([`Position::ZERO`]: there is none), or no condition.
    pub expected: Option<Position>,
}

/// Why an entry was not appended, or may not have been.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The topic's last entry stands elsewhere than expected; nothing was written.
    #[error("the topic's last entry stands at {actual}, not at {expected}")]
    Conflict {
        /// What the caller expected.
        expected: Position,
        /// Where the last entry of the topic stands now.
        actual: Position,
    },
    /// Over the payload limit; nothing was written.
    #[error("the entry has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// What the log takes.
        limit: usize,
    },
    /// The log refuses entries until somebody acts: full, or misconfigured; nothing was written.
    #[error("the log takes no entries: {reason}")]
    Refused {
        /// What the log said.
        reason: String,
    },
    /// The log could not be reached in time. The entry may or may not be stored, now or later: append the same
    /// entry, with the same id, again.
    #[error("the log did not answer: {reason}")]
    Unknown {
        /// What was tried last.
        reason: String,
    },
    /// The log was closed; nothing was written.
    #[error("the log is closed")]
    Closed,
}

/// Why the log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log could not be reached; reading may go on later from the same position.
    #[error("the log cannot be reached: {0}")]
    Unavailable(String),
    /// What is stored is damaged, is missing, or is another history than before. Nothing may continue on it.
    #[error("the log is damaged at {partition}-{position}: {reason}")]
    Corrupt {
        /// The partition.
        partition: PartitionId,
        /// The first position that cannot be trusted.
        position: Position,
        /// What was found.
        reason: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// One stored payload, exactly as it was appended.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it stands.
    pub position: Position,
    /// The subject it was stored under.
    pub subject: String,
    /// The exact bytes.
    pub payload: Bytes,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} bytes)", self.position, self.subject, self.payload.len())
    }
}

/// What a log's reader gets, in order of position without gaps.
pub type Tail = BoxStream<'static, Result<Stored, ReadError>>;

/// An append-only log of one ledger. What `append` acknowledged is durable, is there once, and stays.
pub trait EventLog: Send + Sync + fmt::Debug {
    /// Appends one entry and answers where it stands once it is durable. Appending the same entry again, by its
    /// id, answers with the position it already has. May be called concurrently: entries without condition are
    /// then stored in any order. Waits while too many appends are in flight.
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Position, AppendError>>;

    /// The position of the last entry of `partition`; [`Position::ZERO`] when it is empty.
    fn last(&self, partition: PartitionId) -> BoxFuture<'_, Result<Position, ReadError>>;

    /// The position of the last entry of `topic`; [`Position::ZERO`] when there is none.
    fn last_of(&self, partition: PartitionId, topic: Topic) -> BoxFuture<'_, Result<Position, ReadError>>;

    /// Everything after `after` in order without gaps, and then what is appended from now on, for ever. The stream
    /// recovers from lost connections by itself; it ends only after an error it cannot recover from.
    fn tail(&self, partition: PartitionId, after: Position) -> Tail;

    /// One stored entry, or `None` past the end.
    fn get(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> BoxFuture<'_, Result<Option<Stored>, ReadError>>;
}
