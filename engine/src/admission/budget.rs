//! A project's budgets at the gate: what refuses its requests, from when, and when they have room again (R6.2, R6.3).
//!
//! Settled budgets refuse while the log shows a breach. Strict ones compare consumption, holds and the request itself, so
//! their consumption is published with every usage; holds of all open leases count for the period that runs.

use tollbook_projections::budget::{OnCalendar, PERIODS, Stop};
use tollbook_projections::organization::{Organization, Project};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Timestamp};

use super::account::Account;
use super::refusal::Code;

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

impl Account {
    /// Takes what State says of the budgets of all projects, as of what was recorded by an instant (R6.2).
    pub fn take_budgets(&mut self, known: &Organization, recorded_at: Timestamp) {
        for id in known.projects.keys() {
            self.take_budget(known, id, recorded_at);
        }
    }

    /// The same of one project.
    pub fn take_budget(&mut self, known: &Organization, id: &ProjectId, recorded_at: Timestamp) {
        if let Some(place) = self.project(id) {
            self.compare_budgets(known, place, recorded_at, false);
        }
    }

    /// The same of the projects that have any.
    pub fn take_budgets_again(&mut self, known: &Organization, recorded_at: Timestamp) {
        for place in self.projects.budgeted().to_vec() {
            self.compare_budgets(known, place, recorded_at, false);
        }
    }

    /// Takes what usage changed of the budgets of some projects: what is not settled only strict ones compare.
    pub fn take_consumption(
        &mut self,
        known: &Organization,
        projects: impl Iterator<Item = usize>,
        settles_at_once: bool,
        recorded_at: Timestamp,
    ) {
        for place in projects {
            let is_strict = |project: &super::projects::Project| {
                project.standing.budgets.iter().any(|budget| budget.strict.is_some())
            };
            if self.projects.is_budgeted(place)
                && (settles_at_once || self.projects.get(place).is_some_and(is_strict))
            {
                self.compare_budgets(known, place, recorded_at, true);
            }
        }
    }

    /// Whether any project has budgets.
    pub fn has_budgets(&self) -> bool {
        !self.projects.budgeted().is_empty()
    }

    fn compare_budgets(
        &mut self,
        known: &Organization,
        place: usize,
        recorded_at: Timestamp,
        same_calendar: bool,
    ) {
        let Some(project) = self.projects.get(place) else { return };
        let Some(state) = known.projects.get(&project.standing.id) else { return };
        let budgets = state.watch.budgets;
        let is_budgeted = budgets.daily.is_some() || budgets.monthly.is_some();
        if !is_budgeted && !self.projects.is_budgeted(place) {
            return;
        }
        let calendar = &known.calendar;
        let today = self.day.holds(recorded_at).unwrap_or_else(|| calendar.day(recorded_at));
        let before: &[BudgetStanding] = if same_calendar { &project.standing.budgets } else { &[] };
        let budgets = BudgetStanding::of(state, calendar, (today, recorded_at), before);
        self.projects.take_budgets(place, budgets, is_budgeted);
    }

    /// What the requests of the project at a place are compared with, until State is taken again.
    pub fn compare_with(&mut self, project: usize, budgets: Vec<BudgetStanding>) {
        self.projects.take_budgets(project, budgets, true);
    }

    /// What is held for a project.
    pub fn held_for(&self, id: &ProjectId) -> Amount {
        self.project(id).map_or(Amount::ZERO, |place| self.leases.held_for(place))
    }

    /// A refusal that the owner is to be told of, once.
    pub const fn take_first_refusal(&mut self) -> Option<FirstRefusal> {
        self.first_refusal.take()
    }

    /// Notes whom a visible breach refused, unless that is known (R6.5).
    pub(super) fn note_refused(&mut self, code: Code, project: usize, now: Timestamp) {
        let Some(period) = code.period() else { return };
        let Some(known) = self.projects.get(project) else { return };
        let mut budgets = known.standing.budgets.iter().filter(|budget| budget.period == period);
        let Some(breach) = budgets.find_map(|budget| budget.to_be_noted(now)) else { return };
        let (id, visible_from) = (known.standing.id.clone(), breach.visible_from);
        if let Some(at) = self.projects.note_refused(project, (period, visible_from), now.max(breach.from)) {
            let organization = self.id().clone();
            self.first_refusal = Some(FirstRefusal { organization, project: id, period, visible_from, at });
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
