//! Writing: who asks for what on whose behalf, and what all writes answer with.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Serialize, Serializer};
use tollbook_projections::organization::Organization;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::entry::{Actor, Idempotency};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::sealed::Sealed;
use utoipa::openapi::schema::AllOfBuilder;

use super::Api;
use super::answer::json;
use super::auth::Caller;
use super::body::Body;
use super::fields::{Fields, header};
use super::path::{About, Ids, ids};
use super::problem::Problem;
use super::reading::{no_query, read_organization};
use super::shape;
use super::shape::{Described, Out, Record, Shape, ToJson};
use crate::node::Node;
use crate::owner::{CommandError, Done, Role};
use crate::permission::{self, Action};

/// Makes repetitions of a write recognizable.
pub(super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Longest `Idempotency-Key`.
pub(super) const IDEMPOTENCY_KEY_MAX: usize = 256;
/// Tells that an answer is to a repetition.
pub(super) const REPLAYED: &str = "Idempotent-Replayed";

/// A write: the ids of its path, what its body holds, and its author. Whatever the author's token may not do, is
/// refused before; whether a member may, is decided with the command.
#[derive(Debug)]
pub(super) struct Write<P, T> {
    pub(super) path: P,
    pub(super) body: T,
    pub(super) author: Author,
}

/// On whose behalf a command is decided.
#[derive(Debug)]
pub(super) struct Author {
    pub(super) node: Node,
    /// What links to the platform's console begin with, if it is known where that is.
    pub(super) console_url: Option<Arc<str>>,
    caller: Caller,
    actor: Actor,
    idempotency: Option<Idempotency>,
}

impl<P: Ids, T: Record> FromRequest<Api> for Write<P, T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, api).await?;
        caller.may_write(P::ABOUT)?;
        let path: P = ids(&mut parts).await?;
        match path.organization() {
            Some(organization) => caller.may_touch(organization)?,
            None if P::ABOUT == About::Ledger => caller.may_all()?,
            None => {}
        }
        no_query(&parts)?;
        let Body(bytes) = Body::from_request(Request::from_parts(parts.clone(), body), api).await?;
        let body: T = Fields::body(&parts.headers, &bytes)?;
        let idempotency = idempotency(&api.node, &caller, &parts, &bytes)?;
        let (node, console_url) = (api.node.clone(), api.console_url.clone());
        let actor = caller.author(P::ABOUT);
        let author = Author { node, console_url, caller, actor, idempotency };
        Ok(Self { path, body, author })
    }
}

/// Nothing: an empty body, or `{}`; no parameters.
impl Record for () {
    const ANY: bool = false;

    fn from_fields(_: &mut Fields) -> Option<Self> {
        Some(())
    }

    fn members(_: &mut shape::Parts) -> Vec<shape::Member> {
        Vec::new()
    }
}

impl Shape for () {
    fn describe(_: &mut shape::Parts) -> Described {
        shape::closed("", Vec::new()).into()
    }
}

/// What makes a repetition of this request recognizable, if the caller wants that.
fn idempotency(
    node: &Node,
    caller: &Caller,
    parts: &Parts,
    body: &[u8],
) -> Result<Option<Idempotency>, Problem> {
    let Some(key) = header(&parts.headers, IDEMPOTENCY_KEY)? else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= IDEMPOTENCY_KEY_MAX);
    let key = key.ok_or_else(|| {
        Problem::malformed(format!(
            "{IDEMPOTENCY_KEY} must be 1 to {IDEMPOTENCY_KEY_MAX} printable characters"
        ))
    })?;
    let what = format!("{} {}", parts.method, parts.uri.path());
    Ok(Some(node.contacts().idempotency(&caller.scope_name(), key, &[what.as_bytes(), body])))
}

impl Author {
    /// Has a command about an organization decided. Of a repetition, the events are those of the first time.
    pub(super) async fn decide(
        &self,
        organization: &OrgId,
        command: OrganizationCommand,
    ) -> Result<Done, Problem> {
        self.decide_any(Command::Organization(organization.clone(), command)).await
    }

    /// Has a command about the whole ledger decided.
    pub(super) async fn configure(&self, command: ConfigCommand) -> Result<Done, Problem> {
        let done = self.decide_any(Command::Config(command)).await?;
        // Whoever is answered finds it in force everywhere on this node.
        self.node.wait_copied().await?;
        Ok(done)
    }

    async fn decide_any(&self, command: Command) -> Result<Done, Problem> {
        let done = self.node.decide(command, self.actor.clone(), self.idempotency).await?;
        self.with_events(done).await
    }

    /// Makes an organization's personal data unreadable for ever.
    pub(super) async fn erase_contacts(&self, organization: &OrgId) -> Result<Done, Problem> {
        let done = self.node.erase_contacts(organization, self.actor.clone(), self.idempotency).await?;
        self.with_events(done).await
    }

    async fn with_events(&self, mut done: Done) -> Result<Done, Problem> {
        if done.before {
            done.events = self.node.events_at(done.position).await?;
        }
        Ok(done)
    }

    /// Whether whoever asks may do something in an organization: before it is said what stands in its log.
    pub(super) async fn may(&self, organization: &OrgId, action: Action) -> Result<(), Problem> {
        let actor = self.actor.clone();
        let may = move |known: &Organization| permission::may(known, &actor, &action);
        Ok(read_organization(&self.node, organization, may).await??)
    }

    /// Whether the caller's token may touch an organization that the path does not name.
    pub(super) fn may_touch(&self, organization: &OrgId) -> Result<(), Problem> {
        self.caller.may_touch(organization)
    }

    /// Whether this node would decide about an organization now: before anything is made for one that may never be.
    pub(super) fn may_decide(&self, organization: &OrgId) -> Result<(), Problem> {
        match self.node.owner_of(organization)?.role() {
            Role::Owner => Ok(()),
            Role::Standby | Role::Taking => Err(CommandError::NotOwner.into()),
        }
    }

    /// Encrypts personal data of an organization that is there. Errors: also where somebody else decides, or this node
    /// does not know yet what there is.
    pub(super) async fn seal(&self, organization: &OrgId, text: &str) -> Result<Sealed, Problem> {
        self.may_decide(organization)?;
        let key = read_organization(&self.node, organization, |known| known.contact_key).await?;
        Ok(self.node.contacts().seal(organization, key, text).await?)
    }

    /// Bits for an id that follows from the idempotency key, if there is one, so that a repetition finds what was made.
    pub(super) fn id_bits(&self) -> u128 {
        self.idempotency.map_or_else(crate::clock::new_id_bits, |known| u128::from_be_bytes(known.key))
    }
}

/// The answer to a write: the shape of what was written, with the position of the entry.
#[derive(Debug)]
pub(super) struct Written<T, const STATUS: u16> {
    body: T,
    done: Done,
}

/// The answer to a write that created something.
pub(super) type Created<T> = Written<T, 201>;
/// The answer to any other write.
pub(super) type Changed<T> = Written<T, 200>;

impl<T, const STATUS: u16> Written<T, STATUS> {
    /// What is there now that it is done.
    pub(super) const fn new(done: Done, body: T) -> Self {
        Self { body, done }
    }
}

/// A shape, and then a position, where there is one.
#[derive(Debug)]
pub(super) struct Positioned<T> {
    pub(super) body: T,
    pub(super) position: Option<LogPosition>,
}

impl<T: ToJson> Serialize for Positioned<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(bound = "")]
        struct Flat<'a, T: ToJson> {
            #[serde(flatten)]
            body: Out<'a, T>,
            #[serde(skip_serializing_if = "Option::is_none")]
            position: Option<String>,
        }
        let position = self.position.map(|position| position.to_string());
        Flat { body: Out(&self.body), position }.serialize(to)
    }
}

impl<T: Shape> Shape for Positioned<T> {
    fn describe(parts: &mut shape::Parts) -> Described {
        let position = <LogPosition as Shape>::describe(parts);
        let position = shape::Member::new(
            "position",
            "The entry that says so; of an organization that is read, the last decision about it.",
            false,
            position,
        );
        AllOfBuilder::new().item(T::describe(parts)).item(shape::object("", vec![position])).into()
    }
}

impl<T: ToJson> ToJson for Positioned<T> {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.serialize(to)
    }
}

impl<T: ToJson, const STATUS: u16> IntoResponse for Written<T, STATUS> {
    fn into_response(self) -> Response {
        let position = Some(self.done.position).filter(|at| at.position > Position::ZERO);
        let status = StatusCode::from_u16(STATUS).unwrap_or_default();
        let mut response = (status, json(&Positioned { body: self.body, position })).into_response();
        if self.done.before {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
