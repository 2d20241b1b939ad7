//! An independent model of the ledger: naive, slow, on `Decimal`, lists and scans. Knows the vocabulary of `schemas` and
//! nothing of how State is kept.

pub mod alerts;
pub mod money;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use tollbook_schemas::command::{Command, ConfigCommand, NewPrices, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::id::{KeyId, MemberId, ModelName, OrgId, ProjectId, Reason, SourceName, TokenId};
use tollbook_schemas::policy::{TierTable, VoucherPolicy};
use tollbook_schemas::price::ModelPrice;
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};

use self::alerts::{OracleAlert, OracleWatch, voucher_expired, voucher_expiring, voucher_granted};
use self::money::{Around, Flow, Here, Line, OracleVoucher, month_of};

/// What a command should lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One entry; with a voucher of so much, or a close of so many cycles.
    Entry {
        /// The voucher.
        voucher: Option<Decimal>,
        /// The cycles.
        cycles: Option<i64>,
    },
    /// Nothing, for this entry did it before.
    Before(u64),
    /// Nothing, for all is as wanted.
    AsItIs,
    /// An entry that says nothing, so that a request which changed nothing is known if it comes again.
    Noted,
    /// A refusal with this code.
    Refused(&'static str),
}

/// What should become of a usage record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It counts.
    Booked,
    /// It counted before, or was quarantined before.
    Duplicate,
    /// It waits, for this reason; where another came first, its entry and row.
    Quarantined(&'static str, Option<(u64, u32)>),
}

/// The model.
#[derive(Clone, Debug)]
pub struct Oracle {
    /// Organizations in order of registration.
    pub organizations: Vec<OracleOrganization>,
    /// The latest recorded time.
    pub recorded_at: Timestamp,
    /// Usage records that came.
    pub records: u64,
    /// Those that were quarantined.
    pub quarantined: u64,
    prices: Prices,
    policy: VoucherPolicy,
    tiers: Vec<TierTable>,
    /// The month that is open in each zone that was ever used.
    months: Vec<(TimeZone, Month)>,
    /// Everything readable that was quarantined, with what became of it.
    waiting: Vec<Waiting>,
    /// Every alert.
    pub alerts: Vec<OracleAlert>,
    quarantine_told: Vec<(String, Date)>,
    default_threshold: Option<Decimal>,
    cycle_seconds: i64,
    delay_seconds: i64,
    closed_through: Timestamp,
    tokens: Vec<TokenId>,
    /// Commands about the whole ledger that carried a key.
    remembered: Vec<(Idempotency, u64)>,
    /// Every id that ever came without a count, with what it said and where.
    ids: BTreeMap<Named, (Said, (u64, u32))>,
}

/// Prices by model and the instant from which each holds.
type Prices = Vec<(ModelName, Timestamp, ModelPrice)>;

/// A quarantined record.
#[derive(Clone, Debug)]
struct Waiting {
    place: (u64, u32),
    usage: Usage,
    reason: &'static str,
    /// The entry that released or dismissed it, and why it was dismissed.
    settled: Option<(u64, Option<Reason>)>,
}

/// Reasons for which nobody looked at a record's number when it came, or could not count it.
const UNCOUNTED: [&str; 2] = ["unknown_organization", "sequence_ahead"];

impl Waiting {
    fn is_uncounted(&self) -> bool {
        UNCOUNTED.contains(&self.reason)
    }

    /// Whether a mended record is still the one that came.
    fn is_mended_by(&self, usage: &Usage) -> bool {
        let (came, mended) = (self.usage.producerseq, usage.producerseq);
        let recounted = self.reason == "sequence_ahead" && mended.is_some();
        (came == mended || recounted) && usage.source == self.usage.source && usage.id == self.usage.id
    }
}

/// What a record that goes by id is called.
type Named = (OrgId, SourceName, String);
/// The content of a record that goes by id, without a time that was assumed.
type Said = (Charged, ModelName, Option<Timestamp>, Tokens, Option<Box<Extras>>);

/// One organization.
#[derive(Clone, Debug)]
pub struct OracleOrganization {
    /// Its id.
    pub id: OrgId,
    /// Projects.
    pub projects: Vec<ProjectId>,
    /// Keys and their projects.
    pub keys: Vec<(KeyId, ProjectId)>,
    /// Everything that moved its money but usage, and documents.
    pub lines: Vec<Line>,
    /// Vouchers with something left, the oldest first.
    pub vouchers: Vec<OracleVoucher>,
    /// Whether the policy's voucher was granted.
    pub policy_granted: bool,
    /// Cash.
    pub cash: Decimal,
    /// Everything that was ever consumed, less what was taken back.
    pub spent: Decimal,
    /// What of that was paid in cash.
    pub spent_cash: Decimal,
    /// How far it may go below zero.
    pub credit_limit: Option<Decimal>,
    /// Quarantined records that were released or dismissed.
    pub settlements: u64,
    moved_in_recharge: Decimal,
    flows: Vec<Flow>,
    sealed: Vec<Month>,
    prices: Prices,
    /// Everything that was booked, in order.
    pub booked: Vec<BookedRecord>,
    /// How many of them were settled; the rest is pending.
    pub settled: usize,
    /// Records that were repetitions.
    pub duplicates: u64,
    /// Records that were quarantined.
    pub quarantined: u64,
    /// What is watched of its projects.
    pub watches: Vec<OracleWatch>,
    /// The threshold of its own, or none by its own wish.
    threshold: Option<Option<Decimal>>,
    armed: bool,
    quarantine_told: Vec<(String, Date)>,
    zone: TimeZone,
    creator: MemberId,
    counts: Vec<(SourceName, Counts)>,
    remembered: Vec<(Idempotency, u64)>,
}

/// One record that counts.
#[derive(Clone, Debug)]
pub struct BookedRecord {
    /// The local day in which it occurred.
    pub day: Date,
    /// Its project.
    pub project: ProjectId,
    /// Its key.
    pub key: Option<KeyId>,
    /// Its model.
    pub model: ModelName,
    /// How much.
    pub tokens: Tokens,
    /// What it cost.
    pub cost: Decimal,
    /// Where it stands.
    pub place: (u64, u32),
    /// When and by which entry it was booked.
    pub booked: (Timestamp, u64),
    /// Whether it was taken back here.
    pub back: bool,
    /// Whether it was quarantined before.
    pub released: bool,
}

impl BookedRecord {
    /// What it adds to consumption.
    pub fn amount(&self) -> Decimal {
        if self.back { -self.cost } else { self.cost }
    }
}

#[derive(Clone, Debug, Default)]
struct Counts {
    seen: BTreeSet<u64>,
    /// All of 1 to here were seen.
    complete: u64,
}

/// Ten quadrillion: the most that may ever be recharged or spent (R4.9).
fn most() -> Decimal {
    Decimal::from(10_000_000_000_000_000_i64)
}

impl Oracle {
    /// A ledger that was created just now.
    pub fn new(now: Timestamp) -> Self {
        Self {
            organizations: Vec::new(),
            recorded_at: now,
            records: 0,
            quarantined: 0,
            prices: Vec::new(),
            policy: VoucherPolicy::default(),
            tiers: Vec::new(),
            months: Vec::new(),
            waiting: Vec::new(),
            alerts: Vec::new(),
            quarantine_told: Vec::new(),
            default_threshold: Some(Decimal::from(5)),
            cycle_seconds: 600,
            delay_seconds: 0,
            closed_through: now,
            tokens: Vec::new(),
            remembered: Vec::new(),
            ids: BTreeMap::new(),
        }
    }

    /// What a command should lead to, decided after the entry at `head`.
    pub fn ask(
        &self,
        command: &Command,
        idempotency: Option<Idempotency>,
        now: Timestamp,
        head: u64,
    ) -> Expected {
        match self.expect(command, idempotency, now, head) {
            Expected::AsItIs if idempotency.is_some() => Expected::Noted,
            expected => expected,
        }
    }

    /// What was expected happens in an entry at `position`, unless it is `void`.
    pub fn book(
        &mut self,
        command: &Command,
        idempotency: Option<Idempotency>,
        now: Timestamp,
        position: u64,
        void: bool,
        expected: &Expected,
    ) {
        if *expected == Expected::Noted {
            self.recorded_at = self.recorded_at.max(now);
            let remembered = match command {
                Command::Organization(id, _) => self
                    .organizations
                    .iter_mut()
                    .find(|known| known.id == *id)
                    .map(|known| &mut known.remembered),
                Command::Config(_) | Command::Partition(_) => Some(&mut self.remembered),
            };
            if let (Some(remembered), false) = (remembered, void) {
                remembered.extend(idempotency.map(|asked| (asked, position)));
            }
        }
        if let Expected::Entry { voucher, .. } = expected {
            self.recorded_at = self.recorded_at.max(now);
            if !void {
                self.happen(command, idempotency, now, position, *voucher);
            }
        }
    }

    fn expect(
        &self,
        command: &Command,
        idempotency: Option<Idempotency>,
        now: Timestamp,
        head: u64,
    ) -> Expected {
        let remembered = match command {
            Command::Organization(id, _) => self.find(id).map(|known| &known.remembered),
            Command::Config(_) => Some(&self.remembered),
            Command::Partition(_) => None,
        };
        if let (Some(asked), Some(remembered)) = (idempotency, remembered) {
            for (known, position) in remembered {
                if known.key == asked.key {
                    let same = known.content == asked.content;
                    let position = *position;
                    return if same {
                        Expected::Before(position)
                    } else {
                        Expected::Refused("idempotency_conflict")
                    };
                }
            }
        }
        match command {
            Command::Organization(id, command) => match (self.find(id), command) {
                (Some(_), OrganizationCommand::Register { .. } | OrganizationCommand::MoveIn(_)) => {
                    Expected::Refused("organization_exists")
                }
                (None, OrganizationCommand::Register { .. } | OrganizationCommand::MoveIn(_)) => entry(),
                (None, _) => Expected::Refused("organization_not_found"),
                (Some(organization), command) => {
                    let now = now.max(self.recorded_at);
                    let closed = |month: Month| {
                        self.months.iter().any(|(zone, open)| *zone == organization.zone && *open > month)
                    };
                    let around = Around { policy: &self.policy, now, head, closed: &closed };
                    self.expect_of(organization, command, &around)
                }
            },
            Command::Config(command) => self.expect_config(command, now),
            Command::Partition(PartitionCommand::TakeOwnership(_)) => entry(),
            Command::Partition(PartitionCommand::CloseCycles) => match self.last_boundary(now) {
                Some(through) if through > self.closed_through => {
                    let number = |at: Timestamp| at.nanos().div_euclid(1_000_000_000 * self.cycle_seconds);
                    let cycles = number(through) - number(self.closed_through);
                    Expected::Entry { voucher: None, cycles: Some(cycles) }
                }
                _ => Expected::AsItIs,
            },
            Command::Partition(PartitionCommand::CopyConfig { .. }) => panic!("there is one partition"),
            Command::Partition(PartitionCommand::CloseMonths) => {
                let over = self.months.iter().any(|(zone, open)| month_ends(zone, *open) <= now);
                if over { entry() } else { Expected::AsItIs }
            }
        }
    }

    fn expect_of(
        &self,
        organization: &OracleOrganization,
        command: &OrganizationCommand,
        around: &Around<'_>,
    ) -> Expected {
        match command {
            OrganizationCommand::PublishPrices { currency, list } => {
                let known = |model: &ModelName| {
                    [&organization.prices, &self.prices]
                        .iter()
                        .any(|prices| prices.iter().any(|known| known.0 == *model))
                };
                expect_prices(&organization.prices, currency, list, around.now, &known)
            }
            OrganizationCommand::ReleaseUsage { place, usage } => {
                let Some(waiting) = self.waiting_of(organization, *place) else {
                    return Expected::Refused("not_in_quarantine");
                };
                match &waiting.settled {
                    Some((position, None)) => return Expected::Before(*position),
                    Some((_, Some(_))) => return Expected::Refused("not_in_quarantine"),
                    None => {}
                }
                let usage = usage.as_deref().unwrap_or(&waiting.usage);
                if usage.organization != organization.id {
                    Expected::Refused("not_in_quarantine")
                } else if !waiting.is_mended_by(usage) {
                    Expected::Refused("still_unbookable")
                } else if self.bookable(organization, usage, waiting.reason, around.now).is_ok() {
                    entry()
                } else {
                    Expected::Refused("still_unbookable")
                }
            }
            OrganizationCommand::DismissUsage { place, reason } => {
                match self.waiting_of(organization, *place).map(|waiting| &waiting.settled) {
                    Some(None) => entry(),
                    Some(Some((position, Some(before)))) if before == reason => Expected::Before(*position),
                    _ => Expected::Refused("not_in_quarantine"),
                }
            }
            OrganizationCommand::CreateProject { .. } | OrganizationCommand::IssueKey { .. } => {
                organization.expect(command)
            }
            OrganizationCommand::SetBalanceAlert(_)
            | OrganizationCommand::SetBudgets { .. }
            | OrganizationCommand::SetSpendNotifications { .. }
            | OrganizationCommand::NoteBudgetRefusal { .. } => organization.expect_alerts(command),
            command => organization.expect_money(command, around),
        }
    }

    fn waiting_of(&self, organization: &OracleOrganization, place: UsagePlace) -> Option<&Waiting> {
        let place = (place.position.0, place.row);
        self.waiting.iter().find(|known| known.place == place && known.usage.organization == organization.id)
    }

    /// Whom a released record is charged to, and what it costs.
    fn bookable(
        &self,
        organization: &OracleOrganization,
        usage: &Usage,
        reason: &str,
        now: Timestamp,
    ) -> Result<(ProjectId, Option<KeyId>, Decimal), &'static str> {
        let uncounted = UNCOUNTED.contains(&reason);
        if let (true, Some(number)) = (uncounted, usage.producerseq) {
            match organization.clone().count(&usage.source, number) {
                Some(Fate::Duplicate) => return Err("booked since"),
                Some(Fate::Quarantined("sequence_ahead", _)) => return Err("sequence_ahead"),
                // It may have come again before it fell behind.
                Some(Fate::Quarantined("sequence_behind", _)) => return Err("sequence_behind"),
                _ => {}
            }
        }
        self.priced(organization, usage, now)
    }

    /// Whom a record is charged to, and what it costs; or why it is not booked.
    fn priced(
        &self,
        organization: &OracleOrganization,
        usage: &Usage,
        now: Timestamp,
    ) -> Result<(ProjectId, Option<KeyId>, Decimal), &'static str> {
        if usage.occurred.at() > now.plus_seconds(300) {
            return Err("ahead");
        }
        let (project, key) = match &usage.charged {
            Charged::Key(id) => match organization.keys.iter().find(|(known, _)| known == id) {
                Some((_, project)) => (project.clone(), Some(id.clone())),
                None => return Err("unknown_key"),
            },
            Charged::Project(id) if organization.projects.contains(id) => (id.clone(), None),
            Charged::Project(_) => return Err("unknown_project"),
        };
        let cost = cost(&organization.prices, &self.prices, usage)?;
        if organization.spent + cost > most() {
            return Err("absurd");
        }
        Ok((project, key, cost))
    }

    /// The name of the tier that a cumulative recharge reaches at an instant.
    pub fn tier(&self, cumulative: Decimal, now: Timestamp) -> Option<String> {
        let mut rows: Vec<(Decimal, String)> =
            [(1, "Tier0"), (10, "Tier1"), (20, "Tier2"), (100, "Tier3"), (1_000, "Tier4"), (3_000, "Tier5")]
                .iter()
                .map(|(from, name)| (Decimal::from(*from), (*name).to_owned()))
                .collect();
        let mut since = Timestamp::from_nanos(i64::MIN);
        for table in &self.tiers {
            // Of two that begin at once the one that was published last holds.
            if table.effective_from <= now && table.effective_from >= since {
                since = table.effective_from;
                let row = |tier: &tollbook_schemas::policy::Tier| {
                    (tier.cumulative_recharge.to_decimal(), tier.name.to_string())
                };
                rows = table.tiers.iter().map(row).collect();
            }
        }
        rows.into_iter().rev().find(|(from, _)| cumulative >= *from).map(|(_, name)| name)
    }

    fn expect_config(&self, command: &ConfigCommand, now: Timestamp) -> Expected {
        match command {
            ConfigCommand::PublishPrices { currency, list } => {
                let known = |model: &ModelName| self.prices.iter().any(|known| known.0 == *model);
                expect_prices(&self.prices, currency, list, now.max(self.recorded_at), &known)
            }
            ConfigCommand::SetVoucherPolicy(policy) => {
                if !policy.threshold.is_positive() || policy.amount.is_negative() {
                    Expected::Refused("amount_not_positive")
                } else if policy.amount.to_decimal() > most() {
                    Expected::Refused("amount_out_of_range")
                } else if *policy == self.policy {
                    Expected::AsItIs
                } else {
                    entry()
                }
            }
            ConfigCommand::PublishTiers { effective_from, tiers } => {
                let from = effective_from.expect("walks say when");
                let same = self.tiers.iter().rev().find(|known| known.effective_from == from);
                if same.is_some_and(|same| same.tiers == *tiers) {
                    Expected::AsItIs
                } else if from < now.max(self.recorded_at) {
                    Expected::Refused("tiers_in_the_past")
                } else {
                    entry()
                }
            }
            ConfigCommand::SetLagModel(lag)
                if (i64::from(lag.cycle_seconds), i64::from(lag.delay_seconds))
                    == (self.cycle_seconds, self.delay_seconds) =>
            {
                Expected::AsItIs
            }
            ConfigCommand::SetDefaults(defaults) => {
                let threshold = defaults.balance_alert_threshold.map(|threshold| threshold.to_decimal());
                if threshold == self.default_threshold { Expected::AsItIs } else { entry() }
            }
            ConfigCommand::RevokeToken(token) if !self.tokens.contains(token) => {
                Expected::Refused("token_not_found")
            }
            ConfigCommand::SetLagModel(_)
            | ConfigCommand::SetRateScale(_)
            | ConfigCommand::SetQuantityLimits(_)
            | ConfigCommand::IssueToken { .. }
            | ConfigCommand::CreateSubscription { .. }
            | ConfigCommand::RemoveSubscription(_)
            | ConfigCommand::RevokeToken(_) => entry(),
        }
    }

    fn happen(
        &mut self,
        command: &Command,
        idempotency: Option<Idempotency>,
        now: Timestamp,
        position: u64,
        voucher: Option<Decimal>,
    ) {
        match command {
            Command::Organization(id, command) => {
                let here = Here { position, at: self.recorded_at };
                if let Some((zone, creator)) = match command {
                    OrganizationCommand::Register { zone, creator, .. } => Some((zone, creator)),
                    OrganizationCommand::MoveIn(new) => Some((&new.zone, &new.creator)),
                    _ => None,
                } {
                    let zone = TimeZone::get(zone.name()).unwrap();
                    let open = month_of(self.recorded_at.to_jiff().to_zoned(zone.clone()).date());
                    if !self.months.iter().any(|(known, _)| *known == zone) {
                        self.months.push((zone.clone(), open));
                    }
                    self.organizations.push(OracleOrganization {
                        id: id.clone(),
                        projects: Vec::new(),
                        keys: Vec::new(),
                        lines: Vec::new(),
                        vouchers: Vec::new(),
                        policy_granted: false,
                        cash: Decimal::ZERO,
                        spent: Decimal::ZERO,
                        spent_cash: Decimal::ZERO,
                        credit_limit: None,
                        settlements: 0,
                        moved_in_recharge: Decimal::ZERO,
                        flows: Vec::new(),
                        sealed: Vec::new(),
                        prices: Vec::new(),
                        booked: Vec::new(),
                        settled: 0,
                        duplicates: 0,
                        quarantined: 0,
                        watches: Vec::new(),
                        threshold: None,
                        armed: false,
                        quarantine_told: Vec::new(),
                        zone,
                        creator: creator.clone(),
                        counts: Vec::new(),
                        remembered: Vec::new(),
                    });
                }
                let recharged = self.find(id).map_or(Decimal::ZERO, OracleOrganization::cumulative);
                if let OrganizationCommand::ReleaseUsage { place, usage } = command {
                    self.release(id, *place, usage.as_deref(), here);
                }
                if let OrganizationCommand::DismissUsage { place, reason } = command {
                    self.settle_waiting(id, *place, (position, Some(reason.clone())));
                }
                let policy = self.policy;
                let organization = self.organizations.iter_mut().find(|known| known.id == *id).unwrap();
                organization.remembered.extend(idempotency.map(|asked| (asked, position)));
                let mut said = Vec::new();
                match command {
                    OrganizationCommand::Register { .. }
                    | OrganizationCommand::ReleaseUsage { .. }
                    | OrganizationCommand::DismissUsage { .. } => {}
                    OrganizationCommand::SetBalanceAlert(_)
                    | OrganizationCommand::SetBudgets { .. }
                    | OrganizationCommand::SetSpendNotifications { .. }
                    | OrganizationCommand::NoteBudgetRefusal { .. } => {
                        said = organization.happen_alerts(command, here);
                    }
                    OrganizationCommand::MoveIn(new) => organization.happen_move_in(new, here, &policy),
                    OrganizationCommand::CreateProject { project, .. } => {
                        organization.projects.push(project.clone())
                    }
                    OrganizationCommand::IssueKey { key, project, .. } => {
                        organization.keys.push((key.clone(), project.clone()));
                    }
                    OrganizationCommand::PublishPrices { list, .. } => {
                        publish(&mut organization.prices, list);
                    }
                    command => said = organization.happen_money(command, here, &policy, voucher),
                }
                if let OrganizationCommand::ReverseUsage { booked, .. } = command {
                    self.look_at(id, &booked.project, here);
                }
                self.tell(id, here, said);
                self.look_at_balance(id, here);
                if !matches!(command, OrganizationCommand::MoveIn(_)) {
                    self.tell_tier(id, recharged, here);
                }
                if self.cycle_seconds == 0 {
                    self.settle();
                }
            }
            Command::Config(command) => {
                self.remembered.extend(idempotency.map(|asked| (asked, position)));
                match command {
                    ConfigCommand::PublishPrices { list, .. } => publish(&mut self.prices, list),
                    ConfigCommand::SetVoucherPolicy(policy) => self.policy = *policy,
                    ConfigCommand::PublishTiers { effective_from, tiers } => {
                        let effective_from = effective_from.expect("walks say when");
                        self.tiers.push(TierTable { effective_from, tiers: tiers.clone() });
                    }
                    ConfigCommand::SetLagModel(lag) => {
                        self.cycle_seconds = i64::from(lag.cycle_seconds);
                        self.delay_seconds = i64::from(lag.delay_seconds);
                        self.closed_through = self.recorded_at;
                        if self.cycle_seconds == 0 {
                            self.look_at_all(Here { position, at: self.recorded_at });
                            self.settle();
                        }
                    }
                    ConfigCommand::IssueToken { token, .. } => self.tokens.push(token.clone()),
                    ConfigCommand::RevokeToken(token) => self.tokens.retain(|known| known != token),
                    ConfigCommand::SetDefaults(defaults) => {
                        let threshold =
                            defaults.balance_alert_threshold.map(|threshold| threshold.to_decimal());
                        self.set_default(threshold, Here { position, at: self.recorded_at });
                    }
                    ConfigCommand::CreateSubscription { .. }
                    | ConfigCommand::RemoveSubscription(_)
                    | ConfigCommand::SetRateScale(_)
                    | ConfigCommand::SetQuantityLimits(_) => {}
                }
            }
            Command::Partition(PartitionCommand::CloseCycles) => {
                self.closed_through = self.last_boundary(now).unwrap();
                self.look_at_all(Here { position, at: self.recorded_at });
                self.settle();
            }
            Command::Partition(PartitionCommand::CloseMonths) => {
                for (zone, open) in &mut self.months {
                    while month_ends(zone, *open) <= now {
                        *open = open.next();
                    }
                }
            }
            Command::Partition(PartitionCommand::TakeOwnership(_) | PartitionCommand::CopyConfig { .. }) => {}
        }
    }

    /// A released record is booked as if it came now; if it has become unbookable since, nothing happens.
    fn release(&mut self, id: &OrgId, place: UsagePlace, mended: Option<&Usage>, here: Here) {
        let organization = self.find(id).unwrap();
        let waiting = self.waiting_of(organization, place).unwrap().clone();
        let usage = mended.unwrap_or(&waiting.usage);
        if waiting.is_uncounted() && usage.producerseq.is_none() {
            let name = (usage.organization.clone(), usage.source.clone(), usage.id.clone());
            // The same id came by another way, and that one counts.
            if self.ids.get(&name).is_some_and(|(_, first)| *first != waiting.place) {
                return;
            }
        }
        let Ok((project, key, cost)) = self.bookable(organization, usage, waiting.reason, here.at) else {
            return;
        };
        let organization = self.organizations.iter_mut().find(|known| known.id == *id).unwrap();
        if let Some(number) = usage.producerseq {
            organization.count(&usage.source, number);
        }
        let of = project.clone();
        organization.consume(usage, (project, key, cost), waiting.place, here, true);
        self.look_at(id, &of, here);
        self.settle_waiting(id, place, (here.position, None));
    }

    fn settle_waiting(&mut self, id: &OrgId, place: UsagePlace, how: (u64, Option<Reason>)) {
        let place = (place.position.0, place.row);
        let waiting = self.waiting.iter_mut().find(|known| known.place == place).unwrap();
        waiting.settled = Some(how);
        self.organizations.iter_mut().find(|known| known.id == *id).unwrap().settlements += 1;
    }

    /// Records of an organization that wait, as they came.
    pub fn waiting(&self, id: &OrgId) -> Vec<((u64, u32), Usage)> {
        let mine = self.waiting.iter().filter(|known| known.usage.organization == *id);
        mine.map(|known| (known.place, known.usage.clone())).collect()
    }

    fn settle(&mut self) {
        for organization in &mut self.organizations {
            organization.settled = organization.booked.len();
        }
    }

    fn last_boundary(&self, now: Timestamp) -> Option<Timestamp> {
        let cycle = 1_000_000_000 * self.cycle_seconds;
        (cycle > 0).then(|| Timestamp::from_nanos(now.nanos() - now.nanos().rem_euclid(cycle)))
    }

    /// One organization.
    pub fn find(&self, id: &OrgId) -> Option<&OracleOrganization> {
        self.organizations.iter().find(|organization| organization.id == *id)
    }

    /// Everything of one entry, and what should become of each.
    pub fn usage(&mut self, usage: &[Usage], recorded_at: Timestamp, position: u64) -> Vec<Fate> {
        self.recorded_at = self.recorded_at.max(recorded_at);
        let mut fates = Vec::new();
        let here = Here { position, at: self.recorded_at };
        for (row, usage) in (0..).zip(usage) {
            let fate = self.one(usage, (position, row));
            self.records += 1;
            let organization = self.organizations.iter_mut().find(|known| known.id == usage.organization);
            match (&fate, organization) {
                (Fate::Booked, _) => {}
                (Fate::Duplicate, Some(organization)) => organization.duplicates += 1,
                (Fate::Duplicate, None) => panic!("nobody's record is no repetition"),
                (Fate::Quarantined(reason, _), organization) => {
                    self.quarantined += 1;
                    if let Some(organization) = organization {
                        organization.quarantined += 1;
                    }
                    self.tell_quarantined(Some(&usage.organization), reason, row, here);
                    let (place, usage) = ((position, row), usage.clone());
                    self.waiting.push(Waiting { place, usage, reason, settled: None });
                }
            }
            fates.push(fate);
        }
        self.look_at_booked(usage, &fates, here);
        if self.cycle_seconds == 0 {
            self.settle();
        }
        fates
    }

    /// Looks at every project of which something was booked, in the order in which whom to charge was first named, and at
    /// the balances.
    fn look_at_booked(&mut self, usage: &[Usage], fates: &[Fate], here: Here) {
        let mut named: Vec<(&OrgId, &Charged)> = Vec::new();
        for record in usage {
            if !named.contains(&(&record.organization, &record.charged)) {
                named.push((&record.organization, &record.charged));
            }
        }
        let mut looked: Vec<(&OrgId, ProjectId)> = Vec::new();
        for (id, charged) in named {
            let booked = usage.iter().zip(fates).any(|(record, fate)| {
                (&record.organization, &record.charged) == (id, charged) && *fate == Fate::Booked
            });
            if booked {
                let project = match charged {
                    Charged::Project(project) => project.clone(),
                    Charged::Key(key) => {
                        let keys = &self.find(id).unwrap().keys;
                        keys.iter().find(|known| known.0 == *key).unwrap().1.clone()
                    }
                };
                if !looked.contains(&(id, project.clone())) {
                    looked.push((id, project));
                }
            }
        }
        for (id, project) in &looked {
            self.look_at(id, project, here);
        }
        let mut ids: Vec<&OrgId> = looked.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        for id in ids {
            self.look_at_balance(id, here);
        }
    }

    /// Bytes that nobody could read.
    pub fn unreadable(&mut self, organization: Option<&OrgId>, recorded_at: Timestamp, position: u64) {
        self.recorded_at = self.recorded_at.max(recorded_at);
        self.tell_quarantined(organization, "unreadable", 0, Here { position, at: self.recorded_at });
        self.records += 1;
        self.quarantined += 1;
        if let Some(known) = self.organizations.iter_mut().find(|known| Some(&known.id) == organization) {
            known.quarantined += 1;
        }
    }

    fn one(&mut self, usage: &Usage, place: (u64, u32)) -> Fate {
        let because = |reason| Fate::Quarantined(reason, None);
        let given = match usage.occurred {
            Occurred::Given(at) => Some(at),
            Occurred::Assumed(_) => None,
        };
        let said = (usage.charged.clone(), usage.model.clone(), given, usage.tokens, usage.extras.clone());
        let mut first = None;
        if usage.producerseq.is_none() {
            let name = (usage.organization.clone(), usage.source.clone(), usage.id.clone());
            first = self.ids.get(&name).cloned();
            if first.is_none() {
                self.ids.insert(name, (said.clone(), place));
            }
        }
        let seconds = |at: Timestamp, more: i64| Timestamp::from_nanos(at.nanos() + more * 1_000_000_000);
        let occurred = usage.occurred.at();
        let Some(organization) = self.organizations.iter_mut().find(|known| known.id == usage.organization)
        else {
            return because("unknown_organization");
        };
        match (usage.producerseq, first) {
            (Some(number), _) => {
                if let Some(fate) = organization.count(&usage.source, number) {
                    return fate;
                }
            }
            (None, Some((before, _))) if before == said => return Fate::Duplicate,
            (None, Some((_, before))) => return Fate::Quarantined("conflicting_id", Some(before)),
            (None, None) if occurred < seconds(self.recorded_at, -62 * 86_400) => return because("too_old"),
            (None, None) => {}
        }
        let organization = self.find(&usage.organization).unwrap();
        let priced = match self.priced(organization, usage, self.recorded_at) {
            Ok(priced) => priced,
            Err(reason) => return because(reason),
        };
        let at = self.recorded_at;
        let organization = self.organizations.iter_mut().find(|known| known.id == usage.organization);
        let here = Here { position: place.0, at };
        organization.unwrap().consume(usage, priced, place, here, false);
        Fate::Booked
    }
}

/// When a month ends in a zone.
fn month_ends(zone: &TimeZone, month: Month) -> Timestamp {
    let next = month.next();
    let midnight = Date::new(next.year, next.month, 1).unwrap().at(0, 0, 0, 0);
    zone.to_ambiguous_zoned(midnight).compatible().unwrap().timestamp().try_into().unwrap()
}

fn publish(prices: &mut Prices, list: &NewPrices) {
    let from = list.effective_from.expect("walks say when");
    for (model, price) in &list.models {
        prices.retain(|known| known.0 != *model || known.1 != from);
        prices.push((model.clone(), from, price.clone()));
    }
}

/// What publishing a list should lead to, where `known` has a price already that something may have been charged by.
fn expect_prices(
    prices: &Prices,
    currency: &str,
    list: &NewPrices,
    earliest: Timestamp,
    known: &dyn Fn(&ModelName) -> bool,
) -> Expected {
    if currency != "USD" {
        return Expected::Refused("currency_mismatch");
    }
    let from = list.effective_from.expect("walks say when");
    let same = |model: &ModelName, price: &ModelPrice| {
        prices.iter().any(|known| known.0 == *model && known.1 == from && known.2 == *price)
    };
    if list.models.iter().all(|(model, price)| same(model, price)) {
        return Expected::AsItIs;
    }
    let late =
        list.models.iter().any(|(model, price)| known(model) && !same(model, price) && from < earliest);
    if late { Expected::Refused("price_in_the_past") } else { entry() }
}

fn entry() -> Expected {
    Expected::Entry { voucher: None, cycles: None }
}

/// What a record costs, or why it cannot be booked.
fn cost(own: &Prices, of_all: &Prices, usage: &Usage) -> Result<Decimal, &'static str> {
    let most = 1_000_000_000_000;
    let Tokens { input, cached_input, output } = usage.tokens;
    if input > most || output > most || cached_input > input {
        return Err("absurd");
    }
    let extras = usage.extras.as_deref().cloned().unwrap_or_default();
    if extras.meters.values().any(|units| *units > most) {
        return Err("absurd");
    }
    if let Some(cost) = extras.cost {
        let cost = cost.to_decimal();
        return if cost < Decimal::ZERO { Err("absurd") } else { Ok(cost) };
    }
    let latest = |prices: &Prices| {
        let mut in_force: Option<(Timestamp, ModelPrice)> = None;
        for (model, from, price) in prices {
            let begun = *model == usage.model && *from <= usage.occurred.at();
            if begun && in_force.as_ref().is_none_or(|other| other.0 < *from) {
                in_force = Some((*from, price.clone()));
            }
        }
        in_force
    };
    let (_, price) = latest(own).or_else(|| latest(of_all)).ok_or("unknown_model")?;
    let millionth = Decimal::new(1, 6);
    let mut sum = price.input.to_decimal() * Decimal::from(input - cached_input) * millionth
        + price.cached_input.to_decimal() * Decimal::from(cached_input) * millionth
        + price.output.to_decimal() * Decimal::from(output) * millionth;
    for (meter, units) in &extras.meters {
        let price = price.meters.get(meter).ok_or("unknown_meter")?;
        sum += price.to_decimal() * Decimal::from(*units) * millionth;
    }
    Ok(sum)
}

impl OracleOrganization {
    fn expect(&self, command: &OrganizationCommand) -> Expected {
        match command {
            OrganizationCommand::Register { .. } => Expected::Refused("organization_exists"),
            OrganizationCommand::CreateProject { .. } if self.projects.len() >= 20 => {
                Expected::Refused("project_limit")
            }
            OrganizationCommand::CreateProject { .. } => entry(),
            OrganizationCommand::IssueKey { project, member, .. } => {
                if !self.projects.contains(project) {
                    Expected::Refused("project_not_found")
                } else if member.as_ref().is_some_and(|member| *member != self.creator) {
                    Expected::Refused("member_not_found")
                } else if self.keys.len() >= 50 {
                    Expected::Refused("api_key_limit")
                } else {
                    entry()
                }
            }
            other => panic!("{other:?} is not about projects"),
        }
    }

    /// Notes a number of a source; the fate of its record, where that is settled by it.
    fn count(&mut self, source: &SourceName, number: u64) -> Option<Fate> {
        if !self.counts.iter().any(|(known, _)| known == source) {
            self.counts.push((source.clone(), Counts::default()));
        }
        let (_, counts) = self.counts.iter_mut().find(|(known, _)| known == source).unwrap();
        let highest = counts.seen.last().copied().unwrap_or(0);
        if number <= counts.complete {
            Some(Fate::Duplicate)
        } else if number > highest + (1 << 20) {
            Some(Fate::Quarantined("sequence_ahead", None))
        } else if number + 65_536 <= highest {
            Some(Fate::Quarantined("sequence_behind", None))
        } else if counts.seen.insert(number) {
            while counts.seen.contains(&(counts.complete + 1)) {
                counts.complete += 1;
            }
            None
        } else {
            Some(Fate::Duplicate)
        }
    }

    fn consume(
        &mut self,
        usage: &Usage,
        (project, key, cost): (ProjectId, Option<KeyId>, Decimal),
        place: (u64, u32),
        here: Here,
        released: bool,
    ) {
        let day = self.date(usage.occurred.at());
        let (model, tokens) = (usage.model.clone(), usage.tokens);
        let (booked, back) = ((here.at, here.position), false);
        let record = BookedRecord { day, project, key, model, tokens, cost, place, booked, back, released };
        self.booked.push(record);
        self.pay(cost, here.at);
    }

    /// The local date of an instant.
    pub fn date(&self, at: Timestamp) -> Date {
        at.to_jiff().to_zoned(self.zone.clone()).date()
    }

    /// Pending consumption of a project on a local day.
    pub fn pending(&self, project: &ProjectId, day: Date) -> Decimal {
        let pending = self.booked[self.settled..].iter();
        pending
            .filter(|record| record.project == *project && record.day == day)
            .map(BookedRecord::amount)
            .sum()
    }
}
