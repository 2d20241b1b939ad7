//! The spool: a stream that takes usage while no engine is up, and what empties it.
//!
//! ```text
//! TOLLBOOK_SPOOL ─ pull ─> good events ─> Node::submit ──┐
//!                          the others ──> Node::quarantine ┴─ durable ─> acknowledged, gone from the stream
//! ```
//!
//! It has an account and a key of its own, and one replica: `docs/decisions/0012-nats-accounts.md` says why. What was
//! written but not acknowledged comes again, and the fold tells it as a repetition (R8.2).

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::message::AckKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream};
use async_nats::{Client, Message, jetstream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Ingress;

use super::PAYLOAD_MAX;
use super::delivery::Delivery;
use super::pull::{Pull, PullError};
use crate::config::SpoolConfig;
use crate::ingress::IngressError;
use crate::log::jetstream::{JetStreamOptions, OpenError, WrongSetting, connect_as};
use crate::node::Node;
use crate::owner::told;

/// The stream.
pub const STREAM: &str = "TOLLBOOK_SPOOL";
/// The durable consumer that all engines share.
pub const CONSUMER: &str = "engine";
const SUBJECTS: &str = "tollbook.spool.*";
/// A payload as over NATS otherwise, and room for headers. The server refuses longer ones to their sender.
const MESSAGE_MAX: usize = PAYLOAD_MAX + 64 * 1024;
/// The least that the server takes. Message ids are unique per stream, so a longer window lets one sender hide another's.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);
/// Messages under way at once: enough to keep the log's group commit busy, few enough that the longest fit into memory.
const IN_FLIGHT_MAX: usize = 64;
/// After which what was not acknowledged comes again: longer than an append is tried, so that what is still under way
/// does not.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// Messages that may be unacknowledged: all engines' in flight, and what waits to be tried again.
const ACK_PENDING_MAX: i64 = 1_024;
/// When what could not be written comes again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long one question to JetStream waits.
const API_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause before the stream is looked for again: its only node may be away for long.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why the spool is not emptied just now. It is tried again.
#[derive(Debug, thiserror::Error)]
enum SpoolError {
    #[error("stream {STREAM} is not set as a spool must be: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Settings(Vec<WrongSetting>),
    #[error("cannot {what}: {reason}")]
    JetStream { what: &'static str, reason: String },
    #[error(transparent)]
    Pull(#[from] PullError),
}

/// Why one message stays in the spool for now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Ingress(#[from] IngressError),
    #[error("written, but not acknowledged: {0}")]
    Acknowledge(String),
}

/// The connection to the spool. A new one takes its place after every trouble: the client library may have panicked in
/// the old one, over headers that a publisher chose.
#[derive(Clone, Debug)]
pub struct Spool {
    options: JetStreamOptions,
    config: SpoolConfig,
    client: Client,
    context: Context,
}

impl Spool {
    /// Connects to the log's servers with the spool's credentials. Errors: servers or credentials are wrong; a stream that
    /// is away is none.
    pub async fn connect(options: JetStreamOptions, config: SpoolConfig) -> Result<Self, OpenError> {
        let client = connect_as(&options, &config.credentials, "tollbook spool").await?;
        let context = ContextBuilder::new().timeout(API_TIMEOUT).build(client.clone());
        Ok(Self { options, config, client, context })
    }

    /// Empties the spool until told to stop, through restarts of its server. Ends when what it took is written.
    pub async fn run(self, node: Node, mut stop: watch::Receiver<bool>) {
        let mut work = Work { spool: self, node, tasks: JoinSet::new(), trouble: false };
        let mut backoff = BACKOFF.0;
        while let Err(error) = work.empty(&mut stop, &mut backoff).await {
            tracing::warn!(%error, "the spool is not emptied; trying again");
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = told(&mut stop) => break,
            }
            backoff = backoff.saturating_mul(2).min(BACKOFF.1);
            tokio::select! {
                () = work.reconnect() => {}
                () = told(&mut stop) => break,
            }
        }
        while let Some(ended) = work.tasks.join_next().await {
            work.note(ended);
        }
    }

    /// Finds or creates stream and consumer.
    async fn open(&self) -> Result<(), SpoolError> {
        let wanted = self.config();
        let failed = |what, reason: String| SpoolError::JetStream { what, reason };
        let stream = match self.context.get_stream(STREAM).await {
            Ok(stream) => stream,
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(answer) if answer.error_code().0 == 10059 => self
                    .context
                    .create_stream(wanted.clone())
                    .await
                    .map_err(|error| failed("create the stream", error.to_string()))?,
                GetStreamErrorKind::JetStream(_)
                | GetStreamErrorKind::Request
                | GetStreamErrorKind::EmptyName
                | GetStreamErrorKind::InvalidStreamName => {
                    return Err(failed("find the stream", error.to_string()));
                }
            },
        };
        verify(&stream, &wanted)?;
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            max_ack_pending: ACK_PENDING_MAX,
            // Nothing is ever given up.
            max_deliver: -1,
            ..Default::default()
        };
        stream
            .create_consumer(consumer)
            .await
            .map(drop)
            .map_err(|error| failed("create the consumer", error.to_string()))
    }

    fn config(&self) -> Config {
        Config {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECTS.to_owned()],
            retention: RetentionPolicy::WorkQueue,
            storage: StorageType::File,
            num_replicas: 1,
            discard: DiscardPolicy::New,
            max_bytes: self.config.max_bytes,
            max_message_size: i32::try_from(MESSAGE_MAX).unwrap_or(i32::MAX),
            max_age: Duration::ZERO,
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("usage for Tollbook, until an engine has written it".to_owned()),
            ..Default::default()
        }
    }
}

/// What must be as it is; sizes are the operator's.
fn verify(stream: &Stream, wanted: &Config) -> Result<(), SpoolError> {
    let found = &stream.cached_info().config;
    let pairs = [
        ("subjects", format!("{:?}", found.subjects), format!("{:?}", wanted.subjects)),
        ("retention", format!("{:?}", found.retention), format!("{:?}", wanted.retention)),
        ("storage", format!("{:?}", found.storage), format!("{:?}", wanted.storage)),
        ("num_replicas", found.num_replicas.to_string(), wanted.num_replicas.to_string()),
        ("discard", format!("{:?}", found.discard), format!("{:?}", wanted.discard)),
        ("max_age", format!("{:?}", found.max_age), format!("{:?}", wanted.max_age)),
    ];
    let wrong: Vec<_> = pairs
        .into_iter()
        .filter(|(_, found, wanted)| found != wanted)
        .map(|(setting, found, wanted)| WrongSetting { setting, found, wanted })
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(SpoolError::Settings(wrong)) }
}

/// Messages under way.
struct Work {
    spool: Spool,
    node: Node,
    tasks: JoinSet<Result<(), Trouble>>,
    /// Whether the last message could not be written or acknowledged; what changes is said, not every message.
    trouble: bool,
}

impl Work {
    /// Puts a new connection in the place of the old one, if it can be had; messages under way keep theirs.
    async fn reconnect(&mut self) {
        match Spool::connect(self.spool.options.clone(), self.spool.config.clone()).await {
            Ok(spool) => self.spool = spool,
            Err(error) => tracing::warn!(%error, "the spool cannot be reached"),
        }
    }

    /// Takes messages until told to stop. Errors: something is wrong with the stream.
    async fn empty(
        &mut self,
        stop: &mut watch::Receiver<bool>,
        backoff: &mut Duration,
    ) -> Result<(), SpoolError> {
        tokio::select! {
            opened = self.spool.open() => opened?,
            () = told(stop) => return Ok(()),
        }
        let mut pull = Pull::start(&self.spool.client, STREAM, CONSUMER).await?;
        let ended = loop {
            let room = IN_FLIGHT_MAX.saturating_sub(self.tasks.len());
            // Asked for in halves, or there would be a request for each message.
            let wanted = pull.is_due() || room >= IN_FLIGHT_MAX / 2;
            tokio::select! {
                message = pull.next(room), if wanted => match message {
                    Ok(message) => {
                        *backoff = BACKOFF.0;
                        self.begin(message);
                    }
                    Err(error) => break Err(error.into()),
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => self.note(ended),
                () = told(stop) => break Ok(()),
            }
        };
        // Another engine, or this one soon, need not wait for these.
        for message in pull.rest() {
            self.spooled(message).put_back(None).await;
        }
        ended
    }

    fn spooled(&self, message: Message) -> Spooled {
        let context = self.spool.context.clone();
        Spooled {
            client: self.spool.client.clone(),
            node: self.node.clone(),
            message: jetstream::Message { message, context },
        }
    }

    fn begin(&mut self, message: Message) {
        let spooled = self.spooled(message);
        self.tasks.spawn(spooled.take());
    }

    fn note(&mut self, ended: Result<Result<(), Trouble>, JoinError>) {
        match ended {
            Ok(Ok(())) if self.trouble => {
                self.trouble = false;
                tracing::info!("spooled usage is written again");
            }
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                if !self.trouble {
                    tracing::warn!(%error, "spooled usage stays in the spool; trying again");
                }
                self.trouble = true;
            }
            Err(error) => tracing::error!(%error, "a spooled message was not handled; it comes again"),
        }
    }
}

/// One message of the spool.
struct Spooled {
    client: Client,
    node: Node,
    message: jetstream::Message,
}

impl Spooled {
    /// Writes what it brings, and only then lets the stream forget it.
    async fn take(self) -> Result<(), Trouble> {
        let info = self.message.info().map_err(|error| Trouble::Acknowledge(error.to_string()))?;
        let ingress =
            Ingress::Spool { sequence: info.stream_sequence, subject: self.message.subject.to_string() };
        // An event without a time occurred about when it was spooled; never later than now, should the clocks differ.
        let published = i64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        let delivery = Delivery {
            arrived: Timestamp::from_nanos(published).min(self.node.clock().now()),
            subject: self.message.subject.to_string(),
            headers: None,
            payload: self.message.payload.clone(),
        };
        if let Err(error) = delivery.sort(&ingress).take(&self.node, "spool").await {
            self.put_back(Some(RETRY_AFTER)).await;
            return Err(error.into());
        }
        self.acknowledge().await.map_err(Trouble::Acknowledge)
    }

    /// Waits for the server's confirmation.
    async fn acknowledge(&self) -> Result<(), String> {
        let reply = self.message.reply.clone().unwrap_or_else(|| "".into());
        let answer = self.client.request(reply, AckKind::Ack.into()).await;
        answer.map(drop).map_err(|error| error.to_string())
    }

    async fn put_back(&self, after: Option<Duration>) {
        let reply = self.message.reply.clone().unwrap_or_else(|| "".into());
        if let Err(error) = self.client.publish(reply, AckKind::Nak(after).into()).await {
            tracing::debug!(%error, "a spooled message could not be put back; it comes again by itself");
        }
    }
}
