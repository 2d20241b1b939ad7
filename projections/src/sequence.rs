//! `producerseq`: telling a repetition from a new record by a floor, the highest number seen, and a bitmap of what is
//! missing between them (R8.2).

use serde::{Deserialize, Serialize};

use crate::sorted::SortedMap;

/// How far below the highest number a missing one may still arrive.
pub const WINDOW: u64 = 65_536;
/// How far above the highest number the next may be; further is quarantined, because one typing error would otherwise
/// put all honest records below the window.
pub const JUMP_MAX: u64 = 1 << 20;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Not seen before.
    New,
    /// Certainly seen before.
    Duplicate,
    /// Below the window and above the floor: nobody can tell.
    Behind,
    /// More than [`JUMP_MAX`] above the highest.
    Ahead,
}

/// Numbers of one source for one organization.
///
/// ```text
///        floor                       highest
/// ─────────┤ lost ┤ window: missing ones are marked ├─────────────>
/// duplicate  behind   duplicate, or new where marked    new
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceWindow {
    floor: u64,
    highest: u64,
    missing: Option<Box<Missing>>,
}

/// A ring of bits, one per number of the window, set where the number is missing. Kept and written as its non-zero
/// words: one number lost on the way, among thousands of publishers, would otherwise take 8 kB of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
struct Missing {
    /// By their place in the ring; none is zero.
    words: SortedMap<u16, u64>,
    count: u32,
}

impl SequenceWindow {
    /// Notes one number.
    #[inline]
    pub fn note(&mut self, number: u64) -> Sequence {
        if number == self.highest.wrapping_add(1) && self.floor == self.highest && number != 0 {
            self.highest = number;
            self.floor = number;
            return Sequence::New;
        }
        self.note_with_gaps(number)
    }

    fn note_with_gaps(&mut self, number: u64) -> Sequence {
        if number <= self.floor {
            return Sequence::Duplicate;
        }
        if number > self.highest.saturating_add(JUMP_MAX) {
            return Sequence::Ahead;
        }
        if number > self.highest {
            self.advance(number);
            return Sequence::New;
        }
        if self.highest.saturating_sub(number) >= WINDOW {
            return Sequence::Behind;
        }
        let was_missing = self.missing.as_mut().is_some_and(|missing| missing.clear(number));
        self.tidy();
        if was_missing { Sequence::New } else { Sequence::Duplicate }
    }

    fn advance(&mut self, number: u64) {
        let first_gap = self.highest.saturating_add(1);
        // What falls out of the window without having come can never be told from a repetition again.
        let in_window = first_gap.max(number.saturating_sub(WINDOW.saturating_sub(1)));
        if let Some(missing) = &mut self.missing {
            let span = number.saturating_sub(self.highest);
            if span >= WINDOW {
                **missing = Missing::default();
            } else {
                missing.clear_all(first_gap, number);
                missing.clear(number);
            }
        }
        if in_window < number {
            self.missing.get_or_insert_default().set_all(in_window, number);
        }
        self.highest = number;
        self.tidy();
    }

    /// Raises the floor over what is contiguous, and drops a bitmap with nothing in it.
    fn tidy(&mut self) {
        match &self.missing {
            Some(missing) if missing.count > 0 => {
                let window_start = self.highest.saturating_sub(WINDOW.saturating_sub(1));
                if self.floor.saturating_add(1) >= window_start {
                    while self.floor < self.highest && !missing.has(self.floor.saturating_add(1)) {
                        self.floor = self.floor.saturating_add(1);
                    }
                }
            }
            Some(_) | None => {
                self.missing = None;
                let window_start = self.highest.saturating_sub(WINDOW.saturating_sub(1));
                if self.floor.saturating_add(1) >= window_start {
                    self.floor = self.highest;
                }
            }
        }
    }

    /// The highest number seen.
    pub const fn highest(&self) -> u64 {
        self.highest
    }
}

impl Missing {
    /// The word of a number, and its bit in it.
    fn place(number: u64) -> (u16, u64) {
        let slot = number % WINDOW;
        // At most 1 023.
        (u16::try_from(slot / 64).unwrap_or(u16::MAX), 1 << (slot % 64))
    }

    /// The words of numbers from one up to another, less than a window apart, with the bits of those in each.
    fn places(from: u64, to: u64) -> impl Iterator<Item = (u16, u64)> {
        let mut next = from;
        std::iter::from_fn(move || {
            let number = next;
            next = (number / 64).saturating_add(1).saturating_mul(64).min(to);
            let bits = next.checked_sub(number).filter(|bits| *bits > 0)?;
            let (word, first) = Self::place(number);
            // So many ones from the first on.
            let ones = u64::MAX.checked_shr(u32::try_from(64_u64.saturating_sub(bits)).ok()?)?;
            Some((word, ones.wrapping_mul(first)))
        })
    }

    fn has(&self, number: u64) -> bool {
        let (place, bit) = Self::place(number);
        self.words.get(&place).is_some_and(|word| word & bit != 0)
    }

    /// Sets what lies from one number up to another.
    fn set_all(&mut self, from: u64, to: u64) {
        for (place, bits) in Self::places(from, to) {
            let word = self.words.get_or_default(place);
            let new = bits & !*word;
            *word |= bits;
            self.count = self.count.saturating_add(new.count_ones());
        }
    }

    /// Clears what lies from one number up to another.
    fn clear_all(&mut self, from: u64, to: u64) {
        for (place, bits) in Self::places(from, to) {
            self.clear_bits(place, bits);
        }
    }

    /// Whether it was set.
    fn clear(&mut self, number: u64) -> bool {
        let (place, bit) = Self::place(number);
        self.clear_bits(place, bit) > 0
    }

    /// How many of these were set.
    fn clear_bits(&mut self, place: u16, bits: u64) -> u32 {
        let Some(word) = self.words.get_mut(&place) else { return 0 };
        let cleared = (*word & bits).count_ones();
        *word &= !bits;
        if *word == 0 {
            self.words.remove(&place);
        }
        self.count = self.count.saturating_sub(cleared);
        cleared
    }
}

impl From<Vec<(u16, u64)>> for Missing {
    fn from(sparse: Vec<(u16, u64)>) -> Self {
        let known = |(place, word): &(u16, u64)| u64::from(*place) < WINDOW / 64 && *word != 0;
        let words: SortedMap<u16, u64> = sparse.into_iter().filter(known).collect();
        Self { count: words.values().map(|word| word.count_ones()).sum(), words }
    }
}

impl From<Missing> for Vec<(u16, u64)> {
    fn from(missing: Missing) -> Self {
        missing.words.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn note_all(window: &mut SequenceWindow, numbers: impl IntoIterator<Item = u64>) -> Vec<Sequence> {
        numbers.into_iter().map(|number| window.note(number)).collect()
    }

    #[test]
    fn r8_2_numbers_count_once() {
        use Sequence::{Ahead, Duplicate, New};
        let mut window = SequenceWindow::default();
        assert_eq!(
            note_all(&mut window, [1, 2, 2, 5, 3, 5, 3, 4]),
            [New, New, Duplicate, New, New, Duplicate, Duplicate, New]
        );
        assert_eq!(window, SequenceWindow { floor: 5, highest: 5, missing: None });
        assert_eq!(note_all(&mut window, [0, 5 + JUMP_MAX + 1, u64::MAX]), [Duplicate, Ahead, Ahead]);
    }

    #[test]
    fn r8_1_what_fell_out_of_the_window_is_not_guessed() {
        use Sequence::{Behind, Duplicate, New};
        let mut window = SequenceWindow::default();
        assert_eq!(note_all(&mut window, [1, 3, 3 + WINDOW]), [New, New, New]);
        assert_eq!(note_all(&mut window, [2, 3, 1]), [Behind, Behind, Duplicate]);
        assert_eq!(note_all(&mut window, [4, 4, 3 + WINDOW]), [New, Duplicate, Duplicate]);
    }

    proptest! {
        #[test]
        fn r8_2_agrees_with_a_set(
            steps in prop::collection::vec(prop_oneof![0..40u64, 0..200_000u64, Just(1u64)], 1..400), store: bool,
        ) {
            let mut window = SequenceWindow::default();
            let mut seen = BTreeSet::new();
            let mut next = 1u64;
            for (count, step) in steps.into_iter().enumerate() {
                // Mostly forwards, sometimes back, rarely far ahead.
                let number = match count % 21 {
                    5 => next + step,
                    back if back % 3 == 0 => next.saturating_sub(step),
                    _ => next + step % 50,
                };
                let highest = seen.last().copied().unwrap_or(0);
                let answer = window.note(number);
                match answer {
                    Sequence::New => prop_assert!(number > 0 && seen.insert(number)),
                    Sequence::Duplicate => prop_assert!(number == 0 || seen.contains(&number), "{}", number),
                    Sequence::Behind => prop_assert!(highest - number >= WINDOW),
                    Sequence::Ahead => prop_assert!(number > highest + JUMP_MAX),
                }
                next = seen.last().copied().unwrap_or(0) + 1;
                if store {
                    let bytes = tollbook_schemas::codec::encode_row(&window).unwrap();
                    prop_assert_eq!(&tollbook_schemas::codec::decode_row::<SequenceWindow>(&bytes).unwrap(), &window);
                }
            }
        }
    }
}
