//! R1 Organizations.

use tollbook_tests::script::check;

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
