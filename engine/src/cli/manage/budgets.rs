//! Budgets of projects, what came of them, and spend notifications (R6).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::table::text;
use super::{Call, Calls, ManageError, PageArgs, ProjectArg, Setting};

const BUDGETS: &[&str] = &["period", "limit", "settled", "pending", "state", "resets_at", "overshoot"];
const BREACHES: &[&str] = &[
    "period",
    "starts",
    "limit",
    "crossed_at",
    "visible_at",
    "first_refused_at",
    "spent_when_visible",
    "spent",
    "overshoot",
    "ended_at",
    "ended",
];
const NOTIFICATIONS: &[&str] = &["daily", "monthly"];

/// Budgets of projects.
#[derive(Debug, Subcommand)]
pub(in super::super) enum BudgetCommand {
    /// Show what a project spent of its budgets today and this month
    Show(ProjectArg),
    /// Set both budgets of a project; `none` takes one away
    Set(SetArgs),
    /// List when its budgets were reached, when that was known, and what the delay cost
    Breaches(BreachArgs),
    /// Show the amounts of spend at which it is told
    Notifications(ProjectArg),
    /// Set the amounts of spend at which it is told; without any it is told nothing
    Notify(NotifyArgs),
}

/// Budgets to set.
#[derive(Args, Debug)]
pub(in super::super) struct SetArgs {
    #[command(flatten)]
    project: ProjectArg,
    /// What may be spent in a day, such as 50.00
    #[arg(long, value_name = "AMOUNT|none", allow_negative_numbers = true)]
    daily: Setting<String>,
    /// What may be spent in a month
    #[arg(long, value_name = "AMOUNT|none", allow_negative_numbers = true)]
    monthly: Setting<String>,
    /// What is compared: settled consumption, which is late, or all of it [default: as before]
    #[arg(long, value_parser = ["settled", "strict"])]
    enforcement: Option<String>,
}

/// Which breaches.
#[derive(Args, Debug)]
pub(in super::super) struct BreachArgs {
    #[command(flatten)]
    project: ProjectArg,
    /// The first day on which the day or month may have begun
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// The last such day
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

/// Amounts at which a project is told.
#[derive(Args, Debug)]
pub(in super::super) struct NotifyArgs {
    #[command(flatten)]
    project: ProjectArg,
    /// Of a day, such as 5,10.50
    #[arg(long, value_name = "AMOUNT,…", value_delimiter = ',')]
    daily: Vec<String>,
    /// Of a month
    #[arg(long, value_name = "AMOUNT,…", value_delimiter = ',')]
    monthly: Vec<String>,
}

impl Calls for BudgetCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Show(project) => {
                Call::get(project.path("/budgets"), BUDGETS).rows(by_period).note(compared_when)
            }
            Self::Set(SetArgs { project, daily, monthly, enforcement }) => {
                let mut body = json!({ "daily": daily.0, "monthly": monthly.0 });
                if let (Some(body), Some(enforcement)) = (body.as_object_mut(), enforcement) {
                    body.insert("enforcement".to_owned(), enforcement.into());
                }
                let call = Call::write(Method::PUT, project.path("/budgets"), body, BUDGETS);
                call.rows(by_period).note(compared_when)
            }
            Self::Breaches(BreachArgs { project, from, to, page }) => {
                Call::get(project.path("/breaches"), BREACHES).query("from", from).query("to", to).page(page)
            }
            Self::Notifications(project) => Call::get(project.path("/spend-notifications"), NOTIFICATIONS),
            Self::Notify(NotifyArgs { project, daily, monthly }) => {
                let body = json!({ "daily": daily, "monthly": monthly });
                Call::write(Method::PUT, project.path("/spend-notifications"), body, NOTIFICATIONS)
            }
        })
    }
}

/// One row for the day and one for the month.
fn by_period(mut answer: Value) -> Value {
    let mut row = |period: &str| {
        let mut row = answer.get_mut(period).map(Value::take).unwrap_or_default();
        if let Some(members) = row.as_object_mut() {
            members.insert("period".to_owned(), period.into());
        }
        row
    };
    json!({ "items": [row("daily"), row("monthly")] })
}

/// Says what is compared, and how late that is.
fn compared_when(answer: &Value) -> Option<String> {
    let part = |pointer: &str| answer.pointer(pointer).map(text).filter(|text| !text.is_empty());
    let delay = part("/cycle/delay_seconds").filter(|delay| delay != "0");
    let closes = match part("/cycle/closes_at") {
        Some(at) => format!("the billing cycle closes at {at}"),
        None => "usage settles at once".to_owned(),
    };
    let shows = delay.map_or_else(String::new, |delay| format!(" and shows {delay} s later"));
    Some(format!("enforcement: {}; {closes}{shows}", part("/enforcement")?))
}
