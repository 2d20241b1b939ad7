//! R3 Members, roles, invitations; who may do what is in `permissions.rs`.

use sha2::{Digest, Sha256};
use tollbook_tests::script::people::token;
use tollbook_tests::script::{check, key, org};

/// An organization with an administrator, a project administrator, a project member and a member, all with keys where
/// they may.
const ACME: &str = "
    at 2026-11-20T10:00:00Z
    organization acme
    level acme enterprise_verified
    project acme web
    project acme shop
    invite acme i1 role=administrator
    accept acme i1 ann                        -> ok ann administrator
    invite acme i2 projects=web:administrator
    accept acme i2 paul                       -> ok paul member web administrator
    invite acme i3 projects=web:member,shop:member
    accept acme i3 mia                        -> ok mia member web member shop member
    invite acme i4
    accept acme i4 max                        -> ok max member
    by ann key acme web a1
    by ann key acme shop a2
    by paul key acme web p1
    by mia key acme web m1
    by mia key acme shop m2
    by creator key acme web c1
";

#[track_caller]
fn check_acme(script: &str) {
    check(&format!("{ACME}{script}"));
}

#[test]
fn r3_1_members_reach_a_project_once_invited_to_it() {
    check_acme(
        "
        by max key acme web x1                -> role_missing
        by paul bring acme web max            -> ok web member
        by max key acme web x1                -> ok
        by max key acme shop x2               -> role_missing
        by max tpm acme web 5                 -> role_missing
        by paul team-role acme web max administrator -> ok web administrator
        by paul team-role acme web max administrator -> same
        by max tpm acme web 5                 -> ok
        team acme web                         -> max:administrator mia:member paul:administrator
        by mia bring acme web ann             -> role_missing
        by paul bring acme web nobody         -> member_not_found
        by paul bring acme web mia            -> member_exists
        by paul bring acme none max           -> role_missing
        by ann bring acme none max            -> project_not_found
        by paul team-role acme web creator member -> project_member_not_found
        by paul leave acme web creator        -> project_member_not_found
        ",
    );
}

#[test]
fn r3_2_organization_administrators_are_administrators_of_every_project() {
    check_acme(
        "
        team acme shop                        -> mia:member
        by ann tpm acme shop 7                -> ok
        by ann bring acme shop max            -> ok shop member
        by ann revoke acme shop m2            -> ok revoked m2 requested
        by ann role acme max administrator    -> ok
        by max key acme web x1                -> ok
        by max archive acme shop              -> ok revoked a2 project_archived
        ",
    );
}

#[test]
fn r3_3_an_invitation_is_for_one_new_member() {
    check_acme(
        "
        invite acme i9
        open-invitations acme                 -> i9
        accept acme i9 eve                    -> ok eve member
        open-invitations acme                 -> none
        accept acme i9 eve                    -> invitation_over
        accept acme i9 else                   -> invitation_over
        restart
        accept acme i9 else                   -> invitation_over
        # One who is a member already does not use it up.
        invite acme i10
        accept acme i10 eve                   -> member_exists
        accept acme i10 creator               -> member_exists
        accept acme i10 else                  -> ok else member
        accept acme wrong nobody              -> invitation_not_found
        # An id is not a second link.
        invite acme i10                       -> invitation_exists
        revoke-invitation acme i10            -> invitation_over
        revoke-invitation acme wrong          -> invitation_not_found
        ",
    );
}

#[test]
fn r3_3_an_invitation_of_another_organization_is_none() {
    check_acme(
        "
        organization beta creator=bea
        invite acme i9
        accept beta i9 eve                    -> invitation_not_found
        accept acme i9 bea                    -> ok bea member
        members beta                          -> bea:administrator
        by bea remove acme bea                -> role_missing
        ",
    );
}

#[test]
fn r3_3_an_invitation_expires_after_seven_days_to_the_second() {
    check_acme(
        "
        invite acme i9
        invite acme i10
        at 2026-11-27T09:59:59.999999999Z
        open-invitations acme                 -> i10 i9
        accept acme i9 eve                    -> ok eve member
        at 2026-11-27T10:00:00Z
        open-invitations acme                 -> none
        accept acme i10 else                  -> invitation_over
        revoke-invitation acme i10            -> invitation_over
        restart
        accept acme i10 else                  -> invitation_over
        # A clock that goes back opens nothing that the log has seen expire.
        level acme verified
        at 2026-11-27T09:00:00Z
        accept acme i10 else                  -> invitation_over
        ",
    );
}

#[test]
fn r3_3_an_invitation_can_be_revoked() {
    check_acme(
        "
        invite acme i9 role=administrator
        by max revoke-invitation acme i9      -> role_missing
        by ann revoke-invitation acme i9      -> ok
        accept acme i9 eve                    -> invitation_over
        by ann revoke-invitation acme i9      -> same
        ",
    );
}

#[test]
fn r3_3_inviting_needs_enterprise_verification_and_members_stay_when_it_ends() {
    check(
        "
        organization acme
        project acme web
        by creator invite acme i1             -> verification_missing
        level acme verified
        by creator invite acme i1             -> verification_missing
        by operator invite acme i1            -> verification_missing
        level acme enterprise_verified
        by creator invite acme i1             -> ok
        by creator invite acme i2 projects=web:administrator -> ok
        accept acme i1 ann                    -> ok ann member
        level acme unverified
        members acme                          -> ann:member creator:administrator
        by creator invite acme i3             -> verification_missing
        # What was sent out stays good, and can be taken back.
        accept acme i2 bob                    -> ok bob member web administrator
        by bob key acme web k1                -> ok
        by creator role acme ann administrator -> ok
        ",
    );
}

#[test]
fn r3_3_projects_archived_before_acceptance_are_skipped() {
    check_acme(
        "
        invite acme i9 projects=web:administrator,shop:member
        invite acme i10 projects=web:member
        archive acme web                      -> ok revoked a1 project_archived revoked c1 project_archived revoked m1 project_archived revoked p1 project_archived
        invite acme i11 projects=web:member   -> project_archived
        invite acme i11 projects=none:member  -> project_not_found
        accept acme i9 eve                    -> ok eve member shop member
        accept acme i10 else                  -> ok else member
        ",
    );
}

#[test]
fn r3_4_everyone_makes_their_own_keys() {
    check_acme(
        "
        by paul key acme web x1 member=mia    -> api_key_of_another
        by ann key acme web x1 member=mia     -> api_key_of_another
        by creator key acme web x1 member=mia -> api_key_of_another
        by mia key acme web x1 member=mia     -> ok
        # The platform acts for whoever is in the project.
        key acme web x2 member=mia            -> ok
        key acme web x3 member=ann            -> ok
        key acme web x4 member=max            -> not_in_project
        key acme web x4 member=nobody         -> member_not_found
        key acme web x4                       -> ok
        key-states acme -> a1:ann a2:ann c1:creator m1:mia m2:mia p1:paul x1:mia x2:mia x3:ann x4:creator
        ",
    );
}

#[test]
fn r3_4_leaving_a_project_takes_ones_keys_in_it_and_no_others() {
    check_acme(
        "
        entries                               -> 20
        by paul leave acme web mia            -> ok revoked m1 member_removed
        entries                               -> 21
        key-states acme -> a1:ann a2:ann c1:creator m1:member_removed m2:mia p1:paul
        team acme web                         -> paul:administrator
        team acme shop                        -> mia:member
        by mia key acme web x1                -> role_missing
        by mia key acme shop x1               -> ok
        # Coming back brings no key back.
        by paul bring acme web mia            -> ok web member
        key-states acme -> a1:ann a2:ann c1:creator m1:member_removed m2:mia p1:paul x1:mia
        by mia revoke acme web m1             -> same
        by mia key acme web x2                -> ok
        ",
    );
}

#[test]
fn r3_4_leaving_a_project_takes_an_administrators_keys_too() {
    check_acme(
        "
        bring acme shop ann                   -> ok shop member
        leave acme shop ann                   -> ok revoked a2 member_removed
        key-states acme -> a1:ann a2:member_removed c1:creator m1:mia m2:mia p1:paul
        ",
    );
}

#[test]
fn r3_4_leaving_the_organization_takes_ones_keys_in_every_project() {
    check_acme(
        "
        by mia revoke acme web m1             -> ok revoked m1 requested
        by mia key acme web m3                -> ok
        entries                               -> 22
        by ann remove acme mia                -> ok revoked m2 member_removed revoked m3 member_removed
        entries                               -> 23
        key-states acme -> a1:ann a2:ann c1:creator m1:requested m2:member_removed m3:member_removed p1:paul
        team acme shop                        -> none
        team acme web                         -> paul:administrator
        members acme                          -> ann:administrator creator:administrator max:member paul:member
        by mia key acme shop x1               -> not_a_member
        remove acme mia                       -> member_not_found
        restart
        by mia key acme shop x1               -> not_a_member
        # Whoever comes back begins anew.
        invite acme i9
        accept acme i9 mia                    -> ok mia member
        by mia key acme shop x1               -> role_missing
        team acme shop                        -> none
        key-states acme -> a1:ann a2:ann c1:creator m1:requested m2:member_removed m3:member_removed p1:paul
        ",
    );
}

#[test]
fn r3_4_a_demoted_administrator_keeps_the_keys_of_projects_they_are_in() {
    check_acme(
        "
        bring acme shop ann                   -> ok shop member
        role acme ann member                  -> ok revoked a1 member_demoted
        role acme ann member                  -> same
        key-states acme -> a1:member_demoted a2:ann c1:creator m1:mia m2:mia p1:paul
        by ann key acme shop x1               -> ok
        by ann key acme web x2                -> role_missing
        by ann project acme more              -> role_missing
        # Another promotion brings no key back.
        role acme ann administrator           -> ok
        key-states acme -> a1:member_demoted a2:ann c1:creator m1:mia m2:mia p1:paul x1:ann
        by ann key acme web x2                -> ok
        ",
    );
}

#[test]
fn r3_4_keys_die_with_their_project() {
    check_acme(
        "
        entries                               -> 20
        by ann archive acme shop              -> ok revoked a2 project_archived revoked m2 project_archived
        entries                               -> 21
        by ann archive acme shop              -> same
        key-states acme -> a1:ann a2:project_archived c1:creator m1:mia m2:project_archived p1:paul
        by mia key acme shop x1               -> project_archived
        by ann key acme shop x1               -> project_archived
        rename acme shop New                  -> project_archived
        tpm acme shop 1                       -> project_archived
        bring acme shop max                   -> project_archived
        archive acme none                     -> project_not_found
        # An id is taken for good.
        project acme shop                     -> project_exists
        key acme web m2                       -> api_key_exists
        ",
    );
}

/// Usage may come for what is gone (R8.3): nothing is forgotten.
#[test]
fn r3_4_usage_of_a_revoked_key_is_booked() {
    check_acme(
        "
        price m input=1 from=2026-01-01T00:00:00Z
        remove acme mia                       -> ok revoked m1 member_removed revoked m2 member_removed
        archive acme shop                     -> ok revoked a2 project_archived
        usage acme m2 m in=1000000 id=r1      -> booked
        spend acme shop day=2026-11-20 key=m2 -> cost 1
        ",
    );
}

#[test]
fn r3_4_a_key_is_revoked_by_its_maker_or_an_administrator_in_its_project() {
    check_acme(
        "
        by mia revoke acme web p1             -> role_missing
        by mia revoke acme web a1             -> role_missing
        by mia revoke acme web m1             -> ok revoked m1 requested
        by mia revoke acme web m1             -> same
        by paul revoke acme web a1            -> ok revoked a1 requested
        by paul revoke acme web c1            -> ok revoked c1 requested
        by paul revoke acme shop m2           -> role_missing
        # A key is found in its own project only.
        by paul revoke acme web m2            -> api_key_not_found
        by ann revoke acme web m2             -> api_key_not_found
        by ann revoke acme shop m2            -> ok revoked m2 requested
        by ann revoke acme shop none          -> api_key_not_found
        # Who may not see a project's keys does not learn which there are.
        by max revoke acme web p1             -> role_missing
        by max revoke acme web none           -> role_missing
        ",
    );
}

#[test]
fn r3_5_the_creator_stays() {
    check_acme(
        "
        by ann remove acme creator            -> creator_stays
        by ann role acme creator member       -> creator_stays
        by ann role acme creator administrator -> same
        by creator remove acme creator        -> creator_stays
        by operator remove acme creator       -> creator_stays
        by operator role acme creator member  -> creator_stays
        by ann remove acme ann                -> ok revoked a1 member_removed revoked a2 member_removed
        members acme                          -> creator:administrator max:member mia:member paul:member
        # Out of a project they may be taken: they administer it all the same.
        bring acme web creator                -> ok web member
        by paul leave acme web creator        -> ok revoked c1 member_removed
        by creator key acme web x1            -> ok
        ",
    );
}

#[test]
fn r3_6_of_a_secret_only_hash_and_hint_are_kept() {
    let ledger = check(ACME);
    let acme = ledger.state.organization(&org("acme")).unwrap();
    let known = &acme.keys[&key("m1")];
    let hash: [u8; 32] = Sha256::digest("ak_m1").into();
    assert_eq!((known.secret.0, known.hint.as_str()), (hash, "abcd"));
    assert!(acme.invitations.values().any(|invitation| invitation.token == token("i3")));
}
