//! A project's budgets and spend notifications: what they compare, when consumption reached it, when enforcement learned
//! of that, and what the delay cost (R6.2 to R6.5).
//!
//! ```text
//! usage booked ──> crossed ──(cycle closes)──> settled reaches the limit ──(delay)──> visible ──> first refusal
//!                     └────────────── what is spent beyond the limit until the period ends: overshoot
//! ```

mod breach;
mod period;
mod told;

use serde::{Deserialize, Serialize};
use tollbook_schemas::alert::AlertData;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{DisplayName, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Timestamp};

pub use self::breach::{Breach, BreachEnd, EndedBreach, Visible};
pub use self::period::OnCalendar;
use self::told::Told;
use crate::organization::At;
use crate::spend::ProjectSpend;
use crate::state::Corrupt;

/// Both periods, in the order in which their limits are looked at.
pub const PERIODS: [Period; 2] = [Period::Daily, Period::Monthly];

/// A project's budgets (R6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budgets {
    /// Per local day; `None`: none.
    pub daily: Option<Amount>,
    /// Per local month.
    pub monthly: Option<Amount>,
    /// What is compared with them (R6.3).
    pub enforcement: Enforcement,
}

impl Budgets {
    /// The budget of a period.
    pub const fn limit(&self, period: Period) -> Option<Amount> {
        match period {
            Period::Daily => self.daily,
            Period::Monthly => self.monthly,
        }
    }
}

/// Amounts of settled spend at which a project is told, each rising (R6.4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifications {
    /// Of a local day.
    pub daily: Vec<Amount>,
    /// Of a local month.
    pub monthly: Vec<Amount>,
}

impl Notifications {
    /// The amounts of a period.
    pub fn amounts(&self, period: Period) -> &[Amount] {
        match period {
            Period::Daily => &self.daily,
            Period::Monthly => &self.monthly,
        }
    }
}

/// What refuses a project's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Which budget.
    pub period: Period,
    /// The budget.
    pub limit: Amount,
    /// What it was compared with: settled, or with strict enforcement all consumption.
    pub spent: Amount,
    /// The entry that made it visible.
    pub visible_from: Position,
    /// From when requests are refused.
    pub from: Timestamp,
    /// When the period ends.
    pub resets_at: Timestamp,
    /// Whether a refusal was written down.
    pub refusal_noted: bool,
}

/// Budgets and notifications of one project, and what came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Budgets in force.
    pub budgets: Budgets,
    /// Spend notifications.
    pub notifications: Notifications,
    told_daily: Told,
    told_monthly: Told,
    /// Breaches that are not over, and those of the period before until everything of it is settled.
    breaches: Vec<Breach>,
}

/// An instant at which a project is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) at: At,
    pub(crate) today: Day,
    pub(crate) calendar: &'a Calendar,
    /// Between a close and what it makes visible.
    pub(crate) delay_seconds: u32,
    pub(crate) project: &'a ProjectId,
    pub(crate) name: &'a DisplayName,
}

/// What came of a look.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) alerts: Vec<AlertData>,
    pub(crate) ended: Vec<EndedBreach>,
}

impl Watch {
    /// Whether there is nothing to look at.
    pub(crate) fn is_idle(&self) -> bool {
        let Self { budgets, notifications, breaches, told_daily: _, told_monthly: _ } = self;
        budgets.daily.is_none()
            && budgets.monthly.is_none()
            && notifications.daily.is_empty()
            && notifications.monthly.is_empty()
            && breaches.is_empty()
    }

    /// Breaches that are not over, in the order in which they began.
    pub fn breaches(&self) -> &[Breach] {
        &self.breaches
    }

    /// The breach of a budget in the period that begins with a day.
    pub fn breach(&self, period: Period, starts: Day) -> Option<&Breach> {
        self.breaches.iter().find(|breach| breach.period == period && breach.starts == starts)
    }

    /// What of a period is compared with its budget.
    pub fn compared(&self, spend: &ProjectSpend, period: Period, today: Day) -> Result<Amount, Corrupt> {
        match self.budgets.enforcement {
            Enforcement::Settled => Ok(spend.settled(period, today)),
            Enforcement::Strict => spend.consumed(period, today),
        }
    }

    /// What refuses requests, now or once it is visible, until its period ends. Where no breach says from when, it is from
    /// the beginning of the period: a budget of nothing needs none, and what was settled ahead of its day (R8.1) is known
    /// on that day before anything else is looked at.
    pub fn stop(
        &self,
        spend: &ProjectSpend,
        period: Period,
        calendar: &Calendar,
        today: Day,
    ) -> Option<Stop> {
        let limit = self.budgets.limit(period)?;
        let starts = period.first_day(today);
        let spent = self.compared(spend, period, today).unwrap_or(Amount::MAX);
        let stop = |visible_from, from, refusal_noted| {
            let resets_at = period.ends(calendar, today);
            Stop { period, limit, spent, visible_from, from, resets_at, refusal_noted }
        };
        let begins = || calendar.start_of_day(starts);
        match self.breach(period, starts).and_then(|breach| Some((breach, breach.visible?))) {
            Some((breach, visible)) => {
                let from = if limit.is_zero() { begins() } else { visible.at };
                Some(stop(visible.from, from, breach.first_refused_at.is_some()))
            }
            None => (spent >= limit).then(|| stop(Position::ZERO, begins(), true)),
        }
    }

    /// Consumption was booked.
    pub(crate) fn consumed(
        &mut self,
        spend: &ProjectSpend,
        look: Look<'_>,
        seen: &mut Seen,
    ) -> Result<(), Corrupt> {
        for Breach { period, starts, visible, .. } in &mut self.breaches {
            if let Some(visible) = visible.as_mut().filter(|visible| look.at.recorded_at < visible.at) {
                visible.spent = spend.consumed(*period, *starts)?;
            }
        }
        for period in PERIODS {
            let Some(limit) = self.budgets.limit(period) else { continue };
            let (compared, spent) =
                (self.compared(spend, period, look.today)?, spend.consumed(period, look.today)?);
            self.end_corrected(period, compared, spent, look, seen);
            self.cross(period, limit, spent, look);
            let strict = self.budgets.enforcement == Enforcement::Strict;
            // Nothing is waited for.
            if strict
                && let Some(breach) = self.breach_mut(period, period.first_day(look.today))
                && breach.visible.is_none()
            {
                breach.become_visible(0, spent, look);
            }
            if strict {
                self.tell_percent(period, limit, spent, look, seen);
            }
        }
        Ok(())
    }

    /// Settles what is pending, and looks at what that makes known.
    pub(crate) fn settle(
        &mut self,
        spend: &mut ProjectSpend,
        look: Look<'_>,
        seen: &mut Seen,
    ) -> Result<(), Corrupt> {
        if self.is_idle() {
            return spend.settle(look.today);
        }
        self.consumed(spend, look, seen)?;
        // Before what is over is forgotten.
        self.end_periods(spend, look, seen)?;
        spend.settle(look.today)?;
        self.settled(spend, look, seen)
    }

    /// Consumption was settled.
    fn settled(&mut self, spend: &ProjectSpend, look: Look<'_>, seen: &mut Seen) -> Result<(), Corrupt> {
        for period in PERIODS {
            self.tell_amounts(period, spend.settled(period, look.today), look, seen);
            let Some(limit) = self.budgets.limit(period) else { continue };
            let (compared, spent) =
                (self.compared(spend, period, look.today)?, spend.consumed(period, look.today)?);
            self.end_corrected(period, compared, spent, look, seen);
            self.cross(period, limit, spent, look);
            if let Some(breach) = self.breach_mut(period, period.first_day(look.today))
                && breach.visible.is_none()
                && is_reached(limit, compared)
            {
                breach.become_visible(look.delay_seconds, spent, look);
            }
            self.tell_percent(period, limit, compared, look, seen);
        }
        Ok(())
    }

    /// Ends breaches of periods that are over; everything that came for these by now is in `spend`, settled or not.
    fn end_periods(&mut self, spend: &ProjectSpend, look: Look<'_>, seen: &mut Seen) -> Result<(), Corrupt> {
        let over: Vec<(Period, Day)> = self
            .breaches
            .iter()
            .filter(|breach| breach.starts < breach.period.first_day(look.today))
            .map(|breach| (breach.period, breach.starts))
            .collect();
        for (period, starts) in over {
            let spent = spend.consumed(period, starts)?;
            let at = period.ends(look.calendar, starts);
            self.end(period, starts, (at, BreachEnd::PeriodOver), spent, seen);
        }
        Ok(())
    }

    /// Sets budgets. An amount that changes is compared at once: what it was compared with before says nothing about it.
    /// Where only what is compared changes, a breach stays what it was unless that is below the budget.
    pub(crate) fn set_budgets(
        &mut self,
        budgets: Budgets,
        spend: &ProjectSpend,
        look: Look<'_>,
        seen: &mut Seen,
    ) -> Result<(), Corrupt> {
        let before = std::mem::replace(&mut self.budgets, budgets);
        for period in PERIODS {
            let limit = budgets.limit(period);
            let other_amount = before.limit(period) != limit;
            if !other_amount && before.enforcement == budgets.enforcement {
                continue;
            }
            let (starts, spent) = (period.first_day(look.today), spend.consumed(period, look.today)?);
            let compared = self.compared(spend, period, look.today)?;
            let reopens = |breach: &Breach| breach.visible.is_some() && !is_reached(breach.limit, compared);
            if other_amount || self.breach(period, starts).is_some_and(reopens) {
                self.end(period, starts, (look.at.recorded_at, BreachEnd::BudgetChanged), spent, seen);
            }
            if other_amount {
                self.told(period, look.today).percent = 0;
            }
            let Some(limit) = limit else { continue };
            self.cross(period, limit, spent, look);
            let waits =
                |breach: &Breach| breach.visible.is_none_or(|visible| look.at.recorded_at < visible.at);
            if let Some(breach) = self.breach_mut(period, starts)
                && is_reached(limit, compared)
                && waits(breach)
            {
                // What is settled is known already.
                breach.become_visible(0, spent, look);
            }
            self.tell_percent(period, limit, compared, look, seen);
        }
        Ok(())
    }

    /// Sets spend notifications; amounts that are reached already are told at once, unless they were.
    pub(crate) fn set_notifications(
        &mut self,
        notifications: Notifications,
        spend: &ProjectSpend,
        look: Look<'_>,
        seen: &mut Seen,
    ) {
        self.notifications = notifications;
        for period in PERIODS {
            self.tell_amounts(period, spend.settled(period, look.today), look, seen);
        }
    }

    /// Writes down the first refusal; others of the same breach change nothing.
    pub(crate) fn refused(&mut self, period: Period, visible_from: Position, at: Timestamp) {
        let is_it = |breach: &&mut Breach| {
            breach.period == period && breach.visible.is_some_and(|visible| visible.from == visible_from)
        };
        if let Some(breach) = self.breaches.iter_mut().find(is_it) {
            breach.first_refused_at.get_or_insert(at);
        }
    }

    fn breach_mut(&mut self, period: Period, starts: Day) -> Option<&mut Breach> {
        self.breaches.iter_mut().find(|breach| breach.period == period && breach.starts == starts)
    }

    /// Begins a breach where consumption has reached the limit.
    fn cross(&mut self, period: Period, limit: Amount, spent: Amount, look: Look<'_>) {
        let starts = period.first_day(look.today);
        if !is_reached(limit, spent) || self.breach(period, starts).is_some() {
            return;
        }
        self.breaches.push(Breach {
            period,
            starts,
            limit,
            crossed_at: look.at.recorded_at,
            crossed_in: look.at.position,
            visible: None,
            first_refused_at: None,
        });
    }

    /// Ends a breach that is none any more: one that enforcement knows when what it compares is below the budget, one that
    /// it does not know when consumption is.
    fn end_corrected(
        &mut self,
        period: Period,
        compared: Amount,
        spent: Amount,
        look: Look<'_>,
        seen: &mut Seen,
    ) {
        let starts = period.first_day(look.today);
        let is_over = |breach: &Breach| {
            let against = if breach.visible.is_some() { compared } else { spent };
            !is_reached(breach.limit, against)
        };
        if self.breach(period, starts).is_some_and(is_over) {
            self.end(period, starts, (look.at.recorded_at, BreachEnd::Corrected), spent, seen);
        }
    }

    fn end(
        &mut self,
        period: Period,
        starts: Day,
        (at, end): (Timestamp, BreachEnd),
        spent: Amount,
        seen: &mut Seen,
    ) {
        let place = self.breaches.iter().position(|known| known.period == period && known.starts == starts);
        if let Some(place) = place {
            let breach = self.breaches.remove(place);
            seen.ended.push(EndedBreach { breach, at, end, spent });
        }
    }
}

/// Whether a budget is breached: one of nothing is by anything at all.
fn is_reached(limit: Amount, spent: Amount) -> bool {
    spent >= limit && spent.is_positive()
}

#[cfg(test)]
mod tests;
