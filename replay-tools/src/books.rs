//! Whether books add up along a fold: postings, purses, and the hashes of sealed statements (R4.10, R8.3).

use tollbook_projections::account::{Account, Posting, TrialBalance};
use tollbook_projections::books::Seal;
use tollbook_projections::state::{Corrupt, Effect, State};
use tollbook_projections::statement::{Gathered, Kept};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::time::Timestamp;

use crate::Failure;

/// What was posted so far, and what statements are made of.
#[derive(Default)]
pub(crate) struct Books {
    posted: TrialBalance,
    gathered: Gathered,
    /// How many postings there were.
    pub(crate) postings: u64,
    /// How many seals were what their statements came to.
    pub(crate) seals: u64,
}

impl Books {
    /// Checks one entry, after which State stands so. Errors: the first difference.
    pub(crate) fn step(&mut self, state: &State, effects: &[Effect]) -> Result<(), Failure> {
        for effect in effects {
            self.gathered.note(effect);
            self.post(state, effect)?;
        }
        // What closes a month may stand in the entry of its seal.
        for effect in effects {
            if let Effect::Sealed { organization, seal } = effect {
                self.sealed(state, organization, seal)?;
            }
        }
        Ok(())
    }

    /// Checks that everything was posted. Errors: the first account that differs.
    pub(crate) fn end(&self, state: &State) -> Result<(), Failure> {
        let trial = state.trial_balance().map_err(range)?;
        if let Some((account, balance)) =
            trial.iter().find(|(account, balance)| self.posted.of(*account) != *balance)
        {
            let posted = self.posted.of(account);
            return Err(Failure::Check(format!(
                "{account} of partition {} is {balance}, but its postings come to {posted}",
                state.partition()
            )));
        }
        let sum = trial.sum().map_err(range)?;
        if sum.is_zero() {
            Ok(())
        } else {
            Err(Failure::Check(format!(
                "the accounts of partition {} come to {sum}, not 0",
                state.partition()
            )))
        }
    }

    fn post(&mut self, state: &State, effect: &Effect) -> Result<(), Failure> {
        let (organization, position, postings) = if let Effect::Moved { organization, movement } = effect {
            (organization, movement.position, movement.postings().map_err(range)?)
        } else if let Effect::Charged { organization, position, took, after } = effect {
            let before = after.plus(*took).map_err(range)?;
            (organization, *position, after.postings(before, Account::UsageRevenue).map_err(range)?)
        } else {
            return Ok(());
        };
        let at = place(state, position);
        let mut entry = TrialBalance::default();
        for Posting { account, amount } in postings {
            entry.post(Posting { account, amount }).map_err(range)?;
            self.posted.post(Posting { account, amount }).map_err(range)?;
            self.postings = self.postings.saturating_add(1);
        }
        let sum = entry.sum().map_err(range)?;
        if !sum.is_zero() {
            return Err(Failure::Check(format!(
                "the postings of {organization} at {at} come to {sum}, not 0"
            )));
        }
        match state.organization(organization) {
            Some(known) if !known.purse.conserves() => {
                Err(Failure::Check(format!("the money of {organization} does not add up at {at}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn sealed(&mut self, state: &State, organization: &OrgId, seal: &Seal) -> Result<(), Failure> {
        let (month, at) = (seal.month, place(state, seal.position));
        let failed = |reason: &dyn std::fmt::Display| {
            Failure::Check(format!("the statement of {month} of {organization}, sealed at {at}: {reason}"))
        };
        let Some(known) = state.organization(organization) else {
            return Err(failed(&"there is no such organization"));
        };
        let kept = Kept::of(state, known, month, Timestamp::EPOCH).map_err(|error| failed(&error))?;
        if !kept.closed {
            return Err(failed(&"the month was not closed"));
        }
        let booked = self.gathered.booked(organization, month);
        let statement = kept.with(booked).map_err(|error| failed(&error))?;
        if statement.hash() != seal.hash {
            return Err(failed(&"it is not what its seal says"));
        }
        self.gathered.forget(organization, month);
        self.seals = self.seals.saturating_add(1);
        Ok(())
    }
}

fn place(state: &State, position: Position) -> LogPosition {
    LogPosition { partition: state.partition(), position }
}

fn range(error: Corrupt) -> Failure {
    Failure::Check(error.to_string())
}
