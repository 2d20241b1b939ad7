//! Usage over NATS: `tollbook.usage.<org>`, answered like a JetStream publish, and the spool for those who must not wait;
//! admission: `tollbook.rpc.*`.
//!
//! ```text
//! message ─ room? ─ headers, size, subject ─ parse ─> Node::submit ─> answer once it is durable
//!                                              └ nobody waits: good events ─> Node::submit
//!                                                              the others ─> Node::quarantine
//! ```
//!
//! [`Door`] answers, [`refusal`] is what it says no with, [`spool`] empties the stream, [`rpc`] decides
//! about requests. For users: `docs/nats.md`.

mod delivery;
mod pull;
pub mod refusal;
pub mod rpc;
pub mod spool;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::usage::Ingress;

use self::delivery::Delivery;
pub use self::refusal::Refusal;
use crate::ingress::IngressError;
use crate::log::jetstream::{JetStreamOptions, OpenError, connect_as, stream_name};
use crate::metrics;
use crate::node::Node;
use crate::owner::told;

/// Where usage is published.
const SUBJECTS: &str = "tollbook.usage.*";
/// Engines share the work: each message goes to one of them.
const QUEUE: &str = "ingress";
/// Largest payload, as over HTTP.
pub const PAYLOAD_MAX: usize = crate::http::BODY_MAX;
/// Memory for requests under way: far more than the log has in flight, far less than a server has. A client that keeps
/// publishing while the log is away would otherwise fill this process.
const ROOM_KIB: usize = 128 * 1024;
/// What the smallest request counts for, its task and records included; so at most 16,384 are under way, as many as one
/// partition takes.
const REQUEST_KIB: u32 = 8;
/// Senders being told that there is no room; more are not told, and their requests time out.
const TURNED_AWAY_MAX: usize = 4_096;
/// Pause before another attempt to connect anew.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// How long a stopping engine waits for the log to take what was taken here: longer than an append is tried.
const ANSWER_MAX: Duration = Duration::from_secs(40);
/// How long a stopping engine waits for its subscription to end: not at all, unless the server is away.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Why usage or admission over NATS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The servers cannot be reached, or refuse the engine.
    #[error(transparent)]
    Connect(#[from] OpenError),
    /// The client cannot subscribe.
    #[error("cannot subscribe to {SUBJECTS}: {0}")]
    Subscribe(String),
}

/// The way in for usage that waits for an answer.
///
/// Its connection is not the log's: the client library ends a connection, or panics in it, over headers that it cannot
/// read, and outsiders choose the headers of what arrives here.
#[derive(Debug)]
pub struct Door {
    shared: Arc<Shared>,
    options: JetStreamOptions,
    client: Client,
    messages: Subscriber,
    /// Whether somebody named a reply that no engine answers; said once, or they could fill the log with it.
    warned: bool,
}

#[derive(Debug)]
struct Shared {
    node: Node,
    room: Arc<Semaphore>,
    /// For telling those whom there is no room for.
    turned_away: Arc<Semaphore>,
    /// Whether the last message without a reply was lost; what changes is said, not every message.
    losing: AtomicBool,
}

impl Door {
    /// Connects to the log's servers as the engine, and subscribes; requests wait until [`Door::run`].
    pub async fn connect(node: Node, options: JetStreamOptions) -> Result<Self, DoorError> {
        let (client, messages) = subscribe(&options).await?;
        let shared = Shared {
            node,
            room: Arc::new(Semaphore::new(ROOM_KIB)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY_MAX)),
            losing: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared), options, client, messages, warned: false })
    }

    /// Answers until told to stop, then what was taken before, and ends. Stop the node afterwards.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut requests = JoinSet::new();
        loop {
            tokio::select! {
                message = self.messages.next() => match message {
                    Some(message) => self.take(message, &mut requests),
                    None => tokio::select! {
                        () = self.reconnect() => {}
                        () = told(&mut stop) => break,
                    },
                },
                Some(ended) = requests.join_next(), if !requests.is_empty() => note(ended),
                () = told(&mut stop) => break,
            }
        }
        self.close(requests).await;
    }

    /// Connects anew: this connection has ended for good. May be dropped while it waits.
    async fn reconnect(&mut self) {
        loop {
            tracing::warn!("the connection for usage over NATS broke; connecting anew");
            match subscribe(&self.options).await {
                Ok((client, messages)) => {
                    self.client = client;
                    self.messages = messages;
                    return;
                }
                Err(error) => tracing::warn!(%error, "usage over NATS is not served"),
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    /// Answers for what was taken. Every step is bounded: the server may be away, and then the client waits for it.
    async fn close(mut self, mut requests: JoinSet<()>) {
        // The server hands no new ones to us. Of those on their way some still come; the client library does not wait for
        // the server to confirm the end, so the rest are not answered, and their senders try again.
        let rest = async {
            if self.messages.drain().await.is_ok() {
                while let Some(message) = self.messages.next().await {
                    self.take(message, &mut requests);
                }
            }
        };
        if tokio::time::timeout(DRAIN_MAX, rest).await.is_err() {
            tracing::warn!("the subscription over NATS did not end in time");
        }
        let answered = async {
            while let Some(ended) = requests.join_next().await {
                note(ended);
            }
        };
        if tokio::time::timeout(ANSWER_MAX, answered).await.is_err() {
            tracing::warn!("some usage was not answered; its senders will try again");
        }
        let flushed = tokio::time::timeout(DRAIN_MAX, self.client.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the last answers may not have left; their receivers will try again");
        }
    }

    fn take(&mut self, message: Message, requests: &mut JoinSet<()>) {
        let reply = message.reply.as_ref().filter(|reply| answerable(reply)).cloned();
        if reply.is_none() && message.reply.is_some() && !self.warned {
            self.warned = true;
            tracing::warn!(
                subject = %message.subject,
                reply = message.reply.as_deref(),
                "somebody waits for an answer outside of `_INBOX`, where engines never answer (said once)"
            );
        }
        let request = Request { shared: self.shared.clone(), client: self.client.clone(), reply };
        if let Some(room) = room_for(&self.shared.room, message.payload.len()) {
            requests.spawn(request.run(message, room));
        } else if let Ok(place) = self.shared.turned_away.clone().try_acquire_owned() {
            requests.spawn(request.turn_away(place));
        } else {
            metrics::received("nats", "lost", 1);
        }
    }
}

async fn subscribe(options: &JetStreamOptions) -> Result<(Client, Subscriber), DoorError> {
    let client = connect_as(options, &options.credentials, "tollbook usage").await?;
    let failed = |reason: String| DoorError::Subscribe(reason);
    let subscribed = client.queue_subscribe(SUBJECTS, QUEUE.to_owned()).await;
    let messages = subscribed.map_err(|error| failed(error.to_string()))?;
    client.flush().await.map_err(|error| failed(error.to_string()))?;
    Ok((client, messages))
}

/// Whether a reply is one that engines answer. The server never checks whether a sender may publish to the reply that it
/// names, so an answer must not go where it could be more than an answer (docs/decisions/0012-nats-accounts.md).
fn answerable(reply: &Subject) -> bool {
    reply.starts_with("_INBOX") || reply.starts_with("_R_.")
}

fn room_for(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).saturating_add(REQUEST_KIB);
    room.clone().try_acquire_many_owned(kib).ok()
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a request over NATS was not answered");
    }
}

/// One message, and whom to answer.
struct Request {
    shared: Arc<Shared>,
    client: Client,
    reply: Option<Subject>,
}

impl Request {
    async fn run(self, message: Message, room: OwnedSemaphorePermit) {
        let delivery = Delivery {
            arrived: self.shared.node.clock().now(),
            subject: message.subject.to_string(),
            headers: message.headers,
            payload: message.payload,
        };
        match &self.reply {
            Some(_) => {
                let answer = match self.submit(&delivery).await {
                    Ok(position) => acknowledgement(position),
                    Err(refusal) => {
                        metrics::received("nats", refusal.outcome(), 1);
                        refusal.to_json()
                    }
                };
                self.answer(answer).await;
            }
            None => self.keep(&delivery).await,
        }
        drop(room);
    }

    async fn submit(&self, delivery: &Delivery) -> Result<LogPosition, Refusal> {
        let usage = delivery.read()?;
        let events = usage.len();
        let position = self.shared.node.submit(usage).await?;
        metrics::received("nats", "accepted", events);
        Ok(position)
    }

    /// Nobody waits: what is good is booked, the rest is kept in quarantine. What cannot even be written is gone, as all
    /// that is published without waiting can be.
    async fn keep(&self, delivery: &Delivery) {
        let sorted = delivery.sort(&Ingress::Nats { subject: delivery.subject.clone() });
        match sorted.take(&self.shared.node, "nats").await {
            Ok(()) => self.shared.losing.store(false, Ordering::Relaxed),
            Err(error) => self.lost(&error),
        }
    }

    /// There is no room for this message.
    async fn turn_away(self, place: OwnedSemaphorePermit) {
        match self.reply {
            Some(_) => {
                let refusal = Refusal::Busy;
                metrics::received("nats", refusal.outcome(), 1);
                self.answer(refusal.to_json()).await;
            }
            // To quarantine it would take the room that there is not.
            None => self.lost(&IngressError::Busy),
        }
        drop(place);
    }

    fn lost(&self, error: &IngressError) {
        metrics::received("nats", "lost", 1);
        if !self.shared.losing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "usage that nobody waits for is being lost");
        }
    }

    async fn answer(&self, answer: Bytes) {
        if let Some(reply) = self.reply.clone()
            && let Err(error) = self.client.publish(reply, answer).await
        {
            tracing::warn!(%error, "an answer did not leave; its sender will try again");
        }
    }
}

/// What a JetStream publish is answered with. Epoch 0 is the only one and begins at 0, so positions are its stream's
/// sequences.
fn acknowledgement(at: LogPosition) -> Bytes {
    json!({ "stream": stream_name(at.partition), "seq": at.position.0 }).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_answer_inboxes_only() {
        for reply in ["_INBOX.a.b", "_INBOX_publisher.x", "_R_.abc"] {
            assert!(answerable(&reply.into()), "{reply}");
        }
        for reply in ["tollbook.log.0.config", "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0", "_R_", "x._INBOX.a"]
        {
            assert!(!answerable(&reply.into()), "{reply}");
        }
    }

    #[test]
    fn room_is_for_bytes_and_requests() {
        let room = Arc::new(Semaphore::new(20));
        let first = room_for(&room, 1).unwrap();
        assert!(room_for(&room, 1024 * 1024).is_none());
        let second = room_for(&room, 3 * 1024).unwrap();
        assert!(room_for(&room, 0).is_none());
        drop((first, second));
        assert!(room_for(&room, 0).is_some());
    }
}
