//! From the outbox of a partition's view into the feed: a task per partition, for the node's whole life.
//!
//! ```text
//! owner:    outbox ─> at or below the watermark? ─> dropped unseen
//!                     else ─> raised ─> row removed ─> watermark
//! standby:  rows at or below the watermark are dropped, now and then
//! ```
//!
//! An outbox row is written in the same batch as the views. What a crash leaves is read again: the watermark and the feed
//! itself know what was raised.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::alert::Alert;
use tollbook_schemas::position::Position;

use super::feed::{AlertFeed, AlertFeedError};
use crate::clock::Clock;
use crate::fault::{self, FaultPoint};
use crate::metrics;
use crate::owner::{OwnerError, OwnerHandle, Role, told};

/// Alerts raised together: one sync beside the embedded log, half a second of one server at most.
const BATCH: usize = 512;

/// Until the first repetition of what failed, twice that until the next, and so on.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Longest time between two repetitions.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How often a standby looks whether its outbox was raised by others.
const STANDBY_INTERVAL: Duration = Duration::from_secs(30);

/// The task of a partition.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) owner: OwnerHandle,
    pub(crate) view: View,
    pub(crate) feed: Arc<dyn AlertFeed>,
    pub(crate) clock: Clock,
}

/// Why a round did not do everything.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Feed(#[from] AlertFeedError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("reading the view panicked: {0}")]
    Panicked(String),
}

impl Publisher {
    /// Raises until told to stop. What is left then is raised by the next owner.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), OwnerError> {
        tokio::select! {
            () = self.go_on() => {}
            () = told(&mut stop) => {}
        }
        Ok(())
    }

    async fn go_on(&self) {
        let (mut roles, mut alerted) = (self.owner.roles(), self.owner.alerted());
        let mut backoff = BACKOFF_FIRST;
        loop {
            // What changes from here on is looked at in the next round.
            roles.mark_unchanged();
            let last = *alerted.borrow_and_update();
            if self.owner.wait_viewed(last).await.is_err() {
                return;
            }
            let owns = self.owner.role() == Role::Owner;
            let done = if owns { self.raise_all().await } else { self.drop_raised().await };
            let pause = match &done {
                Ok(()) => (!owns).then_some(STANDBY_INTERVAL),
                Err(error) => {
                    let partition = self.owner.partition();
                    tracing::warn!(%partition, %error, "alerts wait in the outbox; trying again");
                    metrics::alert_publish_failed(partition);
                    Some(backoff)
                }
            };
            backoff = if done.is_ok() { BACKOFF_FIRST } else { backoff.saturating_mul(2).min(BACKOFF_MAX) };
            let changed = tokio::select! {
                changed = roles.changed() => changed,
                changed = alerted.changed(), if pause.is_none() => changed,
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => Ok(()),
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Raises everything in the outbox that was not raised, and empties it.
    async fn raise_all(&self) -> Result<(), RoundError> {
        let partition = self.owner.partition();
        let mut waiting = None;
        while self.owner.role() == Role::Owner {
            let rows = self.outgoing().await?;
            let full = rows.len() >= BATCH;
            let count = match waiting {
                Some(waiting) if full => waiting,
                None if full => self.blocking(|view| view.outgoing_count()).await?,
                Some(_) | None => rows.len(),
            };
            waiting = Some(count.saturating_sub(rows.len()));
            self.measure(count, rows.first());
            let Some(last) = rows.last().map(|alert| alert.position.position) else { break };
            let through = self.feed.through(partition).await?;
            let fresh: Vec<Alert> =
                rows.iter().filter(|alert| alert.position.position > through).cloned().collect();
            if !fresh.is_empty() {
                self.feed.raise(fresh).await?;
            }
            fault::reached(FaultPoint::AlertRaised);
            self.blocking(move |view| view.left(&rows)).await?;
            fault::reached(FaultPoint::OutboxEmptied);
            // Of the last entry of a full batch there may be more.
            let reached = if full { Position(last.0.saturating_sub(1)) } else { last };
            if reached > through {
                self.feed.mark_through(partition, reached).await?;
            }
            if !full {
                self.measure(0, None);
                break;
            }
        }
        Ok(())
    }

    /// Removes what others have raised.
    async fn drop_raised(&self) -> Result<(), RoundError> {
        // The owner measures.
        self.measure(0, None);
        loop {
            let mut rows = self.outgoing().await?;
            if rows.is_empty() {
                return Ok(());
            }
            let (all, through) = (rows.len(), self.feed.through(self.owner.partition()).await?);
            rows.retain(|alert| alert.position.position <= through);
            let over = rows.len() < all || all < BATCH;
            self.blocking(move |view| view.left(&rows)).await?;
            if over {
                return Ok(());
            }
        }
    }

    async fn outgoing(&self) -> Result<Vec<Alert>, RoundError> {
        self.blocking(|view| view.outgoing(BATCH)).await
    }

    /// Uses the view where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&View) -> Result<T, ViewError> + Send + 'static,
    ) -> Result<T, RoundError> {
        let view = self.view.clone();
        let done = tokio::task::spawn_blocking(move || work(&view)).await;
        Ok(done.map_err(|error| RoundError::Panicked(error.to_string()))??)
    }

    fn measure(&self, rows: usize, oldest: Option<&Alert>) {
        let lag = oldest.map_or(0, |oldest| {
            let nanos = self.clock.now().nanos().saturating_sub(oldest.raised_at.nanos());
            u64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0)
        });
        metrics::alert_outbox(self.owner.partition(), rows, lag);
    }
}
