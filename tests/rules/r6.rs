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

/// A project with a daily budget of ten dollars that has spent nine of them by 10:00.
const BUDGETED: &str = "
    budget acme web daily=10                       -> ok
    usage acme k1 m in=9000000 id=r0               -> booked
";

#[test]
fn r6_5_crossed_at_10_03_seen_at_10_10_and_what_the_lag_cost() {
    check_shop(&format!(
        "{BUDGETED}
        at 2026-11-20T10:02:59Z
        usage acme k1 m cost=0.99 id=r1                -> booked
        breach acme web daily                          -> none
        at 2026-11-20T10:03:00Z
        usage acme k1 m cost=0.01 id=r2                -> booked
        breach acme web daily                          -> limit 10 crossed 2026-11-20T10:03:00Z visible never overshoot 0 why open
        at 2026-11-20T10:09:59Z
        usage acme k1 m cost=1.23 id=r3                -> booked
        stop acme web                                  -> none
        refused acme web daily                         -> same
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        stop acme web                                  -> daily 11.23/10 from 2026-11-20T10:10:00Z until 2026-11-21T00:00:00Z
        stop acme shop                                 -> none
        breach acme web daily                          -> visible 2026-11-20T10:10:00Z by-then 11.23 overshoot 1.23 refused never
        refused acme web daily at=2026-11-20T10:10:04Z -> ok
        refused acme web daily at=2026-11-20T10:10:05Z -> same
        # What was under way when it was seen.
        at 2026-11-20T10:12:00Z
        usage acme k1 m cost=0.11 id=r4                -> booked
        restart
        breach acme web daily                          -> by-then 11.23 overshoot 1.34 refused 2026-11-20T10:10:04Z
        at 2026-11-20T23:59:59Z
        stop acme web                                  -> daily 11.23/10 from 2026-11-20T10:10:00Z until 2026-11-21T00:00:00Z
        at 2026-11-21T00:00:00Z
        stop acme web                                  -> none
        close                                          -> cycles 83
        breach acme web daily                          -> of 2026-11-20 limit 10 crossed 2026-11-20T10:03:00Z visible 2026-11-20T10:10:00Z by-then 11.23 refused 2026-11-20T10:10:04Z overshoot 1.34 over 2026-11-21T00:00:00Z why period_over
        usage acme k1 m cost=5 id=r5 time=2026-11-20T12:00:00Z -> booked
        at 2026-11-21T00:10:00Z
        close                                          -> cycles 1
        breaches acme web                              -> daily/10/+1.34/period_over
        stop acme web                                  -> none
        "
    ));
}

#[test]
fn r6_5_the_same_while_nobody_closed_from_10_05_to_10_31() {
    check_shop(&format!(
        "{BUDGETED}
        at 2026-11-20T10:03:00Z
        usage acme k1 m cost=1 id=r1                   -> booked
        # Usage goes on: it waits in the log, and is recorded as it came.
        at 2026-11-20T10:15:00Z
        usage acme k1 m cost=2 id=r2                   -> booked
        at 2026-11-20T10:31:00Z
        takeover node2                                 -> term 2
        stop acme web                                  -> none
        close                                          -> cycles 3
        stop acme web                                  -> daily 12/10 from 2026-11-20T10:31:00Z until 2026-11-21T00:00:00Z
        refused acme web daily                         -> ok
        breach acme web daily                          -> crossed 2026-11-20T10:03:00Z visible 2026-11-20T10:31:00Z by-then 12 refused 2026-11-20T10:31:00Z overshoot 2
        "
    ));
}

#[test]
fn r6_5_the_same_without_cycles() {
    check_shop(&format!(
        "cycle 0
        {BUDGETED}
        at 2026-11-20T10:03:00Z
        usage acme k1 m cost=1.5 id=r1                 -> booked
        stop acme web                                  -> daily 10.5/10 from 2026-11-20T10:03:00Z until 2026-11-21T00:00:00Z
        breach acme web daily                          -> crossed 2026-11-20T10:03:00Z visible 2026-11-20T10:03:00Z by-then 10.5 overshoot 0.5
        cycle 600
        # It is over with its day all the same.
        at 2026-11-21T00:00:00Z
        close                                          -> cycles 84
        breaches acme web                              -> daily/10/+0.5/period_over
        "
    ));
}

#[test]
fn r6_3_a_breach_that_began_without_cycles_ends_by_a_close_where_they_were_brought_back() {
    check_shop(
        "
        cycle 0
        budget acme web daily=1                        -> ok
        budget acme shop daily=1                       -> ok
        usage acme k1 m in=1000000 id=r1               -> booked
        usage acme k2 m in=1000000 id=r2               -> booked
        unuse acme r2                                  -> ok back 1 0
        restart
        cycle 600
        at 2026-11-21T00:00:00Z
        close                                          -> cycles 84
        breaches acme web                              -> daily/1/+0/period_over
        breaches acme shop                             -> daily/1/+0/corrected
        ",
    );
}

#[test]
fn r6_3_a_delay_comes_after_the_close() {
    check_shop(&format!(
        "cycle 600 delay=90
        {BUDGETED}
        at 2026-11-20T10:10:00Z
        usage acme k1 m cost=1 id=r1                   -> booked
        close                                          -> cycles 1
        stop acme web                                  -> none
        alerts acme                                    -> budget_warning/web/daily/2026-11-20/10/10 budget_reached/web/daily/2026-11-20/10/10
        at 2026-11-20T10:11:29Z
        stop acme web                                  -> none
        usage acme k1 m cost=3 id=r2                   -> booked
        at 2026-11-20T10:11:30Z
        usage acme k1 m cost=5 id=r3                   -> booked
        stop acme web                                  -> daily 10/10 from 2026-11-20T10:11:30Z until 2026-11-21T00:00:00Z
        breach acme web daily                          -> visible 2026-11-20T10:11:30Z by-then 13 overshoot 8
        "
    ));
}

#[test]
fn r6_3_strict_budgets_wait_for_nothing() {
    check_shop(
        "
        cycle 600 delay=90
        budget acme web daily=10 enforcement=strict    -> ok
        # Asked again without saying so, it stays.
        budget acme web daily=10                       -> same
        usage acme k1 m cost=9.99 id=r0                -> booked
        stop acme web                                  -> none
        # One entry, whichever keys.
        key acme web k3
        batch
        usage acme k1 m cost=1 id=r1
        usage acme k3 m cost=2 id=r2
        usage acme k2 m cost=50 id=r3
        end                                            -> booked 3
        stop acme web                                  -> daily 12.99/10 from 2026-11-20T10:00:00Z until 2026-11-21T00:00:00Z
        breach acme web daily                          -> visible 2026-11-20T10:00:00Z by-then 12.99 overshoot 2.99
        alerts acme                                    -> budget_warning/web/daily/2026-11-20/9.99/10 budget_reached/web/daily/2026-11-20/12.99/10
        unuse acme r1                                  -> ok back 1 0
        stop acme web                                  -> daily 11.99/10 from 2026-11-20T10:00:00Z until 2026-11-21T00:00:00Z
        unuse acme r2                                  -> ok back 2 0
        stop acme web                                  -> none
        breaches acme web                              -> daily/10/+0/corrected
        budget acme web daily=10 enforcement=settled   -> ok
        budget acme web daily=9 enforcement=settled    -> ok
        stop acme web                                  -> none
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        at 2026-11-20T10:11:30Z
        stop acme web                                  -> daily 9.99/9 from 2026-11-20T10:11:30Z until 2026-11-21T00:00:00Z
        ",
    );
}

#[test]
fn r6_2_raising_or_removing_a_budget_opens_at_once() {
    check_shop(&format!(
        "{BUDGETED}
        usage acme k1 m cost=3 id=r1                   -> booked
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        stop acme web                                  -> daily 12/10 from 2026-11-20T10:10:00Z until 2026-11-21T00:00:00Z
        budget acme web daily=10                       -> same
        at 2026-11-20T10:12:00Z
        budget acme web daily=20                       -> ok
        stop acme web                                  -> none
        # Lowered to what is spent it closes at once.
        budget acme web daily=12 monthly=100           -> ok
        stop acme web                                  -> daily 12/12 from 2026-11-20T10:12:00Z until 2026-11-21T00:00:00Z
        budget acme web monthly=12                     -> ok
        stop acme web                                  -> monthly 12/12 from 2026-11-20T10:12:00Z until 2026-12-01T00:00:00Z
        restart
        budget acme web                                -> ok
        stop acme web                                  -> none
        breaches acme web                              -> daily/10/+2/budget_changed daily/12/+0/budget_changed monthly/12/+0/budget_changed
        # Nothing is left to look at.
        at 2026-12-01T00:10:00Z
        close                                          -> cycles 1524
        breaches acme web                              -> daily/10/+2/budget_changed daily/12/+0/budget_changed monthly/12/+0/budget_changed
        "
    ));
}

#[test]
fn r6_2_a_budget_of_nothing_pauses_a_project() {
    check_shop(
        "
        budget acme web daily=0                        -> ok
        stop acme web                                  -> daily 0/0 from 2026-11-20T00:00:00Z until 2026-11-21T00:00:00Z
        breaches acme web                              -> none
        at 2026-11-21T00:00:00Z
        stop acme web                                  -> daily 0/0 from 2026-11-21T00:00:00Z until 2026-11-22T00:00:00Z
        usage acme k1 m cost=0 id=r1                   -> booked
        usage acme k1 m cost=1 id=r2                   -> booked
        close                                          -> cycles 84
        stop acme web                                  -> daily 1/0 from 2026-11-21T00:00:00Z until 2026-11-22T00:00:00Z
        breaches acme web                              -> daily/0/+1/open
        ",
    );
}

#[test]
fn r6_2_days_are_those_of_the_organization() {
    check(
        "
        at 2026-11-30T10:00:00Z
        organization acme zone=America/Sao_Paulo
        project acme web
        key acme web k1
        budget acme web daily=10 monthly=10            -> ok
        change acme zone=Asia/Tokyo                    -> ok from 2026-12
        at 2026-12-01T02:50:00Z
        price m input=1 from=2026-01-01T00:00:00Z
        usage acme k1 m in=10000000 id=r1              -> booked
        at 2026-12-01T02:55:00Z
        close                                          -> cycles 101
        stop acme web -> daily 10/10 from 2026-12-01T02:55:00Z until 2026-12-01T03:00:00Z monthly 10/10 from 2026-12-01T02:55:00Z until 2026-12-01T03:00:00Z
        at 2026-12-01T03:00:00Z
        stop acme web                                  -> none
        usage acme k1 m in=10000000 id=r2              -> booked
        at 2026-12-01T03:10:00Z
        close                                          -> cycles 2
        stop acme web -> daily 10/10 from 2026-12-01T03:10:00Z until 2026-12-01T15:00:00Z monthly 10/10 from 2026-12-01T03:10:00Z until 2026-12-31T15:00:00Z
        breach acme web daily of=2026-11-30            -> over 2026-12-01T03:00:00Z why period_over
        breach acme web monthly of=2026-11-01          -> over 2026-12-01T03:00:00Z why period_over
        ",
    );
}

#[test]
fn r6_4_notifications_are_told_and_nobody_is_stopped() {
    check_shop(
        "
        notify acme web daily=5 monthly=7              -> ok
        usage acme k1 m cost=5 id=r1                   -> booked
        alerts acme                                    -> none
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        alerts acme                                    -> spend_notification/web/daily/2026-11-20/5/5
        at 2026-11-21T00:05:00Z
        # Late: yesterday's day tells nobody, and the month goes on.
        usage acme k1 m cost=5 id=r2 time=2026-11-20T23:00:00Z -> booked
        at 2026-11-21T00:10:00Z
        close                                          -> cycles 84
        alerts acme                                    -> spend_notification/web/monthly/2026-11-01/10/7
        notify acme web daily=1,2 monthly=1            -> ok
        alerts acme                                    -> spend_notification/web/monthly/2026-11-01/10/1
        restart
        usage acme k1 m cost=5 id=r3                   -> booked
        at 2026-11-21T00:20:00Z
        close                                          -> cycles 1
        alerts acme                                    -> spend_notification/web/daily/2026-11-21/5/1 spend_notification/web/daily/2026-11-21/5/2
        stop acme web                                  -> none
        # Late usage of a month that ended.
        at 2026-12-01T00:20:00Z
        usage acme k1 m cost=500 id=r4 time=2026-11-30T23:00:00Z -> booked
        at 2026-12-01T00:30:00Z
        close                                          -> cycles 1441
        alerts acme                                    -> none
        notify acme web                                -> ok
        ",
    );
}

#[test]
fn r6_2_a_released_record_counts_from_then_on() {
    check_shop(
        "
        budget acme web daily=1                        -> ok
        usage acme k9 m in=1000000 id=r1               -> quarantined unknown_key
        release acme r1 key=k1                         -> ok released
        breach acme web daily                          -> crossed 2026-11-20T10:00:00Z visible never
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        stop acme web                                  -> daily 1/1 from 2026-11-20T10:10:00Z until 2026-11-21T00:00:00Z
        ",
    );
}

#[test]
fn r6_2_an_archived_project_has_no_budget_to_set() {
    check_shop(
        "
        budget acme none daily=1                       -> project_not_found
        notify acme none daily=1                       -> project_not_found
        archive acme shop                              -> ok revoked k2 project_archived
        budget acme shop daily=1                       -> project_archived
        notify acme shop daily=1                       -> project_archived
        ",
    );
}
