//! Recharges, and the voucher that they earn (R4.5, R4.7).

use tollbook_projections::purse::TOTAL_MAX;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Event, MoneyEvent, VoucherOrigin};
use tollbook_schemas::id::{RechargeId, Reference, VoucherId};
use tollbook_schemas::policy::VoucherPolicy;
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::{Case, Decided, Refusable};

/// A recharge that the payment provider reports.
pub(super) struct NewRecharge<'a> {
    pub(super) recharge: &'a RechargeId,
    pub(super) amount: Amount,
    pub(super) reference: &'a Reference,
    /// The id of the voucher, should one be granted.
    pub(super) voucher: &'a VoucherId,
}

const DAY_SECONDS: i64 = 24 * 60 * 60;

pub(super) fn recharge(case: &Case<'_>, new: &NewRecharge<'_>) -> Refusable {
    if !new.amount.is_positive() {
        return Err(Rejection::AmountNotPositive);
    }
    let (state, organization) = (case.state, case.organization);
    if let Some(before) = organization.recharges.get(new.reference) {
        return if before.amount == new.amount {
            Ok(Decided::Before(before.position))
        } else {
            let first = LogPosition { partition: state.partition(), position: before.position };
            Err(Rejection::ReferenceConflict { reference: new.reference.clone(), first })
        };
    }
    let policy = state.config().voucher_policy;
    let purse = &organization.purse;
    let fits = |amount: Amount| (amount <= TOTAL_MAX).then_some(amount).ok_or(Rejection::AmountOutOfRange);
    let cumulative =
        fits(purse.cumulative_recharge().checked_add(new.amount).ok_or(Rejection::AmountOutOfRange)?)?;
    let granted = policy.amount.is_positive() && !purse.voucher_granted() && cumulative >= policy.threshold;
    if granted {
        fits(purse.granted().checked_add(policy.amount).ok_or(Rejection::AmountOutOfRange)?)?;
    }
    // From here it succeeds.
    let mut events = vec![Event::Money(MoneyEvent::Recharged {
        recharge: new.recharge.clone(),
        amount: new.amount,
        reference: new.reference.clone(),
    })];
    if granted {
        events.push(Event::Money(MoneyEvent::VoucherGranted {
            voucher: new.voucher.clone(),
            amount: policy.amount,
            expires_at: expiry(policy, case.now),
            origin: VoucherOrigin::Policy,
        }));
    }
    Ok(Decided::Events(events))
}

fn expiry(policy: VoucherPolicy, now: Timestamp) -> Option<Timestamp> {
    policy.expires_after_days.map(|days| now.plus_seconds(i64::from(days).saturating_mul(DAY_SECONDS)))
}
