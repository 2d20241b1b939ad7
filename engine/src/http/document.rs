//! The document that describes the API (OpenAPI 3.1), made of the routes as they are registered, so that none exists
//! without its description.

use axum::Router;
use axum::routing::{MethodFilter, MethodRouter, on};
use tollbook_schemas::id::MemberId;
use tollbook_schemas::position::LogPosition;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Paths, Ref, Required, ResponseBuilder,
};

use super::Api;
use super::answer::Answer;
use super::auth::ACTOR;
use super::path::{About, Ids};
use super::problem::{Problem, Report};
use super::reading::{MIN_POSITION, Reading};
use super::shape::{Described, Parts, Record, Shape};
use super::write::{IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_MAX, Write};

/// The security scheme of service tokens.
const TOKEN: &str = "token";
/// The security scheme of customers' API keys.
const API_KEY: &str = "api_key";
/// The security scheme of gateways' tokens beside customers' API keys.
const GATEWAY_TOKEN: &str = "gateway_token";

/// Methods that this API takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }

    const fn described(self) -> HttpMethod {
        match self {
            Self::Get => HttpMethod::Get,
            Self::Post => HttpMethod::Post,
            Self::Put => HttpMethod::Put,
            Self::Patch => HttpMethod::Patch,
            Self::Delete => HttpMethod::Delete,
        }
    }
}

/// What people are told about an operation that its types do not tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Says {
    /// Its name, for programs.
    pub(super) id: &'static str,
    /// What it does, in one sentence.
    pub(super) summary: &'static str,
    /// What else is to know; may be empty.
    pub(super) more: &'static str,
}

impl Says {
    /// The beginning of the operation's description.
    pub(super) fn begin(self) -> OperationBuilder {
        let more = Some(self.more).filter(|more| !more.is_empty());
        OperationBuilder::new().operation_id(Some(self.id)).summary(Some(self.summary)).description(more)
    }
}

/// Routes, and what describes them.
pub(super) struct Routes {
    pub(super) router: Router<Api>,
    paths: Paths,
    parts: Parts,
    tags: Vec<Tag>,
    family: &'static str,
}

impl Routes {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            router: Router::new(),
            paths: Paths::new(),
            parts: Parts::default(),
            tags: Vec::new(),
            family: "",
        }
    }

    /// Begins a family: the routes that follow are its.
    pub(super) fn family(&mut self, name: &'static str, about: &str) {
        self.family = name;
        self.tags.push(TagBuilder::new().name(name).description(Some(about)).build());
    }

    /// A management write.
    pub(super) fn write<P, T, A, F, H>(&mut self, verb: Verb, path: &'static str, says: Says, handler: H)
    where
        P: Ids + Send + 'static,
        T: Record + Shape + Send + 'static,
        A: Answer,
        F: Future<Output = Result<A, Problem>> + Send + 'static,
        H: Fn(Write<P, T>) -> F + Clone + Send + Sync + 'static,
    {
        let mut operation = self.operation::<P, A>(path, says, WRITING);
        operation = operation.parameter_ref(shared_parameter(IDEMPOTENCY_KEY));
        if T::ANY {
            let content = ContentBuilder::new().schema(Some(T::describe(&mut self.parts))).build();
            let body = RequestBodyBuilder::new().content("application/json", content);
            operation = operation.request_body(Some(body.required(Some(Required::True)).build()));
        }
        self.add(verb, path, operation, on(verb.filter(), handler));
    }

    /// A management read.
    pub(super) fn read<P, Q, A, F, H>(&mut self, path: &'static str, says: Says, handler: H)
    where
        P: Ids + Send + 'static,
        Q: Record + Send + 'static,
        A: Answer,
        F: Future<Output = Result<A, Problem>> + Send + 'static,
        H: Fn(Reading<P, Q>) -> F + Clone + Send + Sync + 'static,
    {
        let mut operation = self.operation::<P, A>(path, says, READING);
        for member in Q::members(&mut self.parts) {
            operation = operation.parameter(member.parameter());
        }
        operation = operation.parameter_ref(shared_parameter(MIN_POSITION));
        self.add(Verb::Get, path, operation, on(Verb::Get.filter(), handler));
    }

    /// Anything else, described by whoever registers it.
    pub(super) fn other(
        &mut self,
        verb: Verb,
        path: &'static str,
        describe: impl FnOnce(OperationBuilder, &mut Parts) -> OperationBuilder,
        handler: MethodRouter<Api>,
    ) {
        let operation = describe(OperationBuilder::new(), &mut self.parts);
        self.add(verb, path, operation, handler);
    }

    /// What takes any method, described as a GET; on paths that mean the same, of which the first is described.
    pub(super) fn any(
        &mut self,
        paths: &[&'static str],
        describe: impl FnOnce(&mut Parts) -> OperationBuilder,
        handler: MethodRouter<Api>,
    ) {
        let operation = describe(&mut self.parts).tag(self.family).build();
        if let Some(path) = paths.first() {
            self.paths.add_path_operation(path.replace("{*", "{"), vec![HttpMethod::Get], operation);
        }
        for path in paths {
            self.router = std::mem::take(&mut self.router).route(path, handler.clone());
        }
    }

    /// What every management operation has.
    fn operation<P: Ids, A: Answer>(&mut self, path: &str, says: Says, refusals: &[u16]) -> OperationBuilder {
        let mut names = path.split(['{', '}']).skip(1).step_by(2);
        let ids = P::parameters(&mut names, &mut self.parts);
        // What newcomers name stands in the body.
        let anything = |status: &u16| *status != 404 || !ids.is_empty() || P::ABOUT == About::Newcomer;
        let refusals: Vec<u16> = refusals.iter().copied().filter(anything).collect();
        let answer = A::describe(&mut self.parts).build();
        let mut operation = says.begin().security(service_token()).response(A::STATUS.to_string(), answer);
        operation = operation.parameters(Some(ids));
        if P::ABOUT == About::Organization {
            operation = operation.parameter_ref(shared_parameter(ACTOR));
        }
        refused(operation, &refusals)
    }

    fn add(
        &mut self,
        verb: Verb,
        path: &'static str,
        operation: OperationBuilder,
        handler: MethodRouter<Api>,
    ) {
        let operation = operation.tag(self.family).build();
        self.paths.add_path_operation(path, vec![verb.described()], operation);
        self.router = std::mem::take(&mut self.router).route(path, handler);
    }

    /// The routes, and the document that describes them all.
    pub(super) fn finish(mut self) -> (Router<Api>, OpenApi) {
        let report = Report::describe(&mut self.parts);
        let mut components = ComponentsBuilder::new()
            .security_scheme(
                TOKEN,
                bearer(
                    "A service token. The first start writes one with every scope to `admin-token` in the data directory.",
                ),
            )
            .security_scheme(API_KEY, bearer("A customer's API key, `sk-…`."))
            .security_scheme(GATEWAY_TOKEN, gateway_scheme());
        for (name, parameter) in shared_parameters(&mut self.parts) {
            components = components.parameter(name, parameter);
        }
        for (status, name, about) in REFUSALS {
            components = components.response(name, refusal(status, about, &report));
        }
        let components =
            self.parts.schemas.into_iter().fold(components, |all, (name, schema)| all.schema(name, schema));
        let info =
            InfoBuilder::new().title("Tollbook").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT));
        let document = OpenApiBuilder::new()
            .info(info)
            .tags(Some(self.tags))
            .paths(self.paths)
            .components(Some(components.build()));
        (self.router, document.build())
    }
}

/// The document as it is served.
#[derive(Clone, Debug)]
pub(super) struct Document(pub(super) std::sync::Arc<str>);

/// The document as text, the same for the same routes.
pub(super) fn text(document: &OpenApi) -> String {
    document.to_pretty_json().unwrap_or_default() + "\n"
}

/// What holds for all of it.
const ABOUT: &str = "The HTTP API of a Tollbook server: an event-sourced ledger for prepaid, metered APIs.\n\n\
Amounts are decimal numbers in strings, times RFC 3339 in UTC. Every write answers with its position in the log; reads \
on the same node see it, reads elsewhere wait for it with `min_position`. Fields and parameters that a request does \
not have are refused, and so are headers of ours that stand twice. A path that takes other methods answers 405 and \
names them in `Allow`. Refusals are problem details (RFC 9457) with a stable `code`; what is not HTTP, or has too long \
an address or too many headers, is answered 400, 414 or 431 without one.";

/// Statuses of refusals that every write may answer with.
const WRITING: &[u16] = &[400, 401, 403, 404, 409, 413, 415, 422, 500, 503];
/// Statuses of refusals that every read may answer with.
const READING: &[u16] = &[400, 401, 403, 404, 500, 503];

/// Refusals: status, name of the description, and what they say.
const REFUSALS: [(u16, &str, &str); 10] = [
    (
        400,
        "Malformed",
        "It cannot be read, or some fields or parameters are not valid: `errors` names them all.",
    ),
    (401, "Unauthorized", "No token, or none that works."),
    (403, "Forbidden", "The token, the member's role or the organization's verification does not allow it."),
    (404, "NotFound", "There is no such thing."),
    (409, "Conflict", "It contradicts what is recorded, or the idempotency key came with another request."),
    (413, "TooLarge", "More than a request or an entry of the log holds."),
    (415, "MediaType", "The body is of a kind that is not taken here."),
    (422, "Refused", "A rule says no."),
    (500, "Internal", "Something is wrong with the server."),
    (503, "Unavailable", "Not now, or not on this node: the same request may be sent again."),
];

/// Adds refusals of these statuses.
pub(super) fn refused(operation: OperationBuilder, statuses: &[u16]) -> OperationBuilder {
    let wanted = REFUSALS.iter().filter(|(status, _, _)| statuses.contains(status));
    wanted.fold(operation, |operation, (status, name, _)| {
        operation.response(status.to_string(), Ref::from_response_name(*name))
    })
}

fn refusal(status: u16, about: &str, report: &Described) -> ResponseBuilder {
    let content = ContentBuilder::new().schema(Some(report.clone())).build();
    let response = ResponseBuilder::new().description(about).content("application/problem+json", content);
    let header = |schema: ObjectBuilder, about: &str| {
        HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
    };
    match status {
        401 => {
            let schema = ObjectBuilder::new().schema_type(Type::String);
            response.header("WWW-Authenticate", header(schema, "The scheme: Bearer."))
        }
        503 => {
            let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
            response.header("Retry-After", header(schema, "Seconds after which to try again."))
        }
        _ => response,
    }
}

/// A service token is needed.
pub(super) fn service_token() -> SecurityRequirement {
    SecurityRequirement::new(TOKEN, [""; 0])
}

/// A customer's API key is needed.
pub(super) fn api_key() -> SecurityRequirement {
    SecurityRequirement::new(API_KEY, [""; 0])
}

/// A gateway's token and a customer's API key are needed.
pub(super) fn gateway_token() -> SecurityRequirement {
    SecurityRequirement::new(GATEWAY_TOKEN, [""; 0]).add(API_KEY, [""; 0])
}

fn gateway_scheme() -> SecurityScheme {
    let about = "A service token of scope `gateway`, where `Authorization` holds the customer's API key.";
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description("Tollbook-Token", about)))
}

fn bearer(about: &str) -> SecurityScheme {
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
    SecurityScheme::Http(scheme.build())
}

fn shared_parameter(name: &str) -> Ref {
    Ref::new(format!("#/components/parameters/{name}"))
}

fn shared_parameters(parts: &mut Parts) -> [(&'static str, Parameter); 3] {
    let parameter = |name: &'static str, place, about: &str, schema: Described| {
        let parameter = ParameterBuilder::new().name(name).parameter_in(place).description(Some(about));
        (name, parameter.schema(Some(schema)).build())
    };
    let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    [
        parameter(
            IDEMPOTENCY_KEY,
            ParameterIn::Header,
            "Makes repetitions harmless: the same request with the same key changes nothing and is answered as the \
             first time, without secrets. Refusals are not remembered.",
            key.max_length(Some(IDEMPOTENCY_KEY_MAX)).into(),
        ),
        parameter(
            ACTOR,
            ParameterIn::Header,
            "The member on whose behalf this is asked, who must be allowed it. A console names one always; an operator \
             acts as the platform without one.",
            <MemberId as Shape>::describe(parts),
        ),
        parameter(
            MIN_POSITION,
            ParameterIn::Query,
            "A position that a write answered with; the answer is not from before it.",
            <LogPosition as Shape>::describe(parts),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

    /// With `TOLLBOOK_GOLDEN=write` in the environment the document is written instead of compared.
    #[test]
    fn the_document_is_the_published_one() {
        let (_, document) = super::super::routes().finish();
        let found = text(&document);
        if std::env::var_os("TOLLBOOK_GOLDEN").is_some_and(|mode| mode == "write") {
            fs::write(GOLDEN, found).unwrap();
            return;
        }
        let published = fs::read_to_string(GOLDEN).unwrap();
        assert!(found == published, "docs/openapi.json is not what the routes say: write it anew");
    }

    #[test]
    fn every_operation_is_whole() {
        let (_, document) = super::super::routes().finish();
        let document: serde_json::Value = serde_json::from_str(&text(&document)).unwrap();
        let mut ids = std::collections::BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (verb, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                assert!(ids.insert(id), "{verb} {path}: the operationId stands twice");
                assert!(operation["summary"].is_string() && operation["tags"][0] != "", "{verb} {path}");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let named =
                    |name: &str| parameters.iter().any(|one| one["in"] == "path" && one["name"] == name);
                let inner = path.split(['{', '}']).skip(1).step_by(2);
                assert!(inner.clone().all(named), "{verb} {path}: a path parameter is not described");
                let described = parameters.iter().filter(|one| one["in"] == "path").count();
                assert_eq!(described, inner.count(), "{verb} {path}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let (_, document) = super::super::routes().finish();
        let document: serde_json::Value = serde_json::from_str(&text(&document)).unwrap();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} is not there");
        }
    }
}
