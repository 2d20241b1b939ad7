//! One process's engine without its doors: log, owners, ingress, views. What HTTP, NATS, benchmarks and Rust callers
//! use.

mod early;
mod settings;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tollbook_projections::ids::IdReader;
use tollbook_projections::past::Past;
use tollbook_projections::view::View;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::entry::{Actor, Body, Entry, Idempotency};
use tollbook_schemas::event::Event;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::usage::{Unreadable, Usage};

pub use self::settings::{LogSettings, Settings};
pub use self::start::StartError;
use crate::admission::Admissions;
use crate::alerts::feed::AlertFeed;
use crate::alerts::subscribers::Subscriptions;
use crate::clock::Clock;
use crate::contacts::Contacts;
use crate::decide::questions;
use crate::delivery::Deliveries;
use crate::erasure::Erasures;
use crate::ingress::{Ingress, IngressError};
use crate::ledger::Ledger;
use crate::log::jetstream::JetStream;
use crate::log::{EventLog, ReadError};
use crate::owner::{CommandError, Done, OwnerError, OwnerHandle, Role};
use crate::partition::partition_of;

/// Furthest that this machine's clock may be from the broker's: one fast node would push everybody's recorded times
/// ahead.
const SKEW_MAX_MS: i64 = 1_000;

/// Why personal data was not erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// It was not recorded.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// It was recorded, and keys were still there when the answer was due.
    #[error(
        "it is recorded that this personal data is erased, and it is shown to nobody any more, but its keys are still being erased; the engine goes on until they are; repeat the request to be sure"
    )]
    Pending,
}

/// One process's engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    log: Arc<dyn EventLog>,
    jetstream: Option<JetStream>,
    clock: Clock,
    contacts: Contacts,
    alerts: Arc<dyn AlertFeed>,
    deliveries: Deliveries,
    /// Which alert subscriptions have their consumers, where there is a stream to subscribe to.
    subscriptions: Option<watch::Receiver<Subscriptions>>,
    ingress: Ingress,
    owners: Vec<(OwnerHandle, View)>,
    /// Where usage ids came first, by partition.
    ids: Vec<IdReader>,
    erasures: Vec<Erasures>,
    admissions: Arc<Admissions>,
    clock_trusted: Arc<AtomicBool>,
}

/// What must be awaited: the node's tasks, until the first of them fails or all are told to stop.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<Result<(), OwnerError>>,
    stop: watch::Sender<bool>,
}

/// How long an answer waits for configuration to be copied to the other partitions.
const COPY_WAIT: Duration = Duration::from_secs(2);
/// How long a command waits for the view to hold what State has forgotten; views trail by a quarter of a second.
const VIEW_WAIT: Duration = Duration::from_secs(5);

impl Node {
    /// Opens log, ledger and views, and starts folding. Errors: what to do about it.
    pub async fn start(settings: Settings, clock: Clock) -> Result<(Self, Running), StartError> {
        start::start(settings, clock).await
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Where time comes from.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The log.
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.shared.log
    }

    /// The log's connection, where it is on JetStream.
    pub fn jetstream(&self) -> Option<&JetStream> {
        self.shared.jetstream.as_ref()
    }

    /// Personal data.
    pub fn contacts(&self) -> &Contacts {
        &self.shared.contacts
    }

    /// What was raised, of every partition.
    pub fn alert_feed(&self) -> &Arc<dyn AlertFeed> {
        &self.shared.alerts
    }

    /// What became of alerts on their way to people and programs.
    pub(crate) fn deliveries(&self) -> &Deliveries {
        &self.shared.deliveries
    }

    /// Which alert subscriptions have their consumers, as far as this node makes them; none where the log is embedded.
    pub(crate) fn alert_subscriptions(&self) -> Option<watch::Receiver<Subscriptions>> {
        self.shared.subscriptions.clone()
    }

    /// Whether requests may pass: decided in the caller's thread, without waiting.
    pub fn admissions(&self) -> &Admissions {
        &self.shared.admissions
    }

    /// Every partition's owner, in order.
    pub fn owners(&self) -> impl Iterator<Item = &OwnerHandle> {
        self.shared.owners.iter().map(|(owner, _)| owner)
    }

    /// The partition of an organization.
    pub fn partition_of(&self, organization: &OrgId) -> PartitionId {
        partition_of(organization, self.shared.ledger.partitions)
    }

    /// The owner of a partition.
    pub fn owner(&self, partition: PartitionId) -> Result<&OwnerHandle, CommandError> {
        self.shared.owners.get(usize::from(partition.0)).map(|(owner, _)| owner).ok_or(CommandError::NotOwner)
    }

    /// The owner of an organization's partition.
    pub fn owner_of(&self, organization: &OrgId) -> Result<&OwnerHandle, CommandError> {
        self.owner(self.partition_of(organization))
    }

    /// The view of a partition.
    pub fn view(&self, partition: PartitionId) -> Option<&View> {
        self.shared.owners.get(usize::from(partition.0)).map(|(_, view)| view)
    }

    /// Where usage ids came first in a partition, of everything that is applied.
    pub fn ids(&self, partition: PartitionId) -> Option<&IdReader> {
        self.shared.ids.get(usize::from(partition.0))
    }

    /// Has a command decided where it belongs.
    pub async fn decide(
        &self,
        command: Command,
        actor: Actor,
        idempotency: Option<Idempotency>,
    ) -> Result<Done, CommandError> {
        if !self.clock_trusted() {
            return Err(CommandError::ClockSkewed);
        }
        let owner = match &command {
            Command::Organization(organization, _) => self.owner_of(organization)?,
            Command::Config(_) | Command::Partition(_) => self.owner(PartitionId(0))?,
        };
        loop {
            let past = self.past(owner, &command, idempotency.as_ref()).await?;
            match owner.decide(command.clone(), actor.clone(), idempotency, past).await {
                Err(CommandError::Forgotten(through)) => {
                    let viewed = tokio::time::timeout(VIEW_WAIT, owner.wait_viewed(through));
                    viewed.await.map_err(|_| CommandError::Busy)??;
                }
                other => return other,
            }
        }
    }

    /// Waits until every partition that this node owns has copied all configuration of partition 0, for a bounded
    /// time: a partition whose owner is elsewhere, or whose log is slow, has it later.
    pub(crate) async fn wait_copied(&self) -> Result<(), CommandError> {
        let journal = self.owner(PartitionId(0))?.journal();
        let position = journal.borrow().last().map_or(Position::ZERO, |(position, _)| *position);
        let copied = async {
            for owner in self.owners().skip(1).filter(|owner| owner.role() == Role::Owner) {
                loop {
                    // In this order, so that nothing applied in between is missed.
                    let applied = owner.applied();
                    let copied = owner.read(|state| state.config().copied_through).await?;
                    if copied >= position {
                        break;
                    }
                    owner.wait_applied(applied.next()).await?;
                }
            }
            Ok(())
        };
        match tokio::time::timeout(COPY_WAIT, copied).await {
            Ok(copied) => copied,
            Err(_) => {
                tracing::warn!(%position, "configuration is recorded, and not in force in every partition yet");
                Ok(())
            }
        }
    }

    /// Looks up what a command asks of the past.
    async fn past(
        &self,
        owner: &OwnerHandle,
        command: &Command,
        idempotency: Option<&Idempotency>,
    ) -> Result<Past, CommandError> {
        let questions = questions(command, idempotency);
        let (Command::Organization(organization, _), Some(view)) = (command, self.view(owner.partition()))
        else {
            return Ok(Past::default());
        };
        if questions.is_empty() {
            return Ok(Past::default());
        }
        let (view, organization, through) = (view.clone(), organization.clone(), owner.viewed());
        let read = move || view.past(&organization, &questions, through);
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.map_err(|error| CommandError::View(error.to_string()))?;
        read.map_err(|error| CommandError::View(error.to_string()))
    }

    /// Makes an organization's personal data unreadable for ever (R9.2): records that, then waits until the keys are
    /// erased. They are, whether anybody waits or not; whoever got no answer may repeat it.
    pub async fn erase_contacts(
        &self,
        organization: &OrgId,
        actor: Actor,
        idempotency: Option<Idempotency>,
    ) -> Result<Done, EraseError> {
        let command = Command::Organization(organization.clone(), OrganizationCommand::EraseContacts);
        let done = self.decide(command, actor, idempotency).await?;
        let partition = usize::from(self.partition_of(organization).0);
        let erasures = self.shared.erasures.get(partition).ok_or(EraseError::Pending)?;
        if erasures.wait(organization).await { Ok(done) } else { Err(EraseError::Pending) }
    }

    /// Takes checked usage; answers once it is durable.
    pub async fn submit(&self, usage: Vec<Usage>) -> Result<LogPosition, IngressError> {
        self.may_write()?;
        self.shared.ingress.submit(usage).await
    }

    /// Takes bytes that nobody can read as usage, and that nobody waits for, into quarantine.
    pub async fn quarantine(&self, refused: Unreadable) -> Result<LogPosition, IngressError> {
        self.may_write()?;
        self.shared.ingress.quarantine(refused).await
    }

    /// The highest position of a partition that usage was answered with.
    pub fn answered(&self, partition: PartitionId) -> Position {
        self.shared.ingress.answered(partition)
    }

    /// What an entry of the log decided: for answering a repeated command as the first time.
    pub async fn events_at(&self, at: LogPosition) -> Result<Vec<Event>, ReadError> {
        let stored = self.shared.log.get(at.partition, at.position).await?;
        let entry: Option<Entry> =
            stored.and_then(|stored| tollbook_schemas::codec::decode_entry(&stored.payload).ok());
        match entry.map(|entry| entry.body) {
            Some(Body::Decision(decision)) => Ok(decision.events),
            Some(Body::Usage(_) | Body::Unreadable(_)) | None => Err(ReadError::Corrupt {
                partition: at.partition,
                position: at.position,
                reason: "there is no decision any more".into(),
            }),
        }
    }

    /// Whether this machine's clock is near enough to the broker's.
    pub fn clock_trusted(&self) -> bool {
        self.shared.clock_trusted.load(Ordering::Relaxed)
    }

    fn may_write(&self) -> Result<(), IngressError> {
        if self.clock_trusted() {
            Ok(())
        } else {
            Err(IngressError::Closed("its clock is more than a second from the broker's".into()))
        }
    }

    /// Notes how far this machine's clock is from the broker's, in milliseconds: from a second on nothing is written.
    pub fn note_skew(&self, offset_ms: i64) {
        crate::metrics::clock_skew(offset_ms);
        let trusted = offset_ms.saturating_abs() <= SKEW_MAX_MS;
        let before = self.shared.clock_trusted.swap(trusted, Ordering::Relaxed);
        match (before, trusted) {
            (true, false) => tracing::error!(
                offset_ms,
                "this machine's clock is off: nothing is written until it is right"
            ),
            (false, true) => tracing::info!(offset_ms, "this machine's clock is right again"),
            (true, true) | (false, false) => {}
        }
    }
}

impl Running {
    /// Waits until something fails that nothing can go on after.
    pub async fn failed(&mut self) -> OwnerError {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Ok(Ok(()))) => {}
                Some(Err(error)) => return OwnerError::Panicked(error.to_string()),
                None => std::future::pending().await,
            }
        }
    }

    /// Stops folding once everything that was answered for is applied and viewed. Close the doors before.
    pub async fn stop(mut self) -> Result<(), OwnerError> {
        self.stop.send_replace(true);
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(OwnerError::Panicked(error.to_string())));
            result = result.and(ended);
        }
        result
    }
}
