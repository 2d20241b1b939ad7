//! Usage over HTTP: CloudEvents, one or many, answered when durable.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::routing::post;
use mediatype::MediaType;
use mediatype::names::{APPLICATION, JSON};
use tollbook_schemas::cloudevent::{
    self, EVENTS_MAX, METERS_MAX, Payload, REFERENCE_MAX, Refused, SPEC_VERSION, USAGE_TYPE,
};
use tollbook_schemas::id::{KeyId, MeterName, ModelName, OrgId, ProjectId, SourceName};
use tollbook_schemas::policy::Scope;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{QUANTITY_MAX, USAGE_ID_MAX};
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, OneOfBuilder, Schema};
use utoipa::openapi::{ContentBuilder, Required};

use super::Api;
use super::answer::{Answer, NoContent};
use super::auth::Caller;
use super::body::Body;
use super::document::{Routes, Says, Verb, refused, service_token};
use super::kinds::{AMOUNT, string};
use super::problem::{Fault, Problem};
use super::shape::{Described, Member, Parts, Shape, Text, nullable, object};
use super::values::whole;
use crate::metrics;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Usage", "What customers used.");
    for (path, id) in [("/v1/events", "publishUsage"), ("/api/v1/events", "publishUsageAsOpenMeter")] {
        let says = Says {
            id,
            summary: "Publish usage",
            more: "CloudEvents 1.0: one, a batch, or either as plain JSON; at most 1,000 events or 1 MiB. Answers once \
                   all of it is durable; if one event is malformed, nothing is kept and all such events are named. The \
                   same event again is recognized by `source` and `id`.",
        };
        let describe = |_: OperationBuilder, parts: &mut Parts| {
            let one: Described = UsageEvent::describe(parts);
            let many: Described = ArrayBuilder::new().items(one.clone()).max_items(Some(EVENTS_MAX)).into();
            let either: Described = OneOfBuilder::new().item(one.clone()).item(many.clone()).into();
            let content = |schema| ContentBuilder::new().schema(Some(schema)).build();
            let body = RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/cloudevents+json", content(one))
                .content("application/cloudevents-batch+json", content(many))
                .content("application/json", content(either));
            let operation = says.begin().security(service_token()).request_body(Some(body.build()));
            let operation = operation.response("204", NoContent::describe(parts).build());
            refused(operation, &[400, 401, 403, 413, 415, 500, 503])
        };
        routes.other(Verb::Post, path, describe, post(events));
    }
}

const PUBLISHERS: &[Scope] = &[Scope::Publisher, Scope::Operator];

/// A string that is not empty and holds no control characters.
fn printed(most: usize) -> Described {
    let pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$";
    string("").max_length(Some(most)).pattern(Some(pattern)).into()
}

/// A member; what may be absent may be null as well.
fn member(name: &'static str, about: &str, required: bool, schema: Described) -> Member {
    Member::new(name, about, required, if required { schema } else { nullable(schema) })
}

/// One metered call, as it is described; it is read without such a shape, quickly.
pub(super) struct UsageEvent;

impl Shape for UsageEvent {
    fn describe(parts: &mut Parts) -> Described {
        parts.named("UsageEvent", |parts| {
            let about =
                "One metered call, a CloudEvent. Other attributes, and other members of `data`, are ignored.";
            let members = vec![
                member(
                    "specversion",
                    "Of CloudEvents.",
                    true,
                    string("").enum_values(Some([SPEC_VERSION])).into(),
                ),
                member(
                    "id",
                    "With `source`, what makes a repetition recognizable.",
                    true,
                    printed(USAGE_ID_MAX),
                ),
                member("source", "Who publishes.", true, SourceName::describe(parts)),
                member("type", "What it is.", true, string("").enum_values(Some([USAGE_TYPE])).into()),
                member("subject", "Whose usage it is.", true, OrgId::describe(parts)),
                member(
                    "time",
                    "When it occurred; when it arrives unless said otherwise.",
                    false,
                    Timestamp::describe(parts),
                ),
                member(
                    "producerseq",
                    "The publisher's count, which tells old repetitions without memory.",
                    false,
                    string("").pattern(Some("^([1-9][0-9]{0,18}|1[0-7][0-9]{18})$")).into(),
                ),
                member("data", "What was used.", true, UsageData::describe(parts)),
            ];
            object(about, members).into()
        })
    }
}

/// What was used, as it is described.
struct UsageData;

impl Shape for UsageData {
    fn describe(parts: &mut Parts) -> Described {
        parts.named("UsageData", |parts| {
            let count = || Described::from(whole(KnownFormat::Int64, 0, QUANTITY_MAX));
            let meters = ObjectBuilder::new()
                .property_names(Some(Schema::from(MeterName::schema())))
                .additional_properties(Some(count()))
                .max_properties(Some(METERS_MAX));
            let about = "What was used. It names either `api_key_id` or `project`.";
            let members = vec![
                member("api_key_id", "The key that the call came with.", false, KeyId::describe(parts)),
                member("project", "The project that the call was for.", false, ProjectId::describe(parts)),
                member("model", "The model.", true, ModelName::describe(parts)),
                member("input_tokens", "Input tokens, cached ones included.", true, count()),
                member("cached_input_tokens", "Input tokens read from a cache.", false, count()),
                member("output_tokens", "Output tokens.", true, count()),
                member("meters", "Further metered units, by name.", false, meters.into()),
                member(
                    "cost",
                    "What it cost, where it is priced elsewhere; exact, with at most 12 decimal places.",
                    false,
                    string("").pattern(Some(format!("^{AMOUNT}$"))).into(),
                ),
                member("lease", "The lease that it settles.", false, printed(REFERENCE_MAX)),
                member("request_id", "The request whose lease it settles.", false, printed(REFERENCE_MAX)),
            ];
            let either = ["api_key_id", "project"]
                .map(|name| ObjectBuilder::new().required(name).property(name, string("")));
            let either = either.into_iter().fold(OneOfBuilder::new(), OneOfBuilder::item);
            let what = object(about, members);
            AllOfBuilder::new().item(what).item(either).into()
        })
    }
}

/// `POST /v1/events`, also where OpenMeter's clients post: 204 once everything is durable. All or nothing.
async fn events(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<NoContent, Problem> {
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
    Ok(NoContent)
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
                    offset: None,
                    field: bad.field,
                    index: Some(bad.index),
                    value: None,
                    code: None,
                    reason: bad.reason,
                })
                .collect(),
        ),
    }
}
