//! Usage over HTTP: CloudEvents, one or many, answered when durable.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use mediatype::MediaType;
use mediatype::names::{APPLICATION, JSON};
use tollbook_schemas::cloudevent::{self, Payload, Refused};
use tollbook_schemas::policy::Scope;

use super::Api;
use super::auth::Caller;
use super::extract::Body;
use super::problem::{Fault, Problem};
use crate::metrics;

const PUBLISHERS: &[Scope] = &[Scope::Publisher, Scope::Operator];

/// `POST /v1/events`, also where OpenMeter's clients post: 204 once everything is durable. All or nothing.
pub(super) async fn events(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<StatusCode, Problem> {
    caller.may(PUBLISHERS)?;
    let payload = payload_of(&headers)?;
    let usage = cloudevent::parse(&body, payload, api.node.clock().now(), None).map_err(|refused| {
        metrics::received("http", "refused", 1);
        problem(refused)
    })?;
    for (index, one) in usage.iter().enumerate() {
        if caller.may_touch(&one.organization).is_err() {
            let reason = format!("this token is not for {}", one.organization);
            return Err(Problem::forbidden(format!("event {index}: {reason}")));
        }
    }
    let events = usage.len();
    if events > 0 {
        api.node.submit(usage).await.inspect_err(|_| metrics::received("http", "unavailable", events))?;
    }
    metrics::received("http", "accepted", events);
    Ok(StatusCode::NO_CONTENT)
}

/// Which of the three shapes the body has.
fn payload_of(headers: &HeaderMap) -> Result<Payload, Problem> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else {
        return Err(Problem::media_type("send Content-Type: application/cloudevents+json"));
    };
    let text = content_type.to_str().unwrap_or_default();
    let media = MediaType::parse(text).map_err(|error| {
        Problem::media_type(format!("the Content-Type {text:?} is not a media type: {error}"))
    })?;
    let cloudevents = |name: &str| {
        media.ty == APPLICATION
            && media.suffix == Some(JSON)
            && media.subty.as_str().eq_ignore_ascii_case(name)
    };
    if cloudevents("cloudevents") {
        Ok(Payload::One)
    } else if cloudevents("cloudevents-batch") {
        Ok(Payload::Batch)
    } else if media.essence() == mediatype::media_type!(APPLICATION / JSON) {
        Ok(Payload::Either)
    } else {
        Err(Problem::media_type(format!(
            "this takes application/cloudevents+json, application/cloudevents-batch+json or application/json, not {text}"
        )))
    }
}

fn problem(refused: Refused) -> Problem {
    match refused {
        Refused::Unreadable(reason) => Problem::malformed(reason),
        Refused::TooMany { most } => Problem::too_large(format!("a request holds at most {most} events")),
        Refused::Bad(bad) => Problem::fields(
            bad.into_iter()
                .map(|bad| Fault {
                    field: bad.field,
                    index: Some(bad.index),
                    value: None,
                    reason: bad.reason,
                })
                .collect(),
        ),
    }
}
