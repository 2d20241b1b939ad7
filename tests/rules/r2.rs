//! R2 IP allowlist. What may stand in a list is tested beside its parser, in `schemas/src/allowlist/tests.rs`.

use tollbook_tests::script::check;

#[test]
fn r2_1_a_new_organization_has_no_restriction() {
    check(
        "
        organization acme
        allowlist acme                                      -> none
        ",
    );
}

#[test]
fn r2_2_saving_replaces_the_whole_list_and_saving_nothing_lifts_it() {
    check(
        "
        organization acme
        organization beta
        level acme verified
        allow acme 203.0.113.4, 198.51.100.0/24 52.94.76.0/22 13.107.42.0/24 -> ok
        allowlist acme -> 203.0.113.4 198.51.100.0/24 52.94.76.0/22 13.107.42.0/24
        allow acme 203.0.113.4 198.51.100.0/24 52.94.76.0/22 13.107.42.0/24  -> same
        allow acme 8.8.8.8                                  -> ok
        allowlist acme                                      -> 8.8.8.8
        restart
        allowlist acme                                      -> 8.8.8.8
        # Another order is another list.
        allow acme 8.8.8.8 1.1.1.1                          -> ok
        allow acme 1.1.1.1 8.8.8.8                          -> ok
        allowlist acme                                      -> 1.1.1.1 8.8.8.8
        allow acme                                          -> ok
        allowlist acme                                      -> none
        allow acme                                          -> same
        allowlist beta                                      -> none
        ",
    );
}

#[test]
fn r2_3_who_may_save_follows_the_level() {
    check(
        "
        organization acme
        level acme enterprise_verified
        invite acme i1 role=administrator
        accept acme i1 ann                                  -> ok ann administrator
        invite acme i2
        accept acme i2 bob                                  -> ok bob member
        by ann allow acme 8.8.8.8                           -> ok
        by creator allow acme 1.1.1.1                       -> ok
        by bob allow acme                                   -> role_missing
        level acme verified
        by ann allow acme                                   -> role_missing
        by bob allow acme                                   -> role_missing
        by creator allow acme 9.9.9.9                       -> ok
        level acme unverified
        by creator allow acme                               -> verification_missing
        by operator allow acme                              -> verification_missing
        # What was saved stays, and stays in force.
        allowlist acme                                      -> 9.9.9.9
        level acme verified
        by operator allow acme                              -> ok
        allowlist acme                                      -> none
        ",
    );
}
