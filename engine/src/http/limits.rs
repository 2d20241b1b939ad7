//! Limits of organizations: how much they may have, and how fast they may go (R1.2, R5).

use tollbook_projections::limits::RateLimits;
use tollbook_projections::organization::Organization;
use tollbook_projections::state::State;
use tollbook_schemas::command::{ConfigCommand, OrganizationCommand};
use tollbook_schemas::id::{DisplayName, OrgId, ProjectId};
use tollbook_schemas::policy::{
    Change, QuantityLimit as Quantity, QuantityLimits as Known, QuantityOverride, RateOverride,
};
use tollbook_schemas::position::PartitionId;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::Problem;
use super::rate_scale::ScaleInForce;
use super::reading::{Reading, read_state};
use super::shape::{answer, request};
use super::values::Rate;
use super::write::{Changed, Write};
use crate::node::Node;
use crate::permission::Action;

const QUANTITY_LIMITS: &str = "/v1/config/quantity-limits";

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Limits", "How much an organization may have, and how fast it may go.");
    let says = Says {
        id: "getLimits",
        summary: "See the limits in force for an organization",
        more: "By its tier and verification level, unless the operator overrode them. Below the first tier no request is \
               admitted, and `limits` is null.",
    };
    routes.read("/v1/organizations/{org}/limits", says, show);
    let says = Says {
        id: "overrideLimits",
        summary: "Override limits of an organization",
        more: "What is left out stays as it is; null ends an override. Lowering deletes nothing; it only refuses what is \
               new.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/limits/override", says, set_overrides);
    let says = Says {
        id: "getQuantityLimits",
        summary: "See how many projects and API keys organizations may have",
        more: "",
    };
    routes.read(QUANTITY_LIMITS, says, quantity_limits);
    let says = Says {
        id: "setQuantityLimits",
        summary: "Set how many projects and API keys organizations may have",
        more: "Lowering deletes nothing; it only refuses what is new.",
    };
    routes.write(Verb::Put, QUANTITY_LIMITS, says, set_quantity_limits);
}

request! {
    /// Limits to override; null ends an override.
    pub(super) struct NewOverrides {
        /// Requests in progress at the same time.
        concurrency: Change<Rate>,
        /// Requests in any one minute.
        rpm: Change<Rate>,
        /// Tokens in any one minute.
        tpm: Change<Rate>,
        /// Tokens in one day.
        tpd: Change<Rate>,
        /// Active projects.
        projects: Change<u32>,
        /// Active API keys of all projects together.
        api_keys: Change<u32>,
    }
}

request! {
    /// How many projects and API keys organizations may have.
    pub(super) struct NewQuantityLimits {
        /// Unverified and verified ones.
        default: NewQuantityLimit,
        /// Those whose enterprise verification is completed.
        enterprise_verified: NewQuantityLimit,
    }
}

request! {
    /// How many projects and API keys an organization may have.
    pub(super) struct NewQuantityLimit {
        /// Active projects.
        projects: u32,
        /// Active API keys of all projects together.
        api_keys: u32,
    }
}

answer! {
    /// Limits in force for an organization.
    pub(super) struct Limits {
        /// Its tier; null below the first.
        tier: Option<DisplayName>,
        /// Rate limits; null below the first tier.
        limits: Option<Rates>,
        /// Whether the rate limits are scaled down at the moment, as the cluster is at capacity.
        scaled: bool,
        /// How they are; null where they are not.
        scale: Option<ScaleInForce>,
        /// What is used of the rate limits now; null on a node that does not decide about the organization.
        used: Option<RatesUsed>,
        /// What it may have and has.
        quantities: Quantities,
        /// What the operator overrode; null: nothing.
        overrides: Overrides,
    }
}

answer! {
    /// Rate limits; null: unlimited.
    pub(super) struct Rates {
        /// Requests in progress at the same time.
        concurrency: Option<u64>,
        /// Requests in any one minute.
        rpm: Option<u64>,
        /// Tokens in any one minute.
        tpm: Option<u64>,
        /// Tokens in one day.
        tpd: Option<u64>,
    }
}

answer! {
    /// What is used of rate limits now.
    pub(super) struct RatesUsed {
        /// Requests in progress.
        concurrency: u64,
        /// Requests of the last minute.
        requests: u64,
        /// Tokens of the last minute: as they were used, and the estimate of what is in progress.
        tokens: u64,
        /// Tokens of today, in the same way.
        tokens_today: u64,
        /// Leases that are open, of requests that are over and whose usage has not come too.
        leases: u64,
        /// By project, where there is anything.
        projects: Vec<ProjectUsed>,
    }
}

answer! {
    /// What a project uses of rate limits now.
    pub(super) struct ProjectUsed {
        /// Which.
        project: ProjectId,
        /// Tokens of the last minute.
        tokens: u64,
    }
}

answer! {
    /// What an organization may have and has.
    pub(super) struct Quantities {
        /// Active projects.
        projects: Count,
        /// Active API keys of all projects together.
        api_keys: Count,
    }
}

answer! {
    /// A limit, and how much of it is used.
    pub(super) struct Count {
        /// At most.
        limit: u32,
        /// Now; more than the limit where that was lowered.
        used: u32,
    }
}

answer! {
    /// Overridden limits; null: not overridden.
    pub(super) struct Overrides {
        /// Requests in progress at the same time.
        concurrency: Option<u64>,
        /// Requests in any one minute.
        rpm: Option<u64>,
        /// Tokens in any one minute.
        tpm: Option<u64>,
        /// Tokens in one day.
        tpd: Option<u64>,
        /// Active projects.
        projects: Option<u32>,
        /// Active API keys of all projects together.
        api_keys: Option<u32>,
    }
}

answer! {
    /// How many projects and API keys organizations may have.
    pub(super) struct QuantityLimits {
        /// Unverified and verified ones.
        default: QuantityLimit,
        /// Those whose enterprise verification is completed.
        enterprise_verified: QuantityLimit,
    }
}

answer! {
    /// How many projects and API keys an organization may have.
    pub(super) struct QuantityLimit {
        /// Active projects.
        projects: u32,
        /// Active API keys of all projects together.
        api_keys: u32,
    }
}

impl RatesUsed {
    fn of(node: &Node, organization: &OrgId) -> Option<Self> {
        let used = node.admissions().in_flight(node.partition_of(organization), organization)?;
        let projects = used.projects.into_iter().filter(|(_, tokens)| *tokens > 0);
        Some(Self {
            concurrency: used.concurrency,
            requests: used.requests,
            tokens: used.tokens,
            tokens_today: used.tokens_today,
            leases: u64::try_from(used.leases).unwrap_or(u64::MAX),
            projects: projects.map(|(project, tokens)| ProjectUsed { project, tokens }).collect(),
        })
    }
}

impl Limits {
    fn of(node: &Node, state: &State, known: &Organization) -> Self {
        let now = node.clock().now();
        let now = now.max(state.head().recorded_at);
        let in_force = RateLimits::of(state.config(), known, now);
        let scaled = in_force.as_ref().is_some_and(|in_force| in_force.scaled);
        let scale = state.config().rate_scale_at(now).filter(|_| scaled);
        let (most, used) = (known.quantity_limit(state.config()), known.quantities_used());
        let (rates, quantities) = (known.rates, known.quantities);
        Self {
            tier: in_force.as_ref().map(|in_force| in_force.tier.clone()),
            limits: in_force.as_ref().map(|RateLimits { limits, .. }| Rates {
                concurrency: limits.concurrency,
                rpm: limits.rpm,
                tpm: limits.tpm,
                tpd: limits.tpd,
            }),
            scaled,
            scale: scale.map(ScaleInForce::of),
            used: RatesUsed::of(node, &known.id),
            quantities: Quantities {
                projects: Count { limit: most.projects, used: used.projects },
                api_keys: Count { limit: most.api_keys, used: used.api_keys },
            },
            overrides: Overrides {
                concurrency: rates.concurrency,
                rpm: rates.rpm,
                tpm: rates.tpm,
                tpd: rates.tpd,
                projects: quantities.projects,
                api_keys: quantities.api_keys,
            },
        }
    }
}

async fn show(Reading { path: org, at, .. }: Reading<OrgId>) -> Result<Json<Limits>, Problem> {
    let node = at.node.clone();
    let read =
        at.state(&org, Action::SeeOrganizationFigures, move |state, known| Limits::of(&node, state, known));
    Ok(Json(read.await?))
}

async fn set_overrides(
    Write { path: org, body, author }: Write<OrgId, NewOverrides>,
) -> Result<Changed<Limits>, Problem> {
    let command = OrganizationCommand::OverrideLimits {
        quantities: QuantityOverride { projects: body.projects, api_keys: body.api_keys },
        rates: RateOverride {
            concurrency: body.concurrency.map(Rate::get),
            rpm: body.rpm.map(Rate::get),
            tpm: body.tpm.map(Rate::get),
            tpd: body.tpd.map(Rate::get),
        },
    };
    let done = author.decide(&org, command).await?;
    let node = author.node.clone();
    let shown = read_state(&author.node, &org, move |state, known| Limits::of(&node, state, known));
    Ok(Changed::new(done, shown.await?))
}

async fn quantity_limits(Reading { at, .. }: Reading<()>) -> Result<Json<QuantityLimits>, Problem> {
    Ok(Json(present(&at.node).await?))
}

async fn set_quantity_limits(
    Write { body, author, .. }: Write<(), NewQuantityLimits>,
) -> Result<Changed<QuantityLimits>, Problem> {
    let limit = |new: NewQuantityLimit| Quantity { projects: new.projects, api_keys: new.api_keys };
    let limits = Known { default: limit(body.default), enterprise_verified: limit(body.enterprise_verified) };
    let done = author.configure(ConfigCommand::SetQuantityLimits(limits)).await?;
    Ok(Changed::new(done, present(&author.node).await?))
}

async fn present(node: &Node) -> Result<QuantityLimits, Problem> {
    let known = node.owner(PartitionId(0))?.read(|state| state.config().quantity_limits).await?;
    let limit = |known: Quantity| QuantityLimit { projects: known.projects, api_keys: known.api_keys };
    Ok(QuantityLimits {
        default: limit(known.default),
        enterprise_verified: limit(known.enterprise_verified),
    })
}
