//! Projects of an organization.

use tollbook_projections::organization::Project as Known;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::event::{Event, ProjectEvent};
use tollbook_schemas::id::{DisplayName, OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::problem::Problem;
use super::reading::{Page, Reading, read_organization};
use super::shape::{answer, request};
use super::write::{Created, Write};
use crate::clock;
use crate::permission::Action;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Projects", "What an organization's usage and budgets are told apart by.");
    let says = Says { id: "createProject", summary: "Create a project", more: "" };
    routes.write(Verb::Post, "/v1/organizations/{org}/projects", says, create);
    let says = Says { id: "listProjects", summary: "List projects", more: "" };
    routes.read("/v1/organizations/{org}/projects", says, list);
}

request! {
    /// A project to create.
    pub(super) struct NewProject {
        /// What people call it.
        name: DisplayName,
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
        /// Tokens it may use in any one minute; null: as many as its organization.
        tpm_limit: Option<u64>,
        /// What it may spend.
        budgets: BudgetLimits,
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
}

choices! {
    ProjectState = "ProjectState", "Whether a project is in use." {
        Active = "active",
    }
}

async fn create(
    Write { path: org, body, author }: Write<OrgId, NewProject>,
) -> Result<Created<Project>, Problem> {
    let project = ProjectId::from_bits(clock::new_id_bits());
    let command = OrganizationCommand::CreateProject { project, name: body.name };
    let done = author.decide(Command::Organization(org.clone(), command)).await?;
    let project = done.events.iter().find_map(|event| {
        if let Event::Project(ProjectEvent::Created { project, .. }) = event {
            Some(project.clone())
        } else {
            None
        }
    });
    let project = project.ok_or_else(|| Problem::internal("the entry created no project"))?;
    let shown = read_organization(&author.node, &org, {
        let project = project.clone();
        move |known| known.projects.get(&project).map(|found| shown(&project, found))
    });
    Ok(Created::new(done, shown.await?.ok_or(Rejection::ProjectUnknown(project))?))
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<Project>>, Problem> {
    let all = at.organization(&org, Action::SeeOrganization, |known| {
        known.projects.iter().map(|(id, project)| shown(id, project)).collect::<Vec<_>>()
    });
    Ok(Json(page.cut(all.await?, |project| project.id.as_str())))
}

fn shown(id: &ProjectId, project: &Known) -> Project {
    Project {
        id: id.clone(),
        name: project.name.clone(),
        state: ProjectState::Active,
        tpm_limit: None,
        budgets: BudgetLimits { daily: None, monthly: None },
        created_at: project.created_at,
    }
}
