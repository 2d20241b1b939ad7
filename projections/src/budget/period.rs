//! Days and months as budgets have them, and what a project consumed in one.

use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::event::Period;
use tollbook_schemas::time::{Day, Timestamp};

use crate::purse::sum;
use crate::spend::ProjectSpend;
use crate::state::Corrupt;

/// Periods on a calendar.
pub trait OnCalendar {
    /// The first day of the period that a day lies in.
    fn first_day(self, day: Day) -> Day;

    /// When the period ends that a day lies in.
    fn ends(self, calendar: &Calendar, day: Day) -> Timestamp;
}

impl OnCalendar for Period {
    fn first_day(self, day: Day) -> Day {
        match self {
            Self::Daily => day,
            Self::Monthly => day.month().first_day(),
        }
    }

    fn ends(self, calendar: &Calendar, day: Day) -> Timestamp {
        match self {
            Self::Daily => calendar.start_of_day(day.next()),
            Self::Monthly => calendar.start_of_month(day.month().next()),
        }
    }
}

impl ProjectSpend {
    /// What is settled of the period that a day lies in.
    pub fn settled(&self, period: Period, day: Day) -> Amount {
        match period {
            Period::Daily => self.settled_on(day),
            Period::Monthly => self.settled_in(day.month()),
        }
    }

    /// What waits for its cycle to close, of the period that a day lies in.
    pub fn pending_of(&self, period: Period, day: Day) -> Result<Amount, Corrupt> {
        match period {
            Period::Daily => Ok(self.pending_on(day)),
            Period::Monthly => self.pending_in(day.month()),
        }
    }

    /// Settled and pending consumption of the period that a day lies in.
    pub fn consumed(&self, period: Period, day: Day) -> Result<Amount, Corrupt> {
        sum(self.settled(period, day), self.pending_of(period, day)?)
    }
}
