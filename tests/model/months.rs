//! Statements over random histories: every month adds up and joins the next, everything that was ever used stands in
//! exactly one of them, and what is closed never changes, whatever comes later and however often it is folded again.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollbook_projections::first::{FirstPlacesInMemory, Lookup};
use tollbook_projections::record::Record;
use tollbook_projections::spend::Cell;
use tollbook_projections::state::{Effect, State};
use tollbook_projections::statement::{Gathered, Kept, UsedIn};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::id::{
    InvoiceId, MeterName, ModelName, MovementId, OrgId, Reason, Reference, SourceName, VoucherId,
};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::memory::{MemoryLedger, PARTITION, ledger_id};
use tollbook_tests::months::{close, gathered, months, seal, statement};
use tollbook_tests::script::{check, key, org, recharge};

const ORGANIZATIONS: [&str; 4] = ["berlin", "beirut", "auckland", "kolkata"];

/// Zones whose clocks change at midnight, at month ends, and not at all.
fn shop() -> MemoryLedger {
    let mut script = "
        at 2026-02-20T12:00:00Z
        price m input=0.60 cached=0.10 output=3 from=2025-01-01T00:00:00Z
        price n input=1 output=2 meter.image=7 from=2026-03-31T22:30:00Z
    "
    .to_owned();
    for (name, zone) in
        ORGANIZATIONS.iter().zip(["Europe/Berlin", "Asia/Beirut", "Pacific/Auckland", "Asia/Kolkata"])
    {
        script += &format!("organization {name} zone={zone}\nproject {name} web\nkey {name} web {name}\n");
    }
    check(&script)
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// So many seconds pass.
    Pass(i64),
    /// Records, each so many seconds old, of a model.
    Use {
        whose: usize,
        records: Vec<(i64, bool, u64)>,
    },
    /// A recharge of so many cents.
    Recharge(usize, u32),
    Refund(usize, u32),
    Adjust(usize, bool, u32),
    /// A voucher that expires after so many days.
    Grant(usize, u32, Option<i64>),
    Expire(usize),
    /// Takes back one of all that was booked.
    TakeBack(prop::sample::Index),
    Invoice(usize, u8),
    Zone(usize, usize),
    Close,
    Seal(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let whose = || 0..ORGANIZATIONS.len();
    let records = prop::collection::vec((0..40 * 86_400i64, any::<bool>(), 0..3_000_000u64), 1..6);
    let used = (whose(), records).prop_map(|(whose, records)| Step::Use { whose, records });
    prop_oneof![
        3 => (0..9 * 86_400i64).prop_map(Step::Pass),
        // Up to about where a month ends somewhere.
        2 => (0..30_000i64).prop_map(Step::Pass),
        6 => used,
        2 => (whose(), 1..2_000u32).prop_map(|(whose, cents)| Step::Recharge(whose, cents)),
        1 => (whose(), 1..2_000u32).prop_map(|(whose, cents)| Step::Refund(whose, cents)),
        1 => (whose(), any::<bool>(), 1..500u32).prop_map(|(whose, up, cents)| Step::Adjust(whose, up, cents)),
        1 => (whose(), 1..500u32, prop::option::of(1..40i64)).prop_map(|(whose, cents, days)| Step::Grant(whose, cents, days)),
        1 => whose().prop_map(Step::Expire),
        1 => any::<prop::sample::Index>().prop_map(Step::TakeBack),
        1 => (whose(), 0..4u8).prop_map(|(whose, ago)| Step::Invoice(whose, ago)),
        1 => (whose(), 0..4usize).prop_map(|(whose, zone)| Step::Zone(whose, zone)),
        2 => Just(Step::Close),
        2 => (1..6usize).prop_map(Step::Seal),
        1 => Just(Step::Restart),
    ]
}

struct Run {
    ledger: MemoryLedger,
    ids: u128,
    booked: Vec<(UsagePlace, Usage)>,
    /// Canonical bytes of every month that was ever seen closed.
    closed: BTreeMap<(OrgId, Month), Vec<u8>>,
}

fn cents(cents: u32) -> Amount {
    Amount::from_units(i128::from(cents) * 10_000_000_000).unwrap()
}

impl Run {
    fn id(&mut self) -> u128 {
        self.ids += 1;
        self.ids
    }

    /// What is refused is refused: most commands are tried at random.
    fn try_of(&mut self, whose: usize, command: OrganizationCommand) {
        let command = Command::Organization(org(ORGANIZATIONS[whose]), command);
        drop(self.ledger.command(&command, None));
    }

    fn step(&mut self, step: Step) {
        let bits = self.id();
        let reference = Reference::parse(&format!("=ref, \"{bits}\"")).unwrap();
        let reason = Reason::parse("because, so").unwrap();
        match step {
            Step::Pass(seconds) => self.ledger.now = self.ledger.now.plus_seconds(seconds),
            Step::Use { whose, records } => self.usage(whose, &records),
            Step::Recharge(whose, amount) => {
                let command = recharge(org(ORGANIZATIONS[whose]), cents(amount), reference.as_str(), bits);
                self.ledger.command(&command, None).unwrap();
            }
            Step::Refund(whose, amount) => self.try_of(
                whose,
                OrganizationCommand::Refund {
                    refund: MovementId::from_bits(bits),
                    amount: cents(amount),
                    reference,
                    recharge: None,
                    note: InvoiceId::from_bits(bits),
                },
            ),
            Step::Adjust(whose, up, amount) => self.try_of(
                whose,
                OrganizationCommand::Adjust {
                    adjustment: MovementId::from_bits(bits),
                    amount: if up { cents(amount) } else { cents(amount).negated() },
                    reference,
                    reason,
                    corrects: None,
                },
            ),
            Step::Grant(whose, amount, days) => {
                let expires_at = days.map(|days| self.ledger.now.plus_seconds(days * 86_400));
                let voucher = VoucherId::from_bits(bits);
                let amount = cents(amount);
                let command = OrganizationCommand::GrantVoucher {
                    voucher,
                    amount,
                    reference,
                    expires_at,
                    reason: None,
                };
                self.try_of(whose, command);
            }
            Step::Expire(whose) => self.try_of(whose, OrganizationCommand::ExpireVouchers),
            Step::TakeBack(index) => self.take_back(index, bits, reason),
            Step::Invoice(whose, ago) => {
                let today = self.ledger.state.organization(&org(ORGANIZATIONS[whose])).unwrap().month.month;
                let month = (0..ago).fold(today, |month, _| tollbook_tests::months::before(month));
                self.try_of(
                    whose,
                    OrganizationCommand::IssueInvoice { invoice: InvoiceId::from_bits(bits), month },
                );
            }
            Step::Zone(whose, zone) => {
                let zone =
                    ["Europe/Berlin", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/Santiago"][zone];
                let zone = Some(zone.parse().unwrap());
                self.try_of(whose, OrganizationCommand::Change { name: None, email: None, zone });
            }
            Step::Close => drop(close(&mut self.ledger)),
            Step::Seal(most) => drop(seal(&mut self.ledger, most)),
            Step::Restart => self.ledger.restart(),
        }
    }

    fn usage(&mut self, whose: usize, records: &[(i64, bool, u64)]) {
        let now = self.ledger.now;
        let usage: Vec<Usage> = records
            .iter()
            .map(|(ago, new, tokens)| {
                let meters = new.then(|| (MeterName::parse("image").unwrap(), tokens % 3));
                Usage {
                    organization: org(ORGANIZATIONS[whose]),
                    charged: Charged::Key(key(ORGANIZATIONS[whose])),
                    model: ModelName::parse(if *new { "n" } else { "m" }).unwrap(),
                    source: SourceName::parse("test").unwrap(),
                    id: self.id().to_string(),
                    occurred: Occurred::Given(now.plus_seconds(-ago)),
                    producerseq: None,
                    tokens: Tokens { input: *tokens, cached_input: tokens / 3, output: tokens / 7 },
                    extras: meters
                        .map(|meter| Box::new(Extras { meters: [meter].into(), ..Extras::default() })),
                }
            })
            .collect();
        let effects = self.ledger.usage(&usage);
        let unbooked = |place: UsagePlace| {
            effects
                .iter()
                .any(|effect| matches!(effect, Effect::Quarantined(record) if record.place == place))
        };
        let position = self.ledger.state.head().position;
        for (row, usage) in (0..).zip(usage) {
            let place = UsagePlace { position, row };
            if !unbooked(place) {
                self.booked.push((place, usage));
            }
        }
    }

    fn take_back(&mut self, index: prop::sample::Index, bits: u128, reason: Reason) {
        if self.booked.is_empty() {
            return;
        }
        let (place, usage) = self.booked[index.index(self.booked.len())].clone();
        let known = self.ledger.state.organization(&usage.organization).unwrap();
        let booked = self.ledger.state.as_booked(known, &usage, place).unwrap();
        let reversal = MovementId::from_bits(bits);
        let command =
            OrganizationCommand::ReverseUsage { reversal, usage: place, booked: Box::new(booked), reason };
        self.ledger.command(&Command::Organization(usage.organization, command), None).unwrap();
    }

    /// Every month adds up, joins the next, and is what it was once it was closed; usage is in exactly one.
    fn check(&mut self) {
        self.ledger.check();
        for name in ORGANIZATIONS {
            let id = org(name);
            let known = self.ledger.state.organization(&id).unwrap();
            let (funds, spent) = (known.purse.funds(), known.purse.spent());
            let mut closing = None;
            let mut used: BTreeMap<UsedIn, Cell> = BTreeMap::new();
            for month in months(&self.ledger, &id) {
                let statement = statement(&self.ledger, &id, month);
                assert_eq!(
                    statement.opening,
                    closing.unwrap_or_default(),
                    "{name} {month}: joins the month before"
                );
                closing = Some(statement.closing);
                let known = self.ledger.state.organization(&id).unwrap();
                if self.ledger.state.is_closed(known, month) {
                    let bytes = statement.csv();
                    let first = self.closed.entry((id.clone(), month)).or_insert_with(|| bytes.clone());
                    assert!(*first == bytes, "{name} {month}: it changed after it was closed");
                }
                for (line, cell) in statement.usage {
                    used.entry(line).or_default().add(&cell).unwrap();
                }
            }
            assert_eq!(closing, Some(funds), "{name}: the last month closes with what there is");
            let mut spend: BTreeMap<UsedIn, Cell> = BTreeMap::new();
            for (key, cell) in self.ledger.cells(&id) {
                let line = UsedIn { month: key.day.month(), project: key.project, model: key.model };
                spend.entry(line).or_default().add(&cell).unwrap();
            }
            spend.retain(|_, cell| !cell.is_nothing());
            for cell in spend.values_mut().chain(used.values_mut()) {
                cell.meters.retain(|_, units| *units != 0);
            }
            used.retain(|_, cell| !cell.is_nothing());
            assert_eq!(used, spend, "{name}: nothing is billed twice or lost");
            let cost = used.values().fold(Amount::ZERO, |all, cell| all.checked_add(cell.cost).unwrap());
            assert_eq!(cost, spent, "{name}");
        }
    }

    /// Every seal is of the bytes that were there when the month was closed; and folded again it is the same.
    fn check_seals(&self) {
        for (organization, seal) in &self.ledger.seals {
            let bytes = &self.closed[&(organization.clone(), seal.month)];
            assert_eq!(tollbook_projections::statement::Statement::hash_of(bytes), seal.hash);
        }
        let mut sealed: Vec<_> = self.ledger.seals.iter().map(|(id, seal)| (id, seal.month)).collect();
        let all = sealed.len();
        sealed.sort();
        sealed.dedup();
        assert_eq!(sealed.len(), all, "a month is sealed once");
        let (state, again) = refold(&self.ledger);
        for ((organization, month), bytes) in &self.closed {
            let known = state.organization(organization).unwrap();
            let kept = Kept::of(&state, known, *month, Timestamp::EPOCH).unwrap();
            assert!(kept.closed, "{organization} {month}");
            assert!(kept.with(again.booked(organization, *month)).unwrap().csv() == *bytes);
        }
    }
}

fn refold(ledger: &MemoryLedger) -> (State, Gathered) {
    let mut state = State::empty(PARTITION);
    let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
    let mut gathered = Gathered::default();
    for (position, message) in (1..).zip(&ledger.log) {
        let (subject, payload) = (&message.subject, &message.payload);
        let record = Record::read(&ledger_id(), PARTITION, Position(position), subject, payload);
        let sightings = lookup.sightings(&record).unwrap();
        for effect in state.apply(&record, &sightings).unwrap() {
            gathered.note(&effect);
        }
    }
    (state, gathered)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn r8_3_what_is_closed_never_changes_and_nothing_is_billed_twice_or_lost(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut run = Run { ledger: shop(), ids: 0, booked: Vec::new(), closed: BTreeMap::new() };
        for (number, step) in steps.into_iter().enumerate() {
            run.step(step);
            if number % 5 == 0 {
                run.check();
            }
        }
        run.check();
        run.check_seals();
        // In the end everything is closed and sealed, however long nobody looked.
        run.ledger.now = run.ledger.now.plus_seconds(200 * 86_400);
        close(&mut run.ledger);
        run.check();
        seal(&mut run.ledger, usize::MAX);
        prop_assert_eq!(seal(&mut run.ledger, usize::MAX), 0);
        run.check();
        run.check_seals();
        let active = run.closed.iter().filter(|((id, month), _)| {
            gathered(&run.ledger).booked(id, *month).ended.is_some_and(|ended| ended.month == *month)
        });
        prop_assert_eq!(active.count(), run.ledger.seals.len());
    }
}
