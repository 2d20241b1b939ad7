//! Replies that are no inboxes: an engine must not write where a publisher may not.

use futures_util::{FutureExt, StreamExt};
use tempfile::TempDir;
use tollbook_tests::nats::NatsServer;

use crate::engine::{Engine, Totals, USAGE, event, publish, publisher};

#[tokio::test]
async fn engines_answer_inboxes_only() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (client, context) = publisher(&server).await;
    let mut elsewhere = client.subscribe("elsewhere.>").await.unwrap();
    let replies = [
        "elsewhere.x",
        "tollbook.log.0.usage.x",
        "tollbook.log.0.config",
        "tollbook.usage.org_b",
        "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
        "$JS.API.STREAM.PURGE.TOLLBOOK_LOG_0_0",
    ];
    let before = engine.last().await.0;
    for (number, reply) in replies.iter().enumerate() {
        for payload in [event(number).to_string(), "garbage".to_owned()] {
            client.publish_with_reply(USAGE, *reply, payload.into()).await.unwrap();
        }
    }
    // Usage is a fact whatever its sender thinks of replies: booked, or quarantined, and nothing else is in the log.
    engine.comes_to(Totals { quarantined: 6, ..Totals::booked(6) }).await;
    assert!(engine.last().await.0 - before <= 12);
    publish(&context, USAGE, &event("next")).await;
    assert_eq!(engine.totals().await, Totals { quarantined: 6, ..Totals::booked(7) });
    assert!(elsewhere.next().now_or_never().is_none(), "an answer left the inboxes");
    engine.stop().await;
}
