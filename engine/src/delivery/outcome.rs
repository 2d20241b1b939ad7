//! How an attempt ended.

use std::time::Duration;

/// How an attempt ended, and what the receiver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// What follows.
    pub(crate) verdict: Verdict,
    /// An HTTP status, or a reply of SMTP.
    pub(crate) status: Option<u16>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// How long the receiver wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// What follows from an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It arrived.
    Delivered,
    /// It is tried again by the schedule.
    Failed,
    /// It would fail for ever.
    Refused,
    /// The receiver is gone for good.
    Gone,
    /// There is nobody to tell.
    Cancelled,
}

impl Verdict {
    /// Its word in metrics.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Outcome {
    /// One that is tried again.
    pub(crate) const fn failed(status: Option<u16>, error: String) -> Self {
        Self { verdict: Verdict::Failed, status, error: Some(error), retry_after: None }
    }

    /// One that would fail for ever.
    pub(crate) const fn refused(status: Option<u16>, error: String) -> Self {
        Self { verdict: Verdict::Refused, status, error: Some(error), retry_after: None }
    }

    /// There is nobody to tell.
    pub(crate) fn cancelled(reason: &str) -> Self {
        Self { verdict: Verdict::Cancelled, status: None, error: Some(reason.to_owned()), retry_after: None }
    }
}
