//! R5 Tiers.

use tollbook_tests::script::check;

#[test]
fn r5_1_the_tier_is_the_highest_row_reached() {
    check(
        "
        organization acme
        balance acme                       -> tier none
        recharge acme 0.99 ref=1           -> ok
        balance acme                       -> tier none
        recharge acme 0.01 ref=2           -> ok
        balance acme                       -> tier Tier0
        recharge acme 8.999999999999 ref=3 -> ok voucher 5
        balance acme                       -> tier Tier0
        recharge acme 0.000000000001 ref=4 -> ok
        balance acme                       -> tier Tier1
        recharge acme 9.99 ref=5           -> ok
        balance acme                       -> tier Tier1
        recharge acme 0.01 ref=6           -> ok
        balance acme                       -> tier Tier2
        recharge acme 79.99 ref=7          -> ok
        balance acme                       -> tier Tier2
        recharge acme 0.01 ref=8           -> ok
        balance acme                       -> tier Tier3
        recharge acme 899.99 ref=9         -> ok
        balance acme                       -> tier Tier3
        recharge acme 0.01 ref=10          -> ok
        balance acme                       -> tier Tier4
        recharge acme 1999.99 ref=11       -> ok
        balance acme                       -> tier Tier4
        recharge acme 0.01 ref=12          -> ok
        balance acme                       -> tier Tier5 recharged 3000
        recharge acme 100000 ref=13        -> ok
        balance acme                       -> tier Tier5
        ",
    );
}

#[test]
fn r5_1_spending_never_moves_the_tier() {
    check(
        "
        organization acme
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        recharge acme 10 ref=1             -> ok voucher 5
        usage acme k1 m in=30000000 id=r1  -> booked
        balance acme                       -> cash -15 tier Tier1
        ",
    );
}
