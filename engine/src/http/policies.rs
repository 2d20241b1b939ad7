//! The voucher policy (R4.5), and what holds where an organization or a model says nothing else.

use serde_json::Value;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::ConfigCommand;
use tollbook_schemas::policy;
use tollbook_schemas::position::PartitionId;
use utoipa::openapi::schema::KnownFormat;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::kinds::NotNegative;
use super::problem::{Fault, Problem};
use super::reading::Reading;
use super::shape::{Described, FromJson, OrNull, Parts, Shape, answer, request};
use super::values::{Rate, whole};
use super::write::{Changed, Write};
use crate::node::Node;

const VOUCHER_POLICY: &str = "/v1/config/voucher-policy";
const DEFAULTS: &str = "/v1/config/defaults";

/// Of the family that prices begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "setVoucherPolicy",
        summary: "Set which recharges earn a voucher",
        more: "It counts from now on and grants nothing backwards. An amount of 0 grants nothing.",
    };
    routes.write(Verb::Put, VOUCHER_POLICY, says, set_voucher_policy);
    let says = Says { id: "getVoucherPolicy", summary: "See which recharges earn a voucher", more: "" };
    routes.read(VOUCHER_POLICY, says, voucher_policy);
    let says = Says {
        id: "setDefaults",
        summary: "Set what holds where an organization or a model says nothing else",
        more: "",
    };
    routes.write(Verb::Put, DEFAULTS, says, set_defaults);
    let says = Says {
        id: "getDefaults",
        summary: "See what holds where an organization or a model says nothing else",
        more: "",
    };
    routes.read(DEFAULTS, says, defaults);
}

request! {
    /// A voucher policy to set.
    pub(super) struct NewVoucherPolicy {
        /// The cumulative recharge that earns the voucher, once per organization.
        threshold: NotNegative,
        /// What it is worth; 0: none is granted.
        amount: NotNegative,
        /// Days until what is left of it is lost; null: never.
        expires_after_days: OrNull<Days>,
    }
}

/// Days, from one to a hundred years of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Days(u32);

impl Days {
    const MAX: u32 = 36_525;
}

impl Shape for Days {
    fn describe(_: &mut Parts) -> Described {
        whole(KnownFormat::Int32, 1, Self::MAX.into()).into()
    }
}

impl FromJson for Days {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let days = u32::read(path, value.clone(), faults)?;
        if !(1..=Self::MAX).contains(&days) {
            let reason = format!("must be 1 to {} days, a hundred years", Self::MAX);
            faults.push(Fault::at(path, Some(value), reason));
            return None;
        }
        Some(Self(days))
    }
}

request! {
    /// Defaults to set.
    pub(super) struct NewDefaults {
        /// The available balance below which organizations are told; null: they are not.
        balance_alert_threshold: OrNull<NotNegative>,
        /// Output tokens that are assumed where neither request nor model names a maximum.
        max_output_tokens: Rate,
    }
}

answer! {
    /// Which recharges earn a voucher.
    pub(super) struct VoucherPolicy {
        /// The cumulative recharge that earns the voucher, once per organization.
        threshold: Amount,
        /// What it is worth; 0: none is granted.
        amount: Amount,
        /// Days until what is left of it is lost; null: never.
        expires_after_days: Option<u32>,
    }
}

answer! {
    /// What holds where an organization or a model says nothing else.
    pub(super) struct Defaults {
        /// The available balance below which organizations are told; null: they are not.
        balance_alert_threshold: Option<Amount>,
        /// Output tokens that are assumed where neither request nor model names a maximum.
        max_output_tokens: u64,
    }
}

async fn set_voucher_policy(
    Write { body, author, .. }: Write<(), NewVoucherPolicy>,
) -> Result<Changed<VoucherPolicy>, Problem> {
    let policy = policy::VoucherPolicy {
        threshold: body.threshold.0,
        amount: body.amount.0,
        expires_after_days: body.expires_after_days.0.map(|days| days.0),
    };
    let done = author.configure(ConfigCommand::SetVoucherPolicy(policy)).await?;
    Ok(Changed::new(done, policy_in_force(&author.node).await?))
}

async fn voucher_policy(Reading { at, .. }: Reading<()>) -> Result<Json<VoucherPolicy>, Problem> {
    Ok(Json(policy_in_force(&at.node).await?))
}

async fn policy_in_force(node: &Node) -> Result<VoucherPolicy, Problem> {
    let policy = node.owner(PartitionId(0))?.read(|state| state.config().voucher_policy).await?;
    let policy::VoucherPolicy { threshold, amount, expires_after_days } = policy;
    Ok(VoucherPolicy { threshold, amount, expires_after_days })
}

async fn set_defaults(
    Write { body, author, .. }: Write<(), NewDefaults>,
) -> Result<Changed<Defaults>, Problem> {
    let defaults = policy::Defaults {
        balance_alert_threshold: body.balance_alert_threshold.0.map(|threshold| threshold.0),
        max_output_tokens: body.max_output_tokens.get(),
    };
    let done = author.configure(ConfigCommand::SetDefaults(defaults)).await?;
    Ok(Changed::new(done, defaults_in_force(&author.node).await?))
}

async fn defaults(Reading { at, .. }: Reading<()>) -> Result<Json<Defaults>, Problem> {
    Ok(Json(defaults_in_force(&at.node).await?))
}

async fn defaults_in_force(node: &Node) -> Result<Defaults, Problem> {
    let defaults = node.owner(PartitionId(0))?.read(|state| state.config().defaults).await?;
    let policy::Defaults { balance_alert_threshold, max_output_tokens } = defaults;
    Ok(Defaults { balance_alert_threshold, max_output_tokens })
}
