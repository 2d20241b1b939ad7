//! What is kept about the deliveries of one alert: every channel with every attempt.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tollbook_schemas::id::WebhookId;
use tollbook_schemas::time::Timestamp;

use super::told::Told;

/// For how long deliveries are remembered, in seconds: 30 days.
pub(crate) const KEPT_SECONDS: i64 = 30 * 24 * 3_600;

/// Attempts that a delivery remembers; asking again and again by hand must not grow it without end.
const ATTEMPTS_MAX: usize = 50;

/// Longest error that is kept, in characters.
const ERROR_MAX: usize = 300;

/// By which way somebody is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Channel {
    /// To the registered address, or the operator's for the platform's own alerts.
    Email,
    /// To a webhook of the organization.
    Webhook(WebhookId),
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Email => f.write_str("email"),
            Self::Webhook(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "email" {
            return Ok(Self::Email);
        }
        WebhookId::parse(text).map(Self::Webhook).map_err(|_| "must be `email` or a webhook's id".to_owned())
    }
}

impl TryFrom<String> for Channel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.to_string()
    }
}

/// Everything about the deliveries of an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What is told.
    pub(crate) told: Told,
    /// One delivery for each channel.
    pub(crate) deliveries: BTreeMap<Channel, Delivery>,
}

/// Telling somebody by one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    /// How it stands.
    pub(crate) state: DeliveryState,
    /// Every attempt, in order; of very many, the last.
    pub(crate) attempts: Vec<Attempt>,
    /// Attempts that the schedule made, which ends after ten.
    pub(crate) scheduled: u16,
    /// When somebody asked for one more attempt that has not ended.
    pub(crate) asked: Option<Timestamp>,
}

/// How a delivery stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeliveryState {
    /// It is attempted (again) at this time.
    Pending {
        /// When.
        due: Timestamp,
    },
    /// It arrived.
    Delivered,
    /// It will not be attempted again by itself.
    Failed,
    /// There is nobody to tell any more.
    Cancelled {
        /// Why.
        reason: String,
    },
    /// The server knows no way to send mail.
    NotConfigured,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// When it began.
    pub(crate) at: Timestamp,
    /// Whether somebody asked for it.
    pub(crate) by_hand: bool,
    /// How it ended; `None`: it is under way, or nobody knows.
    pub(crate) result: Option<AttemptResult>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttemptResult {
    /// Whether it arrived.
    pub(crate) delivered: bool,
    /// What the receiver answered: an HTTP status, or a reply of SMTP.
    pub(crate) status: Option<u16>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// How long it took, in milliseconds.
    pub(crate) took_ms: u64,
}

impl Record {
    /// Whether a delivery of it is still to be attempted.
    pub(crate) fn is_open(&self) -> bool {
        self.deliveries.values().any(|delivery| delivery.due().is_some())
    }
}

impl Delivery {
    /// One that is due at once.
    pub(crate) const fn new(now: Timestamp) -> Self {
        Self { state: DeliveryState::Pending { due: now }, attempts: Vec::new(), scheduled: 0, asked: None }
    }

    /// One that will never be attempted by itself.
    pub(crate) const fn not_configured() -> Self {
        Self { state: DeliveryState::NotConfigured, attempts: Vec::new(), scheduled: 0, asked: None }
    }

    /// When it is attempted next.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let scheduled = match self.state {
            DeliveryState::Pending { due } => Some(due),
            DeliveryState::Delivered
            | DeliveryState::Failed
            | DeliveryState::Cancelled { .. }
            | DeliveryState::NotConfigured => None,
        };
        [self.asked, scheduled].into_iter().flatten().min()
    }

    /// An attempt begins.
    pub(crate) fn begin(&mut self, at: Timestamp, by_hand: bool) {
        // One that a crash cut off is made again, and says nothing about the receiver.
        let again = self.attempts.last().is_some_and(|last| last.result.is_none() && !last.by_hand);
        if !by_hand && !again {
            self.scheduled = self.scheduled.saturating_add(1);
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push(Attempt { at, by_hand, result: None });
    }

    /// The attempt that began at `at` has ended.
    pub(crate) fn end(&mut self, at: Timestamp, result: AttemptResult) {
        let attempt =
            self.attempts.iter_mut().rev().find(|attempt| attempt.at == at && attempt.result.is_none());
        if let Some(attempt) = attempt {
            attempt.result = Some(result);
        }
    }

    /// When its first attempt began that is still remembered.
    pub(crate) fn began(&self) -> Option<Timestamp> {
        self.attempts.first().map(|attempt| attempt.at)
    }

    /// Whether an attempt of it arrived after an instant.
    pub(crate) fn succeeded_since(&self, since: Timestamp) -> bool {
        self.attempts.iter().any(|attempt| {
            attempt.at >= since && attempt.result.as_ref().is_some_and(|result| result.delivered)
        })
    }
}

/// An error as it is kept: short, on one line, and without what only the organization's key may open (R9).
pub(crate) fn kept_error(error: &str, secrets: &[&str]) -> String {
    let mut error = error.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() > 1) {
        // Only ASCII changes, so places stay where they are.
        while let Some(at) = error.to_ascii_lowercase().find(&secret.to_ascii_lowercase()) {
            error.replace_range(at..at.saturating_add(secret.len()), "…");
        }
    }
    let line = error.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(ERROR_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_told_by_their_text() {
        let webhook = Channel::Webhook(WebhookId::from_bits(3));
        for channel in [Channel::Email, webhook] {
            assert_eq!(channel.to_string().parse(), Ok(channel));
        }
        assert!("sms".parse::<Channel>().is_err());
    }

    #[test]
    fn r9_1_errors_hold_no_address() {
        let kept = kept_error("550 <ADA@example.com>:\r\nunknown", &["ada@example.com", "/"]);
        assert_eq!(kept, "550 <…>:  unknown");
        assert_eq!(kept_error(&"x".repeat(1_000), &[]).len(), ERROR_MAX);
    }

    #[test]
    fn a_delivery_remembers_its_last_attempts_and_counts_all_of_the_schedule() {
        let mut delivery = Delivery::new(Timestamp::EPOCH);
        let result = |delivered| AttemptResult { delivered, status: Some(204), error: None, took_ms: 3 };
        for second in 0..59 {
            let at = Timestamp::from_seconds(second);
            delivery.begin(at, second >= 10);
            delivery.end(at, result(false));
        }
        let at = Timestamp::from_seconds(59);
        delivery.begin(at, true);
        assert_eq!((delivery.attempts.len(), delivery.scheduled), (ATTEMPTS_MAX, 10));
        delivery.end(at, result(true));
        assert!(delivery.succeeded_since(at) && !delivery.succeeded_since(at.plus_seconds(1)));
    }

    /// Found by the crash matrix: two crashes made the next repetition wait minutes instead of seconds.
    #[test]
    fn an_attempt_that_a_crash_cut_off_is_made_again_by_the_same_step_of_the_schedule() {
        let mut delivery = Delivery::new(Timestamp::EPOCH);
        for second in 0..3 {
            delivery.begin(Timestamp::from_seconds(second), false);
        }
        assert_eq!((delivery.attempts.len(), delivery.scheduled), (3, 1));
    }
}
