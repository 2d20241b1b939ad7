//! An independent model of the ledger: naive, slow, on `Decimal`, lists and scans. Knows the vocabulary of `schemas` and
//! nothing of how State is kept.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::id::{KeyId, MemberId, ModelName, OrgId, ProjectId, Reference, SourceName, TokenId};
use tollbook_schemas::price::ModelPrice;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage};

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
    prices: Vec<(ModelName, Timestamp, ModelPrice)>,
    cycle_seconds: i64,
    closed_through: Timestamp,
    tokens: Vec<TokenId>,
    /// Commands about the whole ledger that carried a key.
    remembered: Vec<(Idempotency, u64)>,
    /// Every id that ever came without a count, with what it said and where.
    ids: BTreeMap<Named, (Said, (u64, u32))>,
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
    /// Recharges, in order, with the entry of each.
    pub recharges: Vec<(Reference, Decimal, u64)>,
    /// What is left of the policy's voucher, once granted.
    pub voucher: Option<Decimal>,
    /// Cash.
    pub cash: Decimal,
    /// Everything that was ever consumed.
    pub spent: Decimal,
    /// Everything that was booked, in order.
    pub booked: Vec<BookedRecord>,
    /// How many of them were settled; the rest is pending.
    pub settled: usize,
    /// Records that were repetitions.
    pub duplicates: u64,
    /// Records that were quarantined.
    pub quarantined: u64,
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
            cycle_seconds: 600,
            closed_through: now,
            tokens: Vec::new(),
            remembered: Vec::new(),
            ids: BTreeMap::new(),
        }
    }

    /// What a command should lead to, whose entry would stand at `position`; it happens, unless it is `void`.
    pub fn command(
        &mut self,
        command: &Command,
        idempotency: Option<Idempotency>,
        now: Timestamp,
        position: u64,
        void: bool,
    ) -> Expected {
        let expected = match self.expect(command, idempotency, now) {
            Expected::AsItIs if idempotency.is_some() => Expected::Noted,
            expected => expected,
        };
        if expected == Expected::Noted {
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
        if let Expected::Entry { voucher, .. } = &expected {
            self.recorded_at = self.recorded_at.max(now);
            if !void {
                self.happen(command, idempotency, now, position, *voucher);
            }
        }
        expected
    }

    fn expect(&self, command: &Command, idempotency: Option<Idempotency>, now: Timestamp) -> Expected {
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
                (Some(_), OrganizationCommand::Register { .. }) => Expected::Refused("organization_exists"),
                (None, OrganizationCommand::Register { .. }) => entry(),
                (None, _) => Expected::Refused("organization_not_found"),
                (Some(organization), command) => organization.expect(command),
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
                panic!("no walk of this model closes months")
            }
        }
    }

    fn expect_config(&self, command: &ConfigCommand, now: Timestamp) -> Expected {
        match command {
            ConfigCommand::PublishPrices { currency, list } => {
                if currency != "USD" {
                    return Expected::Refused("currency_mismatch");
                }
                let earliest = now.max(self.recorded_at);
                let from = list.effective_from.expect("the walk says when");
                let same = |model: &ModelName, price: &ModelPrice| {
                    self.prices.iter().any(|known| known.0 == *model && known.1 == from && known.2 == *price)
                };
                if list.models.iter().all(|(model, price)| same(model, price)) {
                    return Expected::AsItIs;
                }
                let late = list.models.iter().any(|(model, price)| {
                    let known = self.prices.iter().any(|known| known.0 == *model);
                    known && !same(model, price) && from < earliest
                });
                if late { Expected::Refused("price_in_the_past") } else { entry() }
            }
            ConfigCommand::SetLagModel(lag) if i64::from(lag.cycle_seconds) == self.cycle_seconds => {
                Expected::AsItIs
            }
            ConfigCommand::RevokeToken(token) if !self.tokens.contains(token) => {
                Expected::Refused("token_not_found")
            }
            ConfigCommand::SetLagModel(_)
            | ConfigCommand::PublishTiers { .. }
            | ConfigCommand::SetVoucherPolicy(_)
            | ConfigCommand::SetDefaults(_)
            | ConfigCommand::SetQuantityLimits(_)
            | ConfigCommand::IssueToken { .. }
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
                if let OrganizationCommand::Register { zone, creator, .. } = command {
                    self.organizations.push(OracleOrganization {
                        id: id.clone(),
                        projects: Vec::new(),
                        keys: Vec::new(),
                        recharges: Vec::new(),
                        voucher: None,
                        cash: Decimal::ZERO,
                        spent: Decimal::ZERO,
                        booked: Vec::new(),
                        settled: 0,
                        duplicates: 0,
                        quarantined: 0,
                        zone: TimeZone::get(zone.name()).unwrap(),
                        creator: creator.clone(),
                        counts: Vec::new(),
                        remembered: Vec::new(),
                    });
                }
                let organization = self.organizations.iter_mut().find(|known| known.id == *id).unwrap();
                organization.remembered.extend(idempotency.map(|asked| (asked, position)));
                match command {
                    OrganizationCommand::Register { .. } => {}
                    OrganizationCommand::CreateProject { project, .. } => {
                        organization.projects.push(project.clone())
                    }
                    OrganizationCommand::IssueKey { key, project, .. } => {
                        organization.keys.push((key.clone(), project.clone()));
                    }
                    OrganizationCommand::Recharge { amount, reference, .. } => {
                        let amount = amount.to_decimal();
                        organization.cash += amount;
                        organization.recharges.push((reference.clone(), amount, position));
                        if voucher.is_some() {
                            organization.voucher = voucher;
                        }
                    }
                    other => panic!("{other:?} is not about money"),
                }
            }
            Command::Config(command) => {
                self.remembered.extend(idempotency.map(|asked| (asked, position)));
                match command {
                    ConfigCommand::PublishPrices { list, .. } => {
                        let from = list.effective_from.expect("the walk says when");
                        for (model, price) in &list.models {
                            self.prices.retain(|known| known.0 != *model || known.1 != from);
                            self.prices.push((model.clone(), from, price.clone()));
                        }
                    }
                    ConfigCommand::SetLagModel(lag) => {
                        self.cycle_seconds = i64::from(lag.cycle_seconds);
                        self.closed_through = self.recorded_at;
                        if self.cycle_seconds == 0 {
                            self.settle();
                        }
                    }
                    ConfigCommand::IssueToken { token, .. } => self.tokens.push(token.clone()),
                    ConfigCommand::RevokeToken(token) => self.tokens.retain(|known| known != token),
                    ConfigCommand::PublishTiers { .. }
                    | ConfigCommand::SetVoucherPolicy(_)
                    | ConfigCommand::SetDefaults(_)
                    | ConfigCommand::SetQuantityLimits(_) => {}
                }
            }
            Command::Partition(PartitionCommand::CloseCycles) => {
                self.closed_through = self.last_boundary(now).unwrap();
                self.settle();
            }
            Command::Partition(
                PartitionCommand::TakeOwnership(_)
                | PartitionCommand::CopyConfig { .. }
                | PartitionCommand::CloseMonths,
            ) => {}
        }
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
        for (row, usage) in (0..).zip(usage) {
            let fate = self.one(usage, (position, row));
            self.records += 1;
            let organization = self.organizations.iter_mut().find(|known| known.id == usage.organization);
            match (&fate, organization) {
                (Fate::Booked, _) => {}
                (Fate::Duplicate, Some(organization)) => organization.duplicates += 1,
                (Fate::Duplicate, None) => panic!("nobody's record is no repetition"),
                (Fate::Quarantined(..), organization) => {
                    self.quarantined += 1;
                    if let Some(organization) = organization {
                        organization.quarantined += 1;
                    }
                }
            }
            fates.push(fate);
        }
        if self.cycle_seconds == 0 {
            self.settle();
        }
        fates
    }

    /// Bytes that nobody could read.
    pub fn unreadable(&mut self, organization: Option<&OrgId>, recorded_at: Timestamp) {
        self.recorded_at = self.recorded_at.max(recorded_at);
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
        if occurred > seconds(self.recorded_at, 300) {
            return because("ahead");
        }
        let (project, key) = match &usage.charged {
            Charged::Key(id) => match organization.keys.iter().find(|(known, _)| known == id) {
                Some((_, project)) => (project.clone(), Some(id.clone())),
                None => return because("unknown_key"),
            },
            Charged::Project(id) if organization.projects.contains(id) => (id.clone(), None),
            Charged::Project(_) => return because("unknown_project"),
        };
        let cost = match cost(&self.prices, usage) {
            Ok(cost) => cost,
            Err(reason) => return because(reason),
        };
        if organization.spent + cost > most() {
            return because("absurd");
        }
        let day = occurred.to_jiff().to_zoned(organization.zone.clone()).date();
        let model = usage.model.clone();
        organization.booked.push(BookedRecord { day, project, key, model, tokens: usage.tokens, cost });
        organization.pay(cost);
        Fate::Booked
    }
}

fn entry() -> Expected {
    Expected::Entry { voucher: None, cycles: None }
}

/// What a record costs, or why it cannot be booked.
fn cost(prices: &[(ModelName, Timestamp, ModelPrice)], usage: &Usage) -> Result<Decimal, &'static str> {
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
    let mut in_force: Option<&(ModelName, Timestamp, ModelPrice)> = None;
    for price in prices {
        let begun = price.0 == usage.model && price.1 <= usage.occurred.at();
        if begun && in_force.is_none_or(|other| other.1 < price.1) {
            in_force = Some(price);
        }
    }
    let (_, _, price) = in_force.ok_or("unknown_model")?;
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
            OrganizationCommand::Recharge { amount, reference, .. } => {
                let amount = amount.to_decimal();
                if amount <= Decimal::ZERO {
                    return Expected::Refused("amount_not_positive");
                }
                for (known, before, position) in &self.recharges {
                    if known == reference {
                        let same = *before == amount;
                        let position = *position;
                        return if same {
                            Expected::Before(position)
                        } else {
                            Expected::Refused("reference_conflict")
                        };
                    }
                }
                let recharged = self.recharged() + amount;
                if recharged > most() {
                    return Expected::Refused("amount_out_of_range");
                }
                let five = Decimal::from(5);
                let earned = self.voucher.is_none() && recharged >= five;
                Expected::Entry { voucher: earned.then_some(five), cycles: None }
            }
            other => panic!("{other:?} is not about money"),
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

    fn pay(&mut self, cost: Decimal) {
        let from_voucher = self.voucher.unwrap_or_default().min(cost);
        self.voucher = self.voucher.map(|left| left - from_voucher);
        self.cash -= cost - from_voucher;
        self.spent += cost;
    }

    /// All recharges.
    pub fn recharged(&self) -> Decimal {
        self.recharges.iter().map(|(_, amount, _)| *amount).sum()
    }

    /// The tier by name.
    pub fn tier(&self) -> Option<&'static str> {
        let recharged = self.recharged();
        let rows =
            [(1, "Tier0"), (10, "Tier1"), (20, "Tier2"), (100, "Tier3"), (1_000, "Tier4"), (3_000, "Tier5")];
        rows.iter().rev().find(|(from, _)| recharged >= Decimal::from(*from)).map(|(_, name)| *name)
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
            .map(|record| record.cost)
            .sum()
    }
}
