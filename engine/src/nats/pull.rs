//! Taking messages from a durable consumer: one request at a time, for as many as there is room for, asked again when it
//! is not answered. Whatever carries an acknowledgement subject is a message, whatever status its header names; the rest
//! is from the server.

use std::pin::Pin;
use std::time::Duration;

use async_nats::{Client, Message, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::Sleep;

/// What the server itself may acknowledge: it sets this subject, and no client may name one under it.
const ACKNOWLEDGE: &str = "$JS.ACK.";
/// How long the server keeps one request for messages. After a reconnection it knows of none any more, so this is also
/// how long it takes to notice.
const EXPIRES: Duration = Duration::from_secs(3);
/// How much later than the server this side gives a request up.
const GRACE: Duration = Duration::from_secs(1);

/// Why nothing more comes.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    /// The client cannot send or subscribe.
    #[error("cannot ask for messages: {0}")]
    Client(String),
    /// The server ended the request; the consumer may be gone.
    #[error("the server says {status} {description}")]
    Server {
        /// As in HTTP.
        status: u16,
        /// The server's words.
        description: String,
    },
}

/// Asks for messages, one request at a time.
pub(super) struct Pull {
    client: Client,
    /// Where requests go.
    subject: String,
    inbox: String,
    messages: Subscriber,
    /// Messages of the last request that have not come yet.
    due: usize,
    /// When the last request is given up.
    over: Pin<Box<Sleep>>,
}

impl Pull {
    /// From consumer `consumer` of `stream`.
    pub(super) async fn start(client: &Client, stream: &str, consumer: &str) -> Result<Self, PullError> {
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await.map_err(failed)?;
        Ok(Self {
            client: client.clone(),
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"),
            inbox,
            messages,
            due: 0,
            over: Box::pin(tokio::time::sleep(Duration::ZERO)),
        })
    }

    /// Whether messages may still come of what was asked for.
    pub(super) const fn is_due(&self) -> bool {
        self.due > 0
    }

    /// The next message. Asks for up to `room` if nothing is due. Waits as long as there is none; may be dropped while it
    /// waits.
    pub(super) async fn next(&mut self, room: usize) -> Result<Message, PullError> {
        loop {
            if self.due == 0 {
                self.ask(room.max(1)).await?;
            }
            tokio::select! {
                message = self.messages.next() => {
                    let message = message.ok_or_else(|| PullError::Client("the connection was closed".to_owned()))?;
                    if is_stored(&message) {
                        self.due = self.due.saturating_sub(1);
                        return Ok(message);
                    }
                    self.heed(&message)?;
                }
                () = &mut self.over => self.due = 0,
            }
        }
    }

    /// What has come already, when nothing more is wanted.
    pub(super) fn rest(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            if is_stored(&message) {
                rest.push(message);
            }
        }
        rest
    }

    async fn ask(&mut self, room: usize) -> Result<(), PullError> {
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let request = json!({ "batch": room, "expires": expires }).to_string();
        self.client
            .publish_with_reply(self.subject.clone(), self.inbox.clone(), request.into())
            .await
            .map_err(failed)?;
        self.due = room;
        self.over.set(tokio::time::sleep(EXPIRES.saturating_add(GRACE)));
        Ok(())
    }

    /// Something that the server says about the request.
    fn heed(&mut self, message: &Message) -> Result<(), PullError> {
        match message.status.map(|status| status.as_u16()) {
            // Its time is over, or there are none.
            Some(404 | 408) => self.due = 0,
            // A heartbeat, or something that is not for us.
            Some(100) | None => {}
            Some(status) => {
                let description = message.description.clone().unwrap_or_default();
                return Err(PullError::Server { status, description });
            }
        }
        Ok(())
    }
}

fn is_stored(message: &Message) -> bool {
    message.reply.as_ref().is_some_and(|reply: &Subject| reply.starts_with(ACKNOWLEDGE))
}

fn failed(error: impl std::fmt::Display) -> PullError {
    PullError::Client(error.to_string())
}
