//! What happened to an organization itself.

use serde_json::{Map, Value, json};
use tollbook_schemas::allowlist;
use tollbook_schemas::event::OrganizationEvent as E;
use tollbook_schemas::policy::{Change, QuantityOverride, RateOverride};
use tollbook_schemas::price::{ModelPrice, PriceList};

use super::{Open, Told, text, texts};

pub(super) fn event(event: &E, open: Open<'_>) -> Told {
    match event {
        E::Registered { name, email, creator, creator_name, creator_email, zone } => (
            "organization.registered",
            json!({
                "name": name.as_str(),
                "email": open(email),
                "creator": {
                    "id": creator.as_str(), "name": open(creator_name), "email": open(creator_email),
                },
                "time_zone": zone.name(),
            }),
        ),
        E::Renamed { name } => ("organization.renamed", json!({ "name": name.as_str() })),
        E::EmailChanged { email } => ("organization.email_changed", json!({ "email": open(email) })),
        E::ZoneChanged { zone, from } => {
            ("organization.time_zone_changed", json!({ "time_zone": zone.name(), "from": from.to_string() }))
        }
        E::VerificationChanged { level } => ("organization.verification_changed", json!({ "level": level })),
        E::QuantityOverridden(limits) => ("organization.quantity_limits_overridden", quantities(*limits)),
        E::RateOverridden(limits) => ("organization.rate_limits_overridden", rates(*limits)),
        E::AllowlistSaved { entries } => {
            let entries: Vec<String> = entries.iter().map(allowlist::entry).collect();
            ("organization.ip_allowlist_saved", json!({ "entries": entries }))
        }
        E::BalanceAlertSet { threshold } => {
            ("organization.balance_alert_set", json!({ "threshold": text(*threshold) }))
        }
        E::CreditLimitSet { limit } => ("organization.credit_limit_set", json!({ "limit": text(*limit) })),
        E::PricesPublished(list) => ("organization.prices_published", prices(list)),
        E::ContactsErased => ("organization.contacts_erased", json!({})),
        E::MovedIn { cash, cumulative_recharge, voucher_granted, references } => (
            "organization.moved_in",
            json!({
                "cash": cash.to_string(),
                "cumulative_recharge": cumulative_recharge.to_string(),
                "voucher_granted": voucher_granted,
                "references": texts(references),
            }),
        ),
    }
}

fn quantities(limits: QuantityOverride<Change<u32>>) -> Value {
    let QuantityOverride { projects, api_keys } = limits;
    changed([("projects", change(projects)), ("api_keys", change(api_keys))])
}

fn rates(limits: RateOverride<Change<u64>>) -> Value {
    let RateOverride { concurrency, rpm, tpm, tpd } = limits;
    changed([
        ("concurrency", change(concurrency)),
        ("rpm", change(rpm)),
        ("tpm", change(tpm)),
        ("tpd", change(tpd)),
    ])
}

/// As in a request: what stays as it is is absent, and `null` ends the override.
fn changed<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let said = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(said.collect())
}

fn change<T: Into<Value>>(change: Change<T>) -> Option<Value> {
    match change {
        Change::Keep => None,
        Change::Set(value) => Some(value.into()),
        Change::Remove => Some(Value::Null),
    }
}

/// The shape of `PUT /v1/config/prices`, without its currency: a ledger has one.
pub(super) fn prices(list: &PriceList) -> Value {
    let PriceList { effective_from, models } = list;
    let models: Vec<Value> = models.iter().map(|(model, price)| model_price(model.as_str(), price)).collect();
    json!({ "effective_from": effective_from.to_string(), "models": models })
}

fn model_price(model: &str, price: &ModelPrice) -> Value {
    let ModelPrice { input, cached_input, output, meters, max_output_tokens } = price;
    let meters: Map<String, Value> =
        meters.iter().map(|(meter, price)| (meter.to_string(), price.to_string().into())).collect();
    json!({
        "model": model,
        "input": input.to_string(),
        "cached_input": cached_input.to_string(),
        "output": output.to_string(),
        "meters": meters,
        "max_output_tokens": max_output_tokens,
    })
}
