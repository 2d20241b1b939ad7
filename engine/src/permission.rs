//! Who may do what: the table of RULES R3 as one pure function. The platform may everything that the organization's
//! state allows; members what their roles allow.

use tollbook_projections::organization::Organization;
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{MemberId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::{ProjectRole, Verification};

/// Something that somebody wants to see or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// See who the organization is: its name, time zone, level and creator.
    SeeOrganization,
    /// See or save the IP allowlist (R2.3).
    Allowlist,
    /// See and revoke invitations, remove members, change their roles; the balance alert's threshold, invoices.
    ManageMembers,
    /// Invite somebody (R3.3).
    Invite,
    /// Become a member by an invitation's token.
    AcceptInvitation,
    /// Create and archive projects.
    ManageProjects,
    /// See that a project is there, and what it is called.
    SeeProject(ProjectId),
    /// A project's name, budgets, TPM limit, spend notifications and members.
    ManageProject(ProjectId),
    /// Create an API key in a project.
    CreateKey(ProjectId),
    /// Revoke an API key.
    RevokeKey {
        /// Its project.
        project: ProjectId,
        /// Who created it.
        creator: MemberId,
    },
    /// The organization's name, e-mail address and time zone; webhooks, audit log, statements, quarantine.
    ManageOrganization,
    /// See the organization's spend, balance, limits, alerts and members.
    SeeOrganizationFigures,
    /// See a project's spend, budgets, alerts, members and keys.
    SeeProjectFigures(ProjectId),
    /// What is the platform's own: recharges, vouchers, refunds, verification, overrides, erasure.
    Operate,
}

/// Whether `actor` may do `action` in an organization. Errors: what is missing, in words.
pub fn may(organization: &Organization, actor: &Actor, action: &Action) -> Result<(), Rejection> {
    role_allows(organization, actor, action)?;
    level_allows(organization, action)
}

/// What the actor's role has to say.
pub(crate) fn role_allows(
    organization: &Organization,
    actor: &Actor,
    action: &Action,
) -> Result<(), Rejection> {
    let invitee = matches!(actor, Actor::Invitee { .. });
    if invitee != (*action == Action::AcceptInvitation) {
        return Err(Rejection::NotAnInvitee);
    }
    match actor {
        Actor::Engine | Actor::Operator { .. } | Actor::Invitee { .. } => Ok(()),
        Actor::Member { member, .. } => member_may(organization, member, action),
    }
}

/// What the organization's state has to say, whoever asks.
pub(crate) fn level_allows(organization: &Organization, action: &Action) -> Result<(), Rejection> {
    let needed = match action {
        Action::Allowlist => Verification::Verified,
        Action::Invite => Verification::EnterpriseVerified,
        Action::SeeOrganization
        | Action::ManageMembers
        | Action::AcceptInvitation
        | Action::ManageProjects
        | Action::SeeProject(_)
        | Action::ManageProject(_)
        | Action::CreateKey(_)
        | Action::RevokeKey { .. }
        | Action::ManageOrganization
        | Action::SeeOrganizationFigures
        | Action::SeeProjectFigures(_)
        | Action::Operate => Verification::Unverified,
    };
    if organization.verification < needed {
        return Err(Rejection::VerificationMissing { needed });
    }
    Ok(())
}

fn member_may(organization: &Organization, member: &MemberId, action: &Action) -> Result<(), Rejection> {
    if !organization.members.contains_key(member) {
        return Err(Rejection::ActorUnknown(member.clone()));
    }
    let administrator = organization.is_administrator(member);
    let in_project = |project: &ProjectId| organization.role_in(project, member);
    let (allowed, needed) = match action {
        Action::SeeOrganization | Action::SeeProject(_) => (true, ""),
        Action::Allowlist => match organization.verification {
            // Nobody may; the level says so.
            Verification::Unverified => (true, ""),
            Verification::Verified => (
                *member == organization.creator,
                "the organization's creator; administrators may once enterprise verification is completed",
            ),
            Verification::EnterpriseVerified => (administrator, ADMINISTRATOR),
        },
        Action::ManageMembers
        | Action::Invite
        | Action::ManageProjects
        | Action::ManageOrganization
        | Action::SeeOrganizationFigures => (administrator, ADMINISTRATOR),
        Action::ManageProject(project) => (
            in_project(project) == Some(ProjectRole::Administrator),
            "an administrator of the project or of the organization",
        ),
        Action::CreateKey(project) | Action::SeeProjectFigures(project) => {
            (in_project(project).is_some(), "a member of the project or an administrator of the organization")
        }
        Action::RevokeKey { project, creator } => {
            let allowed = match in_project(project) {
                Some(ProjectRole::Administrator) => true,
                Some(ProjectRole::Member) => creator == member,
                None => false,
            };
            (allowed, "whoever created the key, or an administrator of the project or of the organization")
        }
        Action::AcceptInvitation | Action::Operate => (false, "the platform"),
    };
    if allowed { Ok(()) } else { Err(Rejection::RoleMissing { needed }) }
}

const ADMINISTRATOR: &str = "an administrator of the organization";
