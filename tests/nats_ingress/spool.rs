//! The spool: usage for engines that may not be up.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::message::AckKind;
use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;
use tollbook_engine::nats::spool::{CONSUMER, STREAM};
use tollbook_schemas::cloudevent::{self, Payload};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Ingress, Occurred};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;

use crate::DEADLINE;
use crate::engine::{Engine, SPOOL, Totals, event, org, publish, publisher};
use crate::headers::publish_raw;

/// An engine was here before and made the stream, and is gone.
async fn without_engine(data: &TempDir) -> (NatsServer, Context) {
    let server = NatsServer::start().await;
    let engine = Engine::start_with_spool(&server, data).await;
    let (_client, context) = publisher(&server).await;
    ready(&context).await;
    engine.stop().await;
    (server, context)
}

pub(crate) async fn ready(context: &Context) {
    eventually(DEADLINE, "the engine made the spool and its consumer", || async move {
        context
            .get_stream(STREAM)
            .await
            .ok()?
            .get_consumer::<async_nats::jetstream::consumer::pull::Config>(CONSUMER)
            .await
            .ok()
    })
    .await;
}

async fn waiting(context: &Context) -> u64 {
    context.get_stream(STREAM).await.unwrap().get_info().await.unwrap().state.messages
}

pub(crate) async fn empty(context: &Context) {
    eventually(DEADLINE, "the spool is empty", || async move { (waiting(context).await == 0).then_some(()) })
        .await;
}

#[tokio::test]
async fn what_was_spooled_without_an_engine_is_booked_by_the_next_one() {
    let data = TempDir::new().unwrap();
    let (server, context) = without_engine(&data).await;
    for id in 0..100 {
        assert_eq!(publish(&context, SPOOL, &event(id)).await.stream, STREAM);
    }
    let mut bad = event("bad");
    bad["data"]["model"] = json!(7);
    let batch = json!([event(100), bad]);
    let batch_at = publish(&context, SPOOL, &batch).await.sequence;
    context.publish(SPOOL, "garbage".into()).await.unwrap().await.unwrap();
    context.publish("tollbook.spool.acme", event(1).to_string().into()).await.unwrap().await.unwrap();
    let first = context.get_stream(STREAM).await.unwrap().get_raw_message(1).await.unwrap();
    let spooled_at = Timestamp::from_nanos(i64::try_from(first.time.unix_timestamp_nanos()).unwrap());

    let engine = Engine::start_with_spool(&server, &data).await;
    empty(&context).await;
    engine.comes_to(Totals { quarantined: 2, ..Totals::booked(101) }).await;
    let (usages, refused) = engine.observations().await;
    // Without a time of its own, it occurred when it was spooled.
    let usage = usages.iter().find(|usage| usage.id == "0").unwrap();
    assert_eq!(usage.occurred, Occurred::Assumed(spooled_at));
    let kept = refused.iter().find(|refused| refused.bytes == bad.to_string()).unwrap();
    assert_eq!(kept.ingress, Ingress::Spool { sequence: batch_at, subject: SPOOL.to_owned() });
    // A subject that names nobody is kept under nobody.
    assert_eq!(refused.iter().filter(|refused| refused.organization.is_none()).count(), 1);
    engine.stop().await;
}

#[tokio::test]
async fn r8_2_what_was_written_but_not_acknowledged_counts_once() {
    let data = TempDir::new().unwrap();
    let (server, context) = without_engine(&data).await;
    publish(&context, SPOOL, &event("again")).await;
    let consumer: PullConsumer = context.get_consumer_from_stream(CONSUMER, STREAM).await.unwrap();
    let mut messages = consumer.fetch().max_messages(1).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    // As an engine that is killed between the log's answer and its own acknowledgement.
    let engine = Engine::start(&server, &data).await;
    let now = engine.node.clock().now();
    let usage = cloudevent::parse(&message.payload, Payload::Either, now, Some(&org())).unwrap();
    engine.node.submit(usage).await.unwrap();
    assert_eq!(engine.totals().await, Totals::booked(1));
    engine.stop().await;
    message.ack_with(AckKind::Nak(None)).await.unwrap();

    let engine = Engine::start_with_spool(&server, &data).await;
    empty(&context).await;
    assert_eq!(engine.totals().await, Totals { duplicates: 1, ..Totals::booked(1) });
    engine.stop().await;
}

#[tokio::test]
async fn an_engine_that_stops_amid_the_spool_leaves_the_rest_to_the_next() {
    let data = TempDir::new().unwrap();
    let (server, context) = without_engine(&data).await;
    for id in 0..500 {
        publish(&context, SPOOL, &event(id)).await;
    }
    let engine = Engine::start_with_spool(&server, &data).await;
    eventually(DEADLINE, "some are taken", || async { (waiting(&context).await < 450).then_some(()) }).await;
    engine.stop().await;
    let engine = Engine::start_with_spool(&server, &data).await;
    empty(&context).await;
    let totals = engine.totals().await;
    assert_eq!((totals.booked, totals.spent, totals.quarantined), (500, 500, 0));
    engine.stop().await;
}

#[tokio::test]
async fn the_spool_recovers_from_restarts_of_its_server() {
    let (mut server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start_with_spool(&server, &data).await;
    let (_client, context) = publisher(&server).await;
    ready(&context).await;
    for round in 0..3 {
        let context = &context;
        eventually(DEADLINE, "the spool takes usage", || async move {
            context.publish(SPOOL, event(round).to_string().into()).await.ok()?.await.ok()
        })
        .await;
        eventually(DEADLINE, "it is booked", || async {
            let owner = engine.node.owners().next().unwrap();
            let read = |state: &tollbook_projections::state::State| {
                state.organization(&org()).unwrap().counts.booked
            };
            (owner.read(read).await.unwrap() == round + 1).then_some(())
        })
        .await;
        server.restart().await;
    }
    engine.stop().await;
}

#[tokio::test]
async fn messages_that_pose_as_the_server_are_usage_like_others() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start_with_spool(&server, &data).await;
    let (_client, context) = publisher(&server).await;
    ready(&context).await;
    let poses =
        ["100 Idle Heartbeat", "404 No Messages", "408 Request Timeout", "409 Consumer Deleted", "503"];
    for (number, status) in poses.iter().enumerate() {
        let head = format!("NATS/1.0 {status}\r\n\r\n");
        publish_raw(&server, SPOOL, head.as_bytes(), &event(number).to_string()).await;
    }
    publish(&context, SPOOL, &event("last")).await;
    engine.comes_to(Totals::booked(6)).await;
    empty(&context).await;
    engine.stop().await;
}

#[tokio::test]
async fn the_spool_is_bounded_replicated_once_and_emptied_by_one_consumer() {
    let data = TempDir::new().unwrap();
    let (_server, context) = without_engine(&data).await;
    let stream = context.get_stream(STREAM).await.unwrap();
    let config = stream.get_info().await.unwrap().config;
    assert_eq!((config.num_replicas, config.max_bytes), (1, 256 * 1024 * 1024));
    assert_eq!(config.duplicate_window, Duration::from_millis(100));
    assert_eq!(format!("{:?} {:?}", config.retention, config.discard), "WorkQueue New");
    // Over 1 MiB is the sender's to hear of.
    let refused = context.publish(SPOOL, vec![b' '; 1_500_000].into()).await.unwrap().await.unwrap_err();
    assert_eq!(crate::answers::told(&refused), (400, 10_054));
}
