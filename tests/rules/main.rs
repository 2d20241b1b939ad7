//! The rules as tables, a test per rule that exists so far, named by its number. Straight on the pure
//! core: no I/O, virtual time.
//!
//! Clauses of R4 and R6 to R10 that are tested elsewhere, because they are of no business of the pure core:
//!
//! ```text
//! R4.1  no requests at available <= 0; compared with the credit limit   admission.rs, end_to_end
//! R4.6  no requests below $1 of cumulative recharge                     admission.rs, end_to_end; no tier: r4.rs
//! R4.7  the same reference from many clients at once                    end_to_end
//! R4.9  prices with more than 6 places, amounts with more than 12       schemas (price.rs, amount.rs), end_to_end
//! R4.9  display rounds                                                  nothing displays yet
//! R4.10 what statements and documents look like                         projections (statement), end_to_end
//! R6.3  the lag second by second, 200 requests at once                  end_to_end (budget_lag.rs)
//! R6.5  what a refusal says                                             admission_budgets.rs, end_to_end, nats_ingress
//! R7.3  once in the feed, at least once delivered, over crashes         engine (feed_contract), faults (alerts.rs), end_to_end
//! R8.1  unreadable bytes, subjects naming another organization          schemas (cloudevent), nats_ingress, end_to_end
//! R8.1  refused to a sender who waits                                   end_to_end, nats_ingress
//! R8.2  published twice over restarts of the engine                     faults, nats_ingress
//! R8.2  any splitting and order of a stream                             model (split.rs)
//! R8.4  queries over ranges                                             end_to_end, projections (view)
//! R9.2  nothing is delivered after erasure                              end_to_end (delivery.rs)
//! R10.1 imports from a file                                             end_to_end; no alerts: r7.rs
//! ```

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
mod admission_anew;
mod admission_bounds;
mod admission_budgets;
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
mod r7;
mod r8;
mod r9;
mod releases;
mod statements;
mod vouchers;
mod zones;
