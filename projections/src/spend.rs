//! What was consumed: cells by day, project, model and key for analysis, and pending and settled spend for budgets
//! (R6.3, R8.3, R8.4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{KeyId, MeterName, ModelName, ProjectId};
use tollbook_schemas::policy::Meters;
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

/// What was consumed, summed. Sums of at most 2⁶⁴ records of at most 10¹² units each cannot overflow 128 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Calls.
    pub requests: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u128,
    /// Input tokens read from a cache.
    pub cached_input_tokens: u128,
    /// Output tokens.
    pub output_tokens: u128,
    /// Units beyond tokens.
    pub meters: BTreeMap<MeterName, u128>,
    /// What they cost.
    pub cost: Amount,
}

impl Cell {
    /// Adds another cell's consumption.
    pub fn add(&mut self, other: &Self) -> Result<(), Corrupt> {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(other.cached_input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        for (meter, units) in &other.meters {
            let mine = self.meters.entry(meter.clone()).or_default();
            *mine = mine.saturating_add(*units);
        }
        self.cost = sum(self.cost, other.cost)?;
        Ok(())
    }

    /// Adds one call.
    #[inline]
    pub(crate) fn count(
        &mut self,
        tokens: Tokens,
        meters: Option<&Meters>,
        cost: Amount,
    ) -> Result<(), Corrupt> {
        self.requests = self.requests.saturating_add(1);
        self.input_tokens = self.input_tokens.saturating_add(tokens.input.into());
        self.cached_input_tokens = self.cached_input_tokens.saturating_add(tokens.cached_input.into());
        self.output_tokens = self.output_tokens.saturating_add(tokens.output.into());
        for (meter, units) in meters.into_iter().flatten() {
            let mine = self.meters.entry(meter.clone()).or_default();
            *mine = mine.saturating_add((*units).into());
        }
        self.cost = sum(self.cost, cost)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn r6_3_settling_moves_everything_once_and_forgets_ended_periods() {
        let mut spend = ProjectSpend::default();
        spend.add_pending(day("2026-10-31"), amount("1")).unwrap();
        spend.add_pending(day("2026-11-19"), amount("2")).unwrap();
        spend.add_pending(day("2026-11-20"), amount("4")).unwrap();
        let november = day("2026-11-20").month();
        assert_eq!(spend.pending_in(november), Ok(amount("6")));
        spend.settle(day("2026-11-20")).unwrap();
        spend.settle(day("2026-11-20")).unwrap();
        assert!(!spend.has_pending());
        assert_eq!(spend.settled_on(day("2026-11-20")), amount("4"));
        assert_eq!(spend.settled_on(day("2026-11-19")), Amount::ZERO, "no budget can ask for it any more");
        assert_eq!(spend.settled_in(november), amount("6"));
        assert_eq!(spend.settled_in(day("2026-10-31").month()), Amount::ZERO);
        spend.settle(day("2026-12-01")).unwrap();
        assert_eq!(spend, ProjectSpend::default(), "memory does not grow with time");
    }

    #[test]
    fn r6_3_what_occurred_a_little_ahead_waits_for_its_day() {
        let mut spend = ProjectSpend::default();
        spend.add_pending(day("2026-12-01"), amount("1")).unwrap();
        spend.settle(day("2026-11-30")).unwrap();
        spend.settle(day("2026-12-01")).unwrap();
        assert_eq!(spend.settled_on(day("2026-12-01")), amount("1"));
        assert_eq!(spend.settled_in(day("2026-12-01").month()), amount("1"));
    }

    #[test]
    fn r8_4_cells_add_up_with_their_meters() {
        let image = MeterName::parse("image").unwrap();
        let tokens = Tokens { input: u64::MAX, cached_input: 1, output: 2 };
        let mut cell = Cell::default();
        cell.count(tokens, Some(&BTreeMap::from([(image.clone(), u64::MAX)])), amount("1")).unwrap();
        let other = cell.clone();
        cell.add(&other).unwrap();
        assert_eq!(cell.input_tokens, u128::from(u64::MAX) * 2);
        assert_eq!(cell.meters[&image], u128::from(u64::MAX) * 2);
        assert_eq!((cell.requests, cell.cost), (2, amount("2")));
        cell.cost = Amount::MAX;
        assert_eq!(cell.add(&other), Err(Corrupt::AmountOutOfRange));
    }
}
