//! Prices, tiers, policies, the billing cycle, tokens.

use tollbook_projections::config::{Config, PriceBook, Published};
use tollbook_projections::state::State;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{NewPrices, NewRateScale};
use tollbook_schemas::event::{ConfigEvent, Event, OrganizationEvent};
use tollbook_schemas::id::{DisplayName, ModelName, TokenId};
use tollbook_schemas::policy::{
    Defaults, Factor, LagModel, QuantityLimits, RateScale, Tier, TierTable, VoucherPolicy,
};
use tollbook_schemas::price::PriceList;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::money::within;
use super::{Case, Decided, Refusable};

/// A model's first price may begin in the past; a change may not begin before it is recorded (R4.11).
pub(super) fn publish_prices(state: &State, currency: &str, new: &NewPrices, now: Timestamp) -> Refusable {
    let book = &state.config().prices;
    in_currency(state.config(), currency)?;
    // The fold clamps recorded times, so a change must not begin before the latest of them either.
    let earliest = now.max(state.head().recorded_at);
    let list = begun(book, new, earliest);
    changes_begin(book, &list, |model| book.history(model).is_some(), earliest)?;
    let changed = !book.contains(&list);
    Ok(Decided::of(changed.then_some(Event::Config(ConfigEvent::PricesPublished(list)))))
}

/// An organization's own price list, which wins (R4.11): where the ledger has a price, its first one is a change too.
pub(super) fn publish_own_prices(case: &Case<'_>, currency: &str, new: &NewPrices) -> Refusable {
    let (own, of_all) = (&case.organization.prices, &case.state.config().prices);
    in_currency(case.state.config(), currency)?;
    let known = |model: &ModelName| own.history(model).is_some() || of_all.history(model).is_some();
    let list = begun(own, new, case.now);
    changes_begin(own, &list, known, case.now)?;
    let changed = !own.contains(&list);
    Ok(Decided::of(changed.then_some(Event::Organization(OrganizationEvent::PricesPublished(list)))))
}

/// The list with its begin: where none was told, prices that are in force already are no change.
fn begun(book: &PriceBook, new: &NewPrices, now: Timestamp) -> PriceList {
    let mut models = new.models.clone();
    if new.effective_from.is_none() {
        models.retain(|model, price| book.at(model, now) != Some(price));
    }
    PriceList { effective_from: new.effective_from.unwrap_or(now), models }
}

fn in_currency(config: &Config, currency: &str) -> Result<(), Rejection> {
    match &config.ledger {
        Some((_, of_ledger, _)) if of_ledger != currency => {
            Err(Rejection::CurrencyMismatch(of_ledger.clone()))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether no change of a price that something may have been charged by begins before `earliest`.
fn changes_begin(
    book: &PriceBook,
    list: &PriceList,
    known: impl Fn(&ModelName) -> bool,
    earliest: Timestamp,
) -> Result<(), Rejection> {
    for (model, price) in &list.models {
        let published = book.history(model).and_then(|history| history.get(&list.effective_from));
        let same = published.map(Published::price) == Some(price);
        if known(model) && !same && list.effective_from < earliest {
            return Err(Rejection::PriceInThePast { model: model.clone(), now: earliest });
        }
    }
    Ok(())
}

/// A tier table counts from an instant on, which may not be past (R5). Names are told apart by whoever sends them.
pub(super) fn publish_tiers(
    state: &State,
    effective_from: Option<Timestamp>,
    tiers: &[Tier],
    now: Timestamp,
) -> Refusable {
    let config = state.config();
    let now = now.max(state.head().recorded_at);
    let as_it_is = match effective_from {
        Some(from) => config.tiers.get(&from).is_some_and(|known| known.tiers == tiers),
        None => config.tiers_at(now).tiers == tiers,
    };
    if as_it_is {
        return Ok(Decided::AsItIs);
    }
    let mut below = Amount::ZERO;
    for tier in tiers {
        if tier.cumulative_recharge <= below {
            return Err(Rejection::TiersUnordered(tier.name.clone()));
        }
        below = tier.cumulative_recharge;
    }
    let effective_from = effective_from.unwrap_or(now);
    if effective_from < now {
        return Err(Rejection::TiersInThePast { now });
    }
    let table = TierTable { effective_from, tiers: tiers.to_vec() };
    Ok(Decided::of([Event::Config(ConfigEvent::TiersPublished(table))]))
}

/// Everybody's limits are scaled from when it is recorded; a factor of 1 scales nothing, as nothing does (R5.5).
pub(super) fn set_rate_scale(state: &State, new: Option<&NewRateScale>, now: Timestamp) -> Refusable {
    let config = state.config();
    let now = now.max(state.head().recorded_at);
    let scale = match new.filter(|new| new.factor != Factor::ONE) {
        Some(new) => Some(scale(config, new, now)?),
        None => None,
    };
    let changed = config.rate_scale_at(now) != scale.as_ref();
    Ok(Decided::of(changed.then_some(Event::Config(ConfigEvent::RateScaleSet(scale)))))
}

/// Its tiers in the order of the table, so that one set of them is always the same scale.
fn scale(config: &Config, new: &NewRateScale, now: Timestamp) -> Result<RateScale, Rejection> {
    if new.until <= now {
        return Err(Rejection::RateScaleOver { now });
    }
    let known: Vec<DisplayName> = config.tiers_at(now).tiers.into_iter().map(|tier| tier.name).collect();
    if let Some(unknown) = new.tiers.iter().find(|tier| !known.contains(tier)) {
        return Err(Rejection::TierUnknown(unknown.clone()));
    }
    Ok(RateScale {
        factor_thousandths: new.factor.thousandths(),
        until: new.until,
        reason: new.reason.clone(),
        tiers: known.into_iter().filter(|tier| new.tiers.contains(tier)).collect(),
    })
}

/// A later change of the policy grants nothing backwards (R4.5).
pub(super) fn set_voucher_policy(config: &Config, policy: VoucherPolicy) -> Refusable {
    if !policy.threshold.is_positive() || policy.amount.is_negative() {
        return Err(Rejection::AmountNotPositive);
    }
    within(Amount::ZERO, policy.amount)?;
    let changed = config.voucher_policy != policy;
    Ok(Decided::of(changed.then_some(Event::Config(ConfigEvent::VoucherPolicySet(policy)))))
}

pub(super) fn set_defaults(config: &Config, defaults: Defaults) -> Refusable {
    if defaults.balance_alert_threshold.is_some_and(Amount::is_negative) {
        return Err(Rejection::AmountNotPositive);
    }
    let changed = config.defaults != defaults;
    Ok(Decided::of(changed.then_some(Event::Config(ConfigEvent::DefaultsSet(defaults)))))
}

pub(super) fn set_lag_model(config: &Config, lag: LagModel) -> Decided {
    if config.lag == lag {
        Decided::AsItIs
    } else {
        Decided::Events(vec![Event::Config(ConfigEvent::LagModelSet(lag))])
    }
}

pub(super) fn set_quantity_limits(config: &Config, limits: QuantityLimits) -> Decided {
    let changed = config.quantity_limits != limits;
    Decided::of(changed.then_some(Event::Config(ConfigEvent::QuantityLimitsSet(limits))))
}

pub(super) fn revoke_token(config: &Config, token: &TokenId) -> Result<Decided, Rejection> {
    if !config.tokens.contains_key(token) {
        return Err(Rejection::TokenUnknown(token.clone()));
    }
    Ok(Decided::Events(vec![Event::Config(ConfigEvent::TokenRevoked { token: token.clone() })]))
}
