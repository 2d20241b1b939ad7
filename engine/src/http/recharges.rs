//! Recharges and what became of each: refunds that name it, chargebacks, its invoice.

use tollbook_projections::movement::{Movement, MovementKey, MovementKind, What};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{InvoiceId, MovementId, OrgId, Reason, RechargeId, Reference};
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::time::Timestamp;

use super::answer::{Json, List};
use super::booked::{Balance, IssuedCreditNote, WithdrawnVoucher, booked, credited, only, withdrawn};
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::reading::{Limit, Reading, view_of, viewed};
use super::shape::{IfAny, answer, request};
use super::write::{Created, Write};
use crate::clock;
use crate::permission::Action;

/// Of the family that balances begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "listRecharges",
        summary: "List recharges, with what was paid back of each",
        more: "Oldest first. Payments from before an organization was moved in are not among them.",
    };
    routes.read("/v1/organizations/{org}/recharges", says, list);
    let says = Says {
        id: "reverseRecharge",
        summary: "Take a recharge back, whole or in part: a chargeback",
        more: "Cash may go below zero; cumulative recharge and tier follow. Where cumulative recharge falls below the \
               voucher policy's threshold, what is left of the policy's voucher is withdrawn. The same reference with the \
               same content again changes nothing; with other content it is 409.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/recharges/{recharge}/reversals", says, reverse);
}

request! {
    /// A recharge to take back.
    pub(super) struct NewReversal {
        /// How much of it; more than 0, or left out: what is left of it.
        amount: Option<Amount>,
        /// The chargeback's own, so that it is booked once.
        reference: Reference,
        /// Why.
        reason: Reason,
    }
}

request! {
    /// A page of recharges.
    pub(super) struct RechargePage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this recharge: the `next_page` of the page before.
        after: Option<RechargeId>,
    }
}

answer! {
    /// A recharge and what became of it.
    pub(super) struct BookedRecharge {
        /// Its id.
        id: RechargeId,
        /// How much was paid.
        amount: Amount,
        /// The payment's own.
        reference: Option<Reference>,
        /// When it was booked.
        booked_at: Timestamp,
        /// The entry that says so.
        position: LogPosition,
        /// What refunds that name it paid back.
        refunded: Amount,
        /// What chargebacks took back.
        reversed: Amount,
        /// What can still be refunded or taken back of it.
        left: Amount,
        /// The invoice that covers it; null: none yet.
        invoice: Option<InvoiceId>,
    }
}

answer! {
    /// A recharge that was taken back.
    pub(super) struct Reversal {
        /// Its id.
        id: MovementId,
        /// The recharge.
        recharge: RechargeId,
        /// How much of it.
        amount: Amount,
        /// The chargeback's own.
        reference: Reference,
        /// Why.
        reason: Reason,
        /// The policy's voucher, if it was withdrawn.
        withdrawn_voucher: IfAny<WithdrawnVoucher>,
        /// The credit note, if the recharge was invoiced.
        credit_note: IfAny<IssuedCreditNote>,
        /// As it is now.
        balance: Balance,
    }
}

async fn reverse(
    Write { path: (org, recharge), body, author }: Write<(OrgId, RechargeId), NewReversal>,
) -> Result<Created<Reversal>, Problem> {
    let key = MovementKey::Reference(MovementKind::RechargeReversal, body.reference.clone());
    let command = OrganizationCommand::ReverseRecharge {
        reversal: MovementId::from_bits(clock::new_id_bits()),
        recharge,
        amount: body.amount,
        reference: body.reference,
        reason: body.reason,
        note: InvoiceId::from_bits(clock::new_id_bits()),
    };
    let done = author.decide(&org, command).await?;
    let (movements, balance) = booked(&author.node, &org, &done, key).await?;
    let (id, recharge, reference, reason, amount) = only(&movements, |movement| {
        let What::RechargeReversal { reversal, recharge } = &movement.what else { return None };
        let (reference, reason) = (movement.reference.clone()?, movement.reason.clone()?);
        Some((reversal.clone(), recharge.clone(), reference, reason, movement.change.cash.negated()))
    })?;
    let (withdrawn_voucher, credit_note) = (withdrawn(&movements), credited(&movements));
    let reversal =
        Reversal { id, recharge, amount, reference, reason, withdrawn_voucher, credit_note, balance };
    Ok(Created::new(done, reversal))
}

async fn list(
    Reading { path: org, query, at }: Reading<OrgId, RechargePage>,
) -> Result<Json<List<BookedRecharge>>, Problem> {
    let last = at.organization(&org, Action::SeeOrganizationFigures, |known| known.last_decision).await?;
    // Rows reach the view a little after they are applied.
    at.node.owner_of(&org)?.wait_viewed(last).await?;
    let (view, partition) = (view_of(&at.node, &org)?, at.node.partition_of(&org));
    let most = Limit::most(query.limit);
    let read = move || view.recharges(&org, query.after.as_ref(), most.saturating_add(1));
    let mut found = viewed(read).await?;
    let more = found.len() > most;
    found.truncate(most);
    let next_page = found.last().filter(|_| more).map(|(last, _)| last.as_str().to_owned());
    let items = found.into_iter().filter_map(|(id, movements)| so_far(partition, id, &movements));
    Ok(Json(List { items: items.collect(), next_page }))
}

/// What became of a recharge; nothing where it is not among its movements.
fn so_far(partition: PartitionId, id: RechargeId, movements: &[Movement]) -> Option<BookedRecharge> {
    let of = |kind: MovementKind| movements.iter().filter(move |movement| movement.kind() == kind);
    let cash = |kind| {
        let mut all = of(kind).map(|movement| movement.change.cash);
        all.try_fold(Amount::ZERO, |sum, cash| sum.checked_add(cash))
    };
    let booked = of(MovementKind::Recharge).next()?;
    let (refunded, reversed) = (cash(MovementKind::Refund)?, cash(MovementKind::RechargeReversal)?);
    Some(BookedRecharge {
        id,
        amount: booked.change.cash,
        reference: booked.reference.clone(),
        booked_at: booked.booked_at,
        position: LogPosition { partition, position: booked.position },
        // What was paid back counts below zero.
        left: booked.change.cash.checked_add(refunded)?.checked_add(reversed)?,
        refunded: refunded.negated(),
        reversed: reversed.negated(),
        invoice: of(MovementKind::Invoice).find_map(|movement| {
            let What::Invoice { invoice, .. } = &movement.what else { return None };
            Some(invoice.clone())
        }),
    })
}
