//! One call of a webhook.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Response, StatusCode};
use tollbook_schemas::time::Timestamp;

use super::DeliveryError;
use super::address::{Allowed, UrlError};
use super::outcome::{Outcome, Verdict};
use super::settings::WebhookSettings;
use super::sign::signatures;
use super::told::Told;

/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 1_024;
const AGENT: &str = concat!("tollbook/", env!("CARGO_PKG_VERSION"));

/// What calls webhooks. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    client: Client,
    allowed: Allowed,
    allow_http: bool,
}

impl Caller {
    /// One that obeys these settings. Errors: a certificate cannot be used.
    pub(crate) fn new(settings: &WebhookSettings) -> Result<Self, DeliveryError> {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was chosen before");
        }
        let allowed = Allowed::new(&settings.allow_private);
        let mut client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .timeout(settings.timeout)
            // Every attempt goes where the name leads then.
            .pool_max_idle_per_host(0)
            .dns_resolver(allowed.clone());
        if let Some(path) = &settings.tls_ca {
            let failed = |reason: String| DeliveryError::Certificate { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let trusted = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
            client = client.tls_certs_merge(trusted);
        }
        let client = client.build().map_err(|error| DeliveryError::Client(error.to_string()))?;
        Ok(Self { client, allowed, allow_http: settings.allow_http })
    }

    /// Whether a URL may be called. Errors: why not.
    pub(crate) fn check(&self, url: &str) -> Result<(), UrlError> {
        self.allowed.url(url, self.allow_http).map(drop)
    }

    /// Calls a webhook once, at `now`, signed with each of `secrets`.
    pub(crate) async fn call(&self, url: &str, secrets: &[&str], told: &Told, now: Timestamp) -> Outcome {
        let url = match self.allowed.url(url, self.allow_http) {
            Ok(url) => url,
            Err(error) => return Outcome::failed(None, format!("the URL {error}")),
        };
        let (id, timestamp, body) = (told.id.as_str(), now.seconds(), told.body());
        let Some(signature) = signatures(secrets, id, timestamp, &body) else {
            return Outcome::failed(None, "the secret cannot be used".to_owned());
        };
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, AGENT)
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => Outcome::failed(None, reason(&error)),
        }
    }
}

/// What an answer means (Standard Webhooks).
async fn judge(response: Response) -> Outcome {
    let status = response.status();
    let code = Some(status.as_u16());
    let retry_after = retry_after(status, response.headers());
    drain(response).await;
    if status.is_success() {
        return Outcome { verdict: Verdict::Delivered, status: code, error: None, retry_after: None };
    }
    let error = match status {
        status if status.is_redirection() => "it answers with a redirect, which is not followed".to_owned(),
        StatusCode::GONE => "it says that it is gone".to_owned(),
        // Not what it says: that may name what of its URL is secret.
        _ => format!("it answers {}", status.as_u16()),
    };
    let verdict = if status == StatusCode::GONE { Verdict::Gone } else { Verdict::Failed };
    Outcome { verdict, status: code, error: Some(error), retry_after }
}

/// What a receiver that is busy asks for; only as seconds, as nearly all do.
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    let asked = headers.get(RETRY_AFTER).filter(|_| busy.contains(&status))?;
    asked.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Reads the beginning of an answer, so that a receiver that still writes one is not cut off; the rest is not read.
async fn drain(mut response: Response) {
    let mut read = 0_usize;
    while read < ANSWER_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => read = read.saturating_add(chunk.len()),
            Ok(None) | Err(_) => break,
        }
    }
}

/// Why nothing was answered, with its innermost cause and without the URL, which may hold a secret.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    match cause {
        Some(cause) => format!("it could not be reached: {cause}"),
        None => "it could not be reached".to_owned(),
    }
}
