//! R5, R2, R4.1, R4.6 at the gate: each refusal alone, refusals together in their order, and what was found by walks.

use std::collections::BTreeSet;

use tollbook_engine::admission::account::{Account, LeaseName, Request, Used};
use tollbook_engine::admission::budget::{BudgetStanding, KnownBreach};
use tollbook_engine::admission::refusal::{Code, Quantity, Refusal, Retry};
use tollbook_engine::admission::standing::Rules;
use tollbook_engine::admission::{AdmissionSettings, Admissions, Mode, Terms};
use tollbook_engine::clock::Clock;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, NewRateScale, OrganizationCommand};
use tollbook_schemas::event::Period;
use tollbook_schemas::id::{ModelName, Reason};
use tollbook_schemas::policy::{Change, Meters, QuantityOverride, RateOverride};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Extras, Occurred, QuarantineReason, Tokens, Usage};
use tollbook_tests::gate::{Call, Gate, never_behind};
use tollbook_tests::memory::{MemoryLedger, PARTITION};
use tollbook_tests::script::{check, key, org, project, recharge};

const TERMS: Terms = Terms { lease_seconds: 600, observe: false, keep_estimates: false };

/// What can be wrong with a request, in the order of ARCHITECTURE.
const ORDER: [(&str, Code); 13] = [
    ("key", Code::KeyRevoked),
    ("ip", Code::IpNotAllowed),
    ("model", Code::ModelNotFound),
    ("recharge", Code::RechargeRequired),
    ("balance", Code::InsufficientBalance),
    ("daily", Code::ProjectDailyBudget),
    ("monthly", Code::ProjectMonthlyBudget),
    ("holds", Code::BalanceBelowRequest),
    ("concurrency", Code::OrganizationConcurrency),
    ("rpm", Code::OrganizationRpm),
    ("tpm", Code::OrganizationTpm),
    ("tpd", Code::OrganizationTpd),
    ("project", Code::ProjectTpm),
];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOW: &str = "2026-11-20T10:00:00Z";

/// Decides a request of 10 tokens after another one, where all of these are wrong.
fn refused(wrong: &[&str]) -> Option<Box<Refusal>> {
    let is = |what: &str| wrong.contains(&what);
    let limit = |what: &str, other: &str, reached: u64| {
        if is(what) { format!("{other}={reached}") } else { format!("{other}=1000") }
    };
    let before = format!(
        "
        at {NOW}
        organization acme
        level acme verified
        project acme web
        key acme web k1
        price m input={} output=0 from=2026-01-01T00:00:00Z
        policy threshold=100000 amount=5
        recharge acme 100 ref=a
        limits acme {} {} {} {}
        {}
        ",
        if is("holds") { "6000000" } else { "1" },
        limit("concurrency", "concurrency", 1),
        limit("rpm", "rpm", 1),
        limit("tpm", "tpm", 15),
        limit("tpd", "tpd", 15),
        if is("project") { "tpm acme web 14" } else { "" },
    );
    let mut after = before.clone();
    if is("key") {
        after += "revoke acme web k1 -> ok revoked k1 requested\n";
    }
    if is("ip") {
        after += "allow acme 8.8.8.8\n";
    }
    if is("recharge") {
        after += "reverse acme a ref=c -> ok taken 100\n";
        if !is("balance") {
            after += "grant acme v1 100 ref=g -> ok voucher 100\n";
        }
    }
    if is("balance") {
        after += "adjust acme -1000 ref=j\n";
    }
    let now = at(NOW);
    let model = ModelName::parse("m").unwrap();
    let meters = Meters::new();
    let request = Request {
        ip: None,
        model: &model,
        input_tokens: 10,
        max_output_tokens: Some(0),
        meters: &meters,
        request_id: None,
    };
    let ledger = check(&before);
    let (mut account, rules) = account(&ledger, now);
    account.admit(&rules, &request, 0, TERMS, now).unwrap();
    let ledger = check(&after);
    let known = ledger.state.organization(&org("acme")).unwrap();
    account.take(known);
    let place = known.keys.iter().next().map(|(id, key)| (id.clone(), key.is_active())).unwrap();
    account.take_key(Some(0), &place.0, &project("web"), place.1).unwrap();
    let budget = |period, starts: &str, resets_at: &str| BudgetStanding {
        period,
        limit: Amount::whole(7),
        spent: Amount::whole(8),
        starts: starts.parse().unwrap(),
        resets_at: at(resets_at),
        strict: None,
        breach: Some(KnownBreach {
            visible_from: Position(1),
            from: now,
            is_reached: false,
            is_noted: false,
        }),
    };
    let daily = is("daily").then(|| budget(Period::Daily, "2026-11-20", "2026-11-21T00:00:00Z"));
    let monthly = is("monthly").then(|| budget(Period::Monthly, "2026-11-01", "2026-12-01T00:00:00Z"));
    account.compare_with(0, daily.into_iter().chain(monthly).collect());
    let unknown = ModelName::parse("unknown").unwrap();
    let request = Request { model: if is("model") { &unknown } else { &model }, ..request };
    account.admit(&rules, &request, 0, TERMS, now).err()
}

/// The account of an organization with one project and key.
fn account(ledger: &MemoryLedger, now: Timestamp) -> (Account, Rules) {
    let known = ledger.state.organization(&org("acme")).unwrap();
    let mut account = Account::new(known, now);
    account.take_key(None, &key("k1"), &project("web"), true).unwrap();
    (account, Rules::of(ledger.state.config(), 1, ledger.state.head().recorded_at))
}

#[test]
fn r5_each_refusal_alone_says_everything() {
    let money = |units: u32| Quantity::Money(Amount::whole(units));
    let count = Quantity::Count;
    let ms = |millis| Some(Retry::After(millis));
    let (hint, never) = (Some(Retry::Hint(1_000)), Some(Retry::Never));
    let midnight = 14 * 3_600_000;
    let month = 10 * 86_400_000 + midnight;
    // Scope, limit, what counts, what is asked for, whether waiting helps.
    let expected = [
        ("api_key", None, never),
        ("organization", None, never),
        ("organization", None, never),
        ("organization", Some((money(1), money(0), None)), never),
        ("organization", Some((money(0), money(0), None)), never),
        ("project", Some((money(7), money(8), None)), ms(midnight)),
        ("project", Some((money(7), money(8), None)), ms(month)),
        ("organization", Some((money(100), money(60), Some(money(60)))), hint),
        ("organization", Some((count(1), count(1), None)), hint),
        ("organization", Some((count(1), count(1), Some(count(1)))), ms(60_000)),
        ("organization", Some((count(15), count(10), Some(count(10)))), ms(60_000)),
        ("organization", Some((count(15), count(10), Some(count(10)))), ms(600_000)),
        ("project", Some((count(14), count(10), Some(count(10)))), ms(60_000)),
    ];
    for ((wrong, code), (scope, reached, retry)) in ORDER.into_iter().zip(expected) {
        let refusal = refused(&[wrong]).unwrap_or_else(|| panic!("{wrong} refuses nothing"));
        assert_eq!(refusal.code, code, "{wrong}");
        let subject = refusal.subject.clone().unwrap();
        let id = match scope {
            "api_key" => "ak_k1",
            "project" => "proj_web",
            _ => "org_acme",
        };
        assert_eq!((subject.scope(), subject.id()), (scope, id), "{wrong}");
        let told = refusal.reached.map(|reached| (reached.limit, reached.current, reached.requested));
        assert_eq!(told, reached, "{wrong}");
        assert_eq!(Some(refusal.retry), retry, "{wrong}");
        let resets = refusal.resets_at.map(|at| at.nanos_since(self::at(NOW)) / 1_000_000);
        assert_eq!(
            resets,
            match refusal.retry {
                Retry::After(millis) => Some(millis),
                Retry::Hint(_) | Retry::Never => None,
            }
        );
        assert_eq!(
            refusal.account.as_ref().map(|(org, key)| (org.as_str(), key.as_str())),
            Some(("org_acme", "ak_k1"))
        );
        assert!(!refusal.message().is_empty());
    }
    assert!(refused(&[]).is_none());
}

#[test]
fn r5_of_several_refusals_the_first_in_order_wins() {
    let mut seen = BTreeSet::new();
    for (first, (_, code)) in ORDER.into_iter().enumerate() {
        for second in first + 1..ORDER.len() {
            for third in second..ORDER.len() {
                let wrong: Vec<_> = [first, second, third].map(|at| ORDER[at].0).into();
                let refusal = refused(&wrong).unwrap_or_else(|| panic!("{wrong:?} refuse nothing"));
                assert_eq!(refusal.code, code, "{wrong:?}");
                seen.insert(refusal.code);
            }
        }
    }
    assert_eq!(seen.len(), ORDER.len() - 1);
}

const ACME: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    level acme verified
    project acme web
    key acme web k1
    key acme web k2
    price m input=1 output=1 from=2026-01-01T00:00:00Z
    recharge acme 1000 ref=a -> ok voucher 5
";

fn gate(more: &str) -> Gate {
    Gate::over(&format!("{ACME}{more}"))
}

fn code(refused: Result<impl std::fmt::Debug, Box<Refusal>>) -> &'static str {
    refused.unwrap_err().code.as_str()
}

fn usage(id: &str, at: Timestamp, tokens: u64, extras: Extras) -> Usage {
    Usage {
        organization: org("acme"),
        charged: Charged::Key(key("k1")),
        model: ModelName::parse("m").unwrap(),
        source: "gw".parse_source(),
        id: id.to_owned(),
        occurred: Occurred::Given(at),
        producerseq: None,
        tokens: Tokens { input: tokens, cached_input: 0, output: 0 },
        extras: Some(Box::new(extras)),
    }
}

trait ParseSource {
    fn parse_source(&self) -> tollbook_schemas::id::SourceName;
}

impl ParseSource for str {
    fn parse_source(&self) -> tollbook_schemas::id::SourceName {
        tollbook_schemas::id::SourceName::parse(self).unwrap()
    }
}

fn of_lease(lease: &tollbook_schemas::id::LeaseId) -> Extras {
    Extras { lease: Some(lease.as_str().to_owned()), ..Extras::default() }
}

fn of_request(id: &str) -> Extras {
    Extras { request_id: Some(id.to_owned()), ..Extras::default() }
}

#[test]
fn r3_6_keys_are_told_apart_from_what_is_none() {
    let gate = gate("revoke acme web k2 -> ok revoked k2 requested\n");
    let with = |api_key: &str| {
        let call = Call { api_key: api_key.to_owned(), ..Call::new("k1", 1, 1) };
        gate.admit(&call)
    };
    assert_eq!(code(with("")), "api_key_missing");
    assert_eq!(code(with("sk-nobody's")), "api_key_invalid");
    assert_eq!(code(with("not one of ours")), "api_key_malformed");
    assert_eq!(code(with(&"s".repeat(100_000))), "api_key_malformed");
    assert_eq!(code(with("ak_k2")), "api_key_revoked");
    with("ak_k1").unwrap();
}

#[test]
fn r2_1_a_listed_address_passes_and_no_other() {
    let gate = gate("allow acme 8.8.8.8 9.9.8.0/22\n");
    let from = |ip: Option<&str>| {
        gate.admit(&Call { ip: ip.map(|ip| ip.parse().unwrap()), ..Call::new("k1", 1, 1) })
    };
    for ip in ["8.8.8.8", "::ffff:8.8.8.8", "9.9.8.0", "9.9.11.255"] {
        assert!(from(Some(ip)).is_ok(), "{ip}");
    }
    for ip in ["8.8.8.9", "::8.8.8.8", "9.9.12.0", "9.9.7.255", "::1"] {
        assert_eq!(code(from(Some(ip))), "ip_not_allowed", "{ip}");
    }
    assert_eq!(code(from(None)), "ip_not_allowed");
}

/// Found by reading: what was admitted before was answered before its key and address were looked at.
#[test]
fn r3_4_a_request_id_does_not_outlive_its_key_or_its_address() {
    let mut gate = gate("");
    let call = Call { ip: Some("8.8.8.8".parse().unwrap()), ..Call::new("k1", 1, 1).named("r1") };
    let first = gate.admit(&call).unwrap();
    let again = gate.admit(&call).unwrap();
    assert_eq!((again.lease, again.granted.before), (first.lease, true));
    gate.order("acme", OrganizationCommand::SaveAllowlist(vec!["8.8.8.8/32".parse().unwrap()])).unwrap();
    assert!(gate.admit(&call).is_ok());
    let elsewhere = Call { ip: Some("8.8.4.4".parse().unwrap()), ..call.clone() };
    assert_eq!(code(gate.admit(&elsewhere)), "ip_not_allowed");
    gate.order("acme", OrganizationCommand::RevokeKey { project: project("web"), key: key("k1") }).unwrap();
    assert_eq!(code(gate.admit(&call)), "api_key_revoked");
}

/// Found by reading: an id used again after its request was over passed without a slot, a hold, or being counted.
#[test]
fn r5_7_a_request_id_used_again_reserves_again() {
    let mut gate = gate("limits acme concurrency=1 rpm=3\n");
    let call = Call::new("k1", 1_000, 0).named("r1");
    let first = gate.admit(&call).unwrap();
    assert_eq!(code(gate.admit(&Call::new("k1", 2_000, 0).named("r1"))), "request_id_conflict");
    assert_eq!(code(gate.admit(&Call { api_key: "ak_k2".into(), ..call.clone() })), "request_id_conflict");
    gate.admissions.settle(&first.lease, None, None).unwrap();
    let second = gate.admit(&call).unwrap();
    assert_ne!(second.lease, first.lease);
    assert_eq!(code(gate.admit(&Call::new("k1", 1, 0))), "organization_concurrency");
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.concurrency, seen.requests, seen.tokens, seen.leases), (1, 2, 2_000, 2));
    // Usage of the request settles the first of them first.
    let now = gate.now();
    gate.usage(&[usage("u1", now, 700, of_request("r1"))]);
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.concurrency, seen.tokens, seen.leases), (1, 1_700, 1));
    gate.usage(&[usage("u2", now, 800, of_request("r1")), usage("u3", now, 5, of_request("r1"))]);
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.concurrency, seen.tokens, seen.leases, seen.held), (0, 1_505, 0, Amount::ZERO));
}

/// Found by reading: tokens that were settled by hand counted again when usage came after the lease was over.
#[test]
fn r5_7_usage_of_a_lease_that_is_over_does_not_count_twice() {
    let mut gate = gate("limits acme tpd=1000000\n");
    let leases =
        ["r1", "r2", "r3"].map(|id| gate.admit(&Call::new("k1", 1_000, 500).named(id)).unwrap().lease);
    let actual = Tokens { input: 900, cached_input: 0, output: 100 };
    for lease in &leases[..2] {
        gate.admissions.settle(lease, Some(actual), None).unwrap();
    }
    gate.wait_ms(601_000);
    let seen = gate.in_flight(&org("acme"));
    // The third was never settled: it is given back.
    assert_eq!((seen.tokens_today, seen.leases, seen.held), (2_000, 0, Amount::ZERO));
    let begun = gate.now().plus_seconds(-600);
    for (id, extras) in [("u1", of_lease(&leases[0])), ("u2", of_request("r2")), ("u3", of_lease(&leases[2]))]
    {
        gate.usage(&[usage(id, begun, 1_100, extras)]);
    }
    assert_eq!(gate.in_flight(&org("acme")).tokens_today, 3_300);
    // A second record of the same lease is more.
    gate.usage(&[usage("u4", begun, 10, of_lease(&leases[0]))]);
    assert_eq!(gate.in_flight(&org("acme")).tokens_today, 3_310);
}

/// Found by reading: a wait that only the first full limit named ended at the next full one.
#[test]
fn r5_6_a_wait_is_long_enough_for_every_limit() {
    let mut gate = gate("limits acme rpm=2 tpm=1000 concurrency=100\n");
    gate.admit(&Call::new("k1", 0, 0)).unwrap();
    gate.wait_ms(20_000);
    gate.admit(&Call::new("k1", 900, 0)).unwrap();
    let call = Call::new("k1", 200, 0);
    let refusal = gate.admit(&call).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationRpm, Retry::After(60_000)));
    assert_eq!(refusal.resets_at, Some(gate.now().plus_seconds(60)));
    gate.wait_ms(59_999);
    assert_eq!(code(gate.admit(&call)), "organization_tpm");
    gate.wait_ms(1);
    gate.admit(&call).unwrap();
}

#[test]
fn r5_6_a_request_that_never_fits_is_told_so_whatever_else_is_full() {
    let gate = gate("limits acme rpm=1 tpm=1000\n");
    gate.admit(&Call::new("k1", 1, 0)).unwrap();
    let refusal = gate.admit(&Call::new("k1", 1_001, 0)).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationRpm, Retry::Never));
    assert!(refusal.message().contains("waiting does not help"), "{}", refusal.message());
}

/// Found by reading: what scaling forbids was never, or not for a minute, though scaling ends before.
#[test]
fn r5_5_waits_know_when_scaling_ends() {
    let mut gate = gate("limits acme tpm=1000 concurrency=100\n");
    let until = gate.now().plus_nanos(7_500_000_001);
    let scale = NewRateScale {
        factor: "0.5".parse().unwrap(),
        until,
        reason: Reason::parse("capacity").unwrap(),
        tiers: Vec::new(),
    };
    gate.command(&Command::Config(ConfigCommand::SetRateScale(Some(scale)))).unwrap();
    let large = Call::new("k1", 600, 0);
    let refusal = gate.admit(&large).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationTpm, Retry::After(7_501)));
    let never = gate.admit(&Call::new("k1", 1_001, 0)).unwrap_err();
    assert_eq!(never.retry, Retry::Never);
    gate.admit(&Call::new("k1", 300, 0)).unwrap();
    assert_eq!(gate.admit(&large).unwrap_err().retry, Retry::After(7_501));
    gate.wait_ms(7_500);
    assert_eq!(code(gate.admit(&large)), "organization_tpm");
    gate.wait_ms(1);
    gate.admit(&large).unwrap();
}

/// A table that begins within the wait and allows less makes it longer.
#[test]
fn r5_6_waits_know_of_tables_that_begin_later() {
    let script = "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        key acme web k1
        price m input=1 output=1 from=2026-01-01T00:00:00Z
        recharge acme 1 ref=a
        tiers Dear:50 from=2026-11-20T10:00:30Z
    ";
    let mut gate = Gate::over(script);
    for _ in 0..3 {
        let lease = gate.admit(&Call::new("k1", 1, 0)).unwrap().lease;
        gate.admissions.settle(&lease, None, None).unwrap();
    }
    let refusal = gate.admit(&Call::new("k1", 1, 0)).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationRpm, Retry::Never));
    gate.wait_ms(30_000);
    assert_eq!(code(gate.admit(&Call::new("k1", 1, 0))), "recharge_required");
}

#[test]
fn r5_6_leases_that_end_within_a_wait_shorten_it() {
    let mut gate = gate("limits acme tpm=1000 tpd=1500\n");
    let short = Call { lease_seconds: Some(10), ..Call::new("k1", 600, 0) };
    gate.admit(&short).unwrap();
    gate.admit(&Call::new("k1", 300, 0)).unwrap();
    assert_eq!(gate.admit(&Call::new("k1", 500, 0)).unwrap_err().retry, Retry::After(10_000));
    assert_eq!(gate.admit(&Call::new("k1", 800, 0)).unwrap_err().retry, Retry::After(60_000));
    gate.wait_ms(9_999);
    assert_eq!(code(gate.admit(&Call::new("k1", 500, 0))), "organization_tpm");
    gate.wait_ms(1);
    gate.admit(&Call::new("k1", 500, 0)).unwrap();
    gate.wait_ms(60_000);
    // 800 of the day are estimates of leases that end: the first of them at 10:10.
    let refusal = gate.admit(&Call::new("k1", 900, 0)).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationTpd, Retry::After(530_000)));
}

#[test]
fn r5_5_an_override_of_nothing_refuses_for_ever() {
    let mut gate = gate("");
    let set = |rpm| OrganizationCommand::OverrideLimits {
        quantities: QuantityOverride::default(),
        rates: RateOverride { rpm, ..RateOverride::default() },
    };
    // Whether the operator may say 0 is decided elsewhere; where it stands, waiting does not help.
    if gate.order("acme", set(Change::Set(0))).is_ok() {
        let refusal = gate.admit(&Call::new("k1", 1, 0)).unwrap_err();
        assert_eq!((refusal.code, refusal.retry), (Code::OrganizationRpm, Retry::Never));
        gate.order("acme", set(Change::Remove)).unwrap();
    }
    gate.admit(&Call::new("k1", 1, 0)).unwrap();
}

#[test]
fn r5_1_a_tier_that_changes_in_the_middle_of_a_window_keeps_what_was_counted() {
    let script = "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        key acme web k1
        price m input=1 output=1 from=2026-01-01T00:00:00Z
        recharge acme 1 ref=a
    ";
    let mut gate = Gate::over(script);
    for _ in 0..3 {
        let lease = gate.admit(&Call::new("k1", 1, 0)).unwrap().lease;
        gate.admissions.settle(&lease, None, None).unwrap();
    }
    assert_eq!(code(gate.admit(&Call::new("k1", 1, 0))), "organization_rpm");
    gate.command(&recharge(org("acme"), Amount::whole(9), "b", 99)).unwrap();
    let admitted = gate.admit(&Call::new("k1", 1, 0)).unwrap();
    assert_eq!(admitted.granted.tier.unwrap().as_str(), "Tier1");
    assert_eq!(admitted.granted.quotas.unwrap().requests.unwrap().remaining, 196);
    // Down again: four of three are counted, and two have to leave.
    let lower = OrganizationCommand::OverrideLimits {
        quantities: QuantityOverride::default(),
        rates: RateOverride { rpm: Change::Set(3), ..RateOverride::default() },
    };
    gate.wait_ms(1_000);
    gate.order("acme", lower).unwrap();
    let refusal = gate.admit(&Call::new("k1", 1, 0)).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationRpm, Retry::After(59_000)));
}

/// Found by reading: a lease renewed past a change of prices, or a price published while it was open, held too little.
#[test]
fn r4_11_holds_follow_prices_that_change_during_the_lease() {
    let mut gate = gate("price m input=3 output=1 from=2026-11-20T10:30:00Z\n");
    let lease = gate.admit(&Call::new("k1", 1_000_000, 0)).unwrap().lease;
    let held = |gate: &Gate| gate.in_flight(&org("acme")).held;
    assert_eq!(held(&gate), Amount::whole(1));
    gate.admissions.renew(&lease, Some(3_600), None).unwrap();
    assert_eq!(held(&gate), Amount::whole(3));
    let dear = check_price("2");
    gate.command(&dear).unwrap();
    let other = gate.admit(&Call::new("k1", 1_000_000, 0)).unwrap().lease;
    assert_eq!(held(&gate), Amount::whole(5));
    gate.command(&check_price("7")).unwrap();
    assert!(gate.admissions.compare(&Call::new("k1", 0, 0).ask()).is_ok());
    assert_eq!(held(&gate), Amount::whole(14));
    // Usage says when it occurred: settled by hand it may still cost the dearest price of the lease.
    let actual = Tokens { input: 500_000, cached_input: 500_000, output: 0 };
    gate.admissions.settle(&other, Some(actual), None).unwrap();
    gate.admissions.release(&lease, None).unwrap();
    let now = gate.now();
    let mut record = usage("u1", now, 500_000, of_lease(&other));
    record.tokens.cached_input = 500_000;
    let before = (held(&gate), gate.ledger.state.organization(&org("acme")).unwrap().purse.spent());
    gate.usage(&[record]);
    let spent = gate.ledger.state.organization(&org("acme")).unwrap().purse.spent();
    assert!(before.0 >= spent.checked_sub(before.1).unwrap(), "{before:?} {spent:?}");
    assert_eq!(held(&gate), Amount::ZERO);
}

/// Publishes a price of model `m` from now on; cached input is the dearer.
fn check_price(input: &str) -> Command {
    let price = |text: &str| text.parse().unwrap();
    let row = tollbook_schemas::price::ModelPrice {
        input: price("1"),
        cached_input: price(input),
        output: price("1"),
        meters: std::collections::BTreeMap::new(),
        max_output_tokens: None,
    };
    let models = [(ModelName::parse("m").unwrap(), row)].into();
    let list = tollbook_schemas::command::NewPrices { effective_from: None, models };
    Command::Config(ConfigCommand::PublishPrices { currency: "USD".into(), list })
}

#[test]
fn r5_7_a_switch_keeps_the_estimate_counted() {
    let settings = AdmissionSettings { keep_estimates: true, ..AdmissionSettings::default() };
    let mut gate = Gate::of(check(ACME), settings);
    let [first, second, third] = [0, 1, 2].map(|_| gate.admit(&Call::new("k1", 1_000, 500)).unwrap().lease);
    let actual = Tokens { input: 10, cached_input: 0, output: 5 };
    gate.admissions.settle(&first, Some(actual), None).unwrap();
    let now = gate.now();
    gate.usage(&[usage("u1", now, 20, of_lease(&second))]);
    gate.admissions.release(&third, None).unwrap();
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.tokens, seen.tokens_today, seen.requests, seen.concurrency), (3_000, 3_000, 3, 0));
}

#[test]
fn r10_2_observing_refuses_nothing_and_notes_everything() {
    let settings = AdmissionSettings { mode: Mode::Observe, ..AdmissionSettings::default() };
    let ledger = check(&format!(
        "{ACME}limits acme concurrency=1 rpm=1\nrevoke acme web k2 -> ok revoked k2 requested\n"
    ));
    let gate = Gate::of(ledger, settings);
    let noted = |call: &Call| gate.admit(call).unwrap().granted.noted.map(|refusal| refusal.code);
    assert_eq!(noted(&Call::new("k1", 1, 0).named("r1")), None);
    assert_eq!(noted(&Call::new("k1", 1, 0)), Some(Code::OrganizationConcurrency));
    assert_eq!(noted(&Call::new("k2", 1, 0)), Some(Code::KeyRevoked));
    assert_eq!(noted(&Call::new("k1", 2, 0).named("r1")), Some(Code::RequestIdConflict));
    let unknown = Call { model: ModelName::parse("unknown").unwrap(), ..Call::new("k1", 1, 0) };
    assert_eq!(noted(&unknown), Some(Code::ModelNotFound));
    assert_eq!(gate.in_flight(&org("acme")).concurrency, 5);
}

#[test]
fn r5_7_a_lease_can_be_renewed_for_less() {
    let mut gate = gate("limits acme concurrency=1\n");
    let lease = gate.admit(&Call::new("k1", 1_000, 0)).unwrap().lease;
    // Nothing is due for long.
    gate.wait_ms(61_000);
    assert_eq!(gate.in_flight(&org("acme")).leases, 1);
    gate.admissions.renew(&lease, Some(5), None).unwrap();
    gate.wait_ms(4_999);
    assert_eq!(code(gate.admit(&Call::new("k1", 1, 0))), "organization_concurrency");
    gate.wait_ms(1);
    gate.admit(&Call::new("k1", 1, 0)).unwrap();
}

/// Released usage is booked like any other: it settles its lease and counts (R8.1).
#[test]
fn r8_1_usage_released_from_quarantine_settles_its_lease() {
    let mut gate = gate("");
    let lease = gate.admit(&Call::new("k1", 1_000, 0)).unwrap().lease;
    let now = gate.now();
    let unknown =
        Usage { model: ModelName::parse("late").unwrap(), ..usage("u1", now, 400, of_lease(&lease)) };
    gate.usage(std::slice::from_ref(&unknown));
    let held = gate.ledger.quarantine[0].clone();
    assert_eq!(held.reason, QuarantineReason::UnknownModel);
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.leases, seen.concurrency, seen.tokens), (1, 1, 1_000));
    let mended = Usage { model: ModelName::parse("m").unwrap(), ..unknown };
    let release = OrganizationCommand::ReleaseUsage { place: held.place, usage: Some(Box::new(mended)) };
    gate.order("acme", release).unwrap();
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.leases, seen.concurrency, seen.tokens, seen.held), (0, 0, 400, Amount::ZERO));
}

#[test]
fn r5_7_usage_of_another_organization_settles_nothing_here() {
    let mut gate = gate(
        "organization beta\nproject beta shop\nkey beta shop b1\nrecharge beta 10 ref=b -> ok voucher 5\n",
    );
    let lease = gate.admit(&Call::new("k1", 1_000, 0).named("r1")).unwrap().lease;
    // Counted alike in both.
    gate.admit(&Call::new("b1", 0, 0)).unwrap();
    let now = gate.now();
    for (id, extras) in [("u1", of_lease(&lease)), ("u2", of_request("r1"))] {
        let record = usage(id, now, 7, extras);
        gate.usage(&[Usage { organization: org("beta"), charged: Charged::Key(key("b1")), ..record }]);
    }
    assert_eq!(gate.in_flight(&org("acme")).leases, 1);
    let seen = gate.in_flight(&org("beta"));
    assert_eq!((seen.tokens, seen.leases), (14, 1));
    // Nor do leases of another process, whose request is known here all the same.
    let extras = Extras { lease: Some("lease_of_another".into()), ..of_request("r1") };
    gate.usage(&[usage("u3", now, 9, extras)]);
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.leases, seen.tokens), (0, 9));
}

/// Found by reading: the last minute's usage was counted twice in the day after a start.
#[test]
fn r5_2_a_start_counts_the_day_once() {
    let mut gate = gate("limits acme tpd=1000000\n");
    let now = gate.now();
    gate.usage(&[usage("u1", now, 600, Extras::default()), usage("u1", now, 600, Extras::default())]);
    let record = gate.last_record();
    let again = Admissions::new(never_behind(AdmissionSettings::default()), Clock::simulated(now), 1);
    let desk = again.desk(PARTITION).unwrap();
    desk.load(&gate.ledger.state);
    desk.seed(&gate.ledger.state, &record, &[1]);
    desk.own(Some(1));
    let seen = again.in_flight(PARTITION, &org("acme")).unwrap();
    assert_eq!((seen.tokens, seen.tokens_today, seen.projects[0].1), (600, 600, 600));
    assert_eq!(gate.in_flight(&org("acme")).tokens_today, 600);
}

/// Days are the organization's, 23 or 25 hours where its clocks change (R5.2).
#[test]
fn r5_2_days_of_tokens_end_with_the_organizations_day() {
    for (begin, zone, hours) in [
        ("2026-03-28T23:00:00Z", "Europe/Berlin", 23),
        ("2026-10-24T22:00:00Z", "Europe/Berlin", 25),
        ("2018-11-03T03:00:00Z", "America/Sao_Paulo", 24),
        ("2018-11-04T03:00:00Z", "America/Sao_Paulo", 23),
        ("2026-11-20T00:00:00Z", "UTC", 24),
    ] {
        let script = format!(
            "
            at {begin}
            organization acme zone={zone}
            project acme web
            key acme web k1
            price m input=1 output=1 from=2010-01-01T00:00:00Z
            recharge acme 1000 ref=a -> ok voucher 5
            limits acme tpd=1000
            "
        );
        let mut gate = Gate::over(&script);
        let lease = gate.admit(&Call::new("k1", 900, 0)).unwrap().lease;
        let actual = Tokens { input: 900, cached_input: 0, output: 0 };
        gate.admissions.settle(&lease, Some(actual), None).unwrap();
        let refusal = gate.admit(&Call::new("k1", 200, 0)).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.retry),
            (Code::OrganizationTpd, Retry::After(hours * 3_600_000)),
            "{begin}"
        );
        gate.wait_ms(hours * 3_600_000 - 1);
        assert_eq!(code(gate.admit(&Call::new("k1", 200, 0))), "organization_tpd");
        gate.wait_ms(1);
        gate.admit(&Call::new("k1", 200, 0)).unwrap();
    }
}

/// Whoever never tells the end of requests takes bounded memory.
#[test]
fn r5_7_leases_are_bounded() {
    let ledger = check(&format!("{ACME}limits acme concurrency=1000000 rpm=1000000\n"));
    let now = ledger.now;
    let (mut account, rules) = account(&ledger, now);
    let (model, meters) = (ModelName::parse("m").unwrap(), Meters::new());
    let request = Request {
        ip: None,
        model: &model,
        input_tokens: 0,
        max_output_tokens: Some(0),
        meters: &meters,
        request_id: None,
    };
    let first = account.admit(&rules, &request, 0, TERMS, now).unwrap().number;
    for _ in 1..tollbook_engine::admission::lease::LEASES_MAX {
        account.admit(&rules, &request, 0, TERMS, now).unwrap();
    }
    let refusal = account.admit(&rules, &request, 0, TERMS, now).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.retry), ("organization_leases", Retry::Hint(1_000)));
    assert_eq!((refusal.code.kind(), refusal.code.status(402)), ("rate_limit_reached_error", 429));
    assert_eq!(
        refusal.subject.as_ref().map(|subject| (subject.scope(), subject.id())),
        Some(("organization", "org_acme"))
    );
    let count = Some((Quantity::Count(200_000), Quantity::Count(200_000), None));
    assert_eq!(refusal.reached.map(|reached| (reached.limit, reached.current, reached.requested)), count);
    assert_eq!(
        refusal.message(),
        "Your account org_acme<ak_k1> has 200000 requests in progress or without their usage, and 200000 are the most, please try again after 1 seconds"
    );
    assert!(refusal.quotas.is_some());
    // Noting refusals takes a lease too.
    let observe = Terms { observe: true, ..TERMS };
    let refusal = account.admit(&rules, &request, 0, observe, now).unwrap_err();
    assert_eq!(refusal.code, Code::OrganizationLeases);
    let used = Used { project: 0, occurred_at: now, tokens: 5, lease: Some(LeaseName::Number(first)) };
    account.used([used], TERMS, now);
    account.admit(&rules, &request, 0, TERMS, now).unwrap();
    account.advance(now.plus_seconds(600));
    assert_eq!((account.leases(), account.take_expired()), (0, 200_000));
}

/// One credit limit, two parallel requests: what may be spent is vouchers, cash and credit (R4.1).
#[test]
fn r4_1_holds_stay_within_the_credit_limit() {
    let mut gate = gate("adjust acme -1004 ref=j\ncredit acme 10\n");
    // 1000 + 5 − 1004 + 10.
    gate.admit(&Call::new("k1", 6_000_000, 0).named("a")).unwrap_err();
    gate.order(
        "acme",
        OrganizationCommand::OverrideLimits {
            quantities: QuantityOverride::default(),
            rates: RateOverride { tpm: Change::Set(1_000_000_000), ..RateOverride::default() },
        },
    )
    .unwrap();
    gate.admit(&Call::new("k1", 6_000_000, 0)).unwrap();
    let refusal = gate.admit(&Call::new("k1", 6_000_000, 0)).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::BalanceBelowRequest, Retry::Hint(1_000)));
    gate.admit(&Call::new("k1", 5_000_000, 0)).unwrap();
    assert_eq!(gate.admit(&Call::new("k1", 11_000_001, 0)).unwrap_err().retry, Retry::Never);
    gate.order("acme", OrganizationCommand::SetCreditLimit(None)).unwrap();
    let refusal = gate.admit(&Call::new("k1", 1, 0)).unwrap_err();
    assert_eq!(refusal.code, Code::BalanceBelowRequest);
}
