//! Months that are over: closed, sealed, invoiced (R4.10, R8.3).

use std::collections::BTreeMap;

use tollbook_projections::movement::MovementKey;
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
        let mut until = zone.start_of_month(month.next());
        while until <= now {
            due.push((until, zone, month));
            month = month.next();
            until = zone.start_of_month(month.next());
        }
    }
    due.sort();
    due.truncate(CLOSED_MAX);
    let closed = due.into_iter().map(|(until, zone, month)| {
        Event::Partition(PartitionEvent::MonthClosed { zone: zone.clone(), month, until })
    });
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
        let mut order = Vec::new();
        let mut left: BTreeMap<&RechargeId, Amount> = BTreeMap::new();
        for movement in self.all_movements() {
            let booked = movement.recharged().filter(|_| movement.month == month);
            order.extend(booked);
            let Some(recharge) = booked.or(movement.paid_back_of()) else { continue };
            let left = left.entry(recharge).or_default();
            // What was paid back counts below zero.
            *left = left.checked_add(movement.change.cash).ok_or(Rejection::AmountOutOfRange)?;
        }
        let lines = order
            .into_iter()
            .map(|recharge| (recharge.clone(), left.get(recharge).copied().unwrap_or_default()));
        Ok(lines.filter(|(_, left)| left.is_positive()).collect())
    }
}
