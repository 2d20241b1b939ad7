//! R4.7 and R4.8: references, refunds, recharge reversals, adjustments.

use tollbook_tests::script::check;

use crate::r4::check_shop;

#[test]
fn r4_7_a_reference_is_unique_per_organization_and_kind() {
    check_shop(
        "
        organization beta
        recharge acme 20 ref=x                -> ok voucher 5
        refund acme 2 ref=x                   -> ok paid 2
        reverse acme x 3 ref=x why=stolen     -> ok taken 3
        adjust acme 4 ref=x why=wrong         -> ok
        grant acme v1 6 ref=x                 -> ok voucher 6
        balance acme                          -> cash 19 vouchers 11 recharged 15
        # The same with the same content changes nothing, of each kind.
        recharge acme 20 ref=x                -> same
        refund acme 2 ref=x                   -> same
        reverse acme x 3 ref=x why=stolen     -> same
        adjust acme 4 ref=x why=wrong         -> same
        grant acme v1 6 ref=x                 -> same
        # With other content it is refused.
        recharge acme 2 ref=x                 -> reference_conflict
        refund acme 20 ref=x                  -> reference_conflict
        refund acme 2 ref=x of=x              -> reference_conflict
        reverse acme x 4 ref=x why=stolen     -> reference_conflict
        reverse acme x 3 ref=x why=other      -> reference_conflict
        adjust acme -4 ref=x why=wrong        -> reference_conflict
        adjust acme 4 ref=x why=other         -> reference_conflict
        adjust acme 4 ref=x why=wrong corrects=0-7 -> reference_conflict
        grant acme v1 5 ref=x                 -> reference_conflict
        grant acme v1 6 ref=x why=kindness    -> reference_conflict
        grant acme v1 6 ref=x expires=2027-01-01T00:00:00Z -> reference_conflict
        balance acme                          -> cash 19 vouchers 11 recharged 15
        recharge beta 2 ref=x                 -> ok
        refund beta 1 ref=x                   -> ok paid 1
        adjust beta 1 ref=x                   -> ok
        restart
        adjust beta 1 ref=x                   -> same
        refund acme 2 ref=x                   -> same
        ",
    );
}

/// State forgets after two days; what the view knows is looked up before a decision.
#[test]
fn r4_7_a_reference_is_known_for_ever() {
    check_shop(
        "
        recharge acme 6 ref=a request=k/1                -> ok voucher 5
        refund acme 2 ref=a                              -> ok paid 2 withdrawn 5
        adjust acme 1 ref=a                              -> ok
        grant acme v1 1 ref=a                            -> ok voucher 1
        reverse acme a 1 ref=a                           -> ok taken 1
        usage acme k1 m in=1000000 id=r1                 -> booked
        unuse acme r1                                    -> ok back 0 1
        at 2027-01-05T10:00:00Z
        # Booking on a later day lets State forget what is older than two days.
        usage acme k1 m in=1000000 id=r2                 -> booked
        recharge acme 1 ref=later                        -> ok
        at 2027-06-20T10:00:00Z
        money acme                                       -> recent 1
        usage acme k1 m in=1000000 id=r3                 -> booked
        money acme                                       -> recent 0
        restart
        recharge acme 6 ref=a                            -> same
        recharge acme 7 ref=a                            -> reference_conflict
        refund acme 2 ref=a                              -> same
        refund acme 3 ref=a                              -> reference_conflict
        adjust acme 1 ref=a                              -> same
        grant acme v1 1 ref=a                            -> same
        reverse acme a 1 ref=a                           -> same
        reverse acme a 2 ref=a                           -> reference_conflict
        unuse acme r1                                    -> same
        recharge acme 6 ref=z request=k/1                -> same
        recharge acme 6 ref=z request=k/2                -> idempotency_conflict
        recharge acme 1 ref=later                        -> same
        # What is left of a recharge is told from all of it, however old: 6 less 1.
        reverse acme a 5.000000000001 ref=b              -> reversal_too_large 5
        reverse acme a ref=b                             -> ok taken 5
        ",
    );
}

#[test]
fn r4_8_refunds_return_unused_cash_only() {
    check_shop(
        "
        refund acme 1 ref=0                   -> nothing_to_refund
        recharge acme 4 ref=a                 -> ok
        refund acme 0 ref=1                   -> amount_not_positive
        refund acme -1 ref=1                  -> amount_not_positive
        refund acme 1.5 ref=1                 -> ok paid 1.5
        balance acme                          -> cash 2.5 recharged 2.5
        # The lesser of the request and the cash there is; the rest is not paid later.
        refund acme 10 ref=2                  -> ok paid 2.5
        balance acme                          -> cash 0 recharged 0 tier none
        refund acme 7.5 ref=3                 -> nothing_to_refund
        recharge acme 7.5 ref=b               -> ok voucher 5
        refund acme 10 ref=2                  -> same
        balance acme                          -> cash 7.5 vouchers 5
        # Vouchers are not returned.
        usage acme k1 m in=12500000 id=r1     -> booked
        refund acme 1 ref=4                   -> nothing_to_refund
        grant acme v1 3 ref=1                 -> ok voucher 3
        refund acme 1 ref=4                   -> nothing_to_refund
        usage acme k1 m in=4000000 id=r2      -> booked
        balance acme                          -> cash -1
        refund acme 1 ref=4                   -> nothing_to_refund
        money acme                            -> refunded 4 recharged 11.5
        by creator refund acme 1 ref=5        -> role_missing
        ",
    );
}

/// Usage may be booked between deciding and booking: what is paid is told by the refund's own place in the log.
#[test]
fn r4_8_a_refund_that_races_with_usage_pays_the_cash_there_is() {
    check_shop(
        "
        recharge acme 4 ref=a                 -> ok
        hold refund acme 4 ref=1              -> held
        usage acme k1 m in=2500001 id=r1      -> booked
        book                                  -> ok paid 1.499999
        balance acme                          -> cash 0 recharged 2.500001
        refund acme 4 ref=1                   -> same
        recharge acme 2 ref=b                 -> ok
        hold refund acme 1 ref=2              -> held
        usage acme k1 m in=2000000 id=r2      -> booked
        # Nothing is there any more: nothing is paid, and that is its result.
        book                                  -> ok paid 0
        refund acme 1 ref=2                   -> same
        refund acme 2 ref=2                   -> reference_conflict
        balance acme                          -> cash 0 recharged 4.500001
        hold refund acme 1 ref=3              -> nothing_to_refund
        recharge acme 1 ref=c                 -> ok voucher 5
        hold refund acme 1 ref=3              -> held
        usage acme k1 m in=7000000 id=r3      -> booked
        book                                  -> ok paid 0
        balance acme                          -> cash -1 vouchers 0 recharged 5.500001
        ",
    );
}

#[test]
fn r4_8_a_refund_of_a_recharge_keeps_to_what_is_left_of_it() {
    check_shop(
        "
        recharge acme 4 ref=a                 -> ok
        recharge acme 9 ref=b                 -> ok voucher 5
        refund acme 1 ref=1 of=none           -> recharge_not_found
        refund acme 4.000000000001 ref=1 of=a -> refund_too_large 4
        refund acme 3 ref=1 of=a              -> ok paid 3
        refund acme 1.1 ref=2 of=a            -> refund_too_large 1
        reverse acme a 0.25 ref=3             -> ok taken 0.25
        refund acme 1 ref=2 of=a              -> refund_too_large 0.75
        refund acme 0.75 ref=2 of=a           -> ok paid 0.75
        refund acme 0.000000000001 ref=4 of=a -> refund_too_large 0
        reverse acme a ref=5                  -> reversal_too_large 0
        # A refund that names no recharge keeps to the cash alone.
        refund acme 5 ref=6                   -> ok paid 5 withdrawn 5
        refund acme 9 ref=7 of=b              -> ok paid 4
        # Only what was paid counts against it.
        reverse acme b 5.1 ref=8              -> reversal_too_large 5
        reverse acme b 5 ref=8                -> ok taken 5
        balance acme                          -> cash -5 recharged -5
        ",
    );
}

#[test]
fn r4_8_a_chargeback_whole_or_in_parts_may_leave_cash_negative() {
    check_shop(
        "
        recharge acme 20 ref=a                -> ok voucher 5
        usage acme k1 m in=15000000 id=r1     -> booked
        balance acme                          -> cash 10 vouchers 0
        reverse acme a 20.000000000001 ref=1  -> reversal_too_large 20
        reverse acme a 0 ref=1                -> amount_not_positive
        reverse acme a -1 ref=1               -> amount_not_positive
        reverse acme none 1 ref=1             -> recharge_not_found
        reverse acme a 4 ref=1                -> ok taken 4
        balance acme                          -> cash 6 recharged 16 tier Tier1
        reverse acme a 12 ref=2               -> ok taken 12
        balance acme                          -> cash -6 available 0 recharged 4 tier Tier0
        reverse acme a 4.1 ref=3              -> reversal_too_large 4
        # Without an amount: what is left of it.
        reverse acme a ref=3                  -> ok taken 4
        balance acme                          -> cash -10 available 0 recharged 0 tier none
        reverse acme a ref=3                  -> same
        reverse acme a ref=4                  -> reversal_too_large 0
        reverse acme a 1 ref=4                -> reversal_too_large 0
        # Available equals vouchers while cash is owed.
        grant acme v1 3 ref=1                 -> ok voucher 3
        balance acme                          -> cash -10 vouchers 3 available 3
        books acme                            -> assets:received 20 assets:charged_back -20 assets:receivable 10 liabilities:cash 0
        ",
    );
}

#[test]
fn r4_8_falling_below_the_threshold_withdraws_what_is_left_of_the_policys_voucher() {
    // Wholly there, partly spent, wholly spent, and not below; by refund and by reversal.
    check_shop(
        "
        recharge acme 5 ref=a                 -> ok voucher 5
        refund acme 0.000000000001 ref=1      -> ok paid 0.000000000001 withdrawn 5
        balance acme                          -> vouchers 0 recharged 4.999999999999
        money acme                            -> granted 5 withdrawn 5
        books acme                            -> expenses:promotion 0 liabilities:vouchers 0
        # Reaching it again grants nothing.
        recharge acme 0.000000000001 ref=b    -> ok
        recharge acme 100 ref=c               -> ok
        balance acme                          -> vouchers 0 granted 5
        refund acme 1000 ref=2                -> ok paid 105
        ",
    );
    check_shop(
        "
        recharge acme 6 ref=a                 -> ok voucher 5
        usage acme k1 m in=3500000 id=r1      -> booked
        refund acme 1 ref=1                   -> ok paid 1
        balance acme                          -> vouchers 1.5 recharged 5
        reverse acme a 1 ref=2                -> ok taken 1 withdrawn 1.5
        balance acme                          -> vouchers 0 cash 4 recharged 4
        ",
    );
    check_shop(
        "
        recharge acme 6 ref=a                 -> ok voucher 5
        usage acme k1 m in=5500000 id=r1      -> booked
        refund acme 6 ref=1                   -> ok paid 5.5
        money acme                            -> withdrawn 0
        recharge acme 9 ref=b                 -> ok
        balance acme                          -> cash 9 vouchers 0 recharged 9.5
        ",
    );
    // Other vouchers stay, whenever they expire.
    check_shop(
        "
        grant acme v1 3 ref=1 expires=2027-01-01T00:00:00Z -> ok voucher 3
        recharge acme 5 ref=a                 -> ok voucher 5
        grant acme v2 2 ref=2                 -> ok voucher 2
        restart
        reverse acme a ref=1                  -> ok taken 5 withdrawn 5
        vouchers acme                         -> v1:3 v2:2
        ",
    );
}

/// The withdrawal stands in the refund's entry, as an intention too: usage between may leave the refund too small to
/// fall below the threshold, or nothing of the voucher.
#[test]
fn r4_8_a_withdrawal_that_races_with_usage() {
    check_shop(
        "
        recharge acme 6 ref=a                 -> ok voucher 5
        hold refund acme 2 ref=1              -> held
        usage acme k1 m in=10000001 id=r1     -> booked
        book                                  -> ok paid 0.999999
        balance acme                          -> cash 0 recharged 5.000001
        money acme                            -> withdrawn 0
        ",
    );
    check_shop(
        "
        grant acme v1 20 ref=1 expires=2027-01-01T00:00:00Z -> ok voucher 20
        recharge acme 6 ref=a                 -> ok voucher 5
        hold refund acme 2 ref=1              -> held
        usage acme k1 m in=22000000 id=r1     -> booked
        book                                  -> ok paid 2 withdrawn 3
        balance acme                          -> cash 4 vouchers 0
        ",
    );
    check_shop(
        "
        adjust acme 5 ref=j                   -> ok
        recharge acme 6 ref=a                 -> ok voucher 5
        hold refund acme 2 ref=1              -> held
        usage acme k1 m in=5000000 id=r1      -> booked
        book                                  -> ok paid 2
        balance acme                          -> cash 9 vouchers 0 recharged 4
        ",
    );
}

#[test]
fn r4_8_the_withdrawal_asks_for_the_policy_of_now() {
    check(
        "
        organization acme
        recharge acme 20 ref=a                -> ok voucher 5
        policy threshold=2 amount=1           -> ok
        refund acme 16 ref=1                  -> ok paid 16
        balance acme                          -> vouchers 5 recharged 4
        refund acme 2.1 ref=2                 -> ok paid 2.1 withdrawn 5
        # A raised threshold takes nothing, for it is not the refund that brings it below.
        organization beta
        policy threshold=5 amount=5           -> ok
        recharge beta 6 ref=a                 -> ok voucher 5
        policy threshold=10 amount=5          -> ok
        balance beta                          -> vouchers 5
        refund beta 0.5 ref=1                 -> ok paid 0.5
        recharge beta 5 ref=b                 -> ok
        refund beta 1 ref=2                   -> ok paid 1 withdrawn 5
        ",
    );
}

#[test]
fn r4_8_adjustments_move_cash_both_ways_and_name_what_they_correct() {
    check_shop(
        "
        recharge acme 3 ref=a                 -> ok
        entries                               -> 7
        adjust acme 0 ref=1                   -> amount_zero
        adjust acme 2.000000000001 ref=1 why=late_bonus corrects=0-7 -> ok
        balance acme                          -> cash 5.000000000001 recharged 3
        adjust acme -9 ref=2 why=typing       -> ok
        balance acme                          -> cash -3.999999999999 available 0 recharged 3
        adjust acme 1 ref=3 corrects=0-10     -> entry_not_found
        adjust acme 1 ref=3 corrects=0-0      -> entry_not_found
        adjust acme 1 ref=3 corrects=1-1      -> entry_not_found
        adjust acme 1 ref=3 corrects=0-9      -> ok
        money acme                            -> adjusted -5.999999999999
        books acme                            -> expenses:adjustments -5.999999999999 assets:receivable 2.999999999999 liabilities:cash 0
        adjust acme -9999999999999995 ref=4   -> amount_out_of_range
        adjust acme 10000000000000006 ref=4   -> amount_out_of_range
        adjust acme 10000000000000005 ref=4   -> ok
        by creator adjust acme 1 ref=5        -> role_missing
        ",
    );
}

/// A decision of an owner that lost its term changes nothing, and its reference stays free.
#[test]
fn r4_7_what_is_void_uses_no_reference_and_no_number() {
    check_shop(
        "
        recharge acme 20 ref=a                -> ok voucher 5
        takeover node2                        -> term 2
        stale refund acme 3 ref=1             -> void
        stale reverse acme a 20 ref=1         -> void
        stale adjust acme -3 ref=1            -> void
        stale grant acme v1 3 ref=1           -> void
        stale credit acme 3                   -> void
        stale policy threshold=1 amount=1     -> void
        balance acme                          -> cash 20 vouchers 5 recharged 20
        hold refund acme 3 ref=1              -> held
        takeover node3                        -> term 3
        book                                  -> void
        refund acme 4 ref=1                   -> ok paid 4
        adjust acme -4 ref=1                  -> ok
        balance acme                          -> cash 12 vouchers 5 recharged 16
        ",
    );
}
