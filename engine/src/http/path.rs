//! Ids in paths.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use tollbook_schemas::id::{AlertId, InvitationId, InvoiceId, KeyId, MemberId, OrgId, ProjectId, RechargeId, TokenId, WebhookId};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};

use super::problem::Problem;
use super::shape;
use super::shape::Text;

/// What a path is about, which decides who may ask at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The whole ledger, which is the platform's.
    Ledger,
    /// One organization.
    Organization,
    /// Somebody who is no member yet.
    Newcomer,
}

/// An id that paths hold.
pub(super) trait PathId: Text + Send {
    /// Of what.
    const WHAT: &'static str;
    /// What a path that begins with it is about.
    const ABOUT: About = About::Ledger;

    /// The organization, if it is one's.
    fn organization(&self) -> Option<&OrgId> {
        None
    }
}

impl PathId for OrgId {
    const WHAT: &'static str = "organization";
    const ABOUT: About = About::Organization;

    fn organization(&self) -> Option<&OrgId> {
        Some(self)
    }
}

impl PathId for ProjectId {
    const WHAT: &'static str = "project";
}

impl PathId for KeyId {
    const WHAT: &'static str = "key";
}

impl PathId for MemberId {
    const WHAT: &'static str = "member";
}

impl PathId for InvitationId {
    const WHAT: &'static str = "invitation";
}

impl PathId for RechargeId {
    const WHAT: &'static str = "recharge";
}

impl PathId for InvoiceId {
    const WHAT: &'static str = "invoice or credit note";
}

impl PathId for TokenId {
    const WHAT: &'static str = "token";
}

impl PathId for AlertId {
    const WHAT: &'static str = "alert";
}

impl PathId for WebhookId {
    const WHAT: &'static str = "webhook";
}

/// All ids of a path, in its order.
pub(super) trait Ids: Sized + Send {
    /// What the path is about.
    const ABOUT: About = About::Ledger;

    /// Reads them. Errors: 404, as for an id of nothing.
    fn ids(texts: &mut impl Iterator<Item = String>) -> Result<Self, Problem>;

    /// The organization whose path it is.
    fn organization(&self) -> Option<&OrgId> {
        None
    }

    /// The path's parameters, by the names in its template.
    fn parameters<'a>(names: &mut impl Iterator<Item = &'a str>, parts: &mut shape::Parts) -> Vec<Parameter>;
}

impl Ids for () {
    fn ids(_: &mut impl Iterator<Item = String>) -> Result<Self, Problem> {
        Ok(())
    }

    fn parameters<'a>(_: &mut impl Iterator<Item = &'a str>, _: &mut shape::Parts) -> Vec<Parameter> {
        Vec::new()
    }
}

/// A path without ids, for somebody who is no member yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer;

impl Ids for Newcomer {
    const ABOUT: About = About::Newcomer;

    fn ids(_: &mut impl Iterator<Item = String>) -> Result<Self, Problem> {
        Ok(Self)
    }

    fn parameters<'a>(_: &mut impl Iterator<Item = &'a str>, _: &mut shape::Parts) -> Vec<Parameter> {
        Vec::new()
    }
}

impl<T: PathId> Ids for T {
    const ABOUT: About = T::ABOUT;

    fn ids(texts: &mut impl Iterator<Item = String>) -> Result<Self, Problem> {
        let id = texts.next().and_then(|text| <T as Text>::of(&text).ok());
        id.ok_or_else(|| Problem::not_found(format!("there is no such {}", T::WHAT)))
    }

    fn organization(&self) -> Option<&OrgId> {
        PathId::organization(self)
    }

    fn parameters<'a>(names: &mut impl Iterator<Item = &'a str>, parts: &mut shape::Parts) -> Vec<Parameter> {
        let parameter = |name| {
            let schema = parts.named(T::NAME, |_| T::schema().into());
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some(format!("Which {}.", T::WHAT)))
                .schema(Some(schema))
                .build()
        };
        names.next().map(parameter).into_iter().collect()
    }
}

macro_rules! several {
    ($($first:ident, $($more:ident),+;)+) => {$(
        impl<$first: PathId, $($more: PathId),+> Ids for ($first, $($more),+) {
            const ABOUT: About = $first::ABOUT;

            fn ids(texts: &mut impl Iterator<Item = String>) -> Result<Self, Problem> {
                Ok((<$first as Ids>::ids(texts)?, $(<$more as Ids>::ids(texts)?),+))
            }

            fn organization(&self) -> Option<&OrgId> {
                PathId::organization(&self.0)
            }

            fn parameters<'a>(
                names: &mut impl Iterator<Item = &'a str>,
                parts: &mut shape::Parts,
            ) -> Vec<Parameter> {
                let mut parameters = $first::parameters(names, parts);
                $(parameters.extend($more::parameters(names, parts));)+
                parameters
            }
        }
    )+};
}

several! {
    A, B;
    A, B, C;
}

/// Reads the ids of a request's path.
pub(super) async fn ids<P: Ids>(parts: &mut Parts) -> Result<P, Problem> {
    match Path::<Vec<(String, String)>>::from_request_parts(parts, &()).await {
        Ok(Path(named)) => P::ids(&mut named.into_iter().map(|(_, text)| text)),
        Err(rejection) => Err(Problem::malformed(rejection.body_text())),
    }
}
