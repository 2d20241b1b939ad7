//! Configuration of the whole ledger: prices, the billing cycle, service tokens.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use tollbook_projections::config::PriceBook;
use tollbook_schemas::command::{Command, ConfigCommand};
use tollbook_schemas::event::{ConfigEvent, Event};
use tollbook_schemas::id::{DisplayName, MeterName, ModelName, OrgId, TokenId};
use tollbook_schemas::policy::{LagModel, Scope};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::price::{ModelPrice, Price, PriceList};
use tollbook_schemas::time::Timestamp;

use super::Api;
use super::auth::{Caller, hash};
use super::extract::{Body, Named, Params};
use super::fields::{Fields, list, long, number, parse, text};
use super::money::{idempotency, with_events};
use super::organizations::{OPERATOR, READERS, answered, created, new_secret};
use super::problem::Problem;
use super::reads::{Page, wait_for};

pub(super) async fn publish_prices(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    caller.may_all()?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let ledger = api.node.ledger();
    let currency = fields.optional("currency", text::<String>).unwrap_or_else(|| ledger.currency.clone());
    let effective_from =
        fields.optional("effective_from", text::<Timestamp>).unwrap_or_else(|| api.node.clock().now());
    let mut models = BTreeMap::new();
    let read = fields.objects("models", |model| {
        let name = model.required("model", |value| parse(value, ModelName::parse));
        let price = model_price(model);
        if let Some(name) = name
            && models.insert(name, price).is_some()
        {
            model.refuse("model", "stands twice in this list");
        }
        Some(())
    });
    if read.as_ref().is_some_and(Vec::is_empty) {
        fields.refuse("models", "must not be empty");
    }
    fields.finish(read)?;
    let idempotency = idempotency(&api.node, &caller, &headers, "PUT /v1/config/prices", &body)?;
    let command = ConfigCommand::PublishPrices { currency, list: PriceList { effective_from, models } };
    let done = api.node.decide(Command::Config(command), caller.operator(), idempotency).await?;
    Ok(answered(StatusCode::OK, &done, prices_json(&api).await?))
}

fn model_price(model: &mut Fields) -> ModelPrice {
    let mut price = |field: &str| model.required(field, text::<Price>).unwrap_or_default();
    let (input, cached_input, output) = (price("input"), price("cached_input"), price("output"));
    let mut meters = BTreeMap::new();
    for (name, value) in model.members("meters") {
        match (MeterName::parse(&name), text::<Price>(&value)) {
            (Ok(meter), Ok(price)) => {
                meters.insert(meter, price);
            }
            (Err(reason), _) => model.refuse(&format!("meters.{name}"), reason),
            (Ok(_), Err(reason)) => model.refuse(&format!("meters.{name}"), reason),
        }
    }
    let max_output_tokens = model.optional("max_output_tokens", long);
    ModelPrice { input, cached_input, output, meters, max_output_tokens }
}

pub(super) async fn prices(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    wait_for(&api.node, &query).await?;
    Ok(axum::Json(prices_json(&api).await?))
}

/// Everything published, each model with the instant from which each of its prices holds.
async fn prices_json(api: &Api) -> Result<Value, Problem> {
    let book: PriceBook = api.node.owner(PartitionId(0))?.read(|state| state.config().prices.clone()).await?;
    let models: Vec<Value> = book
        .models()
        .flat_map(|(model, history)| {
            history.iter().map(|(from, price)| {
                let meters: serde_json::Map<String, Value> = price
                    .meters
                    .iter()
                    .map(|(meter, price)| (meter.to_string(), price.to_string().into()))
                    .collect();
                json!({
                    "model": model.as_str(),
                    "effective_from": from.to_string(),
                    "input": price.input.to_string(),
                    "cached_input": price.cached_input.to_string(),
                    "output": price.output.to_string(),
                    "meters": meters,
                    "max_output_tokens": price.max_output_tokens,
                })
            })
        })
        .collect();
    Ok(json!({ "currency": api.node.ledger().currency, "models": models }))
}

pub(super) async fn set_billing_cycle(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    caller.may_all()?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let bounded = |value: &Value| match number(value)? {
        seconds if seconds <= LagModel::SECONDS_MAX => Ok(seconds),
        _ => Err(format!("must be at most {} seconds, one day", LagModel::SECONDS_MAX)),
    };
    let cycle = fields.required("cycle_seconds", bounded);
    let delay_seconds = fields.optional("delay_seconds", bounded).unwrap_or(0);
    let cycle_seconds = fields.finish(cycle)?;
    let lag = LagModel { cycle_seconds, delay_seconds };
    let idempotency = idempotency(&api.node, &caller, &headers, "PUT /v1/config/billing-cycle", &body)?;
    let command = Command::Config(ConfigCommand::SetLagModel(lag));
    let done = api.node.decide(command, caller.operator(), idempotency).await?;
    Ok(answered(StatusCode::OK, &done, lag_json(&api).await?))
}

pub(super) async fn billing_cycle(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    wait_for(&api.node, &query).await?;
    Ok(axum::Json(lag_json(&api).await?))
}

async fn lag_json(api: &Api) -> Result<Value, Problem> {
    let lag = api.node.owner(PartitionId(0))?.read(|state| state.config().lag).await?;
    Ok(json!({ "cycle_seconds": lag.cycle_seconds, "delay_seconds": lag.delay_seconds }))
}

pub(super) async fn issue_token(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    caller.may_all()?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let name = fields.required("name", |value| parse(value, DisplayName::parse));
    let scopes = fields.required("scopes", |value| list(value, scope));
    if scopes.as_ref().is_some_and(Vec::is_empty) {
        fields.refuse("scopes", "must not be empty");
    }
    let organizations = fields.optional("organizations", |value| list(value, OrgId::parse));
    let (name, mut scopes) = fields.finish(name.zip(scopes))?;
    scopes.sort_unstable();
    scopes.dedup();
    let idempotency = idempotency(&api.node, &caller, &headers, "POST /v1/tokens", &body)?;
    let secret = new_secret("tb-");
    let token = TokenId::from_bits(crate::clock::new_id_bits());
    let command = ConfigCommand::IssueToken { token, name, scopes, organizations, secret: hash(&secret) };
    let done = api.node.decide(Command::Config(command), caller.operator(), idempotency).await?;
    let done = with_events(&api.node, done).await?;
    let issued = done.events.iter().find_map(|event| {
        let Event::Config(ConfigEvent::TokenIssued { token, name, scopes, organizations, .. }) = event else {
            return None;
        };
        Some(json!({
            "id": token.as_str(),
            "name": name.as_str(),
            "scopes": scopes,
            "organizations": organizations,
        }))
    });
    let mut body = issued.ok_or_else(|| Problem::internal("the entry issued no token"))?;
    if let Some(members) = body.as_object_mut()
        && !done.before
    {
        members.insert("secret".into(), secret.into());
    }
    Ok(created(&done, body))
}

fn scope(text: &str) -> Result<Scope, &'static str> {
    match text {
        "operator" => Ok(Scope::Operator),
        "console" => Ok(Scope::Console),
        "publisher" => Ok(Scope::Publisher),
        "gateway" => Ok(Scope::Gateway),
        "auditor" => Ok(Scope::Auditor),
        _ => Err("must be operator, console, publisher, gateway or auditor"),
    }
}

pub(super) async fn tokens(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    caller.may_all()?;
    wait_for(&api.node, &query).await?;
    let page = Page::of(&query)?;
    let all = api.node.owner(PartitionId(0))?.tokens();
    let all = all.iter().map(|(id, token)| {
        let shown = json!({
            "id": id.as_str(),
            "name": token.name.as_str(),
            "scopes": token.scopes,
            "organizations": token.organizations,
            "created_at": token.issued_at.to_string(),
        });
        (id.to_string(), shown)
    });
    Ok(axum::Json(page.list(all.collect())))
}

pub(super) async fn revoke_token(
    State(api): State<Api>,
    caller: Caller,
    Named(token): Named<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    caller.may_all()?;
    let token = TokenId::parse(&token).map_err(|_| Problem::not_found("there is no such token"))?;
    let what = format!("DELETE /v1/tokens/{token}");
    let idempotency = idempotency(&api.node, &caller, &headers, &what, &body)?;
    let command = Command::Config(ConfigCommand::RevokeToken(token.clone()));
    let done = api.node.decide(command, caller.operator(), idempotency).await?;
    Ok(answered(StatusCode::OK, &done, json!({ "id": token.as_str(), "state": "revoked" })))
}
