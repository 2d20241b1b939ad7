//! Work that State says is left, done in rounds: what a task does for a partition's whole life.
//!
//! ```text
//! State says more ──┐
//! becomes the owner ┼─> a round ─> all done: wait for a change
//! some is left ─────┘           └> some is left: wait a while, too
//! ```

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;

use crate::owner::{OwnerHandle, told};

/// Until the first repetition, twice that until the next, and so on.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest time between two repetitions, and so between two error messages.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Why a round did not do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Something failed: later.
    Later,
    /// Somebody else owns the partition: when it is ours again.
    Standby,
    /// The owner's task is over.
    Stopping,
}

/// Makes rounds until told to stop, one after another: at once, whenever `changes` says that there is more or the role of
/// `owner` changes, and again after a while where something failed.
pub(crate) async fn rounds<T, F: Future<Output = Result<(), Unfinished>>>(
    owner: &OwnerHandle,
    changes: watch::Receiver<T>,
    mut stop: watch::Receiver<bool>,
    round: impl FnMut() -> F,
) {
    tokio::select! {
        () = go_on(owner, changes, round) => {}
        () = told(&mut stop) => {}
    }
}

async fn go_on<T, F: Future<Output = Result<(), Unfinished>>>(
    owner: &OwnerHandle,
    mut changes: watch::Receiver<T>,
    mut round: impl FnMut() -> F,
) {
    let mut roles = owner.roles();
    let mut backoff = BACKOFF_FIRST;
    loop {
        // What changes from here on is looked at in the next round.
        roles.mark_unchanged();
        changes.mark_unchanged();
        let again = match round().await {
            Ok(()) | Err(Unfinished::Standby) => None,
            Err(Unfinished::Later) => Some(backoff),
            Err(Unfinished::Stopping) => return,
        };
        backoff = again.map_or(BACKOFF_FIRST, |now| now.saturating_mul(2).min(BACKOFF_MAX));
        let changed = tokio::select! {
            changed = roles.changed() => changed,
            changed = changes.changed() => changed,
            () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => Ok(()),
        };
        if changed.is_err() {
            return;
        }
    }
}
