//! API keys of projects.

use tollbook_projections::organization::Key as Known;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, KeyEvent};
use tollbook_schemas::id::{DisplayName, KeyId, MemberId, OrgId, ProjectId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::answer::{Json, List};
use super::auth::hash;
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::problem::Problem;
use super::reading::{Page, Reading, read_organization};
use super::secret::{hint, new_secret};
use super::shape::{IfAny, answer, request};
use super::write::{Changed, Created, Write};
use crate::clock;
use crate::permission::Action;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("API keys", "What customers send with their requests.");
    let says = Says {
        id: "issueApiKey",
        summary: "Issue an API key",
        more: "The secret is in this answer and never again, not even in that to a repetition.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/projects/{project}/api-keys", says, issue);
    let says = Says { id: "listApiKeys", summary: "List a project's API keys", more: "" };
    routes.read("/v1/organizations/{org}/projects/{project}/api-keys", says, list);
    let says = Says {
        id: "revokeApiKey",
        summary: "Revoke an API key",
        more: "It is refused from the next request on. Members revoke their own; administrators of the project or the \
               organization all.",
    };
    routes.write(Verb::Delete, "/v1/organizations/{org}/projects/{project}/api-keys/{key}", says, revoke);
    let says = Says {
        id: "findApiKey",
        summary: "Find whose an API key is",
        more: "For tools that know a key's id and publish usage for it.",
    };
    routes.read("/v1/api-keys/{key}", says, find);
}

request! {
    /// An API key to issue.
    pub(super) struct NewApiKey {
        /// What people call it.
        name: DisplayName,
        /// Whose it is; without an acting member it is the creator's.
        member: Option<MemberId>,
    }
}

answer! {
    /// An API key.
    pub(super) struct ApiKey {
        /// Its id.
        id: KeyId,
        /// What people call it.
        name: DisplayName,
        /// Its project.
        project: ProjectId,
        /// Whose it is.
        member: MemberId,
        /// How its secret ends.
        hint: String,
        /// Whether it works.
        state: KeyState,
        /// When it was issued.
        created_at: Timestamp,
        /// What customers send. Only in the first answer to its creation.
        secret: IfAny<String>,
    }
}

/// Whether a key works.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyState {
    Active,
    Revoked,
}

choices! {
    KeyState = "ApiKeyState", "Whether an API key works." {
        Active = "active",
        Revoked = "revoked",
    }
}

answer! {
    /// An API key that was revoked.
    pub(super) struct RevokedApiKey {
        /// Its id.
        id: KeyId,
        /// Whether it works.
        state: KeyState,
    }
}

answer! {
    /// Whose an API key is.
    pub(super) struct KeyHolder {
        /// The key.
        id: KeyId,
        /// Its organization.
        organization: OrgId,
        /// Its project.
        project: ProjectId,
    }
}

async fn issue(
    Write { path: (org, project), body, author }: Write<(OrgId, ProjectId), NewApiKey>,
) -> Result<Created<ApiKey>, Problem> {
    let secret = new_secret("sk-");
    let command = OrganizationCommand::IssueKey {
        key: KeyId::from_bits(clock::new_id_bits()),
        project,
        member: body.member,
        name: body.name,
        secret: hash(&secret),
        hint: hint(&secret),
    };
    let done = author.decide(&org, command).await?;
    let key = done.events.iter().find_map(|event| {
        if let Event::Key(KeyEvent::Issued { key, .. }) = event { Some(key.clone()) } else { None }
    });
    let key = key.ok_or_else(|| Problem::internal("the entry issued no key"))?;
    let read = read_organization(&author.node, &org, {
        let key = key.clone();
        move |known| known.keys.get(&key).map(|found| shown(&key, found))
    });
    let mut shown = read.await?.ok_or(Rejection::KeyUnknown(key))?;
    shown.secret = IfAny(Some(secret).filter(|_| !done.before));
    Ok(Created::new(done, shown))
}

async fn list(
    Reading { path: (org, project), query: page, at }: Reading<(OrgId, ProjectId), Page>,
) -> Result<Json<List<ApiKey>>, Problem> {
    let wanted = project.clone();
    let read = at.organization(&org, Action::SeeProjectFigures(project.clone()), move |known| {
        known.projects.contains_key(&wanted).then(|| {
            let of_project = known.keys.iter().filter(|(_, key)| key.project == wanted);
            page.cut(of_project, |(id, _)| id.as_str()).map(|(id, key)| shown(id, key))
        })
    });
    Ok(Json(read.await?.ok_or(Rejection::ProjectUnknown(project))?))
}

fn shown(id: &KeyId, key: &Known) -> ApiKey {
    ApiKey {
        id: id.clone(),
        name: key.name.clone(),
        project: key.project.clone(),
        member: key.member.clone(),
        hint: format!("sk-…{}", key.hint),
        state: if key.is_active() { KeyState::Active } else { KeyState::Revoked },
        created_at: key.created_at,
        secret: IfAny(None),
    }
}

async fn revoke(
    Write { path: (org, project, key), author, .. }: Write<(OrgId, ProjectId, KeyId), ()>,
) -> Result<Changed<RevokedApiKey>, Problem> {
    let command = OrganizationCommand::RevokeKey { project, key: key.clone() };
    let done = author.decide(&org, command).await?;
    Ok(Changed::new(done, RevokedApiKey { id: key, state: KeyState::Revoked }))
}

async fn find(Reading { path: key, at, .. }: Reading<KeyId>) -> Result<Json<KeyHolder>, Problem> {
    for owner in at.node.owners() {
        let wanted = key.clone();
        let found = owner.read(move |state| {
            let holder = state.organizations().find(|known| known.keys.contains_key(&wanted))?;
            let project = holder.keys.get(&wanted)?.project.clone();
            Some(KeyHolder { id: wanted, organization: holder.id.clone(), project })
        });
        if let Some(holder) = found.await? {
            at.caller.may_touch(&holder.organization)?;
            return Ok(Json(holder));
        }
    }
    Err(Problem::not_found("there is no such key"))
}
