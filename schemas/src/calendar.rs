//! Which local day and month an instant belongs to where the billing time zone may change (R1.4).
//!
//! ```text
//!                     S: December begins as the old zone has it
//! old     |    30     |     1     |     2     |
//! new          |    30     |     1     |   2   …   to the west:
//! days    |    30     |       1        |   2   …   a longer first day
//!
//! new       30   |     1     |     2     |  3  …   to the east:
//! days    |    30     |  1   |     2     |  3  …   a shorter one
//! ```

use serde::{Deserialize, Serialize};

use crate::time::{Day, DaySpan, Month, Timestamp, Zone};

/// An organization's billing time zone over time (R1.4).
///
/// A change counts from the first instant of a month, as the calendar had it without the change. Instants before
/// belong to the days they always did; from then on, days are those of the new zone, but none before the first of
/// that month. So no month reopens, no instant belongs to two days, and no day comes again.
///
/// The difference of the two zones goes to the month's first day: it is so much longer where the new zone lies to the
/// west, shorter where it lies to the east; at most 26 hours, from UTC-12 to UTC+14 or back. To the west the first
/// day then has 50 hours. To the east by 24 hours or more it has none, and what exceeds 24 hours is missing from the
/// second. These are the only days that differ from those of the zone in force.
///
/// Where a zone itself turns its clocks back over midnight, as none does since 2010, an instant may belong to an
/// earlier day than one before it, as in [`Zone::day`]; but not to a day before a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Calendar {
    first: Zone,
    /// Strictly rising by month, each to another zone than was in force before. Few: one a month at most.
    changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    from: Month,
    zone: Zone,
    /// Where `from` begins by the changes before this one.
    start: Timestamp,
}

/// What is kept: nothing that another version of the time zone database would compute otherwise.
#[derive(Serialize, Deserialize)]
struct Kept {
    first: Zone,
    changes: Vec<(Month, Zone)>,
}

impl From<Calendar> for Kept {
    fn from(calendar: Calendar) -> Self {
        let changes = calendar.changes.into_iter().map(|change| (change.from, change.zone)).collect();
        Self { first: calendar.first, changes }
    }
}

impl From<Kept> for Calendar {
    fn from(kept: Kept) -> Self {
        let mut calendar = Self::new(kept.first);
        for (from, zone) in kept.changes {
            calendar.change(zone, from);
        }
        calendar
    }
}

impl Calendar {
    /// The calendar of one zone.
    pub const fn new(zone: Zone) -> Self {
        Self { first: zone, changes: Vec::new() }
    }

    /// Sets the zone from a month on: what was to change then or later is forgotten. A change to the zone in force
    /// before is none, so that taking a pending change back leaves no trace.
    ///
    /// To leave the past as it was, `from` must be a month that has not begun: `day(now).month().next()`.
    pub fn change(&mut self, zone: Zone, from: Month) {
        self.changes.retain(|change| change.from < from);
        if *self.changes.last().map_or(&self.first, |change| &change.zone) != zone {
            let start = self.start_of_month(from);
            self.changes.push(Change { from, zone, start });
        }
    }

    /// The zone in force.
    pub fn zone_at(&self, at: Timestamp) -> &Zone {
        self.last_change(at).map_or(&self.first, |change| &change.zone)
    }

    /// The next change after an instant: from which month, to which zone.
    pub fn pending(&self, at: Timestamp) -> Option<(Month, &Zone)> {
        self.changes.iter().find(|change| at < change.start).map(|change| (change.from, &change.zone))
    }

    /// The day to which an instant belongs.
    pub fn day(&self, at: Timestamp) -> Day {
        match self.last_change(at) {
            None => self.first.day(at),
            Some(change) => change.zone.day(at).max(change.from.first_day()),
        }
    }

    /// That day with instants around `at` that belong to it: all of them on most days, `at` alone where clocks
    /// change, a part of them on the first day of a new zone.
    pub fn span(&self, at: Timestamp) -> DaySpan {
        // A change to come needs no look: it begins where a day of this zone ends.
        let span = DaySpan::of(self.zone_at(at), at);
        match self.last_change(at) {
            None => span,
            Some(change) => span.since(change.start, change.from.first_day()),
        }
    }

    /// The first instant that belongs to a day or, where it has none, to a later one.
    pub fn start_of_day(&self, day: Day) -> Timestamp {
        // The first day of a change begins where the calendar before it said.
        match self.changes.iter().rfind(|change| change.from.first_day() < day) {
            None => self.first.start_of_day(day),
            Some(change) => change.zone.start_of_day(day).max(change.start),
        }
    }

    /// The first instant of a month.
    pub fn start_of_month(&self, month: Month) -> Timestamp {
        self.start_of_day(month.first_day())
    }

    fn last_change(&self, at: Timestamp) -> Option<&Change> {
        self.changes.iter().rfind(|change| change.start <= at)
    }
}

#[cfg(test)]
mod tests;
