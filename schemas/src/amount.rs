//! Exact money: fixed point with 12 decimal places, `rust_decimal` at every edge (R4.9).

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Decimal places of an [`Amount`]: a price has at most 6 per million tokens, so a charge has at most 12.
pub const AMOUNT_PLACES: u32 = 12;

/// The largest whole number whose scale-12 form every `Decimal` can hold (96 bits).
const LIMIT: i128 = 79_228_162_514_264_337_593_543_950_335;

/// An exact amount of the ledger's currency, in units of 10⁻¹². No arithmetic rounds; what does not fit is `None`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Amount(i128);

/// Why a text or decimal is not an [`Amount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a plain decimal number.
    #[error("must be a decimal number in a string, such as \"12.50\"")]
    NotDecimal,
    /// Digits after the twelfth decimal place.
    #[error("must have at most 12 decimal places")]
    TooPrecise,
    /// Beyond ±79 quadrillion.
    #[error("must be between -79228162514264337 and 79228162514264337")]
    OutOfRange,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self(LIMIT);

    /// So many units of 10⁻¹², or `None` beyond [`Amount::MAX`] on either side.
    pub const fn from_units(units: i128) -> Option<Self> {
        if units > LIMIT || units < -LIMIT { None } else { Some(Self(units)) }
    }

    /// In units of 10⁻¹².
    pub const fn units(self) -> i128 {
        self.0
    }

    /// So many whole units of currency.
    pub const fn whole(units: u32) -> Self {
        #[expect(
            clippy::as_conversions,
            clippy::arithmetic_side_effects,
            reason = "2^32 · 10^12 is far below 2^127"
        )]
        Self(units as i128 * 1_000_000_000_000)
    }

    /// The sum, or `None` when it does not fit.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Self::from_units(sum),
            None => None,
        }
    }

    /// The difference, or `None` when it does not fit.
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(difference) => Self::from_units(difference),
            None => None,
        }
    }

    /// The same amount with the other sign.
    #[expect(clippy::arithmetic_side_effects, reason = "the range is symmetric")]
    pub const fn negated(self) -> Self {
        Self(-self.0)
    }

    /// Whether it is more than nothing.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Whether it is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// As a decimal with the digits it needs.
    pub fn to_decimal(self) -> Decimal {
        Decimal::try_from_i128_with_scale(self.0, AMOUNT_PLACES)
            .map(|exact| exact.normalize())
            .unwrap_or_default()
    }
}

impl TryFrom<Decimal> for Amount {
    type Error = AmountError;

    fn try_from(decimal: Decimal) -> Result<Self, AmountError> {
        let decimal = decimal.normalize();
        let missing = AMOUNT_PLACES.checked_sub(decimal.scale()).ok_or(AmountError::TooPrecise)?;
        let factor = 10i128.checked_pow(missing).ok_or(AmountError::OutOfRange)?;
        let units = decimal.mantissa().checked_mul(factor).ok_or(AmountError::OutOfRange)?;
        Self::from_units(units).ok_or(AmountError::OutOfRange)
    }
}

/// Reads digits with an optional sign and point. Exponents, spaces, and separators are not numbers of money.
impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        parse_fixed(text, AMOUNT_PLACES)
            .map_err(|fault| match fault {
                FixedError::NotDecimal => AmountError::NotDecimal,
                FixedError::TooPrecise => AmountError::TooPrecise,
                FixedError::OutOfRange => AmountError::OutOfRange,
            })
            .and_then(|units| Self::from_units(units).ok_or(AmountError::OutOfRange))
    }
}

/// Why a text is not a fixed-point number.
pub(crate) enum FixedError {
    NotDecimal,
    TooPrecise,
    OutOfRange,
}

/// Reads a plain decimal number as units of 10^-places, without going through a type that could round.
pub(crate) fn parse_fixed(text: &str, places: u32) -> Result<i128, FixedError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) || digits.ends_with('.') {
        return Err(FixedError::NotDecimal);
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = u32::try_from(fraction.len())
        .ok()
        .and_then(|length| places.checked_sub(length))
        .ok_or(FixedError::TooPrecise)?;
    let mut units: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(byte.wrapping_sub(b'0'));
        units = units
            .checked_mul(10)
            .and_then(|shifted| shifted.checked_add(digit))
            .ok_or(FixedError::OutOfRange)?;
    }
    let factor = 10i128.checked_pow(missing).ok_or(FixedError::OutOfRange)?;
    let units = units.checked_mul(factor).ok_or(FixedError::OutOfRange)?;
    Ok(if negative { units.wrapping_neg() } else { units })
}

/// Writes the digits it needs: `12.5`, `0.000000000001`, `-3`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_decimal().fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn r4_9_reads_exactly_or_says_why() {
        assert_eq!("12.50".parse::<Amount>().unwrap().to_string(), "12.5");
        assert_eq!("0.000000000001".parse(), Ok(Amount(1)));
        assert_eq!("0.0000000000010".parse(), Ok(Amount(1)));
        assert_eq!("0.0000000000001".parse::<Amount>(), Err(AmountError::TooPrecise));
        assert_eq!("79228162514264338".parse::<Amount>(), Err(AmountError::OutOfRange));
        assert_eq!("9".repeat(60).parse::<Amount>(), Err(AmountError::OutOfRange));
        for bad in ["", "-", ".5", "5.", "1e3", "+1", " 1", "1,000", "0x1", "NaN", "1.2.3", "--1"] {
            assert_eq!(bad.parse::<Amount>(), Err(AmountError::NotDecimal), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn r4_9_agrees_with_rust_decimal(a in -LIMIT/2..LIMIT/2, b in -LIMIT/2..LIMIT/2) {
            let (x, y) = (Amount(a), Amount(b));
            let (dx, dy) = (x.to_decimal(), y.to_decimal());
            prop_assert_eq!(Amount::try_from(dx), Ok(x));
            prop_assert_eq!(dx.to_string().parse(), Ok(x));
            prop_assert_eq!(x.cmp(&y), dx.cmp(&dy));
            // `Decimal` rounds sums that need more than 96 bits; ours must be the exact integer sum.
            prop_assert_eq!(x.checked_add(y), Some(Amount(a + b)));
            prop_assert_eq!(x.checked_sub(y), Some(Amount(a - b)));
        }

        #[test]
        fn r4_9_sums_as_rust_decimal_does(a in -10i128.pow(26)..10i128.pow(26), b in -10i128.pow(26)..10i128.pow(26)) {
            let (x, y) = (Amount(a), Amount(b));
            prop_assert_eq!(x.checked_add(y).unwrap().to_decimal(), x.to_decimal() + y.to_decimal());
            prop_assert_eq!(x.checked_sub(y).unwrap().to_decimal(), x.to_decimal() - y.to_decimal());
        }
    }

    #[test]
    fn r4_9_what_does_not_fit_is_none() {
        assert_eq!(Amount::MAX.checked_add(Amount(1)), None);
        assert_eq!(Amount::MAX.negated().checked_sub(Amount(1)), None);
        assert_eq!(Amount::from_units(i128::MIN), None);
    }
}
