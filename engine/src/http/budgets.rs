//! A project's budgets: what may be spent, what was, and whether requests are let in (R6.2 to R6.5).

use std::ops::Range;

use tollbook_projections::budget::{EndedBreach, OnCalendar};
use tollbook_projections::organization::{Organization, Project};
use tollbook_projections::state::State;
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Day, Timestamp};

use super::answer::Json;
use super::breaches::{Breach, ended_by};
use super::document::{Routes, Says, Verb};
use super::kinds::{NotNegative, choices};
use super::problem::Problem;
use super::reading::{Reading, read_state, view_of, viewed};
use super::shape::{OrNull, answer, request};
use super::write::{Changed, Write};
use crate::decide::cycle::next_close;
use crate::node::Node;
use crate::permission::Action;

/// Breaches of one period that are shown beside its figures; a budget has to be changed as often to make more.
const BREACHES_MAX: usize = 100;

const BUDGETS: &str = "/v1/organizations/{org}/projects/{project}/budgets";

/// Of the family that spend begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "setBudgets",
        summary: "Set a project's budgets, or remove them",
        more: "Once what is compared reaches one, every further request of the project is refused until the day or month \
               ends or the budget is raised or removed, which lets requests in at once. A budget of 0 refuses all. \
               `enforcement` stays as it is where it is left out: `settled` compares consumption whose billing cycle \
               has closed, and is therefore late; `strict` compares pending consumption and what open leases hold too.",
    };
    routes.write(Verb::Put, BUDGETS, says, set);
    let says = Says {
        id: "getBudgets",
        summary: "See what a project spent of its budgets",
        more: "Settled and pending consumption of the running day and month in the organization's time zone, whether \
               requests are let in, and each time a budget was reached in it.",
    };
    routes.read(BUDGETS, says, show);
}

request! {
    /// Budgets to set.
    pub(super) struct NewBudgets {
        /// What may be spent in a day; null: as much as the organization has.
        daily: OrNull<NotNegative>,
        /// What may be spent in a month; null: as much as the organization has.
        monthly: OrNull<NotNegative>,
        /// What is compared with them; as before unless said otherwise.
        enforcement: Option<Enforcement>,
    }
}

answer! {
    /// What a project spent of its budgets.
    pub(super) struct Budgets {
        /// The running day.
        daily: BudgetPeriod,
        /// The running month.
        monthly: BudgetPeriod,
        /// What is compared with them.
        enforcement: Enforcement,
        /// What open leases of the project hold, which strict enforcement compares too; null on a node that does not decide
        /// about them.
        held: Option<Amount>,
        /// The billing cycle, at whose close pending consumption settles.
        cycle: Cycle,
    }
}

answer! {
    /// A running day or month.
    pub(super) struct BudgetPeriod {
        /// What may be spent; null: as much as the organization has.
        limit: Option<Amount>,
        /// What is settled.
        settled: Amount,
        /// What settles when the cycle closes.
        pending: Amount,
        /// Whether requests are let in.
        state: BudgetState,
        /// When the next day or month begins.
        resets_at: Timestamp,
        /// What is consumed beyond the budget, settled or pending; null: there is no budget.
        overshoot: Option<Amount>,
        /// Each time the budget was reached in this day or month, in order, at most 100 and the present one.
        breaches: Vec<Breach>,
    }
}

answer! {
    /// The billing cycle.
    pub(super) struct Cycle {
        /// Its length; 0 settles at once.
        cycle_seconds: u32,
        /// How long after a cycle's close it shows.
        delay_seconds: u32,
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
    Blocked,
}

choices! {
    BudgetState = "BudgetState", "Whether a budget lets requests in." {
        Open = "open",
        Blocked = "blocked",
    }
    Enforcement = "Enforcement", "What is compared with budgets: settled consumption, or with it also what is pending and \
                   what open leases hold." {
        Settled = "settled",
        Strict = "strict",
    }
}

async fn set(
    Write { path: (org, project), body, author }: Write<(OrgId, ProjectId), NewBudgets>,
) -> Result<Changed<Budgets>, Problem> {
    let NewBudgets { daily, monthly, enforcement } = body;
    let limit = |OrNull(limit): OrNull<NotNegative>| limit.map(|NotNegative(limit)| limit);
    let (daily, monthly) = (limit(daily), limit(monthly));
    let command = OrganizationCommand::SetBudgets { project: project.clone(), daily, monthly, enforcement };
    let done = author.decide(&org, command).await?;
    let look = Look::at(&author.node, &org, &project)?;
    let seen = read_state(&author.node, &org, move |state, known| look.at_state(state, known)).await?;
    Ok(Changed::new(done, complete(&author.node, org, project, seen).await?))
}

async fn show(
    Reading { path: (org, project), at, .. }: Reading<(OrgId, ProjectId)>,
) -> Result<Json<Budgets>, Problem> {
    let look = Look::at(&at.node, &org, &project)?;
    let action = Action::SeeProjectFigures(project.clone());
    let seen = at.state(&org, action, move |state, known| look.at_state(state, known)).await?;
    Ok(Json(complete(&at.node, org, project, seen).await?))
}

/// Which project is looked at, and when.
struct Look {
    project: ProjectId,
    partition: PartitionId,
    now: Timestamp,
    /// What open leases of the project hold, if this node gives them.
    held: Option<Amount>,
}

/// What State says: everything but breaches that are over.
struct Seen {
    budgets: Budgets,
    today: Day,
    /// Every breach that is over by then is in the view with this entry.
    through: Position,
}

impl Look {
    fn at(node: &Node, org: &OrgId, project: &ProjectId) -> Result<Self, Problem> {
        let partition = node.owner_of(org)?.partition();
        let held = node.admissions().held_for(partition, org, project);
        Ok(Self { project: project.clone(), partition, now: node.clock().now(), held })
    }

    fn at_state(&self, state: &State, known: &Organization) -> Option<Seen> {
        let project = known.projects.get(&self.project)?;
        let now = self.now.max(state.head().recorded_at);
        let today = known.calendar.day(now);
        let period = |period| self.period(period, project, known, (today, now));
        let (closed, lag) = (state.head().closed_at, state.config().lag);
        let budgets = Budgets {
            daily: period(Period::Daily),
            monthly: period(Period::Monthly),
            enforcement: project.watch.budgets.enforcement,
            held: self.held,
            cycle: Cycle {
                cycle_seconds: lag.cycle_seconds,
                delay_seconds: lag.delay_seconds,
                closes_at: next_close(state),
                last_closed_at: Some(closed).filter(|closed| *closed != Timestamp::EPOCH),
            },
        };
        Some(Seen { budgets, today, through: ended_by(state, known) })
    }

    fn period(
        &self,
        period: Period,
        project: &Project,
        known: &Organization,
        (today, now): (Day, Timestamp),
    ) -> BudgetPeriod {
        let Project { spend, watch, .. } = project;
        let limit = watch.budgets.limit(period);
        let stop = watch.stop(spend, period, &known.calendar, today);
        let consumed = spend.consumed(period, today).unwrap_or(Amount::MAX);
        let beyond = |limit: Amount| consumed.checked_sub(limit).unwrap_or_default().max(Amount::ZERO);
        let breach = watch.breach(period, period.first_day(today));
        let held = match watch.budgets.enforcement {
            Enforcement::Settled => Amount::ZERO,
            Enforcement::Strict => self.held.unwrap_or_default(),
        };
        // What is settled and does not show yet refuses nothing (R6.3).
        let refuses = stop.is_some_and(|stop| stop.from <= now)
            || (held.is_positive()
                && limit.zip(consumed.checked_add(held)).is_some_and(|(limit, all)| limit <= all));
        BudgetPeriod {
            limit,
            settled: spend.settled(period, today),
            pending: spend.pending_of(period, today).unwrap_or(Amount::MAX),
            state: if refuses { BudgetState::Blocked } else { BudgetState::Open },
            resets_at: period.ends(&known.calendar, today),
            overshoot: limit.map(beyond),
            breaches: breach
                .map(|breach| Breach::open(self.partition, breach, project))
                .into_iter()
                .collect(),
        }
    }
}

/// Adds the breaches of the running periods that are over.
async fn complete(
    node: &Node,
    org: OrgId,
    project: ProjectId,
    seen: Option<Seen>,
) -> Result<Budgets, Problem> {
    let Some(Seen { mut budgets, today, through }) = seen else {
        return Err(Rejection::ProjectUnknown(project).into());
    };
    let owner = node.owner_of(&org)?;
    // Rows reach the view a little after they are applied.
    owner.wait_viewed(through).await?;
    let (view, partition) = (view_of(node, &org)?, owner.partition());
    let read = move || -> Result<_, ViewError> {
        let of = |period| ended_of(&view, &org, &project, period, today);
        Ok((of(Period::Daily)?, of(Period::Monthly)?))
    };
    let (daily, monthly) = viewed(read).await?;
    for (of, ended) in [(&mut budgets.daily, daily), (&mut budgets.monthly, monthly)] {
        let open = std::mem::take(&mut of.breaches);
        of.breaches = ended.iter().map(|ended| Breach::ended(partition, ended)).collect();
        // One that ended since State was read is in both: it is over.
        let still = |breach: &Breach| of.breaches.iter().all(|ended| ended.place() != breach.place());
        let open: Vec<Breach> = open.into_iter().filter(still).collect();
        of.breaches.extend(open);
    }
    Ok(budgets)
}

/// Breaches of a running period that are over.
fn ended_of(
    view: &View,
    org: &OrgId,
    project: &ProjectId,
    period: Period,
    today: Day,
) -> Result<Vec<EndedBreach>, ViewError> {
    let starts = period.first_day(today);
    let days: Range<Day> = starts..starts.next();
    let mut ended = view.breaches(org, project, days, None, BREACHES_MAX)?;
    ended.retain(|ended| ended.breach.period == period);
    Ok(ended)
}
