//! Projects of one organization at the gate: an organization may have archived thousands, and a decision must not visit
//! those that nothing is counted for.

use std::collections::HashMap;

use tollbook_schemas::event::Period;
use tollbook_schemas::id::ProjectId;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Timestamp;

use super::budget::{BudgetStanding, Told};
use super::standing::ProjectStanding;
use super::window::{Millis, SlidingWindow};

/// A project at the gate.
#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) standing: ProjectStanding,
    pub(super) tokens: SlidingWindow,
    /// Whether it is among those that something may be counted for.
    is_counting: bool,
    /// Whether it is among those that have budgets.
    is_budgeted: bool,
    /// Breaches whose refusal the owner was told of.
    told: Vec<Told>,
}

/// All projects of an organization. They are never removed, so their places stay.
#[derive(Clone, Debug, Default)]
pub(super) struct Projects {
    all: Vec<Project>,
    places: HashMap<ProjectId, usize>,
    /// Places of those that something may be counted for.
    counting: Vec<usize>,
    /// Places of those that have budgets.
    budgeted: Vec<usize>,
}

impl Projects {
    /// Takes what State says of a project.
    pub(super) fn take(&mut self, id: &ProjectId, active: bool, tpm: Option<u64>) {
        let place = self.place(id);
        if let Some(known) = place.and_then(|place| self.all.get_mut(place)) {
            let ProjectStanding { id: _, active: was_active, tpm: before, budgets: _ } = &mut known.standing;
            (*was_active, *before) = (active, tpm);
            return;
        }
        self.places.insert(id.clone(), self.all.len());
        let standing = ProjectStanding { id: id.clone(), active, tpm, budgets: Vec::new() };
        self.all.push(Project {
            standing,
            tokens: SlidingWindow::default(),
            is_counting: false,
            is_budgeted: false,
            told: Vec::new(),
        });
    }

    /// The place of a project.
    pub(super) fn place(&self, id: &ProjectId) -> Option<usize> {
        self.places.get(id).copied()
    }

    /// The project at a place.
    pub(super) fn get(&self, place: usize) -> Option<&Project> {
        self.all.get(place)
    }

    /// All of them, by place.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Project> {
        self.all.iter()
    }

    /// Places of those that have budgets, in the order in which they got them.
    pub(super) fn budgeted(&self) -> &[usize] {
        &self.budgeted
    }

    /// Whether a project has budgets.
    pub(super) fn is_budgeted(&self, place: usize) -> bool {
        self.all.get(place).is_some_and(|project| project.is_budgeted)
    }

    /// What a project's requests are compared with, and whether it has budgets at all (R6.2).
    pub(super) fn take_budgets(&mut self, place: usize, budgets: Vec<BudgetStanding>, is_budgeted: bool) {
        let Some(project) = self.all.get_mut(place) else { return };
        project.standing.budgets = budgets;
        if std::mem::replace(&mut project.is_budgeted, is_budgeted) == is_budgeted {
            return;
        }
        if is_budgeted {
            self.budgeted.push(place);
        } else {
            project.told = Vec::new();
            self.budgeted.retain(|known| *known != place);
        }
    }

    /// Notes that a breach of a project refuses; from when, if the owner is to be told of it now.
    pub(super) fn note_refused(
        &mut self,
        place: usize,
        (period, visible_from): (Period, Position),
        now: Timestamp,
    ) -> Option<Timestamp> {
        Told::note(&mut self.all.get_mut(place)?.told, period, visible_from, now)
    }

    /// Counts tokens.
    pub(super) fn add(&mut self, place: usize, at: Millis, tokens: u64, now: Millis) {
        let Some(project) = self.all.get_mut(place) else { return };
        project.tokens.add(at, tokens, now);
        if !std::mem::replace(&mut project.is_counting, true) {
            self.counting.push(place);
        }
    }

    /// Takes back tokens that were counted.
    pub(super) fn take_back(&mut self, place: usize, at: Millis, tokens: u64) {
        if let Some(project) = self.all.get_mut(place) {
            project.tokens.take_back(at, tokens);
        }
    }

    /// Forgets what has left the windows.
    pub(super) fn forget(&mut self, now: Millis) {
        let Self { all, counting, .. } = self;
        counting.retain(|place| {
            let Some(project) = all.get_mut(*place) else { return false };
            project.tokens.forget(now);
            project.is_counting = project.tokens.frees_at().is_some();
            project.is_counting
        });
    }

    /// Forgets all that is counted.
    pub(super) fn forget_all(&mut self) {
        for place in std::mem::take(&mut self.counting) {
            if let Some(project) = self.all.get_mut(place) {
                project.tokens = SlidingWindow::default();
                project.is_counting = false;
            }
        }
    }

    /// When the first of what is counted leaves each window that is not empty.
    pub(super) fn free_at(&self) -> impl Iterator<Item = Millis> {
        let counting = self.counting.iter().filter_map(|place| self.all.get(*place));
        counting.filter_map(|project| project.tokens.frees_at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: i64) -> Millis {
        Millis::reached(Timestamp::from_nanos(at * 1_000_000))
    }

    /// Found by review: every decision visited all projects that ever were.
    #[test]
    fn r5_4_only_projects_that_something_is_counted_for_are_visited() {
        let mut projects = Projects::default();
        let ids: Vec<_> = (0..1_000).map(|at| ProjectId::parse(&format!("proj_{at}")).unwrap()).collect();
        for id in &ids {
            projects.take(id, false, None);
        }
        projects.forget(ms(0));
        assert_eq!(projects.counting, Vec::<usize>::new());
        for _ in 0..2 {
            projects.add(7, ms(0), 5, ms(0));
            projects.add(9, ms(1), 5, ms(1));
        }
        assert_eq!((&*projects.counting, projects.free_at().min()), (&[7, 9][..], Some(ms(60_000))));
        projects.take_back(9, ms(1), 10);
        projects.forget(ms(2));
        assert_eq!(projects.counting, [7]);
        projects.add(9, ms(3), 1, ms(3));
        projects.forget(ms(60_000));
        assert_eq!((&*projects.counting, projects.free_at().min()), (&[9][..], Some(ms(60_003))));
        projects.take(&ids[9], true, Some(4));
        let known = projects.get(projects.place(&ids[9]).unwrap()).unwrap();
        assert_eq!((known.standing.active, known.standing.tpm, known.tokens.total()), (true, Some(4), 1));
        projects.forget_all();
        assert_eq!((projects.counting.len(), projects.get(9).unwrap().tokens.total()), (0, 0));
        assert_eq!(projects.iter().count(), 1_000);
    }
}
