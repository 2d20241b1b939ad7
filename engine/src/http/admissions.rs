//! Admission over HTTP: may this request pass (R5), and what became of it.

mod address;
mod authorize;
mod disagreements;
mod limits;
pub(crate) mod reply;
pub(crate) mod sent;

use axum::body::{Body as RequestBody, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::routing::{delete, post};
use mediatype::MediaType;
use tollbook_schemas::id::{LeaseId, OrgId};
use tollbook_schemas::policy::Scope;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Required, ResponseBuilder};

use self::reply::{Admission, ReleasedLease, RenewedLease, Reply, SettledLease};
use self::sent::{Door, NewAdmission, NewRenewal, NewSettlement};
use super::Api;
use super::answer::{Answer, Json};
use super::auth::Caller;
use super::body::Body;
use super::document::{Routes, Says, Verb, refused, service_token};
use super::problem::Problem;
use super::reading::no_query;
use super::refusal::refused_as_llm_apis_do;
use super::shape::{Described, Parts as Descriptions, Shape, ToJson};
use crate::node::Node;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Admission", "May this request pass? For gateways, with a token of scope `gateway`.");
    let says = Says {
        id: "admit",
        summary: "Ask whether a request may pass, and reserve what it may come to",
        more: "A concurrency slot, the estimated tokens and their price are reserved until the lease is settled by usage \
               that names it, is settled or released here, or is over. Refusals have the body that clients of LLM APIs \
               know, and are best passed on as they are. In observe mode every request passes, and `observed` says why \
               it would not have.",
    };
    let describe = |_: OperationBuilder, parts: &mut Descriptions| {
        let operation =
            says.begin().security(service_token()).request_body(Some(body::<NewAdmission>(parts, true)));
        let answer = limited(Json::<Admission>::describe(parts)).build();
        let operation = refused(operation.response("200", answer), &[413, 415, 500]);
        refused_as_llm_apis_do(operation, REFUSALS, &[400, 401, 403], parts)
    };
    routes.other(Verb::Post, "/v1/admissions", describe, post(admit));
    authorize::routes(routes);
    let says = Says {
        id: "settleLease",
        summary: "Say that the request of a lease is over",
        more: "Its slot is free. With its numbers the token windows are corrected and the hold shrinks to what it cost, \
               until its usage is applied; without, tokens and hold stay until then, or until the lease is over. Nothing \
               is booked: usage does that. It may be said twice. With `Prefer: return=minimal` the answer is 204.",
    };
    routes.other(
        Verb::Post,
        "/v1/admissions/{lease}/settle",
        |_, parts| of_lease::<SettledLease>(says, Some(body::<NewSettlement>(parts, false)), parts),
        post(settle),
    );
    let says = Says {
        id: "releaseLease",
        summary: "Give back what a lease has reserved",
        more: "Slot, tokens and hold, but not its request count: the request was made. With `Prefer: return=minimal` the \
               answer is 204.",
    };
    routes.other(
        Verb::Delete,
        "/v1/admissions/{lease}",
        |_, parts| of_lease::<ReleasedLease>(says, None, parts),
        delete(release),
    );
    let says = Says {
        id: "renewLease",
        summary: "Let a lease live on",
        more: "So many seconds from now; for requests that take longer than leases live.",
    };
    routes.other(
        Verb::Post,
        "/v1/admissions/{lease}/renew",
        |_, parts| of_lease::<RenewedLease>(says, Some(body::<NewRenewal>(parts, false)), parts),
        post(renew),
    );
    disagreements::routes(routes);
}

/// What is refused to customers, by status.
const REFUSALS: &[(u16, &str)] = &[
    (
        400,
        "The gateway's own fault: problem details that name every bad field; at `/v1/authorize` `model_missing` or \
         `header_invalid`.",
    ),
    (
        401,
        "`api_key_missing`, `api_key_malformed`, `api_key_invalid`, `api_key_revoked`; or the gateway's own token does \
         not work, as problem details.",
    ),
    (
        403,
        "`ip_not_allowed`; or the gateway's own token has another scope, as problem details. What money or a budget \
         refuses too, where that is so configured.",
    ),
    (404, "`model_not_found`."),
    (409, "`request_id_conflict`: another request with this id is not over."),
    (
        429,
        "`recharge_required`, `insufficient_balance`, `balance_below_request`, `project_daily_budget`, \
         `project_monthly_budget`; `organization_concurrency`, `organization_rpm`, `organization_tpm`, \
         `organization_tpd`, `project_tpm`, `organization_leases`.",
    ),
    (503, "`not_ready`: this node is behind, or another one decides. The same request may be sent again."),
];

/// A request's body.
fn body<T: Shape>(parts: &mut Descriptions, needed: bool) -> utoipa::openapi::request_body::RequestBody {
    let content = ContentBuilder::new().schema(Some(T::describe(parts))).build();
    let needed = if needed { Required::True } else { Required::False };
    RequestBodyBuilder::new().content("application/json", content).required(Some(needed)).build()
}

/// An operation on a lease.
fn of_lease<T: ToJson>(
    says: Says,
    body: Option<utoipa::openapi::request_body::RequestBody>,
    parts: &mut Descriptions,
) -> OperationBuilder {
    let lease = ParameterBuilder::new()
        .name("lease")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("Which lease."))
        .schema(Some(<LeaseId as Shape>::describe(parts)))
        .build();
    let statuses: &[u16] = match body {
        Some(_) => &[400, 401, 403, 404, 413, 415, 500, 503],
        None => &[400, 401, 403, 404, 500, 503],
    };
    let operation = says.begin().security(service_token()).parameter(lease).request_body(body);
    let minimal = ResponseBuilder::new().description("The same, where nobody wants to read it.");
    let operation = operation.response("200", Json::<T>::describe(parts).build());
    refused(operation.response("204", minimal.build()), statuses)
}

/// Adds the headers that say how limits stand.
fn limited(mut response: ResponseBuilder) -> ResponseBuilder {
    let header = |about: &str, schema: Type| -> Header {
        let schema: Described = ObjectBuilder::new().schema_type(schema).into();
        HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
    };
    for unit in ["requests", "tokens"] {
        let of = |what: &str| format!("x-ratelimit-{what}-{unit}");
        response = response
            .header(of("limit"), header("The limit of a minute; absent where there is none.", Type::Integer))
            .header(of("remaining"), header("What is left of it.", Type::Integer))
            .header(of("reset"), header("When all of it is back: `12ms`, `1s`, `6m0s`.", Type::String));
    }
    response
        .header("RateLimit-Policy", header("All limits, as the IETF's draft writes them.", Type::String))
        .header("RateLimit", header("How they stand.", Type::String))
}

const GATEWAYS: &[Scope] = &[Scope::Gateway];

/// What a gateway sent, with a token that may ask.
struct Sent {
    node: Node,
    caller: Caller,
    body: Bytes,
    /// Whether nobody wants to read what was done (RFC 7240).
    minimal: bool,
}

impl Sent {
    fn organizations(&self) -> Option<&[OrgId]> {
        self.caller.organizations()
    }

    /// The answer, without a body where nobody wants to read it.
    fn answered(&self, reply: Reply) -> Reply {
        if !self.minimal || reply.status != StatusCode::OK {
            return reply;
        }
        let headers = HeaderMap::from_iter([(PREFERENCE_APPLIED, HeaderValue::from_static(MINIMAL))]);
        Reply { status: StatusCode::NO_CONTENT, headers, body: Bytes::new(), code: None }
    }
}

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";

impl Sent {
    /// Reads the rest of a request, whose token may ask.
    async fn read(caller: Caller, parts: Parts, body: RequestBody, api: &Api) -> Result<Self, Problem> {
        no_parameters(&parts)?;
        is_json(&parts.headers)?;
        let prefer = parts.headers.get("prefer");
        let minimal = prefer.is_some_and(|prefer| prefer.as_bytes() == MINIMAL.as_bytes());
        let Body(body) = Body::from_request(Request::from_parts(parts, body), api).await?;
        Ok(Self { node: api.node.clone(), caller, body, minimal })
    }
}

async fn gateway(parts: &mut Parts, api: &Api) -> Result<Caller, Problem> {
    let caller = Caller::from_request_parts(parts, api).await?;
    caller.may(GATEWAYS)?;
    Ok(caller)
}

impl FromRequest<Api> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = gateway(&mut parts, api).await?;
        Self::read(caller, parts, body, api).await
    }
}

/// What a gateway sent about a lease.
struct OfLease {
    lease: String,
    sent: Sent,
}

impl FromRequest<Api> for OfLease {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = gateway(&mut parts, api).await?;
        let Path(lease) = Path::from_request_parts(&mut parts, api)
            .await
            .map_err(|rejection| Problem::malformed(rejection.body_text()))?;
        Ok(Self { lease, sent: Sent::read(caller, parts, body, api).await? })
    }
}

fn no_parameters(parts: &Parts) -> Result<(), Problem> {
    match parts.uri.query() {
        None => Ok(()),
        Some(_) => no_query(parts),
    }
}

/// Refuses what says that it is no JSON.
fn is_json(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(content_type) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    if content_type.as_bytes() == b"application/json" {
        return Ok(());
    }
    let text = content_type.to_str().unwrap_or_default();
    let json = MediaType::parse(text)
        .is_ok_and(|media| media.essence() == mediatype::media_type!(APPLICATION / JSON));
    if json { Ok(()) } else { Err(Problem::media_type(format!("this takes application/json, not {text}"))) }
}

async fn admit(sent: Sent) -> Reply {
    reply::admit(sent.node.admissions(), &sent.body, sent.organizations())
}

async fn settle(OfLease { lease, sent }: OfLease) -> Reply {
    let door = Door::Http(&lease);
    sent.answered(reply::settle(sent.node.admissions(), door, &sent.body, sent.organizations()))
}

async fn release(OfLease { lease, sent }: OfLease) -> Reply {
    let door = Door::Http(&lease);
    sent.answered(reply::release(sent.node.admissions(), door, &sent.body, sent.organizations()))
}

async fn renew(OfLease { lease, sent }: OfLease) -> Reply {
    let door = Door::Http(&lease);
    sent.answered(reply::renew(sent.node.admissions(), door, &sent.body, sent.organizations()))
}
