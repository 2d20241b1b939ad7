//! `producerseq`: telling a repetition from a new record by a floor, the highest number seen, and a bitmap of what is
//! missing between them (R8.2).

use serde::{Deserialize, Serialize};

/// How far below the highest number a missing one may still arrive.
pub const WINDOW: u64 = 65_536;
/// How far above the highest number the next may be; further is quarantined, because one typing error would otherwise
/// put all honest records below the window.
pub const JUMP_MAX: u64 = 1 << 20;

const WORDS: usize = 1_024;

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

/// A ring of bits, one per number of the window, set where the number is missing. Written as its non-zero words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u16, u64)>", into = "Vec<(u16, u64)>")]
struct Missing {
    words: Vec<u64>,
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
                for slot in first_gap..=number {
                    missing.clear(slot);
                }
            }
        }
        if in_window < number {
            let missing = self.missing.get_or_insert_default();
            for slot in in_window..number {
                missing.set(slot);
            }
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

impl Default for Missing {
    fn default() -> Self {
        Self { words: vec![0; WORDS], count: 0 }
    }
}

impl Missing {
    const fn place(number: u64) -> (u64, u64) {
        let slot = number % WINDOW;
        (slot / 64, 1 << (slot % 64))
    }

    fn word(&mut self, index: u64) -> Option<&mut u64> {
        self.words.get_mut(usize::try_from(index).ok()?)
    }

    fn has(&self, number: u64) -> bool {
        let (index, bit) = Self::place(number);
        usize::try_from(index)
            .ok()
            .and_then(|index| self.words.get(index))
            .is_some_and(|word| word & bit != 0)
    }

    fn set(&mut self, number: u64) {
        let (index, bit) = Self::place(number);
        if let Some(word) = self.word(index)
            && *word & bit == 0
        {
            *word |= bit;
            self.count = self.count.saturating_add(1);
        }
    }

    /// Whether it was set.
    fn clear(&mut self, number: u64) -> bool {
        let (index, bit) = Self::place(number);
        match self.word(index) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.count = self.count.saturating_sub(1);
                true
            }
            Some(_) | None => false,
        }
    }
}

impl From<Vec<(u16, u64)>> for Missing {
    fn from(sparse: Vec<(u16, u64)>) -> Self {
        let mut missing = Self::default();
        for (index, word) in sparse {
            if let Some(place) = missing.words.get_mut(usize::from(index)) {
                *place = word;
                missing.count = missing.count.saturating_add(word.count_ones());
            }
        }
        missing
    }
}

impl From<Missing> for Vec<(u16, u64)> {
    fn from(missing: Missing) -> Self {
        (0u16..).zip(missing.words).filter(|(_, word)| *word != 0).collect()
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
                // Mostly forwards, sometimes back.
                let number = if count % 3 == 0 { next.saturating_sub(step) } else { next + step % 50 };
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
