//! The `tollbook` binary as its users meet it: over HTTP, from the shell, on both logs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]
#![allow(clippy::print_stdout, reason = "seeds and figures, for whoever looks into a failure")]

mod access;
mod admission;
mod admission_at_once;
mod admission_life;
mod admission_refusals;
mod alerts;
mod audit;
mod budget_lag;
mod budgets;
mod commands;
mod corrections;
mod customer;
mod delivery;
mod events;
mod export;
mod idempotency;
mod import;
mod life;
mod limits;
mod management;
mod money;
mod money_at_once;
mod money_over_time;
mod moving_in;
mod partitions;
mod payloads;
mod peers;
mod people;
mod privacy;
mod rate_scale;
mod refusals;
mod standby;
mod statements;

use rust_decimal::Decimal;
use tollbook_tests::system::{Api, Totals};

/// A model that [`priced`] gives a price.
const MODEL: &str = "kimi-k2.5";

/// Prices by which one call of [`tollbook_tests::system::Key::event`] costs $0.00007.
async fn priced(api: &Api) {
    api.prices(MODEL, "0.60", "0.10", "3.00").await;
}

/// So many calls of [`tollbook_tests::system::Key::event`].
fn calls(requests: u64) -> Totals {
    let cost = Decimal::new(7, 5) * Decimal::from(requests);
    Totals { requests, input: 100 * requests, cached: 40 * requests, output: 10 * requests, cost }
}

/// Compares everything that an organization used, once all that was answered is folded.
async fn check_spend(api: &Api, organization: &str, expected: Totals) {
    api.folded().await;
    assert_eq!(api.spend(organization).await, expected);
}
