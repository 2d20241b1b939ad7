//! Billing cycles: what ended because time passed (R6.3).

use tollbook_projections::state::State;
use tollbook_schemas::event::{Event, PartitionEvent};
use tollbook_schemas::time::Timestamp;

use super::Decided;

/// Closes every cycle that has ended: after downtime one close covers all that were missed, and says how many.
pub(super) fn close(state: &State, now: Timestamp) -> Decided {
    let lag = state.config().lag;
    let after = state.head().closed_through;
    match lag.last_boundary(now) {
        Some(through) if through > after => {
            let cycles = lag.boundaries_between(after, through);
            Decided::Events(vec![Event::Partition(PartitionEvent::BillingCycleClosed { through, cycles })])
        }
        Some(_) | None => Decided::AsItIs,
    }
}

/// When the next cycle ends; `None` where cycles do not close.
pub(crate) fn next_close(state: &State) -> Option<Timestamp> {
    let lag = state.config().lag;
    let closed = lag.last_boundary(state.head().closed_through)?;
    Some(closed.plus_seconds(i64::from(lag.cycle_seconds)))
}
