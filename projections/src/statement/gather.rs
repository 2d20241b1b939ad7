//! Statements from the log alone: what effects say of months, for those who have no views.

use std::collections::BTreeMap;

use tollbook_schemas::id::OrgId;
use tollbook_schemas::time::Month;

use super::Booked;
use crate::books::EndedMonth;
use crate::movement::Movement;
use crate::spend::OpenCells;
use crate::state::Effect;

/// Everything that was booked by a fold so far, by organization and month.
#[derive(Clone, Debug, Default)]
pub struct Gathered(BTreeMap<OrgId, Months>);

#[derive(Clone, Debug, Default)]
struct Months {
    ended: BTreeMap<Month, EndedMonth>,
    movements: BTreeMap<Month, Vec<Movement>>,
    cells: BTreeMap<Month, Vec<OpenCells>>,
}

impl Gathered {
    /// Keeps what an effect says of a month.
    pub fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::Moved { organization, movement } => self.moved(organization, movement),
            Effect::CellsClosed { organization, cells, position: _ } => {
                self.cells_closed(organization, cells)
            }
            Effect::MonthEnded { organization, ended } => self.month_ended(organization, ended),
            Effect::Quarantined(_)
            | Effect::Sealed { .. }
            | Effect::Remembered { .. }
            | Effect::Repeated { .. }
            | Effect::Settled { .. }
            | Effect::Charged { .. }
            | Effect::Foreign { .. }
            | Effect::Copy { .. }
            | Effect::Voided { .. }
            | Effect::Alert(_)
            | Effect::BreachEnded { .. }
            | Effect::Decided { .. } => {}
        }
    }

    /// Keeps a movement.
    pub fn moved(&mut self, organization: &OrgId, movement: &Movement) {
        let months = self.months(organization);
        months.movements.entry(movement.month).or_default().push(movement.clone());
    }

    /// Keeps cells of a day that is over.
    pub fn cells_closed(&mut self, organization: &OrgId, cells: &OpenCells) {
        let months = self.months(organization);
        months.cells.entry(cells.booked_on.month()).or_default().push(cells.clone());
    }

    /// Keeps what a month came to.
    pub fn month_ended(&mut self, organization: &OrgId, ended: &EndedMonth) {
        self.months(organization).ended.insert(ended.month, ended.clone());
    }

    /// What was booked in a month of an organization.
    pub fn booked(&self, organization: &OrgId, month: Month) -> Booked {
        let Some(months) = self.0.get(organization) else { return Booked::default() };
        Booked {
            ended: months.ended.range(..=month).next_back().map(|(_, ended)| ended.clone()),
            movements: months.movements.get(&month).cloned().unwrap_or_default(),
            cells: months.cells.get(&month).cloned().unwrap_or_default(),
        }
    }

    /// Forgets the lines of a month, so that memory does not grow with time; what it came to stays.
    pub fn forget(&mut self, organization: &OrgId, month: Month) {
        if let Some(months) = self.0.get_mut(organization) {
            months.movements.remove(&month);
            months.cells.remove(&month);
        }
    }

    fn months(&mut self, organization: &OrgId) -> &mut Months {
        self.0.entry(organization.clone()).or_default()
    }
}
