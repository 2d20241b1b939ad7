//! What was consumed: cells by day, project, model and key for analysis, and pending and settled spend for budgets
//! (R6.3, R8.3, R8.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{KeyId, MeterName, ModelName, ProjectId};
use tollbook_schemas::time::{Day, Month};
use tollbook_schemas::usage::Tokens;

use crate::purse::sum;
use crate::state::Corrupt;

/// What a cell is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CellKey {
    /// The local day in which the calls occurred (R8.3).
    pub day: Day,
    /// The project that was charged.
    pub project: ProjectId,
    /// The model.
    pub model: ModelName,
    /// The key, where usage named one.
    pub key: Option<KeyId>,
}

/// What was consumed, summed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Calls.
    pub requests: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// Units beyond tokens.
    pub meters: BTreeMap<MeterName, u64>,
    /// What they cost.
    pub cost: Amount,
}

impl Cell {
    /// Adds another cell's consumption.
    pub fn add(&mut self, other: &Self) -> Result<(), Corrupt> {
        let count = |a: u64, b: u64| a.checked_add(b).ok_or(Corrupt::CountOutOfRange);
        self.requests = count(self.requests, other.requests)?;
        self.tokens = Tokens {
            input: count(self.tokens.input, other.tokens.input)?,
            cached_input: count(self.tokens.cached_input, other.tokens.cached_input)?,
            output: count(self.tokens.output, other.tokens.output)?,
        };
        for (meter, units) in &other.meters {
            let mine = self.meters.entry(meter.clone()).or_default();
            *mine = count(*mine, *units)?;
        }
        self.cost = sum(self.cost, other.cost)?;
        Ok(())
    }
}

/// Cells booked on one local day. When the first record of a later day is booked they become history: rows of the
/// view, whose hash the organization keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCells {
    /// The local day on which they were booked.
    pub booked_on: Day,
    /// By what they are about.
    pub cells: BTreeMap<CellKey, Cell>,
}

/// A project's consumption as budgets see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSpend {
    /// Consumed since the last close, by the local day in which it occurred.
    pending: BTreeMap<Day, Amount>,
    /// Settled, by local day; days that no budget can ask for any more are forgotten.
    days: BTreeMap<Day, Amount>,
    /// Settled, by local month; likewise.
    months: BTreeMap<Month, Amount>,
}

impl ProjectSpend {
    /// Adds consumption that waits for its cycle to close.
    pub(crate) fn add_pending(&mut self, day: Day, cost: Amount) -> Result<(), Corrupt> {
        let pending = self.pending.entry(day).or_default();
        *pending = sum(*pending, cost)?;
        Ok(())
    }

    /// Settles everything that is pending; `today` is the local day on which that happens.
    pub(crate) fn settle(&mut self, today: Day) -> Result<(), Corrupt> {
        for (day, cost) in std::mem::take(&mut self.pending) {
            let settled = self.days.entry(day).or_default();
            *settled = sum(*settled, cost)?;
            let settled = self.months.entry(day.month()).or_default();
            *settled = sum(*settled, cost)?;
        }
        // Budgets of ended periods are never compared again (R6.4); analysis reads cells.
        let this_month = today.month();
        self.days.retain(|day, _| *day >= today);
        self.months.retain(|month, _| *month >= this_month);
        Ok(())
    }

    /// Whether anything waits for its cycle to close.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Settled consumption of a local day.
    pub fn settled_on(&self, day: Day) -> Amount {
        self.days.get(&day).copied().unwrap_or_default()
    }

    /// Settled consumption of a local month.
    pub fn settled_in(&self, month: Month) -> Amount {
        self.months.get(&month).copied().unwrap_or_default()
    }

    /// Pending consumption of a local day.
    pub fn pending_on(&self, day: Day) -> Amount {
        self.pending.get(&day).copied().unwrap_or_default()
    }

    /// Pending consumption of a local month.
    pub fn pending_in(&self, month: Month) -> Result<Amount, Corrupt> {
        self.pending
            .iter()
            .filter(|(day, _)| day.month() == month)
            .try_fold(Amount::ZERO, |all, (_, cost)| sum(all, *cost))
    }
}
