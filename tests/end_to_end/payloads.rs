//! Ten thousand payloads, valid ones and what chance makes of them: every answer is 204 or a refusal with a reason, and
//! everything accepted is booked, a repetition, or in quarantine.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tollbook_projections::view::Views;
use tollbook_schemas::position::PartitionId;
use tollbook_tests::system::{Api, Key, System};

use super::{MODEL, calls, check_spend, priced};

const PAYLOADS: u64 = 10_000;
const CONNECTIONS: u64 = 8;

const MEDIA_TYPES: [&str; 3] =
    ["application/cloudevents+json", "application/cloudevents-batch+json", "application/json"];

/// Media types that are wrong, or right in a strange spelling.
const STRANGE: [&str; 10] = [
    "text/plain",
    "application/json; charset=utf-8",
    "APPLICATION/JSON",
    "application/json;",
    "application/",
    "application/json; charset=\"",
    "*/*",
    "application/cloudevents+xml",
    "application/cloudevents+json; v=1.0",
    "ö",
];

/// Pieces of text that readers stumble over.
const TOKENS: [&str; 30] = [
    "null",
    "true",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "ü",
    "🧾",
    "-0",
    "-1",
    "1e400",
    "1e-400",
    "0.1",
    "00",
    "18446744073709551616",
    "1000000000001",
    "NaN",
    "Infinity",
    "2026-11-20T10:00:00Z",
    "9999-12-31T23:59:60Z",
    "org_",
    "\"id\":\"again\",",
];

/// One payload's text and media type.
struct Maker<'a> {
    random: StdRng,
    key: &'a Key,
    name: String,
    made: u64,
    last: Option<Value>,
}

impl Maker<'_> {
    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound.max(1))
    }

    fn event(&mut self) -> Value {
        if let Some(last) = self.last.clone()
            && self.below(10) == 0
        {
            return last;
        }
        self.made += 1;
        // Now and then the one before again, with the same content or another.
        let again = self.made > 1 && self.below(10) == 0;
        let id = format!("{}{}", self.name, self.made - u64::from(again));
        let mut event = self.key.event(&id, if self.below(20) == 0 { "unknown" } else { MODEL });
        match self.below(6) {
            0 => event["producerseq"] = json!(self.made.to_string()),
            1 => event["data"]["meters"] = json!({ "image": self.made }),
            2 => event["data"]["cost"] = json!("0.000000000001"),
            3 => event["time"] = json!("2026-01-01T00:00:00.123456789+01:00"),
            4 => event["extension"] = json!({ "nested": [1, 2.5, "ü"] }),
            _ => {}
        }
        event["source"] = json!(format!("{}{}", self.name, event.get("producerseq").is_some()));
        self.last = Some(event.clone());
        event
    }

    fn any(&mut self) -> Value {
        match self.below(12) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(u64::MAX),
            4 => json!(1.5e300),
            5 => json!(""),
            6 => json!("x".repeat(300)),
            7 => json!([]),
            8 => json!({}),
            9 => json!("sk-secret"),
            10 => json!(1_000_000_000_001_u64),
            _ => json!({ "a": [null, { "b": "c" }] }),
        }
    }

    /// Replaces, removes or renames a member somewhere.
    fn change(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) if !members.is_empty() => {
                let names: Vec<String> = members.keys().cloned().collect();
                let name = names[self.below(names.len())].clone();
                match self.below(5) {
                    0 => drop(members.remove(&name)),
                    1 => {
                        let moved = members.remove(&name).unwrap();
                        members.insert(name.to_uppercase(), moved);
                    }
                    2 => drop(members.insert(name, self.any())),
                    _ => self.change(members.get_mut(&name).unwrap()),
                }
            }
            Value::Array(items) if !items.is_empty() => {
                let index = self.below(items.len());
                self.change(&mut items[index]);
            }
            Value::Object(_)
            | Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_) => *value = self.any(),
        }
    }

    fn payload(&mut self) -> (Vec<u8>, &'static str) {
        let shape = self.below(3);
        let mut value = match shape {
            0 => self.event(),
            _ => (0..self.below(5)).map(|_| self.event()).collect(),
        };
        let kind = self.below(10);
        if (3..6).contains(&kind) {
            for _ in 0..=self.below(3) {
                self.change(&mut value);
            }
        }
        let mut bytes = value.to_string().into_bytes();
        if kind >= 6 {
            for _ in 0..=self.below(3) {
                self.mutate(&mut bytes);
            }
        }
        let media_type = match self.below(20) {
            0 => STRANGE[self.below(STRANGE.len())],
            1 => MEDIA_TYPES[self.below(MEDIA_TYPES.len())],
            _ => MEDIA_TYPES[if shape == 0 { 0 } else { 1 }],
        };
        (bytes, media_type)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let start = self.below(bytes.len());
        let end = (start + self.below(24)).min(bytes.len());
        match self.below(9) {
            0 => drop(bytes.drain(start..end)),
            1 => {
                let piece = bytes[start..end].to_vec();
                bytes.splice(start..start, piece);
            }
            2 => {
                for byte in &mut bytes[start..end] {
                    *byte = self.random.random();
                }
            }
            3 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(start..start, token.bytes());
            }
            4 => {
                let token = TOKENS[self.below(TOKENS.len())];
                bytes.splice(start..end, token.bytes());
            }
            5 => {
                // A number somewhere becomes another.
                if let Some(digit) = bytes[start..].iter().position(u8::is_ascii_digit) {
                    let token = ["-1", "1e9", "99999999999999999999", "0.5", "1000000000000"][self.below(5)];
                    bytes.splice(start + digit..=start + digit, token.bytes());
                }
            }
            6 => {
                let depth = [10, 130, 5_000][self.below(3)];
                let open = ["[", "{\"a\":"][self.below(2)];
                bytes.splice(start..start, open.repeat(depth).bytes());
            }
            7 => bytes.truncate(start),
            _ => *bytes = (0..self.below(200)).map(|_| self.random.random()).collect(),
        }
    }
}

/// How many events an accepted body holds, as another reader of JSON counts them.
fn events_in(body: &[u8]) -> u64 {
    match serde_json::from_slice(body) {
        Ok(Value::Array(items)) => u64::try_from(items.len()).unwrap(),
        Ok(Value::Object(_)) => 1,
        other => panic!("{other:?} was accepted: {}", String::from_utf8_lossy(body)),
    }
}

/// Sends a share of the payloads over one connection. Answers by status and code, and the events accepted.
async fn send(api: Api, key: Key, seed: u64, connection: u64) -> (BTreeMap<String, u64>, u64) {
    let random = StdRng::seed_from_u64(seed + connection);
    let mut maker = Maker { random, key: &key, name: format!("c{connection}-"), made: 0, last: None };
    let (mut answers, mut accepted) = (BTreeMap::new(), 0);
    for _ in 0..PAYLOADS / CONNECTIONS {
        let (body, media_type) = maker.payload();
        let answer = api.send(api.raw(body.clone(), media_type)).await;
        let what = if answer.status == 204 {
            assert_eq!(answer.text, "");
            accepted += events_in(&body);
            "204".to_owned()
        } else {
            let text = String::from_utf8_lossy(&body);
            assert!((400..500).contains(&answer.status), "seed {seed}: {answer:?} to {media_type} {text}");
            let code = answer.refused(answer.status);
            if code == "invalid_fields" {
                answer.faults();
            }
            format!("{} {code}", answer.status)
        };
        *answers.entry(what).or_default() += 1;
    }
    (answers, accepted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_payload_is_too_strange() {
    let seed: u64 = rand::rng().random();
    let seed = seed >> 1;
    println!("seed={seed}");
    let mut system = System::start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    let other = api.customer("Other").await;
    let sending: Vec<_> = (0..CONNECTIONS)
        .map(|connection| tokio::spawn(send(api.reconnected(), key.clone(), seed, connection)))
        .collect();
    let (mut answers, mut accepted) = (BTreeMap::<String, u64>::new(), 0);
    for share in sending {
        let (by_code, events) = share.await.unwrap();
        by_code.into_iter().for_each(|(code, count)| *answers.entry(code).or_default() += count);
        accepted += events;
    }
    println!("{answers:?}, {accepted} events accepted");
    for reached in ["204", "400 invalid_fields", "400 malformed", "415 media_type"] {
        assert!(
            answers.get(reached).is_some_and(|count| *count > 100),
            "{reached} hardly came up: {answers:?}"
        );
    }

    api.events(&[other.event("good", MODEL)]).await;
    check_spend(&api, &other.organization, calls(1)).await;
    accepted += 1;
    let quarantined = u64::try_from(api.quarantine().await.len()).unwrap();
    let booked = api.spend(&key.organization).await.requests + 1;
    system.terminate().await;

    let views = Views::open(&system.data().join("views/state")).unwrap();
    let state = views.partition(PartitionId(0)).unwrap().load().unwrap().unwrap();
    let duplicates: u64 = state.organizations().map(|known| known.counts.duplicates).sum();
    println!("{booked} booked, {duplicates} repetitions, {quarantined} quarantined");
    assert_eq!(accepted, booked + duplicates + quarantined);
    assert!(booked > 100 && duplicates > 100 && quarantined > 100);
}
