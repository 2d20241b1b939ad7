//! What bounds the work and the memory of one organization at the gate.

use tollbook_engine::admission::refusal::{Code, Retry};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{LeaseId, ModelName, SourceName};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage};
use tollbook_tests::gate::{Call, Gate};
use tollbook_tests::script::{issue_key, key, org, project};

const ACME: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    level acme verified
    project acme web
    key acme web k1
    price m input=1 output=1 from=2026-01-01T00:00:00Z
    recharge acme 1000 ref=a -> ok voucher 5
";

fn usage(lease: &LeaseId, at: Timestamp, tokens: Tokens) -> Usage {
    let extras = Extras { lease: Some(lease.as_str().to_owned()), ..Extras::default() };
    Usage {
        organization: org("acme"),
        charged: Charged::Key(key("k1")),
        model: ModelName::parse("m").unwrap(),
        source: SourceName::parse("gw").unwrap(),
        id: lease.as_str().to_owned(),
        occurred: Occurred::Given(at),
        producerseq: None,
        tokens,
        extras: Some(Box::new(extras)),
    }
}

fn gate(more: &str) -> Gate {
    Gate::over(&format!("{ACME}{more}"))
}

/// Found by review: a lease that lives for a minute was over a part of a millisecond before its tokens left the window,
/// so every refusal looked at every lease.
#[test]
fn r5_6_a_lease_of_a_minute_is_over_when_its_tokens_leave() {
    let mut gate = gate("limits acme tpm=1000\n");
    let begin = gate.now();
    gate.until(begin.plus_nanos(123_456));
    let call = Call { lease_seconds: Some(60), ..Call::new("k1", 1_000, 0) };
    let granted = gate.admit(&call).unwrap().granted;
    let leaves = begin.plus_nanos(60_001_000_000);
    assert_eq!(granted.expires_at, leaves);
    let refusal = gate.admit(&call).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationTpm, Retry::After(60_001)));
    assert_eq!(refusal.resets_at, Some(leaves));
}

/// Beyond what a refusal looks at a promise may be late, never early.
#[test]
fn r5_6_a_wait_among_many_leases_is_long_enough() {
    let mut gate = gate("limits acme tpm=3000 tpd=100000 rpm=100000 concurrency=100000\n");
    for at in 0..3_000 {
        let seconds = if at < 2_000 { 20 } else { 10 };
        gate.admit(&Call { lease_seconds: Some(seconds), ..Call::new("k1", 1, 0) }).unwrap();
    }
    let wait = |gate: &Gate, tokens| {
        let refusal = gate.admit(&Call::new("k1", tokens, 0)).unwrap_err();
        refusal.retry_after_ms().unwrap()
    };
    assert_eq!(wait(&gate, 1_000), 10_000);
    assert_eq!(wait(&gate, 1_001), 60_000, "true is 20,000, and nobody looked");
    let after: Timestamp = gate.now().plus_seconds(60);
    gate.until(after);
    gate.admit(&Call::new("k1", 1_001, 0)).unwrap();
}

/// The same of a day: not until midnight, where the leases that are open are over before.
#[test]
fn r5_2_a_wait_for_the_day_among_many_leases_is_no_longer_than_they_live() {
    let gate = gate("limits acme tpd=3000 rpm=100000 concurrency=100000\n");
    for _ in 0..3_000 {
        gate.admit(&Call::new("k1", 1, 0)).unwrap();
    }
    let refusal = gate.admit(&Call::new("k1", 2_000, 0)).unwrap_err();
    assert_eq!((refusal.code, refusal.retry), (Code::OrganizationTpd, Retry::After(600_000)));
}

/// Found by review: a release after the numbers were told gave back a charge that is on its way.
#[test]
fn r5_7_a_release_after_the_numbers_gives_back_the_slot_only() {
    let mut gate = gate("");
    let lease = gate.admit(&Call::new("k1", 1_000_000, 0)).unwrap().lease;
    let actual = Tokens { input: 400_000, cached_input: 0, output: 0 };
    gate.admissions.settle(&lease, Some(actual), None).unwrap();
    let settled = gate.in_flight(&org("acme"));
    assert_eq!((settled.concurrency, settled.tokens, settled.leases), (0, 400_000, 1));
    assert_eq!(settled.held, "0.4".parse().unwrap());
    for _ in 0..2 {
        gate.admissions.release(&lease, None).unwrap();
        assert_eq!(gate.in_flight(&org("acme")), settled);
    }
    let now = gate.now();
    gate.usage(&[usage(&lease, now, actual)]);
    let after = gate.in_flight(&org("acme"));
    assert_eq!((after.tokens, after.leases, after.held), (400_000, 0, Amount::ZERO));
    gate.admissions.release(&lease, None).unwrap_err();
}

/// Found by review: a decision about an organization published all of its keys and projects anew.
#[test]
fn r3_4_a_decision_publishes_the_keys_and_projects_that_it_names() {
    let mut gate = gate("project acme app\nkey acme app k2\ntpm acme app 100\n");
    let names = |gate: &Gate| gate.admit(&Call::new("k1", 1, 0)).unwrap().granted.names;
    let before = names(&gate);
    let net = "8.8.8.0/24".parse().unwrap();
    gate.order("acme", OrganizationCommand::SaveAllowlist(vec![net])).unwrap();
    gate.order("acme", OrganizationCommand::SaveAllowlist(Vec::new())).unwrap();
    gate.command(&issue_key(org("acme"), project("web"), key("k3"), None)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &names(&gate)));
    // What is named is in force at once.
    gate.admit(&Call::new("k3", 1, 0)).unwrap();
    let revoke =
        |of: &str, name: &str| OrganizationCommand::RevokeKey { project: project(of), key: key(name) };
    gate.order("acme", revoke("web", "k3")).unwrap();
    let code = |gate: &Gate, name, tokens| gate.admit(&Call::new(name, tokens, 0)).unwrap_err().code;
    assert_eq!(code(&gate, "k3", 1), Code::KeyRevoked);
    assert_eq!(code(&gate, "k2", 101), Code::ProjectTpm);
    let limit = OrganizationCommand::SetTpmLimit { project: project("app"), limit: Some(200) };
    gate.order("acme", limit).unwrap();
    gate.admit(&Call::new("k2", 101, 0)).unwrap();
    gate.order("acme", OrganizationCommand::ArchiveProject(project("app"))).unwrap();
    assert_eq!(code(&gate, "k2", 1), Code::KeyRevoked);
    gate.admit(&Call::new("k1", 1, 0)).unwrap();
}

/// Found by review: of 2,000 leases that were settled and over the oldest was forgotten, and its usage counted twice.
#[test]
fn r5_7_usage_of_leases_that_are_over_counts_once_however_many() {
    let mut gate = gate("limits acme tpm=1000000 tpd=1000000 rpm=100000 concurrency=100000\n");
    let begin = gate.now();
    let actual = Tokens { input: 7, cached_input: 0, output: 0 };
    let leases: Vec<_> = (0..2_500)
        .map(|at| {
            let lease = gate.admit(&Call::new("k1", 10, 0).named(&format!("r{at}"))).unwrap().lease;
            gate.admissions.settle(&lease, Some(actual), None).unwrap();
            lease
        })
        .collect();
    gate.until(begin.plus_seconds(600));
    let seen = gate.in_flight(&org("acme"));
    assert_eq!((seen.leases, seen.tokens_today), (0, 17_500));
    let actual = Tokens { input: 8, ..actual };
    let records: Vec<_> = leases.iter().map(|lease| usage(lease, begin, actual)).collect();
    for records in records.chunks(500) {
        gate.usage(records);
    }
    assert_eq!(gate.in_flight(&org("acme")).tokens_today, 20_000);
}
