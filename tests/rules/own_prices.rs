//! R4.11: prices, and an organization's own.

use tollbook_tests::script::check;

use crate::r4::check_shop;

#[test]
fn r4_11_an_organizations_own_price_wins_and_falls_back() {
    check_shop(
        "
        organization beta
        project beta web
        key beta web k2
        price n input=2 from=2026-01-01T00:00:00Z
        own-price acme m input=0.25 from=2026-11-20T12:00:00Z          -> ok
        own-price acme m input=0.25 from=2026-11-20T12:00:00Z          -> same
        at 2026-11-20T13:00:00Z
        # Before its own begins, the ledger's holds; at the instant, its own.
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T11:59:59.999999999Z -> booked
        balance acme                                                   -> cash -1
        usage acme k1 m in=1000000 id=r2 time=2026-11-20T12:00:00Z     -> booked
        balance acme                                                   -> cash -1.25
        # Per model: it has none of its own for n.
        usage acme k1 n in=1000000 id=r3                               -> booked
        balance acme                                                   -> cash -3.25
        # Nobody else's.
        usage beta k2 m in=1000000 id=r1                               -> booked
        balance beta                                                   -> cash -1
        # A change of the ledger's price does not touch it.
        price m input=9                                                -> ok
        usage acme k1 m in=1000000 id=r4                               -> booked
        balance acme                                                   -> cash -3.5
        own-price acme m input=0.5                                     -> ok
        restart
        usage acme k1 m in=1000000 id=r5                               -> booked
        balance acme                                                   -> cash -4
        batch
        usage acme k1 m in=1000000 id=s1 time=2026-11-20T11:00:00Z
        usage acme k1 m in=1000000 id=s2 time=2026-11-20T12:30:00Z
        usage acme k1 m in=1000000 id=s3
        usage beta k2 m in=1000000 id=s3
        end                                                            -> booked 4
        balance acme                                                   -> cash -5.75
        balance beta                                                   -> cash -10
        by creator own-price acme m input=0                            -> role_missing
        own-price acme m input=1 currency=EUR                          -> currency_mismatch
        own-price none m input=1                                       -> organization_not_found
        ",
    );
}

#[test]
fn r4_11_an_own_change_may_not_begin_in_the_past_a_first_price_may() {
    check_shop(
        "
        # The ledger has a price for m: usage was charged by it, so an own one is a change.
        own-price acme m input=2 from=2026-11-20T09:59:59.999999999Z   -> price_in_the_past
        own-price acme m input=2 from=2026-11-20T10:00:00Z             -> ok
        own-price acme m input=2 from=2026-11-20T10:00:00Z             -> same
        # Nobody has one for o: nothing of it was charged.
        usage acme k1 o in=1000000 id=r1                               -> quarantined unknown_model
        own-price acme o input=4 from=2020-01-01T00:00:00Z             -> ok
        own-price acme o input=5 from=2020-01-01T00:00:00Z             -> price_in_the_past
        own-price acme o input=5 from=2019-01-01T00:00:00Z             -> price_in_the_past
        release acme r1                                                -> ok released
        balance acme                                                   -> cash -4
        # The ledger's first price for o may begin in the past too; acme keeps its own.
        price o input=1 from=2020-01-01T00:00:00Z                      -> ok
        usage acme k1 o in=1000000 id=r2                               -> booked
        balance acme                                                   -> cash -8
        # The clock was put back.
        at 2026-11-20T09:00:00Z
        own-price acme o input=6 from=2026-11-20T09:30:00Z             -> price_in_the_past
        ",
    );
}

#[test]
fn r4_11_prices_at_the_instants_at_which_they_begin() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        key acme web k1
        price m input=1 cached=2 output=4 meter.image=8 from=2026-11-10T00:00:00Z  -> ok
        price m input=16 cached=32 output=64 from=2026-11-21T00:00:00Z -> ok
        at 2026-11-21T10:00:00Z
        usage acme k1 m in=2000000 cached=1000000 out=1000000 id=r1 time=2026-11-20T23:59:59.999999999Z -> booked
        balance acme                                                   -> cash -7
        usage acme k1 m in=2000000 cached=1000000 out=1000000 id=r2 time=2026-11-21T00:00:00Z -> booked
        balance acme                                                   -> cash -119
        # The meter has no price any more.
        usage acme k1 m meter.image=1 id=r3 time=2026-11-20T23:59:59Z  -> booked
        usage acme k1 m meter.image=1 id=r4 time=2026-11-21T00:00:00Z  -> quarantined unknown_meter
        balance acme                                                   -> cash -119.000008
        ",
    );
}
