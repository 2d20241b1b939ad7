//! What an engine's three keys can do, and the few things they cannot.

use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{consumer, kv};
use futures_util::StreamExt;
use serde_json::Value;

use tollbook_engine::lease::Leases;
use tollbook_engine::log::jetstream::{Credentials, JetStream, JetStreamOptions};
use tollbook_engine::side::SideStore;
use tollbook_engine::side::kv::KvSide;
use tollbook_schemas::position::{PartitionId, WriterId};
use tollbook_tests::nats::NatsServer;

use crate::deployment::{DEADLINE, Deployment, ENGINE, MONITOR};

#[tokio::test]
async fn an_engine_makes_streams_and_buckets_appends_and_reads() {
    let deployment = Deployment::one_node().await;
    works(&deployment).await;
}

/// An engine's whole working day.
pub(crate) async fn works(deployment: &Deployment) {
    let engine = deployment.with_streams().await;
    let context = engine.jetstream();

    let conditional = PublishMessage::build()
        .payload("a decision".into())
        .message_id("0-2")
        .expected_last_subject_sequence(1);
    let ack = context.send_publish("tollbook.log.0.org.org_a", conditional).await.unwrap().await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence), ("TOLLBOOK_LOG_0_0", 2));

    let mut log = context.get_stream("TOLLBOOK_LOG_0_0").await.unwrap();
    assert_eq!(log.info().await.unwrap().state.messages, 2);
    let tail = log
        .create_consumer(consumer::pull::OrderedConfig {
            max_expires: Duration::from_secs(2),
            ..Default::default()
        })
        .await
        .unwrap();
    let mut tail = tail.messages().await.unwrap();
    for expected in ["an entry", "a decision"] {
        let message = tokio::time::timeout(DEADLINE, tail.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.payload, expected);
    }

    let leases = context
        .create_key_value(kv::Config {
            bucket: "TOLLBOOK_OWNERS".to_owned(),
            history: 1,
            num_replicas: deployment.replicas(),
            limit_markers: Some(Duration::from_secs(5)),
            ..Default::default()
        })
        .await
        .unwrap();
    let revision = leases.create_with_ttl("0", "n1".into(), Duration::from_secs(60)).await.unwrap();
    let renewal = PublishMessage::build()
        .payload("n1".into())
        .expected_last_subject_sequence(revision)
        .ttl(Duration::from_secs(60));
    context.send_publish("$KV.TOLLBOOK_OWNERS.0", renewal).await.unwrap().await.unwrap();
    leases.delete("0").await.unwrap();

    // What an engine makes for a subscription to alerts.
    let alerts = context.get_stream("TOLLBOOK_ALERTS").await.unwrap();
    let mail = consumer::pull::Config { durable_name: Some("mail".to_owned()), ..Default::default() };
    alerts.create_consumer(mail).await.unwrap();
    engine.nothing_denied().await;
}

#[tokio::test]
async fn the_log_the_lease_and_the_side_store_open_with_the_shipped_keys() {
    let deployment = Deployment::one_node().await;
    opens(&deployment).await;
}

/// The engine's own code with the engine's keys. It finds out by itself that every server syncs.
pub(crate) async fn opens(deployment: &Deployment) {
    let mut options = JetStreamOptions::new(deployment.servers.iter().map(NatsServer::url).collect());
    options.credentials = Credentials::Nkey(deployment.seed(ENGINE));
    options.system = Some(Credentials::Nkey(deployment.seed(MONITOR)));
    let log = JetStream::open(options, 1).await.unwrap();
    assert_eq!(log.replicas(), deployment.replicas());
    log.verify_servers().await.unwrap();

    let side = KvSide::open(&log).await.unwrap();
    side.put_new("mem.1", "a key".into()).await.unwrap();
    side.erase("mem.1").await.unwrap();
    assert_eq!(side.get("mem.1").await.unwrap(), None);

    let leases = Leases::open(&log).await.unwrap();
    let acquire = leases.acquire(PartitionId(0), "node", WriterId(1));
    let lease = tokio::time::timeout(DEADLINE, acquire).await.unwrap();
    lease.release().await;
}

#[tokio::test]
async fn even_an_engine_cannot_delete_or_change_the_log() {
    let deployment = Deployment::one_node().await;
    let engine = deployment.with_streams().await;
    engine
        .may_not_publish(&[
            "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.DELETE.TOLLBOOK_ALERTS",
            "$JS.API.STREAM.UPDATE.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.UPDATE.TOLLBOOK_ALERTS",
            "$JS.API.STREAM.RESTORE.TOLLBOOK_LOG_0_0",
        ])
        .await;
    // These the stream's own settings refuse.
    let log = engine.jetstream().get_stream("TOLLBOOK_LOG_0_0").await.unwrap();
    assert!(log.purge().await.unwrap_err().to_string().contains("10110"));
    assert!(log.delete_message(1).await.unwrap_err().to_string().contains("10057"));
    assert_eq!(engine.append().await, 2);
}

#[tokio::test]
async fn the_monitor_key_sees_that_every_write_is_synced_and_nothing_else() {
    let deployment = Deployment::one_node().await;
    monitors(&deployment).await;
}

/// Every server answers once, and says that it syncs.
pub(crate) async fn monitors(deployment: &Deployment) {
    let monitor = deployment.connect(MONITOR).await;
    let inbox = monitor.client.new_inbox();
    let mut answers = monitor.client.subscribe(inbox.clone()).await.unwrap();
    monitor.client.publish_with_reply("$SYS.REQ.SERVER.PING.JSZ", inbox, "".into()).await.unwrap();
    let mut names = Vec::new();
    while names.len() < deployment.servers.len() {
        let answer = tokio::time::timeout(DEADLINE, answers.next()).await.unwrap().unwrap();
        let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(answer["data"]["config"]["sync_always"], true, "{answer}");
        assert_eq!(answer["data"]["config"]["strict"], true, "{answer}");
        names.push(answer["server"]["name"].as_str().unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), deployment.servers.len());
    monitor.may_not_publish(&["$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.RELOAD"]).await;
    monitor.may_not_subscribe(&[">", "$SYS.>"]).await;
}
