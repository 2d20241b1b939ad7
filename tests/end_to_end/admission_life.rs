//! What a restart and a crash leave of admission, what is done when this node is behind, and observe mode.

use std::time::Duration;

use serde_json::{Value, json};
use tollbook_engine::admission::{Mode, WhenBehind};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, DEADLINE, Key, System, Timed};

use super::admission::{MODEL, ask, customer, lease, money, usage, used};

/// Leases and counts of requests are gone, and tokens of the last minute and of the day are found again in the log.
#[tokio::test]
async fn r5_6_a_restart_loses_leases_and_request_counts_and_nothing_else() {
    let mut timed = Timed::start("2026-11-20T10:00:00Z").await;
    let key = customer(&timed.api, "10").await;
    timed.api.events(&[usage(&key, "1", 300_000, &json!({}))]).await;
    timed.api.folded().await;
    timed.until("2026-11-20T10:00:50Z");
    let open = lease(&ask(&timed.api, &key, 1_000_000).await);
    timed.api.events(&[usage(&key, "2", 500_000, &json!({}))]).await;
    timed.api.folded().await;
    let before = used(&timed.api, &key).await;
    assert_eq!([&before["tokens"], &before["tokens_today"], &before["requests"]], [1_800_000, 1_800_000, 1]);
    timed.stop().await;
    timed.until("2026-11-20T10:01:05Z");
    timed.go_on().await;
    let api = &timed.api;
    let project = json!([{ "project": key.project, "tokens": 500_000 }]);
    assert_eq!(
        used(api, &key).await,
        json!({ "concurrency": 0, "requests": 0, "tokens": 500_000, "tokens_today": 800_000, "leases": 0,
            "projects": project })
    );
    assert_eq!(
        api.post(&format!("/v1/admissions/{open}/settle"), &json!({})).await.refused(404),
        "lease_not_found"
    );
    assert_eq!(money(api, &key).await, ["9.2", "0", "9.2"]);
    // Its usage is charged all the same.
    api.events(&[usage(&key, "3", 1_000_000, &json!({ "lease": open }))]).await;
    api.folded().await;
    assert_eq!(money(api, &key).await, ["8.2", "0", "8.2"]);
}

/// A hold is of the process that gave it: no crash keeps money from a customer.
#[tokio::test]
async fn a_crash_between_admission_and_settling_keeps_no_money() {
    let mut system = System::start().await;
    let key = customer(&system.api, "10").await;
    for _ in 0..5 {
        ask(&system.api, &key, 2_000_000 / 5).await.expect(200);
    }
    assert_eq!(money(&system.api, &key).await, ["10", "2", "10"]);
    system.kill();
    system.restart().await;
    let api = &system.api;
    assert_eq!(money(api, &key).await, ["10", "0", "10"]);
    let now = used(api, &key).await;
    assert_eq!([&now["concurrency"], &now["tokens"], &now["leases"]], [0, 0, 0]);
    ask(api, &key, 1_000).await.expect(200);
}

/// State that may trail a log which cannot be asked is not decided on, unless that is so configured.
#[tokio::test]
async fn r5_a_node_that_may_be_behind_refuses_or_says_so() {
    for when_behind in [WhenBehind::Refuse, WhenBehind::Admit] {
        let nats = NatsServer::start().await;
        let mut timed = Timed::start_on(&nats, "2026-11-20T10:00:00Z").await;
        let key = customer(&timed.api, "10").await;
        timed.stop().await;
        timed.admission.when_behind = when_behind;
        timed.admission.lag_max = Duration::from_secs(1);
        timed.go_on().await;
        let api = &timed.api;
        let limits = json!({ "concurrency": 1_000_000, "rpm": 1_000_000 });
        let path = format!("/v1/organizations/{}/limits/override", key.organization);
        api.post(&path, &limits).await.expect(200);
        ready(api, &key).await;
        nats.pause();
        let answer = eventually(DEADLINE, "the log is silent for too long", || async {
            let answer = ask(api, &key, 1).await;
            (answer.status != 200 || !answer.json()["behind_ms"].is_null()).then_some(answer)
        })
        .await;
        match when_behind {
            WhenBehind::Refuse => {
                assert_eq!(answer.expect(503)["error"]["code"], "not_ready");
                assert_eq!(answer.header("retry-after"), "1");
            }
            WhenBehind::Admit => assert!(answer.expect(200)["behind_ms"].as_u64().unwrap() >= 1_000),
        }
        nats.resume();
    }
}

async fn ready(api: &Api, key: &Key) {
    eventually(DEADLINE, "the node has caught up", || async {
        let answer = ask(api, key, 1).await;
        (answer.status == 200 && answer.json()["behind_ms"].is_null()).then_some(())
    })
    .await;
}

async fn observed(api: &Api, key: &str, more: Value) -> Value {
    let mut body = json!({ "api_key": key, "model": MODEL, "input_tokens": 1_000, "max_output_tokens": 0 });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    api.post("/v1/admissions", &body).await.expect(200)
}

/// Observe mode refuses nothing, and notes where the system to be replaced decided otherwise.
#[tokio::test]
async fn r10_2_observe_mode_refuses_nothing_and_notes_disagreement() {
    let mut timed = Timed::start("2026-11-20T10:00:00Z").await;
    let key = customer(&timed.api, "1").await;
    timed.stop().await;
    timed.admission.mode = Mode::Observe;
    timed.go_on().await;
    let api = &timed.api;
    let secret = key.secret.as_str();
    let fine = observed(api, secret, json!({ "decided": "admit" })).await;
    assert!(fine.get("observed").is_none() && fine["lease"].is_string(), "{fine}");
    // Tier0 has one request at a time: it would be refused, and is reserved for.
    let busy = observed(api, secret, json!({ "decided": "admit" })).await;
    assert_eq!(busy["observed"]["code"], "organization_concurrency");
    assert_eq!(busy["observed"]["decision"], "refuse");
    assert!(busy["lease"].is_string() && busy["remaining"]["concurrency"] == 0, "{busy}");
    // Nothing is reserved for what the other refused, nor for a key that nobody knows.
    let theirs = observed(api, secret, json!({ "decided": "refuse" })).await;
    assert_eq!(
        (&theirs["lease"], &theirs["observed"]["code"]),
        (&Value::Null, &json!("organization_concurrency"))
    );
    let unknown = observed(api, "sk-unknown", json!({ "decided": "admit" })).await;
    assert_eq!((&unknown["lease"], &unknown["observed"]["code"]), (&Value::Null, &json!("api_key_invalid")));
    assert_eq!(used(api, &key).await["leases"], 2);
    for given in [&fine, &busy] {
        let at = format!("/v1/admissions/{}", given["lease"].as_str().unwrap());
        api.write("DELETE", &at, &json!({})).await.expect(200);
    }
    let refused = observed(api, secret, json!({ "decided": "refuse" })).await;
    assert!(refused.get("observed").is_none() && refused["lease"].is_null(), "{refused}");
    // Even what cannot be read passes a proxy, and what is no request is still told so.
    let token = api.service_token(&["gateway"], None).await;
    let authorize =
        || api.anonymous("GET", "/v1/authorize").header("tollbook-token", &token).bearer_auth(secret);
    let blind = api.send(authorize()).await.expect(200);
    assert_eq!((&blind["lease"], &blind["observed"]["code"]), (&Value::Null, &json!("model_missing")));
    let header = authorize().header("x-tollbook-model", MODEL).header("x-tollbook-decided", "refuse");
    let answer = api.send(header).await;
    assert_eq!((answer.expect(200)["lease"].clone(), answer.header("x-tollbook-lease")), (Value::Null, ""));
    assert_eq!(api.post("/v1/admissions", &json!({ "model": 1 })).await.refused(400), "invalid_fields");
    let unread =
        api.send(authorize().header("x-tollbook-model", MODEL).header("x-tollbook-input-tokens", "x"));
    assert_eq!(unread.await.expect(200)["observed"]["code"], "header_invalid");
    // But whose gateway it is must be known.
    let nobodys = api.anonymous("GET", "/v1/authorize").header("tollbook-token", "wrong").bearer_auth(secret);
    assert_eq!(api.send(nobodys).await.expect(503)["error"]["code"], "gateway_unauthorized");
    let body = json!({ "api_key": secret, "model": MODEL, "input_tokens": 1 });
    assert_eq!(api.with_token("wrong").post("/v1/admissions", &body).await.status, 401);

    let listed = api.get("/v1/admissions/disagreements").await.expect(200);
    assert_eq!(listed["total"], 4);
    let seen: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["theirs"].as_str().unwrap(), item["ours"].as_str().unwrap(), item["organization"].clone())
        })
        .collect();
    let ours = json!(key.organization);
    assert_eq!(
        seen,
        [
            ("admit", "organization_concurrency", ours.clone()),
            ("admit", "api_key_invalid", Value::Null),
            ("refuse", "admit", ours.clone()),
            ("refuse", "admit", ours),
        ]
    );
    assert_eq!(listed["items"][0]["at"], "2026-11-20T10:00:00Z");
}
