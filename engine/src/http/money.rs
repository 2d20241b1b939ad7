//! Recharges, balances and credit limits.

use tollbook_projections::movement::{MovementKey, MovementKind, What};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{OrgId, RechargeId, Reference, VoucherId};

use super::answer::Json;
use super::booked::{Balance, Seen, balance_of, booked, only};
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::reading::Reading;
use super::shape::{IfAny, OrNull, answer, request};
use super::write::{Changed, Created, Write};
use crate::clock;
use crate::permission::Action;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Money", "What an organization has paid, was given, and has left.");
    let says = Says { id: "getBalance", summary: "See the balance", more: "" };
    routes.read("/v1/organizations/{org}/balance", says, balance);
    let says = Says {
        id: "setCreditLimit",
        summary: "Set how far below zero an organization may go, or remove that",
        more: "Requests are admitted while vouchers, cash and credit together are more than 0.",
    };
    routes.write(Verb::Put, "/v1/organizations/{org}/credit-limit", says, set_credit_limit);
    let says = Says {
        id: "recharge",
        summary: "Book a recharge",
        more: "The same reference with the same amount again changes nothing; with another it is 409. The recharge \
               that earns the policy's voucher brings it.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/recharges", says, recharge);
}

request! {
    /// A recharge to book.
    pub(super) struct NewRecharge {
        /// How much; more than 0.
        amount: Amount,
        /// The payment's own, so that it is booked once.
        reference: Reference,
    }
}

request! {
    /// A credit limit to set.
    pub(super) struct NewCreditLimit {
        /// How far below zero the organization may go; more than 0, or null: not at all.
        limit: OrNull<Amount>,
    }
}

answer! {
    /// A recharge.
    pub(super) struct Recharge {
        /// Its id.
        id: RechargeId,
        /// How much.
        amount: Amount,
        /// The payment's own.
        reference: Reference,
        /// What it brought.
        voucher: IfAny<GrantedVoucher>,
        /// As it is now.
        balance: Balance,
    }
}

answer! {
    /// A voucher that was granted.
    pub(super) struct GrantedVoucher {
        /// Its id.
        id: VoucherId,
        /// How much.
        amount: Amount,
    }
}

async fn recharge(
    Write { path: org, body, author }: Write<OrgId, NewRecharge>,
) -> Result<Created<Recharge>, Problem> {
    let key = MovementKey::Reference(MovementKind::Recharge, body.reference.clone());
    let command = OrganizationCommand::Recharge {
        recharge: RechargeId::from_bits(clock::new_id_bits()),
        amount: body.amount,
        reference: body.reference,
        voucher: VoucherId::from_bits(clock::new_id_bits()),
    };
    let done = author.decide(&org, command).await?;
    let (movements, balance) = booked(&author.node, &org, &done, key).await?;
    let (id, amount, reference) = only(&movements, |movement| {
        let What::Recharge { recharge } = &movement.what else { return None };
        Some((recharge.clone(), movement.change.cash, movement.reference.clone()?))
    })?;
    let voucher = movements.iter().find_map(|movement| {
        let What::VoucherGrant { voucher, .. } = &movement.what else { return None };
        Some(GrantedVoucher { id: voucher.clone(), amount: movement.change.vouchers })
    });
    Ok(Created::new(done, Recharge { id, amount, reference, voucher: IfAny(voucher), balance }))
}

async fn set_credit_limit(
    Write { path: org, body, author }: Write<OrgId, NewCreditLimit>,
) -> Result<Changed<Balance>, Problem> {
    let done = author.decide(&org, OrganizationCommand::SetCreditLimit(body.limit.0)).await?;
    Ok(Changed::new(done, balance_of(&author.node, &org).await?))
}

async fn balance(Reading { path: org, at, .. }: Reading<OrgId>) -> Result<Json<Balance>, Problem> {
    let seen = Seen::by(&at.node);
    Ok(Json(
        at.state(&org, Action::SeeOrganizationFigures, move |state, known| seen.balance(state, known))
            .await?,
    ))
}
