//! Registering an organization (R1.1).

use tollbook_projections::organization::Organization;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, OrganizationEvent};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::rejection::Rejection;

use super::Decided;

pub(super) fn register(
    id: &OrgId,
    organization: Option<&Organization>,
    command: &OrganizationCommand,
) -> Result<Decided, Rejection> {
    let OrganizationCommand::Register { name, email, creator, creator_name, creator_email, zone } = command
    else {
        return Ok(Decided::AsItIs);
    };
    if organization.is_some() {
        return Err(Rejection::OrganizationExists(id.clone()));
    }
    // From here it succeeds.
    Ok(Decided::Events(vec![Event::Organization(OrganizationEvent::Registered {
        name: name.clone(),
        email: email.clone(),
        creator: creator.clone(),
        creator_name: creator_name.clone(),
        creator_email: creator_email.clone(),
        zone: zone.clone(),
    })]))
}
