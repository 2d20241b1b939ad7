//! The order in which a request is looked at: the first limit that fails refuses it.

use tollbook_projections::limits::RateLimits;
use tollbook_schemas::allowlist::permits;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::policy::RateOverride;
use tollbook_schemas::time::Timestamp;

use super::account::{Account, Plan, Request};
use super::refusal::{Code, HINT_MS, Quantity, Reached, Refusal, Retry, Subject};
use super::standing::{Estimate, NoPrice};
use super::window::{Millis, Room, SlidingWindow};

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
    pub(super) fn refusal(&self, request: &Request<'_>, plan: &Plan, now: Timestamp) -> Option<Refusal> {
        let refusal = match self.access_refusal(request, plan) {
            Ok(Estimate { tokens, cost }) => match &plan.limits {
                None => Some(self.recharge_refusal(plan)),
                Some(limits) => self
                    .money_refusal(cost, plan, now)
                    .or_else(|| self.rate_refusal(tokens, &limits.limits, plan, now)),
            },
            Err(refusal) => Some(*refusal),
        };
        refusal.map(|refusal| self.named(refusal, plan))
    }

    /// The same request id came with another request.
    pub(super) fn conflict(&self, request: &Request<'_>, plan: &Plan) -> Refusal {
        let about = request.request_id.map(str::to_owned);
        self.named(Refusal { about, ..Refusal::bare(Code::RequestIdConflict) }, plan)
    }

    /// Names whom a refusal is for, and whose limit it is unless that is said.
    fn named(&self, refusal: Refusal, plan: &Plan) -> Refusal {
        let organization = self.standing.id.clone();
        let subject = refusal.subject.or_else(|| Some(Subject::Organization(organization.clone())));
        Refusal { account: Some((organization, plan.key.1.names.key.clone())), subject, ..refusal }
    }

    /// Key, allowlist, model.
    fn access_refusal(&self, request: &Request<'_>, plan: &Plan) -> Result<Estimate, Box<Refusal>> {
        let (_, key) = &plan.key;
        let works = self.projects.get(key.project).is_some_and(|project| project.standing.active);
        if !key.active || !works {
            let subject = Some(Subject::Key(key.names.key.clone()));
            return Err(Box::new(Refusal { subject, ..Refusal::bare(Code::KeyRevoked) }));
        }
        if !permits(&self.standing.allowlist, request.ip) {
            let about = Some(match request.ip {
                Some(ip) => format!("{ip} is not on its allowlist"),
                None => "it has an allowlist, and the request's address is not known".to_owned(),
            });
            return Err(Box::new(Refusal { about, ..Refusal::bare(Code::IpNotAllowed) }));
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

    /// The minimum recharge (R4.6).
    fn recharge_refusal(&self, plan: &Plan) -> Refusal {
        let recharged = self.standing.cumulative_recharge;
        Refusal { reached: money(plan.first_tier, recharged, None), ..Refusal::bare(Code::RechargeRequired) }
    }

    /// Balance, project budget, and the estimate within what balance and holds leave (R4.1, R6.2).
    fn money_refusal(&self, cost: Option<Amount>, plan: &Plan, now: Timestamp) -> Option<Refusal> {
        let available = self.standing.available();
        if !available.is_positive() {
            let reached = money(Amount::ZERO, available, None);
            return Some(Refusal { reached, ..Refusal::bare(Code::InsufficientBalance) });
        }
        let project = self.projects.get(plan.key.1.project);
        let stop = project.and_then(|project| project.standing.stopped.as_ref());
        if let Some(stop) = stop.filter(|stop| now < stop.resets_at) {
            let code = if stop.monthly { Code::ProjectMonthlyBudget } else { Code::ProjectDailyBudget };
            return Some(Refusal {
                subject: Some(Subject::Project(plan.key.1.names.project.clone())),
                reached: money(stop.limit, stop.spent, None),
                resets_at: Some(stop.resets_at),
                retry: Retry::After(millis_until(stop.resets_at, now)),
                ..Refusal::bare(code)
            });
        }
        let held = self.leases.held();
        let asked = cost.unwrap_or(Amount::MAX);
        let fits = available.checked_sub(held).is_some_and(|left| asked <= left);
        (!fits).then(|| {
            // Holds may come back; what is not there at all does not.
            let retry = if asked > available { Retry::Never } else { Retry::Hint(HINT_MS) };
            let reached = money(available, held, Some(asked));
            Refusal { reached, retry, ..Refusal::bare(Code::BalanceBelowRequest) }
        })
    }

    /// Concurrency, RPM, TPM, TPD, the project's TPM (R5.2, R5.4).
    fn rate_refusal(
        &self,
        tokens: u64,
        limits: &RateOverride<Option<u64>>,
        plan: &Plan,
        now: Timestamp,
    ) -> Option<Refusal> {
        let running = self.leases.running();
        if let Some(limit) = limits.concurrency.filter(|limit| running >= *limit) {
            let retry = if limit == 0 { Retry::Never } else { Retry::Hint(HINT_MS) };
            let reached = count(limit, running, None);
            return Some(Refusal { reached, retry, ..Refusal::bare(Code::OrganizationConcurrency) });
        }
        let window = |code, window: &SlidingWindow, units, limit: Option<u64>| {
            let limit = limit?;
            let (resets_at, retry) = match window.room(units, limit) {
                Room::Now => return None,
                Room::From(at) => {
                    let at = at.begins();
                    (Some(at), Retry::After(millis_until(at, now)))
                }
                Room::Never => (None, Retry::Never),
            };
            let reached = count(limit, window.total(), Some(units));
            Some(Refusal { reached, resets_at, retry, ..Refusal::bare(code) })
        };
        window(Code::OrganizationRpm, &self.requests, 1, limits.rpm)
            .or_else(|| window(Code::OrganizationTpm, &self.tokens, tokens, limits.tpm))
            .or_else(|| self.day_refusal(tokens, limits.tpd, now))
            .or_else(|| {
                let project = self.projects.get(plan.key.1.project)?;
                let own = RateLimits::project_tpm(project.standing.tpm, plan.limits.as_ref());
                let limit = project.standing.tpm.and(own.effective);
                let refusal = window(Code::ProjectTpm, &project.tokens, tokens, limit)?;
                Some(Refusal { subject: Some(Subject::Project(plan.key.1.names.project.clone())), ..refusal })
            })
    }

    fn day_refusal(&self, tokens: u64, limit: Option<u64>, now: Timestamp) -> Option<Refusal> {
        let limit = limit?;
        let used = self.day.tokens;
        if used.saturating_add(tokens) <= limit {
            return None;
        }
        let (resets_at, retry) = if tokens > limit {
            (None, Retry::Never)
        } else {
            (Some(self.day.ends_at), Retry::After(millis_until(self.day.ends_at, now)))
        };
        let reached = count(limit, used, Some(tokens));
        Some(Refusal { reached, resets_at, retry, ..Refusal::bare(Code::OrganizationTpd) })
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
        let own = project.and_then(|project| {
            project.standing.tpm.and(RateLimits::project_tpm(project.standing.tpm, Some(limits)).effective)
        });
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

/// Whole milliseconds from `now` until an instant, never too few.
fn millis_until(at: Timestamp, now: Timestamp) -> i64 {
    Millis::not_before(at).since(Millis::reached(now)).max(0)
}
