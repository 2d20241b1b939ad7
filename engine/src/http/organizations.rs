//! Organizations, projects and keys, as far as usage needs them.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};
use tollbook_projections::organization::{Key, Organization, Project};
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::event::{Event, KeyEvent, ProjectEvent};
use tollbook_schemas::id::{DisplayName, KeyId, MemberId, OrgId, ProjectId};
use tollbook_schemas::policy::Scope;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Zone;

use super::auth::{Caller, hash};
use super::extract::{Body, Named, Params};
use super::fields::{Fields, email, parse, text};
use super::problem::Problem;
use super::reads::{Page, organization_id, read_organization, wait_for};
use super::{Api, money};
use crate::clock;
use crate::node::Node;
use crate::owner::Done;

/// Who may manage organizations; members act through consoles once their roles exist.
pub(super) const OPERATOR: &[Scope] = &[Scope::Operator];
/// Who may look at them.
pub(super) const READERS: &[Scope] = &[Scope::Operator, Scope::Auditor];

pub(super) async fn register(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    caller.may_all()?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let name = fields.required("name", |value| parse(value, DisplayName::parse));
    let address = fields.required("email", email);
    let creator = fields.object("creator", |creator| {
        let name = creator.required("name", |value| parse(value, DisplayName::parse));
        let address = creator.required("email", email);
        name.zip(address)
    });
    let zone = fields.optional("time_zone", text::<Zone>).unwrap_or_else(Zone::utc);
    let (name, address, (creator_name, creator_email)) = fields
        .finish(name.zip(address).zip(creator).map(|((name, address), creator)| (name, address, creator)))?;
    let idempotency = money::idempotency(&api.node, &caller, &headers, "POST /v1/organizations", &body)?;
    // With a key the id follows from it, so that a repetition finds the organization, wherever it is.
    let bits = idempotency.map_or_else(clock::new_id_bits, |known| u128::from_be_bytes(known.key));
    let organization = OrgId::from_bits(bits);
    let contacts = api.node.contacts();
    let command = OrganizationCommand::Register {
        name,
        email: contacts.seal(&organization, 0, &address).await?,
        creator: MemberId::from_bits(clock::new_id_bits()),
        creator_name: contacts.seal(&organization, 0, creator_name.as_str()).await?,
        creator_email: contacts.seal(&organization, 0, &creator_email).await?,
        zone,
    };
    let command = Command::Organization(organization.clone(), command);
    let done = api.node.decide(command, caller.operator(), idempotency).await?;
    let body = organization_json(&api.node, &organization).await?;
    Ok(created(&done, body))
}

pub(super) async fn show(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    Params(query): Params,
) -> Result<Response, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    wait_for(&api.node, &query).await?;
    let body = organization_json(&api.node, &organization).await?;
    Ok(axum::response::IntoResponse::into_response(axum::Json(body)))
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    wait_for(&api.node, &query).await?;
    let page = Page::of(&query)?;
    let mut ids: Vec<OrgId> = Vec::new();
    for owner in api.node.owners() {
        let of_partition =
            owner.read(|state| state.organizations().map(|one| one.id.clone()).collect::<Vec<_>>());
        ids.extend(of_partition.await?);
    }
    ids.sort_unstable();
    ids.retain(|id| caller.organizations().is_none_or(|allowed| allowed.contains(id)));
    let (ids, next_page) = page.cut(ids, OrgId::as_str);
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        items.push(organization_json(&api.node, &id).await?);
    }
    Ok(axum::Json(json!({ "items": items, "next_page": next_page })))
}

/// The shape `organization` of INTERFACES.
async fn organization_json(node: &Node, id: &OrgId) -> Result<Value, Problem> {
    let partition = node.partition_of(id);
    let known = read_organization(node, id, Organization::clone).await?;
    let contacts = node.contacts();
    let creator = known.members.get(&known.creator);
    let email = contacts.open_field(id, &known.email).await?;
    let (creator_name, creator_email) = match creator {
        Some(member) => {
            (contacts.open_field(id, &member.name).await?, contacts.open_field(id, &member.email).await?)
        }
        None => (None, None),
    };
    let position = LogPosition { partition, position: known.created_in };
    Ok(json!({
        "id": id.as_str(),
        "name": known.name.as_str(),
        "email": email,
        "time_zone": known.calendar.zone_at(node.clock().now()).name(),
        "verification": known.verification,
        "creator": { "id": known.creator.as_str(), "name": creator_name, "email": creator_email },
        "created_at": known.created_at.to_string(),
        "position": position.to_string(),
    }))
}

pub(super) async fn create_project(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    let organization = organization_id(&caller, &org)?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let name = fields.required("name", |value| parse(value, DisplayName::parse));
    let name = fields.finish(name)?;
    let what = format!("POST /v1/organizations/{organization}/projects");
    let idempotency = money::idempotency(&api.node, &caller, &headers, &what, &body)?;
    let project = ProjectId::from_bits(clock::new_id_bits());
    let command = OrganizationCommand::CreateProject { project, name };
    let command = Command::Organization(organization.clone(), command);
    let done = money::with_events(&api.node, api.node.decide(command, caller.operator(), idempotency).await?)
        .await?;
    let project = done.events.iter().find_map(|event| {
        if let Event::Project(ProjectEvent::Created { project, .. }) = event {
            Some(project.clone())
        } else {
            None
        }
    });
    let project = project.ok_or_else(|| Problem::internal("the entry created no project"))?;
    let body = read_organization(&api.node, &organization, {
        let project = project.clone();
        move |known| known.projects.get(&project).map(|found| project_json(&project, found))
    });
    let body = body.await?.ok_or(Rejection::ProjectUnknown(project))?;
    Ok(created(&done, body))
}

pub(super) async fn projects(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    wait_for(&api.node, &query).await?;
    let page = Page::of(&query)?;
    let all = read_organization(&api.node, &organization, |known| {
        known
            .projects
            .iter()
            .map(|(id, project)| (id.to_string(), project_json(id, project)))
            .collect::<Vec<_>>()
    });
    Ok(axum::Json(page.list(all.await?)))
}

/// The shape `project` of INTERFACES.
fn project_json(id: &ProjectId, project: &Project) -> Value {
    json!({
        "id": id.as_str(),
        "name": project.name.as_str(),
        "state": "active",
        "tpm_limit": null,
        "budgets": { "daily": null, "monthly": null },
        "created_at": project.created_at.to_string(),
    })
}

/// Characters of a key's secret: what a shell, a URL and an eye take alike.
const SECRET_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 48 characters of 62 are more than 256 bits.
const SECRET_CHARACTERS: usize = 48;

/// A new secret, beginning with `prefix`.
pub fn new_secret(prefix: &str) -> String {
    let mut secret = String::from(prefix);
    while secret.len() < prefix.len().saturating_add(SECRET_CHARACTERS) {
        let bytes: [u8; 64] = clock::random_bytes();
        // Bytes of 248 and above would make the first characters likelier than the others.
        let characters = bytes.iter().filter(|byte| **byte < 248).filter_map(|byte| {
            SECRET_ALPHABET
                .get(usize::from(*byte).checked_rem(SECRET_ALPHABET.len())?)
                .map(|c| char::from(*c))
        });
        let missing = prefix.len().saturating_add(SECRET_CHARACTERS).saturating_sub(secret.len());
        secret.extend(characters.take(missing));
    }
    secret
}

/// What still shows of a secret (R3.6).
fn hint(secret: &str) -> String {
    let tail: Vec<char> = secret.chars().rev().take(4).collect();
    tail.into_iter().rev().collect()
}

pub(super) async fn issue_key(
    State(api): State<Api>,
    caller: Caller,
    Named((org, project)): Named<(String, String)>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    caller.may(OPERATOR)?;
    let organization = organization_id(&caller, &org)?;
    let project = ProjectId::parse(&project).map_err(|_| Problem::not_found("there is no such project"))?;
    let mut fields = Fields::of_body(&headers, &body)?;
    let name = fields.required("name", |value| parse(value, DisplayName::parse));
    let member = fields.optional("member", |value| parse(value, MemberId::parse));
    let name = fields.finish(name)?;
    let what = format!("POST /v1/organizations/{organization}/projects/{project}/api-keys");
    let idempotency = money::idempotency(&api.node, &caller, &headers, &what, &body)?;
    let secret = new_secret("sk-");
    let command = OrganizationCommand::IssueKey {
        key: KeyId::from_bits(clock::new_id_bits()),
        project,
        member,
        name,
        secret: hash(&secret),
        hint: hint(&secret),
    };
    let command = Command::Organization(organization.clone(), command);
    let done = money::with_events(&api.node, api.node.decide(command, caller.operator(), idempotency).await?)
        .await?;
    let key = done.events.iter().find_map(|event| {
        if let Event::Key(KeyEvent::Issued { key, .. }) = event { Some(key.clone()) } else { None }
    });
    let key = key.ok_or_else(|| Problem::internal("the entry issued no key"))?;
    let body = read_organization(&api.node, &organization, {
        let key = key.clone();
        move |known| known.keys.get(&key).map(|found| key_json(&key, found))
    });
    let mut body = body.await?.ok_or(Rejection::KeyUnknown(key))?;
    if let Some(members) = body.as_object_mut()
        && !done.before
    {
        members.insert("secret".into(), secret.into());
    }
    Ok(created(&done, body))
}

pub(super) async fn keys(
    State(api): State<Api>,
    caller: Caller,
    Named((org, project)): Named<(String, String)>,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    let project = ProjectId::parse(&project).map_err(|_| Problem::not_found("there is no such project"))?;
    wait_for(&api.node, &query).await?;
    let page = Page::of(&query)?;
    let wanted = project.clone();
    let all = read_organization(&api.node, &organization, move |known| {
        known.projects.contains_key(&wanted).then(|| {
            let of_project = known.keys.iter().filter(|(_, key)| key.project == wanted);
            of_project.map(|(id, key)| (id.to_string(), key_json(id, key))).collect::<Vec<_>>()
        })
    });
    let all = all.await?.ok_or(Rejection::ProjectUnknown(project))?;
    Ok(axum::Json(page.list(all)))
}

/// The shape `api key` of INTERFACES.
fn key_json(id: &KeyId, key: &Key) -> Value {
    json!({
        "id": id.as_str(),
        "name": key.name.as_str(),
        "project": key.project.as_str(),
        "member": key.member.as_str(),
        "hint": format!("sk-…{}", key.hint),
        "state": "active",
        "created_at": key.created_at.to_string(),
    })
}

/// The answer to a creation: 201, with the position of the entry, and a header where it is a repetition.
pub(super) fn created(done: &Done, body: Value) -> Response {
    answered(StatusCode::CREATED, done, body)
}

/// The answer to a write.
pub(super) fn answered(status: StatusCode, done: &Done, mut body: Value) -> Response {
    if let Some(members) = body.as_object_mut()
        && done.position.position > Position::ZERO
    {
        members.insert("position".into(), done.position.to_string().into());
    }
    let mut response = axum::response::IntoResponse::into_response((status, axum::Json(body)));
    if done.before {
        response.headers_mut().insert("idempotent-replayed", axum::http::HeaderValue::from_static("true"));
    }
    response
}
