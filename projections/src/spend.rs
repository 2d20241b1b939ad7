//! What was consumed: cells by day, project, model and key for analysis, and pending and settled spend for budgets
//! (R6.3, R8.3, R8.4).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hash, Hasher};

use serde::de::Deserializer;
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{KeyId, MeterName, ModelName, ProjectId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::{Day, Month};
use tollbook_schemas::usage::Tokens;

use crate::purse::sum;
use crate::sorted::SortedMap;
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

/// What was consumed, summed; below zero where more was taken back than came. Sums of at most 2⁶³ records of at most
/// 10¹² units each cannot overflow 128 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Calls.
    pub requests: i64,
    /// Input tokens, cached ones included.
    pub input_tokens: i128,
    /// Input tokens read from a cache.
    pub cached_input_tokens: i128,
    /// Output tokens.
    pub output_tokens: i128,
    /// Units beyond tokens.
    pub meters: BTreeMap<MeterName, i128>,
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

    /// Whether everything in it came to nothing.
    pub fn is_nothing(&self) -> bool {
        self.requests == 0
            && self.input_tokens == 0
            && self.cached_input_tokens == 0
            && self.output_tokens == 0
            && self.meters.values().all(|units| *units == 0)
            && self.cost.is_zero()
    }

    /// The same consumption taken back.
    #[must_use]
    pub fn taken_back(self) -> Self {
        Self {
            requests: self.requests.saturating_neg(),
            input_tokens: self.input_tokens.saturating_neg(),
            cached_input_tokens: self.cached_input_tokens.saturating_neg(),
            output_tokens: self.output_tokens.saturating_neg(),
            meters: self.meters.into_iter().map(|(meter, units)| (meter, units.saturating_neg())).collect(),
            cost: self.cost.negated(),
        }
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

/// Cells by what they are about, in that order.
///
/// Booking asks for the same cells all the time, and comparing four texts on the way through a tree would cost more
/// than everything else that is done with a record. So a cell is also found by the addresses of State's own copies of
/// those texts, which stay the same as long as anybody keeps them: and `kept` does.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// Places in `cells`.
    order: BTreeMap<CellKey, usize>,
    cells: Vec<Cell>,
    found: HashMap<Address, usize, BuildHasherDefault<AddressHasher>>,
    /// Keeps the addresses in `found` from ever meaning something else.
    kept: Vec<CellKey>,
}

/// Where the texts of a cell's key stand in memory; 0: no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Address {
    project: usize,
    model: usize,
    key: usize,
    day: Day,
}

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mixed = self.project ^ self.model.rotate_left(21) ^ self.key.rotate_left(42);
        state.write_u64(
            u64::try_from(mixed).unwrap_or(u64::MAX) ^ u64::from(self.day.number().cast_unsigned()),
        );
    }
}

/// One multiplication: addresses are as good as random but for their lowest bits.
#[derive(Clone, Copy, Debug, Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Cells {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = (&CellKey, &Cell)> {
        self.order.iter().filter_map(|(key, place)| Some((key, self.cells.get(*place)?)))
    }

    /// One of them.
    pub fn get(&self, key: &CellKey) -> Option<&Cell> {
        self.cells.get(*self.order.get(key)?)
    }

    /// The place of a cell, which is made if it is new. Places last as long as these cells. Ids and names should be
    /// copies that State holds: others are found as well, but only as slowly as in any tree.
    pub(crate) fn place(
        &mut self,
        day: Day,
        project: &ProjectId,
        model: &ModelName,
        key: Option<&KeyId>,
    ) -> usize {
        let address = Address {
            project: project.as_str().as_ptr().addr(),
            model: model.as_str().as_ptr().addr(),
            key: key.map_or(0, |key| key.as_str().as_ptr().addr()),
            day,
        };
        match self.found.get(&address) {
            Some(found) => *found,
            None => {
                let key = CellKey { day, project: project.clone(), model: model.clone(), key: key.cloned() };
                self.find(address, key)
            }
        }
    }

    /// The cell at a place.
    pub(crate) fn at(&mut self, place: usize) -> Option<&mut Cell> {
        self.cells.get_mut(place)
    }

    fn find(&mut self, address: Address, key: CellKey) -> usize {
        let next = self.cells.len();
        let place = *self.order.entry(key.clone()).or_insert(next);
        if place == next {
            self.cells.push(Cell::default());
        }
        // State holds one copy of each text, or two after it was restored. More were not State's.
        if self.kept.len() > self.cells.len().saturating_mul(4) {
            self.found.clear();
            self.kept.clear();
        }
        self.found.insert(address, place);
        self.kept.push(key);
        place
    }
}

impl PartialEq for Cells {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Cells {}

impl FromIterator<(CellKey, Cell)> for Cells {
    fn from_iter<I: IntoIterator<Item = (CellKey, Cell)>>(cells: I) -> Self {
        // Through a map, so that of two with the same key only one stays.
        let all: BTreeMap<CellKey, Cell> = cells.into_iter().collect();
        let (keys, cells): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        Self { order: keys.into_iter().zip(0..).collect(), cells, ..Self::default() }
    }
}

impl IntoIterator for Cells {
    type Item = (CellKey, Cell);
    type IntoIter = std::vec::IntoIter<(CellKey, Cell)>;

    fn into_iter(mut self) -> Self::IntoIter {
        let take = |(key, place): (CellKey, usize)| Some((key, std::mem::take(self.cells.get_mut(place)?)));
        std::mem::take(&mut self.order).into_iter().filter_map(take).collect::<Vec<_>>().into_iter()
    }
}

impl Serialize for Cells {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, cell) in self.iter() {
            map.serialize_entry(key, cell)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(BTreeMap::<CellKey, Cell>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Cells booked on one local day. When the first record of a later day is booked they become history: rows of the
/// view, whose hash the organization keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCells {
    /// The local day on which they were booked.
    pub booked_on: Day,
    /// By what they are about.
    pub cells: Cells,
}

/// A project's consumption as budgets see it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectSpend {
    /// Consumed since the last close, by the local day in which it occurred.
    pending: SortedMap<Day, Amount>,
    /// Settled, by local day; days that no budget can ask for any more are forgotten.
    days: SortedMap<Day, Amount>,
    /// Settled, by local month; likewise.
    months: SortedMap<Month, Amount>,
}

impl ProjectSpend {
    /// Adds consumption that waits for its cycle to close.
    pub(crate) fn add_pending(&mut self, day: Day, cost: Amount) -> Result<(), Corrupt> {
        let pending = self.pending.get_or_default(day);
        *pending = sum(*pending, cost)?;
        Ok(())
    }

    /// Settles everything that is pending; `today` is the local day on which that happens.
    pub(crate) fn settle(&mut self, today: Day) -> Result<(), Corrupt> {
        for (day, cost) in std::mem::take(&mut self.pending) {
            let settled = self.days.get_or_default(day);
            *settled = sum(*settled, cost)?;
            let settled = self.months.get_or_default(day.month());
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

    /// What waits for its cycle to close, by the local day in which it occurred.
    pub fn pending(&self) -> impl Iterator<Item = (Day, Amount)> {
        self.pending.iter().map(|(day, cost)| (*day, *cost))
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
        assert_eq!(cell.input_tokens, i128::from(u64::MAX) * 2);
        assert_eq!(cell.meters[&image], i128::from(u64::MAX) * 2);
        assert_eq!((cell.requests, cell.cost), (2, amount("2")));
        cell.cost = Amount::MAX;
        assert_eq!(cell.add(&other), Err(Corrupt::AmountOutOfRange));
    }
}
