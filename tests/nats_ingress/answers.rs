//! A stock client's JetStream publish against the engine.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::ContextBuilder;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tollbook_engine::nats::PAYLOAD_MAX;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;

use crate::DEADLINE;
use crate::engine::{Engine, Totals, USAGE, event, publish, publisher};

#[tokio::test]
async fn a_stock_publish_is_acknowledged_once_it_is_durable() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (_client, context) = publisher(&server).await;

    let ack = publish(&context, USAGE, &event(1)).await;
    assert_eq!(ack.stream, "TOLLBOOK_LOG_0_0");
    assert_eq!(ack.sequence, engine.last().await.0);
    let batch = json!([event(2), event(3), event(4)]);
    assert!(publish(&context, USAGE, &batch).await.sequence > ack.sequence);
    // Whether it is a repetition is known only to the fold.
    publish(&context, USAGE, &event(1)).await;
    let totals = Totals { duplicates: 1, ..Totals::booked(4) };
    assert_eq!(engine.totals().await, totals);
    engine.stop().await;
}

/// What a client is told: `code` and `err_code` of JetStream's own error type.
pub(crate) fn told(error: &PublishError) -> (usize, u64) {
    assert_eq!(error.kind(), PublishErrorKind::Other, "{error}");
    let source = error.source().unwrap().downcast_ref::<async_nats::jetstream::Error>().unwrap();
    (source.code(), source.error_code().0)
}

#[tokio::test]
async fn refusals_arrive_as_publish_errors() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (client, context) = publisher(&server).await;
    let mut bad = event(1);
    bad["data"]["input_tokens"] = json!(-1);
    let mut foreign = event(2);
    foreign["subject"] = json!("org_b");
    let many = Value::Array((0..1_001).map(event).collect()).to_string();
    for (subject, payload, expected) in [
        (USAGE, "garbage".to_owned(), (400, 60_001)),
        (USAGE, String::new(), (400, 60_001)),
        (USAGE, "[]".to_owned(), (400, 60_001)),
        // An engine's own answer is never usage.
        (USAGE, r#"{"stream":"TOLLBOOK_LOG_0_0","seq":1}"#.to_owned(), (400, 60_002)),
        (USAGE, bad.to_string(), (400, 60_002)),
        (USAGE, foreign.to_string(), (400, 60_002)),
        (USAGE, " ".repeat(PAYLOAD_MAX + 1), (413, 60_003)),
        (USAGE, many, (413, 60_004)),
        ("tollbook.usage.acme", event(3).to_string(), (400, 60_006)),
    ] {
        let shown: String = payload.chars().take(60).collect();
        let error = context.publish(subject, payload.into()).await.unwrap().await.unwrap_err();
        assert_eq!(told(&error), expected, "{shown}");
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Sequence", "1");
    let refused =
        context.publish_with_headers(USAGE, headers, event(4).to_string().into()).await.unwrap().await;
    assert_eq!(told(&refused.unwrap_err()), (400, 60_005));

    // Every bad event is named, and nothing of its neighbours is kept.
    let batch = json!([event(5), bad, foreign]);
    let answer = client.request(USAGE, batch.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    let places: Vec<_> = answer["errors"].as_array().unwrap().iter().map(|error| &error["index"]).collect();
    assert_eq!(places, [1, 2], "{answer}");
    assert_eq!(answer["errors"][0]["field"], "data.input_tokens");
    assert_eq!(engine.totals().await, Totals::default());
    publish(&context, USAGE, &event(1)).await;
    assert_eq!(engine.totals().await, Totals::booked(1));
    engine.stop().await;
}

#[tokio::test]
async fn many_requests_are_under_way_at_once() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (_client, context) = publisher(&server).await;
    let before = engine.last().await.0;
    let acks = join_all((0..2_000).map(|id| {
        let context = &context;
        async move { publish(context, USAGE, &event(id)).await.sequence }
    }))
    .await;
    assert_eq!(engine.totals().await, Totals::booked(2_000));
    // One at a time would be an entry for each.
    let entries: BTreeSet<u64> = acks.into_iter().collect();
    assert!(entries.len() < 1_000, "{} entries", entries.len());
    assert_eq!(u64::try_from(entries.len()).unwrap(), engine.last().await.0 - before);
    engine.stop().await;
}

#[tokio::test]
async fn a_stopping_engine_answers_for_what_it_took() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let mut engine = Engine::start(&server, &data).await;
    let (client, _) = publisher(&server).await;
    // Once the door is closed all answers have left.
    let context = ContextBuilder::new().timeout(Duration::from_secs(10)).build(client.clone());
    let mut acks = Vec::new();
    for id in 0..1_000 {
        acks.push(context.publish(USAGE, event(id).to_string().into()).await.unwrap());
    }
    client.flush().await.unwrap();
    engine.close_doors().await;
    let mut taken = 0;
    for ack in join_all(acks.into_iter().map(IntoFuture::into_future)).await {
        match ack.map_err(|error| error.kind()) {
            Ok(_) => taken += 1,
            // Nobody took it: there were no responders any more, or it was on its way when the subscription ended.
            Err(kind) => assert!(
                matches!(kind, PublishErrorKind::StreamNotFound | PublishErrorKind::TimedOut),
                "{kind}"
            ),
        }
    }
    assert_eq!(engine.totals().await, Totals::booked(taken));
    // The server hears of the end a moment after the door closed.
    eventually(DEADLINE, "nobody responds", || async {
        let late = context.publish(USAGE, event("late").to_string().into()).await.unwrap().await;
        (late.unwrap_err().kind() == PublishErrorKind::StreamNotFound).then_some(())
    })
    .await;
    assert_eq!(engine.totals().await, Totals::booked(taken));
    engine.stop().await;
}

#[tokio::test]
async fn an_engine_closes_its_door_also_while_the_server_is_away() {
    let (mut server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let mut engine = Engine::start(&server, &data).await;
    server.kill();
    tokio::time::timeout(DEADLINE, engine.close_doors()).await.unwrap();
    server.restart().await;
    engine.stop().await;
}
