//! The trial balance: every account's balance, which sum to zero (R4.10).

use tollbook_projections::account::TrialBalance as Balances;
use tollbook_projections::state::Corrupt;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::position::{LogPosition, PartitionId};

use super::answer::Json;
use super::document::{Routes, Says};
use super::problem::Problem;
use super::reading::{PartitionNumber, Reading};
use super::shape::{answer, request};

/// Of the family that the digest begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "getTrialBalance",
        summary: "See every account's balance",
        more: "Over all organizations: debits are above 0, credits below, and the sum is 0. Each partition is read between \
               two entries, at the position that is told. Not for tokens that are limited to organizations.",
    };
    routes.read("/v1/trial-balance", says, show);
}

request! {
    /// Which organizations.
    pub(super) struct TrialBalanceQuery {
        /// Those of this partition; all unless said otherwise.
        partition: Option<PartitionNumber>,
    }
}

answer! {
    /// Every account's balance.
    pub(super) struct TrialBalance {
        /// The ledger's currency.
        currency: String,
        /// The last entry applied of every partition that was read.
        positions: Vec<LogPosition>,
        /// All accounts, in the order of the chart.
        accounts: Vec<AccountBalance>,
        /// The sum of all balances: 0.
        sum: Amount,
    }
}

answer! {
    /// An account and its balance.
    pub(super) struct AccountBalance {
        /// Its name, which never changes.
        account: String,
        /// Its balance: a debit above 0, a credit below.
        balance: Amount,
    }
}

async fn show(
    Reading { query, at, .. }: Reading<(), TrialBalanceQuery>,
) -> Result<Json<TrialBalance>, Problem> {
    at.caller.may_all()?;
    let node = &at.node;
    let partitions = match query.partition {
        Some(_) => vec![PartitionNumber::of_ledger(node, query.partition)?],
        None => (0..node.ledger().partitions).map(PartitionId).collect(),
    };
    let broken = |error: Corrupt| Problem::internal(error.to_string());
    let (mut positions, mut all) = (Vec::new(), Balances::default());
    for partition in partitions {
        let read = node.owner(partition)?.read(|state| (state.head().position, state.trial_balance()));
        let (position, balances) = read.await?;
        positions.push(LogPosition { partition, position });
        all.add(&balances.map_err(broken)?).map_err(broken)?;
    }
    let accounts = all.iter().map(|(account, balance)| {
        let account = account.name().to_owned();
        AccountBalance { account, balance }
    });
    let currency = node.ledger().currency.clone();
    Ok(Json(TrialBalance {
        currency,
        positions,
        accounts: accounts.collect(),
        sum: all.sum().map_err(broken)?,
    }))
}
