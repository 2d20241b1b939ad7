//! Configuration of the whole ledger besides prices: the billing cycle.

use serde_json::Value;
use tollbook_schemas::command::ConfigCommand;
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::position::PartitionId;
use utoipa::openapi::schema::KnownFormat;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::{Fault, Problem};
use super::reading::Reading;
use super::shape::{Described, FromJson, Parts, Shape, answer, request};
use super::values::whole;
use super::write::{Changed, Write};
use crate::node::Node;

/// Of the family that prices begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "setBillingCycle",
        summary: "Set the billing cycle",
        more: "A new cycle begins now. Cycles close also while nothing is used.",
    };
    routes.write(Verb::Put, "/v1/config/billing-cycle", says, set_billing_cycle);
    let says = Says { id: "getBillingCycle", summary: "See the billing cycle", more: "" };
    routes.read("/v1/config/billing-cycle", says, billing_cycle);
}

request! {
    /// A billing cycle to set.
    pub(super) struct NewBillingCycle {
        /// Its length; 0 settles at once.
        cycle_seconds: Seconds,
        /// How long after a cycle's close it shows; 0 unless said otherwise.
        delay_seconds: Option<Seconds>,
    }
}

/// Seconds, at most a day of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seconds(u32);

impl Shape for Seconds {
    fn describe(_: &mut Parts) -> Described {
        whole(KnownFormat::Int32, 0, LagModel::SECONDS_MAX.into()).into()
    }
}

impl FromJson for Seconds {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let seconds = u32::read(path, value.clone(), faults)?;
        if seconds > LagModel::SECONDS_MAX {
            let reason = format!("must be at most {} seconds, one day", LagModel::SECONDS_MAX);
            faults.push(Fault::at(path, Some(value), reason));
            return None;
        }
        Some(Self(seconds))
    }
}

answer! {
    /// How late enforcement of budgets may be.
    pub(super) struct BillingCycle {
        /// Length of a cycle; 0 settles at once.
        cycle_seconds: u32,
        /// How long after a cycle's close it shows.
        delay_seconds: u32,
    }
}

async fn set_billing_cycle(
    Write { body, author, .. }: Write<(), NewBillingCycle>,
) -> Result<Changed<BillingCycle>, Problem> {
    let delay_seconds = body.delay_seconds.map_or(0, |seconds| seconds.0);
    let lag = LagModel { cycle_seconds: body.cycle_seconds.0, delay_seconds };
    let done = author.configure(ConfigCommand::SetLagModel(lag)).await?;
    Ok(Changed::new(done, in_force(&author.node).await?))
}

async fn billing_cycle(Reading { at, .. }: Reading<()>) -> Result<Json<BillingCycle>, Problem> {
    Ok(Json(in_force(&at.node).await?))
}

async fn in_force(node: &Node) -> Result<BillingCycle, Problem> {
    let lag = node.owner(PartitionId(0))?.read(|state| state.config().lag).await?;
    Ok(BillingCycle { cycle_seconds: lag.cycle_seconds, delay_seconds: lag.delay_seconds })
}
