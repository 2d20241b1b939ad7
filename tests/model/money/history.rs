//! A ledger to which, over months, everything happens that can happen to money.

use std::collections::BTreeMap;

use super::compare;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollbook_projections::movement::{Movement, What};
use tollbook_projections::state::{Effect, QuarantinedWhat};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{
    Command, ConfigCommand, MoveIn, MovedInKey, OrganizationCommand as Of, PartitionCommand,
};
use tollbook_schemas::entry::Entry;
use tollbook_schemas::event::{Event, MoneyEvent};
use tollbook_schemas::id::{
    DisplayName, InvoiceId, KeyId, MeterName, ModelName, MovementId, NodeName, OrgId, ProjectId, Reason,
    RechargeId, Reference, SourceName, VoucherId,
};
use tollbook_schemas::policy::{LagModel, Tier, VoucherPolicy};
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::price::{ModelPrice, Price, PriceList};
use tollbook_schemas::role::Verification;
use tollbook_schemas::time::{Month, Timestamp, Zone};
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::memory::{MemoryLedger, Outcome, PARTITION, actor_of};
use tollbook_tests::script::{create_project, issue_key, member, recharge, register, sealed, secret_of};

/// Zones on both sides of UTC that change their clocks on different days, one of them at midnight, one by half an hour.
const ZONES: [&str; 12] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "Pacific/Kiritimati",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Pacific/Pago_Pago",
    "Africa/Casablanca",
];

/// Before every history.
const PAST: &str = "2025-01-01T00:00:00Z";
/// Models that have prices from the beginning; two more get some later.
const PRICED: usize = 4;
const MODELS: usize = 6;
const SOURCES: usize = 4;
/// Sources below count; the others go by id.
const COUNTING: usize = 2;

/// What is remembered of an organization to act on it.
#[derive(Clone, Debug)]
struct Customer {
    id: OrgId,
    projects: Vec<ProjectId>,
    keys: Vec<KeyId>,
    recharges: Vec<RechargeId>,
    references: Vec<String>,
    /// The next count of each counting source.
    counts: [u64; COUNTING],
}

pub(super) struct History {
    rng: StdRng,
    pub(super) ledger: MemoryLedger,
    pub(super) reached: BTreeMap<String, u64>,
    decisions: u64,
    ids: u128,
    writers: u64,
    customers: Vec<Customer>,
    /// What was sent of late.
    sent: Vec<Usage>,
    /// Records whose number was left out so far.
    held: Vec<Usage>,
    /// Some records that came, for taking back.
    came: Vec<(UsagePlace, Usage)>,
    /// Entries that were made and have not reached the log yet.
    late: Vec<(Topic, Entry)>,
    /// Instants at which something changes: prices, days, months.
    edges: Vec<Timestamp>,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        // Another time of the year for every seed.
        let begin: Timestamp = "2025-06-10T21:30:00Z".parse().unwrap();
        let begin = begin.plus_seconds(i64::try_from(seed % 12).unwrap() * 45 * 86_400);
        let mut history = Self {
            rng: StdRng::seed_from_u64(seed),
            ledger: MemoryLedger::new(begin),
            reached: BTreeMap::new(),
            decisions: 0,
            ids: 0,
            writers: 1,
            customers: Vec::new(),
            sent: Vec::new(),
            held: Vec::new(),
            came: Vec::new(),
            late: Vec::new(),
            edges: Vec::new(),
        };
        let from = PAST.parse().unwrap();
        let models: Vec<usize> = (0..PRICED).collect();
        history.publish(&models, from);
        for _ in 0..3 {
            history.register();
        }
        history
    }

    /// Usage records and decisions so far.
    pub(super) fn events(&self) -> u64 {
        self.decisions + self.ledger.state.head().usage_records
    }

    fn reach(&mut self, what: impl Into<String>) {
        *self.reached.entry(what.into()).or_insert(0) += 1;
    }

    fn chance(&mut self, of_thousand: u32) -> bool {
        self.rng.random_range(0..1_000) < of_thousand
    }

    fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    /// `digits` after the point, at least 1.
    fn amount(&mut self, most: i128) -> Amount {
        let units = match self.below(3) {
            0 => 1_000_000_000_000 * self.rng.random_range(1..=most),
            1 => 10_000_000_000 * self.rng.random_range(1..=most * 100),
            _ => self.rng.random_range(1..=most * 1_000_000_000_000),
        };
        Amount::from_units(units).unwrap()
    }

    pub(super) fn step(&mut self) {
        self.pass_time();
        match self.below(1_000) {
            0..520 => self.usage(),
            520..580 => self.recharge(),
            580..610 => self.refund(),
            610..630 => self.reverse_recharge(),
            630..650 => self.adjust(),
            650..690 => self.grant(),
            690..730 => self.reverse_usage(),
            730..780 => self.settle_quarantined(),
            780..800 => self.publish_some(),
            800..812 => self.publish_own(),
            812..830 => self.change_customer(),
            830..842 => self.configure(),
            842..850 => self.register(),
            850..856 => self.move_in(),
            856..870 => self.take_over(),
            870..885 => self.copy(),
            885..895 => self.ledger_restarts(),
            895..915 => self.append_late(),
            915..930 => self.unreadable(),
            930..945 => self.invoice(),
            _ => self.due(),
        }
        if self.chance(600) {
            self.due();
        }
    }

    fn pass_time(&mut self) {
        let seconds = match self.below(1_000) {
            0..500 => self.rng.random_range(0..600),
            500..880 => self.rng.random_range(1_800..14_400),
            880..960 => self.rng.random_range(14_400..86_400),
            960..990 => -self.rng.random_range(0..60),
            // To the edge of a UTC hour, where days of most zones begin.
            _ => 3_600 - self.ledger.now.seconds().rem_euclid(3_600) - i64::from(self.chance(500)),
        };
        let nanos = self.rng.random_range(0..1_000_000_000);
        self.ledger.now = self.ledger.now.plus_seconds(seconds).plus_nanos(nanos);
    }

    // Commands.

    fn command(&mut self, command: &Command) -> Option<Vec<Event>> {
        // Now and then an owner that does not know yet that it lost the partition.
        let term = self.ledger.state.head().term;
        let takes_over = matches!(command, Command::Partition(PartitionCommand::TakeOwnership(_)));
        let stale = !takes_over && self.chance(10);
        let outcome = self.ledger.command_in_term(&actor_of(command), command, None, term - u64::from(stale));
        self.note(outcome, stale)
    }

    fn note(
        &mut self,
        outcome: Result<Outcome, tollbook_schemas::rejection::Rejection>,
        stale: bool,
    ) -> Option<Vec<Event>> {
        match outcome {
            Ok(Outcome::Entry { .. }) if stale => {
                self.reach("void");
                None
            }
            Ok(Outcome::Entry { events, .. }) => {
                self.decisions += 1;
                Some(events)
            }
            Ok(Outcome::Before(_)) => {
                self.reach("before");
                None
            }
            Ok(Outcome::AsItIs) => None,
            Err(rejection) => {
                self.reach(format!("refused: {}", rejection.code()));
                None
            }
        }
    }

    fn of(&mut self, customer: usize, command: Of) -> Option<Vec<Event>> {
        let command = Command::Organization(self.customers[customer].id.clone(), command);
        // Usage that is booked between deciding and appending may take the cash, or the voucher.
        match self.below(20) {
            0 => {
                let ahead = self.rng.random_range(0..200_000);
                self.overtaken(customer, &command, ahead)
            }
            1..5 => self.overtaken(customer, &command, 0),
            _ => self.command(&command),
        }
    }

    /// What time alone brings about; sometimes late.
    fn due(&mut self) {
        if self.command(&Command::Partition(PartitionCommand::CloseCycles)).is_some() {
            self.reach("cycle closed");
        }
        let now = self.ledger.now;
        let due = self.ledger.state.expiries().take_while(|(at, _)| *at <= now);
        let expired: Vec<OrgId> = due.map(|(_, known)| known.id.clone()).collect();
        for id in expired {
            if self.command(&Command::Organization(id, Of::ExpireVouchers)).is_some() {
                self.reach("voucher expired");
            }
        }
        if self.ledger.state.month_end().is_some_and(|end| end <= now) && self.chance(700) {
            if self.command(&Command::Partition(PartitionCommand::CloseMonths)).is_some() {
                self.reach("month closed");
            }
            self.seal();
        }
    }

    fn seal(&mut self) {
        let due: Vec<(OrgId, Month)> = self
            .ledger
            .state
            .organizations()
            .flat_map(|known| known.waiting_for_seals().map(|month| (known.id.clone(), month)))
            .collect();
        for (id, month) in due {
            let known = self.ledger.state.organization(&id).unwrap();
            let hash = compare::statement_of(&self.ledger, known, month).hash();
            if self.command(&Command::Organization(id, Of::SealStatement { month, hash })).is_some() {
                self.reach("sealed");
            }
        }
    }

    fn customer(&mut self) -> usize {
        self.below(self.customers.len())
    }

    fn zone(&mut self) -> Zone {
        ZONES[self.below(ZONES.len())].parse().unwrap()
    }

    /// The next to come, which usage may name before it does.
    fn next_organization(&self) -> OrgId {
        OrgId::from_bits(1_000_000 + u128::try_from(self.customers.len()).unwrap())
    }

    fn register(&mut self) {
        if self.customers.len() >= 24 {
            return;
        }
        let (id, zone) = (self.next_organization(), self.zone());
        if self.command(&register(id.clone(), zone)).is_none() {
            return;
        }
        self.customers.push(Customer {
            id,
            projects: Vec::new(),
            keys: Vec::new(),
            recharges: Vec::new(),
            references: Vec::new(),
            counts: [1; COUNTING],
        });
        let customer = self.customers.len() - 1;
        for _ in 0..self.rng.random_range(1..4) {
            self.add_project(customer);
        }
    }

    fn add_project(&mut self, customer: usize) {
        let organization = self.customers[customer].id.clone();
        let project = ProjectId::from_bits(self.id());
        if self.command(&create_project(organization.clone(), project.clone())).is_none() {
            return;
        }
        self.customers[customer].projects.push(project.clone());
        for _ in 0..self.rng.random_range(1..3) {
            let key = KeyId::from_bits(self.id());
            if self.command(&issue_key(organization.clone(), project.clone(), key.clone(), None)).is_some() {
                self.customers[customer].keys.push(key);
            }
        }
    }

    fn move_in(&mut self) {
        if self.customers.len() >= 24 {
            return;
        }
        let (id, project, key) =
            (self.next_organization(), ProjectId::from_bits(self.id()), KeyId::from_bits(self.id()));
        let now = self.ledger.now;
        let expiry = |seconds: i64| Some(now.plus_seconds(seconds));
        let vouchers = vec![
            (VoucherId::from_bits(self.id()), self.amount(5), None),
            (VoucherId::from_bits(self.id()), self.amount(5), expiry(2_000_000)),
            // The same end: then the order of the list is that of age.
            (VoucherId::from_bits(self.id()), self.amount(5), expiry(2_000_000)),
        ];
        let owed = self.chance(300);
        let cash = self.amount(20);
        let name = DisplayName::parse("moved in").unwrap();
        let reference = format!("past {}", self.id());
        let owned = MoveIn {
            name: name.clone(),
            email: sealed(),
            creator: member("creator"),
            creator_name: sealed(),
            creator_email: sealed(),
            zone: self.zone(),
            verification: Verification::Verified,
            cash: if owed { cash.negated() } else { cash },
            cumulative_recharge: self.amount(50),
            voucher_granted: self.chance(500),
            references: vec![Reference::parse(&reference).unwrap()],
            vouchers,
            members: Vec::new(),
            projects: vec![(project.clone(), name.clone())],
            project_roles: Vec::new(),
            keys: vec![MovedInKey {
                key: key.clone(),
                project: project.clone(),
                member: member("creator"),
                name,
                secret: secret_of(&key),
                hint: "abcd".into(),
            }],
        };
        if self.command(&Command::Organization(id.clone(), Of::MoveIn(Box::new(owned)))).is_some() {
            self.reach("moved in");
            self.customers.push(Customer {
                id,
                projects: vec![project],
                keys: vec![key],
                recharges: Vec::new(),
                references: vec![reference],
                counts: [1; COUNTING],
            });
        }
    }

    /// Mostly a new one.
    fn reference(&mut self, customer: usize) -> Reference {
        if self.chance(100)
            && let Some(known) = any(&mut self.rng, &self.customers[customer].references)
        {
            return Reference::parse(&known).unwrap();
        }
        let new = format!("payment {}", self.id());
        self.customers[customer].references.push(new.clone());
        Reference::parse(&new).unwrap()
    }

    fn recharge(&mut self) {
        let customer = self.customer();
        let most = [2, 6, 6, 20, 20, 60, 60, 900][self.below(8)];
        let (amount, reference, id) = (self.amount(most), self.reference(customer), self.id());
        let organization = self.customers[customer].id.clone();
        let command = recharge(organization, amount, reference.as_str(), id);
        if let Some(events) = self.command(&command) {
            self.customers[customer].recharges.push(RechargeId::from_bits(id));
            self.reach("recharged");
            if events.len() > 1 {
                self.reach("voucher of the policy");
                // Soon enough for something to be left of the voucher.
                if self.chance(300) {
                    self.reverse(customer, RechargeId::from_bits(id));
                }
            }
        }
    }

    fn some_recharge(&mut self, customer: usize) -> RechargeId {
        any(&mut self.rng, &self.customers[customer].recharges).unwrap_or(RechargeId::from_bits(0))
    }

    fn invoiced(&mut self, customer: usize) -> Option<RechargeId> {
        let mine = self.ledger.movements.iter().filter(|(of, _)| *of == self.customers[customer].id);
        let invoiced: Vec<RechargeId> = mine
            .filter_map(|(_, movement)| match &movement.what {
                What::Invoice { recharges, .. } => {
                    Some(recharges.iter().map(|(recharge, _)| recharge.clone()))
                }
                _ => None,
            })
            .flatten()
            .collect();
        any(&mut self.rng, &invoiced)
    }

    fn refund(&mut self) {
        let customer = self.customer();
        let invoiced = self.chance(300).then(|| self.invoiced(customer)).flatten();
        let recharge = invoiced.or_else(|| self.chance(400).then(|| self.some_recharge(customer)));
        let cash = self.ledger.state.organization(&self.customers[customer].id).unwrap().purse.cash();
        let amount = if self.chance(400) && cash.is_positive() { cash } else { self.amount(10) };
        let command = Of::Refund {
            refund: MovementId::from_bits(self.id()),
            amount,
            reference: self.reference(customer),
            recharge,
            note: InvoiceId::from_bits(self.id()),
        };
        let command = Command::Organization(self.customers[customer].id.clone(), command);
        let events =
            if self.chance(500) { self.overtaken(customer, &command, 0) } else { self.command(&command) };
        for event in events.unwrap_or_default() {
            self.note_paid_back(&event);
        }
    }

    /// A decision that usage overtakes on its way into the log.
    /// The other node's clock is `ahead` by so many seconds.
    fn overtaken(&mut self, customer: usize, command: &Command, ahead: i64) -> Option<Vec<Event>> {
        let mut usage: Vec<_> = (0..20).map(|_| self.record(customer)).collect();
        let there = self.ledger.state.organization(&self.customers[customer].id).unwrap().purse.available();
        if self.chance(300) {
            // All there is, and more with the others.
            usage[0].extras = Some(Box::new(Extras { cost: Some(there), ..Extras::default() }));
        }
        let (topic, mut entry) = self.ledger.pack(&usage);
        entry.recorded_at = entry.recorded_at.plus_seconds(ahead);
        let (term, mut came) = (self.ledger.state.head().term, false);
        let outcome = self.ledger.command_overtaken(&actor_of(command), command, None, term, |ledger| {
            ledger.append(&topic, &entry).unwrap();
            came = true;
        });
        if came {
            self.reach("overtaken");
        } else {
            self.late.push((topic, entry));
        }
        self.note(outcome, false)
    }

    fn reverse_recharge(&mut self) {
        let customer = self.customer();
        let recharge = self.some_recharge(customer);
        self.reverse(customer, recharge);
    }

    fn reverse(&mut self, customer: usize, recharge: RechargeId) {
        let amount = if self.chance(500) { None } else { Some(self.amount(10)) };
        let command = Of::ReverseRecharge {
            reversal: MovementId::from_bits(self.id()),
            recharge,
            amount,
            reference: self.reference(customer),
            reason: reason(),
            note: InvoiceId::from_bits(self.id()),
        };
        for event in self.of(customer, command).unwrap_or_default() {
            self.note_paid_back(&event);
        }
    }

    fn note_paid_back(&mut self, event: &Event) {
        match event {
            Event::Money(MoneyEvent::RechargeReversed { .. }) => self.reach("charged back"),
            Event::Money(MoneyEvent::Refunded { requested, .. }) => {
                let (_, movement) = self.ledger.movements.iter().rev().find(is_refund).unwrap();
                let paid = movement.change.cash.negated();
                self.reach(match paid {
                    Amount::ZERO => "refunded nothing",
                    _ if paid == *requested => "refunded",
                    _ => "refunded in part",
                });
            }
            Event::Money(MoneyEvent::VoucherWithdrawn { .. }) => self.reach("voucher withdrawn"),
            Event::Money(MoneyEvent::CreditNoteIssued { .. }) => self.reach("credit note"),
            _ => {}
        }
    }

    fn adjust(&mut self) {
        let customer = self.customer();
        let amount = self.amount(3);
        let command = Of::Adjust {
            adjustment: MovementId::from_bits(self.id()),
            amount: if self.chance(500) { amount } else { amount.negated() },
            reference: self.reference(customer),
            reason: reason(),
            corrects: self
                .chance(200)
                .then(|| LogPosition { partition: PARTITION, position: self.ledger.state.head().position }),
        };
        if self.of(customer, command).is_some() {
            self.reach("adjusted");
        }
    }

    fn grant(&mut self) {
        let customer = self.customer();
        let expires_at = match self.below(4) {
            0 => None,
            1 => Some(self.ledger.now.plus_seconds(self.rng.random_range(3_600..400_000))),
            2 => Some(self.ledger.now.plus_seconds(self.rng.random_range(400_000..5_000_000))),
            // Whole days, so that some end together.
            _ => Some(Timestamp::from_seconds(
                (self.ledger.now.seconds() / 86_400 + self.rng.random_range(1..5)) * 86_400,
            )),
        };
        let command = Of::GrantVoucher {
            voucher: VoucherId::from_bits(self.id()),
            amount: self.amount(4),
            reference: self.reference(customer),
            expires_at,
            reason: self.chance(500).then(reason),
        };
        if self.of(customer, command).is_some() {
            self.reach("voucher granted");
        }
    }

    fn reverse_usage(&mut self) {
        let recent = if self.chance(500) { self.came.len().saturating_sub(30) } else { 0 };
        let Some((place, usage)) = any(&mut self.rng, &self.came[recent..]) else { return };
        // What ended in quarantine or as a repetition was never booked.
        let held = self.ledger.quarantine.iter().any(|held| held.place == place);
        if held || self.ledger.repeated.contains(&place) {
            return;
        }
        let known = self.ledger.state.organization(&usage.organization).unwrap();
        let booked = Box::new(self.ledger.state.as_booked(known, &usage, place).unwrap());
        let (reversal, reason) = (MovementId::from_bits(self.id()), reason());
        let command = Of::ReverseUsage { reversal, usage: place, booked, reason };
        if self.command(&Command::Organization(usage.organization, command)).is_some() {
            self.reach("usage taken back");
        }
    }

    fn settle_quarantined(&mut self) {
        for _ in 0..self.rng.random_range(1..6) {
            let Some(held) = any(&mut self.rng, &self.ledger.quarantine) else { return };
            let QuarantinedWhat::Usage(usage) = &held.what else { continue };
            if self.ledger.state.organization(&usage.organization).is_none() {
                continue;
            }
            let mended = match held.reason.code() {
                "unknown_key" | "unknown_project" | "unknown_organization" => {
                    let charged = self.charged_of(&usage.organization);
                    charged.map(|charged| Box::new(Usage { charged, ..usage.clone() }))
                }
                "absurd" => {
                    Some(Box::new(Usage { tokens: Tokens::default(), extras: None, ..usage.clone() }))
                }
                "unknown_meter" => Some(Box::new(Usage { extras: None, ..usage.clone() })),
                "sequence_ahead" => self.renumbered(usage).map(Box::new),
                _ => None,
            };
            let command = if self.chance(50) {
                Of::DismissUsage { place: held.place, reason: reason() }
            } else {
                Of::ReleaseUsage { place: held.place, usage: mended }
            };
            let what = if matches!(command, Of::DismissUsage { .. }) { "dismissed" } else { "released" };
            if self.command(&Command::Organization(usage.organization.clone(), command)).is_some() {
                self.reach(format!("{what}: {}", held.reason.code()));
            }
        }
    }

    /// With the number that its source meant.
    fn renumbered(&mut self, usage: &Usage) -> Option<Usage> {
        let customer = self.customers.iter().position(|known| known.id == usage.organization)?;
        let source = (0..COUNTING).find(|source| source_name(*source) == usage.source)?;
        let number = self.customers[customer].counts[source];
        self.customers[customer].counts[source] += 1;
        Some(Usage { producerseq: Some(number), ..usage.clone() })
    }

    fn charged_of(&mut self, organization: &OrgId) -> Option<Charged> {
        let customer = self.customers.iter().position(|known| known.id == *organization)?;
        any(&mut self.rng, &self.customers[customer].keys).map(Charged::Key)
    }

    // Configuration.

    fn publish_some(&mut self) {
        let models: Vec<usize> = (0..self.rng.random_range(1..3)).map(|_| self.below(MODELS)).collect();
        let unpriced = |history: &Self, model: usize| {
            history.ledger.state.config().prices.history(&model_name(model)).is_none()
        };
        // A first price begins before everything, or what came before it could never be released.
        let first = models.iter().any(|model| unpriced(self, *model));
        let from = if first { PAST.parse().unwrap() } else { self.begin() };
        if self.chance(300) {
            self.use_ahead(models[0]);
            let soon = self.ledger.now.plus_seconds(self.rng.random_range(0..100));
            self.publish(&models, soon);
            return;
        }
        self.publish(&models, from);
    }

    /// Usage that occurred a little ahead is charged by what is known of prices by then; and so it is taken back.
    fn use_ahead(&mut self, model: usize) {
        let customer = self.customer();
        let now = self.ledger.now;
        let usage: Vec<Usage> = (0..10)
            .map(|_| Usage {
                model: model_name(model),
                occurred: Occurred::Given(now.plus_seconds(self.rng.random_range(0..299))),
                extras: None,
                ..self.record(customer)
            })
            .collect();
        self.ledger.usage(&usage);
        let position = self.ledger.state.head().position;
        let places = (0..).map(|row| UsagePlace { position, row });
        self.came.extend(places.zip(usage));
    }

    /// When prices begin: now, later, or before, which only a first price may.
    fn begin(&mut self) -> Timestamp {
        match self.below(10) {
            0..4 => self.ledger.now.plus_seconds(self.rng.random_range(1..400_000)),
            4 => PAST.parse().unwrap(),
            5 => any(&mut self.rng, &self.edges).unwrap_or(self.ledger.now),
            _ => self.ledger.now,
        }
    }

    fn price_list(&mut self, models: &[usize], effective_from: Timestamp) -> PriceList {
        let mut list = PriceList { effective_from, models: BTreeMap::new() };
        for model in models {
            let mut price = || {
                let text = ["0", "0.6", "0.000001", "3.5", "12.123456"][self.rng.random_range(0..5)];
                text.parse::<Price>().unwrap()
            };
            let (input, cached_input, output, image) = (price(), price(), price(), price());
            let meters = BTreeMap::from([(MeterName::parse("image").unwrap(), image)]);
            let price = ModelPrice { input, cached_input, output, meters, max_output_tokens: None };
            list.models.insert(model_name(*model), price);
        }
        list
    }

    fn publish(&mut self, models: &[usize], from: Timestamp) {
        let list = self.price_list(models, from);
        let currency = "USD".to_owned();
        if self
            .command(&Command::Config(ConfigCommand::PublishPrices { currency, list: list.into() }))
            .is_some()
        {
            self.edges.push(from);
            self.reach("prices published");
        }
    }

    fn publish_own(&mut self) {
        let customer = self.customer();
        let models = [self.below(MODELS)];
        let from = self.begin();
        let list = self.price_list(&models, from);
        if self.of(customer, Of::PublishPrices { currency: "USD".into(), list: list.into() }).is_some() {
            self.edges.push(from);
            self.reach("own prices published");
        }
    }

    fn change_customer(&mut self) {
        let customer = self.customer();
        match self.below(5) {
            0 => {
                let zone = self.zone();
                let change = Of::Change { name: None, email: None, zone: Some(zone) };
                if self.chance(500) {
                    self.change_zone_too_late(customer, change);
                    return;
                }
                if self.of(customer, change).is_some() {
                    self.reach("another zone");
                }
            }
            1 => {
                let limit = self.chance(700).then(|| self.amount(20));
                if self.of(customer, Of::SetCreditLimit(limit)).is_some() {
                    self.reach("credit limit");
                }
            }
            2 => {
                let known = &self.customers[customer];
                let Some(project) = any(&mut self.rng, &known.projects) else { return };
                if known.projects.len() > 1 && self.of(customer, Of::ArchiveProject(project)).is_some() {
                    self.reach("project archived");
                }
            }
            _ => self.add_project(customer),
        }
    }

    /// Decided at the end of a month, and in the log after the next has begun: then it counts a month later.
    fn change_zone_too_late(&mut self, customer: usize, change: Of) {
        let known = self.ledger.state.organization(&self.customers[customer].id).unwrap();
        let next =
            known.calendar.day(self.ledger.now.max(self.ledger.state.head().recorded_at)).month().next();
        self.ledger.now = known.calendar.start_of_month(next).plus_seconds(-1);
        let command = Command::Organization(self.customers[customer].id.clone(), change);
        if self.overtaken(customer, &command, 2).is_some() {
            self.reach("another zone, too late");
        }
    }

    fn configure(&mut self) {
        let command = match self.below(3) {
            0 => {
                let cycle_seconds = [0, 60, 600, 600, 3_600, 86_400][self.below(6)];
                ConfigCommand::SetLagModel(LagModel { cycle_seconds, delay_seconds: 0 })
            }
            1 => {
                let days = [None, Some(3), Some(40)][self.below(3)];
                ConfigCommand::SetVoucherPolicy(VoucherPolicy {
                    threshold: [Amount::whole(5), self.amount(20)][self.below(2)],
                    amount: [Amount::whole(5), self.amount(10)][self.below(2)],
                    expires_after_days: days,
                })
            }
            _ => {
                let name = |text: &str| DisplayName::parse(text).unwrap();
                let tier = |text: &str, recharge| Tier {
                    name: name(text),
                    cumulative_recharge: recharge,
                    concurrency: Some(1),
                    rpm: None,
                    tpm: None,
                    tpd: None,
                };
                let (first, second) = (self.amount(3), self.amount(30));
                let tiers = vec![tier("Small", first), tier("Large", first.checked_add(second).unwrap())];
                ConfigCommand::PublishTiers { effective_from: Some(self.begin()), tiers }
            }
        };
        if self.command(&Command::Config(command)).is_some() {
            self.reach("configured");
        }
    }

    fn invoice(&mut self) {
        let recharged = |(_, movement): &&(OrgId, Movement)| matches!(movement.what, What::Recharge { .. });
        let months =
            self.ledger.movements.iter().filter(recharged).map(|(of, movement)| (of, movement.month));
        let months: Vec<(OrgId, Month)> = months.map(|(of, month)| (of.clone(), month)).collect();
        let Some((id, month)) = any(&mut self.rng, &months) else { return };
        let invoice = InvoiceId::from_bits(self.id());
        let command = Command::Organization(id, Of::IssueInvoice { invoice, month });
        if self.command(&command).is_some() {
            self.reach("invoiced");
        }
    }

    fn take_over(&mut self) {
        let node = NodeName::parse(&format!("node{}", self.below(3))).unwrap();
        self.command(&Command::Partition(PartitionCommand::TakeOwnership(node)));
        if self.chance(500) {
            self.writers += 1;
            self.ledger.change_writer(self.writers);
        }
    }

    fn copy(&mut self) {
        let message = any(&mut self.rng, &self.ledger.log).unwrap();
        let effects = self.ledger.append_bytes(&message.subject, message.payload).unwrap();
        assert!(matches!(effects[..], [Effect::Copy { .. }]), "{effects:?}");
        self.reach("copy");
    }

    fn ledger_restarts(&mut self) {
        self.ledger.restart();
        self.reach("restart");
    }

    fn unreadable(&mut self) {
        let customer = self.customer();
        let organization = self.chance(500).then(|| self.customers[customer].id.clone());
        self.ledger.unreadable(organization, "not JSON");
        self.reach("unreadable");
    }

    // Usage.

    fn usage(&mut self) {
        let records = self.rng.random_range(1..80);
        let customers: Vec<usize> = (0..self.rng.random_range(1..4)).map(|_| self.customer()).collect();
        let usage: Vec<Usage> = (0..records)
            .map(|_| {
                let customer = customers[self.below(customers.len())];
                self.record(customer)
            })
            .collect();
        let (topic, entry) = self.ledger.pack(&usage);
        if self.chance(60) {
            self.late.push((topic, entry));
            return;
        }
        let effects = self.ledger.append(&topic, &entry).unwrap();
        self.note_usage(&usage);
        for effect in effects {
            match effect {
                Effect::Quarantined(held) => self.reach(format!("fate: {}", held.reason.code())),
                Effect::Repeated { .. } => self.reach("fate: duplicate"),
                _ => {}
            }
        }
    }

    /// Remembers some of what came in the last entry but one, or the last.
    fn note_usage(&mut self, usage: &[Usage]) {
        let position = self.ledger.state.head().position;
        let place = self.below(usage.len());
        let row = u32::try_from(place).unwrap();
        self.came.push((UsagePlace { position, row }, usage[place].clone()));
    }

    fn append_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let place = self.below(self.late.len());
        let (topic, entry) = self.late.swap_remove(place);
        self.ledger.append(&topic, &entry).unwrap();
        self.reach("entry in late order");
    }

    fn record(&mut self, customer: usize) -> Usage {
        if self.chance(80)
            && let Some(usage) = self.repetition()
        {
            return usage;
        }
        if !self.held.is_empty() && self.chance(40) {
            let place = self.below(self.held.len());
            return self.held.swap_remove(place);
        }
        let source = self.below(SOURCES);
        let known = &self.customers[customer];
        let charged = match self.rng.random_range(0..40) {
            0 => None,
            1 => Some(Charged::Project(ProjectId::from_bits(0))),
            2..8 => any(&mut self.rng, &known.projects).map(Charged::Project),
            _ => any(&mut self.rng, &known.keys).map(Charged::Key),
        };
        let organization = known.id.clone();
        // Models without a price are asked for rarely.
        let model = if self.chance(20) { self.below(MODELS) } else { self.below(PRICED) };
        let mut usage = Usage {
            organization: if self.chance(4) { self.next_organization() } else { organization },
            charged: charged.unwrap_or(Charged::Key(KeyId::from_bits(0))),
            model: model_name(model),
            source: source_name(source),
            id: format!("r{}", self.id()),
            occurred: self.occurred(),
            producerseq: None,
            tokens: self.tokens(),
            extras: self.extras(),
        };
        if source < COUNTING {
            usage.producerseq = Some(self.count(customer, source, &usage));
        }
        self.sent.push(usage.clone());
        if self.sent.len() > 4_000 {
            self.sent.drain(..2_000);
        }
        usage
    }

    fn repetition(&mut self) -> Option<Usage> {
        let mut usage = any(&mut self.rng, &self.sent)?;
        if let Occurred::Assumed(_) = usage.occurred {
            usage.occurred = Occurred::Assumed(self.ledger.now);
        }
        if self.chance(60) {
            usage.tokens.output ^= 1;
        }
        Some(usage)
    }

    fn occurred(&mut self) -> Occurred {
        let now = self.ledger.now;
        let second = 1_000_000_000;
        let ago = match self.below(1_000) {
            0..600 => self.rng.random_range(0..60 * second),
            600..640 => return Occurred::Assumed(now),
            640..800 => self.rng.random_range(0..86_400 * second),
            800..840 => self.rng.random_range(86_400 * second..40 * 86_400 * second),
            840..850 => self.rng.random_range(40 * 86_400 * second..70 * 86_400 * second),
            850..855 => -300 * second,
            855..858 => -300 * second - 1,
            858..862 => -self.rng.random_range(300 * second..4_000 * second),
            862..880 => -self.rng.random_range(0..300 * second),
            880..930 => return Occurred::Given(self.edge_of_a_month()),
            _ => {
                // Around the instants at which prices change.
                let recent = self.edges.len().saturating_sub(8);
                let edge = any(&mut self.rng, &self.edges[recent..]).unwrap_or(now);
                let at = edge.plus_nanos(self.rng.random_range(-1..=1)).min(now);
                return Occurred::Given(at.max(now.plus_seconds(-70 * 86_400)));
            }
        };
        Occurred::Given(now.plus_nanos(-ago))
    }

    /// The first or last nanosecond of this month or day somewhere.
    fn edge_of_a_month(&mut self) -> Timestamp {
        let customer = self.customer();
        let known = self.ledger.state.organization(&self.customers[customer].id).unwrap();
        let today = known.calendar.day(self.ledger.now);
        let days = [today, today.month().first_day()];
        let at = known.calendar.start_of_day(days[self.rng.random_range(0..2)]);
        at.plus_nanos(-self.rng.random_range(0..2))
    }

    fn tokens(&mut self) -> Tokens {
        let input = self.rng.random_range(0..20_000);
        let (input, cached_input, output) = match self.below(400) {
            0 => (input, input + 1, 0),
            1 => (1_000_000_000_001, 0, 0),
            2 => (0, 0, 0),
            _ => (input, self.rng.random_range(0..=input), self.rng.random_range(0..2_000)),
        };
        Tokens { input, cached_input, output }
    }

    fn extras(&mut self) -> Option<Box<Extras>> {
        let meter = |name: &str, units| BTreeMap::from([(MeterName::parse(name).unwrap(), units)]);
        let extras = match self.below(400) {
            0..20 => Extras { meters: meter("image", self.rng.random_range(0..1_000)), ..Extras::default() },
            20..22 => Extras { meters: meter("tool_call", 1), ..Extras::default() },
            22..30 => {
                let units = self.rng.random_range(0..1_000_000_000_000);
                Extras { cost: Amount::from_units(units), ..Extras::default() }
            }
            30 => Extras { request_id: Some("q".into()), ..Extras::default() },
            31 => Extras { kept: Some(r#"{"attributes":{"a":1}}"#.into()), ..Extras::default() },
            _ => return None,
        };
        Some(Box::new(extras))
    }

    fn count(&mut self, customer: usize, source: usize, usage: &Usage) -> u64 {
        let mut number = self.customers[customer].counts[source];
        match self.below(1_000) {
            0..40 => {
                // Those between come later, or never.
                for left_out in 0..self.rng.random_range(1..4) {
                    let id = format!("h{}", self.id());
                    self.held.push(Usage { id, producerseq: Some(number + left_out), ..usage.clone() });
                }
                number += 4;
            }
            40 => number += self.rng.random_range(60_000..140_000),
            41 => return number + (1 << 20) + 70_000,
            42 => return 0,
            // Just in the window, and just below it.
            43..47 if number > 70_000 => return number - 65_536,
            47..51 if number > 70_000 => return number - 65_537,
            _ => {}
        }
        self.customers[customer].counts[source] = number + 1;
        number
    }
}

fn any<T: Clone>(rng: &mut StdRng, items: &[T]) -> Option<T> {
    match items.len() {
        0 => None,
        many => Some(items[rng.random_range(0..many)].clone()),
    }
}

fn is_refund((_, movement): &&(OrgId, Movement)) -> bool {
    matches!(movement.what, What::Refund { .. })
}

fn reason() -> Reason {
    Reason::parse("agreed by telephone").unwrap()
}

fn source_name(source: usize) -> SourceName {
    SourceName::parse(&format!("//gateway/{source}")).unwrap()
}

fn model_name(model: usize) -> ModelName {
    ModelName::parse(&format!("model-{model}")).unwrap()
}
