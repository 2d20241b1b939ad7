//! Usage in: packs what arrives into entries per partition, appends them, and answers when they are durable.
//!
//! ```text
//! HTTP, NATS, in process ─> submit ─ by partition, bounded ─> packer ─ entry ─> log
//!                              ^                                  └ up to IN_FLIGHT entries at once
//!                              └──────────────── position ─────────────────────────┘
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tollbook_schemas::batch::BatchBuilder;
use tollbook_schemas::codec;
use tollbook_schemas::entry::Body;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::usage::{Unreadable, Usage};

use crate::clock::{Clock, Stopwatch};
use crate::log::{Append, AppendError, EventLog, Topic};
use crate::metrics;
use crate::partition::partition_of;
use crate::writer::{Ticket, Writer};

/// Usage records that may wait per partition before senders are told to come later: a second's worth at full speed.
const WAITING_MAX: usize = 262_144;
/// Requests that may wait per partition.
const PARCELS_MAX: usize = 16_384;
/// Entries in flight per partition: what a group commit or a replicated log needs to stay busy.
const IN_FLIGHT: usize = 64;
/// How long the first record of an entry waits for company while the log is busy anyway.
const LINGER: Duration = Duration::from_millis(2);

/// Why usage was not taken. Nothing was acknowledged; the whole request may be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngressError {
    /// As much waits as may.
    #[error("too much usage is waiting to be written; try again shortly")]
    Busy,
    /// The log could not be written.
    #[error("the log could not be written: {0}")]
    Log(String),
    /// The engine is stopping or its clock is not to be trusted.
    #[error("this engine takes no usage now: {0}")]
    Closed(String),
}

/// The way in for usage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingress {
    lines: Arc<[Line]>,
}

#[derive(Debug)]
struct Line {
    partition: PartitionId,
    parcels: mpsc::Sender<Parcel>,
    room: Arc<Semaphore>,
    /// The highest position that anybody was answered with.
    answered: AtomicU64,
}

/// What one request brings to one partition.
#[derive(Debug)]
struct Parcel {
    what: What,
    /// Given back once the parcel is in the log.
    room: OwnedSemaphorePermit,
    done: oneshot::Sender<Result<Position, IngressError>>,
}

#[derive(Debug)]
enum What {
    Usage(Vec<Usage>),
    Unreadable(Vec<Unreadable>),
}

impl Ingress {
    /// Starts a packer for each writer's partition; writers stand in order of partition. Ends when every clone is
    /// dropped and what was taken is answered.
    pub fn start(log: &Arc<dyn EventLog>, writers: &[Writer], clock: &Clock) -> Self {
        let lines = writers.iter().map(|writer| {
            let (parcels, taken) = mpsc::channel(PARCELS_MAX);
            let packer = Packer {
                log: log.clone(),
                writer: writer.clone(),
                clock: clock.clone(),
                in_flight: Arc::new(Semaphore::new(IN_FLIGHT)),
            };
            tokio::spawn(packer.run(taken));
            Line {
                partition: writer.partition(),
                parcels,
                room: Arc::new(Semaphore::new(WAITING_MAX)),
                answered: AtomicU64::new(0),
            }
        });
        Self { lines: lines.collect() }
    }

    /// Takes checked usage and answers with the last position once all of it is durable. All or nothing is answered
    /// for: after an error the same may be sent again, and what was written before is recognized (R8.2).
    pub async fn submit(&self, usage: Vec<Usage>) -> Result<LogPosition, IngressError> {
        let partitions = u16::try_from(self.lines.len()).unwrap_or(u16::MAX);
        let mut waiting = Vec::new();
        if partitions == 1 {
            let line = self.lines.first().ok_or(IngressError::Busy)?;
            waiting.push((line.partition, line.offer(What::Usage(usage))?));
        } else {
            let mut split: Vec<Vec<Usage>> = self.lines.iter().map(|_| Vec::new()).collect();
            for usage in usage {
                let partition = usize::from(partition_of(&usage.organization, partitions).0);
                if let Some(part) = split.get_mut(partition) {
                    part.push(usage);
                }
            }
            for (line, part) in self.lines.iter().zip(split) {
                if !part.is_empty() {
                    waiting.push((line.partition, line.offer(What::Usage(part))?));
                }
            }
        }
        self.answer(waiting).await
    }

    /// Takes bytes that could not be read and that nobody waits for: they go to quarantine (R8.1).
    pub async fn quarantine(&self, refused: Unreadable) -> Result<LogPosition, IngressError> {
        let partitions = u16::try_from(self.lines.len()).unwrap_or(u16::MAX);
        let partition =
            refused.organization.as_ref().map_or(PartitionId(0), |org| partition_of(org, partitions));
        let line = self.lines.get(usize::from(partition.0)).ok_or(IngressError::Busy)?;
        self.answer(vec![(partition, line.offer(What::Unreadable(vec![refused]))?)]).await
    }

    /// The highest position of a partition that anybody was answered with: reads wait until that is applied.
    pub fn answered(&self, partition: PartitionId) -> Position {
        let line = self.lines.get(usize::from(partition.0));
        line.map_or(Position::ZERO, |line| Position(line.answered.load(Ordering::Acquire)))
    }

    async fn answer(&self, waiting: Vec<(PartitionId, Answer)>) -> Result<LogPosition, IngressError> {
        let mut last = LogPosition { partition: PartitionId(0), position: Position::ZERO };
        for (partition, done) in waiting {
            let position = done.await.map_err(|_| IngressError::Closed("it is stopping".into()))??;
            if let Some(line) = self.lines.get(usize::from(partition.0)) {
                line.answered.fetch_max(position.0, Ordering::AcqRel);
            }
            last = LogPosition { partition, position };
        }
        Ok(last)
    }
}

type Answer = oneshot::Receiver<Result<Position, IngressError>>;

impl Line {
    fn offer(&self, what: What) -> Result<Answer, IngressError> {
        let records = u32::try_from(what.len().max(1)).map_err(|_| IngressError::Busy)?;
        let room = self.room.clone().try_acquire_many_owned(records).map_err(|_| IngressError::Busy)?;
        let (done, answer) = oneshot::channel();
        self.parcels.try_send(Parcel { what, room, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => IngressError::Busy,
            mpsc::error::TrySendError::Closed(_) => IngressError::Closed("it is stopping".into()),
        })?;
        Ok(answer)
    }
}

impl What {
    const fn len(&self) -> usize {
        match self {
            Self::Usage(usage) => usage.len(),
            Self::Unreadable(refused) => refused.len(),
        }
    }
}

/// Packs parcels of one partition into entries.
struct Packer {
    log: Arc<dyn EventLog>,
    writer: Writer,
    clock: Clock,
    in_flight: Arc<Semaphore>,
}

/// An entry being packed, and whom to answer once it is in the log.
struct Packing {
    builder: BatchBuilder,
    parcels: Vec<Arc<Pending>>,
}

/// A parcel whose records may stand in several entries: answered when the last of them is in the log.
struct Pending {
    state: std::sync::Mutex<PendingState>,
    _room: OwnedSemaphorePermit,
}

struct PendingState {
    done: Option<oneshot::Sender<Result<Position, IngressError>>>,
    open: usize,
    last: Position,
}

impl Pending {
    fn new(done: oneshot::Sender<Result<Position, IngressError>>, room: OwnedSemaphorePermit) -> Arc<Self> {
        let state = PendingState { done: Some(done), open: 1, last: Position::ZERO };
        Arc::new(Self { state: std::sync::Mutex::new(state), _room: room })
    }

    fn with_state(&self, change: impl FnOnce(&mut PendingState)) {
        // Nothing can panic halfway under this lock.
        change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }

    /// One more entry holds records of this parcel.
    fn open(&self) {
        self.with_state(|state| state.open = state.open.saturating_add(1));
    }

    /// One entry, or the reading of the parcel, is done.
    fn close(&self, result: &Result<Position, IngressError>) {
        self.with_state(|state| {
            state.open = state.open.saturating_sub(1);
            let answer = match result {
                Ok(position) => {
                    state.last = state.last.max(*position);
                    (state.open == 0).then_some(Ok(state.last))
                }
                Err(error) => Some(Err(error.clone())),
            };
            if let Some(answer) = answer
                && let Some(done) = state.done.take()
                && done.send(answer).is_err()
            {
                tracing::debug!("nobody waits for the answer any more");
            }
        });
    }
}

impl Packer {
    async fn run(self, mut parcels: mpsc::Receiver<Parcel>) {
        let mut packing: Option<Packing> = None;
        loop {
            let next = match &packing {
                None => parcels.recv().await,
                Some(_) => match parcels.try_recv() {
                    Ok(next) => Some(next),
                    // While others are in flight this entry would only wait in the log's queue: better it waits here
                    // for company. Otherwise it leaves at once.
                    Err(_) if self.in_flight.available_permits() == IN_FLIGHT => None,
                    Err(_) => tokio::time::timeout(LINGER, parcels.recv()).await.unwrap_or(None),
                },
            };
            match (next, packing.take()) {
                (Some(parcel), before) => packing = self.pack(parcel, before).await,
                (None, Some(full)) => self.send(full).await,
                (None, None) => return,
            }
        }
    }

    /// Puts a parcel into the entry being packed, sending entries as they fill.
    async fn pack(&self, parcel: Parcel, before: Option<Packing>) -> Option<Packing> {
        let pending = Pending::new(parcel.done, parcel.room);
        let result = match parcel.what {
            What::Unreadable(refused) => {
                pending.open();
                self.append(Body::Unreadable(refused), Topic::UsageMixed, vec![pending.clone()]).await;
                before
            }
            What::Usage(usage) => {
                let mut packing = before;
                for usage in &usage {
                    let into = packing.get_or_insert_with(|| self.packing());
                    if into.parcels.last().is_none_or(|last| !Arc::ptr_eq(last, &pending)) {
                        pending.open();
                        into.parcels.push(pending.clone());
                    }
                    into.builder.push(usage);
                    if into.builder.is_full()
                        && let Some(full) = packing.take()
                    {
                        self.send(full).await;
                    }
                }
                packing
            }
        };
        pending.close(&Ok(Position::ZERO));
        result
    }

    fn packing(&self) -> Packing {
        Packing { builder: BatchBuilder::new(self.clock.now()), parcels: Vec::new() }
    }

    async fn send(&self, packing: Packing) {
        let topic = match packing.builder.only_organization() {
            Some(organization) => Topic::Usage(organization.clone()),
            None => Topic::UsageMixed,
        };
        self.append(Body::Usage(packing.builder.finish()), topic, packing.parcels).await;
    }

    async fn append(&self, body: Body, topic: Topic, parcels: Vec<Arc<Pending>>) {
        // The semaphore is never closed.
        let permit = self.in_flight.clone().acquire_owned().await.ok();
        let ticket = self.writer.begin().await;
        let entry = self.writer.entry(&ticket, self.clock.now(), body);
        let log = self.log.clone();
        tokio::spawn(async move {
            let watch = Stopwatch::start();
            let result = match codec::encode_entry(&entry) {
                Ok(payload) => {
                    let append =
                        Append { id: entry.id, topic, payload: Bytes::from(payload), expected: None };
                    log.append(append).await.map_err(|error| log_error(&error))
                }
                Err(error) => Err(IngressError::Log(error.to_string())),
            };
            metrics::appended(watch.elapsed(), result.is_ok());
            finish(ticket, permit);
            for parcel in parcels {
                parcel.close(&result);
            }
        });
    }
}

/// The entry is in the log, or given up: its count and its place are free.
fn finish(ticket: Ticket, permit: Option<OwnedSemaphorePermit>) {
    drop(ticket);
    drop(permit);
}

fn log_error(error: &AppendError) -> IngressError {
    match error {
        AppendError::Closed => IngressError::Closed("it is stopping".into()),
        AppendError::Conflict { .. }
        | AppendError::TooLarge { .. }
        | AppendError::Refused { .. }
        | AppendError::Unknown { .. } => IngressError::Log(error.to_string()),
    }
}
