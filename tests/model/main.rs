//! The pure core against an independent model, over seeded random walks; and properties of the fold: batches, order
//! and repetition do not matter, and no bytes break it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests: what cannot go on fails the test, and a run says what it reached"
)]

mod admission;
mod bytes;
mod money;
mod months;
mod people;
mod split;
mod views;
mod walk;
