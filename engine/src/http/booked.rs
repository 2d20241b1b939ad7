//! What a decision about money came to: its entry's movements as the fold booked them, and the balance there is now.

use tollbook_projections::movement::{Movement, MovementKey, What};
use tollbook_projections::organization::Organization;
use tollbook_projections::past::Questions;
use tollbook_projections::state::State;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{DisplayName, InvoiceId, OrgId, VoucherId};
use tollbook_schemas::position::Position;

use super::problem::Problem;
use super::reading::{read_state, view_of, viewed};
use super::shape::{IfAny, answer};
use crate::node::Node;
use crate::owner::Done;

answer! {
    /// What an organization has.
    pub(super) struct Balance {
        /// Cash, below zero when money is owed.
        cash: Amount,
        /// What is left of vouchers.
        vouchers: Amount,
        /// Held for requests in progress, and for those whose usage has not come; what is available counts it too.
        held: Amount,
        /// What may be used: vouchers, and cash unless it is owed.
        available: Amount,
        /// How far below zero it may go; null: not at all.
        credit_limit: Option<Amount>,
        /// Recharges less refunds and reversals.
        cumulative_recharge: Amount,
        /// The tier that this earns; null below the first.
        tier: Option<DisplayName>,
        /// The ledger's currency.
        currency: String,
    }
}

answer! {
    /// A voucher that was withdrawn.
    pub(super) struct WithdrawnVoucher {
        /// Its id.
        id: VoucherId,
        /// What was left of it.
        amount: Amount,
    }
}

answer! {
    /// A credit note over what was paid back of an invoiced recharge.
    pub(super) struct IssuedCreditNote {
        /// Its id.
        id: InvoiceId,
        /// Its number, in one series with invoices.
        number: u64,
        /// The invoice.
        invoice: InvoiceId,
        /// How much was paid back.
        amount: Amount,
    }
}

/// What a balance depends on besides State.
pub(super) struct Seen {
    node: Node,
}

impl Seen {
    pub(super) fn by(node: &Node) -> Self {
        Self { node: node.clone() }
    }

    pub(super) fn balance(self, state: &State, known: &Organization) -> Balance {
        let (purse, node) = (&known.purse, &self.node);
        let tiers = state.config().tiers_at(node.clock().now().max(state.head().recorded_at));
        let in_flight = node.admissions().in_flight(node.partition_of(&known.id), &known.id);
        Balance {
            cash: purse.cash(),
            vouchers: purse.vouchers(),
            held: in_flight.map(|in_flight| in_flight.held).unwrap_or_default(),
            available: purse.available(),
            credit_limit: known.credit_limit,
            cumulative_recharge: purse.cumulative_recharge(),
            tier: tiers.tier(purse.cumulative_recharge()).map(|tier| tier.name.clone()),
            currency: node.ledger().currency.clone(),
        }
    }
}

/// The balance as it is now, for whoever has just changed it.
pub(super) async fn balance_of(node: &Node, organization: &OrgId) -> Result<Balance, Problem> {
    let seen = Seen::by(node);
    read_state(node, organization, move |state, known| seen.balance(state, known)).await
}

/// The movements of the entry that a decision led to, in order, and the balance as it is now. `key` finds one of them,
/// should State have forgotten them.
pub(super) async fn booked(
    node: &Node,
    organization: &OrgId,
    done: &Done,
    key: MovementKey,
) -> Result<(Vec<Movement>, Balance), Problem> {
    let (seen, position) = (Seen::by(node), done.position.position);
    let read = read_state(node, organization, move |state, known| {
        let movements = known.recent.movements().filter(|movement| movement.position == position);
        (movements.cloned().collect::<Vec<_>>(), seen.balance(state, known))
    });
    let (recent, balance) = read.await?;
    if recent.is_empty() {
        return Ok((older(node, organization, position, key).await?, balance));
    }
    Ok((recent, balance))
}

async fn older(
    node: &Node,
    organization: &OrgId,
    position: Position,
    key: MovementKey,
) -> Result<Vec<Movement>, Problem> {
    node.owner_of(organization)?.wait_viewed(position).await?;
    let (view, organization) = (view_of(node, organization)?, organization.clone());
    let read = move || {
        let questions = Questions { movements: vec![key], ..Questions::default() };
        let past = view.past(&organization, &questions, position)?;
        match past.movements.iter().find(|movement| movement.position == position) {
            Some(found) => view.movements_with(&organization, found),
            None => Ok(Vec::new()),
        }
    };
    viewed(read).await
}

/// What one of an entry's movements is, as `what` tells it.
pub(super) fn only<T>(
    movements: &[Movement],
    what: impl FnMut(&Movement) -> Option<T>,
) -> Result<T, Problem> {
    movements.iter().find_map(what).ok_or_else(|| Problem::internal("the entry moved no money"))
}

/// The voucher that an entry withdrew.
pub(super) fn withdrawn(movements: &[Movement]) -> IfAny<WithdrawnVoucher> {
    IfAny(movements.iter().find_map(|movement| {
        let What::VoucherWithdrawal { voucher } = &movement.what else { return None };
        Some(WithdrawnVoucher { id: voucher.clone(), amount: movement.change.vouchers.negated() })
    }))
}

/// The credit note that an entry issued.
pub(super) fn credited(movements: &[Movement]) -> IfAny<IssuedCreditNote> {
    IfAny(movements.iter().find_map(|movement| {
        let What::CreditNote { note, number, invoice, amount, .. } = &movement.what else { return None };
        Some(IssuedCreditNote {
            id: note.clone(),
            number: *number,
            invoice: invoice.clone(),
            amount: *amount,
        })
    }))
}
