//! Where an entry stands in the log, and what makes it the one it is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::LedgerId;

/// One of the P independent parts of a ledger's log, counted from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId(pub u16);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in one partition: its epoch's base plus the stream's sequence, so numbering goes on over epochs.
/// The first entry stands at 1; [`Position::ZERO`] is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl Position {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The place after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a whole ledger, written `<partition>-<position>`: `0-17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogPosition {
    /// The partition.
    pub partition: PartitionId,
    /// The place in it.
    pub position: Position,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.partition, self.position)
    }
}

/// A text that is not `<partition>-<position>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a partition and a position, such as `0-17`")]
pub struct PositionError;

impl FromStr for LogPosition {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let (partition, position) = text.split_once('-').ok_or(PositionError)?;
        let read = Self {
            partition: PartitionId(partition.parse().map_err(|_| PositionError)?),
            position: Position(position.parse().map_err(|_| PositionError)?),
        };
        // Rust's numbers may begin with a plus or zeros.
        if read.to_string() == text { Ok(read) } else { Err(PositionError) }
    }
}

/// One run of one process that appends to the log: 64 random bits, made anew at each start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WriterId(pub u64);

/// What makes an entry the one it is: a writer and its own count, from 1 without gaps per partition. Made before
/// the first attempt to append, so that every retry is recognizably the same entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// The ledger it belongs to.
    pub ledger: LedgerId,
    /// The partition it belongs to.
    pub partition: PartitionId,
    /// Who wrote it.
    pub writer: WriterId,
    /// The writer's count.
    pub count: u64,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:016x}.{}", self.ledger, self.partition, self.writer.0, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_read_back_as_written() {
        let at = LogPosition { partition: PartitionId(3), position: Position(17) };
        assert_eq!(at.to_string(), "3-17");
        assert_eq!("3-17".parse(), Ok(at));
        for bad in ["", "3", "3-", "-3", "3-17-2", "65536-1", "a-b"] {
            assert_eq!(bad.parse::<LogPosition>(), Err(PositionError), "{bad}");
        }
    }
}
