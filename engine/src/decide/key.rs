//! API keys (R1.2, R3.4, R3.6).

use tollbook_projections::config::Config;
use tollbook_projections::organization::Organization;
use tollbook_schemas::event::{Event, KeyEvent};
use tollbook_schemas::id::{DisplayName, KeyId, MemberId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::sealed::SecretHash;

use super::Decided;
use super::project::quantity_limit;

/// A key that somebody wants.
pub(super) struct NewKey<'a> {
    pub(super) key: &'a KeyId,
    pub(super) project: &'a ProjectId,
    pub(super) member: Option<&'a MemberId>,
    pub(super) name: &'a DisplayName,
    pub(super) secret: &'a SecretHash,
    pub(super) hint: &'a str,
}

pub(super) fn issue(
    config: &Config,
    organization: &Organization,
    new: &NewKey<'_>,
) -> Result<Decided, Rejection> {
    if !organization.projects.contains_key(new.project) {
        return Err(Rejection::ProjectUnknown(new.project.clone()));
    }
    if organization.keys.contains_key(new.key) {
        return Err(Rejection::KeyExists(new.key.clone()));
    }
    let member = new.member.unwrap_or(&organization.creator);
    if !organization.members.contains_key(member) {
        return Err(Rejection::MemberUnknown(member.clone()));
    }
    let limit = quantity_limit(config, organization).api_keys;
    let current = u32::try_from(organization.keys.len()).unwrap_or(u32::MAX);
    if current >= limit {
        return Err(Rejection::KeyLimit { current, limit });
    }
    // From here it succeeds.
    Ok(Decided::Events(vec![Event::Key(KeyEvent::Issued {
        key: new.key.clone(),
        project: new.project.clone(),
        member: member.clone(),
        name: new.name.clone(),
        secret: *new.secret,
        hint: new.hint.to_owned(),
    })]))
}
