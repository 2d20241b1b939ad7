//! What was configured for the whole ledger, and what happened to a partition.

use serde_json::{Value, json};
use tollbook_schemas::event::{ConfigEvent as E, PartitionEvent};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::policy::{
    Defaults, LagModel, QuantityLimit, QuantityLimits, RateScale, Tier, TierTable, VoucherPolicy,
};

use super::organization::prices;
use super::{Told, text, texts};

pub(super) fn event(event: &E) -> Told {
    match event {
        E::LedgerCreated { ledger, currency, partitions } => (
            "ledger.created",
            json!({ "ledger": ledger.as_str(), "currency": currency, "partitions": partitions }),
        ),
        E::PricesPublished(list) => ("config.prices_published", prices(list)),
        E::TiersPublished(table) => ("config.tiers_published", tiers(table)),
        E::LagModelSet(LagModel { cycle_seconds, delay_seconds }) => (
            "config.billing_cycle_set",
            json!({ "cycle_seconds": cycle_seconds, "delay_seconds": delay_seconds }),
        ),
        E::VoucherPolicySet(VoucherPolicy { threshold, amount, expires_after_days }) => (
            "config.voucher_policy_set",
            json!({
                "threshold": threshold.to_string(),
                "amount": amount.to_string(),
                "expires_after_days": expires_after_days,
            }),
        ),
        E::QuantityLimitsSet(QuantityLimits { default, enterprise_verified }) => (
            "config.quantity_limits_set",
            json!({ "default": quantity(*default), "enterprise_verified": quantity(*enterprise_verified) }),
        ),
        E::DefaultsSet(Defaults { balance_alert_threshold, max_output_tokens }) => (
            "config.defaults_set",
            json!({
                "balance_alert_threshold": text(*balance_alert_threshold),
                "max_output_tokens": max_output_tokens,
            }),
        ),
        E::RateScaleSet(scale) => ("config.rate_scale_set", rate_scale(scale.as_ref())),
        E::TokenIssued { token, name, scopes, organizations, secret: _ } => (
            "token.issued",
            json!({
                "token": token.as_str(),
                "name": name.as_str(),
                "scopes": scopes,
                "organizations": ids(organizations.as_deref()),
            }),
        ),
        E::TokenRevoked { token } => ("token.revoked", json!({ "token": token.as_str() })),
        E::SubscriptionCreated { name, organizations } => (
            "alert_subscription.created",
            json!({ "name": name.as_str(), "organizations": ids(organizations.as_deref()) }),
        ),
        E::SubscriptionRemoved { name } => ("alert_subscription.removed", json!({ "name": name.as_str() })),
    }
}

pub(super) fn partition_event(event: &PartitionEvent) -> Told {
    match event {
        PartitionEvent::OwnershipTaken { term, node, zone_database } => (
            "partition.ownership_taken",
            json!({ "term": term, "node": node.as_str(), "zone_database": zone_database }),
        ),
        PartitionEvent::BillingCycleClosed { through, cycles } => {
            ("billing_cycle.closed", json!({ "through": through.to_string(), "cycles": cycles }))
        }
        PartitionEvent::MonthClosed { zone, month, until } => (
            "month.closed",
            json!({ "time_zone": zone.name(), "month": month.to_string(), "until": until.to_string() }),
        ),
    }
}

fn tiers(table: &TierTable) -> Value {
    let TierTable { effective_from, tiers } = table;
    let tiers: Vec<Value> = tiers.iter().map(tier).collect();
    json!({ "effective_from": effective_from.to_string(), "tiers": tiers })
}

fn tier(tier: &Tier) -> Value {
    let Tier { name, cumulative_recharge, concurrency, rpm, tpm, tpd } = tier;
    json!({
        "name": name.as_str(),
        "cumulative_recharge": cumulative_recharge.to_string(),
        "concurrency": concurrency,
        "rpm": rpm,
        "tpm": tpm,
        "tpd": tpd,
    })
}

fn quantity(limit: QuantityLimit) -> Value {
    let QuantityLimit { projects, api_keys } = limit;
    json!({ "projects": projects, "api_keys": api_keys })
}

/// Nothing is scaled any more where there is no factor; all tiers are where none is named.
fn rate_scale(scale: Option<&RateScale>) -> Value {
    let Some(scale) = scale else {
        return json!({ "factor": null });
    };
    let RateScale { factor_thousandths: _, until, reason, tiers } = scale;
    json!({
        "factor": scale.factor().to_string(),
        "until": until.to_string(),
        "reason": reason.as_str(),
        "tiers": texts(tiers),
    })
}

/// `null`: all.
fn ids(organizations: Option<&[OrgId]>) -> Value {
    organizations.map_or(Value::Null, texts)
}
