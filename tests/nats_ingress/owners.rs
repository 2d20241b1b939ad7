//! Admission over NATS while engines, servers and connections come and go.

use async_nats::jetstream;
use serde_json::json;
use tempfile::TempDir;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, Key, System};

use crate::DEADLINE;
use crate::gate::{ADMIT, Gate, MODEL, Reply, ask, asking, customer, serving};
use crate::headers::{HOSTILE, publish_raw};

async fn standby(nats: &NatsServer, first: &System) -> System {
    let second = System::builder().nats(nats).start_standby().await;
    let position = first.api.digest(0).await.0;
    second.api.get(&format!("/v1/digest?min_position={position}")).await.expect(200);
    assert_eq!(second.api.get("/readyz").await.refused(503), "standby");
    second
}

/// Asks until somebody answers. Whoever answers must be able to decide.
async fn until_decided(gate: &Gate, question: &serde_json::Value) -> Reply {
    eventually(DEADLINE, "somebody decides", || async {
        let answer = gate.try_admit(question).await?;
        assert_ne!(answer.status, 503, "only an owner answers: {answer:?}");
        Some(answer)
    })
    .await
}

/// Books usage that no lease was taken for.
async fn books(api: &Api, key: &Key, tokens: u64) {
    let mut used = key.event("used", MODEL);
    used["data"]["input_tokens"] = json!(tokens);
    used["data"]["cached_input_tokens"] = json!(0);
    used["data"]["output_tokens"] = json!(0);
    api.events(&[used]).await;
    api.folded().await;
}

#[tokio::test]
async fn a_standby_answers_nobody() {
    let nats = NatsServer::start().await;
    let (first, gate) = serving(&nats).await;
    let key = customer(&first.api, 10_000, &json!({})).await;
    let second = standby(&nats, &first).await;
    for _ in 0..300 {
        // A lease that the other had given would be unknown to the owner.
        let lease = gate.admit(&ask(&key)).await.lease();
        gate.call("release", &json!({ "lease": lease })).await.granted();
    }
    let first = &first.api;
    eventually(DEADLINE, "the owner has counted its decisions", || async {
        (admitted(first).await > 0).then_some(())
    })
    .await;
    assert_eq!(admitted(&second.api).await, 0);
}

/// Requests that a server says it has admitted; it counts once in a while.
async fn admitted(api: &Api) -> u64 {
    let metrics = api.get("/metrics").await.text;
    let counts =
        metrics.lines().find_map(|line| line.strip_prefix("tollbook_admissions_total{code=\"admitted\"} "));
    counts.map_or(0, |count| count.parse().unwrap())
}

/// What the lost owner let through and did not see the end of: leases and request counts are gone, what stands in the
/// log is not.
async fn what_a_takeover_lets_through_is_bounded(graceful: bool) {
    let nats = NatsServer::start().await;
    let (mut first, gate) = serving(&nats).await;
    let limits = json!({ "concurrency": 1, "rpm": 4, "tpm": 1_000 });
    let key = customer(&first.api, 1_200, &limits).await;
    let second = standby(&nats, &first).await;
    books(&first.api, &key, 600).await;
    // One lease of 300 is open: of tokens and of money, 100 and 300 are left.
    let lost = gate.admit(&asking(&key, 300)).await.lease();
    assert_eq!(gate.admit(&asking(&key, 1)).await.refused(429), "organization_concurrency");
    if graceful {
        first.terminate().await;
    } else {
        first.kill();
    }
    // The lease is gone, and with it its slot and its tokens; the log's 600 still count.
    let over = until_decided(&gate, &asking(&key, 401)).await;
    assert_eq!(over.refused(429), "organization_tpm");
    assert_eq!(over.body["error"]["metadata"]["current"], 600, "{over:?}");
    let within = gate.admit(&asking(&key, 400)).await;
    assert_eq!(within.granted()["remaining"]["balance"], "200");
    assert_eq!(gate.call("settle", &json!({ "lease": lost })).await.problem(404), "lease_not_found");
    // At most one more set of holds and one more window of requests.
    assert_eq!(gate.admit(&asking(&key, 1)).await.refused(429), "organization_concurrency");
    let lease = json!({ "lease": within.lease() });
    gate.call("release", &lease).await.granted();
    for _ in 0..3 {
        let lease = json!({ "lease": gate.admit(&ask(&key)).await.lease() });
        gate.call("release", &lease).await.granted();
    }
    assert_eq!(gate.admit(&ask(&key)).await.refused(429), "organization_rpm");
    drop(second);
}

#[tokio::test]
async fn the_next_owner_answers_when_the_first_is_killed() {
    what_a_takeover_lets_through_is_bounded(false).await;
}

#[tokio::test]
async fn the_next_owner_answers_when_the_first_stops() {
    what_a_takeover_lets_through_is_bounded(true).await;
}

#[tokio::test]
async fn leases_outlive_connections() {
    let mut nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let key = customer(&system.api, 100, &json!({ "concurrency": 2 })).await;
    for _ in 0..3 {
        let lease = until_decided(&gate, &ask(&key)).await.lease();
        nats.restart().await;
        eventually(DEADLINE, "the engine answers and owns again", || async {
            let renewed = gate.0.request("tollbook.rpc.renew", json!({ "lease": lease }).to_string().into());
            let renewed = tokio::time::timeout(crate::deployment::ATTEMPT, renewed).await.ok()?.ok()?;
            // While it has lost the ownership it says so.
            renewed.headers.is_none().then_some(())
        })
        .await;
        gate.call("release", &json!({ "lease": lease })).await.granted();
    }
}

#[tokio::test]
async fn hostile_headers_end_a_connection_and_nothing_else() {
    let nats = NatsServer::start().await;
    let (system, gate) = serving(&nats).await;
    let key = customer(&system.api, 10_000, &json!({ "concurrency": 1 })).await;
    let lease = json!({ "lease": gate.admit(&ask(&key)).await.lease() });
    let context = jetstream::new(gate.0.clone());
    for (number, head) in HOSTILE.iter().enumerate() {
        publish_raw(&nats, ADMIT, head, "{}").await;
        eventually(DEADLINE, "somebody answers", || async {
            let answer = gate.try_admit(&ask(&key)).await?;
            assert_eq!(answer.refused(429), "organization_concurrency", "the lease is still there");
            Some(())
        })
        .await;
        // Usage has a connection of its own.
        let usage = key.event(&format!("{number}"), MODEL).to_string();
        let subject = format!("tollbook.usage.{}", key.organization);
        context.publish(subject, usage.into()).await.unwrap().await.unwrap();
    }
    gate.call("release", &lease).await.granted();
}

#[tokio::test]
async fn a_server_that_is_away_does_not_keep_an_engine_from_stopping() {
    let (mut nats, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let mut engine = crate::engine::Engine::start(&nats, &data).await;
    let gate = Gate::connect(&nats).await;
    gate.answered().await;
    nats.kill();
    tokio::time::timeout(DEADLINE, engine.close_doors()).await.unwrap();
    nats.restart().await;
    engine.stop().await;
}
