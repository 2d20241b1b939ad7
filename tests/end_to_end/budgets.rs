//! Budgets over HTTP on a real server with a simulated clock: what was spent, what enforcement knew, when it stopped,
//! and what the lag cost (R6.2 to R6.5); spend notifications and balance alerts (R6.4, R7.1).

use serde_json::{Value, json};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Answer, Api, DEADLINE, Key, System, Timed};

/// $1 for a million tokens of any kind.
const MODEL: &str = "cheap";

fn path(key: &Key, rest: &str) -> String {
    format!("/v1/organizations/{}/projects/{}/{rest}", key.organization, key.project)
}

async fn customer(api: &Api) -> Key {
    api.prices(MODEL, "1", "1", "1").await;
    let key = api.customer("Acme").await;
    api.recharge(&key.organization, "1000", "first").await;
    key
}

/// Uses so many millionths of a dollar.
async fn spend(api: &Api, key: &Key, id: &str, micros: u64) {
    let mut event = key.event(id, MODEL);
    event["data"] =
        json!({ "api_key_id": key.id, "model": MODEL, "input_tokens": micros, "output_tokens": 0 });
    api.events(&[event]).await;
    api.folded().await;
}

/// Asks whether a request of so many tokens may pass.
async fn ask(timed: &Timed, key: &Key, tokens: u64) -> Answer {
    let gateway = timed.api.with_token(&timed.api.service_token(&["gateway"], None).await);
    let body =
        json!({ "api_key": key.secret, "model": MODEL, "input_tokens": tokens, "max_output_tokens": 0 });
    gateway.post("/v1/admissions", &body).await
}

async fn release(timed: &Timed, admitted: &Answer) {
    let gateway = timed.api.with_token(&timed.api.service_token(&["gateway"], None).await);
    let lease = admitted.expect(200)["lease"].as_str().unwrap().to_owned();
    gateway.write("DELETE", &format!("/v1/admissions/{lease}"), &json!({})).await.expect(200);
}

async fn put(api: &Api, key: &Key, daily: Value, monthly: Value) -> Value {
    api.put(&path(key, "budgets"), &json!({ "daily": daily, "monthly": monthly })).await.expect(200)
}

async fn budgets(api: &Api, key: &Key) -> Value {
    api.get(&path(key, "budgets")).await.expect(200)
}

async fn cycle(api: &Api, cycle_seconds: u32, delay_seconds: u32) {
    let body = json!({ "cycle_seconds": cycle_seconds, "delay_seconds": delay_seconds });
    assert_eq!(api.put("/v1/config/billing-cycle", &body).await.expect(200)["delay_seconds"], delay_seconds);
}

/// Lets time pass until a cycle ends, and waits for its close.
async fn closed(timed: &Timed, key: &Key, at: &str) {
    timed.until(at);
    eventually(DEADLINE, "the cycle closes", || async {
        (budgets(&timed.api, key).await["cycle"]["last_closed_at"] == at).then_some(())
    })
    .await;
}

/// The four instants and what they came to.
fn instants(breach: &Value) -> Value {
    let mut kept = breach.clone();
    for place in ["crossed_in", "visible_in"] {
        assert!(breach[place].is_null() || breach[place].as_str().unwrap().starts_with("0-"), "{breach}");
        kept.as_object_mut().unwrap().remove(place);
    }
    kept
}

async fn crossed_at_10_03_and_visible_at_10_10(mut timed: Timed) {
    let api = timed.api.clone();
    let key = customer(&api).await;
    let none = budgets(&api, &key).await;
    let period = |limit: Value, resets_at: &str| {
        json!({ "limit": limit, "settled": "0", "pending": "0", "state": "open", "resets_at": resets_at,
            "overshoot": limit.as_str().map(|_| "0"), "breaches": [] })
    };
    let cycle = json!({ "cycle_seconds": 600, "delay_seconds": 0, "closes_at": "2026-11-20T10:10:00Z",
        "last_closed_at": null });
    assert_eq!(
        none,
        json!({ "daily": period(json!(null), "2026-11-21T00:00:00Z"),
            "monthly": period(json!(null), "2026-12-01T00:00:00Z"), "enforcement": "settled", "held": "0",
            "cycle": cycle })
    );
    let mut set = put(&api, &key, json!("10.00"), json!("11")).await;
    assert!(set.as_object_mut().unwrap().remove("position").is_some());
    assert_eq!(set["daily"], period(json!("10"), "2026-11-21T00:00:00Z"));
    assert_eq!(set, budgets(&api, &key).await);
    let shown = api.get(path(&key, "").trim_end_matches('/')).await.expect(200);
    assert_eq!(shown["budgets"], json!({ "daily": "10", "monthly": "11" }));

    timed.until("2026-11-20T10:03:00Z");
    spend(&api, &key, "1", 10_010_000).await;
    let now = budgets(&api, &key).await;
    let daily = &now["daily"];
    assert_eq!(
        [&daily["settled"], &daily["pending"], &daily["state"], &daily["overshoot"]],
        ["0", "10.01", "open", "0.01"]
    );
    let crossed = json!({ "period": "daily", "starts": "2026-11-20", "limit": "10",
        "crossed_at": "2026-11-20T10:03:00Z", "visible_at": null, "first_refused_at": null,
        "spent_when_visible": null, "spent": "10.01", "overshoot": "0.01", "ended_at": null, "ended": null });
    assert_eq!(daily["breaches"].as_array().unwrap().iter().map(instants).collect::<Vec<_>>(), [crossed]);
    assert_eq!((&now["monthly"]["overshoot"], &now["monthly"]["breaches"]), (&json!("0"), &json!([])));

    // What comes before the close is spent beyond the budget, and enforcement does not know.
    timed.until("2026-11-20T10:07:00Z");
    spend(&api, &key, "2", 2_500_000).await;
    timed.until("2026-11-20T10:09:59Z");
    assert_eq!(budgets(&api, &key).await["daily"]["state"], "open");
    release(&timed, &ask(&timed, &key, 0).await).await;
    closed(&timed, &key, "2026-11-20T10:10:00Z").await;
    let now = budgets(&api, &key).await;
    let monthly = &now["monthly"];
    assert_eq!([&now["daily"]["state"], &monthly["state"]], ["blocked", "blocked"]);
    assert_eq!([&now["daily"]["settled"], &now["daily"]["pending"]], ["12.51", "0"]);
    assert_eq!(instants(&monthly["breaches"][0])["crossed_at"], "2026-11-20T10:07:00Z");
    // Requests that were let in before are charged after.
    let refused = ask(&timed, &key, 0).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("project_daily_budget")));
    eventually(DEADLINE, "the first refusal is written down", || async {
        budgets(&api, &key).await["daily"]["breaches"][0]["first_refused_at"].is_string().then_some(())
    })
    .await;
    timed.until("2026-11-20T10:12:00Z");
    assert_eq!(ask(&timed, &key, 0).await.status, 429);
    spend(&api, &key, "3", 1_000_000).await;
    let now = budgets(&api, &key).await;
    let stopped = json!({ "period": "daily", "starts": "2026-11-20", "limit": "10",
        "crossed_at": "2026-11-20T10:03:00Z", "visible_at": "2026-11-20T10:10:00Z",
        "first_refused_at": "2026-11-20T10:10:00Z", "spent_when_visible": "12.51", "spent": "13.51", "overshoot": "3.51", "ended_at": null, "ended": null });
    assert_eq!(instants(&now["daily"]["breaches"][0]), stopped);

    // Raising lets requests in at once; what it was stays.
    let raised = put(&api, &key, json!("20"), json!("11")).await;
    assert_eq!([&raised["daily"]["state"], &raised["monthly"]["state"]], ["open", "blocked"]);
    let mut over = stopped;
    over["ended_at"] = json!("2026-11-20T10:12:00Z");
    over["ended"] = json!("budget_changed");
    assert_eq!(instants(&raised["daily"]["breaches"][0]), over);
    assert_eq!(raised["daily"]["overshoot"], "0");
    let refused = ask(&timed, &key, 0).await;
    assert_eq!(refused.json()["error"]["code"], "project_monthly_budget", "the month is not raised");
    // Lowering it to what is settled blocks at once; below what is settled and pending, only once that settles.
    let lowered = put(&api, &key, json!("13.51"), json!(null)).await;
    assert_eq!([&lowered["daily"]["state"], &lowered["monthly"]["state"]], ["open", "open"]);
    release(&timed, &ask(&timed, &key, 0).await).await;
    assert_eq!(lowered["daily"]["breaches"][1]["crossed_at"], "2026-11-20T10:12:00Z");
    let lowered = put(&api, &key, json!("12.51"), json!(null)).await;
    assert_eq!(lowered["daily"]["state"], "blocked");
    let breaches = lowered["daily"]["breaches"].as_array().unwrap();
    let ended: Vec<&Value> = breaches.iter().map(|breach| &breach["ended"]).collect();
    assert_eq!(ended, [&json!("budget_changed"), &json!("budget_changed"), &json!(null)]);
    assert_eq!(breaches[2]["visible_at"], "2026-11-20T10:12:00Z");

    // The day ends: the last breach is over, and requests are let in again.
    closed(&timed, &key, "2026-11-20T23:50:00Z").await;
    timed.until("2026-11-21T00:00:00Z");
    let next = budgets(&api, &key).await;
    assert_eq!((&next["daily"]["state"], &next["daily"]["settled"]), (&json!("open"), &json!("0")));
    assert_eq!(next["daily"]["breaches"], json!([]));
    closed(&timed, &key, "2026-11-21T00:00:00Z").await;
    let history = api.all(&path(&key, "breaches")).await;
    let told: Vec<[&str; 3]> = history
        .iter()
        .map(|breach| ["period", "ended", "ended_at"].map(|name| breach[name].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ["monthly", "budget_changed", "2026-11-20T10:12:00Z"],
            ["daily", "budget_changed", "2026-11-20T10:12:00Z"],
            ["daily", "budget_changed", "2026-11-20T10:12:00Z"],
            ["daily", "period_over", "2026-11-21T00:00:00Z"],
        ]
    );
    assert_eq!(history[3]["overshoot"], "1");
    timed.stop().await;
    timed.go_on().await;
    assert_eq!(api.all(&path(&key, "breaches")).await, history, "after a restart");
    timed.rebuild_views().await;
    assert_eq!(api.all(&path(&key, "breaches")).await, history, "after a rebuild");
    assert_eq!(budgets(&api, &key).await["daily"]["state"], "open");
}

#[tokio::test]
async fn r6_3_a_budget_crossed_at_10_03_stops_at_10_10_and_says_what_that_cost() {
    crossed_at_10_03_and_visible_at_10_10(Timed::start("2026-11-20T10:00:00Z").await).await;
}

#[tokio::test]
async fn r6_3_with_the_engine_down_from_10_05_to_10_31_it_stops_at_10_31() {
    let mut timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = timed.api.clone();
    let key = customer(&api).await;
    put(&api, &key, json!("10"), json!(null)).await;
    timed.until("2026-11-20T10:03:00Z");
    spend(&api, &key, "1", 10_010_000).await;
    timed.until("2026-11-20T10:05:00Z");
    let before = budgets(&api, &key).await;
    timed.stop().await;
    timed.until("2026-11-20T10:31:00Z");
    timed.go_on().await;
    eventually(DEADLINE, "the late close is written", || async {
        (budgets(&api, &key).await["daily"]["state"] == "blocked").then_some(())
    })
    .await;
    let after = budgets(&api, &key).await;
    assert_eq!(after["cycle"]["last_closed_at"], "2026-11-20T10:31:00Z");
    assert_eq!(after["cycle"]["closes_at"], "2026-11-20T10:40:00Z");
    let (crossed, stopped) = (&before["daily"]["breaches"][0], &after["daily"]["breaches"][0]);
    assert_eq!(crossed["crossed_in"], stopped["crossed_in"]);
    assert_eq!(
        [&stopped["crossed_at"], &stopped["visible_at"], &stopped["overshoot"]],
        ["2026-11-20T10:03:00Z", "2026-11-20T10:31:00Z", "0.01"]
    );
}

#[tokio::test]
async fn r6_3_without_a_cycle_and_with_strict_enforcement_it_stops_at_once() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = customer(api).await;
    let strict = json!({ "daily": "1", "monthly": null, "enforcement": "strict" });
    assert_eq!(api.put(&path(&key, "budgets"), &strict).await.expect(200)["enforcement"], "strict");
    // What is held counts too, as long as it is held.
    let admitted = ask(&timed, &key, 1_000_000).await;
    let now = budgets(api, &key).await;
    assert_eq!([&now["daily"]["state"], &now["held"]], ["blocked", "1"]);
    assert_eq!(now["daily"]["breaches"], json!([]));
    assert_eq!(ask(&timed, &key, 1).await.json()["error"]["code"], "project_daily_budget");
    release(&timed, &admitted).await;
    let now = budgets(api, &key).await;
    assert_eq!([&now["daily"]["state"], &now["held"]], ["open", "0"]);
    timed.until("2026-11-20T10:03:00Z");
    spend(api, &key, "1", 1_000_000).await;
    let now = budgets(api, &key).await;
    assert_eq!([&now["daily"]["state"], &now["daily"]["pending"]], ["blocked", "1"]);
    assert_eq!(now["daily"]["breaches"][0]["visible_at"], "2026-11-20T10:03:00Z");
    // Left out, it stays strict; settled, nothing of it shows.
    assert_eq!(put(api, &key, json!("0.5"), json!(null)).await["enforcement"], "strict");
    let settled = json!({ "daily": "0.5", "monthly": null, "enforcement": "settled" });
    assert_eq!(api.put(&path(&key, "budgets"), &settled).await.expect(200)["daily"]["state"], "open");

    cycle(api, 0, 0).await;
    let now = budgets(api, &key).await;
    assert_eq!((&now["daily"]["state"], &now["cycle"]["closes_at"]), (&json!("blocked"), &json!(null)));
    put(api, &key, json!("3"), json!(null)).await;
    timed.until("2026-11-20T10:04:00Z");
    spend(api, &key, "2", 2_000_001).await;
    let breaches = &budgets(api, &key).await["daily"]["breaches"];
    let last = breaches.as_array().unwrap().last().unwrap();
    let at = "2026-11-20T10:04:00Z";
    assert_eq!([&last["crossed_at"], &last["visible_at"], &last["overshoot"]], [at, at, "0.000001"]);
}

#[tokio::test]
async fn r6_3_a_close_shows_after_the_delay() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = customer(api).await;
    cycle(api, 600, 120).await;
    put(api, &key, json!("1"), json!(null)).await;
    timed.until("2026-11-20T10:03:00Z");
    spend(api, &key, "1", 1_500_000).await;
    closed(&timed, &key, "2026-11-20T10:10:00Z").await;
    timed.until("2026-11-20T10:11:59.999999999Z");
    spend(api, &key, "2", 250_000).await;
    let now = budgets(api, &key).await;
    assert_eq!((&now["daily"]["state"], &now["cycle"]["delay_seconds"]), (&json!("open"), &json!(120)));
    assert_eq!(now["daily"]["breaches"][0]["visible_at"], "2026-11-20T10:12:00Z");
    timed.until("2026-11-20T10:12:00Z");
    let now = budgets(api, &key).await;
    assert_eq!(now["daily"]["state"], "blocked");
    assert_eq!(now["daily"]["breaches"][0]["spent_when_visible"], "1.75");
}

#[tokio::test]
async fn r6_2_days_and_months_are_those_of_the_organization_s_time_zone() {
    let timed = Timed::start("2026-11-30T15:55:00Z").await;
    let api = &timed.api;
    api.prices(MODEL, "1", "1", "1").await;
    let body = json!({
        "name": "Tokyo", "email": "a@example.com", "creator": { "name": "Ada", "email": "a@example.com" },
        "time_zone": "Asia/Shanghai",
    });
    let org = api.post("/v1/organizations", &body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let project = api.project(&org).await;
    let key = api.key(&org, &project).await;
    let set = put(api, &key, json!("0"), json!("1")).await;
    assert_eq!(set["daily"]["state"], "blocked", "a budget of 0 lets nothing in");
    assert_eq!(
        [&set["daily"]["resets_at"], &set["monthly"]["resets_at"]],
        ["2026-11-30T16:00:00Z", "2026-11-30T16:00:00Z"]
    );
    spend(api, &key, "1", 2_000_000).await;
    // It occurred in November, and blocks nothing in December.
    closed(&timed, &key, "2026-11-30T16:00:00Z").await;
    let now = budgets(api, &key).await;
    assert_eq!([&now["monthly"]["state"], &now["monthly"]["settled"]], ["open", "0"]);
    let history = api.get(&path(&key, "breaches?to=2026-11-30")).await.expect(200)["items"].clone();
    let of: Vec<[&str; 2]> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|breach| ["starts", "overshoot"].map(|name| breach[name].as_str().unwrap()))
        .collect();
    assert_eq!(of, [["2026-11-01", "1"], ["2026-11-30", "2"]]);
    assert_eq!(history[1]["ended_at"], "2026-11-30T16:00:00Z");
}

#[tokio::test]
async fn r6_5_breaches_are_listed_by_day_page_by_page() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = customer(api).await;
    put(api, &key, json!("1"), json!("2")).await;
    for (id, at, close) in [
        ("1", "2026-11-20T10:01:00Z", "2026-11-20T10:10:00Z"),
        ("2", "2026-11-21T10:01:00Z", "2026-11-21T10:10:00Z"),
        ("3", "2026-11-22T10:01:00Z", "2026-11-22T10:10:00Z"),
    ] {
        timed.until(at);
        // What was due in between is written down late; the breach of the day before ends with it.
        caught_up(api, &key).await;
        spend(api, &key, id, 1_000_000).await;
        closed(&timed, &key, close).await;
    }
    let list = async |query: &str| api.get(&path(&key, &format!("breaches{query}"))).await.expect(200);
    let all = list("").await;
    let items = all["items"].as_array().unwrap();
    let told: Vec<[&Value; 3]> =
        items.iter().map(|item| ["period", "starts", "ended"].map(|name| &item[name])).collect();
    assert_eq!(
        json!(told),
        json!([
            ["monthly", "2026-11-01", null],
            ["daily", "2026-11-20", "period_over"],
            ["daily", "2026-11-21", "period_over"],
            ["daily", "2026-11-22", null],
        ])
    );
    assert_eq!((&items[0]["overshoot"], &items[3]["overshoot"]), (&json!("1"), &json!("0")));
    let (mut paged, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("?limit=1{after}")).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_page"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(&paged, items);
    assert_eq!(list("?from=2026-11-21&to=2026-11-21").await["items"], json!([items[2]]));
    assert_eq!(list("?from=2026-11-22").await["items"], json!([items[3]]));
    assert_eq!(list("?from=2026-12-01").await["items"], json!([]));
    assert_eq!(list("?from=2026-11-22&to=2026-11-20").await["items"], json!([]));
    let wrong = api.get(&path(&key, "breaches?from=yesterday&after=x&limit=0")).await;
    assert_eq!(wrong.faults(), ["from", "limit", "after"]);
}

/// Waits until everything that was due by one minute past ten is written down.
async fn caught_up(api: &Api, key: &Key) {
    eventually(DEADLINE, "what is due is written down", || async {
        let cycle = budgets(api, key).await["cycle"].clone();
        cycle["closes_at"].as_str().unwrap().ends_with("T10:10:00Z").then_some(())
    })
    .await;
}

#[tokio::test]
async fn r6_2_budgets_of_others_and_wrong_ones_are_refused() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = customer(api).await;
    let of = |answer: Answer| answer.faults();
    let set = async |body: Value| api.put(&path(&key, "budgets"), &body).await;
    assert_eq!(of(set(json!({})).await), ["daily", "monthly"], "leaving one out removes nothing");
    let wrong = json!({ "daily": "-1", "monthly": 5, "enforcement": "lenient", "weekly": "1" });
    assert_eq!(of(set(wrong).await), ["daily", "monthly", "enforcement", "weekly"]);
    let precise = json!({ "daily": "0.0000000000001", "monthly": null });
    assert_eq!(of(set(precise).await), ["daily"]);
    let small = json!({ "daily": "0.000000000001", "monthly": null });
    assert_eq!(set(small).await.expect(200)["daily"]["limit"], "0.000000000001");

    let nobody = format!("/v1/organizations/{}/projects/proj_none", key.organization);
    for rest in ["budgets", "breaches", "spend-notifications"] {
        assert_eq!(api.get(&format!("{nobody}/{rest}")).await.refused(404), "project_not_found", "{rest}");
    }
    let body = json!({ "daily": null, "monthly": null });
    assert_eq!(api.put(&format!("{nobody}/budgets"), &body).await.refused(404), "project_not_found");
    let project = path(&key, "");
    api.write("DELETE", project.trim_end_matches('/'), &json!({})).await.expect(200);
    assert_eq!(set(body).await.refused(422), "project_archived");
    assert_eq!(budgets(api, &key).await["daily"]["limit"], "0.000000000001", "what was stays to be seen");
}

#[tokio::test]
async fn r6_4_spend_notifications_are_kept_in_order_each_once() {
    let mut timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = timed.api.clone();
    let key = customer(&api).await;
    let at = path(&key, "spend-notifications");
    assert_eq!(api.get(&at).await.expect(200), json!({ "daily": [], "monthly": [] }));
    let body = json!({ "daily": ["5", "1.50", "5.0"], "monthly": ["100"] });
    let kept = json!({ "daily": ["1.5", "5"], "monthly": ["100"] });
    let mut set = api.put(&at, &body).await.expect(200);
    let position = set.as_object_mut().unwrap().remove("position").unwrap();
    assert_eq!(set, kept);
    assert_eq!(api.put(&at, &kept).await.expect(200)["position"], position, "nothing changes");
    timed.stop().await;
    timed.go_on().await;
    assert_eq!(api.get(&at).await.expect(200), kept);

    let refused = async |body: Value| api.put(&at, &body).await;
    let wrong = json!({ "daily": ["1", "0", 5, "-1"], "monthly": ["x"] });
    assert_eq!(refused(wrong).await.faults(), ["daily[2]", "monthly[0]"]);
    let wrong = json!({ "daily": ["1", "0"], "monthly": ["-2"] });
    assert_eq!(refused(wrong).await.faults(), ["daily[1]", "monthly[0]"]);
    let amounts = |count: u32| (1..=count).map(|amount| amount.to_string()).collect::<Vec<_>>();
    assert_eq!(refused(json!({ "daily": amounts(21), "monthly": [] })).await.faults(), ["daily"]);
    assert_eq!(refused(json!({ "daily": ["1"] })).await.faults(), ["monthly"]);
    assert_eq!(api.get(&at).await.expect(200), kept);
    let full = refused(json!({ "daily": amounts(20), "monthly": [] })).await.expect(200);
    assert_eq!(full["daily"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn r7_1_the_threshold_is_the_ledger_s_unless_the_organization_has_its_own() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = api.customer("Acme").await;
    let at = format!("/v1/organizations/{}/balance-alert", key.organization);
    let shown = async || api.get(&at).await.expect(200);
    let alert = |threshold: Value, default: bool, armed: bool| json!({ "threshold": threshold, "default": default, "armed": armed });
    assert_eq!(shown().await, alert(json!("5"), true, false), "it never was above");
    api.recharge(&key.organization, "20", "a").await;
    assert_eq!(shown().await, alert(json!("5"), true, true));
    let defaults = json!({ "balance_alert_threshold": null, "max_output_tokens": 4096 });
    api.put("/v1/config/defaults", &defaults).await.expect(200);
    assert_eq!(shown().await, alert(json!(null), true, false));
    let set = async |threshold: Value| api.put(&at, &json!({ "threshold": threshold })).await;
    // Above the balance: told at once, and armed only once it was above again.
    assert_eq!(set(json!("100")).await.expect(200)["armed"], false);
    assert_eq!(shown().await, alert(json!("100"), false, false));
    assert_eq!(set(json!("2.50")).await.expect(200)["threshold"], "2.5");
    assert_eq!(shown().await, alert(json!("2.5"), false, true));
    assert_eq!(set(json!("0")).await.refused(422), "amount_not_positive");
    assert_eq!(set(json!(5)).await.faults(), ["threshold"]);
    assert_eq!(api.put(&at, &json!({})).await.faults(), ["threshold"]);
    set(json!(null)).await.expect(200);
    assert_eq!(shown().await, alert(json!(null), false, false));
    let defaults = json!({ "balance_alert_threshold": "7", "max_output_tokens": 4096 });
    api.put("/v1/config/defaults", &defaults).await.expect(200);
    assert_eq!(shown().await, alert(json!(null), false, false), "its own wish counts");
}

/// A member of the organization in a project's role, and a console that acts for them.
async fn joined(api: &Api, key: &Key, projects: &Value) -> Api {
    let org = format!("/v1/organizations/{}", key.organization);
    let invitation = json!({ "role": "member", "projects": projects });
    let invited = api.post(&format!("{org}/invitations"), &invitation).await.expect(201);
    let accept = json!({ "token": invited["token"], "name": "Ada", "email": "ada@example.com" });
    let accepted = api.post("/v1/invitations/accept", &accept).await.expect(201);
    let member = accepted["member"]["id"].as_str().unwrap();
    api.with_token(&api.service_token(&["console"], None).await).acting(member)
}

#[tokio::test]
async fn r3_1_who_may_see_and_set_budgets() {
    let timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = &timed.api;
    let key = customer(api).await;
    let org = format!("/v1/organizations/{}", key.organization);
    api.post(&format!("{org}/verification"), &json!({ "level": "enterprise_verified" })).await.expect(200);
    put(api, &key, json!("10"), json!(null)).await;
    let of = |role: &str| json!([{ "project": key.project, "role": role }]);
    let administrator = joined(api, &key, &of("administrator")).await;
    let member = joined(api, &key, &of("member")).await;
    let outsider = joined(api, &key, &json!([])).await;
    let writes = [
        (path(&key, "budgets"), json!({ "daily": "7", "monthly": null })),
        (path(&key, "spend-notifications"), json!({ "daily": ["1"], "monthly": [] })),
    ];
    for (at, body) in &writes {
        administrator.put(at, body).await.expect(200);
        for refused in [&member, &outsider] {
            assert_eq!(refused.put(at, body).await.refused(403), "role_missing", "{at}");
        }
    }
    for rest in ["budgets", "breaches", "spend-notifications"] {
        for allowed in [&administrator, &member] {
            allowed.get(&path(&key, rest)).await.expect(200);
        }
        assert_eq!(outsider.get(&path(&key, rest)).await.refused(403), "role_missing", "{rest}");
    }
    let project = path(&key, "");
    let project = project.trim_end_matches('/');
    assert_eq!(member.get(project).await.expect(200)["budgets"]["daily"], "7");
    assert_eq!(outsider.get(project).await.expect(200)["budgets"], Value::Null);
    for nobody in [&administrator, &member, &outsider] {
        let alert = format!("{org}/balance-alert");
        assert_eq!(nobody.get(&alert).await.refused(403), "role_missing");
        assert_eq!(nobody.put(&alert, &json!({ "threshold": "1" })).await.refused(403), "role_missing");
    }
}

#[tokio::test]
async fn r6_3_the_same_on_jetstream() {
    let nats = NatsServer::start().await;
    let at = tollbook_engine::clock::Clock::System.now().to_string();
    let mut timed = Timed::start_on(&nats, &at).await;
    let api = timed.api.clone();
    let key = customer(&api).await;
    // So that no midnight comes before the close.
    cycle(&api, 1, 0).await;
    put(&api, &key, json!("1"), json!("1.5")).await;
    spend(&api, &key, "1", 2_000_000).await;
    let closes = budgets(&api, &key).await["cycle"]["closes_at"].as_str().unwrap().to_owned();
    closed(&timed, &key, &closes).await;
    let before = api.all(&path(&key, "breaches")).await;
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(before.iter().all(|breach| breach["visible_at"] == closes.as_str()), "{before:?}");
    timed.rebuild_views().await;
    assert_eq!(api.all(&path(&key, "breaches")).await, before);
}

#[tokio::test]
async fn r6_5_what_breaches_cost_is_counted_and_a_restart_counts_no_history() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = customer(&api).await;
    cycle(&api, 0, 0).await;
    put(&api, &key, json!(null), json!("1")).await;
    spend(&api, &key, "1", 3_000_000).await;
    let counted = async |name: &str| api.metric(&format!("{name}{{period=\"monthly\"}}")).await;
    assert_eq!(counted("tollbook_budget_breaches_total").await, None, "it is not over");
    put(&api, &key, json!(null), json!("5")).await;
    assert_eq!(counted("tollbook_budget_breaches_total").await, Some(1));
    assert_eq!(counted("tollbook_budget_overshoot_sum").await, Some(2));
    system.terminate().await;
    std::fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert_eq!(api.all(&path(&key, "breaches")).await.len(), 1);
    assert_eq!(counted("tollbook_budget_breaches_total").await, None);
}
