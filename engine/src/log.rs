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
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{EntryId, PartitionId, Position};

/// Longest payload of one entry, in bytes.
pub const PAYLOAD_MAX: usize = 1024 * 1024;

/// What an entry is about; each is an ordered series of its own within a partition.
///
/// ```text
/// tollbook.log.<p>.usage.<org>    usage of one organization
/// tollbook.log.<p>.usage.mixed    usage of several, packed together
/// tollbook.log.<p>.org.<org>      decisions about an organization
/// tollbook.log.<p>.config         global configuration, cycle closes, ownership
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Usage of one organization.
    Usage(OrgId),
    /// Usage of several organizations.
    UsageMixed,
    /// Decisions about one organization.
    Organization(OrgId),
    /// Global configuration, billing-cycle closes, ownership.
    Config,
}

impl Topic {
    /// The subject of this topic in `partition`.
    pub fn subject(&self, partition: PartitionId) -> String {
        match self {
            Self::Usage(org) => format!("tollbook.log.{partition}.usage.{org}"),
            Self::UsageMixed => format!("tollbook.log.{partition}.usage.mixed"),
            Self::Organization(org) => format!("tollbook.log.{partition}.org.{org}"),
            Self::Config => format!("tollbook.log.{partition}.config"),
        }
    }

    /// The topic of a subject of `partition`, if it is one.
    pub fn of_subject(subject: &str, partition: PartitionId) -> Option<Self> {
        let rest = subject.strip_prefix("tollbook.log.")?;
        let (number, rest) = rest.split_once('.')?;
        if number.parse() != Ok(partition.0) {
            return None;
        }
        match rest.split_once('.') {
            None if rest == "config" => Some(Self::Config),
            Some(("usage", "mixed")) => Some(Self::UsageMixed),
            Some(("usage", org)) => OrgId::parse(org).ok().map(Self::Usage),
            Some(("org", org)) => OrgId::parse(org).ok().map(Self::Organization),
            None | Some(_) => None,
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_subjects_name_each_other() {
        let partition = PartitionId(3);
        let org = OrgId::from_bits(7);
        for topic in
            [Topic::Usage(org.clone()), Topic::UsageMixed, Topic::Organization(org.clone()), Topic::Config]
        {
            assert_eq!(Topic::of_subject(&topic.subject(partition), partition), Some(topic));
        }
        for foreign in ["tollbook.log.4.config", "tollbook.log.3.configs", "tollbook.log.3.org.acme", "other"]
        {
            assert_eq!(Topic::of_subject(foreign, partition), None, "{foreign}");
        }
    }
}
