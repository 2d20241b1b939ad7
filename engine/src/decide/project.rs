//! Projects (R1.2, R6).

use tollbook_projections::config::Config;
use tollbook_projections::organization::Organization;
use tollbook_schemas::event::{Event, ProjectEvent};
use tollbook_schemas::id::{DisplayName, ProjectId};
use tollbook_schemas::policy::QuantityLimit;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::Verification;

use super::Decided;

pub(super) fn create(
    config: &Config,
    organization: &Organization,
    project: &ProjectId,
    name: &DisplayName,
) -> Result<Decided, Rejection> {
    if organization.projects.contains_key(project) {
        return Err(Rejection::ProjectExists(project.clone()));
    }
    let limit = quantity_limit(config, organization).projects;
    let current = u32::try_from(organization.projects.len()).unwrap_or(u32::MAX);
    if current >= limit {
        return Err(Rejection::ProjectLimit { current, limit });
    }
    // From here it succeeds.
    Ok(Decided::Events(vec![Event::Project(ProjectEvent::Created {
        project: project.clone(),
        name: name.clone(),
    })]))
}

/// How many projects and keys an organization of this type may have (R1.2).
pub(super) const fn quantity_limit(config: &Config, organization: &Organization) -> QuantityLimit {
    match organization.verification {
        Verification::Unverified | Verification::Verified => config.quantity_limits.default,
        Verification::EnterpriseVerified => config.quantity_limits.enterprise_verified,
    }
}
