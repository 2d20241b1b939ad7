//! Sealing statements once the log says that their month is over (R8.3): a task per partition, for the node's whole
//! life.
//!
//! ```text
//! MonthClosed applied ──┐
//! becomes the owner ────┼─> which organizations wait for seals? ─> statement from the view ─> StatementSealed
//! one failed, later ────┘     a few hundred at a time                 a few at a time
//! ```
//!
//! Nothing can be booked in a closed month, so whoever seals it, whenever, after whatever crash, comes to the same hash.

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tollbook_projections::statement::Kept;
use tollbook_projections::view::View;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::time::{Month, Timestamp};

use crate::metrics;
use crate::owner::{CommandError, OwnerError, OwnerHandle, Role};
use crate::rounds::{Unfinished, rounds};
use crate::statement::{StatementError, complete};

/// Organizations that the owner looks at between two records: a fraction of a millisecond.
const LOOK: usize = 256;

/// Statements made and sealed at the same time: enough to share syncs of the log, too few to keep others waiting.
const AT_ONCE: usize = 16;

/// The task of a partition.
#[derive(Debug)]
pub(crate) struct Sealer {
    owner: OwnerHandle,
    view: View,
}

/// Why one statement was not sealed.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Statement(#[from] StatementError),
}

type Due = (OrgId, Vec<Month>);

impl Sealer {
    pub(crate) const fn new(owner: OwnerHandle, view: View) -> Self {
        Self { owner, view }
    }

    /// Seals until told to stop. What is left then is sealed by the next owner.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) -> Result<(), OwnerError> {
        rounds(&self.owner, self.owner.months(), stop, || self.seal_all()).await;
        Ok(())
    }

    /// Seals every statement that waits for it.
    async fn seal_all(&self) -> Result<(), Unfinished> {
        let partition = self.owner.partition();
        let (mut from, mut left) = (0usize, 0usize);
        while let Some(due) = self.due(from).await? {
            from = from.saturating_add(LOOK);
            metrics::statements_pending(partition, left.saturating_add(due.len()));
            left = left.saturating_add(self.seal_each(due).await?);
        }
        metrics::statements_pending(partition, left);
        if left == 0 { Ok(()) } else { Err(Unfinished::Later) }
    }

    /// Who waits, of the next few organizations; `None` past the last.
    async fn due(&self, from: usize) -> Result<Option<Vec<Due>>, Unfinished> {
        if self.owner.role() != Role::Owner {
            metrics::statements_pending(self.owner.partition(), 0);
            return Err(Unfinished::Standby);
        }
        let read = self.owner.read(move |state| {
            let due = state.sealable(from, LOOK)?;
            Some(due.into_iter().map(|(organization, months)| (organization.id.clone(), months)).collect())
        });
        match read.await {
            Ok(due) => Ok(due),
            Err(CommandError::Stopping) => Err(Unfinished::Stopping),
            Err(_) => Err(Unfinished::Later),
        }
    }

    /// Seals statements of some organizations; how many of these were left.
    async fn seal_each(&self, due: Vec<Due>) -> Result<usize, Unfinished> {
        let mut sealing = stream::iter(due)
            .map(|(organization, months)| async move {
                let sealed = self.seal_months(&organization, months).await;
                (organization, sealed)
            })
            .buffer_unordered(AT_ONCE);
        let mut left = 0usize;
        while let Some((organization, sealed)) = sealing.next().await {
            match sealed {
                Ok(()) => {}
                Err(SealError::Command(CommandError::NotOwner)) => return Err(Unfinished::Standby),
                Err(
                    SealError::Command(CommandError::Stopping)
                    | SealError::Statement(StatementError::Command(CommandError::Stopping)),
                ) => return Err(Unfinished::Stopping),
                Err(error) => {
                    // Once for so many: a log that is away fails for everybody.
                    if left == 0 {
                        let partition = self.owner.partition();
                        tracing::error!(%partition, %organization, %error, "a statement is not sealed yet; trying again");
                    }
                    left = left.saturating_add(1);
                }
            }
        }
        Ok(left)
    }

    /// Seals the statements of one organization, in the order of months.
    async fn seal_months(&self, organization: &OrgId, months: Vec<Month>) -> Result<(), SealError> {
        for month in months {
            let id = organization.clone();
            let kept = self.owner.read(move |state| {
                let known = state.organization(&id)?;
                // What is closed has begun, whatever the time.
                Kept::of(state, known, month, Timestamp::EPOCH).ok().filter(|kept| kept.closed)
            });
            let Some(kept) = kept.await? else { continue };
            let (statement, _) = complete(&self.owner, self.view.clone(), kept).await?;
            let command = OrganizationCommand::SealStatement { month, hash: statement.hash() };
            self.owner.decide_due(Command::Organization(organization.clone(), command)).await?;
        }
        Ok(())
    }
}
