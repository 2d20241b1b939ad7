//! Money: recharges and the voucher that they earn, what is paid back, corrections, vouchers (R4).

use tollbook_projections::movement::{Movement, MovementKey, MovementKind, What};
use tollbook_projections::purse::TOTAL_MAX;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Event, MoneyEvent, OrganizationEvent, VoucherOrigin};
use tollbook_schemas::id::{InvoiceId, MovementId, Reason, RechargeId, Reference, VoucherId};
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

/// Unused cash to be returned.
pub(super) struct NewRefund<'a> {
    pub(super) refund: &'a MovementId,
    pub(super) amount: Amount,
    pub(super) reference: &'a Reference,
    /// The recharge it returns, if told.
    pub(super) recharge: Option<&'a RechargeId>,
    /// The id of the credit note, should one be due.
    pub(super) note: &'a InvoiceId,
}

/// A recharge to be taken back.
pub(super) struct NewReversal<'a> {
    pub(super) reversal: &'a MovementId,
    pub(super) recharge: &'a RechargeId,
    /// `None`: what is left of it.
    pub(super) amount: Option<Amount>,
    pub(super) reference: &'a Reference,
    pub(super) reason: &'a Reason,
    /// The id of the credit note, should one be due.
    pub(super) note: &'a InvoiceId,
}

/// Cash to be corrected.
pub(super) struct NewAdjustment<'a> {
    pub(super) adjustment: &'a MovementId,
    pub(super) amount: Amount,
    pub(super) reference: &'a Reference,
    pub(super) reason: &'a Reason,
    pub(super) corrects: Option<LogPosition>,
}

/// A voucher to be granted.
pub(super) struct NewVoucher<'a> {
    pub(super) voucher: &'a VoucherId,
    pub(super) amount: Amount,
    pub(super) reference: &'a Reference,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) reason: Option<&'a Reason>,
}

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Most vouchers that one entry says to have expired.
const EXPIRED_MAX: usize = 1_000;

pub(super) fn recharge(case: &Case<'_>, new: &NewRecharge<'_>) -> Refusable {
    positive(new.amount)?;
    let same = |before: &Movement| before.recharged().is_some() && before.change.cash == new.amount;
    if let Some(before) = case.before(MovementKind::Recharge, new.reference, same)? {
        return Ok(before);
    }
    let (policy, purse) = (case.state.config().voucher_policy, &case.organization.purse);
    within(purse.totals().recharged, new.amount)?;
    let cumulative =
        purse.cumulative_recharge().checked_add(new.amount).ok_or(Rejection::AmountOutOfRange)?;
    // Whoever was at the threshold before, even if not any more, does not reach it for the first time: a change of the
    // policy grants nothing backwards.
    let reaches = purse.highest_recharge() < policy.threshold && cumulative >= policy.threshold;
    let granted = reaches && policy.amount.is_positive() && !purse.voucher_granted();
    if granted {
        within(purse.granted(), policy.amount)?;
    }
    // From here it succeeds.
    let mut events = vec![MoneyEvent::Recharged {
        recharge: new.recharge.clone(),
        amount: new.amount,
        reference: new.reference.clone(),
    }];
    if granted {
        events.push(MoneyEvent::VoucherGranted {
            voucher: new.voucher.clone(),
            amount: policy.amount,
            expires_at: expiry(policy, case.now),
            origin: VoucherOrigin::Policy,
        });
    }
    Ok(decided(events))
}

/// What is paid is decided where it is booked; here only that there is something to pay (R4.8).
pub(super) fn refund(case: &Case<'_>, new: &NewRefund<'_>) -> Refusable {
    positive(new.amount)?;
    let same = |before: &Movement| {
        matches!(&before.what, What::Refund { requested, recharge, .. }
            if *requested == new.amount && recharge.as_ref() == new.recharge)
    };
    if let Some(before) = case.before(MovementKind::Refund, new.reference, same)? {
        return Ok(before);
    }
    if let Some(recharge) = new.recharge {
        let left = case.left_of(recharge)?;
        if new.amount > left {
            return Err(Rejection::RefundTooLarge { left });
        }
    }
    let purse = &case.organization.purse;
    if !purse.cash().is_positive() {
        return Err(Rejection::NothingToRefund);
    }
    // From here it succeeds.
    let paid = new.amount.min(purse.cash());
    let mut events = vec![MoneyEvent::Refunded {
        refund: new.refund.clone(),
        requested: new.amount,
        reference: new.reference.clone(),
        recharge: new.recharge.cloned(),
    }];
    events.extend(case.withdrawal(paid));
    events.extend(new.recharge.and_then(|recharge| case.credit_note(recharge, new.refund, new.note)));
    Ok(decided(events))
}

pub(super) fn reverse_recharge(case: &Case<'_>, new: &NewReversal<'_>) -> Refusable {
    if let Some(amount) = new.amount {
        positive(amount)?;
    }
    let same = |before: &Movement| {
        let as_much = new.amount.is_none_or(|amount| before.change.cash == amount.negated());
        matches!(&before.what, What::RechargeReversal { recharge, .. }
            if recharge == new.recharge && as_much && before.reason.as_ref() == Some(new.reason))
    };
    if let Some(before) = case.before(MovementKind::RechargeReversal, new.reference, same)? {
        return Ok(before);
    }
    let left = case.left_of(new.recharge)?;
    let amount = new.amount.unwrap_or(left);
    if amount > left || !left.is_positive() {
        return Err(Rejection::ReversalTooLarge { left });
    }
    within(case.organization.purse.totals().charged_back, amount)?;
    // From here it succeeds.
    let mut events = vec![MoneyEvent::RechargeReversed {
        reversal: new.reversal.clone(),
        recharge: new.recharge.clone(),
        amount,
        reference: new.reference.clone(),
        reason: new.reason.clone(),
    }];
    events.extend(case.withdrawal(amount));
    events.extend(case.credit_note(new.recharge, new.reversal, new.note));
    Ok(decided(events))
}

pub(super) fn adjust(case: &Case<'_>, new: &NewAdjustment<'_>) -> Refusable {
    if new.amount.is_zero() {
        return Err(Rejection::AmountZero);
    }
    let same = |before: &Movement| {
        let corrected = before.change.cash == new.amount && before.reason.as_ref() == Some(new.reason);
        matches!(&before.what, What::Adjustment { corrects, .. } if corrected && *corrects == new.corrects)
    };
    if let Some(before) = case.before(MovementKind::Adjustment, new.reference, same)? {
        return Ok(before);
    }
    if let Some(corrects) = new.corrects {
        let (partition, head) = (case.state.partition(), case.state.head().position);
        let exists = corrects.partition == partition && (1..=head.0).contains(&corrects.position.0);
        if !exists {
            return Err(Rejection::EntryUnknown(corrects));
        }
    }
    let adjusted = case.organization.purse.totals().adjusted;
    let adjusted = adjusted.checked_add(new.amount).ok_or(Rejection::AmountOutOfRange)?;
    if adjusted > TOTAL_MAX || adjusted.negated() > TOTAL_MAX {
        return Err(Rejection::AmountOutOfRange);
    }
    // From here it succeeds.
    Ok(decided(vec![MoneyEvent::Adjusted {
        adjustment: new.adjustment.clone(),
        amount: new.amount,
        reference: new.reference.clone(),
        reason: new.reason.clone(),
        corrects: new.corrects,
    }]))
}

pub(super) fn grant_voucher(case: &Case<'_>, new: &NewVoucher<'_>) -> Refusable {
    positive(new.amount)?;
    let same = |before: &Movement| {
        let granted = before.change.vouchers == new.amount && before.reason.as_ref() == new.reason;
        matches!(&before.what, What::VoucherGrant { expires_at, .. } if granted && *expires_at == new.expires_at)
    };
    if let Some(before) = case.before(MovementKind::VoucherGrant, new.reference, same)? {
        return Ok(before);
    }
    if new.expires_at.is_some_and(|at| at <= case.now) {
        return Err(Rejection::ExpiryPassed);
    }
    within(case.organization.purse.granted(), new.amount)?;
    // From here it succeeds.
    Ok(decided(vec![MoneyEvent::VoucherGranted {
        voucher: new.voucher.clone(),
        amount: new.amount,
        expires_at: new.expires_at,
        origin: VoucherOrigin::Operator { reference: new.reference.clone(), reason: new.reason.cloned() },
    }]))
}

/// Vouchers that are due, or about to be (R4.3, R7.2): what is left of each is decided where that is booked.
pub(super) fn expire_vouchers(case: &Case<'_>) -> Decided {
    let is_past = |at: Option<Timestamp>| at.is_some_and(|at| at <= case.now);
    let due = case.organization.purse.each_voucher().iter().filter_map(|known| {
        let voucher = known.voucher.clone();
        if is_past(known.expires_at) {
            return Some(Event::Money(MoneyEvent::VoucherExpired { voucher }));
        }
        is_past(known.notice_at()).then_some(Event::Money(MoneyEvent::VoucherExpiring { voucher }))
    });
    // The next entry takes the rest.
    Decided::of(due.take(EXPIRED_MAX))
}

/// A credit limit of nothing is none (R4.1).
pub(super) fn set_credit_limit(case: &Case<'_>, limit: Option<Amount>) -> Refusable {
    if let Some(limit) = limit {
        positive(limit)?;
        within(Amount::ZERO, limit)?;
    }
    let changed = case.organization.credit_limit != limit;
    Ok(Decided::of(changed.then_some(Event::Organization(OrganizationEvent::CreditLimitSet { limit }))))
}

impl Case<'_> {
    /// The entry of the movement of this kind that used the reference before: the same again changes nothing, and
    /// with other content is refused (R4.7).
    fn before(
        &self,
        kind: MovementKind,
        reference: &Reference,
        same: impl Fn(&Movement) -> bool,
    ) -> Result<Option<Decided>, Rejection> {
        match self.movement(&MovementKey::Reference(kind, reference.clone())) {
            None => Ok(None),
            Some(before) if same(before) => Ok(Some(Decided::Before(before.position))),
            Some(before) => Err(Rejection::ReferenceConflict {
                reference: reference.clone(),
                first: LogPosition { partition: self.state.partition(), position: before.position },
            }),
        }
    }

    /// What is left of a recharge after everything that was paid back of it (R4.8).
    pub(super) fn left_of(&self, recharge: &RechargeId) -> Result<Amount, Rejection> {
        let unknown = || Rejection::RechargeUnknown(recharge.clone());
        let key = MovementKey::Recharge(recharge.clone());
        let (mut booked, mut left) = (false, Amount::ZERO);
        for movement in self.movements(&key) {
            booked |= movement.recharged().is_some();
            // What was paid back counts below zero, and an invoice not at all.
            left = left.checked_add(movement.change.cash).ok_or(Rejection::AmountOutOfRange)?;
        }
        if booked { Ok(left) } else { Err(unknown()) }
    }

    /// The withdrawal of the policy's voucher, should `amount` take cumulative recharge below its threshold (R4.8): a
    /// threshold that was raised above it since takes nothing back. The fold asks again where it is booked.
    fn withdrawal(&self, amount: Amount) -> Option<MoneyEvent> {
        let below = self.state.config().voucher_policy.threshold;
        let purse = &self.organization.purse;
        let before = purse.cumulative_recharge();
        let crosses = before >= below && before.checked_sub(amount)? < below;
        let voucher = purse.each_voucher().iter().find(|voucher| voucher.of_policy)?;
        crosses.then(|| MoneyEvent::VoucherWithdrawn { voucher: voucher.voucher.clone(), below })
    }

    /// The credit note over what is paid back of a recharge, if that was invoiced (R4.10).
    fn credit_note(
        &self,
        recharge: &RechargeId,
        movement: &MovementId,
        note: &InvoiceId,
    ) -> Option<MoneyEvent> {
        let key = MovementKey::Recharge(recharge.clone());
        let invoice = self.movements(&key).find_map(|movement| {
            if let What::Invoice { invoice, .. } = &movement.what { Some(invoice.clone()) } else { None }
        })?;
        let number = self.organization.documents.saturating_add(1);
        Some(MoneyEvent::CreditNoteIssued { note: note.clone(), number, invoice, movement: movement.clone() })
    }
}

fn decided(events: Vec<MoneyEvent>) -> Decided {
    Decided::Events(events.into_iter().map(Event::Money).collect())
}

fn positive(amount: Amount) -> Result<(), Rejection> {
    if amount.is_positive() { Ok(()) } else { Err(Rejection::AmountNotPositive) }
}

/// Whether a total can still grow by `amount`.
pub(super) fn within(total: Amount, amount: Amount) -> Result<(), Rejection> {
    match total.checked_add(amount) {
        Some(grown) if grown <= TOTAL_MAX => Ok(()),
        Some(_) | None => Err(Rejection::AmountOutOfRange),
    }
}

fn expiry(policy: VoucherPolicy, now: Timestamp) -> Option<Timestamp> {
    policy.expires_after_days.map(|days| now.plus_seconds(i64::from(days).saturating_mul(DAY_SECONDS)))
}
