//! Recharges and balances.

use tollbook_projections::organization::Organization;
use tollbook_projections::state::State;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, MoneyEvent};
use tollbook_schemas::id::{DisplayName, OrgId, RechargeId, Reference, VoucherId};
use tollbook_schemas::time::Timestamp;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::reading::{Reading, read_state};
use super::shape::{IfAny, answer, request};
use super::write::{Created, Write};
use crate::clock;
use crate::node::Node;
use crate::permission::Action;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Money", "What an organization has paid, was given, and has left.");
    let says = Says {
        id: "recharge",
        summary: "Book a recharge",
        more: "The same reference with the same amount again changes nothing; with another it is 409. The recharge \
               that earns the policy's voucher brings it.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/recharges", says, recharge);
    let says = Says { id: "getBalance", summary: "See the balance", more: "" };
    routes.read("/v1/organizations/{org}/balance", says, balance);
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

answer! {
    /// What an organization has.
    pub(super) struct Balance {
        /// Cash.
        cash: Amount,
        /// What is left of vouchers.
        vouchers: Amount,
        /// Held for requests in progress.
        held: Amount,
        /// What may be used: cash and vouchers.
        available: Amount,
        /// How far below zero it may go.
        credit_limit: Option<Amount>,
        /// All that was ever recharged.
        cumulative_recharge: Amount,
        /// The tier that this earns; null below the first.
        tier: Option<DisplayName>,
        /// The ledger's currency.
        currency: String,
    }
}

async fn recharge(
    Write { path: org, body, author }: Write<OrgId, NewRecharge>,
) -> Result<Created<Recharge>, Problem> {
    let command = OrganizationCommand::Recharge {
        recharge: RechargeId::from_bits(clock::new_id_bits()),
        amount: body.amount,
        reference: body.reference,
        voucher: VoucherId::from_bits(clock::new_id_bits()),
    };
    let done = author.decide(&org, command).await?;
    let (mut recharged, mut voucher) = (None, None);
    for event in &done.events {
        if let Event::Money(MoneyEvent::Recharged { recharge, amount, reference }) = event {
            recharged = Some((recharge.clone(), *amount, reference.clone()));
        } else if let Event::Money(MoneyEvent::VoucherGranted { voucher: id, amount, .. }) = event {
            voucher = Some(GrantedVoucher { id: id.clone(), amount: *amount });
        }
    }
    let (id, amount, reference) =
        recharged.ok_or_else(|| Problem::internal("the entry recharged nothing"))?;
    let balance = balance_of(&author.node, &org).await?;
    Ok(Created::new(done, Recharge { id, amount, reference, voucher: IfAny(voucher), balance }))
}

async fn balance(Reading { path: org, at, .. }: Reading<OrgId>) -> Result<Json<Balance>, Problem> {
    let seen = Seen::by(&at.node);
    Ok(Json(
        at.state(&org, Action::SeeOrganizationFigures, move |state, known| seen.balance(state, known))
            .await?,
    ))
}

/// The balance as it is now, for whoever has just changed it.
pub(super) async fn balance_of(node: &Node, org: &OrgId) -> Result<Balance, Problem> {
    let seen = Seen::by(node);
    read_state(node, org, move |state, known| seen.balance(state, known)).await
}

/// What a balance depends on besides State.
struct Seen {
    now: Timestamp,
    currency: String,
}

impl Seen {
    fn by(node: &Node) -> Self {
        Self { now: node.clock().now(), currency: node.ledger().currency.clone() }
    }

    fn balance(self, state: &State, known: &Organization) -> Balance {
        let purse = &known.purse;
        let tiers = state.config().tiers_at(self.now.max(state.head().recorded_at));
        Balance {
            cash: purse.cash(),
            vouchers: purse.vouchers(),
            held: Amount::ZERO,
            available: purse.available(),
            credit_limit: None,
            cumulative_recharge: purse.cumulative_recharge(),
            tier: tiers.tier(purse.cumulative_recharge()).map(|tier| tier.name.clone()),
            currency: self.currency,
        }
    }
}
