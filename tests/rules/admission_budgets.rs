//! R6 at the gate: budgets on settled spend with their lag, strict ones, when they refuse, until when, and what is told.

use tollbook_engine::admission::AdmissionSettings;
use tollbook_engine::admission::budget::FirstRefusal;
use tollbook_engine::admission::refusal::{Quantity, Refusal, Retry};
use tollbook_engine::admission::{Admitted, Mode};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand, PartitionCommand};
use tollbook_schemas::event::{Enforcement, Period};
use tollbook_schemas::id::{ModelName, MovementId, Reason, SourceName};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::gate::{Call, Gate};
use tollbook_tests::memory::PARTITION;
use tollbook_tests::script::{check, key, org, project};

/// A model at a dollar per million of input, two projects, and plenty to spend.
const ACME: &str = "
    at 2026-11-20T10:00:00Z
    organization acme zone=UTC
    level acme verified
    project acme web
    project acme shop
    key acme web k1
    key acme shop k2
    price m input=1 output=0 from=2026-01-01T00:00:00Z
    recharge acme 1000 ref=a -> ok voucher 5
    limits acme concurrency=1000 rpm=100000 tpm=1000000000 tpd=1000000000000
";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn money(text: &str) -> Amount {
    text.parse().unwrap()
}

/// A gate, and records that are told apart by their number.
struct Shop {
    gate: Gate,
    records: u32,
}

impl Shop {
    fn new() -> Self {
        Self::over(ACME)
    }

    fn over(script: &str) -> Self {
        Self { gate: Gate::over(script), records: 0 }
    }

    fn budgets(&mut self, name: &str, daily: Option<&str>, monthly: Option<&str>, how: Enforcement) {
        let command = OrganizationCommand::SetBudgets {
            project: project(name),
            daily: daily.map(money),
            monthly: monthly.map(money),
            enforcement: Some(how),
        };
        self.gate.order("acme", command).unwrap();
    }

    fn lag(&mut self, cycle_seconds: u32, delay_seconds: u32) {
        let lag = LagModel { cycle_seconds, delay_seconds };
        self.gate.command(&Command::Config(ConfigCommand::SetLagModel(lag))).unwrap();
    }

    fn close(&mut self) {
        self.gate.command(&Command::Partition(PartitionCommand::CloseCycles)).unwrap();
    }

    fn until(&mut self, instant: &str) {
        self.gate.until(at(instant));
    }

    /// Thousandths of a dollar consumed through a key.
    fn spend(&mut self, by: &str, thousandths: u64) -> Usage {
        self.spend_for(by, thousandths, None, self.gate.now())
    }

    fn spend_for(
        &mut self,
        by: &str,
        thousandths: u64,
        lease: Option<&Admitted>,
        occurred: Timestamp,
    ) -> Usage {
        self.records += 1;
        let extras =
            Extras { lease: lease.map(|lease| lease.lease.as_str().to_owned()), ..Extras::default() };
        let usage = Usage {
            organization: org("acme"),
            charged: Charged::Key(key(by)),
            model: ModelName::parse("m").unwrap(),
            source: SourceName::parse("gw").unwrap(),
            id: format!("u{}", self.records),
            occurred: Occurred::Given(occurred),
            producerseq: None,
            tokens: Tokens { input: thousandths * 1_000, cached_input: 0, output: 0 },
            extras: (!extras.is_empty()).then(|| Box::new(extras)),
        };
        self.gate.usage(std::slice::from_ref(&usage));
        usage
    }

    /// Takes back what was consumed by the last entry.
    fn take_back(&mut self, usage: &Usage) {
        self.take_back_at(usage, self.gate.ledger.state.head().position);
    }

    fn take_back_at(&mut self, usage: &Usage, position: Position) {
        let state = &self.gate.ledger.state;
        let place = UsagePlace { position, row: 0 };
        let booked = state.as_booked(state.organization(&org("acme")).unwrap(), usage, place).unwrap();
        let reverse = OrganizationCommand::ReverseUsage {
            reversal: MovementId::from_bits(9),
            usage: place,
            booked: Box::new(booked),
            reason: Reason::parse("called twice").unwrap(),
        };
        self.gate.order("acme", reverse).unwrap();
    }

    /// Asks for a request that may cost so many thousandths.
    fn ask(&self, by: &str, thousandths: u64) -> Result<Admitted, Box<Refusal>> {
        self.gate.admit(&Call::new(by, thousandths * 1_000, 0))
    }

    #[track_caller]
    fn passes(&self, by: &str) {
        let admitted = self.ask(by, 1).unwrap_or_else(|refusal| panic!("{}", refusal.message()));
        self.gate.admissions.release(&admitted.lease, None).unwrap();
    }

    #[track_caller]
    fn refused(&self, by: &str, code: &str) -> Box<Refusal> {
        let refusal = self.ask(by, 1).expect_err("it passes");
        assert_eq!(refusal.code.as_str(), code, "{}", refusal.message());
        refusal
    }

    fn first_refusals(&self) -> Vec<FirstRefusal> {
        self.gate.desk().take_first_refusals(100)
    }

    /// What the owner does with a first refusal.
    fn note(&mut self, refusal: FirstRefusal) {
        let FirstRefusal { organization, project, period, visible_from, at } = refusal;
        let visible_from = LogPosition { partition: PARTITION, position: visible_from };
        let note = OrganizationCommand::NoteBudgetRefusal { project, period, visible_from, refused_at: at };
        self.gate.command(&Command::Organization(organization, note)).unwrap();
    }
}

fn reached(refusal: &Refusal) -> (Amount, Amount, Option<Amount>, Option<Amount>) {
    let amount = |quantity| match quantity {
        Quantity::Money(amount) => amount,
        Quantity::Count(_) => panic!("a budget is money"),
    };
    let reached = refusal.reached.unwrap();
    (amount(reached.limit), amount(reached.current), refusal.held, reached.requested.map(amount))
}

const SETTLED: Enforcement = Enforcement::Settled;
const STRICT: Enforcement = Enforcement::Strict;

#[test]
fn r6_2_r6_3_a_budget_refuses_from_the_close_that_shows_it_until_its_period_ends() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("5"), None, SETTLED);
    shop.until("2026-11-20T10:03:00Z");
    shop.spend("k1", 5_250);
    shop.until("2026-11-20T10:09:59.999999999Z");
    shop.passes("k1");
    shop.until("2026-11-20T10:10:00Z");
    shop.passes("k1");
    shop.close();
    let refusal = shop.refused("k1", "project_daily_budget");
    assert_eq!(reached(&refusal), (money("5"), money("5.25"), None, None));
    assert_eq!(refusal.resets_at, Some(at("2026-11-21T00:00:00Z")));
    assert_eq!(refusal.retry, Retry::After((13 * 60 + 50) * 60 * 1_000));
    assert_eq!(
        refusal.message(),
        "Project proj_web of your account org_acme<ak_k1> has spent 5.25 of its daily budget of 5, resets at \
         2026-11-21T00:00:00Z"
    );
    // R6.1: the organization's other projects go on.
    shop.passes("k2");
    assert_eq!(shop.gate.admissions.compare(&Call::new("k1", 1, 0).ask()).unwrap_err().code, refusal.code);
    shop.until("2026-11-20T23:59:59.999999999Z");
    shop.refused("k1", "project_daily_budget");
    shop.until("2026-11-21T00:00:00Z");
    shop.passes("k1");
    // Nothing was written down since: the period is computed from time.
    shop.close();
    shop.passes("k1");
}

#[test]
fn r6_2_raising_or_removing_a_budget_reopens_at_once_and_lowering_it_blocks() {
    let mut shop = Shop::new();
    shop.spend("k1", 5_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    for how in [SETTLED, STRICT] {
        for monthly in [false, true] {
            let code = if monthly { "project_monthly_budget" } else { "project_daily_budget" };
            let mut set = |limit: Option<&str>| {
                let (daily, monthly) = if monthly { (None, limit) } else { (limit, None) };
                shop.budgets("web", daily, monthly, how);
                let admitted = shop.ask("k1", 1).map_err(|refusal| refusal.code.as_str())?;
                shop.gate.admissions.release(&admitted.lease, None).unwrap();
                Ok(())
            };
            // A new budget does not start exceeded, nor with what it was not reached by.
            assert_eq!(set(Some("5.01")), Ok(()));
            assert_eq!(set(Some("5")), Err(code));
            assert_eq!(set(Some("5.01")), Ok(()));
            assert_eq!(set(Some("4")), Err(code));
            assert_eq!(set(Some("0")), Err(code));
            assert_eq!(set(None), Ok(()));
            assert_eq!(set(Some("0")), Err(code));
            assert_eq!(set(None), Ok(()));
        }
    }
}

#[test]
fn r6_2_a_new_budget_counts_this_period_only() {
    let mut shop = Shop::over(&ACME.replace("2026-11-20T10:00", "2026-10-31T23:00"));
    shop.spend("k1", 9_000);
    shop.until("2026-10-31T23:10:00Z");
    shop.close();
    shop.until("2026-11-01T00:00:00Z");
    for how in [SETTLED, STRICT] {
        shop.budgets("web", Some("1"), Some("1"), how);
        shop.passes("k1");
    }
}

#[test]
fn r6_2_daily_and_monthly_budgets_stop_apart_and_the_daily_one_is_named_first() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("2"), Some("3"), SETTLED);
    shop.spend("k1", 2_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    shop.refused("k1", "project_daily_budget");
    shop.until("2026-11-21T00:00:00Z");
    shop.spend("k1", 2_000);
    shop.close();
    let refusal = shop.refused("k1", "project_daily_budget");
    assert_eq!(refusal.resets_at, Some(at("2026-11-22T00:00:00Z")));
    // Waiting for the day does not help: the month is used up as well.
    let ten_days = at("2026-12-01T00:00:00Z").nanos_since(shop.gate.now()) / 1_000_000;
    assert_eq!(refusal.retry, Retry::After(ten_days));
    shop.until("2026-11-22T00:00:00Z");
    let refusal = shop.refused("k1", "project_monthly_budget");
    assert_eq!(reached(&refusal), (money("3"), money("4"), None, None));
    assert_eq!(refusal.resets_at, Some(at("2026-12-01T00:00:00Z")));
    shop.until("2026-11-30T23:59:59.999999999Z");
    assert_eq!(shop.refused("k1", "project_monthly_budget").retry, Retry::After(1));
    shop.until("2026-12-01T00:00:00Z");
    shop.passes("k1");
}

#[test]
fn r6_3_a_breach_that_is_not_visible_yet_begins_to_refuse_by_itself() {
    let mut shop = Shop::new();
    shop.lag(600, 90);
    shop.budgets("web", Some("5"), None, SETTLED);
    shop.spend("k1", 6_000);
    shop.until("2026-11-20T10:10:02Z");
    shop.close();
    shop.passes("k1");
    // A limit of requests that is reached now has room only after the budget's period.
    shop.until("2026-11-20T10:11:31.999999999Z");
    shop.passes("k1");
    shop.until("2026-11-20T10:11:32Z");
    shop.refused("k1", "project_daily_budget");
    shop.until("2026-11-21T00:00:00Z");
    shop.passes("k1");
}

#[test]
fn r6_3_waits_know_of_a_breach_that_becomes_visible_within_them() {
    let mut shop = Shop::over(&ACME.replace("rpm=100000", "rpm=1"));
    shop.lag(600, 30);
    shop.budgets("web", Some("5"), None, SETTLED);
    shop.spend("k1", 6_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    shop.ask("k1", 1).unwrap();
    let refusal = shop.refused("k1", "organization_rpm");
    assert_eq!(refusal.retry, Retry::After((13 * 60 + 50) * 60 * 1_000), "{refusal:?}");
    // The other project has room in a minute.
    assert_eq!(shop.refused("k2", "organization_rpm").retry, Retry::After(60_000));
}

#[test]
fn r6_3_without_cycles_a_budget_refuses_the_next_request() {
    let mut shop = Shop::new();
    shop.lag(0, 0);
    shop.budgets("web", Some("5"), None, SETTLED);
    shop.spend("k1", 4_999);
    shop.passes("k1");
    shop.spend("k1", 1);
    let refusal = shop.refused("k1", "project_daily_budget");
    assert_eq!(reached(&refusal), (money("5"), money("5"), None, None));
    shop.spend("k1", 1);
    assert_eq!(reached(&shop.refused("k1", "project_daily_budget")).1, money("5.001"));
    shop.lag(0, 60);
    shop.budgets("shop", Some("1"), None, SETTLED);
    shop.spend("k2", 1_000);
    shop.passes("k2");
    shop.until("2026-11-20T10:01:00Z");
    shop.refused("k2", "project_daily_budget");
}

#[test]
fn r6_3_an_end_of_cycles_settles_what_is_pending() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("5"), None, SETTLED);
    shop.spend("k1", 5_000);
    shop.passes("k1");
    shop.lag(0, 0);
    shop.refused("k1", "project_daily_budget");
}

#[test]
fn r6_3_strict_enforcement_compares_settled_pending_and_held() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("10"), None, STRICT);
    shop.spend("k1", 2_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    shop.spend("k1", 3_000);
    let first = shop.ask("k1", 3_000).unwrap();
    assert_eq!(shop.gate.admissions.held_for(PARTITION, &org("acme"), &project("web")), Some(money("3")));
    // 2 settled, 3 pending, 3 held, and 2 to go.
    let refusal = shop.ask("k1", 2_001).unwrap_err();
    assert_eq!(reached(&refusal), (money("10"), money("8"), Some(money("3")), Some(money("2.001"))));
    assert_eq!(refusal.retry, Retry::Hint(1_000));
    assert_eq!(
        refusal.message(),
        "Project proj_web of your account org_acme<ak_k1> has spent 5 of its daily budget of 10, holds 3 for requests in \
         progress, and this request may cost 2.001, resets at 2026-11-21T00:00:00Z"
    );
    let second = shop.ask("k1", 2_000).unwrap();
    let full = shop.ask("k1", 0).unwrap_err();
    assert_eq!(reached(&full), (money("10"), money("10"), Some(money("5")), None));
    assert_eq!(full.retry, Retry::Hint(1_000));
    // No other project is held up by that.
    shop.passes("k2");
    // Usage puts consumption where the hold was.
    let now = shop.gate.now();
    shop.spend_for("k1", 1_000, Some(&first), now);
    let refusal = shop.ask("k1", 2_001).unwrap_err();
    assert_eq!(reached(&refusal), (money("10"), money("8"), Some(money("2")), Some(money("2.001"))));
    shop.gate.admissions.release(&second.lease, None).unwrap();
    // What does not fit though nothing is held has to wait for the next day.
    let refusal = shop.ask("k1", 4_001).unwrap_err();
    assert_eq!(reached(&refusal), (money("10"), money("6"), Some(Amount::ZERO), Some(money("4.001"))));
    assert_eq!(refusal.retry, Retry::After((13 * 60 + 50) * 60 * 1_000));
    assert!(
        refusal.message().contains("has spent 6 of its daily budget of 10 and this request may cost 4.001")
    );
    // And what the budget never covers does not pass at all.
    assert_eq!(shop.ask("k1", 10_001).unwrap_err().retry, Retry::Never);
    let whole = shop.ask("k1", 4_000).unwrap();
    shop.gate.admissions.release(&whole.lease, None).unwrap();
    shop.until("2026-11-21T00:00:00Z");
    let whole = shop.ask("k1", 10_000).unwrap();
    shop.gate.admissions.release(&whole.lease, None).unwrap();
}

#[test]
fn r6_3_holds_count_in_the_period_that_runs() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("10"), None, STRICT);
    shop.spend("k1", 1_000);
    shop.until("2026-11-20T23:55:00Z");
    let mut call = Call::new("k1", 8_000_000, 0);
    call.lease_seconds = Some(1_200);
    let night = shop.gate.admit(&call).unwrap();
    // Six fit neither beside what is held now, nor before that lease is over in the next day.
    shop.spend("k1", 0);
    let refusal = shop.ask("k1", 9_001).unwrap_err();
    assert_eq!(refusal.retry, Retry::After(20 * 60 * 1_000), "{refusal:?}");
    shop.until("2026-11-21T00:00:00Z");
    assert_eq!(reached(&shop.ask("k1", 2_001).unwrap_err()).1, money("8"));
    let admitted = shop.ask("k1", 2_000).unwrap();
    shop.gate.admissions.release(&admitted.lease, None).unwrap();
    // Its usage counts for the day in which it occurred, so what was held is free.
    shop.spend_for("k1", 8_000, Some(&night), at("2026-11-20T23:59:00Z"));
    let admitted = shop.ask("k1", 10_000).unwrap();
    shop.gate.admissions.release(&admitted.lease, None).unwrap();
}

#[test]
fn r6_3_what_occurred_ahead_counts_when_its_day_begins() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("10"), Some("1000"), STRICT);
    shop.until("2026-11-30T23:58:00Z");
    shop.spend_for("k1", 9_000, None, at("2026-12-01T00:00:30Z"));
    let admitted = shop.ask("k1", 10_000).unwrap();
    shop.gate.admissions.release(&admitted.lease, None).unwrap();
    shop.until("2026-12-01T00:00:00Z");
    let refusal = shop.ask("k1", 2_000).unwrap_err();
    assert_eq!(reached(&refusal), (money("10"), money("9"), Some(Amount::ZERO), Some(money("2"))));
    assert_eq!(refusal.resets_at, Some(at("2026-12-02T00:00:00Z")));
    // Two days later nothing of it is left, though nothing was written down in between.
    shop.until("2026-12-03T00:00:00Z");
    let refusal = shop.ask("k1", 11_000).unwrap_err();
    assert_eq!(reached(&refusal).1, Amount::ZERO);
    assert_eq!(refusal.resets_at, Some(at("2026-12-04T00:00:00Z")));
    shop.ask("k1", 10_000).unwrap();
}

#[test]
fn r6_3_a_change_of_enforcement_counts_what_is_in_flight() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("10"), None, SETTLED);
    let open: Vec<_> = (0..9).map(|_| shop.ask("k1", 2_000).unwrap()).collect();
    shop.budgets("web", Some("10"), None, STRICT);
    assert_eq!(reached(&shop.refused("k1", "project_daily_budget")).1, money("18"));
    for admitted in &open[..5] {
        shop.gate.admissions.release(&admitted.lease, None).unwrap();
    }
    let refusal = shop.ask("k1", 2_001).unwrap_err();
    assert_eq!(reached(&refusal), (money("10"), money("8"), Some(money("8")), Some(money("2.001"))));
    shop.ask("k1", 2_000).unwrap();
}

#[test]
fn r6_5_the_first_refusal_of_a_breach_is_told_once() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("2"), Some("3"), SETTLED);
    shop.spend("k1", 3_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    let visible_from = Position(u64::try_from(shop.gate.ledger.log.len()).unwrap());
    assert!(shop.gate.admissions.compare(&Call::new("k1", 1, 0).ask()).is_err());
    assert_eq!(shop.first_refusals(), [], "a comparison refuses nobody");
    shop.until("2026-11-20T10:10:07Z");
    for _ in 0..5 {
        shop.refused("k1", "project_daily_budget");
    }
    let expected = |period, refused_at: &str, visible_from| FirstRefusal {
        organization: org("acme"),
        project: project("web"),
        period,
        visible_from,
        at: at(refused_at),
    };
    let first = expected(Period::Daily, "2026-11-20T10:10:07Z", visible_from);
    assert_eq!(shop.first_refusals(), std::slice::from_ref(&first));
    // It was lost on its way: the next one says when the first was, after a while.
    shop.until("2026-11-20T10:11:06Z");
    shop.refused("k1", "project_daily_budget");
    assert_eq!(shop.first_refusals(), []);
    shop.until("2026-11-20T10:11:07Z");
    shop.refused("k1", "project_daily_budget");
    assert_eq!(shop.first_refusals(), std::slice::from_ref(&first));
    shop.note(first);
    shop.until("2026-11-20T12:00:00Z");
    shop.refused("k1", "project_daily_budget");
    assert_eq!(shop.first_refusals(), [], "the log has it");
    let known = shop.gate.ledger.state.organization(&org("acme")).unwrap();
    let breaches = known.projects.get(&project("web")).unwrap().watch.breaches();
    assert_eq!(breaches[0].first_refused_at, Some(at("2026-11-20T10:10:07Z")));
    // The month's own comes with its own first refusal.
    shop.until("2026-11-21T00:00:00Z");
    shop.refused("k1", "project_monthly_budget");
    let second = expected(Period::Monthly, "2026-11-21T00:00:00Z", visible_from);
    assert_eq!(shop.first_refusals(), std::slice::from_ref(&second));
    // Another breach of the same budget is another one.
    shop.note(second);
    shop.budgets("web", None, Some("2.5"), SETTLED);
    let visible_from = Position(u64::try_from(shop.gate.ledger.log.len()).unwrap());
    shop.refused("k1", "project_monthly_budget");
    assert_eq!(shop.first_refusals(), [expected(Period::Monthly, "2026-11-21T00:00:00Z", visible_from)]);
}

#[test]
fn r6_5_what_only_holds_refuse_is_no_breach() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("10"), None, STRICT);
    let admitted = shop.ask("k1", 10_000).unwrap();
    shop.refused("k1", "project_daily_budget");
    assert_eq!(shop.first_refusals(), []);
    let now = shop.gate.now();
    shop.spend_for("k1", 10_000, Some(&admitted), now);
    shop.refused("k1", "project_daily_budget");
    assert_eq!(shop.first_refusals().len(), 1);
}

#[test]
fn r10_2_a_gate_that_only_observes_notes_budgets_and_refuses_nobody() {
    let settings = AdmissionSettings { mode: Mode::Observe, ..AdmissionSettings::default() };
    let mut shop = Shop { gate: Gate::of(check(ACME), settings), records: 0 };
    shop.budgets("web", Some("2"), None, STRICT);
    shop.budgets("shop", Some("2"), None, SETTLED);
    shop.spend("k1", 2_000);
    shop.spend("k2", 2_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    for by in ["k1", "k2"] {
        let noted = shop.ask(by, 1).unwrap().granted.noted.unwrap();
        assert_eq!(noted.code.as_str(), "project_daily_budget");
    }
    assert_eq!(shop.first_refusals(), [], "nothing was refused");
}

#[test]
fn r4_8_usage_that_is_taken_back_makes_room_at_once_where_all_is_compared() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("5"), None, STRICT);
    let usage = shop.spend("k1", 5_000);
    shop.refused("k1", "project_daily_budget");
    shop.take_back(&usage);
    shop.passes("k1");
}

#[test]
fn r4_8_usage_that_is_taken_back_makes_room_once_that_is_settled() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("5"), None, SETTLED);
    shop.spend("k1", 3_000);
    shop.until("2026-11-20T10:10:00Z");
    let usage = shop.spend("k1", 2_000);
    let place = shop.gate.ledger.state.head().position;
    shop.close();
    shop.refused("k1", "project_daily_budget");
    shop.take_back_at(&usage, place);
    shop.refused("k1", "project_daily_budget");
    shop.until("2026-11-20T10:20:00Z");
    shop.close();
    shop.passes("k1");
}

/// Days of 23 and 25 hours, and one that there was not.
#[test]
fn r6_2_periods_are_those_of_the_organizations_zone() {
    for (zone, noon, resets) in [
        ("Europe/Berlin", "2026-03-29T10:00:00Z", "2026-03-29T22:00:00Z"),
        ("Europe/Berlin", "2026-10-24T23:30:00Z", "2026-10-25T23:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T10:00:00Z", "2018-11-05T02:00:00Z"),
        ("Pacific/Apia", "2011-12-30T09:00:00Z", "2011-12-30T10:00:00Z"),
        ("Asia/Kolkata", "2026-12-31T10:00:00Z", "2026-12-31T18:30:00Z"),
    ] {
        for how in [SETTLED, STRICT] {
            let script =
                ACME.replace("2026-11-20T10:00:00Z", noon).replace("zone=UTC", &format!("zone={zone}"));
            let mut shop = Shop::over(&script.replace("from=2026-01-01", "from=2011-01-01"));
            shop.lag(0, 0);
            shop.budgets("web", Some("1"), None, how);
            shop.spend("k1", 1_000);
            let refusal = shop.refused("k1", "project_daily_budget");
            let end = at(resets);
            assert_eq!(refusal.resets_at, Some(end), "{zone}");
            let wait = end.nanos_since(shop.gate.now()) / 1_000_000;
            assert_eq!(refusal.retry, Retry::After(wait), "{zone}");
            shop.gate.until(end.plus_nanos(-1));
            shop.refused("k1", "project_daily_budget");
            shop.gate.until(end);
            shop.passes("k1");
        }
    }
}

/// Found by reading: a project that was stopped until midnight was told that waiting never helps while as many requests were
/// in progress as may be.
#[test]
fn r5_6_a_wait_for_a_budget_knows_when_requests_in_progress_are_over() {
    let mut shop = Shop::over(&ACME.replace("concurrency=1000", "concurrency=1"));
    shop.lag(0, 0);
    shop.budgets("web", Some("1"), None, SETTLED);
    shop.until("2026-11-20T23:55:00Z");
    shop.ask("k2", 1).unwrap();
    shop.spend("k1", 1_000);
    assert_eq!(shop.refused("k1", "project_daily_budget").retry, Retry::After(10 * 60 * 1_000));
}

#[test]
fn r6_2_a_gate_that_starts_knows_every_budget() {
    let mut shop = Shop::new();
    shop.budgets("web", Some("1"), None, SETTLED);
    shop.budgets("shop", Some("1"), None, STRICT);
    shop.spend("k1", 1_000);
    shop.spend("k2", 1_000);
    shop.until("2026-11-20T10:10:00Z");
    shop.close();
    let gate = Gate::of(shop.gate.ledger, AdmissionSettings::default());
    let again = Shop { gate, records: 0 };
    again.refused("k1", "project_daily_budget");
    again.refused("k2", "project_daily_budget");
}
