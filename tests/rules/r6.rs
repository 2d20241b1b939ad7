//! R6 Projects and budgets: the budget lag.

use tollbook_tests::script::check;

/// A model at a dollar per million of input.
const SHOP: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    project acme web
    project acme shop
    key acme web k1
    key acme shop k2
    price m input=1 from=2026-01-01T00:00:00Z
";

#[track_caller]
fn check_shop(script: &str) {
    check(&format!("{SHOP}{script}"));
}

#[test]
fn r6_1_a_request_counts_for_the_project_of_its_key() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1               -> booked
        usage acme k2 m in=2000000 id=r2               -> booked
        usage acme project:shop m in=4000000 id=r3     -> booked
        spend acme web day=2026-11-20                  -> pending 1 cost 1
        spend acme shop day=2026-11-20                 -> pending 6 cost 6 requests 2
        spend acme shop day=2026-11-20 key=k2          -> cost 2
        spend acme shop day=2026-11-20 key=none        -> cost 4
        balance acme                                   -> cash -7
        ",
    );
}

#[test]
fn r6_3_usage_is_pending_until_its_cycle_closes() {
    check_shop(
        "
        close                                          -> nothing
        usage acme k1 m in=1500000 id=r1               -> booked
        spend acme web day=2026-11-20                  -> settled 0 pending 1.5 cost 1.5
        spend acme web month=2026-11                   -> settled 0 pending 1.5
        at 2026-11-20T10:09:59.999999999Z
        close                                          -> nothing
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        close                                          -> nothing
        spend acme web day=2026-11-20                  -> settled 1.5 pending 0 cost 1.5
        spend acme web month=2026-11                   -> settled 1.5 pending 0
        usage acme k1 m in=1000000 id=r2               -> booked
        restart
        spend acme web day=2026-11-20                  -> settled 1.5 pending 1
        at 2026-11-20T10:20:00Z
        close                                          -> cycles 1
        spend acme web day=2026-11-20                  -> settled 2.5 pending 0
        # Money moved when it was booked.
        balance acme                                   -> cash -2.5
        ",
    );
}

#[test]
fn r6_3_a_close_that_comes_late_covers_all_that_were_missed() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1               -> booked
        at 2026-11-20T10:35:00Z
        usage acme k1 m in=1000000 id=r2               -> booked
        spend acme web day=2026-11-20                  -> settled 0 pending 2
        close                                          -> cycles 3
        # What stands before the close in the log is settled by it, whenever it occurred.
        spend acme web day=2026-11-20                  -> settled 2 pending 0
        at 2026-11-20T10:39:00Z
        close                                          -> nothing
        at 2026-11-20T10:40:00Z
        close                                          -> cycles 1
        at 2026-11-22T10:40:00Z
        close                                          -> cycles 288
        ",
    );
}

#[test]
fn r6_3_cycles_close_also_when_idle() {
    check(
        "
        at 2026-11-20T10:00:00Z
        close   -> nothing
        at 2026-11-20T10:10:00Z
        close   -> cycles 1
        at 2026-11-20T10:20:00Z
        close   -> cycles 1
        ",
    );
}

#[test]
fn r6_3_a_cycle_of_zero_settles_at_once() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1               -> booked
        cycle 0                                        -> ok
        spend acme web day=2026-11-20                  -> settled 1 pending 0
        cycle 0                                        -> same
        usage acme k1 m in=1000000 id=r2               -> booked
        spend acme web day=2026-11-20                  -> settled 2 pending 0
        at 2026-11-20T11:00:00Z
        close                                          -> nothing
        cycle 600                                      -> ok
        close                                          -> nothing
        usage acme k1 m in=1000000 id=r3               -> booked
        spend acme web day=2026-11-20                  -> settled 2 pending 1
        at 2026-11-20T11:10:00Z
        close                                          -> cycles 1
        spend acme web day=2026-11-20                  -> settled 3 pending 0
        ",
    );
}

#[test]
fn r6_3_a_new_cycle_starts_where_it_is_set() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1               -> booked
        at 2026-11-20T10:09:00Z
        cycle 60                                       -> ok
        spend acme web day=2026-11-20                  -> settled 0 pending 1
        close                                          -> nothing
        at 2026-11-20T10:10:30Z
        close                                          -> cycles 1
        spend acme web day=2026-11-20                  -> settled 1 pending 0
        cycle 3600                                     -> ok
        at 2026-11-20T10:59:59Z
        close                                          -> nothing
        at 2026-11-20T11:00:00Z
        close                                          -> cycles 1
        ",
    );
}

#[test]
fn r6_3_every_record_settles_once() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1               -> booked
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T10:00:00Z -> duplicate
        at 2026-11-20T10:20:00Z
        close                                          -> cycles 1
        spend acme web day=2026-11-20                  -> settled 1 pending 0 cost 1
        ",
    );
}

#[test]
fn r6_4_budgets_of_a_new_day_begin_at_nothing_and_the_month_goes_on() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1               -> booked
        at 2026-11-21T00:00:00Z
        close                                          -> cycles 84
        # Settled on its own day, of which no budget can ask any more; the month and analysis have it.
        spend acme web day=2026-11-21                  -> settled 0 pending 0 cost 0
        spend acme web day=2026-11-20                  -> cost 1
        spend acme web month=2026-11                   -> settled 1 pending 0 cost 1
        usage acme k1 m in=1000000 id=r2 time=2026-11-20T12:00:00Z -> booked
        spend acme web day=2026-11-20                  -> pending 1 cost 2
        at 2026-11-21T00:10:00Z
        close                                          -> cycles 1
        spend acme web month=2026-11                   -> settled 2 pending 0 cost 2
        spend acme web day=2026-11-21                  -> settled 0 pending 0 cost 0
        ",
    );
}
