//! R1 Organizations.

use tollbook_schemas::entry::{Actor, Body, Cause, Decision};
use tollbook_schemas::event::{Event, OrganizationEvent};
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::topic::Topic;
use tollbook_tests::script::{check, org};

#[test]
fn r1_1_an_organization_is_registered_once_and_its_creator_is_a_member() {
    check(
        "
        project acme web                      -> organization_not_found
        key acme web k1                       -> organization_not_found
        recharge acme 1 ref=a                 -> organization_not_found
        organization acme zone=Asia/Kolkata   -> ok
        organization acme                     -> organization_exists
        project acme web                      -> ok
        key acme web k1                       -> ok
        key acme web k2 member=creator        -> ok
        key acme web k3 member=stranger       -> member_not_found
        key acme shop k4                      -> project_not_found
        organization beta                     -> ok
        key beta web k5                       -> project_not_found
        ",
    );
}

#[test]
fn r1_2_at_most_20_projects() {
    check(
        "
        organization acme
        projects acme 19
        project acme web     -> ok
        project acme shop    -> project_limit 20/20
        project acme shop    -> project_limit 20/20
        restart
        project acme shop    -> project_limit 20/20
        organization beta
        project beta web     -> ok
        ",
    );
}

#[test]
fn r1_2_at_most_50_keys_of_the_whole_organization() {
    check(
        "
        organization acme
        project acme web
        project acme shop
        keys acme web 30
        keys acme shop 19
        key acme web k1      -> ok
        key acme web k2      -> api_key_limit 50/50
        key acme shop k2     -> api_key_limit 50/50
        # What it is about is looked up first.
        key acme none k2     -> project_not_found
        project acme more    -> ok
        key acme more k2     -> api_key_limit 50/50
        ",
    );
}

#[test]
fn r1_5_one_currency() {
    check(
        "
        price m input=1 currency=EUR   -> currency_mismatch
        price m input=1 currency=USD   -> ok
        ",
    );
}

/// An organization with a few projects, and the limits small enough to be seen.
const LIMITED: &str = "
    organization acme
    project acme web
    project acme shop
    key acme web k1
    key acme shop k2
";

#[track_caller]
fn check_limited(script: &str) {
    check(&format!("{LIMITED}{script}"));
}

#[test]
fn r1_1_a_new_organization_is_unverified_in_utc_with_its_creator_as_administrator() {
    check(
        "
        organization acme creator=ann
        profile acme                          -> level unverified zone UTC zone_next none creator ann
        members acme                          -> ann:administrator
        by ann project acme web               -> ok
        by creator project acme shop          -> not_a_member
        organization acme creator=bob         -> organization_exists
        profile acme                          -> creator ann
        ",
    );
}

#[test]
fn r1_2_enterprise_verification_allows_50_projects_and_100_keys() {
    check(
        "
        organization acme
        used acme                             -> projects 0/20 keys 0/50
        level acme verified
        used acme                             -> projects 0/20 keys 0/50
        projects acme 19
        project acme web                      -> ok
        keys acme web 50
        project acme shop                     -> project_limit 20/20
        key acme web k51                      -> api_key_limit 50/50
        level acme enterprise_verified
        used acme                             -> projects 20/50 keys 50/100
        projects acme 30
        project acme shop                     -> project_limit 50/50
        keys acme web 49
        key acme web k100                     -> ok
        key acme web k101                     -> api_key_limit 100/100
        restart
        key acme web k101                     -> api_key_limit 100/100
        ",
    );
}

#[test]
fn r1_2_what_is_archived_or_revoked_does_not_count() {
    check_limited(
        "
        limits acme projects=2 keys=3
        key acme web k3                       -> ok
        project acme more                     -> project_limit 2/2
        key acme web k4                       -> api_key_limit 3/3
        revoke acme web k3                    -> ok revoked k3 requested
        used acme                             -> projects 2/2 keys 2/3
        key acme web k4                       -> ok
        key acme web k5                       -> api_key_limit 3/3
        # An archived project takes its keys along.
        archive acme web                      -> ok revoked k1 project_archived revoked k4 project_archived
        used acme                             -> projects 1/2 keys 1/3
        project acme more                     -> ok
        project acme yet                      -> project_limit 2/2
        key acme more k5                      -> ok
        key acme more k6                      -> ok
        key acme more k7                      -> api_key_limit 3/3
        # Archiving or revoking once more frees nothing.
        archive acme web                      -> same
        revoke acme web k3                    -> same
        used acme                             -> projects 2/2 keys 3/3
        ",
    );
}

#[test]
fn r1_2_the_operator_overrides_either_number() {
    check_limited(
        "
        limits acme projects=3                -> ok
        overrides acme                        -> projects 3 keys none
        used acme                             -> projects 2/3 keys 2/50
        limits acme keys=2                    -> ok
        overrides acme                        -> projects 3 keys 2
        project acme more                     -> ok
        project acme yet                      -> project_limit 3/3
        key acme web k3                       -> api_key_limit 2/2
        limits acme projects=3 keys=2         -> same
        # An override is above the level's number, whichever is more.
        level acme enterprise_verified
        used acme                             -> projects 3/3 keys 2/2
        limits acme projects=60               -> ok
        used acme                             -> projects 3/60 keys 2/2
        limits acme projects=none             -> ok
        used acme                             -> projects 3/50 keys 2/2
        limits acme projects=none             -> same
        limits acme keys=none                 -> ok
        overrides acme                        -> projects none keys none
        used acme                             -> projects 3/50 keys 2/100
        limits acme projects=0 keys=0         -> ok
        project acme yet                      -> project_limit 3/0
        key acme web k3                       -> api_key_limit 2/0
        # Nobody else's are touched.
        organization beta
        used beta                             -> projects 0/20 keys 0/50
        ",
    );
}

#[test]
fn r1_2_quantity_limits_are_configuration() {
    check_limited(
        "
        quantities default=20/50 enterprise=50/100 -> same
        quantities default=3/4                -> ok
        used acme                             -> projects 2/3 keys 2/4
        level acme enterprise_verified
        used acme                             -> projects 2/50 keys 2/100
        quantities enterprise=4/3             -> ok
        used acme                             -> projects 2/4 keys 2/3
        limits acme projects=7
        quantities enterprise=1/1 request=k/1 -> ok
        quantities enterprise=1/1 request=k/1 -> same
        quantities enterprise=1/2 request=k/2 -> idempotency_conflict
        used acme                             -> projects 2/7 keys 2/1
        restart
        key acme web k3                       -> api_key_limit 2/1
        by creator quantities default=9/9     -> role_missing
        by invitee quantities default=9/9     -> role_missing
        ",
    );
}

#[test]
fn r1_3_lowering_a_level_deletes_nothing() {
    check(
        "
        organization acme
        level acme enterprise_verified
        projects acme 29
        project acme web                      -> ok
        keys acme web 59
        key acme web k1                       -> ok
        level acme verified                   -> ok
        used acme                             -> projects 30/20 keys 60/50
        project acme shop                     -> project_limit 30/20
        key acme web k2                       -> api_key_limit 60/50
        # All that is there goes on.
        rename acme web Web                   -> ok
        revoke acme web k1                    -> ok revoked k1 requested
        used acme                             -> projects 30/20 keys 59/50
        key acme web k2                       -> api_key_limit 59/50
        level acme unverified                 -> ok
        used acme                             -> projects 30/20 keys 59/50
        level acme enterprise_verified        -> ok
        key acme web k2                       -> ok
        ",
    );
}

#[test]
fn r1_3_lowering_an_override_or_the_configuration_deletes_nothing() {
    check_limited(
        "
        limits acme projects=1 keys=1         -> ok
        used acme                             -> projects 2/1 keys 2/1
        key-states acme                       -> k1:creator k2:creator
        project acme more                     -> project_limit 2/1
        key acme web k3                       -> api_key_limit 2/1
        limits acme projects=none keys=none   -> ok
        quantities default=1/1                -> ok
        used acme                             -> projects 2/1 keys 2/1
        project acme more                     -> project_limit 2/1
        key acme web k3                       -> api_key_limit 2/1
        restart
        key-states acme                       -> k1:creator k2:creator
        quantities default=3/3                -> ok
        project acme more                     -> ok
        key acme more k3                      -> ok
        ",
    );
}

#[test]
fn r1_4_creator_and_administrators_change_name_and_address() {
    check(
        "
        organization acme
        level acme enterprise_verified
        invite acme i1 role=administrator
        accept acme i1 ann                    -> ok ann administrator
        by creator change acme name=New       -> ok
        profile acme                          -> name New
        by ann change acme name=Newer email=0 -> ok
        profile acme                          -> name Newer
        by ann change acme name=Newer         -> same
        change acme                           -> same
        ",
    );
}

#[test]
fn r1_4_a_new_zone_holds_from_the_next_month() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        change acme zone=Asia/Tokyo           -> ok from 2026-12
        profile acme                          -> zone UTC zone_next Asia/Tokyo
        change acme zone=Asia/Tokyo           -> same
        at 2026-11-30T15:30:00Z
        profile acme                          -> zone UTC day 2026-11-30
        at 2026-11-30T23:59:59.999999999Z
        profile acme                          -> zone UTC day 2026-11-30
        at 2026-12-01T00:00:00Z
        profile acme                          -> zone Asia/Tokyo zone_next none day 2026-12-01
        restart
        at 2026-12-01T14:59:59Z
        profile acme                          -> day 2026-12-01
        at 2026-12-01T15:00:00Z
        profile acme                          -> day 2026-12-02
        ",
    );
}

#[test]
fn r1_4_the_next_month_is_the_organizations() {
    check(
        "
        # In Tokyo December has begun.
        at 2026-11-30T15:30:00Z
        organization acme zone=Asia/Tokyo
        change acme zone=UTC                  -> ok from 2027-01
        at 2026-12-31T14:59:59Z
        profile acme                          -> zone Asia/Tokyo zone_next UTC day 2026-12-31
        at 2026-12-31T15:00:00Z
        profile acme                          -> zone UTC day 2027-01-01
        at 2027-01-01T23:59:59Z
        profile acme                          -> day 2027-01-01
        at 2027-01-02T00:00:00Z
        profile acme                          -> day 2027-01-02
        ",
    );
}

#[test]
fn r1_4_a_change_that_has_not_begun_can_be_changed_or_taken_back() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme zone=Europe/Berlin
        change acme zone=Asia/Tokyo           -> ok from 2026-12
        change acme zone=Asia/Kolkata         -> ok from 2026-12
        profile acme                          -> zone Europe/Berlin zone_next Asia/Kolkata
        change acme zone=Europe/Berlin        -> ok from 2026-12
        profile acme                          -> zone Europe/Berlin zone_next none
        at 2026-12-15T10:00:00Z
        profile acme                          -> zone Europe/Berlin
        change acme zone=Europe/Berlin        -> same
        ",
    );
}

/// No day or month is cut or repeated: what was consumed before belongs where it always did.
#[test]
fn r1_4_consumption_around_the_change_of_zone() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme zone=America/Los_Angeles
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        change acme zone=Asia/Tokyo                                                  -> ok from 2026-12
        # Still the 30th in Los Angeles, the 1st of December in Tokyo.
        at 2026-12-01T07:59:59Z
        usage acme k1 m in=1000000 id=r1                                             -> booked
        at 2026-12-01T08:00:00Z
        usage acme k1 m in=2000000 id=r2                                             -> booked
        # Late usage of the time before stays there.
        usage acme k1 m in=4000000 id=r3 time=2026-12-01T07:00:00Z                   -> booked
        at 2026-12-01T14:59:59Z
        usage acme k1 m in=8000000 id=r4                                             -> booked
        at 2026-12-01T15:00:00Z
        usage acme k1 m in=16000000 id=r5                                            -> booked
        restart
        usage acme k1 m in=32000000 id=r6 time=2026-11-30T07:59:59Z                  -> booked
        spend acme web day=2026-11-29                                                -> cost 32
        spend acme web day=2026-11-30                                                -> cost 5
        spend acme web day=2026-12-01                                                -> cost 10
        spend acme web day=2026-12-02                                                -> cost 16
        spend acme web month=2026-11                                                 -> cost 37
        spend acme web month=2026-12                                                 -> cost 26 pending 26
        close                                                                        -> cycles 1614
        spend acme web month=2026-12                                                 -> settled 26 pending 0
        ",
    );
}

/// A change that is decided in one month and recorded in the next does not cut the one that has begun.
#[test]
fn r1_4_a_change_recorded_after_its_month_began_waits_for_the_next() {
    let mut ledger = check("at 2026-11-30T23:59:59Z\norganization acme");
    ledger.now = "2026-12-01T00:00:01Z".parse().unwrap();
    let month = |text: &str| text.parse::<Month>().unwrap();
    let changed =
        OrganizationEvent::ZoneChanged { zone: "Asia/Tokyo".parse().unwrap(), from: month("2026-12") };
    let decision = Decision {
        term: ledger.state.head().term,
        actor: Actor::Operator { token: None },
        cause: Cause::Command { idempotency: None },
        events: vec![Event::Organization(changed)],
    };
    let entry = ledger.entry(Body::Decision(decision));
    ledger.append(&Topic::Organization(org("acme")), &entry).unwrap();
    let calendar = &ledger.state.organization(&org("acme")).unwrap().calendar;
    let zone = |at: &str| calendar.zone_at(at.parse::<Timestamp>().unwrap()).name().to_owned();
    assert_eq!(zone("2026-12-31T23:59:59Z"), "UTC");
    assert_eq!(zone("2027-01-01T00:00:00Z"), "Asia/Tokyo");
}
