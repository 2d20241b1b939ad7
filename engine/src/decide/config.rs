//! Prices, the billing cycle, tokens.

use tollbook_projections::config::Config;
use tollbook_projections::state::State;
use tollbook_schemas::event::{ConfigEvent, Event};
use tollbook_schemas::id::TokenId;
use tollbook_schemas::policy::{LagModel, QuantityLimits};
use tollbook_schemas::price::PriceList;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;

use super::Decided;

/// A model's first price may begin in the past; a change may not begin before it is recorded (R4.11).
pub(super) fn publish_prices(
    state: &State,
    currency: &str,
    list: &PriceList,
    now: Timestamp,
) -> Result<Decided, Rejection> {
    let config = state.config();
    if let Some((_, of_ledger, _)) = &config.ledger
        && of_ledger != currency
    {
        return Err(Rejection::CurrencyMismatch(of_ledger.clone()));
    }
    if config.prices.contains(list) {
        return Ok(Decided::AsItIs);
    }
    // The fold clamps recorded times, so a change must not begin before the latest of them either.
    let earliest = now.max(state.head().recorded_at);
    for (model, price) in &list.models {
        let history = config.prices.history(model);
        let same = history.and_then(|history| history.get(&list.effective_from)) == Some(price);
        if history.is_some() && !same && list.effective_from < earliest {
            return Err(Rejection::PriceInThePast { model: model.clone(), now: earliest });
        }
    }
    // From here it succeeds.
    Ok(Decided::Events(vec![Event::Config(ConfigEvent::PricesPublished(list.clone()))]))
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
