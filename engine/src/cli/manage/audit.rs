//! The audit log as people read it: who did what when.

use clap::Args;
use serde_json::Value;

use super::super::table::{NOTHING, text};
use super::call::each;
use super::{Call, Calls, ManageError, PageArgs};

/// The ledger's own log.
#[derive(Args, Debug)]
pub(in super::super) struct LedgerLogArgs {
    #[command(flatten)]
    page: PageArgs,
}

impl Calls for LedgerLogArgs {
    fn call(self) -> Result<Call, ManageError> {
        Ok(log("/v1/config/log".to_owned(), self.page))
    }
}

/// A page of an audit log.
pub(super) fn log(path: String, page: PageArgs) -> Call {
    Call::get(path, COLUMNS).page(page).rows(|answer| each(answer, entry))
}

/// Of each entry.
const COLUMNS: &[&str] = &["position", "recorded_at", "actor", "events"];

/// An entry of the audit log, as people read it: who in one cell, each event on a line.
fn entry(entry: &mut Value) {
    let actor = entry.get("actor").map(actor).unwrap_or_default();
    let events = entry.get("events").and_then(Value::as_array).into_iter().flatten();
    let events = events.map(event).collect::<Vec<_>>().join("\n");
    let time = entry.get("recorded_at").and_then(Value::as_str).map(second);
    if let Some(members) = entry.as_object_mut() {
        members.extend(time.map(|time| ("recorded_at".to_owned(), time.into())));
        members.insert("actor".to_owned(), actor.into());
        members.insert("events".to_owned(), events.into());
    }
}

/// A time to the second; further digits would only push the rest aside.
fn second(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

fn actor(actor: &Value) -> String {
    let part = |name: &str| actor.get(name).map(text).filter(|text| !text.is_empty());
    match (part("member"), part("token"), part("kind")) {
        (Some(member), Some(token), _) => format!("{member} by {token}"),
        (Some(member), None, _) => member,
        (None, Some(token), Some(kind)) => format!("{kind} {token}"),
        (None, token, kind) => kind.or(token).unwrap_or_default(),
    }
}

fn event(event: &Value) -> String {
    let kind = event.get("type").map(text).unwrap_or_default();
    let details = event.as_object().into_iter().flatten().filter(|(name, _)| *name != "type");
    details.fold(kind, |line, (name, value)| line + &detail(name, value))
}

/// ` name=value`; of an object, each member as `name.member`, and of a list of objects each as `name[0]` and so on.
fn detail(name: &str, value: &Value) -> String {
    if let Value::Array(items) = value
        && items.iter().any(Value::is_object)
    {
        let items = items.iter().enumerate();
        return items.map(|(place, item)| detail(&format!("{name}[{place}]"), item)).collect();
    }
    if let Value::Object(members) = value {
        return members.iter().map(|(member, value)| detail(&format!("{name}.{member}"), value)).collect();
    }
    let text = text(value);
    if text.is_empty() {
        format!(" {name}={NOTHING}")
    } else if text.contains(|c: char| c.is_whitespace() || c == '"') {
        format!(" {name}={text:?}")
    } else {
        format!(" {name}={text}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_entry_of_the_log_says_who_did_what() {
        let mut shown = json!({
            "position": "0-7",
            "recorded_at": "2026-11-20T10:00:00.123456789Z",
            "actor": { "kind": "member", "token": "tok_1", "member": "mem_1" },
            "events": [
                { "type": "organization.registered", "name": "Acme Inc", "creator": { "id": "mem_1", "name": null } },
                { "type": "invitation.created", "projects": [{ "project": "proj_1", "role": "member" }] },
                { "type": "organization.contacts_erased" },
            ],
        });
        entry(&mut shown);
        assert_eq!(
            (&shown["actor"], &shown["recorded_at"]),
            (&json!("mem_1 by tok_1"), &json!("2026-11-20T10:00:00Z"))
        );
        assert_eq!(second("2026-11-20T10:00:00Z"), "2026-11-20T10:00:00Z");
        assert_eq!(
            shown["events"],
            "organization.registered creator.id=mem_1 creator.name=– name=\"Acme Inc\"\n\
             invitation.created projects[0].project=proj_1 projects[0].role=member\n\
             organization.contacts_erased"
        );
        assert_eq!(actor(&json!({ "kind": "operator", "token": null, "member": null })), "operator");
        assert_eq!(actor(&json!({ "kind": "operator", "token": "tok_1" })), "operator tok_1");
        assert_eq!(actor(&json!({ "kind": "system" })), "system");
    }
}
