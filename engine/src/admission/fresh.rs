//! How far State trails the log: measured, because a decision is only as good as what it is made on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollbook_schemas::position::Position;

use crate::clock::Stopwatch;
use crate::log::EventLog;
use crate::metrics;
use crate::owner::OwnerHandle;

/// How often the log's end is asked for, so how exact the measure is.
const INTERVAL: Duration = Duration::from_millis(500);
/// Nothing was compared yet.
const NEVER: u64 = u64::MAX;

/// When State was last known to have all that the log had.
#[derive(Debug)]
pub struct Freshness {
    since: Stopwatch,
    /// In milliseconds after `since`.
    as_of: AtomicU64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { since: Stopwatch::start(), as_of: AtomicU64::new(NEVER) }
    }
}

impl Freshness {
    /// For how long State may lack what the log has.
    pub fn lag(&self) -> Duration {
        match self.as_of.load(Ordering::Relaxed) {
            NEVER => Duration::MAX,
            as_of => self.since.elapsed().saturating_sub(Duration::from_millis(as_of)),
        }
    }

    /// Notes that State has all that the log has now.
    pub fn caught_up(&self) {
        self.note(self.since.elapsed());
    }

    fn note(&self, as_of: Duration) {
        self.as_of.store(u64::try_from(as_of.as_millis()).unwrap_or(NEVER), Ordering::Relaxed);
    }

    /// Compares State with the log's end again and again, until the owner is gone.
    pub async fn watch(desk: Arc<super::Desk>, log: Arc<dyn EventLog>, owner: OwnerHandle) {
        let fresh = desk.fresh();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut end = Position::ZERO;
        loop {
            ticks.tick().await;
            let asked = fresh.since.elapsed();
            // A log that cannot be asked is a log that State may trail.
            if let Ok(Ok(last)) = tokio::time::timeout(INTERVAL, log.last(owner.partition())).await {
                end = last;
                match tokio::time::timeout(INTERVAL, owner.wait_applied(end)).await {
                    Ok(Ok(())) => fresh.note(asked),
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
            }
            let events = end.0.saturating_sub(owner.applied().0);
            metrics::lag(owner.partition(), events, fresh.lag());
        }
    }
}
