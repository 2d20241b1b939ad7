//! How usage looks outside: CloudEvents in JSON to [`Usage`] and back (INTERFACES, Usage in).
//!
//! ```text
//! body ── split ──> event ── fast ──────────────────────────────> Usage
//!                     └───── explain, only where fast gives up ──> Usage, or every bad field
//! ```

use std::fmt;

use serde_json::value::RawValue;
use serde_json::{Deserializer, Map, Value, json};

use crate::id::OrgId;
use crate::time::Timestamp;
use crate::usage::{AHEAD_MAX_SECONDS, Charged, Occurred, USAGE_BYTES_MAX, Usage};

mod check;
mod explain;
mod fast;
mod kept;

/// The CloudEvents version that we read and write.
pub const SPEC_VERSION: &str = "1.0";
/// The CloudEvents `type` of usage.
pub const USAGE_TYPE: &str = "tollbook.usage.v1";
/// Most events in one request or publish; with 1 MiB for all of them the other bound of a body.
pub const EVENTS_MAX: usize = 1_000;
/// Longest `lease` and `request_id`, in bytes.
pub const REFERENCE_MAX: usize = 128;
/// Most meters in one record, so that what a record may add to an entry stays small.
pub const METERS_MAX: usize = 32;

/// What a body may hold, as its media type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// One event: `application/cloudevents+json`.
    One,
    /// An array of events: `application/cloudevents-batch+json`.
    Batch,
    /// One or an array: `application/json`.
    Either,
}

/// Why a body was refused. Nothing of it may be kept (R8.1).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not JSON, or neither an object nor an array where one was due.
    #[error("{0}")]
    Unreadable(String),
    /// More events than fit one request.
    #[error("more than {most} events")]
    TooMany {
        /// How many would fit.
        most: usize,
    },
    /// Readable, with these faults, in the order of the events.
    #[error("{}", Faults(.0))]
    Bad(Vec<BadEvent>),
}

/// One fault of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEvent {
    /// The event's place in the array, from 0; 0 also where one stood alone.
    pub index: usize,
    /// The member, such as `data.input_tokens`; `event` for the event as a whole.
    pub field: String,
    /// What is wrong with it, to be read after the field's name.
    pub reason: String,
}

/// One line for logs and for answers that have no list.
struct Faults<'a>(&'a [BadEvent]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, others)) = self.0.split_first() else { return f.write_str("no faults") };
        write!(f, "event {}: {} {}", first.index, first.field, first.reason)?;
        if others.is_empty() { Ok(()) } else { write!(f, ", and {} more", others.len()) }
    }
}

/// What an event is checked against besides itself.
#[derive(Clone, Copy)]
struct Context<'a> {
    /// When it came.
    arrived: Timestamp,
    /// The latest that it may have occurred.
    latest: Timestamp,
    /// The organization that a NATS subject named.
    subject: Option<&'a OrgId>,
}

/// Reads usage from a body that arrived at `arrived`. `subject` is the organization that a NATS subject names and that
/// every event must agree with.
///
/// All or nothing: errors are [`Refused`] for the whole body and name every bad event. What only State can tell
/// (unknown organizations, keys, models, repetitions) passes here. Time and memory are linear in `bytes`.
pub fn parse(
    bytes: &[u8],
    payload: Payload,
    arrived: Timestamp,
    subject: Option<&OrgId>,
) -> Result<Vec<Usage>, Refused> {
    let body = std::str::from_utf8(bytes)
        .map_err(|error| Refused::Unreadable(format!("not UTF-8 after byte {}", error.valid_up_to())))?;
    let latest = arrived.plus_seconds(AHEAD_MAX_SECONDS);
    let mut events = Events {
        body,
        context: Context { arrived, latest, subject },
        count: 0,
        // A typical event has 300 bytes; more room would be wasted on large ones.
        usages: Vec::with_capacity((bytes.len() / 256).clamp(1, EVENTS_MAX)),
        bad: Vec::new(),
    };
    let start = skip_space(body);
    let array = start.strip_prefix('[');
    let rest = match (payload, array) {
        (Payload::Batch | Payload::Either, Some(inside)) => events.array(inside)?,
        (Payload::One | Payload::Either, None) if start.starts_with('{') => events.one(start)?,
        (Payload::One, _) => return Err(events.unreadable("must be one JSON object")),
        (Payload::Batch, None) => return Err(events.unreadable("must be a JSON array of events")),
        (Payload::Either, None) => return Err(events.unreadable("must be a JSON object or an array of them")),
    };
    if !skip_space(rest).is_empty() {
        return Err(events.unreadable("something follows the JSON value"));
    }
    if events.bad.is_empty() { Ok(events.usages) } else { Err(Refused::Bad(events.bad)) }
}

/// Events read so far.
struct Events<'a> {
    body: &'a str,
    context: Context<'a>,
    count: usize,
    usages: Vec<Usage>,
    bad: Vec<BadEvent>,
}

impl<'a> Events<'a> {
    /// Reads events up to the array's end; gives what follows it.
    fn array(&mut self, inside: &'a str) -> Result<&'a str, Refused> {
        let mut rest = skip_space(inside);
        if let Some(after) = rest.strip_prefix(']') {
            return Ok(after);
        }
        loop {
            rest = skip_space(self.one(rest)?);
            if let Some(after) = rest.strip_prefix(']') {
                return Ok(after);
            }
            let next = rest.strip_prefix(',').ok_or_else(|| self.unreadable("expected `,` or `]`"))?;
            rest = skip_space(next);
        }
    }

    /// Reads the event that `rest` begins with; gives what follows it.
    fn one(&mut self, rest: &'a str) -> Result<&'a str, Refused> {
        let index = self.count;
        if index >= EVENTS_MAX {
            return Err(Refused::TooMany { most: EVENTS_MAX });
        }
        self.count = index.saturating_add(1);
        // A stream of one value, because it tells where the value ended: no second scan for its length.
        let mut stream = Deserializer::from_str(rest).into_iter::<fast::Event<'a>>();
        if let Some(Ok(event)) = stream.next() {
            let end = stream.byte_offset();
            let usage = event.usage(&self.context, self.usages.last()).filter(|_| end <= USAGE_BYTES_MAX);
            if let (Some(usage), Some(after)) = (usage, rest.get(end..)) {
                self.usages.push(usage);
                return Ok(after);
            }
        }
        let mut stream = Deserializer::from_str(rest).into_iter::<&'a RawValue>();
        let Some(Ok(raw)) = stream.next() else { return Err(self.unreadable("expected an event")) };
        let after = rest.get(stream.byte_offset()..).unwrap_or_default();
        match explain::explain(raw.get(), &self.context) {
            Ok(usage) => self.usages.push(usage),
            Err(faults) => self.bad.extend(faults.into_iter().map(|fault| BadEvent {
                index,
                field: fault.field,
                reason: fault.reason.into_owned(),
            })),
        }
        Ok(after)
    }

    /// What is wrong with the whole body: the first place where it is not JSON, else `otherwise`.
    fn unreadable(&self, otherwise: &str) -> Refused {
        Refused::Unreadable(match serde_json::from_str::<serde::de::IgnoredAny>(self.body) {
            Ok(_) => otherwise.to_owned(),
            Err(error) => format!("not JSON: {error}"),
        })
    }
}

/// The text after JSON's white space.
fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\n', '\r', '\t'])
}

/// The CloudEvent that reads back as this record, members that we do not know included. An assumed time is left out:
/// nobody outside said it.
pub fn to_event(usage: &Usage) -> Value {
    let mut data = Map::new();
    let mut event = Map::new();
    let extras = usage.extras.as_deref();
    if let Some(kept) = extras.and_then(|extras| extras.kept.as_deref()) {
        (event, data) = kept::restore(kept);
    }
    let mut set = |name: &str, value: Value| data.insert(name.to_owned(), value);
    match &usage.charged {
        Charged::Key(key) => set("api_key_id", json!(key.as_str())),
        Charged::Project(project) => set("project", json!(project.as_str())),
    };
    set("model", json!(usage.model.as_str()));
    set("input_tokens", json!(usage.tokens.input));
    set("cached_input_tokens", json!(usage.tokens.cached_input));
    set("output_tokens", json!(usage.tokens.output));
    if let Some(extras) = extras {
        let texts = [("lease", &extras.lease), ("request_id", &extras.request_id)];
        for (name, text) in texts {
            if let Some(text) = text {
                set(name, json!(text));
            }
        }
        if let Some(cost) = extras.cost {
            set("cost", json!(cost.to_string()));
        }
        if !extras.meters.is_empty() {
            let meters = extras.meters.iter().map(|(name, units)| (name.to_string(), json!(units)));
            set("meters", Value::Object(meters.collect()));
        }
    }
    let mut set = |name: &str, value: Value| event.insert(name.to_owned(), value);
    set("specversion", json!(SPEC_VERSION));
    set("id", json!(usage.id));
    set("source", json!(usage.source.as_str()));
    set("type", json!(USAGE_TYPE));
    set("subject", json!(usage.organization.as_str()));
    match usage.occurred {
        Occurred::Given(at) => {
            set("time", json!(at.to_string()));
        }
        Occurred::Assumed(_) => {}
    }
    if let Some(sequence) = usage.producerseq {
        set("producerseq", json!(sequence.to_string()));
    }
    set("data", Value::Object(data));
    Value::Object(event)
}

#[cfg(test)]
mod tests;
