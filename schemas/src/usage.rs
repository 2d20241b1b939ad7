//! Usage: one metered call as a service reported it (R8), and how many of them stand packed in an entry.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::id::{KeyId, ModelName, OrgId, ProjectId, SourceName};
use crate::policy::Meters;
use crate::position::Position;
use crate::time::{Day, Timestamp};

/// More tokens or units than this in one record are absurd (R8.3).
pub const QUANTITY_MAX: u64 = 1_000_000_000_000;
/// Longest CloudEvents `id`, in bytes.
pub const USAGE_ID_MAX: usize = 256;
/// Largest usage record as sent, in bytes.
pub const USAGE_BYTES_MAX: usize = 16 * 1024;
/// Of which members that we do not know and keep, at most, in bytes.
pub const KEPT_BYTES_MAX: usize = 4 * 1024;
/// How far ahead of its arrival a record may have occurred, in seconds (R8.1).
pub const AHEAD_MAX_SECONDS: i64 = 5 * 60;
/// Most usage records in one entry.
pub const ROWS_MAX: usize = 1_000;
/// Size at which an entry takes no more records, in bytes: one more of the largest still fits a message.
pub const ENTRY_BYTES_MAX: usize = 512 * 1024;

/// Whom a call is charged to: `data` names one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Charged {
    /// The project of this key.
    Key(KeyId),
    /// This project, with no key.
    Project(ProjectId),
}

/// When a call occurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Occurred {
    /// As the publisher said.
    Given(Timestamp),
    /// The publisher did not say; this is when it arrived.
    Assumed(Timestamp),
}

impl Occurred {
    /// The instant, whoever named it.
    pub const fn at(self) -> Timestamp {
        match self {
            Self::Given(at) | Self::Assumed(at) => at,
        }
    }
}

/// Tokens of one call or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tokens {
    /// Input tokens, cached ones included.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cached_input: u64,
    /// Output tokens.
    pub output: u64,
}

/// What few records carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Extras {
    /// The admission lease that this call settles (R5.7).
    pub lease: Option<String>,
    /// Or the request it was admitted under.
    pub request_id: Option<String>,
    /// A cost from elsewhere, instead of pricing.
    pub cost: Option<Amount>,
    /// Units beyond tokens.
    pub meters: Meters,
    /// Members we do not know, kept as a JSON object of at most [`KEPT_BYTES_MAX`].
    pub kept: Option<String>,
}

impl Extras {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One metered call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Usage {
    /// Whose call.
    pub organization: OrgId,
    /// Charged to what.
    pub charged: Charged,
    /// Which model.
    pub model: ModelName,
    /// Who published it.
    pub source: SourceName,
    /// Unique per organization and source (R8.2).
    pub id: String,
    /// When.
    pub occurred: Occurred,
    /// The source's own count for this organization, from 1 without gaps.
    pub producerseq: Option<u64>,
    /// How much.
    pub tokens: Tokens,
    /// What few records carry.
    pub extras: Option<Box<Extras>>,
}

/// A usage record as it was charged: to whom, by which local day, and how much (R8.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BookedUsage {
    /// The local day in which the call occurred.
    pub day: Day,
    /// The project that was charged.
    pub project: ProjectId,
    /// The key, where usage named one.
    pub key: Option<KeyId>,
    /// The model.
    pub model: ModelName,
    /// How much.
    pub tokens: Tokens,
    /// Units beyond tokens.
    pub meters: Meters,
    /// What it cost.
    pub cost: Amount,
}

/// Where a usage record stands: its entry, and its row in it, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UsagePlace {
    /// The entry.
    pub position: Position,
    /// The row.
    pub row: u32,
}

impl fmt::Display for UsagePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.row)
    }
}

/// Where something came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ingress {
    /// HTTP.
    Http,
    /// A NATS publish to this subject, with nobody waiting for an answer.
    Nats {
        /// As published.
        subject: String,
    },
    /// The spool stream.
    Spool {
        /// The stream's sequence, by which a redelivery is recognized.
        sequence: u64,
        /// As published.
        subject: String,
    },
    /// A file.
    Import,
}

/// Bytes that ingress could not read as usage, where nobody waited for an answer (R8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// The organization that the subject named, if it named one.
    pub organization: Option<OrgId>,
    /// What was wrong.
    pub reason: String,
    /// Where it came in.
    pub ingress: Ingress,
    /// Exactly what came, at most [`USAGE_BYTES_MAX`]; longer ones are cut.
    pub bytes: Bytes,
}

/// Why a usage record was not booked (R8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantineReason {
    /// Not readable as usage.
    Unreadable(String),
    /// Subject and content name different organizations.
    OrganizationMismatch,
    /// No such organization in this ledger.
    UnknownOrganization,
    /// No such project in its organization.
    UnknownProject,
    /// No such API key in its organization.
    UnknownKey,
    /// No price for this model when the call occurred.
    UnknownModel,
    /// No price for this meter of the model when the call occurred.
    UnknownMeter,
    /// The same source and id came before with other content.
    ConflictingId {
        /// Where.
        first: UsagePlace,
    },
    /// Over 10¹² tokens or units, more cached input than input, or a cost that does not fit.
    Absurd,
    /// More than 5 minutes ahead of its arrival.
    Ahead,
    /// Too old to tell from a repetition, without `producerseq`.
    TooOld,
    /// Too far behind the highest `producerseq` to tell from a repetition.
    SequenceBehind,
    /// Too far ahead of the highest `producerseq`.
    SequenceAhead,
}

impl QuarantineReason {
    /// A stable code, never reused.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::OrganizationMismatch => "organization_mismatch",
            Self::UnknownOrganization => "unknown_organization",
            Self::UnknownProject => "unknown_project",
            Self::UnknownKey => "unknown_key",
            Self::UnknownModel => "unknown_model",
            Self::UnknownMeter => "unknown_meter",
            Self::ConflictingId { .. } => "conflicting_id",
            Self::Absurd => "absurd",
            Self::Ahead => "ahead",
            Self::TooOld => "too_old",
            Self::SequenceBehind => "sequence_behind",
            Self::SequenceAhead => "sequence_ahead",
        }
    }
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => write!(f, "not readable as usage: {reason}"),
            Self::OrganizationMismatch => f.write_str("subject and content name different organizations"),
            Self::UnknownOrganization => f.write_str("no such organization"),
            Self::UnknownProject => f.write_str("no such project in this organization"),
            Self::UnknownKey => f.write_str("no such API key in this organization"),
            Self::UnknownModel => f.write_str("no price for this model when the call occurred"),
            Self::UnknownMeter => f.write_str("no price for a meter of this model when the call occurred"),
            Self::ConflictingId { first } => {
                write!(f, "the same id came before with other content, at {first}")
            }
            Self::Absurd => f.write_str("quantities are absurd"),
            Self::Ahead => f.write_str("occurred more than 5 minutes ahead of its arrival"),
            Self::TooOld => f.write_str("too old to tell from a repetition without producerseq"),
            Self::SequenceBehind => f.write_str("producerseq is too far behind to tell from a repetition"),
            Self::SequenceAhead => f.write_str("producerseq is too far ahead of the highest seen"),
        }
    }
}
