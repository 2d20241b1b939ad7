//! What is asked of an account, and what it answers.

use std::net::IpAddr;
use std::sync::Arc;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{DisplayName, ModelName, ProjectId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::Timestamp;

use super::check::Quotas;
use super::refusal::Refusal;
use super::standing::KeyNames;

/// A request that asks whether it may pass. Its key was looked up before.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where it comes from, if that is known.
    pub ip: Option<IpAddr>,
    /// The model it is for.
    pub model: &'a ModelName,
    /// Its input tokens, cached ones included.
    pub input_tokens: u64,
    /// Most output tokens that it may make; `None`: the model's most.
    pub max_output_tokens: Option<u64>,
    /// Units beyond tokens.
    pub meters: &'a Meters,
    /// The caller's own name for it: the same again gets the same lease.
    pub request_id: Option<&'a str>,
}

/// On what terms requests are admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long a lease lives, in seconds.
    pub lease_seconds: i64,
    /// Whether refusals are only noted, and the request passes (R10.2).
    pub observe: bool,
    /// Whether windows keep the estimate when the actual number is known (R5.7).
    pub keep_estimates: bool,
}

/// An admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The lease's number within the organization.
    pub number: u64,
    /// When it is given back unless renewed.
    pub expires_at: Timestamp,
    /// Organization, project and key.
    pub names: Arc<KeyNames>,
    /// The organization's tier; `None` only where refusals are merely noted.
    pub tier: Option<DisplayName>,
    /// What the request may spend at most of what is available, and what is left after it.
    pub available: Amount,
    /// Limits as they stand with it; `None`: below the first tier.
    pub quotas: Option<Quotas>,
    /// Whether the same request was admitted before.
    pub before: bool,
    /// Why it would have been refused, where refusals are merely noted.
    pub noted: Option<Box<Refusal>>,
}

/// What a settled lease leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What is still held until its usage is applied.
    pub held: Amount,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What an organization has in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Requests in progress.
    pub concurrency: u64,
    /// Requests of the last minute.
    pub requests: u64,
    /// Tokens of the last minute.
    pub tokens: u64,
    /// Tokens of the day.
    pub tokens_today: u64,
    /// Tokens of the last minute by project.
    pub projects: Vec<(ProjectId, u64)>,
    /// Leases that are open, of requests that are over and whose usage has not come too.
    pub leases: usize,
    /// What is held for them.
    pub held: Amount,
}

/// Usage of one call as it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used<'a> {
    /// The project's place.
    pub project: usize,
    /// When it occurred.
    pub occurred_at: Timestamp,
    /// Input and output tokens.
    pub tokens: u64,
    /// The lease that it settles, if it names one.
    pub lease: Option<LeaseName<'a>>,
}

/// How usage names the lease that it settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseName<'a> {
    /// By its number.
    Number(u64),
    /// By the request's id.
    Request(&'a str),
}
