//! The same decision as an auth subrequest of a proxy: everything is in headers, whatever the method and path. Proxies that
//! append the customer's path append the customer's query, too: there it says nothing.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::routing::any;
use tollbook_schemas::id::ModelName;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::usage::QUANTITY_MAX;
use utoipa::openapi::Required;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::reply::{Admission, Outcome, Reply, decide};
use super::sent::{Question, RequestId, Units, request_id};
use super::{GATEWAYS, REFUSALS, address, limited};
use crate::admission::{Admissions, Code, Decided, Mode};
use crate::http::Api;
use crate::http::answer::{Answer, Json};
use crate::http::auth::Caller;
use crate::http::customer::secret;
use crate::http::document::{Routes, Says, gateway_token};
use crate::http::refusal::refused_as_llm_apis_do;
use crate::http::shape::{Described, Parts, Shape, Text as _};

const TOKEN: &str = "tollbook-token";
const REQUEST_ID: &str = "x-request-id";
const MODEL: &str = "x-tollbook-model";
const INPUT_TOKENS: &str = "x-tollbook-input-tokens";
const MAX_OUTPUT_TOKENS: &str = "x-tollbook-max-output-tokens";
const DECIDED: &str = "x-tollbook-decided";

static LEASE: HeaderName = HeaderName::from_static("x-tollbook-lease");
static ORGANIZATION: HeaderName = HeaderName::from_static("x-tollbook-organization");
static PROJECT: HeaderName = HeaderName::from_static("x-tollbook-project");
static KEY: HeaderName = HeaderName::from_static("x-tollbook-api-key-id");
static TIER: HeaderName = HeaderName::from_static("x-tollbook-tier");
static STATUS: HeaderName = HeaderName::from_static("x-tollbook-status");
static BODY: HeaderName = HeaderName::from_static("x-tollbook-body");

pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "authorize",
        summary: "Ask whether a request may pass, as an auth subrequest of a proxy",
        more: "Any method does the same, and nothing is read but headers. The gateway's own token is in `Tollbook-Token`, \
               the customer's key in `Authorization`. A refusal has the status, headers and body that the customer is to \
               get; with `style=nginx` it is 403, as `auth_request` knows no other, with the real status in \
               `X-Tollbook-Status` and the body in `X-Tollbook-Body`.",
    };
    let describe = |parts: &mut Parts| {
        let about = "`nginx`: how refusals are told. Anything else, and other parameters, say nothing.";
        let text = ObjectBuilder::new().schema_type(Type::String).into();
        described(says, Some(parameter("style", ParameterIn::Query, about, text)), parts)
    };
    routes.any(&["/v1/authorize"], describe, any(authorize));
    let says = Says {
        id: "authorizePath",
        summary: "The same for proxies that append the customer's path",
        more: "The path, which may have further segments, and the query are the customer's and say nothing: refusals have \
               their own status, headers and body.",
    };
    let describe = |parts: &mut Parts| {
        let path = ParameterBuilder::new()
            .name("path")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Any path."))
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        described(says, None, parts).parameter(path.build())
    };
    routes.any(&["/v1/authorize/{*path}", "/v1/authorize/"], describe, any(authorize_path));
}

fn parameter(name: &str, place: ParameterIn, about: &str, schema: Described) -> Parameter {
    let needed = if name == "X-Tollbook-Model" { Required::True } else { Required::False };
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).description(Some(about));
    parameter.required(needed).schema(Some(schema)).build()
}

fn described(says: Says, style: Option<Parameter>, parts: &mut Parts) -> OperationBuilder {
    let text = || ObjectBuilder::new().schema_type(Type::String).into();
    let (model, units) = (ModelName::describe(parts), Units::describe(parts));
    let (request, decided) = (RequestId::describe(parts), Decided::describe(parts));
    let headers = [
        ("X-Tollbook-Model", "The model, as the price book names it.", model),
        ("X-Tollbook-Input-Tokens", "Input tokens; 0 unless said otherwise.", units.clone()),
        (
            "X-Tollbook-Max-Output-Tokens",
            "Most output tokens; the model's most unless said otherwise.",
            units,
        ),
        (
            "X-Request-Id",
            "The gateway's own name for the request: the same again gets the same lease.",
            request,
        ),
        ("X-Forwarded-For", "Where the request comes from, as far as proxies are trusted.", text()),
        ("X-Tollbook-Decided", "What the system that is to be replaced decided.", decided),
    ];
    let mut operation = says.begin().security(gateway_token());
    if let Some(parameter) = style {
        operation = operation.parameter(parameter);
    }
    for (name, about, schema) in headers {
        operation = operation.parameter(parameter(name, ParameterIn::Header, about, schema));
    }
    let mut answer = limited(Json::<Admission>::describe(parts));
    for name in [&LEASE, &ORGANIZATION, &PROJECT, &KEY, &TIER] {
        let schema = utoipa::openapi::header::HeaderBuilder::new()
            .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
            .description(Some("The same as in the body."));
        answer = answer.header(name.as_str(), schema.build());
    }
    refused_as_llm_apis_do(operation.response("200", answer.build()), REFUSALS, &[], parts)
}

/// A subrequest that cannot be read.
struct Wrong {
    code: &'static str,
    header: &'static str,
    message: String,
}

impl Wrong {
    fn header(header: &'static str, reason: &str) -> Self {
        Self { code: "header_invalid", header, message: format!("{header} {reason}") }
    }
}

/// `ANY /v1/authorize/{path}`.
async fn authorize_path(State(api): State<Api>, request: Request) -> Reply {
    decided(&api, &request)
}

/// `ANY /v1/authorize`.
async fn authorize(State(api): State<Api>, request: Request) -> Reply {
    let nginx = request.uri().query().is_some_and(|query| query.split('&').any(|one| one == "style=nginx"));
    let reply = decided(&api, &request);
    // What another engine may answer is a failure to nginx, so that it asks the next one.
    let told = nginx && !matches!(reply.status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE);
    if told { in_headers(reply) } else { reply }
}

fn decided(api: &Api, request: &Request) -> Reply {
    let headers = request.headers();
    let admissions = api.node.admissions();
    let caller = match gateway(api, headers) {
        Ok(caller) => caller,
        Err(why) => return unauthorized(admissions, why),
    };
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let settings = admissions.settings();
    let ip = address::client(headers, peer, &settings.trusted_proxies);
    let asked = question(headers).map(|question| Question {
        ip,
        lease_seconds: Some(settings.authorize_lease_seconds),
        ..question
    });
    match asked {
        Ok(asked) => {
            let outcome = decide(admissions, &asked.ask(caller.organizations()), asked.decided);
            let reply = Reply::decided(&outcome, settings.balance_status);
            match &outcome {
                Outcome::Passes(admission, _) => naming(reply, admission),
                Outcome::Refused(_) => reply,
            }
        }
        // Who only observes stands in nobody's way.
        Err(wrong) if settings.mode == Mode::Observe => {
            if let Some(left_out) = admissions.may_say(wrong.code) {
                tracing::warn!(
                    code = wrong.code,
                    message = wrong.message,
                    left_out,
                    "an auth subrequest cannot be read"
                );
            }
            Reply::decided(&Outcome::unread(wrong.code, wrong.message), settings.balance_status)
        }
        Err(Wrong { code, header, message }) => Reply::unreadable(message, header, code),
    }
}

/// A gateway's token that does not work, which every request of its customers tells again.
fn unauthorized(admissions: &Admissions, why: &'static str) -> Reply {
    if let Some(left_out) = admissions.may_say(why) {
        tracing::warn!(why, left_out, "an auth subrequest came without a token that works");
    }
    Reply::gateway_unauthorized()
}

/// Whose the gateway's token is. Errors: why it does not work.
fn gateway(api: &Api, headers: &HeaderMap) -> Result<Caller, &'static str> {
    let token = once(headers, TOKEN).map_err(|_| "Tollbook-Token stands twice")?;
    let token = token.ok_or("there is no Tollbook-Token")?;
    let caller = api.auth.caller(&api.node, token.trim()).map_err(|_| "there is no such token")?;
    caller.may(GATEWAYS).map_err(|_| "the token is not of scope gateway")?;
    Ok(caller)
}

/// What the headers ask.
fn question(headers: &HeaderMap) -> Result<Question<'_>, Wrong> {
    let api_key = match secret(headers) {
        Ok(secret) => secret,
        Err(Code::KeyMissing) => "",
        // No key holds a space, so it is refused as malformed where all are refused and counted.
        Err(_) => " ",
    };
    let Some(model) = once(headers, MODEL)? else {
        return Err(Wrong {
            code: "model_missing",
            header: MODEL,
            message: format!("{MODEL} is missing: which model the request is for"),
        });
    };
    let request_id = once(headers, REQUEST_ID)?.map(request_id).transpose();
    let decided = once(headers, DECIDED)?.map(Decided::of).transpose();
    Ok(Question {
        api_key: api_key.into(),
        ip: None,
        model: ModelName::parse(model).map_err(|error| Wrong::header(MODEL, &error.to_string()))?,
        input_tokens: units(headers, INPUT_TOKENS)?.unwrap_or(0),
        max_output_tokens: units(headers, MAX_OUTPUT_TOKENS)?,
        meters: Meters::new(),
        request_id: request_id.map_err(|why| Wrong::header(REQUEST_ID, why))?.map(Into::into),
        lease_seconds: None,
        decided: decided.map_err(|why| Wrong::header(DECIDED, &why))?,
    })
}

/// A header that says something only if it stands once; an empty one says nothing.
fn once<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Wrong> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            let text = std::str::from_utf8(value.as_bytes());
            let text = text.map_err(|_| Wrong::header(name, "must be UTF-8"))?.trim();
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        (Some(_), Some(_)) => Err(Wrong::header(name, "stands twice")),
    }
}

fn units(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Wrong> {
    let Some(text) = once(headers, name)? else { return Ok(None) };
    let units = text.parse().ok().filter(|units| *units <= QUANTITY_MAX);
    let wrong = || Wrong::header(name, &format!("must be a whole number from 0 to {QUANTITY_MAX}"));
    units.map(Some).ok_or_else(wrong)
}

/// Says in headers who was let in, for what stands behind the proxy.
fn naming(mut reply: Reply, admission: &Admission) -> Reply {
    let said = [
        (&LEASE, admission.lease.as_ref().map(|id| id.as_str())),
        (&ORGANIZATION, admission.organization.as_ref().map(|id| id.as_str())),
        (&PROJECT, admission.project.as_ref().map(|id| id.as_str())),
        (&KEY, admission.api_key_id.as_ref().map(|id| id.as_str())),
        (&TIER, admission.tier.as_ref().map(|tier| tier.as_str())),
    ];
    for (name, value) in said {
        // A tier may be named in any script.
        let value = value.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some(value) = value {
            reply.headers.insert(name, value);
        }
    }
    reply
}

/// The members of a refusal that nginx may want one by one: where they stand, and the headers that say them.
const SINGLE: [(&str, HeaderName); 10] = [
    ("/error/message", HeaderName::from_static("x-tollbook-error-message")),
    ("/error/type", HeaderName::from_static("x-tollbook-error-type")),
    ("/error/code", HeaderName::from_static("x-tollbook-error-code")),
    ("/error/metadata/scope", HeaderName::from_static("x-tollbook-scope")),
    ("/error/metadata/id", HeaderName::from_static("x-tollbook-id")),
    ("/error/metadata/limit", HeaderName::from_static("x-tollbook-limit")),
    ("/error/metadata/current", HeaderName::from_static("x-tollbook-current")),
    ("/error/metadata/resets_at", HeaderName::from_static("x-tollbook-resets-at")),
    ("/error/metadata/retry_after_ms", HeaderName::from_static("x-tollbook-retry-after-ms")),
    ("/error/metadata/retryable", HeaderName::from_static("x-tollbook-retryable")),
];

/// A refusal for nginx, whose `auth_request` passes on no status but 401 and 403 and no body.
fn in_headers(mut reply: Reply) -> Reply {
    reply.headers.insert(&STATUS, HeaderValue::from(reply.status.as_u16()));
    let body = ascii(&String::from_utf8_lossy(&reply.body));
    reply.headers.extend(HeaderValue::try_from(body).ok().map(|body| (BODY.clone(), body)));
    let report: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    for (pointer, name) in SINGLE {
        let value = report.pointer(pointer).map(between_quotes);
        let value = value.and_then(|value| HeaderValue::try_from(value).ok());
        reply.headers.extend(value.map(|value| (name, value)));
    }
    reply.status = StatusCode::FORBIDDEN;
    reply
}

/// A value as JSON writes it, a text as it stands between the quotes.
fn between_quotes(value: &serde_json::Value) -> String {
    let written = ascii(&value.to_string());
    let inner = written.strip_prefix('"').and_then(|text| text.strip_suffix('"')).map(str::to_owned);
    inner.unwrap_or(written)
}

/// JSON in ASCII: what is not, as JSON escapes it.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut units = [0_u16; 2];
    for c in json.chars() {
        // DEL, which JSON need not escape, no header may hold.
        if c.is_ascii() && c != '\u{7f}' {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            let digit = |shift: u8| char::from_digit(u32::from(*unit >> shift & 0xf), 16);
            text.push_str("\\u");
            text.extend([12, 8, 4, 0].into_iter().filter_map(digit));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::AdmissionSettings;
    use crate::clock::Clock;
    use crate::seldom::logged;

    #[test]
    fn a_body_in_a_header_is_ascii() {
        assert_eq!(between_quotes(&"no \"é\"".into()), r#"no \"\u00e9\""#);
        assert_eq!(ascii("{\"a\":\"sk-… 😀\u{7f}\"}"), r#"{"a":"sk-\u2026 \ud83d\ude00\u007f"}"#);
    }

    #[test]
    fn a_gateway_without_a_token_does_not_fill_the_log() {
        let admissions = Admissions::new(AdmissionSettings::default(), Clock::System, 1);
        let lines = logged(|| {
            for why in ["there is no Tollbook-Token", "there is no such token"] {
                for _ in 0..100 {
                    assert_eq!(unauthorized(&admissions, why).code, Some("gateway_unauthorized"));
                }
            }
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
    }

    /// A header that is missing there is one that a customer may forge.
    #[test]
    fn envoy_removes_whatever_decides_a_request_or_names_its_owner() {
        let page = include_str!("../../../../docs/envoy.md");
        let removed: Vec<_> =
            page.lines().filter_map(|line| line.trim().strip_prefix("- remove: ")).collect();
        let asked = [TOKEN, MODEL, INPUT_TOKENS, MAX_OUTPUT_TOKENS, DECIDED];
        let named = [&LEASE, &ORGANIZATION, &PROJECT, &KEY, &TIER].map(HeaderName::as_str);
        assert_eq!(removed, [asked, named].concat());
    }
}
