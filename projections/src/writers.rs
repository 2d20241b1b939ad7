//! Copies of entries: recognized by writer and count in bounded memory, beyond any broker's window.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tollbook_schemas::position::WriterId;

/// How far apart the counts of entries in flight may be. A writer counts on only while its oldest entry in flight is
/// less than this behind; so what comes from further back has been answered for, and is a copy.
pub const COUNT_WINDOW: u64 = 4_096;

/// Which counts of each writer stand in the log already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writers(BTreeMap<WriterId, Counts>);

/// Everything up to `floor` is there or will never be applied, and these beyond it are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    floor: u64,
    beyond: BTreeSet<u64>,
}

impl Writers {
    /// Notes one entry; answers whether it is new.
    pub fn note(&mut self, writer: WriterId, count: u64) -> bool {
        let counts = self.0.entry(writer).or_default();
        if count <= counts.floor || !counts.beyond.insert(count) {
            return false;
        }
        let highest = counts.beyond.last().copied().unwrap_or(count);
        let lowest = highest.saturating_sub(COUNT_WINDOW);
        if counts.floor < lowest {
            // Counts of entries that were given up leave gaps for ever.
            counts.floor = lowest;
            counts.beyond = counts.beyond.split_off(&lowest.saturating_add(1));
        }
        while counts.beyond.remove(&counts.floor.saturating_add(1)) {
            counts.floor = counts.floor.saturating_add(1);
        }
        true
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
    use proptest::prelude::*;

    use super::*;

    const WRITER: WriterId = WriterId(7);

    #[test]
    fn counts_out_of_order_are_new_once() {
        let mut writers = Writers::default();
        for count in [1, 3, 2, 5, 6, 4] {
            assert!(writers.note(WRITER, count), "{count}");
        }
        for count in 0..=6 {
            assert!(!writers.note(WRITER, count), "{count}");
        }
        assert_eq!(writers.0[&WRITER], Counts { floor: 6, beyond: BTreeSet::new() });
    }

    #[test]
    fn memory_is_bounded_by_the_window_whatever_was_given_up() {
        let mut writers = Writers::default();
        for count in (2..100_000).step_by(2) {
            assert!(writers.note(WRITER, count));
        }
        assert!(writers.0[&WRITER].beyond.len() <= 2_048);
        assert!(!writers.note(WRITER, 99_998 - COUNT_WINDOW - 1), "below the window");
        assert!(writers.note(WRITER, 99_998 - 101), "in the window");
        assert!(!writers.note(WRITER, 99_998 - 101));
    }

    proptest! {
        /// A writer that keeps to the window is never taken for a copier, and no copy ever counts again.
        #[test]
        fn whatever_keeps_to_the_window_is_new_once(
            steps in prop::collection::vec((0..6u64, any::<prop::sample::Index>()), 1..600), give_up in 0..50u64,
        ) {
            let mut writers = Writers::default();
            let (mut last, mut open, mut applied) = (0u64, Vec::<u64>::new(), BTreeSet::new());
            for (step, index) in steps {
                let oldest = open.iter().min().copied().unwrap_or(last + 1);
                match step {
                    // Many begin at once, some of them are given up and never come.
                    0..3 if last + 1 - oldest < COUNT_WINDOW => {
                        let many = (step * 700 + 1).min(COUNT_WINDOW - (last + 1 - oldest));
                        open.extend((last + 1..=last + many).filter(|count| give_up == 0 || count % (give_up + 1) != 0));
                        last += many;
                    }
                    3 if !applied.is_empty() => {
                        let copy = *index.get(&applied.iter().copied().collect::<Vec<_>>());
                        prop_assert!(!writers.note(WRITER, copy), "copy of {}", copy);
                    }
                    _ if !open.is_empty() => {
                        let count = open.swap_remove(index.index(open.len()));
                        prop_assert!(writers.note(WRITER, count), "{} of {}", count, last);
                        applied.insert(count);
                    }
                    _ => {}
                }
            }
            let bytes = tollbook_schemas::codec::encode_row(&writers).unwrap();
            prop_assert_eq!(tollbook_schemas::codec::decode_row::<Writers>(&bytes).unwrap(), writers);
        }
    }
}
