//! The balance below which an organization is told (R7.1).

use tollbook_projections::organization::Organization;
use tollbook_projections::state::State;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::OrgId;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::reading::{Reading, read_state};
use super::shape::{OrNull, answer, request};
use super::write::{Changed, Write};
use crate::permission::Action;

const BALANCE_ALERT: &str = "/v1/organizations/{org}/balance-alert";

/// Of the family that money begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "setBalanceAlert",
        summary: "Set the balance below which an organization is told, or have it told nothing",
        more: "It is told once when the available balance drops below the threshold, and again only after the balance \
               was back at or above it. A threshold above the present balance of an organization that has recharged is \
               told at once. From then on the organization has its own threshold, and the ledger's default does not \
               count for it, nor does a change of that.",
    };
    routes.write(Verb::Put, BALANCE_ALERT, says, set);
    let says = Says {
        id: "getBalanceAlert",
        summary: "See the balance below which an organization is told",
        more: "",
    };
    routes.read(BALANCE_ALERT, says, show);
}

request! {
    /// A threshold to set.
    pub(super) struct NewBalanceAlert {
        /// The available balance below which the organization is told; more than 0, or null: it is told nothing.
        threshold: OrNull<Amount>,
    }
}

answer! {
    /// The balance below which an organization is told.
    pub(super) struct BalanceAlert {
        /// The threshold in force; null: the organization is told nothing.
        threshold: Option<Amount>,
        /// Whether it is the ledger's default, because the organization has none of its own.
        default: bool,
        /// Whether the next drop below the threshold is told: the balance was at or above it since the last time.
        armed: bool,
    }
}

async fn set(
    Write { path: org, body, author }: Write<OrgId, NewBalanceAlert>,
) -> Result<Changed<BalanceAlert>, Problem> {
    let done = author.decide(&org, OrganizationCommand::SetBalanceAlert(body.threshold.0)).await?;
    Ok(Changed::new(done, read_state(&author.node, &org, shown).await?))
}

async fn show(Reading { path: org, at, .. }: Reading<OrgId>) -> Result<Json<BalanceAlert>, Problem> {
    Ok(Json(at.state(&org, Action::ManageMembers, shown).await?))
}

fn shown(state: &State, known: &Organization) -> BalanceAlert {
    let alert = &known.balance_alert;
    let threshold = alert.in_force(state.config().defaults.balance_alert_threshold);
    let armed = alert.armed && threshold.is_some();
    BalanceAlert { threshold, default: alert.threshold.is_none(), armed }
}
