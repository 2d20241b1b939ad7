//! Whether the process lives, whether it is of use now, and its metrics.

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::{ContentBuilder, ResponseBuilder};

use super::Api;
use super::document::{Document, Routes, Says, Verb, refused};
use super::problem::Problem;
use super::shape::Parts;
use crate::owner::Role;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Operations", "For whoever runs the server; no token is needed.");
    let json = "application/json";
    let says = Says { id: "getHealth", summary: "See whether the process lives", more: "" };
    routes.other(Verb::Get, "/healthz", |_, _| answering(says, json, "It lives."), get(alive));
    let says = Says {
        id: "getReadiness",
        summary: "See whether the process is of use now",
        more: "It is when it owns all its partitions, its clock is right, and State is near enough to the log for \
               admission.",
    };
    let describe = |_: OperationBuilder, _: &mut Parts| refused(answering(says, json, "It is."), &[503]);
    routes.other(Verb::Get, "/readyz", describe, get(ready));
    let says = Says { id: "getMetrics", summary: "See the process's metrics", more: "" };
    let text = "text/plain";
    let describe = |_: OperationBuilder, _: &mut Parts| {
        refused(answering(says, text, "Prometheus' text format."), &[404])
    };
    routes.other(Verb::Get, "/metrics", describe, get(metrics));
    let says = Says { id: "getIndex", summary: "See what this is", more: "" };
    routes.other(Verb::Get, "/", |_, _| answering(says, "text/html", "A page for people."), get(index));
    let says = Says { id: "getOpenApi", summary: "See this document", more: "" };
    routes.other(Verb::Get, "/openapi.json", |_, _| answering(says, json, "OpenAPI 3.1."), get(document));
}

fn answering(says: Says, media_type: &str, about: &str) -> OperationBuilder {
    let content = ContentBuilder::new().build();
    let response = ResponseBuilder::new().description(about).content(media_type, content);
    says.begin().response("200", response.build())
}

/// The document that describes the API.
async fn document(Extension(Document(text)): Extension<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.to_string()).into_response()
}

/// The process lives.
async fn alive() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

/// The process owns all its partitions and may write; else 503 with the reason.
async fn ready(State(api): State<Api>) -> Result<Response, Problem> {
    if !api.node.clock_trusted() {
        return Err(Problem::unavailable("clock_skewed", "this machine's clock is off"));
    }
    let admissions = api.node.admissions();
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
    if let Some(lag) = admissions.too_far_behind() {
        let detail = format!("State may trail the log by {} s, so no request is admitted", lag.as_secs());
        return Err(Problem::unavailable("behind", detail));
    }
    Ok(axum::Json(json!({ "status": "ready", "partitions": partitions })).into_response())
}

/// Metrics in Prometheus' text format.
async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let metrics = api.metrics.as_ref().ok_or_else(|| Problem::not_found("this process keeps no metrics"))?;
    let headers = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((StatusCode::OK, headers, metrics.render()).into_response())
}

/// What this is, for somebody who opens it in a browser.
async fn index(State(api): State<Api>) -> Html<String> {
    let ledger = api.node.ledger();
    Html(format!(
        "<!doctype html><meta charset=utf-8><title>Tollbook</title><h1>Tollbook</h1>\
         <p>Ledger {} in {}, {} partition(s). The API is described in <a href=/openapi.json>openapi.json</a>.\
         <ul><li><a href=/healthz>healthz</a><li><a href=/readyz>readyz</a><li><a href=/metrics>metrics</a></ul>",
        ledger.id, ledger.currency, ledger.partitions
    ))
}
