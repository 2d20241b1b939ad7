//! Service tokens: who calls, and what for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{MemberId, OrgId, TokenId};
use tollbook_schemas::policy::Scope;
use tollbook_schemas::sealed::SecretHash;

use super::Api;
use super::fields::header;
use super::path::About;
use super::problem::Problem;
use super::shape::Text;
use crate::node::Node;
use crate::owner::Tokens;

/// Which tokens work: the admin token of the data directory, and those in the log.
#[derive(Debug)]
pub struct Auth {
    admin: SecretHash,
    admin_rights: Arc<Rights>,
    by_secret: RwLock<BySecret>,
}

/// Tokens by their secret's hash, made anew when the log has other tokens.
#[derive(Debug, Default)]
struct BySecret {
    of: Tokens,
    rights: HashMap<SecretHash, Arc<Rights>>,
}

/// What a token may be used for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    /// The token; `None` is the admin token.
    token: Option<TokenId>,
    scopes: Vec<Scope>,
    organizations: Option<Vec<OrgId>>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    rights: Arc<Rights>,
    /// The member on whose behalf it calls.
    acting: Option<MemberId>,
}

/// Who reads for the platform.
const READERS: &[Scope] = &[Scope::Operator, Scope::Auditor];
/// Who may act for members.
const ACTING: &[Scope] = &[Scope::Operator, Scope::Console];

impl Auth {
    /// Takes the admin token's secret.
    pub fn new(admin: &str) -> Self {
        let every = Rights { token: None, scopes: EVERY_SCOPE.to_vec(), organizations: None };
        Self { admin: hash(admin), admin_rights: Arc::new(every), by_secret: RwLock::default() }
    }

    fn rights(&self, secret: &str, tokens: &Tokens) -> Option<Arc<Rights>> {
        let hash = hash(secret);
        if hash == self.admin {
            return Some(self.admin_rights.clone());
        }
        // Nothing can panic halfway under this lock.
        let known = self.by_secret.read().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&known.of, tokens) {
            return known.rights.get(&hash).cloned();
        }
        drop(known);
        let made = BySecret::of(tokens);
        let found = made.rights.get(&hash).cloned();
        *self.by_secret.write().unwrap_or_else(PoisonError::into_inner) = made;
        found
    }

    /// Whose token a secret is, if it is one's. Errors: 401.
    pub(super) fn caller(&self, node: &Node, secret: &str) -> Result<Caller, Problem> {
        let tokens = node.owners().next().map(|owner| owner.tokens()).unwrap_or_default();
        let rights = self.rights(secret, &tokens);
        let rights = rights.ok_or_else(|| Problem::unauthorized("there is no such token"))?;
        Ok(Caller { rights, acting: None })
    }
}

impl BySecret {
    fn of(tokens: &Tokens) -> Self {
        let rights = tokens.iter().map(|(id, token)| {
            let (scopes, organizations) = (token.scopes.clone(), token.organizations.clone());
            (token.secret, Arc::new(Rights { token: Some(id.clone()), scopes, organizations }))
        });
        Self { of: tokens.clone(), rights: rights.collect() }
    }
}

const EVERY_SCOPE: [Scope; 5] =
    [Scope::Operator, Scope::Console, Scope::Publisher, Scope::Gateway, Scope::Auditor];

/// SHA-256 of a secret with 256 random bits: the hash tells nothing, so comparing it needs no constant time.
pub(super) fn hash(secret: &str) -> SecretHash {
    SecretHash(Sha256::digest(secret).into())
}

impl Caller {
    /// Whether the token has one of the scopes.
    pub(super) fn may(&self, scopes: &[Scope]) -> Result<(), Problem> {
        if self.has(scopes) {
            return Ok(());
        }
        let needed: Vec<_> = scopes.iter().map(Text::text).collect();
        Err(Problem::forbidden(format!("this needs a token of scope {}", needed.join(" or "))))
    }

    fn has(&self, scopes: &[Scope]) -> bool {
        self.rights.scopes.iter().any(|scope| scopes.contains(scope))
    }

    /// Whether the token may touch an organization.
    pub(super) fn may_touch(&self, organization: &OrgId) -> Result<(), Problem> {
        match &self.rights.organizations {
            Some(allowed) if !allowed.contains(organization) => {
                Err(Problem::forbidden(format!("this token is not for {organization}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the token is for the whole ledger: what is not of one organization is not for a token that is limited to
    /// some, or it could make itself another.
    pub(super) fn may_all(&self) -> Result<(), Problem> {
        match self.rights.organizations {
            Some(_) => Err(Problem::forbidden(
                "this token is limited to organizations, and this is about the whole ledger",
            )),
            None => Ok(()),
        }
    }

    /// The organizations that the token is limited to.
    pub(super) fn organizations(&self) -> Option<&[OrgId]> {
        self.rights.organizations.as_deref()
    }

    /// Whether it may write at all, in one organization or to the whole ledger: before anything is said about a
    /// request.
    pub(super) fn may_write(&self, about: About) -> Result<(), Problem> {
        match (about, &self.acting) {
            (About::Organization, Some(_)) => self.may(ACTING),
            (About::Organization, None) => self.as_platform(&[Scope::Operator]),
            (About::Ledger, None) => self.may(&[Scope::Operator]),
            (About::Ledger, Some(_)) => Err(no_member_may()),
            (About::Newcomer, None) => self.may(ACTING),
            (About::Newcomer, Some(_)) => {
                Err(Problem::forbidden(format!("a newcomer is no member yet; leave {ACTOR} out")))
            }
        }
    }

    /// The same for reading.
    pub(super) fn may_read(&self, about: About) -> Result<(), Problem> {
        match (about, &self.acting) {
            (About::Organization, Some(_)) => self.may(ACTING),
            (About::Organization, None) => self.as_platform(READERS),
            (About::Ledger | About::Newcomer, None) => self.may(READERS),
            (About::Ledger | About::Newcomer, Some(_)) => Err(no_member_may()),
        }
    }

    /// Whether it may do without a member: a console may not.
    fn as_platform(&self, scopes: &[Scope]) -> Result<(), Problem> {
        if self.has(&[Scope::Console]) && !self.has(scopes) {
            Err(Problem::actor_missing())
        } else {
            self.may(scopes)
        }
    }

    /// On whose behalf it writes about something.
    pub(super) fn author(&self, about: About) -> Actor {
        match about {
            About::Newcomer => Actor::Invitee { token: self.rights.token.clone() },
            About::Ledger | About::Organization => self.actor(),
        }
    }

    /// On whose behalf it reads.
    pub(super) fn actor(&self) -> Actor {
        let token = self.rights.token.clone();
        match &self.acting {
            Some(member) => Actor::Member { token, member: member.clone() },
            None => Actor::Operator { token },
        }
    }

    /// Whether its token still works: of what goes on for longer than a request.
    pub(super) fn works(&self, node: &Node) -> bool {
        let Some(token) = &self.rights.token else { return true };
        node.owners().next().is_some_and(|owner| owner.tokens().contains_key(token))
    }

    /// What tells its idempotency keys apart from other callers', and from those for other members.
    pub(super) fn scope_name(&self) -> String {
        let token = self.rights.token.as_ref().map_or("admin", TokenId::as_str);
        match &self.acting {
            Some(member) => format!("{token} for {member}"),
            None => token.to_owned(),
        }
    }
}

fn no_member_may() -> Problem {
    Problem::forbidden(format!("this is the platform's; leave {ACTOR} out"))
}

/// Names the member on whose behalf a console acts.
pub(super) const ACTOR: &str = "Tollbook-Actor";

/// Whose member is named by a request, if any is.
fn acting(headers: &HeaderMap) -> Result<Option<MemberId>, Problem> {
    let Some(value) = header(headers, ACTOR)? else { return Ok(None) };
    let text = value.to_str().map_err(|_| "must be the id of a member".to_owned());
    let member = text.and_then(|text| MemberId::parse(text).map_err(|error| error.to_string()));
    member.map(Some).map_err(|reason| Problem::malformed(format!("{ACTOR} {reason}")))
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let authorization =
            header(&parts.headers, AUTHORIZATION.as_str())?.and_then(|value| value.to_str().ok());
        let (scheme, secret) = authorization.and_then(|value| value.split_once(' ')).ok_or_else(|| {
            Problem::unauthorized(
                "send `Authorization: Bearer <token>`; the first start wrote one to admin-token",
            )
        })?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::unauthorized("the scheme must be Bearer"));
        }
        let caller = api.auth.caller(&api.node, secret.trim())?;
        Ok(Self { acting: acting(&parts.headers)?, ..caller })
    }
}
