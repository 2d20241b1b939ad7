//! Idempotency keys of commands about people, projects, keys and limits (R4.7; INTERFACES, HTTP): the same content
//! again changes nothing, another content is refused, also after a restart; refusals are not remembered.

use tollbook_tests::script::check;

#[test]
fn r4_7_the_same_request_happens_once_whatever_came_between() {
    check(
        "
        organization acme request=o/1             -> ok
        organization acme request=o/1             -> same
        organization acme request=o/2             -> idempotency_conflict
        level acme enterprise_verified request=l/1 -> ok
        level acme unverified                     -> ok
        # What it once asked for is not done again.
        level acme enterprise_verified request=l/1 -> same
        profile acme                              -> level unverified
        level acme enterprise_verified
        project acme web request=p/1              -> ok
        project acme web request=p/1              -> same
        project acme web request=p/2              -> idempotency_conflict
        project acme web                          -> project_exists
        invite acme i1 projects=web:member request=i/1 -> ok
        accept acme i1 ann request=a/1            -> ok ann member web member
        # Single use, and yet the same request is answered as it was.
        accept acme i1 ann request=a/1            -> same
        accept acme i1 bob request=a/2            -> idempotency_conflict
        by ann key acme web k1 request=k/1        -> ok
        key acme web k2                           -> ok
        by ann key acme web k1 request=k/1        -> same
        restart
        by ann key acme web k1 request=k/1        -> same
        by ann key acme web k3 request=k/3        -> idempotency_conflict
        accept acme i1 ann request=a/1            -> same
        organization acme request=o/1             -> same
        remove acme ann request=r/1               -> ok revoked k1 member_removed
        remove acme ann request=r/1               -> same
        remove acme ann                           -> member_not_found
        archive acme web request=x/1              -> ok revoked k2 project_archived
        archive acme web request=x/1              -> same
        archive acme web request=x/2              -> idempotency_conflict
        limits acme projects=3 request=m/1        -> ok
        limits acme projects=4
        limits acme projects=3 request=m/1        -> same
        overrides acme                            -> projects 4
        ",
    );
}

#[test]
fn r4_7_refusals_are_not_remembered_and_what_changes_nothing_is() {
    check(
        "
        organization acme
        limits acme projects=0
        project acme web request=p/1              -> project_limit 0/0
        project acme shop request=p/2             -> project_limit 0/0
        limits acme projects=1
        project acme web request=p/1              -> ok
        project acme web request=p/2              -> idempotency_conflict
        limits acme projects=1 request=m/1        -> noted
        limits acme projects=2 request=m/2        -> idempotency_conflict
        limits acme projects=3                    -> ok
        limits acme projects=1 request=m/1        -> same
        # It was a repetition: nothing changed by it.
        limits acme projects=3                    -> same
        ",
    );
}

#[test]
fn r4_7_keys_of_organizations_are_apart() {
    check(
        "
        organization acme request=o/1             -> ok
        organization beta request=o/2             -> ok
        project acme web request=p/1              -> ok
        project beta web request=p/2              -> ok
        quantities default=9/9 request=p/3        -> ok
        ",
    );
}

#[test]
fn r4_7_a_decision_that_was_void_is_not_remembered() {
    check(
        "
        organization acme
        takeover node2                            -> term 2
        stale project acme web request=p/1        -> void
        project acme web request=p/2              -> ok
        project acme web request=p/1              -> idempotency_conflict
        ",
    );
}

/// A repetition shows what is there now, so it is for those who may still see it.
#[test]
fn r3_whoever_lost_the_role_is_not_answered_again() {
    check(
        "
        organization acme
        level acme enterprise_verified
        invite acme i1 role=administrator
        accept acme i1 ann                             -> ok ann administrator
        by ann allow acme 203.0.113.4 request=a/1      -> ok
        by ann allow acme 203.0.113.4 request=a/1      -> same
        role acme ann member
        by ann allow acme 203.0.113.4 request=a/1      -> role_missing
        remove acme ann
        by ann allow acme 203.0.113.4 request=a/1      -> not_a_member
        allow acme 203.0.113.5 request=b/1             -> ok
        level acme unverified
        # The level is nobody's role: what was done stays answered.
        allow acme 203.0.113.5 request=b/1             -> same
        allow acme 203.0.113.6                         -> verification_missing
        ",
    );
}
