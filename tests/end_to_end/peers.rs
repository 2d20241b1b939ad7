//! How gateways let money and limits slip, each under the name of its cause with the thread that tells of it: the same
//! tried on a real engine in this process, many threads at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollbook_engine::admission::refusal::Refusal;
use tollbook_engine::admission::{AdmissionSettings, Admitted, Ask, InFlight, WhenBehind};
use tollbook_engine::node::Node;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{LeaseId, ModelName, OrgId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::usage::Tokens;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, DEADLINE, Key, Timed, amount};

use super::MODEL;

const START: &str = "2026-11-20T10:00:00Z";
/// Threads that ask at once: more than this machine has cores.
const THREADS: usize = 16;

/// A customer who has recharged so much, and a model that costs $1 a token.
async fn customer(api: &Api, dollars: u32) -> Key {
    api.prices(MODEL, "1000000", "1000000", "1000000").await;
    // No voucher of the policy: what was recharged is all there is.
    let policy = json!({ "threshold": "1000000", "amount": "5", "expires_after_days": null });
    api.put("/v1/config/voucher-policy", &policy).await.expect(200);
    let key = api.customer("Acme").await;
    api.recharge(&key.organization, &dollars.to_string(), "first").await;
    key
}

async fn limits(api: &Api, key: &Key, limits: Value) {
    api.post(&format!("/v1/organizations/{}/limits/override", key.organization), &limits).await.expect(200);
}

fn ask(node: &Node, key: &Key, tokens: u64, request: Option<&str>) -> Result<Admitted, Box<Refusal>> {
    let (model, meters) = (ModelName::parse(MODEL).unwrap(), Meters::new());
    node.admissions().admit(&Ask {
        api_key: &key.secret,
        ip: None,
        model: &model,
        input_tokens: tokens,
        max_output_tokens: Some(0),
        meters: &meters,
        request_id: request,
        lease_seconds: None,
        organizations: None,
    })
}

fn in_flight(node: &Node, key: &Key) -> InFlight {
    let organization = OrgId::parse(&key.organization).unwrap();
    node.admissions().in_flight(node.partition_of(&organization), &organization).unwrap()
}

/// So many requests at once, from many threads; what passed, and the codes of what did not.
async fn at_once(node: &Node, key: &Key, count: usize, tokens: u64) -> (Vec<Admitted>, Vec<&'static str>) {
    let (node, key) = (node.clone(), key.clone());
    tokio::task::spawn_blocking(move || {
        let begin = AtomicBool::new(false);
        let answers: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let (node, key, begin) = (&node, &key, &begin);
                    scope.spawn(move || {
                        while !begin.load(Ordering::Acquire) {
                            thread::yield_now();
                        }
                        (number..count)
                            .step_by(THREADS)
                            .map(|_| ask(node, key, tokens, None))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            begin.store(true, Ordering::Release);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        for answer in answers {
            match answer {
                Ok(admitted) => passed.push(admitted),
                Err(refusal) => refused.push(refusal.code.as_str()),
            }
        }
        (passed, refused)
    })
    .await
    .unwrap()
}

/// Usage of a lease, or of none.
fn used(key: &Key, id: &str, tokens: u64, lease: Option<&LeaseId>) -> Value {
    let mut event = key.event(id, MODEL);
    event["data"]["input_tokens"] = json!(tokens);
    event["data"]["cached_input_tokens"] = json!(0);
    event["data"]["output_tokens"] = json!(0);
    if let Some(lease) = lease {
        event["data"]["lease"] = json!(lease.as_str());
    }
    event
}

// litellm#34732: a budget is checked and not reserved, so the overshoot grows with what comes at once.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_requests_of_100_dollars_do_not_share_1000() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 1_000).await;
    let (passed, refused) = at_once(timed.node(), &key, 50, 100).await;
    assert_eq!((passed.len(), refused.len()), (10, 40));
    assert!(refused.iter().all(|code| *code == "balance_below_request"), "{refused:?}");
    assert_eq!(in_flight(timed.node(), &key).held, Amount::whole(1_000));
}

// litellm#26672, #23714: keys pass above their maximum. 200 at once, and what they use is booked meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_hold_no_more_than_there_is() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 100).await;
    let (first, _) = at_once(timed.node(), &key, 200, 1).await;
    assert_eq!(first.len(), 100);
    let events: Vec<_> = first
        .iter()
        .take(60)
        .enumerate()
        .map(|(n, one)| used(&key, &n.to_string(), 1, Some(&one.lease)))
        .collect();
    let booking = timed.api.events(&events);
    let (again, ()) = tokio::join!(at_once(timed.node(), &key, 200, 1), booking);
    assert_eq!(again.0.len(), 0, "what is charged was held before, at every moment");
    timed.api.folded().await;
    let seen = in_flight(timed.node(), &key);
    assert_eq!((seen.leases, seen.held), (40, Amount::whole(40)));
    assert_eq!(timed.api.balance(&key.organization).await["available"], "40");
}

// litellm#16011, #27736, #40291, bifrost#3547: a limit of requests at once is passed under load, or counted per replica.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tasks_against_limits_of_100() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 5_000).await;
    for (limit, code) in [
        (json!({ "concurrency": 100, "rpm": 100_000 }), "organization_concurrency"),
        (json!({ "concurrency": 100_000, "rpm": 100 }), "organization_rpm"),
        (json!({ "concurrency": 100_000, "rpm": 100_000, "tpm": 100 }), "organization_tpm"),
        (json!({ "concurrency": 100_000, "rpm": 100_000, "tpm": 100_000, "tpd": 400 }), "organization_tpd"),
    ] {
        limits(&timed.api, &key, limit).await;
        let (passed, refused) = at_once(timed.node(), &key, 2_000, 1).await;
        assert_eq!((passed.len(), refused.len()), (100, 1_900), "{code}");
        assert!(refused.iter().all(|one| *one == code), "{code}");
        for one in passed {
            let actual = Tokens { input: 1, cached_input: 0, output: 0 };
            timed.node().admissions().settle(&one.lease, Some(actual), None).unwrap();
        }
        timed.clock.advance_to(timed.now().plus_seconds(60));
    }
}

// litellm#6938: limit 100, 544 passed. No 60 seconds hold more, however requests fall around the minute.
#[tokio::test(flavor = "multi_thread")]
async fn limit_100_never_lets_544_pass() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 5_000).await;
    limits(&timed.api, &key, json!({ "concurrency": 100_000, "rpm": 100 })).await;
    timed.until("2026-11-20T10:00:59.500Z");
    let mut passed: Vec<i64> = Vec::new();
    for _ in 0..300 {
        timed.clock.advance_to(timed.now().plus_nanos(700_000_001));
        let (admitted, _) = at_once(timed.node(), &key, 20, 1).await;
        passed.extend(admitted.iter().map(|_| timed.now().nanos()));
    }
    for (at, begin) in passed.iter().enumerate() {
        let span = passed[at..].iter().filter(|one| **one - begin < 60_000_000_000).count();
        assert!(span <= 100, "{span} within a minute");
    }
    assert!(passed.len() >= 300, "and the limit is used: {}", passed.len());
}

// litellm#24677: RPM and TPM share one start, so that one locks the other out. limitador#288: delayed hits land in the
// next window.
#[tokio::test(flavor = "multi_thread")]
async fn windows_are_independent_and_entries_keep_their_own_instant() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 5_000).await;
    limits(&timed.api, &key, json!({ "concurrency": 100, "rpm": 2, "tpm": 1_000 })).await;
    let first = ask(timed.node(), &key, 10, None).unwrap();
    timed.until("2026-11-20T10:00:50Z");
    ask(timed.node(), &key, 900, None).unwrap();
    let refusal = ask(timed.node(), &key, 10, None).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.retry_after_ms()), ("organization_rpm", Some(10_000)));
    // The usage of the first comes late and says that it occurred late: it counts where it was admitted.
    let mut event = used(&key, "u1", 60, Some(&first.lease));
    event["time"] = json!("2026-11-20T10:00:50Z");
    timed.api.events(&[event]).await;
    timed.api.folded().await;
    assert_eq!(in_flight(timed.node(), &key).tokens, 960);
    timed.until("2026-11-20T10:01:00Z");
    assert_eq!(in_flight(timed.node(), &key).tokens, 900);
    ask(timed.node(), &key, 100, None).unwrap();
}

// envoyproxy/ai-gateway#680, #2394, membrane/api-gateway#3210: tokens are counted after the stream has ended.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_reserved_before_the_stream_begins() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 5_000).await;
    limits(&timed.api, &key, json!({ "concurrency": 100, "tpm": 1_000 })).await;
    let (passed, refused) = at_once(timed.node(), &key, 32, 400).await;
    assert_eq!((passed.len(), refused[0]), (2, "organization_tpm"));
    // What was not used comes back at once.
    let actual = Tokens { input: 100, cached_input: 0, output: 0 };
    timed.node().admissions().settle(&passed[0].lease, Some(actual), None).unwrap();
    assert!(ask(timed.node(), &key, 500, None).is_ok());
}

// new-api#5690, #6609, one-api#2440: read, check, deduct unguarded. Everything at once, for a while.
#[tokio::test(flavor = "multi_thread")]
async fn holds_and_spend_stay_within_what_there_is_whatever_happens_at_once() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 200).await;
    limits(&timed.api, &key, json!({ "concurrency": 1_000_000, "rpm": 1_000_000, "tpm": 100_000_000 })).await;
    let (send, mut events) = tokio::sync::mpsc::unbounded_channel::<Value>();
    let stop = Arc::new(AtomicBool::new(false));
    let passed = Arc::new(AtomicU64::new(0));
    let askers: Vec<_> = (0..8_u64)
        .map(|number| {
            let (node, key, send) = (timed.node().clone(), key.clone(), send.clone());
            let (stop, passed) = (stop.clone(), passed.clone());
            thread::spawn(move || {
                let mut rng = StdRng::seed_from_u64(number);
                let mut count = 0_u64;
                while !stop.load(Ordering::Acquire) {
                    let tokens = rng.random_range(0..9);
                    let Ok(admitted) = ask(&node, &key, tokens, None) else {
                        thread::yield_now();
                        continue;
                    };
                    passed.fetch_add(1, Ordering::Relaxed);
                    // Nothing is refunded here: at the decision, and under its lock, nothing is spoken for twice.
                    assert!(!admitted.granted.available.is_negative(), "{admitted:?}");
                    let really = rng.random_range(0..=tokens);
                    let actual = Tokens { input: really, cached_input: 0, output: 0 };
                    match rng.random_range(0..4) {
                        0 => drop(node.admissions().release(&admitted.lease, None)),
                        1 => {
                            drop(node.admissions().settle(&admitted.lease, Some(actual), None));
                            count += 1;
                            let event =
                                used(&key, &format!("{number}-{count}"), really, Some(&admitted.lease));
                            send.send(event).unwrap();
                        }
                        _ => {
                            count += 1;
                            let event =
                                used(&key, &format!("{number}-{count}"), really, Some(&admitted.lease));
                            send.send(event).unwrap();
                        }
                    }
                }
            })
        })
        .collect();
    drop(send);
    for round in 0..40 {
        let mut batch = Vec::new();
        while batch.len() < 500
            && let Ok(event) = events.try_recv()
        {
            batch.push(event);
        }
        if !batch.is_empty() {
            timed.api.events(&batch).await;
        }
        timed.api.recharge(&key.organization, "25", &format!("more {round}")).await;
    }
    stop.store(true, Ordering::Release);
    tokio::task::spawn_blocking(move || askers.into_iter().for_each(|asker| asker.join().unwrap()))
        .await
        .unwrap();
    let mut rest = Vec::new();
    while let Some(event) = events.recv().await {
        rest.push(event);
    }
    for batch in rest.chunks(1_000) {
        timed.api.events(batch).await;
    }
    timed.api.folded().await;
    let balance = timed.api.balance(&key.organization).await;
    assert!(amount(&balance["cash"]) >= Decimal::ZERO, "overspent: {balance}");
    let seen = in_flight(timed.node(), &key);
    assert_eq!((seen.concurrency, seen.leases, seen.held), (0, 0, Amount::ZERO));
    assert!(passed.load(Ordering::Relaxed) > 100, "too little passed");
}

// litellm#34238, one-api#1132, new-api#204: an expired or stale cache decides. What was answered is in force.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_force_for_every_thread() {
    let timed = Timed::start(START).await;
    let first = customer(&timed.api, 5_000).await;
    let api = &timed.api;
    let organization = first.organization.clone();
    limits(api, &first, json!({ "concurrency": 1_000_000, "rpm": 1_000_000, "tpm": 100_000_000 })).await;
    let level = format!("/v1/organizations/{organization}/verification");
    api.post(&level, &json!({ "level": "verified" })).await.expect(200);
    let allowlist = format!("/v1/organizations/{organization}/ip-allowlist");
    for round in 0..10 {
        let key = api.key(&organization, &first.project).await;
        // Issued, so it works.
        ask(timed.node(), &key, 0, None).unwrap();
        let told = Arc::new(AtomicBool::new(false));
        let askers: Vec<_> = (0..4)
            .map(|number| {
                let (node, key, told) = (timed.node().clone(), key.clone(), told.clone());
                thread::spawn(move || {
                    let mut asked_after = 0;
                    while asked_after < 50 {
                        // Asked before it was answered may pass; after, never: nor under an id that passed before.
                        let after = told.load(Ordering::SeqCst);
                        let id = format!("{round} {number}");
                        let answer = ask(&node, &key, 0, Some(&id));
                        if after {
                            asked_after += 1;
                            assert!(answer.is_err(), "passed after it was answered");
                        }
                    }
                })
            })
            .collect();
        if round % 2 == 0 {
            let path =
                format!("/v1/organizations/{organization}/projects/{}/api-keys/{}", key.project, key.id);
            api.send(api.request("DELETE", &path)).await.expect(200);
        } else {
            api.put(&allowlist, &json!({ "text": "8.8.8.8" })).await.expect(200);
        }
        told.store(true, Ordering::SeqCst);
        tokio::task::spawn_blocking(move || askers.into_iter().for_each(|asker| asker.join().unwrap()))
            .await
            .unwrap();
        if round % 2 == 1 {
            api.put(&allowlist, &json!({ "text": "" })).await.expect(200);
            ask(timed.node(), &key, 0, None).unwrap();
        }
    }
}

// litellm#30460: a cache says 50, a database 14, and requests are refused for nothing. A recharge that was answered is
// there.
#[tokio::test(flavor = "multi_thread")]
async fn a_recharge_that_was_answered_can_be_spent() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 1).await;
    limits(&timed.api, &key, json!({ "concurrency": 1_000, "rpm": 1_000 })).await;
    for round in 0..20 {
        ask(timed.node(), &key, 1, None).unwrap();
        assert_eq!(ask(timed.node(), &key, 1, None).unwrap_err().code.as_str(), "balance_below_request");
        timed.api.recharge(&key.organization, "1", &format!("more {round}")).await;
    }
}

// litellm#40095: parallel first requests skip a default budget. No limits are made on first use.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_requests_ever_are_limited_as_any() {
    let timed = Timed::start(START).await;
    for _ in 0..10 {
        let key = customer(&timed.api, 1).await;
        let (passed, _) = at_once(timed.node(), &key, 64, 0).await;
        assert_eq!(passed.len(), 1, "Tier0 has one request at a time");
    }
}

// new-api#4429: a crash after the charge kept the money. A lease that nobody ends is over by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_leaks_nothing() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 1_000).await;
    limits(&timed.api, &key, json!({ "concurrency": 10 })).await;
    let (passed, _) = at_once(timed.node(), &key, 50, 100).await;
    assert_eq!(passed.len(), 10);
    timed.clock.advance_to(timed.now().plus_seconds(599));
    assert!(ask(timed.node(), &key, 100, None).is_err());
    timed.clock.advance_to(timed.now().plus_seconds(1));
    let (passed, _) = at_once(timed.node(), &key, 50, 100).await;
    assert_eq!(passed.len(), 10, "every slot and every dollar is back");
    timed.clock.advance_to(timed.now().plus_seconds(600));
    // Nobody asks again: the sweep gives them back all the same.
    eventually(DEADLINE, "leases are given back without being asked for", || async {
        let open = timed.api.metric("tollbook_admission_leases{partition=\"0\"}").await?;
        (open == 0).then_some(())
    })
    .await;
    let seen = in_flight(timed.node(), &key);
    assert_eq!((seen.concurrency, seen.leases, seen.held), (0, 0, Amount::ZERO));
}

// litellm#28247: each replica seeds its counter again. After a start, tokens are counted once, from the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_counts_tokens_once_and_lets_one_more_window_pass() {
    let mut timed = Timed::start(START).await;
    let key = customer(&timed.api, 5_000).await;
    limits(&timed.api, &key, json!({ "concurrency": 10, "rpm": 10, "tpm": 1_000, "tpd": 100_000 })).await;
    timed.until("2026-11-20T10:05:00Z");
    // Of this morning, of the last minute, again, and what is quarantined.
    let mut early = used(&key, "early", 300, None);
    early["time"] = json!("2026-11-20T10:01:00Z");
    let (one, mut unknown) = (used(&key, "one", 50, None), used(&key, "unknown", 70, None));
    unknown["data"]["model"] = json!("nobody's");
    timed.api.events(&[early]).await;
    timed.until("2026-11-20T10:06:30Z");
    timed.api.events(std::slice::from_ref(&one)).await;
    timed.until("2026-11-20T10:06:40Z");
    timed.api.events(&[one.clone(), unknown, used(&key, "two", 20, None), one]).await;
    let (passed, _) = at_once(timed.node(), &key, 20, 10).await;
    assert_eq!(passed.len(), 10);
    let settled = used(&key, "three", 4, Some(&passed[0].lease));
    timed.api.events(&[settled]).await;
    timed.api.folded().await;
    let before = in_flight(timed.node(), &key);
    assert_eq!(
        (before.tokens, before.tokens_today, before.requests, before.leases),
        (50 + 20 + 4 + 90, 464, 10, 9)
    );
    timed.stop().await;
    timed.go_on().await;
    let after = in_flight(timed.node(), &key);
    // Requests and leases of before are gone: what is in the log is not.
    assert_eq!((after.tokens, after.tokens_today), (74, 374));
    assert_eq!((after.requests, after.leases, after.held), (0, 0, Amount::ZERO));
    assert_eq!(after.projects.iter().map(|(_, tokens)| tokens).sum::<u64>(), 74);
    // The bound: one more window of requests, one more set of holds, and not a request more.
    let (again, refused) = at_once(timed.node(), &key, 20, 10).await;
    assert_eq!((again.len(), refused.len()), (10, 10));
    assert!(timed.node().admissions().settle(&passed[1].lease, None, None).is_err());
    // Usage of leases of before is booked, and counts.
    timed.api.events(&[used(&key, "four", 6, Some(&passed[1].lease))]).await;
    timed.api.folded().await;
    assert_eq!(in_flight(timed.node(), &key).tokens, 74 + 100 + 6);
    // Again from the log alone.
    timed.rebuild_views().await;
    let rebuilt = in_flight(timed.node(), &key);
    assert_eq!((rebuilt.tokens, rebuilt.tokens_today), (80, 380));
    timed.until("2026-11-20T10:07:30Z");
    let later = in_flight(timed.node(), &key);
    assert_eq!((later.tokens, later.tokens_today), (30, 380));
}

// litellm#35533, gubernator#208: a fallback counts locally, or whoever is no owner always allows. litellm#33323: the limiter
// opens on error. nats-server#8519: the log hangs while it seems healthy.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_log_hangs_refuses() {
    let nats = NatsServer::start().await;
    let timed = Timed::start_on(&nats, START).await;
    let key = customer(&timed.api, 5_000).await;
    let admitted = eventually(DEADLINE, "it knows that it has everything", || async {
        ask(timed.node(), &key, 1, None).ok()
    })
    .await;
    nats.pause();
    for secret in [&key.secret, "sk-nobody"] {
        let asking = Key { secret: secret.to_owned(), ..key.clone() };
        // A key that is not known may have been issued meanwhile.
        eventually(DEADLINE, "it knows that it may lack something", || async {
            ask(timed.node(), &asking, 0, None).err().filter(|refusal| refusal.code.as_str() == "not_ready")
        })
        .await;
    }
    nats.resume();
    eventually(DEADLINE, "it has caught up and owns again", || async {
        ask(timed.node(), &key, 1, None).err().filter(|refusal| refusal.code.as_str() != "not_ready")
    })
    .await;
    // What was admitted before counts still.
    let refusal = ask(timed.node(), &key, 1, None).unwrap_err();
    assert_eq!(refusal.code.as_str(), "organization_concurrency");
    timed.node().admissions().release(&admitted.lease, None).unwrap();
    ask(timed.node(), &key, 1, None).unwrap();
}

/// Keeps the owner of the only partition from folding until what is returned is dropped.
async fn block_owner(node: &Node) -> std::sync::mpsc::Sender<()> {
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let node = node.clone();
    tokio::spawn(async move {
        let block = move |_: &_| {
            begun.send(()).unwrap();
            blocked.recv().is_err()
        };
        node.owners().next().unwrap().read(block).await.unwrap();
    });
    begins.await.unwrap();
    release
}

// langwatch/tasks#421: budgets on a projection that trails; about 110 requests passed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_engine_that_trails_its_log_refuses_unless_told_otherwise() {
    let mut timed = Timed::start(START).await;
    let key = customer(&timed.api, 5_000).await;
    limits(&timed.api, &key, json!({ "concurrency": 100_000, "rpm": 100_000 })).await;
    for when_behind in [WhenBehind::Refuse, WhenBehind::Admit] {
        timed.stop().await;
        timed.admission = AdmissionSettings {
            lag_max: Duration::from_secs(2),
            when_behind,
            ..AdmissionSettings::default()
        };
        timed.go_on().await;
        let ready =
            || async { ask(timed.node(), &key, 0, None).ok().filter(|admitted| admitted.behind.is_none()) };
        let admitted = eventually(DEADLINE, "it knows that it has everything", ready).await;
        let blocked = block_owner(timed.node()).await;
        timed.api.events(&[used(&key, &format!("{when_behind:?}"), 1, None)]).await;
        match when_behind {
            WhenBehind::Refuse => {
                let refused = || async { ask(timed.node(), &key, 0, None).err() };
                let refusal = eventually(DEADLINE, "it knows that it may lack something", refused).await;
                assert_eq!((refusal.code.as_str(), refusal.retryable()), ("not_ready", true));
                let nobody = Key { secret: "sk-nobody".into(), ..key.clone() };
                assert_eq!(ask(timed.node(), &nobody, 1, None).unwrap_err().code.as_str(), "not_ready");
            }
            WhenBehind::Admit => {
                let says = || async { ask(timed.node(), &key, 0, None).unwrap().behind };
                let behind = eventually(DEADLINE, "it says that it is behind", says).await;
                assert!(behind > Duration::from_secs(2));
            }
        }
        assert!(timed.node().admissions().behind().is_some());
        // What was admitted can be ended all the same.
        timed.node().admissions().release(&admitted.lease, None).unwrap();
        drop(blocked);
        eventually(DEADLINE, "it has caught up", ready).await;
        assert!(timed.node().admissions().behind().is_none());
    }
}

// litellm PR#37971: a refusal names nobody.
#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_names_whose_limit_it_is() {
    let timed = Timed::start(START).await;
    let key = customer(&timed.api, 1).await;
    ask(timed.node(), &key, 0, None).unwrap();
    let refusal = ask(timed.node(), &key, 0, None).unwrap_err();
    let subject = refusal.subject.clone().unwrap();
    assert_eq!((subject.scope(), subject.id()), ("organization", key.organization.as_str()));
    assert!(refusal.message().contains(&key.organization) && refusal.message().contains(&key.id));
}
