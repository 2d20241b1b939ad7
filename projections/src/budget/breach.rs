//! One budget that was reached, and the four instants of it (R6.5).

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::Period;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Timestamp};

use super::Look;

/// A budget that was reached, from the entry that did it until its period ends or it is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// Which budget.
    pub period: Period,
    /// The first day of its period.
    pub starts: Day,
    /// The budget.
    pub limit: Amount,
    /// When the entry was recorded by which consumption reached it.
    pub crossed_at: Timestamp,
    /// That entry.
    pub crossed_in: Position,
    /// Once enforcement learned of it.
    pub visible: Option<Visible>,
    /// When it refused the first request, once that was written down (R6.5).
    pub first_refused_at: Option<Timestamp>,
}

/// How enforcement learned of a breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visible {
    /// The entry that settled it.
    pub from: Position,
    /// From when requests are refused: when that was recorded, and the lag model's delay (R6.3).
    pub at: Timestamp,
    /// What had been consumed of the period by then.
    pub spent: Amount,
}

/// Why a breach is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreachEnd {
    /// Its period ended.
    PeriodOver,
    /// The budget was changed.
    BudgetChanged,
    /// Usage that was taken back put consumption below the budget again (R4.8).
    Corrected,
}

/// A breach that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBreach {
    /// As it was.
    pub breach: Breach,
    /// When it ended.
    pub at: Timestamp,
    /// Why.
    pub end: BreachEnd,
    /// What was consumed of the period by then.
    pub spent: Amount,
}

impl EndedBreach {
    /// What was consumed beyond the budget.
    pub fn overshoot(&self) -> Amount {
        self.breach.overshoot(self.spent)
    }
}

impl Breach {
    /// What is beyond the budget when so much was consumed.
    pub fn overshoot(&self, spent: Amount) -> Amount {
        spent.checked_sub(self.limit).unwrap_or_default().max(Amount::ZERO)
    }
}

impl Breach {
    pub(super) fn become_visible(&mut self, delay_seconds: u32, spent: Amount, look: Look<'_>) {
        let at = look.at.recorded_at.plus_seconds(i64::from(delay_seconds));
        self.visible = Some(Visible { from: look.at.position, at, spent });
    }
}
