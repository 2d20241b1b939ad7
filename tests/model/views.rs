//! Alerts and breaches in the view: the same rows however often they are written, and from wherever the fold went on.

use tempfile::TempDir;
use tollbook_projections::first::{FirstPlacesInMemory, Lookup};
use tollbook_projections::record::Record;
use tollbook_projections::state::{Effect, State};
use tollbook_projections::view::{Rows, View, Views};
use tollbook_schemas::alert::Alert;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::Day;
use tollbook_tests::memory::{MemoryLedger, PARTITION, ledger_id};

use crate::walk::walked;

/// Folds a log into a view whose rows are written after so many entries; where it `restarts`, going on with the State that
/// the view gives.
fn written(ledger: &MemoryLedger, every: u64, restarts: bool) -> (TempDir, View) {
    let directory = TempDir::new().unwrap();
    let view = Views::open(directory.path()).unwrap().partition(PartitionId(0)).unwrap();
    let mut state = State::empty(PARTITION);
    let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
    let mut waiting: Vec<Effect> = Vec::new();
    let last = u64::try_from(ledger.log.len()).unwrap();
    for (position, message) in (1..).zip(&ledger.log) {
        let (subject, payload) = (&message.subject, &message.payload);
        let record = Record::read(&ledger_id(), PARTITION, Position(position), subject, payload);
        let sightings = lookup.sightings(&record).unwrap();
        waiting.extend(state.apply(&record, &sightings).unwrap());
        if position.is_multiple_of(every) || position == last {
            view.write(Rows::collect(&mut state, &waiting).unwrap()).unwrap();
            waiting.clear();
            if restarts {
                state = view.load().unwrap().unwrap();
            }
        }
    }
    (directory, view)
}

/// Every alert of everybody, page by page.
fn alerts(ledger: &MemoryLedger, view: &View) -> Vec<Alert> {
    let organizations: Vec<OrgId> = ledger.state.organizations().map(|known| known.id.clone()).collect();
    let mut all = Vec::new();
    for whose in organizations.iter().map(Some).chain([None]) {
        let mut after = None;
        loop {
            let page = view.alerts(whose, after, 7).unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.iter().all(|alert| alert.organization.as_ref() == whose));
            after = Some((last.position.position, last.kind(), last.number));
            all.extend(page);
        }
    }
    all
}

/// In the order of the list of one organization, and organizations by id.
fn in_order(alerts: &[Alert]) -> Vec<Alert> {
    let mut alerts = alerts.to_vec();
    alerts.sort_by_key(|alert| {
        let whose = (alert.organization.is_none(), alert.organization.clone());
        (whose, alert.position.position, alert.kind().code(), alert.number)
    });
    alerts
}

#[test]
fn r7_3_rows_of_alerts_and_breaches_do_not_depend_on_when_they_are_written() {
    let ledger = walked(2);
    assert!(ledger.alerts.len() > 100 && ledger.breaches.len() > 10, "{}", ledger.alerts.len());
    let days = Day::default()..Day::of_date("2100-01-01".parse().unwrap());
    for (every, restarts) in [(1_000_000, false), (1_000, false), (97, true), (13, true)] {
        let (directory, view) = written(&ledger, every, restarts);
        assert_eq!(alerts(&ledger, &view), in_order(&ledger.alerts), "every {every}");
        for organization in ledger.state.organizations() {
            for project in organization.projects.keys() {
                let given = view.breaches(&organization.id, project, days.clone(), None, usize::MAX).unwrap();
                let mine = ledger
                    .breaches
                    .iter()
                    .filter(|(of, whose, _)| (of, whose) == (&organization.id, project));
                let mut expected: Vec<_> = mine.map(|(_, _, ended)| ended.clone()).collect();
                let key = |ended: &tollbook_projections::budget::EndedBreach| {
                    (ended.breach.starts, ended.breach.crossed_in, ended.breach.period)
                };
                expected.sort_by_key(key);
                assert_eq!(given, expected, "every {every}: {project}");
            }
        }
        // All may still have to leave, in the order of the log; those that left are gone, and stay in the lists.
        let outgoing = view.outgoing(usize::MAX).unwrap();
        assert_eq!(outgoing.len(), ledger.alerts.len());
        assert!(outgoing.is_sorted_by_key(|alert| alert.position.position));
        let (gone, rest) = outgoing.split_at(outgoing.len() / 2);
        view.left(gone).unwrap();
        assert_eq!(view.outgoing(5).unwrap(), rest[..5]);
        assert_eq!(view.outgoing(usize::MAX).unwrap(), rest);
        assert_eq!(alerts(&ledger, &view).len(), ledger.alerts.len());
        drop((view, directory));
    }
}
