//! What `deploy/` promises, tried against the real nats-server with the shipped files: who may do what, one node and
//! three.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests: what cannot go on fails the test"
)]

mod admission;
mod auditor;
mod deployment;
mod engine;
mod nginx;
mod publisher;
mod reply_subject;
mod spool;
mod subscriber;
mod subscription;
mod three_nodes;
