//! When admission begins anew: an owner after another one, and a clock that was set back (R5.6).

use tollbook_engine::admission::account::{Account, Request};
use tollbook_engine::admission::standing::Rules;
use tollbook_engine::admission::{Code, Terms};
use tollbook_schemas::id::ModelName;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::Timestamp;
use tollbook_tests::gate::{Call, Gate};
use tollbook_tests::script::{check, key, org, project};

const TERMS: Terms = Terms { lease_seconds: 600, observe: false, keep_estimates: false };

const SCRIPT: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    project acme web
    key acme web k1
    price m input=1 output=1 from=2026-01-01T00:00:00Z
    recharge acme 4 ref=a
";

#[test]
fn r5_6_an_owner_after_another_one_begins_without_requests() {
    let gate = Gate::over(SCRIPT);
    let call = Call::new("k1", 100, 100);
    gate.admissions.admit(&call.ask()).unwrap();
    assert_eq!(gate.admissions.admit(&call.ask()).unwrap_err().code, Code::OrganizationConcurrency);
    // Another node owns it for a while, and ends that request there.
    gate.desk().own(None);
    assert_eq!(gate.admissions.admit(&call.ask()).unwrap_err().code, Code::NotReady);
    gate.desk().own(Some(3));
    let known = gate.admissions.in_flight(gate.desk().partition(), &org("acme")).unwrap();
    assert_eq!((known.concurrency, known.requests, known.leases), (0, 0, 0));
    assert_eq!((known.tokens, known.held.units()), (0, 0));
    // Where nobody decided in between, because only the lease was lost for a moment, nothing is forgotten.
    gate.admissions.admit(&call.ask()).unwrap();
    gate.desk().own(None);
    gate.desk().own(Some(4));
    assert_eq!(gate.admissions.admit(&call.ask()).unwrap_err().code, Code::OrganizationConcurrency);
}

#[test]
fn r5_6_a_clock_that_was_set_back_locks_nobody_out() {
    let ledger = check(SCRIPT);
    let known = ledger.state.organization(&org("acme")).unwrap();
    let start = ledger.now;
    let mut account = Account::new(known, start);
    let place = account.take_key(None, &key("k1"), &project("web"), true).unwrap();
    let rules = Rules::of(ledger.state.config(), 1, start);
    let (model, meters) = (ModelName::parse("m").unwrap(), Meters::new());
    let mut pass = |now: Timestamp| {
        let request = Request {
            ip: None,
            model: &model,
            input_tokens: 100,
            max_output_tokens: Some(100),
            meters: &meters,
            request_id: None,
        };
        let granted = account.admit(&rules, &request, place, TERMS, now);
        granted.map(|granted| account.release(granted.number, now)).map_err(|refusal| refusal.code)
    };
    // For a moment the clock is an hour ahead, and three requests of Tier0 pass.
    let ahead = start.plus_seconds(3_600);
    for _ in 0..3 {
        pass(ahead).unwrap();
    }
    assert_eq!(pass(ahead).unwrap_err(), Code::OrganizationRpm);
    // Callers whose clocks differ by less than a second are callers of one clock.
    assert_eq!(pass(ahead.plus_nanos(-999_999_999)).unwrap_err(), Code::OrganizationRpm);
    for _ in 0..3 {
        pass(start.plus_seconds(1)).unwrap();
    }
    // And from there on windows slide again.
    assert_eq!(pass(start.plus_seconds(60)).unwrap_err(), Code::OrganizationRpm);
    pass(start.plus_seconds(61)).unwrap();
}
