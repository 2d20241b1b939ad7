//! The model's budgets and alerts: every look adds everything up again, and nothing is kept but what was told and which
//! breaches there were.

use jiff::ToSpan;
use jiff::civil::Date;
use rust_decimal::Decimal;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::time::Timestamp;

use super::money::Here;
use super::{BookedRecord, Expected, Oracle, OracleOrganization, entry};

/// One alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OracleAlert {
    /// Whose; `None`: the platform's own.
    pub organization: Option<OrgId>,
    /// Its entry.
    pub position: u64,
    /// Its kind.
    pub kind: String,
    /// How many of its kind came before it in that entry.
    pub number: u32,
    /// When that was recorded.
    pub at: Timestamp,
    /// What scripts call it.
    pub said: String,
}

/// One breach.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OracleBreach {
    /// Of a day or a month.
    pub period: Period,
    /// The first day of that.
    pub starts: Date,
    /// The budget.
    pub limit: Decimal,
    /// When and by what it was crossed.
    pub crossed: (Timestamp, u64),
    /// What made it known, and from when.
    pub visible: Option<(u64, Timestamp)>,
    /// The first refusal.
    pub refused: Option<Timestamp>,
    /// When and why it ended, what was spent in all, and what was by the time it was known.
    pub over: Option<(Timestamp, &'static str, Decimal, Option<Decimal>)>,
}

/// What is watched of a project, and what was told of it.
#[derive(Clone, Debug)]
pub struct OracleWatch {
    /// The project.
    pub project: ProjectId,
    /// Budgets: of a day, of a month.
    pub budgets: [Option<Decimal>; 2],
    strict: bool,
    notify: [Vec<Decimal>; 2],
    /// By the first day of the period: steps of its budget in hundredths, and amounts.
    steps: Vec<(Period, Date, u32)>,
    amounts: Vec<(Period, Date, Decimal)>,
    /// Every breach there ever was.
    pub breaches: Vec<OracleBreach>,
}

/// Days and months.
pub const PERIODS: [Period; 2] = [Period::Daily, Period::Monthly];

fn text(amount: Decimal) -> String {
    Amount::try_from(amount).unwrap().to_string()
}

fn first(period: Period, day: Date) -> Date {
    match period {
        Period::Daily => day,
        Period::Monthly => day.first_of_month(),
    }
}

fn name(period: Period) -> &'static str {
    match period {
        Period::Daily => "daily",
        Period::Monthly => "monthly",
    }
}

fn bare(project: &ProjectId) -> &str {
    project.as_str().split_once('_').unwrap().1
}

fn breached(limit: Decimal, spent: Decimal) -> bool {
    spent >= limit && spent > Decimal::ZERO
}

impl OracleWatch {
    fn of(project: &ProjectId) -> Self {
        Self {
            project: project.clone(),
            budgets: [None, None],
            strict: false,
            notify: [Vec::new(), Vec::new()],
            steps: Vec::new(),
            amounts: Vec::new(),
            breaches: Vec::new(),
        }
    }

    /// Breaches that are not over.
    pub fn open(&self) -> impl Iterator<Item = &OracleBreach> {
        self.breaches.iter().filter(|breach| breach.over.is_none())
    }

    fn begun(&mut self, period: Period, starts: Date) -> Option<&mut OracleBreach> {
        let is_it = |breach: &&mut OracleBreach| {
            breach.over.is_none() && breach.period == period && breach.starts == starts
        };
        self.breaches.iter_mut().find(is_it)
    }

    fn cross(&mut self, period: Period, starts: Date, limit: Decimal, spent: Decimal, here: Here) {
        if breached(limit, spent) && self.begun(period, starts).is_none() {
            let crossed = (here.at, here.position);
            let (visible, refused, over) = (None, None, None);
            self.breaches.push(OracleBreach { period, starts, limit, crossed, visible, refused, over });
        }
    }

    fn tell_steps(&mut self, period: Period, starts: Date, limit: Decimal, spent: Decimal) -> Vec<String> {
        let full = breached(limit, spent);
        let nearly = full || (limit > Decimal::ZERO && spent * Decimal::from(5) >= limit * Decimal::from(4));
        let mut said = Vec::new();
        for (step, kind, reached) in [(80, "budget_warning", nearly), (100, "budget_reached", full)] {
            if reached && !self.steps.contains(&(period, starts, step)) {
                self.steps.push((period, starts, step));
                let (project, spent, limit) = (bare(&self.project), text(spent), text(limit));
                said.push(format!("{kind}/{project}/{}/{starts}/{spent}/{limit}", name(period)));
            }
        }
        said
    }

    fn tell_amounts(&mut self, place: usize, starts: Date, settled: Decimal) -> Vec<String> {
        let period = PERIODS[place];
        let mut said = Vec::new();
        for amount in self.notify[place].clone() {
            if settled >= amount && !self.amounts.contains(&(period, starts, amount)) {
                self.amounts.push((period, starts, amount));
                let (project, settled, amount) = (bare(&self.project), text(settled), text(amount));
                said.push(format!(
                    "spend_notification/{project}/{}/{starts}/{settled}/{amount}",
                    name(period)
                ));
            }
        }
        said
    }
}

impl OracleOrganization {
    /// When the period ends that begins on a day.
    pub fn period_end(&self, period: Period, starts: Date) -> Timestamp {
        let next = match period {
            Period::Daily => starts.tomorrow().unwrap(),
            Period::Monthly => starts.checked_add(1.month()).unwrap(),
        };
        let midnight = self.zone.to_ambiguous_zoned(next.at(0, 0, 0, 0)).compatible().unwrap();
        midnight.timestamp().try_into().unwrap()
    }

    /// What a project consumed in a period: of the first `settled` records, and of all.
    fn sums(&self, project: &ProjectId, period: Period, starts: Date, settled: usize) -> (Decimal, Decimal) {
        let mut sums = (Decimal::ZERO, Decimal::ZERO);
        // Nothing that was booked a day before a period began lies in it.
        let begins: Timestamp = starts.to_zoned(self.zone.clone()).unwrap().timestamp().try_into().unwrap();
        let earliest = begins.plus_seconds(-86_400);
        for (place, record) in self.booked.iter().enumerate().rev() {
            if record.booked.0 < earliest {
                break;
            }
            if record.project == *project && first(period, record.day) == starts {
                sums.1 += record.amount();
                if place < settled {
                    sums.0 += record.amount();
                }
            }
        }
        sums
    }

    /// What was consumed by the time a breach was known: whatever stands before what made it known, or was recorded before it
    /// was.
    pub fn by_then(&self, project: &ProjectId, breach: &OracleBreach) -> Option<Decimal> {
        let (from, at) = breach.visible?;
        let counts = |record: &&BookedRecord| {
            record.project == *project
                && first(breach.period, record.day) == breach.starts
                && (record.booked.1 <= from || record.booked.0 < at)
        };
        Some(self.booked.iter().filter(counts).map(BookedRecord::amount).sum())
    }

    /// What a project consumed in a period.
    pub fn consumed(&self, project: &ProjectId, period: Period, day: Date) -> Decimal {
        self.sums(project, period, first(period, day), 0).1
    }

    /// What refuses a project's requests from now on until when, whatever was noted: the budget, and what is compared with it.
    pub fn refusing(
        &self,
        watch: &OracleWatch,
        place: usize,
        now: Timestamp,
    ) -> Option<(Decimal, Decimal, Timestamp)> {
        let (period, limit) = (PERIODS[place], watch.budgets[place]?);
        let starts = first(period, self.date(now));
        let (settled, spent) = self.sums(&watch.project, period, starts, self.settled);
        let compared = if watch.strict { spent } else { settled };
        let known = watch.open().find(|breach| breach.period == period && breach.starts == starts);
        let known = known.and_then(|breach| breach.visible);
        let refuses = match known {
            Some((_, at)) => now >= at || limit.is_zero(),
            None => compared >= limit,
        };
        refuses.then(|| (limit, compared, self.period_end(period, starts)))
    }

    fn watch(&mut self, project: &ProjectId) -> OracleWatch {
        let known = self.watches.iter().position(|watch| watch.project == *project);
        known.map_or_else(|| OracleWatch::of(project), |place| self.watches.remove(place))
    }

    fn end(
        &self,
        watch: &mut OracleWatch,
        (period, starts): (Period, Date),
        at: Timestamp,
        why: &'static str,
    ) {
        let (_, spent) = self.sums(&watch.project, period, starts, 0);
        let project = watch.project.clone();
        if let Some(breach) = watch.begun(period, starts) {
            let by_then = self.by_then(&project, breach);
            breach.over = Some((at, why, spent, by_then));
        }
    }

    /// Looks at a project by the first `settled` records.
    fn look_once(
        &self,
        watch: &mut OracleWatch,
        here: Here,
        settled: usize,
        delay: i64,
        told: bool,
    ) -> Vec<String> {
        let mut said = Vec::new();
        for (place, period) in PERIODS.into_iter().enumerate() {
            if watch.budgets[place].is_none() && watch.notify[place].is_empty() {
                continue;
            }
            let starts = first(period, self.date(here.at));
            let (settled, spent) = self.sums(&watch.project, period, starts, settled);
            if told {
                said.extend(watch.tell_amounts(place, starts, settled));
            }
            let Some(limit) = watch.budgets[place] else { continue };
            let compared = if watch.strict { spent } else { settled };
            let against = |breach: &OracleBreach| if breach.visible.is_some() { compared } else { spent };
            if watch.begun(period, starts).is_some_and(|breach| !breached(breach.limit, against(breach))) {
                self.end(watch, (period, starts), here.at, "corrected");
            }
            watch.cross(period, starts, limit, spent, here);
            if let Some(breach) = watch.begun(period, starts)
                && breach.visible.is_none()
                && (watch_knows(told, compared, limit))
            {
                breach.visible = Some((here.position, here.at.plus_seconds(delay)));
            }
            if told || watch.strict {
                said.extend(watch.tell_steps(period, starts, limit, compared));
            }
        }
        said
    }

    /// Looks at a project after something of it was booked; where it `closes`, everything is settled by that.
    fn look(&mut self, project: &ProjectId, here: Here, lag: (i64, i64), closes: bool) -> Vec<String> {
        let delay = lag.1;
        let mut watch = self.watch(project);
        let mut said = if watch.strict {
            self.look_once(&mut watch, here, self.settled, 0, false)
        } else {
            self.look_pending(&mut watch, here);
            Vec::new()
        };
        if closes {
            let today = self.date(here.at);
            let over: Vec<_> = watch
                .open()
                .filter(|breach| breach.starts < first(breach.period, today))
                .map(|breach| (breach.period, breach.starts))
                .collect();
            for (period, starts) in over {
                let end = self.period_end(period, starts);
                self.end(&mut watch, (period, starts), end, "period_over");
            }
            said.extend(self.look_once(&mut watch, here, self.booked.len(), delay, true));
        }
        self.watches.push(watch);
        said
    }

    /// What a budget that waits for closes makes of what is pending.
    fn look_pending(&self, watch: &mut OracleWatch, here: Here) {
        for (place, period) in PERIODS.into_iter().enumerate() {
            let Some(limit) = watch.budgets[place] else { continue };
            let starts = first(period, self.date(here.at));
            let (_, spent) = self.sums(&watch.project, period, starts, 0);
            let unseen =
                |breach: &mut OracleBreach| breach.visible.is_none() && !breached(breach.limit, spent);
            if watch.begun(period, starts).is_some_and(unseen) {
                self.end(watch, (period, starts), here.at, "corrected");
            }
            watch.cross(period, starts, limit, spent, here);
        }
    }

    /// Projects that a close looks at, in order.
    fn to_close(&self) -> Vec<ProjectId> {
        let mut projects = self.projects.clone();
        projects.sort_unstable();
        let pending = |project: &ProjectId| {
            let of_it = |record: &BookedRecord| record.project == *project && !record.cost.is_zero();
            let breached =
                self.watches.iter().any(|watch| watch.project == *project && watch.open().count() > 0);
            breached || self.booked[self.settled..].iter().any(of_it)
        };
        projects.retain(pending);
        projects
    }

    pub(super) fn expect_alerts(&self, command: &OrganizationCommand) -> Expected {
        let known = |project: &ProjectId| self.projects.contains(project);
        let changed = |changed: bool| if changed { entry() } else { Expected::AsItIs };
        let watch = |project: &ProjectId| {
            let known = self.watches.iter().find(|watch| watch.project == *project);
            known.cloned().unwrap_or_else(|| OracleWatch::of(project))
        };
        match command {
            OrganizationCommand::SetBalanceAlert(threshold) => match threshold.map(|at| at.to_decimal()) {
                Some(threshold) if threshold <= Decimal::ZERO => Expected::Refused("amount_not_positive"),
                threshold => changed(self.threshold != Some(threshold)),
            },
            OrganizationCommand::SetBudgets { project, .. }
            | OrganizationCommand::SetSpendNotifications { project, .. }
                if !known(project) =>
            {
                Expected::Refused("project_not_found")
            }
            OrganizationCommand::SetBudgets { project, daily, monthly, enforcement } => {
                let before = watch(project);
                let wanted = [daily, monthly].map(|amount| amount.as_ref().map(|amount| amount.to_decimal()));
                let strict = enforcement.map_or(before.strict, |how| how == Enforcement::Strict);
                if wanted.iter().flatten().any(|amount| *amount < Decimal::ZERO) {
                    return Expected::Refused("amount_not_positive");
                }
                changed(wanted != before.budgets || strict != before.strict)
            }
            OrganizationCommand::SetSpendNotifications { project, daily, monthly } => {
                if daily.iter().chain(monthly).any(|amount| amount.to_decimal() <= Decimal::ZERO) {
                    return Expected::Refused("amount_not_positive");
                }
                changed([rising(daily), rising(monthly)] != watch(project).notify)
            }
            OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, .. } => {
                let from = visible_from.position.0;
                let first = |breach: &OracleBreach| {
                    breach.period == *period
                        && breach.refused.is_none()
                        && breach.visible.is_some_and(|visible| visible.0 == from)
                };
                changed(watch(project).open().any(first))
            }
            other => panic!("{other:?} is not about alerts"),
        }
    }

    /// What is told because of a command about budgets.
    pub(super) fn happen_alerts(&mut self, command: &OrganizationCommand, here: Here) -> Vec<String> {
        match command {
            OrganizationCommand::SetBalanceAlert(threshold) => {
                self.threshold = Some(threshold.map(|threshold| threshold.to_decimal()));
                self.armed = self.has_recharged();
                Vec::new()
            }
            OrganizationCommand::SetBudgets { project, daily, monthly, enforcement } => {
                let wanted = [daily, monthly].map(|amount| amount.as_ref().map(|amount| amount.to_decimal()));
                let mut watch = self.watch(project);
                let strict = enforcement.map_or(watch.strict, |how| how == Enforcement::Strict);
                let said = self.set_budgets(&mut watch, wanted, strict, here);
                self.watches.push(watch);
                said
            }
            OrganizationCommand::SetSpendNotifications { project, daily, monthly } => {
                let mut watch = self.watch(project);
                watch.notify = [rising(daily), rising(monthly)];
                let mut said = Vec::new();
                for (place, period) in PERIODS.into_iter().enumerate() {
                    let starts = first(period, self.date(here.at));
                    let (settled, _) = self.sums(project, period, starts, self.settled);
                    said.extend(watch.tell_amounts(place, starts, settled));
                }
                self.watches.push(watch);
                said
            }
            OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, refused_at } => {
                let from = visible_from.position.0;
                let mut watch = self.watch(project);
                for breach in &mut watch.breaches {
                    if breach.over.is_none()
                        && breach.period == *period
                        && breach.visible.is_some_and(|visible| visible.0 == from)
                        && breach.refused.is_none()
                    {
                        breach.refused = Some(*refused_at);
                    }
                }
                self.watches.push(watch);
                Vec::new()
            }
            other => panic!("{other:?} is not about alerts"),
        }
    }

    fn set_budgets(
        &self,
        watch: &mut OracleWatch,
        wanted: [Option<Decimal>; 2],
        strict: bool,
        here: Here,
    ) -> Vec<String> {
        let mut said = Vec::new();
        let (before, was_strict) = (watch.budgets, watch.strict);
        (watch.budgets, watch.strict) = (wanted, strict);
        for (place, period) in PERIODS.into_iter().enumerate() {
            let another = before[place] != wanted[place];
            if !another && was_strict == strict {
                continue;
            }
            let starts = first(period, self.date(here.at));
            let (settled, spent) = self.sums(&watch.project, period, starts, self.settled);
            let compared = if strict { spent } else { settled };
            let opens = watch.begun(period, starts).is_some_and(|breach| {
                another || (breach.visible.is_some() && !breached(breach.limit, compared))
            });
            if opens {
                self.end(watch, (period, starts), here.at, "budget_changed");
            }
            if another {
                watch.steps.retain(|told| told.0 != period);
            }
            let Some(limit) = wanted[place] else { continue };
            watch.cross(period, starts, limit, spent, here);
            if let Some(breach) = watch.begun(period, starts)
                && breached(limit, compared)
                && breach.visible.is_none_or(|(_, at)| here.at < at)
            {
                breach.visible = Some((here.position, here.at));
            }
            said.extend(watch.tell_steps(period, starts, limit, compared));
        }
        said
    }

    fn available(&self) -> Decimal {
        self.voucher_balance() + self.cash.max(Decimal::ZERO)
    }

    fn has_recharged(&self) -> bool {
        self.reached(Decimal::new(1, 12))
    }

    /// Whether the balance is low now, and was not.
    fn look_at_balance(&mut self, default: Option<Decimal>) -> Option<String> {
        let threshold = self.threshold.unwrap_or(default)?;
        let available = self.available();
        let low = available < threshold;
        let tells = low && self.armed;
        self.armed = !low || (self.armed && !tells);
        tells.then(|| format!("balance_low/{}/{}", text(threshold), text(available)))
    }
}

/// Whether a look makes a breach known: one at what is settled where that is enough, one at what is pending at once.
fn watch_knows(settled: bool, compared: Decimal, limit: Decimal) -> bool {
    !settled || breached(limit, compared)
}

fn rising(amounts: &[Amount]) -> Vec<Decimal> {
    let mut amounts: Vec<Decimal> = amounts.iter().map(|amount| amount.to_decimal()).collect();
    amounts.sort_unstable();
    amounts.dedup();
    amounts
}

impl Oracle {
    fn raise(&mut self, organization: Option<&OrgId>, here: Here, said: impl IntoIterator<Item = String>) {
        for said in said {
            let kind = said.split('/').next().unwrap().to_owned();
            let same = |known: &&OracleAlert| {
                known.position == here.position
                    && known.organization.as_ref() == organization
                    && known.kind == kind
            };
            let number = u32::try_from(self.alerts.iter().rev().take(500).filter(same).count()).unwrap();
            let organization = organization.cloned();
            self.alerts.push(OracleAlert {
                organization,
                position: here.position,
                kind,
                number,
                at: here.at,
                said,
            });
        }
    }

    fn lag(&self) -> (i64, i64) {
        (self.cycle_seconds, self.delay_seconds)
    }

    /// Everything of a project that was booked by an entry stands.
    pub(super) fn look_at(&mut self, id: &OrgId, project: &ProjectId, here: Here) {
        let lag = self.lag();
        let organization = self.organizations.iter_mut().find(|known| known.id == *id).unwrap();
        let said = organization.look(project, here, lag, lag.0 == 0);
        self.raise(Some(id), here, said);
    }

    /// Looks at everything that a close settles.
    pub(super) fn look_at_all(&mut self, here: Here) {
        let lag = self.lag();
        for place in 0..self.organizations.len() {
            let organization = &mut self.organizations[place];
            let mut said = Vec::new();
            for project in organization.to_close() {
                said.extend(organization.look(&project, here, lag, true));
            }
            let id = organization.id.clone();
            self.raise(Some(&id), here, said);
        }
    }

    /// Looks at the balance of an organization after an entry.
    pub(super) fn look_at_balance(&mut self, id: &OrgId, here: Here) {
        let default = self.default_threshold;
        let organization = self.organizations.iter_mut().find(|known| known.id == *id).unwrap();
        let said = organization.look_at_balance(default);
        self.raise(Some(id), here, said);
    }

    /// Another default holds: who has no threshold of its own sets it, as it were.
    pub(super) fn set_default(&mut self, default: Option<Decimal>, here: Here) {
        let before = std::mem::replace(&mut self.default_threshold, default);
        if before == default || default.is_none() {
            return;
        }
        for place in 0..self.organizations.len() {
            let organization = &mut self.organizations[place];
            if organization.threshold.is_none() {
                organization.armed = organization.has_recharged();
                let id = organization.id.clone();
                self.look_at_balance(&id, here);
            }
        }
    }

    /// What is told of a decision besides its balance and budgets.
    pub(super) fn tell(&mut self, id: &OrgId, here: Here, said: Vec<String>) {
        self.raise(Some(id), here, said);
    }

    /// Whether cumulative recharge reaches another tier than before.
    pub(super) fn tell_tier(&mut self, id: &OrgId, before: Decimal, here: Here) {
        let after = self.find(id).unwrap().cumulative();
        let (from, to) = (self.tier(before, here.at), self.tier(after, here.at));
        if from != to {
            let name = |tier: Option<String>| tier.unwrap_or_else(|| "none".to_owned());
            let said = format!("tier_changed/{}/{}/{}", name(from), name(to), text(after));
            self.raise(Some(id), here, [said]);
        }
    }

    /// A record was quarantined: the first for a reason on a day is told.
    pub(super) fn tell_quarantined(&mut self, whose: Option<&OrgId>, code: &str, row: u32, here: Here) {
        let known = whose.and_then(|id| self.organizations.iter().position(|known| known.id == *id));
        let today = match known {
            Some(place) => self.organizations[place].date(here.at),
            None => here.at.to_jiff().to_zoned(jiff::tz::TimeZone::UTC).date(),
        };
        let told = match known {
            Some(place) => &mut self.organizations[place].quarantine_told,
            None => &mut self.quarantine_told,
        };
        let this = (code.to_owned(), today);
        if !told.contains(&this) {
            told.push(this);
            let whose = known.and(whose).cloned();
            self.raise(whose.as_ref(), here, [format!("usage_quarantined/{code}/{row}")]);
        }
    }
}

/// What is told of vouchers that a command grants or loses.
pub(super) fn voucher_granted(worth: Decimal, expires_at: Option<Timestamp>) -> String {
    let worth = text(worth);
    expires_at.map_or(format!("voucher_granted/{worth}"), |at| format!("voucher_granted/{worth}/{at}"))
}

pub(super) fn voucher_expired(lost: Decimal) -> String {
    format!("voucher_expired/{}", text(lost))
}

pub(super) fn voucher_expiring(left: Decimal, at: Timestamp) -> String {
    format!("voucher_expiring/{}/{at}", text(left))
}
