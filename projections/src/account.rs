//! Double entry: the chart of accounts, and what each movement posts to it (R4.10).
//!
//! A posting above zero is a debit, one below a credit. Postings of one event sum to zero, and so does the trial
//! balance, which is kept as totals and not as a sum of postings: that both agree is tested.

use std::fmt;

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;

use crate::purse::sum;
use crate::state::Corrupt;

/// The chart of accounts: small and stable. Names are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Account {
    /// Cash received: recharges (R4.7).
    Received,
    /// Cash paid back: refunds (R4.8).
    Refunded,
    /// Cash taken back by payment providers: recharge reversals (R4.8).
    ChargedBack,
    /// What customers owe: their negative cash (R4.1).
    Receivable,
    /// What customers have: their cash (R4.1).
    CustomerCash,
    /// What customers were given and have left: their vouchers (R4.1).
    CustomerVouchers,
    /// Balances that customers brought when they were moved in (R10.1).
    MovedIn,
    /// Usage charged, less what was taken back (R4.2).
    UsageRevenue,
    /// What was left of vouchers that expired (R4.3).
    Breakage,
    /// Vouchers granted, less what was withdrawn (R4.5, R4.8).
    Promotion,
    /// Corrections of cash (R4.8).
    Adjustments,
}

impl Account {
    /// All of them, in the order of the chart.
    pub const ALL: [Self; 11] = [
        Self::Received,
        Self::Refunded,
        Self::ChargedBack,
        Self::Receivable,
        Self::CustomerCash,
        Self::CustomerVouchers,
        Self::MovedIn,
        Self::UsageRevenue,
        Self::Breakage,
        Self::Promotion,
        Self::Adjustments,
    ];

    /// The name that books and other tools know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Received => "assets:received",
            Self::Refunded => "assets:refunded",
            Self::ChargedBack => "assets:charged_back",
            Self::Receivable => "assets:receivable",
            Self::CustomerCash => "liabilities:cash",
            Self::CustomerVouchers => "liabilities:vouchers",
            Self::MovedIn => "equity:moved_in",
            Self::UsageRevenue => "income:usage",
            Self::Breakage => "income:breakage",
            Self::Promotion => "expenses:promotion",
            Self::Adjustments => "expenses:adjustments",
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One side of an event: a debit above zero, a credit below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// Where.
    pub account: Account,
    /// How much.
    pub amount: Amount,
}

/// The trial balance: every account's balance, debits above zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrialBalance([Amount; Account::ALL.len()]);

impl TrialBalance {
    /// The balance of one account.
    pub fn of(&self, account: Account) -> Amount {
        self.iter().find(|(other, _)| *other == account).map_or(Amount::ZERO, |(_, balance)| balance)
    }

    /// Every account with its balance, in the order of the chart.
    pub fn iter(&self) -> impl Iterator<Item = (Account, Amount)> {
        Account::ALL.into_iter().zip(self.0)
    }

    /// The sum of all accounts: zero, or something is wrong.
    pub fn sum(&self) -> Result<Amount, Corrupt> {
        self.0.iter().try_fold(Amount::ZERO, |all, balance| sum(all, *balance))
    }

    /// Adds one posting.
    pub fn post(&mut self, posting: Posting) -> Result<(), Corrupt> {
        for (account, balance) in Account::ALL.into_iter().zip(&mut self.0) {
            if account == posting.account {
                *balance = sum(*balance, posting.amount)?;
            }
        }
        Ok(())
    }

    /// Adds another trial balance.
    pub fn add(&mut self, other: &Self) -> Result<(), Corrupt> {
        other.iter().try_for_each(|(account, amount)| self.post(Posting { account, amount }))
    }
}
