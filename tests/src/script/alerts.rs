//! Rows about budgets, breaches and alerts.

use tollbook_projections::budget::{Breach, BreachEnd, EndedBreach, PERIODS};
use tollbook_projections::organization::Project;
use tollbook_schemas::alert::{Alert, AlertData, BudgetTold};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{Reason, WebhookId};
use tollbook_schemas::policy::Defaults;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::time::{Day, Timestamp};

use super::people::{bare, revocation_name};
use super::{Given, Run, Words, org, project, sealed, words};
use crate::memory::PARTITION;

fn optional(text: &str) -> Option<Amount> {
    Some(text).filter(|text| *text != "none").map(|text| text.parse().unwrap())
}

fn amounts(text: Option<&str>) -> Vec<Amount> {
    text.map_or_else(Vec::new, |text| text.split(',').map(|amount| amount.parse().unwrap()).collect())
}

fn period(text: &str) -> Period {
    match text {
        "daily" => Period::Daily,
        "monthly" => Period::Monthly,
        other => panic!("{other} is no period"),
    }
}

/// The name of a period in scripts.
pub const fn period_name(period: Period) -> &'static str {
    match period {
        Period::Daily => "daily",
        Period::Monthly => "monthly",
    }
}

const fn end_name(end: BreachEnd) -> &'static str {
    match end {
        BreachEnd::PeriodOver => "period_over",
        BreachEnd::BudgetChanged => "budget_changed",
        BreachEnd::Corrected => "corrected",
    }
}

fn webhook(name: &str) -> WebhookId {
    WebhookId::parse(&format!("{}{name}", WebhookId::PREFIX)).unwrap()
}

/// What an alert says, in one word.
pub fn alert_word(alert: &Alert) -> String {
    let said = match &alert.data {
        AlertData::BalanceLow { threshold, available } => format!("{threshold}/{available}"),
        AlertData::BudgetWarning(told) | AlertData::BudgetReached(told) => {
            let BudgetTold { project, period, starts, limit, settled, .. } = told;
            let (project, period) = (bare(project.as_str()), period_name(*period));
            format!("{project}/{period}/{starts}/{settled}/{limit}")
        }
        AlertData::SpendNotification { project, period, starts, amount, settled, .. } => {
            let (project, period) = (bare(project.as_str()), period_name(*period));
            format!("{project}/{period}/{starts}/{settled}/{amount}")
        }
        AlertData::TierChanged { from, to, cumulative_recharge } => {
            let name = |tier: &Option<_>| tier.as_ref().map_or("none".to_owned(), ToString::to_string);
            format!("{}/{}/{cumulative_recharge}", name(from), name(to))
        }
        AlertData::VoucherGranted { amount, expires_at, .. } => {
            expires_at.map_or(amount.to_string(), |at| format!("{amount}/{at}"))
        }
        AlertData::VoucherExpiring { left, expires_at, .. } => format!("{left}/{expires_at}"),
        AlertData::VoucherExpired { lost, .. } => lost.to_string(),
        AlertData::KeyInvalidated { keys } => {
            let keys = keys
                .iter()
                .map(|(key, _, _, why)| format!("{}:{}", bare(key.as_str()), revocation_name(*why)));
            keys.collect::<Vec<_>>().join(",")
        }
        AlertData::RateLimitsScaled(scale) => {
            scale.as_ref().map_or("none".to_owned(), |scale| scale.factor_thousandths.to_string())
        }
        AlertData::UsageQuarantined { place, reason } => format!("{}/{}", reason.code(), place.row),
        AlertData::WebhookDisabled { webhook, reason } => format!("{}/{reason}", bare(webhook.as_str())),
    };
    format!("{}/{said}", alert.kind().code())
}

impl Run {
    /// A row about budgets and alerts; `None` where there is no such row.
    pub(super) fn alerts(&mut self, verb: &str, given: &mut Words<'_>) -> Option<Given> {
        let (places, command) = match verb {
            "budget" => {
                let mut take = |name| given.take(name).map(|text| text.parse().unwrap());
                let (daily, monthly) = (take("daily"), take("monthly"));
                let enforcement = given.take("enforcement").map(|name| match name {
                    "strict" => Enforcement::Strict,
                    "settled" => Enforcement::Settled,
                    other => panic!("nothing is enforced {other}"),
                });
                let project = project(given.word(1));
                (2, OrganizationCommand::SetBudgets { project, daily, monthly, enforcement })
            }
            "notify" => {
                let (daily, monthly) = (amounts(given.take("daily")), amounts(given.take("monthly")));
                let project = project(given.word(1));
                (2, OrganizationCommand::SetSpendNotifications { project, daily, monthly })
            }
            "balance-alert" => (2, OrganizationCommand::SetBalanceAlert(optional(given.word(1)))),
            "webhook" => {
                let (webhook, url, secret) = (webhook(given.word(1)), sealed(), sealed());
                (2, OrganizationCommand::CreateWebhook { webhook, url, secret })
            }
            "disable" => {
                let reason = Reason::parse(given.take("why").unwrap_or("gone")).unwrap();
                (2, OrganizationCommand::DisableWebhook { webhook: webhook(given.word(1)), reason })
            }
            "refused" => {
                let refused_at = given.take("at").map_or(self.ledger.now, |at| at.parse().unwrap());
                let period = period(given.word(2));
                let project = project(given.word(1));
                let watch = &self.project(given).watch;
                // One that nobody knows of any more is asked for too.
                let breach = watch.breaches().iter().rfind(|breach| breach.period == period);
                let from =
                    breach.and_then(|breach| breach.visible).map_or(Position::ZERO, |known| known.from);
                let visible_from = LogPosition { partition: PARTITION, position: from };
                (3, OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, refused_at })
            }
            _ => return self.alerts_question(verb, given),
        };
        given.done(places);
        Some(self.decide(&Command::Organization(org(given.word(0)), command)))
    }

    fn project(&self, given: &Words<'_>) -> &Project {
        &self.organization(given.word(0)).projects[&project(given.word(1))]
    }

    fn alerts_question(&mut self, verb: &str, given: &mut Words<'_>) -> Option<Given> {
        Some(match verb {
            "default-alert" => {
                given.done(1);
                let before = self.ledger.state.config().defaults;
                let defaults = Defaults { balance_alert_threshold: optional(given.word(0)), ..before };
                self.decide(&Command::Config(ConfigCommand::SetDefaults(defaults)))
            }
            "stop" => {
                given.done(2);
                self.stops(given)
            }
            "breach" => {
                let of = given.take("of").map(|day| day.parse().unwrap());
                given.done(3);
                self.breach(given, of)
            }
            "breaches" => {
                given.done(2);
                let shown = self.breaches(given).into_iter().map(|(breach, over)| {
                    let end = over.as_ref().map_or("open", |over| end_name(over.end));
                    let overshoot = self.overshoot(given, &breach, over.as_ref());
                    format!("{}/{}/+{overshoot}/{end}", period_name(breach.period), breach.limit)
                });
                list(shown.collect())
            }
            "alerts" => {
                given.done(1);
                let of = Some(given.word(0)).filter(|name| *name != "-").map(org);
                let mine: Vec<_> = self
                    .ledger
                    .alerts
                    .iter()
                    .filter(|alert| alert.organization == of)
                    .map(alert_word)
                    .collect();
                let asked = self.told.insert(of, mine.len()).unwrap_or_default();
                list(mine.into_iter().skip(asked).collect())
            }
            _ => return None,
        })
    }

    /// What refuses a project's requests now.
    fn stops(&self, given: &Words<'_>) -> Given {
        let (now, organization, project) =
            (self.ledger.now, self.organization(given.word(0)), self.project(given));
        let today = organization.calendar.day(now);
        let stops = PERIODS.into_iter().filter_map(|period| {
            let stop = project.watch.stop(&project.spend, period, &organization.calendar, today)?;
            let refuses = stop.from <= now && now < stop.resets_at;
            let (spent, limit, from, until) = (stop.spent, stop.limit, stop.from, stop.resets_at);
            refuses.then(|| format!("{} {spent}/{limit} from {from} until {until}", period_name(period)))
        });
        list(stops.collect())
    }

    /// Breaches of a project in the order in which they ended, and then those that have not.
    fn breaches(&self, given: &Words<'_>) -> Vec<(Breach, Option<EndedBreach>)> {
        let whose = (org(given.word(0)), project(given.word(1)));
        let ended =
            self.ledger.breaches.iter().filter(|(of, project, _)| (of, project) == (&whose.0, &whose.1));
        let ended = ended.map(|(_, _, over)| (over.breach.clone(), Some(over.clone())));
        let open = self.project(given).watch.breaches().iter().map(|breach| (breach.clone(), None));
        ended.chain(open).collect()
    }

    fn overshoot(&self, given: &Words<'_>, breach: &Breach, over: Option<&EndedBreach>) -> Amount {
        match over {
            Some(over) => over.overshoot(),
            None => {
                let spend = &self.project(given).spend;
                breach.overshoot(spend.consumed(breach.period, breach.starts).unwrap())
            }
        }
    }

    fn breach(&self, given: &Words<'_>, of: Option<Day>) -> Given {
        let period = period(given.word(2));
        let wanted = |breach: &Breach| breach.period == period && of.is_none_or(|day| breach.starts == day);
        let Some((breach, over)) = self.breaches(given).into_iter().rfind(|(breach, _)| wanted(breach))
        else {
            return words("none");
        };
        let at = |at: Option<Timestamp>| at.map_or("never".to_owned(), |at| at.to_string());
        let overshoot = self.overshoot(given, &breach, over.as_ref());
        Given::Values(vec![
            ("of", breach.starts.to_string()),
            ("limit", breach.limit.to_string()),
            ("crossed", breach.crossed_at.to_string()),
            ("visible", at(breach.visible.map(|known| known.at))),
            ("by-then", breach.visible.map_or("never".to_owned(), |known| known.spent.to_string())),
            ("refused", at(breach.first_refused_at)),
            ("overshoot", overshoot.to_string()),
            ("over", at(over.as_ref().map(|over| over.at))),
            ("why", over.as_ref().map_or("open", |over| end_name(over.end)).to_owned()),
        ])
    }
}

fn list(shown: Vec<String>) -> Given {
    if shown.is_empty() { words("none") } else { words(shown.join(" ")) }
}
