//! Statements of the live ledger: what State holds of a month, and the rest from the view.

use tollbook_projections::books::Seal;
use tollbook_projections::statement::{Kept, Statement, Unbalanced};
use tollbook_projections::view::{View, ViewError};

use crate::owner::{CommandError, OwnerHandle};

/// Why a statement cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatementError {
    /// The owner stopped.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The view cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// It does not add up.
    #[error(transparent)]
    Unbalanced(Box<Unbalanced>),
    /// The thread that read the view panicked.
    #[error("the view could not be read: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// A statement, and its seal once it has one.
pub(crate) type Sealed = (Statement, Option<Seal>);

/// Reads the rest of a month from the view, once that has it, on a thread that may block.
pub(crate) async fn complete(owner: &OwnerHandle, view: View, kept: Kept) -> Result<Sealed, StatementError> {
    owner.wait_viewed(kept.rows_through).await?;
    let read = move || {
        let (organization, month, at) = (kept.about.organization.clone(), kept.about.month, kept.at);
        let seal = if kept.closed { view.seal(&organization, month)? } else { None };
        let booked = view.booked(&organization, month, at)?;
        let statement = kept.with(booked).map_err(|error| StatementError::Unbalanced(Box::new(error)))?;
        Ok((statement, seal))
    };
    tokio::task::spawn_blocking(read).await?
}
