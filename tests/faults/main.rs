//! The `tollbook` binary through crashes and damage: what was acknowledged stays, and what is wrong is said.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]
#![allow(clippy::print_stdout, reason = "seeds and figures, for whoever looks into a failure")]

mod alerts;
mod broker;
mod crash;
mod load;
mod months;
mod views;
