//! Recharges and balances, and what all writes share: idempotency keys and answers to repetitions.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Value, json};
use tollbook_projections::organization::Organization;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::event::{Event, MoneyEvent};
use tollbook_schemas::id::{OrgId, RechargeId, Reference, VoucherId};
use tollbook_schemas::rejection::Rejection;

use super::Api;
use super::auth::Caller;
use super::extract::{Body, Named, Params};
use super::fields::{Fields, parse, text};
use super::organizations::{OPERATOR, READERS, created};
use super::problem::Problem;
use super::reads::{organization_id, wait_for};
use crate::clock;
use crate::node::Node;
use crate::owner::Done;

/// Longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_MAX: usize = 256;

pub(super) async fn recharge(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    let organization = organization_id(&caller, &org)?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let amount = fields.required("amount", text::<Amount>);
    let reference = fields.required("reference", |value| parse(value, Reference::parse));
    let (amount, reference) = fields.finish(amount.zip(reference))?;
    let what = format!("POST /v1/organizations/{organization}/recharges");
    let idempotency = idempotency(&api.node, &caller, &headers, &what, &body)?;
    let command = OrganizationCommand::Recharge {
        recharge: RechargeId::from_bits(clock::new_id_bits()),
        amount,
        reference,
        voucher: VoucherId::from_bits(clock::new_id_bits()),
    };
    let command = Command::Organization(organization.clone(), command);
    let done =
        with_events(&api.node, api.node.decide(command, caller.operator(), idempotency).await?).await?;
    let mut body = serde_json::Map::new();
    for event in &done.events {
        if let Event::Money(MoneyEvent::Recharged { recharge, amount, reference }) = event {
            body.insert("id".into(), recharge.as_str().into());
            body.insert("amount".into(), amount.to_string().into());
            body.insert("reference".into(), reference.as_str().into());
        } else if let Event::Money(MoneyEvent::VoucherGranted { voucher, amount, .. }) = event {
            body.insert("voucher".into(), json!({ "id": voucher.as_str(), "amount": amount.to_string() }));
        }
    }
    body.insert("balance".into(), balance_json(&api.node, &organization).await?);
    Ok(created(&done, Value::Object(body)))
}

pub(super) async fn balance(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    wait_for(&api.node, &query).await?;
    Ok(axum::Json(balance_json(&api.node, &organization).await?))
}

/// `{cash, vouchers, held, available, credit_limit, cumulative_recharge, tier, currency}` (INTERFACES).
async fn balance_json(node: &Node, organization: &OrgId) -> Result<Value, Problem> {
    let (id, now, currency) = (organization.clone(), node.clock().now(), node.ledger().currency.clone());
    let read = node.owner_of(organization)?.read(move |state| {
        state.organization(&id).map(|known: &Organization| {
            let purse = &known.purse;
            let tiers = state.config().tiers_at(now.max(state.head().recorded_at));
            json!({
                "cash": purse.cash().to_string(),
                "vouchers": purse.vouchers().to_string(),
                "held": Amount::ZERO.to_string(),
                "available": purse.available().to_string(),
                "credit_limit": null,
                "cumulative_recharge": purse.cumulative_recharge().to_string(),
                "tier": tiers.tier(purse.cumulative_recharge()).map(|tier| tier.name.to_string()),
                "currency": currency,
            })
        })
    });
    read.await?.ok_or_else(|| Rejection::OrganizationUnknown(organization.clone()).into())
}

/// What makes a repetition of this request recognizable, if the caller wants that.
pub(super) fn idempotency(
    node: &Node,
    caller: &Caller,
    headers: &HeaderMap,
    what: &str,
    body: &Bytes,
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_MAX);
    let key = key.ok_or_else(|| {
        Problem::malformed(format!("Idempotency-Key must be 1 to {IDEMPOTENCY_KEY_MAX} printable characters"))
    })?;
    Ok(Some(node.contacts().idempotency(caller.scope_name(), key, &[what.as_bytes(), body])))
}

/// What was recorded; of a repetition, what was recorded the first time.
pub(super) async fn with_events(node: &Node, mut done: Done) -> Result<Done, Problem> {
    if done.before {
        done.events = node.events_at(done.position).await?;
    }
    Ok(done)
}
