//! Prices of the whole ledger, and organizations' own.

use std::collections::BTreeMap;

use serde_json::Value;
use tollbook_projections::config::{PriceBook, PriceHistory};
use tollbook_schemas::command::{ConfigCommand, NewPrices as Wanted, OrganizationCommand};
use tollbook_schemas::id::{MeterName, ModelName, OrgId};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::price::{ModelPrice, Price};
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::{Fault, Problem};
use super::reading::{Reading, read_organization};
use super::shape::{Described, FromJson, Parts, Shape, answer, request};
use super::write::{Changed, Write};
use crate::node::Node;
use crate::permission::Action;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Configuration", "What holds for the whole ledger.");
    let says = Says {
        id: "publishPrices",
        summary: "Publish prices",
        more: "Prices merge by model and time: models that are not in the list keep theirs, and nothing published \
               disappears. A model's first price may begin in the past, a change may not.",
    };
    routes.write(Verb::Put, "/v1/config/prices", says, publish);
    let says = Says { id: "getPrices", summary: "See all prices", more: "" };
    routes.read("/v1/config/prices", says, show);
}

const OWN_PRICES: &str = "/v1/organizations/{org}/prices";

/// Of the family that balances begin.
pub(super) fn routes_of_organizations(routes: &mut Routes) {
    let says = Says {
        id: "publishOwnPrices",
        summary: "Publish prices of an organization's own",
        more: "Its own price of a model wins from when it begins; what is not in its list costs what everybody pays, and a \
               model may stand only here. Prices merge by model and time, and nothing published disappears. Where nobody had \
               a price of a model yet, its own first one may begin in the past; a change may not.",
    };
    routes.write(Verb::Put, OWN_PRICES, says, publish_own);
    let says = Says {
        id: "getOwnPrices",
        summary: "See all prices of an organization's own",
        more: "Everybody's prices are not among them.",
    };
    routes.read(OWN_PRICES, says, show_own);
}

request! {
    /// Prices to publish.
    pub(super) struct NewPrices {
        /// The currency they are meant in, which must be the ledger's.
        currency: Option<String>,
        /// When they begin; now unless said otherwise.
        effective_from: Option<Timestamp>,
        /// Each model's.
        models: NewModels,
    }
}

request! {
    /// What a model costs, per million of each kind of unit.
    pub(super) struct NewModelPrice {
        /// The model.
        model: ModelName,
        /// Input tokens that were not cached.
        input: Price,
        /// Input tokens read from a cache.
        cached_input: Price,
        /// Output tokens.
        output: Price,
        /// Further metered units, by name.
        meters: Option<BTreeMap<MeterName, Price>>,
        /// Output tokens that are assumed where a request names no maximum.
        max_output_tokens: Option<u64>,
    }
}

/// Models' prices, each model once.
#[derive(Debug)]
pub(super) struct NewModels(BTreeMap<ModelName, ModelPrice>);

impl Shape for NewModels {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(NewModelPrice::describe(parts)).min_items(Some(1)).unique_items(true).into()
    }
}

impl FromJson for NewModels {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let list = Vec::<NewModelPrice>::read(path, value, faults)?;
        if list.is_empty() {
            faults.push(Fault::at(path, None, "must not be empty"));
        }
        let mut models = BTreeMap::new();
        for (index, new) in list.into_iter().enumerate() {
            let price = ModelPrice {
                input: new.input,
                cached_input: new.cached_input,
                output: new.output,
                meters: new.meters.unwrap_or_default(),
                max_output_tokens: new.max_output_tokens,
            };
            if models.insert(new.model, price).is_some() {
                faults.push(Fault::at(&format!("{path}[{index}].model"), None, "stands twice in this list"));
            }
        }
        Some(Self(models))
    }
}

answer! {
    /// Everything published.
    pub(super) struct Prices {
        /// The ledger's currency.
        currency: String,
        /// Every price of every model.
        models: Vec<DatedPrice>,
    }
}

answer! {
    /// What a model costs from an instant on, per million of each kind of unit.
    pub(super) struct DatedPrice {
        /// The model.
        model: ModelName,
        /// When it begins.
        effective_from: Timestamp,
        /// Input tokens that were not cached.
        input: Price,
        /// Input tokens read from a cache.
        cached_input: Price,
        /// Output tokens.
        output: Price,
        /// Further metered units, by name.
        meters: BTreeMap<MeterName, Price>,
        /// Output tokens that are assumed where a request names no maximum; null: the ledger's default.
        max_output_tokens: Option<u64>,
    }
}

async fn publish(Write { body, author, .. }: Write<(), NewPrices>) -> Result<Changed<Prices>, Problem> {
    let node = &author.node;
    let (currency, list) = body.wanted(node);
    let done = author.configure(ConfigCommand::PublishPrices { currency, list }).await?;
    Ok(Changed::new(done, published(node).await?))
}

async fn show(Reading { at, .. }: Reading<()>) -> Result<Json<Prices>, Problem> {
    Ok(Json(published(&at.node).await?))
}

async fn published(node: &Node) -> Result<Prices, Problem> {
    let book = node.owner(PartitionId(0))?.read(|state| state.config().prices.clone()).await?;
    Ok(Prices::of(node, &book))
}

async fn publish_own(
    Write { path: org, body, author }: Write<OrgId, NewPrices>,
) -> Result<Changed<Prices>, Problem> {
    let node = &author.node;
    let (currency, list) = body.wanted(node);
    let done = author.decide(&org, OrganizationCommand::PublishPrices { currency, list }).await?;
    let book = read_organization(node, &org, |known| known.prices.clone()).await?;
    Ok(Changed::new(done, Prices::of(node, &book)))
}

async fn show_own(Reading { path: org, at, .. }: Reading<OrgId>) -> Result<Json<Prices>, Problem> {
    let read = at.organization(&org, Action::SeeOrganizationFigures, |known| known.prices.clone());
    Ok(Json(Prices::of(&at.node, &read.await?)))
}

impl NewPrices {
    /// Its currency, the ledger's unless it says so, and its prices.
    fn wanted(self, node: &Node) -> (String, Wanted) {
        let currency = self.currency.unwrap_or_else(|| node.ledger().currency.clone());
        (currency, Wanted { effective_from: self.effective_from, models: self.models.0 })
    }
}

impl Prices {
    fn of(node: &Node, book: &PriceBook) -> Self {
        let dated = |(model, history): (&ModelName, &PriceHistory)| {
            let model = model.clone();
            history
                .iter()
                .map(|(from, published)| (from, published.price()))
                .map(move |(from, price)| DatedPrice {
                    model: model.clone(),
                    effective_from: *from,
                    input: price.input,
                    cached_input: price.cached_input,
                    output: price.output,
                    meters: price.meters.clone(),
                    max_output_tokens: price.max_output_tokens,
                })
                .collect::<Vec<_>>()
        };
        Self { currency: node.ledger().currency.clone(), models: book.models().flat_map(dated).collect() }
    }
}
