//! Everybody's rate limits scaled down while the cluster is at capacity (R5.5).

use std::collections::BTreeSet;

use serde_json::Value;
use tollbook_schemas::command::{ConfigCommand, NewRateScale as Known};
use tollbook_schemas::id::{DisplayName, Reason};
use tollbook_schemas::policy::{self, Factor};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::{Fault, Problem};
use super::reading::Reading;
use super::shape::{Described, FromJson, OrNull, Parts, Shape, answer, request};
use super::write::{Changed, Write};
use crate::node::Node;

const RATE_SCALE: &str = "/v1/config/rate-scale";

/// Of the family that prices begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "setRateScale",
        summary: "Scale everybody's rate limits down for a time",
        more: "Limits and overrides are multiplied by the factor and rounded down, never below 1, from now on and until \
               an instant at which it ends by itself; a factor of null or 1 ends it now. It replaces the scale there was.",
    };
    routes.write(Verb::Put, RATE_SCALE, says, set);
    let says = Says {
        id: "getRateScale",
        summary: "See how everybody's rate limits are scaled down",
        more: "Null where they are not, or no longer.",
    };
    routes.read(RATE_SCALE, says, show);
}

request! {
    /// How to scale everybody's rate limits down.
    pub(super) struct NewRateScale {
        /// What they are multiplied by; null or 1 ends what there is, and the other members say nothing then.
        factor: OrNull<Factor>,
        /// When it ends by itself, which must be in the future; needed with a factor below 1.
        until: Option<Timestamp>,
        /// What customers are told; needed with a factor below 1.
        reason: Option<Reason>,
        /// Only these tiers of the table in force; none or an empty list: all.
        tiers: Option<SomeTiers>,
    }
}

/// Names of tiers, each once.
#[derive(Debug)]
pub(super) struct SomeTiers(Vec<DisplayName>);

impl Shape for SomeTiers {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(DisplayName::describe(parts)).unique_items(true).into()
    }
}

impl FromJson for SomeTiers {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let list = Vec::<DisplayName>::read(path, value, faults)?;
        let mut names = BTreeSet::new();
        for (index, tier) in list.iter().enumerate() {
            if !names.insert(tier) {
                faults.push(Fault::at(&format!("{path}[{index}]"), None, "stands twice in this list"));
            }
        }
        Some(Self(list))
    }
}

impl NewRateScale {
    /// The scale that is asked for; none ends it. Errors: what a factor below 1 needs is missing.
    fn scale(self) -> Result<Option<Known>, Problem> {
        let Some(factor) = self.factor.0.filter(|factor| *factor != Factor::ONE) else { return Ok(None) };
        let (Some(until), Some(reason)) = (&self.until, &self.reason) else {
            let missing = [("until", self.until.is_none()), ("reason", self.reason.is_none())];
            let missing = missing.into_iter().filter(|(_, missing)| *missing);
            let faults =
                missing.map(|(field, _)| Fault::at(field, None, "is missing; a factor below 1 needs it"));
            return Err(Problem::inconsistent(faults.collect()));
        };
        let tiers = self.tiers.map(|tiers| tiers.0).unwrap_or_default();
        Ok(Some(Known { factor, until: *until, reason: reason.clone(), tiers }))
    }
}

answer! {
    /// How everybody's rate limits are scaled down; null: they are not.
    pub(super) struct RateScale {
        /// What they are multiplied by.
        factor: Option<Factor>,
        /// When it ends by itself.
        until: Option<Timestamp>,
        /// What customers are told.
        reason: Option<Reason>,
        /// Only these tiers; empty: all.
        tiers: Vec<DisplayName>,
    }
}

answer! {
    /// How an organization's rate limits are scaled down.
    pub(super) struct ScaleInForce {
        /// What they are multiplied by.
        factor: Factor,
        /// When it ends by itself.
        until: Timestamp,
        /// Why.
        reason: Reason,
    }
}

impl RateScale {
    fn of(scale: Option<&policy::RateScale>) -> Self {
        Self {
            factor: scale.map(policy::RateScale::factor),
            until: scale.map(|scale| scale.until),
            reason: scale.map(|scale| scale.reason.clone()),
            tiers: scale.map(|scale| scale.tiers.clone()).unwrap_or_default(),
        }
    }
}

impl ScaleInForce {
    pub(super) fn of(scale: &policy::RateScale) -> Self {
        Self { factor: scale.factor(), until: scale.until, reason: scale.reason.clone() }
    }
}

async fn set(Write { body, author, .. }: Write<(), NewRateScale>) -> Result<Changed<RateScale>, Problem> {
    let done = author.configure(ConfigCommand::SetRateScale(body.scale()?)).await?;
    Ok(Changed::new(done, in_force(&author.node).await?))
}

async fn show(Reading { at, .. }: Reading<()>) -> Result<Json<RateScale>, Problem> {
    Ok(Json(in_force(&at.node).await?))
}

async fn in_force(node: &Node) -> Result<RateScale, Problem> {
    let now = node.clock().now();
    let owner = node.owner(PartitionId(0))?;
    let read = owner
        .read(move |state| RateScale::of(state.config().rate_scale_at(now.max(state.head().recorded_at))));
    Ok(read.await?)
}
