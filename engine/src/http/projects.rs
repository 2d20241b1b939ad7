//! Projects of an organization.

use tollbook_projections::budget::Budgets;
use tollbook_projections::limits::{ProjectTpm, RateLimits};
use tollbook_projections::organization::{Organization, Project as Known};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::entry::Actor;
use tollbook_schemas::event::{Event, ProjectEvent};
use tollbook_schemas::id::{DisplayName, KeyId, OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::members::revoked;
use super::problem::Problem;
use super::reading::{Page, Reading, read_organization, read_state};
use super::shape::{OrNull, answer, request};
use super::values::Rate;
use super::write::{Changed, Created, Write};
use crate::clock;
use crate::node::Node;
use crate::permission::{self, Action};

const PROJECTS: &str = "/v1/organizations/{org}/projects";
const PROJECT: &str = "/v1/organizations/{org}/projects/{project}";

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Projects", "What an organization's usage and budgets are told apart by.");
    let says = Says { id: "createProject", summary: "Create a project", more: "" };
    routes.write(Verb::Post, PROJECTS, says, create);
    let says = Says {
        id: "listProjects",
        summary: "List projects",
        more: "Archived ones too. Members of the organization see every project; its limit and budgets only those who are \
               members of it, and administrators.",
    };
    routes.read(PROJECTS, says, list);
    let says = Says {
        id: "getProject",
        summary: "See a project",
        more: "Its limit and budgets are null to members of the organization who are not members of it.",
    };
    routes.read(PROJECT, says, show);
    routes.write(
        Verb::Patch,
        PROJECT,
        Says { id: "renameProject", summary: "Rename a project", more: "" },
        rename,
    );
    let says = Says {
        id: "archiveProject",
        summary: "Archive a project",
        more: "Its API keys are revoked with it. What it consumed stays, and usage that comes late is still booked.",
    };
    routes.write(Verb::Delete, PROJECT, says, archive);
    let says = Says {
        id: "setProjectTpm",
        summary: "Set a project's own limit of tokens per minute",
        more: "What applies is the lesser of this and the organization's; null removes it. While the organization is below \
               the first tier it has no limit to be the lesser, and no request of it is admitted, whatever is said here.",
    };
    routes.write(Verb::Put, "/v1/organizations/{org}/projects/{project}/tpm", says, set_tpm);
}

request! {
    /// A project to create.
    pub(super) struct NewProject {
        /// What people call it.
        name: DisplayName,
    }
}

request! {
    /// What to change of a project.
    pub(super) struct ProjectChange {
        /// What people will call it.
        name: DisplayName,
    }
}

request! {
    /// A project's own limit.
    pub(super) struct NewTpm {
        /// Tokens in any one minute; null: no limit of its own.
        limit: OrNull<Rate>,
    }
}

answer! {
    /// A project that was archived.
    pub(super) struct ArchivedProject {
        /// Its id.
        id: ProjectId,
        /// Whether it is in use.
        state: ProjectState,
        /// The API keys that were revoked with that.
        revoked_api_keys: Vec<KeyId>,
    }
}

answer! {
    /// A project's limit of tokens in any one minute.
    pub(super) struct Tpm {
        /// As asked for; null: none of its own.
        limit: Option<u64>,
        /// What applies once requests are admitted, which they are not below the first tier; null: unlimited.
        effective: Option<u64>,
        /// Whether the organization's limit is the lesser, and therefore applies.
        clamped: bool,
    }
}

answer! {
    /// A project.
    pub(super) struct Project {
        /// Its id.
        id: ProjectId,
        /// What people call it.
        name: DisplayName,
        /// Whether it is in use.
        state: ProjectState,
        /// Tokens it may use in any one minute; null: as many as its organization, or not for the reader to see.
        tpm_limit: Option<u64>,
        /// What it may spend; null: not for the reader to see.
        budgets: Option<BudgetLimits>,
        /// When it was created.
        created_at: Timestamp,
    }
}

answer! {
    /// What a project may spend; null: as much as its organization.
    pub(super) struct BudgetLimits {
        /// In a day.
        daily: Option<Amount>,
        /// In a month.
        monthly: Option<Amount>,
    }
}

/// Whether a project is in use.
#[derive(Clone, Copy, Debug)]
pub(super) enum ProjectState {
    Active,
    Archived,
}

choices! {
    ProjectState = "ProjectState", "Whether a project is in use." {
        Active = "active",
        Archived = "archived",
    }
}

async fn create(
    Write { path: org, body, author }: Write<OrgId, NewProject>,
) -> Result<Created<Project>, Problem> {
    let project = ProjectId::from_bits(clock::new_id_bits());
    let command = OrganizationCommand::CreateProject { project, name: body.name };
    let done = author.decide(&org, command).await?;
    let project = done.events.iter().find_map(|event| {
        if let Event::Project(ProjectEvent::Created { project, .. }) = event {
            Some(project.clone())
        } else {
            None
        }
    });
    let project = project.ok_or_else(|| Problem::internal("the entry created no project"))?;
    Ok(Created::new(done, present(&author.node, &org, &project).await?))
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<Project>>, Problem> {
    let actor = at.caller.actor();
    let read = at.organization(&org, Action::SeeOrganization, move |known| {
        let page = page.cut(&known.projects, |(id, _)| id.as_str());
        page.map(|(id, project)| shown(id, project, sees_figures(known, &actor, id)))
    });
    Ok(Json(read.await?))
}

async fn show(
    Reading { path: (org, project), at, .. }: Reading<(OrgId, ProjectId)>,
) -> Result<Json<Project>, Problem> {
    let (wanted, actor) = (project.clone(), at.caller.actor());
    let read = at.organization(&org, Action::SeeProject(project.clone()), move |known| {
        let figures = sees_figures(known, &actor, &wanted);
        known.projects.get(&wanted).map(|found| shown(&wanted, found, figures))
    });
    Ok(Json(read.await?.ok_or(Rejection::ProjectUnknown(project))?))
}

async fn rename(
    Write { path: (org, project), body, author }: Write<(OrgId, ProjectId), ProjectChange>,
) -> Result<Changed<Project>, Problem> {
    let command = OrganizationCommand::RenameProject { project: project.clone(), name: body.name };
    let done = author.decide(&org, command).await?;
    Ok(Changed::new(done, present(&author.node, &org, &project).await?))
}

async fn archive(
    Write { path: (org, project), author, .. }: Write<(OrgId, ProjectId), ()>,
) -> Result<Changed<ArchivedProject>, Problem> {
    let done = author.decide(&org, OrganizationCommand::ArchiveProject(project.clone())).await?;
    let revoked_api_keys = revoked(&done);
    Ok(Changed::new(done, ArchivedProject { id: project, state: ProjectState::Archived, revoked_api_keys }))
}

async fn set_tpm(
    Write { path: (org, project), body, author }: Write<(OrgId, ProjectId), NewTpm>,
) -> Result<Changed<Tpm>, Problem> {
    let limit = body.limit.0.map(Rate::get);
    let done = author.decide(&org, OrganizationCommand::SetTpmLimit { project, limit }).await?;
    let now = author.node.clock().now();
    let in_force = read_state(&author.node, &org, move |state, known| {
        RateLimits::of(state.config(), known, now.max(state.head().recorded_at))
    });
    let ProjectTpm { limit, effective, clamped } = RateLimits::project_tpm(limit, in_force.await?.as_ref());
    Ok(Changed::new(done, Tpm { limit, effective, clamped }))
}

/// As it is now, for whoever has just written it.
async fn present(node: &Node, org: &OrgId, project: &ProjectId) -> Result<Project, Problem> {
    let wanted = project.clone();
    let read = read_organization(node, org, move |known| {
        known.projects.get(&wanted).map(|found| shown(&wanted, found, true))
    });
    Ok(read.await?.ok_or_else(|| Rejection::ProjectUnknown(project.clone()))?)
}

/// Whether somebody may see more of a project than that it is there (R3).
fn sees_figures(organization: &Organization, actor: &Actor, project: &ProjectId) -> bool {
    permission::may(organization, actor, &Action::SeeProjectFigures(project.clone())).is_ok()
}

fn shown(id: &ProjectId, project: &Known, figures: bool) -> Project {
    Project {
        id: id.clone(),
        name: project.name.clone(),
        state: if project.is_active() { ProjectState::Active } else { ProjectState::Archived },
        tpm_limit: project.tpm_limit.filter(|_| figures),
        budgets: figures.then(|| {
            let Budgets { daily, monthly, enforcement: _ } = project.watch.budgets;
            BudgetLimits { daily, monthly }
        }),
        created_at: project.created_at,
    }
}
