//! Starting a node: the log first, then views that fit it, then owners.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tollbook_projections::ids::{IdIndex, Ids, IdsError};
use tollbook_projections::record::hash_of;
use tollbook_projections::state::State;
use tollbook_projections::view::{View, ViewError, Views};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{PartitionId, Position, WriterId};

use super::SKEW_MAX_MS;
use super::early::{Early, Loaded};
use super::{LogSettings, Node, Running, Settings, Shared};
use crate::admission::fresh::Freshness;
use crate::admission::seed::{SeedError, Source};
use crate::admission::{Admissions, Desk};
use crate::alerts::embedded::EmbeddedFeed;
use crate::alerts::feed::{AlertFeed, AlertFeedError};
use crate::alerts::jetstream::JetStreamFeed;
use crate::alerts::publisher::Publisher;
use crate::alerts::subscribers::{Subscribers, Subscriptions};
use crate::clock::{self, Clock};
use crate::closing::Sealer;
use crate::contacts::{ContactError, Contacts};
use crate::delivery::{self, DeliveryError};
use crate::erasure;
use crate::feed;
use crate::ingress::Ingress;
use crate::lease::{LeaseError, Leases};
use crate::ledger::{self, Ledger, LedgerError};
use crate::log::embedded::{self, Embedded};
use crate::log::jetstream::{self, Beside, JetStream};
use crate::log::{EventLog, ReadError};
use crate::owner::{CommandError, Owner, OwnerError, OwnerHandle, Parts, told};
use crate::side::files::Files;
use crate::side::kv::KvSide;
use crate::side::{SideError, SideStore};
use crate::writer::Writer;

/// Where the views are, beside the index of ids.
const STATE: &str = "state";
/// How often leases that are over are looked for; those of an organization that asks are found at once.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How often this machine's clock is compared with the broker's.
const SKEW_INTERVAL: Duration = Duration::from_secs(10);

/// Why a node did not start. Says what to do where somebody can do something.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("the data directory {} cannot be used: {source}", path.display())]
    Data {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The embedded log cannot be opened.
    #[error("the log cannot be opened: {0}")]
    Embedded(#[from] embedded::OpenError),
    /// The log on JetStream cannot be opened.
    #[error("the log cannot be opened: {0}")]
    JetStream(#[from] jetstream::OpenError),
    /// The ledger cannot be found or created.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// The store beside the log cannot be used.
    #[error(transparent)]
    Side(#[from] SideError),
    /// Keys of personal data cannot be used.
    #[error(transparent)]
    Contacts(#[from] ContactError),
    /// The alert feed cannot be used.
    #[error(transparent)]
    Alerts(#[from] AlertFeedError),
    /// Alerts cannot be delivered.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The alert feed knows more than the log: the log has lost entries.
    #[error(
        "the log of partition {partition} ends at {last}, but alerts of entries up to {raised} were raised: the log has lost entries, or an older copy of it was put back; restore the newer log, or, if the loss is accepted, remove the alert feed too: the directory log/alerts, or the stream TOLLBOOK_ALERTS and the bucket TOLLBOOK_ALERT_MARKS"
    )]
    AlertsAhead {
        /// Which partition.
        partition: PartitionId,
        /// Where the log ends.
        last: Position,
        /// What alerts were raised of.
        raised: Position,
    },
    /// The views cannot be used.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The index of ids cannot be used.
    #[error("the index of usage ids cannot be used: {0}")]
    Ids(#[from] IdsError),
    /// The owner did not start.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The ownership lease cannot be used.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The views are of another ledger.
    #[error(
        "the views in {} are of ledger {found}, the log is of {expected}; use another --data directory, or delete the views if they are not needed",
        path.display()
    )]
    OtherLedger {
        /// The views' directory.
        path: PathBuf,
        /// Their ledger.
        found: LedgerId,
        /// The log's ledger.
        expected: LedgerId,
    },
    /// The views know more than the log: the log has lost entries.
    #[error(
        "the log of partition {partition} ends at {last}, but the views have applied it up to {viewed}: the log has lost entries, or an older copy of it was put back; restore the newer log, or, if the loss is accepted, delete {} to start from the log as it is",
        path.display()
    )]
    LogLost {
        /// Which partition.
        partition: PartitionId,
        /// Where the log ends.
        last: Position,
        /// What was applied.
        viewed: Position,
        /// The views' directory.
        path: PathBuf,
    },
    /// The log holds something else than what was applied.
    #[error(
        "the entry at {partition}-{position} is not the one that the views have applied: this log has another history; restore the log that belongs to these views, or, if this one is right, delete {} to start from it",
        path.display()
    )]
    OtherHistory {
        /// Which partition.
        partition: PartitionId,
        /// The last entry applied.
        position: Position,
        /// The views' directory.
        path: PathBuf,
    },
}

pub(super) async fn start(settings: Settings, clock: Clock) -> Result<(Node, Running), StartError> {
    std::fs::create_dir_all(&settings.data)
        .map_err(|source| StartError::Data { path: settings.data.clone(), source })?;
    let path = settings.data.join("views");
    let early = Early::begin(&path.join(STATE));
    let opened = open_log(&settings).await;
    // Before anything can fail: whoever tries again must find the views closed.
    let early = early.finish().await;
    let (log, jetstream, side, partitions) = opened?;
    let ledger = ledger::find_or_create(&log, partitions, settings.currency.as_deref(), &clock).await?;
    let contacts = Contacts::open(side).await?;
    let (alerts, stream) = open_feed(&settings, &log, jetstream.as_ref(), &ledger).await?;
    let needs = delivery::Needs {
        settings: settings.delivery.clone().unwrap_or_default(),
        feed: alerts.clone(),
        contacts: contacts.clone(),
        currency: ledger.currency.clone(),
        clock: clock.clone(),
    };
    let directory = settings.data.join("log").join("deliveries");
    let mut deliveries = delivery::Parts::open(needs, &log, jetstream.as_ref(), &directory).await?;
    let clock_trusted = Arc::new(AtomicBool::new(is_trusted(jetstream.as_ref(), &clock).await));
    let writer = clock::new_writer();
    let mut folder = Folder::open(&path, early, &log, &ledger)?;
    let admissions = Arc::new(Admissions::new(settings.admission.clone(), clock.clone(), ledger.partitions));
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut owners: Vec<(OwnerHandle, View)> = Vec::new();
    let mut erasures = Vec::new();
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for desk in admissions.desks() {
        let partition = desk.partition();
        let (view, state, ids) = folder.partition(partition).await?;
        check_feed(&*alerts, &*log, partition).await?;
        readers.push(ids.reader());
        let position = state.head().position;
        tracing::info!(%partition, from = %position, "folding the log on from the views");
        let pen = Writer::new(ledger.id.clone(), partition, writer);
        fill(desk, Source { log: &*log, ledger: &ledger.id, view: &view }, &state, &clock).await?;
        let parts = Parts {
            feed: feed::start(&log, ledger.id.clone(), partition, &state, ids),
            state,
            log: log.clone(),
            writer: pen.clone(),
            clock: clock.clone(),
            clock_trusted: clock_trusted.clone(),
            view: view.clone(),
            node: settings.node.clone(),
            journal: owners.first().map(|(first, _)| first.journal()),
            desk: desk.clone(),
        };
        let (owner, handle) = Owner::new(parts)?;
        tasks.spawn(owner.run(stopped.clone()));
        let (eraser, erasing) = erasure::new(handle.clone(), contacts.clone());
        tasks.spawn(eraser.run(stopped.clone()));
        tasks.spawn(Sealer::new(handle.clone(), view.clone()).run(stopped.clone()));
        let publisher = Publisher {
            owner: handle.clone(),
            view: view.clone(),
            feed: alerts.clone(),
            clock: clock.clone(),
        };
        tasks.spawn(publisher.run(stopped.clone()));
        let worker = deliveries.worker(handle.clone(), view.clone());
        if settings.delivery.is_some() {
            tasks.spawn(worker.run(stopped.clone()));
        }
        watch_freshness(desk.clone(), log.clone(), handle.clone(), stopped.clone());
        erasures.push(erasing);
        writers.push(pen);
        owners.push((handle, view));
    }
    tokio::spawn(sweep(admissions.clone(), stopped.clone()));
    let subscriptions = subscribe(stream, owners.first().map(|(first, _)| first), &stopped, &mut tasks);
    let ingress = Ingress::start(&log, &writers, &clock);
    take_over(&log, jetstream.as_ref(), &owners, &settings, writer, &stopped, &mut tasks).await?;
    let shared = Shared {
        ledger,
        log,
        jetstream,
        clock,
        contacts,
        alerts,
        deliveries: deliveries.finish(),
        subscriptions,
        ingress,
        owners,
        ids: readers,
        erasures,
        admissions,
        clock_trusted,
    };
    let node = Node { shared: Arc::new(shared) };
    if let (Some(jetstream), Clock::System) = (&node.shared.jetstream, &node.shared.clock) {
        tokio::spawn(watch_clock(node.clone(), jetstream.clone(), stopped));
    }
    Ok((node, Running { tasks, stop }))
}

type Opened = (Arc<dyn EventLog>, Option<JetStream>, Arc<dyn SideStore>, u16);

async fn open_log(settings: &Settings) -> Result<Opened, StartError> {
    match &settings.log {
        LogSettings::Embedded => {
            let directory = settings.data.join("log");
            let (log, partitions) = open_embedded(&directory, settings.partitions)?;
            let side = Files::open(&directory.join("side"))?;
            Ok((Arc::new(log), None, Arc::new(side), partitions))
        }
        LogSettings::JetStream(options) => {
            let wanted = settings.partitions.unwrap_or(1);
            let (log, partitions) = match JetStream::open((**options).clone(), wanted).await {
                Err(jetstream::OpenError::Partitions { found, stream, wanted }) => {
                    match (settings.partitions, found.parse()) {
                        (None, Ok(found)) => (JetStream::open((**options).clone(), found).await?, found),
                        (Some(_), _) | (None, Err(_)) => {
                            return Err(jetstream::OpenError::Partitions { found, stream, wanted }.into());
                        }
                    }
                }
                opened => (opened?, wanted),
            };
            let side = KvSide::open(&log).await?;
            Ok((Arc::new(log.clone()), Some(log), Arc::new(side), partitions))
        }
    }
}

/// The alert feed beside the log, and its stream if it is one. Blocks on the embedded feed: nothing else runs yet.
async fn open_feed(
    settings: &Settings,
    log: &Arc<dyn EventLog>,
    jetstream: Option<&JetStream>,
    ledger: &Ledger,
) -> Result<(Arc<dyn AlertFeed>, Option<Beside>), StartError> {
    match jetstream {
        Some(jetstream) => {
            let feed = JetStreamFeed::open(jetstream, ledger.id.clone()).await?;
            let stream = feed.stream().clone();
            Ok((feed, Some(stream)))
        }
        None => {
            let directory = settings.data.join("log").join("alerts");
            let feed = EmbeddedFeed::open(&directory, log.clone(), ledger.id.clone())?;
            Ok((Arc::new(feed), None))
        }
    }
}

/// Has the first partition's owner make and remove subscribers' consumers, where there is a stream.
fn subscribe(
    stream: Option<Beside>,
    owner: Option<&OwnerHandle>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<(), OwnerError>>,
) -> Option<watch::Receiver<Subscriptions>> {
    let (subscribers, made) = Subscribers::new(owner?.clone(), stream?);
    tasks.spawn(subscribers.run(stopped.clone()));
    Some(made)
}

/// Alerts of a log that is lost would be taken for those of the entries that come in its place.
async fn check_feed(
    alerts: &dyn AlertFeed,
    log: &dyn EventLog,
    partition: PartitionId,
) -> Result<(), StartError> {
    let raised = alerts.through(partition).await?;
    let last = log.last(partition).await?;
    if raised > last { Err(StartError::AlertsAhead { partition, last, raised }) } else { Ok(()) }
}

/// Blocks while journals are checked: nothing else runs yet.
fn open_embedded(directory: &Path, partitions: Option<u16>) -> Result<(Embedded, u16), StartError> {
    let wanted = partitions.unwrap_or(1);
    match Embedded::open(directory, wanted) {
        Err(embedded::OpenError::Partitions { has, dir, wanted }) => match (partitions, u16::try_from(has)) {
            (None, Ok(found)) => Ok((Embedded::open(directory, found)?, found)),
            (Some(_), _) | (None, Err(_)) => Err(embedded::OpenError::Partitions { has, dir, wanted }.into()),
        },
        opened => Ok((opened?, wanted)),
    }
}

/// What is needed to find State again.
struct Folder<'a> {
    path: PathBuf,
    views: Views,
    /// State by partition, where the views were read while the log was being opened.
    loaded: BTreeMap<PartitionId, Result<Option<State>, ViewError>>,
    ids: Ids,
    log: &'a Arc<dyn EventLog>,
    ledger: &'a Ledger,
}

impl<'a> Folder<'a> {
    fn open(
        path: &Path,
        early: Option<Loaded>,
        log: &'a Arc<dyn EventLog>,
        ledger: &'a Ledger,
    ) -> Result<Self, StartError> {
        let data = |source| StartError::Data { path: path.to_path_buf(), source };
        std::fs::create_dir_all(path).map_err(data)?;
        let (views, loaded) = match early {
            Some(Loaded { views, states }) => (views, states),
            None => (Views::open_or_reset(&path.join(STATE))?, BTreeMap::new()),
        };
        let at = path.join("ids");
        let ids = match Ids::open(&at) {
            Ok(ids) => ids,
            Err(error) => {
                tracing::warn!(%error, "throwing the index of usage ids away; it is rebuilt from the log");
                std::fs::remove_dir_all(&at).map_err(data)?;
                Ids::open(&at)?
            }
        };
        Ok(Self { path: path.to_path_buf(), views, loaded, ids, log, ledger })
    }

    /// State as the views have it, if they fit the log; else from nothing, where that loses no knowledge.
    async fn partition(&mut self, partition: PartitionId) -> Result<(View, State, IdIndex), StartError> {
        let mut view = self.views.partition(partition)?;
        let mut ids = self.ids.partition(partition)?;
        let loaded = self.loaded.remove(&partition).unwrap_or_else(|| view.load()).unwrap_or_else(|error| {
            tracing::warn!(%partition, %error, "throwing the view away; it is rebuilt from the log");
            None
        });
        let last = self.log.last(partition).await?;
        let known = loaded.as_ref().map_or(Position::ZERO, |state| state.head().position).max(ids.through());
        if known > last {
            return Err(StartError::LogLost { partition, last, viewed: known, path: self.path.clone() });
        }
        if let Some(state) = loaded {
            self.same_history(&state).await?;
            if ids.through() >= state.head().position {
                return Ok((view, state, ids));
            }
            tracing::warn!(%partition, "the index of usage ids is behind the views; both are rebuilt from the log");
        }
        self.views.reset(partition)?;
        ids.clear()?;
        view = self.views.partition(partition)?;
        Ok((view, State::empty(partition), ids))
    }

    async fn same_history(&self, state: &State) -> Result<(), StartError> {
        let (partition, head) = (state.partition(), state.head());
        if let Some((found, _, _)) = &state.config().ledger
            && *found != self.ledger.id
        {
            let (found, expected) = (found.clone(), self.ledger.id.clone());
            return Err(StartError::OtherLedger { path: self.path.clone(), found, expected });
        }
        if head.position == Position::ZERO {
            return Ok(());
        }
        let stored = self.log.get(partition, head.position).await?;
        let same = stored
            .is_some_and(|stored| hash_of(stored.position, &stored.subject, &stored.payload) == head.last);
        if same {
            Ok(())
        } else {
            Err(StartError::OtherHistory { partition, position: head.position, path: self.path.clone() })
        }
    }
}

/// Has every partition's ownership taken: at once where the directory's lock says that there is nobody else, and by
/// lease on JetStream.
async fn take_over(
    log: &Arc<dyn EventLog>,
    jetstream: Option<&JetStream>,
    owners: &[(OwnerHandle, View)],
    settings: &Settings,
    writer: WriterId,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<(), OwnerError>>,
) -> Result<(), StartError> {
    let Some(jetstream) = jetstream else {
        for (owner, _) in owners {
            let through = log.last(owner.partition()).await?;
            if let Err(error) = owner.lease_held(through).await {
                tracing::error!(%error, "the owner stopped before it began");
            }
        }
        return Ok(());
    };
    let leases = Leases::open(jetstream).await?;
    for (owner, _) in owners {
        let candidate = Candidate {
            leases: leases.clone(),
            log: log.clone(),
            owner: owner.clone(),
            node: settings.node.to_string(),
            writer,
        };
        tasks.spawn(candidate.run(stopped.clone()));
    }
    Ok(())
}

/// Stands for the ownership of one partition, for ever.
struct Candidate {
    leases: Leases,
    log: Arc<dyn EventLog>,
    owner: OwnerHandle,
    node: String,
    writer: WriterId,
}

impl Candidate {
    async fn run(self, mut stopped: watch::Receiver<bool>) -> Result<(), OwnerError> {
        loop {
            let partition = self.owner.partition();
            let lease = tokio::select! {
                lease = self.leases.acquire(partition, &self.node, self.writer) => lease,
                () = told(&mut stopped) => return Ok(()),
            };
            let held = match self.log.last(partition).await {
                Ok(through) => self.owner.lease_held(through).await,
                Err(error) => {
                    tracing::warn!(%partition, %error, "gave the lease back: the log cannot be reached");
                    lease.release().await;
                    continue;
                }
            };
            if let Err(CommandError::Stopping) = held {
                return Ok(());
            }
            tokio::select! {
                () = lease.lost() => {
                    if self.owner.lease_lost().await.is_err() {
                        return Ok(());
                    }
                }
                () = told(&mut stopped) => {
                    // After the last decision, so that the next node takes over at once.
                    lease.release().await;
                    return Ok(());
                }
            }
        }
    }
}

/// Has admission know all of State, and what the last minute's usage was.
async fn fill(desk: &Desk, source: Source<'_>, state: &State, clock: &Clock) -> Result<(), StartError> {
    desk.load(state);
    source.seed(desk, state, clock.now()).await.map_err(|error| match error {
        SeedError::Log(error) => StartError::Log(error),
        SeedError::View(error) => StartError::View(error),
    })
}

/// Measures how far State trails the log, until told to stop.
fn watch_freshness(
    desk: Arc<Desk>,
    log: Arc<dyn EventLog>,
    owner: OwnerHandle,
    mut stopped: watch::Receiver<bool>,
) {
    tokio::spawn(async move {
        tokio::select! {
            () = Freshness::watch(desk, log, owner) => {}
            () = told(&mut stopped) => {}
        }
    });
}

/// Gives leases back that are over, and counts, until told to stop.
async fn sweep(admissions: Arc<Admissions>, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            _ = every.tick() => admissions.sweep(),
            () = told(&mut stopped) => return,
        }
    }
}

/// Whether this machine's clock is near enough to the broker's: nothing may be taken over before that is known.
async fn is_trusted(jetstream: Option<&JetStream>, clock: &Clock) -> bool {
    let (Some(jetstream), Clock::System) = (jetstream, clock) else { return true };
    match jetstream.broker_offset_ms(|| clock.now().nanos().div_euclid(1_000_000)).await {
        Ok(offset_ms) => {
            let trusted = offset_ms.saturating_abs() <= SKEW_MAX_MS;
            if !trusted {
                tracing::error!(
                    offset_ms,
                    "this machine's clock is off: nothing is written until it is right"
                );
            }
            trusted
        }
        Err(error) => {
            tracing::warn!(%error, "the broker's clock cannot be seen; nothing is written until it can");
            false
        }
    }
}

/// Compares this machine's clock with the broker's, for ever.
async fn watch_clock(node: Node, jetstream: JetStream, mut stopped: watch::Receiver<bool>) {
    let mut every = tokio::time::interval(SKEW_INTERVAL);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = told(&mut stopped) => return,
        }
        let now_ms = || node.clock().now().nanos().div_euclid(1_000_000);
        match jetstream.broker_offset_ms(now_ms).await {
            Ok(offset_ms) => node.note_skew(offset_ms),
            Err(error) => tracing::warn!(%error, "the broker's clock cannot be seen"),
        }
    }
}
