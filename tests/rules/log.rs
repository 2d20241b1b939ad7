//! The log: terms, copies, messages of others, gaps (ARCHITECTURE, The log).

use tollbook_projections::state::Effect;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::batch::{BatchBuilder, UsageBatch};
use tollbook_schemas::entry::{Actor, Body, Cause, Decision};
use tollbook_schemas::event::{Event, PartitionEvent};
use tollbook_schemas::id::{ModelName, NodeName, SourceName};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Charged, Occurred, Tokens, Usage};
use tollbook_tests::memory::MemoryLedger;
use tollbook_tests::script::{check, key, org};

#[test]
fn a_decision_of_an_older_term_is_void() {
    check(
        "
        organization acme
        stale recharge acme 3 ref=a            -> void
        balance acme                           -> cash 0
        takeover node2                         -> term 2
        stale recharge acme 3 ref=a request=k/a -> void
        stale organization beta                -> void
        stale cycle 60                         -> void
        stale price m input=1                  -> void
        recharge beta 1 ref=a                  -> organization_not_found
        # Neither reference nor idempotency key was used up.
        recharge acme 3 ref=a request=k/a      -> ok
        balance acme                           -> cash 3
        cycle 600                              -> same
        takeover node1                         -> term 3
        restart
        stale recharge acme 3 ref=b            -> void
        skipped                                -> 6
        ",
    );
}

#[test]
fn usage_needs_no_term() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        takeover node2                         -> term 2
        usage acme k1 m in=1000000 id=r1       -> booked
        takeover node3                         -> term 3
        usage acme k1 m in=1000000 id=r2       -> booked
        ",
    );
}

#[test]
fn copies_of_entries_are_skipped() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        recharge acme 3 ref=a                  -> ok
        entries                                -> 7
        copy 7                                 -> skipped
        usage acme k1 m in=1000000 id=r1 seq=1 -> booked
        copy 9                                 -> skipped
        copy 9                                 -> skipped
        copy 1                                 -> skipped
        copy 2                                 -> skipped
        copy 3                                 -> skipped
        restart
        copy 7                                 -> skipped
        skipped                                -> 7
        balance acme                           -> cash 2
        counts acme                            -> booked 1 duplicates 0 quarantined 0
        # What the log holds twice is one record that came once; what is sent twice is a duplicate.
        usage acme k1 m in=1000000 id=r1 seq=1 -> duplicate
        ",
    );
}

#[test]
fn messages_of_others_are_skipped_and_counted() {
    check(
        "
        organization acme
        foreign bytes        -> skipped
        foreign ledger       -> skipped
        foreign partition    -> skipped
        foreign subject      -> skipped
        foreign family       -> skipped
        foreign other        -> skipped
        skipped              -> 6
        restart
        recharge acme 1 ref=a -> ok
        skipped              -> 6
        ",
    );
}

#[test]
fn a_gap_is_corrupt() {
    check(
        "
        organization acme
        gap                  -> corrupt
        recharge acme 1 ref=a -> ok
        gap                  -> corrupt
        ",
    );
}

#[test]
fn a_takeover_that_comes_late_is_void() {
    let mut ledger = check("takeover node2 -> term 2\ntakeover node3 -> term 3");
    let taken = |term| {
        let (node, zone_database) = (NodeName::parse("late").unwrap(), String::new());
        let event = Event::Partition(PartitionEvent::OwnershipTaken { term, node, zone_database });
        Body::Decision(Decision { term, actor: Actor::Engine, cause: Cause::Takeover, events: vec![event] })
    };
    for term in [1, 2, 3] {
        let entry = ledger.entry(taken(term));
        let effects = ledger.append(&Topic::Config, &entry).unwrap();
        assert!(matches!(effects[..], [Effect::Voided { term: of, .. }] if of == term));
    }
    assert_eq!(ledger.state.head().owner.as_ref().unwrap().as_str(), "node3");
    // Terms may leave some out: two took over at once and one of them lost.
    let entry = ledger.entry(taken(5));
    assert_eq!(ledger.append(&Topic::Config, &entry).unwrap(), []);
    assert_eq!(ledger.state.head().term, 5);
}

/// A ledger in which a million tokens cost a dollar, and a record of a million.
fn shop() -> (MemoryLedger, Usage) {
    let ledger = check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        ",
    );
    let usage = Usage {
        organization: org("acme"),
        charged: Charged::Key(key("k1")),
        model: ModelName::parse("m").unwrap(),
        source: SourceName::parse("gw").unwrap(),
        id: "r1".into(),
        occurred: Occurred::Given(ledger.now),
        producerseq: None,
        tokens: Tokens { input: 1_000_000, ..Tokens::default() },
        extras: None,
    };
    (ledger, usage)
}

fn spent(ledger: &MemoryLedger) -> Amount {
    ledger.state.organization(&org("acme")).unwrap().purse.spent()
}

/// Entries of one writer that were in flight together reach the log in any order, however long others wait.
#[test]
fn entries_in_flight_are_applied_in_any_order() {
    let (mut ledger, usage) = shop();
    let (topic, first) = ledger.pack(std::slice::from_ref(&usage));
    ledger.skip_counts(4_094);
    let other = Usage { id: "r2".into(), ..usage.clone() };
    ledger.usage(&[other]);
    assert_eq!(ledger.append(&topic, &first).unwrap(), []);
    assert_eq!(spent(&ledger), Amount::whole(2));
}

/// An entry that was given up, comes after all, and is no longer told from a copy, must not keep its records from
/// being booked when their sender sends them again.
#[test]
fn r8_2_an_entry_that_is_skipped_takes_no_ids() {
    let (mut ledger, usage) = shop();
    let (topic, given_up) = ledger.pack(std::slice::from_ref(&usage));
    ledger.skip_counts(4_096);
    let other = Usage { id: "r2".into(), ..usage.clone() };
    ledger.usage(&[other]);
    assert!(matches!(ledger.append(&topic, &given_up).unwrap()[..], [Effect::Copy { .. }]));
    ledger.usage(&[usage]);
    assert_eq!(spent(&ledger), Amount::whole(2));
}

/// None of our writers packs an organization twice; an entry that did would count its sources in two windows.
#[test]
fn r8_2_an_organization_stands_once_in_an_entry() {
    let (mut ledger, usage) = shop();
    let counted = Usage { producerseq: Some(1), ..usage };
    ledger.usage(std::slice::from_ref(&counted));
    let mut builder = BatchBuilder::new(Timestamp::EPOCH);
    builder.push(&counted);
    builder.push(&counted);
    let mut batch: UsageBatch = builder.finish();
    batch.organizations.push(org("acme"));
    batch.payers.push((1, Charged::Key(key("k1"))));
    batch.sources.push((1, SourceName::parse("gw").unwrap()));
    (batch.rows[1].payer, batch.rows[1].source) = (1, 1);
    let entry = ledger.entry(Body::Usage(batch));
    ledger.append(&Topic::UsageMixed, &entry).unwrap();
    ledger.usage(&[counted]);
    assert_eq!(spent(&ledger), Amount::whole(1));
}
