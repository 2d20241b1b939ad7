//! R4 Money.

use tollbook_tests::script::check;

/// A model at a dollar per million of everything.
pub(crate) const SHOP: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    project acme web
    key acme web k1
    price m input=1 cached=1 output=1 from=2026-01-01T00:00:00Z
";

#[track_caller]
pub(crate) fn check_shop(script: &str) {
    check(&format!("{SHOP}{script}"));
}

#[test]
fn r4_1_available_is_vouchers_and_cash_unless_owed() {
    check_shop(
        "
        balance acme                          -> cash 0 vouchers 0 available 0
        recharge acme 6 ref=a                 -> ok voucher 5
        balance acme                          -> cash 6 vouchers 5 available 11
        usage acme k1 m in=12000000 id=r1     -> booked
        balance acme                          -> cash -1 vouchers 0 available 0 spent 12
        recharge acme 0.25 ref=b              -> ok
        balance acme                          -> cash -0.75 vouchers 0 available 0
        recharge acme 1 ref=c                 -> ok
        balance acme                          -> cash 0.25 vouchers 0 available 0.25
        ",
    );
}

#[test]
fn r4_2_vouchers_are_spent_before_cash() {
    check_shop(
        "
        recharge acme 5 ref=a                 -> ok voucher 5
        usage acme k1 m in=4000000 id=r1      -> booked
        balance acme                          -> cash 5 vouchers 1 available 6
        usage acme k1 m in=3000000 id=r2      -> booked
        balance acme                          -> cash 3 vouchers 0 available 3
        restart
        usage acme k1 m in=4000000 id=r3      -> booked
        balance acme                          -> cash -1 vouchers 0 available 0 recharged 5 granted 5 spent 11
        ",
    );
}

#[test]
fn r4_4_vouchers_never_count_as_recharge() {
    check_shop(
        "
        recharge acme 9.99 ref=a              -> ok voucher 5
        balance acme                          -> recharged 9.99 available 14.99 tier Tier0
        recharge acme 0.01 ref=b              -> ok
        balance acme                          -> recharged 10 tier Tier1
        ",
    );
}

#[test]
fn r4_5_voucher_is_granted_once() {
    check(
        "
        organization acme
        recharge acme 3.00 ref=a   -> ok
        recharge acme 2.00 ref=b   -> ok voucher 5.00
        recharge acme 2.00 ref=b   -> same
        recharge acme 9.00 ref=b   -> reference_conflict
        recharge acme 9.00 ref=c   -> ok
        restart
        recharge acme 9.00 ref=d   -> ok
        balance acme               -> cash 23 vouchers 5 granted 5
        ",
    );
}

#[test]
fn r4_5_voucher_however_five_dollars_are_reached() {
    check(
        "
        organization one
        recharge one 5 ref=a                   -> ok voucher 5
        organization more
        recharge more 4000 ref=a               -> ok voucher 5
        organization drops
        recharge drops 4.999999999999 ref=a    -> ok
        balance drops                          -> cash 4.999999999999 vouchers 0
        recharge drops 0.000000000001 ref=b    -> ok voucher 5
        balance drops                          -> cash 5 vouchers 5
        organization five
        recharge five 1 ref=1                  -> ok
        recharge five 1 ref=2                  -> ok
        recharge five 1 ref=3                  -> ok
        recharge five 1 ref=4                  -> ok
        recharge five 1 ref=5                  -> ok voucher 5
        recharge five 1 ref=6                  -> ok
        ",
    );
}

#[test]
fn r4_5_voucher_by_recharges_whatever_was_spent_between() {
    check_shop(
        "
        recharge acme 3 ref=a                  -> ok
        usage acme k1 m in=10000000 id=r1      -> booked
        balance acme                           -> cash -7
        recharge acme 2 ref=b                  -> ok voucher 5
        balance acme                           -> cash -5 vouchers 5 available 5
        # The voucher is spent for what comes, not for what is owed.
        usage acme k1 m in=1000000 id=r2       -> booked
        balance acme                           -> cash -5 vouchers 4 available 4
        ",
    );
}

#[test]
fn r4_6_below_one_dollar_there_is_no_tier() {
    check(
        "
        organization acme
        recharge acme 0.999999999999 ref=a     -> ok
        balance acme                           -> tier none
        recharge acme 0.000000000001 ref=b     -> ok
        balance acme                           -> tier Tier0 cash 1
        ",
    );
}

#[test]
fn r4_7_a_reference_books_once() {
    check(
        "
        organization acme
        organization beta
        recharge acme 3 ref=a          -> ok
        recharge acme 3.00 ref=a       -> same
        recharge acme 3.01 ref=a       -> reference_conflict
        recharge acme -3 ref=a         -> amount_not_positive
        recharge acme 0 ref=b          -> amount_not_positive
        recharge acme -1 ref=b         -> amount_not_positive
        # Unique per organization; a refusal is not remembered.
        recharge beta 3.01 ref=a       -> ok
        recharge acme 1 ref=b          -> ok
        restart
        recharge acme 3 ref=a          -> same
        recharge acme 1 ref=b          -> same
        balance acme                   -> cash 4 recharged 4
        balance beta                   -> cash 3.01
        ",
    );
}

#[test]
fn r4_7_an_idempotency_key_repeats_its_request_only() {
    check(
        "
        organization acme
        organization beta
        recharge acme 3 ref=a request=k/one      -> ok
        recharge acme 3 ref=a request=k/one      -> same
        recharge acme 4 ref=b request=k/two      -> idempotency_conflict
        recharge acme 4 ref=b request=l/two      -> ok voucher 5
        # A refusal is not remembered.
        recharge acme 0 ref=c request=m/three    -> amount_not_positive
        recharge acme 1 ref=c request=m/four     -> ok
        # Keys are remembered per organization.
        recharge beta 1 ref=c request=k/five     -> ok
        restart
        recharge acme 4 ref=b request=l/two      -> same
        recharge acme 4 ref=b request=l/other    -> idempotency_conflict
        balance acme                             -> cash 8
        ",
    );
}

#[test]
fn r4_9_charges_are_exact_at_twelve_places() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=0.000001 cached=0.000002 output=0.333333 from=2026-01-01T00:00:00Z
        usage acme k1 m in=1 id=r1                   -> booked
        balance acme                                 -> cash -0.000000000001
        usage acme k1 m in=3 cached=2 out=1 id=r2    -> booked
        balance acme                                 -> cash -0.000000333339
        usage acme k1 m in=1000000000000 cached=999999999999 out=1000000000000 id=r3 -> booked
        # 0.000000000001 and 1.999999999998 and 333333:
        spend acme web day=2026-11-20                -> cost 333335.000000333338 pending 333335.000000333338
        balance acme                                 -> cash -333335.000000333338
        ",
    );
}

#[test]
fn r4_9_the_smallest_charge_a_million_times_in_one_sum() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=0.000001 from=2026-01-01T00:00:00Z
        recharge acme 0.000001 ref=a                 -> ok
        usage acme k1 m in=999999 id=r1              -> booked
        balance acme                                 -> cash 0.000000000001
        usage acme k1 m in=1 id=r2                   -> booked
        balance acme                                 -> cash 0
        usage acme k1 m in=1 id=r3                   -> booked
        balance acme                                 -> cash -0.000000000001
        ",
    );
}

#[test]
fn r4_9_what_cannot_be_kept_exactly_is_refused() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        recharge acme 10000000000000000.000000000001 ref=a  -> amount_out_of_range
        recharge acme 10000000000000000 ref=b               -> ok voucher 5
        recharge acme 0.000000000001 ref=c                  -> amount_out_of_range
        # Usage that would take the total beyond it is absurd, and blocks nothing.
        usage acme k1 m cost=9999999999999999 id=r1         -> booked
        usage acme k1 m cost=1.000000000001 id=r2           -> quarantined absurd
        usage acme k1 m cost=1 id=r3                        -> booked
        usage acme k1 m cost=0.000000000001 id=r4           -> quarantined absurd
        usage acme k1 m cost=0 id=r5                        -> booked
        balance acme                                        -> cash 5 vouchers 0 spent 10000000000000000
        ",
    );
}

#[test]
fn r4_11_a_first_price_may_begin_in_the_past_a_change_may_not() {
    check(
        "
        at 2026-11-20T10:00:00Z
        price m input=1 from=2020-01-01T00:00:00Z    -> ok
        price m input=1 from=2020-01-01T00:00:00Z    -> same
        price m input=2 from=2020-01-01T00:00:00Z    -> price_in_the_past
        price m input=2 from=2019-01-01T00:00:00Z    -> price_in_the_past
        price m input=1 from=2020-02-01T00:00:00Z    -> price_in_the_past
        price m input=2 from=2026-11-20T09:59:59.999999999Z -> price_in_the_past
        price m input=2 from=2026-11-20T10:00:00Z    -> ok
        price m input=3 from=2027-01-01T00:00:00Z    -> ok
        # Not yet in force: it may still change, or something may come before it.
        price m input=4 from=2027-01-01T00:00:00Z    -> ok
        price m input=5 from=2026-12-01T00:00:00Z    -> ok
        price n input=9 from=2020-01-01T00:00:00Z    -> ok
        # The engine's clock was put back: recorded time does not go back, so a change may not either.
        at 2026-11-20T09:00:00Z
        price m input=6 from=2026-11-20T09:30:00Z    -> price_in_the_past
        price m input=6 from=2026-11-20T10:00:00Z    -> ok
        ",
    );
}

#[test]
fn r4_11_usage_is_priced_by_when_it_occurred() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        key acme web k1
        price m input=1 from=2026-11-01T00:00:00Z    -> ok
        price m input=2 from=2026-11-21T00:00:00Z    -> ok
        at 2026-11-22T10:00:00Z
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T23:59:59.999999999Z  -> booked
        balance acme                                 -> cash -1
        usage acme k1 m in=1000000 id=r2 time=2026-11-21T00:00:00Z            -> booked
        balance acme                                 -> cash -3
        usage acme k1 m in=1000000 id=r3 time=2026-11-01T00:00:00Z            -> booked
        balance acme                                 -> cash -4
        usage acme k1 m in=1000000 id=r4 time=2026-10-31T23:59:59.999999999Z  -> quarantined unknown_model
        # All of it in one entry gives the same.
        batch
        usage acme k1 m in=1000000 id=s1 time=2026-11-21T00:00:00Z
        usage acme k1 m in=1000000 id=s2 time=2026-11-20T23:59:59.999999999Z
        usage acme k1 m in=1000000 id=s3 time=2026-11-21T00:00:00Z
        usage acme k1 m in=1000000 id=s4 time=2026-10-31T23:59:59.999999999Z
        end                                          -> booked 3 duplicates 0 quarantined 1
        balance acme                                 -> cash -9
        # Charged once, at the price of then: a change comes too late for it.
        price m input=7                              -> ok
        usage acme k1 m in=1000000 id=r5 time=2026-11-22T09:59:59Z            -> booked
        balance acme                                 -> cash -11
        usage acme k1 m in=1000000 id=r6             -> booked
        balance acme                                 -> cash -18
        ",
    );
}

/// Another partition than the first hears of a change once it is copied, and charges by it what occurs from then on.
#[test]
fn r4_11_a_copied_change_holds_from_its_copy_on() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        key acme web k1
        # A first price keeps the past.
        copy-price m input=1 from=2026-11-01T00:00:00Z -> ok
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T09:59:00Z            -> booked
        balance acme                                   -> cash -1
        at 2026-11-20T10:00:05Z
        copy-price m input=2 from=2026-11-20T10:00:00Z -> ok
        # Whether it comes before the copy or after it, a record costs the same.
        usage acme k1 m in=1000000 id=r2 time=2026-11-20T10:00:04.999999999Z  -> booked
        balance acme                                   -> cash -2
        usage acme k1 m in=1000000 id=r3 time=2026-11-20T10:00:05Z            -> booked
        balance acme                                   -> cash -4
        restart
        # Changes that are copied late hold in the order in which they begin.
        at 2026-11-20T12:00:00Z
        copy-price m input=4 from=2026-11-20T11:00:00Z -> ok
        copy-price m input=3 from=2026-11-20T10:30:00Z -> ok
        usage acme k1 m in=1000000 id=r4 time=2026-11-20T11:59:59Z            -> booked
        balance acme                                   -> cash -6
        usage acme k1 m in=1000000 id=r5               -> booked
        balance acme                                   -> cash -10
        # What begins later begins when it was said to.
        copy-price m input=5 from=2026-11-20T12:01:00Z -> ok
        at 2026-11-20T12:01:00Z
        usage acme k1 m in=1000000 id=r6 time=2026-11-20T12:00:59Z            -> booked
        usage acme k1 m in=1000000 id=r7               -> booked
        balance acme                                   -> cash -19
        ",
    );
}

#[test]
fn r4_11_cached_input_is_part_of_input() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=0.60 cached=0.10 output=3.00 from=2026-01-01T00:00:00Z
        usage acme k1 m in=1000 cached=800 out=500 id=r1   -> booked
        # 200 · 0.60 + 800 · 0.10 + 500 · 3.00, per million.
        balance acme                                       -> cash -0.0017
        usage acme k1 m in=800 cached=800 id=r2            -> booked
        balance acme                                       -> cash -0.00178
        usage acme k1 m in=800 cached=801 id=r3            -> quarantined absurd
        ",
    );
}

#[test]
fn r4_11_further_meters_and_costs_from_elsewhere() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=1 meter.image=40000 from=2026-01-01T00:00:00Z
        usage acme k1 m in=1000000 meter.image=2 id=r1              -> booked
        balance acme                                                -> cash -1.08
        usage acme k1 m meter.tool_call=1 id=r2                     -> quarantined unknown_meter
        usage acme k1 m in=1000000 meter.tool_call=1 cost=0.5 id=r3 -> booked
        balance acme                                                -> cash -1.58
        usage acme k1 unpriced in=10 cost=0.42 id=r4                -> booked
        balance acme                                                -> cash -2
        usage acme k1 m cost=-0.000000000001 id=r5                  -> quarantined absurd
        balance acme                                                -> cash -2 spent 2
        ",
    );
}
