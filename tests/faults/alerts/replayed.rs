//! The log replayed beside the server: the same alerts and breaches, and nobody is told.

use std::fs;
use std::ops::Range;
use std::path::Path;

use tollbook_projections::budget::EndedBreach;
use tollbook_projections::view::Views;
use tollbook_schemas::alert::Alert;
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Day;
use tollbook_tests::system::System;

use super::deeds::Told;

/// All alerts, and all breaches that are over.
type Held = (Vec<Alert>, Vec<EndedBreach>);

/// Has a stopped server's log replayed, and gives it those views.
pub(super) async fn take_replayed_views(system: &System, told: &[Told]) {
    let (views, replayed) = (system.data().join("views"), system.scratch().join("replayed"));
    let ran = system.replay(&["rebuild", "--into", replayed.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let held = held(&views, told);
    assert!(held.1.len() >= told.len(), "each budget that was reached was raised");
    assert_eq!(self::held(&replayed, told), held);
    fs::remove_dir_all(&views).unwrap();
    fs::rename(&replayed, &views).unwrap();
}

fn held(views: &Path, told: &[Told]) -> Held {
    let view = Views::open(&views.join("state")).unwrap().partition(PartitionId(0)).unwrap();
    let mut alerts = view.alerts(None, None, usize::MAX).unwrap();
    let mut breaches = Vec::new();
    let days: Range<Day> = "2020-01-01".parse().unwrap().."2099-12-31".parse().unwrap();
    for told in told {
        let organization = OrgId::parse(&told.organization).unwrap();
        let project = ProjectId::parse(&told.project).unwrap();
        alerts.extend(view.alerts(Some(&organization), None, usize::MAX).unwrap());
        breaches.extend(view.breaches(&organization, &project, days.clone(), None, usize::MAX).unwrap());
    }
    (alerts, breaches)
}
