//! Admission as lists of everything that happened: slow, plain, and shares nothing with the engine but ids and limits in
//! force, which have tests of their own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use tollbook_projections::budget::{PERIODS, Watch};
use tollbook_projections::limits::RateLimits;
use tollbook_projections::spend::ProjectSpend;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::LeaseId;
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_schemas::usage::Tokens;
use tollbook_tests::gate::Call;

pub(super) const MILLI: i64 = 1_000_000;
const MINUTE_MS: i64 = 60_000;

/// A row of a price book, in millionths of a dollar per million.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) own: bool,
    pub(super) model: usize,
    pub(super) from: i64,
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) output: u64,
    pub(super) image: Option<u64>,
    pub(super) max_output: Option<u64>,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Open,
    /// Over, but what the request used is known and stays counted.
    Over,
    Gone,
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    pub(super) call: Call,
    pub(super) key: usize,
    pub(super) project: usize,
    pub(super) model: usize,
    pub(super) tokens: u64,
    pub(super) output: u64,
    /// It had a price: only observing lets others pass.
    pub(super) priced: bool,
    pub(super) hold: i128,
    pub(super) admitted: i64,
    pub(super) expires: i64,
    pub(super) day: Day,
    pub(super) running: bool,
    pub(super) used: Option<Tokens>,
    pub(super) request: Option<String>,
    pub(super) fate: Fate,
}

/// Tokens that are counted apart from leases.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loose {
    at_ms: i64,
    day: Day,
    tokens: u64,
    project: usize,
}

/// What is known of an organization besides what happened at its gate.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) keys: Vec<(usize, bool)>,
    pub(super) projects: Vec<(bool, Option<u64>)>,
    pub(super) allowed: Vec<(Ipv4Addr, u8)>,
    pub(super) prices: Vec<Row>,
    pub(super) available: i128,
    pub(super) calendar: Calendar,
    pub(super) scale_until: Option<i64>,
    pub(super) default_output: u64,
    /// Budgets of every project, and what is spent of them, as State says it now.
    pub(super) budgets: Vec<(Watch, ProjectSpend)>,
}

/// Whether waiting helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    After(i64),
    Hint,
    Never,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Gatekeeper {
    pub(super) leases: Vec<Lease>,
    pub(super) requests: Vec<i64>,
    pub(super) loose: Vec<Loose>,
    pub(super) keep_estimates: bool,
}

pub(super) fn ceil_ms(nanos: i64) -> i64 {
    -(-nanos).div_euclid(MILLI)
}

/// A lease is over at a whole millisecond.
pub(super) fn ends_after(now: i64, seconds: i64) -> i64 {
    ceil_ms(now + seconds * 1_000 * MILLI) * MILLI
}

fn floor_ms(nanos: i64) -> i64 {
    nanos.div_euclid(MILLI)
}

impl World {
    pub(super) fn price(&self, model: usize, at: i64) -> Option<Row> {
        let of = |own: bool| {
            let rows =
                self.prices.iter().filter(|row| row.model == model && row.own == own && row.from <= at);
            rows.max_by_key(|row| row.from).copied()
        };
        of(true).or_else(|| of(false))
    }

    /// The dearest charge between two instants; `None` where there is no price at first.
    fn dearest(
        &self,
        model: usize,
        from: i64,
        until: i64,
        charge: impl Fn(&Row) -> Option<i128>,
    ) -> Option<i128> {
        let first = charge(&self.price(model, from)?)?;
        let later = self.prices.iter().map(|row| row.from).filter(|at| from < *at && *at <= until);
        Some(later.filter_map(|at| charge(&self.price(model, at)?)).fold(first, i128::max))
    }

    fn listed(&self, call: &Call) -> bool {
        if self.allowed.is_empty() {
            return true;
        }
        let ip = match call.ip {
            Some(std::net::IpAddr::V4(ip)) => ip,
            Some(std::net::IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
                Some(ip) => ip,
                None => return false,
            },
            None => return false,
        };
        self.allowed.iter().any(|(net, bits)| {
            let shift = 32 - u32::from(*bits);
            (u64::from(u32::from(ip)) >> shift) == (u64::from(u32::from(*net)) >> shift)
        })
    }
}

fn images(call: &Call) -> u64 {
    call.meters.values().sum()
}

fn estimate(row: &Row, input: u64, output: u64, images: u64) -> Option<i128> {
    let image = if images == 0 { 0 } else { row.image? };
    Some(
        i128::from(row.input.max(row.cached)) * i128::from(input)
            + i128::from(row.output) * i128::from(output)
            + i128::from(image) * i128::from(images),
    )
}

pub(super) fn charge(row: &Row, used: Tokens, images: u64) -> Option<i128> {
    let image = if images == 0 { 0 } else { row.image? };
    Some(
        i128::from(row.input) * i128::from(used.input.checked_sub(used.cached_input)?)
            + i128::from(row.cached) * i128::from(used.cached_input)
            + i128::from(row.output) * i128::from(used.output)
            + i128::from(image) * i128::from(images),
    )
}

/// What a call may come to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    pub(super) tokens: u64,
    pub(super) output: u64,
    pub(super) cost: i128,
}

pub(super) fn estimate_of(
    world: &World,
    call: &Call,
    model: usize,
    now: i64,
    until: i64,
) -> Option<Estimate> {
    let output = call.output.or(world.price(model, now)?.max_output).unwrap_or(world.default_output);
    let cost = world.dearest(model, now, until, |row| estimate(row, call.input, output, images(call)))?;
    Some(Estimate { tokens: call.input + output, output, cost })
}

impl Gatekeeper {
    /// Leases that are over by now.
    pub(super) fn advance(&mut self, now: i64) {
        let mut over: Vec<_> = (0..self.leases.len())
            .filter(|i| self.leases[*i].fate == Fate::Open && self.leases[*i].expires <= now)
            .collect();
        over.sort_by_key(|i| (self.leases[*i].expires, *i));
        for i in over {
            let lease = &mut self.leases[i];
            lease.running = false;
            lease.fate = if lease.used.is_some() { Fate::Over } else { Fate::Gone };
            // Only the last of a request's leases that are over is found by its name.
            if lease.fate == Fate::Over
                && let Some(request) = lease.request.clone()
            {
                for other in
                    self.leases.iter_mut().enumerate().filter(|(j, _)| *j != i).map(|(_, other)| other)
                {
                    if other.fate == Fate::Over && other.request.as_ref() == Some(&request) {
                        other.request = None;
                    }
                }
            }
        }
    }

    /// Forgets what counts nowhere: it would be slow otherwise.
    pub(super) fn forget(&mut self, now: i64, today: Day) {
        self.requests.retain(|at| now < at + 2 * MINUTE_MS * MILLI);
        self.loose.retain(|loose| loose.day >= today || floor_ms(now) < loose.at_ms + MINUTE_MS);
        self.leases.retain(|lease| {
            lease.fate == Fate::Open
                || lease.fate == Fate::Over
                    && (lease.day >= today || floor_ms(now) < ceil_ms(lease.admitted) + MINUTE_MS)
        });
    }

    /// Everything that is counted at an instant: where in the minute, on which day, how much, for which project.
    fn counted(&self, at: i64) -> impl Iterator<Item = Loose> {
        let leases = self.leases.iter().filter(move |lease| match lease.fate {
            Fate::Open => at < lease.expires || lease.used.is_some(),
            Fate::Over => true,
            Fate::Gone => false,
        });
        leases
            .map(|lease| Loose {
                at_ms: ceil_ms(lease.admitted),
                day: lease.day,
                tokens: lease.tokens,
                project: lease.project,
            })
            .chain(self.loose.iter().copied())
    }

    pub(super) fn tokens(&self, at: i64, project: Option<usize>) -> u64 {
        let counted = self.counted(at).filter(|one| floor_ms(at) < one.at_ms + MINUTE_MS);
        counted.filter(|one| project.is_none_or(|project| project == one.project)).map(|one| one.tokens).sum()
    }

    pub(super) fn today(&self, at: i64, calendar: &Calendar) -> u64 {
        let day = calendar.day(Timestamp::from_nanos(at));
        self.counted(at).filter(|one| one.day == day).map(|one| one.tokens).sum()
    }

    pub(super) fn requests(&self, at: i64) -> u64 {
        let counted = self.requests.iter().filter(|one| floor_ms(at) < ceil_ms(**one) + MINUTE_MS);
        u64::try_from(counted.count()).unwrap()
    }

    /// Requests in the 60 seconds that end at an instant, to the nanosecond.
    pub(super) fn requests_of_span(&self, at: i64) -> u64 {
        u64::try_from(self.requests.iter().filter(|one| at - **one < MINUTE_MS * MILLI).count()).unwrap()
    }

    fn open(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().filter(|lease| lease.fate == Fate::Open)
    }

    pub(super) fn count(&self) -> usize {
        self.open().count()
    }

    pub(super) fn running(&self) -> u64 {
        u64::try_from(self.open().filter(|lease| lease.running).count()).unwrap()
    }

    pub(super) fn held(&self) -> i128 {
        self.open().map(|lease| lease.hold).sum()
    }

    /// The lease that a call has already, and whether it asks for the same.
    pub(super) fn before(&self, call: &Call, key: usize) -> Option<(&Lease, bool)> {
        let last =
            self.open().filter(|lease| lease.request.is_some() && lease.request == call.request_id).last()?;
        let same = last.key == key
            && last.call.model == call.model
            && (last.call.input, last.call.output) == (call.input, call.output)
            && last.call.meters == call.meters;
        last.running.then_some((last, same))
    }

    pub(super) fn access(world: &World, call: &Call, key: usize) -> Option<&'static str> {
        let (project, active) = world.keys[key];
        if !active || !world.projects[project].0 {
            return Some("api_key_revoked");
        }
        (!world.listed(call)).then_some("ip_not_allowed")
    }

    /// Why a call would be refused, in the documented order.
    pub(super) fn refusal(
        &self,
        world: &World,
        call: &Call,
        (key, model): (usize, usize),
        (now, until): (i64, i64),
        limits: &dyn Fn(i64) -> Option<RateLimits>,
    ) -> Option<(&'static str, Wait)> {
        if let Some(code) = Self::access(world, call, key) {
            return Some((code, Wait::Never));
        }
        let Some(estimate) = estimate_of(world, call, model, now, until) else {
            return Some(("model_not_found", Wait::Never));
        };
        let Some(in_force) = limits(now) else {
            return Some(("recharge_required", Wait::Never));
        };
        if world.available <= 0 {
            return Some(("insufficient_balance", Wait::Never));
        }
        let project = world.keys[key].0;
        if let Some(code) = self.over_budget(world, project, estimate.cost, now, true) {
            if self.over_budget(world, project, estimate.cost, now, false).is_none() {
                return Some((code, Wait::Hint));
            }
            let wait = self.wait(world, estimate, project, now, limits);
            return Some((code, wait));
        }
        if estimate.cost > world.available - self.held() {
            let wait = if estimate.cost > world.available { Wait::Never } else { Wait::Hint };
            return Some(("balance_below_request", wait));
        }
        if in_force.limits.concurrency.is_some_and(|limit| self.running() >= limit) {
            return Some(("organization_concurrency", Wait::Hint));
        }
        let code = self.over(world, estimate.tokens, project, now, &in_force)?;
        Some((code, self.wait(world, estimate, project, now, limits)))
    }

    /// How long until a call has room, if nothing else comes: every instant at which something changes is tried.
    fn wait(
        &self,
        world: &World,
        estimate: Estimate,
        project: usize,
        now: i64,
        limits: &dyn Fn(i64) -> Option<RateLimits>,
    ) -> Wait {
        let passes = |at: i64| {
            self.over_budget(world, project, estimate.cost, at, true).is_none()
                && limits(at).is_some_and(|limits| {
                    let running = self.open().filter(|lease| lease.running && at < lease.expires).count();
                    let slots = limits.limits.concurrency;
                    slots.is_none_or(|slots| u64::try_from(running).unwrap() < slots)
                        && self.over(world, estimate.tokens, project, at, &limits).is_none()
                })
        };
        let minute = self.counted(now).map(|one| (one.at_ms + MINUTE_MS) * MILLI);
        let requests = self.requests.iter().map(|at| (ceil_ms(*at) + MINUTE_MS) * MILLI);
        let expiries = self.open().map(|lease| lease.expires);
        let calendar = &world.calendar;
        let today = calendar.day(Timestamp::from_nanos(now));
        let days = std::iter::successors(Some(today.next()), |day| Some(day.next())).take(3);
        let months = std::iter::successors(Some(today.month().next()), |month| Some(month.next())).take(3);
        let mut waits: Vec<i64> = minute
            .chain(requests)
            .chain(expiries)
            .chain(days.map(|day| calendar.start_of_day(day).nanos()))
            .chain(months.map(|month| calendar.start_of_month(month).nanos()))
            .chain(world.scale_until)
            .filter(|at| *at > now)
            .map(|at| ceil_ms(at - now))
            .collect();
        waits.sort_unstable();
        waits.dedup();
        let Some(wait) = waits.into_iter().find(|wait| passes(now + wait * MILLI)) else {
            return Wait::Never;
        };
        assert!(!passes(now + (wait - 1) * MILLI), "a millisecond earlier it would pass too");
        Wait::After(wait)
    }

    /// What is held for a project at an instant.
    pub(super) fn held_for(&self, project: usize, at: i64) -> i128 {
        let mine = self.open().filter(|lease| lease.project == project && at < lease.expires);
        mine.map(|lease| lease.hold).sum()
    }

    /// Which budget of a project refuses what may cost so much, with or without what is held.
    fn over_budget(
        &self,
        world: &World,
        project: usize,
        cost: i128,
        at: i64,
        with_holds: bool,
    ) -> Option<&'static str> {
        let (watch, spend) = &world.budgets[project];
        let instant = Timestamp::from_nanos(at);
        let today = world.calendar.day(instant);
        let refuses = |period: &Period| {
            let Some(limit) = watch.budgets.limit(*period) else { return false };
            match watch.budgets.enforcement {
                Enforcement::Settled => {
                    let stop = watch.stop(spend, *period, &world.calendar, today);
                    limit.is_zero()
                        || stop.is_some_and(|stop| stop.from <= instant && instant < stop.resets_at)
                }
                Enforcement::Strict => {
                    let held = if with_holds { self.held_for(project, at) } else { 0 };
                    let reserved = spend.consumed(*period, today).unwrap().units() + held;
                    reserved >= limit.units() || reserved + cost > limit.units()
                }
            }
        };
        PERIODS.into_iter().find(refuses).map(|period| match period {
            Period::Daily => "project_daily_budget",
            Period::Monthly => "project_monthly_budget",
        })
    }

    fn over(
        &self,
        world: &World,
        tokens: u64,
        project: usize,
        at: i64,
        limits: &RateLimits,
    ) -> Option<&'static str> {
        let exceeds =
            |limit: Option<u64>, used: u64, more: u64| limit.is_some_and(|limit| used + more > limit);
        if exceeds(limits.limits.rpm, self.requests(at), 1) {
            return Some("organization_rpm");
        }
        if exceeds(limits.limits.tpm, self.tokens(at, None), tokens) {
            return Some("organization_tpm");
        }
        if exceeds(limits.limits.tpd, self.today(at, &world.calendar), tokens) {
            return Some("organization_tpd");
        }
        let own = world.projects[project].1;
        let own = own.map(|own| limits.limits.tpm.map_or(own, |all| own.min(all)));
        exceeds(own, self.tokens(at, Some(project)), tokens).then_some("project_tpm")
    }

    pub(super) fn reserve(&mut self, lease: Lease) {
        self.requests.push(lease.admitted);
        self.leases.push(lease);
    }

    pub(super) fn settle(&mut self, world: &World, at: usize, actual: Option<Tokens>) {
        let keep = self.keep_estimates;
        let lease = &mut self.leases[at];
        lease.running = false;
        let Some(actual) = actual else { return };
        let images = images(&lease.call);
        let most =
            world.dearest(lease.model, lease.admitted, lease.expires, |row| charge(row, actual, images));
        lease.hold = most.unwrap_or(lease.hold);
        lease.used = Some(actual);
        if !keep {
            lease.tokens = actual.input + actual.output;
        }
    }

    /// What was settled with numbers gives back its slot only; whether the lease is gone.
    pub(super) fn release(&mut self, at: usize) -> bool {
        let lease = &mut self.leases[at];
        lease.running = false;
        if lease.used.is_none() {
            lease.fate = Fate::Gone;
        }
        lease.used.is_none()
    }

    /// Prices or an expiry have changed: what has become dearer is held.
    pub(super) fn reprice(&mut self, world: &World) {
        for lease in self.leases.iter_mut().filter(|lease| lease.fate == Fate::Open) {
            let images = images(&lease.call);
            let (from, until) = (lease.admitted, lease.expires);
            let most = match lease.used {
                Some(used) => world.dearest(lease.model, from, until, |row| charge(row, used, images)),
                None if !lease.priced => None,
                None => world.dearest(lease.model, from, until, |row| {
                    estimate(row, lease.call.input, lease.output, images)
                }),
            };
            lease.hold = lease.hold.max(most.unwrap_or(lease.hold));
        }
    }

    /// The lease that usage names by its number or its request.
    pub(super) fn named(&self, lease: Option<&str>, request: Option<&str>, known: bool) -> Option<usize> {
        let find = |fate: Fate, names: &dyn Fn(&Lease) -> bool| {
            self.leases.iter().position(|lease| lease.fate == fate && names(lease))
        };
        match (lease, request) {
            (Some(id), _) if known => {
                let names = |lease: &Lease| lease.id.as_str() == id;
                find(Fate::Open, &names).or_else(|| find(Fate::Over, &names))
            }
            (_, Some(request)) => {
                let names = |lease: &Lease| lease.request.as_deref() == Some(request);
                find(Fate::Open, &names).or_else(|| find(Fate::Over, &names))
            }
            _ => None,
        }
    }

    /// Usage was booked; the hold of the lease that it closes.
    pub(super) fn used(
        &mut self,
        calendar: &Calendar,
        lease: Option<usize>,
        (project, occurred, tokens): (usize, i64, u64),
        now: i64,
    ) {
        let today = calendar.day(Timestamp::from_nanos(now));
        let found = lease.map(|at| &mut self.leases[at]);
        let remembered = found.and_then(|lease| {
            let over = lease.fate == Fate::Over;
            let counts = lease.day == today || floor_ms(now) < ceil_ms(lease.admitted) + MINUTE_MS;
            lease.fate = Fate::Gone;
            lease.running = false;
            (!over || counts).then_some((lease.admitted, lease.day, lease.tokens))
        });
        let loose = match remembered {
            Some((admitted, day, estimate)) => {
                let tokens = if self.keep_estimates { estimate } else { tokens };
                Loose { at_ms: ceil_ms(admitted), day, tokens, project }
            }
            None => {
                let occurred = occurred.min(now);
                let day = calendar.day(Timestamp::from_nanos(occurred));
                Loose { at_ms: ceil_ms(occurred), day, tokens, project }
            }
        };
        self.loose.push(loose);
    }

    pub(super) fn by_project(&self, at: i64, projects: usize) -> BTreeMap<usize, u64> {
        (0..projects).map(|project| (project, self.tokens(at, Some(project)))).collect()
    }
}
