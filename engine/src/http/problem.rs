//! Errors of the management API: RFC 9457 problem details with a stable `code`.

use std::fmt::Display;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tollbook_schemas::rejection::{Rejection, RejectionKind};

use super::shape::{IfAny, Out, answer};
use crate::alerts::feed::AlertFeedError;
use crate::contacts::ContactError;
use crate::delivery::store::StoreError;
use crate::ingress::IngressError;
use crate::log::{AppendError, ReadError};
use crate::node::EraseError;
use crate::owner::CommandError;
use crate::trace::TraceError;

/// Seconds after which somebody who was told 503 should try again.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Faults that one answer names; more of them help nobody.
const FAULTS_MAX: usize = 100;

/// Longest value that is told back in an error.
const ECHO_MAX: usize = 200;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which field, or which event of a batch and which field of it.
    pub(crate) field: String,
    /// Which event of a batch or item of a text, counted from 0.
    pub(crate) index: Option<usize>,
    /// Where in the field's text, in characters from its beginning.
    pub(crate) offset: Option<usize>,
    /// What came, if it is short and no secret.
    pub(crate) value: Option<Value>,
    /// Why it is refused, for programs, where they are told apart.
    pub(crate) code: Option<&'static str>,
    /// Why it is refused.
    pub(crate) reason: String,
}

/// A refusal on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    faults: Vec<Fault>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), faults: Vec::new() }
    }

    /// Not readable at all: 400.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read", detail)
    }

    /// Readable, with fields that are wrong: 400.
    pub(crate) fn fields(faults: Vec<Fault>) -> Self {
        let detail = match faults.first() {
            Some(first) if faults.len() == 1 => format!("{} {}", first.field, first.reason),
            Some(first) => {
                format!("{} {}, and {} more", first.field, first.reason, faults.len().saturating_sub(1))
            }
            None => String::new(),
        };
        Self {
            faults,
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_fields", "Some fields are not valid", detail)
        }
    }

    /// No token, or none that works: 401.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "A service token is needed", detail)
    }

    /// A token that may not do this: 403.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "The token may not do this", detail)
    }

    /// A console that names no member: 403.
    pub(crate) fn actor_missing() -> Self {
        let detail = format!("a console acts for members: name one in {}", super::auth::ACTOR);
        Self::new(StatusCode::FORBIDDEN, "actor_missing", "The token may not do this", detail)
    }

    /// An IP allowlist that cannot be saved (R2.6): 400.
    pub(crate) fn allowlist(detail: String, faults: Vec<Fault>) -> Self {
        let title = "The IP allowlist cannot be saved";
        Self { faults, ..Self::new(StatusCode::BAD_REQUEST, "ip_allowlist_invalid", title, detail) }
    }

    /// Fields that are valid each, but not beside the others: 422.
    pub(crate) fn inconsistent(faults: Vec<Fault>) -> Self {
        let (code, title) = ("inconsistent_fields", "Some fields do not fit the others");
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, code, title, ..Self::fields(faults) }
    }

    /// A query parameter that is not acceptable: 400.
    pub(crate) fn parameter(name: &str, reason: &impl Display) -> Self {
        Self::fields(vec![Fault::at(name, None, reason)])
    }

    /// Nothing there: 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// No such usage record: 404.
    pub(crate) fn usage_not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "usage_not_found", "Not found", detail)
    }

    /// No such lease: 404.
    pub(crate) fn lease_not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "lease_not_found", "Not found", detail)
    }

    /// A usage record that was not booked: 422.
    pub(crate) fn usage_not_booked(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "usage_not_booked", "A rule says no", detail)
    }

    /// A subscription to an alert stream that there is not, as the log is embedded: 422.
    pub(crate) fn no_alert_stream() -> Self {
        let detail = "the log is embedded, so there is no JetStream stream to subscribe to; read GET /v1/alerts or follow GET /v1/alerts/stream, which resume by sequence";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "no_alert_stream", "A rule says no", detail)
    }

    /// A body of a kind that is not taken here: 415.
    pub(crate) fn media_type(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media_type",
            "The media type is not taken here",
            detail,
        )
    }

    /// Too much at once: 413.
    pub(crate) fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The request is too large", detail)
    }

    /// Not now: 503 with `Retry-After`.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "Not available now", detail)
    }

    /// What is wrong, for people.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Our own fault: 500.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        let detail = detail.into();
        tracing::error!(detail, "answered 500");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong here", detail)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let (status, title) = match rejection.kind() {
            RejectionKind::Forbidden => (StatusCode::FORBIDDEN, "Not allowed"),
            RejectionKind::NotFound => (StatusCode::NOT_FOUND, "Not found"),
            RejectionKind::Conflict => (StatusCode::CONFLICT, "It contradicts what is recorded"),
            RejectionKind::Refused => (StatusCode::UNPROCESSABLE_ENTITY, "A rule says no"),
        };
        let mut problem = Self::new(status, rejection.code(), title, rejection.to_string());
        if let Rejection::TierUnknown(tier) = &rejection {
            problem.faults.push(Fault::at("tiers", Some(tier.as_str().into()), &rejection));
        }
        problem
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Rejected(rejection) => rejection.into(),
            CommandError::NotOwner => Self::unavailable("not_owner", error.to_string()),
            CommandError::Busy | CommandError::Forgotten(_) => Self::unavailable("busy", error.to_string()),
            CommandError::ClockSkewed => Self::unavailable("clock_skewed", error.to_string()),
            CommandError::Stopping => Self::unavailable("stopping", error.to_string()),
            CommandError::Log(AppendError::TooLarge { bytes, limit }) => Self::too_large(format!(
                "it would make an entry of {bytes} bytes, and the log takes {limit}; split it"
            )),
            CommandError::Log(
                AppendError::Conflict { .. }
                | AppendError::Refused { .. }
                | AppendError::Unknown { .. }
                | AppendError::Closed,
            ) => Self::unavailable("log_unavailable", error.to_string()),
            CommandError::Encode(_) | CommandError::View(_) => Self::internal(error.to_string()),
        }
    }
}

impl From<IngressError> for Problem {
    fn from(error: IngressError) -> Self {
        let code = match error {
            IngressError::Busy => "busy",
            IngressError::Log(_) => "log_unavailable",
            IngressError::Closed(_) => "not_ready",
        };
        Self::unavailable(code, error.to_string())
    }
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Command(error) => error.into(),
            EraseError::Pending => Self::unavailable("erasure_pending", error.to_string()),
        }
    }
}

impl From<ContactError> for Problem {
    fn from(error: ContactError) -> Self {
        Self::unavailable("contacts_unavailable", error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::unavailable("deliveries_unavailable", error.to_string())
    }
}

impl From<TraceError> for Problem {
    fn from(error: TraceError) -> Self {
        match error {
            TraceError::Owner(error) => error.into(),
            TraceError::Log(error) => error.into(),
            TraceError::Read(reason) => Self::internal(reason),
        }
    }
}

impl From<AlertFeedError> for Problem {
    fn from(error: AlertFeedError) -> Self {
        Self::unavailable("alert_feed_unavailable", error.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::unavailable("log_unavailable", error.to_string())
    }
}

answer! {
    /// Problem details (RFC 9457).
    pub(super) struct Report {
        /// A URI that names the kind of problem.
        r#type: String,
        /// The kind of problem, for people.
        title: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with this request.
        detail: String,
        /// The kind of problem, for programs: stable and never reused.
        code: String,
        /// What is wrong with which field, event or parameter; at most 100 of them.
        errors: IfAny<Vec<FaultReport>>,
    }
}

answer! {
    /// One thing that is wrong with a request.
    pub(super) struct FaultReport {
        /// Which event of a batch or item of a text, counted from 0.
        index: IfAny<u64>,
        /// Where in the field's text it begins, in characters.
        offset: IfAny<u64>,
        /// Which field or parameter.
        field: String,
        /// What came, if it is short.
        value: IfAny<Value>,
        /// Why it is refused, for programs: stable and never reused. Of items of an IP allowlist, one of
        /// `invisible_character`, `separator`, `ipv6`, `port`, `range_notation`, `not_an_address`, `octets`,
        /// `octet_over_255`, `leading_zeros`, `netmask`, `prefix`, `overlap`, `host_bits`, `this_network`, `private`,
        /// `carrier_grade_nat`, `loopback`, `link_local`, `protocol_assignments`, `documentation`, `benchmarking`,
        /// `multicast`, `reserved`; further ones may come.
        code: IfAny<String>,
        /// Why it is refused.
        reason: String,
    }
}

impl Problem {
    /// Its HTTP status.
    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// What kind it is, for programs.
    pub(crate) const fn code(&self) -> &'static str {
        self.code
    }

    /// Its headers and its body.
    pub(crate) fn written(self) -> (HeaderMap, Vec<u8>) {
        let errors: Vec<_> = self.faults.into_iter().take(FAULTS_MAX).map(Fault::report).collect();
        let report = Report {
            r#type: format!("https://tollbook.dev/problems/{}", self.code.replace('_', "-")),
            title: self.title.to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
            errors: IfAny(Some(errors).filter(|errors| !errors.is_empty())),
        };
        let body = serde_json::to_vec(&Out(&report)).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        (headers, body)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let (headers, body) = self.written();
        (status, headers, body).into_response()
    }
}

impl Fault {
    /// A fault of one field; `value` is told back if it is short.
    pub(super) fn at(field: &str, value: Option<Value>, reason: impl Display) -> Self {
        let value = value.filter(|value| value.to_string().len() <= ECHO_MAX);
        let (field, reason) = (field.to_owned(), reason.to_string());
        Self { field, index: None, offset: None, value, code: None, reason }
    }

    fn report(self) -> FaultReport {
        let number = |number: Option<usize>| IfAny(number.and_then(|number| u64::try_from(number).ok()));
        FaultReport {
            index: number(self.index),
            offset: number(self.offset),
            field: self.field,
            value: IfAny(self.value),
            code: IfAny(self.code.map(str::to_owned)),
            reason: self.reason,
        }
    }
}

/// No such path.
pub(super) async fn no_route() -> Problem {
    Problem::not_found("there is nothing at this path")
}

/// A path that does not take this method.
pub(super) async fn no_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "The method is not taken here",
        "the path exists, but not with this method",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_entry_holds_is_too_large() {
        let error = CommandError::Log(AppendError::TooLarge { bytes: 1_048_700, limit: 1_048_576 });
        let problem = Problem::from(error);
        assert_eq!((problem.status, problem.code), (StatusCode::PAYLOAD_TOO_LARGE, "too_large"));
        assert!(problem.detail.contains("1048700") && problem.detail.contains("1048576"), "{problem:?}");
    }
}
