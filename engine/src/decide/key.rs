//! API keys (R1.2, R3.4, R3.6).

use tollbook_schemas::entry::Actor;
use tollbook_schemas::event::{Event, KeyEvent, Revocation};
use tollbook_schemas::id::{DisplayName, KeyId, MemberId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::sealed::SecretHash;

use super::member::revoked;
use super::{Case, Decided, Refusable};

/// A key that somebody wants.
pub(super) struct NewKey<'a> {
    pub(super) key: &'a KeyId,
    pub(super) project: &'a ProjectId,
    pub(super) member: Option<&'a MemberId>,
    pub(super) name: &'a DisplayName,
    pub(super) secret: &'a SecretHash,
    pub(super) hint: &'a str,
}

pub(super) fn issue(case: &Case<'_>, new: &NewKey<'_>) -> Refusable {
    case.active_project(new.project)?;
    let known = case.organization;
    let member = match case.actor {
        Actor::Member { member: acting, .. } if new.member.is_some_and(|other| other != acting) => {
            return Err(Rejection::KeyOfAnother);
        }
        Actor::Member { member: acting, .. } => acting,
        Actor::Engine | Actor::Operator { .. } | Actor::Invitee { .. } => {
            new.member.unwrap_or(&known.creator)
        }
    };
    if known.keys.contains_key(new.key) {
        return Err(Rejection::KeyExists(new.key.clone()));
    }
    case.member(member)?;
    if known.role_in(new.project, member).is_none() {
        return Err(Rejection::NotInProject { member: member.clone(), project: new.project.clone() });
    }
    let limit = known.quantity_limit(case.state.config()).api_keys;
    let current = known.quantities_used().api_keys;
    if current >= limit {
        return Err(Rejection::KeyLimit { current, limit });
    }
    // From here it succeeds.
    Ok(Decided::of([Event::Key(KeyEvent::Issued {
        key: new.key.clone(),
        project: new.project.clone(),
        member: member.clone(),
        name: new.name.clone(),
        secret: *new.secret,
        hint: new.hint.to_owned(),
    })]))
}

pub(super) fn revoke(case: &Case<'_>, project: &ProjectId, id: &KeyId) -> Refusable {
    let unknown = || Rejection::KeyUnknown(id.clone());
    let key = case.organization.keys.get(id).filter(|key| key.project == *project);
    let key = key.ok_or_else(unknown)?;
    // From here it succeeds.
    Ok(Decided::of(key.is_active().then(|| revoked(id, Revocation::Requested))))
}
