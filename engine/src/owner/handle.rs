//! How others reach an owner: commands, reads, and what it publishes.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tollbook_projections::past::Past;
use tollbook_projections::state::State;
use tollbook_schemas::command::Command;
use tollbook_schemas::entry::{Actor, Cause, Idempotency};
use tollbook_schemas::event::Event;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::rejection::Rejection;

use super::{Journal, Role, Tokens};
use crate::decide::questions;
use crate::log::AppendError;

/// A command on its way to be decided.
#[derive(Debug)]
pub struct Request {
    pub(super) command: Command,
    pub(super) actor: Actor,
    pub(super) cause: Cause,
    /// What came before and is not in State any more.
    pub(super) past: Past,
    pub(super) reply: Option<oneshot::Sender<Result<Done, CommandError>>>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The entry that says so; for a repetition, the first one's.
    pub position: LogPosition,
    /// What was recorded; for a repetition or when nothing had to change, nothing now.
    pub events: Vec<Event>,
    /// Whether the same was asked before, so that `position` is of an earlier entry.
    pub before: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A rule said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// This process does not own the partition; another does, or will.
    #[error("this node does not own the partition now; try again shortly")]
    NotOwner,
    /// This machine's clock is more than a second from the broker's.
    #[error("this engine's clock is off, so it writes nothing; try another node")]
    ClockSkewed,
    /// As much waits as may.
    #[error("too many commands are waiting; try again shortly")]
    Busy,
    /// The process is stopping.
    #[error("the engine is stopping; try again")]
    Stopping,
    /// What the command asks of the past was looked up before the view held this, which State has forgotten.
    #[error("the view does not hold {0} yet; try again shortly")]
    Forgotten(Position),
    /// The view could not be read.
    #[error("the view could not be read: {0}")]
    View(String),
    /// The entry could not be written.
    #[error("the log could not be written: {0}")]
    Log(AppendError),
    /// The entry could not be encoded.
    #[error("the entry could not be encoded: {0}")]
    Encode(String),
}

impl Request {
    /// Something the engine itself wants, with nobody waiting.
    pub(super) fn of_engine(command: Command) -> Self {
        let cause = match &command {
            Command::Partition(tollbook_schemas::command::PartitionCommand::TakeOwnership(_)) => {
                Cause::Takeover
            }
            Command::Partition(tollbook_schemas::command::PartitionCommand::CopyConfig { of, .. }) => {
                Cause::Copy { of: *of }
            }
            Command::Partition(
                tollbook_schemas::command::PartitionCommand::CloseCycles
                | tollbook_schemas::command::PartitionCommand::CloseMonths,
            )
            | Command::Organization(..)
            | Command::Config(_) => Cause::Timer,
        };
        Self { command, actor: Actor::Engine, cause, past: Past::default(), reply: None }
    }

    /// Whether its decision depends on the past.
    pub(super) fn looks_back(&self) -> bool {
        !questions(&self.command, self.idempotency()).is_empty()
    }

    pub(super) const fn idempotency(&self) -> Option<&Idempotency> {
        match &self.cause {
            Cause::Command { idempotency } => idempotency.as_ref(),
            Cause::Timer | Cause::Takeover | Cause::Copy { .. } => None,
        }
    }

    /// Tells whoever waits.
    pub(super) fn answer(self, result: Result<Done, CommandError>) {
        match (self.reply, result) {
            (Some(reply), result) => {
                if reply.send(result).is_err() {
                    tracing::debug!("nobody waits for the answer any more");
                }
            }
            (None, Err(error)) => {
                tracing::warn!(%error, command = ?self.command, "the engine's own command failed")
            }
            (None, Ok(_)) => {}
        }
    }
}

/// What the owner's task takes.
pub(super) enum Message {
    Decide(Box<Request>),
    Read(Box<dyn FnOnce(&State) + Send>),
    LeaseHeld { through: Position },
    LeaseLost,
}

/// Where the owner says what others watch.
pub(super) struct Published {
    applied: watch::Sender<Position>,
    role: watch::Sender<Role>,
    tokens: watch::Sender<Tokens>,
    journal: watch::Sender<Journal>,
    erasures: watch::Sender<()>,
    months: watch::Sender<()>,
    alerted: watch::Sender<Position>,
}

/// What others watch.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    applied: watch::Receiver<Position>,
    role: watch::Receiver<Role>,
    tokens: watch::Receiver<Tokens>,
    journal: watch::Receiver<Journal>,
    erasures: watch::Receiver<()>,
    months: watch::Receiver<()>,
    alerted: watch::Receiver<Position>,
}

impl Published {
    pub(super) fn new(state: &State) -> (Self, Watched) {
        let (applied, applied_watch) = watch::channel(state.head().position);
        let (role, role_watch) = watch::channel(Role::Standby);
        let (tokens, tokens_watch) = watch::channel(Arc::new(state.config().tokens.clone()));
        let (journal, journal_watch) = watch::channel(Arc::new(state.config().journal.clone()));
        let (erasures, erasures_watch) = watch::channel(());
        let (months, months_watch) = watch::channel(());
        let (alerted, alerted_watch) = watch::channel(Position::ZERO);
        let watched = Watched {
            applied: applied_watch,
            role: role_watch,
            tokens: tokens_watch,
            journal: journal_watch,
            erasures: erasures_watch,
            months: months_watch,
            alerted: alerted_watch,
        };
        (Self { applied, role, tokens, journal, erasures, months, alerted }, watched)
    }

    pub(super) fn publish(&self, state: &State) {
        let config = state.config();
        if self.tokens.borrow().len() != config.tokens.len() || **self.tokens.borrow() != config.tokens {
            self.tokens.send_replace(Arc::new(config.tokens.clone()));
        }
        if self.journal.borrow().len() != config.journal.len() {
            self.journal.send_replace(Arc::new(config.journal.clone()));
        }
        self.applied.send_replace(state.head().position);
    }

    pub(super) fn role(&self, role: Role) {
        self.role.send_replace(role);
    }

    /// Personal data of some organization is erased, as State says.
    pub(super) fn erased(&self) {
        self.erasures.send_replace(());
    }

    /// Months are closed, as State says.
    pub(super) fn months_closed(&self) {
        self.months.send_replace(());
    }

    /// The entry at `position` caused alerts, which go to the views with it.
    pub(super) fn alerted(&self, position: Position) {
        self.alerted.send_replace(position);
    }
}

/// Reaches one owner. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnerHandle {
    partition: PartitionId,
    messages: mpsc::Sender<Message>,
    watched: Watched,
    viewed: watch::Receiver<Position>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl OwnerHandle {
    pub(super) const fn new(
        partition: PartitionId,
        messages: mpsc::Sender<Message>,
        watched: Watched,
        viewed: watch::Receiver<Position>,
    ) -> Self {
        Self { partition, messages, watched, viewed }
    }

    /// The partition.
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Has a command decided, and waits until its entry is applied; `past` answers what it asks of the past.
    pub async fn decide(
        &self,
        command: Command,
        actor: Actor,
        idempotency: Option<Idempotency>,
        past: Past,
    ) -> Result<Done, CommandError> {
        let (reply, answer) = oneshot::channel();
        let cause = Cause::Command { idempotency };
        self.send(Message::Decide(Box::new(Request { command, actor, cause, past, reply: Some(reply) })))?;
        answer.await.map_err(|_| CommandError::Stopping)?
    }

    /// The same of what the engine itself wants because time passed.
    pub(crate) async fn decide_due(&self, command: Command) -> Result<Done, CommandError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { reply: Some(reply), ..Request::of_engine(command) };
        self.send(Message::Decide(Box::new(request)))?;
        answer.await.map_err(|_| CommandError::Stopping)?
    }

    /// Reads State between two records.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        let read = move |state: &State| {
            if reply.send(read(state)).is_err() {
                tracing::debug!("nobody waits for what was read any more");
            }
        };
        self.send(Message::Read(Box::new(read)))?;
        answer.await.map_err(|_| CommandError::Stopping)
    }

    /// The lease is held; everything up to `through` stood in the log when it was got.
    pub async fn lease_held(&self, through: Position) -> Result<(), CommandError> {
        self.messages.send(Message::LeaseHeld { through }).await.map_err(|_| CommandError::Stopping)
    }

    /// The lease is lost.
    pub async fn lease_lost(&self) -> Result<(), CommandError> {
        self.messages.send(Message::LeaseLost).await.map_err(|_| CommandError::Stopping)
    }

    /// The last position applied.
    pub fn applied(&self) -> Position {
        *self.watched.applied.borrow()
    }

    /// Waits until `position` is applied. Errors: the owner stopped first.
    pub async fn wait_applied(&self, position: Position) -> Result<(), CommandError> {
        let mut applied = self.watched.applied.clone();
        applied.wait_for(|at| *at >= position).await.map(|_| ()).map_err(|_| CommandError::Stopping)
    }

    /// Waits until the views hold `position`.
    pub async fn wait_viewed(&self, position: Position) -> Result<(), CommandError> {
        let mut viewed = self.viewed.clone();
        viewed.wait_for(|at| *at >= position).await.map(|_| ()).map_err(|_| CommandError::Stopping)
    }

    /// The last position that the views hold.
    pub fn viewed(&self) -> Position {
        *self.viewed.borrow()
    }

    /// The last entry that caused alerts, of those applied since the start. They are in the view once it holds that.
    pub(crate) fn alerted(&self) -> watch::Receiver<Position> {
        self.watched.alerted.clone()
    }

    /// What this process is to the partition now.
    pub fn role(&self) -> Role {
        *self.watched.role.borrow()
    }

    /// Changes with every change of the role: a new ownership is seen even where the role is the same again.
    pub(crate) fn roles(&self) -> watch::Receiver<Role> {
        self.watched.role.clone()
    }

    /// Changes once State says of more personal data that it is erased.
    pub(crate) fn erasures(&self) -> watch::Receiver<()> {
        self.watched.erasures.clone()
    }

    /// Changes once State says of more months that they are closed.
    pub(crate) fn months(&self) -> watch::Receiver<()> {
        self.watched.months.clone()
    }

    /// Waits until this process decides for the partition.
    pub async fn wait_owner(&self) -> Result<(), CommandError> {
        let mut role = self.watched.role.clone();
        role.wait_for(|role| *role == Role::Owner).await.map(|_| ()).map_err(|_| CommandError::Stopping)
    }

    /// Service tokens as this partition knows them.
    pub fn tokens(&self) -> Tokens {
        self.watched.tokens.borrow().clone()
    }

    /// Configuration entries, of partition 0.
    pub fn journal(&self) -> watch::Receiver<Journal> {
        self.watched.journal.clone()
    }

    fn send(&self, message: Message) -> Result<(), CommandError> {
        self.messages.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopping,
        })
    }
}
