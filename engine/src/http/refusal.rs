//! Refusals to customers with an API key: the body that clients of LLM APIs already understand.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::{ContentBuilder, ResponseBuilder};

use super::answer::json;
use super::shape::{Out, Parts, Shape, answer};
use crate::owner::CommandError;

/// Why a customer's request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// There is no key in it.
    KeyMissing,
    /// What it has cannot be a key.
    KeyMalformed,
    /// No such key.
    KeyInvalid,
    /// The key was revoked, or its project archived.
    KeyRevoked,
    /// This node cannot tell now.
    NotReady(String),
}

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
        /// The parameter that is meant; none here.
        param: Option<String>,
        /// What exactly, for programs: stable and never reused.
        code: String,
    }
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::KeyMissing | Self::KeyMalformed | Self::KeyInvalid | Self::KeyRevoked => {
                StatusCode::UNAUTHORIZED
            }
            Self::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::KeyMissing | Self::KeyInvalid => "incorrect_api_key_error",
            Self::KeyMalformed | Self::KeyRevoked => "invalid_authentication_error",
            Self::NotReady(_) => "server_unavailable",
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing => "api_key_missing",
            Self::KeyMalformed => "api_key_malformed",
            Self::KeyInvalid => "api_key_invalid",
            Self::KeyRevoked => "api_key_revoked",
            Self::NotReady(_) => "not_ready",
        }
    }

    fn message(self) -> String {
        match self {
            Self::KeyMissing => "no API key: send `Authorization: Bearer sk-…`".to_owned(),
            Self::KeyMalformed => "this is no API key: send `Authorization: Bearer sk-…`".to_owned(),
            Self::KeyInvalid => "there is no such API key".to_owned(),
            Self::KeyRevoked => "this API key was revoked, or its project is archived".to_owned(),
            Self::NotReady(why) => why,
        }
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self::NotReady(error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, kind, code) = (self.status(), self.kind().to_owned(), self.code().to_owned());
        let error = RefusalError { message: self.message(), r#type: kind, param: None, code };
        let mut response = (status, json(&Out(&RefusalReport { error }))).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Adds these refusals to an operation's description.
pub(super) fn refused_as_llm_apis_do(operation: OperationBuilder, parts: &mut Parts) -> OperationBuilder {
    let about = [
        (
            "401",
            "No key, or none that works: `api_key_missing`, `api_key_malformed`, `api_key_invalid`, `api_key_revoked`.",
        ),
        ("503", "Not now: `not_ready`. The same request may be sent again."),
    ];
    about.into_iter().fold(operation, |operation, (status, about)| {
        let content = ContentBuilder::new().schema(Some(RefusalReport::describe(parts))).build();
        let response = ResponseBuilder::new().description(about).content("application/json", content);
        operation.response(status, response.build())
    })
}
