//! How far State trails the log: measured, because a decision is only as good as what it is made on.

use std::collections::VecDeque;
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
/// Ends that may wait to be reached: as many as are asked for in a minute.
const ASKED_MAX: usize = 128;
/// Nothing was compared yet.
const NEVER: u64 = u64::MAX;

/// Ends of the log that State has not reached, and when each was asked for. A State that trails by a few seconds all the
/// time reaches every one of them a few seconds later: that is its lag, however far the log has gone on since.
#[derive(Debug, Default)]
struct Asked {
    waiting: VecDeque<(Position, Duration)>,
    /// The furthest.
    end: Position,
}

impl Asked {
    fn note(&mut self, end: Position, at: Duration) {
        self.end = self.end.max(end);
        let is_full = self.waiting.len() >= ASKED_MAX;
        match self.waiting.back_mut() {
            // It still ended there.
            Some((last, asked)) if *last == end => *asked = at,
            // Too far behind to be exact about it: what waits longest says how far.
            Some(_) if is_full => {}
            Some(_) | None => self.waiting.push_back((end, at)),
        }
    }

    fn first(&self) -> Option<Position> {
        self.waiting.front().map(|(end, _)| *end)
    }

    /// When the last of the ends was asked for that are reached by now.
    fn reached(&mut self, applied: Position) -> Option<Duration> {
        let mut as_of = None;
        while let Some((_, at)) = self.waiting.pop_front_if(|(end, _)| *end <= applied) {
            as_of = Some(at);
        }
        as_of
    }
}

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
        let mut asked = Asked::default();
        loop {
            ticks.tick().await;
            let at = fresh.since.elapsed();
            // A log that cannot be asked is a log that State may trail.
            if let Ok(Ok(end)) = tokio::time::timeout(INTERVAL, log.last(owner.partition())).await {
                asked.note(end, at);
            }
            if let Some(end) = asked.first() {
                match tokio::time::timeout(INTERVAL, owner.wait_applied(end)).await {
                    Ok(Ok(())) | Err(_) => {}
                    Ok(Err(_)) => return,
                }
            }
            let applied = owner.applied();
            if let Some(as_of) = asked.reached(applied) {
                fresh.note(as_of);
            }
            metrics::lag(owner.partition(), asked.end.0.saturating_sub(applied.0), fresh.lag());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_state_that_trails_by_two_seconds_is_two_seconds_behind() {
        let mut asked = Asked::default();
        // The log grows by ten entries a second, and State is always twenty behind.
        for now in 0..600 {
            asked.note(Position(now * 10), seconds(now));
            let as_of = asked.reached(Position((now * 10).saturating_sub(20)));
            let expected = match now {
                0 => Some(0),
                1 | 2 => None,
                _ => Some(now - 2),
            };
            assert_eq!(as_of, expected.map(seconds), "after {now} s");
        }
        assert_eq!(asked.reached(asked.end), Some(seconds(599)));
    }

    #[test]
    fn a_state_that_stands_still_is_known_by_what_waits_longest() {
        let mut asked = Asked::default();
        for now in 1..=1_000 {
            asked.note(Position(now), seconds(now));
            assert_eq!(asked.reached(Position(0)), None);
        }
        assert!(asked.waiting.len() <= ASKED_MAX);
        assert_eq!(asked.first(), Some(Position(1)));
        assert_eq!(asked.reached(Position(2)), Some(seconds(2)));
    }

    #[test]
    fn a_log_in_which_nothing_happens_is_up_to_date() {
        let mut asked = Asked::default();
        for now in 0..10 {
            asked.note(Position(7), seconds(now));
            assert_eq!(asked.reached(Position(7)), Some(seconds(now)));
        }
    }
}
