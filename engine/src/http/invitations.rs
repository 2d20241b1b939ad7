//! Invitations: dedicated links for new members (R3.3).

use std::collections::BTreeSet;

use serde_json::Value;
use tollbook_projections::organization::{Invitation as Known, InvitationEnd};
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, MemberEvent};
use tollbook_schemas::id::{DisplayName, InvitationId, MemberId, OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::{OrgRole, ProjectRole};
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::{Json, List};
use super::auth::hash;
use super::document::{Routes, Says, Verb};
use super::kinds::{Email, choices};
use super::members::Membership;
use super::path::Newcomer;
use super::problem::{Fault, Problem};
use super::reading::{Page, Reading, read_organization};
use super::secret::new_secret;
use super::shape::{Described, FromJson, IfAny, Parts, Shape, answer, request};
use super::values::Secret;
use super::write::{Changed, Created, Write};
use crate::clock;
use crate::contacts::Opener;
use crate::decide::INVITATION_SECONDS;
use crate::permission::Action;

const INVITATIONS: &str = "/v1/organizations/{org}/invitations";
/// What every invitation's token begins with; the organization's id and the secret follow.
const TOKEN_PREFIX: &str = "invite-";

pub(super) fn routes(routes: &mut Routes) {
    routes.family(
        "Invitations",
        "Links that make people members, once the enterprise verification is completed.",
    );
    let says = Says {
        id: "invite",
        summary: "Invite somebody",
        more: "It is for one person, works once and for seven days, and its token is shown only here. `link` begins with \
               what the server was started with as `--console-url`, and is left out without that; the page there asks \
               for name and address and accepts the invitation with the token that stands behind the `#`.",
    };
    routes.write(Verb::Post, INVITATIONS, says, invite);
    let says = Says {
        id: "listInvitations",
        summary: "List invitations",
        more: "Those that are over are listed until 30 days after the end of their link.",
    };
    routes.read(INVITATIONS, says, list);
    let says = Says { id: "revokeInvitation", summary: "Take an invitation back", more: "" };
    routes.write(Verb::Delete, "/v1/organizations/{org}/invitations/{invitation}", says, revoke);
    let says = Says {
        id: "acceptInvitation",
        summary: "Accept an invitation",
        more: "For the console that knows who the newcomer is: `Tollbook-Actor` is left out.",
    };
    routes.write(Verb::Post, "/v1/invitations/accept", says, accept);
}

request! {
    /// An invitation to make.
    pub(super) struct NewInvitation {
        /// Where it will be sent, if that is known.
        email: Option<Email>,
        /// The role in the organization that it gives.
        role: OrgRole,
        /// The projects that it brings into, each once.
        projects: Option<NewMemberships>,
    }
}

request! {
    /// A project to be brought into.
    pub(super) struct NewMembership {
        /// The project.
        project: ProjectId,
        /// The role there.
        role: ProjectRole,
    }
}

/// Most projects of one invitation: many times what an organization may have unless the operator overrides it (R1.2).
const PROJECTS_MAX: usize = 1_000;

/// Projects to be brought into, no more than [`PROJECTS_MAX`] and each once.
#[derive(Debug)]
pub(super) struct NewMemberships(Vec<(ProjectId, ProjectRole)>);

impl Shape for NewMemberships {
    fn describe(parts: &mut Parts) -> Described {
        let each = NewMembership::describe(parts);
        ArrayBuilder::new().items(each).max_items(Some(PROJECTS_MAX)).unique_items(true).into()
    }
}

impl FromJson for NewMemberships {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        if value.as_array().is_some_and(|items| items.len() > PROJECTS_MAX) {
            faults.push(Fault::at(path, None, format!("must hold at most {PROJECTS_MAX} projects")));
            return None;
        }
        let wanted = Vec::<NewMembership>::read(path, value, faults)?;
        let mut seen = BTreeSet::new();
        let again = wanted.iter().position(|one| !seen.insert(&one.project));
        if let Some(index) = again {
            let field = format!("{path}[{index}].project");
            faults.push(Fault::at(&field, None, "stands twice in this list"));
            return None;
        }
        Some(Self(wanted.into_iter().map(|one| (one.project, one.role)).collect()))
    }
}

request! {
    /// An invitation to accept.
    pub(super) struct Acceptance {
        /// The link's token.
        token: Secret,
        /// The new member's name.
        name: DisplayName,
        /// The new member's address.
        email: Email,
    }
}

/// What became of an invitation.
#[derive(Clone, Copy, Debug)]
pub(super) enum InvitationState {
    Open,
    Accepted,
    Revoked,
    Expired,
}

choices! {
    InvitationState = "InvitationState", "What became of an invitation." {
        Open = "open",
        Accepted = "accepted",
        Revoked = "revoked",
        Expired = "expired",
    }
}

answer! {
    /// An invitation.
    pub(super) struct Invitation {
        /// Its id.
        id: InvitationId,
        /// Where it was sent; null where that is not known, or once personal data is erased.
        email: Option<String>,
        /// The role in the organization that it gives.
        role: OrgRole,
        /// The projects that it brings into.
        projects: Vec<Membership>,
        /// What became of it.
        state: InvitationState,
        /// When it was made.
        created_at: Timestamp,
        /// When the link ends.
        expires_at: Timestamp,
        /// What accepts it. Only in the first answer to its creation.
        token: IfAny<String>,
        /// Where the invited person accepts it. Only in the first answer to its creation, and only where the server knows
        /// where the platform's console is.
        link: IfAny<String>,
    }
}

answer! {
    /// An invitation that was taken back.
    pub(super) struct RevokedInvitation {
        /// Its id.
        id: InvitationId,
        /// What became of it.
        state: InvitationState,
    }
}

answer! {
    /// Somebody who has just become a member; name and address are null once personal data is erased.
    pub(super) struct NewMember {
        /// Their id.
        id: MemberId,
        /// Their name.
        name: Option<String>,
        /// Their address.
        email: Option<String>,
        /// Their role in the organization.
        role: OrgRole,
        /// The projects they were brought into.
        projects: Vec<Membership>,
    }
}

answer! {
    /// Somebody who became a member.
    pub(super) struct Accepted {
        /// The organization.
        organization: OrgId,
        /// The new member.
        member: NewMember,
    }
}

impl Invitation {
    fn of(id: &InvitationId, known: &Known, opener: &Opener, now: Timestamp) -> Self {
        let membership =
            |(project, role): &(ProjectId, ProjectRole)| Membership { project: project.clone(), role: *role };
        Self {
            id: id.clone(),
            email: known.email.as_ref().and_then(|email| opener.open(email)),
            role: known.role,
            projects: known.projects.iter().map(membership).collect(),
            state: match &known.ended {
                Some(InvitationEnd::Accepted(_)) => InvitationState::Accepted,
                Some(InvitationEnd::Revoked) => InvitationState::Revoked,
                None if known.is_open(now) => InvitationState::Open,
                None => InvitationState::Expired,
            },
            created_at: known.created_at,
            expires_at: known.expires_at,
            token: IfAny(None),
            link: IfAny(None),
        }
    }
}

async fn invite(
    Write { path: org, body, author }: Write<OrgId, NewInvitation>,
) -> Result<Created<Invitation>, Problem> {
    let token = new_secret(&format!("{TOKEN_PREFIX}{org}-"));
    let command = OrganizationCommand::Invite {
        invitation: InvitationId::from_bits(clock::new_id_bits()),
        email: match &body.email {
            Some(email) => Some(author.seal(&org, email.0.as_str()).await?),
            None => None,
        },
        role: body.role,
        projects: body.projects.map_or_else(Vec::new, |projects| projects.0),
        token: hash(&token),
    };
    let done = author.decide(&org, command).await?;
    let made =
        done.events.iter().find_map(made).ok_or_else(|| Problem::internal("the entry made no invitation"))?;
    let (id, made) = made;
    let wanted = id.clone();
    let read = read_organization(&author.node, &org, move |known| {
        (known.contact_key, known.invitations.get(&wanted).cloned())
    });
    let (key, found) = read.await?;
    // State forgets invitations some time after they are over.
    let found = found.unwrap_or(made);
    let opener = author.node.contacts().opener(&org, [key]).await?;
    let mut shown = Invitation::of(&id, &found, &opener, author.node.clock().now());
    if !done.before {
        shown.link =
            IfAny(author.console_url.map(|console| format!("{console}/invitations/accept#token={token}")));
        shown.token = IfAny(Some(token));
    }
    Ok(Created::new(done, shown))
}

/// The invitation that an event made.
fn made(event: &Event) -> Option<(InvitationId, Known)> {
    let Event::Member(MemberEvent::Invited { invitation, email, role, projects, token, expires_at }) = event
    else {
        return None;
    };
    let known = Known {
        email: email.clone(),
        role: *role,
        projects: projects.clone(),
        token: *token,
        created_at: expires_at.plus_seconds(INVITATION_SECONDS.saturating_neg()),
        expires_at: *expires_at,
        ended: None,
    };
    Some((invitation.clone(), known))
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<Invitation>>, Problem> {
    let read = at.organization(&org, Action::ManageMembers, move |known| {
        let page = page.cut(&known.invitations, |(id, _)| id.as_str());
        (known.contact_key, page.map(|(id, found)| (id.clone(), found.clone())))
    });
    let (key, page) = read.await?;
    let (opener, now) = (at.node.contacts().opener(&org, [key]).await?, at.node.clock().now());
    Ok(Json(page.map(|(id, found)| Invitation::of(&id, &found, &opener, now))))
}

async fn revoke(
    Write { path: (org, invitation), author, .. }: Write<(OrgId, InvitationId), ()>,
) -> Result<Changed<RevokedInvitation>, Problem> {
    let done = author.decide(&org, OrganizationCommand::RevokeInvitation(invitation.clone())).await?;
    Ok(Changed::new(done, RevokedInvitation { id: invitation, state: InvitationState::Revoked }))
}

async fn accept(
    Write { body, author, .. }: Write<Newcomer, Acceptance>,
) -> Result<Created<Accepted>, Problem> {
    // The token names its organization, so that nothing has to be searched.
    let named = body.token.0.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.rsplit_once('-'));
    let org = named.and_then(|(org, _)| OrgId::parse(org).ok()).ok_or(Rejection::InvitationUnknown)?;
    author.may_touch(&org)?;
    let command = OrganizationCommand::AcceptInvitation {
        token: hash(&body.token.0),
        member: MemberId::from_bits(clock::new_id_bits()),
        name: author.seal(&org, body.name.as_str()).await?,
        email: author.seal(&org, &body.email.0).await?,
    };
    let done = author.decide(&org, command).await?;
    let key = read_organization(&author.node, &org, |known| known.contact_key).await?;
    let opener = author.node.contacts().opener(&org, [key]).await?;
    // From the events, as they may have been removed by the time of a repetition.
    let member =
        joined(&done.events, &opener).ok_or_else(|| Problem::internal("nobody joined by the entry"))?;
    Ok(Created::new(done, Accepted { organization: org, member }))
}

/// Who joined by an entry.
fn joined(events: &[Event], opener: &Opener) -> Option<NewMember> {
    let mut new = events.iter().find_map(|event| {
        let Event::Member(MemberEvent::Joined { member, name, email, role, .. }) = event else { return None };
        let (id, name, email) = (member.clone(), opener.open(name), opener.open(email));
        Some(NewMember { id, name, email, role: *role, projects: Vec::new() })
    })?;
    let memberships = events.iter().filter_map(|event| {
        let Event::Member(MemberEvent::ProjectRoleSet { project, role, .. }) = event else { return None };
        Some(Membership { project: project.clone(), role: *role })
    });
    new.projects.extend(memberships);
    Some(new)
}
