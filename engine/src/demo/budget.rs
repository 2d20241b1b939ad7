//! A budget that is stopped late by the lag: one project's calls cross it while a billing cycle is open, enforcement
//! learns of that when the cycle closes, and admission refuses until the budget is raised.

use std::time::Duration;

use reqwest::Method;
use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::time::Timestamp;

use super::DemoError;
use super::books::{self, money};
use super::cast::{Cast, text};
use super::play::Player;
use super::script::{Call, Hour};
use super::show::clock_time;
use crate::cli::client::ClientError;
use crate::clock::Stopwatch;

/// Seconds into a billing cycle at which the budget is crossed.
const CROSSED_AFTER: i64 = 240;
/// Seconds for which requests are refused before somebody raises the budget.
const REFUSED_FOR: i64 = 360;
/// The code of a refusal by a daily budget.
const REFUSED: &str = "project_daily_budget";
/// How long the first refusal may take to be written down.
const NOTED_WITHIN: Duration = Duration::from_secs(20);

/// Which project gets a budget, and how much.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    organization: usize,
    project: usize,
    limit: Decimal,
    /// What it is raised to: more than all of its calls cost.
    raised: Decimal,
    raise_at: Timestamp,
}

/// How far it has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Course {
    told_crossed: bool,
    told_stopped: bool,
    /// When admission refused first.
    first_refused: Option<Timestamp>,
    pub(super) refused: u64,
    raised: bool,
}

impl Plan {
    /// The budget that the calls of the hour cross in its second billing cycle, so much that the cycle's close comes six
    /// minutes later. `None`: there are too few calls for any, or days change in the hour.
    pub(super) fn of(hour: &Hour, calls: &[Call], cast: &Cast) -> Option<Self> {
        let crossed = first_close(hour)?.plus_seconds(CROSSED_AFTER);
        let organization = cast.organizations.iter().position(|organization| {
            // A day's budget that two days share would not be crossed.
            organization.zone.day(hour.start) == organization.zone.day(hour.end)
        })?;
        let project = 0;
        let of_it = |call: &&Call| {
            let key = cast.keys.get(call.key);
            key.is_some_and(|key| key.organization == organization && key.project == project)
        };
        let cost = |calls: &mut dyn Iterator<Item = &Call>| -> Decimal {
            calls.filter_map(|call| books::cost_of_call(call.model, call.tokens)).sum()
        };
        let before = cost(&mut calls.iter().filter(of_it).filter(|call| call.at < crossed));
        let limit = before.round_dp_with_strategy(2, RoundingStrategy::ToZero);
        let raised = cost(&mut calls.iter().filter(of_it)).ceil() + Decimal::ONE;
        let closes = crossed.plus_seconds(i64::from(LagModel::default().cycle_seconds) - CROSSED_AFTER);
        let raise_at = closes.plus_seconds(REFUSED_FOR);
        (limit > Decimal::ZERO).then_some(Self { organization, project, limit, raised, raise_at })
    }

    /// When the budget is raised.
    pub(super) const fn raise_at(&self) -> Timestamp {
        self.raise_at
    }
}

/// The first cycle's end in the hour.
fn first_close(hour: &Hour) -> Option<Timestamp> {
    let lag = LagModel::default();
    let before = lag.last_boundary(hour.start)?;
    Some(before.plus_seconds(i64::from(lag.cycle_seconds)))
}

impl Player<'_> {
    fn budgeted(&self) -> Option<(&Plan, &super::cast::Organization, &str, String)> {
        let plan = self.plan.as_ref()?;
        let organization = self.cast.organizations.get(plan.organization)?;
        let (project, name) = organization.projects.get(plan.project)?;
        let path = format!("/v1/organizations/{}/projects/{project}/budgets", organization.id);
        Some((plan, organization, name, path))
    }

    /// Sets the budget before anything is used.
    pub(super) async fn set_budget(&self) -> Result<(), DemoError> {
        let Some((plan, organization, name, path)) = self.budgeted() else { return Ok(()) };
        let limit = plan.limit;
        self.admin.write(Method::PUT, &path, &json!({ "daily": limit.to_string(), "monthly": null })).await?;
        let line = format!("{} gives {name} {limit} USD a day", organization.name);
        self.stage.tell(self.hour.start, "budget", &line);
        Ok(())
    }

    /// What the project has spent by our own books.
    fn spent(&self) -> Decimal {
        let Some((plan, organization, ..)) = self.budgeted() else { return Decimal::ZERO };
        let project = organization.projects.get(plan.project).map(|(id, _)| id.as_str());
        let cells = self.books.cells.iter();
        let of_it = cells.filter(|([_, of, ..], _)| Some(of.as_str()) == project);
        of_it.map(|(_, sums)| sums.cost).sum::<Decimal>().normalize()
    }

    /// Whether a call is made: once the project has spent its budget, admission is asked before each.
    pub(super) async fn passes(&mut self, at: Timestamp, call: &Call) -> Result<bool, DemoError> {
        let Some(plan) = &self.plan else { return Ok(true) };
        let Some(key) = self.cast.keys.get(call.key) else { return Ok(true) };
        let of_it = key.organization == plan.organization && key.project == plan.project;
        if !of_it || self.course.raised || self.spent() < plan.limit {
            return Ok(true);
        }
        let body = json!({
            "api_key": key.secret,
            "model": call.model,
            "input_tokens": call.tokens.input,
            "max_output_tokens": call.tokens.output,
        });
        match self.gateway.write(Method::POST, "/v1/admissions", &body).await {
            Ok(admitted) => {
                // What it used is reported like everybody's, without the lease.
                let path = format!("/v1/admissions/{}", text(&admitted, "lease")?);
                self.gateway.write(Method::DELETE, &path, &json!({})).await?;
                Ok(true)
            }
            Err(ClientError::Refused(refusal)) => {
                let code = refusal.body.pointer("/error/code").and_then(Value::as_str);
                if code != Some(REFUSED) {
                    // This hour is not about rate limits.
                    return Ok(true);
                }
                if self.course.first_refused.is_none() {
                    self.course.first_refused = Some(at);
                    self.first_refusal(at, &refusal.body).await?;
                }
                self.course.refused = self.course.refused.saturating_add(1);
                Ok(false)
            }
            Err(other) => Err(other.into()),
        }
    }

    async fn first_refusal(&self, at: Timestamp, body: &Value) -> Result<(), DemoError> {
        let Some((_, _, name, path)) = self.budgeted() else { return Ok(()) };
        let resets = text(body, "error/metadata/resets_at")?;
        self.stage.tell(at, "refused", &format!("{name}: 429 {REFUSED}, resets at {resets}"));
        // It is written down beside the answer, not before it.
        let waiting = Stopwatch::start();
        loop {
            let answer = self.admin.get(&path, &[]).await?;
            if answer.pointer("/daily/breaches/0/first_refused_at").is_some_and(Value::is_string) {
                return Ok(());
            }
            if waiting.elapsed() > NOTED_WITHIN {
                return Err(DemoError::Differs(format!("nobody wrote down the first refusal: {answer}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tells once that the budget is crossed, and once that enforcement knows.
    pub(super) async fn watch_budget(&mut self, at: Timestamp) -> Result<(), DemoError> {
        let Some((plan, _, name, path)) = self.budgeted() else { return Ok(()) };
        if self.course.told_stopped || self.spent() < plan.limit {
            return Ok(());
        }
        self.folded().await?;
        let answer = self.admin.get(&path, &[]).await?;
        let blocked = text(&answer, "daily/state")? == "blocked";
        let breach = answer.pointer("/daily/breaches/0").cloned().unwrap_or_default();
        if !self.course.told_crossed {
            let line = format!(
                "{name} has spent {} of its {} USD, {} of that pending: requests still pass",
                money(&breach, "spent")?,
                plan.limit,
                money(&answer, "daily/pending")?,
            );
            self.stage.tell(at, "crossed", &line);
        }
        if blocked {
            let line =
                format!("{name}: {} USD are settled, no request passes", money(&answer, "daily/settled")?);
            self.stage.tell(at, "stopped", &line);
        }
        self.course.told_crossed = true;
        self.course.told_stopped = blocked;
        Ok(())
    }

    /// Whether enforcement stopped the project.
    pub(super) const fn stopped(&self) -> bool {
        self.course.told_stopped
    }

    /// Raises the budget, says what the lag cost, and holds that against our own books.
    pub(super) async fn raise_budget(&mut self, at: Timestamp) -> Result<(), DemoError> {
        self.folded().await?;
        let spent = self.spent();
        let Some((plan, organization, name, path)) = self.budgeted() else { return Ok(()) };
        if spent < plan.limit {
            return Ok(());
        }
        let body = json!({ "daily": plan.raised.to_string(), "monthly": null });
        let answer = self.admin.write(Method::PUT, &path, &body).await?;
        let breach = answer.pointer("/daily/breaches/0").cloned().unwrap_or_default();
        let (beyond, limit) = (money(&breach, "overshoot")?, money(&breach, "limit")?);
        let equal = money(&breach, "spent")? == spent
            && limit == plan.limit.normalize()
            && beyond == (spent - limit).normalize()
            && text(&answer, "daily/state")? == "open";
        if !equal {
            return Err(DemoError::Differs(format!("{name} spent {spent} of {limit} USD: {answer}")));
        }
        let instant = |member| -> Result<Option<Timestamp>, DemoError> {
            match text(&breach, member) {
                Ok(at) => at.parse().map(Some).map_err(|_| super::cast::missing(&breach, member)),
                Err(_) => Ok(None),
            }
        };
        let instants = [instant("crossed_at")?, instant("visible_at")?, instant("first_refused_at")?];
        if !instants.iter().flatten().is_sorted() || instants[2] != self.course.first_refused {
            return Err(DemoError::Differs(format!("the instants of a breach: {breach}")));
        }
        let shown = instants.map(|at| at.map_or_else(|| "–".to_owned(), clock_time));
        let [crossed, visible, refused] = shown;
        let count = self.course.refused;
        let line = format!(
            "{} raises it to {} USD: requests pass at once; {count} were refused",
            organization.name, plan.raised
        );
        self.stage.tell(at, "raised", &line);
        let line = format!(
            "crossed {crossed}, visible {visible}, first refusal {refused}; the lag cost {beyond} USD beyond {limit}"
        );
        self.stage.tell(at, "overshoot", &line);
        self.course.raised = true;
        Ok(())
    }
}
