//! Dated configuration: data in the log, never constants in code. The values here are what a new ledger starts with.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::amount::{Amount, FixedError, parse_fixed};
use crate::id::DisplayName;
use crate::time::Timestamp;

/// How late enforcement of budgets is allowed to be, as part of the model (R6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagModel {
    /// Length of a billing cycle in seconds; cycles end at UTC multiples of it. 0 settles at once and closes nothing.
    pub cycle_seconds: u32,
    /// Seconds between the record of a close and its being visible to enforcement.
    pub delay_seconds: u32,
}

impl LagModel {
    /// Longest cycle and longest delay: one day.
    pub const SECONDS_MAX: u32 = 86_400;

    /// The last UTC multiple of the cycle at or before `now`; `None` when cycles do not close.
    pub fn last_boundary(self, now: Timestamp) -> Option<Timestamp> {
        let cycle = i64::from(self.cycle_seconds);
        let past = now.seconds().checked_rem_euclid(cycle)?;
        Some(Timestamp::from_seconds(now.seconds().saturating_sub(past)))
    }

    /// How many cycles end in `(after, until]`.
    pub fn boundaries_between(self, after: Timestamp, until: Timestamp) -> u32 {
        let cycle = i64::from(self.cycle_seconds);
        let index = |at: Timestamp| at.seconds().checked_div_euclid(cycle).unwrap_or(0);
        u32::try_from(index(until).saturating_sub(index(after)).max(0)).unwrap_or(u32::MAX)
    }
}

impl Default for LagModel {
    fn default() -> Self {
        Self { cycle_seconds: 600, delay_seconds: 0 }
    }
}

/// When a voucher is granted for recharging (R4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoucherPolicy {
    /// Cumulative recharge that earns the voucher.
    pub threshold: Amount,
    /// What it is worth.
    pub amount: Amount,
    /// Days until it expires; `None`: never.
    pub expires_after_days: Option<u32>,
}

impl Default for VoucherPolicy {
    fn default() -> Self {
        Self { threshold: Amount::whole(5), amount: Amount::whole(5), expires_after_days: None }
    }
}

/// How many active projects and API keys an organization may have (R1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantityLimit {
    /// Active projects.
    pub projects: u32,
    /// Active API keys of all projects together.
    pub api_keys: u32,
}

/// Quantity limits by type of organization (R1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantityLimits {
    /// `unverified` and `verified` organizations.
    pub default: QuantityLimit,
    /// `enterprise_verified` organizations.
    pub enterprise_verified: QuantityLimit,
}

impl Default for QuantityLimits {
    fn default() -> Self {
        Self {
            default: QuantityLimit { projects: 20, api_keys: 50 },
            enterprise_verified: QuantityLimit { projects: 50, api_keys: 100 },
        }
    }
}

/// What holds where an organization or model says nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Balance below which an organization is told (R7.1); `None`: no alert.
    pub balance_alert_threshold: Option<Amount>,
    /// Output tokens assumed at admission where neither request nor model says (R5.7).
    pub max_output_tokens: u64,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { balance_alert_threshold: Some(Amount::whole(5)), max_output_tokens: 4096 }
    }
}

/// One row of the tier table (R5); `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// `Tier0` and so on.
    pub name: DisplayName,
    /// Cumulative recharge from which the tier holds.
    pub cumulative_recharge: Amount,
    /// Requests in progress at the same time.
    pub concurrency: Option<u64>,
    /// Requests in any one minute.
    pub rpm: Option<u64>,
    /// Tokens in any one minute.
    pub tpm: Option<u64>,
    /// Tokens in one day.
    pub tpd: Option<u64>,
}

/// The tier table, rising by cumulative recharge (R5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierTable {
    /// When it begins to hold.
    pub effective_from: Timestamp,
    /// Its rows.
    pub tiers: Vec<Tier>,
}

/// Recharge in dollars, concurrency, RPM, TPM, TPD of the rows that a new ledger starts with.
const DEFAULT_TIERS: [(u32, u64, u64, u64, Option<u64>); 6] = [
    (1, 1, 3, 500_000, Some(1_500_000)),
    (10, 50, 200, 2_000_000, None),
    (20, 100, 500, 3_000_000, None),
    (100, 200, 5_000, 3_000_000, None),
    (1_000, 400, 5_000, 4_000_000, None),
    (3_000, 1_000, 10_000, 5_000_000, None),
];

impl Default for TierTable {
    fn default() -> Self {
        let tiers =
            DEFAULT_TIERS.iter().enumerate().filter_map(|(row, &(recharge, concurrency, rpm, tpm, tpd))| {
                Some(Tier {
                    name: DisplayName::parse(&format!("Tier{row}")).ok()?,
                    cumulative_recharge: Amount::whole(recharge),
                    concurrency: Some(concurrency),
                    rpm: Some(rpm),
                    tpm: Some(tpm),
                    tpd,
                })
            });
        Self { effective_from: Timestamp::EPOCH, tiers: tiers.collect() }
    }
}

impl TierTable {
    /// The highest row whose amount is reached (R5.1).
    pub fn tier(&self, cumulative_recharge: Amount) -> Option<&Tier> {
        self.tiers.iter().rev().find(|tier| tier.cumulative_recharge <= cumulative_recharge)
    }
}

/// Everybody's limits scaled down while the cluster is at capacity (R5.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateScale {
    /// Limits are multiplied by this many thousandths and rounded down, never below 1.
    pub factor_thousandths: u16,
    /// When it ends by itself.
    pub until: Timestamp,
    /// What customers are told.
    pub reason: crate::id::Reason,
    /// Only these tiers; empty: all.
    pub tiers: Vec<DisplayName>,
}

impl RateScale {
    /// What limits are multiplied by.
    pub const fn factor(&self) -> Factor {
        Factor(self.factor_thousandths)
    }
}

/// Decimal places of a [`Factor`].
const FACTOR_PLACES: u32 = 3;

/// What limits are multiplied by (R5.5): above 0 and at most 1, in thousandths. 1 scales nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(u16);

/// Why a text is not a [`Factor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactorError {
    /// Not a plain decimal number.
    #[error("must be a decimal number in a string, such as \"0.5\"")]
    NotDecimal,
    /// Digits after the third decimal place.
    #[error("must have at most 3 decimal places")]
    TooPrecise,
    /// Not above 0, or above 1.
    #[error("must be above 0 and at most 1")]
    OutOfRange,
}

impl Factor {
    /// Scales nothing.
    pub const ONE: Self = Self(1_000);

    /// In thousandths.
    pub const fn thousandths(self) -> u16 {
        self.0
    }
}

impl FromStr for Factor {
    type Err = FactorError;

    fn from_str(text: &str) -> Result<Self, FactorError> {
        let thousandths = parse_fixed(text, FACTOR_PLACES).map_err(|fault| match fault {
            FixedError::NotDecimal => FactorError::NotDecimal,
            FixedError::TooPrecise => FactorError::TooPrecise,
            FixedError::OutOfRange => FactorError::OutOfRange,
        })?;
        let thousandths = u16::try_from(thousandths).map_err(|_| FactorError::OutOfRange)?;
        let range = 1..=Self::ONE.0;
        if range.contains(&thousandths) { Ok(Self(thousandths)) } else { Err(FactorError::OutOfRange) }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal::new(i64::from(self.0), FACTOR_PLACES).normalize().fmt(f)
    }
}

/// A change of one overridable value: absent keeps it, null removes it (R5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change<T> {
    /// As it was.
    #[default]
    Keep,
    /// From now on this.
    Set(T),
    /// The override ends.
    Remove,
}

impl<T> Change<T> {
    /// The same change of what `make` makes of the value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Set(value) => Change::Set(make(value)),
            Self::Remove => Change::Remove,
        }
    }

    /// What is overridden after this change.
    pub fn applied_to(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Set(value) => Some(value),
            Self::Remove => None,
        }
    }
}

/// The quantity limits that an operator may override for one organization (R1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantityOverride<T> {
    /// Active projects.
    pub projects: T,
    /// Active API keys.
    pub api_keys: T,
}

impl QuantityOverride<Option<u32>> {
    /// What holds where the rest says `limit`.
    pub fn over(self, limit: QuantityLimit) -> QuantityLimit {
        QuantityLimit {
            projects: self.projects.unwrap_or(limit.projects),
            api_keys: self.api_keys.unwrap_or(limit.api_keys),
        }
    }
}

/// The rate limits that an operator may override for one organization (R5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateOverride<T> {
    /// Requests in progress.
    pub concurrency: T,
    /// Requests per minute.
    pub rpm: T,
    /// Tokens per minute.
    pub tpm: T,
    /// Tokens per day.
    pub tpd: T,
}

/// What a service token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything that is the platform's own.
    Operator,
    /// Acts for members that it names.
    Console,
    /// Publishes usage.
    Publisher,
    /// Asks for admission.
    Gateway,
    /// Reads everything, changes nothing.
    Auditor,
}

/// Meters beyond tokens, by name.
pub type Meters = BTreeMap<crate::id::MeterName, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn r5_1_tier_is_the_highest_row_reached() {
        let table = TierTable::default();
        let name = |amount: &str| table.tier(amount.parse().unwrap()).map(|tier| tier.name.to_string());
        assert_eq!(name("0.999999999999"), None);
        assert_eq!(name("1").as_deref(), Some("Tier0"));
        assert_eq!(name("9.99").as_deref(), Some("Tier0"));
        assert_eq!(name("20").as_deref(), Some("Tier2"));
        assert_eq!(name("5000").as_deref(), Some("Tier5"));
    }

    #[test]
    fn r5_5_a_factor_is_above_nothing_and_at_most_one() {
        let read = |text: &str| text.parse::<Factor>().map(Factor::thousandths);
        for (text, expected) in [
            ("0.5", Ok(500)),
            ("0.500000", Ok(500)),
            ("0.001", Ok(1)),
            ("00.999", Ok(999)),
            ("1", Ok(1_000)),
            ("1.000", Ok(1_000)),
            ("0", Err(FactorError::OutOfRange)),
            ("1.001", Err(FactorError::OutOfRange)),
            ("-0.5", Err(FactorError::OutOfRange)),
            ("100000000000000000000000000000000000000000", Err(FactorError::OutOfRange)),
            ("0.0005", Err(FactorError::TooPrecise)),
            ("50%", Err(FactorError::NotDecimal)),
            ("", Err(FactorError::NotDecimal)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        let shown = |text: &str| text.parse::<Factor>().unwrap().to_string();
        assert_eq!([shown("0.500"), shown("0.125"), shown("1.0")], ["0.5", "0.125", "1"]);
    }

    #[test]
    fn r6_3_cycles_end_at_utc_multiples() {
        let lag = LagModel::default();
        assert_eq!(lag.last_boundary(at("2026-11-20T10:09:59.9Z")), Some(at("2026-11-20T10:00:00Z")));
        assert_eq!(lag.last_boundary(at("2026-11-20T10:10:00Z")), Some(at("2026-11-20T10:10:00Z")));
        assert_eq!(lag.boundaries_between(at("2026-11-20T10:00:00Z"), at("2026-11-20T10:31:00Z")), 3);
        let at_once = LagModel { cycle_seconds: 0, delay_seconds: 0 };
        assert_eq!(at_once.last_boundary(at("2026-11-20T10:00:00Z")), None);
    }
}
