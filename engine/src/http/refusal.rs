//! Refusals to customers with an API key: the body that clients of LLM APIs already understand.

use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{ContentBuilder, ResponseBuilder};

use super::admissions::reply::Reply;
use super::problem::Report;
use super::shape::{Described, IfAny, Out, Parts, Shape, ToJson, answer};
use crate::admission::refusal::Quantity;
use crate::admission::{AdmissionSettings, Code, Refusal};
use crate::owner::CommandError;

answer! {
    /// A refusal as clients of LLM APIs know it.
    pub(super) struct RefusalReport {
        /// What is wrong.
        error: RefusalError,
    }
}

answer! {
    /// What is wrong.
    pub(super) struct RefusalError {
        /// For people.
        message: String,
        /// The kind of refusal, for programs.
        r#type: String,
        /// The parameter or header that is meant, where it is one.
        param: Option<String>,
        /// What exactly, for programs: stable and never reused.
        code: String,
        /// Whose limit it was, where it stands, and when to come back.
        metadata: RefusalMetadata,
    }
}

answer! {
    /// Whose limit refused a request, where it stands, and when to come back.
    pub(super) struct RefusalMetadata {
        /// Whose limit: `organization`, `project` or `api_key`.
        scope: IfAny<String>,
        /// Its id.
        id: IfAny<String>,
        /// The limit: requests or tokens as a number, money as a string.
        limit: IfAny<Figure>,
        /// What counted towards it before this request.
        current: IfAny<Figure>,
        /// What of that is only held for requests in progress, where a budget is enforced strictly.
        held: IfAny<Figure>,
        /// What this request would have added.
        requested: IfAny<Figure>,
        /// When the request has room, or the period of the limit ends.
        resets_at: IfAny<Timestamp>,
        /// For how many milliseconds to wait: exact, but for a hint of 1,000 where nobody knows when other requests end.
        retry_after_ms: IfAny<u64>,
        /// Whether the same request may pass later.
        retryable: bool,
    }
}

/// A count, or money.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure(Quantity);

impl Shape for Figure {
    fn describe(parts: &mut Parts) -> Described {
        OneOfBuilder::new().item(u64::describe(parts)).item(Amount::describe(parts)).into()
    }
}

impl ToJson for Figure {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Quantity::Count(count) => to.serialize_u64(*count),
            Quantity::Money(amount) => Out(amount).serialize(to),
        }
    }
}

impl RefusalReport {
    /// What a refusal says.
    pub(super) fn of(refusal: &Refusal) -> Self {
        let subject = refusal.subject.as_ref();
        let (limit, current, requested) = match refusal.reached {
            Some(reached) => (Some(reached.limit), Some(reached.current), reached.requested),
            None => (None, None, None),
        };
        let figure = |quantity: Option<Quantity>| IfAny(quantity.map(Figure));
        let metadata = RefusalMetadata {
            scope: IfAny(subject.map(|subject| subject.scope().to_owned())),
            id: IfAny(subject.map(|subject| subject.id().to_owned())),
            limit: figure(limit),
            current: figure(current),
            held: figure(refusal.held.map(Quantity::Money)),
            requested: figure(requested),
            resets_at: IfAny(refusal.resets_at),
            retry_after_ms: IfAny(refusal.retry_after_ms().and_then(|millis| u64::try_from(millis).ok())),
            retryable: refusal.retryable(),
        };
        let error = RefusalError {
            message: refusal.message(),
            r#type: refusal.code.kind().to_owned(),
            param: None,
            code: refusal.code.as_str().to_owned(),
            metadata,
        };
        Self { error }
    }

    /// The same with another code.
    pub(super) fn with_code(mut self, code: &str) -> Self {
        code.clone_into(&mut self.error.code);
        self
    }

    /// A request that cannot be read, in the same words; `param` is what is meant.
    pub(super) fn unreadable(message: String, param: &str, code: &str) -> Self {
        let nothing = RefusalMetadata {
            scope: IfAny(None),
            id: IfAny(None),
            limit: IfAny(None),
            current: IfAny(None),
            held: IfAny(None),
            requested: IfAny(None),
            resets_at: IfAny(None),
            retry_after_ms: IfAny(None),
            retryable: false,
        };
        let error = RefusalError {
            message,
            r#type: "invalid_request_error".to_owned(),
            param: Some(param.to_owned()),
            code: code.to_owned(),
            metadata: nothing,
        };
        Self { error }
    }
}

/// A customer is refused what is no admission: only for the key, or as this node cannot tell now.
#[derive(Debug)]
pub(super) struct Refused(Refusal);

impl Refused {
    pub(super) fn not_ready(why: &str) -> Self {
        Self(Refusal::not_ready(why))
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Self(Refusal::bare(code))
    }
}

impl From<CommandError> for Refused {
    fn from(error: CommandError) -> Self {
        Self::not_ready(&error.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        Reply::refused(&self.0, AdmissionSettings::default().balance_status).into_response()
    }
}

/// Adds these refusals to an operation's description; those of `problems` may be told as problem details, too.
pub(super) fn refused_as_llm_apis_do(
    operation: OperationBuilder,
    about: &[(u16, &str)],
    problems: &[u16],
    parts: &mut Parts,
) -> OperationBuilder {
    about.iter().fold(operation, |operation, (status, about)| {
        let content = |schema| ContentBuilder::new().schema(Some(schema)).build();
        let report = content(RefusalReport::describe(parts));
        let mut response = ResponseBuilder::new().description(*about).content("application/json", report);
        if problems.contains(status) {
            response = response.content("application/problem+json", content(Report::describe(parts)));
        }
        operation.response(status.to_string(), response.build())
    })
}
