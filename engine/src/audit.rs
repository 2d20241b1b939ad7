//! The audit log as JSON: who did what when. Every event has a type and fields whose names stay.
//!
//! ```text
//! type                         its fields are of
//! organization.*               audit/organization.rs
//! member.*  invitation.*       audit/member.rs
//! project.*  api_key.*         audit/project.rs
//! webhook.*  quarantine.*      audit/project.rs
//! recharge.*  voucher.*  …     audit/money.rs
//! config.*  token.*  …         audit/config.rs
//! ```
//!
//! Hashes of secrets and ciphertexts are in none of them; personal data is, until it is erased (R9).

mod config;
mod member;
mod money;
mod organization;
mod project;

use serde_json::{Value, json};
use tollbook_projections::state::AuditRow;
use tollbook_schemas::entry::Actor;
use tollbook_schemas::event::Event;
use tollbook_schemas::id::{MemberId, TokenId};
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::usage::UsagePlace;

/// Opens a field of personal data; `None`: it was erased.
pub type Open<'a> = &'a dyn Fn(&Sealed) -> Option<String>;

/// One item: `{position, recorded_at, actor, events}`.
pub fn item(partition: PartitionId, row: &AuditRow, open: Open<'_>) -> Value {
    let events: Vec<Value> = row.events.iter().map(|event| event_json(partition, event, open)).collect();
    json!({
        "position": LogPosition { partition, position: row.position }.to_string(),
        "recorded_at": row.recorded_at.to_string(),
        "actor": actor_json(&row.actor),
        "events": events,
    })
}

/// `{kind, token, member}`: the platform's own admin token has no id.
pub fn actor_json(actor: &Actor) -> Value {
    let (kind, token, member) = match actor {
        Actor::Engine => ("engine", None, None),
        Actor::Operator { token } => ("operator", token.as_ref(), None),
        Actor::Member { token, member } => ("member", token.as_ref(), Some(member)),
        Actor::Invitee { token } => ("invitee", token.as_ref(), None),
    };
    json!({ "kind": kind, "token": token.map(TokenId::as_str), "member": member.map(MemberId::as_str) })
}

/// An event that stands in `partition`: its type, and what it says under the names that the rest of the API uses.
pub fn event_json(partition: PartitionId, event: &Event, open: Open<'_>) -> Value {
    let (kind, mut fields) = match event {
        Event::Organization(event) => organization::event(event, open),
        Event::Member(event) => member::event(event, open),
        Event::Project(event) => project::event(event),
        Event::Key(event) => project::key_event(event),
        Event::Money(event) => money::event(partition, event),
        Event::Quarantine(event) => project::quarantine_event(partition, event),
        Event::Webhook(event) => project::webhook_event(event, open),
        Event::Config(event) => config::event(event),
        Event::Partition(event) => config::partition_event(event),
    };
    if let Some(fields) = fields.as_object_mut() {
        fields.insert("type".to_owned(), kind.into());
    }
    fields
}

/// A type, and an object of fields.
type Told = (&'static str, Value);

/// What can be absent, as text.
fn text(value: Option<impl std::fmt::Display>) -> Value {
    value.map_or(Value::Null, |value| value.to_string().into())
}

/// Every one as text.
fn texts<T: std::fmt::Display>(values: &[T]) -> Value {
    values.iter().map(T::to_string).collect()
}

/// The id of a usage record, as in the quarantine.
fn place_id(partition: PartitionId, place: UsagePlace) -> String {
    format!("{partition}-{place}")
}
