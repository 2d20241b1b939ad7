//! Money over weeks, on a real server with a simulated clock: references that State has forgotten, vouchers that
//! expire, months that close.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollbook_engine::clock::Stopwatch;
use tollbook_schemas::id::OrgId;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Answer, Api, DEADLINE, Timed, amount};

fn path(org: &str, rest: &str) -> String {
    format!("/v1/organizations/{org}/{rest}")
}

/// Requests that book something once, with the recharges they are about.
struct Bookings {
    org: String,
    requests: Vec<(String, Value)>,
    answers: Vec<Value>,
}

impl Bookings {
    async fn made(timed: &Timed) -> Self {
        let api = &timed.api;
        let org = api.organization("Acme").await;
        let kept = api.recharge(&org, "20", "kept").await;
        let charged_back = api.recharge(&org, "7", "charged back").await;
        let reversals = path(&org, &format!("recharges/{}/reversals", charged_back["id"].as_str().unwrap()));
        let requests = vec![
            (path(&org, "recharges"), json!({ "amount": "20", "reference": "kept" })),
            (path(&org, "refunds"), json!({ "amount": "4", "reference": "of kept", "recharge": kept["id"] })),
            (path(&org, "refunds"), json!({ "amount": "1000", "reference": "more than there is" })),
            (reversals, json!({ "amount": "7", "reference": "r", "reason": "stolen card" })),
            (
                path(&org, "adjustments"),
                json!({ "amount": "12.5", "reference": "a", "reason": "goodwill", "corrects": "0-3" }),
            ),
            (
                path(&org, "vouchers"),
                json!({ "amount": "3", "reference": "v", "expires_at": "2099-01-01T00:00:00Z" }),
            ),
        ];
        let mut made = Self { org, requests, answers: Vec::new() };
        made.answers = made.asked(timed).await.into_iter().map(|answer| answer.expect(201)).collect();
        made
    }

    async fn asked(&self, timed: &Timed) -> Vec<Answer> {
        let mut answers = Vec::new();
        for (number, (path, body)) in self.requests.iter().enumerate() {
            let request = timed.api.request("POST", path).json(body);
            // Every other one with a key: both ways of recognizing a repetition must hold.
            let request = match number % 2 {
                0 => request,
                _ => request.header("idempotency-key", format!("key {number}")),
            };
            answers.push(timed.api.send(request).await);
        }
        answers
    }

    /// The same again changes nothing and answers the same, and other content is refused.
    async fn check_repetitions(&self, timed: &Timed, when: &str) {
        let api = &timed.api;
        let before = self.booked(api).await;
        for ((path, body), (again, first)) in
            self.requests.iter().zip(self.asked(timed).await.iter().zip(&self.answers))
        {
            assert_eq!(again.header("idempotent-replayed"), "true", "{when} {path}: {again:?}");
            let (mut again, mut first) = (again.expect(201), first.clone());
            for answer in [&mut again, &mut first] {
                answer.as_object_mut().unwrap().remove("balance");
            }
            assert_eq!(again, first, "{when} {path}");
            let mut other = body.clone();
            other["amount"] = json!("0.01");
            assert_eq!(api.post(path, &other).await.refused(409), "reference_conflict", "{when} {path}");
        }
        assert_eq!(self.booked(api).await, before, "{when}");
    }

    /// Everything that somebody decided about the organization, and its balance. Statements the engine seals itself.
    async fn booked(&self, api: &Api) -> (Vec<Value>, Value) {
        let mut log = api.all(&path(&self.org, "log")).await;
        log.retain(|item| item["actor"]["kind"] != "engine");
        (log, api.balance(&self.org).await)
    }
}

/// How many movements State itself remembers.
async fn remembered(timed: &Timed, org: &str) -> usize {
    let id = OrgId::parse(org).unwrap();
    let owner = timed.node().owner_of(&id).unwrap();
    owner.read(move |state| state.organization(&id).unwrap().recent.movements().count()).await.unwrap()
}

async fn repetitions_are_recognized_for_ever(mut timed: Timed) {
    let made = Bookings::made(&timed).await;
    let paid: Vec<_> = made.answers[1..3].iter().map(|refund| refund["paid"].clone()).collect();
    assert_eq!(paid, [json!("4"), json!("23")], "not more than the cash there was");
    made.check_repetitions(&timed, "at once").await;
    timed.days(1);
    timed.api.recharge(&made.org, "1", "a day later").await;
    made.check_repetitions(&timed, "after a day").await;
    assert!(remembered(&timed, &made.org).await > 5);
    timed.days(45);
    timed.api.recharge(&made.org, "1", "long after").await;
    assert_eq!(remembered(&timed, &made.org).await, 1, "State has forgotten the older ones");
    made.check_repetitions(&timed, "after 46 days").await;
    timed.stop().await;
    timed.days(200);
    timed.go_on().await;
    made.check_repetitions(&timed, "after a restart").await;
    timed.rebuild_views().await;
    made.check_repetitions(&timed, "after a rebuild").await;

    // What is left of a forgotten recharge is known too.
    let api = &timed.api;
    let [kept, charged_back, ..] = &api.all(&path(&made.org, "recharges")).await[..] else { panic!() };
    assert_eq!((&kept["refunded"], &kept["left"]), (&json!("4"), &json!("16")));
    assert_eq!((&charged_back["reversed"], &charged_back["left"]), (&json!("7"), &json!("0")));
    let reverse = async |recharge: &Value, amount: &str| {
        let reversals = format!("recharges/{}/reversals", recharge["id"].as_str().unwrap());
        let body = json!({ "amount": amount, "reference": amount, "reason": "late" });
        api.post(&path(&made.org, &reversals), &body).await
    };
    assert_eq!(reverse(charged_back, "0.01").await.refused(422), "reversal_too_large");
    assert_eq!(reverse(kept, "16.01").await.refused(422), "reversal_too_large");
    assert_eq!(reverse(kept, "16").await.expect(201)["amount"], "16");
    let refund = json!({ "amount": "0.01", "reference": "late", "recharge": kept["id"] });
    assert_eq!(api.post(&path(&made.org, "refunds"), &refund).await.refused(422), "refund_too_large");
}

#[tokio::test]
async fn r4_7_references_and_keys_count_also_when_state_has_forgotten_them() {
    repetitions_are_recognized_for_ever(Timed::start("2026-01-10T00:00:00Z").await).await;
}

#[tokio::test]
async fn r4_7_references_and_keys_count_for_ever_on_jetstream() {
    let nats = NatsServer::start().await;
    let at = tollbook_engine::clock::Clock::System.now().to_string();
    repetitions_are_recognized_for_ever(Timed::start_on(&nats, &at).await).await;
}

/// Waits until an organization's balance is this.
async fn becomes(timed: &Timed, org: &str, vouchers: &str) {
    eventually(DEADLINE, "vouchers are worth that", || async {
        let balance = timed.api.balance(org).await;
        (balance["vouchers"] == vouchers).then_some(())
    })
    .await;
}

#[tokio::test]
async fn r4_3_what_is_left_of_a_voucher_is_lost_when_it_expires() {
    let mut timed = Timed::start("2026-03-01T00:00:00Z").await;
    let api = timed.api.clone();
    api.prices("m", "1", "1", "1").await;
    let key = api.customer("Acme").await;
    let org = &key.organization;
    let grant = async |amount: &str, expires_at: Option<&str>| {
        let body = json!({ "amount": amount, "reference": amount, "expires_at": expires_at });
        api.post(&path(org, "vouchers"), &body).await.expect(201)
    };
    grant("4", None).await;
    grant("3", Some("2026-03-03T00:00:00Z")).await;
    grant("2", Some("2026-03-02T00:00:00Z")).await;
    grant("1", Some("2026-06-01T00:00:00Z")).await;
    let past = json!({ "amount": "1", "reference": "p", "expires_at": "2026-03-01T00:00:00Z" });
    assert_eq!(api.post(&path(org, "vouchers"), &past).await.refused(422), "expiry_passed");
    let left = async || {
        let listed = api.all(&path(org, "vouchers")).await;
        let shown = |voucher: &Value| {
            format!("{} of {}", voucher["left"].as_str().unwrap(), voucher["amount"].as_str().unwrap())
        };
        listed.iter().map(shown).collect::<Vec<_>>()
    };
    assert_eq!(left().await, ["2 of 2", "3 of 3", "1 of 1", "4 of 4"], "as they are spent");
    let page = api.get(&path(org, "vouchers?limit=3")).await.expect(200);
    let rest = path(org, &format!("vouchers?limit=3&after={}", page["next_page"].as_str().unwrap()));
    assert_eq!(api.get(&rest).await.expect(200)["items"][0]["amount"], "4");
    let mut used = key.event("1", "m");
    used["data"]["cost"] = json!("2.5");
    api.events(&[used]).await;
    api.folded().await;
    assert_eq!(left().await, ["2.5 of 3", "1 of 1", "4 of 4"]);

    // The first is used up; what is due is written down when it is due, and not before.
    timed.until("2026-03-02T23:59:59Z");
    api.folded().await;
    assert_eq!(api.balance(org).await["vouchers"], "7.5");
    timed.until("2026-03-03T00:00:00Z");
    becomes(&timed, org, "5").await;
    let log = api.all(&path(org, "log")).await;
    let last = log.last().unwrap();
    assert_eq!(last["events"][0]["type"], "voucher.expired");
    assert_eq!(last["recorded_at"], "2026-03-03T00:00:00Z");
    assert_eq!(last["actor"]["kind"], "engine");

    // Nobody was there when it was due: it is written down by whoever comes next.
    timed.stop().await;
    timed.until("2026-08-15T12:00:00Z");
    timed.go_on().await;
    becomes(&timed, org, "4").await;
    let trial = api.get("/v1/trial-balance").await.expect(200);
    let balance = |account: &str| {
        let all = trial["accounts"].as_array().unwrap();
        all.iter().find(|one| one["account"] == account).unwrap()["balance"].clone()
    };
    assert_eq!((balance("income:breakage"), balance("liabilities:vouchers")), (json!("-3.5"), json!("-4")));
    assert_eq!((balance("expenses:promotion"), balance("income:usage")), (json!("10"), json!("-2.5")));
    assert_eq!(trial["sum"], "0");
}

#[tokio::test]
async fn r4_3_the_policy_s_voucher_expires_after_its_days() {
    let timed = Timed::start("2026-03-01T00:00:00Z").await;
    let api = &timed.api;
    let org = api.organization("Acme").await;
    let policy = json!({ "threshold": "2", "amount": "9", "expires_after_days": 30 });
    api.put("/v1/config/voucher-policy", &policy).await.expect(200);
    assert_eq!(api.recharge(&org, "2", "a").await["voucher"]["amount"], "9");
    let voucher = api.all(&path(&org, "vouchers")).await.remove(0);
    assert_eq!(
        (&voucher["expires_at"], &voucher["of_policy"]),
        (&json!("2026-03-31T00:00:00Z"), &json!(true))
    );
    timed.days(30);
    becomes(&timed, &org, "0").await;
    assert_eq!(api.recharge(&org, "5", "b").await["voucher"], Value::Null, "once for ever (R4.5)");
}

#[tokio::test]
async fn r4_3_vouchers_of_500_organizations_expire_at_the_same_instant() {
    const ORGANIZATIONS: usize = 500;
    let mut timed = Timed::start("2026-03-01T00:00:00Z").await;
    let api = timed.api.clone();
    let made = (0..ORGANIZATIONS).map(|_| async {
        let org = api.organization("Acme").await;
        let body = json!({ "amount": "3", "reference": "v", "expires_at": "2026-03-02T00:00:00Z" });
        api.post(&path(&org, "vouchers"), &body).await.expect(201);
        org
    });
    let orgs = join_all(made).await;
    let lost = async |count: usize| {
        eventually(DEADLINE, "the vouchers expire", || async {
            let trial = api.get("/v1/trial-balance").await.expect(200);
            let accounts = trial["accounts"].as_array().unwrap();
            let of =
                |name: &str| amount(&accounts.iter().find(|one| one["account"] == name).unwrap()["balance"]);
            let all = (-of("income:breakage"), of("liabilities:vouchers"));
            (all == ((3 * count).into(), 0.into())).then_some(())
        })
        .await;
    };
    timed.until("2026-03-02T00:00:00Z");
    lost(ORGANIZATIONS).await;
    for org in [&orgs[0], &orgs[ORGANIZATIONS - 1]] {
        let log = api.all(&path(org, "log")).await;
        let expired = log.iter().flat_map(|item| item["events"].as_array().unwrap());
        assert_eq!(expired.filter(|event| event["type"] == "voucher.expired").count(), 1);
    }
    // Again, with nobody there when it happens.
    let grants = orgs.iter().map(|org| {
        let body = json!({ "amount": "3", "reference": "w", "expires_at": "2026-03-03T00:00:00Z" });
        let (api, path) = (&api, path(org, "vouchers"));
        async move { api.post(&path, &body).await.expect(201) }
    });
    join_all(grants).await;
    timed.stop().await;
    timed.until("2026-03-04T00:00:00Z");
    timed.go_on().await;
    lost(2 * ORGANIZATIONS).await;
}

#[tokio::test]
async fn r8_3_months_close_when_they_have_ended_in_their_zone_also_when_nobody_was_there() {
    let mut timed = Timed::start("2026-03-31T10:00:00Z").await;
    let api = timed.api.clone();
    let tokyo = api.organization("Tokyo").await;
    api.write("PATCH", &format!("/v1/organizations/{tokyo}"), &json!({ "time_zone": "Asia/Tokyo" }))
        .await
        .expect(200);
    let berlin = json!({
        "name": "Berlin", "email": "a@example.com", "creator": { "name": "Ada", "email": "a@example.com" },
        "time_zone": "Europe/Berlin",
    });
    api.post("/v1/organizations", &berlin).await.expect(201);
    let open = async |timed: &Timed| {
        let owner = timed.node().owners().next().unwrap();
        let read = owner.read(|state| {
            let open = state.open_months().map(|(zone, month)| format!("{} {month}", zone.name()));
            open.collect::<Vec<_>>()
        });
        read.await.unwrap()
    };
    let becomes = async |timed: &Timed, expected: &[&str]| {
        eventually(DEADLINE, "the months are closed", || async {
            (open(timed).await == expected).then_some(())
        })
        .await;
    };
    becomes(&timed, &["Asia/Tokyo 2026-03", "Europe/Berlin 2026-03", "UTC 2026-03"]).await;
    timed.until("2026-03-31T15:00:00Z");
    becomes(&timed, &["Asia/Tokyo 2026-04", "Europe/Berlin 2026-03", "UTC 2026-03"]).await;
    // Summer time began on the 29th.
    timed.until("2026-03-31T22:00:00Z");
    becomes(&timed, &["Asia/Tokyo 2026-04", "Europe/Berlin 2026-04", "UTC 2026-03"]).await;
    timed.until("2026-04-01T00:00:00Z");
    becomes(&timed, &["Asia/Tokyo 2026-04", "Europe/Berlin 2026-04", "UTC 2026-04"]).await;
    timed.stop().await;
    timed.until("2026-09-30T23:00:00Z");
    timed.go_on().await;
    becomes(&timed, &["Asia/Tokyo 2026-10", "Europe/Berlin 2026-10", "UTC 2026-09"]).await;
    let before = api.digest(0).await;
    timed.rebuild_views().await;
    api.folded().await;
    becomes(&timed, &["Asia/Tokyo 2026-10", "Europe/Berlin 2026-10", "UTC 2026-09"]).await;
    assert_ne!(api.digest(0).await, before, "it goes on");
}

/// A month that was closed too early would stay closed.
#[tokio::test]
async fn r8_3_nothing_is_due_by_a_clock_that_is_off() {
    let timed = Timed::start("2026-02-26T00:00:00Z").await;
    let org = timed.api.organization("Acme").await;
    let voucher = json!({ "amount": "3", "reference": "v", "expires_at": "2026-03-02T00:00:00Z" });
    timed.api.post(&path(&org, "vouchers"), &voucher).await.expect(201);
    let id = OrgId::parse(&org).unwrap();
    let owner = timed.node().owner_of(&id).unwrap();
    let head = async || owner.read(|state| state.head().position).await.unwrap();
    let before = head().await;
    timed.node().note_skew(-1_001);
    timed.days(7);
    // For as long as an entry takes to be written and applied many times over.
    let looked = Stopwatch::start();
    while looked.elapsed() < Duration::from_secs(1) {
        assert_eq!(head().await, before, "written by a clock that nobody trusts");
    }
    let recharge = json!({ "amount": "1", "reference": "r" });
    let refused = timed.api.post(&path(&org, "recharges"), &recharge).await;
    assert_eq!(refused.refused(503), "clock_skewed");
    timed.node().note_skew(-1_000);
    eventually(DEADLINE, "cycle, month and voucher are due", || async {
        let closed = owner.read(move |state| state.open_months().all(|(_, open)| open.month == 3));
        let vouchers = timed.api.balance(&org).await["vouchers"].clone();
        (closed.await.unwrap() && vouchers == json!("0")).then_some(())
    })
    .await;
    timed.api.post(&path(&org, "recharges"), &recharge).await.expect(201);
}
