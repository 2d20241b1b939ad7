//! Random walks: the same steps for the engine and the oracle, compared after every entry.
//!
//! `TOLLBOOK_SEEDS=500 cargo test -p tollbook-tests --test model walk` runs that many seeds, `TOLLBOOK_SEEDS=17..18` one.

mod alerts;
mod money;

use std::collections::BTreeMap;

use jiff::civil::Date;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use tollbook_projections::state::{Effect, QuarantinedWhat};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::{Entry, Idempotency};
use tollbook_schemas::event::{Event, MoneyEvent, PartitionEvent, VoucherOrigin};
use tollbook_schemas::id::{
    DisplayName, KeyId, LedgerId, MemberId, MeterName, ModelName, NodeName, OrgId, ProjectId, SourceName,
    TokenId,
};
use tollbook_schemas::policy::{LagModel, Scope};
use tollbook_schemas::price::{ModelPrice, Price, PriceList};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::{Day, Month, Timestamp};
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Charged, Extras, Occurred, QuarantineReason, Tokens, Usage};
use tollbook_tests::memory::{MemoryLedger, Outcome, Prepared, actor_of, assert_audited, assert_same};
use tollbook_tests::oracle::money::Kind;
use tollbook_tests::oracle::{BookedRecord, Expected, Fate, Oracle};
use tollbook_tests::script::{create_project, idempotency, issue_key, recharge, register};

/// Seeds of a run that names none.
const SEEDS: std::ops::Range<u64> = 1..6;
/// Steps of one walk.
const STEPS: u32 = 2_000;
/// Steps between comparisons of everything.
const THOROUGH: u32 = 100;

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia", "America/St_Johns"];

/// Everything that a run must have reached, or its walks ask too little.
const REACHED: &[&str] = &[
    "at_once: entry",
    "before",
    "as it is",
    "close",
    "close: late",
    "copy",
    "entry in late order",
    "foreign",
    "refold",
    "restart",
    "takeover",
    "token issued",
    "token revoked",
    "unreadable",
    "void",
    "voucher",
    "zero cycle",
    "usage between",
    "released",
    "credit limit set",
    "own prices published",
    "tiers published",
    "voucher policy set",
    "months closed",
    "statement sealed",
    "moved in",
    "usage dismissed",
    "moved: recharge",
    "moved: refund",
    "moved: recharge_reversal",
    "moved: adjustment",
    "moved: voucher_grant",
    "moved: voucher_expiry",
    "moved: voucher_withdrawal",
    "moved: usage_reversal",
    "moved: opening_balance",
    "moved: invoice",
    "moved: credit_note",
    "balance alert set",
    "budgets set",
    "notifications set",
    "refusal noted",
    "defaults set",
    "alert: balance_low",
    "alert: budget_warning",
    "alert: budget_reached",
    "alert: spend_notification",
    "alert: tier_changed",
    "alert: voucher_granted",
    "alert: voucher_expiring",
    "alert: voucher_expired",
    "alert: usage_quarantined",
    "alert: of nobody",
    "alert: several of a kind in an entry",
    "breach: period_over",
    "breach: budget_changed",
    "breach: corrected",
    "breach: of a month",
    "breach: never seen",
    "breach: seen after a delay",
    "breach: refused",
    "breach: overshoot",
    "budget: refuses",
    "budget: of nothing",
    "budget: strict",
    "refused: amount_zero",
    "refused: entry_not_found",
    "refused: expiry_passed",
    "refused: month_open",
    "refused: not_in_quarantine",
    "refused: nothing_to_invoice",
    "refused: nothing_to_refund",
    "refused: recharge_not_found",
    "refused: refund_too_large",
    "refused: reversal_too_large",
    "refused: still_unbookable",
    "refused: tiers_in_the_past",
    "refused: amount_not_positive",
    "refused: amount_out_of_range",
    "refused: api_key_limit",
    "refused: currency_mismatch",
    "refused: idempotency_conflict",
    "refused: member_not_found",
    "refused: organization_exists",
    "refused: organization_not_found",
    "refused: price_in_the_past",
    "refused: project_limit",
    "refused: project_not_found",
    "refused: reference_conflict",
    "refused: token_not_found",
    "fate: booked",
    "fate: duplicate",
    "fate: absurd",
    "fate: ahead",
    "fate: conflicting_id",
    "fate: sequence_ahead",
    "fate: sequence_behind",
    "fate: too_old",
    "fate: unknown_key",
    "fate: unknown_meter",
    "fate: unknown_model",
    "fate: unknown_organization",
    "fate: unknown_project",
];

#[test]
fn r4_r6_r8_the_engine_and_the_oracle_agree_over_random_walks() {
    let mut reached = BTreeMap::new();
    for seed in told_seeds().unwrap_or(SEEDS) {
        let mut walk = Walk::new(seed);
        for step in 0..STEPS {
            walk.step = step;
            walk.step();
        }
        walk.end();
        for (what, times) in walk.reached {
            *reached.entry(what).or_insert(0) += times;
        }
    }
    for (what, times) in &reached {
        println!("{times:>9} {what}");
    }
    let missed: Vec<_> = REACHED.iter().filter(|what| !reached.contains_key(**what)).collect();
    assert!(missed.is_empty(), "the walks never reached {missed:?}");
}

/// The ledger at the end of one walk.
pub(crate) fn walked(seed: u64) -> MemoryLedger {
    let mut walk = Walk::new(seed);
    for step in 0..STEPS {
        walk.step = step;
        walk.step();
    }
    walk.end();
    walk.ledger
}

#[expect(clippy::disallowed_methods, reason = "how long to search is told by whoever runs it")]
pub(crate) fn told_seeds() -> Option<std::ops::Range<u64>> {
    let told = std::env::var("TOLLBOOK_SEEDS").ok()?;
    Some(match told.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 1..told.parse::<u64>().unwrap() + 1,
    })
}

struct Walk {
    seed: u64,
    step: u32,
    rng: StdRng,
    ledger: MemoryLedger,
    oracle: Oracle,
    reached: BTreeMap<String, u64>,
    /// Makes ids.
    ids: u128,
    writers: u64,
    /// Everything that was ever sent.
    sent: Vec<Usage>,
    /// The next count of each source of each organization.
    counts: BTreeMap<(OrgId, usize), u64>,
    /// Records whose count was left out so far.
    held: Vec<Usage>,
    /// Entries that were made and have not reached the log yet.
    late: Vec<(Topic, Entry, Vec<Usage>)>,
    /// Positions of entries of ours.
    entries: Vec<usize>,
    tokens: Vec<TokenId>,
    requests: Vec<(Command, Idempotency)>,
    /// Every record by where it stands.
    usage_at: BTreeMap<(u64, u32), Usage>,
    /// Records as they were released, where that was not as they came.
    mended: BTreeMap<(u64, u32), Usage>,
    /// How many alerts were compared, of the engine's and of the oracle's, and how many breaches that are over.
    compared: [usize; 2],
}

impl Walk {
    fn new(seed: u64) -> Self {
        let now: Timestamp = "2026-02-20T21:30:00Z".parse().unwrap();
        Self {
            seed,
            step: 0,
            rng: StdRng::seed_from_u64(seed),
            ledger: MemoryLedger::new(now),
            oracle: Oracle::new(now),
            reached: BTreeMap::new(),
            ids: 0,
            writers: 1,
            sent: Vec::new(),
            counts: BTreeMap::new(),
            held: Vec::new(),
            late: Vec::new(),
            entries: vec![0, 1],
            tokens: Vec::new(),
            requests: Vec::new(),
            usage_at: BTreeMap::new(),
            mended: BTreeMap::new(),
            compared: [0; 2],
        }
    }

    fn place(&self) -> String {
        format!("seed={} step={}", self.seed, self.step)
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

    fn step(&mut self) {
        self.pass_time();
        match self.below(1_000) {
            // Organizations, projects and keys first, or most usage has none.
            _ if self.step < 100 => self.set_up(),
            0..370 => self.usage(),
            370..430 => self.alerts(),
            430..600 => self.money(),
            600..660 => self.close(),
            660..720 => self.recharge(),
            720..780 => self.set_up(),
            780..810 => self.publish_prices(),
            810..818 => self.set_cycle(),
            818..830 => self.token(),
            830..842 => self.take_over(),
            842..852 => self.repeat_request(),
            852..882 => self.copy(),
            882..897 => self.foreign(),
            897..912 => self.unreadable(),
            912..930 => self.restart(),
            930..932 => self.refold(),
            932..960 => self.append_late(),
            _ => self.close(),
        }
        assert_eq!(self.ledger.state.head().recorded_at, self.oracle.recorded_at, "{}", self.place());
        if self.step.is_multiple_of(10) {
            self.reach_budgets();
        }
        if self.step.is_multiple_of(THOROUGH) {
            self.compare_all();
        }
    }

    fn end(&mut self) {
        while !self.late.is_empty() {
            self.append_late();
        }
        self.compare_all();
        self.refold();
        self.ledger.check_told(|position| position % 50 == 0);
        self.ledger.restart();
        let accepted = self.ledger.state.head().usage_records;
        assert_eq!(accepted, self.oracle.records, "{}", self.place());
    }

    fn pass_time(&mut self) {
        let seconds = match self.below(1_000) {
            0..700 => self.rng.random_range(0..30),
            700..900 => self.rng.random_range(60..1_200),
            900..950 => self.rng.random_range(3_600..20_000),
            950..954 => self.rng.random_range(86_400..259_200),
            // State forgets what is older than two days.
            954 if self.chance(300) => self.rng.random_range(3_888_000..5_000_000),
            954..958 => self.until_month_end(),
            958..990 => -self.rng.random_range(0..60),
            // To the edge of a UTC hour, where days of most zones begin.
            _ => 3_600 - self.ledger.now.seconds().rem_euclid(3_600) - i64::from(self.chance(500)),
        };
        self.ledger.now = self.ledger.now.plus_seconds(seconds).plus_nanos(self.rng.random_range(0..1_000));
    }

    // Commands.

    fn command(&mut self, command: &Command) {
        let asked = self.chance(200).then(|| {
            let id = self.id();
            idempotency(&format!("key {id}"), &format!("{command:?}"))
        });
        if let Some(asked) = asked {
            self.requests.push((command.clone(), asked));
        }
        self.command_with(command, asked);
    }

    fn command_with(&mut self, command: &Command, asked: Option<Idempotency>) {
        let term = self.ledger.state.head().term;
        // An owner that does not know yet that it lost the partition.
        let takes_over = matches!(command, Command::Partition(PartitionCommand::TakeOwnership(_)));
        let stale = !takes_over && self.chance(30);
        let now = self.ledger.now;
        let head = self.ledger.state.head().position.0;
        let expected = self.oracle.ask(command, asked, now, head);
        let before = matches!(expected, Expected::Refused(_)).then(|| self.ledger.digest());
        let prepared = self.ledger.prepare(&actor_of(command), command, asked, term - u64::from(stale));
        let mut position = head + 1;
        let outcome = match prepared {
            Ok(Prepared::Entry(topic, entry)) => {
                // Usage waits for no decision.
                if matches!(command, Command::Organization(..)) && self.chance(150) {
                    self.reach("usage between");
                    self.usage();
                    position = self.ledger.state.head().position.next().0;
                }
                self.oracle.book(command, asked, now, position, stale, &expected);
                Ok(self.ledger.book(&topic, &entry))
            }
            Ok(Prepared::Nothing(outcome)) => Ok(outcome),
            Err(rejection) => Err(rejection),
        };
        let place = self.place();
        match (outcome, expected) {
            (Ok(Outcome::Entry { position: at, events, effects }), Expected::Entry { voucher, cycles }) => {
                assert_eq!(at.0, position, "{place}");
                self.entries.push(self.ledger.log.len() - 1);
                let granted = events.iter().find_map(|event| match event {
                    Event::Money(MoneyEvent::VoucherGranted { origin: VoucherOrigin::MovedIn, .. }) => None,
                    Event::Money(MoneyEvent::VoucherGranted { amount, .. }) => Some(amount.to_decimal()),
                    _ => None,
                });
                let closed = events.iter().find_map(|event| match event {
                    Event::Partition(PartitionEvent::BillingCycleClosed { cycles, .. }) => {
                        Some(i64::from(*cycles))
                    }
                    _ => None,
                });
                assert_eq!((granted, closed), (voucher, cycles), "{place}: {command:?}");
                if stale {
                    assert!(matches!(effects[..], [Effect::Voided { .. }]), "{place}: {effects:?}");
                    self.reach("void");
                } else {
                    assert_audited(command, &events, &effects);
                    if voucher.is_some() {
                        self.reach("voucher");
                    }
                    for effect in &effects {
                        if let Effect::Moved { movement, .. } = effect {
                            self.reach(format!("moved: {}", movement.kind().code()));
                        }
                    }
                    if cycles.is_some_and(|cycles| cycles > 1) {
                        self.reach("close: late");
                    }
                    self.reach(name_of(command));
                }
                if let Command::Organization(id, _) = command {
                    self.compare(&id.clone());
                }
            }
            (Ok(Outcome::Before(at)), Expected::Before(before)) => {
                assert_eq!(at.0, before, "{place}");
                self.reach("before");
            }
            (Ok(Outcome::AsItIs), Expected::AsItIs) => self.reach("as it is"),
            (Ok(Outcome::Entry { events, effects, .. }), Expected::Noted) => {
                assert!(events.is_empty(), "{place}: {command:?}: {events:?}");
                let quiet = |effect: &Effect| {
                    matches!(
                        effect,
                        Effect::Remembered { .. } | Effect::CellsClosed { .. } | Effect::MonthEnded { .. }
                    )
                };
                let void = matches!(effects[..], [Effect::Voided { .. }]);
                assert!(if stale { void } else { effects.iter().all(quiet) }, "{place}: {effects:?}");
                self.entries.push(self.ledger.log.len() - 1);
                self.reach("noted");
            }
            (Err(rejection), Expected::Refused(code)) => {
                assert_eq!(rejection.code(), code, "{place}: {command:?}");
                assert_eq!(Some(self.ledger.digest()), before, "{place}: a refusal changed the digest");
                self.reach(format!("refused: {code}"));
            }
            (outcome, expected) => panic!("{place}: {command:?}: {outcome:?}, the oracle {expected:?}"),
        }
        self.compare_counts();
    }

    fn any_organization(&mut self) -> OrgId {
        // One more than there are is sometimes unknown.
        OrgId::from_bits(self.rng.random_range(1..9))
    }

    fn set_up(&mut self) {
        let organization = self.any_organization();
        let projects =
            self.oracle.find(&organization).map(|known| known.projects.clone()).unwrap_or_default();
        let command = match self.below(10) {
            // Some come with a past.
            0..3 if organization >= OrgId::from_bits(7) => return self.move_in(&organization),
            0..3 => {
                let zone = ZONES[self.below(ZONES.len())].parse().unwrap();
                register(organization, zone)
            }
            3..5 => create_project(organization, ProjectId::from_bits(self.id())),
            _ => {
                let project = match projects.len() {
                    0 => ProjectId::from_bits(0),
                    _ if self.chance(50) => ProjectId::from_bits(0),
                    known => projects[self.below(known)].clone(),
                };
                let member = match self.below(20) {
                    0 => Some(MemberId::parse("mem_stranger").unwrap()),
                    1..5 => Some(MemberId::parse("mem_creator").unwrap()),
                    _ => None,
                };
                issue_key(organization, project, KeyId::from_bits(self.id()), member)
            }
        };
        self.command(&command);
        // Limits are far away: now and then somebody wants many at once.
        if self.chance(90) {
            for _ in 0..25 {
                let (organization, id) = match &command {
                    Command::Organization(id, _) => (id.clone(), self.id()),
                    _ => return,
                };
                let more = match (&command, projects.first()) {
                    (Command::Organization(_, OrganizationCommand::IssueKey { .. }), Some(project)) => {
                        issue_key(organization, project.clone(), KeyId::from_bits(id), None)
                    }
                    _ => create_project(organization, ProjectId::from_bits(id)),
                };
                self.command(&more);
            }
        }
    }

    fn recharge(&mut self) {
        let organization = self.any_organization();
        let units = match self.below(100) {
            0..4 => 0,
            4..8 => -self.rng.random_range(1..1_000_000_000_000i128),
            8..10 => 10_000_000_000_000_000_000_000_000_000,
            10..60 => 1_000_000_000_000 * self.rng.random_range(1..4),
            60..90 => self.rng.random_range(1..5_000_000_000_000),
            _ => self.rng.random_range(1..3_000_000_000_000_000),
        };
        let known = self.oracle.find(&organization).map_or_else(Vec::new, |known| {
            let recharges = known.lines.iter().filter(|line| line.kind == Kind::Recharge);
            recharges.filter_map(|line| Some((line.reference.clone()?, line.cash))).collect()
        });
        let mut amount = Amount::from_units(units).unwrap();
        let mut reference = format!("payment {}", self.id());
        if !known.is_empty() && self.chance(250) {
            let (before, paid) = &known[self.below(known.len())];
            reference.clone_from(before);
            if self.chance(600) {
                amount = Amount::try_from(*paid).unwrap();
            }
        }
        // Of a reference that somebody brought.
        if self.chance(20) {
            reference = "a".into();
        }
        let id = self.id();
        self.command(&recharge(organization, amount, &reference, id));
    }

    fn publish_prices(&mut self) {
        let (currency, list) = self.price_list();
        let command = Command::Config(ConfigCommand::PublishPrices { currency, list: list.into() });
        self.command(&command);
        if self.chance(200) {
            // Once more: nothing to do.
            self.command_with(&command, None);
        }
    }

    fn price_list(&mut self) -> (String, PriceList) {
        let mut models = BTreeMap::new();
        for _ in 0..self.rng.random_range(1..3) {
            let model = self.below(4);
            // Few values, so that the same price comes again.
            let mut price = || {
                let text = ["0", "0.6", "0.000001", "3.5", "1000"][self.rng.random_range(0..5)];
                text.parse::<Price>().unwrap()
            };
            let (input, cached_input, output, image) = (price(), price(), price(), price());
            let meters = BTreeMap::from([(MeterName::parse("image").unwrap(), image)]);
            let price = ModelPrice { input, cached_input, output, meters, max_output_tokens: None };
            models.insert(ModelName::parse(&format!("model-{model}")).unwrap(), price);
        }
        let now = self.ledger.now;
        let effective_from = match self.below(10) {
            0..3 => "2026-01-01T00:00:00Z".parse().unwrap(),
            3..6 => now.plus_seconds(self.rng.random_range(1..100_000)),
            6 => now.plus_seconds(-self.rng.random_range(1..100_000)),
            _ => now,
        };
        let currency = if self.chance(50) { "EUR" } else { "USD" }.to_owned();
        (currency, PriceList { effective_from, models })
    }

    fn set_cycle(&mut self) {
        let cycle_seconds = [0, 60, 600, 600, 600, 3_600][self.below(6)];
        let delay_seconds = [0, 0, 0, 45, 400][self.below(5)];
        if cycle_seconds == 0 {
            self.reach("zero cycle");
        }
        self.command(&Command::Config(ConfigCommand::SetLagModel(LagModel { cycle_seconds, delay_seconds })));
    }

    fn token(&mut self) {
        let command = match self.tokens.len() {
            0 => ConfigCommand::RevokeToken(TokenId::from_bits(0)),
            known if self.chance(500) => {
                let place = self.below(known);
                ConfigCommand::RevokeToken(self.tokens[place].clone())
            }
            _ => ConfigCommand::RevokeToken(TokenId::from_bits(0)),
        };
        let command = if self.chance(500) {
            let token = TokenId::from_bits(self.id());
            self.tokens.push(token.clone());
            let name = DisplayName::parse("a token").unwrap();
            let (scopes, secret) = (vec![Scope::Publisher], SecretHash([1; 32]));
            ConfigCommand::IssueToken { token, name, scopes, organizations: None, secret }
        } else {
            command
        };
        self.command(&Command::Config(command));
    }

    fn take_over(&mut self) {
        let node = NodeName::parse(&format!("node{}", self.below(3))).unwrap();
        self.command_with(&Command::Partition(PartitionCommand::TakeOwnership(node)), None);
        if self.chance(500) {
            self.writers += 1;
            self.ledger.change_writer(self.writers);
        }
    }

    fn close(&mut self) {
        self.command_with(&Command::Partition(PartitionCommand::CloseCycles), None);
        if self.chance(100) {
            self.compare_all_spend();
        }
    }

    fn repeat_request(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let place = self.below(self.requests.len());
        let (command, mut asked) = self.requests[place].clone();
        if self.chance(300) {
            asked.content[0] ^= 1;
        }
        // What was refused then may be a new entry now, with ids that nobody has: the request is made anew.
        let fresh = match &command {
            Command::Organization(id, OrganizationCommand::CreateProject { .. }) => {
                create_project(id.clone(), ProjectId::from_bits(self.id()))
            }
            Command::Organization(id, OrganizationCommand::IssueKey { project, member, .. }) => {
                issue_key(id.clone(), project.clone(), KeyId::from_bits(self.id()), member.clone())
            }
            // What was read of the log then may be read otherwise by now.
            Command::Organization(_, OrganizationCommand::ReleaseUsage { .. }) => return,
            _ => command,
        };
        self.command_with(&fresh, Some(asked));
    }

    // Usage.

    fn usage(&mut self) {
        let many = if self.chance(20) { 200 } else { 25 };
        let records = self.rng.random_range(1..=many);
        let usage: Vec<_> = (0..records).map(|_| self.record()).collect();
        let (topic, entry) = self.ledger.pack(&usage);
        if self.chance(60) {
            self.late.push((topic, entry, usage));
        } else {
            self.append(&topic, &entry, &usage);
        }
        if self.chance(30) {
            self.ledger.skip_counts(1);
        }
    }

    fn append_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let place = self.below(self.late.len());
        let (topic, entry, usage) = self.late.swap_remove(place);
        self.reach("entry in late order");
        self.append(&topic, &entry, &usage);
    }

    fn append(&mut self, topic: &Topic, entry: &Entry, usage: &[Usage]) {
        let position = self.ledger.state.head().position.next().0;
        let fates = self.oracle.usage(usage, entry.recorded_at, position);
        for (row, usage) in (0..).zip(usage) {
            self.usage_at.insert((position, row), usage.clone());
        }
        let effects = self.ledger.append(topic, entry).unwrap();
        self.entries.push(self.ledger.log.len() - 1);
        let place = self.place();
        let quarantined = effects.iter().filter_map(|effect| match effect {
            Effect::Quarantined(record) => Some(record),
            Effect::CellsClosed { .. } | Effect::MonthEnded { .. } | Effect::Repeated { .. } => None,
            other => panic!("{place}: {other:?}"),
        });
        let mut given = vec![None; usage.len()];
        for record in quarantined {
            let row = usize::try_from(record.place.row).unwrap();
            let first = match &record.reason {
                QuarantineReason::ConflictingId { first } => Some((first.position.0, first.row)),
                _ => None,
            };
            assert_eq!(record.what, QuarantinedWhat::Usage(usage[row].clone()), "{place}");
            given[row] = Some(Fate::Quarantined(record.reason.code(), first));
        }
        for ((row, usage), (given, fate)) in usage.iter().enumerate().zip(given.iter().zip(&fates)) {
            let expected = Some(fate).filter(|fate| matches!(fate, Fate::Quarantined(..)));
            assert_eq!(given.as_ref(), expected, "{place} row {row}: {usage:?}");
            self.reach(match fate {
                Fate::Booked => "fate: booked".to_owned(),
                Fate::Duplicate => "fate: duplicate".to_owned(),
                Fate::Quarantined(code, _) => format!("fate: {code}"),
            });
        }
        if self.ledger.state.config().lag.cycle_seconds == 0 {
            self.reach("at_once: entry");
        }
        let mut organizations: Vec<_> = usage.iter().map(|usage| usage.organization.clone()).collect();
        organizations.sort_unstable();
        organizations.dedup();
        for organization in organizations {
            self.compare(&organization);
        }
        self.compare_counts();
    }

    fn record(&mut self) -> Usage {
        if !self.sent.is_empty() && self.chance(150) {
            return self.repetition();
        }
        if !self.held.is_empty() && self.chance(60) {
            let place = self.below(self.held.len());
            let usage = self.held.swap_remove(place);
            self.sent.push(usage.clone());
            return usage;
        }
        let mut organization = self.any_organization();
        // Some use little, so that they have cash and vouchers most of the time.
        if self.chance(900) {
            organization = OrgId::from_bits(self.rng.random_range(1..4));
        }
        if self.oracle.find(&organization).is_none() && self.chance(900) {
            organization = OrgId::from_bits(1);
        }
        let charged = self.charged(&organization);
        let model = match self.below(40) {
            0 => "unpriced".to_owned(),
            _ => format!("model-{}", self.below(4)),
        };
        let source = self.below(5);
        let mut usage = Usage {
            charged,
            model: ModelName::parse(&model).unwrap(),
            source: SourceName::parse(&format!("//gateway/{source}")).unwrap(),
            id: format!("r{}", self.id()),
            occurred: self.occurred(),
            producerseq: None,
            tokens: self.tokens(),
            extras: self.extras(),
            organization,
        };
        // Some sources count.
        if source < 3 {
            usage.producerseq = Some(self.count(&usage, source));
        }
        self.sent.push(usage.clone());
        usage
    }

    fn repetition(&mut self) -> Usage {
        let recent = self.sent.len().min(500);
        let place = if self.chance(500) {
            self.sent.len() - 1 - self.below(recent)
        } else {
            self.below(self.sent.len())
        };
        let mut usage = self.sent[place].clone();
        if let Occurred::Assumed(_) = usage.occurred {
            usage.occurred = Occurred::Assumed(self.ledger.now);
        }
        if self.chance(100) {
            match self.below(3) {
                0 => usage.tokens.output ^= 1,
                1 => usage.model = ModelName::parse("model-0").unwrap(),
                _ => usage.occurred = self.occurred(),
            }
        }
        usage
    }

    fn charged(&mut self, organization: &OrgId) -> Charged {
        let known = self.oracle.find(organization);
        let (keys, projects) =
            known.map(|known| (known.keys.clone(), known.projects.clone())).unwrap_or_default();
        match self.below(20) {
            0 => Charged::Key(KeyId::from_bits(0)),
            1 => Charged::Project(ProjectId::from_bits(0)),
            2..6 if !projects.is_empty() => Charged::Project(projects[self.below(projects.len())].clone()),
            _ if !keys.is_empty() => {
                // Few keys take most of the calls.
                let few = if self.chance(700) { keys.len().min(3) } else { keys.len() };
                Charged::Key(keys[self.below(few)].0.clone())
            }
            _ => Charged::Key(KeyId::from_bits(0)),
        }
    }

    fn occurred(&mut self) -> Occurred {
        let now = self.ledger.now;
        let ago = match self.below(1_000) {
            0..650 => self.rng.random_range(0..5_000_000_000),
            650..750 => return Occurred::Assumed(now),
            750..900 => self.rng.random_range(0..86_400_000_000_000),
            900..970 => 1_000_000_000 * self.rng.random_range(86_400..2_000_000),
            970..985 => 1_000_000_000 * self.rng.random_range(2_000_000..8_000_000),
            // Exactly at a bound, one nanosecond beyond it, or well ahead.
            985..988 => -300_000_000_000,
            988..990 => -300_000_000_001,
            990..995 => -self.rng.random_range(0..299_000_000_000),
            _ => -self.rng.random_range(300_000_000_001..4_000_000_000_000),
        };
        Occurred::Given(now.plus_nanos(-ago))
    }

    fn tokens(&mut self) -> Tokens {
        let input = self.rng.random_range(0..100_000);
        let (input, cached_input, output) = match self.below(200) {
            0 => (input, input + 1, 0),
            1 => (1_000_000_000_001, 0, 0),
            2 => (0, 0, u64::MAX),
            3 => (1_000_000_000_000, 1, 1_000_000_000_000),
            _ => (input, self.rng.random_range(0..=input), self.rng.random_range(0..10_000)),
        };
        Tokens { input, cached_input, output }
    }

    fn extras(&mut self) -> Option<Box<Extras>> {
        let meter = |name: &str, units| BTreeMap::from([(MeterName::parse(name).unwrap(), units)]);
        let extras = match self.below(200) {
            0..8 => Extras { meters: meter("image", self.rng.random_range(0..10)), ..Extras::default() },
            8..10 => Extras { meters: meter("tool_call", 1), ..Extras::default() },
            10 => Extras { meters: meter("image", u64::MAX), ..Extras::default() },
            11..16 => {
                let units = self.rng.random_range(0..1_000_000_000_000);
                Extras { cost: Amount::from_units(units), ..Extras::default() }
            }
            16 => Extras { cost: Amount::from_units(-1), ..Extras::default() },
            17 => Extras { request_id: Some("q".into()), ..Extras::default() },
            18 if self.chance(100) => {
                // A few of these are all that an organization can ever spend.
                Extras { cost: Some(Amount::whole(u32::MAX)), ..Extras::default() }
            }
            _ => return None,
        };
        Some(Box::new(extras))
    }

    fn count(&mut self, usage: &Usage, source: usize) -> u64 {
        let next = *self.counts.entry((usage.organization.clone(), source)).or_insert(1);
        let mut number = next;
        match self.below(1_000) {
            0..60 => {
                // Those between come later, or never.
                for left_out in 0..self.rng.random_range(1..4) {
                    let mut other = usage.clone();
                    other.id = format!("h{}", self.id());
                    other.producerseq = Some(number + left_out);
                    self.held.push(other);
                }
                number += 4;
            }
            60..62 => number += self.rng.random_range(60_000..140_000),
            62..64 => return number + (1 << 20) + 70_000,
            64 => return 0,
            65 => return u64::MAX,
            _ => {}
        }
        self.counts.insert((usage.organization.clone(), source), number + 1);
        number
    }

    // What the log has besides.

    fn unreadable(&mut self) {
        let organization = match self.below(3) {
            0 => None,
            _ => Some(self.any_organization()),
        };
        let position = self.ledger.state.head().position.next().0;
        self.oracle.unreadable(organization.as_ref(), self.ledger.now, position);
        let effects = self.ledger.unreadable(organization.clone(), "not JSON");
        assert!(matches!(effects[..], [Effect::Quarantined(_)]), "{}", self.place());
        self.entries.push(self.ledger.log.len() - 1);
        self.reach("unreadable");
        if let Some(organization) = organization {
            self.compare(&organization);
        }
        self.compare_counts();
    }

    fn copy(&mut self) {
        let place = self.below(self.entries.len());
        let place = self.entries[place];
        let message = self.ledger.log[place].clone();
        let effects = self.ledger.append_bytes(&message.subject, message.payload).unwrap();
        assert!(matches!(effects[..], [Effect::Copy { .. }]), "{}: {effects:?}", self.place());
        self.reach("copy");
        self.compare_counts();
    }

    fn foreign(&mut self) {
        let usage: Vec<_> = (0..3).map(|_| self.record()).collect();
        let (topic, mut entry) = self.ledger.pack(&usage);
        let mut subject = topic.subject(tollbook_tests::memory::PARTITION);
        let mut cut = 0;
        match self.below(3) {
            0 => entry.id.ledger = LedgerId::from_bits(8),
            1 => subject = "tollbook.log.0.config".into(),
            _ => cut = 1,
        }
        let mut payload = tollbook_schemas::codec::encode_entry(&entry).unwrap();
        payload.truncate(payload.len() - cut);
        let effects = self.ledger.append_bytes(&subject, payload).unwrap();
        assert!(matches!(effects[..], [Effect::Foreign { .. }]), "{}: {effects:?}", self.place());
        self.reach("foreign");
        self.compare_counts();
    }

    fn restart(&mut self) {
        self.ledger.restart();
        // Another process counts anew; the same one goes on.
        if self.chance(500) {
            self.writers += 1;
            self.ledger.change_writer(self.writers);
        }
        self.reach("restart");
    }

    fn refold(&mut self) {
        let every = [1, 2, 7, 100, u64::MAX][self.below(5)];
        let refolded = self.ledger.refold(|position| position % every == 0);
        assert_same(&refolded, &self.ledger.state);
        self.reach("refold");
    }

    // Comparing.

    fn compare_counts(&mut self) {
        self.compare_told();
        let head = self.ledger.state.head();
        let given = (head.usage_records, head.quarantined);
        assert_eq!(given, (self.oracle.records, self.oracle.quarantined), "{}", self.place());
    }

    /// Balances, counts and names of one organization.
    fn compare(&self, id: &OrgId) {
        let place = self.place();
        let (given, expected) = (self.ledger.state.organization(id), self.oracle.find(id));
        let (Some(given), Some(expected)) = (given, expected) else {
            assert!(given.is_none() && expected.is_none(), "{place}: {id}");
            return;
        };
        let purse = &given.purse;
        assert!(purse.conserves(), "{place}: {id}");
        self.compare_money(expected);
        let vouchers = expected.voucher_balance();
        assert_eq!(purse.cash().to_decimal(), expected.cash, "{place}: cash of {id}");
        assert_eq!(purse.vouchers().to_decimal(), vouchers, "{place}: vouchers of {id}");
        let available = vouchers + expected.cash.max(Decimal::ZERO);
        assert_eq!(purse.available().to_decimal(), available, "{place}: available of {id}");
        let cumulative = expected.cumulative();
        assert_eq!(purse.cumulative_recharge().to_decimal(), cumulative, "{place}: recharges of {id}");
        assert_eq!(purse.spent().to_decimal(), expected.spent, "{place}: spent of {id}");
        let table = self.ledger.state.config().tiers_at(self.ledger.now);
        let tier = table.tier(purse.cumulative_recharge()).map(|tier| tier.name.to_string());
        assert_eq!(tier, self.oracle.tier(cumulative, self.ledger.now), "{place}: tier of {id}");
        let counts = given.counts;
        let came = expected.booked.iter().filter(|record| !record.back && !record.released);
        let booked = u64::try_from(came.count()).unwrap();
        assert_eq!(
            (counts.booked, counts.duplicates, counts.quarantined),
            (booked, expected.duplicates, expected.quarantined),
            "{place}: counts of {id}"
        );
        self.compare_watches(expected);
        let sizes = (given.projects.len(), given.keys.len());
        assert_eq!(sizes, (expected.projects.len(), expected.keys.len()), "{place}: {id}");
        let today = expected.date(self.oracle.recorded_at);
        for project in &expected.projects {
            let pending = given.projects[project].spend.pending_on(Day::of_date(today)).to_decimal();
            assert_eq!(pending, expected.pending(project, today), "{place}: pending of {project}");
        }
    }

    /// Pending and settled consumption of the local day and month.
    fn compare_all_spend(&self) {
        for expected in &self.oracle.organizations {
            let given = self.ledger.state.organization(&expected.id).unwrap();
            let today = expected.date(self.oracle.recorded_at);
            let month = Month { year: today.year(), month: today.month() };
            let in_month = |day: Date| (day.year(), day.month()) == (month.year, month.month);
            let sums = |records: &[BookedRecord], wanted: &dyn Fn(Date) -> bool| {
                let mut sums: BTreeMap<ProjectId, Decimal> = BTreeMap::new();
                for record in records.iter().filter(|record| wanted(record.day)) {
                    *sums.entry(record.project.clone()).or_default() += record.amount();
                }
                sums
            };
            let (settled, pending) = expected.booked.split_at(expected.settled);
            let wanted = [
                sums(pending, &|day| day == today),
                sums(settled, &|day| day == today),
                sums(pending, &in_month),
                sums(settled, &in_month),
            ];
            for project in &expected.projects {
                let spend = &given.projects[project].spend;
                let day = Day::of_date(today);
                let given = [
                    spend.pending_on(day).to_decimal(),
                    spend.settled_on(day).to_decimal(),
                    spend.pending_in(month).unwrap().to_decimal(),
                    spend.settled_in(month).to_decimal(),
                ];
                let expected = wanted.each_ref().map(|sums| sums.get(project).copied().unwrap_or_default());
                assert_eq!(given, expected, "{}: {project} on {day}", self.place());
            }
        }
    }

    fn compare_all(&self) {
        self.ledger.check();
        for expected in &self.oracle.organizations {
            self.compare(&expected.id);
            self.compare_books(expected);
            type Sums = (i64, i128, i128, i128, Decimal);
            let mut cells: BTreeMap<_, Sums> = BTreeMap::new();
            for record in &expected.booked {
                let key = (record.day, record.project.clone(), record.model.clone(), record.key.clone());
                let cell = cells.entry(key).or_default();
                let sign = if record.back { -1 } else { 1 };
                cell.0 += sign;
                cell.1 += i128::from(sign) * i128::from(record.tokens.input);
                cell.2 += i128::from(sign) * i128::from(record.tokens.cached_input);
                cell.3 += i128::from(sign) * i128::from(record.tokens.output);
                cell.4 += record.amount();
            }
            let given: BTreeMap<_, Sums> = self
                .ledger
                .cells(&expected.id)
                .into_iter()
                .map(|(key, cell)| {
                    let sums = (
                        cell.requests,
                        cell.input_tokens,
                        cell.cached_input_tokens,
                        cell.output_tokens,
                        cell.cost.to_decimal(),
                    );
                    ((key.day.date(), key.project, key.model, key.key), sums)
                })
                .collect();
            assert!(given == cells, "{}: cells of {}:\n{given:?}\n{cells:?}", self.place(), expected.id);
        }
        self.compare_all_spend();
    }
}

fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Organization(_, OrganizationCommand::Register { .. }) => "registered",
        Command::Organization(_, OrganizationCommand::CreateProject { .. }) => "project created",
        Command::Organization(_, OrganizationCommand::IssueKey { .. }) => "key issued",
        Command::Organization(_, OrganizationCommand::Recharge { .. }) => "recharged",
        Command::Organization(_, OrganizationCommand::Refund { .. }) => "refunded",
        Command::Organization(_, OrganizationCommand::ReverseRecharge { .. }) => "recharge reversed",
        Command::Organization(_, OrganizationCommand::Adjust { .. }) => "adjusted",
        Command::Organization(_, OrganizationCommand::GrantVoucher { .. }) => "voucher granted",
        Command::Organization(_, OrganizationCommand::ExpireVouchers) => "vouchers expired",
        Command::Organization(_, OrganizationCommand::SetCreditLimit(_)) => "credit limit set",
        Command::Organization(_, OrganizationCommand::PublishPrices { .. }) => "own prices published",
        Command::Organization(_, OrganizationCommand::ReverseUsage { .. }) => "usage reversed",
        Command::Organization(_, OrganizationCommand::ReleaseUsage { .. }) => "usage released",
        Command::Organization(_, OrganizationCommand::DismissUsage { .. }) => "usage dismissed",
        Command::Organization(_, OrganizationCommand::SealStatement { .. }) => "statement sealed",
        Command::Organization(_, OrganizationCommand::IssueInvoice { .. }) => "invoice issued",
        Command::Organization(_, OrganizationCommand::MoveIn(_)) => "moved in",
        Command::Organization(_, OrganizationCommand::SetBalanceAlert(_)) => "balance alert set",
        Command::Organization(_, OrganizationCommand::SetBudgets { .. }) => "budgets set",
        Command::Organization(_, OrganizationCommand::SetSpendNotifications { .. }) => "notifications set",
        Command::Organization(_, OrganizationCommand::NoteBudgetRefusal { .. }) => "refusal noted",
        Command::Config(ConfigCommand::SetDefaults(_)) => "defaults set",
        Command::Organization(..)
        | Command::Config(
            ConfigCommand::SetQuantityLimits(_)
            | ConfigCommand::CreateSubscription { .. }
            | ConfigCommand::RemoveSubscription(_)
            | ConfigCommand::SetRateScale(_),
        ) => {
            panic!("no walk of this model does {command:?}")
        }
        Command::Config(ConfigCommand::PublishTiers { .. }) => "tiers published",
        Command::Config(ConfigCommand::SetVoucherPolicy(_)) => "voucher policy set",
        Command::Partition(PartitionCommand::CloseMonths) => "months closed",
        Command::Config(ConfigCommand::PublishPrices { .. }) => "prices published",
        Command::Config(ConfigCommand::SetLagModel(_)) => "cycle set",
        Command::Config(ConfigCommand::IssueToken { .. }) => "token issued",
        Command::Config(ConfigCommand::RevokeToken(_)) => "token revoked",
        Command::Partition(PartitionCommand::TakeOwnership(_)) => "takeover",
        Command::Partition(PartitionCommand::CloseCycles) => "close",
        Command::Partition(PartitionCommand::CopyConfig { .. }) => "copy of configuration",
    }
}
