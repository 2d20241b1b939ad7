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
    /// A clock that only its simulation moves.
    Simulated(Arc<watch::Sender<Timestamp>>),
}

impl Clock {
    /// A simulated clock that stands at `now`.
    pub fn simulated(now: Timestamp) -> Self {
        Self::Simulated(Arc::new(watch::Sender::new(now)))
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place")]
            Self::System => Timestamp::try_from(jiff::Timestamp::now()).unwrap_or(Timestamp::MAX),
            Self::Simulated(now) => *now.borrow(),
        }
    }

    /// Moves a simulated clock forward; the machine's clock moves by itself.
    pub fn advance_to(&self, at: Timestamp) {
        match self {
            Self::System => {}
            Self::Simulated(now) => {
                now.send_if_modified(|now| {
                    let later = at > *now;
                    *now = at.max(*now);
                    later
                });
            }
        }
    }

    /// Waits until `at` has come. May wake early by the machine's clock being set; look at the clock again.
    pub async fn sleep_until(&self, at: Timestamp) {
        match self {
            Self::System => {
                let nanos = u64::try_from(at.nanos_since(self.now())).unwrap_or(0);
                tokio::time::sleep(Duration::from_nanos(nanos)).await;
            }
            Self::Simulated(now) => {
                let mut now = now.subscribe();
                // The sender is held by this clock, so it cannot be gone.
                if now.wait_for(|now| *now >= at).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }
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

/// Secret or nonce bytes.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
