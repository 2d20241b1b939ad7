//! Tier tables of the whole ledger (R5).

use std::collections::BTreeSet;

use serde_json::Value;
use tollbook_projections::config::Config;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::ConfigCommand;
use tollbook_schemas::id::DisplayName;
use tollbook_schemas::policy;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::kinds::NotNegative;
use super::problem::{Fault, Problem};
use super::reading::Reading;
use super::shape::{Described, FromJson, OrNull, Parts, Shape, answer, request};
use super::values::Rate;
use super::write::{Changed, Write};
use crate::node::Node;

const TIERS: &str = "/v1/config/tiers";

/// Of the family that prices begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "publishTiers",
        summary: "Publish a tier table",
        more: "Tiers rise strictly by cumulative recharge. A table holds from an instant on, which may not be past, until \
               the next one begins; nothing published disappears.",
    };
    routes.write(Verb::Put, TIERS, says, publish);
    let says = Says { id: "getTiers", summary: "See the tier table in force, and all others", more: "" };
    routes.read(TIERS, says, show);
}

request! {
    /// A tier table to publish.
    pub(super) struct NewTierTable {
        /// When it begins; now unless said otherwise.
        effective_from: Option<Timestamp>,
        /// Its rows, the lowest first.
        tiers: NewTiers,
    }
}

request! {
    /// A row of a tier table; null is unlimited.
    pub(super) struct NewTier {
        /// What it is called.
        name: DisplayName,
        /// From which cumulative recharge on it holds; more than that of the row before, the first more than 0.
        cumulative_recharge: NotNegative,
        /// Requests in progress at the same time.
        concurrency: OrNull<Rate>,
        /// Requests in any one minute.
        rpm: OrNull<Rate>,
        /// Tokens in any one minute.
        tpm: OrNull<Rate>,
        /// Tokens in one day.
        tpd: OrNull<Rate>,
    }
}

/// Rows of a tier table, each name once.
#[derive(Debug)]
pub(super) struct NewTiers(Vec<policy::Tier>);

impl Shape for NewTiers {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(NewTier::describe(parts)).min_items(Some(1)).unique_items(true).into()
    }
}

impl FromJson for NewTiers {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let list = Vec::<NewTier>::read(path, value, faults)?;
        if list.is_empty() {
            faults.push(Fault::at(path, None, "must not be empty"));
        }
        let mut names = BTreeSet::new();
        for (index, tier) in list.iter().enumerate() {
            if !names.insert(tier.name.clone()) {
                faults.push(Fault::at(&format!("{path}[{index}].name"), None, "stands twice in this list"));
            }
        }
        let tiers = list.into_iter().map(|new| policy::Tier {
            name: new.name,
            cumulative_recharge: new.cumulative_recharge.0,
            concurrency: new.concurrency.0.map(Rate::get),
            rpm: new.rpm.0.map(Rate::get),
            tpm: new.tpm.0.map(Rate::get),
            tpd: new.tpd.0.map(Rate::get),
        });
        Some(Self(tiers.collect()))
    }
}

answer! {
    /// The tier table in force, and all others.
    pub(super) struct Tiers {
        /// When the one in force began.
        effective_from: Timestamp,
        /// Its rows, the lowest first.
        tiers: Vec<Tier>,
        /// Every table that was published, by when it begins.
        published: Vec<TierTable>,
    }
}

answer! {
    /// A tier table.
    pub(super) struct TierTable {
        /// When it begins.
        effective_from: Timestamp,
        /// Its rows, the lowest first.
        tiers: Vec<Tier>,
    }
}

answer! {
    /// A row of a tier table; null is unlimited.
    pub(super) struct Tier {
        /// What it is called.
        name: DisplayName,
        /// From which cumulative recharge on it holds.
        cumulative_recharge: Amount,
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

impl TierTable {
    fn of(table: &policy::TierTable) -> Self {
        let tiers = table.tiers.iter().map(|tier| Tier {
            name: tier.name.clone(),
            cumulative_recharge: tier.cumulative_recharge,
            concurrency: tier.concurrency,
            rpm: tier.rpm,
            tpm: tier.tpm,
            tpd: tier.tpd,
        });
        Self { effective_from: table.effective_from, tiers: tiers.collect() }
    }
}

async fn publish(Write { body, author, .. }: Write<(), NewTierTable>) -> Result<Changed<Tiers>, Problem> {
    let command = ConfigCommand::PublishTiers { effective_from: body.effective_from, tiers: body.tiers.0 };
    let done = author.configure(command).await?;
    Ok(Changed::new(done, published(&author.node).await?))
}

async fn show(Reading { at, .. }: Reading<()>) -> Result<Json<Tiers>, Problem> {
    Ok(Json(published(&at.node).await?))
}

async fn published(node: &Node) -> Result<Tiers, Problem> {
    let now = node.clock().now();
    let read = move |config: &Config, now| {
        let TierTable { effective_from, tiers } = TierTable::of(&config.tiers_at(now));
        Tiers { effective_from, tiers, published: config.tiers.values().map(TierTable::of).collect() }
    };
    let owner = node.owner(PartitionId(0))?;
    Ok(owner.read(move |state| read(state.config(), now.max(state.head().recorded_at))).await?)
}
