//! The log on NATS JetStream.
//!
//! ```text
//! append ──> semaphore ──> publish with id ──> ack: sequence ──> own entries in memory ──┐
//!                             ^  retry, same id                                          ├──> tail
//!                             └─ conflict: read back, compare ids    consumer of stream ─┘
//! ```
//!
//! One stream per partition, one message per entry. Decision record: `docs/decisions/0011-jetstream-log.md`.

mod append;
mod beside;
pub(crate) mod bucket;
mod check;
mod connect;
mod own;
mod tail;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::datetime::DateTime;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tollbook_schemas::position::{PartitionId, Position};

pub(crate) use self::beside::{Beside, Put};
pub use self::check::{OpenError, WrongSetting};
pub(crate) use self::connect::connect_losing;
pub use self::connect::{Credentials, JetStreamOptions, connect_as};
use self::own::Own;
use super::{Append, AppendError, EventLog, ReadError, Stored, Tail, Topic};

/// Enough for the server to sync hundreds of entries at once; more would only wait there, 40 kB each.
const IN_FLIGHT_MAX: usize = 512;

/// How long one attempt waits. Seven times the slowest full queue seen (512 entries at 700 syncs a second).
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one question waits: a leader that died must not hold up its successor's answer.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// First pause before another attempt.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// Longest pause before another attempt: an election takes seconds, and its end should be seen soon.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long a read is tried again before it is reported: an election and some more.
const READ_DEADLINE: Duration = Duration::from_secs(15);

/// Header that carries the entry's id.
const ID_HEADER: &str = "Nats-Msg-Id";

/// Only epoch 0 exists, and its base is 0; sealing a year would add others here and in [`stream_name`].
const EPOCH: u32 = 0;
const EPOCH_BASE: u64 = 0;

/// The position of a stream's sequence.
const fn position_of(sequence: u64) -> Position {
    Position(EPOCH_BASE.saturating_add(sequence))
}

/// The stream's sequence of a position; 0 is before the first.
const fn sequence_of(position: Position) -> u64 {
    position.0.saturating_sub(EPOCH_BASE)
}

/// The stream that holds `partition`.
pub fn stream_name(partition: PartitionId) -> String {
    format!("TOLLBOOK_LOG_{partition}_{EPOCH}")
}

/// One ledger's log on a JetStream cluster. Cheap to clone.
#[derive(Clone)]
pub struct JetStream {
    shared: Arc<Shared>,
}

struct Shared {
    /// For appends.
    appending: Context,
    /// For everything that is asked again soon.
    context: Context,
    options: JetStreamOptions,
    replicas: usize,
    partitions: Vec<Arc<Partition>>,
    in_flight: Semaphore,
    /// Counts established connections: acknowledgements of before will not come any more.
    connections: watch::Receiver<u64>,
}

struct Partition {
    id: PartitionId,
    name: String,
    stream: Stream<()>,
    created: DateTime,
    own: Arc<Own>,
}

impl fmt::Debug for JetStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "JetStream({} partitions at {})",
            self.shared.partitions.len(),
            self.shared.options.urls.join(",")
        )
    }
}

impl JetStream {
    /// Connects, verifies servers and streams, and creates missing streams. Errors: what is wrong and what to do;
    /// nothing is ever changed on an existing stream.
    pub async fn open(options: JetStreamOptions, partitions: u16) -> Result<Self, OpenError> {
        let (client, connections) = connect::connect(&options).await?;
        let servers = check::servers(&options, &client).await?;
        let replicas = options.replicas.unwrap_or(if servers >= 3 { 3 } else { 1 });
        let context = ContextBuilder::new()
            .timeout(ATTEMPT_TIMEOUT)
            // Given-up attempts hold a permit for 30 s; several rounds of them must not block the next.
            .max_ack_inflight(IN_FLIGHT_MAX.saturating_mul(16))
            .build(client.clone());
        let reading = ContextBuilder::new().timeout(READ_TIMEOUT).build(client);
        let mut found = Vec::new();
        // The first is created last: whoever sees it sees all.
        for number in (0..partitions).rev() {
            let id = PartitionId(number);
            let info = check::stream(&context, id, partitions, replicas).await?;
            let stream = reading.get_stream_no_info(stream_name(id)).await.map_err(|error| {
                OpenError::JetStream { what: "look up the stream", reason: error.to_string() }
            })?;
            let own = Arc::new(Own::default());
            found.push(Arc::new(Partition { id, name: stream_name(id), stream, created: info.created, own }));
        }
        found.reverse();
        let shared = Shared {
            appending: context,
            context: reading,
            options,
            replicas,
            partitions: found,
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            connections,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Verifies once more that every server syncs before it acknowledges, as one may have come back changed.
    pub async fn verify_servers(&self) -> Result<(), OpenError> {
        check::servers(&self.shared.options, &self.shared.appending.client()).await.map(drop)
    }

    /// The connection, for what else stands on the same servers: leases, alerts, seals.
    pub fn context(&self) -> &Context {
        &self.shared.context
    }

    /// How many copies of each stream there are.
    pub fn replicas(&self) -> usize {
        self.shared.replicas
    }

    /// The broker's clock minus ours, in milliseconds; half the round trip uncertain. `now_ms` reads our clock.
    pub async fn broker_offset_ms(&self, now_ms: impl Fn() -> i64 + Send) -> Result<i64, ReadError> {
        #[derive(Deserialize)]
        struct Answer {
            ts: String,
        }
        let subject = format!("$JS.API.STREAM.INFO.{}", stream_name(PartitionId(0)));
        let before = now_ms();
        let answer = self.shared.context.client().request(subject, bytes::Bytes::new()).await;
        let after = now_ms();
        let answer = answer.map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let answer: Answer = serde_json::from_slice(&answer.payload)
            .map_err(|error| ReadError::Unavailable(error.to_string()))?;
        let at: jiff::Timestamp =
            answer.ts.parse().map_err(|error: jiff::Error| ReadError::Unavailable(error.to_string()))?;
        let middle = before.saturating_add(after.saturating_sub(before) / 2);
        Ok(at.as_millisecond().saturating_sub(middle))
    }
}

impl Shared {
    fn partition(&self, id: PartitionId) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::from(id.0))
    }

    fn readable(&self, id: PartitionId) -> Result<&Arc<Partition>, ReadError> {
        self.partition(id).ok_or_else(|| ReadError::Unavailable(format!("there is no partition {id}")))
    }
}

impl Partition {
    fn corrupt(&self, position: Position, reason: impl Into<String>) -> ReadError {
        ReadError::Corrupt { partition: self.id, position, reason: reason.into() }
    }

    /// The message at `sequence`, asked from the stream's leader.
    async fn message(&self, sequence: u64) -> Result<Option<StreamMessage>, RawMessageError> {
        found(self.stream.get_raw_message(sequence).await)
    }

    /// The last message of `subject`, asked from the stream's leader.
    async fn last_message(&self, subject: &str) -> Result<Option<StreamMessage>, RawMessageError> {
        found(self.stream.get_last_raw_message_by_subject(subject).await)
    }
}

/// Tells "there is none" from a failure.
fn found(answer: Result<StreamMessage, RawMessageError>) -> Result<Option<StreamMessage>, RawMessageError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn stored(message: StreamMessage) -> Stored {
    Stored {
        position: position_of(message.sequence),
        subject: message.subject.to_string(),
        payload: message.payload,
    }
}

/// Waits before another attempt, each time longer.
async fn pause(backoff: &mut Duration) {
    tokio::time::sleep(*backoff).await;
    *backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
}

/// Tries a read until it succeeds or [`READ_DEADLINE`] is over.
async fn reading<T, E, F, Fut>(mut read: F) -> Result<T, ReadError>
where
    E: fmt::Display,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut reason = "no answer".to_owned();
    let attempts = async {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match read().await {
                Ok(value) => return value,
                Err(error) => reason = error.to_string(),
            }
            pause(&mut backoff).await;
        }
    };
    let answer = tokio::time::timeout(READ_DEADLINE, attempts).await;
    answer.map_err(|_| ReadError::Unavailable(reason))
}

impl EventLog for JetStream {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Position, AppendError>> {
        Box::pin(append::append(&self.shared, append))
    }

    fn last(&self, partition: PartitionId) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            let partition = self.shared.readable(partition)?;
            let info = reading(|| partition.stream.get_info()).await?;
            Ok(position_of(info.state.last_sequence))
        })
    }

    fn last_of(&self, partition: PartitionId, topic: Topic) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            let subject = topic.subject(partition);
            let partition = self.shared.readable(partition)?;
            let last = reading(|| partition.last_message(&subject)).await?;
            Ok(last.map_or(Position::ZERO, |message| position_of(message.sequence)))
        })
    }

    fn tail(&self, partition: PartitionId, after: Position) -> Tail {
        match self.shared.readable(partition) {
            Ok(partition) => tail::tail(Arc::clone(partition), after),
            Err(error) => Box::pin(futures_util::stream::iter([Err(error)])),
        }
    }

    fn get(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> BoxFuture<'_, Result<Option<Stored>, ReadError>> {
        Box::pin(async move {
            let partition = self.shared.readable(partition)?;
            if position == Position::ZERO {
                return Ok(None);
            }
            if let Some(message) = reading(|| partition.message(sequence_of(position))).await? {
                return Ok(Some(stored(message)));
            }
            let info = reading(|| partition.stream.get_info()).await?;
            if info.state.last_sequence >= sequence_of(position) {
                // It may have been appended between the two questions.
                let again = reading(|| partition.message(sequence_of(position))).await?;
                let missing = || partition.corrupt(position, "the entry is missing");
                return again.map(stored).map(Some).ok_or_else(missing);
            }
            Ok(None)
        })
    }
}
