//! An organization's money as events change it (R4).

use tollbook_schemas::alert::AlertData;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{MoneyEvent, VoucherOrigin};
use tollbook_schemas::id::{InvoiceId, MovementId, Reason, Reference, VoucherId};
use tollbook_schemas::time::Month;
use tollbook_schemas::usage::{BookedUsage, UsagePlace};

use super::{Organization, Writing};
use crate::books::Seal;
use crate::movement::{Grant, Movement, What};
use crate::purse::{EXPIRY_NOTICE_SECONDS, Funds, Voucher};
use crate::state::{Corrupt, Effect};

/// A movement's reference and reason.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    reference: Option<&'a Reference>,
    reason: Option<&'a Reason>,
}

impl<'a> Told<'a> {
    const fn reference(reference: &'a Reference) -> Self {
        Self { reference: Some(reference), reason: None }
    }
}

impl Organization {
    pub(super) fn apply_money(
        &mut self,
        event: &MoneyEvent,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let before = self.purse.funds();
        match event {
            MoneyEvent::Recharged { recharge, amount, reference } => {
                self.purse.recharge(*amount)?;
                let what = What::Recharge { recharge: recharge.clone() };
                self.moved(before, what, Told::reference(reference), writing)
            }
            MoneyEvent::RechargeReversed { reversal, recharge, amount, reference, reason } => {
                self.purse.charge_back(*amount)?;
                let what = What::RechargeReversal { reversal: reversal.clone(), recharge: recharge.clone() };
                let told = Told { reference: Some(reference), reason: Some(reason) };
                self.moved(before, what, told, writing)
            }
            MoneyEvent::Refunded { refund, requested, reference, recharge } => {
                self.purse.refund(*requested)?;
                let (refund, requested, recharge) = (refund.clone(), *requested, recharge.clone());
                let what = What::Refund { refund, requested, recharge };
                self.moved(before, what, Told::reference(reference), writing)
            }
            MoneyEvent::Adjusted { adjustment, amount, reference, reason, corrects } => {
                self.purse.adjust(*amount)?;
                let what = What::Adjustment { adjustment: adjustment.clone(), corrects: *corrects };
                let told = Told { reference: Some(reference), reason: Some(reason) };
                self.moved(before, what, told, writing)
            }
            MoneyEvent::VoucherGranted { voucher, amount, expires_at, origin } => {
                let (grant, told) = match origin {
                    VoucherOrigin::Policy if self.purse.voucher_granted() => {
                        return Err(Corrupt::VoucherTwice(self.id.clone()));
                    }
                    VoucherOrigin::Policy => (Grant::Policy, Told::default()),
                    VoucherOrigin::Operator { reference, reason } => {
                        (Grant::Operator, Told { reference: Some(reference), reason: reason.as_ref() })
                    }
                    VoucherOrigin::MovedIn => (Grant::MovedIn, Told::default()),
                };
                let granted = Voucher {
                    voucher: voucher.clone(),
                    granted: *amount,
                    left: *amount,
                    expires_at: *expires_at,
                    position: writing.at.position,
                    of_policy: grant == Grant::Policy,
                    // Whoever is told of the grant is told when it expires.
                    expiry_told: expires_at
                        .is_some_and(|at| at <= writing.at.recorded_at.plus_seconds(EXPIRY_NOTICE_SECONDS)),
                };
                self.purse.grant(granted, grant == Grant::MovedIn)?;
                let (amount, expires_at) = (*amount, *expires_at);
                let data = AlertData::VoucherGranted { voucher: voucher.clone(), amount, expires_at };
                writing.alert(&self.id, data);
                let what = What::VoucherGrant { voucher: voucher.clone(), expires_at, grant };
                self.moved(before, what, told, writing)
            }
            MoneyEvent::VoucherExpired { voucher } => {
                let lost = self.purse.expire(voucher)?;
                if lost.is_positive() {
                    writing.alert(&self.id, AlertData::VoucherExpired { voucher: voucher.clone(), lost });
                }
                self.lost(before, lost, What::VoucherExpiry { voucher: voucher.clone() }, writing)
            }
            MoneyEvent::VoucherWithdrawn { voucher, below } => {
                // Usage may have come between, and then the refund before this one paid less than was asked for.
                if self.purse.cumulative_recharge() >= *below {
                    return Ok(());
                }
                let lost = self.purse.withdraw(voucher)?;
                self.lost(before, lost, What::VoucherWithdrawal { voucher: voucher.clone() }, writing)
            }
            MoneyEvent::UsageReversed { reversal, usage, booked, reason } => {
                self.reverse_usage(reversal, *usage, booked, reason, writing)
            }
            MoneyEvent::StatementSealed { month, hash } => {
                self.seal(*month, *hash, writing);
                Ok(())
            }
            MoneyEvent::InvoiceIssued { invoice, number, month, recharges } => {
                self.documents = *number;
                let (invoice, recharges) = (invoice.clone(), recharges.clone());
                let what = What::Invoice { invoice, number: *number, of: *month, recharges };
                self.moved(before, what, Told::default(), writing)
            }
            MoneyEvent::VoucherExpiring { voucher } => {
                let known = self.purse.tell_expiry(voucher);
                let told = known.and_then(|known| Some((known.left, known.expires_at?)));
                if let Some((left, expires_at)) = told {
                    let data = AlertData::VoucherExpiring { voucher: voucher.clone(), left, expires_at };
                    writing.alert(&self.id, data);
                }
                Ok(())
            }
            MoneyEvent::CreditNoteIssued { note, number, invoice, movement } => {
                self.credit(note, *number, invoice, movement, writing)
            }
        }
    }

    /// Books a line: what changed since `before`.
    fn moved(
        &mut self,
        before: Funds,
        what: What,
        told: Told<'_>,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let after = self.purse.funds();
        self.note(after.minus(before)?, what, told, writing);
        Ok(())
    }

    fn note(&mut self, change: Funds, what: What, told: Told<'_>, writing: &mut Writing<'_>) {
        let movement = Movement {
            position: writing.at.position,
            number: writing.movements,
            booked_at: writing.at.recorded_at,
            month: self.month.month,
            reference: told.reference.cloned(),
            reason: told.reason.cloned(),
            change,
            after: self.purse.funds(),
            what,
        };
        writing.movements = writing.movements.saturating_add(1);
        self.month.active = true;
        match movement.what {
            // There may be very many, and no decision of this entry asks for them.
            What::MovedInReference => self.recent.leave(&movement),
            What::Recharge { .. }
            | What::Refund { .. }
            | What::RechargeReversal { .. }
            | What::Adjustment { .. }
            | What::VoucherGrant { .. }
            | What::VoucherExpiry { .. }
            | What::VoucherWithdrawal { .. }
            | What::UsageReversal { .. }
            | What::OpeningBalance { .. }
            | What::Invoice { .. }
            | What::CreditNote { .. } => self.recent.note(movement.clone()),
        }
        writing.effects.push(Effect::Moved { organization: self.id.clone(), movement: Box::new(movement) });
    }

    /// Books what was left of a voucher; where usage had taken it all, there is nothing to book.
    fn lost(
        &mut self,
        before: Funds,
        lost: Amount,
        what: What,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        if lost.is_zero() { Ok(()) } else { self.moved(before, what, Told::default(), writing) }
    }

    /// Gives back what a usage record cost; its consumption is taken back by State (R4.8).
    fn reverse_usage(
        &mut self,
        reversal: &MovementId,
        usage: UsagePlace,
        booked: &BookedUsage,
        reason: &Reason,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let voucher = VoucherId::parse(&format!("{}{}", VoucherId::PREFIX, without_prefix(reversal)))
            .map_err(|_| Corrupt::AmountOutOfRange)?;
        let back = self.purse.give_back(booked.cost, voucher, writing.at.position)?;
        self.month.usage = self.month.usage.minus(back)?;
        let (reversal, booked) = (reversal.clone(), Box::new(booked.clone()));
        let what = What::UsageReversal { reversal, usage, booked, back };
        self.note(Funds::default(), what, Told { reference: None, reason: Some(reason) }, writing);
        Ok(())
    }

    fn seal(&mut self, month: Month, hash: [u8; 32], writing: &mut Writing<'_>) {
        // A second seal of a month that is sealed says nothing new.
        if self.unsealed.remove(&month) {
            let (position, sealed_at) = (writing.at.position, writing.at.recorded_at);
            let seal = Seal { month, hash, position, sealed_at };
            writing.effects.push(Effect::Sealed { organization: self.id.clone(), seal });
        }
    }

    /// Credits the refund or reversal before it in the same entry; nothing if nothing was returned (R4.10).
    fn credit(
        &mut self,
        note: &InvoiceId,
        number: u64,
        invoice: &InvoiceId,
        movement: &MovementId,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let returned = self.recent.movements().rfind(|before| before.id() == Some(movement.as_str()));
        let amount = returned.map_or(Amount::ZERO, |before| before.change.cash.negated());
        if amount.is_positive() {
            self.documents = number;
            let (note, invoice, movement) = (note.clone(), invoice.clone(), movement.clone());
            let what = What::CreditNote { note, number, invoice, movement, amount };
            self.note(Funds::default(), what, Told::default(), writing);
        }
        Ok(())
    }

    /// Books what an organization brings (R10.1).
    pub(super) fn move_in(
        &mut self,
        cash: Amount,
        cumulative_recharge: Amount,
        voucher_granted: bool,
        references: &[Reference],
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let before = self.purse.funds();
        self.purse.move_in(cash, cumulative_recharge, voucher_granted)?;
        self.moved(before, What::OpeningBalance { cumulative_recharge }, Told::default(), writing)?;
        for reference in references {
            self.note(Funds::default(), What::MovedInReference, Told::reference(reference), writing);
        }
        Ok(())
    }
}

fn without_prefix(reversal: &MovementId) -> &str {
    reversal.as_str().strip_prefix(MovementId::PREFIX).unwrap_or_default()
}
