//! Adjustments: corrections of cash (R4.8).

use tollbook_projections::movement::{MovementKey, MovementKind, What};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{MovementId, OrgId, Reason, Reference};
use tollbook_schemas::position::LogPosition;

use super::booked::{Balance, booked, only};
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::shape::{answer, request};
use super::write::{Created, Write};
use crate::clock;

/// Of the family that balances begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "adjust",
        summary: "Correct cash",
        more: "Cash may go below zero. Adjustments do not count as recharge. The same reference with the same content again \
               changes nothing; with other content it is 409.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/adjustments", says, adjust);
}

request! {
    /// A correction of cash.
    pub(super) struct NewAdjustment {
        /// How much, negative to take away; not 0.
        amount: Amount,
        /// The correction's own, so that it is booked once.
        reference: Reference,
        /// Why.
        reason: Reason,
        /// The entry it corrects.
        corrects: Option<LogPosition>,
    }
}

answer! {
    /// An adjustment.
    pub(super) struct Adjustment {
        /// Its id.
        id: MovementId,
        /// How much, negative where it took away.
        amount: Amount,
        /// The correction's own.
        reference: Reference,
        /// Why.
        reason: Reason,
        /// The entry it corrects; null: none was named.
        corrects: Option<LogPosition>,
        /// As it is now.
        balance: Balance,
    }
}

async fn adjust(
    Write { path: org, body, author }: Write<OrgId, NewAdjustment>,
) -> Result<Created<Adjustment>, Problem> {
    let key = MovementKey::Reference(MovementKind::Adjustment, body.reference.clone());
    let command = OrganizationCommand::Adjust {
        adjustment: MovementId::from_bits(clock::new_id_bits()),
        amount: body.amount,
        reference: body.reference,
        reason: body.reason,
        corrects: body.corrects,
    };
    let done = author.decide(&org, command).await?;
    let (movements, balance) = booked(&author.node, &org, &done, key).await?;
    let (id, corrects, reference, reason, amount) = only(&movements, |movement| {
        let What::Adjustment { adjustment, corrects } = &movement.what else { return None };
        let (reference, reason) = (movement.reference.clone()?, movement.reason.clone()?);
        Some((adjustment.clone(), *corrects, reference, reason, movement.change.cash))
    })?;
    Ok(Created::new(done, Adjustment { id, amount, reference, reason, corrects, balance }))
}
