//! R8.1, R8.2, R4.8 What becomes of quarantined records, and that each counts once whichever way it comes.

use std::collections::BTreeMap;

use tollbook_projections::past::Settling;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::id::{ModelName, OrgId, Reason, SourceName};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::usage::{Charged, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::memory::{MemoryLedger, Outcome};
use tollbook_tests::script::{check, key, org, project};

const SHOP: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    project acme web
    key acme web k1
    price m input=1 output=1 from=2026-01-01T00:00:00Z
";

/// A million input tokens, so 1 by the price of `m`.
fn record(organization: &str, id: &str, count: Option<u64>) -> Usage {
    Usage {
        organization: org(organization),
        charged: Charged::Key(key("k1")),
        model: ModelName::parse("m").unwrap(),
        source: SourceName::parse("gw").unwrap(),
        id: id.to_owned(),
        occurred: Occurred::Given("2026-11-20T09:00:00Z".parse().unwrap()),
        producerseq: count,
        tokens: Tokens { input: 1_000_000, cached_input: 0, output: 0 },
        extras: None,
    }
}

fn place(ledger: &MemoryLedger, number: usize) -> UsagePlace {
    ledger.quarantine[number].place
}

/// Releases what was quarantined as this, for an organization.
fn release(
    ledger: &mut MemoryLedger,
    organization: &OrgId,
    number: usize,
    mended: Option<&Usage>,
) -> Result<Outcome, Rejection> {
    let usage = mended.cloned().map(Box::new);
    let command = OrganizationCommand::ReleaseUsage { place: place(ledger, number), usage };
    let outcome = ledger.command(&Command::Organization(organization.clone(), command), None);
    ledger.check();
    let refolded = ledger.refold(|_| false);
    assert_eq!(refolded.digest().unwrap(), ledger.digest());
    outcome
}

#[track_caller]
fn spent(ledger: &MemoryLedger, organization: &str) -> Amount {
    ledger.state.organization(&org(organization)).unwrap().purse.spent()
}

fn whole(units: u32) -> Amount {
    Amount::whole(units)
}

/// What is known to be released.
fn is_released(ledger: &MemoryLedger, number: usize) -> bool {
    let settled = ledger.settled.get(&place(ledger, number));
    settled.is_some_and(|settled| settled.how == Settling::Released)
}

#[test]
fn r8_1_each_reason_is_mended_in_its_own_way() {
    let mut ledger = check(&format!(
        "{SHOP}
        usage acme k9 m in=1000000 id=r0                                 -> quarantined unknown_key
        usage acme project:new m in=1000000 id=r1                        -> quarantined unknown_project
        usage acme k1 new in=1000000 id=r2                               -> quarantined unknown_model
        usage acme k1 m in=1000000 meter.image=1 id=r3                   -> quarantined unknown_meter
        usage acme k1 m in=1000000 id=r4 time=2026-11-20T11:00:00Z       -> quarantined ahead
        usage acme k1 m in=1000000 id=r5 time=2026-09-01T00:00:00Z       -> quarantined too_old
        usage acme k1 m in=1000000 cached=2000000 id=r6                  -> quarantined absurd
        usage acme k1 m in=1000000 id=r7 seq=100000                      -> booked
        usage acme k1 m in=1000000 id=r8 seq=1                           -> quarantined sequence_behind
        usage acme k1 m in=1000000 id=r9 seq=9000000                     -> quarantined sequence_ahead
        usage acme k1 m in=2000000 id=r10                                -> booked
        usage acme k1 m in=1000000 id=r10                                -> quarantined conflicting_id
        unreadable acme                                                  -> quarantined unreadable
        "
    ));
    let acme = org("acme");
    let unbookable = |outcome: Result<Outcome, Rejection>, reason: &str| match outcome {
        Err(Rejection::StillUnbookable(why)) => assert_eq!(why, reason),
        other => panic!("{reason}: {other:?}"),
    };
    let waiting = ["unknown_key", "unknown_project", "unknown_model", "unknown_meter", "ahead"];
    for (number, reason) in waiting.into_iter().enumerate() {
        unbookable(release(&mut ledger, &acme, number, None), reason);
    }
    unbookable(release(&mut ledger, &acme, 6, None), "absurd");
    unbookable(release(&mut ledger, &acme, 10, None), "its bytes are not readable as usage");
    assert_eq!(spent(&ledger, "acme"), whole(3), "refusals book nothing");
    unbookable(release(&mut ledger, &acme, 8, None), "sequence_ahead");
    // What only somebody's word can tell: old, behind, in conflict.
    for number in [5, 7, 9] {
        let outcome = release(&mut ledger, &acme, number, None);
        assert!(matches!(outcome, Ok(Outcome::Entry { .. })), "{number}: {outcome:?}");
    }
    assert_eq!(spent(&ledger, "acme"), whole(6));
    // Mended in the ledger, or in the record.
    let commands = [
        tollbook_tests::script::create_project(acme.clone(), project("new")),
        tollbook_tests::script::issue_key(acme.clone(), project("web"), key("k9"), None),
    ];
    for command in commands {
        ledger.command(&command, None).unwrap();
    }
    ledger.now = ledger.now.plus_seconds(60 * 60);
    for number in [0, 1, 4] {
        assert!(matches!(release(&mut ledger, &acme, number, None), Ok(Outcome::Entry { .. })), "{number}");
    }
    for (number, id) in [(2, "r2"), (3, "r3"), (6, "r6"), (10, "r11")] {
        let mended = record("acme", id, None);
        assert!(
            matches!(release(&mut ledger, &acme, number, Some(&mended)), Ok(Outcome::Entry { .. })),
            "{id}"
        );
    }
    // One that was not counted may get another count.
    let mended = record("acme", "r9", Some(100_001));
    assert!(matches!(release(&mut ledger, &acme, 8, Some(&mended)), Ok(Outcome::Entry { .. })));
    assert_eq!(spent(&ledger, "acme"), whole(14));
    for number in 0..11 {
        assert!(is_released(&ledger, number));
        assert!(matches!(release(&mut ledger, &acme, number, None), Ok(Outcome::Before(_))), "once");
    }
    let head = ledger.state.head();
    assert_eq!((head.quarantined, head.settled), (11, 11));
}

#[test]
fn r8_1_a_released_record_is_charged_as_it_occurred_and_booked_now() {
    let mut ledger = check(&format!(
        "{SHOP}
        usage acme k9 m in=1000000 id=r0                 -> quarantined unknown_key
        price m input=5 from=2026-12-01T00:00:00Z
        at 2026-12-05T10:00:00Z
        key acme web k9
        "
    ));
    release(&mut ledger, &org("acme"), 0, None).unwrap();
    let known = ledger.state.organization(&org("acme")).unwrap();
    assert_eq!(known.purse.spent(), whole(1));
    assert_eq!(known.month.month.to_string(), "2026-12", "money moves in the open month");
    assert_eq!(known.month.usage.total().unwrap(), whole(1));
    let days: Vec<_> = ledger.cells(&org("acme")).into_keys().map(|cell| cell.day.to_string()).collect();
    assert_eq!(days, ["2026-11-20"], "it counts when it occurred");
}

#[test]
fn r8_1_usage_of_an_organization_that_comes_later_waits_for_it() {
    let mut ledger = check(&format!(
        "{SHOP}
        usage late k1 m in=1000000 id=r0                 -> quarantined unknown_organization
        usage late k1 m in=1000000 id=r0                 -> quarantined unknown_organization
        usage late k1 m in=1000000 id=r1 seq=1           -> quarantined unknown_organization
        usage late k1 m in=1000000 id=r1 seq=1           -> quarantined unknown_organization
        "
    ));
    let late = org("late");
    assert!(matches!(release(&mut ledger, &late, 0, None), Err(Rejection::OrganizationUnknown(_))));
    let mut ledger = check(&format!(
        "{SHOP}
        usage late k1 m in=1000000 id=r0                 -> quarantined unknown_organization
        usage late k1 m in=1000000 id=r0                 -> quarantined unknown_organization
        usage late k1 m in=1000000 id=r1 seq=1           -> quarantined unknown_organization
        usage late k1 m in=1000000 id=r1 seq=1           -> quarantined unknown_organization
        organization late
        project late web
        key late web k1
        "
    ));
    // Nobody told its repetitions apart when they came; by now they are (R8.2).
    release(&mut ledger, &late, 1, None).unwrap();
    assert!(!is_released(&ledger, 1), "the other one came first");
    assert_eq!(spent(&ledger, "late"), Amount::ZERO);
    for number in [0, 3] {
        release(&mut ledger, &late, number, None).unwrap();
        assert!(is_released(&ledger, number));
    }
    assert!(matches!(release(&mut ledger, &late, 2, None), Err(Rejection::StillUnbookable(_))));
    assert_eq!(spent(&ledger, "late"), whole(2));
    for usage in [record("late", "r0", None), record("late", "r1", Some(1))] {
        ledger.usage(&[usage]);
    }
    assert_eq!(spent(&ledger, "late"), whole(2));
    let other = release(&mut ledger, &org("acme"), 0, None);
    assert_eq!(other, Err(Rejection::NotInQuarantine), "nobody releases what is another's");
}

#[test]
fn r8_2_what_was_unreadable_counts_once_whichever_way_it_comes() {
    let acme = org("acme");
    let script = format!(
        "{SHOP}\nunreadable acme -> quarantined unreadable\nunreadable acme -> quarantined unreadable"
    );
    for count in [None, Some(7)] {
        // Released, and then sent again as it should be.
        let mut ledger = check(&script);
        let mended = record("acme", "r1", count);
        release(&mut ledger, &acme, 0, Some(&mended)).unwrap();
        ledger.restart();
        ledger.usage(std::slice::from_ref(&mended));
        assert_eq!(spent(&ledger, "acme"), whole(1), "{count:?}");
        // Twice the same bytes, and somebody mends both.
        let again = release(&mut ledger, &acme, 1, Some(&mended));
        assert!(!is_released(&ledger, 1), "{again:?}");
        assert_eq!(spent(&ledger, "acme"), whole(1), "{count:?}");
        // Sent again as it should be, and then released.
        let mut ledger = check(&script);
        ledger.usage(std::slice::from_ref(&mended));
        let late = release(&mut ledger, &acme, 0, Some(&mended));
        assert!(!is_released(&ledger, 0), "{late:?}");
        assert_eq!(spent(&ledger, "acme"), whole(1), "{count:?}");
    }
}

#[test]
fn r8_2_a_mended_record_stays_the_record_that_it_is() {
    let mut ledger =
        check(&format!("{SHOP}\nusage acme k1 none in=1000000 id=r1 seq=5 -> quarantined unknown_model"));
    let came = record("acme", "r1", Some(5));
    let others: [fn(&mut Usage); 4] = [
        |usage| usage.id = "r2".into(),
        |usage| usage.source = SourceName::parse("other").unwrap(),
        |usage| usage.producerseq = Some(6),
        |usage| usage.producerseq = None,
    ];
    for change in others {
        let mut mended = came.clone();
        change(&mut mended);
        let outcome = release(&mut ledger, &org("acme"), 0, Some(&mended));
        assert!(matches!(outcome, Err(Rejection::StillUnbookable(_))), "{mended:?}: {outcome:?}");
    }
    let mut theirs = came.clone();
    theirs.organization = org("beta");
    let outcome = release(&mut ledger, &org("acme"), 0, Some(&theirs));
    assert_eq!(outcome, Err(Rejection::NotInQuarantine));
    release(&mut ledger, &org("acme"), 0, Some(&came)).unwrap();
    assert_eq!(spent(&ledger, "acme"), whole(1));
}

#[test]
fn r8_1_what_is_dismissed_is_not_released() {
    let mut ledger = check(&format!("{SHOP}\nusage acme k1 none in=1 id=r1 -> quarantined unknown_model"));
    let dismiss = |reason: &str| {
        let reason = Reason::parse(reason).unwrap();
        let place = place(&ledger, 0);
        Command::Organization(org("acme"), OrganizationCommand::DismissUsage { place, reason })
    };
    let (first, other) = (dismiss("a test"), dismiss("another"));
    assert!(matches!(ledger.command(&first, None), Ok(Outcome::Entry { .. })));
    assert!(matches!(ledger.command(&first, None), Ok(Outcome::Before(_))));
    assert_eq!(ledger.command(&other, None), Err(Rejection::NotInQuarantine));
    let mended = record("acme", "r1", None);
    assert_eq!(release(&mut ledger, &org("acme"), 0, Some(&mended)), Err(Rejection::NotInQuarantine));
    // After two days only the view knows.
    ledger.now = ledger.now.plus_seconds(60 * 24 * 60 * 60);
    ledger.usage(&[record("acme", "r2", None)]);
    assert!(ledger.state.organization(&org("acme")).unwrap().recent.settled(place(&ledger, 0)).is_none());
    assert!(matches!(ledger.command(&first, None), Ok(Outcome::Before(_))));
    assert_eq!(release(&mut ledger, &org("acme"), 0, Some(&mended)), Err(Rejection::NotInQuarantine));
}

#[test]
fn r3_6_a_key_is_found_by_its_secret_alone() {
    let mut ledger = check(
        "
        organization acme
        organization beta
        project acme web
        project beta web
        key acme web k1
        key acme web k2
        key beta web k1
        ",
    );
    let secret = |name: &str| {
        let known = ledger.state.organization(&org("acme")).unwrap();
        known.keys.get(&key(name)).unwrap().secret
    };
    let (first, second) = (secret("k1"), secret("k2"));
    let found = |ledger: &MemoryLedger, secret: &SecretHash| {
        let found = ledger.state.key_by_secret(secret);
        found.map(|(organization, id, key)| (organization.id.clone(), id.clone(), key.is_active()))
    };
    // In a script both have the same secret: the older one counts, before a restart and after.
    for _ in 0..2 {
        assert_eq!(found(&ledger, &first), Some((org("acme"), key("k1"), true)));
        assert_eq!(found(&ledger, &second), Some((org("acme"), key("k2"), true)));
        assert_eq!(found(&ledger, &SecretHash([0; 32])), None);
        ledger.restart();
    }
    let revoke = OrganizationCommand::RevokeKey { project: project("web"), key: key("k2") };
    ledger.command(&Command::Organization(org("acme"), revoke), None).unwrap();
    for _ in 0..2 {
        assert_eq!(
            found(&ledger, &second),
            Some((org("acme"), key("k2"), false)),
            "a revoked key is still told"
        );
        ledger.restart();
    }
    let keys: BTreeMap<_, _> =
        ledger.state.organizations().map(|known| (known.id.clone(), known.keys.len())).collect();
    assert_eq!(keys.values().sum::<usize>(), 3);
}
