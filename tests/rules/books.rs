//! R4.10 and R8.3: double entry, months, statements, seals, invoices and credit notes.

use tollbook_schemas::entry::{Actor, Body, Cause, Decision};
use tollbook_schemas::event::{Event, PartitionEvent};
use tollbook_schemas::topic::Topic;
use tollbook_tests::script::check;

use crate::r4::{SHOP, check_shop};

#[test]
fn r4_10_every_account_moves_as_it_should() {
    check_shop(
        "
        organization beta
        recharge acme 10 ref=a                -> ok voucher 5
        books acme                            -> assets:received 10 liabilities:cash -10 liabilities:vouchers -5 expenses:promotion 5
        usage acme k1 m in=6500000 id=r1      -> booked
        books acme                            -> income:usage -6.5 liabilities:cash -8.5 liabilities:vouchers 0
        refund acme 1 ref=1                   -> ok paid 1
        books acme                            -> assets:received 10 assets:refunded -1 liabilities:cash -7.5
        reverse acme a 9 ref=1                -> ok taken 9
        books acme                            -> assets:charged_back -9 assets:receivable 1.5 liabilities:cash 0
        adjust acme 4 ref=1                   -> ok
        books acme                            -> expenses:adjustments 4 assets:receivable 0 liabilities:cash -2.5
        grant acme v1 2 ref=1 expires=2026-11-20T11:00:00Z -> ok voucher 2
        at 2026-11-20T11:00:00Z
        expire acme                           -> ok lost 2
        books acme                            -> income:breakage -2 expenses:promotion 7 liabilities:vouchers 0
        unuse acme r1                         -> ok back 1.5 5
        books acme                            -> income:usage 0 liabilities:cash -4 liabilities:vouchers -5
        recharge beta 0.000000000001 ref=a    -> ok
        move-in gamma cash=-3 vouchers=m1:1   -> ok voucher 1
        books gamma                           -> equity:moved_in -2 assets:receivable 3 liabilities:vouchers -1 expenses:promotion 0
        ledger                                -> sum 0 assets:received 10.000000000001 assets:receivable 3 liabilities:cash -4.000000000001
        ",
    );
}

#[test]
fn r8_3_a_month_opens_with_what_the_last_closed_with() {
    check_shop(
        "
        recharge acme 10 ref=a                                  -> ok voucher 5
        usage acme k1 m in=6000000 id=r1                        -> booked
        statement acme 2026-11                                  -> opening 0/0 usage 1/5 closing 9/0 ended no closed no
        seal acme 2026-11                                       -> month_open
        invoice acme 2026-11                                    -> month_open
        at 2026-12-01T00:00:00Z
        # The clock says it is over, the log does not yet.
        seal acme 2026-11                                       -> month_open
        months                                                  -> ok UTC:2026-11
        months                                                  -> nothing
        statement acme 2026-11                                  -> closing 9/0 ended no closed yes
        # Late usage posts to the open month, and counts in the day in which it occurred.
        usage acme k1 m in=2000000 id=r2 time=2026-11-30T23:59:59Z -> booked
        statement acme 2026-11                                  -> opening 0/0 usage 1/5 closing 9/0 ended yes closed yes
        statement acme 2026-12                                  -> opening 9/0 usage 2/0 closing 7/0 ended no closed no
        spend acme web month=2026-11                            -> cost 8
        spend acme web month=2026-12                            -> cost 0
        unsealed acme                                           -> 2026-11
        seal acme 2026-11 hash=9                                -> ok
        unsealed acme                                           -> none
        seal acme 2026-11 hash=8                                -> same
        seals acme                                              -> 2026-11:9
        seal acme 2026-12                                       -> month_open
        seal acme 2026-10                                       -> same
        # A month in which nothing was booked has no statement of its own.
        at 2027-02-01T00:00:00Z
        months                                                  -> ok UTC:2026-12 UTC:2027-01
        recharge acme 1 ref=b                                   -> ok
        statement acme 2026-12                                  -> opening 9/0 closing 7/0 ended yes
        statement acme 2027-01                                  -> none
        statement acme 2027-02                                  -> opening 7/0 closing 8/0 ended no
        seal acme 2027-01                                       -> same
        unsealed acme                                           -> 2026-12
        ",
    );
}

/// The month that is open may be sealed as soon as it closed, though nothing was booked since.
#[test]
fn r8_3_an_idle_organization_is_sealed_too() {
    check_shop(
        "
        recharge acme 10 ref=a                 -> ok voucher 5
        organization idle
        at 2026-12-01T00:00:00Z
        months                                 -> ok UTC:2026-11
        unsealed acme                          -> none
        seal acme 2026-11 hash=3               -> ok
        restart
        seals acme                             -> 2026-11:3
        unsealed acme                          -> none
        seal acme 2026-11                      -> same
        seal idle 2026-11                      -> same
        ",
    );
}

/// After the log says that a month is over nothing can be booked in it, whatever a node's clock says.
#[test]
fn r8_3_a_closed_month_takes_nothing_from_a_clock_that_is_behind() {
    check_shop(
        "
        recharge acme 10 ref=a                                 -> ok voucher 5
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        at 2026-11-30T23:00:00Z
        usage acme k1 m in=1000000 id=r1                       -> booked
        recharge acme 1 ref=b                                  -> ok
        adjust acme 1 ref=c                                    -> ok
        statement acme 2026-11                                 -> closing 10/5 ended yes
        statement acme 2026-12                                 -> opening 10/5 usage 0/1 closing 12/4
        lines acme 2026-12                                     -> recharge/b/1/0 adjustment/c/1/0
        spend acme web day=2026-11-30                          -> cost 1
        ",
    );
}

#[test]
fn r8_3_months_end_where_their_organization_is() {
    check(
        "
        at 2026-10-31T10:59:00Z
        organization utc
        organization apia zone=Pacific/Apia
        organization berlin zone=Europe/Berlin
        organization paulo zone=America/Sao_Paulo
        recharge utc 1 ref=a
        recharge berlin 1 ref=a
        recharge paulo 1 ref=a
        months                                                 -> nothing
        due                                                    -> month@2026-10-31T11:00:00Z
        # In Apia it is midnight already: thirteen hours ahead.
        at 2026-10-31T11:00:00Z
        months                                                 -> ok Pacific/Apia:2026-10
        due                                                    -> month@2026-10-31T23:00:00Z
        recharge apia 1 ref=a
        invoice apia 2026-10                                   -> nothing_to_invoice
        statement apia 2026-10                                 -> none
        statement apia 2026-11                                 -> opening 0/0 closing 1/0 ended no
        at 2026-10-31T22:59:59.999999999Z
        months                                                 -> nothing
        recharge berlin 2 ref=b
        # Summer time ended six days before: midnight is at 23:00.
        at 2026-10-31T23:00:00Z
        months                                                 -> ok Europe/Berlin:2026-10
        recharge berlin 4 ref=c                                -> ok voucher 5
        statement berlin 2026-10                               -> closing 3/0 ended yes closed yes
        statement berlin 2026-11                               -> opening 3/0 closing 7/5
        seal utc 2026-10                                       -> month_open
        at 2026-11-01T02:59:59Z
        months                                                 -> ok UTC:2026-10
        recharge paulo 2 ref=b
        at 2026-11-01T03:00:00Z
        months                                                 -> ok America/Sao_Paulo:2026-10
        recharge paulo 4 ref=c                                 -> ok voucher 5
        lines paulo 2026-10                                    -> recharge/a/1/0 recharge/b/2/0
        lines paulo 2026-11                                    -> recharge/c/4/0 voucher_grant/-/0/5
        # After downtime, the earliest first.
        at 2026-12-31T23:30:00Z
        months -> ok Pacific/Apia:2026-11 Europe/Berlin:2026-11 UTC:2026-11 America/Sao_Paulo:2026-11 Pacific/Apia:2026-12 Europe/Berlin:2026-12
        ",
    );
}

/// A new zone counts from the next month (R1.4): the month that is open ends as the old zone has it.
#[test]
fn r1_4_r8_3_months_over_a_change_of_zone() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        recharge acme 1 ref=a
        change acme zone=Asia/Tokyo                            -> ok from 2026-12
        at 2026-11-30T15:00:00Z
        # December begins in Tokyo, but November is still that of UTC.
        months                                                 -> ok Asia/Tokyo:2026-11
        seal acme 2026-11                                      -> month_open
        recharge acme 1 ref=b
        lines acme 2026-11                                     -> recharge/a/1/0 recharge/b/1/0
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        seal acme 2026-11                                      -> ok
        at 2026-12-31T15:00:00Z
        seal acme 2026-12                                      -> month_open
        months                                                 -> ok Asia/Tokyo:2026-12
        recharge acme 1 ref=c
        lines acme 2027-01                                     -> recharge/c/1/0
        ",
    );
}

#[test]
fn r4_10_an_invoice_covers_each_recharge_of_its_month_once() {
    check_shop(
        "
        organization beta
        recharge acme 10 ref=a                                 -> ok voucher 5
        recharge acme 5.000000000001 ref=b                     -> ok
        adjust acme 3 ref=c                                    -> ok
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        recharge acme 2 ref=d                                  -> ok
        invoice acme 2026-11                                   -> ok invoice 1 a:10 b:5.000000000001
        invoice acme 2026-11                                   -> nothing_to_invoice
        invoice acme 2026-10                                   -> nothing_to_invoice
        invoice beta 2026-11                                   -> nothing_to_invoice
        invoice acme 2026-12                                   -> month_open
        # Issuing moves nothing.
        balance acme                                           -> cash 20.000000000001
        lines acme 2026-12                                     -> recharge/d/2/0 invoice/-/0/0
        at 2027-01-01T00:00:00Z
        months                                                 -> ok UTC:2026-12
        by creator invoice acme 2026-12                        -> ok invoice 2 d:2
        money acme                                             -> documents 2
        # Also when State has forgotten the month.
        recharge acme 1 ref=e                                  -> ok
        at 2027-06-01T00:00:00Z
        months                                                 -> ok UTC:2027-01 UTC:2027-02 UTC:2027-03 UTC:2027-04 UTC:2027-05
        adjust acme 1 ref=f                                    -> ok
        invoice acme 2026-11                                   -> nothing_to_invoice
        invoice acme 2027-01                                   -> ok invoice 3 e:1
        invoice acme 2027-01                                   -> nothing_to_invoice
        invoice acme 2027-03                                   -> nothing_to_invoice
        ",
    );
}

#[test]
fn r4_10_an_invoice_shows_what_was_taken_back_before_it() {
    check_shop(
        "
        recharge acme 10 ref=a                                 -> ok voucher 5
        recharge acme 4 ref=b                                  -> ok
        recharge acme 3 ref=c                                  -> ok
        reverse acme a 2 ref=1                                 -> ok taken 2
        reverse acme b ref=2                                   -> ok taken 4
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        # Before the invoice, so none of these has a credit note.
        refund acme 1 ref=1 of=c                               -> ok paid 1
        invoice acme 2026-11                                   -> ok invoice 1 a:8 c:2
        # And a month of which nothing is left has none.
        recharge acme 6 ref=d                                  -> ok
        reverse acme d ref=3                                   -> ok taken 6
        at 2027-01-01T00:00:00Z
        months                                                 -> ok UTC:2026-12
        invoice acme 2026-12                                   -> nothing_to_invoice
        money acme                                             -> documents 1
        ",
    );
}

#[test]
fn r4_10_refunds_and_reversals_of_invoiced_recharges_get_credit_notes_in_one_series() {
    check_shop(
        "
        recharge acme 10 ref=a                                 -> ok voucher 5
        recharge acme 10 ref=b                                 -> ok
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        recharge acme 10 ref=c                                 -> ok
        invoice acme 2026-11                                   -> ok invoice 1 a:10 b:10
        refund acme 2 ref=1 of=a                               -> ok paid 2 credit 2 2
        # Of a recharge that is not invoiced yet, or of none in particular.
        refund acme 1 ref=2 of=c                               -> ok paid 1
        refund acme 1 ref=3                                    -> ok paid 1
        reverse acme b 3.000000000001 ref=1                    -> ok taken 3.000000000001 credit 3 3.000000000001
        refund acme 2 ref=1 of=a                               -> same
        reverse acme b ref=2                                   -> ok taken 6.999999999999 credit 4 6.999999999999
        at 2027-01-01T00:00:00Z
        months                                                 -> ok UTC:2026-12
        invoice acme 2026-12                                   -> ok invoice 5 c:9
        reverse acme c 1 ref=3                                 -> ok taken 1 credit 6 1
        money acme                                             -> documents 6
        # However old the invoice.
        at 2027-07-01T00:00:00Z
        adjust acme 1 ref=j                                    -> ok
        restart
        reverse acme a 1 ref=4                                 -> ok taken 1 credit 7 1
        reverse acme a 7.1 ref=5                               -> reversal_too_large 7
        ",
    );
}

#[test]
fn r4_10_a_refund_that_pays_nothing_uses_no_number() {
    check_shop(
        "
        recharge acme 4 ref=a                                  -> ok
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        invoice acme 2026-11                                   -> ok invoice 1 a:4
        hold refund acme 4 ref=1 of=a                          -> held
        usage acme k1 m in=4000000 id=r1                       -> booked
        book                                                   -> ok paid 0
        money acme                                             -> documents 1
        adjust acme 1 ref=j                                    -> ok
        hold refund acme 1 ref=2 of=a                          -> held
        usage acme k1 m in=250000 id=r2                        -> booked
        # The note is over what was paid.
        book                                                   -> ok paid 0.75 credit 2 0.75
        reverse acme a ref=1                                   -> ok taken 3.25 credit 3 3.25
        # What is void uses none either.
        recharge acme 9 ref=b                                  -> ok voucher 5
        at 2027-01-01T00:00:00Z
        months                                                 -> ok UTC:2026-12
        hold invoice acme 2026-12                              -> held
        takeover node2                                         -> term 2
        book                                                   -> void
        invoice acme 2026-12                                   -> ok invoice 4 b:9
        ",
    );
}

#[test]
fn r4_10_invoices_are_issued_by_administrators() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        level acme enterprise_verified
        invite acme i1
        accept acme i1 ann                                     -> ok ann member
        recharge acme 4 ref=a
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        by ann invoice acme 2026-11                            -> role_missing
        by creator invoice acme 2026-11                        -> ok invoice 1 a:4
        by creator seal acme 2026-11                           -> role_missing
        ",
    );
}

/// A usage reversal belongs to the month in which it is booked, though the record was an earlier one's.
#[test]
fn r8_3_a_reversal_posts_to_the_open_month() {
    check_shop(
        "
        recharge acme 4 ref=a                                  -> ok
        usage acme k1 m in=3000000 id=r1                       -> booked
        at 2026-12-01T00:00:00Z
        months                                                 -> ok UTC:2026-11
        unuse acme r1                                          -> ok back 3 0
        statement acme 2026-11                                 -> usage 3/0 closing 1/0 ended yes
        statement acme 2026-12                                 -> opening 1/0 usage -3/0 closing 4/0
        spend acme web month=2026-11                           -> cost 0 requests 0
        lines acme 2026-12                                     -> usage_reversal/-/0/0
        ",
    );
}

/// A month that is closed is over by the log's time too, whatever time its entry carries.
#[test]
fn r8_3_closing_a_month_lifts_recorded_time_to_its_end() {
    let mut ledger = check(&format!("{SHOP}recharge acme 1 ref=a -> ok"));
    let month = "2026-11".parse().unwrap();
    let (zone, until) = ("UTC".parse().unwrap(), "2026-12-01T00:00:00Z".parse().unwrap());
    let closed = Event::Partition(PartitionEvent::MonthClosed { zone, month, until });
    let term = ledger.state.head().term;
    let decision = Decision { term, actor: Actor::Engine, cause: Cause::Timer, events: vec![closed] };
    let entry = ledger.entry(Body::Decision(decision));
    ledger.append(&Topic::Config, &entry).unwrap();
    assert_eq!(ledger.state.head().recorded_at, until);
    assert!(ledger.now < ledger.state.head().recorded_at);
    assert_eq!(ledger.state.month_end(), Some("2027-01-01T00:00:00Z".parse().unwrap()));
}
