//! An organization's money: cash, vouchers, and the order in which they are spent (R4.1 to R4.5).

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::VoucherId;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Timestamp;

use crate::account::{Account, Posting, TrialBalance};
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
    /// Whether it is the voucher policy's, which may be withdrawn (R4.8).
    pub of_policy: bool,
    /// Whether somebody was told that it is about to expire, or it was granted so late (R7.2).
    pub expiry_told: bool,
}

/// How long before a voucher expires somebody is told, in seconds: a week.
pub const EXPIRY_NOTICE_SECONDS: i64 = 7 * 24 * 60 * 60;

impl Voucher {
    /// When somebody is to be told that it is about to expire; `None` where nobody is, or was.
    pub fn notice_at(&self) -> Option<Timestamp> {
        let expires_at = self.expires_at.filter(|_| !self.expiry_told)?;
        Some(expires_at.plus_seconds(EXPIRY_NOTICE_SECONDS.wrapping_neg()))
    }
}

/// Cash and vouchers, or a change of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funds {
    /// Cash.
    pub cash: Amount,
    /// What is left of all vouchers.
    pub vouchers: Amount,
}

impl Funds {
    /// Only cash.
    pub const fn cash(cash: Amount) -> Self {
        Self { cash, vouchers: Amount::ZERO }
    }

    /// Only vouchers.
    pub const fn vouchers(vouchers: Amount) -> Self {
        Self { cash: Amount::ZERO, vouchers }
    }

    /// Both together.
    pub fn total(self) -> Result<Amount, Corrupt> {
        sum(self.cash, self.vouchers)
    }

    /// These and others.
    pub fn plus(self, other: Self) -> Result<Self, Corrupt> {
        Ok(Self { cash: sum(self.cash, other.cash)?, vouchers: sum(self.vouchers, other.vouchers)? })
    }

    /// These without others.
    pub fn minus(self, other: Self) -> Result<Self, Corrupt> {
        Ok(Self {
            cash: difference(self.cash, other.cash)?,
            vouchers: difference(self.vouchers, other.vouchers)?,
        })
    }

    /// What posts a change to `self` from what was there before; `against` takes the other side.
    ///
    /// Cash that is owed is a receivable, so a change that crosses zero posts to both.
    pub fn postings(self, before: Self, against: Account) -> Result<Vec<Posting>, Corrupt> {
        let owed = |cash: Amount| cash.min(Amount::ZERO);
        let kept = |cash: Amount| cash.max(Amount::ZERO);
        let sides = [
            (Account::Receivable, difference(owed(before.cash), owed(self.cash))?),
            (Account::CustomerCash, difference(kept(before.cash), kept(self.cash))?),
            (Account::CustomerVouchers, difference(before.vouchers, self.vouchers)?),
        ];
        let change = self.minus(before)?.total()?;
        let all = sides.into_iter().chain([(against, change)]);
        Ok(all
            .filter(|(_, amount)| !amount.is_zero())
            .map(|(account, amount)| Posting { account, amount })
            .collect())
    }
}

/// Everything that ever came and went, each counted up but for corrections: what proves a purse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Recharges (R4.7).
    pub recharged: Amount,
    /// Refunds paid (R4.8).
    pub refunded: Amount,
    /// Recharges taken back (R4.8).
    pub charged_back: Amount,
    /// Adjustments, those that took away counted below zero (R4.8).
    pub adjusted: Amount,
    /// What it brought when it was moved in, cash below zero when it was owed (R10.1).
    pub moved_in: Funds,
    /// What vouchers were worth, but for those that were moved in.
    pub granted: Amount,
    /// What was left of vouchers at expiry (R4.3).
    pub expired: Amount,
    /// What was left of the policy's voucher when it was withdrawn (R4.8).
    pub withdrawn: Amount,
    /// What usage took of each, less what was given back (R4.2).
    pub spent: Funds,
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
    /// The most that cumulative recharge ever was (R4.5).
    highest_recharge: Amount,
    /// Whether the policy's voucher was granted, once for ever (R4.5).
    voucher_granted: bool,
    totals: Totals,
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

    /// Every voucher with something left, in the order in which they are spent.
    pub fn each_voucher(&self) -> &[Voucher] {
        &self.vouchers
    }

    /// Cash and vouchers.
    pub fn funds(&self) -> Funds {
        Funds { cash: self.cash, vouchers: self.vouchers() }
    }

    /// What may be spent: vouchers, and cash unless it is owed (R4.1).
    pub fn available(&self) -> Amount {
        self.vouchers().checked_add(self.cash.max(Amount::ZERO)).unwrap_or(Amount::MAX)
    }

    /// Recharges less refunds and reversals (R4.4).
    pub const fn cumulative_recharge(&self) -> Amount {
        self.cumulative_recharge
    }

    /// The most that cumulative recharge ever was, whatever was paid back since: which thresholds were reached (R4.5).
    pub const fn highest_recharge(&self) -> Amount {
        self.highest_recharge
    }

    /// Whether the policy's voucher was granted (R4.5).
    pub const fn voucher_granted(&self) -> bool {
        self.voucher_granted
    }

    /// Everything that ever came and went.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Everything that usage ever cost, less what was taken back.
    pub fn spent(&self) -> Amount {
        self.totals.spent.total().unwrap_or(Amount::MAX)
    }

    /// What usage may still cost before totals could leave the range of exact numbers. Recharges and vouchers keep to
    /// [`TOTAL_MAX`] too, so that no sum of a purse can fail.
    pub fn room(&self) -> Amount {
        TOTAL_MAX.checked_sub(self.spent()).unwrap_or_default()
    }

    /// What all vouchers were ever worth, but for those that were moved in.
    pub const fn granted(&self) -> Amount {
        self.totals.granted
    }

    /// When the next voucher expires or is about to; `None` when none ever does.
    pub fn next_expiry(&self) -> Option<Timestamp> {
        let first = self.vouchers.first().and_then(|voucher| voucher.expires_at);
        let notice = self.vouchers.iter().find_map(Voucher::notice_at);
        first.into_iter().chain(notice).min()
    }

    /// Notes that somebody was told that a voucher is about to expire; what is left of it.
    pub(crate) fn tell_expiry(&mut self, voucher: &VoucherId) -> Option<&Voucher> {
        let known = self.vouchers.iter_mut().find(|known| known.voucher == *voucher && !known.expiry_told)?;
        known.expiry_told = true;
        Some(known)
    }

    /// Every account's balance, from the totals and from what is there (R4.10).
    pub fn trial_balance(&self) -> Result<TrialBalance, Corrupt> {
        let totals = &self.totals;
        let less = |amount| difference(Amount::ZERO, amount);
        let mut trial = TrialBalance::default();
        let balances = [
            (Account::Received, totals.recharged),
            (Account::Refunded, less(totals.refunded)?),
            (Account::ChargedBack, less(totals.charged_back)?),
            (Account::Receivable, less(self.cash.min(Amount::ZERO))?),
            (Account::CustomerCash, less(self.cash.max(Amount::ZERO))?),
            (Account::CustomerVouchers, less(self.vouchers())?),
            (Account::MovedIn, totals.moved_in.total()?),
            (Account::UsageRevenue, less(totals.spent.total()?)?),
            (Account::Breakage, less(totals.expired)?),
            (Account::Promotion, difference(totals.granted, totals.withdrawn)?),
            (Account::Adjustments, totals.adjusted),
        ];
        for (account, amount) in balances {
            trial.post(Posting { account, amount })?;
        }
        Ok(trial)
    }

    /// Whether recharged, granted, adjusted and moved in equal spent, refunded, charged back, expired, withdrawn and
    /// remaining, exactly: of cash and of vouchers each.
    pub fn conserves(&self) -> bool {
        let totals = &self.totals;
        let cash = [totals.recharged, totals.adjusted, totals.moved_in.cash];
        let cash_went = [totals.refunded, totals.charged_back, totals.spent.cash, self.cash];
        let vouchers = [totals.granted, totals.moved_in.vouchers];
        let vouchers_went = [totals.expired, totals.withdrawn, totals.spent.vouchers, self.vouchers()];
        let all = |amounts: &[Amount]| amounts.iter().try_fold(Amount::ZERO, |all, amount| sum(all, *amount));
        all(&cash).is_ok()
            && all(&cash) == all(&cash_went)
            && all(&vouchers).is_ok()
            && all(&vouchers) == all(&vouchers_went)
            && self.trial_balance().and_then(|trial| trial.sum()) == Ok(Amount::ZERO)
    }

    /// Books a recharge (R4.7).
    pub(crate) fn recharge(&mut self, amount: Amount) -> Result<(), Corrupt> {
        self.totals.recharged = grown(self.totals.recharged, amount)?;
        self.reach(amount)?;
        self.cash = sum(self.cash, amount)?;
        Ok(())
    }

    /// Pays unused cash back, at most `requested`; what was paid (R4.8).
    pub(crate) fn refund(&mut self, requested: Amount) -> Result<Amount, Corrupt> {
        let paid = requested.min(self.cash).max(Amount::ZERO);
        self.totals.refunded = sum(self.totals.refunded, paid)?;
        self.cumulative_recharge = difference(self.cumulative_recharge, paid)?;
        self.cash = difference(self.cash, paid)?;
        Ok(paid)
    }

    /// Takes a recharge back (R4.8).
    pub(crate) fn charge_back(&mut self, amount: Amount) -> Result<(), Corrupt> {
        self.totals.charged_back = grown(self.totals.charged_back, amount)?;
        self.cumulative_recharge = difference(self.cumulative_recharge, amount)?;
        self.cash = difference(self.cash, amount)?;
        Ok(())
    }

    /// Corrects cash (R4.8).
    pub(crate) fn adjust(&mut self, amount: Amount) -> Result<(), Corrupt> {
        let adjusted = sum(self.totals.adjusted, amount)?;
        if adjusted > TOTAL_MAX || difference(Amount::ZERO, adjusted)? > TOTAL_MAX {
            return Err(Corrupt::AmountOutOfRange);
        }
        self.totals.adjusted = adjusted;
        self.cash = sum(self.cash, amount)?;
        Ok(())
    }

    /// Books what an organization brings (R10.1); its vouchers follow by [`Purse::grant`].
    pub(crate) fn move_in(
        &mut self,
        cash: Amount,
        cumulative_recharge: Amount,
        voucher_granted: bool,
    ) -> Result<(), Corrupt> {
        self.totals.moved_in.cash = sum(self.totals.moved_in.cash, cash)?;
        self.cash = sum(self.cash, cash)?;
        self.reach(cumulative_recharge)?;
        self.voucher_granted |= voucher_granted;
        Ok(())
    }

    /// Cumulative recharge grows by `amount`.
    fn reach(&mut self, amount: Amount) -> Result<(), Corrupt> {
        self.cumulative_recharge = sum(self.cumulative_recharge, amount)?;
        self.highest_recharge = self.highest_recharge.max(self.cumulative_recharge);
        Ok(())
    }

    /// Books a voucher (R4.2); one that was `moved_in` was not granted here.
    pub(crate) fn grant(&mut self, voucher: Voucher, moved_in: bool) -> Result<(), Corrupt> {
        let total = if moved_in { &mut self.totals.moved_in.vouchers } else { &mut self.totals.granted };
        *total = grown(*total, voucher.granted)?;
        self.voucher_granted |= voucher.of_policy;
        self.insert(voucher);
        Ok(())
    }

    fn insert(&mut self, voucher: Voucher) {
        let order = |voucher: &Voucher| (voucher.expires_at.unwrap_or(Timestamp::MAX), voucher.position);
        let place = self.vouchers.partition_point(|other| order(other) <= order(&voucher));
        self.vouchers.insert(place, voucher);
    }

    /// Takes what is left of a voucher at its expiry; nothing if nothing is (R4.3).
    pub(crate) fn expire(&mut self, voucher: &VoucherId) -> Result<Amount, Corrupt> {
        let lost = self.take(|other| other.voucher == *voucher);
        self.totals.expired = sum(self.totals.expired, lost)?;
        Ok(lost)
    }

    /// Takes what is left of the policy's voucher (R4.8).
    pub(crate) fn withdraw(&mut self, voucher: &VoucherId) -> Result<Amount, Corrupt> {
        let lost = self.take(|other| other.voucher == *voucher);
        self.totals.withdrawn = sum(self.totals.withdrawn, lost)?;
        Ok(lost)
    }

    fn take(&mut self, which: impl Fn(&Voucher) -> bool) -> Amount {
        match self.vouchers.iter().position(which) {
            Some(place) => self.vouchers.remove(place).left,
            None => Amount::ZERO,
        }
    }

    /// Books what usage cost: vouchers first, then cash (R4.2); what it took of each. Booking two charges one after
    /// the other leaves the same as booking their sum.
    pub(crate) fn charge(&mut self, charge: Amount) -> Result<Funds, Corrupt> {
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
        let took = Funds { cash: due, vouchers: difference(charge, due)? };
        self.totals.spent = self.totals.spent.plus(took)?;
        Ok(took)
    }

    /// Gives back what a usage record cost, in reverse order of spending: first cash, as far as usage took any, then
    /// as a voucher of its own that does not expire. What came of each (R4.8).
    pub(crate) fn give_back(
        &mut self,
        cost: Amount,
        voucher: VoucherId,
        position: Position,
    ) -> Result<Funds, Corrupt> {
        let cash = cost.min(self.totals.spent.cash).max(Amount::ZERO);
        let back = Funds { cash, vouchers: difference(cost, cash)? };
        self.totals.spent = self.totals.spent.minus(back)?;
        self.cash = sum(self.cash, cash)?;
        if back.vouchers.is_positive() {
            let (granted, left) = (back.vouchers, back.vouchers);
            self.insert(Voucher {
                voucher,
                granted,
                left,
                expires_at: None,
                position,
                of_policy: false,
                expiry_told: false,
            });
        }
        Ok(back)
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

pub(crate) fn difference(a: Amount, b: Amount) -> Result<Amount, Corrupt> {
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
            of_policy: false,
            expiry_told: false,
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

    fn posted(before: Funds, after: Funds) -> Vec<(&'static str, String)> {
        let postings = after.postings(before, Account::Adjustments).unwrap();
        postings.iter().map(|posting| (posting.account.name(), posting.amount.to_string())).collect()
    }

    #[test]
    fn r4_10_a_change_that_crosses_zero_posts_to_cash_and_receivable() {
        let cash = |text| Funds::cash(amount(text));
        let lines = |lines: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            lines.iter().map(|(account, amount)| (*account, (*amount).to_owned())).collect()
        };
        assert_eq!(
            posted(cash("2"), cash("-3")),
            lines(&[("assets:receivable", "3"), ("liabilities:cash", "2"), ("expenses:adjustments", "-5")])
        );
        assert_eq!(
            posted(cash("-3"), cash("2")),
            lines(&[("assets:receivable", "-3"), ("liabilities:cash", "-2"), ("expenses:adjustments", "5")])
        );
        assert_eq!(
            posted(cash("-1"), cash("-1.5")),
            lines(&[("assets:receivable", "0.5"), ("expenses:adjustments", "-0.5")])
        );
        assert_eq!(
            posted(cash("0"), cash("0.25")),
            lines(&[("liabilities:cash", "-0.25"), ("expenses:adjustments", "0.25")])
        );
        assert_eq!(posted(cash("7"), cash("7")), []);
        // Both purses at once; what one gives and the other takes is nobody else's.
        let both = Funds { cash: amount("1"), vouchers: amount("2") };
        assert_eq!(
            posted(both, Funds { cash: amount("2"), vouchers: amount("1") }),
            lines(&[("liabilities:cash", "-1"), ("liabilities:vouchers", "1")])
        );
    }

    #[test]
    fn r4_3_r7_2_the_next_expiry_is_a_week_before_that_of_the_first_to_be_spent_and_then_that() {
        let mut purse = Purse::default();
        assert_eq!(purse.next_expiry(), None);
        purse.grant(voucher(1, "2", None), false).unwrap();
        assert_eq!(purse.next_expiry(), None);
        purse.grant(voucher(2, "3", Some("2027-01-01T00:00:00Z")), false).unwrap();
        purse.grant(voucher(3, "1", Some("2026-12-01T00:00:00Z")), true).unwrap();
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(purse.next_expiry(), at("2026-11-24T00:00:00Z"));
        assert_eq!(purse.tell_expiry(&VoucherId::from_bits(3)).map(|told| told.left), Some(amount("1")));
        assert_eq!(purse.tell_expiry(&VoucherId::from_bits(3)), None, "once");
        assert_eq!(purse.next_expiry(), at("2026-12-01T00:00:00Z"));
        purse.charge(amount("1")).unwrap();
        assert_eq!(purse.tell_expiry(&VoucherId::from_bits(3)), None, "nothing is left of it");
        assert_eq!(purse.next_expiry(), at("2026-12-25T00:00:00Z"));
        purse.tell_expiry(&VoucherId::from_bits(2)).unwrap();
        assert_eq!(purse.next_expiry(), at("2027-01-01T00:00:00Z"));
        assert_eq!(purse.expire(&VoucherId::from_bits(2)), Ok(amount("3")));
        assert_eq!(purse.expire(&VoucherId::from_bits(2)), Ok(Amount::ZERO), "nothing is left of it");
        assert_eq!(purse.next_expiry(), None);
        assert!(purse.conserves());
        assert_eq!((purse.totals().granted, purse.totals().moved_in.vouchers), (amount("5"), amount("1")));
    }

    /// The fold keeps the range by itself, whatever a decision of another version said.
    #[test]
    fn r4_9_corrections_keep_to_the_range_on_both_sides() {
        let mut purse = Purse::default();
        let step = amount("0.000000000001");
        purse.adjust(TOTAL_MAX).unwrap();
        assert_eq!(purse.adjust(step), Err(Corrupt::AmountOutOfRange));
        purse.adjust(TOTAL_MAX.negated()).unwrap();
        purse.adjust(TOTAL_MAX.negated()).unwrap();
        assert_eq!(purse.adjust(step.negated()), Err(Corrupt::AmountOutOfRange));
        assert_eq!(purse.cash(), TOTAL_MAX.negated());
        assert!(purse.conserves());
    }

    /// One thing that may happen to a purse, made of numbers.
    fn act(purse: &mut Purse, what: u8, units: u64, number: u64) -> (Account, Funds) {
        let amount = Amount::from_units(units.into()).unwrap();
        let before = purse.funds();
        let account = match what {
            0 => {
                purse.recharge(amount).unwrap();
                Account::Received
            }
            1 => {
                let paid = purse.refund(amount).unwrap();
                assert!(!paid.is_negative() && paid <= amount);
                Account::Refunded
            }
            2 => {
                purse.charge_back(amount).unwrap();
                Account::ChargedBack
            }
            3 => {
                purse.adjust(amount.negated()).unwrap();
                Account::Adjustments
            }
            4 => {
                let (id, expires_at) =
                    (VoucherId::from_bits(number.into()), Some(Timestamp::from_seconds(1)));
                let expires_at = expires_at.filter(|_| units.is_multiple_of(2));
                let granted = Voucher {
                    voucher: id,
                    granted: amount,
                    left: amount,
                    expires_at,
                    position: Position(number),
                    of_policy: false,
                    expiry_told: false,
                };
                purse.grant(granted, false).unwrap();
                Account::Promotion
            }
            5 => {
                purse.charge(amount).unwrap();
                Account::UsageRevenue
            }
            6 => {
                let cost = amount.min(purse.spent());
                purse.give_back(cost, VoucherId::from_bits(number.into()), Position(number)).unwrap();
                Account::UsageRevenue
            }
            _ => {
                let first = purse.each_voucher().first().map(|voucher| voucher.voucher.clone());
                if let Some(first) = first {
                    purse.expire(&first).unwrap();
                }
                Account::Breakage
            }
        };
        (account, before)
    }

    proptest! {
        /// Whatever happens in whatever order: money is conserved, no voucher goes below zero, and the sum of all
        /// postings is the trial balance.
        #[test]
        fn r4_10_the_trial_balance_is_the_sum_of_all_postings(
            acts in prop::collection::vec((0..8u8, 1..5_000u64), 0..60),
        ) {
            let mut purse = Purse::default();
            let mut posted = TrialBalance::default();
            for (number, (what, units)) in (1..).zip(acts) {
                let (account, before) = act(&mut purse, what, units, number);
                let mut event = TrialBalance::default();
                for posting in purse.funds().postings(before, account).unwrap() {
                    event.post(posting).unwrap();
                }
                prop_assert_eq!(event.sum(), Ok(Amount::ZERO));
                posted.add(&event).unwrap();
                prop_assert!(purse.conserves());
                prop_assert!(purse.each_voucher().iter().all(|voucher| voucher.left.is_positive()));
                prop_assert_eq!(&purse.trial_balance().unwrap(), &posted);
                let kept = purse.vouchers().checked_add(purse.cash().max(Amount::ZERO));
                prop_assert_eq!(Some(purse.available()), kept);
            }
        }
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
