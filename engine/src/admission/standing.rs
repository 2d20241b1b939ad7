//! What admission knows of an organization and of the ledger: copies of what State says, published by the owner.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::Ipv4Net;
use tollbook_projections::config::{Config, PriceBook, PriceHistory, price_at};
use tollbook_projections::limits::RateLimits;
use tollbook_projections::organization::Organization;
use tollbook_projections::purse::Funds;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::id::{KeyId, MeterName, ModelName, OrgId, ProjectId};
use tollbook_schemas::policy::{Defaults, Meters, RateOverride, RateScale, TierTable};
use tollbook_schemas::price::ModelPrice;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Tokens;

use super::budget::BudgetStanding;

/// What holds for everybody.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Counts what was published, so that what was found by older rules is found again.
    pub number: u64,
    /// The number with which prices changed last.
    pub prices_number: u64,
    /// Prices of everybody who has none of their own.
    pub prices: PriceBook,
    /// Tier tables by the instant from which each holds; empty: the default table.
    pub tiers: BTreeMap<Timestamp, TierTable>,
    /// Everybody's limits scaled, if they are.
    pub scale: Option<RateScale>,
    /// Defaults.
    pub defaults: Defaults,
    /// When the last of it was recorded: what was published to hold from then holds, whatever this machine's clock says.
    pub recorded_at: Timestamp,
}

impl Rules {
    /// What `config` says, after `number` times that something was said.
    pub fn of(config: &Config, number: u64, recorded_at: Timestamp) -> Self {
        Self {
            number,
            prices_number: number,
            prices: config.prices.clone(),
            tiers: config.tiers.clone(),
            scale: config.rate_scale.clone(),
            defaults: config.defaults,
            recorded_at,
        }
    }

    /// What has to be recharged for the first tier, and so for any request (R4.6).
    pub fn first_tier(&self, now: Timestamp) -> Amount {
        let table =
            self.tiers.range(..=now.max(self.recorded_at)).next_back().map(|(_, table)| table.clone());
        let first = table.unwrap_or_default().tiers.into_iter().next();
        first.map_or(Amount::MAX, |tier| tier.cumulative_recharge)
    }

    /// What was published to hold from when it was recorded holds, whatever this machine's clock says.
    pub(super) fn as_recorded(&self, at: Timestamp) -> Timestamp {
        at.max(self.recorded_at)
    }

    /// The next instant at which limits change by themselves.
    pub(super) fn next_change(&self, now: Timestamp) -> Timestamp {
        use std::ops::Bound::{Excluded, Unbounded};
        let tiers = self.tiers.range((Excluded(now), Unbounded)).next().map(|(from, _)| *from);
        let scale = self.scale.as_ref().map(|scale| scale.until).filter(|until| now < *until);
        tiers.into_iter().chain(scale).min().unwrap_or(Timestamp::MAX)
    }
}

/// A project as admission sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectStanding {
    /// Its id.
    pub id: ProjectId,
    /// Whether its keys work.
    pub active: bool,
    /// Its own limit of tokens per minute (R5.4).
    pub tpm: Option<u64>,
    /// Budgets that its requests are compared with: none for most, and none that nothing is known of (R6.2).
    pub budgets: Vec<BudgetStanding>,
}

/// Whom a key's requests are charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyNames {
    /// The organization.
    pub organization: OrgId,
    /// The project that its requests count for (R6.1).
    pub project: ProjectId,
    /// The key.
    pub key: KeyId,
}

/// A key as admission sees it. Keys are told by the order in which they were published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStanding {
    /// Its names, shared with every answer: copying three texts would touch three places in memory.
    pub names: Arc<KeyNames>,
    /// Its project's place.
    pub project: usize,
    /// Whether it was not revoked.
    pub active: bool,
}

/// An organization as admission sees it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Its id.
    pub id: OrgId,
    /// Whose days TPD counts in (R5.2).
    pub calendar: Calendar,
    /// The IP allowlist; empty: no restriction (R2.1).
    pub allowlist: Vec<Ipv4Net>,
    /// Cash and vouchers.
    pub funds: Funds,
    /// How far they may go below zero (R4.1).
    pub credit_limit: Option<Amount>,
    /// Recharges minus refunds (R4.4).
    pub cumulative_recharge: Amount,
    /// Rate limits that the operator overrode (R5.5).
    pub rates: RateOverride<Option<u64>>,
    /// Prices of its own, which win (R4.11).
    pub prices: PriceBook,
}

impl Standing {
    /// What State says of an organization.
    pub fn of(known: &Organization) -> Self {
        Self {
            id: known.id.clone(),
            calendar: known.calendar.clone(),
            allowlist: known.allowlist.clone(),
            funds: known.purse.funds(),
            credit_limit: known.credit_limit,
            cumulative_recharge: known.purse.cumulative_recharge(),
            rates: known.rates,
            prices: known.prices.clone(),
        }
    }

    /// Takes what usage changes.
    pub fn take_funds(&mut self, known: &Organization) {
        self.funds = known.purse.funds();
    }

    /// What may be spent (R4.1): vouchers and cash that is not owed, or with a credit limit all of them and the credit.
    pub fn available(&self) -> Amount {
        let Funds { cash, vouchers } = self.funds;
        let spendable = match self.credit_limit {
            Some(credit) => cash.checked_add(credit),
            None => Some(cash.max(Amount::ZERO)),
        };
        spendable.and_then(|cash| vouchers.checked_add(cash)).unwrap_or(Amount::MAX)
    }
}

/// Limits in force for an organization, until they change by themselves.
#[derive(Clone, Debug)]
pub struct InForce {
    /// Limits; `None`: below the first tier, where no request is admitted (R4.6).
    pub limits: Option<RateLimits>,
    /// The rules that they were found by.
    rules: u64,
    /// From when they do not hold any more.
    until: Timestamp,
}

impl InForce {
    /// Finds what holds for an organization at an instant.
    pub fn find(rules: &Rules, standing: &Standing, now: Timestamp) -> Self {
        let at = now.max(rules.recorded_at);
        let scale = rules.scale.as_ref();
        let limits = RateLimits::under(&rules.tiers, scale, standing.cumulative_recharge, standing.rates, at);
        Self { limits, rules: rules.number, until: rules.next_change(at) }
    }

    /// Whether it is still what holds.
    pub fn holds(&self, rules: &Rules, now: Timestamp) -> bool {
        self.rules == rules.number && now < self.until
    }
}

/// What a request may come to at most (R5.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Input and output tokens.
    pub tokens: u64,
    /// What they may cost; `None`: more than an amount can say.
    pub cost: Option<Amount>,
}

impl Estimate {
    /// What it may cost, as far as an amount can say.
    pub fn most(self) -> Amount {
        self.cost.unwrap_or(Amount::MAX)
    }
}

/// Why a request has no price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPrice {
    /// The model has none at the moment.
    Model,
    /// A meter of it has none.
    Meter(MeterName),
}

/// The prices of a model for one organization: its own win (R4.11).
#[derive(Clone, Copy, Debug)]
pub struct Priced<'a> {
    own: Option<&'a PriceHistory>,
    listed: Option<&'a PriceHistory>,
}

impl<'a> Priced<'a> {
    /// The prices of a model.
    pub fn of(rules: &'a Rules, standing: &'a Standing, model: &ModelName) -> Self {
        let of = |book: &'a PriceBook| book.history(model).map(|history| &**history);
        Self { own: of(&standing.prices), listed: of(&rules.prices) }
    }

    fn at(&self, at: Timestamp) -> Option<&ModelPrice> {
        let own = self.own.and_then(|own| price_at(own, at));
        own.or_else(|| self.listed.and_then(|listed| price_at(listed, at)))
    }

    /// What a request that is made between `from` and `until` may come to: no price that holds at any instant of it makes
    /// it cost more, cached input included. Output tokens that it does not limit are the model's most.
    pub fn estimate(
        &self,
        defaults: &Defaults,
        (input, max_output, meters): (u64, Option<u64>, &Meters),
        (from, until): (Timestamp, Timestamp),
    ) -> Result<Estimate, NoPrice> {
        let price = self.at(from).ok_or(NoPrice::Model)?;
        let output = max_output.or(price.max_output_tokens).unwrap_or(defaults.max_output_tokens);
        let tokens = input.saturating_add(output);
        let mut cost = most(price, input, output, meters)?;
        for price in self.between(from, until) {
            // A meter that a later price lacks is that usage's own trouble.
            if let Ok(later) = most(price, input, output, meters) {
                cost = cost.zip(later).map(|(one, other)| one.max(other));
            }
        }
        Ok(Estimate { tokens, cost })
    }

    /// What a request that was made between `from` and `until` and used so much came to at most: usage is charged by when
    /// its publisher says that it occurred. `None` where it has no price, or more than an amount can say.
    pub fn actual(
        &self,
        tokens: Tokens,
        meters: &Meters,
        (from, until): (Timestamp, Timestamp),
    ) -> Option<Amount> {
        let first = charge(self.at(from)?, tokens, meters)?;
        let others = self.between(from, until).filter_map(|price| charge(price, tokens, meters));
        Some(others.fold(first, Amount::max))
    }

    /// Every price that begins to hold after `from` and up to `until`, and the one that holds then.
    fn between(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = &ModelPrice> {
        use std::ops::Bound::{Excluded, Included};
        let histories = [self.own, self.listed].into_iter().flatten();
        // A renewal may have made a lease shorter than it was.
        let until = until.max(from);
        let changes = histories
            .filter(move |_| from < until)
            .flat_map(move |history| history.range((Excluded(from), Included(until))));
        // Copies of prices hold from when they were copied, which is later than where they stand.
        changes.map(|(at, _)| *at).chain([until]).filter_map(|at| self.at(at))
    }
}

fn charge(price: &ModelPrice, tokens: Tokens, meters: &Meters) -> Option<Amount> {
    let uncached = tokens.input.checked_sub(tokens.cached_input)?;
    let parts = [
        price.input.charge(uncached)?,
        price.cached_input.charge(tokens.cached_input)?,
        price.output.charge(tokens.output)?,
    ];
    with_meters(sum(parts)?, price, meters).ok().flatten()
}

/// What it costs at most at one price, however much of the input is cached.
fn most(price: &ModelPrice, input: u64, output: u64, meters: &Meters) -> Result<Option<Amount>, NoPrice> {
    let parts = [price.input.max(price.cached_input).charge(input), price.output.charge(output)];
    let [Some(input), Some(output)] = parts else { return Ok(None) };
    match sum([input, output]) {
        Some(base) => with_meters(base, price, meters),
        None => Ok(None),
    }
}

fn sum<const N: usize>(parts: [Amount; N]) -> Option<Amount> {
    parts.into_iter().try_fold(Amount::ZERO, Amount::checked_add)
}

fn with_meters(base: Amount, price: &ModelPrice, meters: &Meters) -> Result<Option<Amount>, NoPrice> {
    let mut cost = Some(base);
    for (meter, units) in meters {
        let price = price.meters.get(meter).ok_or_else(|| NoPrice::Meter(meter.clone()))?;
        cost = cost.zip(price.charge(*units)).and_then(|(cost, part)| cost.checked_add(part));
    }
    Ok(cost)
}
