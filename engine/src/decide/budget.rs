//! Budgets and spend notifications of projects (R6.2 to R6.5).

use tollbook_projections::budget::{Budgets, Notifications};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Enforcement, Event, Period, ProjectEvent};
use tollbook_schemas::id::ProjectId;
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::{Case, Decided, Refusable};

pub(super) fn set(
    case: &Case<'_>,
    project: &ProjectId,
    (daily, monthly): (Option<Amount>, Option<Amount>),
    enforcement: Option<Enforcement>,
) -> Refusable {
    let before = case.active_project(project)?.watch.budgets;
    // A budget of nothing refuses everything, which is a way to pause a project.
    if [daily, monthly].into_iter().flatten().any(Amount::is_negative) {
        return Err(Rejection::AmountNotPositive);
    }
    let enforcement = enforcement.unwrap_or(before.enforcement);
    let changed = before != Budgets { daily, monthly, enforcement };
    // From here it succeeds.
    let event = ProjectEvent::BudgetsSet { project: project.clone(), daily, monthly, enforcement };
    Ok(Decided::of(changed.then_some(Event::Project(event))))
}

/// Amounts in order, each once.
pub(super) fn set_notifications(
    case: &Case<'_>,
    project: &ProjectId,
    daily: &[Amount],
    monthly: &[Amount],
) -> Refusable {
    let before = &case.active_project(project)?.watch.notifications;
    if daily.iter().chain(monthly).any(|amount| !amount.is_positive()) {
        return Err(Rejection::AmountNotPositive);
    }
    let rising = |amounts: &[Amount]| {
        let mut amounts = amounts.to_vec();
        amounts.sort_unstable();
        amounts.dedup();
        amounts
    };
    let wanted = Notifications { daily: rising(daily), monthly: rising(monthly) };
    let changed = *before != wanted;
    // From here it succeeds.
    let Notifications { daily, monthly } = wanted;
    let event = ProjectEvent::SpendNotificationsSet { project: project.clone(), daily, monthly };
    Ok(Decided::of(changed.then_some(Event::Project(event))))
}

/// Only the first refusal of a breach that is not over is written down (R6.5).
pub(super) fn note_refusal(
    case: &Case<'_>,
    project: &ProjectId,
    period: Period,
    visible_from: LogPosition,
    refused_at: Timestamp,
) -> Decided {
    let breaches = case.organization.projects.get(project).map(|known| known.watch.breaches());
    let is_it = |breach: &&tollbook_projections::budget::Breach| {
        breach.period == period
            && breach.visible.is_some_and(|visible| visible.from == visible_from.position)
            && breach.first_refused_at.is_none()
    };
    let first = breaches.into_iter().flatten().find(is_it);
    Decided::of(first.map(|_| {
        let project = project.clone();
        Event::Project(ProjectEvent::BudgetRefused { project, period, visible_from, refused_at })
    }))
}
