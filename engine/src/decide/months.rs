//! Months that are over: closed, sealed, invoiced (R4.10, R8.3).

use tollbook_projections::movement::{MovementKey, What};
use tollbook_projections::state::State;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Event, MoneyEvent, PartitionEvent};
use tollbook_schemas::id::{InvoiceId, RechargeId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Month, Timestamp};

use super::{Case, Decided, Refusable};

/// Most months that one entry closes, so that it stays small however long nobody owned the partition.
const CLOSED_MAX: usize = 1_000;

/// Closes every month that has ended in a zone that organizations use, the earliest first.
pub(super) fn close(state: &State, now: Timestamp) -> Decided {
    let mut due = Vec::new();
    for (zone, mut month) in state.open_months() {
        while zone.start_of_month(month.next()) <= now && due.len() < CLOSED_MAX {
            due.push((zone.start_of_month(month.next()), zone, month));
            month = month.next();
        }
    }
    due.sort();
    let closed = due
        .into_iter()
        .map(|(_, zone, month)| Event::Partition(PartitionEvent::MonthClosed { zone: zone.clone(), month }));
    Decided::of(closed)
}

/// A month is sealed once, after it closed, and only if something was booked in it.
pub(super) fn seal(case: &Case<'_>, month: Month, hash: [u8; 32]) -> Refusable {
    let organization = case.organization;
    if !case.state.is_closed(organization, month) {
        return Err(Rejection::MonthOpen);
    }
    let due = organization.waiting_for_seals().any(|waiting| waiting == month);
    Ok(Decided::of(due.then_some(Event::Money(MoneyEvent::StatementSealed { month, hash }))))
}

/// The invoice over a closed month's recharges: what was paid, less what was taken back before this (R4.10).
pub(super) fn invoice(case: &Case<'_>, invoice: &InvoiceId, month: Month) -> Refusable {
    let organization = case.organization;
    if !case.state.is_closed(organization, month) {
        return Err(Rejection::MonthOpen);
    }
    if case.movement(&MovementKey::Invoice(month)).is_some() {
        return Err(Rejection::NothingToInvoice);
    }
    let recharges = case.recharges_of(month)?;
    if recharges.is_empty() {
        return Err(Rejection::NothingToInvoice);
    }
    let number = organization.documents.saturating_add(1);
    let issued = MoneyEvent::InvoiceIssued { invoice: invoice.clone(), number, month, recharges };
    Ok(Decided::of([Event::Money(issued)]))
}

impl Case<'_> {
    /// The recharges that were booked in a month with what is left of each, but for those of which nothing is.
    fn recharges_of(&self, month: Month) -> Result<Vec<(RechargeId, Amount)>, Rejection> {
        let recent = &self.organization.recent;
        let older = self.past.movements.iter().filter(|movement| movement.position <= recent.dropped());
        let of_month = older.chain(recent.movements()).filter(|movement| movement.month == month);
        let mut recharges = Vec::new();
        for movement in of_month {
            if let What::Recharge { recharge } = &movement.what {
                recharges.push((recharge.clone(), self.left_of(recharge)?));
            }
        }
        recharges.retain(|(_, left)| left.is_positive());
        Ok(recharges)
    }
}
