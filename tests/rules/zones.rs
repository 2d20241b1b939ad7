//! Local days and months over changes of clocks (R1.1, R6.2, R8.3). Records carry `producerseq`, so that they may have
//! occurred at any time.

use tollbook_tests::script::check;

/// Books records of an organization in `zone`, one by one and all in one entry, forwards and backwards, and compares the
/// local day of each; `cases` are `instant day`.
#[track_caller]
fn check_days(zone: &str, cases: &str) {
    let cases: Vec<(&str, &str)> = cases
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(at, day)| (at, day.trim()))
        .collect();
    let mut script = "at 2040-01-01T00:00:00Z\nprice m input=1 from=1960-01-01T00:00:00Z\n".to_owned();
    for way in ["single", "batch", "backwards"] {
        script += &format!("organization {way} zone={zone}\nproject {way} web\nkey {way} web k1\n");
        let mut rows: Vec<String> = Vec::new();
        for (number, (at, _)) in (1..).zip(&cases) {
            let tokens = 1_000_000 * (1u64 << (number - 1));
            rows.push(format!("usage {way} k1 m in={tokens} id=r seq={number} time={at}"));
        }
        match way {
            "single" => {
                for row in rows {
                    script += &format!("{row} -> booked\n");
                }
            }
            _ => {
                if way == "backwards" {
                    rows.reverse();
                }
                script += &format!("batch\n{}\nend -> booked {}\n", rows.join("\n"), cases.len());
            }
        }
        for (_, day) in &cases {
            let cost: u64 =
                (0..).zip(&cases).filter(|(_, (_, other))| other == day).map(|(bit, _)| 1u64 << bit).sum();
            script += &format!("spend {way} web day={day} -> cost {cost}\n");
        }
    }
    check(&script);
}

#[test]
fn r8_3_days_of_berlin() {
    check_days(
        "Europe/Berlin",
        "2026-03-28T22:59:59.999999999Z 2026-03-28
         2026-03-28T23:00:00Z           2026-03-29
         2026-03-29T21:59:59.999999999Z 2026-03-29
         2026-03-29T22:00:00Z           2026-03-30
         2026-10-24T21:59:59Z           2026-10-24
         2026-10-24T22:00:00Z           2026-10-25
         2026-10-25T00:30:00Z           2026-10-25
         2026-10-25T01:30:00Z           2026-10-25
         2026-10-25T22:59:59Z           2026-10-25
         2026-10-25T23:00:00Z           2026-10-26
         2026-10-31T22:59:59.999999999Z 2026-10-31
         2026-10-31T23:00:00Z           2026-11-01",
    );
}

/// Clocks changed at midnight: a day that began at one o'clock, and one whose last hour came twice.
#[test]
fn r8_3_days_of_sao_paulo() {
    check_days(
        "America/Sao_Paulo",
        "2018-11-04T02:59:59.999999999Z 2018-11-03
         2018-11-04T03:00:00Z           2018-11-04
         2018-11-05T01:59:59Z           2018-11-04
         2018-11-05T02:00:00Z           2018-11-05
         2019-02-17T01:59:59Z           2019-02-16
         2019-02-17T02:00:00Z           2019-02-16
         2019-02-17T02:59:59.999999999Z 2019-02-16
         2019-02-17T03:00:00Z           2019-02-17
         2019-12-31T02:59:59Z           2019-12-30
         2019-12-31T03:00:00Z           2019-12-31",
    );
}

#[test]
fn r8_3_days_of_kolkata() {
    check_days(
        "Asia/Kolkata",
        "2026-11-19T18:29:59.999999999Z 2026-11-19
         2026-11-19T18:30:00Z           2026-11-20
         2026-11-30T18:29:59Z           2026-11-30
         2026-11-30T18:30:00Z           2026-12-01",
    );
}

/// There was no 30 December 2011.
#[test]
fn r8_3_days_of_apia() {
    check_days(
        "Pacific/Apia",
        "2011-12-29T09:59:59Z           2011-12-28
         2011-12-29T10:00:00Z           2011-12-29
         2011-12-30T09:59:59.999999999Z 2011-12-29
         2011-12-30T10:00:00Z           2011-12-31
         2011-12-31T09:59:59Z           2011-12-31
         2011-12-31T10:00:00Z           2012-01-01",
    );
}

#[test]
fn r8_3_days_of_lord_howe_and_kathmandu_and_los_angeles() {
    check_days(
        "Australia/Lord_Howe",
        "2026-04-04T12:59:59Z           2026-04-04
         2026-04-04T13:00:00Z           2026-04-05
         2026-04-05T13:29:59Z           2026-04-05
         2026-04-05T13:30:00Z           2026-04-06",
    );
    check_days(
        "Asia/Kathmandu",
        "2026-11-20T18:14:59Z           2026-11-20
         2026-11-20T18:15:00Z           2026-11-21",
    );
    check_days(
        "America/Los_Angeles",
        "2026-11-01T06:59:59Z           2026-10-31
         2026-11-01T07:00:00Z           2026-11-01
         2026-11-02T07:59:59Z           2026-11-01
         2026-11-02T08:00:00Z           2026-11-02",
    );
}

/// Until 2011 Newfoundland put its clocks back at one minute past midnight: a minute of the new day, then the last
/// hour of the old one once more.
#[test]
fn r8_3_days_of_st_johns() {
    check_days(
        "America/St_Johns",
        "2010-11-07T02:29:59Z           2010-11-06
         2010-11-07T02:30:30Z           2010-11-07
         2010-11-07T02:31:00Z           2010-11-06
         2010-11-07T03:29:59Z           2010-11-06
         2010-11-07T03:30:00Z           2010-11-07
         2010-11-08T03:29:59Z           2010-11-07",
    );
}

/// Budgets of a day begin at local midnight.
#[test]
fn r6_2_pending_and_settled_follow_the_local_day() {
    check(
        "
        at 2026-11-20T22:50:00Z
        organization acme zone=Europe/Berlin
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        usage acme k1 m in=1000000 id=r1                            -> booked
        spend acme web day=2026-11-20                               -> pending 1
        at 2026-11-20T23:01:00Z
        usage acme k1 m in=2000000 id=r2                            -> booked
        usage acme k1 m in=4000000 id=r3 time=2026-11-20T22:59:59Z  -> booked
        spend acme web day=2026-11-20                               -> pending 5 cost 5
        spend acme web day=2026-11-21                               -> pending 2 cost 2
        close                                                       -> cycles 1
        spend acme web day=2026-11-21                               -> settled 2 pending 0 cost 2
        spend acme web day=2026-11-20                               -> cost 5
        spend acme web month=2026-11                                -> settled 7 pending 0
        ",
    );
}

#[test]
fn r6_2_months_follow_the_local_day() {
    check(
        "
        at 2026-10-31T18:25:00Z
        organization acme zone=Asia/Kolkata
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        cycle 0                                       -> ok
        usage acme k1 m in=1000000 id=r1              -> booked
        spend acme web month=2026-10                  -> settled 1
        at 2026-10-31T18:30:00Z
        usage acme k1 m in=2000000 id=r2              -> booked
        spend acme web month=2026-11                  -> settled 2 cost 2
        spend acme web month=2026-10                  -> cost 1
        ",
    );
}
