//! Usage that is published without waiting for an answer.

use serde_json::json;
use tempfile::TempDir;
use tollbook_schemas::usage::{Ingress, USAGE_BYTES_MAX};
use tollbook_tests::nats::NatsServer;

use crate::engine::{Engine, Totals, USAGE, event, org, publish, publisher};

#[tokio::test]
async fn r8_1_what_nobody_waits_for_is_booked_or_quarantined_and_blocks_nothing() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (client, context) = publisher(&server).await;
    let mut bad = event("bad");
    bad["data"]["model"] = json!(7);
    let payloads = [
        "garbage".to_owned(),
        "x".repeat(100_000),
        json!([event(1), bad, event(2)]).to_string(),
        String::new(),
    ];
    for payload in payloads {
        client.publish(USAGE, payload.into()).await.unwrap();
    }
    publish(&context, USAGE, &event(3)).await;
    engine.comes_to(Totals { quarantined: 4, ..Totals::booked(3) }).await;

    let (_, refused) = engine.observations().await;
    for refused in &refused {
        assert_eq!(refused.organization, Some(org()));
        assert_eq!(refused.ingress, Ingress::Nats { subject: USAGE.to_owned() });
    }
    let of = |bytes: &str| refused.iter().find(|refused| refused.bytes == bytes).unwrap().reason.clone();
    assert!(of(&"x".repeat(USAGE_BYTES_MAX)).contains("not JSON"));
    assert!(of(&bad.to_string()).starts_with("event 1: data.model"), "{}", of(&bad.to_string()));
    engine.stop().await;
}
