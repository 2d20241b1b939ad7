//! The log as JSON lines, for programs that are not ours: `docs/export.md` says what every line holds.
//!
//! Entries are told apart as the fold tells them, but nothing is folded, so that memory does not grow with the log.
//! Personal data stays sealed, and what publishers sent that we do not read is only a digest (R9).

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollbook_projections::record::{Content, Record};
use tollbook_projections::writers::Writers;
use tollbook_schemas::batch::UsageBatch;
use tollbook_schemas::entry::{Body, Cause, Decision, Entry};
use tollbook_schemas::event::{ConfigEvent, Event, QuarantineEvent};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Charged, Ingress, Occurred, Unreadable, Usage};

use crate::audit;
use crate::ledger::Ledger;

/// An end of what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// An instant, in every partition.
    Time(Timestamp),
    /// A place in one partition.
    Position(LogPosition),
}

/// A text that is neither an instant nor a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a time such as 2026-11-20T10:00:00Z, or a position such as 0-17")]
pub struct PointError;

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let time = || text.parse().map(Self::Time).map_err(|_| PointError);
        text.parse().map(Self::Position).or_else(|_| time())
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(at) => at.fmt(f),
            Self::Position(at) => at.fmt(f),
        }
    }
}

/// What of a log is exported: everything unless told.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only what is about this organization, or about everybody.
    pub organization: Option<OrgId>,
    /// Only what stands here or was recorded then, and later.
    pub from: Option<Point>,
    /// Only what stands before this or was recorded before then.
    pub to: Option<Point>,
}

impl Wanted {
    /// Whether anything of a partition of `partitions` may be wanted: an organization lives in one, and a position is
    /// a place in one.
    pub fn concerns(&self, partition: PartitionId, partitions: u16) -> bool {
        let lives = |org: &OrgId| crate::partition::partition_of(org, partitions) == partition;
        let bounds = [self.from, self.to].into_iter().flatten();
        self.organization.as_ref().is_none_or(lives)
            && bounds.into_iter().all(|bound| match bound {
                Point::Time(_) => true,
                Point::Position(at) => at.partition == partition,
            })
    }

    fn holds(&self, position: Position, recorded_at: Timestamp) -> bool {
        let begins = |bound| match bound {
            Point::Time(at) => at <= recorded_at,
            Point::Position(at) => at.position <= position,
        };
        self.from.is_none_or(begins) && !self.to.is_some_and(begins)
    }

    fn is_about(&self, organization: &OrgId) -> bool {
        self.organization.as_ref().is_none_or(|wanted| wanted == organization)
    }
}

/// Makes lines of one partition's messages, which it must see in order from the first.
#[derive(Debug)]
pub struct Export<'a> {
    ledger: &'a Ledger,
    partition: PartitionId,
    wanted: &'a Wanted,
    writers: Writers,
    term: u64,
    /// Whether the ledger's creation was seen.
    created: bool,
    /// The latest recorded time so far, which the books go by.
    recorded_at: Timestamp,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It counts.
    Applied,
    /// It stands before, too.
    Copy,
    /// Its owner had lost the partition.
    Voided,
    /// It is not an entry of this partition.
    Foreign,
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    partition: u16,
    ledger: &'a str,
    currency: &'a str,
    partitions: u16,
}

#[derive(Serialize)]
struct Line<'a> {
    position: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<String>,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<String>,
    status: Status,
    #[serde(flatten)]
    said: Said,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said {
    Decision { term: u64, actor: Value, cause: Value, events: Vec<Value> },
    Usage { usage: Vec<UsageLine> },
    Unreadable { unreadable: Vec<UnreadableLine> },
    Foreign { reason: String },
}

#[derive(Serialize)]
struct UsageLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
    organization: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    model: String,
    source: String,
    id: String,
    time: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    time_assumed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    producerseq: Option<String>,
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Meters::is_empty")]
    meters: Meters,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_sha256: Option<String>,
}

#[derive(Serialize)]
struct UnreadableLine {
    row: usize,
    organization: Option<String>,
    ingress: &'static str,
    reason: String,
    bytes: usize,
    bytes_sha256: String,
}

impl<'a> Export<'a> {
    /// Before the first message of a partition.
    pub fn new(ledger: &'a Ledger, partition: PartitionId, wanted: &'a Wanted) -> Self {
        Self {
            ledger,
            partition,
            wanted,
            writers: Writers::default(),
            term: 0,
            created: false,
            recorded_at: Timestamp::EPOCH,
        }
    }

    /// The partition's first line.
    pub fn head(&self) -> Result<String, serde_json::Error> {
        let Ledger { id, currency, partitions } = self.ledger;
        let head = Head {
            kind: "partition",
            partition: self.partition.0,
            ledger: id.as_str(),
            currency,
            partitions: *partitions,
        };
        serde_json::to_string(&head)
    }

    /// The line of the next message, unless it is not wanted.
    pub fn line(
        &mut self,
        position: Position,
        subject: &str,
        payload: &[u8],
    ) -> Result<Option<String>, serde_json::Error> {
        let record = Record::read(&self.ledger.id, self.partition, position, subject, payload);
        let (status, entry, foreign) = match &record.content {
            Content::Entry(topic, entry) if self.created || creates_ledger(entry) => {
                (self.status(entry), Some((topic, entry)), String::new())
            }
            Content::Entry(..) => {
                (Status::Foreign, None, "it stands before the ledger was created".to_owned())
            }
            Content::Foreign(reason) => (Status::Foreign, None, reason.clone()),
        };
        if !self.wanted.holds(position, self.recorded_at) {
            return Ok(None);
        }
        let said = match entry {
            Some((topic, entry)) => self.said(topic, entry),
            None => Some(Said::Foreign { reason: foreign }),
        };
        let Some(said) = said else { return Ok(None) };
        let line = Line {
            position: LogPosition { partition: self.partition, position }.to_string(),
            recorded_at: entry.map(|(_, entry)| entry.recorded_at.to_string()),
            subject,
            entry: entry.map(|(_, entry)| entry.id.to_string()),
            status,
            said,
        };
        serde_json::to_string(&line).map(Some)
    }

    /// As [`tollbook_projections::state::State::apply`] tells them apart.
    fn status(&mut self, entry: &Entry) -> Status {
        self.created = true;
        if !self.writers.note(entry.id.writer, entry.id.count) {
            return Status::Copy;
        }
        self.recorded_at = self.recorded_at.max(entry.recorded_at);
        let Body::Decision(decision) = &entry.body else { return Status::Applied };
        match decision.term_taken() {
            Some(term) if term <= self.term => Status::Voided,
            Some(term) => {
                self.term = term;
                Status::Applied
            }
            None if decision.term == self.term => Status::Applied,
            None => Status::Voided,
        }
    }

    /// `None`: it is about others only.
    fn said(&self, topic: &Topic, entry: &Entry) -> Option<Said> {
        match &entry.body {
            Body::Decision(decision) => {
                let about = match topic {
                    Topic::Organization(of) => self.wanted.is_about(of),
                    Topic::Config | Topic::Usage(_) | Topic::UsageMixed => true,
                };
                about.then(|| self.decision(decision))
            }
            Body::Usage(batch) => some(self.usage(batch)).map(|usage| Said::Usage { usage }),
            Body::Unreadable(refused) => {
                some(self.unreadable(refused)).map(|unreadable| Said::Unreadable { unreadable })
            }
        }
    }

    fn decision(&self, decision: &Decision) -> Said {
        let Decision { term, actor, cause, events } = decision;
        let events = events.iter().map(|event| self.event(event)).collect();
        Said::Decision { term: *term, actor: audit::actor_json(actor), cause: cause_json(cause), events }
    }

    /// As in the audit log; but a released record as usage is everywhere here, with the time that was assumed for it.
    fn event(&self, event: &Event) -> Value {
        let mut shown = audit::event_json(self.partition, event, &|_| None);
        if let Event::Quarantine(QuarantineEvent::Released { usage, .. }) = event
            && let Some(fields) = shown.as_object_mut()
        {
            fields.remove("event");
            fields.insert("usage".to_owned(), json!(usage_line(None, usage)));
        }
        shown
    }

    fn usage(&self, batch: &UsageBatch) -> Vec<UsageLine> {
        let rows = batch.unpack().enumerate();
        let wanted = rows.filter(|(_, usage)| self.wanted.is_about(&usage.organization));
        wanted.map(|(row, usage)| usage_line(Some(row), &usage)).collect()
    }

    fn unreadable(&self, refused: &[Unreadable]) -> Vec<UnreadableLine> {
        let rows = refused.iter().enumerate();
        let wanted = rows.filter(|(_, bytes)| {
            self.wanted.organization.is_none() || self.wanted.organization == bytes.organization
        });
        wanted.map(|(row, bytes)| unreadable_line(row, bytes)).collect()
    }
}

fn some<T>(rows: Vec<T>) -> Option<Vec<T>> {
    (!rows.is_empty()).then_some(rows)
}

fn usage_line(row: Option<usize>, usage: &Usage) -> UsageLine {
    let Usage { organization, charged, model, source, id, occurred, producerseq, tokens, extras } = usage;
    let (api_key_id, project) = match charged {
        Charged::Key(key) => (Some(key.to_string()), None),
        Charged::Project(project) => (None, Some(project.to_string())),
    };
    let extras = extras.as_deref();
    UsageLine {
        row,
        organization: organization.to_string(),
        api_key_id,
        project,
        model: model.to_string(),
        source: source.to_string(),
        id: id.clone(),
        time: occurred.at().to_string(),
        time_assumed: match occurred {
            Occurred::Given(_) => false,
            Occurred::Assumed(_) => true,
        },
        producerseq: producerseq.map(|count| count.to_string()),
        input_tokens: tokens.input,
        cached_input_tokens: tokens.cached_input,
        output_tokens: tokens.output,
        meters: extras.map(|extras| extras.meters.clone()).unwrap_or_default(),
        cost: extras.and_then(|extras| extras.cost).map(|cost| cost.to_string()),
        lease: extras.and_then(|extras| extras.lease.clone()),
        request_id: extras.and_then(|extras| extras.request_id.clone()),
        kept_sha256: extras.and_then(|extras| extras.kept.as_deref()).map(|kept| digest(kept.as_bytes())),
    }
}

fn unreadable_line(row: usize, refused: &Unreadable) -> UnreadableLine {
    let Unreadable { organization, reason, ingress, bytes } = refused;
    UnreadableLine {
        row,
        organization: organization.as_ref().map(OrgId::to_string),
        ingress: match ingress {
            Ingress::Http => "http",
            Ingress::Nats { .. } => "nats",
            Ingress::Spool { .. } => "spool",
            Ingress::Import => "import",
        },
        reason: reason.clone(),
        bytes: bytes.len(),
        bytes_sha256: digest(bytes),
    }
}

/// A caller's idempotency key is left out: it is a hash of a secret.
fn cause_json(cause: &Cause) -> Value {
    match cause {
        Cause::Command { .. } => json!({ "kind": "command" }),
        Cause::Timer => json!({ "kind": "timer" }),
        Cause::Takeover => json!({ "kind": "takeover" }),
        Cause::Copy { of } => json!({ "kind": "copy", "of": of.to_string() }),
    }
}

fn creates_ledger(entry: &Entry) -> bool {
    let Body::Decision(decision) = &entry.body else { return false };
    let created = |event: &Event| matches!(event, Event::Config(ConfigEvent::LedgerCreated { .. }));
    decision.events.iter().any(created)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
