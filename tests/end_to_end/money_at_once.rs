//! Money commands that come at the same time, on both logs.

use std::collections::BTreeSet;

use futures_util::future::{join, join_all};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollbook_projections::movement::What;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::OrgId;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Answer, Api, Key, System, Timed, amount};

use super::MODEL;

fn path(org: &str, rest: &str) -> String {
    format!("/v1/organizations/{org}/{rest}")
}

/// So many clients, each over a connection of its own.
async fn at_once(api: &Api, count: usize, request: impl Fn(usize) -> (String, Value)) -> Vec<Answer> {
    let asked = (0..count).map(|number| {
        let (path, body) = request(number);
        let client = api.reconnected();
        async move { client.post(&path, &body).await }
    });
    join_all(asked).await
}

/// The answers that are not refusals with this code.
#[track_caller]
fn booked(answers: &[Answer], status: u16, code: &str) -> Vec<Value> {
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    for answer in refused {
        assert_eq!(answer.refused(status), code);
    }
    made.into_iter().map(Answer::json).collect()
}

/// Answers to the same request: one of them made what all of them show.
#[track_caller]
fn one_of(answers: &[Answer]) -> Value {
    let all: BTreeSet<_> = answers
        .iter()
        .map(|answer| {
            let answer = answer.expect(201);
            (answer["id"].to_string(), answer["position"].to_string())
        })
        .collect();
    assert_eq!(all.len(), 1, "{all:?}");
    let fresh = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty());
    assert_eq!(fresh.count(), 1);
    answers[0].json()
}

async fn money_at_once(system: System) {
    let api = &system.api;
    recharges(api).await;
    references(api).await;
    refunds(api).await;
    reversals(api).await;
    refunds_beside_usage(api).await;
    let trial = api.get("/v1/trial-balance").await.expect(200);
    assert_eq!(trial["sum"], "0");
}

/// 200 recharges that together cross the threshold bring one voucher (R4.5).
async fn recharges(api: &Api) {
    let org = api.organization("Crossing").await;
    let answers = at_once(api, 200, |number| {
        (path(&org, "recharges"), json!({ "amount": "0.05", "reference": format!("r{number}") }))
    })
    .await;
    let vouchers = answers.iter().filter(|answer| !answer.expect(201)["voucher"].is_null()).count();
    assert_eq!(vouchers, 1);
    let balance = api.balance(&org).await;
    assert_eq!((&balance["cash"], &balance["vouchers"]), (&json!("10"), &json!("5")));
    assert_eq!(api.all(&path(&org, "recharges")).await.len(), 200);
    assert_eq!(api.all(&path(&org, "vouchers")).await.len(), 1);
}

/// The same reference from 20 clients books once, of every kind (R4.7).
async fn references(api: &Api) {
    let org = api.organization("Repeating").await;
    let same = |rest: &str, body: Value| {
        let request = (path(&org, rest), body);
        move |_| request.clone()
    };
    let recharge = same("recharges", json!({ "amount": "9", "reference": "r" }));
    let recharge = one_of(&at_once(api, 20, recharge).await);
    let voucher = same("vouchers", json!({ "amount": "2", "reference": "r" }));
    one_of(&at_once(api, 20, voucher).await);
    let adjustment = same("adjustments", json!({ "amount": "-1", "reference": "r", "reason": "r" }));
    one_of(&at_once(api, 20, adjustment).await);
    let refund = same("refunds", json!({ "amount": "3", "reference": "r" }));
    assert_eq!(one_of(&at_once(api, 20, refund).await)["paid"], "3");
    let rest = format!("recharges/{}/reversals", recharge["id"].as_str().unwrap());
    let reversal = same(&rest, json!({ "amount": "4", "reference": "r", "reason": "r" }));
    assert_eq!(one_of(&at_once(api, 20, reversal).await)["withdrawn_voucher"]["amount"], "5");
    let balance = api.balance(&org).await;
    assert_eq!((&balance["cash"], &balance["vouchers"]), (&json!("1"), &json!("2")));
}

/// 20 refunds of all there is pay it once (R4.8).
async fn refunds(api: &Api) {
    let org = api.organization("Leaving").await;
    api.recharge(&org, "10", "r").await;
    let answers = at_once(api, 20, |number| {
        (path(&org, "refunds"), json!({ "amount": "10", "reference": format!("r{number}") }))
    })
    .await;
    let paid = booked(&answers, 422, "nothing_to_refund");
    let [one] = &paid[..] else { panic!("{} were paid", paid.len()) };
    assert_eq!(one["paid"], "10");
    api.recharge(&org, "10", "s").await;
    let answers = at_once(api, 20, |number| {
        (path(&org, "refunds"), json!({ "amount": "3", "reference": format!("s{number}") }))
    })
    .await;
    let paid = booked(&answers, 422, "nothing_to_refund");
    let mut paid: Vec<Decimal> = paid.iter().map(|refund| amount(&refund["paid"])).collect();
    paid.sort();
    assert_eq!(paid, [1, 3, 3, 3].map(Decimal::from));
    assert_eq!(api.balance(&org).await["cash"], "0");
}

/// 20 chargebacks of parts of a recharge take back at most all of it (R4.8).
async fn reversals(api: &Api) {
    let org = api.organization("Disputing").await;
    let recharge = api.recharge(&org, "10", "r").await;
    let rest = path(&org, &format!("recharges/{}/reversals", recharge["id"].as_str().unwrap()));
    let answers = at_once(api, 20, |number| {
        (rest.clone(), json!({ "amount": "3", "reference": format!("r{number}"), "reason": "r" }))
    })
    .await;
    assert_eq!(booked(&answers, 422, "reversal_too_large").len(), 3);
    let answers = at_once(api, 20, |number| {
        (rest.clone(), json!({ "reference": format!("s{number}"), "reason": "r" }))
    })
    .await;
    let made = booked(&answers, 422, "reversal_too_large");
    assert_eq!((made.len(), &made[0]["amount"]), (1, &json!("1")));
    let balance = api.balance(&org).await;
    assert_eq!((&balance["cash"], &balance["vouchers"]), (&json!("0"), &json!("0")));
}

/// What usage takes while refunds are asked for is not paid back too (R4.8).
async fn refunds_beside_usage(api: &Api) {
    let key = api.customer("Using").await;
    let made = refunds_while_used(api, &key).await;
    let paid: Decimal = made.iter().map(|refund| amount(&refund["paid"])).sum();
    let bounds = Decimal::ZERO..=Decimal::from(7);
    assert!(made.iter().all(|refund| bounds.contains(&amount(&refund["paid"]))), "{made:?}");
    // 80 of 100 were used: the rest is paid back or there, and if more was paid back, it was before usage took it.
    assert_eq!(amount(&api.balance(&key.organization).await["cash"]), Decimal::from(20) - paid);
}

/// 20 refunds of 7 each beside usage that takes 80 of 100; those that were made.
async fn refunds_while_used(api: &Api, key: &Key) -> Vec<Value> {
    let org = &key.organization;
    let policy = json!({ "threshold": "5", "amount": "0", "expires_after_days": null });
    api.put("/v1/config/voucher-policy", &policy).await.expect(200);
    api.recharge(org, "100", "r").await;
    let usage = join_all((0..20).map(|batch| {
        let (client, key) = (api.reconnected(), key.clone());
        let event = move |number: usize| {
            let mut event = key.event(&format!("{batch} {number}"), MODEL);
            event["data"]["cost"] = json!("0.4");
            event
        };
        async move { client.events(&(0..10).map(event).collect::<Vec<_>>()).await }
    }));
    let refunds = at_once(api, 20, |number| {
        (path(org, "refunds"), json!({ "amount": "7", "reference": format!("r{number}") }))
    });
    let (_, answers) = join(usage, refunds).await;
    api.folded().await;
    booked(&answers, 422, "nothing_to_refund")
}

/// The same seen from the books: each refund paid the lesser of what was asked for and the cash where it is booked.
#[tokio::test]
async fn r4_8_a_refund_pays_no_more_than_the_cash_at_its_position() {
    let timed = Timed::start("2026-03-10T12:00:00Z").await;
    let api = &timed.api;
    let key = api.customer("Using").await;
    refunds_while_used(api, &key).await;
    let org = OrgId::parse(&key.organization).unwrap();
    let owner = timed.node().owner_of(&org).unwrap();
    owner.wait_viewed(owner.applied()).await.unwrap();
    let view = timed.node().view(owner.partition()).unwrap();
    let movements = view.movements(&org, "2026-03".parse().unwrap()).unwrap();
    let mut refunds = 0;
    for movement in &movements {
        let What::Refund { requested, .. } = &movement.what else { continue };
        refunds += 1;
        let (paid, left) = (movement.change.cash.negated(), movement.after.cash);
        let cash = left.checked_add(paid).unwrap();
        assert_eq!(paid, (*requested).min(cash.max(Amount::ZERO)), "{movement:?}");
    }
    assert!(refunds > 0);
}

#[tokio::test]
async fn money_at_once_in_the_embedded_log() {
    money_at_once(System::start().await).await;
}

#[tokio::test]
async fn money_at_once_on_jetstream() {
    let nats = NatsServer::start().await;
    money_at_once(System::builder().nats(&nats).start().await).await;
}
