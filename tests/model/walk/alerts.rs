//! The walk's budgets and alerts.

use rand::RngExt;
use rust_decimal::Decimal;
use tollbook_projections::budget::{Breach, BreachEnd, EndedBreach};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::policy::Defaults;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_tests::oracle::OracleOrganization;
use tollbook_tests::oracle::alerts::{OracleAlert, OracleBreach, PERIODS};
use tollbook_tests::script::alerts::alert_word;

use super::Walk;

impl Walk {
    /// One command about budgets and alerts.
    pub(super) fn alerts(&mut self) {
        let id = if self.chance(900) {
            OrgId::from_bits(self.rng.random_range(1..4))
        } else {
            self.any_organization()
        };
        let command = match self.below(100) {
            0..45 => self.budgets(&id),
            45..60 => {
                let project = self.watched_project(&id);
                let (mut daily, mut monthly) = (Vec::new(), Vec::new());
                for _ in 0..self.below(4) {
                    daily.push(self.near(&id, &project, Period::Daily));
                    monthly.push(self.near(&id, &project, Period::Monthly));
                }
                OrganizationCommand::SetSpendNotifications { project, daily, monthly }
            }
            60..80 => self.refusal(&id),
            80..92 => {
                let available = self.ledger.state.organization(&id).map(|known| known.purse.available());
                let near = available.filter(|_| self.chance(600)).unwrap_or(Amount::whole(3));
                let more = Amount::from_units(self.rng.random_range(-2..3) * 1_000_000_000_000).unwrap();
                let threshold = near.checked_add(more).filter(|_| self.chance(850));
                OrganizationCommand::SetBalanceAlert(threshold)
            }
            _ => {
                let threshold = [None, Some(1), Some(5), Some(5), Some(8), Some(30)][self.below(6)];
                let balance_alert_threshold = threshold.map(Amount::whole);
                let defaults = Defaults { balance_alert_threshold, ..self.ledger.state.config().defaults };
                return self.command(&Command::Config(ConfigCommand::SetDefaults(defaults)));
            }
        };
        let budgets = matches!(command, OrganizationCommand::SetBudgets { .. });
        self.command(&Command::Organization(id.clone(), command));
        if budgets && self.chance(300) {
            // What was just reached may not be so any more.
            self.unuse(&id);
        }
    }

    /// One of few projects, so that something happens to those that are watched.
    fn watched_project(&mut self, id: &OrgId) -> ProjectId {
        let projects = self.oracle.find(id).map_or_else(Vec::new, |known| known.projects.clone());
        match projects.len().min(3) {
            _ if self.chance(30) => ProjectId::from_bits(0),
            0 => ProjectId::from_bits(0),
            few => projects[self.below(few)].clone(),
        }
    }

    /// An amount around what a project consumed in the period that runs.
    fn near(&mut self, id: &OrgId, project: &ProjectId, period: Period) -> Amount {
        let consumed = self.oracle.find(id).map_or(Decimal::ZERO, |known| {
            known.consumed(project, period, known.date(self.oracle.recorded_at))
        });
        let percent = [50, 90, 100, 100, 100, 101, 150, 300][self.below(8)];
        let more = Decimal::new([0, 0, 1, 500, 20_000, -1][self.below(6)], 3);
        let near = (consumed * Decimal::new(percent, 2) + more).round_dp(6);
        Amount::try_from(near).unwrap()
    }

    fn budgets(&mut self, id: &OrgId) -> OrganizationCommand {
        let project = self.watched_project(id);
        let mut some = |period| {
            let amount = match self.below(12) {
                0 => Amount::ZERO,
                _ => self.near(id, &project, period),
            };
            Some(amount).filter(|_| self.chance(750))
        };
        let (daily, monthly) = (some(Period::Daily), some(Period::Monthly));
        let enforcement = [None, None, Some(Enforcement::Settled), Some(Enforcement::Strict)][self.below(4)];
        OrganizationCommand::SetBudgets { project, daily, monthly, enforcement }
    }

    /// A refusal of a breach that is known, or of none.
    fn refusal(&mut self, id: &OrgId) -> OrganizationCommand {
        let mut breaches = Vec::new();
        for watch in self.oracle.find(id).map_or(&[][..], |known| known.watches.as_slice()) {
            let seen = watch.open().filter_map(|breach| Some((breach.period, breach.visible?)));
            breaches.extend(seen.map(|(period, visible)| (watch.project.clone(), period, visible)));
        }
        let (project, period, (from, at)) = match breaches.len() {
            0 => (self.watched_project(id), Period::Daily, (0, self.ledger.now)),
            known => breaches[self.below(known)].clone(),
        };
        let visible_from = LogPosition { partition: PartitionId(0), position: Position(from) };
        let refused_at = at.plus_seconds(self.rng.random_range(0..100));
        OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, refused_at }
    }

    /// What was told, and which breaches ended, since this was last compared.
    pub(super) fn compare_told(&mut self) {
        let place = self.place();
        let since = self.compared[0];
        let new = &self.ledger.alerts[since..];
        let mut given: Vec<OracleAlert> = new
            .iter()
            .map(|alert| OracleAlert {
                organization: alert.organization.clone(),
                position: alert.position.position.0,
                kind: alert.kind().code().to_owned(),
                number: alert.number,
                at: alert.raised_at,
                said: alert_word(alert),
            })
            .collect();
        let mut expected = self.oracle.alerts[since.min(self.oracle.alerts.len())..].to_vec();
        given.sort();
        expected.sort();
        assert_eq!(given, expected, "{place}: alerts");
        self.compared[0] = self.ledger.alerts.len();
        for alert in given {
            self.reach(format!("alert: {}", alert.kind));
            if alert.organization.is_none() {
                self.reach("alert: of nobody");
            }
            if alert.number > 0 {
                self.reach("alert: several of a kind in an entry");
            }
        }
        let over = self.ledger.breaches[self.compared[1]..].to_vec();
        self.compared[1] = self.ledger.breaches.len();
        for (id, project, ended) in over {
            let watches = &self.oracle.find(&id).unwrap().watches;
            let watch = watches.iter().find(|watch| watch.project == project).unwrap();
            let given = shown(&ended.breach, Some(&ended));
            assert!(watch.breaches.contains(&given), "{place}: {project}: {given:?} of {:?}", watch.breaches);
            self.reach_breach(&ended);
        }
    }

    fn reach_breach(&mut self, ended: &EndedBreach) {
        self.reach(format!("breach: {}", end_name(ended.end)));
        if ended.breach.period == Period::Monthly {
            self.reach("breach: of a month");
        }
        if ended.breach.visible.is_none() {
            self.reach("breach: never seen");
        }
        if ended.breach.first_refused_at.is_some() {
            self.reach("breach: refused");
        }
        if ended.overshoot().is_positive() {
            self.reach("breach: overshoot");
        }
    }

    /// Budgets of an organization, its breaches, and what refuses requests.
    pub(super) fn compare_watches(&self, expected: &OracleOrganization) {
        let (place, id) = (self.place(), &expected.id);
        let given = self.ledger.state.organization(id).unwrap();
        let now = self.oracle.recorded_at;
        let today = given.calendar.day(now);
        let of = |project: &ProjectId| {
            self.ledger.breaches.iter().filter(|(of, whose, _)| (of, whose) == (id, project)).count()
        };
        for (project, known) in given.projects.iter() {
            let watch = expected.watches.iter().find(|watch| watch.project == *project);
            let Some(watch) = watch else {
                assert!(known.watch.breaches().is_empty(), "{place}: {project}");
                continue;
            };
            let mut open: Vec<OracleBreach> =
                known.watch.breaches().iter().map(|breach| shown(breach, None)).collect();
            let mut wanted: Vec<OracleBreach> = watch.open().cloned().collect();
            open.sort();
            wanted.sort();
            assert_eq!(open, wanted, "{place}: breaches of {project}");
            assert_eq!(of(project) + open.len(), watch.breaches.len(), "{place}: breaches of {project}");
            for breach in known.watch.breaches() {
                let Some(visible) = breach.visible else { continue };
                let wanted = watch.open().find(|known| **known == shown(breach, None)).unwrap();
                let by_then = expected.by_then(project, wanted);
                assert_eq!(Some(visible.spent.to_decimal()), by_then, "{place}: {project}: {breach:?}");
            }
            for (number, period) in PERIODS.into_iter().enumerate() {
                let limit = known.watch.budgets.limit(period).map(Amount::to_decimal);
                assert_eq!(limit, watch.budgets[number], "{place}: {project}");
                let stop = known.watch.stop(&known.spend, period, &given.calendar, today);
                let refuses = stop
                    .filter(|stop| stop.from <= now && now < stop.resets_at)
                    .map(|stop| (stop.limit.to_decimal(), stop.spent.to_decimal(), stop.resets_at));
                assert_eq!(refuses, expected.refusing(watch, number, now), "{place}: {project} {period:?}");
            }
        }
    }

    /// What budgets there are at the moment, for what a run reached.
    pub(super) fn reach_budgets(&mut self) {
        let mut reached = Vec::new();
        let now = self.oracle.recorded_at;
        for organization in self.ledger.state.organizations() {
            let today = organization.calendar.day(now);
            for project in organization.projects.values() {
                let budgets = &project.watch.budgets;
                for period in PERIODS {
                    let Some(limit) = budgets.limit(period) else { continue };
                    if limit.is_zero() {
                        reached.push("budget: of nothing");
                    }
                    if budgets.enforcement == Enforcement::Strict {
                        reached.push("budget: strict");
                    }
                    let stop = project.watch.stop(&project.spend, period, &organization.calendar, today);
                    if let Some(stop) = stop {
                        let delayed = now < stop.from;
                        reached.push(if delayed { "breach: seen after a delay" } else { "budget: refuses" });
                    }
                }
            }
        }
        for what in reached {
            self.reach(what);
        }
    }
}

const fn end_name(end: BreachEnd) -> &'static str {
    match end {
        BreachEnd::PeriodOver => "period_over",
        BreachEnd::BudgetChanged => "budget_changed",
        BreachEnd::Corrected => "corrected",
    }
}

/// A breach as the oracle has it.
fn shown(breach: &Breach, over: Option<&EndedBreach>) -> OracleBreach {
    OracleBreach {
        period: breach.period,
        starts: breach.starts.date(),
        limit: breach.limit.to_decimal(),
        crossed: (breach.crossed_at, breach.crossed_in.0),
        visible: breach.visible.map(|visible| (visible.from.0, visible.at)),
        refused: breach.first_refused_at,
        over: over.map(|over| {
            let by_then = breach.visible.map(|visible| visible.spent.to_decimal());
            (over.at, end_name(over.end), over.spent.to_decimal(), by_then)
        }),
    }
}
