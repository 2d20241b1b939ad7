//! Prices of the whole ledger.

use std::collections::BTreeMap;

use serde_json::Value;
use tollbook_projections::config::{PriceBook, PriceHistory, Published};
use tollbook_schemas::command::ConfigCommand;
use tollbook_schemas::id::{MeterName, ModelName};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::price::{ModelPrice, Price, PriceList};
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ArrayBuilder;

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::problem::{Fault, Problem};
use super::reading::Reading;
use super::shape::{Described, FromJson, Parts, Shape, answer, request};
use super::write::{Changed, Write};
use crate::node::Node;

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
    let list = PriceList {
        effective_from: body.effective_from.unwrap_or_else(|| node.clock().now()),
        models: body.models.0,
    };
    let currency = body.currency.unwrap_or_else(|| node.ledger().currency.clone());
    let done = author.configure(ConfigCommand::PublishPrices { currency, list }).await?;
    Ok(Changed::new(done, published(node).await?))
}

async fn show(Reading { at, .. }: Reading<()>) -> Result<Json<Prices>, Problem> {
    Ok(Json(published(&at.node).await?))
}

async fn published(node: &Node) -> Result<Prices, Problem> {
    let book: PriceBook = node.owner(PartitionId(0))?.read(|state| state.config().prices.clone()).await?;
    let dated = |(model, history): (&ModelName, &PriceHistory)| {
        let model = model.clone();
        history
            .iter()
            .map(move |(from, Published { price, .. })| DatedPrice {
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
    Ok(Prices { currency: node.ledger().currency.clone(), models: book.models().flat_map(dated).collect() })
}
