//! The rules as tables, a test per rule that exists so far, named by its number. Straight on the pure
//! core: no I/O, virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests: what cannot go on fails the test, and a run says what it reached"
)]

mod books;
mod corrections;
mod idempotency;
mod log;
mod own_prices;
mod paying_back;
mod permissions;
mod r1;
mod r10;
mod r2;
mod r3;
mod r4;
mod r5;
mod r6;
mod r8;
mod r9;
mod statements;
mod vouchers;
mod zones;
