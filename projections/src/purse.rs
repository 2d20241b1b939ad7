//! An organization's money: cash, vouchers, and the order in which they are spent (R4.1 to R4.5).

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::VoucherId;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Timestamp;

use crate::state::Corrupt;

/// One voucher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    /// Its id.
    pub voucher: VoucherId,
    /// What it was worth.
    pub granted: Amount,
    /// What is left of it, never below zero.
    pub left: Amount,
    /// When what is left is lost.
    pub expires_at: Option<Timestamp>,
    /// The entry that granted it.
    pub position: Position,
}

/// Cash and vouchers of one organization, with the totals that prove them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Cash, below zero when money is owed.
    cash: Amount,
    /// In the order in which they are spent: the one that expires first, then the oldest.
    vouchers: Vec<Voucher>,
    /// All recharges, less what was refunded or taken back (R4.4).
    cumulative_recharge: Amount,
    /// Whether the policy's voucher was granted, once for ever (R4.5).
    voucher_granted: bool,
    /// Everything that usage ever cost.
    spent: Amount,
    /// Everything that vouchers were ever worth.
    granted: Amount,
}

impl Purse {
    /// Cash, below zero when money is owed.
    pub const fn cash(&self) -> Amount {
        self.cash
    }

    /// What is left of all vouchers.
    pub fn vouchers(&self) -> Amount {
        // Each is at most what was granted, and that sum was checked when it grew.
        self.vouchers
            .iter()
            .try_fold(Amount::ZERO, |sum, voucher| sum.checked_add(voucher.left))
            .unwrap_or(Amount::MAX)
    }

    /// What may be spent: vouchers, and cash unless it is owed (R4.1).
    pub fn available(&self) -> Amount {
        self.vouchers().checked_add(self.cash.max(Amount::ZERO)).unwrap_or(Amount::MAX)
    }

    /// Recharges less refunds and reversals (R4.4).
    pub const fn cumulative_recharge(&self) -> Amount {
        self.cumulative_recharge
    }

    /// Whether the policy's voucher was granted (R4.5).
    pub const fn voucher_granted(&self) -> bool {
        self.voucher_granted
    }

    /// Everything that usage ever cost.
    pub const fn spent(&self) -> Amount {
        self.spent
    }

    /// Whether recharged plus granted equals spent plus remaining, exactly.
    pub fn conserves(&self) -> bool {
        let came = self.cumulative_recharge.checked_add(self.granted);
        let went = self.spent.checked_add(self.cash).and_then(|sum| sum.checked_add(self.vouchers()));
        came.is_some() && came == went
    }

    /// Books a recharge (R4.7).
    pub(crate) fn recharge(&mut self, amount: Amount) -> Result<(), Corrupt> {
        self.cash = sum(self.cash, amount)?;
        self.cumulative_recharge = sum(self.cumulative_recharge, amount)?;
        Ok(())
    }

    /// Books a voucher (R4.2); `policy`: it was the voucher policy's.
    pub(crate) fn grant(&mut self, voucher: Voucher, policy: bool) -> Result<(), Corrupt> {
        self.granted = sum(self.granted, voucher.granted)?;
        self.voucher_granted |= policy;
        let order = |voucher: &Voucher| (voucher.expires_at.unwrap_or(Timestamp::MAX), voucher.position);
        let place = self.vouchers.partition_point(|other| order(other) <= order(&voucher));
        self.vouchers.insert(place, voucher);
        Ok(())
    }

    /// Books what usage cost: vouchers first, then cash (R4.2). Booking two charges one after the other leaves the
    /// same as booking their sum.
    pub(crate) fn charge(&mut self, charge: Amount) -> Result<(), Corrupt> {
        self.spent = sum(self.spent, charge)?;
        let mut due = charge;
        for voucher in &mut self.vouchers {
            if due.is_zero() {
                break;
            }
            let part = due.min(voucher.left);
            voucher.left = difference(voucher.left, part)?;
            due = difference(due, part)?;
        }
        self.vouchers.retain(|voucher| voucher.left.is_positive());
        self.cash = difference(self.cash, due)?;
        Ok(())
    }
}

pub(crate) fn sum(a: Amount, b: Amount) -> Result<Amount, Corrupt> {
    a.checked_add(b).ok_or(Corrupt::AmountOutOfRange)
}

fn difference(a: Amount, b: Amount) -> Result<Amount, Corrupt> {
    a.checked_sub(b).ok_or(Corrupt::AmountOutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn voucher(number: u64, left: &str, expires_at: Option<&str>) -> Voucher {
        Voucher {
            voucher: VoucherId::from_bits(number.into()),
            granted: amount(left),
            left: amount(left),
            expires_at: expires_at.map(|at| at.parse().unwrap()),
            position: Position(number),
        }
    }

    #[test]
    fn r4_2_vouchers_burn_first_expiring_then_oldest_then_cash() {
        let mut purse = Purse::default();
        purse.recharge(amount("1")).unwrap();
        purse.grant(voucher(1, "2", None), false).unwrap();
        purse.grant(voucher(2, "3", Some("2027-01-01T00:00:00Z")), false).unwrap();
        purse.grant(voucher(3, "3", Some("2026-12-01T00:00:00Z")), false).unwrap();
        purse.charge(amount("3.5")).unwrap();
        let left: Vec<_> = purse.vouchers.iter().map(|v| (v.position.0, v.left.to_string())).collect();
        assert_eq!(left, [(2, "2.5".into()), (1, "2".to_owned())]);
        assert!(purse.conserves());
        purse.charge(amount("5.5")).unwrap();
        assert_eq!((purse.cash(), purse.vouchers()), (Amount::ZERO, Amount::ZERO));
        purse.charge(amount("0.25")).unwrap();
        assert_eq!((purse.cash(), purse.available()), (amount("-0.25"), Amount::ZERO));
        assert!(purse.conserves());
    }
}
