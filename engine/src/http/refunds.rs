//! Refunds: unused cash that is paid back (R4.8).

use tollbook_projections::movement::{MovementKey, MovementKind, What};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{InvoiceId, MovementId, OrgId, RechargeId, Reference};

use super::booked::{Balance, IssuedCreditNote, WithdrawnVoucher, booked, credited, only, withdrawn};
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::shape::{IfAny, answer, request};
use super::write::{Created, Write};
use crate::clock;

/// Of the family that balances begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "refund",
        summary: "Pay unused cash back",
        more: "`paid` is the lesser of what was asked for and the cash there was when it was booked, whatever usage came in \
               between; the rest is not paid later. Without unused cash it is refused. Where cumulative recharge falls below \
               the voucher policy's threshold, what is left of the policy's voucher is withdrawn. The same reference with the \
               same content again changes nothing; with other content it is 409.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/refunds", says, refund);
}

request! {
    /// Cash to pay back.
    pub(super) struct NewRefund {
        /// How much at most; more than 0.
        amount: Amount,
        /// The refund's own, so that it is booked once.
        reference: Reference,
        /// The recharge it returns: then not more than what is left of that.
        recharge: Option<RechargeId>,
    }
}

answer! {
    /// A refund.
    pub(super) struct Refund {
        /// Its id.
        id: MovementId,
        /// What was asked for.
        requested: Amount,
        /// What is to be paid back.
        paid: Amount,
        /// The refund's own.
        reference: Reference,
        /// The recharge it returns; null: none was named.
        recharge: Option<RechargeId>,
        /// The policy's voucher, if it was withdrawn.
        withdrawn_voucher: IfAny<WithdrawnVoucher>,
        /// The credit note, if the recharge was invoiced.
        credit_note: IfAny<IssuedCreditNote>,
        /// As it is now.
        balance: Balance,
    }
}

async fn refund(
    Write { path: org, body, author }: Write<OrgId, NewRefund>,
) -> Result<Created<Refund>, Problem> {
    let key = MovementKey::Reference(MovementKind::Refund, body.reference.clone());
    let command = OrganizationCommand::Refund {
        refund: MovementId::from_bits(clock::new_id_bits()),
        amount: body.amount,
        reference: body.reference,
        recharge: body.recharge,
        note: InvoiceId::from_bits(clock::new_id_bits()),
    };
    let done = author.decide(&org, command).await?;
    let (movements, balance) = booked(&author.node, &org, &done, key).await?;
    let (id, requested, recharge, reference, paid) = only(&movements, |movement| {
        let What::Refund { refund, requested, recharge } = &movement.what else { return None };
        let (reference, paid) = (movement.reference.clone()?, movement.change.cash.negated());
        Some((refund.clone(), *requested, recharge.clone(), reference, paid))
    })?;
    let (withdrawn_voucher, credit_note) = (withdrawn(&movements), credited(&movements));
    let refund = Refund { id, requested, paid, reference, recharge, withdrawn_voucher, credit_note, balance };
    Ok(Created::new(done, refund))
}
