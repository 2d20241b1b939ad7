//! Why a request may not pass, with everything a client needs to do better (R6.5).

use std::fmt;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::Period;
use tollbook_schemas::id::{KeyId, MeterName, OrgId, ProjectId};
use tollbook_schemas::time::Timestamp;

/// Why a request may not pass. Names and codes are stable and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// There is no key in it.
    KeyMissing,
    /// What it has cannot be a key.
    KeyMalformed,
    /// No such key.
    KeyInvalid,
    /// The key was revoked, or its project archived.
    KeyRevoked,
    /// Its address is not on the organization's allowlist (R2.1).
    IpNotAllowed,
    /// The model is not in the price book (R4.11).
    ModelNotFound,
    /// Less was recharged than the first tier asks for (R4.6).
    RechargeRequired,
    /// Nothing is available (R4.1).
    InsufficientBalance,
    /// The project's daily budget is used up (R6.2).
    ProjectDailyBudget,
    /// The project's monthly budget is used up (R6.2).
    ProjectMonthlyBudget,
    /// What it may cost exceeds what balance and holds leave.
    BalanceBelowRequest,
    /// As many requests are in progress as may be (R5.2).
    OrganizationConcurrency,
    /// As many requests were made in a minute as may be (R5.2).
    OrganizationRpm,
    /// As many tokens were used in a minute as may be (R5.2).
    OrganizationTpm,
    /// As many tokens were used in a day as may be (R5.2).
    OrganizationTpd,
    /// As many tokens were used in a minute by the project as may be (R5.4).
    ProjectTpm,
    /// As many leases are open as may be: requests whose usage has not come count too (R5.7).
    OrganizationLeases,
    /// The same request id came with another request.
    RequestIdConflict,
    /// This node cannot tell now.
    NotReady,
}

impl Code {
    /// All of them, in the order in which they are looked for; the last two have no place in it.
    pub const ALL: [Self; 19] = [
        Self::KeyMissing,
        Self::KeyMalformed,
        Self::KeyInvalid,
        Self::KeyRevoked,
        Self::IpNotAllowed,
        Self::ModelNotFound,
        Self::RechargeRequired,
        Self::InsufficientBalance,
        Self::ProjectDailyBudget,
        Self::ProjectMonthlyBudget,
        Self::BalanceBelowRequest,
        Self::OrganizationConcurrency,
        Self::OrganizationRpm,
        Self::OrganizationTpm,
        Self::OrganizationTpd,
        Self::ProjectTpm,
        Self::OrganizationLeases,
        Self::RequestIdConflict,
        Self::NotReady,
    ];

    /// What exactly, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyMissing => "api_key_missing",
            Self::KeyMalformed => "api_key_malformed",
            Self::KeyInvalid => "api_key_invalid",
            Self::KeyRevoked => "api_key_revoked",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::ModelNotFound => "model_not_found",
            Self::RechargeRequired => "recharge_required",
            Self::InsufficientBalance => "insufficient_balance",
            Self::ProjectDailyBudget => "project_daily_budget",
            Self::ProjectMonthlyBudget => "project_monthly_budget",
            Self::BalanceBelowRequest => "balance_below_request",
            Self::OrganizationConcurrency => "organization_concurrency",
            Self::OrganizationRpm => "organization_rpm",
            Self::OrganizationTpm => "organization_tpm",
            Self::OrganizationTpd => "organization_tpd",
            Self::ProjectTpm => "project_tpm",
            Self::OrganizationLeases => "organization_leases",
            Self::RequestIdConflict => "request_id_conflict",
            Self::NotReady => "not_ready",
        }
    }

    /// The kind of refusal, as clients of LLM APIs know it.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::KeyMissing | Self::KeyInvalid => "incorrect_api_key_error",
            Self::KeyMalformed | Self::KeyRevoked => "invalid_authentication_error",
            Self::IpNotAllowed => "permission_denied_error",
            Self::ModelNotFound => "resource_not_found_error",
            Self::RechargeRequired
            | Self::InsufficientBalance
            | Self::ProjectDailyBudget
            | Self::ProjectMonthlyBudget
            | Self::BalanceBelowRequest => "exceeded_current_quota_error",
            Self::OrganizationConcurrency
            | Self::OrganizationRpm
            | Self::OrganizationTpm
            | Self::OrganizationTpd
            | Self::ProjectTpm
            | Self::OrganizationLeases => "rate_limit_reached_error",
            Self::RequestIdConflict => "invalid_request_error",
            Self::NotReady => "server_unavailable",
        }
    }

    /// The HTTP status; `of_quota` is that of what money or a budget refuses.
    pub fn status(self, of_quota: u16) -> u16 {
        match self {
            Self::KeyMissing | Self::KeyMalformed | Self::KeyInvalid | Self::KeyRevoked => 401,
            Self::IpNotAllowed => 403,
            Self::ModelNotFound => 404,
            Self::RechargeRequired
            | Self::InsufficientBalance
            | Self::ProjectDailyBudget
            | Self::ProjectMonthlyBudget
            | Self::BalanceBelowRequest => of_quota,
            Self::OrganizationConcurrency
            | Self::OrganizationRpm
            | Self::OrganizationTpm
            | Self::OrganizationTpd
            | Self::ProjectTpm
            | Self::OrganizationLeases => 429,
            Self::RequestIdConflict => 409,
            Self::NotReady => 503,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whose limit refused a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The organization's.
    Organization(OrgId),
    /// The project's.
    Project(ProjectId),
    /// The key's.
    Key(KeyId),
}

impl Subject {
    /// Its kind, for programs.
    pub const fn scope(&self) -> &'static str {
        match self {
            Self::Organization(_) => "organization",
            Self::Project(_) => "project",
            Self::Key(_) => "api_key",
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::Organization(id) => id.as_str(),
            Self::Project(id) => id.as_str(),
            Self::Key(id) => id.as_str(),
        }
    }
}

/// A limit, or what counts towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// Requests or tokens.
    Count(u64),
    /// Money.
    Money(Amount),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Money(amount) => amount.fmt(f),
        }
    }
}

/// Whether the same request may pass later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After so many milliseconds, if nothing else comes: exactly then, not before.
    After(i64),
    /// Perhaps after so many milliseconds: nobody knows when other requests end.
    Hint(i64),
    /// Not by waiting.
    Never,
}

/// A limit that was compared, with what counts towards it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The limit.
    pub limit: Quantity,
    /// What counted before this request.
    pub current: Quantity,
    /// What this request would add.
    pub requested: Option<Quantity>,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub code: Code,
    /// Whose limit.
    pub subject: Option<Subject>,
    /// The organization and key of the request, once they are known.
    pub account: Option<(OrgId, KeyId)>,
    /// The limit and what counts towards it.
    pub reached: Option<Reached>,
    /// What of the current amount is only held for requests in progress, where both count.
    pub held: Option<Amount>,
    /// When what counts starts anew, or the request has room.
    pub resets_at: Option<Timestamp>,
    /// Whether waiting helps.
    pub retry: Retry,
    /// What else there is to say: the model, or why this node is not ready.
    pub about: Option<String>,
    /// The meter that has no price, where it is one.
    pub meter: Option<MeterName>,
    /// Limits of requests and tokens as they stand, where there are some.
    pub quotas: Option<Box<super::check::Quotas>>,
}

impl Refusal {
    /// A refusal that names nobody.
    pub const fn bare(code: Code) -> Self {
        Self {
            code,
            subject: None,
            account: None,
            reached: None,
            held: None,
            resets_at: None,
            retry: Retry::Never,
            about: None,
            meter: None,
            quotas: None,
        }
    }

    /// This node cannot tell now.
    pub fn not_ready(why: &str) -> Self {
        let retry = Retry::Hint(HINT_MS);
        Self { retry, about: Some(why.to_owned()), ..Self::bare(Code::NotReady) }
    }

    /// Whether the same request may pass later.
    pub const fn retryable(&self) -> bool {
        match self.retry {
            Retry::After(_) | Retry::Hint(_) => true,
            Retry::Never => false,
        }
    }

    /// For how many milliseconds to wait, where that helps.
    pub const fn retry_after_ms(&self) -> Option<i64> {
        match self.retry {
            Retry::After(millis) | Retry::Hint(millis) => Some(millis),
            Retry::Never => None,
        }
    }

    /// What people are told; customers of the platform know these texts.
    pub fn message(&self) -> String {
        let account = match &self.account {
            Some((organization, key)) => format!("{organization}<{key}>"),
            None => String::new(),
        };
        let (limit, current, requested) = match self.reached {
            Some(Reached { limit, current, requested }) => {
                (limit.to_string(), current.to_string(), requested.map(|units| units.to_string()))
            }
            None => (String::new(), String::new(), None),
        };
        let id = self.subject.as_ref().map_or("", Subject::id);
        let about = self.about.as_deref().unwrap_or_default();
        let requested = requested.unwrap_or_default();
        let resets = self.resets_at.map(|at| format!(", resets at {at}")).unwrap_or_default();
        if self.is_too_large() {
            return format!(
                "Request too large for {account}: it asks for {requested} tokens, and {} limits them to {limit}; waiting does not help",
                self.code.window_name().unwrap_or_default()
            );
        }
        match self.code {
            Code::KeyMissing => "no API key: send `Authorization: Bearer sk-…`".to_owned(),
            Code::KeyMalformed => "this is no API key: send `Authorization: Bearer sk-…`".to_owned(),
            Code::KeyInvalid => "there is no such API key".to_owned(),
            Code::KeyRevoked => "this API key was revoked, or its project is archived".to_owned(),
            Code::IpNotAllowed => {
                format!("Your IP is not allowed to access this organization {id}: {about}")
            }
            Code::ModelNotFound => match &self.meter {
                Some(meter) => format!("the model `{about}` has no price for `{meter}`"),
                None => format!("there is no model `{about}`, or it has no price yet"),
            },
            Code::RechargeRequired => format!(
                "Your account {account} has to recharge at least {limit} in all before its first request; it has recharged {current}"
            ),
            Code::InsufficientBalance => format!(
                "Your account {account} is suspended, please check your plan and billing details: {current} is available"
            ),
            Code::BalanceBelowRequest => format!(
                "You exceeded your current token quota: {account} has {limit} available, of which {current} is held for requests in progress, and this request may cost {requested}"
            ),
            Code::ProjectDailyBudget => self.budget_message(&account, "daily"),
            Code::ProjectMonthlyBudget => self.budget_message(&account, "monthly"),
            Code::OrganizationConcurrency => format!(
                "Your account {account} request reached organization max concurrency: {limit}, {}",
                self.advice()
            ),
            Code::OrganizationRpm => format!(
                "Your account {account} request reached organization max RPM: {limit}, {}",
                self.advice()
            ),
            Code::OrganizationTpm => format!(
                "Your account {account} request reached organization TPM rate limit, current: {current}, limit: {limit}"
            ),
            Code::OrganizationTpd => format!(
                "Your account {account} request reached organization TPD rate limit, current: {current}, limit: {limit}{resets}"
            ),
            Code::ProjectTpm => format!(
                "Your account {account} / {id} request reached project TPM rate limit, current: {current}, limit: {limit}"
            ),
            Code::OrganizationLeases => format!(
                "Your account {account} has {current} requests in progress or without their usage, and {limit} are the most, {}",
                self.advice()
            ),
            Code::RequestIdConflict => {
                format!("the request id `{about}` was used for another request, which is not over")
            }
            Code::NotReady => about.to_owned(),
        }
    }

    /// What is spent, and with strict enforcement held and asked for (R6.5).
    fn budget_message(&self, account: &str, period: &str) -> String {
        let id = self.subject.as_ref().map_or("", Subject::id);
        let Some(Reached { limit, current: Quantity::Money(current), requested }) = self.reached else {
            return String::new();
        };
        let spent = self.held.and_then(|held| current.checked_sub(held)).unwrap_or(current);
        let spent = format!("has spent {spent} of its {period} budget of {limit}");
        let held = self.held.filter(|held| !held.is_zero());
        let held = held.map(|held| format!("holds {held} for requests in progress"));
        let asked = requested.map(|requested| format!("this request may cost {requested}"));
        let what = match (held, asked) {
            (None, None) => spent,
            (Some(more), None) | (None, Some(more)) => format!("{spent} and {more}"),
            (Some(held), Some(asked)) => format!("{spent}, {held}, and {asked}"),
        };
        let resets = self.resets_at.map(|at| format!(", resets at {at}")).unwrap_or_default();
        format!("Project {id} of your account {account} {what}{resets}")
    }

    /// Whether it asks for more tokens than the limit ever allows.
    fn is_too_large(&self) -> bool {
        let Some(Reached {
            limit: Quantity::Count(limit), requested: Some(Quantity::Count(requested)), ..
        }) = self.reached
        else {
            return false;
        };
        self.code.window_name().is_some() && !self.retryable() && requested > limit
    }

    fn advice(&self) -> String {
        if self.retryable() {
            format!("please try again after {} seconds", self.seconds())
        } else {
            "waiting does not help".to_owned()
        }
    }

    /// Whole seconds to wait, never too few.
    pub fn seconds(&self) -> i64 {
        let millis = self.retry_after_ms().unwrap_or_default();
        millis.saturating_add(999).div_euclid(1_000).max(1)
    }
}

impl Code {
    /// Whether whoever asks was not let in at all: no key that works, or an address that is not listed.
    pub const fn is_of_access(self) -> bool {
        match self {
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyInvalid
            | Self::KeyRevoked
            | Self::IpNotAllowed => true,
            Self::ModelNotFound
            | Self::RechargeRequired
            | Self::InsufficientBalance
            | Self::ProjectDailyBudget
            | Self::ProjectMonthlyBudget
            | Self::BalanceBelowRequest
            | Self::OrganizationConcurrency
            | Self::OrganizationRpm
            | Self::OrganizationTpm
            | Self::OrganizationTpd
            | Self::ProjectTpm
            | Self::OrganizationLeases
            | Self::RequestIdConflict
            | Self::NotReady => false,
        }
    }

    /// Whose budget it is, if it is one's.
    pub const fn period(self) -> Option<Period> {
        match self {
            Self::ProjectDailyBudget => Some(Period::Daily),
            Self::ProjectMonthlyBudget => Some(Period::Monthly),
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyInvalid
            | Self::KeyRevoked
            | Self::IpNotAllowed
            | Self::ModelNotFound
            | Self::RechargeRequired
            | Self::InsufficientBalance
            | Self::BalanceBelowRequest
            | Self::OrganizationConcurrency
            | Self::OrganizationRpm
            | Self::OrganizationTpm
            | Self::OrganizationTpd
            | Self::ProjectTpm
            | Self::OrganizationLeases
            | Self::RequestIdConflict
            | Self::NotReady => None,
        }
    }

    /// The code of a budget.
    pub(super) const fn of_budget(period: Period) -> Self {
        match period {
            Period::Daily => Self::ProjectDailyBudget,
            Period::Monthly => Self::ProjectMonthlyBudget,
        }
    }

    /// What limits the tokens of a window, if that is what it is about.
    const fn window_name(self) -> Option<&'static str> {
        match self {
            Self::OrganizationTpm => Some("the organization's TPM"),
            Self::OrganizationTpd => Some("the organization's TPD"),
            Self::ProjectTpm => Some("the project's TPM"),
            Self::KeyMissing
            | Self::KeyMalformed
            | Self::KeyInvalid
            | Self::KeyRevoked
            | Self::IpNotAllowed
            | Self::ModelNotFound
            | Self::RechargeRequired
            | Self::InsufficientBalance
            | Self::ProjectDailyBudget
            | Self::ProjectMonthlyBudget
            | Self::BalanceBelowRequest
            | Self::OrganizationConcurrency
            | Self::OrganizationRpm
            | Self::OrganizationLeases
            | Self::RequestIdConflict
            | Self::NotReady => None,
        }
    }
}

/// How long to wait where nobody knows: until another request ends.
pub const HINT_MS: i64 = 1_000;
