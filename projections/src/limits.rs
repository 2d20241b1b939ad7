//! Rate limits in force for an organization: tier, override, scale (R5).

use std::collections::BTreeMap;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::DisplayName;
use tollbook_schemas::policy::{RateOverride, RateScale, Tier, TierTable};
use tollbook_schemas::time::Timestamp;

use crate::config::Config;
use crate::organization::Organization;

const THOUSAND: u64 = 1_000;

/// What holds for an organization at an instant; `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Its tier.
    pub tier: DisplayName,
    /// Limits, with the operator's overrides (R5.5).
    pub limits: RateOverride<Option<u64>>,
    /// Whether they are scaled down at the moment (R5.5).
    pub scaled: bool,
}

/// What holds for a project's own limit of tokens per minute (R5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProjectTpm {
    /// As asked for.
    pub limit: Option<u64>,
    /// The lesser of that and the organization's; `None` is unlimited.
    pub effective: Option<u64>,
    /// Whether the organization's is the lesser.
    pub clamped: bool,
}

impl RateLimits {
    /// What holds for `organization` at `now`; nothing below the first tier, where no request is admitted (R4.6).
    pub fn of(config: &Config, organization: &Organization, now: Timestamp) -> Option<Self> {
        let recharge = organization.purse.cumulative_recharge();
        Self::under(&config.tiers, config.rate_scale.as_ref(), recharge, organization.rates, now)
    }

    /// The same under tier tables by the instant from which each holds, with so much recharged and overrides of its own.
    pub fn under(
        tiers: &BTreeMap<Timestamp, TierTable>,
        scale: Option<&RateScale>,
        cumulative_recharge: Amount,
        own: RateOverride<Option<u64>>,
        now: Timestamp,
    ) -> Option<Self> {
        let default;
        let table = match tiers.range(..=now).next_back() {
            Some((_, table)) => table,
            None => {
                default = TierTable::default();
                &default
            }
        };
        let tier = table.tier(cumulative_recharge)?;
        let scale = scale
            .filter(|scale| now < scale.until)
            .filter(|scale| scale.tiers.is_empty() || scale.tiers.contains(&tier.name));
        let factor = scale.map(|scale| scale.factor_thousandths);
        let in_force = |overridden: Option<u64>, of_tier: Option<u64>| {
            overridden.or(of_tier).map(|limit| factor.map_or(limit, |factor| scaled(limit, factor)))
        };
        let Tier { name, cumulative_recharge: _, concurrency, rpm, tpm, tpd } = tier;
        let limits = RateOverride {
            concurrency: in_force(own.concurrency, *concurrency),
            rpm: in_force(own.rpm, *rpm),
            tpm: in_force(own.tpm, *tpm),
            tpd: in_force(own.tpd, *tpd),
        };
        Some(Self { tier: name.clone(), limits, scaled: scale.is_some() })
    }

    /// What a project's own limit comes to under `organization`'s.
    pub fn project_tpm(limit: Option<u64>, organization: Option<&Self>) -> ProjectTpm {
        let of_organization = organization.and_then(|limits| limits.limits.tpm);
        let clamped = limit.zip(of_organization).is_some_and(|(own, all)| own > all);
        let effective = if clamped { of_organization } else { limit.or(of_organization) };
        ProjectTpm { limit, effective, clamped }
    }
}

/// Rounded down, never below 1 (R5.5).
fn scaled(limit: u64, factor_thousandths: u16) -> u64 {
    let (whole, rest) = (limit.checked_div(THOUSAND), limit.checked_rem(THOUSAND));
    let factor = u64::from(factor_thousandths);
    let whole = whole.unwrap_or(0).saturating_mul(factor);
    let rest = rest.unwrap_or(0).saturating_mul(factor).checked_div(THOUSAND).unwrap_or(0);
    whole.saturating_add(rest).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_5_scaling_rounds_down_and_never_below_one() {
        for (limit, factor, expected) in [(3, 500, 1), (3, 999, 2), (1, 1, 1), (1_500_000, 333, 499_500)] {
            assert_eq!(scaled(limit, factor), expected, "{limit} × {factor}/1000");
        }
        assert_eq!(scaled(u64::MAX, 1_000), u64::MAX);
    }

    #[test]
    fn r5_4_the_lesser_limit_holds() {
        let limits = RateOverride { tpm: Some(500_000), ..RateOverride::default() };
        let organization = RateLimits { tier: DisplayName::parse("Tier0").unwrap(), limits, scaled: false };
        let of = |limit| RateLimits::project_tpm(limit, Some(&organization));
        assert_eq!((of(None).effective, of(None).clamped), (Some(500_000), false));
        assert_eq!((of(Some(1_000)).effective, of(Some(1_000)).clamped), (Some(1_000), false));
        assert_eq!((of(Some(500_001)).effective, of(Some(500_001)).clamped), (Some(500_000), true));
        assert_eq!(RateLimits::project_tpm(Some(7), None).effective, Some(7));
    }
}
