//! Erasing the keys of personal data once the log says that they go (R9.2): a task per partition, for the node's whole
//! life.
//!
//! ```text
//! ContactsErased applied ──┐
//! becomes the owner ───────┼─> what does State say is erased? ─> erase what this term has not ─> whoever waits
//! a key could not go, later┘
//! ```
//!
//! Whoever asked for the erasure only waits for it, so a client that hangs up, a crash and another owner leave no key
//! behind.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tollbook_schemas::id::OrgId;

use crate::contacts::Contacts;
use crate::metrics;
use crate::owner::{CommandError, OwnerError, OwnerHandle, Role};
use crate::rounds::{Unfinished, rounds};

/// How long somebody waits who asked for an erasure; a store that works takes milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Organizations whose keys are erased at the same time: a new owner erases those of all times again.
const AT_ONCE: usize = 16;

/// What this process has erased while it owned the partition.
#[derive(Debug, Default)]
struct Erased {
    /// The owner's term. In an older one others may have made keys again.
    term: u64,
    /// Below which number, by organization.
    keys: BTreeMap<OrgId, u32>,
}

impl Erased {
    fn holds(&self, term: u64, organization: &OrgId, below: u32) -> bool {
        below == 0 || (self.term >= term && self.keys.get(organization).is_some_and(|done| *done >= below))
    }
}

/// The task of a partition.
#[derive(Debug)]
pub(crate) struct Eraser {
    owner: OwnerHandle,
    contacts: Contacts,
    erased: watch::Sender<Erased>,
}

/// Where to wait for a partition's erasures.
#[derive(Debug)]
pub(crate) struct Erasures {
    owner: OwnerHandle,
    erased: watch::Receiver<Erased>,
}

/// What erases in the partition of `owner`, and where to wait for it.
pub(crate) fn new(owner: OwnerHandle, contacts: Contacts) -> (Eraser, Erasures) {
    let (erased, watched) = watch::channel(Erased::default());
    (Eraser { owner: owner.clone(), contacts, erased }, Erasures { owner, erased: watched })
}

impl Erasures {
    /// Waits a while until every key of an organization is erased that State says is. Whether that was seen.
    pub(crate) async fn wait(&self, organization: &OrgId) -> bool {
        let id = organization.clone();
        let present = self.owner.read(move |state| {
            let below = state.organization(&id).map_or(0, |known| known.contact_key);
            (state.head().term, below)
        });
        let Ok((term, below)) = present.await else { return false };
        let mut erased = self.erased.clone();
        let done = erased.wait_for(|erased| erased.holds(term, organization, below));
        matches!(tokio::time::timeout(WAIT_MAX, done).await, Ok(Ok(_)))
    }
}

impl Eraser {
    /// Erases until told to stop. What was begun then is taken up by the next owner.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) -> Result<(), OwnerError> {
        rounds(&self.owner, self.owner.erasures(), stop, || self.erase()).await;
        Ok(())
    }

    /// Erases what State says is erased, except for what was in this term.
    async fn erase(&self) -> Result<(), Unfinished> {
        let partition = self.owner.partition();
        let read = self.owner.read(|state| (state.head().term, state.contacts_erased())).await;
        let (term, mut left) = match read {
            Ok(read) => read,
            Err(CommandError::Stopping) => return Err(Unfinished::Stopping),
            Err(_) => return Err(Unfinished::Later),
        };
        // A standby too makes no such key again.
        for (organization, below) in &left {
            self.contacts.note_erased(organization, *below);
        }
        if self.owner.role() != Role::Owner {
            metrics::erasures_pending(partition, 0);
            return Err(Unfinished::Standby);
        }
        self.erased.send_if_modified(|erased| {
            let new = term > erased.term;
            if new {
                *erased = Erased { term, keys: BTreeMap::new() };
            }
            new
        });
        {
            let erased = self.erased.borrow();
            left.retain(|(organization, below)| !erased.holds(term, organization, *below));
        }
        let mut pending = left.len();
        metrics::erasures_pending(partition, pending);
        let mut failed = false;
        let mut erasing = stream::iter(left)
            .map(|(organization, below)| async move {
                let result = self.contacts.erase(&organization, below).await;
                (organization, below, result)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((organization, below, result)) = erasing.next().await {
            match result {
                Ok(()) => {
                    pending = pending.saturating_sub(1);
                    metrics::erasures_pending(partition, pending);
                    self.erased.send_modify(|erased| {
                        erased.keys.insert(organization, below);
                    });
                }
                Err(error) => {
                    // Once a round: a store that is away fails for everybody.
                    if !failed {
                        tracing::error!(%partition, %organization, %error, "a key of erased personal data is still there; trying again");
                    }
                    failed = true;
                }
            }
        }
        if failed { Err(Unfinished::Later) } else { Ok(()) }
    }
}
