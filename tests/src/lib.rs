//! Harnesses shared by the tests: the pure core under a script or beside an oracle, real servers, and waiting for a
//! condition with a deadline.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a harness that cannot go on fails the test"
)]

use std::future::Future;
use std::time::Duration;

pub mod books;
pub mod gate;
pub mod memory;
pub mod months;

pub mod oracle;
pub mod people;
pub mod receivers;
pub mod script;

pub mod nats;
pub mod nginx;
pub mod python;
pub mod sse;
pub mod system;

/// How often [`eventually`] looks; the only sleep in the tests.
const POLL: Duration = Duration::from_millis(10);

/// Polls `condition` until it gives a value, and fails the test after `deadline`.
pub async fn eventually<T, F, Fut>(deadline: Duration, what: &str, mut condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let polling = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    match tokio::time::timeout(deadline, polling).await {
        Ok(value) => value,
        Err(_) => panic!("within {deadline:?} it did not happen: {what}"),
    }
}
