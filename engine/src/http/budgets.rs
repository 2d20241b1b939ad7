//! What a project's budgets compare (R6.3).

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::answer::Json;
use super::document::{Routes, Says};
use super::kinds::choices;
use super::problem::Problem;
use super::reading::Reading;
use super::shape::answer;
use crate::permission::Action;

/// Of the family that spend begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "getBudgets",
        summary: "See what a project spent of its budgets",
        more: "Settled and pending consumption of the running day and month.",
    };
    routes.read("/v1/organizations/{org}/projects/{project}/budgets", says, show);
}

answer! {
    /// What a project spent of its budgets.
    pub(super) struct Budgets {
        /// The running day.
        daily: BudgetPeriod,
        /// The running month.
        monthly: BudgetPeriod,
        /// The billing cycle, at whose close pending consumption settles.
        cycle: Cycle,
    }
}

answer! {
    /// A running day or month.
    pub(super) struct BudgetPeriod {
        /// What may be spent; null: as much as the organization has.
        limit: Option<Amount>,
        /// What budgets see.
        settled: Amount,
        /// What they do not see before the cycle closes.
        pending: Amount,
        /// Whether requests are let in.
        state: BudgetState,
        /// When the next day or month begins.
        resets_at: Timestamp,
    }
}

answer! {
    /// The billing cycle.
    pub(super) struct Cycle {
        /// When it closes next; null while nothing closes.
        closes_at: Option<Timestamp>,
        /// When it closed last; null before the first time.
        last_closed_at: Option<Timestamp>,
    }
}

/// Whether requests are let in.
#[derive(Clone, Copy, Debug)]
pub(super) enum BudgetState {
    Open,
}

choices! {
    BudgetState = "BudgetState", "Whether a budget lets requests in." {
        Open = "open",
    }
}

async fn show(
    Reading { path: (org, project), at, .. }: Reading<(OrgId, ProjectId)>,
) -> Result<Json<Budgets>, Problem> {
    let now = at.node.clock().now();
    let wanted = project.clone();
    let read = at.state(&org, Action::SeeProjectFigures(project.clone()), move |state, known| {
        let spend = &known.projects.get(&wanted)?.spend;
        let today = known.calendar.day(now);
        let month = today.month();
        let period = |settled, pending, resets_at| BudgetPeriod {
            limit: None,
            settled,
            pending,
            state: BudgetState::Open,
            resets_at,
        };
        let closed = state.head().closed_at;
        Some(Budgets {
            daily: period(
                spend.settled_on(today),
                spend.pending_on(today),
                known.calendar.start_of_day(today.next()),
            ),
            monthly: period(
                spend.settled_in(month),
                spend.pending_in(month).unwrap_or_default(),
                known.calendar.start_of_month(month.next()),
            ),
            cycle: Cycle {
                closes_at: crate::decide::cycle::next_close(state),
                last_closed_at: Some(closed).filter(|closed| *closed != Timestamp::EPOCH),
            },
        })
    });
    Ok(Json(read.await?.ok_or(Rejection::ProjectUnknown(project))?))
}
