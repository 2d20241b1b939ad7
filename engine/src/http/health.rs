//! Whether the process lives, whether it is of use now, and its metrics.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::json;

use super::Api;
use super::problem::Problem;
use crate::owner::Role;

/// The process lives.
pub(super) async fn alive() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// The process owns all its partitions and may write; else 503 with the reason.
pub(super) async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    if !api.node.clock_trusted() {
        return Err(Problem::unavailable("clock_skewed", "this machine's clock is off"));
    }
    let mut partitions = Vec::new();
    for owner in api.node.owners() {
        match owner.role() {
            Role::Owner => partitions.push(json!({
                "partition": owner.partition().0, "role": "owner", "applied": owner.applied().0,
            })),
            Role::Standby => {
                let detail = format!(
                    "another node owns partition {}, or this one has not caught up",
                    owner.partition()
                );
                return Err(Problem::unavailable("standby", detail));
            }
            Role::Taking => {
                let detail = format!("taking partition {} over", owner.partition());
                return Err(Problem::unavailable("taking_over", detail));
            }
        }
    }
    Ok(axum::Json(json!({ "status": "ready", "partitions": partitions })).into_response())
}

/// Metrics in Prometheus' text format.
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let metrics = api.metrics.as_ref().ok_or_else(|| Problem::not_found("this process keeps no metrics"))?;
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((StatusCode::OK, headers, metrics.render()).into_response())
}

/// What this is, for somebody who opens it in a browser.
pub(super) async fn index(State(api): State<Api>) -> Html<String> {
    let ledger = api.node.ledger();
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>Tollbook</title><h1>Tollbook</h1>\
         <p>Ledger {} in {}, {} partition(s). The API is described in the project's documentation.\
         <ul><li><a href=/healthz>healthz</a><li><a href=/readyz>readyz</a><li><a href=/metrics>metrics</a></ul>",
        ledger.id, ledger.currency, ledger.partitions
    ))
}
