//! The engine with the shipped accounts: its own keys suffice, and a publisher's ordinary publish reaches it.

use serde_json::json;
use tempfile::TempDir;
use tollbook_engine::log::jetstream::{Credentials, JetStreamOptions};

use crate::deployment::{ASKER, Deployment, ENGINE, GATEWAY, MONITOR, PUBLISHER, SPOOL as SPOOL_KEY};
use crate::engine::{Engine, SPOOL, Totals, USAGE, event, publish, spool_config};
use crate::gate::Gate;

#[tokio::test]
async fn the_shipped_keys_suffice_for_usage_spool_and_admission() {
    let (deployment, data) = (Deployment::one_node().await, TempDir::new().unwrap());
    let mut options = JetStreamOptions::new(vec![deployment.servers[0].url()]);
    options.credentials = Credentials::Nkey(deployment.seed(ENGINE));
    options.system = Some(Credentials::Nkey(deployment.seed(MONITOR)));
    let spool = spool_config(Credentials::Nkey(deployment.seed(SPOOL_KEY)));
    let engine = Engine::start_with(options, data.path(), Some(spool)).await;
    let publisher = deployment.connect(PUBLISHER).await;
    let ack = publish(&publisher.jetstream(), USAGE, &event(1)).await;
    assert_eq!(ack.stream, "TOLLBOOK_LOG_0_0");
    // The engine makes the stream by itself; until then nobody responds.
    publisher.put(SPOOL, &event(2).to_string()).await;
    let gateway = deployment.connect(GATEWAY).await;
    gateway.put(SPOOL, "garbage").await;
    engine.comes_to(Totals { quarantined: 1, ..Totals::booked(2) }).await;
    for asking in [GATEWAY, ASKER] {
        let gate = Gate(deployment.connect(asking).await.client);
        gate.answered().await;
        let question = json!({ "api_key": "sk-unknown", "model": "m", "input_tokens": 1 });
        assert_eq!(gate.admit(&question).await.refused(401), "api_key_invalid");
    }
    publisher.nothing_denied().await;
    gateway.nothing_denied().await;
    engine.stop().await;
}
