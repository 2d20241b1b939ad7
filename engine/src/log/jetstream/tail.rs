//! Reading a partition in order, for ever, through restarts and elections.
//!
//! ```text
//! at the start, when idle, and while others append:  consumer ──────────────────────────┐
//! while all comes from this process:  own entries, as acknowledged ─────────────────────┼──> next position
//!                                     none for 50 ms, or a hole for 5 ms: ask for it ───┘
//! ```
//!
//! A plain pull consumer, not the client's ordered one: that recreates itself, and forgets where to start when it
//! had not delivered anything yet. Here every trouble ends the consumer, and a new one starts at the next position.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Info;
use futures_util::StreamExt;
use tollbook_schemas::position::Position;

use super::append::server_code;
use super::own::{Body, Reader};
use super::{BACKOFF_FIRST, ID_HEADER, Partition, pause, position_of, sequence_of, stored};
use crate::log::{ReadError, Stored, Tail};

/// Messages per pull: thousands of entries a second need few pulls.
const BATCH: usize = 500;

/// Bytes per pull; bounds what a tail buffers, as entries may have 1 MiB.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// A consumer whose server died is noticed within this time: no heartbeat for twice half of it.
const PULL_EXPIRES: Duration = Duration::from_secs(2);

/// The server forgets a consumer nobody pulls from.
const CONSUMER_IDLE: Duration = Duration::from_secs(10);

/// After so many own entries in a row, reading them back from the server is given up.
const OWN_STREAK: u32 = 64;

/// After so many foreign entries in a row, a consumer is cheaper than asking for each.
const FOREIGN_STREAK: u32 = 8;

/// How late a foreign entry may be noticed while own ones are read from memory.
const FOREIGN_AFTER: Duration = Duration::from_millis(50);

/// Acknowledgements may overtake each other by less than this.
const HOLE_AFTER: Duration = Duration::from_millis(5);

/// After so many questions in vain nobody appends: a consumer waits without asking.
const IDLE_STREAK: u32 = 20;

/// How often a loss must be seen, a second apart: a leader just elected may not have applied everything yet.
const CONFIRMATIONS: u32 = 12;

/// The stream of entries after `after`.
pub(super) fn tail(partition: Arc<Partition>, after: Position) -> Tail {
    let sequence = sequence_of(after);
    let own = partition.own.reader(sequence);
    let state = State {
        partition,
        own,
        sequence,
        consumer: None,
        from_memory: false,
        own_streak: 0,
        foreign_streak: 0,
        idle_streak: 0,
        suspicions: 0,
        backoff: BACKOFF_FIRST,
        ended: false,
    };
    Box::pin(futures_util::stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let item = state.next().await;
        state.ended = item.is_err();
        Some((item, state))
    }))
}

struct State {
    partition: Arc<Partition>,
    own: Reader,
    /// The last sequence that was given out.
    sequence: u64,
    consumer: Option<Consumer>,
    /// Own entries come from memory, and nothing is read back.
    from_memory: bool,
    own_streak: u32,
    foreign_streak: u32,
    idle_streak: u32,
    suspicions: u32,
    backoff: Duration,
    ended: bool,
}

struct Consumer {
    messages: pull::Stream,
    /// It must not deliver anything before.
    start: u64,
}

/// Why there is no consumer.
enum Trouble {
    /// Try again.
    Later(String),
    /// Looks like a loss; certain only when seen again and again.
    Suspect(ReadError),
    /// A loss.
    Certain(ReadError),
}

impl State {
    async fn next(&mut self) -> Result<Stored, ReadError> {
        loop {
            if let Some(body) = self.own.at(self.sequence.saturating_add(1)) {
                self.own_streak = self.own_streak.saturating_add(1);
                self.foreign_streak = 0;
                return Ok(self.give(body));
            }
            match self.step().await {
                Ok(Some(stored)) => return Ok(stored),
                Ok(None) => {}
                Err(Trouble::Certain(error)) => return Err(error),
                Err(Trouble::Suspect(error)) => {
                    self.consumer = None;
                    self.suspicions = self.suspicions.saturating_add(1);
                    tracing::error!(%error, seen = self.suspicions, "the log seems damaged");
                    if self.suspicions >= CONFIRMATIONS {
                        return Err(error);
                    }
                    self.backoff = super::BACKOFF_MAX;
                    pause(&mut self.backoff).await;
                }
                Err(Trouble::Later(reason)) => {
                    self.consumer = None;
                    tracing::warn!(partition = %self.partition.id, reason, "reading the log again");
                    pause(&mut self.backoff).await;
                }
            }
        }
    }

    /// Waits for one thing to happen; gives an entry if it was the next one.
    async fn step(&mut self) -> Result<Option<Stored>, Trouble> {
        let others = self.foreign_streak >= FOREIGN_STREAK || self.idle_streak >= IDLE_STREAK;
        if self.from_memory && others {
            self.from_memory = false;
            self.own_streak = 0;
        } else if !self.from_memory && self.own_streak >= OWN_STREAK {
            self.from_memory = true;
            self.foreign_streak = 0;
            self.idle_streak = 0;
        }
        if self.from_memory {
            self.consumer = None;
            return self.step_from_memory().await;
        }
        let consumer = match self.consumer.take() {
            Some(consumer) => self.consumer.insert(consumer),
            None => {
                let opened = self.open().await?;
                self.suspicions = 0;
                self.consumer.insert(opened)
            }
        };
        let start = consumer.start;
        let message = tokio::select! {
            biased;
            () = self.own.changed() => return Ok(None),
            message = consumer.messages.next() => message,
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(Trouble::Later(error.to_string())),
            None => return Err(Trouble::Later("the consumer ended".to_owned())),
        };
        self.backoff = BACKOFF_FIRST;
        let sequence = match message.info() {
            Ok(info) => info.stream_sequence,
            Err(error) => return Err(Trouble::Later(error.to_string())),
        };
        let next = self.sequence.saturating_add(1);
        if sequence < start {
            return Err(Trouble::Later(format!("the consumer restarted at {sequence}, before {start}")));
        }
        if sequence < next {
            // Given out before, from memory.
            return Ok(None);
        }
        if sequence > next {
            return Err(self.gap(next, sequence).await);
        }
        Ok(Some(self.take(message)))
    }

    /// The next entry came with its payload.
    fn take(&mut self, message: jetstream::Message) -> Stored {
        // Before its acknowledgement was seen, an own entry looks like a foreign one.
        if message
            .headers
            .as_ref()
            .and_then(|headers| headers.get(ID_HEADER))
            .is_some_and(|id| self.own.in_flight(id.as_str()).is_some())
        {
            self.own_streak = self.own_streak.saturating_add(1);
        } else {
            self.own_streak = 0;
        }
        self.give(Body { subject: message.subject.to_string(), payload: message.message.payload })
    }

    /// Waits for the next own entry; asks for a foreign one when it does not come.
    async fn step_from_memory(&mut self) -> Result<Option<Stored>, Trouble> {
        let next = self.sequence.saturating_add(1);
        let hole = self.own.reaches_beyond(next);
        let patience = if hole { HOLE_AFTER } else { FOREIGN_AFTER };
        if tokio::time::timeout(patience, self.own.arrives(next)).await.is_ok() {
            return Ok(None);
        }
        match self.partition.message(next).await {
            Ok(Some(message)) => {
                self.foreign_streak = self.foreign_streak.saturating_add(1);
                self.own_streak = 0;
                let Stored { subject, payload, .. } = stored(message);
                Ok(Some(self.give(Body { subject, payload })))
            }
            Ok(None) if hole => Err(self.gap(next, next.saturating_add(1)).await),
            Ok(None) => {
                self.idle_streak = self.idle_streak.saturating_add(1);
                self.own_streak = 0;
                Ok(None)
            }
            Err(error) => Err(Trouble::Later(error.to_string())),
        }
    }

    fn give(&mut self, body: Body) -> Stored {
        self.sequence = self.sequence.saturating_add(1);
        self.own.passed(self.sequence);
        self.idle_streak = 0;
        Stored { position: position_of(self.sequence), subject: body.subject, payload: body.payload }
    }

    /// The consumer skipped from before `next` to `sequence`: messages lost on the way here, or from the stream.
    async fn gap(&self, next: u64, sequence: u64) -> Trouble {
        match self.partition.message(next).await {
            Ok(Some(_)) => Trouble::Later(format!("the consumer skipped from {next} to {sequence}")),
            Ok(None) => Trouble::Suspect(self.partition.corrupt(position_of(next), "the entry is missing")),
            Err(error) => Trouble::Later(error.to_string()),
        }
    }

    async fn open(&self) -> Result<Consumer, Trouble> {
        let later = |reason: String| Trouble::Later(reason);
        match self.partition.stream.get_info().await {
            Ok(info) => self.check(&info)?,
            Err(error) => {
                if server_code(&error) == Some(10059) {
                    let next = position_of(self.sequence.saturating_add(1));
                    return Err(Trouble::Suspect(self.partition.corrupt(next, "the stream is gone")));
                }
                return Err(later(error.to_string()));
            }
        }
        let start = self.sequence.saturating_add(1);
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start },
            ack_policy: AckPolicy::None,
            inactive_threshold: CONSUMER_IDLE,
            num_replicas: 1,
            memory_storage: true,
            ..Default::default()
        };
        let consumer =
            self.partition.stream.create_consumer(config).await.map_err(|error| later(error.to_string()))?;
        let mut pull = consumer.stream().max_messages_per_batch(BATCH).expires(PULL_EXPIRES);
        pull = pull.heartbeat(PULL_EXPIRES / 2).max_bytes_per_batch(BATCH_BYTES);
        let messages = pull.messages().await.map_err(|error| later(error.to_string()))?;
        Ok(Consumer { messages, start })
    }

    /// Whether this is still the same stream, with everything in it.
    fn check(&self, info: &Info) -> Result<(), Trouble> {
        let damaged = |position: Position, reason: String| self.partition.corrupt(position, reason);
        let state = &info.state;
        if info.created != self.partition.created {
            let reason =
                format!("the stream was created at {}, not at {}", info.created, self.partition.created);
            return Err(Trouble::Certain(damaged(position_of(1), reason)));
        }
        if state.last_sequence > 0 && state.first_sequence != 1 {
            let reason = format!("the stream begins at {}", position_of(state.first_sequence));
            return Err(Trouble::Suspect(damaged(position_of(1), reason)));
        }
        if state.last_sequence < self.sequence {
            let last = position_of(state.last_sequence);
            let reason = format!("the stream ends at {last}, but {} was read", position_of(self.sequence));
            return Err(Trouble::Suspect(damaged(last.next(), reason)));
        }
        if let Some(deleted) = state.deleted_count.filter(|deleted| *deleted > 0) {
            let next = position_of(self.sequence.saturating_add(1));
            return Err(Trouble::Suspect(damaged(next, format!("{deleted} entries are missing"))));
        }
        Ok(())
    }
}
