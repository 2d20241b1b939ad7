//! The order in which a request is looked at: the first limit that fails refuses it.

use tollbook_projections::limits::RateLimits;
use tollbook_schemas::allowlist::permits;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::policy::RateOverride;
use tollbook_schemas::time::Timestamp;

use super::account::{Account, Plan, Request};
use super::budget::{BudgetStanding, Exceeded};
use super::lease::LEASES_MAX;
use super::projects::Project;
use super::refusal::{Code, HINT_MS, Quantity, Reached, Refusal, Retry, Subject};
use super::standing::{Estimate, NoPrice, Rules};
use super::window::{GivenBack, Millis, Room, SlidingWindow};

/// One limit as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// At most.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// In how many milliseconds some of it comes back; 0 where nothing is used.
    pub frees_in_ms: i64,
    /// In how many milliseconds all of it has come back.
    pub clears_in_ms: i64,
}

/// An organization's limits as they stand; `None`: unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Requests in progress; nobody knows when they end.
    pub concurrency: Option<Quota>,
    /// Requests of a minute.
    pub requests: Option<Quota>,
    /// Tokens of a minute.
    pub tokens: Option<Quota>,
    /// Tokens of a day.
    pub tokens_today: Option<Quota>,
    /// Tokens of a minute of the project, where it has a limit of its own.
    pub project_tokens: Option<Quota>,
}

impl Account {
    /// Why a request may not pass now, if it may not.
    pub(super) fn refusal(
        &self,
        rules: &Rules,
        request: &Request<'_>,
        plan: &Plan,
        now: Timestamp,
    ) -> Option<Refusal> {
        let refusal = match self.access_refusal(request, plan) {
            Ok(estimate) => match &plan.limits {
                None => Some(self.recharge_refusal(plan)),
                Some(limits) => self
                    .money_refusal(rules, estimate, plan, now)
                    .or_else(|| self.rate_refusal(rules, estimate, &limits.limits, plan, now))
                    .or_else(|| self.leases_refusal()),
            },
            Err(refusal) => Some(*refusal),
        };
        refusal.map(|refusal| self.named(refusal, plan))
    }

    /// Why the key of a request works no more, or not from where it comes.
    pub(super) fn access(&self, request: &Request<'_>, plan: &Plan) -> Option<Refusal> {
        let refusal = self.key_refusal(plan).or_else(|| self.address_refusal(request));
        refusal.map(|refusal| self.named(refusal, plan))
    }

    /// The same request id came with another request.
    pub(super) fn conflict(&self, request: &Request<'_>, plan: &Plan) -> Refusal {
        let about = request.request_id.map(str::to_owned);
        self.named(Refusal { about, ..Refusal::bare(Code::RequestIdConflict) }, plan)
    }

    /// Names whom a refusal is for, and whose limit it is unless that is said.
    pub(super) fn named(&self, refusal: Refusal, plan: &Plan) -> Refusal {
        let organization = self.standing.id.clone();
        let subject = refusal.subject.or_else(|| Some(Subject::Organization(organization.clone())));
        Refusal { account: Some((organization, plan.key.1.names.key.clone())), subject, ..refusal }
    }

    /// Key, allowlist, model.
    fn access_refusal(&self, request: &Request<'_>, plan: &Plan) -> Result<Estimate, Box<Refusal>> {
        if let Some(refusal) = self.key_refusal(plan).or_else(|| self.address_refusal(request)) {
            return Err(Box::new(refusal));
        }
        plan.estimate.clone().map_err(|why| {
            let meter = match why {
                NoPrice::Model => None,
                NoPrice::Meter(meter) => Some(meter),
            };
            let about = Some(request.model.as_str().to_owned());
            Box::new(Refusal { about, meter, ..Refusal::bare(Code::ModelNotFound) })
        })
    }

    fn key_refusal(&self, plan: &Plan) -> Option<Refusal> {
        let (_, key) = &plan.key;
        let works = self.projects.get(key.project).is_some_and(|project| project.standing.active);
        (!key.active || !works).then(|| {
            let subject = Some(Subject::Key(key.names.key.clone()));
            Refusal { subject, ..Refusal::bare(Code::KeyRevoked) }
        })
    }

    fn address_refusal(&self, request: &Request<'_>) -> Option<Refusal> {
        if permits(&self.standing.allowlist, request.ip) {
            return None;
        }
        let about = Some(match request.ip {
            Some(ip) => format!("{ip} is not on its allowlist"),
            None => "it has an allowlist, and the request's address is not known".to_owned(),
        });
        Some(Refusal { about, ..Refusal::bare(Code::IpNotAllowed) })
    }

    /// The minimum recharge (R4.6).
    fn recharge_refusal(&self, plan: &Plan) -> Refusal {
        let recharged = self.standing.cumulative_recharge;
        Refusal { reached: money(plan.first_tier, recharged, None), ..Refusal::bare(Code::RechargeRequired) }
    }

    /// Balance, project budget, and the estimate within what balance and holds leave (R4.1, R6.2).
    fn money_refusal(
        &self,
        rules: &Rules,
        estimate: Estimate,
        plan: &Plan,
        now: Timestamp,
    ) -> Option<Refusal> {
        let available = self.standing.available();
        if !available.is_positive() {
            let reached = money(Amount::ZERO, available, None);
            return Some(Refusal { reached, ..Refusal::bare(Code::InsufficientBalance) });
        }
        if let Some(refusal) = self.budget_refusal(rules, estimate, plan, now) {
            return Some(refusal);
        }
        let held = self.leases.held();
        let asked = estimate.most();
        let fits = available.checked_sub(held).is_some_and(|left| asked <= left);
        (!fits).then(|| {
            // Holds may come back; what is not there at all does not.
            let retry = if asked > available { Retry::Never } else { Retry::Hint(HINT_MS) };
            let reached = money(available, held, Some(asked));
            Refusal { reached, retry, ..Refusal::bare(Code::BalanceBelowRequest) }
        })
    }

    /// The project's budgets, the daily one first (R6.2, R6.3).
    fn budget_refusal(
        &self,
        rules: &Rules,
        estimate: Estimate,
        plan: &Plan,
        now: Timestamp,
    ) -> Option<Refusal> {
        let place = plan.key.1.project;
        let budgets = &self.projects.get(place)?.standing.budgets;
        if budgets.is_empty() {
            return None;
        }
        let (held, asked) = (self.leases.held_for(place), estimate.most());
        let exceeded = |held: Amount| {
            budgets.iter().find_map(|budget| Some((budget, budget.exceeded(held, asked, now)?)))
        };
        let (budget, Exceeded { spent, held, requested }) = exceeded(held)?;
        // Holds may come back; what is spent does not before the period ends.
        let retry = match exceeded(Amount::ZERO) {
            None => Retry::Hint(HINT_MS),
            Some(_) => retry_at(self.room_from(rules, estimate, plan, now), now),
        };
        let current = spent.checked_add(held).unwrap_or(Amount::MAX);
        Some(Refusal {
            subject: Some(Subject::Project(plan.key.1.names.project.clone())),
            reached: money(budget.limit, current, requested),
            held: budget.strict.map(|_| held),
            resets_at: Some(budget.ends(now, &self.standing.calendar)),
            retry,
            ..Refusal::bare(Code::of_budget(budget.period))
        })
    }

    /// From when on no budget of a project refuses a request that may cost `asked`; `None`: never.
    fn budget_room(&self, place: usize, asked: Amount, from: Timestamp) -> Option<Timestamp> {
        let budgets = &self.projects.get(place)?.standing.budgets;
        let holds = |most, from| self.leases.held_falls(place, most, from);
        let mut at = from;
        loop {
            let room = |at, budget: &BudgetStanding| budget.room(asked, at, &holds);
            let next = budgets.iter().try_fold(at, room)?;
            if next == at {
                return Some(at);
            }
            at = next;
        }
    }

    /// Concurrency, RPM, TPM, TPD, the project's TPM (R5.2, R5.4).
    fn rate_refusal(
        &self,
        rules: &Rules,
        estimate: Estimate,
        limits: &RateOverride<Option<u64>>,
        plan: &Plan,
        now: Timestamp,
    ) -> Option<Refusal> {
        let tokens = estimate.tokens;
        let running = self.leases.running();
        if let Some(limit) = limits.concurrency.filter(|limit| running >= *limit) {
            let retry = if limit == 0 { Retry::Never } else { Retry::Hint(HINT_MS) };
            let reached = count(limit, running, None);
            return Some(Refusal { reached, retry, ..Refusal::bare(Code::OrganizationConcurrency) });
        }
        let over = |code, used: u64, units: u64, limit: Option<u64>| {
            let limit = limit.filter(|limit| used.saturating_add(units) > *limit)?;
            Some(Refusal { reached: count(limit, used, Some(units)), ..Refusal::bare(code) })
        };
        let refusal = over(Code::OrganizationRpm, self.requests.total(), 1, limits.rpm)
            .or_else(|| over(Code::OrganizationTpm, self.tokens.total(), tokens, limits.tpm))
            .or_else(|| over(Code::OrganizationTpd, self.day.tokens, tokens, limits.tpd))
            .or_else(|| {
                let project = self.projects.get(plan.key.1.project)?;
                let limit = own_limit(project, plan.limits.as_ref());
                let refusal = over(Code::ProjectTpm, project.tokens.total(), tokens, limit)?;
                Some(Refusal { subject: Some(Subject::Project(plan.key.1.names.project.clone())), ..refusal })
            })?;
        let resets_at = self.room_from(rules, estimate, plan, now);
        Some(Refusal { resets_at, retry: retry_at(resets_at, now), ..refusal })
    }

    /// Whoever never tells the end of requests takes bounded memory.
    pub(super) fn leases_refusal(&self) -> Option<Refusal> {
        let (open, most) = (self.leases.len(), LEASES_MAX);
        (open >= most).then(|| {
            let count_of = |leases: usize| u64::try_from(leases).unwrap_or(u64::MAX);
            let reached = count(count_of(most), count_of(open), None);
            Refusal { reached, retry: Retry::Hint(HINT_MS), ..Refusal::bare(Code::OrganizationLeases) }
        })
    }

    /// When a request has room under every limit and budget, from an instant on and if nothing else comes: limits that change by
    /// themselves until then count, and so do leases that are over by then. `None`: never.
    fn room_from(
        &self,
        rules: &Rules,
        estimate: Estimate,
        plan: &Plan,
        from: Timestamp,
    ) -> Option<Timestamp> {
        let (place, asked, tokens) = (plan.key.1.project, estimate.most(), estimate.tokens);
        let mut start = self.budget_room(place, asked, from)?;
        loop {
            let at = rules.as_recorded(start);
            let (scale, standing) = (rules.scale.as_ref(), &self.standing);
            let limits =
                RateLimits::under(&rules.tiers, scale, standing.cumulative_recharge, standing.rates, at);
            let room = limits.and_then(|limits| self.room_under(&limits, tokens, plan, start));
            let until = rules.next_change(at);
            start = match room {
                Some(room) if room < until || until == Timestamp::MAX => {
                    // A breach may become visible before then.
                    let open = self.budget_room(place, asked, room)?;
                    if open == room {
                        return Some(room);
                    }
                    open
                }
                None if until == Timestamp::MAX => return None,
                Some(_) | None => until,
            };
        }
    }

    /// The same under limits that stay.
    fn room_under(
        &self,
        limits: &RateLimits,
        tokens: u64,
        plan: &Plan,
        from: Timestamp,
    ) -> Option<Timestamp> {
        let RateOverride { concurrency, rpm, tpm, tpd } = limits.limits;
        let from = match concurrency {
            Some(0) => return None,
            Some(limit) => self.leases.running_falls(limit, from),
            None => from,
        };
        let project = self.projects.get(plan.key.1.project)?;
        let own = own_limit(project, Some(limits));
        let requests = window_room(&self.requests, (1, rpm), std::iter::empty, from)?;
        let all = window_room(&self.tokens, (tokens, tpm), || self.given_back(None), from)?;
        let day = self.day_room(tokens, tpd, from)?;
        let back = || self.given_back(Some(plan.key.1.project));
        let own = window_room(&project.tokens, (tokens, own), back, from)?;
        Some(requests.max(all).max(day).max(own))
    }

    fn day_room(&self, tokens: u64, limit: Option<u64>, from: Timestamp) -> Option<Timestamp> {
        let Some(limit) = limit else { return Some(from) };
        let free_at = u128::from(limit.checked_sub(tokens)?);
        let mut used = u128::from(self.day.tokens);
        if used <= free_at {
            return Some(from);
        }
        if used.saturating_sub(self.leases.estimated(self.day.day)) <= free_at {
            let first = self.leases.first_over();
            for lease in first.filter(|lease| lease.actual.is_none() && lease.day == self.day.day) {
                used = used.saturating_sub(lease.tokens.into());
                if used <= free_at {
                    return Some(lease.expires_at.min(self.day.ends_at).max(from));
                }
            }
            // Those that were not looked at give back enough by the time that all are over.
            if let Some(end) = self.leases.all_over() {
                return Some(end.min(self.day.ends_at).max(from));
            }
        }
        Some(self.day.ends_at.max(from))
    }

    /// Tokens that leases give back while they would still count in the windows: seldom any, for leases live longer.
    fn given_back(&self, project: Option<usize>) -> impl Iterator<Item = GivenBack> {
        let mine = self.leases.short().filter(move |lease| {
            lease.actual.is_none() && project.is_none_or(|project| project == lease.project())
        });
        mine.map(|lease| GivenBack { when: lease.expires_at, at: lease.at(), units: lease.tokens })
    }

    /// The limits as they stand; `None` below the first tier.
    pub(super) fn quotas(&self, plan: &Plan, now: Timestamp) -> Option<Quotas> {
        let limits = plan.limits.as_ref()?;
        let RateOverride { concurrency, rpm, tpm, tpd } = limits.limits;
        let quota = |limit: u64, used: u64, frees_in_ms, clears_in_ms| Quota {
            limit,
            remaining: limit.saturating_sub(used),
            frees_in_ms,
            clears_in_ms,
        };
        let window = |window: &SlidingWindow, limit: u64| {
            let wait = |at: Option<Millis>| at.map_or(0, |at| millis_until(at.begins(), now));
            quota(limit, window.total(), wait(window.frees_at()), wait(window.clears_at()))
        };
        let midnight = millis_until(self.day.ends_at, now);
        let project = self.projects.get(plan.key.1.project);
        let own = project.and_then(|project| own_limit(project, Some(limits)));
        Some(Quotas {
            concurrency: concurrency.map(|limit| quota(limit, self.leases.running(), 0, 0)),
            requests: rpm.map(|limit| window(&self.requests, limit)),
            tokens: tpm.map(|limit| window(&self.tokens, limit)),
            tokens_today: tpd.map(|limit| {
                let wait = if self.day.tokens == 0 { 0 } else { midnight };
                quota(limit, self.day.tokens, wait, wait)
            }),
            project_tokens: project.zip(own).map(|(project, limit)| window(&project.tokens, limit)),
        })
    }
}

fn money(limit: Amount, current: Amount, requested: Option<Amount>) -> Option<Reached> {
    let requested = requested.map(Quantity::Money);
    Some(Reached { limit: Quantity::Money(limit), current: Quantity::Money(current), requested })
}

fn count(limit: u64, current: u64, requested: Option<u64>) -> Option<Reached> {
    let requested = requested.map(Quantity::Count);
    Some(Reached { limit: Quantity::Count(limit), current: Quantity::Count(current), requested })
}

/// What a project is limited to, where it has a limit of its own (R5.4).
fn own_limit(project: &Project, limits: Option<&RateLimits>) -> Option<u64> {
    project.standing.tpm.and(RateLimits::project_tpm(project.standing.tpm, limits).effective)
}

/// Leases are looked at only where the window has no room.
fn window_room<I: Iterator<Item = GivenBack>>(
    window: &SlidingWindow,
    (units, limit): (u64, Option<u64>),
    given_back: impl FnOnce() -> I,
    from: Timestamp,
) -> Option<Timestamp> {
    let Some(limit) = limit else { return Some(from) };
    match window.room(units, limit) {
        Room::Never => None,
        Room::Now => Some(from),
        Room::From(_) => Some(window.room_with(units, limit, given_back())?.max(from)),
    }
}

fn retry_at(at: Option<Timestamp>, now: Timestamp) -> Retry {
    at.map_or(Retry::Never, |at| Retry::After(millis_until(at, now)))
}

/// Whole milliseconds from `now` until an instant, never too few.
fn millis_until(at: Timestamp, now: Timestamp) -> i64 {
    let nanos = at.nanos_since(now);
    nanos.div_euclid(NANOS).saturating_add(i64::from(nanos.rem_euclid(NANOS) > 0)).max(0)
}

const NANOS: i64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_6_leases_are_looked_at_only_where_a_window_is_full() {
        let now = Timestamp::from_nanos(NANOS);
        let mut window = SlidingWindow::default();
        window.add(Millis::reached(now), 5, Millis::reached(now));
        let looked_at = std::cell::Cell::new(0);
        let back = || {
            looked_at.set(looked_at.get() + 1);
            std::iter::empty()
        };
        assert_eq!(window_room(&window, (1, None), back, now), Some(now));
        assert_eq!(window_room(&window, (1, Some(6)), back, now), Some(now));
        assert_eq!(window_room(&window, (7, Some(6)), back, now), None);
        assert_eq!(looked_at.get(), 0);
        let full = window_room(&window, (2, Some(6)), back, now);
        assert_eq!((full, looked_at.get()), (Some(now.plus_seconds(60)), 1));
    }
}
