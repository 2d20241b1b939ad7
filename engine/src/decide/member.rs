//! Members, their roles, and invitations (R3).

use tollbook_projections::organization::{Invitation, InvitationEnd};
use tollbook_schemas::event::{Event, KeyEvent, MemberEvent, Revocation};
use tollbook_schemas::id::{InvitationId, KeyId, MemberId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::{OrgRole, ProjectRole};
use tollbook_schemas::sealed::{Sealed, SecretHash};

use super::{Case, Decided, Refusable};

/// How long an invitation's link works (R3.3).
pub(crate) const INVITATION_SECONDS: i64 = 7 * 24 * 60 * 60;
/// Most invitations of one organization that can be accepted at the same time; with those that are remembered when
/// they are over, it bounds memory.
const INVITATIONS_MAX: u32 = 1_000;

/// An invitation that somebody wants to make.
pub(super) struct NewInvitation<'a> {
    pub(super) invitation: &'a InvitationId,
    pub(super) email: Option<&'a Sealed>,
    pub(super) role: OrgRole,
    pub(super) projects: &'a [(ProjectId, ProjectRole)],
    pub(super) token: &'a SecretHash,
}

pub(super) fn invite(case: &Case<'_>, new: &NewInvitation<'_>) -> Refusable {
    case.sealed_under_present_key(new.email)?;
    let known = case.organization;
    if known.invitations.contains_key(new.invitation) {
        return Err(Rejection::InvitationExists(new.invitation.clone()));
    }
    for (project, _) in new.projects {
        case.active_project(project)?;
    }
    let current = u32::try_from(known.open_invitations(case.now)).unwrap_or(u32::MAX);
    if current >= INVITATIONS_MAX {
        return Err(Rejection::InvitationLimit { current, limit: INVITATIONS_MAX });
    }
    // From here it succeeds.
    Ok(Decided::of([Event::Member(MemberEvent::Invited {
        invitation: new.invitation.clone(),
        email: new.email.cloned(),
        role: new.role,
        projects: new.projects.to_vec(),
        token: *new.token,
        expires_at: case.now.plus_seconds(INVITATION_SECONDS),
    })]))
}

pub(super) fn revoke_invitation(case: &Case<'_>, id: &InvitationId) -> Refusable {
    let invitation = case.organization.invitations.get(id).ok_or(Rejection::InvitationUnknown)?;
    if invitation.ended == Some(InvitationEnd::Revoked) {
        return Ok(Decided::AsItIs);
    }
    if !invitation.is_open(case.now) {
        return Err(Rejection::InvitationOver { invitation: id.clone() });
    }
    // From here it succeeds.
    Ok(Decided::of([Event::Member(MemberEvent::InvitationRevoked { invitation: id.clone() })]))
}

/// Somebody who holds an invitation's token and wants to join.
pub(super) struct NewMember<'a> {
    pub(super) member: &'a MemberId,
    pub(super) name: &'a Sealed,
    pub(super) email: &'a Sealed,
}

pub(super) fn accept(case: &Case<'_>, token: &SecretHash, new: &NewMember<'_>) -> Refusable {
    case.sealed_under_present_key([new.name, new.email])?;
    let known = case.organization;
    let by_token = |(_, invitation): &(&InvitationId, &Invitation)| invitation.token == *token;
    let (id, invitation) = known.invitations.iter().find(by_token).ok_or(Rejection::InvitationUnknown)?;
    if !invitation.is_open(case.now) {
        return Err(Rejection::InvitationOver { invitation: id.clone() });
    }
    if known.members.contains_key(new.member) {
        return Err(Rejection::MemberExists(new.member.clone()));
    }
    // From here it succeeds.
    let joined = Event::Member(MemberEvent::Joined {
        member: new.member.clone(),
        invitation: Some(id.clone()),
        name: new.name.clone(),
        email: new.email.clone(),
        role: invitation.role,
    });
    // Projects may have been archived since.
    let still_there =
        |project: &ProjectId| known.projects.get(project).is_some_and(|found| found.is_active());
    let projects = invitation.projects.iter().filter(|(project, _)| still_there(project));
    let roles = projects.map(|(project, role)| {
        Event::Member(MemberEvent::ProjectRoleSet {
            project: project.clone(),
            member: new.member.clone(),
            role: *role,
        })
    });
    Ok(Decided::of(std::iter::once(joined).chain(roles)))
}

pub(super) fn set_role(case: &Case<'_>, member: &MemberId, role: OrgRole) -> Refusable {
    let before = case.member(member)?.role;
    if before == role {
        return Ok(Decided::AsItIs);
    }
    if *member == case.organization.creator {
        return Err(Rejection::CreatorStays);
    }
    // From here it succeeds.
    let changed = Event::Member(MemberEvent::RoleChanged { member: member.clone(), role });
    let known = case.organization;
    let stays_in = |project: &ProjectId| {
        role == OrgRole::Administrator
            || known.projects.get(project).is_some_and(|found| found.members.contains_key(member))
    };
    let lost = revoke_keys(case, member, Revocation::MemberDemoted, |project| !stays_in(project));
    Ok(Decided::of(std::iter::once(changed).chain(lost)))
}

pub(super) fn remove(case: &Case<'_>, member: &MemberId) -> Refusable {
    case.member(member)?;
    if *member == case.organization.creator {
        return Err(Rejection::CreatorStays);
    }
    // From here it succeeds.
    let removed = Event::Member(MemberEvent::Removed { member: member.clone() });
    let lost = revoke_keys(case, member, Revocation::MemberRemoved, |_| true);
    Ok(Decided::of(std::iter::once(removed).chain(lost)))
}

pub(super) fn add_to_project(
    case: &Case<'_>,
    project: &ProjectId,
    member: &MemberId,
    role: ProjectRole,
) -> Refusable {
    let found = case.active_project(project)?;
    case.member(member)?;
    if found.members.contains_key(member) {
        return Err(Rejection::MemberExists(member.clone()));
    }
    // From here it succeeds.
    Ok(Decided::of([project_role(project, member, role)]))
}

pub(super) fn set_project_role(
    case: &Case<'_>,
    project: &ProjectId,
    member: &MemberId,
    role: ProjectRole,
) -> Refusable {
    let before = in_project(case, project, member)?;
    // From here it succeeds.
    Ok(Decided::of((before != role).then(|| project_role(project, member, role))))
}

pub(super) fn remove_from_project(case: &Case<'_>, project: &ProjectId, member: &MemberId) -> Refusable {
    in_project(case, project, member)?;
    // From here it succeeds.
    let left = Event::Member(MemberEvent::ProjectLeft { project: project.clone(), member: member.clone() });
    let lost = revoke_keys(case, member, Revocation::MemberRemoved, |of| of == project);
    Ok(Decided::of(std::iter::once(left).chain(lost)))
}

fn in_project(case: &Case<'_>, project: &ProjectId, member: &MemberId) -> Result<ProjectRole, Rejection> {
    let found = case.active_project(project)?;
    found
        .members
        .get(member)
        .copied()
        .ok_or_else(|| Rejection::ProjectMemberUnknown { member: member.clone(), project: project.clone() })
}

fn project_role(project: &ProjectId, member: &MemberId, role: ProjectRole) -> Event {
    Event::Member(MemberEvent::ProjectRoleSet { project: project.clone(), member: member.clone(), role })
}

/// Revokes what works of a member's keys in the projects that `in_project` names (R3.4).
fn revoke_keys<'a>(
    case: &Case<'a>,
    member: &'a MemberId,
    why: Revocation,
    in_project: impl Fn(&ProjectId) -> bool + 'a,
) -> impl Iterator<Item = Event> + 'a {
    let theirs = case.organization.keys.iter().filter(move |(_, key)| key.member == *member);
    let lost = theirs.filter(move |(_, key)| key.is_active() && in_project(&key.project));
    lost.map(move |(id, _)| revoked(id, why))
}

pub(super) fn revoked(key: &KeyId, why: Revocation) -> Event {
    Event::Key(KeyEvent::Revoked { key: key.clone(), why })
}
