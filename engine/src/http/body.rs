//! The body of a request; what is too much of it is refused as everything else is.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};

use super::problem::Problem;

/// The whole body, at most as large as any request may be.
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let encoding = request.headers().get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::media_type("bodies are taken as they are, without a Content-Encoding"));
        }
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Problem::too_large("a request holds at most 1 MiB"))
            }
            Err(rejection) => Err(Problem::malformed(rejection.body_text())),
        }
    }
}
