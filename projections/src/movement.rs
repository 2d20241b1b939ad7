//! Lines of an organization's books: everything that moved its money but usage, and what finance issued about it.
//!
//! Fresh ones stand in State, where decisions look for references that came before (R4.7). All of them are rows of the
//! view, by the month in which they were booked, and older ones are looked up there before a decision is made.

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{InvoiceId, MovementId, Reason, RechargeId, Reference, VoucherId};
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::usage::{BookedUsage, UsagePlace};

use crate::account::{Account, Posting};
use crate::purse::Funds;
use crate::state::Corrupt;

/// How long State itself remembers movements and idempotency keys, in seconds: two days. The view has them for ever, and
/// trails by milliseconds.
pub const RECENT_SECONDS: i64 = 2 * 24 * 60 * 60;

/// One line of the books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// The entry that says so.
    pub position: Position,
    /// Which of that entry's movements it is, counted from 0.
    pub number: u32,
    /// When it was booked.
    pub booked_at: Timestamp,
    /// The local month in which it was booked: whose statement shows it.
    pub month: Month,
    /// What makes it idempotent, of its kind (R4.7).
    pub reference: Option<Reference>,
    /// Why, if told.
    pub reason: Option<Reason>,
    /// What changed. A usage reversal changes nothing here: it is part of what usage came to.
    pub change: Funds,
    /// What there was after it.
    pub after: Funds,
    /// What it was.
    pub what: What,
}

/// Kinds of movements, whose references are told apart (R4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// Cash came in.
    Recharge,
    /// Unused cash was returned.
    Refund,
    /// A recharge was taken back.
    RechargeReversal,
    /// Cash was corrected.
    Adjustment,
    /// A voucher was granted.
    VoucherGrant,
    /// What was left of a voucher was lost.
    VoucherExpiry,
    /// What was left of the policy's voucher was withdrawn.
    VoucherWithdrawal,
    /// A usage record was taken back.
    UsageReversal,
    /// An organization brought its balance.
    OpeningBalance,
    /// An invoice was issued.
    Invoice,
    /// A credit note was issued.
    CreditNote,
}

impl MovementKind {
    /// A stable code, never reused.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Recharge => "recharge",
            Self::Refund => "refund",
            Self::RechargeReversal => "recharge_reversal",
            Self::Adjustment => "adjustment",
            Self::VoucherGrant => "voucher_grant",
            Self::VoucherExpiry => "voucher_expiry",
            Self::VoucherWithdrawal => "voucher_withdrawal",
            Self::UsageReversal => "usage_reversal",
            Self::OpeningBalance => "opening_balance",
            Self::Invoice => "invoice",
            Self::CreditNote => "credit_note",
        }
    }
}

/// Why a voucher was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// By the voucher policy (R4.5).
    Policy,
    /// By the operator.
    Operator,
    /// It was moved in (R10.1).
    MovedIn,
}

/// What a movement was, with what only its kind has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Cash came in.
    Recharge {
        /// The recharge.
        recharge: RechargeId,
    },
    /// Before it was moved in, the organization used this movement's reference for a recharge (R10.1).
    MovedInReference,
    /// Unused cash was returned.
    Refund {
        /// The refund.
        refund: MovementId,
        /// What was asked for.
        requested: Amount,
        /// The recharge it returns, if told.
        recharge: Option<RechargeId>,
    },
    /// A recharge was taken back.
    RechargeReversal {
        /// The reversal.
        reversal: MovementId,
        /// The recharge.
        recharge: RechargeId,
    },
    /// Cash was corrected.
    Adjustment {
        /// The adjustment.
        adjustment: MovementId,
        /// The entry it corrects.
        corrects: Option<LogPosition>,
    },
    /// A voucher was granted.
    VoucherGrant {
        /// The voucher.
        voucher: VoucherId,
        /// When what is left of it is lost.
        expires_at: Option<Timestamp>,
        /// Why.
        grant: Grant,
    },
    /// What was left of a voucher was lost.
    VoucherExpiry {
        /// The voucher.
        voucher: VoucherId,
    },
    /// What was left of the policy's voucher was withdrawn.
    VoucherWithdrawal {
        /// The voucher.
        voucher: VoucherId,
    },
    /// A usage record was taken back.
    UsageReversal {
        /// The reversal.
        reversal: MovementId,
        /// The record.
        usage: UsagePlace,
        /// As it was booked.
        booked: Box<BookedUsage>,
        /// What was given back of each.
        back: Funds,
    },
    /// The organization brought its balance.
    OpeningBalance {
        /// Cumulative recharge so far.
        cumulative_recharge: Amount,
    },
    /// An invoice was issued.
    Invoice {
        /// The invoice.
        invoice: InvoiceId,
        /// Counted without gaps.
        number: u64,
        /// The month whose recharges it covers.
        of: Month,
        /// What was paid.
        recharges: Vec<(RechargeId, Amount)>,
    },
    /// A credit note was issued.
    CreditNote {
        /// The credit note.
        note: InvoiceId,
        /// Counted without gaps, in one series with invoices.
        number: u64,
        /// The invoice it belongs to.
        invoice: InvoiceId,
        /// The refund or reversal.
        movement: MovementId,
        /// How much was returned.
        amount: Amount,
    },
}

/// By what a decision finds a movement that came before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MovementKey {
    /// Of this kind, with this reference.
    Reference(MovementKind, Reference),
    /// This recharge itself, and whatever was paid back of it or issued about it.
    Recharge(RechargeId),
    /// The reversal of this usage record.
    Usage(UsagePlace),
    /// The invoice of this month.
    Invoice(Month),
    /// This invoice or credit note.
    Document(InvoiceId),
    /// The invoice or credit note with this number.
    Number(u64),
}

impl Movement {
    /// What kind of movement it is.
    pub const fn kind(&self) -> MovementKind {
        match &self.what {
            What::Recharge { .. } | What::MovedInReference => MovementKind::Recharge,
            What::Refund { .. } => MovementKind::Refund,
            What::RechargeReversal { .. } => MovementKind::RechargeReversal,
            What::Adjustment { .. } => MovementKind::Adjustment,
            What::VoucherGrant { .. } => MovementKind::VoucherGrant,
            What::VoucherExpiry { .. } => MovementKind::VoucherExpiry,
            What::VoucherWithdrawal { .. } => MovementKind::VoucherWithdrawal,
            What::UsageReversal { .. } => MovementKind::UsageReversal,
            What::OpeningBalance { .. } => MovementKind::OpeningBalance,
            What::Invoice { .. } => MovementKind::Invoice,
            What::CreditNote { .. } => MovementKind::CreditNote,
        }
    }

    /// The recharge that came in with it.
    pub const fn recharged(&self) -> Option<&RechargeId> {
        if let What::Recharge { recharge } = &self.what { Some(recharge) } else { None }
    }

    /// The recharge that it pays back in part or whole: a refund's, if told, or a reversal's.
    pub const fn paid_back_of(&self) -> Option<&RechargeId> {
        match &self.what {
            What::Refund { recharge, .. } => recharge.as_ref(),
            What::RechargeReversal { recharge, .. } => Some(recharge),
            What::Recharge { .. }
            | What::MovedInReference
            | What::Adjustment { .. }
            | What::VoucherGrant { .. }
            | What::VoucherExpiry { .. }
            | What::VoucherWithdrawal { .. }
            | What::UsageReversal { .. }
            | What::OpeningBalance { .. }
            | What::Invoice { .. }
            | What::CreditNote { .. } => None,
        }
    }

    /// Everything that decisions may look for it by.
    pub fn keys(&self) -> Vec<MovementKey> {
        let reference =
            self.reference.iter().map(|reference| MovementKey::Reference(self.kind(), reference.clone()));
        let mut keys: Vec<_> = reference.collect();
        let recharge = self.recharged().or(self.paid_back_of());
        keys.extend(recharge.map(|recharge| MovementKey::Recharge(recharge.clone())));
        match &self.what {
            What::UsageReversal { usage, .. } => keys.push(MovementKey::Usage(*usage)),
            What::Invoice { invoice, number, of, recharges } => {
                keys.push(MovementKey::Invoice(*of));
                keys.extend([MovementKey::Document(invoice.clone()), MovementKey::Number(*number)]);
                keys.extend(recharges.iter().map(|(recharge, _)| MovementKey::Recharge(recharge.clone())));
            }
            What::CreditNote { note, number, .. } => {
                keys.extend([MovementKey::Document(note.clone()), MovementKey::Number(*number)]);
            }
            What::Recharge { .. }
            | What::MovedInReference
            | What::Refund { .. }
            | What::RechargeReversal { .. }
            | What::Adjustment { .. }
            | What::VoucherGrant { .. }
            | What::VoucherExpiry { .. }
            | What::VoucherWithdrawal { .. }
            | What::OpeningBalance { .. } => {}
        }
        keys
    }

    /// Whether `key` is one of [`Movement::keys`].
    pub fn answers(&self, key: &MovementKey) -> bool {
        if let MovementKey::Reference(kind, reference) = key {
            // What every payment asks of all that is remembered.
            return self.kind() == *kind && self.reference.as_ref() == Some(reference);
        }
        self.keys().contains(key)
    }

    /// What it posts (R4.10): nothing where nothing moved.
    pub fn postings(&self) -> Result<Vec<Posting>, Corrupt> {
        let (change, against) = match &self.what {
            What::Recharge { .. } => (self.change, Account::Received),
            What::Refund { .. } => (self.change, Account::Refunded),
            What::RechargeReversal { .. } => (self.change, Account::ChargedBack),
            What::Adjustment { .. } => (self.change, Account::Adjustments),
            What::VoucherGrant { grant: Grant::MovedIn, .. } | What::OpeningBalance { .. } => {
                (self.change, Account::MovedIn)
            }
            What::VoucherGrant { grant: Grant::Policy | Grant::Operator, .. }
            | What::VoucherWithdrawal { .. } => (self.change, Account::Promotion),
            What::VoucherExpiry { .. } => (self.change, Account::Breakage),
            What::UsageReversal { back, .. } => (*back, Account::UsageRevenue),
            What::MovedInReference | What::Invoice { .. } | What::CreditNote { .. } => return Ok(Vec::new()),
        };
        self.after.postings(self.after.minus(change)?, against)
    }
}
