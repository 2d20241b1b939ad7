//! What is in force when: prices, policies, tokens of the whole ledger.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tollbook_schemas::event::ConfigEvent;
use tollbook_schemas::id::{DisplayName, LedgerId, ModelName, OrgId, TokenId};
use tollbook_schemas::policy::{
    Defaults, LagModel, QuantityLimits, RateScale, Scope, TierTable, VoucherPolicy,
};
use tollbook_schemas::position::Position;
use tollbook_schemas::price::{ModelPrice, PriceList};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::Timestamp;

/// Prices of one model, by the instant from which each holds.
pub type PriceHistory = BTreeMap<Timestamp, Published>;

/// A price as it was published, last and before: what was to begin later may be published again until it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    last: Version,
    /// What was published for the same instant before, oldest first.
    superseded: Vec<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    price: ModelPrice,
    /// The entry that published it.
    position: Position,
    /// From when it holds: the instant for which it was published, unless its copy came later.
    since: Timestamp,
}

impl Published {
    /// What was published last.
    pub const fn price(&self) -> &ModelPrice {
        &self.last.price
    }

    /// What held at an instant, by what was published up to now; `None` where nothing did yet.
    fn at(&self, at: Timestamp) -> Option<&ModelPrice> {
        self.latest(|version| version.since <= at)
    }

    /// The same as it was known just before an entry.
    fn known_at(&self, at: Timestamp, position: Position) -> Option<&ModelPrice> {
        self.latest(|version| version.since <= at && version.position < position)
    }

    fn latest(&self, which: impl Fn(&Version) -> bool) -> Option<&ModelPrice> {
        let mut versions = std::iter::once(&self.last).chain(self.superseded.iter().rev());
        versions.find(|version| which(version)).map(|version| &version.price)
    }
}

/// A price book: histories by model. Shared, because every usage entry looks at it while State changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceBook(BTreeMap<ModelName, Arc<PriceHistory>>);

impl PriceBook {
    /// Everything known of one model's prices.
    pub fn history(&self, model: &ModelName) -> Option<&Arc<PriceHistory>> {
        self.0.get(model)
    }

    /// The book's own copy of a model's name, and its prices.
    pub fn listed(&self, model: &ModelName) -> Option<(&ModelName, &Arc<PriceHistory>)> {
        self.0.get_key_value(model)
    }

    /// All models in order.
    pub fn models(&self) -> impl Iterator<Item = (&ModelName, &PriceHistory)> {
        self.0.iter().map(|(model, history)| (model, &**history))
    }

    /// Whether there is no price at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The price of a model in force at an instant.
    pub fn at(&self, model: &ModelName, at: Timestamp) -> Option<&ModelPrice> {
        self.0.get(model).and_then(|history| price_at(history, at))
    }

    /// The price of a model in force at an instant, as it was known when an entry was applied.
    pub fn known_at(&self, model: &ModelName, at: Timestamp, position: Position) -> Option<&ModelPrice> {
        self.0.get(model)?.range(..=at).rev().find_map(|(_, published)| published.known_at(at, position))
    }

    /// Merges a list by model and instant (R4.11).
    pub(crate) fn publish(&mut self, list: &PriceList, position: Position) {
        self.merge(list, position, list.effective_from);
    }

    /// Merges a list that was decided in another partition, by an entry of this one that was recorded at `recorded_at`:
    /// what usage may have been charged here since it was decided is not changed by it (R4.11).
    pub(crate) fn copy(&mut self, list: &PriceList, position: Position, recorded_at: Timestamp) {
        self.merge(list, position, recorded_at);
    }

    /// Nothing that changes a price holds before `earliest`.
    fn merge(&mut self, list: &PriceList, position: Position, earliest: Timestamp) {
        for (model, price) in &list.models {
            let history = Arc::make_mut(self.0.entry(model.clone()).or_default());
            let first = history.is_empty();
            let since = if first { list.effective_from } else { list.effective_from.max(earliest) };
            let version = Version { price: price.clone(), position, since };
            match history.get_mut(&list.effective_from) {
                Some(known) if known.last.price == *price => {}
                Some(known) => {
                    let before = std::mem::replace(&mut known.last, version);
                    known.superseded.push(before);
                }
                None => {
                    history.insert(list.effective_from, Published { last: version, superseded: Vec::new() });
                }
            }
        }
    }

    /// Whether merging `list` would change nothing.
    pub fn contains(&self, list: &PriceList) -> bool {
        list.models.iter().all(|(model, price)| {
            let published = self.0.get(model).and_then(|history| history.get(&list.effective_from));
            published.map(Published::price) == Some(price)
        })
    }
}

/// The price in force at an instant.
pub fn price_at(history: &PriceHistory, at: Timestamp) -> Option<&ModelPrice> {
    // Most usage is newer than the newest price.
    let newest = history.last_key_value().and_then(|(_, newest)| newest.at(at));
    newest.or_else(|| history.range(..=at).rev().find_map(|(_, published)| published.at(at)))
}

/// A service token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What people call it.
    pub name: DisplayName,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// The organizations it is limited to; `None`: all.
    pub organizations: Option<Vec<OrgId>>,
    /// Of its secret.
    pub secret: SecretHash,
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// A durable consumer on the alert stream (R7.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The organizations it is limited to; `None`: all, and the platform's own alerts.
    pub organizations: Option<Vec<OrgId>>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Configuration as one partition knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The ledger's id, currency and number of partitions, once its first entry is there.
    pub ledger: Option<(LedgerId, String, u16)>,
    /// Prices of everybody who has none of their own.
    pub prices: PriceBook,
    /// Tier tables by the instant from which each holds; empty: the default table.
    pub tiers: BTreeMap<Timestamp, TierTable>,
    /// The billing cycle in force.
    pub lag: LagModel,
    /// The voucher policy in force.
    pub voucher_policy: VoucherPolicy,
    /// Quantity limits in force.
    pub quantity_limits: QuantityLimits,
    /// Defaults in force.
    pub defaults: Defaults,
    /// Everybody's limits scaled, if they are; what is over stays until it is set again.
    pub rate_scale: Option<RateScale>,
    /// Service tokens that work.
    pub tokens: BTreeMap<TokenId, Token>,
    /// Durable consumers on the alert stream, by name (R7.3).
    pub subscriptions: BTreeMap<DisplayName, Subscription>,
    /// In partition 0: every configuration event with its position, for the other partitions to copy.
    pub journal: Vec<(Position, ConfigEvent)>,
    /// In the other partitions: the position in partition 0 up to which configuration was copied.
    pub copied_through: Position,
}

impl Config {
    /// The tier table in force at an instant.
    pub fn tiers_at(&self, now: Timestamp) -> TierTable {
        self.tiers.range(..=now).next_back().map(|(_, table)| table.clone()).unwrap_or_default()
    }

    /// How limits are scaled down at an instant; `None` where they are not, or no longer (R5.5).
    pub fn rate_scale_at(&self, now: Timestamp) -> Option<&RateScale> {
        self.rate_scale.as_ref().filter(|scale| now < scale.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> ModelPrice {
        ModelPrice {
            input: text.parse().unwrap(),
            cached_input: text.parse().unwrap(),
            output: text.parse().unwrap(),
            meters: BTreeMap::new(),
            max_output_tokens: None,
        }
    }

    #[test]
    fn r4_11_the_price_in_force_is_the_latest_that_has_begun() {
        let model = ModelName::parse("m").unwrap();
        let list = |from: i64, text: &str| PriceList {
            effective_from: Timestamp::from_seconds(from),
            models: BTreeMap::from([(model.clone(), price(text))]),
        };
        let mut book = PriceBook::default();
        book.publish(&list(100, "2"), Position(1));
        book.publish(&list(50, "1"), Position(2));
        book.publish(&list(200, "4"), Position(3));
        book.publish(&list(200, "3"), Position(7));
        let history = book.history(&model).unwrap();
        let at =
            |seconds: i64, nanos: i64| price_at(history, Timestamp::from_seconds(seconds).plus_nanos(nanos));
        assert_eq!(at(50, -1), None);
        assert_eq!(at(50, 0), Some(&price("1")));
        assert_eq!(at(100, -1), Some(&price("1")));
        assert_eq!(at(199, 0), Some(&price("2")));
        assert_eq!(at(200, 0), Some(&price("3")));
        assert_eq!(price_at(history, Timestamp::MAX), Some(&price("3")));
        let known =
            |at: i64, position| book.known_at(&model, Timestamp::from_seconds(at), Position(position));
        assert_eq!(known(200, 8), Some(&price("3")));
        assert_eq!(known(200, 7), Some(&price("4")), "an entry does not know what it publishes itself");
        assert_eq!(known(200, 3), Some(&price("2")));
        assert_eq!((known(50, 2), known(60, 3)), (None, Some(&price("1"))));
        // Published three times for one instant: each entry between knows what was last before it.
        book.publish(&list(300, "5"), Position(10));
        book.publish(&list(300, "6"), Position(12));
        book.publish(&list(300, "6"), Position(13));
        book.publish(&list(300, "7"), Position(14));
        let known =
            |at: i64, position| book.known_at(&model, Timestamp::from_seconds(at), Position(position));
        let seen: Vec<_> = (10..=15).map(|entry| known(300, entry).unwrap().input.to_string()).collect();
        assert_eq!(seen, ["3", "5", "5", "6", "6", "7"]);
        assert!(book.contains(&list(100, "2")));
        assert!(!book.contains(&list(100, "3")) && !book.contains(&list(101, "2")));
    }

    #[test]
    fn r4_11_a_copied_change_holds_from_its_copy_on() {
        let model = ModelName::parse("m").unwrap();
        let list = |from: i64, text: &str| PriceList {
            effective_from: Timestamp::from_seconds(from),
            models: BTreeMap::from([(model.clone(), price(text))]),
        };
        let mut book = PriceBook::default();
        let mut copies = 0..;
        let mut copy = |from, text: &str, recorded_at| {
            let position = Position(copies.next().unwrap());
            book.copy(&list(from, text), position, Timestamp::from_seconds(recorded_at));
            let history = book.history(&model).unwrap().clone();
            move |at: i64| {
                let at = price_at(&history, Timestamp::from_seconds(at));
                at.map(|price| price.input.to_string()).unwrap_or_default()
            }
        };
        let seen =
            |at: &dyn Fn(i64) -> String, when: &[i64]| when.iter().map(|when| at(*when)).collect::<Vec<_>>();
        // The first price keeps the past: nothing was charged by it.
        let at = copy(100, "1", 150);
        assert_eq!(seen(&at, &[99, 100]), ["", "1"]);
        let at = copy(200, "2", 210);
        assert_eq!(seen(&at, &[209, 210]), ["1", "2"]);
        // Changes that were decided in another order than they begin, and are copied late together.
        let _unseen = copy(400, "4", 450);
        let at = copy(300, "3", 451);
        assert_eq!(seen(&at, &[299, 399, 449, 450, 451]), ["2", "2", "2", "4", "4"]);
        // What was to begin later was published again, and is copied after it began.
        let _unseen = copy(500, "5", 480);
        let at = copy(500, "6", 510);
        assert_eq!(seen(&at, &[499, 500, 509, 510]), ["4", "5", "5", "6"]);
        // What is known already is no change, whenever it is copied.
        let at = copy(200, "2", 600);
        assert_eq!(seen(&at, &[210, 510, 600]), ["2", "6", "6"]);
    }
}
