//! A project's budgets at the gate: what refuses its requests, from when, and when they have room again (R6.2, R6.3).
//!
//! Settled budgets refuse while the log shows a breach. Strict ones compare consumption, holds and the request itself, so
//! their consumption is published with every usage; holds of all open leases count for the period that runs.

use tollbook_projections::budget::{OnCalendar, PERIODS, Stop};
use tollbook_projections::organization::Project;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Timestamp};

/// How long a refusal that was told is not told again, in seconds: by then it is written down, or that failed.
const TOLD_SECONDS: i64 = 60;

/// A budget that a project's requests are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetStanding {
    /// Which.
    pub period: Period,
    /// The budget.
    pub limit: Amount,
    /// What is compared of the period that it was published in: settled, or with strict enforcement all consumption.
    pub spent: Amount,
    /// The first day of that period.
    pub starts: Day,
    /// When it ends.
    pub resets_at: Timestamp,
    /// What else is compared with strict enforcement; `None`: only what the log shows as breached is refused.
    pub strict: Option<Strict>,
    /// The breach that the log shows, if it shows one.
    pub breach: Option<KnownBreach>,
}

/// What strict enforcement needs to go on by itself when a period ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strict {
    /// The first day of the period after: a zone may leave one out.
    pub next: Day,
    /// What was consumed of that: usage may be recorded a little before it occurs.
    pub ahead: Amount,
    /// When that ends.
    pub until: Timestamp,
}

/// A breach as the log shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownBreach {
    /// What made it visible.
    pub visible_from: Position,
    /// From when it refuses.
    pub from: Timestamp,
    /// Whether the log has come there: then it refuses, whatever this machine's clock says.
    pub is_reached: bool,
    /// Whether the log says when it refused first.
    pub is_noted: bool,
}

/// Why a budget refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    /// What is spent of it.
    pub(super) spent: Amount,
    /// What is held for requests in progress, where that counts.
    pub(super) held: Amount,
    /// What the request may cost, where there would be room for less.
    pub(super) requested: Option<Amount>,
}

/// A refusal that the log should have: the first of its breach, as far as is known here (R6.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRefusal {
    /// Whose.
    pub organization: OrgId,
    /// The project.
    pub project: ProjectId,
    /// Which budget.
    pub period: Period,
    /// What made the breach visible.
    pub visible_from: Position,
    /// When the request came.
    pub at: Timestamp,
}

/// A breach whose refusal the owner was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    period: Period,
    visible_from: Position,
    first: Timestamp,
    last: Timestamp,
}

/// When a project's holds have fallen so far: the first instant from one on at which at most so much is held.
pub(super) type HoldsFall<'a> = dyn Fn(Amount, Timestamp) -> Timestamp + 'a;

impl BudgetStanding {
    /// Budgets of a project that have to be compared, as of a local day and of what was recorded by `recorded_at`: the daily
    /// one first. `before` is what was found last, unless the calendar may have changed since.
    pub fn of(
        known: &Project,
        calendar: &Calendar,
        (today, recorded_at): (Day, Timestamp),
        before: &[Self],
    ) -> Vec<Self> {
        let budgets = known.watch.budgets;
        let mut found = Vec::new();
        for period in PERIODS {
            let Some(limit) = budgets.limit(period) else { continue };
            let starts = period.first_day(today);
            let stop = |day| known.watch.stop(&known.spend, period, calendar, day);
            let settled = |starts, stop: Stop| Self {
                period,
                limit,
                spent: stop.spent,
                starts,
                resets_at: stop.resets_at,
                strict: None,
                breach: Some(KnownBreach::of(&stop, recorded_at)),
            };
            match budgets.enforcement {
                Enforcement::Settled if limit.is_positive() => {
                    found.extend(stop(today).map(|stop| settled(starts, stop)));
                    // What was settled ahead of its day refuses from its beginning, and a zone may leave a day out.
                    let next = after(period, starts);
                    let ahead = [next, after(period, next)].into_iter();
                    found.extend(ahead.filter_map(|starts| Some(settled(starts, stop(starts)?))));
                }
                // A budget of nothing refuses whatever was spent.
                Enforcement::Settled => found.push(match stop(today) {
                    Some(stop) => settled(starts, stop),
                    None => Self {
                        period,
                        limit,
                        spent: known.spend.settled(period, today),
                        starts,
                        resets_at: period.ends(calendar, today),
                        strict: None,
                        breach: None,
                    },
                }),
                Enforcement::Strict => {
                    let same = before.iter().find(|known| known.period == period && known.starts == starts);
                    let consumed = |day| known.spend.consumed(period, day).unwrap_or(Amount::MAX);
                    let (resets_at, next, until) = match same.and_then(|same| Some((same, same.strict?))) {
                        Some((same, strict)) => (same.resets_at, strict.next, strict.until),
                        None => {
                            let resets_at = period.ends(calendar, today);
                            let next = period.first_day(calendar.day(resets_at));
                            (resets_at, next, period.ends(calendar, next))
                        }
                    };
                    found.push(Self {
                        period,
                        limit,
                        spent: consumed(today),
                        starts,
                        resets_at,
                        strict: Some(Strict { next, ahead: consumed(next), until }),
                        breach: stop(today).map(|stop| KnownBreach::of(&stop, recorded_at)),
                    });
                }
            }
        }
        found
    }

    /// Why it refuses a request that may cost `asked` while so much is held for its project, if it does.
    pub(super) fn exceeded(&self, held: Amount, asked: Amount, now: Timestamp) -> Option<Exceeded> {
        let Some(strict) = self.strict else {
            let spent = if now < self.resets_at { self.spent } else { Amount::ZERO };
            let refuses = self.is_of_nothing() || self.shown(now).is_some();
            return refuses.then_some(Exceeded { spent, held: Amount::ZERO, requested: None });
        };
        let (spent, _) = self.running(strict, now);
        let reserved = spent.checked_add(held);
        if reserved.is_none_or(|reserved| reserved >= self.limit) {
            return Some(Exceeded { spent, held, requested: None });
        }
        let all = reserved.and_then(|reserved| reserved.checked_add(asked));
        let fits = all.is_some_and(|all| all <= self.limit);
        (!fits).then_some(Exceeded { spent, held, requested: Some(asked) })
    }

    /// When the period ends that runs at an instant.
    pub(super) fn ends(&self, now: Timestamp, calendar: &Calendar) -> Timestamp {
        let end = match self.strict {
            Some(strict) => self.running(strict, now).1,
            None => Some(self.resets_at).filter(|end| now < *end),
        };
        end.unwrap_or_else(|| self.period.ends(calendar, calendar.day(now)))
    }

    /// From when on it lets a request pass that may cost `asked`, if nothing else comes: `None`: never.
    pub(super) fn room(&self, asked: Amount, from: Timestamp, holds: &HoldsFall<'_>) -> Option<Timestamp> {
        if self.is_of_nothing() {
            return None;
        }
        let Some(strict) = self.strict else {
            return Some(self.shown(from).map_or(from, |_| self.resets_at));
        };
        // Spent and held must stay below the limit, and with the request not exceed it.
        let least = asked.max(SMALLEST);
        let mut at = from;
        loop {
            let (spent, end) = self.running(strict, at);
            let left = self.limit.checked_sub(spent).and_then(|left| left.checked_sub(least));
            let room = left.filter(|left| !left.is_negative()).map(|left| holds(left, at));
            match (room, end) {
                (Some(room), Some(end)) if room < end => return Some(room),
                // Nothing is spent of periods that are further away.
                (room, None) => return room,
                (Some(_) | None, Some(end)) => at = end,
            }
        }
    }

    /// The breach that refuses at an instant, where it was not written down that it does.
    pub(super) fn to_be_noted(&self, now: Timestamp) -> Option<KnownBreach> {
        let breach = self.shown(now).filter(|breach| !breach.is_noted)?;
        // Usage that was taken back may have put a strict budget below its limit before the log shows it.
        (self.strict.is_none() || self.spent >= self.limit).then_some(breach)
    }

    /// Whether no request fits, whatever was spent.
    fn is_of_nothing(&self) -> bool {
        !self.limit.is_positive()
    }

    fn shown(&self, now: Timestamp) -> Option<KnownBreach> {
        let refuses = |breach: &KnownBreach| breach.is_reached || breach.from <= now;
        self.breach.filter(|breach| refuses(breach) && now < self.resets_at)
    }

    /// What is spent of the period that runs at an instant, and its end; `None`: later than was looked ahead.
    fn running(&self, strict: Strict, at: Timestamp) -> (Amount, Option<Timestamp>) {
        if at < self.resets_at {
            (self.spent, Some(self.resets_at))
        } else if at < strict.until {
            (strict.ahead, Some(strict.until))
        } else {
            (Amount::ZERO, None)
        }
    }
}

impl KnownBreach {
    fn of(stop: &Stop, recorded_at: Timestamp) -> Self {
        let is_reached = stop.from <= recorded_at;
        Self { visible_from: stop.visible_from, from: stop.from, is_reached, is_noted: stop.refusal_noted }
    }
}

impl Told {
    /// Notes that a breach refuses; from when, if the owner is to be told of it now.
    pub(super) fn note(
        known: &mut Vec<Self>,
        period: Period,
        visible_from: Position,
        now: Timestamp,
    ) -> Option<Timestamp> {
        match known.iter_mut().find(|told| told.period == period) {
            Some(told) if told.visible_from == visible_from => {
                if now < told.last.plus_seconds(TOLD_SECONDS) {
                    return None;
                }
                told.last = now;
                Some(told.first)
            }
            Some(told) => {
                *told = Self { period, visible_from, first: now, last: now };
                Some(now)
            }
            None => {
                known.push(Self { period, visible_from, first: now, last: now });
                Some(now)
            }
        }
    }
}

/// The first day of the period after one.
fn after(period: Period, starts: Day) -> Day {
    match period {
        Period::Daily => starts.next(),
        Period::Monthly => starts.month().next().first_day(),
    }
}

/// The least that a request can be refused for.
const SMALLEST: Amount = match Amount::from_units(1) {
    Some(amount) => amount,
    None => Amount::ZERO,
};
