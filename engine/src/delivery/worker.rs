//! The task that delivers a partition's alerts, while this process owns it.
//!
//! ```text
//! becomes the owner ─> reads what is open ─┐
//!                                          v
//!       ┌─ feed has more ─> records ─> queue ─> due ─> record: begun ─> attempt ─> record: ended ─┐
//!       └──────────────────────────────── ^ ──────────────── again, by the schedule ──────────────┘
//! ```
//!
//! Everything that happens at once is written together, so that a burst shares syncs. After an error of the store or of
//! the feed it begins again with what is stored.

mod attempt;
mod channels;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tollbook_projections::view::View;
use tollbook_schemas::alert::AlertKind;
use tollbook_schemas::id::AlertId;
use tollbook_schemas::time::Timestamp;

use self::attempt::{Attempting, Finished};
use super::mail::Mailer;
use super::outcome::Verdict;
use super::queue::Queue;
use super::record::{AttemptResult, Channel, Delivery, DeliveryState, Record};
use super::schedule;
use super::settings::DeliverySettings;
use super::store::{DeliveryStore, StoreError, Stored};
use super::told::Told;
use super::webhook::Caller;
use crate::alerts::feed::{AlertFeed, AlertFeedError};
use crate::clock::{self, Clock};
use crate::contacts::Contacts;
use crate::fault::{self, FaultPoint};
use crate::metrics;
use crate::owner::{CommandError, OwnerError, OwnerHandle, Role, told};

/// Alerts taken over from the feed together.
const BATCH: usize = 256;
/// Until it begins again after an error.
const BACKOFF: Duration = Duration::from_secs(1);
/// Until what was not written is written again.
const WRITE_PAUSE: Duration = Duration::from_millis(200);
/// How often old records are forgotten and figures are told.
const SWEEP_SECONDS: i64 = 3_600;
/// How long what is under way may take when the process stops or begins again. What takes longer is attempted again.
const GRACE: Duration = Duration::from_secs(5);

/// The task of a partition.
#[derive(Debug)]
pub(crate) struct Worker {
    /// What it works with.
    pub(crate) tools: Arc<Tools>,
    /// What is asked for by hand.
    pub(crate) requests: mpsc::Receiver<Redeliver>,
}

/// What a worker and its attempts work with.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) owner: OwnerHandle,
    pub(crate) view: View,
    pub(crate) feed: Arc<dyn AlertFeed>,
    pub(crate) store: Arc<dyn DeliveryStore>,
    pub(crate) contacts: Contacts,
    pub(crate) caller: Caller,
    pub(crate) mailer: Option<Mailer>,
    pub(crate) settings: Arc<DeliverySettings>,
    pub(crate) currency: String,
    pub(crate) clock: Clock,
}

/// An attempt that somebody asks for.
#[derive(Debug)]
pub(crate) struct Redeliver {
    /// Of which alert.
    pub(crate) id: AlertId,
    /// By which way.
    pub(crate) channel: Channel,
    /// What the alert says, in case that no delivery of it is remembered.
    pub(crate) told: Told,
    /// Answered with the record once the wish is durable.
    pub(crate) answer: oneshot::Sender<Result<Record, CommandError>>,
}

/// Why a worker begins again.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Feed(#[from] AlertFeedError),
    #[error(transparent)]
    Owner(#[from] CommandError),
}

impl Worker {
    /// Delivers until told to stop. What is left then is delivered by the next owner.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), OwnerError> {
        let mut roles = self.tools.owner.roles();
        loop {
            let owns = *roles.borrow_and_update() == Role::Owner;
            if owns {
                let term = Term::begin(self.tools.clone()).await;
                let ended = match term {
                    Ok(term) => term.work(&mut self.requests, &mut stop).await,
                    Err(error) => Err(error),
                };
                if let Err(WorkError::Owner(CommandError::Stopping)) = ended {
                    return Ok(());
                }
                if let Err(error) = ended {
                    let partition = self.tools.owner.partition();
                    tracing::warn!(%partition, %error, "alerts are not delivered now; trying again");
                }
            } else {
                metrics::deliveries_waiting(self.tools.owner.partition(), 0, 0);
            }
            tokio::select! {
                () = told(&mut stop) => return Ok(()),
                changed = roles.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = refuse(&mut self.requests) => return Ok(()),
                () = tokio::time::sleep(BACKOFF), if owns => {}
            }
        }
    }
}

/// Says to everybody who asks that this is not the place, until nobody can ask any more.
async fn refuse(requests: &mut mpsc::Receiver<Redeliver>) {
    while let Some(request) = requests.recv().await {
        answer(request.answer, Err(CommandError::NotOwner));
    }
}

fn answer(to: oneshot::Sender<Result<Record, CommandError>>, result: Result<Record, CommandError>) {
    if to.send(result).is_err() {
        tracing::debug!("nobody waits for the delivery any more");
    }
}

/// Deliveries while this process owns the partition.
struct Term {
    tools: Arc<Tools>,
    cursor: u64,
    queue: Queue,
    /// Records with attempts under way.
    held: BTreeMap<AlertId, Held>,
    running: JoinSet<Finished>,
    swept: Timestamp,
}

/// A record with attempts under way.
struct Held {
    stored: Stored,
    running: usize,
}

/// What happened.
enum Woken {
    Finished(Finished),
    More,
    Due,
    Asked(Redeliver),
    Over,
}

impl Term {
    /// Takes up what is stored.
    async fn begin(tools: Arc<Tools>) -> Result<Self, WorkError> {
        let partition = tools.owner.partition();
        let cursor = tools.store.cursor(partition).await?;
        let mut queue = Queue::default();
        for id in tools.store.open_records(partition).await? {
            let Some(stored) = tools.store.get(id).await? else { continue };
            if !stored.record.is_open() {
                // Its mark outlived it.
                tools.store.update(partition, vec![stored]).await?;
                continue;
            }
            enqueue(&mut queue, &stored.record);
        }
        let (held, running) = (BTreeMap::new(), JoinSet::new());
        Ok(Self { tools, cursor, queue, held, running, swept: Timestamp::EPOCH })
    }

    /// Delivers until this process is no longer the owner, is told to stop, or something fails. Whatever ends it, what
    /// is under way may end.
    async fn work(
        mut self,
        requests: &mut mpsc::Receiver<Redeliver>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), WorkError> {
        let ended = self.deliver(requests, stop).await;
        self.finish(ended.is_err()).await;
        ended
    }

    async fn deliver(
        &mut self,
        requests: &mut mpsc::Receiver<Redeliver>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), WorkError> {
        let mut roles = self.tools.owner.roles();
        let feed = self.tools.feed.clone();
        loop {
            self.sweep().await?;
            self.start_due().await?;
            let due = self.queue.next_due();
            let woken = tokio::select! {
                Some(finished) = self.running.join_next() => finished.map_or(Woken::Due, Woken::Finished),
                Some(request) = requests.recv() => Woken::Asked(request),
                more = feed.wait(self.cursor) => more.map(|()| Woken::More)?,
                () = wait_until(&self.tools.clock, due) => Woken::Due,
                _ = roles.wait_for(|role| *role != Role::Owner) => Woken::Over,
                () = told(stop) => Woken::Over,
            };
            match woken {
                Woken::Finished(finished) => self.settle(finished).await?,
                Woken::More => self.take_over().await?,
                Woken::Due => {}
                Woken::Asked(request) => self.ask(request).await?,
                Woken::Over => return Ok(()),
            }
        }
    }

    /// Records what is under way, as far as it ends soon, and `failed`: what an error kept from being written.
    async fn finish(mut self, failed: bool) {
        let ending = async {
            if failed {
                self.write_again().await;
            }
            while let Some(finished) = self.running.join_next().await {
                let Ok(finished) = finished else { continue };
                if let Err(error) = self.settle(finished).await {
                    tracing::debug!(%error, "how a delivery ended is not written yet");
                    self.write_again().await;
                }
            }
        };
        if tokio::time::timeout(GRACE, ending).await.is_err() {
            tracing::debug!("what is still under way is attempted again");
        }
    }

    /// Writes what is held until the store takes it.
    async fn write_again(&mut self) {
        while let Err(error) = self.reconcile().await {
            tracing::debug!(%error, "deliveries are not written yet");
            tokio::time::sleep(WRITE_PAUSE).await;
        }
        self.held.retain(|_, held| held.running > 0);
    }

    /// Writes what is held, after writes of which nobody knows whether they were done; what somebody else wrote stays.
    async fn reconcile(&mut self) -> Result<(), WorkError> {
        let ids: Vec<AlertId> = self.held.keys().cloned().collect();
        for id in &ids {
            let stored = self.tools.store.get(id.clone()).await?;
            let Some(held) = self.held.get_mut(id) else { continue };
            let ours = stored.filter(|stored| {
                stored.revision == held.stored.revision || stored.record == held.stored.record
            });
            match ours {
                Some(stored) => held.stored.revision = stored.revision,
                None => {
                    self.held.remove(id);
                }
            }
        }
        self.write(ids).await
    }

    /// Takes over the next piece of the feed.
    async fn take_over(&mut self) -> Result<(), WorkError> {
        let raised = self.tools.feed.after(self.cursor, BATCH).await?;
        let Some(last) = raised.last().map(|last| last.sequence) else { return Ok(()) };
        let records = channels::records(&self.tools, raised).await?;
        let fresh: BTreeMap<AlertId, Record> =
            records.iter().map(|record| (record.told.id.clone(), record.clone())).collect();
        let now = self.tools.clock.now();
        let added = self.tools.store.create(self.tools.owner.partition(), records, last, now).await?;
        fault::reached(FaultPoint::DeliveryRecorded);
        self.cursor = last;
        for record in added.iter().filter_map(|id| fresh.get(id)) {
            enqueue(&mut self.queue, record);
        }
        let known = fresh.into_keys().filter(|id| !added.contains(id)).collect();
        self.take_up(known).await
    }

    /// Enqueues what was there already and nobody here knows of: written by an owner before, or by a write of this one
    /// that had no answer.
    async fn take_up(&mut self, known: BTreeSet<AlertId>) -> Result<(), WorkError> {
        if known.is_empty() {
            return Ok(());
        }
        let waiting = self.queue.waiting_of(&known);
        for id in known {
            if waiting.contains(&id) || self.held.contains_key(&id) {
                continue;
            }
            let stored = self.tools.store.get(id).await?;
            if let Some(Stored { record, .. }) = stored.filter(|stored| stored.record.is_open()) {
                enqueue(&mut self.queue, &record);
            }
        }
        Ok(())
    }

    /// Begins what is due, as far as there is room.
    async fn start_due(&mut self) -> Result<(), WorkError> {
        let now = self.tools.clock.now();
        let mut starting = Vec::new();
        while let Some((id, channel)) = self.queue.pop(now) {
            match self.begin_attempt(&id, &channel, now).await? {
                Some(attempting) => starting.push(attempting),
                None => self.queue.done(&channel),
            }
        }
        self.waiting(now);
        if starting.is_empty() {
            return Ok(());
        }
        let ids = starting.iter().map(|attempting| attempting.told.id.clone()).collect();
        self.write(ids).await?;
        for attempting in starting {
            self.running.spawn(attempting.run(self.tools.clone()));
        }
        Ok(())
    }

    async fn begin_attempt(
        &mut self,
        id: &AlertId,
        channel: &Channel,
        now: Timestamp,
    ) -> Result<Option<Attempting>, WorkError> {
        let Some(held) = self.hold(id).await? else { return Ok(None) };
        let record = &mut held.stored.record;
        let told = record.told.clone();
        let Some(delivery) = record.deliveries.get_mut(channel) else { return Ok(None) };
        let by_hand = delivery.asked.is_some_and(|asked| asked <= now);
        delivery.begin(now, by_hand);
        let last = schedule::next(usize::from(delivery.scheduled), now, 0, None).is_none();
        let began = delivery.began().unwrap_or(now);
        held.running = held.running.saturating_add(1);
        Ok(Some(Attempting { told, channel: channel.clone(), at: now, by_hand, last, began }))
    }

    /// Takes down how attempts ended: this one, and those that have ended meanwhile.
    async fn settle(&mut self, first: Finished) -> Result<(), WorkError> {
        let mut ids = Vec::new();
        let mut next = Some(first);
        while let Some(finished) = next {
            ids.push(finished.id.clone());
            self.ended(finished);
            next = self.running.try_join_next().and_then(Result::ok);
        }
        fault::reached(FaultPoint::DeliveryAttempted);
        self.write(ids).await?;
        fault::reached(FaultPoint::DeliverySettled);
        self.held.retain(|_, held| held.running > 0);
        Ok(())
    }

    fn ended(&mut self, finished: Finished) {
        let Finished { id, channel, at, by_hand, outcome, took } = finished;
        self.queue.done(&channel);
        let now = self.tools.clock.now();
        metrics::delivery_attempted(&channel, outcome.verdict);
        let Some(held) = self.held.get_mut(&id) else { return };
        held.running = held.running.saturating_sub(1);
        let Some(delivery) = held.stored.record.deliveries.get_mut(&channel) else { return };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let delivered = outcome.verdict == Verdict::Delivered;
        let (status, error) = (outcome.status, outcome.error.clone());
        delivery.end(at, AttemptResult { delivered, status, error, took_ms });
        if by_hand {
            delivery.asked = None;
        }
        match outcome.verdict {
            Verdict::Delivered => delivery.state = DeliveryState::Delivered,
            // Whatever comes of what was asked for by hand, the schedule goes on as it was.
            _ if by_hand => {}
            Verdict::Refused | Verdict::Gone => delivery.state = DeliveryState::Failed,
            Verdict::Cancelled => {
                let reason = outcome.error.unwrap_or_default();
                delivery.state = DeliveryState::Cancelled { reason };
            }
            Verdict::Failed => {
                let jitter = clock::random_up_to(schedule::JITTER_MAX);
                let made = usize::from(delivery.scheduled);
                delivery.state = match schedule::next(made, now, jitter, outcome.retry_after) {
                    Some(due) => DeliveryState::Pending { due },
                    None => DeliveryState::Failed,
                };
            }
        }
        if let Some(due) = delivery.due() {
            self.queue.push(due, id, channel, held.stored.record.told.organization.as_ref());
        }
    }

    /// Has an attempt made at once that somebody asked for.
    async fn ask(&mut self, request: Redeliver) -> Result<(), WorkError> {
        let now = self.tools.clock.now();
        let Redeliver { id, channel, told, answer: to } = request;
        let partition = self.tools.owner.partition();
        if self.hold(&id).await?.is_none() {
            let record = Record { told, deliveries: BTreeMap::new() };
            self.tools.store.create(partition, vec![record], self.cursor, now).await?;
        }
        let Some(held) = self.hold(&id).await? else {
            answer(to, Err(CommandError::Busy));
            return Ok(());
        };
        let running = held.running > 0;
        let organization = held.stored.record.told.organization.clone();
        let missing = || Delivery { state: DeliveryState::Failed, ..Delivery::new(now) };
        let delivery = held.stored.record.deliveries.entry(channel.clone()).or_insert_with(missing);
        // An earlier wish that waits is as good; an attempt that is under way ends first.
        if delivery.asked.is_none() {
            let before = delivery.due();
            delivery.asked = Some(now);
            let under_way = running && delivery.attempts.last().is_some_and(|last| last.result.is_none());
            if let Some(before) = before {
                self.queue.remove(before, &id, &channel);
            }
            if !under_way {
                self.queue.push(now, id.clone(), channel, organization.as_ref());
            }
        }
        self.write(vec![id.clone()]).await?;
        let record = self.held.get(&id).map(|held| held.stored.record.clone());
        self.held.retain(|_, held| held.running > 0);
        answer(to, record.ok_or(CommandError::Busy));
        Ok(())
    }

    /// A record, read where it is not held yet.
    async fn hold(&mut self, id: &AlertId) -> Result<Option<&mut Held>, WorkError> {
        if !self.held.contains_key(id) {
            let Some(stored) = self.tools.store.get(id.clone()).await? else { return Ok(None) };
            self.held.insert(id.clone(), Held { stored, running: 0 });
        }
        Ok(self.held.get_mut(id))
    }

    /// Writes held records down.
    async fn write(&mut self, mut ids: Vec<AlertId>) -> Result<(), WorkError> {
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|id| self.held.contains_key(id));
        let records = ids.iter().filter_map(|id| self.held.get(id)).map(|held| held.stored.clone()).collect();
        let revisions = self.tools.store.update(self.tools.owner.partition(), records).await?;
        for (id, revision) in ids.iter().zip(revisions) {
            if let Some(held) = self.held.get_mut(id) {
                held.stored.revision = revision;
            }
        }
        Ok(())
    }

    fn waiting(&self, now: Timestamp) {
        let (waiting, oldest) = self.queue.waiting();
        let late = oldest.map_or(0, |oldest| now.seconds().saturating_sub(oldest.seconds()));
        let late = u64::try_from(late).unwrap_or(0);
        metrics::deliveries_waiting(self.tools.owner.partition(), waiting, late);
    }

    /// Forgets what is old, now and then.
    async fn sweep(&mut self) -> Result<(), WorkError> {
        let now = self.tools.clock.now();
        if now >= self.swept.plus_seconds(SWEEP_SECONDS) {
            self.tools.store.sweep(now).await?;
            self.swept = now;
        }
        Ok(())
    }
}

fn enqueue(queue: &mut Queue, record: &Record) {
    for (channel, delivery) in &record.deliveries {
        if let Some(due) = delivery.due() {
            queue.push(due, record.told.id.clone(), channel.clone(), record.told.organization.as_ref());
        }
    }
}

/// Whether alerts of a kind are mailed; the platform's own are, where there is somebody for them.
fn is_mailed(tools: &Tools, kind: AlertKind, own: bool) -> bool {
    if own {
        tools.mailer.as_ref().is_some_and(|mailer| mailer.operator().is_some())
    } else {
        tools.settings.mailed.contains(&kind)
    }
}

async fn wait_until(clock: &Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}
