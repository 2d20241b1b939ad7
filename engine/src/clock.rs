//! The only file that reads the clock or makes something random: elsewhere time, ids and secrets are arguments.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::watch;
use tollbook_schemas::position::WriterId;
use tollbook_schemas::time::Timestamp;
use uuid::Uuid;

/// Where `now` comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that only its simulation moves, until that lets it run.
    Simulated(Arc<watch::Sender<Hands>>),
}

/// What a simulated clock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hands {
    /// This instant, until somebody moves them.
    At(Timestamp),
    /// The machine's time, from now on.
    Running,
}

impl Clock {
    /// A simulated clock that stands at `now`.
    pub fn simulated(now: Timestamp) -> Self {
        Self::Simulated(Arc::new(watch::Sender::new(Hands::At(now))))
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => system_now(),
            Self::Simulated(hands) => match *hands.borrow() {
                Hands::At(now) => now,
                Hands::Running => system_now(),
            },
        }
    }

    /// Moves a simulated clock forward; one that runs moves by itself.
    pub fn advance_to(&self, at: Timestamp) {
        match self {
            Self::System => {}
            Self::Simulated(hands) => {
                hands.send_if_modified(|hands| match *hands {
                    Hands::At(now) if at > now => {
                        *hands = Hands::At(at);
                        true
                    }
                    Hands::At(_) | Hands::Running => false,
                });
            }
        }
    }

    /// Ends a simulation: from now on the clock shows the machine's time.
    pub fn run(&self) {
        match self {
            Self::System => {}
            Self::Simulated(hands) => {
                hands.send_replace(Hands::Running);
            }
        }
    }

    /// Waits until `at` has come. May wake early by the machine's clock being set; look at the clock again.
    pub async fn sleep_until(&self, at: Timestamp) {
        if let Self::Simulated(hands) = self {
            let mut hands = hands.subscribe();
            let come = hands.wait_for(|hands| match hands {
                Hands::At(now) => *now >= at,
                Hands::Running => true,
            });
            match come.await.map(|hands| *hands) {
                Ok(Hands::At(_)) => return,
                Ok(Hands::Running) => {}
                // The sender is held by this clock, so it cannot be gone.
                Err(_) => std::future::pending().await,
            }
        }
        let nanos = u64::try_from(at.nanos_since(self.now())).unwrap_or(0);
        tokio::time::sleep(Duration::from_nanos(nanos)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn system_now() -> Timestamp {
    Timestamp::try_from(jiff::Timestamp::now()).unwrap_or(Timestamp::MAX)
}

/// Measures how long something takes, for benchmarks and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Since the start.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// 128 bits for a new id: ordered by time, unique without asking anybody (UUID version 7).
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn new_id_bits() -> u128 {
    Uuid::now_v7().as_u128()
}

/// The identity of one run of one process.
pub fn new_writer() -> WriterId {
    WriterId(rand::rng().next_u64())
}

/// A random number from 0 to `most`, so that what failed together is not repeated together.
pub fn random_up_to(most: u32) -> u32 {
    rand::rng().next_u32().checked_rem(most.saturating_add(1)).unwrap_or(0)
}

/// Secret or nonce bytes.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_simulated_clock_stands_until_it_is_moved_and_runs_when_it_is_let() {
        let start = Timestamp::from_seconds(1_000);
        let clock = Clock::simulated(start);
        clock.advance_to(start.plus_seconds(-1));
        assert_eq!(clock.now(), start);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(start.plus_seconds(5)).await }
        });
        clock.advance_to(start.plus_seconds(5));
        sleeper.await.unwrap();
        assert_eq!(clock.now(), start.plus_seconds(5));
        let before = Clock::System.now();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(before).await }
        });
        clock.run();
        sleeper.await.unwrap();
        assert!(clock.now() >= before);
        clock.advance_to(Timestamp::MAX);
        assert!(clock.now() < Timestamp::MAX);
    }
}
