//! R9 Personal data: what State has to do with it, erasure and the keys that fields are sealed under.

use tollbook_tests::script::check;

const ACME: &str = "
    organization acme
    level acme enterprise_verified
    change acme name=Old
    invite acme i1 role=administrator
    accept acme i1 ann                        -> ok ann administrator
    invite acme i2
";

#[track_caller]
fn check_acme(script: &str) {
    check(&format!("{ACME}{script}"));
}

#[test]
fn r9_2_what_was_sealed_under_an_erased_key_is_refused() {
    check_acme(
        "
        profile acme                          -> contact_key 0 email 0
        invite acme i3 sealed=1               -> contacts_erased
        erase acme                            -> ok
        profile acme                          -> contact_key 1 email 0
        change acme email=0                   -> contacts_erased
        change acme name=New email=0          -> contacts_erased
        profile acme                          -> email 0 name Old
        invite acme i3                        -> contacts_erased
        invite acme i3 sealed=2               -> contacts_erased
        accept acme i2 bob                    -> contacts_erased
        accept acme i2 bob sealed=1           -> ok bob member
        invite acme i3 sealed=1               -> ok
        invite acme i4 sealed=none            -> ok
        change acme email=1                   -> ok
        profile acme                          -> contact_key 1 email 1
        restart
        change acme email=0                   -> contacts_erased
        # What has no personal data goes on.
        change acme name=New                  -> ok
        by ann project acme web               -> ok
        ",
    );
}

#[test]
fn r9_2_erasing_twice_changes_nothing() {
    check_acme(
        "
        erase acme                            -> ok
        erase acme                            -> same
        restart
        erase acme                            -> same
        profile acme                          -> contact_key 1
        # Whatever new there is can be erased in its turn: an invitation's address, a member, the organization's own.
        invite acme i3 sealed=1               -> ok
        erase acme                            -> ok
        erase acme                            -> same
        accept acme i3 bob sealed=2           -> ok bob member
        erase acme                            -> ok
        erase acme                            -> same
        change acme email=3                   -> ok
        erase acme                            -> ok
        erase acme                            -> same
        profile acme                          -> contact_key 4 email 3
        by ann erase acme                     -> role_missing
        by creator erase acme                 -> role_missing
        ",
    );
}

#[test]
fn r9_2_each_organization_has_keys_of_its_own() {
    check_acme(
        "
        organization beta
        erase acme                            -> ok
        profile beta                          -> contact_key 0
        change beta email=0                   -> ok
        change beta email=1                   -> contacts_erased
        ",
    );
}

/// Digests cover ciphertext: erasing changes State by an event of its own, and nothing that came before.
#[test]
fn r9_2_erasing_leaves_members_and_invitations_as_they_were() {
    check_acme(
        "
        members acme                          -> ann:administrator creator:administrator
        erase acme                            -> ok
        members acme                          -> ann:administrator creator:administrator
        open-invitations acme                 -> i2
        ",
    );
}

/// The log keeps what it says of members who were removed and of addresses that were replaced.
#[test]
fn r9_2_erasing_covers_those_who_are_gone() {
    check_acme(
        "
        erase acme                            -> ok
        accept acme i2 bob sealed=1           -> ok bob member
        remove acme bob                       -> ok
        # Bob's name and address stand in the log, under key 1.
        erase acme                            -> ok
        profile acme                          -> contact_key 2
        erase acme                            -> same
        ",
    );
}
