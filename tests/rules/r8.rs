//! R8 Usage records.

use std::fmt::Write;

use tollbook_tests::script::check;

/// A model at a dollar per million of input.
const SHOP: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    project acme web
    key acme web k1
    price m input=1 output=1 from=2026-01-01T00:00:00Z
";

#[track_caller]
fn check_shop(script: &str) {
    check(&format!("{SHOP}{script}"));
}

#[test]
fn r8_1_every_reason_for_quarantine_and_nothing_blocks_the_rest() {
    check_shop(
        "
        usage none k1 m in=1 id=r1                         -> quarantined unknown_organization
        usage acme none m in=1 id=r2                       -> quarantined unknown_key
        usage acme project:none m in=1 id=r3               -> quarantined unknown_project
        usage acme k1 none in=1 id=r4                      -> quarantined unknown_model
        usage acme k1 m in=1 meter.image=1 id=r5           -> quarantined unknown_meter
        usage acme k1 m in=1 id=r6                         -> booked
        usage acme k1 m in=2 id=r6                         -> quarantined conflicting_id
        usage acme k1 m in=1000000000001 id=r7             -> quarantined absurd
        usage acme k1 m out=1000000000001 id=r8            -> quarantined absurd
        usage acme k1 m in=1 cached=2 id=r9                -> quarantined absurd
        usage acme k1 m cost=-1 id=r10                     -> quarantined absurd
        usage acme k1 m cost=1 meter.image=1000000000001 id=r11 -> quarantined absurd
        usage acme k1 m in=1 id=r12 time=2026-11-20T10:05:00.000000001Z -> quarantined ahead
        usage acme k1 m in=1 id=r13 time=2026-09-19T09:59:59Z           -> quarantined too_old
        usage acme k1 m in=1 id=r14 seq=100000             -> booked
        usage acme k1 m in=1 id=r15 seq=1                  -> quarantined sequence_behind
        usage acme k1 m in=1 id=r16 seq=1148577            -> quarantined sequence_ahead
        unreadable acme                                    -> quarantined unreadable
        unreadable none                                    -> quarantined unreadable
        unreadable -                                       -> quarantined unreadable
        counts acme                                        -> booked 2 duplicates 0 quarantined 15
        balance acme                                       -> spent 0.000002
        restart
        usage acme k1 m in=1000000 id=r17                  -> booked
        ",
    );
}

#[test]
fn r8_1_the_bounds_themselves_are_booked() {
    check_shop(
        "
        usage acme k1 m in=1000000000000 out=1000000000000 id=r1         -> booked
        usage acme k1 m in=1 cached=1 id=r2                              -> booked
        usage acme k1 m id=r3                                            -> booked
        usage acme k1 m in=1 id=r4 time=2026-11-20T10:05:00Z             -> booked
        usage acme k1 m in=1 id=r5 time=2026-09-19T10:00:00Z             -> booked
        # A source that counts may be as late as it likes.
        usage acme k1 m in=1 id=r6 seq=1 time=2026-01-01T00:00:00Z       -> booked
        # Exactly 2^20 beyond the highest, and exactly a window behind it.
        usage acme k1 m in=1 id=r7 seq=1048577                           -> booked
        usage acme k1 m in=1 id=r8 seq=983042                            -> booked
        usage acme k1 m in=1 id=r9 seq=983041                            -> quarantined sequence_behind
        ",
    );
}

#[test]
fn r8_1_a_bad_record_spoils_no_entry() {
    check_shop(
        "
        batch
        usage acme k1 m in=1000000 id=r1
        usage none k1 m in=1000000 id=r1
        usage acme none m in=1000000 id=r2
        usage acme k1 none in=1000000 id=r3
        usage acme k1 m in=1 cached=2 id=r4
        usage acme k1 m in=1000000 id=r5
        usage acme k1 m in=1000000 id=r5
        usage acme k1 m in=2000000 id=r5
        end                                  -> booked 2 duplicates 1 quarantined 5
        balance acme                         -> cash -2
        counts acme                          -> booked 2 duplicates 1 quarantined 4
        ",
    );
}

#[test]
fn r8_1_a_quarantined_record_that_comes_again_is_a_duplicate() {
    check_shop(
        "
        usage acme k9 m in=1 id=r1                -> quarantined unknown_key
        usage acme k9 m in=1 id=r1                -> duplicate
        usage acme k9 m in=1 id=r2 seq=1          -> quarantined unknown_key
        usage acme k9 m in=1 id=r2 seq=1          -> duplicate
        # It waits to be released, also when its cause is mended.
        key acme web k9
        usage acme k9 m in=1 id=r1                -> duplicate
        counts acme                               -> booked 0 duplicates 3 quarantined 2
        ",
    );
}

#[test]
fn r8_2_the_same_id_counts_once() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1                      -> booked
        usage acme k1 m in=1000000 id=r1                      -> duplicate
        usage acme k1 m in=1000000 id=r1                      -> duplicate
        # Ids belong to their source and organization.
        usage acme k1 m in=1000000 id=r1 source=other         -> booked
        organization beta
        project beta web
        key beta web k1
        usage beta k1 m in=1000000 id=r1                      -> booked
        restart
        usage acme k1 m in=1000000 id=r1                      -> duplicate
        at 2027-01-20T09:00:00Z
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T10:00:00Z -> duplicate
        # And also when it is older than anything the index need tell apart.
        at 2027-06-20T10:00:00Z
        usage acme k1 m in=1000000 id=r1 time=2026-11-20T10:00:00Z -> duplicate
        usage acme k1 m in=1000000 id=r9 time=2026-11-20T10:00:00Z -> quarantined too_old
        balance acme                                          -> spent 2
        ",
    );
}

#[test]
fn r8_2_the_same_id_with_other_content_is_visible() {
    let ledger = check(&format!(
        "{SHOP}
        usage acme k1 m in=1 id=r1                                    -> booked
        usage acme k1 m in=2 id=r1                                    -> quarantined conflicting_id
        usage acme k1 m out=1 id=r1                                   -> quarantined conflicting_id
        usage acme k1 n in=1 id=r1                                    -> quarantined conflicting_id
        usage acme project:web m in=1 id=r1                           -> quarantined conflicting_id
        usage acme k1 m in=1 id=r1 cost=1                             -> quarantined conflicting_id
        usage acme k1 m in=1 id=r1 time=2026-11-20T09:00:00Z          -> quarantined conflicting_id
        usage acme k1 m in=1 id=r1 time=none                          -> quarantined conflicting_id
        # Whatever else was wrong with it: the first content stays the first.
        usage acme k1 m in=1 id=r1                                    -> duplicate
        # A time that we assumed is not part of the content.
        usage acme k1 m in=1 id=r2 time=none                          -> booked
        at 2026-11-20T10:00:01Z
        usage acme k1 m in=1 id=r2 time=none                          -> duplicate
        counts acme                                                   -> booked 2 duplicates 2 quarantined 7
        "
    ));
    let firsts: Vec<_> = ledger.quarantine.iter().map(|record| format!("{:?}", record.reason)).collect();
    assert!(firsts.iter().all(|reason| *reason == firsts[0]), "{firsts:?}");
}

#[test]
fn r8_2_the_same_count_counts_once_in_any_order() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r3 seq=3              -> booked
        usage acme k1 m in=1000000 id=r1 seq=1              -> booked
        usage acme k1 m in=1000000 id=r3 seq=3              -> duplicate
        usage acme k1 m in=1000000 id=r2 seq=2              -> booked
        usage acme k1 m in=1000000 id=r2 seq=2              -> duplicate
        usage acme k1 m in=1000000 id=r1 seq=1              -> duplicate
        usage acme k1 m in=1000000 id=r0 seq=0              -> duplicate
        # Counted by each source for each organization.
        usage acme k1 m in=1000000 id=r1 seq=1 source=other -> booked
        organization beta
        project beta web
        key beta web k1
        usage beta k1 m in=1000000 id=r1 seq=1              -> booked
        restart
        usage acme k1 m in=1000000 id=r2 seq=2              -> duplicate
        usage acme k1 m in=1000000 id=r4 seq=4              -> booked
        balance acme                                        -> spent 5
        ",
    );
}

#[test]
fn r8_2_repetitions_within_one_entry_and_over_entries() {
    check_shop(
        "
        batch
        usage acme k1 m in=1000000 id=r2 seq=2
        usage acme k1 m in=1000000 id=r1 seq=1
        usage acme k1 m in=1000000 id=r2 seq=2
        usage acme k1 m in=1000000 id=a source=b
        usage acme k1 m in=1000000 id=a source=b
        end                                       -> booked 3 duplicates 2 quarantined 0
        batch
        usage acme k1 m in=1000000 id=a source=b
        usage acme k1 m in=1000000 id=r2 seq=2
        usage acme k1 m in=1000000 id=r3 seq=3
        end                                       -> booked 1 duplicates 2 quarantined 0
        balance acme                              -> spent 4
        ",
    );
}

/// A hundred thousand records later, far beyond any window, the first still count once.
#[test]
fn r8_2_repetitions_are_found_beyond_any_window() {
    let mut script = SHOP.to_owned();
    for entry in 0..100 {
        script.push_str("batch\n");
        for row in 1..=1_000 {
            let number = entry * 1_000 + row;
            writeln!(script, "usage acme k1 m in=1 id=r{number} seq={number}").unwrap();
        }
        script.push_str("end -> booked 1000 duplicates 0 quarantined 0\n");
    }
    script.push_str(
        "
        usage acme k1 m in=1 id=r1 seq=1            -> duplicate
        usage acme k1 m in=1 id=r50000 seq=50000    -> duplicate
        usage acme k1 m in=1 id=r100000 seq=100000  -> duplicate
        usage acme k1 m in=1 id=r100001 seq=100001  -> booked
        counts acme                                 -> booked 100001 duplicates 3 quarantined 0
        balance acme                                -> spent 0.100001
        ",
    );
    check(&script);
}

#[test]
fn r8_3_late_usage_counts_in_its_day_and_month_and_moves_money_now() {
    check_shop(
        "
        usage acme k1 m in=1000000 id=r1 time=2026-11-19T23:59:59Z       -> booked
        usage acme k1 m in=1000000 id=r2 time=2026-10-31T23:59:59.9Z     -> booked
        usage acme k1 m in=1000000 id=r3                                 -> booked
        at 2026-12-01T00:00:00Z
        usage acme k1 m in=1000000 id=r4 time=2026-11-30T23:59:59Z       -> booked
        usage acme k1 m in=1000000 id=r5                                 -> booked
        usage acme k1 m in=1000000 id=r6 time=2026-11-20T10:00:00Z       -> booked
        spend acme web day=2026-11-19                                    -> cost 1 requests 1
        spend acme web day=2026-11-20                                    -> cost 2 requests 2
        spend acme web day=2026-11-30                                    -> cost 1
        spend acme web day=2026-12-01                                    -> cost 1
        spend acme web month=2026-10                                     -> cost 1
        spend acme web month=2026-11                                     -> cost 4
        spend acme web month=2026-12                                     -> cost 1 pending 1
        balance acme                                                     -> cash -6
        ",
    );
}

#[test]
fn r8_3_usage_is_booked_also_when_it_occurred_before_its_key_and_project() {
    check(
        "
        at 2026-11-20T10:00:00Z
        price m input=1 from=2026-01-01T00:00:00Z
        organization acme
        project acme web
        key acme web k1
        usage acme k1 m in=1000000 id=r1 time=2026-11-01T00:00:00Z           -> booked
        usage acme project:web m in=1000000 id=r2 time=2026-11-01T00:00:00Z  -> booked
        spend acme web day=2026-11-01                                        -> cost 2
        ",
    );
}

#[test]
fn r8_3_a_batch_of_many_days_is_the_same_as_one_by_one() {
    check_shop(
        "
        batch
        usage acme k1 m in=1000000 id=r1 time=2026-11-18T23:59:59Z
        usage acme k1 m in=2000000 id=r2 time=2026-11-19T00:00:00Z
        usage acme k1 m in=4000000 id=r3 time=2026-11-18T00:00:00Z
        usage acme k1 m in=8000000 id=r4 time=2026-11-20T00:00:00Z
        usage acme k1 m in=16000000 id=r5 time=2026-11-18T12:00:00Z
        usage acme k1 none in=1 id=r6 time=2026-11-17T12:00:00Z
        end                                    -> booked 5 duplicates 0 quarantined 1
        spend acme web day=2026-11-17          -> cost 0
        spend acme web day=2026-11-18          -> cost 21 requests 3
        spend acme web day=2026-11-19          -> cost 2
        spend acme web day=2026-11-20          -> cost 8
        ",
    );
}

#[test]
fn r8_4_consumption_by_project_model_and_key() {
    check_shop(
        "
        project acme shop
        key acme web k2
        key acme shop k3
        price n input=2 output=4 from=2026-01-01T00:00:00Z
        batch
        usage acme k1 m in=1000 cached=10 out=1 id=r1
        usage acme k2 m in=2000 cached=20 out=2 id=r2
        usage acme k1 n in=4000 cached=40 out=4 id=r3
        usage acme k3 n in=8000 cached=80 out=8 id=r4
        usage acme project:web n in=16000 out=16 id=r5
        end                                                -> booked 5
        spend acme web day=2026-11-20                      -> requests 4 input 23000 cached 70 output 23
        spend acme web day=2026-11-20 key=k1               -> requests 2 input 5000 cached 50 output 5
        spend acme web day=2026-11-20 key=k1 model=n       -> requests 1 input 4000 cost 0.007936
        spend acme web day=2026-11-20 key=none             -> requests 1 input 16000
        spend acme web day=2026-11-20 model=m              -> requests 2 input 3000 cost 0.002973
        spend acme shop month=2026-11                      -> requests 1 input 8000
        ",
    );
}
