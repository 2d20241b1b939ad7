//! One organization at the gate: what State says of it, what it has in flight, and the decision whether a request may
//! pass (R5, R2, R4.1, R4.6, R6.2). Pure: `now` is an argument.

use std::sync::Arc;

use tollbook_projections::limits::RateLimits;
use tollbook_projections::organization::Organization;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{KeyId, OrgId, ProjectId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_schemas::usage::Tokens;

use super::budget::FirstRefusal;
use super::counted::Counted;
use super::lease::{Asked, Lease, Leases};
use super::projects::Projects;
use super::refusal::{Code, Refusal};
use super::standing::{Estimate, InForce, KeyNames, KeyStanding, NoPrice, Priced, Rules, Standing};
use super::window::{Millis, SlidingWindow};

pub use super::asked::{Ended, Granted, InFlight, LeaseName, Request, Terms, Used};

/// By how much clocks of one machine never differ: a clock that is further back was set.
const SET_BACK_NANOS: i64 = 1_000_000_000;

/// Tokens of the present local day.
#[derive(Clone, Copy, Debug)]
pub(super) struct DayCount {
    pub(super) day: Day,
    starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) tokens: u64,
}

/// One organization at the gate.
#[derive(Clone, Debug)]
pub struct Account {
    pub(super) standing: Standing,
    pub(super) projects: Projects,
    keys: Vec<KeyStanding>,
    in_force: Option<InForce>,
    /// The prices that holds were found by; `None`: the organization's own have changed since.
    priced_by: Option<u64>,
    pub(super) leases: Leases,
    pub(super) requests: SlidingWindow,
    pub(super) tokens: SlidingWindow,
    pub(super) day: DayCount,
    /// Until when nothing leaves a window or is over, so that nothing has to be looked at.
    quiet_until: Timestamp,
    /// The latest instant that was seen: callers' clocks do not agree to the nanosecond.
    latest: Timestamp,
    expired: u64,
    /// A refusal that the owner is to be told of.
    pub(super) first_refusal: Option<FirstRefusal>,
}

/// What a request comes to before anything is reserved.
pub(super) struct Plan {
    /// The key's place, and its standing.
    pub(super) key: (usize, KeyStanding),
    /// What it may come to.
    pub(super) estimate: Result<Estimate, NoPrice>,
    /// Limits in force; `None`: below the first tier.
    pub(super) limits: Option<RateLimits>,
    /// What the first tier asks for, where that is not reached.
    pub(super) first_tier: Amount,
}

impl Account {
    /// An organization that has nothing in flight.
    pub fn new(known: &Organization, now: Timestamp) -> Self {
        let standing = Standing::of(known);
        let mut day = DayCount::of(&standing, now);
        // All usage of a day is booked on that day or later, so the open cells hold all of it.
        let today = known.open.cells.iter().filter(|(cell, _)| cell.day == day.day);
        let tokens = today.map(|(_, cell)| cell.input_tokens.saturating_add(cell.output_tokens));
        day.tokens = u64::try_from(tokens.sum::<i128>().max(0)).unwrap_or(u64::MAX);
        let mut account = Self {
            standing,
            projects: Projects::default(),
            keys: Vec::new(),
            in_force: None,
            priced_by: None,
            leases: Leases::default(),
            requests: SlidingWindow::default(),
            tokens: SlidingWindow::default(),
            day,
            quiet_until: now,
            latest: now,
            expired: 0,
            first_refusal: None,
        };
        account.take_projects(known);
        account
    }

    /// The organization.
    pub const fn id(&self) -> &OrgId {
        &self.standing.id
    }

    /// Takes all that State says but for keys.
    pub fn take(&mut self, known: &Organization) {
        self.take_standing(known);
        self.take_projects(known);
    }

    /// Takes what State says but for projects and keys.
    pub fn take_standing(&mut self, known: &Organization) {
        let before = std::mem::replace(&mut self.standing, Standing::of(known));
        self.in_force = None;
        if before.prices != self.standing.prices {
            self.priced_by = None;
        }
        self.quiet_until = Timestamp::EPOCH;
        // A new zone begins with a month, so what was counted today stays.
        self.day.ends_at = self.standing.calendar.start_of_day(self.day.day.next());
    }

    /// Takes what usage changes.
    pub fn take_funds(&mut self, known: &Organization) {
        self.standing.take_funds(known);
    }

    fn take_projects(&mut self, known: &Organization) {
        for id in known.projects.keys() {
            self.take_project(known, id);
        }
    }

    /// Takes what State says of a project.
    pub fn take_project(&mut self, known: &Organization, id: &ProjectId) {
        if let Some(project) = known.projects.get(id) {
            self.projects.take(id, project.is_active(), project.tpm_limit);
        }
    }

    /// The place of a project.
    pub fn project(&self, id: &ProjectId) -> Option<usize> {
        self.projects.place(id)
    }

    /// Takes what State says of a key at its place, or behind all others.
    pub fn take_key(
        &mut self,
        place: Option<usize>,
        id: &KeyId,
        project: &ProjectId,
        active: bool,
    ) -> Option<usize> {
        let at = self.project(project)?;
        let is_named = |known: &KeyStanding| known.names.key == *id && known.names.project == *project;
        let known = place.and_then(|place| self.keys.get_mut(place));
        if let Some(known) = known.filter(|known| is_named(known)) {
            (known.project, known.active) = (at, active);
            return place;
        }
        let names = KeyNames { organization: self.id().clone(), project: project.clone(), key: id.clone() };
        let standing = KeyStanding { names: Arc::new(names), project: at, active };
        match place.and_then(|place| self.keys.get_mut(place)) {
            Some(known) => {
                *known = standing;
                place
            }
            None => {
                self.keys.push(standing);
                self.keys.len().checked_sub(1)
            }
        }
    }

    /// Decides whether a request may pass, and reserves for it what it may come to.
    pub fn admit(
        &mut self,
        rules: &Rules,
        request: &Request<'_>,
        key: usize,
        terms: Terms,
        now: Timestamp,
    ) -> Result<Granted, Box<Refusal>> {
        let now = self.advance(now);
        self.reprice(rules);
        let until = ends_after(now, terms.lease_seconds);
        let plan = self.plan(rules, request, key, (now, until))?;
        let asked = Asked {
            key: u32::try_from(key).unwrap_or(u32::MAX),
            model: request.model.clone(),
            input_tokens: request.input_tokens,
            max_output_tokens: request.max_output_tokens,
            meters: (!request.meters.is_empty()).then(|| Box::new(request.meters.clone())),
        };
        let before = request.request_id.and_then(|id| self.leases.of_request(id));
        // A request that is over is another one: what it reserved is not there for this one.
        let before = before.filter(|(_, lease)| lease.running);
        let refusal = match before.map(|(number, lease)| (number, lease.expires_at, lease.asked == asked)) {
            Some((number, expires_at, true)) => match self.access(request, &plan) {
                // A key that was revoked since passes nothing, nor does another address.
                Some(mut refusal) if !terms.observe => {
                    refusal.quotas = self.quotas(&plan, now).map(Box::new);
                    return Err(Box::new(refusal));
                }
                noted => return Ok(self.granted((number, expires_at), plan, now, true, noted.map(Box::new))),
            },
            Some((_, _, false)) => {
                Some(self.access(request, &plan).unwrap_or_else(|| self.conflict(request, &plan)))
            }
            None => self.refusal(rules, request, &plan, now),
        };
        let noted = match refusal {
            None => None,
            Some(refusal) if terms.observe => match self.leases_refusal() {
                None => Some(Box::new(refusal)),
                // There is no place for it, even where refusals are only noted.
                Some(full) => return Err(Box::new(self.named(full, &plan))),
            },
            Some(mut refusal) => {
                self.note_refused(refusal.code, plan.key.1.project, now);
                refusal.quotas = self.quotas(&plan, now).map(Box::new);
                return Err(Box::new(refusal));
            }
        };
        let number = self.reserve(request, asked, &plan, until, now);
        Ok(self.granted((number, until), plan, now, false, noted))
    }

    /// Why a request would not pass; nothing is reserved.
    pub fn would_refuse(
        &mut self,
        rules: &Rules,
        request: &Request<'_>,
        key: usize,
        terms: Terms,
        now: Timestamp,
    ) -> Option<Box<Refusal>> {
        let now = self.advance(now);
        self.reprice(rules);
        match self.plan(rules, request, key, (now, ends_after(now, terms.lease_seconds))) {
            Ok(plan) => self.refusal(rules, request, &plan, now).map(Box::new),
            Err(refusal) => Some(refusal),
        }
    }

    fn plan(
        &mut self,
        rules: &Rules,
        request: &Request<'_>,
        key: usize,
        (now, until): (Timestamp, Timestamp),
    ) -> Result<Plan, Box<Refusal>> {
        let standing =
            self.keys.get(key).cloned().ok_or_else(|| Box::new(Refusal::bare(Code::KeyInvalid)))?;
        let figures = (request.input_tokens, request.max_output_tokens, request.meters);
        let priced = Priced::of(rules, &self.standing, request.model);
        let estimate = priced.estimate(&rules.defaults, figures, (now, until));
        let limits = self.limits(rules, now);
        let first_tier = if limits.is_some() { Amount::ZERO } else { rules.first_tier(now) };
        Ok(Plan { key: (key, standing), estimate, limits, first_tier })
    }

    /// The request of a lease is over. With its numbers windows and hold become what it used; without, they stay as they
    /// are until its usage comes.
    pub fn settle(
        &mut self,
        rules: &Rules,
        number: u64,
        actual: Option<Tokens>,
        terms: Terms,
        now: Timestamp,
    ) -> Option<Ended> {
        let now = self.advance(now);
        self.reprice(rules);
        let lease = self.leases.get(number)?.clone();
        if let Some(actual) = actual {
            let tokens = actual.input.saturating_add(actual.output);
            let tokens = if terms.keep_estimates { lease.tokens } else { tokens };
            self.recount(lease.counted(), lease.project(), tokens, now);
            self.leases.note_actual(number, actual, tokens);
            let none = Meters::default();
            let meters = lease.asked.meters.as_deref().unwrap_or(&none);
            let priced = Priced::of(rules, &self.standing, &lease.asked.model);
            let span = (lease.admitted_at, lease.expires_at);
            if let Some(cost) = priced.actual(actual, meters, span) {
                self.leases.hold(number, cost);
            }
        }
        let ended = self.leases.end(number)?;
        Some(Ended { held: ended.hold, expires_at: ended.expires_at })
    }

    /// Holds more for leases that have become dearer: prices may change while a request is in progress (R4.11).
    fn reprice(&mut self, rules: &Rules) {
        if self.priced_by == Some(rules.prices_number) {
            return;
        }
        self.priced_by = Some(rules.prices_number);
        for number in self.leases.numbers() {
            self.raise_hold(rules, number);
        }
    }

    fn raise_hold(&mut self, rules: &Rules, number: u64) {
        let Some(lease) = self.leases.get(number) else { return };
        let Asked { model, input_tokens, meters, .. } = &lease.asked;
        let none = Meters::default();
        let meters = meters.as_deref().unwrap_or(&none);
        let priced = Priced::of(rules, &self.standing, model);
        let span = (lease.admitted_at, lease.expires_at);
        let cost = match lease.actual.as_deref() {
            Some(actual) => priced.actual(*actual, meters, span),
            None if !lease.priced => None,
            None => {
                let output = lease.tokens.saturating_sub(*input_tokens);
                let figures = (*input_tokens, Some(output), meters);
                priced.estimate(&rules.defaults, figures, span).ok().and_then(|estimate| estimate.cost)
            }
        };
        if let Some(cost) = cost.filter(|cost| *cost > lease.hold) {
            self.leases.hold(number, cost);
        }
    }

    /// Gives back what a lease has reserved, but not its request count: the request was made. Of one whose numbers are known
    /// only the slot: what it used stays counted and held until its usage comes.
    pub fn release(&mut self, number: u64, now: Timestamp) -> Option<()> {
        let now = self.advance(now);
        if self.leases.get(number)?.actual.is_some() {
            return self.leases.end(number).map(|_| ());
        }
        let lease = self.leases.close(number)?;
        self.recount(lease.counted(), lease.project(), 0, now);
        Some(())
    }

    /// Lets a lease live so many seconds from now.
    pub fn renew(&mut self, rules: &Rules, number: u64, seconds: i64, now: Timestamp) -> Option<Timestamp> {
        let now = self.advance(now);
        let until = ends_after(now, seconds);
        self.quiet_until = self.quiet_until.min(until);
        let until = self.leases.renew(number, until)?;
        // A price that begins to hold before then may be dearer.
        self.raise_hold(rules, number);
        Some(until)
    }

    /// Counts usage that was applied: instead of its lease's estimate, or when it occurred.
    pub fn used<'a>(&mut self, used: impl IntoIterator<Item = Used<'a>>, terms: Terms, now: Timestamp) {
        let now = self.advance(now);
        for used in used {
            match used.lease.and_then(|name| self.close(name, now)) {
                Some(counted) => {
                    let tokens = if terms.keep_estimates { counted.tokens } else { used.tokens };
                    self.recount(counted, used.project, tokens, now);
                }
                None => self.count(used, now),
            }
        }
    }

    /// Counts usage that State's day has already: in the windows of a minute only.
    pub fn used_before<'a>(&mut self, used: impl IntoIterator<Item = Used<'a>>, now: Timestamp) {
        let now = self.advance(now);
        let today = self.day.tokens;
        for used in used {
            self.count(used, now);
        }
        self.day.tokens = today;
    }

    /// Closes the lease that usage names, or finds what stayed counted for one that was over before its usage came.
    fn close(&mut self, name: LeaseName<'_>, now: Timestamp) -> Option<Counted> {
        let open = match name {
            LeaseName::Number(number) => Some(number),
            LeaseName::Request(id) => self.leases.first_of_request(id),
        };
        open.and_then(|number| self.leases.close(number)).map(|lease| lease.counted()).or_else(|| {
            let number = match name {
                LeaseName::Number(number) => number,
                LeaseName::Request(id) => self.leases.counted().of_request(id)?,
            };
            self.leases.counted().take(number, self.day.day, Millis::reached(now))
        })
    }

    /// Counts tokens when they were used, which is not after now.
    fn count(&mut self, used: Used<'_>, now: Timestamp) {
        let occurred = used.occurred_at.min(now);
        let (at, millis) = (Millis::not_before(occurred), Millis::reached(now));
        self.wakes(at);
        self.tokens.add(at, used.tokens, millis);
        self.day.count(occurred, used.tokens);
        self.projects.add(used.project, at, used.tokens, millis);
    }

    /// What is in flight.
    pub fn in_flight(&mut self, now: Timestamp) -> InFlight {
        self.advance(now);
        let projects = self.projects.iter();
        InFlight {
            concurrency: self.leases.running(),
            requests: self.requests.total(),
            tokens: self.tokens.total(),
            tokens_today: self.day.tokens,
            projects: projects.map(|known| (known.standing.id.clone(), known.tokens.total())).collect(),
            leases: self.leases.len(),
            held: self.leases.held(),
        }
    }

    /// How many leases are open.
    pub fn leases(&self) -> usize {
        self.leases.len()
    }

    /// How many leases were over since this was asked last.
    pub const fn take_expired(&mut self) -> u64 {
        std::mem::replace(&mut self.expired, 0)
    }

    /// Forgets requests, in progress and made: what their leases reserved is given back.
    pub fn forget_requests(&mut self, now: Timestamp) {
        let now = self.advance(now);
        while let Some(lease) = self.leases.over(Timestamp::MAX).and_then(|number| self.leases.close(number))
        {
            self.recount(lease.counted(), lease.project(), 0, now);
        }
        self.requests = SlidingWindow::default();
    }

    /// The clock was set back: instants of before mean nothing any more, so all goes on as after a start. Else windows
    /// would stand still until the clock has come there again.
    fn begin_again(&mut self, now: Timestamp) {
        let latest = self.latest;
        self.forget_requests(latest);
        self.tokens = SlidingWindow::default();
        self.projects.forget_all();
        let day = DayCount::of(&self.standing, now);
        if day.day != self.day.day {
            self.day = day;
        }
        self.in_force = None;
        self.quiet_until = Timestamp::EPOCH;
        self.latest = now;
    }

    /// Brings windows, day and leases up to an instant; time does not go back, unless the clock was set.
    pub fn advance(&mut self, now: Timestamp) -> Timestamp {
        if self.latest.nanos_since(now) > SET_BACK_NANOS {
            self.begin_again(now);
        }
        let now = now.max(self.latest);
        self.latest = now;
        if now >= self.quiet_until {
            self.catch_up(now);
        }
        now
    }

    /// When something is counted, it also says until when nothing leaves.
    fn wakes(&mut self, at: Millis) {
        self.quiet_until = self.quiet_until.min(at.plus(SlidingWindow::SPAN).begins());
    }

    /// Forgets what has left windows and day, gives leases back that are over, and finds out when the next of it is due.
    fn catch_up(&mut self, now: Timestamp) {
        let millis = Millis::reached(now);
        self.requests.forget(millis);
        self.tokens.forget(millis);
        self.projects.forget(millis);
        if now >= self.day.ends_at {
            self.day = DayCount::of(&self.standing, now);
            self.leases.counted().forget(self.day.day, millis);
        }
        while let Some(lease) = self.leases.over(now).and_then(|number| self.leases.expire(number)) {
            self.expired = self.expired.saturating_add(1);
            // What a request is known to have used stays counted.
            if lease.actual.is_none() {
                self.recount(lease.counted(), lease.project(), 0, now);
            }
        }
        let windows = [&self.requests, &self.tokens].into_iter().filter_map(SlidingWindow::frees_at);
        let leaves = windows.chain(self.projects.free_at()).map(Millis::begins);
        let ends = self.leases.next_end();
        self.quiet_until = leaves.chain(ends).fold(self.day.ends_at, Timestamp::min);
    }

    fn limits(&mut self, rules: &Rules, now: Timestamp) -> Option<RateLimits> {
        match &self.in_force {
            Some(found) if found.holds(rules, now) => found.limits.clone(),
            Some(_) | None => {
                let found = InForce::find(rules, &self.standing, now);
                let limits = found.limits.clone();
                self.in_force = Some(found);
                limits
            }
        }
    }

    /// Counts `tokens` instead of what is counted for a lease, where its instant and day still count.
    fn recount(&mut self, lease: Counted, project: usize, tokens: u64, now: Timestamp) {
        let millis = Millis::reached(now);
        self.wakes(lease.at);
        self.tokens.take_back(lease.at, lease.tokens);
        self.tokens.add(lease.at, tokens, millis);
        self.projects.take_back(lease.project, lease.at, lease.tokens);
        self.projects.add(project, lease.at, tokens, millis);
        if self.day.day == lease.day {
            self.day.tokens = self.day.tokens.saturating_sub(lease.tokens).saturating_add(tokens);
        }
    }

    fn reserve(
        &mut self,
        request: &Request<'_>,
        asked: Asked,
        plan: &Plan,
        until: Timestamp,
        now: Timestamp,
    ) -> u64 {
        let at = Millis::not_before(now);
        let estimate = plan.estimate.as_ref().ok();
        let tokens = estimate.map_or(0, |estimate| estimate.tokens);
        let millis = Millis::reached(now);
        self.wakes(at);
        self.quiet_until = self.quiet_until.min(until);
        self.requests.add(at, 1, millis);
        self.tokens.add(at, tokens, millis);
        self.projects.add(plan.key.1.project, at, tokens, millis);
        self.day.tokens = self.day.tokens.saturating_add(tokens);
        self.leases.open(Lease {
            asked,
            project: u32::try_from(plan.key.1.project).unwrap_or(u32::MAX),
            admitted_at: now,
            day: self.day.day,
            tokens,
            priced: estimate.is_some(),
            hold: estimate.and_then(|estimate| estimate.cost).unwrap_or_default(),
            expires_at: until,
            running: true,
            actual: None,
            request: request.request_id.map(Arc::from),
        })
    }

    fn granted(
        &self,
        (number, expires_at): (u64, Timestamp),
        plan: Plan,
        now: Timestamp,
        before: bool,
        noted: Option<Box<Refusal>>,
    ) -> Granted {
        let quotas = self.quotas(&plan, now);
        Granted {
            number,
            expires_at,
            names: plan.key.1.names,
            tier: plan.limits.map(|limits| limits.tier),
            available: self.standing.available().checked_sub(self.leases.held()).unwrap_or_default(),
            quotas,
            before,
            noted,
        }
    }
}

/// When a lease is over that lives so many seconds: a whole millisecond, as windows go by, so that one that lives for a
/// minute is over exactly when its tokens leave.
fn ends_after(now: Timestamp, seconds: i64) -> Timestamp {
    Millis::not_before(now.plus_seconds(seconds)).begins()
}

impl DayCount {
    /// The day of an instant, with nothing counted.
    fn of(standing: &Standing, now: Timestamp) -> Self {
        let calendar = &standing.calendar;
        let day = calendar.day(now);
        Self {
            day,
            starts_at: calendar.start_of_day(day),
            ends_at: calendar.start_of_day(day.next()),
            tokens: 0,
        }
    }

    /// The day, where it holds an instant.
    pub(super) fn holds(&self, at: Timestamp) -> Option<Day> {
        (self.starts_at <= at && at < self.ends_at).then_some(self.day)
    }

    fn count(&mut self, occurred: Timestamp, tokens: u64) {
        if self.starts_at <= occurred && occurred < self.ends_at {
            self.tokens = self.tokens.saturating_add(tokens);
        }
    }
}
