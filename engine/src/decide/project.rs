//! Projects (R1.2, R3.1, R5.4).

use tollbook_schemas::event::{Event, ProjectEvent, Revocation};
use tollbook_schemas::id::{DisplayName, ProjectId};
use tollbook_schemas::rejection::Rejection;

use super::member::revoked;
use super::{Case, Decided, Refusable};

pub(super) fn create(case: &Case<'_>, project: &ProjectId, name: &DisplayName) -> Refusable {
    let known = case.organization;
    if known.projects.contains_key(project) {
        return Err(Rejection::ProjectExists(project.clone()));
    }
    let limit = known.quantity_limit(case.state.config()).projects;
    let current = known.quantities_used().projects;
    if current >= limit {
        return Err(Rejection::ProjectLimit { current, limit });
    }
    // From here it succeeds.
    Ok(Decided::of([Event::Project(ProjectEvent::Created { project: project.clone(), name: name.clone() })]))
}

pub(super) fn rename(case: &Case<'_>, project: &ProjectId, name: &DisplayName) -> Refusable {
    let changed = case.active_project(project)?.name != *name;
    // From here it succeeds.
    let event = ProjectEvent::Renamed { project: project.clone(), name: name.clone() };
    Ok(Decided::of(changed.then_some(Event::Project(event))))
}

pub(super) fn archive(case: &Case<'_>, project: &ProjectId) -> Refusable {
    if !case.project(project)?.is_active() {
        return Ok(Decided::AsItIs);
    }
    // From here it succeeds.
    let archived = Event::Project(ProjectEvent::Archived { project: project.clone() });
    let in_it = case.organization.keys.iter().filter(|(_, key)| key.project == *project && key.is_active());
    let lost = in_it.map(|(id, _)| revoked(id, Revocation::ProjectArchived));
    Ok(Decided::of(std::iter::once(archived).chain(lost)))
}

pub(super) fn set_tpm_limit(case: &Case<'_>, project: &ProjectId, limit: Option<u64>) -> Refusable {
    let changed = case.active_project(project)?.tpm_limit != limit;
    // From here it succeeds.
    let event = ProjectEvent::TpmLimitSet { project: project.clone(), limit };
    Ok(Decided::of(changed.then_some(Event::Project(event))))
}
