//! Copies of entries: recognized by writer and count in bounded memory, beyond any broker's window.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tollbook_schemas::position::WriterId;

/// Entries that one writer may have in flight at once, so how far their counts may stand out of order.
pub const IN_FLIGHT_MAX: u64 = 4_096;

/// Which counts of each writer stand in the log already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writers(BTreeMap<WriterId, Counts>);

/// Everything up to `floor` is there, and these beyond it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    floor: u64,
    beyond: BTreeSet<u64>,
}

/// What a count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Not seen before.
    New,
    /// An entry with it was applied already.
    Copy,
    /// Further ahead than any writer of ours goes.
    Impossible,
}

impl Writers {
    /// Notes one entry.
    pub fn note(&mut self, writer: WriterId, count: u64) -> Noted {
        let known = self.0.get(&writer);
        let floor = known.map_or(0, |counts| counts.floor);
        if count <= floor || known.is_some_and(|counts| counts.beyond.contains(&count)) {
            return Noted::Copy;
        }
        if count > floor.saturating_add(IN_FLIGHT_MAX) {
            return Noted::Impossible;
        }
        let counts = self.0.entry(writer).or_default();
        if count > counts.floor.saturating_add(1) {
            counts.beyond.insert(count);
            return Noted::New;
        }
        counts.floor = count;
        while counts.beyond.remove(&counts.floor.saturating_add(1)) {
            counts.floor = counts.floor.saturating_add(1);
        }
        Noted::New
    }

    /// How many writers there were.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_out_of_order_are_new_once() {
        let mut writers = Writers::default();
        let writer = WriterId(7);
        for count in [1, 3, 2, 5, 6, 4] {
            assert_eq!(writers.note(writer, count), Noted::New, "{count}");
        }
        for count in 1..=6 {
            assert_eq!(writers.note(writer, count), Noted::Copy, "{count}");
        }
        assert_eq!(writers.note(writer, 7 + IN_FLIGHT_MAX), Noted::Impossible);
        assert_eq!(writers.note(WriterId(8), 0), Noted::Copy);
        assert_eq!(writers.0[&writer], Counts { floor: 6, beyond: BTreeSet::new() });
    }
}
