//! What the fold owes the world outside of State.

use serde::{Deserialize, Serialize};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{QuarantineReason, Unreadable, Usage, UsagePlace};

use crate::spend::OpenCells;

/// What applying a record owes the world outside of State. A value: replays drop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Usage was not booked (R8.1).
    Quarantined(Box<Quarantined>),
    /// Cells of a day became history of an organization; `position` is the entry that closed the day.
    CellsClosed {
        /// Whose.
        organization: OrgId,
        /// Which.
        cells: OpenCells,
        /// By what.
        position: Position,
    },
    /// A message is not an entry of this ledger and partition, and was skipped.
    Foreign {
        /// Where.
        position: Position,
        /// Why.
        reason: String,
    },
    /// An entry that was applied before stands here again, and was skipped.
    Copy {
        /// Where.
        position: Position,
    },
    /// A decision of an older term than the owner's, and was skipped.
    Voided {
        /// Where.
        position: Position,
        /// Its term.
        term: u64,
    },
}

/// One quarantined record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Where it stands.
    pub place: UsagePlace,
    /// Why it was not booked.
    pub reason: QuarantineReason,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What came.
    pub what: QuarantinedWhat,
}

/// What came and was not booked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuarantinedWhat {
    /// A readable record.
    Usage(Usage),
    /// Bytes.
    Bytes(Unreadable),
}
