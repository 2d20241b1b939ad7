//! R7 Alerts.

use tollbook_tests::script::check;

use super::r4::check_shop;

#[test]
fn r7_1_a_new_organization_and_a_first_small_recharge_do_not_alarm() {
    check_shop(
        "
        alerts acme                            -> none
        recharge acme 3 ref=a                  -> ok
        alerts acme                            -> tier_changed/none/Tier0/3
        usage acme k1 m in=1000000 id=r1       -> booked
        usage acme k1 m in=9000000 id=r2       -> booked
        alerts acme                            -> none
        ",
    );
}

#[test]
fn r7_1_once_per_crossing_and_armed_again_at_or_above() {
    check_shop(
        "
        policy threshold=1000 amount=5
        recharge acme 5 ref=a                  -> ok
        alerts acme                            -> tier_changed/none/Tier0/5
        # At the threshold is not below it.
        usage acme k1 m in=0 id=r0             -> booked
        alerts acme                            -> none
        usage acme k1 m cost=0.000000000001 id=r1 -> booked
        alerts acme                            -> balance_low/5/4.999999999999
        usage acme k1 m in=3000000 id=r2       -> booked
        usage acme k1 m in=3000000 id=r3       -> booked
        balance acme                           -> cash -1.000000000001 available 0
        alerts acme                            -> none
        # Below still.
        recharge acme 3 ref=b                  -> ok
        usage acme k1 m in=1000000 id=r4       -> booked
        alerts acme                            -> none
        restart
        recharge acme 3.000000000001 ref=c     -> ok
        balance acme                           -> available 4
        recharge acme 1 ref=d                  -> ok
        alerts acme                            -> tier_changed/Tier0/Tier1/11.000000000001 alerts
        ",
    );
}
