//! R10 Moving in. R10.2, observe mode, is a matter of admission.

use tollbook_tests::script::check;

#[test]
fn r10_1_an_organization_is_moved_in_with_its_past() {
    check(
        "
        at 2026-11-20T10:00:00Z
        price m input=1 from=2026-01-01T00:00:00Z
        move-in acme cash=3.000000000001 recharged=19.99 granted=yes refs=a,b,a vouchers=v1:3@2026-12-01T00:00:00Z,v2:2 members=ann projects=web,shop roles=web:ann keys=k1:web,k2:shop level=verified zone=Europe/Berlin -> ok voucher 3 voucher 2 ann member web member
        balance acme                       -> cash 3.000000000001 vouchers 5 available 8.000000000001 recharged 19.99 tier Tier1 granted 0
        vouchers acme                      -> v1:3 v2:2
        books acme                         -> equity:moved_in 8.000000000001 assets:received 0 expenses:promotion 0
        members acme                       -> ann:member creator:administrator
        team acme web                      -> ann:member
        key-states acme                    -> k1:creator k2:creator
        profile acme                       -> level verified zone Europe/Berlin
        lines acme -> opening_balance/-/3.000000000001/0 recharge/a/0/0 recharge/b/0/0 voucher_grant/-/0/3 voucher_grant/-/0/2
        # Its references are used up, as recharges.
        recharge acme 3 ref=a              -> reference_conflict
        recharge acme 3 ref=b              -> reference_conflict
        adjust acme 3 ref=a                -> ok
        # Nothing is granted again.
        recharge acme 0.01 ref=c           -> ok
        balance acme                       -> recharged 20 tier Tier2 vouchers 5
        usage acme k1 m in=4000000 id=r1   -> booked
        vouchers acme                      -> v2:1
        statement acme 2026-11             -> opening 0/0 usage 0/4 closing 6.010000000001/1 ended no
        move-in acme                       -> organization_exists
        organization acme                  -> organization_exists
        restart
        at 2027-06-01T00:00:00Z
        adjust acme 1 ref=x                -> ok
        recharge acme 3 ref=a              -> reference_conflict
        ",
    );
}

#[test]
fn r10_1_what_is_owed_moves_in_too() {
    check(
        "
        move-in acme cash=-7.5 vouchers=v1:2    -> ok voucher 2
        balance acme                            -> cash -7.5 vouchers 2 available 2 recharged 0 tier none
        books acme                              -> assets:receivable 7.5 equity:moved_in -5.5 liabilities:cash 0
        refund acme 1 ref=1                     -> nothing_to_refund
        recharge acme 10 ref=a                  -> ok voucher 5
        balance acme                            -> cash 2.5 vouchers 7
        ",
    );
}

/// Moving in grants nothing; who has not reached the threshold yet earns the voucher when they do.
#[test]
fn r10_1_the_policys_voucher_after_moving_in() {
    check(
        "
        move-in below recharged=4.99                 -> ok
        move-in above recharged=5                    -> ok
        move-in given recharged=4.99 granted=yes     -> ok
        balance above                                -> vouchers 0
        recharge below 0.01 ref=a                    -> ok voucher 5
        recharge above 0.01 ref=a                    -> ok
        recharge given 0.01 ref=a                    -> ok
        # Nor by a threshold that was raised since.
        policy threshold=10 amount=5                 -> ok
        recharge above 5 ref=b                       -> ok
        ",
    );
}

#[test]
fn r10_1_what_does_not_fit_together_is_refused() {
    check(
        "
        at 2026-11-20T10:00:00Z
        move-in acme recharged=-1                              -> amount_not_positive
        move-in acme vouchers=v1:0                             -> amount_not_positive
        move-in acme vouchers=v1:-1                            -> amount_not_positive
        move-in acme vouchers=v1:1@2026-11-20T10:00:00Z        -> expiry_passed
        move-in acme cash=10000000000000000.1                  -> amount_out_of_range
        move-in acme cash=-10000000000000000.1                 -> amount_out_of_range
        move-in acme recharged=10000000000000000.1             -> amount_out_of_range
        move-in acme vouchers=v1:9999999999999999,v2:1.1       -> amount_out_of_range
        move-in acme keys=k1:web                               -> project_not_found
        move-in acme projects=web keys=k1:web key-of=ann       -> member_not_found
        move-in acme projects=web roles=web:ann                -> member_not_found
        move-in acme members=ann roles=web:ann                 -> project_not_found
        # One id for two things.
        move-in acme projects=web,web                          -> project_exists
        move-in acme projects=web keys=k1:web,k1:web           -> api_key_exists
        move-in acme members=ann,ann                           -> member_exists
        move-in acme members=creator                           -> member_exists
        by creator move-in acme                                -> role_missing
        move-in acme                                           -> ok
        ",
    );
}
