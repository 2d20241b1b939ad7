//! Members, their roles, and invitations (R3).

use serde::{Deserialize, Serialize};
use tollbook_schemas::event::MemberEvent;
use tollbook_schemas::id::{InvitationId, MemberId, ProjectId};
use tollbook_schemas::role::{OrgRole, ProjectRole};
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::Timestamp;

use super::{At, Organization};
use crate::state::Corrupt;

/// How long an invitation that is over is remembered, so that whoever tries it learns why it does not work.
const REMEMBERED_SECONDS: i64 = 30 * 24 * 60 * 60;
/// Invitations of one organization that are remembered at most; beyond, those that are over longest are forgotten.
const REMEMBERED_MAX: usize = 2_000;

/// A member (R3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name.
    pub name: Sealed,
    /// E-mail address.
    pub email: Sealed,
    /// Role in the organization.
    pub role: OrgRole,
    /// When they became one.
    pub joined_at: Timestamp,
}

/// An invitation (R3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Where it was sent, if anywhere.
    pub email: Option<Sealed>,
    /// The organization role it gives.
    pub role: OrgRole,
    /// The projects it gives, with the role in each.
    pub projects: Vec<(ProjectId, ProjectRole)>,
    /// Of the link's secret token.
    pub token: SecretHash,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the link ends.
    pub expires_at: Timestamp,
    /// How it ended before that, if it did.
    pub ended: Option<InvitationEnd>,
}

/// How an invitation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InvitationEnd {
    /// Somebody became this member by it.
    Accepted(MemberId),
    /// It was taken back.
    Revoked,
}

impl Invitation {
    /// Whether it can still be accepted.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at
    }
}

impl Organization {
    /// Whether a member acts for the whole organization (R3.1).
    pub fn is_administrator(&self, member: &MemberId) -> bool {
        self.members.get(member).is_some_and(|member| member.role == OrgRole::Administrator)
    }

    /// A member's role in a project; administrators of the organization are administrators of every project (R3.2).
    pub fn role_in(&self, project: &ProjectId, member: &MemberId) -> Option<ProjectRole> {
        if self.is_administrator(member) {
            return Some(ProjectRole::Administrator);
        }
        self.projects.get(project)?.members.get(member).copied()
    }

    /// How many invitations could be accepted.
    pub fn open_invitations(&self, now: Timestamp) -> usize {
        self.invitations.values().filter(|invitation| invitation.is_open(now)).count()
    }

    pub(super) fn apply_member(&mut self, event: &MemberEvent, at: At) -> Result<(), Corrupt> {
        match event {
            MemberEvent::Invited { invitation, email, role, projects, token, expires_at } => {
                let remembered =
                    |known: &Invitation| known.expires_at.plus_seconds(REMEMBERED_SECONDS) > at.recorded_at;
                self.invitations.retain(|_, known| remembered(known));
                while self.invitations.len() >= REMEMBERED_MAX && self.forget_invitation(at.recorded_at) {}
                self.has_contacts |= email.is_some();
                let new = Invitation {
                    email: email.clone(),
                    role: *role,
                    projects: projects.clone(),
                    token: *token,
                    created_at: at.recorded_at,
                    expires_at: *expires_at,
                    ended: None,
                };
                match self.invitations.insert(invitation.clone(), new) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::InvitationExists(invitation.clone())),
                }
            }
            MemberEvent::InvitationRevoked { invitation } => {
                self.end_invitation(invitation, InvitationEnd::Revoked)
            }
            MemberEvent::Joined { member, invitation, name, email, role } => {
                if let Some(invitation) = invitation {
                    self.end_invitation(invitation, InvitationEnd::Accepted(member.clone()))?;
                }
                self.has_contacts = true;
                let new = Member {
                    name: name.clone(),
                    email: email.clone(),
                    role: *role,
                    joined_at: at.recorded_at,
                };
                match self.members.insert(member.clone(), new) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::MemberExists(member.clone())),
                }
            }
            MemberEvent::RoleChanged { member, role } => {
                let known =
                    self.members.get_mut(member).ok_or_else(|| Corrupt::MemberUnknown(member.clone()))?;
                known.role = *role;
                Ok(())
            }
            MemberEvent::Removed { member } => {
                for project in self.projects.values_mut() {
                    project.members.remove(member);
                }
                self.members.remove(member).map(|_| ()).ok_or_else(|| Corrupt::MemberUnknown(member.clone()))
            }
            MemberEvent::ProjectRoleSet { project, member, role } => {
                if !self.members.contains_key(member) {
                    return Err(Corrupt::MemberUnknown(member.clone()));
                }
                self.project_mut(project)?.members.insert(member.clone(), *role);
                Ok(())
            }
            MemberEvent::ProjectLeft { project, member } => self
                .project_mut(project)?
                .members
                .remove(member)
                .map(|_| ())
                .ok_or_else(|| Corrupt::MemberUnknown(member.clone())),
        }
    }

    /// Forgets the invitation that is over whose link ended or ends first; whether there was one.
    fn forget_invitation(&mut self, now: Timestamp) -> bool {
        let over = self.invitations.iter().filter(|(_, known)| !known.is_open(now));
        let first = over.min_by_key(|(id, known)| (known.expires_at, *id)).map(|(id, _)| id.clone());
        first.is_some_and(|id| self.invitations.remove(&id).is_some())
    }

    fn end_invitation(&mut self, invitation: &InvitationId, end: InvitationEnd) -> Result<(), Corrupt> {
        let known = self
            .invitations
            .get_mut(invitation)
            .ok_or_else(|| Corrupt::InvitationUnknown(invitation.clone()))?;
        known.ended = Some(end);
        Ok(())
    }
}
