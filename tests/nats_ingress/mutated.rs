//! Ten thousand payloads that nobody in their right mind sends.

use futures_util::{StreamExt, stream};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollbook_tests::nats::NatsServer;

use crate::engine::{Engine, SPOOL, USAGE, event, publish, publisher};
use crate::spool;

const PAYLOADS: usize = 10_000;
/// Of which this many through the spool.
const SPOOLED: usize = 1_000;
/// Requests at once.
const AT_ONCE: usize = 256;
const SEED: u64 = 0x70_11_b0_0c;

/// Values where others belong.
fn odd(random: &mut StdRng) -> Value {
    match random.random_range(0..10) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(1.5),
        4 => json!(u64::MAX),
        5 => json!(""),
        6 => json!("\u{0}\u{1F4A9}"),
        7 => json!([[[]]]),
        8 => json!({ "": {} }),
        _ => json!("x".repeat(random.random_range(0..20_000))),
    }
}

/// An event with some members replaced, removed or added.
fn bent(random: &mut StdRng, id: usize) -> Value {
    let mut event = event(id);
    for _ in 0..random.random_range(0..3) {
        let deep = random.random_bool(0.5);
        let value = odd(random);
        let object = if deep { event["data"].as_object_mut() } else { event.as_object_mut() };
        let Some(object) = object else { continue };
        let names: Vec<String> = object.keys().cloned().collect();
        if names.is_empty() {
            continue;
        }
        let name = &names[random.random_range(0..names.len())];
        match random.random_range(0..3) {
            0 => drop(object.remove(name)),
            1 => drop(object.insert(name.clone(), value)),
            _ => drop(object.insert("extra".to_owned(), value)),
        }
    }
    event
}

/// Bytes turned, cut, doubled or inserted.
fn damage(random: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..bytes.len().max(1));
        match random.random_range(0..4) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.random_range(0..8);
                }
            }
            1 => bytes.truncate(at),
            2 => {
                let piece: Vec<u8> = bytes.iter().skip(at).take(40).copied().collect();
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), piece);
            }
            _ => bytes.insert(at.min(bytes.len()), random.random()),
        }
    }
}

fn payload(random: &mut StdRng, id: usize) -> Vec<u8> {
    if random.random_bool(0.1) {
        let mut noise = vec![0; random.random_range(0..2_000)];
        random.fill_bytes(&mut noise);
        return noise;
    }
    let value = if random.random_bool(0.3) {
        (0..random.random_range(0..5)).map(|row| bent(random, id * 10 + row)).collect()
    } else {
        bent(random, id * 10)
    };
    let mut bytes = value.to_string().into_bytes();
    if random.random_bool(0.4) {
        damage(random, &mut bytes);
    }
    bytes
}

/// How many events a payload has; what is no array is one, readable or not.
fn events(payload: &[u8]) -> u64 {
    let array: Option<Vec<&RawValue>> = serde_json::from_slice(payload).ok();
    array.map_or(1, |events| u64::try_from(events.len()).unwrap())
}

#[tokio::test]
async fn every_payload_is_answered_and_accepted_usage_adds_up() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (client, context) = publisher(&server).await;
    let mut random = StdRng::seed_from_u64(SEED);
    let payloads: Vec<Vec<u8>> = (0..PAYLOADS).map(|id| payload(&mut random, id)).collect();
    let answers = stream::iter(payloads.iter().map(|payload| {
        let client = &client;
        async move {
            let answer = client.request(USAGE, payload.clone().into()).await.unwrap();
            (payload, serde_json::from_slice::<Value>(&answer.payload).unwrap())
        }
    }));
    let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
    let (mut accepted, mut refused) = (0, 0);
    for (payload, answer) in answers {
        match answer.get("error") {
            None => {
                assert_eq!(answer["stream"], "TOLLBOOK_LOG_0_0");
                assert!(answer["seq"].as_u64().unwrap() > 0);
                accepted += events(payload);
            }
            Some(error) => {
                assert_eq!(error.as_object().unwrap().len(), 3);
                assert!(matches!(error["err_code"].as_u64(), Some(60_001 | 60_002)), "{error}");
                assert!(!error["description"].as_str().unwrap().is_empty());
                refused += 1;
            }
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
    let totals = engine.totals().await;
    assert_eq!(totals.records(), accepted, "{totals:?}");
    assert!(totals.quarantined > 0, "{totals:?}");
    publish(&context, USAGE, &event("the next good one")).await;
    assert_eq!(engine.totals().await.booked, totals.booked + 1);
    engine.stop().await;
}

#[tokio::test]
async fn every_spooled_payload_is_booked_or_quarantined() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start_with_spool(&server, &data).await;
    let (_client, context) = publisher(&server).await;
    spool::ready(&context).await;
    let mut random = StdRng::seed_from_u64(SEED);
    let payloads: Vec<Vec<u8>> = (0..SPOOLED).map(|id| payload(&mut random, id)).collect();
    for payload in &payloads {
        context.publish(SPOOL, payload.clone().into()).await.unwrap().await.unwrap();
    }
    publish(&context, SPOOL, &event("the next good one")).await;
    spool::empty(&context).await;
    let totals = engine.totals().await;
    // What holds no events is a record in quarantine.
    let records: u64 = payloads.iter().map(|payload| events(payload).max(1)).sum();
    assert_eq!(totals.records(), records + 1, "{totals:?}");
    assert!(totals.booked > 100 && totals.quarantined > 100, "{totals:?}");
    engine.stop().await;
}
