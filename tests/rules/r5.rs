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

#[test]
fn r5_4_a_projects_tpm_limit_is_accepted_and_clamped() {
    check(
        "
        organization acme
        project acme web
        recharge acme 1 ref=1
        in-force acme web                  -> tpm 500000 asked none project 500000 clamped no
        tpm acme web 1000                  -> ok
        tpm acme web 1000                  -> same
        in-force acme web                  -> tpm 500000 asked 1000 project 1000 clamped no
        tpm acme web 500000                -> ok
        in-force acme web                  -> asked 500000 project 500000 clamped no
        tpm acme web 500001                -> ok
        in-force acme web                  -> asked 500001 project 500000 clamped yes
        # What was asked for is kept, for when the organization's limit rises.
        recharge acme 9 ref=2              -> ok voucher 5
        in-force acme web                  -> tpm 2000000 asked 500001 project 500001 clamped no
        limits acme tpm=7
        in-force acme web                  -> tpm 7 asked 500001 project 7 clamped yes
        restart
        tpm acme web none                  -> ok
        in-force acme web                  -> asked none project 7 clamped no
        tpm acme web none                  -> same
        tpm acme none 5                    -> project_not_found
        ",
    );
}

#[test]
fn r5_5_in_an_override_what_is_absent_stays_and_none_removes() {
    check(
        "
        organization acme
        organization beta
        recharge acme 1 ref=1
        recharge beta 1 ref=1
        in-force acme                      -> concurrency 1 rpm 3 tpm 500000 tpd 1500000
        limits acme concurrency=9 rpm=8 tpm=7 tpd=6 -> ok
        overrides acme                     -> projects none keys none concurrency 9 rpm 8 tpm 7 tpd 6
        in-force acme                      -> concurrency 9 rpm 8 tpm 7 tpd 6
        limits acme rpm=80                 -> ok
        overrides acme                     -> concurrency 9 rpm 80 tpm 7 tpd 6
        limits acme tpm=none projects=3    -> ok
        overrides acme                     -> projects 3 keys none concurrency 9 rpm 80 tpm none tpd 6
        in-force acme                      -> concurrency 9 rpm 80 tpm 500000 tpd 6
        limits acme                        -> same
        limits acme rpm=80 tpm=none        -> same
        restart
        overrides acme                     -> projects 3 keys none concurrency 9 rpm 80 tpm none tpd 6
        limits acme concurrency=none rpm=none tpd=none keys=4 -> ok
        overrides acme                     -> projects 3 keys 4 concurrency none rpm none tpm none tpd none
        in-force acme                      -> concurrency 1 rpm 3 tpm 500000 tpd 1500000
        # An override may be lower or higher than the tier, and outlives it.
        limits acme rpm=100                -> ok
        recharge acme 3000 ref=2           -> ok voucher 5
        in-force acme                      -> concurrency 1000 rpm 100 tpm 5000000 tpd none
        overrides beta                     -> projects none keys none concurrency none rpm none tpm none tpd none
        in-force beta                      -> concurrency 1 rpm 3 tpm 500000 tpd 1500000
        ",
    );
}

/// Every row of the table a new ledger starts with, at its border and a unit of 10⁻¹² below it.
#[test]
fn r5_1_every_row_of_the_table_at_its_border() {
    let rows = [
        (1, "concurrency 1 rpm 3 tpm 500000 tpd 1500000"),
        (10, "concurrency 50 rpm 200 tpm 2000000 tpd none"),
        (20, "concurrency 100 rpm 500 tpm 3000000 tpd none"),
        (100, "concurrency 200 rpm 5000 tpm 3000000 tpd none"),
        (1_000, "concurrency 400 rpm 5000 tpm 4000000 tpd none"),
        (3_000, "concurrency 1000 rpm 10000 tpm 5000000 tpd none"),
    ];
    let mut below = ("none".to_owned(), "concurrency none rpm none tpm none tpd none");
    for (number, (from, limits)) in rows.into_iter().enumerate() {
        let (before, limits_before) = &below;
        let voucher = if from >= 10 { " voucher 5" } else { "" };
        check(&format!(
            "
            organization acme
            recharge acme {}.999999999999 ref=a       -> ok{voucher}
            balance acme                              -> tier {before}
            in-force acme                             -> {limits_before}
            recharge acme 0.000000000001 ref=b        -> ok
            balance acme                              -> tier Tier{number} recharged {from}
            in-force acme                             -> {limits}
            # And down again.
            reverse acme b ref=c                      -> ok taken 0.000000000001
            balance acme                              -> tier {before}
            in-force acme                             -> {limits_before}
            ",
            from - 1
        ));
        below = (format!("Tier{number}"), limits);
    }
}

#[test]
fn r5_1_a_tier_table_is_data_with_a_date() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        recharge acme 3 ref=a                                        -> ok
        tiers Small:1 Small2:1                                       -> tiers_unordered
        tiers Small:2 Large:1                                        -> tiers_unordered
        tiers Free:0 Large:1                                         -> tiers_unordered
        tiers Small:1 Large:3 from=2026-11-20T09:59:59.999999999Z    -> tiers_in_the_past
        tiers Small:1 Large:3 from=2026-11-21T00:00:00Z              -> ok
        tiers Small:1 Large:3 from=2026-11-21T00:00:00Z              -> same
        balance acme                                                 -> tier Tier0
        at 2026-11-21T00:00:00Z
        balance acme                                                 -> tier Large
        tiers Small:1 Large:3 from=2026-11-21T00:00:00Z              -> same
        tiers Small:1 Large:3.000000000001                           -> ok
        balance acme                                                 -> tier Small
        restart
        balance acme                                                 -> tier Small
        # The clock was put back.
        at 2026-11-20T23:00:00Z
        tiers Other:1 from=2026-11-20T23:30:00Z                      -> tiers_in_the_past
        ",
    );
}

#[test]
fn r5_5_everybodys_limits_are_scaled_until_an_instant() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        recharge acme 1 ref=a              -> ok
        organization beta
        recharge beta 10 ref=a             -> ok voucher 5
        scale 0.5 until=2026-11-20T09:00:00Z -> rate_scale_over
        scale 0.5 until=2026-11-20T10:00:00Z -> rate_scale_over
        scale none                         -> same
        scale 1 until=2026-11-20T11:00:00Z -> same
        scale 0.5 until=2026-11-20T11:00:00Z -> ok
        scale 0.5 until=2026-11-20T11:00:00Z -> same
        # Rounded down, never below 1; what is unlimited stays so.
        in-force acme                      -> concurrency 1 rpm 1 tpm 250000 tpd 750000 scaled yes
        in-force beta                      -> concurrency 25 rpm 100 tpm 1000000 tpd none scaled yes
        scale 0.001 until=2026-11-20T11:00:00Z -> ok
        in-force acme                      -> concurrency 1 rpm 1 tpm 500 tpd 1500
        scale 0.333 until=2026-11-20T11:00:00Z -> ok
        in-force beta                      -> concurrency 16 rpm 66 tpm 666000 tpd none
        restart
        in-force beta                      -> concurrency 16 rpm 66 tpm 666000 tpd none
        at 2026-11-20T10:59:59.999999999Z
        in-force beta                      -> concurrency 16 scaled yes
        at 2026-11-20T11:00:00Z
        in-force beta                      -> concurrency 50 rpm 200 tpm 2000000 tpd none scaled no
        in-force acme                      -> concurrency 1 rpm 3 tpm 500000 tpd 1500000 scaled no
        # What is over is not there to end, nor to repeat.
        scale none                         -> same
        scale 0.333 until=2026-11-20T11:00:00Z -> rate_scale_over
        ",
    );
}

#[test]
fn r5_5_a_scale_is_replaced_and_ended_early() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        recharge acme 1 ref=a              -> ok
        scale 0.5 until=2026-11-20T11:00:00Z why=crowded -> ok
        scale 0.5 until=2026-11-20T11:00:00Z why=other   -> ok
        scale 0.5 until=2026-11-20T12:00:00Z why=other   -> ok
        at 2026-11-20T11:30:00Z
        in-force acme                      -> tpm 250000 scaled yes
        scale none                         -> ok
        in-force acme                      -> tpm 500000 scaled no
        scale none                         -> same
        scale 0.5 until=2026-11-20T12:00:00Z why=other   -> ok
        # A factor of 1 scales nothing.
        scale 1 until=2026-11-20T12:00:00Z               -> ok
        in-force acme                      -> tpm 500000 scaled no
        restart
        in-force acme                      -> tpm 500000 scaled no
        # The clock was put back.
        at 2026-11-20T11:00:00Z
        scale 0.5 until=2026-11-20T11:30:00Z             -> rate_scale_over
        ",
    );
}

#[test]
fn r5_5_overrides_are_scaled_as_well_and_projects_are_clamped() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        recharge acme 1 ref=a              -> ok
        limits acme rpm=101 tpd=none concurrency=1 -> ok
        tpm acme web 300000                -> ok
        in-force acme web                  -> project 300000 clamped no
        scale 0.5 until=2026-11-21T00:00:00Z -> ok
        in-force acme web                  -> concurrency 1 rpm 50 tpm 250000 tpd 750000 project 250000 clamped yes
        limits acme rpm=3                  -> ok
        in-force acme                      -> rpm 1
        # What was overridden is shown as it was set.
        overrides acme                     -> rpm 3
        at 2026-11-21T00:00:00Z
        in-force acme web                  -> rpm 3 tpm 500000 project 300000 clamped no
        ",
    );
}

#[test]
fn r5_5_only_some_tiers_are_scaled() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization none
        organization acme
        recharge acme 1 ref=a              -> ok
        organization beta
        recharge beta 10 ref=a             -> ok voucher 5
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Tier9       -> tier_unknown
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Tier1,Tier9 -> tier_unknown
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Tier5,Tier1 -> ok
        # In whatever order they are named.
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Tier1,Tier5 -> same
        in-force none                      -> tpm none scaled no
        in-force acme                      -> rpm 3 tpm 500000 scaled no
        in-force beta                      -> rpm 100 tpm 1000000 scaled yes
        recharge acme 9 ref=b              -> ok voucher 5
        in-force acme                      -> rpm 100 tpm 1000000 scaled yes
        # A table that begins later knows other tiers.
        tiers Small:1 Tier1:20 from=2026-11-21T00:00:00Z       -> ok
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Small       -> tier_unknown
        at 2026-11-21T00:00:00Z
        in-force beta                      -> scaled no
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Tier5       -> tier_unknown
        scale 0.5 until=2026-11-22T00:00:00Z tiers=Small       -> ok
        in-force beta                      -> scaled yes
        recharge beta 10 ref=b             -> ok
        in-force beta                      -> scaled no
        ",
    );
}
