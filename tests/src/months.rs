//! Statements of a ledger in memory: made, closed and sealed as the engine does it.

use tollbook_projections::statement::{Gathered, Kept, Statement};
use tollbook_schemas::command::{Command, OrganizationCommand, PartitionCommand};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::time::Month;

use crate::memory::{MemoryLedger, Outcome};

/// A month by its name.
pub fn month(name: &str) -> Month {
    name.parse().unwrap()
}

/// The month before.
pub fn before(month: Month) -> Month {
    match month.month {
        1 => Month { year: month.year - 1, month: 12 },
        other => Month { month: other - 1, ..month },
    }
}

/// The statement of a month; panics where there is none or it does not add up.
#[track_caller]
pub fn statement(ledger: &MemoryLedger, organization: &OrgId, month: Month) -> Statement {
    let known = ledger.state.organization(organization).unwrap();
    let kept = Kept::of(&ledger.state, known, month, ledger.now).unwrap();
    kept.with(gathered(ledger).booked(organization, month)).unwrap_or_else(|error| panic!("{error}"))
}

/// Every month of an organization so far, in order.
pub fn months(ledger: &MemoryLedger, organization: &OrgId) -> Vec<Month> {
    let known = ledger.state.organization(organization).unwrap();
    let last =
        known.calendar.day(ledger.now.max(ledger.state.head().recorded_at)).month().max(known.month.month);
    let mut month = known.calendar.day(known.created_at).month();
    let mut months = vec![month];
    while month < last {
        month = month.next();
        months.push(month);
    }
    months
}

/// What effects so far say of months.
pub fn gathered(ledger: &MemoryLedger) -> Gathered {
    let mut gathered = Gathered::default();
    for (organization, movement) in &ledger.movements {
        gathered.moved(organization, movement);
    }
    for (organization, cells) in &ledger.history {
        gathered.cells_closed(organization, cells);
    }
    for (organization, ended) in &ledger.months {
        gathered.month_ended(organization, ended);
    }
    gathered
}

/// Closes every month that has ended; how many events say so.
pub fn close(ledger: &mut MemoryLedger) -> usize {
    match ledger.command(&Command::Partition(PartitionCommand::CloseMonths), None).unwrap() {
        Outcome::Entry { events, .. } => events.len(),
        Outcome::Before(_) | Outcome::AsItIs => 0,
    }
}

/// Who waits for which seals.
pub fn sealable(ledger: &MemoryLedger) -> Vec<(OrgId, Vec<Month>)> {
    let all = ledger.state.sealable(0, usize::MAX).unwrap_or_default();
    all.into_iter().map(|(known, months)| (known.id.clone(), months)).collect()
}

/// Seals at most so many statements; how many it were.
pub fn seal(ledger: &mut MemoryLedger, most: usize) -> usize {
    let due = sealable(ledger)
        .into_iter()
        .flat_map(|(id, months)| months.into_iter().map(move |month| (id.clone(), month)));
    let due: Vec<_> = due.take(most).collect();
    for (organization, month) in &due {
        let hash = statement(ledger, organization, *month).hash();
        let command = OrganizationCommand::SealStatement { month: *month, hash };
        ledger.command(&Command::Organization(organization.clone(), command), None).unwrap();
    }
    due.len()
}
