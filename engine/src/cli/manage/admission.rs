//! Asking for admission by hand: to try a key, or to see what a gateway would be told (R5).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Calls, Id, ManageError};

const ADMITTED: &[&str] = &[
    "lease",
    "expires_at",
    "organization",
    "project",
    "api_key_id",
    "tier",
    "remaining.concurrency",
    "remaining.requests",
    "remaining.tokens",
    "remaining.tokens_today",
    "remaining.project_tokens",
    "remaining.balance",
];
const SETTLED: &[&str] = &["lease", "held", "expires_at"];
const RELEASED: &[&str] = &["lease"];
const RENEWED: &[&str] = &["lease", "expires_at"];
const DISAGREEMENTS: &[&str] = &["at", "theirs", "ours", "model", "organization", "message"];

/// May this request pass?
#[derive(Debug, Subcommand)]
pub(in super::super) enum AdmissionCommand {
    /// Ask whether a request may pass, and reserve what it may come to
    Admit(AdmitArgs),
    /// Say that the request of a lease is over, with what it used or without
    Settle(SettleArgs),
    /// Give back what a lease has reserved
    Release {
        /// The lease, lease_…
        lease: Id,
    },
    /// Let a lease live on
    Renew {
        /// The lease, lease_…
        lease: Id,
        /// Seconds from now [default: as configured]
        #[arg(long)]
        seconds: Option<u32>,
    },
    /// Where the system to be replaced decided otherwise, the last 1,000 since the server started
    Disagreements,
}

/// A request that asks whether it may pass.
#[derive(Args, Debug)]
pub(in super::super) struct AdmitArgs {
    /// The customer's API key, sk-…
    #[arg(long, env = "TOLLBOOK_API_KEY", hide_env_values = true, value_name = "SECRET")]
    api_key: String,
    /// The model
    #[arg(long)]
    model: String,
    /// Input tokens, cached ones included
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    input_tokens: u64,
    /// Most output tokens [default: the model's most]
    #[arg(long, value_name = "TOKENS")]
    max_output_tokens: Option<u64>,
    /// Where the request comes from
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// A name for the request: the same again gets the same lease
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// What a request used.
#[derive(Args, Debug)]
pub(in super::super) struct SettleArgs {
    /// The lease, lease_…
    lease: Id,
    /// Input tokens, cached ones included
    #[arg(long, value_name = "TOKENS", requires = "output_tokens")]
    input_tokens: Option<u64>,
    /// Input tokens read from a cache
    #[arg(long, value_name = "TOKENS", requires = "input_tokens")]
    cached_input_tokens: Option<u64>,
    /// Output tokens
    #[arg(long, value_name = "TOKENS", requires = "input_tokens")]
    output_tokens: Option<u64>,
}

impl Calls for AdmissionCommand {
    fn call(self) -> Result<Call, ManageError> {
        let of = |lease: &Id, rest: &str| format!("/v1/admissions/{lease}{rest}");
        Ok(match self {
            Self::Admit(asked) => {
                let body = json!({
                    "api_key": asked.api_key,
                    "model": asked.model,
                    "input_tokens": asked.input_tokens,
                    "max_output_tokens": asked.max_output_tokens,
                    "ip": asked.ip,
                    "request_id": asked.request_id,
                });
                Call::write(Method::POST, "/v1/admissions".to_owned(), body, ADMITTED).note(observed)
            }
            Self::Settle(SettleArgs { lease, input_tokens, cached_input_tokens, output_tokens }) => {
                let body = json!({
                    "input_tokens": input_tokens,
                    "cached_input_tokens": cached_input_tokens,
                    "output_tokens": output_tokens,
                });
                Call::write(Method::POST, of(&lease, "/settle"), body, SETTLED)
            }
            Self::Release { lease } => Call::delete(of(&lease, ""), RELEASED),
            Self::Renew { lease, seconds } => {
                Call::write(Method::POST, of(&lease, "/renew"), json!({ "seconds": seconds }), RENEWED)
            }
            Self::Disagreements => {
                Call::get("/v1/admissions/disagreements".to_owned(), DISAGREEMENTS).note(in_all)
            }
        })
    }
}

/// What would have been decided, where nothing is refused.
fn observed(answer: &Value) -> Option<String> {
    let message = answer.pointer("/observed/message").and_then(Value::as_str)?;
    Some(format!("it passes only as the server observes; else: {message}"))
}

fn in_all(answer: &Value) -> Option<String> {
    Some(format!("{} since the server started", answer.get("total")?))
}
