//! Service tokens and their scopes.

use serde_json::Value;
use tollbook_projections::config::Token as Known;
use tollbook_schemas::command::ConfigCommand;
use tollbook_schemas::event::{ConfigEvent, Event};
use tollbook_schemas::id::{DisplayName, OrgId, TokenId};
use tollbook_schemas::policy::Scope;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::{Json, List};
use super::auth::hash;
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::problem::{Fault, Problem};
use super::reading::{Page, Reading};
use super::secret::new_secret;
use super::shape::{Described, FromJson, IfAny, Parts, Shape, answer, request};
use super::write::{Changed, Created, Write};
use crate::clock;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Tokens", "What programs call this API with.");
    let says = Says {
        id: "issueToken",
        summary: "Issue a service token",
        more: "The secret is in this answer and never again, not even in that to a repetition.",
    };
    routes.write(Verb::Post, "/v1/tokens", says, issue);
    let says = Says { id: "listTokens", summary: "List service tokens that work", more: "" };
    routes.read("/v1/tokens", says, list);
    let says = Says { id: "revokeToken", summary: "Revoke a service token", more: "It ends at once." };
    routes.write(Verb::Delete, "/v1/tokens/{token}", says, revoke);
}

request! {
    /// A service token to issue.
    pub(super) struct NewToken {
        /// What people call it.
        name: DisplayName,
        /// What it may be used for.
        scopes: Scopes,
        /// The organizations that it is limited to; all unless said otherwise.
        organizations: Option<Vec<OrgId>>,
    }
}

/// At least one scope, each once, in order.
#[derive(Debug)]
pub(super) struct Scopes(Vec<Scope>);

impl Shape for Scopes {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(Scope::describe(parts)).min_items(Some(1)).into()
    }
}

impl FromJson for Scopes {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut scopes = Vec::<Scope>::read(path, value, faults)?;
        if scopes.is_empty() {
            faults.push(Fault::at(path, None, "must not be empty"));
        }
        scopes.sort_unstable();
        scopes.dedup();
        Some(Self(scopes))
    }
}

answer! {
    /// A service token that was issued.
    pub(super) struct IssuedToken {
        /// Its id.
        id: TokenId,
        /// What people call it.
        name: DisplayName,
        /// What it may be used for.
        scopes: Vec<Scope>,
        /// The organizations that it is limited to; null: all.
        organizations: Option<Vec<OrgId>>,
        /// What programs send. Only in the first answer to its creation.
        secret: IfAny<String>,
    }
}

answer! {
    /// A service token.
    pub(super) struct Token {
        /// Its id.
        id: TokenId,
        /// What people call it.
        name: DisplayName,
        /// What it may be used for.
        scopes: Vec<Scope>,
        /// The organizations that it is limited to; null: all.
        organizations: Option<Vec<OrgId>>,
        /// When it was issued.
        created_at: Timestamp,
    }
}

answer! {
    /// A service token that works no longer.
    pub(super) struct RevokedToken {
        /// Its id.
        id: TokenId,
        /// What became of it.
        state: TokenState,
    }
}

/// What became of a token.
#[derive(Clone, Copy, Debug)]
pub(super) enum TokenState {
    Revoked,
}

choices! {
    TokenState = "TokenState", "What became of a service token." {
        Revoked = "revoked",
    }
}

async fn issue(Write { body, author, .. }: Write<(), NewToken>) -> Result<Created<IssuedToken>, Problem> {
    let secret = new_secret("tb-");
    let command = ConfigCommand::IssueToken {
        token: TokenId::from_bits(clock::new_id_bits()),
        name: body.name,
        scopes: body.scopes.0,
        organizations: body.organizations,
        secret: hash(&secret),
    };
    let done = author.configure(command).await?;
    let secret = IfAny(Some(secret).filter(|_| !done.before));
    let issued = done.events.iter().find_map(|event| {
        let Event::Config(ConfigEvent::TokenIssued { token, name, scopes, organizations, .. }) = event else {
            return None;
        };
        Some((token.clone(), name.clone(), scopes.clone(), organizations.clone()))
    });
    let (id, name, scopes, organizations) =
        issued.ok_or_else(|| Problem::internal("the entry issued no token"))?;
    Ok(Created::new(done, IssuedToken { id, name, scopes, organizations, secret }))
}

async fn list(Reading { query: page, at, .. }: Reading<(), Page>) -> Result<Json<List<Token>>, Problem> {
    at.caller.may_all()?;
    let all = at.node.owner(PartitionId(0))?.tokens();
    Ok(Json(page.cut(all.iter(), |(id, _)| id.as_str()).map(|(id, token)| shown(id, token))))
}

fn shown(id: &TokenId, token: &Known) -> Token {
    Token {
        id: id.clone(),
        name: token.name.clone(),
        scopes: token.scopes.clone(),
        organizations: token.organizations.clone(),
        created_at: token.issued_at,
    }
}

async fn revoke(
    Write { path: token, author, .. }: Write<TokenId, ()>,
) -> Result<Changed<RevokedToken>, Problem> {
    let done = author.configure(ConfigCommand::RevokeToken(token.clone())).await?;
    Ok(Changed::new(done, RevokedToken { id: token, state: TokenState::Revoked }))
}
