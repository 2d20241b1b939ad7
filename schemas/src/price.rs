//! Prices: money per million units with at most 6 decimal places, so that every charge is exact (R4.9, R4.11).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::amount::{Amount, FixedError, parse_fixed};
use crate::id::{MeterName, ModelName};
use crate::time::Timestamp;

/// Decimal places of a [`Price`].
pub const PRICE_PLACES: u32 = 6;

/// Highest price: a billion per million units.
const PRICE_MAX: u64 = 1_000_000_000_000_000;

/// Money per million tokens or other units, in units of 10⁻⁶. Zero is a price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Price(u64);

/// Why a text is not a [`Price`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not a plain decimal number.
    #[error("must be a decimal number in a string, such as \"0.60\"")]
    NotDecimal,
    /// Digits after the sixth decimal place.
    #[error("must have at most 6 decimal places")]
    TooPrecise,
    /// Below zero or above a billion.
    #[error("must be between 0 and 1000000000")]
    OutOfRange,
}

impl Price {
    /// What `units` tokens or other units cost: exact, because 10⁻⁶ per 10⁶ is 10⁻¹². `None` when it does not fit.
    pub fn charge(self, units: u64) -> Option<Amount> {
        // Two numbers of 64 bits never overflow 128: one instruction, where signed numbers would take a dozen.
        let product = u128::from(self.0).wrapping_mul(u128::from(units));
        i128::try_from(product).ok().and_then(Amount::from_units)
    }

    /// As a decimal with the digits it needs.
    pub fn to_decimal(self) -> Decimal {
        Decimal::try_from_i128_with_scale(i128::from(self.0), PRICE_PLACES)
            .map(|exact| exact.normalize())
            .unwrap_or_default()
    }
}

impl FromStr for Price {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let units = parse_fixed(text, PRICE_PLACES).map_err(|fault| match fault {
            FixedError::NotDecimal => PriceError::NotDecimal,
            FixedError::TooPrecise => PriceError::TooPrecise,
            FixedError::OutOfRange => PriceError::OutOfRange,
        })?;
        let units = u64::try_from(units).map_err(|_| PriceError::OutOfRange)?;
        if units > PRICE_MAX { Err(PriceError::OutOfRange) } else { Ok(Self(units)) }
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_decimal().fmt(f)
    }
}

/// What one model costs, per million of each kind of unit (R4.11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelPrice {
    /// Input tokens that were not cached.
    pub input: Price,
    /// Input tokens read from a cache.
    pub cached_input: Price,
    /// Output tokens.
    pub output: Price,
    /// Further metered units: images, tool calls, cache writes.
    pub meters: BTreeMap<MeterName, Price>,
    /// Output tokens assumed at admission where the request names no maximum (R5.7).
    pub max_output_tokens: Option<u64>,
}

/// Prices that begin at one instant; models that it does not name keep theirs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriceList {
    /// Requests that occurred at or after this instant cost this.
    pub effective_from: Timestamp,
    /// By model.
    pub models: BTreeMap<ModelName, ModelPrice>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn r4_11_a_price_has_at_most_six_places() {
        assert_eq!("0.60".parse::<Price>().unwrap().to_string(), "0.6");
        assert_eq!("0.0000001".parse::<Price>(), Err(PriceError::TooPrecise));
        assert_eq!("-1".parse::<Price>(), Err(PriceError::OutOfRange));
        assert_eq!("1000000001".parse::<Price>(), Err(PriceError::OutOfRange));
        assert_eq!("free".parse::<Price>(), Err(PriceError::NotDecimal));
    }

    proptest! {
        #[test]
        fn r4_9_charges_are_exact(price in 0..1_000_000_000_000u64, tokens in 0..1_000_000_000u64) {
            let charge = Price(price).charge(tokens).unwrap();
            let decimal = Decimal::from_i128_with_scale(i128::from(price), 6) * Decimal::from(tokens)
                / Decimal::from(1_000_000);
            prop_assert_eq!(charge.to_decimal(), decimal.normalize());
        }
    }
}
