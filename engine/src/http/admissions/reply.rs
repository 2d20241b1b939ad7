//! What the doors answer about admission: the same status, headers and body at each of them. Written straight into one
//! buffer, as there may be tens of thousands of them in a second.

use std::fmt;
use std::ops::Range;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{DisplayName, KeyId, LeaseId, OrgId, ProjectId};
use tollbook_schemas::time::Timestamp;

use super::limits;
use super::sent::{self, Door};
use crate::admission::{
    Admissions, Admitted, Ask, Decided, Granted, LeaseError, Mode, Quota, Quotas, Refusal,
};
use crate::http::problem::Problem;
use crate::http::refusal::RefusalReport;
use crate::http::shape::{IfAny, Out, ToJson, answer};

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its HTTP status.
    pub(crate) status: StatusCode,
    /// Its headers, the content type among them.
    pub(crate) headers: HeaderMap,
    /// Its body, JSON.
    pub(crate) body: Bytes,
    /// The code of a refusal or an error.
    pub(crate) code: Option<&'static str>,
}

/// Headers, before they are made of one buffer.
#[derive(Debug)]
pub(super) struct Headers {
    text: String,
    found: Vec<(&'static HeaderName, Range<usize>)>,
}

answer! {
    /// A request that may pass.
    pub(super) struct Admission {
        /// What settles, renews or releases it; null where nothing is reserved, which only observe mode does.
        lease: Option<LeaseId>,
        /// When it is given back unless renewed.
        expires_at: Option<Timestamp>,
        /// The organization.
        organization: Option<OrgId>,
        /// The project that it counts for.
        project: Option<ProjectId>,
        /// The key that it came with.
        api_key_id: Option<KeyId>,
        /// The organization's tier; null only in observe mode.
        tier: Option<DisplayName>,
        /// What is left with it; null where nothing is reserved.
        remaining: Option<Remaining>,
        /// Why it would have been refused; only in observe mode.
        observed: IfAny<Observed>,
        /// By how many milliseconds what was decided on may trail the log, where that is more than it should.
        behind_ms: IfAny<u64>,
    }
}

answer! {
    /// What is left; null: unlimited.
    pub(super) struct Remaining {
        /// Requests that may begin while this one is in progress.
        concurrency: Option<u64>,
        /// Requests of this minute.
        requests: Option<u64>,
        /// Tokens of this minute.
        tokens: Option<u64>,
        /// Tokens of today.
        tokens_today: Option<u64>,
        /// Tokens of this minute of the project, where it has a limit of its own.
        project_tokens: Option<u64>,
        /// Money that is available and not held.
        balance: Amount,
    }
}

answer! {
    /// What would have been decided.
    pub(super) struct Observed {
        /// `refuse`.
        decision: String,
        /// The code of the refusal.
        code: String,
        /// What the customer would have been told.
        message: String,
    }
}

answer! {
    /// A lease whose request is over.
    pub(super) struct SettledLease {
        /// The lease.
        lease: LeaseId,
        /// What is still held for it until its usage is applied.
        held: Amount,
        /// Until when at the latest.
        expires_at: Timestamp,
    }
}

answer! {
    /// A lease that was given back.
    pub(super) struct ReleasedLease {
        /// The lease.
        lease: LeaseId,
    }
}

answer! {
    /// A lease that lives on.
    pub(super) struct RenewedLease {
        /// The lease.
        lease: LeaseId,
        /// Until when.
        expires_at: Timestamp,
    }
}

/// What was decided about a request, as the doors tell it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It may pass.
    Passes(Box<Admission>, Option<Quotas>),
    /// It may not.
    Refused(Box<Refusal>),
}

impl Headers {
    fn new() -> Self {
        Self { text: String::with_capacity(512), found: Vec::with_capacity(12) }
    }

    /// Adds one; what cannot be written is left out.
    pub(super) fn add(&mut self, name: &'static HeaderName, write: impl FnOnce(&mut String) -> fmt::Result) {
        let from = self.text.len();
        if write(&mut self.text).is_ok() {
            self.found.push((name, from..self.text.len()));
        }
    }

    fn finish(self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.found.len().saturating_add(4));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let text = Bytes::from(self.text);
        for (name, range) in self.found {
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(range)) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

impl Reply {
    fn new(status: StatusCode, body: &impl ToJson, headers: Headers, code: Option<&'static str>) -> Self {
        let mut bytes = Vec::with_capacity(512);
        if let Err(error) = serde_json::to_writer(&mut bytes, &Out(body)) {
            return Problem::internal(error.to_string()).into();
        }
        Self { status, headers: headers.finish(), body: bytes.into(), code }
    }

    fn done(body: &impl ToJson) -> Self {
        Self::new(StatusCode::OK, body, Headers::new(), None)
    }

    /// What was decided; `of_quota` is the status of what money or a budget refuses.
    pub(super) fn decided(outcome: &Outcome, of_quota: u16) -> Self {
        match outcome {
            Outcome::Passes(admission, quotas) => {
                let mut headers = Headers::new();
                if let Some(quotas) = quotas {
                    limits::quotas(quotas, &mut headers);
                }
                Self::new(StatusCode::OK, &**admission, headers, None)
            }
            Outcome::Refused(refusal) => Self::refused(refusal, of_quota),
        }
    }

    /// A refusal; `of_quota` is the status of what money or a budget refuses.
    pub(crate) fn refused(refusal: &Refusal, of_quota: u16) -> Self {
        let mut headers = Headers::new();
        // Who was not let in is not told how the account stands.
        if let Some(quotas) = refusal.quotas.as_ref().filter(|_| !refusal.code.is_of_access()) {
            limits::quotas(quotas, &mut headers);
        }
        limits::retry(refusal, &mut headers);
        let status = refusal.code.status(of_quota);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let code = Some(refusal.code.as_str());
        let mut reply = Self::new(status, &RefusalReport::of(refusal), headers, code);
        reply.challenge();
        reply
    }

    /// A subrequest that cannot be read: what to say, the header that is meant, and the code.
    pub(super) fn unreadable(message: String, header: &str, code: &'static str) -> Self {
        let report = RefusalReport::unreadable(message, header, code);
        Self::new(StatusCode::BAD_REQUEST, &report, Headers::new(), Some(code))
    }

    /// A gateway's own token does not work, which its customers cannot help.
    pub(super) fn gateway_unauthorized() -> Self {
        let refusal =
            Refusal::not_ready("the gateway has no token for Tollbook that works; see Tollbook's log");
        let mut headers = Headers::new();
        limits::retry(&refusal, &mut headers);
        let code = "gateway_unauthorized";
        let report = RefusalReport::of(&refusal).with_code(code);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, &report, headers, Some(code))
    }

    /// Says what a 401 asks for.
    fn challenge(&mut self) {
        if self.status == StatusCode::UNAUTHORIZED {
            self.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let (status, code) = (problem.status(), Some(problem.code()));
        let (headers, body) = problem.written();
        Self { status, headers, body: body.into(), code }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

impl Admission {
    fn of(admitted: Admitted) -> (Self, Option<Quotas>) {
        let Admitted { lease, granted, behind } = admitted;
        let quotas = granted.quotas;
        let observed = IfAny(granted.noted.as_deref().map(Observed::of));
        let remaining = Some(Remaining::of(&granted));
        let admission = Self {
            lease: Some(lease),
            expires_at: Some(granted.expires_at),
            organization: Some(granted.names.organization.clone()),
            project: Some(granted.names.project.clone()),
            api_key_id: Some(granted.names.key.clone()),
            tier: granted.tier,
            remaining,
            observed,
            behind_ms: IfAny(behind.map(|behind| u64::try_from(behind.as_millis()).unwrap_or(u64::MAX))),
        };
        (admission, quotas)
    }

    /// A request that passes with nothing reserved.
    fn unreserved(ours: Option<&Refusal>) -> Self {
        let account = ours.and_then(|refusal| refusal.account.clone());
        let (organization, api_key_id) = account.unzip();
        Self {
            lease: None,
            expires_at: None,
            organization,
            project: None,
            api_key_id,
            tier: None,
            remaining: None,
            observed: IfAny(ours.map(Observed::of)),
            behind_ms: IfAny(None),
        }
    }
}

impl Remaining {
    fn of(granted: &Granted) -> Self {
        let quotas = granted.quotas.unwrap_or_default();
        let left = |quota: Option<Quota>| quota.map(|quota| quota.remaining);
        Self {
            concurrency: left(quotas.concurrency),
            requests: left(quotas.requests),
            tokens: left(quotas.tokens),
            tokens_today: left(quotas.tokens_today),
            project_tokens: left(quotas.project_tokens),
            balance: granted.available,
        }
    }
}

impl Observed {
    fn of(refusal: &Refusal) -> Self {
        let (code, message) = (refusal.code.as_str().to_owned(), refusal.message());
        Self { decision: "refuse".to_owned(), code, message }
    }
}

impl Outcome {
    /// What passes although it could not be read; only in observe mode.
    pub(super) fn unread(code: &str, message: String) -> Self {
        let observed = Observed { decision: "refuse".to_owned(), code: code.to_owned(), message };
        Self::Passes(
            Box::new(Admission { observed: IfAny(Some(observed)), ..Admission::unreserved(None) }),
            None,
        )
    }
}

/// Decides about a request. In observe mode it passes whatever we think of it, and nothing is reserved for one that the
/// system to be replaced has refused (R10.2).
pub(super) fn decide(admissions: &Admissions, ask: &Ask<'_>, theirs: Option<Decided>) -> Outcome {
    let observes = match admissions.settings().mode {
        Mode::Enforce => false,
        Mode::Observe => true,
    };
    let note = |ours: Option<&Refusal>| {
        theirs.map(|theirs| admissions.note_decided(ask, theirs, ours));
    };
    if observes && theirs == Some(Decided::Refuse) {
        let ours = admissions.compare(ask).err();
        note(ours.as_deref());
        return Outcome::Passes(Box::new(Admission::unreserved(ours.as_deref())), None);
    }
    match admissions.admit(ask) {
        Ok(admitted) => {
            // A repetition was compared when it came first.
            if !admitted.granted.before {
                note(admitted.granted.noted.as_deref());
            }
            let (admission, quotas) = Admission::of(admitted);
            Outcome::Passes(Box::new(admission), quotas)
        }
        Err(refusal) => {
            note(Some(&refusal));
            if observes {
                return Outcome::Passes(Box::new(Admission::unreserved(Some(&refusal))), None);
            }
            Outcome::Refused(refusal)
        }
    }
}

/// Answers a request that asks whether it may pass.
pub(crate) fn admit(admissions: &Admissions, body: &[u8], organizations: Option<&[OrgId]>) -> Reply {
    match sent::question(body) {
        Ok(question) => {
            let outcome = decide(admissions, &question.ask(organizations), question.decided);
            Reply::decided(&outcome, admissions.settings().balance_status)
        }
        Err(problem) => problem.into(),
    }
}

/// Answers that the request of a lease is over.
pub(crate) fn settle(
    admissions: &Admissions,
    door: Door<'_>,
    body: &[u8],
    organizations: Option<&[OrgId]>,
) -> Reply {
    let settled = sent::settlement(door, body).and_then(|(lease, actual)| {
        let ended = admissions.settle(&lease, actual, organizations)?;
        Ok(SettledLease { lease, held: ended.held, expires_at: ended.expires_at })
    });
    settled.map_or_else(Reply::from, |settled| Reply::done(&settled))
}

/// Answers that a lease is given back.
pub(crate) fn release(
    admissions: &Admissions,
    door: Door<'_>,
    body: &[u8],
    organizations: Option<&[OrgId]>,
) -> Reply {
    let released = sent::release(door, body).and_then(|lease| {
        admissions.release(&lease, organizations)?;
        Ok(ReleasedLease { lease })
    });
    released.map_or_else(Reply::from, |released| Reply::done(&released))
}

/// Answers that a lease shall live on.
pub(crate) fn renew(
    admissions: &Admissions,
    door: Door<'_>,
    body: &[u8],
    organizations: Option<&[OrgId]>,
) -> Reply {
    let renewed = sent::renewal(door, body).and_then(|(lease, seconds)| {
        let expires_at = admissions.renew(&lease, seconds, organizations)?;
        Ok(RenewedLease { lease, expires_at })
    });
    renewed.map_or_else(Reply::from, |renewed| Reply::done(&renewed))
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        match error {
            LeaseError::NotFound => Self::lease_not_found(error.to_string()),
            LeaseError::NotReady(_) => Self::unavailable("not_ready", error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tollbook_schemas::id::ProjectId;

    use super::*;
    use crate::admission::Code;
    use crate::admission::refusal::{Quantity, Reached, Retry, Subject};

    fn money(text: &str) -> Quantity {
        Quantity::Money(text.parse().unwrap())
    }

    /// Their own periods and waits of more and less than a minute; word for word over HTTP they are golden files.
    #[test]
    fn r6_5_a_budget_that_is_used_up_is_told_with_its_reset() {
        for (code, period, millis) in
            [(Code::ProjectDailyBudget, "daily", 59_001), (Code::ProjectMonthlyBudget, "monthly", 60_001)]
        {
            let refusal = Refusal {
                account: Some((OrgId::parse("org_1").unwrap(), KeyId::parse("ak_1").unwrap())),
                subject: Some(Subject::Project(ProjectId::parse("proj_1").unwrap())),
                reached: Some(Reached { limit: money("5"), current: money("5.25"), requested: None }),
                resets_at: Some("2026-11-21T00:00:00Z".parse().unwrap()),
                retry: Retry::After(millis),
                ..Refusal::bare(code)
            };
            let reply = Reply::refused(&refusal, 402);
            assert_eq!((reply.status.as_u16(), reply.code), (402, Some(code.as_str())));
            let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(header("retry-after-ms"), Some(millis.to_string()));
            assert_eq!(header("retry-after"), Some((millis / 1_000 + 1).to_string()));
            // Longer than a minute no client should hang.
            assert_eq!(header("x-should-retry").as_deref(), (millis > 60_000).then_some("false"));
            let body: Value = serde_json::from_slice(&reply.body).unwrap();
            assert_eq!(
                body,
                json!({ "error": {
                    "message": format!(
                        "Project proj_1 of your account org_1<ak_1> has spent 5.25 of its {period} budget of 5, resets at \
                         2026-11-21T00:00:00Z"
                    ),
                    "type": "exceeded_current_quota_error",
                    "param": null,
                    "code": format!("project_{period}_budget"),
                    "metadata": {
                        "scope": "project", "id": "proj_1", "limit": "5", "current": "5.25",
                        "resets_at": "2026-11-21T00:00:00Z", "retry_after_ms": millis, "retryable": true,
                    },
                } })
            );
        }
    }
}
