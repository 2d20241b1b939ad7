//! Alerts and breaches of budgets in the view (R6, R7).

use tollbook_schemas::alert::{Alert, AlertKind};
use tollbook_schemas::codec;
use tollbook_schemas::event::Period;
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Day;

use super::{View, ViewError, key};
use crate::budget::EndedBreach;

/// The place of an alert in the list of its organization's.
pub type AlertCursor = (Position, AlertKind, u32);
/// The place of a breach among its project's: the first day of its period, the entry that crossed it, and which budget.
pub type BreachCursor = (Day, Position, Period);

impl View {
    /// Alerts of an organization after one of them, in the order of the log, at most `limit`; without an organization the
    /// platform's own.
    pub fn alerts(
        &self,
        organization: Option<&OrgId>,
        after: Option<AlertCursor>,
        limit: usize,
    ) -> Result<Vec<Alert>, ViewError> {
        let from = match after {
            Some((position, kind, number)) => {
                let mut key = key::alert_at(organization, position, kind, number);
                key.push(0);
                key
            }
            None => key::alerts(organization, 0),
        };
        self.rows(from, key::alerts(organization, 1), limit)
    }

    /// The same, of entries after a position.
    pub fn alerts_after(
        &self,
        organization: Option<&OrgId>,
        position: Position,
        limit: usize,
    ) -> Result<Vec<Alert>, ViewError> {
        let from = key::alerts_from(organization, position.next());
        self.rows(from, key::alerts(organization, 1), limit)
    }

    /// Alerts that may still have to leave, in the order of the log, at most `limit`.
    pub fn outgoing(&self, limit: usize) -> Result<Vec<Alert>, ViewError> {
        self.rows(b"x".to_vec(), b"y".to_vec(), limit)
    }

    /// How many alerts may still have to leave.
    pub fn outgoing_count(&self) -> Result<usize, ViewError> {
        let mut count = 0_usize;
        for key in self.tree.range(b"x".as_slice()..b"y".as_slice()).keys() {
            key.map_err(|source| self.views.failed(source))?;
            count = count.saturating_add(1);
        }
        Ok(count)
    }

    /// Forgets that alerts may still have to leave. One that is forgotten too late is compared with the feed once more.
    pub fn left<'a>(&self, alerts: impl IntoIterator<Item = &'a Alert>) -> Result<(), ViewError> {
        self.remove(alerts.into_iter().map(key::outgoing))
    }

    /// Breaches of a project's budgets that are over, of periods that began on days of a range, in order, at most `limit`
    /// after one of them.
    pub fn breaches(
        &self,
        organization: &OrgId,
        project: &ProjectId,
        days: std::ops::Range<Day>,
        after: Option<BreachCursor>,
        limit: usize,
    ) -> Result<Vec<EndedBreach>, ViewError> {
        let first = key::breaches_from(organization, project, days.start);
        let from = after.map_or(Vec::new(), |place| {
            let mut key = key::breach_at(organization, project, place);
            key.push(0);
            key
        });
        let (from, end) = (from.max(first), key::breaches_from(organization, project, days.end));
        if from < end { self.rows(from, end, limit) } else { Ok(Vec::new()) }
    }

    fn rows<T: serde::de::DeserializeOwned>(
        &self,
        from: Vec<u8>,
        end: Vec<u8>,
        limit: usize,
    ) -> Result<Vec<T>, ViewError> {
        let rows = self.tree.range(from..end).take(limit);
        rows.map(|row| Ok(codec::decode_row(&row.map_err(|source| self.views.failed(source))?.1)?)).collect()
    }
}
