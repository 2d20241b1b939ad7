//! Usage over NATS and the spool, on real nats-servers, with stock clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod admission;
mod answers;
mod crash;
mod deployed;
#[path = "../deploy/deployment.rs"]
#[allow(dead_code, reason = "its other users need more of it")]
mod deployment;
mod engine;
mod gate;
mod headers;
mod mutated;
mod owners;
mod python;
mod reply_subject;
mod spool;
mod unanswered;

use std::time::Duration;

/// More than any step takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
