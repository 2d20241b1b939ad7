//! Sliding windows: what was counted in the last minute, to the millisecond (R5.6).

use std::collections::{HashMap, VecDeque};

use tollbook_schemas::time::Timestamp;

const NANOS: i64 = 1_000_000;

/// A count of whole milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(i64);

impl Millis {
    /// The millisecond that an instant has reached.
    pub const fn reached(at: Timestamp) -> Self {
        Self(at.nanos().div_euclid(NANOS))
    }

    /// The first millisecond that is not before an instant.
    pub const fn not_before(at: Timestamp) -> Self {
        Self(at.nanos().saturating_add(NANOS - 1).div_euclid(NANOS))
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// How many milliseconds it is after another.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The instant at which it begins.
    pub const fn begins(self) -> Timestamp {
        Timestamp::from_nanos(self.0.saturating_mul(NANOS))
    }
}

/// Whether so much more has room in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Now.
    Now,
    /// From this millisecond on, if nothing else comes.
    From(Millis),
    /// Never: it is more than the limit.
    Never,
}

/// Units that are taken back before they leave a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenBack {
    /// When.
    pub when: Timestamp,
    /// The millisecond that they are counted at.
    pub at: Millis,
    /// How many.
    pub units: u64,
}

/// Buckets that a window keeps room for while nothing is counted.
const KEPT: usize = 16;

/// What was counted in the last minute.
///
/// Units are counted at the millisecond that follows them and leave it a minute later, so that no span of 60 seconds
/// ever holds more than what a limit let in. There is at most one bucket for each millisecond: 60,000 of 16 bytes,
/// however much is counted.
///
/// Of ten thousand windows none is in the processor's cache, so what is asked of a window with every request stands in
/// it, not behind a pointer: the newest bucket, the sum, and when the first bucket leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Units by millisecond, in order, before the newest; none is empty.
    older: VecDeque<(Millis, u64)>,
    /// The last bucket; empty only when there is none at all.
    newest: (Millis, u64),
    /// The first bucket's millisecond.
    oldest: Millis,
    /// The sum.
    total: u128,
}

impl SlidingWindow {
    /// How long units stay, in milliseconds.
    pub const SPAN: i64 = 60_000;

    /// Forgets what has left the window.
    pub fn forget(&mut self, now: Millis) {
        let has_left = |at: Millis| now >= at.plus(Self::SPAN);
        while let Some((at, units)) = self.older.front().copied() {
            if !has_left(at) {
                self.oldest = at;
                return;
            }
            self.total = self.total.saturating_sub(units.into());
            self.older.pop_front();
        }
        // What a busy minute took is given back once it is over.
        if self.older.capacity() > KEPT {
            self.older.shrink_to(0);
        }
        if has_left(self.newest.0) {
            self.newest.1 = 0;
            self.total = 0;
        }
        self.oldest = self.newest.0;
    }

    /// What is counted now, as far as it was forgotten by now.
    pub fn total(&self) -> u64 {
        u64::try_from(self.total).unwrap_or(u64::MAX)
    }

    /// Counts units at a millisecond. What has left the window by `now` is not counted.
    pub fn add(&mut self, at: Millis, units: u64, now: Millis) {
        if units == 0 || now >= at.plus(Self::SPAN) {
            return;
        }
        let (newest, sum) = self.newest;
        let counted = if sum == 0 {
            (self.newest, self.oldest) = ((at, units), at);
            units
        } else if at > newest {
            self.older.push_back(self.newest);
            self.newest = (at, units);
            units
        } else if at == newest {
            Self::grow(&mut self.newest.1, units)
        } else {
            self.add_late(at, units)
        };
        self.total = self.total.saturating_add(counted.into());
    }

    fn add_late(&mut self, at: Millis, units: u64) -> u64 {
        let place = self.older.partition_point(|(known, _)| *known <= at);
        match place.checked_sub(1).and_then(|before| self.older.get_mut(before)) {
            Some((known, sum)) if *known == at => Self::grow(sum, units),
            Some(_) | None => {
                self.older.insert(place, (at, units));
                self.oldest = self.oldest.min(at);
                units
            }
        }
    }

    /// By how much a bucket grew.
    const fn grow(sum: &mut u64, units: u64) -> u64 {
        let before = *sum;
        *sum = sum.saturating_add(units);
        sum.saturating_sub(before)
    }

    /// Takes back units that were counted at a millisecond, if they have not left the window.
    pub fn take_back(&mut self, at: Millis, units: u64) {
        if at == self.newest.0 {
            let back = units.min(self.newest.1);
            self.newest.1 = self.newest.1.saturating_sub(back);
            self.total = self.total.saturating_sub(back.into());
            if self.newest.1 == 0
                && let Some(before) = self.older.pop_back()
            {
                self.newest = before;
            }
        } else if let Ok(place) = self.older.binary_search_by_key(&at, |(known, _)| *known)
            && let Some((_, sum)) = self.older.get_mut(place)
        {
            let back = units.min(*sum);
            *sum = sum.saturating_sub(back);
            self.total = self.total.saturating_sub(back.into());
            if *sum == 0 {
                self.older.remove(place);
                if place == 0 {
                    self.oldest = self.older.front().map_or(self.newest.0, |(first, _)| *first);
                }
            }
        }
    }

    /// When `units` more have room under a limit, given that the window was forgotten by now.
    pub fn room(&self, units: u64, limit: u64) -> Room {
        let Some(free_at) = limit.checked_sub(units) else { return Room::Never };
        let mut left = self.total;
        if left <= free_at.into() {
            return Room::Now;
        }
        for (at, units) in self.older.iter().chain([&self.newest]) {
            left = left.saturating_sub((*units).into());
            if left <= free_at.into() {
                return Room::From(at.plus(Self::SPAN));
            }
        }
        Room::Now
    }

    /// When `units` more have room under a limit, where some of what is counted is given back before it leaves: in the
    /// order of when that is. No more is looked at than has to come or go for it.
    pub fn room_with(
        &self,
        units: u64,
        limit: u64,
        given_back: impl Iterator<Item = GivenBack>,
    ) -> Option<Timestamp> {
        let free_at = u128::from(limit.checked_sub(units)?);
        let (mut left, mut given_back) = (self.total, given_back.peekable());
        let mut taken = HashMap::<Millis, u64>::new();
        for (at, sum) in self.older.iter().chain([&self.newest]) {
            let leaves = at.plus(Self::SPAN).begins();
            while let Some(GivenBack { when, at, units }) = given_back.next_if(|back| back.when < leaves) {
                let taken = taken.entry(at).or_default();
                let back = units.min(self.counted_at(at).saturating_sub(*taken));
                *taken = taken.saturating_add(back);
                left = left.saturating_sub(back.into());
                if left <= free_at {
                    return Some(when);
                }
            }
            let taken = taken.get(at).copied().unwrap_or_default();
            left = left.saturating_sub(sum.saturating_sub(taken).into());
            if left <= free_at {
                return Some(leaves);
            }
        }
        None
    }

    fn counted_at(&self, at: Millis) -> u64 {
        if at == self.newest.0 {
            return self.newest.1;
        }
        let place = self.older.binary_search_by_key(&at, |(known, _)| *known).ok();
        place.and_then(|place| self.older.get(place)).map_or(0, |(_, sum)| *sum)
    }

    /// When the first of what is counted leaves.
    pub fn frees_at(&self) -> Option<Millis> {
        (self.newest.1 > 0).then(|| self.oldest.plus(Self::SPAN))
    }

    /// When the last of what is counted leaves.
    pub fn clears_at(&self) -> Option<Millis> {
        (self.newest.1 > 0).then(|| self.newest.0.plus(Self::SPAN))
    }

    /// How many buckets there are: what the window takes in memory.
    pub fn buckets(&self) -> usize {
        self.older.len().saturating_add(usize::from(self.newest.1 > 0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(at: i64) -> Millis {
        Millis(at)
    }

    #[test]
    fn r5_6_a_unit_stays_for_a_minute() {
        let mut window = SlidingWindow::default();
        window.add(ms(1_000), 3, ms(1_000));
        window.forget(ms(60_999));
        assert_eq!((window.total(), window.room(1, 3)), (3, Room::From(ms(61_000))));
        assert_eq!(window.room(4, 3), Room::Never);
        window.forget(ms(61_000));
        assert_eq!((window.total(), window.room(3, 3), window.buckets()), (0, Room::Now, 0));
    }

    #[test]
    fn r5_6_instants_within_a_millisecond_round_against_the_caller() {
        let at = Timestamp::from_nanos(1_500_001);
        assert_eq!((Millis::reached(at), Millis::not_before(at)), (ms(1), ms(2)));
        let at = Timestamp::from_nanos(-1);
        assert_eq!((Millis::reached(at), Millis::not_before(at)), (ms(-1), ms(0)));
        assert_eq!(ms(2).begins(), Timestamp::from_nanos(2_000_000));
    }

    #[test]
    fn r5_6_memory_is_bounded_by_milliseconds() {
        let mut window = SlidingWindow::default();
        for at in 0..200_000 {
            let now = ms(at / 2);
            window.forget(now);
            window.add(now, 1, now);
        }
        assert_eq!(window.buckets(), 60_000);
        assert_eq!(window.total(), 120_000);
    }

    /// What happens to a window: units counted now or late, or some taken back.
    #[derive(Clone, Debug)]
    enum Step {
        Wait(i64),
        Add { late: i64, units: u64 },
        TakeBack { which: usize, units: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..20_000i64).prop_map(Step::Wait),
            (0..2i64).prop_map(Step::Wait),
            (0..70_000i64, 0..100u64).prop_map(|(late, units)| Step::Add { late, units }),
            (0..100u64).prop_map(|units| Step::Add { late: 0, units }),
            (any::<usize>(), 0..100u64).prop_map(|(which, units)| Step::TakeBack { which, units }),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Against a list of everything that was ever counted.
        #[test]
        fn r5_6_a_window_is_the_sum_of_the_last_minute(steps in steps(), ask in 0..200u64, limit in 0..300u64) {
            let (mut window, mut all, mut now) = (SlidingWindow::default(), Vec::<(i64, u64)>::new(), 100_000i64);
            let total = |all: &[(i64, u64)], now: i64| -> u64 {
                all.iter().filter(|(at, _)| now < at + 60_000).map(|(_, units)| units).sum()
            };
            for step in steps {
                match step {
                    Step::Wait(millis) => now += millis,
                    Step::Add { late, units } => {
                        window.add(ms(now - late), units, ms(now));
                        all.push((now - late, units));
                    }
                    Step::TakeBack { which, units } if !all.is_empty() => {
                        let which = which % all.len();
                        let back = units.min(all[which].1);
                        // What has left the window by then is not there any more.
                        if now < all[which].0 + 60_000 {
                            window.take_back(ms(all[which].0), back);
                            all[which].1 -= back;
                        }
                    }
                    Step::TakeBack { .. } => {}
                }
                window.forget(ms(now));
                prop_assert_eq!(window.total(), total(&all, now));
            }
            let expected = if ask > limit {
                Room::Never
            } else {
                let fits = |at: i64| total(&all, at) + ask <= limit;
                if fits(now) {
                    Room::Now
                } else {
                    let leaves = all.iter().map(|(at, _)| at + 60_000).filter(|at| *at > now && fits(*at));
                    Room::From(ms(leaves.min().unwrap()))
                }
            };
            prop_assert_eq!(window.room(ask, limit), expected);
        }
    }
}
