//! Service tokens: who calls, and what for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{OrgId, TokenId};
use tollbook_schemas::policy::Scope;
use tollbook_schemas::sealed::SecretHash;

use super::Api;
use super::problem::Problem;
use crate::owner::Tokens;

/// Which tokens work: the admin token of the data directory, and those in the log.
#[derive(Debug)]
pub struct Auth {
    admin: SecretHash,
    by_secret: Mutex<BySecret>,
}

/// Tokens by their secret's hash, made anew when the log has other tokens.
#[derive(Debug, Default)]
struct BySecret {
    of: Tokens,
    callers: HashMap<SecretHash, Arc<Caller>>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The token; `None` is the admin token.
    token: Option<TokenId>,
    scopes: Vec<Scope>,
    organizations: Option<Vec<OrgId>>,
}

impl Auth {
    /// Takes the admin token's secret.
    pub fn new(admin: &str) -> Self {
        Self { admin: hash(admin), by_secret: Mutex::default() }
    }

    fn caller(&self, secret: &str, tokens: &Tokens) -> Option<Arc<Caller>> {
        let hash = hash(secret);
        if hash == self.admin {
            return Some(Arc::new(Caller { token: None, scopes: EVERY_SCOPE.to_vec(), organizations: None }));
        }
        // Nothing can panic halfway under this lock.
        let mut known = self.by_secret.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&known.of, tokens) {
            let callers = tokens.iter().map(|(id, token)| {
                let caller = Caller {
                    token: Some(id.clone()),
                    scopes: token.scopes.clone(),
                    organizations: token.organizations.clone(),
                };
                (token.secret, Arc::new(caller))
            });
            *known = BySecret { of: tokens.clone(), callers: callers.collect() };
        }
        known.callers.get(&hash).cloned()
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
        if self.scopes.iter().any(|scope| scopes.contains(scope)) {
            return Ok(());
        }
        let needed: Vec<_> = scopes.iter().map(|scope| format!("{scope:?}").to_lowercase()).collect();
        Err(Problem::forbidden(format!("this needs a token of scope {}", needed.join(" or "))))
    }

    /// Whether the token may touch an organization.
    pub(super) fn may_touch(&self, organization: &OrgId) -> Result<(), Problem> {
        match &self.organizations {
            Some(allowed) if !allowed.contains(organization) => {
                Err(Problem::forbidden(format!("this token is not for {organization}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the token is for the whole ledger: what is not of one organization is not for a token that is limited to
    /// some, or it could make itself another.
    pub(super) fn may_all(&self) -> Result<(), Problem> {
        match self.organizations {
            Some(_) => Err(Problem::forbidden(
                "this token is limited to organizations, and this is about the whole ledger",
            )),
            None => Ok(()),
        }
    }

    /// The organizations that the token is limited to.
    pub(super) fn organizations(&self) -> Option<&[OrgId]> {
        self.organizations.as_deref()
    }

    /// On whose behalf it acts.
    pub(super) fn operator(&self) -> Actor {
        Actor::Operator { token: self.token.clone() }
    }

    /// What tells its idempotency keys apart from other callers'.
    pub(super) fn scope_name(&self) -> &str {
        self.token.as_ref().map_or("admin", TokenId::as_str)
    }
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, secret) = header.and_then(|value| value.split_once(' ')).ok_or_else(|| {
            Problem::unauthorized(
                "send `Authorization: Bearer <token>`; the first start wrote one to admin-token",
            )
        })?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::unauthorized("the scheme must be Bearer"));
        }
        let tokens = api.node.owners().next().map(|owner| owner.tokens()).unwrap_or_default();
        let caller = api.auth.caller(secret.trim(), &tokens);
        caller.map(|caller| (*caller).clone()).ok_or_else(|| Problem::unauthorized("there is no such token"))
    }
}
