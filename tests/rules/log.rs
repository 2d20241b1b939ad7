//! The log: terms, copies, messages of others, gaps (ARCHITECTURE, The log).

use tollbook_tests::script::check;

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
