//! An organization's money: cash, vouchers, and the order in which they are spent (R4.1 to R4.5).

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::VoucherId;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Timestamp;

use crate::state::Corrupt;

/// The most that an organization can recharge, be granted, or spend over all time: ten quadrillion. An amount holds
/// seven times that, so that no sum or difference of a purse can fail.
pub const TOTAL_MAX: Amount = match Amount::from_units(10_000_000_000_000_000_000_000_000_000) {
    Some(most) => most,
    None => Amount::ZERO,
};

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

    /// What usage may still cost before totals could leave the range of exact numbers. Recharges and vouchers keep to
    /// [`TOTAL_MAX`] too, so that no sum of a purse can fail.
    pub fn room(&self) -> Amount {
        TOTAL_MAX.checked_sub(self.spent).unwrap_or_default()
    }

    /// What all vouchers were ever worth.
    pub const fn granted(&self) -> Amount {
        self.granted
    }

    /// Whether recharged plus granted equals spent plus remaining, exactly.
    pub fn conserves(&self) -> bool {
        let came = self.cumulative_recharge.checked_add(self.granted);
        let went = self.spent.checked_add(self.cash).and_then(|sum| sum.checked_add(self.vouchers()));
        came.is_some() && came == went
    }

    /// Books a recharge (R4.7).
    pub(crate) fn recharge(&mut self, amount: Amount) -> Result<(), Corrupt> {
        self.cumulative_recharge = grown(self.cumulative_recharge, amount)?;
        self.cash = sum(self.cash, amount)?;
        Ok(())
    }

    /// Books a voucher (R4.2); `policy`: it was the voucher policy's.
    pub(crate) fn grant(&mut self, voucher: Voucher, policy: bool) -> Result<(), Corrupt> {
        self.granted = grown(self.granted, voucher.granted)?;
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

/// A total that grew as decisions let it: by more than nothing, to at most [`TOTAL_MAX`].
fn grown(total: Amount, by: Amount) -> Result<Amount, Corrupt> {
    let grown = sum(total, by)?;
    if by.is_positive() && grown <= TOTAL_MAX { Ok(grown) } else { Err(Corrupt::AmountOutOfRange) }
}

pub(crate) fn sum(a: Amount, b: Amount) -> Result<Amount, Corrupt> {
    a.checked_add(b).ok_or(Corrupt::AmountOutOfRange)
}

fn difference(a: Amount, b: Amount) -> Result<Amount, Corrupt> {
    a.checked_sub(b).ok_or(Corrupt::AmountOutOfRange)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    #[test]
    fn r4_1_no_voucher_and_no_recharge_takes_anything_away() {
        let mut purse = Purse::default();
        for bad in [Amount::ZERO, amount("-0.000000000001"), amount("10000000000000000.000000000001")] {
            assert_eq!(purse.recharge(bad), Err(Corrupt::AmountOutOfRange));
            let granted = Voucher { granted: bad, left: bad, ..voucher(1, "1", None) };
            assert_eq!(purse.grant(granted, false), Err(Corrupt::AmountOutOfRange));
        }
        assert_eq!(purse, Purse::default());
        purse.recharge(TOTAL_MAX).unwrap();
        assert_eq!(purse.recharge(amount("0.000000000001")), Err(Corrupt::AmountOutOfRange));
    }

    proptest! {
        /// Charges one after the other leave what their sum leaves, whatever vouchers there are.
        #[test]
        fn r4_2_charges_add_up(
            vouchers in prop::collection::vec((1..1_000u64, proptest::option::of(0..5i64)), 0..6),
            charges in prop::collection::vec(0..500u64, 0..20), cash in 1..2_000u64,
        ) {
            let units = |units: u64| Amount::from_units(units.into()).unwrap();
            let mut purse = Purse::default();
            purse.recharge(units(cash)).unwrap();
            for (number, (worth, expires)) in (1..).zip(&vouchers) {
                let expires_at = expires.map(Timestamp::from_seconds);
                let granted = Voucher {
                    granted: units(*worth), left: units(*worth), expires_at, ..voucher(number, "1", None)
                };
                purse.grant(granted, false).unwrap();
            }
            let mut at_once = purse.clone();
            at_once.charge(units(charges.iter().sum())).unwrap();
            for charge in &charges {
                purse.charge(units(*charge)).unwrap();
                prop_assert!(purse.conserves());
                let order: Vec<_> =
                    purse.vouchers.iter().map(|v| (v.expires_at.unwrap_or(Timestamp::MAX), v.position)).collect();
                prop_assert!(order.is_sorted());
                prop_assert!(purse.vouchers.iter().all(|voucher| voucher.left.is_positive()));
                prop_assert!(purse.vouchers().is_zero() || purse.cash() == units(cash));
            }
            prop_assert_eq!(purse, at_once);
        }
    }
}
