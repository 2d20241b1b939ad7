//! The statement of one month of an organization: what there was, every movement, what was used, what there is (R8.3).
//!
//! ```text
//! State, between two records ──> Kept ──┐
//! rows of the view, or effects ─> Booked ┴─> Statement ──> canonical bytes ──> SHA-256, which a seal keeps
//! ```
//!
//! The month of everything is the local one in which it was booked; usage also names the one in which it occurred.

mod csv;
mod gather;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{ModelName, OrgId, ProjectId};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::{Month, Timestamp};

pub use self::csv::COLUMNS;
pub use self::gather::Gathered;
use crate::books::{EndedMonth, OpenMonth};
use crate::movement::{Movement, What};
use crate::organization::Organization;
use crate::purse::{Funds, sum};
use crate::record::Hash;
use crate::spend::{Cell, OpenCells};
use crate::state::{Corrupt, State};

/// Whose statement, of which month.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// Whose.
    pub organization: OrgId,
    /// The month.
    pub month: Month,
    /// Where the organization's entries stand.
    pub partition: PartitionId,
    /// The ledger's.
    pub currency: String,
}

/// One month of an organization: opening, and movements, less usage, are closing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Whose, and when.
    pub about: About,
    /// What there was when the month began.
    pub opening: Funds,
    /// Everything but usage, in the order of the log. Usage reversals, invoices and credit notes change nothing here.
    pub movements: Vec<Movement>,
    /// What was booked, less what was taken back; without what comes to nothing.
    pub usage: BTreeMap<UsedIn, Cell>,
    /// All of it.
    pub used: Cell,
    /// What usage took of each, less what was given back.
    pub took: Funds,
    /// What there was when the month ended, or what there is.
    pub closing: Funds,
}

/// What a line of usage is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsedIn {
    /// The local month in which it occurred: another than the statement's where it came late (R8.3).
    pub month: Month,
    /// The project that was charged.
    pub project: ProjectId,
    /// The model.
    pub model: ModelName,
}

/// What was booked in a month, but for what State still holds of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booked {
    /// What the last month up to this one came to in which anything was booked, of those that are over.
    pub ended: Option<EndedMonth>,
    /// Movements of the month, in the order of the log.
    pub movements: Vec<Movement>,
    /// Cells booked on days of the month.
    pub cells: Vec<OpenCells>,
}

/// Why there is no statement of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStatement {
    /// The organization is younger.
    #[error("its first statement is that of {first}, the month in which it was registered")]
    Before {
        /// The month in which it was registered.
        first: Month,
    },
    /// It has not begun.
    #[error("that month has not begun")]
    Future,
}

/// A statement that does not add up: a bug, or rows that are not of one history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unbalanced {
    /// Opening, and movements, less usage, are not closing.
    #[error("{of} opens with {opening:?} and comes to {found:?}, but closes with {closing:?}")]
    Closing {
        /// Which statement.
        of: String,
        /// What there was.
        opening: Funds,
        /// With everything that changed it.
        found: Funds,
        /// What there is.
        closing: Funds,
    },
    /// Lines of usage cost something else than was taken.
    #[error("usage of {of} cost {cost}, but {took} was taken")]
    Usage {
        /// Which statement.
        of: String,
        /// The sum of its lines.
        cost: Amount,
        /// What was taken.
        took: Amount,
    },
    /// A sum is out of range.
    #[error(transparent)]
    Range(#[from] Corrupt),
}

/// What State holds of a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose, and when.
    pub about: About,
    /// Whether the log says that the month ended, so that nothing can be booked in it any more.
    pub closed: bool,
    /// The view must hold this entry and those before.
    pub rows_through: Position,
    /// Where State stands: rows of later entries are not of this statement.
    pub at: Position,
    stands: Stands,
    /// Cells of the open day, where it is a day of the month.
    cells: Option<OpenCells>,
}

/// How a month stands to the one that State has open.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stands {
    /// It ended.
    Before,
    /// It is that one.
    Open(OpenMonth, Funds),
    /// Nothing was booked since an earlier one.
    After(Funds),
}

impl Kept {
    /// What `state` holds of a month of one of its organizations; `now` says which months have begun.
    pub fn of(
        state: &State,
        organization: &Organization,
        month: Month,
        now: Timestamp,
    ) -> Result<Self, NoStatement> {
        let first = organization.calendar.day(organization.created_at).month();
        let open = &organization.month;
        if month < first {
            return Err(NoStatement::Before { first });
        }
        let latest = organization.calendar.day(now.max(state.head().recorded_at)).month().max(open.month);
        if month > latest {
            return Err(NoStatement::Future);
        }
        let (stands, rows_through) = match month.cmp(&open.month) {
            std::cmp::Ordering::Less => (Stands::Before, open.since),
            std::cmp::Ordering::Equal => {
                let through = organization.last_decision.max(organization.history_at);
                (Stands::Open(open.clone(), organization.purse.funds()), through)
            }
            std::cmp::Ordering::Greater => (Stands::After(organization.purse.funds()), Position::ZERO),
        };
        let closed = state.is_closed(organization, month);
        let waits = organization.waiting_for_seals().any(|waiting| waiting == month);
        // A month that is closed and does not wait was sealed by a decision, or never will be.
        let decided = if closed && !waits { organization.last_decision } else { Position::ZERO };
        let currency = state.config().ledger.as_ref().map(|(_, currency, _)| currency.clone());
        Ok(Self {
            about: About {
                organization: organization.id.clone(),
                month,
                partition: state.partition(),
                currency: currency.unwrap_or_default(),
            },
            closed,
            rows_through: rows_through.max(decided),
            at: state.head().position,
            stands,
            cells: (organization.open.booked_on.month() == month).then(|| organization.open.clone()),
        })
    }

    /// The statement. Errors: it does not add up.
    pub fn with(self, booked: Booked) -> Result<Statement, Unbalanced> {
        let Booked { ended, movements, cells } = booked;
        let (opening, took, closing) = match self.stands {
            Stands::Open(open, funds) => (open.opening, open.usage, funds),
            Stands::After(funds) => (funds, Funds::default(), funds),
            Stands::Before => match ended {
                Some(ended) if ended.month == self.about.month => (ended.opening, ended.usage, ended.closing),
                Some(earlier) => (earlier.closing, Funds::default(), earlier.closing),
                None => (Funds::default(), Funds::default(), Funds::default()),
            },
        };
        let mut statement = Statement {
            about: self.about,
            opening,
            // What an organization that moved in had used as references before is nothing that happened here.
            movements: movements.into_iter().filter(|line| line.what != What::MovedInReference).collect(),
            usage: BTreeMap::new(),
            used: Cell::default(),
            took,
            closing,
        };
        for cells in cells.into_iter().chain(self.cells) {
            statement.add(cells)?;
        }
        statement.usage.retain(|_, cell| !cell.is_nothing());
        statement.check()?;
        Ok(statement)
    }
}

impl Statement {
    fn add(&mut self, booked: OpenCells) -> Result<(), Corrupt> {
        for (key, cell) in booked.cells {
            let used_in = UsedIn { month: key.day.month(), project: key.project, model: key.model };
            self.usage.entry(used_in).or_default().add(&cell)?;
            self.used.add(&cell)?;
        }
        Ok(())
    }

    /// Opening, and movements, less usage, are closing: of cash and of vouchers each. What lines of usage cost was
    /// taken.
    fn check(&self) -> Result<(), Unbalanced> {
        let of = || format!("the statement of {} of {}", self.about.month, self.about.organization);
        let moved = self.movements.iter().try_fold(self.opening, |all, line| all.plus(line.change))?;
        let found = moved.minus(self.took)?;
        let Self { opening, closing, .. } = *self;
        if found != closing {
            return Err(Unbalanced::Closing { of: of(), opening, found, closing });
        }
        let (cost, took) = (self.used.cost, self.took.total()?);
        let lines = self.usage.values().try_fold(Amount::ZERO, |all, cell| sum(all, cell.cost))?;
        if cost != took || lines != took {
            return Err(Unbalanced::Usage { of: of(), cost, took });
        }
        Ok(())
    }

    /// What usage took, as a change.
    pub fn usage_change(&self) -> Funds {
        Funds { cash: self.took.cash.negated(), vouchers: self.took.vouchers.negated() }
    }

    /// Its canonical bytes: the CSV that everybody is served, to the byte.
    pub fn csv(&self) -> Vec<u8> {
        csv::write(self)
    }

    /// SHA-256 of its canonical bytes: what a seal keeps.
    pub fn hash(&self) -> Hash {
        Self::hash_of(&self.csv())
    }

    /// The same of bytes that are there already.
    pub fn hash_of(csv: &[u8]) -> Hash {
        Sha256::digest(csv).into()
    }
}

impl Movement {
    /// What the movement's own id is, where it has one.
    pub fn id(&self) -> Option<&str> {
        match &self.what {
            What::Recharge { recharge } => Some(recharge.as_str()),
            What::Refund { refund: id, .. }
            | What::RechargeReversal { reversal: id, .. }
            | What::Adjustment { adjustment: id, .. }
            | What::UsageReversal { reversal: id, .. } => Some(id.as_str()),
            What::VoucherGrant { voucher, .. }
            | What::VoucherExpiry { voucher }
            | What::VoucherWithdrawal { voucher } => Some(voucher.as_str()),
            What::Invoice { invoice: id, .. } | What::CreditNote { note: id, .. } => Some(id.as_str()),
            What::MovedInReference | What::OpeningBalance { .. } => None,
        }
    }

    /// What it relates to: a recharge, the entry it corrects, the usage it takes back, an invoice, a month.
    pub fn relates_to(&self, partition: PartitionId) -> Option<String> {
        match &self.what {
            What::Refund { recharge, .. } => recharge.as_ref().map(ToString::to_string),
            What::RechargeReversal { recharge, .. } => Some(recharge.to_string()),
            What::Adjustment { corrects, .. } => corrects.map(|at| at.to_string()),
            What::UsageReversal { usage, .. } => Some(format!("{partition}-{usage}")),
            What::Invoice { of, .. } => Some(of.to_string()),
            What::CreditNote { invoice, .. } => Some(invoice.to_string()),
            What::Recharge { .. }
            | What::MovedInReference
            | What::VoucherGrant { .. }
            | What::VoucherExpiry { .. }
            | What::VoucherWithdrawal { .. }
            | What::OpeningBalance { .. } => None,
        }
    }

    /// The number of an invoice or credit note (R4.10).
    pub const fn document(&self) -> Option<u64> {
        match &self.what {
            What::Invoice { number, .. } | What::CreditNote { number, .. } => Some(*number),
            What::Recharge { .. }
            | What::MovedInReference
            | What::Refund { .. }
            | What::RechargeReversal { .. }
            | What::Adjustment { .. }
            | What::VoucherGrant { .. }
            | What::VoucherExpiry { .. }
            | What::VoucherWithdrawal { .. }
            | What::UsageReversal { .. }
            | What::OpeningBalance { .. } => None,
        }
    }

    /// An amount that it tells of without moving it here: what a refund was asked for, what the usage cost that was
    /// taken back, what an invoice comes to or a credit note returns, the cumulative recharge that was moved in.
    pub fn memo(&self) -> Option<Amount> {
        match &self.what {
            What::Refund { requested, .. } => Some(*requested),
            What::UsageReversal { booked, .. } => Some(booked.cost),
            What::Invoice { recharges, .. } => {
                let all = recharges.iter().try_fold(Amount::ZERO, |all, (_, paid)| all.checked_add(*paid));
                // Recharges are bounded together, so this sum is too.
                Some(all.unwrap_or(Amount::MAX))
            }
            What::CreditNote { amount, .. } => Some(*amount),
            What::OpeningBalance { cumulative_recharge } => Some(*cumulative_recharge),
            What::Recharge { .. }
            | What::MovedInReference
            | What::RechargeReversal { .. }
            | What::Adjustment { .. }
            | What::VoucherGrant { .. }
            | What::VoucherExpiry { .. }
            | What::VoucherWithdrawal { .. } => None,
        }
    }
}
