//! The model's money: lines in a list, vouchers in another, and scans over both.

use jiff::civil::Date;
use rust_decimal::Decimal;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{MoveIn, OrganizationCommand};
use tollbook_schemas::id::{RechargeId, VoucherId};
use tollbook_schemas::policy::VoucherPolicy;
use tollbook_schemas::time::{Month, Timestamp};

use super::{
    BookedRecord, Expected, OracleOrganization, entry, most, voucher_expired, voucher_expiring,
    voucher_granted,
};

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cash came in.
    Recharge,
    /// Cash was returned.
    Refund,
    /// A recharge was taken back.
    Reversal,
    /// Cash was corrected.
    Adjustment,
    /// A voucher was granted.
    Grant,
    /// A voucher ran out.
    Expiry,
    /// The policy's voucher was withdrawn.
    Withdrawal,
    /// Usage was taken back.
    UsageReversal,
    /// What an organization brought.
    Opening,
    /// A voucher it brought.
    BroughtVoucher,
    /// A reference it brought.
    BroughtReference,
    /// An invoice.
    Invoice,
    /// A credit note.
    CreditNote,
}

/// One line of the books.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub kind: Kind,
    /// Its reference.
    pub reference: Option<String>,
    /// Everything else that the same again must say.
    pub content: String,
    /// Its entry.
    pub position: u64,
    /// The month in which it was booked.
    pub month: Month,
    /// What changed.
    pub cash: Decimal,
    /// What changed.
    pub vouchers: Decimal,
    /// The recharges it is about.
    pub recharges: Vec<RechargeId>,
    /// The month that an invoice is of.
    pub of: Option<Month>,
    /// The usage record that a reversal is of.
    pub usage: Option<(u64, u32)>,
    /// The number of an invoice or credit note.
    pub number: Option<u64>,
}

/// One voucher with something left.
#[derive(Clone, Debug)]
pub struct OracleVoucher {
    /// Its id; what came back of usage has one of its own.
    pub id: Option<VoucherId>,
    /// What is left.
    pub left: Decimal,
    /// When that is lost.
    pub expires_at: Option<Timestamp>,
    /// Whether it is the policy's.
    pub policy: bool,
    /// Whether it needs no notice any more.
    pub noticed: bool,
}

/// How long before a voucher expires somebody is told.
const WEEK: i64 = 7 * 86_400;

impl OracleVoucher {
    /// When somebody is told that it expires.
    pub fn notice_at(&self) -> Option<Timestamp> {
        self.expires_at.filter(|_| !self.noticed).map(|at| at.plus_seconds(-WEEK))
    }
}

/// What changed in a month: cash, vouchers, and whether usage did.
pub(super) type Flow = (Month, Decimal, Decimal, bool);

fn decimal(amount: &Amount) -> Decimal {
    amount.to_decimal()
}

fn out_of_range() -> Expected {
    Expected::Refused("amount_out_of_range")
}

/// What the rest of the ledger says of a command.
pub(super) struct Around<'a> {
    pub(super) policy: &'a VoucherPolicy,
    /// Never before what is recorded.
    pub(super) now: Timestamp,
    /// The last entry.
    pub(super) head: u64,
    /// Whether a month of this organization is closed.
    pub(super) closed: &'a dyn Fn(Month) -> bool,
}

/// Where and when an entry is booked.
#[derive(Clone, Copy)]
pub(super) struct Here {
    pub(super) position: u64,
    pub(super) at: Timestamp,
}

impl OracleOrganization {
    /// The local month of an instant.
    pub fn month(&self, at: Timestamp) -> Month {
        month_of(self.date(at))
    }

    /// The sum of what lines of a kind changed.
    pub fn sum(&self, kind: Kind) -> Decimal {
        self.lines.iter().filter(|line| line.kind == kind).map(|line| line.cash + line.vouchers).sum()
    }

    /// Recharges less what was paid back (R4.4).
    pub fn cumulative(&self) -> Decimal {
        self.moved_in_recharge + self.sum(Kind::Recharge) + self.sum(Kind::Refund) + self.sum(Kind::Reversal)
    }

    /// Whether cumulative recharge ever was so much.
    pub(super) fn reached(&self, threshold: Decimal) -> bool {
        let mut cumulative = self.moved_in_recharge;
        let moved = self
            .lines
            .iter()
            .filter(|line| matches!(line.kind, Kind::Recharge | Kind::Refund | Kind::Reversal))
            .map(|line| line.cash);
        [Decimal::ZERO].into_iter().chain(moved).any(|cash| {
            cumulative += cash;
            cumulative >= threshold
        })
    }

    /// What is left of all vouchers.
    pub fn voucher_balance(&self) -> Decimal {
        self.vouchers.iter().map(|voucher| voucher.left).sum()
    }

    /// Vouchers in the order in which they are spent: by looking for the next one again and again.
    pub fn in_order(&self) -> Vec<OracleVoucher> {
        let mut rest = self.vouchers.clone();
        let mut order = Vec::new();
        while !rest.is_empty() {
            let mut next = 0;
            for place in 1..rest.len() {
                // The list is by age, so an equal one comes later.
                let sooner = match (rest[place].expires_at, rest[next].expires_at) {
                    (Some(one), Some(other)) => one < other,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if sooner {
                    next = place;
                }
            }
            order.push(rest.remove(next));
        }
        order
    }

    /// Months whose statements wait for a seal, the open one too.
    pub fn waiting(&self) -> Vec<Month> {
        let mut months: Vec<Month> = self.flows.iter().map(|flow| flow.0).collect();
        months.sort_unstable();
        months.dedup();
        months.retain(|month| !self.sealed.contains(month));
        months
    }

    /// What a month opened with, what usage took, and what it closed with: cash and vouchers of each.
    pub fn statement(&self, month: Month) -> [(Decimal, Decimal); 3] {
        let zero = (Decimal::ZERO, Decimal::ZERO);
        let [mut opening, mut usage, mut closing] = [zero; 3];
        for (of, cash, vouchers, is_usage) in &self.flows {
            if *of < month {
                opening = (opening.0 + cash, opening.1 + vouchers);
            }
            if *of <= month {
                closing = (closing.0 + cash, closing.1 + vouchers);
            }
            if *of == month && *is_usage {
                usage = (usage.0 - cash, usage.1 - vouchers);
            }
        }
        [opening, usage, closing]
    }

    fn left_of(&self, recharge: &RechargeId) -> Option<Decimal> {
        let about = || self.lines.iter().filter(|line| line.recharges.contains(recharge));
        about().find(|line| line.kind == Kind::Recharge)?;
        Some(about().map(|line| line.cash).sum())
    }

    fn before(&self, kind: Kind, reference: &str, content: &str) -> Option<Expected> {
        let kinds = [kind, if kind == Kind::Recharge { Kind::BroughtReference } else { kind }];
        let known = self
            .lines
            .iter()
            .find(|line| kinds.contains(&line.kind) && line.reference.as_deref() == Some(reference))?;
        Some(if known.kind == kind && known.content == content {
            Expected::Before(known.position)
        } else {
            Expected::Refused("reference_conflict")
        })
    }

    pub(super) fn expect_money(&self, command: &OrganizationCommand, around: &Around<'_>) -> Expected {
        let zero = Decimal::ZERO;
        let total = |kind: Kind, more: Decimal| (self.sum(kind) + more).abs() > most();
        let (kind, reference, content) = match command {
            OrganizationCommand::Recharge { amount, reference, .. } => {
                (Kind::Recharge, reference, amount.to_string())
            }
            OrganizationCommand::Refund { amount, reference, recharge, .. } => {
                (Kind::Refund, reference, format!("{amount} {recharge:?}"))
            }
            OrganizationCommand::ReverseRecharge { recharge, reference, reason, amount, .. } => {
                // What it took is told by the line itself where the request does not say.
                let told = self.lines.iter().find(|line| {
                    line.kind == Kind::Reversal && line.reference.as_deref() == Some(reference.as_str())
                });
                let amount = amount.map(|amount| decimal(&amount)).or(told.map(|line| -line.cash));
                (Kind::Reversal, reference, format!("{recharge} {amount:?} {reason}"))
            }
            OrganizationCommand::Adjust { amount, reference, reason, corrects, .. } => {
                (Kind::Adjustment, reference, format!("{amount} {reason} {corrects:?}"))
            }
            OrganizationCommand::GrantVoucher { amount, reference, expires_at, reason, .. } => {
                (Kind::Grant, reference, format!("{amount} {expires_at:?} {reason:?}"))
            }
            _ => return self.expect_rest(command, around),
        };
        let amount = match command {
            OrganizationCommand::Recharge { amount, .. }
            | OrganizationCommand::Refund { amount, .. }
            | OrganizationCommand::Adjust { amount, .. }
            | OrganizationCommand::GrantVoucher { amount, .. } => Some(decimal(amount)),
            OrganizationCommand::ReverseRecharge { amount, .. } => amount.as_ref().map(decimal),
            _ => None,
        };
        match (kind, amount) {
            (Kind::Adjustment, Some(amount)) if amount == zero => return Expected::Refused("amount_zero"),
            (Kind::Adjustment, _) => {}
            (_, Some(amount)) if amount <= zero => return Expected::Refused("amount_not_positive"),
            _ => {}
        }
        if let Some(before) = self.before(kind, reference.as_str(), &content) {
            return before;
        }
        match command {
            OrganizationCommand::Recharge { amount, .. } => {
                let amount = decimal(amount);
                if total(Kind::Recharge, amount) {
                    return out_of_range();
                }
                let (threshold, worth) = (decimal(&around.policy.threshold), decimal(&around.policy.amount));
                let reaches = !self.reached(threshold) && self.cumulative() + amount >= threshold;
                let earned = reaches && worth > zero && !self.policy_granted;
                if earned && total(Kind::Grant, worth) {
                    return out_of_range();
                }
                Expected::Entry { voucher: earned.then_some(worth), cycles: None }
            }
            OrganizationCommand::Refund { amount, recharge, .. } => {
                if let Some(recharge) = recharge {
                    match self.left_of(recharge) {
                        None => return Expected::Refused("recharge_not_found"),
                        Some(left) if decimal(amount) > left => return Expected::Refused("refund_too_large"),
                        Some(_) => {}
                    }
                }
                if self.cash > zero { entry() } else { Expected::Refused("nothing_to_refund") }
            }
            OrganizationCommand::ReverseRecharge { amount, recharge, .. } => match self.left_of(recharge) {
                None => Expected::Refused("recharge_not_found"),
                Some(left) if left <= zero || amount.is_some_and(|amount| decimal(&amount) > left) => {
                    Expected::Refused("reversal_too_large")
                }
                Some(_) => entry(),
            },
            OrganizationCommand::Adjust { amount, corrects, .. } => {
                let exists = corrects.is_none_or(|corrects| {
                    corrects.partition.0 == 0
                        && corrects.position.0 >= 1
                        && corrects.position.0 <= around.head
                });
                if !exists {
                    Expected::Refused("entry_not_found")
                } else if total(Kind::Adjustment, decimal(amount)) {
                    out_of_range()
                } else {
                    entry()
                }
            }
            OrganizationCommand::GrantVoucher { amount, expires_at, .. } => {
                if expires_at.is_some_and(|at| at <= around.now) {
                    Expected::Refused("expiry_passed")
                } else if total(Kind::Grant, decimal(amount)) {
                    out_of_range()
                } else {
                    Expected::Entry { voucher: Some(decimal(amount)), cycles: None }
                }
            }
            other => panic!("{other:?} has no reference"),
        }
    }

    fn expect_rest(&self, command: &OrganizationCommand, around: &Around<'_>) -> Expected {
        let zero = Decimal::ZERO;
        match command {
            OrganizationCommand::ExpireVouchers
                if self.due(around.now).is_empty() && self.notices(around.now).is_empty() =>
            {
                Expected::AsItIs
            }
            OrganizationCommand::ExpireVouchers => entry(),
            OrganizationCommand::SetCreditLimit(limit) => match limit.as_ref().map(decimal) {
                Some(limit) if limit <= zero => Expected::Refused("amount_not_positive"),
                Some(limit) if limit > most() => out_of_range(),
                limit if limit == self.credit_limit => Expected::AsItIs,
                _ => entry(),
            },
            OrganizationCommand::ReverseUsage { usage, .. } => {
                let place = (usage.position.0, usage.row);
                match self.lines.iter().find(|line| line.usage == Some(place)) {
                    Some(before) => Expected::Before(before.position),
                    None => entry(),
                }
            }
            OrganizationCommand::SealStatement { month, .. } => {
                if !(around.closed)(*month) {
                    Expected::Refused("month_open")
                } else if self.waiting().contains(month) {
                    entry()
                } else {
                    Expected::AsItIs
                }
            }
            OrganizationCommand::IssueInvoice { month, .. } => {
                let again = self.lines.iter().any(|line| line.of == Some(*month));
                if !(around.closed)(*month) {
                    Expected::Refused("month_open")
                } else if again || self.invoiceable(*month).is_empty() {
                    Expected::Refused("nothing_to_invoice")
                } else {
                    entry()
                }
            }
            other => panic!("{other:?} is not about money"),
        }
    }

    fn due(&self, now: Timestamp) -> Vec<OracleVoucher> {
        let due = |voucher: &OracleVoucher| voucher.expires_at.is_some_and(|at| at <= now);
        self.in_order().into_iter().filter(due).collect()
    }

    /// Vouchers of which somebody is to be told that they expire.
    fn notices(&self, now: Timestamp) -> Vec<OracleVoucher> {
        let due = |voucher: &OracleVoucher| {
            voucher.notice_at().is_some_and(|at| at <= now) && voucher.expires_at.is_some_and(|at| at > now)
        };
        self.in_order().into_iter().filter(due).collect()
    }

    fn invoiceable(&self, month: Month) -> Vec<RechargeId> {
        let of_month = self.lines.iter().filter(|line| line.kind == Kind::Recharge && line.month == month);
        let recharges = of_month.map(|line| line.recharges[0].clone());
        recharges.filter(|recharge| self.left_of(recharge).is_some_and(|left| left > Decimal::ZERO)).collect()
    }

    /// Writes a line and moves its money.
    fn line(&mut self, kind: Kind, here: Here, cash: Decimal, vouchers: Decimal) -> &mut Line {
        let month = self.month(here.at);
        self.cash += cash;
        self.flows.push((month, cash, vouchers, false));
        self.lines.push(Line {
            kind,
            reference: None,
            content: String::new(),
            position: here.position,
            month,
            cash,
            vouchers,
            recharges: Vec::new(),
            of: None,
            usage: None,
            number: None,
        });
        self.lines.last_mut().unwrap()
    }

    fn number(&self) -> u64 {
        self.lines.iter().filter_map(|line| line.number).max().unwrap_or(0) + 1
    }

    /// Adds a voucher as the youngest.
    fn add_voucher(
        &mut self,
        id: Option<VoucherId>,
        left: Decimal,
        expires_at: Option<Timestamp>,
        policy: bool,
        here: Here,
    ) {
        self.policy_granted |= policy;
        let noticed = expires_at.is_some_and(|at| at <= here.at.plus_seconds(WEEK));
        self.vouchers.push(OracleVoucher { id, left, expires_at, policy, noticed });
    }

    /// What follows a refund or reversal in its entry.
    fn paid_back(
        &mut self,
        here: Here,
        policy: &VoucherPolicy,
        recharge: Option<&RechargeId>,
        paid: Decimal,
    ) {
        let zero = Decimal::ZERO;
        let threshold = decimal(&policy.threshold);
        if self.cumulative() < threshold
            && self.cumulative() + paid >= threshold
            && let Some(place) = self.vouchers.iter().position(|voucher| voucher.policy)
        {
            let left = self.vouchers.remove(place).left;
            self.line(Kind::Withdrawal, here, zero, -left);
        }
        let invoiced = recharge.is_some_and(|recharge| {
            self.lines.iter().any(|line| line.kind == Kind::Invoice && line.recharges.contains(recharge))
        });
        if invoiced && paid > zero {
            let number = self.number();
            self.line(Kind::CreditNote, here, zero, zero).number = Some(number);
        }
    }

    pub(super) fn happen_money(
        &mut self,
        command: &OrganizationCommand,
        here: Here,
        policy: &VoucherPolicy,
        granted: Option<Decimal>,
    ) -> Vec<String> {
        let zero = Decimal::ZERO;
        let mut said = Vec::new();
        match command {
            OrganizationCommand::Recharge { recharge, amount, reference, voucher } => {
                let line = self.line(Kind::Recharge, here, decimal(amount), zero);
                line.reference = Some(reference.to_string());
                line.content = amount.to_string();
                line.recharges = vec![recharge.clone()];
                if let Some(worth) = granted {
                    let days = policy.expires_after_days.map(i64::from);
                    let expires = days.map(|days| here.at.plus_seconds(86_400 * days));
                    self.line(Kind::Grant, here, zero, worth);
                    self.add_voucher(Some(voucher.clone()), worth, expires, true, here);
                    said.push(voucher_granted(worth, expires));
                }
            }
            OrganizationCommand::Refund { amount, reference, recharge, .. } => {
                let paid = decimal(amount).min(self.cash).max(zero);
                let line = self.line(Kind::Refund, here, -paid, zero);
                line.reference = Some(reference.to_string());
                line.content = format!("{amount} {recharge:?}");
                line.recharges = recharge.iter().cloned().collect();
                self.paid_back(here, policy, recharge.as_ref(), paid);
            }
            OrganizationCommand::ReverseRecharge { recharge, amount, reference, reason, .. } => {
                let left = self.left_of(recharge).unwrap();
                let taken = amount.map_or(left, |amount| decimal(&amount));
                let line = self.line(Kind::Reversal, here, -taken, zero);
                line.reference = Some(reference.to_string());
                line.content = format!("{recharge} {:?} {reason}", Some(taken));
                line.recharges = vec![recharge.clone()];
                self.paid_back(here, policy, Some(recharge), taken);
            }
            OrganizationCommand::Adjust { amount, reference, reason, corrects, .. } => {
                let line = self.line(Kind::Adjustment, here, decimal(amount), zero);
                line.reference = Some(reference.to_string());
                line.content = format!("{amount} {reason} {corrects:?}");
            }
            OrganizationCommand::GrantVoucher { voucher, amount, reference, expires_at, reason } => {
                let line = self.line(Kind::Grant, here, zero, decimal(amount));
                line.reference = Some(reference.to_string());
                line.content = format!("{amount} {expires_at:?} {reason:?}");
                self.add_voucher(Some(voucher.clone()), decimal(amount), *expires_at, false, here);
                said.push(voucher_granted(decimal(amount), *expires_at));
            }
            OrganizationCommand::ExpireVouchers => {
                for notice in self.notices(here.at) {
                    said.push(voucher_expiring(notice.left, notice.expires_at.unwrap()));
                    let same = |voucher: &&mut OracleVoucher| voucher.id == notice.id;
                    self.vouchers.iter_mut().filter(same).for_each(|voucher| voucher.noticed = true);
                }
                for due in self.due(here.at) {
                    self.vouchers.retain(|voucher| voucher.id.is_none() || voucher.id != due.id);
                    self.line(Kind::Expiry, here, zero, -due.left);
                    said.push(voucher_expired(due.left));
                }
            }
            OrganizationCommand::SetCreditLimit(limit) => self.credit_limit = limit.as_ref().map(decimal),
            OrganizationCommand::ReverseUsage { usage, booked, .. } => {
                let cost = decimal(&booked.cost);
                let cash = cost.min(self.spent_cash).max(zero);
                let rest = cost - cash;
                let line = self.line(Kind::UsageReversal, here, zero, zero);
                line.usage = Some((usage.position.0, usage.row));
                let month = self.month(here.at);
                self.flows.push((month, cash, rest, true));
                self.cash += cash;
                self.spent -= cost;
                self.spent_cash -= cash;
                if rest > zero {
                    self.add_voucher(None, rest, None, false, here);
                }
                self.booked.push(BookedRecord {
                    day: booked.day.date(),
                    project: booked.project.clone(),
                    key: booked.key.clone(),
                    model: booked.model.clone(),
                    tokens: booked.tokens,
                    cost,
                    place: (usage.position.0, usage.row),
                    booked: (here.at, here.position),
                    back: true,
                    released: false,
                });
            }
            OrganizationCommand::SealStatement { month, .. } => self.sealed.push(*month),
            OrganizationCommand::IssueInvoice { month, .. } => {
                let (recharges, number) = (self.invoiceable(*month), self.number());
                let line = self.line(Kind::Invoice, here, zero, zero);
                (line.recharges, line.number, line.of) = (recharges, Some(number), Some(*month));
            }
            other => panic!("{other:?} is not about money"),
        }
        said
    }

    pub(super) fn happen_move_in(&mut self, new: &MoveIn, here: Here, policy: &VoucherPolicy) {
        let zero = Decimal::ZERO;
        self.moved_in_recharge = decimal(&new.cumulative_recharge);
        self.policy_granted = new.voucher_granted || new.cumulative_recharge >= policy.threshold;
        self.line(Kind::Opening, here, decimal(&new.cash), zero);
        let mut references: Vec<String> = new.references.iter().map(ToString::to_string).collect();
        references.sort();
        references.dedup();
        for reference in references {
            self.line(Kind::BroughtReference, here, zero, zero).reference = Some(reference);
        }
        for (voucher, left, expires_at) in &new.vouchers {
            self.line(Kind::BroughtVoucher, here, zero, decimal(left));
            self.add_voucher(Some(voucher.clone()), decimal(left), *expires_at, false, here);
        }
        self.projects.extend(new.projects.iter().map(|(project, _)| project.clone()));
        self.keys.extend(new.keys.iter().map(|key| (key.key.clone(), key.project.clone())));
    }

    /// Takes what a record cost: vouchers first, one by one.
    pub(super) fn pay(&mut self, cost: Decimal, at: Timestamp) {
        let mut due = cost;
        for next in self.in_order() {
            let same = |voucher: &&mut OracleVoucher| {
                voucher.id == next.id && voucher.left == next.left && voucher.expires_at == next.expires_at
            };
            let voucher = self.vouchers.iter_mut().find(same).unwrap();
            let part = due.min(voucher.left);
            voucher.left -= part;
            due -= part;
        }
        self.vouchers.retain(|voucher| voucher.left > Decimal::ZERO);
        self.cash -= due;
        self.spent += cost;
        self.spent_cash += due;
        let month = self.month(at);
        self.flows.push((month, -due, due - cost, true));
    }

    /// Every account's balance, by name (R4.10).
    pub fn trial_balance(&self) -> Vec<(&'static str, Decimal)> {
        let zero = Decimal::ZERO;
        vec![
            ("assets:received", self.sum(Kind::Recharge)),
            ("assets:refunded", self.sum(Kind::Refund)),
            ("assets:charged_back", self.sum(Kind::Reversal)),
            ("assets:receivable", -self.cash.min(zero)),
            ("liabilities:cash", -self.cash.max(zero)),
            ("liabilities:vouchers", -self.voucher_balance()),
            ("equity:moved_in", self.sum(Kind::Opening) + self.sum(Kind::BroughtVoucher)),
            ("income:usage", -self.spent),
            ("income:breakage", self.sum(Kind::Expiry)),
            ("expenses:promotion", self.sum(Kind::Grant) + self.sum(Kind::Withdrawal)),
            ("expenses:adjustments", self.sum(Kind::Adjustment)),
        ]
    }
}

pub(super) fn month_of(date: Date) -> Month {
    Month { year: date.year(), month: date.month() }
}
