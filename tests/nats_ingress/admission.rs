//! Admission over NATS: each operation, each refusal, and everything that is no question.

use std::time::Duration;

use async_nats::RequestErrorKind;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tollbook_engine::nats::rpc::PAYLOAD_MAX;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::System;

use crate::DEADLINE;
use crate::gate::{ADMIT, Gate, MODEL, ask, asking, at_once, customer, limit, serving};

const OPERATIONS: [&str; 4] = ["admit", "settle", "release", "renew"];

#[tokio::test]
async fn a_request_is_admitted_renewed_settled_and_released() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let key = customer(&system.api, 100, &json!({ "concurrency": 1 })).await;
    let mut question = asking(&key, 30);
    question["request_id"] = json!("r1");
    let first = gate.admit(&question).await;
    let granted = first.granted();
    assert_eq!(granted["organization"], key.organization.as_str());
    assert_eq!((&granted["project"], &granted["api_key_id"]), (&json!(key.project), &json!(key.id)));
    assert_eq!(
        (&granted["remaining"]["concurrency"], &granted["remaining"]["balance"]),
        (&json!(0), &json!("70"))
    );
    // The answer may be lost: the same request gets the same lease.
    assert_eq!(gate.admit(&question).await.lease(), first.lease());
    assert_eq!(gate.admit(&ask(&key)).await.refused(429), "organization_concurrency");

    let lease = json!({ "lease": first.lease() });
    let renewed = gate.call("renew", &json!({ "lease": first.lease(), "seconds": 3_000 })).await;
    assert!(renewed.granted()["expires_at"].as_str() > granted["expires_at"].as_str(), "{renewed:?}");
    let used = json!({ "lease": first.lease(), "input_tokens": 20, "output_tokens": 5 });
    assert_eq!(gate.call("settle", &used).await.granted()["held"], "20");
    let second = gate.admit(&ask(&key)).await;
    assert_eq!(second.granted()["remaining"]["balance"], "79");
    // What it used is known, and held until its usage comes.
    assert_eq!(gate.call("release", &lease).await.granted()["lease"], first.lease());
    let lease = json!({ "lease": second.lease() });
    assert_eq!(gate.call("release", &lease).await.granted()["lease"], second.lease());
    for operation in ["settle", "release", "renew"] {
        assert_eq!(gate.call(operation, &lease).await.problem(404), "lease_not_found", "{operation}");
    }
    assert_eq!(gate.admit(&ask(&key)).await.granted()["remaining"]["balance"], "79");
}

#[tokio::test]
async fn every_kind_of_refusal_says_in_headers_what_to_do() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let api = &system.api;
    let key = customer(api, 100, &json!({})).await;
    let with = |name: &str, value: Value| {
        let mut question = ask(&key);
        question[name] = value;
        question
    };
    for (question, status, code) in [
        (with("api_key", Value::Null), 401, "api_key_missing"),
        (with("api_key", json!("no key")), 401, "api_key_malformed"),
        (with("api_key", json!("sk-unknown")), 401, "api_key_invalid"),
        (with("model", json!("unknown")), 404, "model_not_found"),
        (with("input_tokens", json!(101)), 429, "balance_below_request"),
    ] {
        let refused = gate.admit(&question).await;
        assert_eq!(refused.refused(status), code);
        assert_eq!(
            (refused.header("x-should-retry"), refused.header("Retry-After")),
            ("false", ""),
            "{code}"
        );
        assert_eq!(refused.body["error"]["metadata"]["retryable"], false, "{code}");
    }

    let poor = api.customer("Poor").await;
    assert_eq!(gate.admit(&ask(&poor)).await.refused(429), "recharge_required");
    api.recharge(&poor.organization, "1", "a").await;
    let mut used = poor.event("used", MODEL);
    used["data"]["input_tokens"] = json!(2);
    used["data"]["cached_input_tokens"] = json!(0);
    api.events(&[used]).await;
    api.folded().await;
    assert_eq!(gate.admit(&ask(&poor)).await.refused(429), "insufficient_balance");

    // What waiting cures says for how long.
    let limited = |limits: Value, code: &'static str| {
        let gate = &gate;
        async move {
            let key = customer(api, 100, &limits).await;
            let first = asking(&key, 30);
            gate.admit(&first).await.granted();
            let refused = gate.admit(&first).await;
            assert_eq!(refused.refused(429), code);
            let millis: u64 = refused.header("retry-after-ms").parse().unwrap();
            assert_eq!(refused.body["error"]["metadata"]["retry_after_ms"], millis, "{code}");
            assert_eq!(
                refused.header("Retry-After").parse::<u64>().unwrap(),
                millis.div_ceil(1_000),
                "{code}"
            );
            for header in [
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-tokens",
                "RateLimit",
                "RateLimit-Policy",
            ] {
                assert_ne!(refused.header(header), "", "{code}: {header}");
            }
        }
    };
    limited(json!({ "concurrency": 1 }), "organization_concurrency").await;
    limited(json!({ "rpm": 1 }), "organization_rpm").await;
    limited(json!({ "tpm": 50 }), "organization_tpm").await;
    limited(json!({ "tpd": 50 }), "organization_tpd").await;

    api.put("/v1/config/billing-cycle", &json!({ "cycle_seconds": 0 })).await.expect(200);
    for (budgets, code) in [
        (json!({ "daily": "0", "monthly": null }), "project_daily_budget"),
        (json!({ "daily": "3", "monthly": "2" }), "project_monthly_budget"),
        (json!({ "daily": "2", "monthly": null, "enforcement": "strict" }), "project_daily_budget"),
    ] {
        let key = customer(api, 100, &json!({})).await;
        let path = format!("/v1/organizations/{}/projects/{}/budgets", key.organization, key.project);
        api.put(&path, &budgets).await.expect(200);
        let mut used = key.event("used", MODEL);
        used["data"]["input_tokens"] = json!(2);
        used["data"]["cached_input_tokens"] = json!(0);
        used["data"]["output_tokens"] = json!(0);
        api.events(&[used]).await;
        api.folded().await;
        let refused = gate.admit(&ask(&key)).await;
        assert_eq!(refused.refused(429), code);
        let metadata = &refused.body["error"]["metadata"];
        assert_eq!(
            [&metadata["scope"], &metadata["id"], &metadata["current"]],
            [&json!("project"), &json!(key.project), &json!("2")]
        );
    }

    let path = format!("/v1/organizations/{}/projects/{}/tpm", key.organization, key.project);
    api.put(&path, &json!({ "limit": 10 })).await.expect(200);
    assert_eq!(gate.admit(&asking(&key, 11)).await.refused(429), "project_tpm");
    api.put(&path, &json!({ "limit": null })).await.expect(200);
    gate.admit(&with("request_id", json!("same"))).await.granted();
    let mut other = asking(&key, 2);
    other["request_id"] = json!("same");
    assert_eq!(gate.admit(&other).await.refused(409), "request_id_conflict");

    let org = format!("/v1/organizations/{}", key.organization);
    api.post(&format!("{org}/verification"), &json!({ "level": "verified" })).await.expect(200);
    api.put(&format!("{org}/ip-allowlist"), &json!({ "text": "203.0.113.7" })).await.expect(200);
    assert_eq!(gate.admit(&ask(&key)).await.refused(403), "ip_not_allowed");
    gate.admit(&with("ip", json!("203.0.113.7"))).await.granted();
    let key_path = format!("{org}/projects/{}/api-keys/{}", key.project, key.id);
    api.send(api.request("DELETE", &key_path)).await;
    assert_eq!(gate.admit(&ask(&key)).await.refused(401), "api_key_revoked");
}

/// Status, body and headers: whoever knows one door knows the other.
#[tokio::test]
async fn http_and_nats_answer_the_same() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let api = system.api.with_token(&system.api.service_token(&["gateway"], None).await);
    let key = customer(&system.api, 100, &json!({ "tpm": 50 })).await;
    let mut unknown = ask(&key);
    unknown["model"] = json!("unknown");
    let lease = "lease_00000000000000000000000000";
    for (operation, path, question) in [
        ("admit", "".to_owned(), json!({})),
        ("admit", "".to_owned(), json!([1])),
        ("admit", "".to_owned(), json!({ "api_key": 1, "ip": "x", "meters": { "image": -1 }, "oops": 1 })),
        ("admit", "".to_owned(), json!({ "model": MODEL, "input_tokens": 1 })),
        ("admit", "".to_owned(), json!({ "api_key": "sk-unknown", "model": MODEL, "input_tokens": 1 })),
        ("admit", "".to_owned(), unknown),
        ("admit", "".to_owned(), asking(&key, 51)),
        ("admit", "".to_owned(), asking(&key, 101)),
        ("settle", format!("/{lease}/settle"), json!({})),
        ("settle", format!("/{lease}/settle"), json!({ "input_tokens": 1 })),
        ("renew", format!("/{lease}/renew"), json!({ "seconds": 0 })),
    ] {
        let http = api.post(&format!("/v1/admissions{path}"), &question).await;
        let mut question = question;
        if operation != "admit" {
            question["lease"] = json!(lease);
        }
        let nats = gate.call(operation, &question).await;
        assert_eq!((nats.status, &nats.body), (http.status, &http.json()), "{operation} {question}");
        for (name, value) in nats.headers.iter().filter(|(name, _)| !name.starts_with("Nats-")) {
            assert_eq!(http.header(name), value, "{operation} {question}: {name}");
        }
        for name in
            ["retry-after", "retry-after-ms", "x-should-retry", "ratelimit", "x-ratelimit-limit-tokens"]
        {
            let found = nats.headers.keys().any(|found| found.eq_ignore_ascii_case(name));
            assert_eq!(found, !http.header(name).is_empty(), "{operation} {question}: {name}");
        }
    }
}

#[tokio::test]
async fn an_engine_behind_its_log_says_so() {
    let nats = NatsServer::start().await;
    let builder = System::builder().nats(&nats);
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "[admission]\nlag_max_seconds = 0\n").unwrap();
    let system = builder.arg("--config").arg(config.path().to_string_lossy()).start_standby().await;
    // It owns, and is of no use at the gate.
    eventually(DEADLINE, "it is behind", || async {
        let answer = system.api.get("/readyz").await;
        (answer.status == 503 && answer.text.contains("\"behind\"")).then_some(())
    })
    .await;
    system.api.prices(MODEL, "1", "1", "1").await;
    let gate = Gate::connect(&nats).await;
    gate.answered().await;
    let key = customer(&system.api, 100, &json!({})).await;
    let refused = gate.admit(&ask(&key)).await;
    assert_eq!(refused.refused(503), "not_ready");
    assert_eq!((refused.header("Retry-After"), refused.header("retry-after-ms")), ("1", "1000"));
}

#[tokio::test]
async fn what_is_no_question_is_answered_all_the_same() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let key = customer(&system.api, 100, &json!({ "concurrency": 1 })).await;
    let good = ask(&key).to_string();
    let deep = "[".repeat(PAYLOAD_MAX);
    let twice = good.replacen('{', "{\"model\":\"m\",", 1);
    for operation in OPERATIONS {
        let subject = format!("tollbook.rpc.{operation}");
        for payload in [
            b"".as_slice(),
            b"garbage",
            b"\xff\xfe",
            b"[]",
            b"null",
            b"1",
            b"\"x\"",
            deep.as_bytes(),
            twice.as_bytes(),
        ] {
            let answer = gate.raw(&subject, payload.to_vec()).await;
            let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]);
            assert!(["malformed", "invalid_fields"].contains(&answer.problem(400)), "{operation} {shown}");
        }
        assert_eq!(gate.raw(&subject, b"{}".to_vec()).await.problem(400), "invalid_fields", "{operation}");
        let large = " ".repeat(PAYLOAD_MAX + 1);
        assert_eq!(gate.raw(&subject, large.into_bytes()).await.problem(413), "too_large", "{operation}");
    }
    let answer = gate.admit(&json!({ "api_key": 1, "input_tokens": -1, "oops": 1 })).await;
    answer.problem(400);
    let fields: Vec<_> =
        answer.body["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["api_key", "model", "input_tokens", "oops"]);
    assert_eq!(gate.raw("tollbook.rpc.Admit", good.clone().into_bytes()).await.problem(404), "not_found");
    // Cut, and with one byte changed, at every place.
    let mut bytes = good.clone().into_bytes();
    for place in 0..bytes.len() {
        let cut = gate.raw(ADMIT, bytes[..place].to_vec()).await;
        cut.problem(400);
        let before = std::mem::replace(&mut bytes[place], b'\x01');
        let changed = gate.raw(ADMIT, bytes.clone()).await;
        assert_ne!(changed.status, 200, "{place}");
        bytes[place] = before;
    }
    // None of them took the only slot.
    gate.admit(&ask(&key)).await.granted();
}

#[tokio::test]
async fn nothing_is_decided_for_somebody_who_cannot_be_answered() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let key = customer(&system.api, 100, &json!({ "rpm": 1 })).await;
    let mut elsewhere = gate.0.subscribe("elsewhere.>").await.unwrap();
    let question = || ask(&key).to_string().into();
    gate.0.publish(ADMIT, question()).await.unwrap();
    for reply in [
        "elsewhere.x",
        "tollbook.log.0.usage.x",
        "tollbook.log.0.config",
        "tollbook.usage.org_b",
        "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
        "$JS.API.STREAM.PURGE.TOLLBOOK_LOG_0_0",
    ] {
        gate.0.publish_with_reply(ADMIT, reply, question()).await.unwrap();
        gate.0.publish_with_reply(ADMIT, reply, "garbage".into()).await.unwrap();
    }
    // The one request of this minute is still there.
    gate.admit(&ask(&key)).await.granted();
    assert!(elsewhere.next().now_or_never().is_none(), "an answer left the inboxes");
    let metrics = system.api.get("/metrics").await.text;
    assert!(metrics.contains("tollbook_admission_rpc_ignored_total{why=\"no_inbox\"} 13"), "{metrics}");
}

#[tokio::test]
async fn two_thousand_at_once_and_exactly_a_hundred_pass() {
    let nats = NatsServer::start().await;
    let (system, _gate) = serving(&nats).await;
    let api = &system.api;
    for (dollars, limits, code) in [
        (100_000, json!({ "rpm": 100 }), "organization_rpm"),
        (100_000, json!({ "concurrency": 100 }), "organization_concurrency"),
        (100_000, json!({ "tpm": 100 }), "organization_tpm"),
        (100, json!({}), "balance_below_request"),
    ] {
        let key = customer(api, dollars, &limits).await;
        let (passed, refused) = at_once(&nats, 2_000, &ask(&key)).await;
        assert_eq!((passed, refused), (100, [(code.to_owned(), 1_900)].into()));
    }
}

#[tokio::test]
async fn fifty_of_a_hundred_dollars_at_once_against_a_thousand_and_exactly_ten_pass() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let key = customer(&system.api, 1_000, &json!({})).await;
    let (passed, refused) = at_once(&nats, 50, &asking(&key, 100)).await;
    assert_eq!((passed, refused), (10, [("balance_below_request".to_owned(), 40)].into()));
    // A higher limit is in force as soon as its change is answered.
    limit(&system.api, &key, &json!({ "rpm": 11 })).await;
    assert_eq!(gate.admit(&asking(&key, 1)).await.refused(429), "balance_below_request");
}

#[tokio::test]
async fn without_an_engine_nobody_responds() {
    let nats = NatsServer::start().await;
    let (mut system, gate) = serving(&nats).await;
    system.terminate().await;
    eventually(DEADLINE, "nobody responds", || async {
        let request = gate.0.request(ADMIT, "{}".into());
        let answer = tokio::time::timeout(Duration::from_secs(2), request).await.ok()?;
        (answer.err()?.kind() == RequestErrorKind::NoResponders).then_some(())
    })
    .await;
}
