//! An alert as the feed tells it: what deliveries are made of, and nothing that a later version could see differently.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tollbook_schemas::alert::AlertKind;
use tollbook_schemas::id::{AlertId, OrgId};
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::time::Timestamp;

/// What somebody is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// The same in every message about it, however often that is sent.
    pub(crate) id: AlertId,
    /// Whose; `None`: the platform's own.
    pub(crate) organization: Option<OrgId>,
    /// What it is about.
    pub(crate) kind: AlertKind,
    /// The entry that caused it.
    pub(crate) position: LogPosition,
    /// Counts those that the entry caused.
    pub(crate) number: u32,
    /// When that entry was recorded.
    pub(crate) raised_at: Timestamp,
    /// What it says, as everywhere outside.
    pub(crate) data: Value,
}

impl Told {
    /// The body of a webhook, byte for byte: `{"type", "timestamp", "data"}` of Standard Webhooks, and beside `data` the
    /// alert's id, whose it is, and where its cause stands.
    pub(crate) fn body(&self) -> Vec<u8> {
        let body = json!({
            "type": self.kind.code(),
            "timestamp": self.raised_at.to_string(),
            "id": self.id.as_str(),
            "organization": self.organization.as_ref().map(OrgId::as_str),
            "position": self.position.to_string(),
            "number": self.number,
            "data": self.data,
        });
        body.to_string().into_bytes()
    }
}
