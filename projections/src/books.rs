//! An organization's months: what each opened with, what usage took, what it closed with (R8.3).
//!
//! A month is that of the organization's calendar, by when things were booked and not by when they occurred.

use serde::{Deserialize, Serialize};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Month, Timestamp};

use crate::purse::Funds;

/// The books of the month that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMonth {
    /// Which month.
    pub month: Month,
    /// What there was when it began.
    pub opening: Funds,
    /// What usage took of each, less what was given back.
    pub usage: Funds,
    /// Whether anything was booked in it.
    pub active: bool,
    /// The entry with which it began: what is known of earlier months stands in rows of this entry and those before.
    pub since: Position,
}

/// The books of a month that ended with something booked in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedMonth {
    /// Which month.
    pub month: Month,
    /// What there was when it began.
    pub opening: Funds,
    /// What usage took of each, less what was given back.
    pub usage: Funds,
    /// What there was when it ended.
    pub closing: Funds,
}

/// The seal of a closed month's statement: from here on it never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// The month.
    pub month: Month,
    /// SHA-256 of the statement's canonical bytes.
    pub hash: [u8; 32],
    /// The entry that says so.
    pub position: Position,
    /// When.
    pub sealed_at: Timestamp,
}

impl OpenMonth {
    /// A month that begins with these funds.
    pub fn begin(month: Month, opening: Funds, since: Position) -> Self {
        Self { month, opening, usage: Funds::default(), active: false, since }
    }
}
