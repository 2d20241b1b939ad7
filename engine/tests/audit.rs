//! Every event as the audit log shows it, in `golden/audit.txt`: types and fields stay, and secrets never show.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tollbook-engine --test audit` adds lines that are missing, and never changes one.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

#[path = "../../schemas/tests/samples/mod.rs"]
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tollbook_engine::audit;
use tollbook_projections::state::AuditRow;
use tollbook_schemas::entry::Body;
use tollbook_schemas::event::{ConfigEvent, Event, MoneyEvent, VoucherOrigin};
use tollbook_schemas::id::{Reason, Reference, VoucherId};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::Timestamp;

use samples::Sample;

const PARTITION: PartitionId = PartitionId(1);

/// Every sample of an event, and variants that change its shape, by name.
fn events() -> BTreeMap<String, Event> {
    let mut events = BTreeMap::new();
    for Sample { family, name, value } in samples::entries() {
        if let Body::Decision(decision) = value.body
            && let [event] = &decision.events[..]
        {
            events.insert(format!("{family}/{name}"), event.clone());
        }
    }
    let granted = |origin| {
        let amount = "2.50".parse().unwrap();
        let voucher = VoucherId::from_bits(9);
        Event::Money(MoneyEvent::VoucherGranted { voucher, amount, expires_at: None, origin })
    };
    let reference = Reference::parse("gift_1").unwrap();
    let reason = Some(Reason::parse("for patience").unwrap());
    events.insert(
        "money/voucher_granted_by_operator".into(),
        granted(VoucherOrigin::Operator { reference, reason }),
    );
    events.insert("money/voucher_moved_in".into(), granted(VoucherOrigin::MovedIn));
    events.insert("config/rate_scale_ended".into(), Event::Config(ConfigEvent::RateScaleSet(None)));
    events
}

/// What personal data of an event would read.
fn readable(event: &Event) -> Option<String> {
    let url = "https://user:password@hooks.example/secret-path?token=secret";
    let text = if matches!(event, Event::Webhook(_)) { url } else { "Ada" };
    Some(text.to_owned())
}

fn shown(event: &Event) -> Value {
    audit::event_json(PARTITION, event, &|_| readable(event))
}

/// Golden lines `name json`.
fn golden() -> (PathBuf, BTreeMap<String, String>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/audit.txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_once(' ').unwrap());
    (path, lines.map(|(name, json)| (name.to_owned(), json.to_owned())).collect())
}

#[test]
fn every_event_shows_as_ever() {
    let (path, mut stored) = golden();
    let events = events();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        for (name, event) in &events {
            stored.entry(name.clone()).or_insert_with(|| shown(event).to_string());
        }
        let text: String = stored.iter().map(|(name, json)| format!("{name} {json}\n")).collect();
        fs::write(path, text).unwrap();
    }
    for (name, event) in &events {
        let Some(stored) = stored.get(name) else { panic!("{name} has no golden line; see above") };
        let stored: Value = serde_json::from_str(stored).unwrap();
        assert_eq!(shown(event), stored, "{name} no longer shows as it did");
    }
    assert!(stored.keys().all(|name| events.contains_key(name)), "a line lost its sample");
}

#[test]
fn every_event_has_a_type_of_its_own() {
    let names = events();
    let types: BTreeSet<String> =
        names.values().map(|event| shown(event)["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types.len(), names.len() - 3, "three are variants of others: {types:?}");
    for kind in &types {
        let word = |word: &str| word.starts_with(|first: char| first.is_ascii_lowercase());
        assert!(kind.split_once('.').is_some_and(|(noun, verb)| word(noun) && word(verb)), "{kind}");
    }
}

#[test]
fn r9_1_no_ciphertext_and_no_hash_of_a_secret_shows() {
    for (name, event) in events() {
        for text in [shown(&event).to_string(), audit::event_json(PARTITION, &event, &|_| None).to_string()] {
            // The samples' ciphertext and hash, in every way that bytes could be written.
            let ciphertext = ["[1,2,3,255]", "010203ff", "AQID/w", "AQID_w", "\\u0001\\u0002"];
            let hash = ["[7,7,7", "070707", "BwcH", "\\u0007"];
            for bytes in ciphertext.into_iter().chain(hash) {
                assert!(!text.contains(bytes), "{name}: {text}");
            }
            for part in ["secret-path", "password", "token=secret"] {
                assert!(!text.contains(part), "{name}: {text}");
            }
        }
    }
}

/// The same with every text that personal data gave replaced by nothing.
fn without(value: Value) -> Value {
    if value == "Ada" || value == "hooks.example" {
        return Value::Null;
    }
    match value {
        Value::Array(items) => items.into_iter().map(without).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, without(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[test]
fn r9_2_of_what_was_erased_the_rest_still_shows() {
    let mut personal = 0;
    for (name, event) in events() {
        let erased = audit::event_json(PARTITION, &event, &|_| None);
        assert_eq!(erased, without(shown(&event)), "{name}");
        personal += usize::from(erased != shown(&event));
    }
    assert_eq!(personal, 5, "registered, another e-mail address, invited, joined, webhook created");
}

#[test]
fn an_item_says_where_when_and_who() {
    let event = Event::Config(ConfigEvent::RateScaleSet(None));
    let mut actors = BTreeMap::new();
    for Sample { family, name, value } in samples::entries() {
        if let Body::Decision(decision) = value.body
            && family == "actor"
        {
            let row = AuditRow {
                position: Position(17),
                recorded_at: "2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap(),
                actor: decision.actor,
                events: vec![event.clone(), event.clone()],
            };
            let item = audit::item(PARTITION, &row, &|_| None);
            assert_eq!(item["position"], "1-17");
            assert_eq!(item["recorded_at"], "2026-11-20T10:00:00Z");
            assert_eq!(item["events"], json!([shown(&event), shown(&event)]));
            actors.insert(name, item["actor"].clone());
        }
    }
    let (token, member) = ("tok_00000000000000000000000006", "mem_00000000000000000000000003");
    let expected = [
        ("engine", json!({ "kind": "engine", "token": null, "member": null })),
        ("invitee", json!({ "kind": "invitee", "token": token, "member": null })),
        ("member", json!({ "kind": "member", "token": token, "member": member })),
        ("operator", json!({ "kind": "operator", "token": null, "member": null })),
    ];
    assert_eq!(actors, BTreeMap::from(expected));
}
