//! Traffic that looks like an LLM platform's: organizations of very different size, gateways that publish what passed
//! through them, ids and token counts as they occur. The same seed gives the same traffic.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::id::{
    DisplayName, KeyId, MemberId, ModelName, OrgId, ProjectId, RechargeId, Reference, SourceName, VoucherId,
};
use tollbook_schemas::price::{ModelPrice, Price, PriceList};
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::{Timestamp, Zone};
use tollbook_schemas::usage::{Charged, Occurred, Tokens, Usage};

use super::BenchError;

/// Gateways, each with its own count per organization.
const GATEWAYS: usize = 6;
/// Time between two calls of the whole platform, in nanoseconds.
const STEP_NANOS: i64 = 20_000;

/// Per million tokens: input, cached input, output.
pub(super) const PRICES: [(&str, &str, &str, &str); 12] = [
    ("kimi-k2.5", "0.60", "0.10", "3.00"),
    ("kimi-k2-thinking", "0.60", "0.15", "2.50"),
    ("moonshot-v1-128k", "2.00", "2.00", "5.00"),
    ("deepseek-v3.2", "0.28", "0.028", "0.42"),
    ("deepseek-r1", "0.55", "0.14", "2.19"),
    ("qwen3-235b-a22b", "0.70", "0.175", "2.80"),
    ("qwen3-coder-480b", "1.50", "0.375", "7.50"),
    ("glm-4.6", "0.60", "0.11", "2.20"),
    ("llama-4-maverick", "0.27", "0.07", "0.85"),
    ("gpt-oss-120b", "0.15", "0.0375", "0.60"),
    ("mistral-large-3", "2.00", "0.50", "6.00"),
    ("text-embedding-3", "0.02", "0.02", "0"),
];

/// How many of what there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Organizations; a few of them make most of the traffic.
    pub(super) organizations: usize,
    /// Projects of each.
    pub(super) projects: usize,
    /// API keys of each.
    pub(super) keys: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { organizations: 50, projects: 3, keys: 8 }
    }
}

/// Numbers without a pattern that matters (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX);
        usize::try_from(self.next().checked_rem(end).unwrap_or(0)).unwrap_or(0)
    }

    /// Spread over powers of two from `2^low` up to `2^high`, as token counts are.
    fn spread(&mut self, low: u32, high: u32) -> u64 {
        let power =
            low.saturating_add(u32::try_from(self.next() % u64::from(high.saturating_sub(low))).unwrap_or(0));
        let floor = 1_u64.checked_shl(power).unwrap_or(1);
        floor.saturating_add(self.next().checked_rem(floor).unwrap_or(0))
    }
}

/// One organization with what its calls are charged to.
#[derive(Clone, Debug)]
pub(super) struct Customer {
    pub(super) id: OrgId,
    pub(super) projects: Vec<ProjectId>,
    /// Key after key belongs to project after project, around and around.
    pub(super) keys: Vec<KeyId>,
}

/// The secret of a key.
pub(super) fn secret_of(key: &KeyId) -> String {
    format!("sk-{key}")
}

/// Makes usage records, and what must be in the ledger before.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    shape: Shape,
    customers: Vec<Customer>,
    models: Vec<ModelName>,
    gateways: Vec<SourceName>,
    /// What each gateway has counted to for each organization.
    counts: Vec<u64>,
    next_gateway: usize,
    by_id: bool,
    at: Timestamp,
    random: Random,
}

impl Traffic {
    /// Traffic whose ids begin at `bits` and whose first call occurred at `at`. `by_id`: without `producerseq`.
    pub(super) fn new(bits: u128, at: Timestamp, by_id: bool) -> Result<Self, BenchError> {
        Self::shaped(Shape::default(), bits, at, by_id)
    }

    /// Likewise, of any size.
    pub(super) fn shaped(shape: Shape, bits: u128, at: Timestamp, by_id: bool) -> Result<Self, BenchError> {
        let mut id = bits;
        let mut next = || {
            id = id.wrapping_add(1);
            id
        };
        let customers = (0..shape.organizations)
            .map(|_| Customer {
                id: OrgId::from_bits(next()),
                projects: (0..shape.projects).map(|_| ProjectId::from_bits(next())).collect(),
                keys: (0..shape.keys).map(|_| KeyId::from_bits(next())).collect(),
            })
            .collect();
        let gateways = (0..GATEWAYS)
            .map(|number| SourceName::parse(&format!("//gateway.internal/eu-central-1/llm-{number}")))
            .collect::<Result<_, _>>()
            .map_err(BenchError::made)?;
        let models = PRICES
            .iter()
            .map(|(model, ..)| ModelName::parse(model))
            .collect::<Result<_, _>>()
            .map_err(BenchError::made)?;
        Ok(Self {
            shape,
            customers,
            models,
            gateways,
            counts: vec![0; shape.organizations.saturating_mul(GATEWAYS)],
            next_gateway: 0,
            by_id,
            at,
            random: Random::new(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(1)),
        })
    }

    /// Its organizations, for a server that makes ids itself.
    pub(super) fn customers(&mut self) -> &mut [Customer] {
        &mut self.customers
    }

    /// What must be decided first: prices, organizations with money, projects, keys.
    pub(super) fn commands(&self, currency: &str) -> Result<Vec<Command>, BenchError> {
        let mut prices = BTreeMap::new();
        for ((_, input, cached_input, output), model) in PRICES.iter().zip(&self.models) {
            let price = |text: &str| text.parse::<Price>().map_err(BenchError::made);
            let price = ModelPrice {
                input: price(input)?,
                cached_input: price(cached_input)?,
                output: price(output)?,
                meters: BTreeMap::new(),
                max_output_tokens: None,
            };
            prices.insert(model.clone(), price);
        }
        let list = PriceList { effective_from: Timestamp::EPOCH, models: prices };
        let mut commands = vec![Command::Config(ConfigCommand::PublishPrices {
            currency: currency.to_owned(),
            list: list.into(),
        })];
        for (number, customer) in (0u128..).zip(&self.customers) {
            let mut about = |command| commands.push(Command::Organization(customer.id.clone(), command));
            about(register(number)?);
            about(OrganizationCommand::Recharge {
                recharge: RechargeId::from_bits(number),
                amount: Amount::whole(1_000_000),
                reference: Reference::parse(&format!("bench-{number}")).map_err(BenchError::made)?,
                voucher: VoucherId::from_bits(number),
            });
            for (place, project) in customer.projects.iter().enumerate() {
                let name = name(&format!("project {place}"))?;
                about(OrganizationCommand::CreateProject { project: project.clone(), name });
            }
            for (key, project) in customer.keys.iter().zip(customer.projects.iter().cycle()) {
                about(OrganizationCommand::IssueKey {
                    key: key.clone(),
                    project: project.clone(),
                    member: None,
                    name: name("a gateway's key")?,
                    secret: SecretHash(Sha256::digest(secret_of(key)).into()),
                    hint: "f3a9".to_owned(),
                });
            }
        }
        Ok(commands)
    }

    /// The next call occurs at this instant.
    pub(super) const fn now(&mut self, at: Timestamp) {
        self.at = at;
    }

    /// What one gateway publishes at once.
    pub(super) fn batch(&mut self, records: usize) -> Vec<Usage> {
        let gateway = self.next_gateway;
        self.next_gateway = gateway.saturating_add(1).checked_rem(GATEWAYS).unwrap_or(0);
        (0..records).filter_map(|_| self.call(gateway)).collect()
    }

    /// One call of every key, each of an organization's through a gateway of its own, beginning at `at`, at most `most`.
    pub(super) fn of_every_key(&mut self, at: Timestamp, most: usize) -> Vec<Usage> {
        self.at = at;
        let Shape { organizations, keys, .. } = self.shape;
        let calls = (0..organizations).flat_map(|place| (0..keys).map(move |key| (place, key))).take(most);
        let charge = |(place, key): (usize, usize)| {
            let charged = Charged::Key(self.customers.get(place)?.keys.get(key)?.clone());
            self.call_of(place, charged, key.checked_rem(GATEWAYS)?)
        };
        calls.filter_map(charge).collect()
    }

    fn call(&mut self, gateway: usize) -> Option<Usage> {
        let (random, shape) = (&mut self.random, self.shape);
        // The smaller of three: the first fifth of the organizations makes half of the traffic.
        let place = (0..3).map(|_| random.below(shape.organizations)).min()?;
        let customer = self.customers.get(place)?;
        let charged = if random.below(20) == 0 {
            Charged::Project(customer.projects.get(random.below(shape.projects))?.clone())
        } else {
            Charged::Key(customer.keys.get(random.below(shape.keys).min(random.below(shape.keys)))?.clone())
        };
        self.call_of(place, charged, gateway)
    }

    fn call_of(&mut self, place: usize, charged: Charged, gateway: usize) -> Option<Usage> {
        let random = &mut self.random;
        let customer = self.customers.get(place)?;
        let count = self.counts.get_mut(place.checked_mul(GATEWAYS)?.checked_add(gateway)?)?;
        *count = count.saturating_add(1);
        self.at = self.at.plus_nanos(STEP_NANOS);
        let took = i64::try_from(random.spread(6, 14)).unwrap_or(0).saturating_mul(1_000_000);
        let input = random.spread(5, 15);
        // Prompt caches work in blocks of 128 tokens.
        let cached_input = if random.below(2) == 0 { (input / 2) & !127 } else { 0 };
        let (high, low) = (random.next(), random.next());
        let id = if gateway.is_multiple_of(2) {
            let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0x0fff);
            format!("{a:08x}-{b:04x}-7{c:03x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff)
        } else {
            format!("req-{high:016x}")
        };
        Some(Usage {
            organization: customer.id.clone(),
            charged,
            model: self.models.get(random.below(PRICES.len()).min(random.below(PRICES.len())))?.clone(),
            source: self.gateways.get(gateway)?.clone(),
            id,
            occurred: Occurred::Given(self.at.plus_nanos(took.wrapping_neg())),
            producerseq: (!self.by_id).then_some(*count),
            tokens: Tokens { input, cached_input, output: random.spread(3, 12) },
            extras: None,
        })
    }
}

fn name(text: &str) -> Result<DisplayName, BenchError> {
    DisplayName::parse(text).map_err(BenchError::made)
}

fn register(number: u128) -> Result<OrganizationCommand, BenchError> {
    // As long as a sealed name or address is; nobody opens it.
    let sealed = || Sealed { key: 0, ciphertext: Bytes::from_static(&[0; 64]) };
    Ok(OrganizationCommand::Register {
        name: name(&format!("benchmark {number}"))?,
        email: sealed(),
        creator: MemberId::from_bits(number),
        creator_name: sealed(),
        creator_email: sealed(),
        zone: Zone::utc(),
    })
}
