//! Members of organizations and projects, and their roles (R3).

use tollbook_projections::organization::{Member as Known, Organization, Project};
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, KeyEvent};
use tollbook_schemas::id::{KeyId, MemberId, OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::{OrgRole, ProjectRole};
use tollbook_schemas::time::Timestamp;

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::reading::{Page, Reading, read_organization};
use super::shape::{answer, request};
use super::write::{Author, Changed, Created, Write};
use crate::contacts::Opener;
use crate::owner::Done;
use crate::permission::Action;

const MEMBERS: &str = "/v1/organizations/{org}/members";
const MEMBER: &str = "/v1/organizations/{org}/members/{member}";
const PROJECT_MEMBERS: &str = "/v1/organizations/{org}/projects/{project}/members";
const PROJECT_MEMBER: &str = "/v1/organizations/{org}/projects/{project}/members/{member}";

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Members", "Who acts for an organization, and in its projects.");
    routes.read(MEMBERS, Says { id: "listMembers", summary: "List members", more: "" }, list);
    let says = Says {
        id: "setMemberRole",
        summary: "Change a member's role",
        more: "An administrator who becomes a member keeps the API keys of the projects they are a member of; their \
               other keys are revoked. The organization's creator stays an administrator.",
    };
    routes.write(Verb::Patch, MEMBER, says, set_role);
    let says = Says {
        id: "removeMember",
        summary: "Remove a member",
        more: "Every API key they created is revoked with them. The organization's creator stays.",
    };
    routes.write(Verb::Delete, MEMBER, says, remove);
    let says = Says {
        id: "listProjectMembers",
        summary: "List members of a project",
        more: "Administrators of the organization reach every project and are listed where they were brought in.",
    };
    routes.read(PROJECT_MEMBERS, says, list_in_project);
    let says = Says { id: "addProjectMember", summary: "Bring a member into a project", more: "" };
    routes.write(Verb::Post, PROJECT_MEMBERS, says, add_to_project);
    let says = Says { id: "setProjectMemberRole", summary: "Change a member's role in a project", more: "" };
    routes.write(Verb::Patch, PROJECT_MEMBER, says, set_project_role);
    let says = Says {
        id: "removeProjectMember",
        summary: "Remove a member from a project",
        more: "Every API key they created in it is revoked with that.",
    };
    routes.write(Verb::Delete, PROJECT_MEMBER, says, remove_from_project);
}

request! {
    /// A role in the organization.
    pub(super) struct NewRole {
        /// The role from now on.
        role: OrgRole,
    }
}

request! {
    /// A member to bring into a project.
    pub(super) struct NewProjectMember {
        /// Who; a member of the organization.
        member: MemberId,
        /// Their role in the project.
        role: ProjectRole,
    }
}

request! {
    /// A role in a project.
    pub(super) struct NewProjectRole {
        /// The role from now on.
        role: ProjectRole,
    }
}

answer! {
    /// A member of an organization; name and address are null once personal data is erased.
    pub(super) struct Member {
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
        /// When they joined.
        joined_at: Timestamp,
    }
}

answer! {
    /// A project, and a role in it.
    pub(super) struct Membership {
        /// The project.
        project: ProjectId,
        /// The role there.
        role: ProjectRole,
    }
}

answer! {
    /// A member of a project; name and address are null once personal data is erased.
    pub(super) struct ProjectMember {
        /// Who.
        member: MemberId,
        /// Their name.
        name: Option<String>,
        /// Their address.
        email: Option<String>,
        /// Their role in the project.
        role: ProjectRole,
    }
}

answer! {
    /// A member whose role was set.
    pub(super) struct ChangedRole {
        /// Who.
        id: MemberId,
        /// Their role in the organization.
        role: OrgRole,
        /// The API keys that were revoked with that.
        revoked_api_keys: Vec<KeyId>,
    }
}

answer! {
    /// A member who was removed.
    pub(super) struct RemovedMember {
        /// Who.
        id: MemberId,
        /// The API keys that were revoked with that.
        revoked_api_keys: Vec<KeyId>,
    }
}

/// A member as State knows them: personal data is opened once the owner is left alone again.
pub(super) struct Found {
    id: MemberId,
    known: Known,
    projects: Vec<Membership>,
}

impl Found {
    pub(super) fn of(organization: &Organization, id: &MemberId, known: &Known) -> Self {
        let active = organization.projects.iter().filter(|(_, project)| project.is_active());
        let membership = |(id_of, project): (&ProjectId, &Project)| {
            Some(Membership { project: id_of.clone(), role: *project.members.get(id)? })
        };
        let projects = active.filter_map(membership).collect();
        Self { id: id.clone(), known: known.clone(), projects }
    }

    pub(super) fn open(self, opener: &Opener) -> Member {
        Member {
            id: self.id,
            name: opener.open(&self.known.name),
            email: opener.open(&self.known.email),
            role: self.known.role,
            projects: self.projects,
            joined_at: self.known.joined_at,
        }
    }
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<Member>>, Problem> {
    let read = at.organization(&org, Action::SeeOrganizationFigures, move |known| {
        let page = page.cut(&known.members, |(id, _)| id.as_str());
        (known.contact_key, page.map(|(id, member)| Found::of(known, id, member)))
    });
    let (key, page) = read.await?;
    let opener = at.node.contacts().opener(&org, [key]).await?;
    Ok(Json(page.map(|found| found.open(&opener))))
}

async fn set_role(
    Write { path: (org, member), body, author }: Write<(OrgId, MemberId), NewRole>,
) -> Result<Changed<ChangedRole>, Problem> {
    let command = OrganizationCommand::SetRole { member: member.clone(), role: body.role };
    let done = author.decide(&org, command).await?;
    let changed = ChangedRole { id: member, role: body.role, revoked_api_keys: revoked(&done) };
    Ok(Changed::new(done, changed))
}

async fn remove(
    Write { path: (org, member), author, .. }: Write<(OrgId, MemberId), ()>,
) -> Result<Changed<RemovedMember>, Problem> {
    let done = author.decide(&org, OrganizationCommand::RemoveMember(member.clone())).await?;
    let removed = RemovedMember { id: member, revoked_api_keys: revoked(&done) };
    Ok(Changed::new(done, removed))
}

async fn list_in_project(
    Reading { path: (org, project), query: page, at }: Reading<(OrgId, ProjectId), Page>,
) -> Result<Json<List<ProjectMember>>, Problem> {
    let seeing = Action::SeeProjectFigures(project.clone());
    let read = at.organization(&org, seeing, move |known| {
        let found = known.projects.get(&project).ok_or(Rejection::ProjectUnknown(project))?;
        let page = page.cut(&found.members, |(id, _)| id.as_str());
        let page = page.map(|(id, role)| (id.clone(), known.members.get(id).cloned(), *role));
        Ok::<_, Rejection>((known.contact_key, page))
    });
    let (key, page) = read.await??;
    let opener = at.node.contacts().opener(&org, [key]).await?;
    Ok(Json(page.map(|(id, known, role)| in_project(id, known.as_ref(), role, &opener))))
}

async fn add_to_project(
    Write { path: (org, project), body, author }: Write<(OrgId, ProjectId), NewProjectMember>,
) -> Result<Created<ProjectMember>, Problem> {
    let (member, role) = (body.member, body.role);
    let command = OrganizationCommand::AddProjectMember { project, member: member.clone(), role };
    let done = author.decide(&org, command).await?;
    let shown = present(&author, &org, &member, role).await?;
    Ok(Created::new(done, shown))
}

async fn set_project_role(
    Write { path: (org, project, member), body, author }: Write<(OrgId, ProjectId, MemberId), NewProjectRole>,
) -> Result<Changed<ProjectMember>, Problem> {
    let role = body.role;
    let command = OrganizationCommand::SetProjectRole { project, member: member.clone(), role };
    let done = author.decide(&org, command).await?;
    let shown = present(&author, &org, &member, role).await?;
    Ok(Changed::new(done, shown))
}

async fn remove_from_project(
    Write { path: (org, project, member), author, .. }: Write<(OrgId, ProjectId, MemberId), ()>,
) -> Result<Changed<RemovedMember>, Problem> {
    let command = OrganizationCommand::RemoveProjectMember { project, member: member.clone() };
    let done = author.decide(&org, command).await?;
    let removed = RemovedMember { id: member, revoked_api_keys: revoked(&done) };
    Ok(Changed::new(done, removed))
}

async fn present(
    author: &Author,
    org: &OrgId,
    member: &MemberId,
    role: ProjectRole,
) -> Result<ProjectMember, Problem> {
    let id = member.clone();
    let read = read_organization(&author.node, org, move |known| {
        (known.contact_key, known.members.get(&id).cloned())
    });
    let (key, known) = read.await?;
    let opener = author.node.contacts().opener(org, [key]).await?;
    Ok(in_project(member.clone(), known.as_ref(), role, &opener))
}

fn in_project(id: MemberId, known: Option<&Known>, role: ProjectRole, opener: &Opener) -> ProjectMember {
    ProjectMember {
        member: id,
        name: known.and_then(|known| opener.open(&known.name)),
        email: known.and_then(|known| opener.open(&known.email)),
        role,
    }
}

/// The keys that an entry revoked.
pub(super) fn revoked(done: &Done) -> Vec<KeyId> {
    let revoked = |event: &Event| match event {
        Event::Key(KeyEvent::Revoked { key, .. }) => Some(key.clone()),
        Event::Key(KeyEvent::Issued { .. })
        | Event::Organization(_)
        | Event::Member(_)
        | Event::Project(_)
        | Event::Money(_)
        | Event::Quarantine(_)
        | Event::Webhook(_)
        | Event::Config(_)
        | Event::Partition(_) => None,
    };
    done.events.iter().filter_map(revoked).collect()
}
