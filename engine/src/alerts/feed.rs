//! The alert feed: what was raised, in order, each alert once for ever.
//!
//! An alert is known by its subject and its [place](AlertPlace). Those of a subject are raised in the order of their places,
//! so the last message of a subject says of every alert whether it was raised: this needs no memory of ids, and so holds
//! after any time, restart, rebuilt view, and for any number of nodes that raise the same.

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tollbook_schemas::alert::{Alert, AlertKind, AlertPlace};
use tollbook_schemas::id::{AlertId, LedgerId, OrgId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::Timestamp;

use super::shape;

/// Whom the platform's own alerts are about, in subjects and in JSON.
pub const OPERATOR: &str = "_operator";

/// Why the feed cannot be used. Repeat what was attempted: nothing is raised twice by it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the alert feed cannot be used: {0}")]
pub struct AlertFeedError(pub String);

/// One alert of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Its place in the feed; the first is 1, and there are no gaps.
    pub sequence: u64,
    /// The alert's id.
    pub id: AlertId,
    /// Whose; `None`: the platform's own.
    pub organization: Option<OrgId>,
    /// What it is about.
    pub kind: AlertKind,
    /// When its cause was recorded.
    pub raised_at: Timestamp,
    /// The entry that caused it.
    pub position: LogPosition,
    /// Its number among the alerts of that organization and kind that the entry caused.
    pub number: u32,
    /// The CloudEvent, as subscribers get it.
    pub event: Bytes,
}

/// What an event says about the alert.
#[derive(Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    time: String,
    position: String,
    number: u32,
}

impl Raised {
    /// Reads an event of the feed. Errors: it is none.
    pub fn parse(sequence: u64, event: Bytes) -> Result<Self, AlertFeedError> {
        let refused = |why: &str| AlertFeedError(format!("message {sequence} is no alert: {why}"));
        let read: Event = serde_json::from_slice(&event).map_err(|error| refused(&error.to_string()))?;
        let kind = read.kind.strip_prefix(shape::TYPE_PREFIX).and_then(|kind| kind.strip_suffix(".v1"));
        let kind = kind.and_then(AlertKind::of_code).ok_or_else(|| refused("its type is unknown"))?;
        let organization = match read.subject.as_str() {
            OPERATOR => None,
            subject => Some(OrgId::parse(subject).map_err(|error| refused(&error.to_string()))?),
        };
        let position = read.position.parse().map_err(|_| refused("its position is none"))?;
        let id = AlertId::parse(&read.id).map_err(|error| refused(&error.to_string()))?;
        let raised_at = read.time.parse().map_err(|_| refused("its time is none"))?;
        Ok(Self { sequence, id, organization, kind, raised_at, position, number: read.number, event })
    }

    /// Its place among the alerts of its organization and kind.
    pub const fn place(&self) -> AlertPlace {
        AlertPlace { position: self.position, number: self.number }
    }
}

/// The event of an alert, as the feed keeps it.
pub(super) fn event(ledger: &LedgerId, alert: &Alert) -> Bytes {
    shape::cloudevent(ledger, alert).to_string().into()
}

/// What was raised, durable, in order. What was answered is durable.
pub trait AlertFeed: Send + Sync + fmt::Debug {
    /// Raises alerts that were not raised yet, and says how many those were. They must come in the order of the log and
    /// without any left out, here and in every call before; an organization's come in that order in the feed. Errors: some
    /// may be raised and some not.
    fn raise(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<usize, AlertFeedError>>;

    /// The last alert's sequence; 0 while there is none.
    fn last(&self) -> BoxFuture<'_, Result<u64, AlertFeedError>>;

    /// Alerts after a sequence, in order, at most `limit`; none where there are no more yet.
    fn after(&self, sequence: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Raised>, AlertFeedError>>;

    /// Waits until there is more after a sequence, whoever raised it; about a second late where another node did.
    /// Errors: the feed is closed.
    fn wait(&self, sequence: u64) -> BoxFuture<'_, Result<(), AlertFeedError>>;

    /// Up to where every alert of a partition was raised.
    fn through(&self, partition: PartitionId) -> BoxFuture<'_, Result<Position, AlertFeedError>>;

    /// Notes that every alert of a partition was raised up to a position. One that is known to be passed changes nothing.
    fn mark_through(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> BoxFuture<'_, Result<(), AlertFeedError>>;
}
