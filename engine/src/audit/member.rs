//! What happened to an organization's members and invitations.

use serde_json::{Value, json};
use tollbook_schemas::event::MemberEvent as E;
use tollbook_schemas::id::InvitationId;

use super::{Open, Told};

pub(super) fn event(event: &E, open: Open<'_>) -> Told {
    match event {
        E::Invited { invitation, email, role, projects, token: _, expires_at } => {
            let projects: Vec<Value> = projects
                .iter()
                .map(|(project, role)| json!({ "project": project.as_str(), "role": role }))
                .collect();
            let fields = json!({
                "invitation": invitation.as_str(),
                "email": email.as_ref().and_then(open),
                "role": role,
                "projects": projects,
                "expires_at": expires_at.to_string(),
            });
            ("invitation.created", fields)
        }
        E::InvitationRevoked { invitation } => {
            ("invitation.revoked", json!({ "invitation": invitation.as_str() }))
        }
        E::Joined { member, invitation, name, email, role } => (
            "member.joined",
            json!({
                "member": member.as_str(),
                "invitation": invitation.as_ref().map(InvitationId::as_str),
                "name": open(name),
                "email": open(email),
                "role": role,
            }),
        ),
        E::RoleChanged { member, role } => {
            ("member.role_changed", json!({ "member": member.as_str(), "role": role }))
        }
        E::Removed { member } => ("member.removed", json!({ "member": member.as_str() })),
        E::ProjectRoleSet { project, member, role } => (
            "member.project_role_set",
            json!({ "project": project.as_str(), "member": member.as_str(), "role": role }),
        ),
        E::ProjectLeft { project, member } => {
            ("member.project_left", json!({ "project": project.as_str(), "member": member.as_str() }))
        }
    }
}
