//! The spool: publishers leave usage while no engine is up, and an engine takes it later.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::stream;
use futures_util::StreamExt;

use crate::deployment::{Caller, DEADLINE, Deployment, GATEWAY, PUBLISHER, SPOOL, durable};

/// The stream and its consumer as an engine makes them. One replica on purpose: publishers choose the headers of what
/// they send, and one header stops a replicated stream (docs/decisions/0012-nats-accounts.md).
pub(crate) async fn with_stream(deployment: &Deployment) -> Caller {
    let spool = deployment.connect(SPOOL).await;
    let config = stream::Config {
        retention: stream::RetentionPolicy::WorkQueue,
        max_bytes: 1 << 30,
        // The least the server takes: ids are unique per stream, so a longer window lets one sender hide another's.
        duplicate_window: Duration::from_millis(100),
        ..durable("TOLLBOOK_SPOOL", "tollbook.spool.*", 1)
    };
    let stream = spool.make(config).await;
    let consumer = pull::Config { durable_name: Some("engine".to_owned()), ..Default::default() };
    stream.create_consumer(consumer).await.unwrap();
    spool
}

/// Takes and acknowledges `count` messages: subject and payload.
pub(crate) async fn take(spool: &Caller, count: usize) -> Vec<(String, String)> {
    let consumer: PullConsumer =
        spool.jetstream().get_consumer_from_stream("engine", "TOLLBOOK_SPOOL").await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let mut taken = Vec::new();
    while taken.len() < count {
        // A consumer that was just made has no leader yet on three nodes: an item says so, and the next ones come.
        let Ok(message) = tokio::time::timeout(DEADLINE, messages.next()).await.unwrap().unwrap() else {
            continue;
        };
        message.double_ack().await.unwrap();
        taken.push((message.subject.to_string(), String::from_utf8(message.payload.to_vec()).unwrap()));
    }
    taken
}

#[tokio::test]
async fn the_spool_keeps_usage_while_no_engine_is_up() {
    let mut deployment = Deployment::one_node().await;
    drop(with_stream(&deployment).await);
    for (principal, subject) in [(PUBLISHER, "tollbook.spool.org_a"), (GATEWAY, "tollbook.spool.org_b")] {
        let sender = deployment.connect(principal).await;
        sender.put(subject, "usage").await;
        sender.nothing_denied().await;
    }
    deployment.servers[0].restart().await;
    let spool = deployment.connect(SPOOL).await;
    let taken = take(&spool, 2).await;
    assert_eq!(taken, [("tollbook.spool.org_a", "usage"), ("tollbook.spool.org_b", "usage")].map(owned));
    let mut stream = spool.jetstream().get_stream("TOLLBOOK_SPOOL").await.unwrap();
    assert_eq!(stream.info().await.unwrap().state.messages, 0);
    spool.nothing_denied().await;
}

fn owned((subject, payload): (&str, &str)) -> (String, String) {
    (subject.to_owned(), payload.to_owned())
}

#[tokio::test]
async fn no_header_of_a_publisher_stops_the_spool() {
    let deployment = Deployment::one_node().await;
    survives_headers(&deployment).await;
}

pub(crate) async fn survives_headers(deployment: &Deployment) {
    let spool = with_stream(deployment).await;
    let publisher = deployment.connect(PUBLISHER).await;
    let context = publisher.jetstream();
    publisher.put("tollbook.spool.org_a", "usage").await;
    // The first stops every replica of a replicated stream, for good.
    for (name, value) in [
        ("Nats-Expected-Last-Msg-Id", "nonsense"),
        ("Nats-Expected-Last-Sequence", "77"),
        ("Nats-Rollup", "all"),
        ("Nats-TTL", "1s"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        let ack = context.publish_with_headers("tollbook.spool.org_a", headers, "harm".into()).await.unwrap();
        let refusal = ack.await.unwrap_err();
        assert_ne!(refusal.kind(), PublishErrorKind::TimedOut, "{name}");
        context.publish("tollbook.spool.org_a", "usage".into()).await.unwrap().await.unwrap();
    }
    assert_eq!(take(&spool, 5).await.len(), 5);
}

#[tokio::test]
async fn the_engines_spool_key_can_only_empty_the_spool() {
    let deployment = Deployment::one_node().await;
    let spool = with_stream(&deployment).await;
    spool
        .may_not_publish(&[
            "tollbook.spool.org_a",
            "$JS.API.STREAM.DELETE.TOLLBOOK_SPOOL",
            "$JS.API.STREAM.PURGE.TOLLBOOK_SPOOL",
            "$JS.API.STREAM.UPDATE.TOLLBOOK_SPOOL",
            "$JS.API.STREAM.CREATE.ANOTHER",
            "$JS.API.CONSUMER.CREATE.TOLLBOOK_SPOOL.another",
            "$JS.API.CONSUMER.DELETE.TOLLBOOK_SPOOL.engine",
            "tollbook.log.0.config",
            "tollbook.usage.org_a",
        ])
        .await;
    spool.may_not_subscribe(&[">", "tollbook.spool.*"]).await;
}
