//! Whoever listens to alerts the whole time: over HTTP, and as a consumer of the stream.

use std::sync::{Arc, Mutex};

use async_nats::jetstream::{self, consumer};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::DEADLINE;

use super::deeds::{Patient, each_once};

const STREAM: &str = "TOLLBOOK_ALERTS";

/// Reads the feed over HTTP from where it was, whatever happens to the server.
pub(super) struct Follower {
    read: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    pub(super) fn start(client: &Patient) -> Self {
        let read = Arc::<Mutex<Vec<Value>>>::default();
        let (client, into) = (client.clone(), Arc::clone(&read));
        let follow = async move {
            loop {
                let after = u64::try_from(into.lock().unwrap().len()).unwrap();
                let page = eventually(DEADLINE * 10, "there is more in the feed", || async {
                    Some(client.feed(after).await).filter(|page| !page.is_empty())
                });
                for (item, sequence) in page.await.into_iter().zip(after + 1..) {
                    assert_eq!(item["sequence"], sequence, "no gaps");
                    into.lock().unwrap().push(item["event"].clone());
                }
            }
        };
        Self { read, task: tokio::spawn(follow) }
    }

    /// Every event so far, in order.
    pub(super) fn read(&self) -> Vec<Value> {
        self.read.lock().unwrap().clone()
    }

    pub(super) fn count(&self) -> usize {
        self.read.lock().unwrap().len()
    }

    /// How many there are so far; the follower must not have ended.
    pub(super) fn counter(&self) -> impl Fn() -> usize + use<> {
        let (read, task) = (Arc::clone(&self.read), self.task.abort_handle());
        move || {
            assert!(!task.is_finished(), "it goes on reading");
            read.lock().unwrap().len()
        }
    }
}

/// A durable consumer that the engine made, and a program that reads with it and acknowledges.
pub(super) struct Subscriber {
    read: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Subscriber {
    pub(super) async fn start(client: &Patient, nats: &NatsServer) -> Self {
        client.write("POST", "/v1/alert-subscriptions", &json!({ "name": "billing" })).await;
        let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
        let consumer: consumer::PullConsumer =
            context.get_consumer_from_stream("billing", STREAM).await.unwrap();
        let read = Arc::<Mutex<Vec<Value>>>::default();
        let into = Arc::clone(&read);
        let follow = async move {
            let mut messages = consumer.messages().await.unwrap();
            while let Some(message) = messages.next().await {
                let message = message.unwrap();
                into.lock().unwrap().push(serde_json::from_slice(&message.payload).unwrap());
                message.double_ack().await.unwrap();
            }
        };
        Self { read, task: tokio::spawn(follow) }
    }

    /// Waits until it has read everything that was raised since it began, which must have come once each.
    pub(super) async fn has_each_once(&mut self, raised: &[Value]) {
        eventually(DEADLINE, "the subscriber has the last alert", || async {
            assert!(!self.task.is_finished(), "it goes on reading");
            (self.read.lock().unwrap().last() == raised.last()).then_some(())
        })
        .await;
        let read = self.read.lock().unwrap().clone();
        each_once(
            read.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>().iter(),
        );
        assert!(
            raised.ends_with(&read) && raised.len() <= read.len() + 1,
            "{} of {}",
            read.len(),
            raised.len()
        );
    }
}

/// The whole stream, in order.
pub(super) async fn stream(nats: &NatsServer) -> Vec<Value> {
    let context = jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let stream = context.get_stream(STREAM).await.unwrap();
    let last = stream.get_info().await.unwrap().state.last_sequence;
    let messages = futures_util::stream::iter(1..=last).map(|sequence| stream.get_raw_message(sequence));
    let messages = messages.buffered(64).map_ok(|message| serde_json::from_slice(&message.payload).unwrap());
    messages.try_collect().await.unwrap()
}
