//! Admission over NATS: `tollbook.rpc.admit|settle|release|renew`, answered with the JSON that HTTP answers with.
//!
//! ```text
//! subscribed only while this node owns every partition
//!   message ─ inbox? size? operation? ─> decided here, in one task ─> the client's buffer
//! ```
//!
//! A decision takes microseconds and waits for nothing, so there is no task for a message. For users: `docs/nats.md`.

use std::str::FromStr;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use futures_util::future::select_all;
use tokio::sync::watch;

use super::{DRAIN_MAX, DoorError, RECONNECT_AFTER, answerable};
use crate::http::Problem;
use crate::http::admissions::reply::{self, Reply};
use crate::http::admissions::sent;
use crate::log::jetstream::{JetStreamOptions, connect_losing};
use crate::metrics;
use crate::node::Node;
use crate::owner::{Role, told};

/// Where admission is asked for.
const SUBJECTS: &str = "tollbook.rpc.*";
/// What they begin with; the operation follows.
const PREFIX: &str = "tollbook.rpc.";
/// Only owners are in it, and there is one; while ownership moves there may be two for a moment.
const QUEUE: &str = "admission";
/// Largest payload: an ask with a long request id and dozens of meters has some kilobytes.
pub const PAYLOAD_MAX: usize = 64 * 1024;
/// Requests that wait here: what is decided in a fifth of a second. More would be answered later than those who ask wait,
/// and take leases that nobody settles; what comes beyond is dropped and counted, and its senders ask again.
const WAITING_MAX: usize = 16 * 1024;
/// Names an error's status in a reply's headers, as NATS services do.
const ERROR_STATUS: HeaderName = HeaderName::from_static("Nats-Service-Error-Code");
/// Names an error's code there.
const ERROR_CODE: HeaderName = HeaderName::from_static("Nats-Service-Error");

/// The way in for admission.
///
/// Its connection is its own, as the usage door's is: outsiders choose the headers of what arrives here.
#[derive(Debug)]
pub struct RpcDoor {
    node: Node,
    options: JetStreamOptions,
    client: Client,
    /// Whether somebody asked without a reply that is answered; said once, or they could fill the log with it.
    warned: bool,
}

/// Why answering ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The node stops.
    Stopping,
    /// It does not own every partition any more.
    Standby,
    /// The connection has ended for good.
    Broken,
}

impl RpcDoor {
    /// Connects to the log's servers as the engine; nobody is answered before [`RpcDoor::run`].
    pub async fn connect(node: Node, options: JetStreamOptions) -> Result<Self, DoorError> {
        let client = connect(&options).await?;
        Ok(Self { node, options, client, warned: false })
    }

    /// Answers while this node owns every partition, until told to stop.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let node = self.node.clone();
            let mut messages = tokio::select! {
                messages = async {
                    owns_all(&node).await;
                    self.subscribe().await
                } => messages,
                () = told(&mut stop) => return,
            };
            let end = tokio::select! {
                biased;
                () = told(&mut stop) => End::Stopping,
                () = owns_less(&node) => End::Standby,
                () = self.answer_all(&mut messages) => End::Broken,
            };
            match end {
                End::Broken => {
                    tracing::warn!("the connection for admission over NATS broke; connecting anew");
                    self.reconnect(&mut stop).await;
                }
                End::Stopping => {
                    self.close(messages).await;
                    return;
                }
                End::Standby => {
                    tracing::info!("admission over NATS is another node's now");
                    self.close(messages).await;
                }
            }
        }
    }

    /// Subscribes, however often it takes. May be dropped while it waits.
    async fn subscribe(&mut self) -> Subscriber {
        loop {
            match self.client.queue_subscribe(SUBJECTS, QUEUE.to_owned()).await {
                Ok(messages) => {
                    tracing::info!("answering for admission over NATS");
                    return messages;
                }
                Err(error) => tracing::warn!(%error, "admission over NATS is not served"),
            }
            self.connect_again().await;
        }
    }

    async fn reconnect(&mut self, stop: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = self.connect_again() => {}
            () = told(stop) => {}
        }
    }

    async fn connect_again(&mut self) {
        loop {
            match connect(&self.options).await {
                Ok(client) => {
                    self.client = client;
                    return;
                }
                Err(error) => tracing::warn!(%error, "admission over NATS is not served"),
            }
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn answer_all(&mut self, messages: &mut Subscriber) {
        while let Some(message) = messages.next().await {
            self.answer(message).await;
        }
    }

    /// Ends the subscription, and answers what has arrived: a node that is not the owner any more says so.
    async fn close(&mut self, mut messages: Subscriber) {
        let rest = async {
            if messages.drain().await.is_ok() {
                self.answer_all(&mut messages).await;
            }
            self.client.flush().await.is_ok()
        };
        if !matches!(tokio::time::timeout(DRAIN_MAX, rest).await, Ok(true)) {
            tracing::warn!("the last answers about admission may not have left; those who asked ask again");
        }
    }

    /// Answers one message. Waits only while the client's buffer is full: then the server does not take what it holds.
    async fn answer(&mut self, message: Message) {
        let Some(reply) = message.reply.as_ref().filter(|reply| answerable(reply)) else {
            self.ignore(&message);
            return;
        };
        let reply = reply.clone();
        let answer = self.decide(&message);
        let sent = if answer.code.is_some() {
            self.client.publish_with_headers(reply, headers(&answer), answer.body).await
        } else {
            self.client.publish(reply, answer.body).await
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "an answer about admission did not leave; whoever asked asks again");
        }
    }

    /// Decides about one message. Everybody who may publish here may ask for every organization (decision record 12).
    fn decide(&self, message: &Message) -> Reply {
        let (admissions, payload) = (self.node.admissions(), &message.payload);
        if payload.len() > PAYLOAD_MAX {
            return Problem::too_large(format!("at most {PAYLOAD_MAX} bytes about one request")).into();
        }
        match message.subject.strip_prefix(PREFIX).unwrap_or_default() {
            "admit" => reply::admit(admissions, payload, None),
            "settle" => reply::settle(admissions, sent::Door::Nats, payload, None),
            "release" => reply::release(admissions, sent::Door::Nats, payload, None),
            "renew" => reply::renew(admissions, sent::Door::Nats, payload, None),
            other => Problem::not_found(format!(
                "there is no operation {other:?}: it is admit, settle, release or renew"
            ))
            .into(),
        }
    }

    /// Nobody waits for an answer, or it must not go where it should (docs/decisions/0012-nats-accounts.md): nothing is
    /// decided, or a lease would be taken for nobody.
    fn ignore(&mut self, message: &Message) {
        metrics::rpc_ignored("no_inbox");
        if !self.warned {
            self.warned = true;
            tracing::warn!(
                subject = %message.subject,
                reply = message.reply.as_deref(),
                "somebody asks about admission and names no reply that begins with `_INBOX` (said once)"
            );
        }
    }
}

async fn connect(options: &JetStreamOptions) -> Result<Client, DoorError> {
    let dropped = || metrics::rpc_ignored("no_room");
    Ok(connect_losing(options, "tollbook admission", WAITING_MAX, dropped).await?)
}

/// Waits until a node owns every partition.
async fn owns_all(node: &Node) {
    loop {
        for owner in node.owners() {
            if owner.wait_owner().await.is_err() {
                // It is stopping; whoever waits is told.
                std::future::pending::<()>().await;
            }
        }
        if node.owners().all(|owner| owner.role() == Role::Owner) {
            return;
        }
    }
}

/// Waits until a node does not own every partition.
async fn owns_less(node: &Node) {
    let ends = node.owners().map(|owner| {
        let mut roles = owner.roles();
        // An owner that is gone owns nothing.
        Box::pin(async move { roles.wait_for(|role| *role != Role::Owner).await.is_ok() })
    });
    select_all(ends).await;
}

/// The headers of a refusal or an error: those of HTTP, and what NATS services add.
fn headers(answer: &Reply) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ERROR_STATUS, HeaderValue::from(answer.status.as_u16()));
    headers.insert(ERROR_CODE, HeaderValue::from(answer.code.unwrap_or_default()));
    for (name, value) in &answer.headers {
        let name = HeaderName::from_str(spelt(name.as_str()));
        let value = value.to_str().ok().and_then(|value| HeaderValue::from_str(value).ok());
        if let (Ok(name), Some(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    headers
}

/// As documented: over NATS the case of headers counts.
fn spelt(name: &str) -> &str {
    match name {
        "content-type" => "Content-Type",
        "ratelimit" => "RateLimit",
        "ratelimit-policy" => "RateLimit-Policy",
        "retry-after" => "Retry-After",
        "www-authenticate" => "WWW-Authenticate",
        other => other,
    }
}
