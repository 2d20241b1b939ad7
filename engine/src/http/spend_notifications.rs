//! Amounts of settled spend at which a project is told (R6.4).

use serde_json::Value;
use tollbook_projections::budget::Notifications;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::{Fault, Problem};
use super::reading::{Reading, read_organization};
use super::shape::{Described, FromJson, Parts, Shape, answer, request};
use super::write::{Changed, Write};
use crate::permission::Action;

/// Amounts of one period. More of them tell nobody more, and each is looked at whenever something settles.
const AMOUNTS_MAX: usize = 20;

const NOTIFICATIONS: &str = "/v1/organizations/{org}/projects/{project}/spend-notifications";

/// Of the family that spend begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "setSpendNotifications",
        summary: "Set the amounts at which a project is told",
        more: "Each amount is told once in a day or month, when settled spend reaches it; one that is reached already, at \
               once. Empty lists tell nothing. Amounts are kept in order, each once.",
    };
    routes.write(Verb::Put, NOTIFICATIONS, says, set);
    let says =
        Says { id: "getSpendNotifications", summary: "See the amounts at which a project is told", more: "" };
    routes.read(NOTIFICATIONS, says, show);
}

request! {
    /// Amounts to set.
    pub(super) struct NewSpendNotifications {
        /// Of settled spend in a day.
        daily: Amounts,
        /// Of settled spend in a month.
        monthly: Amounts,
    }
}

answer! {
    /// Amounts of settled spend at which a project is told.
    pub(super) struct SpendNotifications {
        /// In a day, rising.
        daily: Vec<Amount>,
        /// In a month, rising.
        monthly: Vec<Amount>,
    }
}

/// Amounts of more than 0, not too many.
#[derive(Debug)]
pub(super) struct Amounts(Vec<Amount>);

impl Shape for Amounts {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(Amount::describe(parts)).max_items(Some(AMOUNTS_MAX)).into()
    }
}

impl FromJson for Amounts {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        let amounts = Vec::<Amount>::read(path, value, faults)?;
        if amounts.len() > AMOUNTS_MAX {
            faults.push(Fault::at(path, None, format!("must hold at most {AMOUNTS_MAX} amounts")));
        }
        for (index, amount) in amounts.iter().enumerate().filter(|(_, amount)| !amount.is_positive()) {
            let (field, value) = (format!("{path}[{index}]"), Value::from(amount.to_string()));
            faults.push(Fault::at(&field, Some(value), "must be more than 0"));
        }
        (faults.len() == before).then_some(Self(amounts))
    }
}

async fn set(
    Write { path: (org, project), body, author }: Write<(OrgId, ProjectId), NewSpendNotifications>,
) -> Result<Changed<SpendNotifications>, Problem> {
    let NewSpendNotifications { daily: Amounts(daily), monthly: Amounts(monthly) } = body;
    let command = OrganizationCommand::SetSpendNotifications { project: project.clone(), daily, monthly };
    let done = author.decide(&org, command).await?;
    let wanted = project.clone();
    let read = read_organization(&author.node, &org, move |known| {
        known.projects.get(&wanted).map(|project| project.watch.notifications.clone())
    });
    let notifications = read.await?.ok_or(Rejection::ProjectUnknown(project))?;
    Ok(Changed::new(done, shown(notifications)))
}

async fn show(
    Reading { path: (org, project), at, .. }: Reading<(OrgId, ProjectId)>,
) -> Result<Json<SpendNotifications>, Problem> {
    let wanted = project.clone();
    let read = at.organization(&org, Action::SeeProjectFigures(project.clone()), move |known| {
        known.projects.get(&wanted).map(|project| project.watch.notifications.clone())
    });
    Ok(Json(shown(read.await?.ok_or(Rejection::ProjectUnknown(project))?)))
}

fn shown(notifications: Notifications) -> SpendNotifications {
    let Notifications { daily, monthly } = notifications;
    SpendNotifications { daily, monthly }
}
