//! R4.8 and R8.1: usage reversals, and quarantined records released or dismissed.

use tollbook_tests::script::check;

use crate::r4::check_shop;

#[test]
fn r4_8_usage_taken_back_returns_money_in_reverse_order_of_spending() {
    check_shop(
        "
        recharge acme 6 ref=a                          -> ok voucher 5
        usage acme k1 m in=4000000 out=1 id=r1         -> booked
        usage acme k1 m in=3000000 id=r2               -> booked
        balance acme                                   -> cash 3.999999 vouchers 0 spent 7.000001
        # Cash paid for 2.000001 in all: that much comes back as cash, the rest as a voucher that does not expire.
        unuse acme r1 why=wrong                        -> ok back 2.000001 2
        balance acme                                   -> cash 6 vouchers 2 spent 3 granted 5
        vouchers acme                                  -> -:2
        unuse acme r2                                  -> ok back 0 3
        balance acme                                   -> cash 6 vouchers 5 spent 0 recharged 6
        vouchers acme                                  -> -:2 -:3
        # A record is taken back once.
        unuse acme r1 why=wrong                        -> same
        unuse acme r1 why=other                        -> same
        restart
        unuse acme r2                                  -> same
        money acme                                     -> granted 5 expired 0 withdrawn 0
        # It stays a repetition: taken back is not undone by sending it again.
        usage acme k1 m in=3000000 id=r2               -> duplicate
        # Vouchers that expire go first.
        grant acme v1 1 ref=1 expires=2027-01-01T00:00:00Z -> ok voucher 1
        vouchers acme                                  -> v1:1 -:2 -:3
        # What came back is nobody's policy: falling below the threshold takes nothing of it.
        refund acme 6 ref=r                            -> ok paid 6
        balance acme                                   -> vouchers 6
        ",
    );
}

#[test]
fn r4_8_usage_taken_back_leaves_nothing_in_consumption() {
    check_shop(
        "
        price n input=2 meter.image=1000000 from=2026-01-01T00:00:00Z
        usage acme k1 n in=1000000 meter.image=2 id=r1 -> booked
        usage acme k1 m in=1000 cached=10 out=5 id=r2  -> booked
        usage acme project:web m in=7 id=r3            -> booked
        close                                          -> nothing
        at 2026-11-20T10:10:00Z
        close                                          -> cycles 1
        spend acme web day=2026-11-20                  -> settled 4.001012 pending 0 requests 3
        unuse acme r1                                  -> ok back 4 0
        spend acme web day=2026-11-20                  -> settled 4.001012 pending -4 cost 0.001012 requests 2 input 1007
        unuse acme r2                                  -> ok back 0.001005 0
        unuse acme r3                                  -> ok back 0.000007 0
        spend acme web day=2026-11-20                  -> cost 0 requests 0 input 0 cached 0 output 0
        at 2026-11-20T10:20:00Z
        close                                          -> cycles 1
        spend acme web day=2026-11-20                  -> settled 0 pending 0
        spend acme web month=2026-11                   -> settled 0 cost 0
        counts acme                                    -> booked 3 duplicates 0 quarantined 0
        ",
    );
}

#[test]
fn r4_8_a_reversal_takes_back_what_was_charged_then() {
    check_shop(
        "
        own-price acme n input=3 from=2026-01-01T00:00:00Z        -> ok
        price o input=5 from=2026-01-01T00:00:00Z                 -> ok
        usage acme k1 m in=1000000 id=r1                          -> booked
        usage acme k1 n in=1000000 id=r2                          -> booked
        usage acme k1 o in=1000000 id=r3                          -> booked
        usage acme k1 none in=1000000 cost=0.5 id=r4              -> booked
        balance acme                                              -> cash -9.5
        # Published since, for the same instants or for what had no price then.
        price m input=7                                           -> ok
        price m input=8                                           -> ok
        own-price acme n input=4                                  -> ok
        usage acme k1 m in=1000000 id=r5                          -> booked
        price m input=9                                           -> ok
        unuse acme r5                                             -> ok back 8 0
        own-price acme o input=11                                 -> ok
        price none input=13 from=2026-01-01T00:00:00Z             -> ok
        archive acme web                                          -> ok revoked k1 project_archived
        unuse acme r1                                             -> ok back 1 0
        unuse acme r2                                             -> ok back 3 0
        unuse acme r3                                             -> ok back 5 0
        unuse acme r4                                             -> ok back 0.5 0
        balance acme                                              -> cash 0 spent 0
        ",
    );
}

#[test]
fn r8_1_an_unknown_model_is_priced_and_then_released() {
    check_shop(
        "
        recharge acme 6 ref=a                                  -> ok voucher 5
        usage acme k1 new in=2000000 id=r1                     -> quarantined unknown_model
        usage acme k1 new in=1000000 id=r2 seq=1               -> quarantined unknown_model
        counts acme                                            -> booked 0 quarantined 2
        release acme r1                                        -> still_unbookable_unknown_model
        price new input=3 from=2026-01-01T00:00:00Z            -> ok
        # It waits for its release.
        balance acme                                           -> spent 0
        release acme r1                                        -> ok released
        balance acme                                           -> cash 5 vouchers 0 spent 6
        spend acme web day=2026-11-20 model=new                -> cost 6 requests 1 input 2000000 pending 6
        release acme r1                                        -> same
        dismiss acme r1                                        -> not_in_quarantine
        # What was counted when it came is not counted again.
        usage acme k1 new in=1000000 id=r2 seq=1               -> duplicate
        release acme r2                                        -> ok released
        usage acme k1 new in=1000000 id=r2 seq=1               -> duplicate
        usage acme k1 new in=2000000 id=r1                     -> duplicate
        balance acme                                           -> cash 2 spent 9
        money acme                                             -> settled 2
        # What was released can be taken back.
        unuse acme r1                                          -> ok back 4 2
        balance acme                                           -> cash 6 vouchers 2 spent 3
        ",
    );
}

#[test]
fn r8_1_a_released_record_counts_when_it_occurred_and_is_charged_now() {
    check_shop(
        "
        price new input=1 from=2026-11-01T00:00:00Z            -> ok
        recharge acme 1.5 ref=a                                -> ok
        usage acme k9 new in=1000000 id=r1 time=2026-11-20T09:00:00Z -> quarantined unknown_key
        # The price of when it occurred, whatever was published since.
        price new input=5                                      -> ok
        at 2026-12-03T00:00:00Z
        months                                                 -> ok UTC:2026-11
        key acme web k9
        release acme r1                                        -> ok released
        statement acme 2026-11                                 -> usage 0/0 closing 1.5/0 ended yes
        statement acme 2026-12                                 -> opening 1.5/0 usage 1/0 closing 0.5/0
        spend acme web day=2026-11-20                          -> cost 1
        spend acme web month=2026-12                           -> cost 0
        ",
    );
}

#[test]
fn r8_1_a_mended_record_is_booked_in_its_place() {
    check_shop(
        "
        usage acme k9 m in=1000000 id=r1                       -> quarantined unknown_key
        usage acme k1 m in=1000000000001 id=r2                 -> quarantined absurd
        release acme r1                                        -> still_unbookable_unknown_key
        release acme r1 key=k8                                 -> still_unbookable_unknown_key
        release acme r1 key=k1                                 -> ok released
        release acme r2                                        -> still_unbookable_absurd
        release acme r2 in=2000000                             -> ok released
        release acme r2 in=2000000                             -> same
        balance acme                                           -> cash -3
        # Its id is taken by what came.
        usage acme k1 m in=1000000 id=r1                       -> quarantined conflicting_id
        ",
    );
}

/// A record is released for the organization that it came for, and cannot be mended into another's.
#[test]
fn r8_1_a_record_is_its_organizations() {
    check_shop(
        "
        organization beta
        project beta web
        key beta web k1
        usage acme k9 m in=1000000 id=r1                       -> quarantined unknown_key
        release beta r1 from=acme key=k1                       -> not_in_quarantine
        release beta r1 from=acme key=k1 of=beta               -> not_in_quarantine
        release acme r1 key=k1 of=beta                         -> not_in_quarantine
        dismiss beta r1 from=acme                              -> not_in_quarantine
        release acme r1 key=k1                                 -> ok released
        balance acme                                           -> spent 1
        balance beta                                           -> spent 0
        ",
    );
}

#[test]
fn r4_9_a_release_keeps_to_what_can_be_kept_exactly() {
    check_shop(
        "
        usage acme k9 m cost=1 id=r1                           -> quarantined unknown_key
        usage acme k1 m cost=9999999999999999.000000000001 id=r2 -> booked
        release acme r1 key=k1                                 -> still_unbookable_absurd
        unuse acme r2                                          -> ok back 9999999999999999.000000000001 0
        release acme r1 key=k1                                 -> ok released
        balance acme                                           -> spent 1 cash -1
        ",
    );
}

#[test]
fn r8_1_a_dismissed_record_stays_unbooked() {
    check_shop(
        "
        usage acme k9 m in=1000000 id=r1                       -> quarantined unknown_key
        dismiss acme r1 why=test_traffic                       -> ok dismissed test_traffic
        dismiss acme r1 why=test_traffic                       -> same
        dismiss acme r1 why=other                              -> not_in_quarantine
        release acme r1 key=k1                                 -> not_in_quarantine
        key acme web k9
        release acme r1                                        -> not_in_quarantine
        usage acme k9 m in=1000000 id=r1                       -> duplicate
        money acme                                             -> settled 1
        at 2027-06-01T00:00:00Z
        usage acme k1 m in=1 id=r2                             -> booked
        # State has forgotten, the view has not.
        dismiss acme r1 why=test_traffic                       -> same
        release acme r1                                        -> not_in_quarantine
        balance acme                                           -> spent 0.000001
        ",
    );
}

/// What came before its organization was there is not counted by its source yet: if it came again since, it is booked.
#[test]
fn r8_1_a_record_that_came_again_since_is_not_released() {
    check(
        "
        price m input=1 from=2026-01-01T00:00:00Z
        usage acme k1 m in=1000000 id=r1 seq=1                 -> quarantined unknown_organization
        usage acme k1 m in=1000000 id=r2 seq=2                 -> quarantined unknown_organization
        usage acme k1 m in=1000000 id=r3                       -> quarantined unknown_organization
        organization acme
        project acme web
        key acme web k1
        usage acme k1 m in=1000000 id=r1 seq=1                 -> booked
        release acme r1                    -> still_unbookable_it_came_again_since,_and_was_booked
        release acme r2                                        -> ok released
        usage acme k1 m in=1000000 id=r2 seq=2                 -> duplicate
        # Ids are taken whatever becomes of the record.
        usage acme k1 m in=1000000 id=r3                       -> duplicate
        release acme r3                                        -> ok released
        balance acme                                           -> cash -3 spent 3
        counts acme                                            -> booked 1 duplicates 2 quarantined 0
        ",
    );
}

/// Usage between deciding and booking may count the record that is being released.
#[test]
fn r8_1_a_release_that_races_with_its_record() {
    check(
        "
        price m input=1 from=2026-01-01T00:00:00Z
        usage acme k1 m in=1000000 id=r1 seq=1                 -> quarantined unknown_organization
        organization acme
        project acme web
        key acme web k1
        hold release acme r1                                   -> held
        usage acme k1 m in=1000000 id=r1 seq=1                 -> booked
        # It stays in quarantine, to be dismissed.
        book                                                   -> ok
        balance acme                                           -> spent 1
        dismiss acme r1 why=came_again                         -> ok dismissed came_again
        ",
    );
}

#[test]
fn r8_1_records_ahead_are_released_once_their_time_has_come() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T10:05:01Z -> quarantined ahead
        release acme r1                                        -> still_unbookable_ahead
        at 2026-11-20T10:00:01Z
        release acme r1                                        -> ok released
        usage acme k1 m in=1000000 id=r2 time=2026-01-01T00:00:01Z -> quarantined too_old
        # Whoever releases it knows that it is no repetition.
        release acme r2                                        -> ok released
        spend acme web day=2026-01-01                          -> cost 1
        statement acme 2026-11                                 -> usage 2/0
        # A number that is still too far ahead could not be counted: it would be booked again once within reach.
        usage acme k1 m in=1 id=r3 seq=1                       -> booked
        usage acme k1 m in=1 id=r4 seq=1048578                 -> quarantined sequence_ahead
        release acme r4                                        -> still_unbookable_sequence_ahead
        usage acme k1 m in=1 id=r5 seq=2                       -> booked
        release acme r4                                        -> ok released
        usage acme k1 m in=1 id=r4 seq=1048578                 -> duplicate
        ",
    );
}

#[test]
fn r8_3_usage_is_booked_whatever_became_of_its_key_and_project() {
    check_shop(
        "
        key acme web k2
        revoke acme web k1                                     -> ok revoked k1 requested
        usage acme k1 m in=1000000 id=r1                       -> booked
        archive acme web                                       -> ok revoked k2 project_archived
        usage acme k2 m in=1000000 id=r2                       -> booked
        usage acme project:web m in=1000000 id=r3              -> booked
        # And when it occurred before they existed.
        usage acme k1 m in=1000000 id=r4 time=2026-11-01T00:00:00Z -> booked
        spend acme web month=2026-11                           -> cost 4 requests 4
        balance acme                                           -> cash -4
        ",
    );
}
