//! R4.2 to R4.5: vouchers, the order in which they are spent, what is lost at expiry, and the policy's.

use tollbook_tests::script::check;

use crate::r4::check_shop;

#[test]
fn r4_2_the_voucher_that_expires_first_then_the_oldest_then_cash() {
    check_shop(
        "
        recharge acme 1 ref=a                                    -> ok
        grant acme never 2 ref=1                                 -> ok voucher 2
        grant acme late 2 ref=2 expires=2027-02-01T00:00:00Z     -> ok voucher 2
        grant acme soon 2 ref=3 expires=2027-01-01T00:00:00Z     -> ok voucher 2
        grant acme same 2 ref=4 expires=2027-01-01T00:00:00Z     -> ok voucher 2
        grant acme after 2 ref=5                                 -> ok voucher 2
        vouchers acme                                            -> soon:2 same:2 late:2 never:2 after:2
        usage acme k1 m in=3000000 id=r1                         -> booked
        vouchers acme                                            -> same:1 late:2 never:2 after:2
        restart
        usage acme k1 m in=4000000 id=r2                         -> booked
        vouchers acme                                            -> never:1 after:2
        balance acme                                             -> cash 1 vouchers 3 available 4
        usage acme k1 m in=3500001 id=r3                         -> booked
        vouchers acme                                            -> none
        balance acme                                             -> cash 0.499999 vouchers 0
        ",
    );
}

#[test]
fn r4_3_what_is_left_at_expiry_is_lost_and_booked_so() {
    check_shop(
        "
        grant acme v1 5 ref=1 expires=2026-11-21T00:00:00Z   -> ok voucher 5
        grant acme v2 3 ref=2 expires=2026-11-22T00:00:00Z   -> ok voucher 3
        due                    -> acme@2026-11-21T00:00:00Z month@2026-12-01T00:00:00Z
        usage acme k1 m in=1500000 id=r1                     -> booked
        expire acme                                          -> same
        at 2026-11-20T23:59:59.999999999Z
        expire acme                                          -> same
        at 2026-11-21T00:00:00Z
        expire acme                                          -> ok lost 3.5
        expire acme                                          -> same
        vouchers acme                                        -> v2:3
        due                    -> acme@2026-11-22T00:00:00Z month@2026-12-01T00:00:00Z
        restart
        due                    -> acme@2026-11-22T00:00:00Z month@2026-12-01T00:00:00Z
        money acme                                           -> granted 8 expired 3.5
        books acme                                           -> liabilities:vouchers -3 income:breakage -3.5 expenses:promotion 8 income:usage -1.5
        # Several at once, after downtime.
        grant acme v3 1 ref=3 expires=2026-11-21T12:00:00Z   -> ok voucher 1
        at 2026-12-01T00:00:00Z
        restart
        expire acme                                          -> ok lost 1 lost 3
        balance acme                                         -> vouchers 0 available 0
        lines acme 2026-12                                   -> voucher_expiry/-/0/-1 voucher_expiry/-/0/-3
        ",
    );
}

/// What is spent at the instant of expiry is decided by the log: until the expiry stands in it, the voucher is there.
#[test]
fn r4_3_a_voucher_that_expires_at_the_instant_of_a_charge() {
    check_shop(
        "
        grant acme v1 5 ref=1 expires=2026-11-21T00:00:00Z   -> ok voucher 5
        at 2026-11-21T00:00:00Z
        hold expire acme                                     -> held
        usage acme k1 m in=2000000 id=r1                     -> booked
        vouchers acme                                        -> v1:3
        book                                                 -> ok lost 3
        usage acme k1 m in=1000000 id=r2                     -> booked
        balance acme                                         -> cash -1 vouchers 0 spent 3
        # Nothing is left of it: nothing is lost, and no line is written.
        grant acme v2 2 ref=2 expires=2026-11-22T00:00:00Z   -> ok voucher 2
        at 2026-11-22T00:00:00Z
        hold expire acme                                     -> held
        usage acme k1 m in=2000000 id=r3                     -> booked
        book                                                 -> ok
        money acme                                           -> expired 3
        ",
    );
}

#[test]
fn r4_3_an_expiry_that_has_passed_is_refused() {
    check_shop(
        "
        grant acme v1 5 ref=1 expires=2026-11-20T10:00:00Z              -> expiry_passed
        grant acme v1 5 ref=1 expires=2026-11-20T10:00:00.000000001Z    -> ok voucher 5
        # The clock was put back: recorded time was not.
        at 2026-11-20T09:00:00Z
        grant acme v2 5 ref=2 expires=2026-11-20T09:30:00Z              -> expiry_passed
        at 2026-11-21T00:00:00Z
        # The same again is the same, though it has passed by now.
        grant acme v1 5 ref=1 expires=2026-11-20T10:00:00.000000001Z    -> same
        ",
    );
}

#[test]
fn r4_9_vouchers_that_cannot_be_kept_exactly_are_refused() {
    check_shop(
        "
        grant acme v1 0 ref=1                                  -> amount_not_positive
        grant acme v1 -1 ref=1                                 -> amount_not_positive
        grant acme v1 10000000000000000.000000000001 ref=1     -> amount_out_of_range
        grant acme v1 9999999999999999 ref=1                   -> ok voucher 9999999999999999
        grant acme v2 1.000000000001 ref=2                     -> amount_out_of_range
        # The policy's counts too: the recharge that would earn it waits for another policy.
        recharge acme 5 ref=a                                  -> amount_out_of_range
        policy threshold=5 amount=1                            -> ok
        recharge acme 5 ref=a                                  -> ok voucher 1
        ",
    );
}

/// A voucher never goes below zero, whatever is charged (R4.1).
#[test]
fn r4_1_negative_cash_and_vouchers() {
    check_shop(
        "
        usage acme k1 m in=3000000 id=r1      -> booked
        balance acme                          -> cash -3 available 0
        grant acme v1 2 ref=1                 -> ok voucher 2
        # While cash is negative, available equals the voucher balance.
        balance acme                          -> cash -3 vouchers 2 available 2
        recharge acme 1 ref=a                 -> ok
        balance acme                          -> cash -2 vouchers 2 available 2
        usage acme k1 m in=2500000 id=r2      -> booked
        balance acme                          -> cash -2.5 vouchers 0 available 0
        recharge acme 2.5 ref=b               -> ok
        balance acme                          -> cash 0 available 0
        recharge acme 0.000000000001 ref=c    -> ok
        balance acme                          -> cash 0.000000000001 available 0.000000000001
        ",
    );
}

#[test]
fn r4_1_a_credit_limit_is_set_and_removed() {
    check(
        "
        organization acme
        money acme                            -> credit none
        credit acme 0                         -> amount_not_positive
        credit acme -1                        -> amount_not_positive
        credit acme 10000000000000000.1       -> amount_out_of_range
        credit acme 10                        -> ok
        credit acme 10.00                     -> same
        restart
        money acme                            -> credit 10
        # It is no money: neither balance nor books know of it.
        balance acme                          -> cash 0 available 0 tier none
        lines acme                            -> none
        credit acme none                      -> ok
        credit acme none                      -> same
        money acme                            -> credit none
        by creator credit acme 10             -> role_missing
        credit beta 10                        -> organization_not_found
        ",
    );
}

#[test]
fn r4_4_refunds_and_reversals_lower_cumulative_recharge_and_nothing_else_does() {
    check_shop(
        "
        recharge acme 20 ref=a                -> ok voucher 5
        balance acme                          -> recharged 20 tier Tier2
        grant acme v1 100 ref=1               -> ok voucher 100
        adjust acme 100 ref=2                 -> ok
        adjust acme -7 ref=3                  -> ok
        usage acme k1 m in=1000000 id=r1      -> booked
        unuse acme r1                         -> ok back 0 1
        balance acme                          -> recharged 20 tier Tier2
        refund acme 0.000000000001 ref=4      -> ok paid 0.000000000001
        balance acme                          -> recharged 19.999999999999 tier Tier1
        reverse acme a 9.999999999999 ref=5   -> ok taken 9.999999999999
        balance acme                          -> recharged 10 tier Tier1
        reverse acme a 0.000000000001 ref=6   -> ok taken 0.000000000001
        balance acme                          -> recharged 9.999999999999 tier Tier0
        ",
    );
}

#[test]
fn r4_5_a_policy_that_expires() {
    check_shop(
        "
        policy threshold=5 amount=7.5 days=30                -> ok
        policy threshold=5 amount=7.5 days=30                -> same
        recharge acme 5 ref=a                                -> ok voucher 7.5
        # A week before, somebody is told.
        at 2026-12-13T09:59:59.999999999Z
        expire acme                                          -> same
        at 2026-12-13T10:00:00Z
        expire acme                                          -> ok expiring
        expire acme                                          -> same
        at 2026-12-20T09:59:59.999999999Z
        expire acme                                          -> same
        at 2026-12-20T10:00:00Z
        expire acme                                          -> ok lost 7.5
        recharge acme 5 ref=b                                -> ok
        balance acme                                         -> vouchers 0 granted 7.5
        policy threshold=-1 amount=5                         -> amount_not_positive
        policy threshold=5 amount=-1                         -> amount_not_positive
        policy threshold=5 amount=10000000000000000.1        -> amount_out_of_range
        ",
    );
}

#[test]
fn r4_5_a_change_of_the_policy_grants_nothing_backwards() {
    check(
        "
        organization acme
        organization beta
        organization gamma
        recharge acme 3 ref=a                                -> ok
        recharge beta 6 ref=a                                -> ok voucher 5
        policy threshold=2 amount=1                          -> ok
        balance acme                                         -> vouchers 0
        # It reached 2 when that was no threshold.
        recharge acme 1 ref=b                                -> ok
        balance acme                                         -> vouchers 0
        recharge beta 1 ref=b                                -> ok
        policy threshold=10 amount=3                         -> ok
        # Once per organization, whatever the policy says now.
        recharge beta 10 ref=c                               -> ok
        balance beta                                         -> vouchers 5 granted 5
        # What was not reached yet is reached by the policy of then.
        recharge acme 5 ref=c                                -> ok
        recharge acme 1 ref=d                                -> ok voucher 3
        balance acme                                         -> recharged 10 vouchers 3
        # A policy that grants nothing.
        policy threshold=1 amount=0                          -> ok
        recharge gamma 4 ref=a                               -> ok
        policy threshold=5 amount=5                          -> ok
        recharge gamma 1 ref=b                               -> ok voucher 5
        ",
    );
}

#[test]
fn r4_5_the_voucher_stands_in_the_recharges_entry() {
    let ledger = check(
        "
        organization acme
        recharge acme 4 ref=a                 -> ok
        entries                               -> 4
        recharge acme 1 ref=b                 -> ok voucher 5
        entries                               -> 5
        lines acme                            -> recharge/a/4/0 recharge/b/1/0 voucher_grant/-/0/5
        ",
    );
    let of: Vec<_> = ledger.movements.iter().map(|(_, line)| (line.position.0, line.number)).collect();
    assert_eq!(of, [(4, 0), (5, 0), (5, 1)]);
}

/// What was paid back does not count, and nothing but recharges does.
#[test]
fn r4_5_reaching_it_by_another_way_round() {
    check_shop(
        "
        recharge acme 4 ref=a                 -> ok
        refund acme 3 ref=r                   -> ok paid 3
        recharge acme 3.999999999999 ref=b    -> ok
        balance acme                          -> recharged 4.999999999999
        adjust acme 5 ref=j                   -> ok
        balance acme                          -> recharged 4.999999999999 vouchers 0
        recharge acme 0.000000000001 ref=c    -> ok voucher 5
        ",
    );
}

/// Who was at a threshold before it was one, and fell back below it, does not reach it for the first time.
#[test]
fn r4_5_reaching_it_again_grants_nothing() {
    check(
        "
        organization acme
        organization beta
        move-in gamma cash=6 recharged=6      -> ok
        refund gamma 3 ref=r                  -> ok paid 3
        recharge gamma 3 ref=a                -> ok
        recharge acme 4 ref=a                 -> ok
        recharge beta 2 ref=a                 -> ok
        policy threshold=3 amount=1           -> ok
        refund acme 3 ref=r                   -> ok paid 3
        recharge acme 2 ref=b                 -> ok
        balance acme                          -> recharged 3 vouchers 0
        reverse acme a ref=x why=fraud        -> ok taken 4
        recharge acme 5 ref=c                 -> ok
        balance acme                          -> recharged 4 vouchers 0
        # It was never as high as this.
        policy threshold=4.000000000001 amount=1 -> ok
        recharge acme 0.000000000001 ref=d    -> ok voucher 1
        refund beta 2 ref=r                   -> ok paid 2
        recharge beta 5 ref=b                 -> ok voucher 1
        ",
    );
}
