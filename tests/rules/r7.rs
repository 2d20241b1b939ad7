//! R7 Alerts.

use tollbook_schemas::alert::Alert;
use tollbook_tests::script::check;

use super::r4::check_shop;

#[test]
fn r7_1_a_new_organization_and_a_first_small_recharge_do_not_alarm() {
    check_shop(
        "
        alerts acme                            -> none
        recharge acme 3 ref=a                  -> ok
        alerts acme                            -> tier_changed/none/Tier0/3
        usage acme k1 m in=1000000 id=r1       -> booked
        usage acme k1 m in=9000000 id=r2       -> booked
        alerts acme                            -> none
        ",
    );
}

#[test]
fn r7_1_once_per_crossing_and_armed_again_at_or_above() {
    check_shop(
        "
        policy threshold=1000 amount=5
        recharge acme 5 ref=a                  -> ok
        alerts acme                            -> tier_changed/none/Tier0/5
        # At the threshold is not below it.
        usage acme k1 m in=0 id=r0             -> booked
        alerts acme                            -> none
        usage acme k1 m cost=0.000000000001 id=r1 -> booked
        alerts acme                            -> balance_low/5/4.999999999999
        usage acme k1 m in=3000000 id=r2       -> booked
        usage acme k1 m in=3000000 id=r3       -> booked
        balance acme                           -> cash -1.000000000001 available 0
        alerts acme                            -> none
        # Below still.
        recharge acme 3 ref=b                  -> ok
        usage acme k1 m in=1000000 id=r4       -> booked
        alerts acme                            -> none
        restart
        recharge acme 4 ref=c                  -> ok
        balance acme                           -> available 4.999999999999
        adjust acme -1 ref=d                   -> ok
        alerts acme                            -> tier_changed/Tier0/Tier1/12
        # At it.
        adjust acme 1.000000000001 ref=e       -> ok
        adjust acme -0.000000000001 ref=f      -> ok
        alerts acme                            -> balance_low/5/4.999999999999
        ",
    );
}

#[test]
fn r7_1_vouchers_count_and_whatever_takes_money_may_cross() {
    check_shop(
        "
        policy threshold=1000 amount=5
        recharge acme 2 ref=a                  -> ok
        grant acme v1 4 ref=g expires=2026-11-21T00:00:00Z -> ok voucher 4
        alerts acme                            -> tier_changed/none/Tier0/2 voucher_granted/4/2026-11-21T00:00:00Z
        at 2026-11-21T00:00:00Z
        expire acme                            -> ok lost 4
        alerts acme                            -> voucher_expired/4 balance_low/5/2
        recharge acme 8 ref=b                  -> ok
        alerts acme                            -> tier_changed/Tier0/Tier1/10
        refund acme 9 ref=c                    -> ok paid 9
        alerts acme                            -> balance_low/5/1 tier_changed/Tier1/Tier0/1
        adjust acme 10 ref=d                   -> ok
        usage acme k1 m in=7000000 id=r1       -> booked
        alerts acme                            -> balance_low/5/4
        unuse acme r1                          -> ok back 7 0
        usage acme k1 m in=7000000 id=r2       -> booked
        alerts acme                            -> balance_low/5/4
        # A credit limit is no balance.
        credit acme 100                        -> ok
        usage acme k1 m in=7000000 id=r3       -> booked
        alerts acme                            -> none
        ",
    );
}

#[test]
fn r7_1_a_threshold_above_the_present_balance_tells_once_at_once() {
    check_shop(
        "
        policy threshold=1000 amount=5
        balance-alert acme 0                   -> amount_not_positive
        balance-alert acme -1                  -> amount_not_positive
        # Who never recharged is not told.
        balance-alert acme 7                   -> ok
        balance-alert acme 7                   -> same
        alerts acme                            -> none
        recharge acme 6 ref=a                  -> ok
        alerts acme                            -> tier_changed/none/Tier0/6
        balance-alert acme 6                   -> ok
        alerts acme                            -> none
        balance-alert acme 8                   -> ok
        alerts acme                            -> balance_low/8/6
        usage acme k1 m in=1000000 id=r1       -> booked
        alerts acme                            -> none
        # Another one above it is another thing to be told.
        balance-alert acme 9                   -> ok
        alerts acme                            -> balance_low/9/5
        balance-alert acme 5                   -> ok
        usage acme k1 m in=1000000 id=r2       -> booked
        alerts acme                            -> balance_low/5/4
        ",
    );
}

#[test]
fn r7_1_a_removed_threshold_tells_nobody() {
    check_shop(
        "
        policy threshold=1000 amount=5
        recharge acme 6 ref=a                  -> ok
        balance-alert acme none                -> ok
        balance-alert acme none                -> same
        usage acme k1 m in=6000000 id=r1       -> booked
        default-alert 100                      -> ok
        alerts acme                            -> tier_changed/none/Tier0/6
        recharge acme 6 ref=b                  -> ok
        usage acme k1 m in=6000000 id=r2       -> booked
        alerts acme                            -> tier_changed/Tier0/Tier1/12
        balance-alert acme 1                   -> ok
        alerts acme                            -> balance_low/1/0
        ",
    );
}

#[test]
fn r7_1_another_default_is_another_threshold_for_who_has_none_of_its_own() {
    check(
        "
        at 2026-11-20T10:00:00Z
        policy threshold=1000 amount=5
        organization acme
        organization beta
        organization gamma
        organization delta
        project gamma web
        key gamma web k1
        price m input=1 from=2026-01-01T00:00:00Z
        recharge acme 7 ref=a                  -> ok
        recharge beta 7 ref=a                  -> ok
        balance-alert beta 6                   -> ok
        grant gamma v1 20 ref=g                -> ok voucher 20
        alerts acme                            -> tier_changed/none/Tier0/7
        alerts beta                            -> tier_changed/none/Tier0/7
        alerts gamma                           -> voucher_granted/20
        default-alert 8                        -> ok
        alerts acme                            -> balance_low/8/7
        alerts beta                            -> none
        alerts gamma                           -> none
        alerts delta                           -> none
        default-alert none                     -> ok
        default-alert 50                       -> ok
        alerts acme                            -> balance_low/50/7
        # It never recharged, and its balance never was so much.
        alerts gamma                           -> none
        default-alert 15                       -> ok
        # But so much it is: it is armed, though nothing happens to it.
        restart
        usage gamma k1 m in=10000000 id=r1     -> booked
        alerts gamma                           -> balance_low/15/10
        alerts delta                           -> none
        ",
    );
}

#[test]
fn r7_1_r10_1_moving_in_raises_no_alert_but_arms() {
    check(
        "
        at 2026-11-20T10:00:00Z
        price m input=1 from=2026-01-01T00:00:00Z
        move-in acme cash=6 recharged=50 vouchers=v1:1@2026-11-22T00:00:00Z,v2:1@2026-12-01T00:00:00Z projects=web keys=k1:web -> ok voucher 1 voucher 1
        move-in beta cash=3 recharged=50 projects=web keys=k2:web
        alerts acme                            -> none
        alerts beta                            -> none
        usage acme k1 m in=3000000 id=r1       -> booked
        alerts acme                            -> none
        usage acme k1 m in=1000000 id=r2       -> booked
        alerts acme                            -> balance_low/5/4
        # Below from the beginning.
        usage beta k2 m in=1000000 id=r1       -> booked
        alerts beta                            -> none
        recharge beta 1 ref=a                  -> ok
        alerts beta                            -> none
        ",
    );
}

#[test]
fn r7_2_tiers_vouchers_and_what_expires() {
    check_shop(
        "
        recharge acme 5 ref=a                  -> ok voucher 5
        alerts acme                            -> voucher_granted/5 tier_changed/none/Tier0/5
        recharge acme 1 ref=b                  -> ok
        alerts acme                            -> none
        grant acme v1 2 ref=g expires=2026-12-01T00:00:00Z -> ok voucher 2
        # One that was granted so late is told of once.
        grant acme v2 1 ref=h expires=2026-11-27T10:00:00Z -> ok voucher 1
        grant acme v3 1 ref=i expires=2026-11-27T10:00:00.000000001Z -> ok voucher 1
        alerts acme -> voucher_granted/2/2026-12-01T00:00:00Z voucher_granted/1/2026-11-27T10:00:00Z voucher_granted/1/2026-11-27T10:00:00.000000001Z
        due                                    -> acme@2026-11-20T10:00:00.000000001Z month@2026-12-01T00:00:00Z
        expire acme                            -> same
        at 2026-11-20T10:00:00.000000001Z
        expire acme                            -> ok expiring
        alerts acme                            -> voucher_expiring/1/2026-11-27T10:00:00.000000001Z
        expire acme                            -> same
        usage acme k1 m cost=0.5 id=r1         -> booked
        restart
        at 2026-11-24T00:00:00Z
        expire acme                            -> ok expiring
        alerts acme                            -> voucher_expiring/2/2026-12-01T00:00:00Z
        at 2026-11-28T00:00:00Z
        expire acme                            -> ok lost 0.5 lost 1
        alerts acme                            -> voucher_expired/0.5 voucher_expired/1
        usage acme k1 m cost=2 id=r2           -> booked
        at 2026-12-01T00:00:00Z
        expire acme                            -> same
        alerts acme                            -> none
        # Nobody is told of one that was due while nobody looked: only that it is lost.
        grant acme v4 3 ref=j expires=2026-12-20T00:00:00Z -> ok voucher 3
        alerts acme                            -> voucher_granted/3/2026-12-20T00:00:00Z
        at 2026-12-21T00:00:00Z
        expire acme                            -> ok lost 3
        alerts acme                            -> voucher_expired/3
        # What was withdrawn is no surprise to who took the money back.
        reverse acme a ref=c                   -> ok taken 5 withdrawn 5
        alerts acme                            -> balance_low/5/1
        ",
    );
}

#[test]
fn r7_2_a_notice_and_usage_that_came_between() {
    check_shop(
        "
        recharge acme 1 ref=a                  -> ok
        grant acme v1 2 ref=g expires=2026-12-01T00:00:00Z -> ok voucher 2
        at 2026-11-25T00:00:00Z
        hold expire acme                       -> held
        usage acme k1 m cost=2 id=r1           -> booked
        alerts acme                            -> tier_changed/none/Tier0/1 voucher_granted/2/2026-12-01T00:00:00Z
        # Nothing is left that could expire.
        book                                   -> ok expiring
        alerts acme                            -> none
        ",
    );
}

#[test]
fn r7_2_keys_that_stopped_working_are_told_together() {
    check_shop(
        "
        key acme web k2
        revoke acme web k2                     -> ok revoked k2 requested
        alerts acme                            -> key_invalidated/k2:requested
        revoke acme web k2                     -> same
        key acme web k3
        archive acme web                       -> ok revoked k1 project_archived revoked k3 project_archived
        alerts acme                            -> key_invalidated/k1:project_archived,k3:project_archived
        ",
    );
}

#[test]
fn r7_2_everybody_is_told_of_scaled_limits() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        organization beta
        organization gamma
        recharge acme 1 ref=a
        recharge beta 1000 ref=a               -> ok voucher 5
        alerts acme                            -> tier_changed/none/Tier0/1
        alerts beta                            -> voucher_granted/5 tier_changed/none/Tier4/1000
        scale 0.5 until=2026-11-20T12:00:00Z
        alerts acme                            -> rate_limits_scaled/500
        alerts beta                            -> rate_limits_scaled/500
        # Below the first tier nothing is admitted, whatever it is scaled by.
        alerts gamma                           -> none
        scale 0.25 until=2026-11-20T12:00:00Z tiers=Tier4
        alerts acme                            -> rate_limits_scaled/none
        alerts beta                            -> rate_limits_scaled/250
        scale none
        alerts acme                            -> none
        alerts beta                            -> rate_limits_scaled/none
        scale 0.5 until=2026-11-20T12:00:00Z tiers=Tier4
        at 2026-11-20T12:00:00Z
        # It was over already.
        scale none                             -> same
        alerts beta                            -> rate_limits_scaled/500
        scale 0.5 until=2026-11-20T13:00:00Z tiers=Tier0
        alerts beta                            -> none
        alerts acme                            -> rate_limits_scaled/500
        ",
    );
}

#[test]
fn r7_2_quarantined_usage_is_told_once_for_a_reason_and_a_day() {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme zone=Asia/Tokyo
        project acme web
        key acme web k1
        price m input=1 from=2026-01-01T00:00:00Z
        batch
        usage acme k1 m id=r1
        usage acme k9 m id=r2
        usage acme k8 m id=r3
        usage acme k1 none id=r4
        usage other k1 m id=r5
        end                                    -> booked 1 quarantined 4
        alerts acme                            -> usage_quarantined/unknown_key/1 usage_quarantined/unknown_model/3
        alerts -                               -> usage_quarantined/unknown_organization/4
        usage acme k9 m id=r6                  -> quarantined unknown_key
        usage other k9 m id=r7                 -> quarantined unknown_organization
        unreadable acme                        -> quarantined unreadable
        unreadable -                           -> quarantined unreadable
        alerts acme                            -> usage_quarantined/unreadable/0
        alerts -                               -> usage_quarantined/unreadable/0
        # Tomorrow comes earlier in Tokyo.
        at 2026-11-20T15:00:00Z
        usage acme k9 m id=r8                  -> quarantined unknown_key
        usage other k9 m id=r9                 -> quarantined unknown_organization
        alerts acme                            -> usage_quarantined/unknown_key/0
        alerts -                               -> none
        restart
        at 2026-11-21T00:00:00Z
        usage acme k9 m id=r10                 -> quarantined unknown_key
        usage other k9 m id=r11                -> quarantined unknown_organization
        alerts acme                            -> none
        alerts -                               -> usage_quarantined/unknown_organization/0
        ",
    );
}

#[test]
fn r7_2_a_webhook_that_the_engine_switched_off() {
    check(
        "
        organization acme
        webhook acme h1
        webhook acme h2
        by engine disable acme h1 why=410      -> ok
        by engine disable acme h1 why=410      -> same
        alerts acme                            -> webhook_disabled/h1/410
        # Whoever does it by hand knows.
        disable acme h2                        -> ok
        alerts acme                            -> none
        ",
    );
}

#[test]
fn r7_2_budgets_and_notifications_stand_in_the_order_in_which_they_came_to_be() {
    check_shop(
        "
        policy threshold=1000 amount=5
        recharge acme 20 ref=a                 -> ok
        budget acme web daily=10 monthly=12    -> ok
        notify acme web daily=11 monthly=11,4  -> ok
        notify acme web daily=11 monthly=4,11,4 -> same
        notify acme web daily=0                -> amount_not_positive
        budget acme web daily=-1               -> amount_not_positive
        alerts acme                            -> tier_changed/none/Tier2/20
        usage acme k1 m in=16000000 id=r1      -> booked
        alerts acme                            -> balance_low/5/4
        at 2026-11-20T10:10:00Z
        close                                  -> cycles 1
        alerts acme -> spend_notification/web/daily/2026-11-20/16/11 budget_warning/web/daily/2026-11-20/16/10 budget_reached/web/daily/2026-11-20/16/10 spend_notification/web/monthly/2026-11-01/16/4 spend_notification/web/monthly/2026-11-01/16/11 budget_warning/web/monthly/2026-11-01/16/12 budget_reached/web/monthly/2026-11-01/16/12
        ",
    );
}

/// [`check`] folds every script again, from views too; here is what that says of ids.
#[test]
fn r7_3_an_alert_is_the_same_whenever_and_wherever_it_is_folded() {
    let ledger = check(
        "
        at 2026-11-20T10:00:00Z
        organization acme
        project acme web
        project acme shop
        key acme web k1
        key acme shop k2
        price m input=1 from=2026-01-01T00:00:00Z
        recharge acme 20 ref=a                 -> ok voucher 5
        budget acme web daily=1                -> ok
        budget acme shop daily=1               -> ok
        batch
        usage acme k1 m in=1000000 id=r1
        usage acme k2 m in=1000000 id=r2
        usage acme k9 m in=1000000 id=r3
        usage nobody k9 m in=1000000 id=r3
        end                                    -> booked 2 quarantined 2
        copy 8                                 -> skipped
        foreign bytes                          -> skipped
        takeover node2                         -> term 2
        stale refund acme 20 ref=b             -> void
        at 2026-11-20T10:10:00Z
        close                                  -> cycles 1
        ",
    );
    let reached: Vec<&Alert> =
        ledger.alerts.iter().filter(|alert| alert.kind().code() == "budget_reached").collect();
    let [web, shop] = reached.as_slice() else { panic!("{reached:?}") };
    assert_eq!((web.position, web.number, shop.number), (shop.position, 0, 1));
    for alert in &ledger.alerts {
        let (ledger, organization) = (tollbook_tests::memory::ledger_id(), alert.organization.as_ref());
        let id = Alert::id_of(&ledger, alert.position, organization, alert.kind(), alert.number);
        assert_eq!(alert.id, id);
    }
    // Nobody was told of what was void.
    assert!(ledger.alerts.iter().all(|alert| alert.kind().code() != "balance_low"));
    // An earlier stand of the log has the same alerts, as far as it goes.
    for messages in 0..ledger.log.len() {
        let before = ledger.after(messages).alerts;
        assert_eq!(before, ledger.alerts[..before.len()]);
    }
}
