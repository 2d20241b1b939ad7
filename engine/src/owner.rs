//! The owner: one task per partition has State, and nobody else touches it.
//!
//! ```text
//! commands ─> decide ─> appender ─> log ─> feed ─> apply ─> reply, views, watchers
//! ```
//!
//! It never awaits I/O, and answers a command only when its own entry has come back in the log's order: so what it
//! promised stands, whoever else wrote in between.

mod handle;
mod series;
mod view_writer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tollbook_projections::config::Token;
use tollbook_projections::organization::Organization;
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::{Corrupt, Effect, State};
use tollbook_projections::view::{Rows, View, ViewError};
use tollbook_schemas::codec::EncodeError;
use tollbook_schemas::command::{Command, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::Body;
use tollbook_schemas::event::{ConfigEvent, Event, OrganizationEvent, PartitionEvent};
use tollbook_schemas::id::{NodeName, OrgId, TokenId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;

pub use self::handle::{CommandError, Done, OwnerHandle, Request};
use self::handle::{Message, Published};
use self::series::Series;
use self::view_writer::ViewWriter;
use crate::admission::Desk;
use crate::admission::budget::FirstRefusal;
use crate::alerts::shape::period_code;
use crate::clock::Clock;
use crate::decide::cycle::next_close;
use crate::fault::{self, FaultPoint};
use crate::feed::{Chunk, FeedError, Ready};
use crate::log::EventLog;
use crate::metrics;
use crate::writer::Writer;

/// How often changed rows go to the views. They are for reading history and for a quick start, so later is cheaper.
const VIEW_INTERVAL: Duration = Duration::from_millis(250);
/// Effects kept for the views while they are written; beyond this the log is not read on.
const EFFECTS_MAX: usize = 100_000;
/// Organizations whose vouchers are looked at together when they expire.
const EXPIRIES_AT_ONCE: usize = 256;
/// First refusals of budgets that are written down together.
const REFUSALS_AT_ONCE: usize = 256;
/// How long nothing is written down after the log did not take it, in nanoseconds.
const HOLD_BACK_NANOS: i64 = 1_000_000_000;
/// Messages that may wait for the owner.
const MESSAGES_MAX: usize = 1_024;

/// What this process is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Folds along, decides nothing.
    Standby,
    /// Has the lease; its term is not in the log yet.
    Taking,
    /// Decides.
    Owner,
}

/// Why the owner stopped. All of it is fatal for the process: nothing may go on.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// The log holds what cannot be.
    #[error("the log of partition {partition} cannot be folded at {position}: {source}")]
    Corrupt {
        /// Which partition.
        partition: PartitionId,
        /// The record.
        position: Position,
        /// What broke.
        source: Corrupt,
    },
    /// Nothing more is fed.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The feed ended without an error.
    #[error("the feed of partition {0} ended")]
    FeedEnded(PartitionId),
    /// The views cannot be written.
    #[error("{0}; stop, delete the views and start again: they are rebuilt from the log")]
    View(#[from] ViewError),
    /// Rows cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A task panicked.
    #[error("a task of the engine panicked: {0}")]
    Panicked(String),
    /// The view writer's thread is gone.
    #[error("the view writer stopped")]
    ViewWriterGone,
}

/// Configuration entries of partition 0, for the other partitions to copy.
pub type Journal = Arc<Vec<(Position, ConfigEvent)>>;
/// Service tokens that work.
pub type Tokens = Arc<BTreeMap<TokenId, Token>>;

/// What an owner is made of.
#[derive(Debug)]
pub struct Parts {
    /// State as the views had it.
    pub state: State,
    /// Everything after it.
    pub feed: mpsc::Receiver<Chunk>,
    /// Where decisions go.
    pub log: Arc<dyn EventLog>,
    /// Who writes them.
    pub writer: Writer,
    /// Where time comes from.
    pub clock: Clock,
    /// Where changed rows go.
    pub view: View,
    /// This process.
    pub node: NodeName,
    /// Whether this machine's clock is near enough to the broker's to write anything.
    pub clock_trusted: Arc<AtomicBool>,
    /// Partition 0's configuration; `None` in partition 0 itself.
    pub journal: Option<watch::Receiver<Journal>>,
    /// Where admission finds what is in force; it has all of `state`.
    pub desk: Arc<Desk>,
}

/// The task's own things.
pub struct Owner {
    state: State,
    feed: mpsc::Receiver<Chunk>,
    messages: mpsc::Receiver<Message>,
    series: Series,
    clock: Clock,
    clock_trusted: Arc<AtomicBool>,
    /// Until when nothing is written down because of the time: the log did not take the last of it.
    held_back: Timestamp,
    node: NodeName,
    role: Role,
    /// The term this process took, while it owns the partition.
    term: u64,
    /// What must be applied before the partition may be taken over.
    take_after: Option<Position>,
    effects: Vec<Effect>,
    views: ViewWriter,
    published: Published,
    journal: Option<watch::Receiver<Journal>>,
    desk: Arc<Desk>,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Owner of {} at {}", self.state.partition(), self.state.head().position)
    }
}

impl Owner {
    /// An owner, and the handle that others reach it by.
    pub fn new(parts: Parts) -> Result<(Self, OwnerHandle), OwnerError> {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let position = parts.state.head().position;
        let (views, viewed) = ViewWriter::start(parts.view, position)?;
        let (published, watched) = Published::new(&parts.state);
        let handle = OwnerHandle::new(parts.state.partition(), sender, watched, viewed);
        let owner = Self {
            state: parts.state,
            feed: parts.feed,
            messages,
            series: Series::new(parts.log, parts.writer),
            clock: parts.clock,
            clock_trusted: parts.clock_trusted,
            held_back: Timestamp::EPOCH,
            node: parts.node,
            role: Role::Standby,
            term: 0,
            take_after: None,
            effects: Vec::new(),
            views,
            published,
            journal: parts.journal,
            desk: parts.desk,
        };
        Ok((owner, handle))
    }

    /// Runs until `stop` says so or something fatal happens. What is applied by then is in the views.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), OwnerError> {
        let mut view_tick = tokio::time::interval(VIEW_INTERVAL);
        view_tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.next_due();
            let clock = self.clock.clone();
            tokio::select! {
                chunk = self.feed.recv(), if self.effects.len() < EFFECTS_MAX => self.apply(chunk)?,
                Some(appended) = self.series.appended() => {
                    self.series.settle(appended, &self.state, self.term, self.clock.now());
                }
                Some(message) = self.messages.recv() => self.take(message),
                () = wait_until(clock, due) => self.write_down_what_is_due(),
                true = configuration_changed(&mut self.journal) => {}
                () = self.desk.first_refused() => self.note_refusals(),
                _ = view_tick.tick() => {
                    self.take_over_again();
                    self.note_refusals();
                    self.write_views()?;
                }
                () = told(&mut stop) => return self.finish().await,
            }
            self.copy_configuration();
            if self.series.take_failure() {
                self.held_back = self.clock.now().plus_nanos(HOLD_BACK_NANOS);
            }
        }
    }

    fn apply(&mut self, chunk: Option<Chunk>) -> Result<(), OwnerError> {
        let partition = self.state.partition();
        let chunk = chunk.ok_or(OwnerError::FeedEnded(partition))??;
        let entries = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        let (mut erased, mut months_closed, mut alerted) = (false, false, None);
        for Ready { record, sightings } in chunk {
            let effects = self.state.apply(&record, &sightings).map_err(|source| OwnerError::Corrupt {
                partition,
                position: record.position,
                source,
            })?;
            let owns = self.role == Role::Owner;
            for effect in &effects {
                report(partition, owns, effect);
            }
            self.desk.applied(&self.state, &record, &effects);
            self.series.applied(&record, &effects);
            erased |= effects.iter().any(erases);
            months_closed |= closes_months(&record);
            if effects.iter().any(|effect| matches!(effect, Effect::Alert(_))) {
                alerted = Some(self.state.head().position);
            }
            self.effects.extend(effects);
        }
        if erased {
            self.published.erased();
        }
        if months_closed {
            self.published.months_closed();
        }
        if let Some(position) = alerted {
            self.published.alerted(position);
        }
        self.follow_ownership();
        self.series.go_on(&self.state, self.term, self.clock.now());
        self.published.publish(&self.state);
        let head = self.state.head();
        metrics::applied(metrics::Applied {
            partition,
            entries,
            position: head.position,
            quarantined: head.quarantined.saturating_sub(head.settled),
            skipped: head.skipped,
        });
        Ok(())
    }

    /// What the log says about ownership now.
    fn follow_ownership(&mut self) {
        let (partition, term, position) =
            (self.state.partition(), self.state.head().term, self.state.head().position);
        if self.role == Role::Owner && term != self.term {
            tracing::warn!(%partition, term, "another node took over");
            self.become_role(Role::Standby);
        }
        let Some(after) = self.take_after else { return };
        let by_us = self.state.head().owner.as_ref() == Some(&self.node);
        if self.role == Role::Taking && term > self.term && by_us {
            tracing::info!(%partition, term, %position, "owns the partition");
            self.term = term;
            self.take_after = None;
            self.become_role(Role::Owner);
        } else if self.role == Role::Standby && position >= after {
            self.term = term;
            self.become_role(Role::Taking);
            self.take_over_again();
        }
    }

    /// Asks for the term; again if the log could not be written the last time.
    fn take_over_again(&mut self) {
        if self.role == Role::Taking && !self.series.config_is_busy() && self.may_write() {
            let command = Command::Partition(PartitionCommand::TakeOwnership(self.node.clone()));
            self.series.submit(Request::of_engine(command), &self.state, self.term, self.clock.now());
        }
    }

    fn become_role(&mut self, role: Role) {
        self.role = role;
        self.desk.own((role == Role::Owner).then_some(self.term));
        self.published.role(role);
        metrics::owner(self.state.partition(), role == Role::Owner);
        if role == Role::Standby {
            self.series.give_up();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Decide(request) if self.role == Role::Owner && !self.may_write() => {
                request.answer(Err(CommandError::ClockSkewed));
            }
            Message::Decide(request) if self.role == Role::Owner => {
                self.series.submit(*request, &self.state, self.term, self.clock.now());
            }
            Message::Decide(request) => request.answer(Err(CommandError::NotOwner)),
            Message::Read(read) => read(&self.state),
            Message::LeaseHeld { through } => {
                self.take_after = Some(through);
                self.follow_ownership();
            }
            Message::LeaseLost => {
                self.take_after = None;
                if self.role != Role::Standby {
                    tracing::warn!(partition = %self.state.partition(), "the lease is lost");
                    self.become_role(Role::Standby);
                }
            }
        }
    }

    /// When time has to be written down next, as far as nothing of its kind is in flight.
    fn next_due(&self) -> Option<Timestamp> {
        if self.role != Role::Owner || !self.may_write() {
            return None;
        }
        let idle = !self.series.config_is_busy();
        let cycle = next_close(&self.state).filter(|_| idle);
        let month = self.state.month_end().filter(|_| idle);
        let due = [cycle, month, self.next_expiry()].into_iter().flatten().min();
        due.map(|due| due.max(self.held_back))
    }

    /// Whether this machine's clock may say what is due: a month that was closed too early stays closed.
    fn may_write(&self) -> bool {
        self.clock_trusted.load(Ordering::Relaxed)
    }

    /// When the next voucher expires of an organization with no decision in flight, looked for among the first few.
    fn next_expiry(&self) -> Option<Timestamp> {
        let free = |(_, organization): &(Timestamp, &Organization)| !self.series.is_busy(&organization.id);
        self.state.expiries().take(EXPIRIES_AT_ONCE).find(free).map(|(at, _)| at)
    }

    fn write_down_what_is_due(&mut self) {
        if !self.may_write() {
            return;
        }
        self.close_cycles();
        self.close_months();
        self.expire_vouchers();
    }

    fn close_months(&mut self) {
        let now = self.clock.now();
        if self.state.month_end().is_some_and(|end| end <= now) && !self.series.config_is_busy() {
            let command = Command::Partition(PartitionCommand::CloseMonths);
            self.series.submit(Request::of_engine(command), &self.state, self.term, now);
        }
    }

    fn expire_vouchers(&mut self) {
        let now = self.clock.now();
        let due = self.state.expiries().take(EXPIRIES_AT_ONCE).take_while(|(at, _)| *at <= now);
        let due: Vec<OrgId> = due.map(|(_, organization)| organization.id.clone()).collect();
        for organization in due {
            if !self.series.is_busy(&organization) {
                let command = Command::Organization(organization, OrganizationCommand::ExpireVouchers);
                self.series.submit(Request::of_engine(command), &self.state, self.term, now);
            }
        }
    }

    /// Writes down first refusals of budgets (R6.5), some at a time: the next tick goes on.
    fn note_refusals(&mut self) {
        let now = self.clock.now();
        if self.role != Role::Owner || !self.may_write() || now < self.held_back {
            return;
        }
        for refusal in self.desk.take_first_refusals(REFUSALS_AT_ONCE) {
            let FirstRefusal { organization, project, period, visible_from, at } = refusal;
            let visible_from = LogPosition { partition: self.state.partition(), position: visible_from };
            let command =
                OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, refused_at: at };
            let command = Command::Organization(organization, command);
            self.series.submit(Request::of_engine(command), &self.state, self.term, now);
        }
    }

    fn close_cycles(&mut self) {
        let now = self.clock.now();
        if let Some(due) = next_close(&self.state)
            && due <= now
            && !self.series.config_is_busy()
        {
            let late = now.nanos_since(due).div_euclid(1_000_000_000);
            metrics::cycle_closed(self.state.partition(), late);
            let command = Command::Partition(PartitionCommand::CloseCycles);
            self.series.submit(Request::of_engine(command), &self.state, self.term, now);
        }
    }

    /// Copies the next configuration entry of partition 0 that is not here yet.
    fn copy_configuration(&mut self) {
        let Some(journal) = &self.journal else { return };
        if self.role != Role::Owner || self.series.config_is_busy() {
            return;
        }
        let copied = self.state.config().copied_through;
        let next = {
            let journal = journal.borrow();
            let mut rest = journal.iter().filter(|(position, _)| *position > copied).peekable();
            rest.peek().map(|(position, _)| *position).map(|position| {
                let events = rest.take_while(|(of, _)| *of == position).map(|(_, event)| event.clone());
                (position, events.collect::<Vec<_>>())
            })
        };
        if let Some((position, events)) = next {
            let of = LogPosition { partition: PartitionId(0), position };
            let command = Command::Partition(PartitionCommand::CopyConfig { of, events });
            self.series.submit(Request::of_engine(command), &self.state, self.term, self.clock.now());
        }
    }

    fn write_views(&mut self) -> Result<(), OwnerError> {
        let position = self.state.head().position;
        if self.views.is_idle()? && position > self.views.sent() {
            let rows = Rows::collect(&mut self.state, &self.effects)?;
            self.effects.clear();
            fault::reached(FaultPoint::Applied);
            self.views.send(rows, position)?;
        }
        Ok(())
    }

    /// Refuses what still waits, and leaves the views at the last position applied.
    async fn finish(mut self) -> Result<(), OwnerError> {
        self.series.stop();
        self.messages.close();
        while let Ok(message) = self.messages.try_recv() {
            match message {
                Message::Decide(request) => request.answer(Err(CommandError::Stopping)),
                Message::Read(read) => read(&self.state),
                Message::LeaseHeld { .. } | Message::LeaseLost => {}
            }
        }
        self.views.idle().await?;
        self.write_views()?;
        self.views.idle().await
    }
}

/// Waits until told to stop. A sender that is gone says the same.
pub(crate) async fn told(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        tracing::debug!("whoever says when to stop is gone");
    }
}

async fn wait_until(clock: Clock, due: Option<Timestamp>) {
    match due {
        Some(due) => clock.sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits for another configuration entry in partition 0.
async fn configuration_changed(journal: &mut Option<watch::Receiver<Journal>>) -> bool {
    let changed = match journal {
        Some(journal) => journal.changed().await.is_ok(),
        None => false,
    };
    // Where there is nothing to watch, nothing ever changes.
    if changed { true } else { std::future::pending().await }
}

/// Whether personal data is to be erased now.
fn erases(effect: &Effect) -> bool {
    let Effect::Decided { row, .. } = effect else { return false };
    row.events.iter().any(|event| matches!(event, Event::Organization(OrganizationEvent::ContactsErased)))
}

/// Whether statements may be due for their seals now.
fn closes_months(record: &Record) -> bool {
    let Content::Entry(Topic::Config, entry) = &record.content else { return false };
    let Body::Decision(decision) = &entry.body else { return false };
    decision.events.iter().any(|event| matches!(event, Event::Partition(PartitionEvent::MonthClosed { .. })))
}

/// Tells whoever watches this process. What is only counted is counted by the owner, so that neither standbys nor a fold
/// from the beginning count history again.
fn report(partition: PartitionId, owns: bool, effect: &Effect) {
    match effect {
        Effect::BreachEnded { ended, .. } => {
            if owns {
                metrics::breach_ended(period_code(ended.breach.period), ended.overshoot());
            }
        }
        Effect::Foreign { position, reason } => {
            tracing::error!(%partition, %position, reason, "skipped a message that is no entry of this ledger");
        }
        Effect::Copy { position } => tracing::warn!(%partition, %position, "skipped a copy of an entry"),
        Effect::Voided { position, term } => {
            tracing::warn!(%partition, %position, term, "skipped a decision of a term that was over");
        }
        Effect::Quarantined(record) => {
            tracing::warn!(%partition, place = %record.place, reason = record.reason.code(), "quarantined usage");
        }
        Effect::CellsClosed { .. }
        | Effect::Decided { .. }
        | Effect::Moved { .. }
        | Effect::MonthEnded { .. }
        | Effect::Sealed { .. }
        | Effect::Remembered { .. }
        | Effect::Repeated { .. }
        | Effect::Settled { .. }
        | Effect::Alert(_)
        | Effect::Charged { .. } => {}
    }
}
