//! Alerts: listed, streamed and fed, each once, whatever happens to the server (R7.3).

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::sse::{Event, Events};
use tollbook_tests::system::{Api, DEADLINE, Key, System, SystemBuilder};

use super::{MODEL, priced};

fn of(key: &Key) -> String {
    format!("/v1/organizations/{}/alerts", key.organization)
}

/// Usage that cost this much.
async fn used(api: &Api, key: &Key, id: &str, cost: &str) {
    let mut event = key.event(id, MODEL);
    event["data"]["cost"] = json!(cost);
    api.events(&[event]).await;
    api.folded().await;
}

/// A customer whose first recharge brought a tier and a voucher, and whose balance of $15 fell to $4.
async fn poor(api: &Api) -> Key {
    let key = api.customer("Acme").await;
    api.recharge(&key.organization, "10", "first").await;
    used(api, &key, "first", "11").await;
    key
}

/// The kinds of a poor customer's alerts.
const POOR: [&str; 3] = ["tier_changed", "voucher_granted", "balance_low"];

async fn follow(api: &Api, path: &str, last: Option<&str>) -> Events {
    let mut request = api.request("GET", path);
    if let Some(last) = last {
        request = request.header("Last-Event-ID", last);
    }
    Events::open(request).await
}

/// The whole feed, once it holds so many alerts.
async fn feed(api: &Api, count: usize) -> Vec<Value> {
    let feed = eventually(DEADLINE, "alerts are in the feed", || async {
        Some(api.all("/v1/alerts").await).filter(|feed| feed.len() >= count)
    })
    .await;
    assert_eq!(feed.len(), count, "{feed:#?}");
    let ids: BTreeSet<&str> = feed.iter().map(|fed| fed["event"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), count, "each once");
    for (fed, sequence) in feed.iter().zip(1_u64..) {
        assert_eq!(fed["sequence"], sequence);
    }
    feed.iter().map(|fed| fed["event"].clone()).collect()
}

fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.event.as_str()).collect()
}

async fn told_once(builder: SystemBuilder) {
    let mut system = builder.start().await;
    let api = &system.api.clone();
    priced(api).await;
    let mut whole = follow(api, "/v1/alerts/stream", None).await;
    let key = poor(api).await;
    let mut stream = follow(api, &format!("{}/stream?after=0-0", of(&key)), None).await;
    let seen = stream.take(3).await;
    assert_eq!(kinds(&seen), POOR);
    let low = seen[2].json();
    assert_eq!(low["data"], json!({ "threshold": "5", "available": "4" }));
    assert_eq!((&low["specversion"], &low["type"]), (&json!("1.0"), &json!("tollbook.alert.balance_low.v1")));
    assert_eq!(low["subject"], key.organization.as_str());
    assert_eq!(seen[2].id, format!("{}-balance_low-{}", low["position"].as_str().unwrap(), low["number"]));

    // Everywhere the same, to the byte.
    let events: Vec<Value> = seen.iter().map(Event::json).collect();
    assert_eq!(feed(api, 3).await, events);
    let fed = whole.take(3).await;
    assert_eq!(
        fed.iter().map(|event| &event.data).collect::<Vec<_>>(),
        seen.iter().map(|event| &event.data).collect::<Vec<_>>()
    );
    assert_eq!(fed.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    let listed = api.all(&of(&key)).await;
    for (item, event) in listed.iter().zip(&events) {
        let kind = event["type"].as_str().unwrap().split('.').nth(2).unwrap();
        let expected = json!({
            "id": event["id"], "kind": kind, "position": event["position"], "raised_at": event["time"], "data": event["data"],
        });
        assert_eq!(*item, expected);
    }
    assert_eq!(listed.len(), 3);
    let page = api.get(&format!("{}?limit=2", of(&key))).await.expect(200);
    assert_eq!(page["next_page"], seen[1].id);

    // Killed, and then with views that must be made again.
    system.restart().await;
    assert!(stream.next().await.is_none() && whole.next().await.is_none(), "streams end with the server");
    assert_eq!(feed(api, 3).await, events);
    system.terminate().await;
    fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert_eq!(api.all(&of(&key)).await, listed);
    let (mut stream, mut whole) = (
        follow(api, &format!("{}/stream", of(&key)), Some(&seen[0].id)).await,
        follow(api, "/v1/alerts/stream", Some("2")).await,
    );
    // Above the threshold, below it again.
    api.recharge(&key.organization, "5", "second").await;
    used(api, &key, "second", "6").await;
    assert_eq!(stream.take(2).await, seen[1..]);
    let again = stream.take(1).await;
    assert_eq!(kinds(&again), ["balance_low"]);
    assert_eq!(feed(api, 4).await, [&events[..], &[again[0].json()]].concat());
    assert_eq!(
        whole.take(2).await.iter().map(Event::json).collect::<Vec<_>>(),
        [events[2].clone(), again[0].json()]
    );
    assert_eq!(
        api.metric("tollbook_alerts_total{kind=\"balance_low\"}").await,
        Some(1),
        "one since the start"
    );
    eventually(DEADLINE, "the outbox is empty", || async {
        let rows = api.metric("tollbook_alert_outbox_rows{partition=\"0\"}").await;
        (rows == Some(0)).then_some(())
    })
    .await;

    // A server that is told to stop does not wait for whoever only listens.
    system.terminate().await;
    assert!(stream.next().await.is_none() && whole.next().await.is_none());
}

#[tokio::test]
async fn r7_3_each_alert_is_told_once_through_crashes_and_rebuilt_views() {
    told_once(System::builder()).await;
}

#[tokio::test]
async fn r7_3_each_alert_is_told_once_over_nats_through_crashes_and_rebuilt_views() {
    let nats = NatsServer::start().await;
    told_once(System::builder().nats(&nats)).await;
}

#[tokio::test]
async fn r7_3_a_takeover_raises_nothing_again_and_loses_nothing() {
    let nats = NatsServer::start().await;
    let mut first = System::builder().nats(&nats).start().await;
    priced(&first.api).await;
    let key = poor(&first.api).await;
    let second = System::builder().nats(&nats).start_standby().await;
    // A standby reads the feed as well, and its own view.
    let mut whole = follow(&second.api, "/v1/alerts/stream?after=0", None).await;
    assert_eq!(kinds(&whole.take(3).await), POOR);
    let mut stream = follow(&second.api, &format!("{}/stream?after=0-0", of(&key)), None).await;
    assert_eq!(kinds(&stream.take(3).await), POOR);
    let before = feed(&first.api, 3).await;
    first.kill();
    second.ready().await;
    second.api.recharge(&key.organization, "5", "second").await;
    used(&second.api, &key, "second", "6").await;
    assert_eq!(kinds(&stream.take(1).await), ["balance_low"]);
    assert_eq!(kinds(&whole.take(1).await), ["balance_low"]);
    assert_eq!(feed(&second.api, 4).await[..3], before);
}

#[tokio::test]
async fn r3_members_of_projects_see_the_alerts_of_their_projects() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let key = poor(api).await;
    let org = format!("/v1/organizations/{}", key.organization);
    for level in ["verified", "enterprise_verified"] {
        api.post(&format!("{org}/verification"), &json!({ "level": level })).await.expect(200);
    }
    let join = async |name: &str| {
        let invitation =
            api.post(&format!("{org}/invitations"), &json!({ "role": "member" })).await.expect(201);
        let accept = json!({ "token": invitation["token"], "name": name, "email": "m@example.com" });
        let accepted = api.post("/v1/invitations/accept", &accept).await.expect(201);
        accepted["member"]["id"].as_str().unwrap().to_owned()
    };
    let (inside, outside) = (join("Ina").await, join("Otto").await);
    let members = format!("{org}/projects/{}/members", key.project);
    api.post(&members, &json!({ "member": inside, "role": "member" })).await.expect(201);
    api.put(&format!("{org}/projects/{}/budgets", key.project), &json!({ "daily": "120", "monthly": null }))
        .await
        .expect(200);
    api.put("/v1/config/billing-cycle", &json!({ "cycle_seconds": 0 })).await.expect(200);
    used(api, &key, "much", "90").await;

    let shown = api.get(&org).await.expect(200);
    let creator = api.acting(shown["creator"]["id"].as_str().unwrap());
    let path = of(&key);
    let kinds_of = async |api: &Api| -> Vec<String> {
        let listed = api.all(&path).await;
        listed.iter().map(|alert| alert["kind"].as_str().unwrap().to_owned()).collect()
    };
    let all = kinds_of(&creator).await;
    assert!(all.contains(&"balance_low".to_owned()) && all.contains(&"budget_warning".to_owned()), "{all:?}");
    assert_eq!(kinds_of(&api.acting(&inside)).await, ["budget_warning"]);
    let mut stream = follow(&api.acting(&inside), &format!("{path}/stream?after=0-0"), None).await;
    assert_eq!(kinds(&stream.take(1).await), ["budget_warning"]);
    for path in [path.clone(), format!("{path}/stream")] {
        assert_eq!(api.acting(&outside).get(&path).await.refused(403), "role_missing", "{path}");
    }
    // Whoever is removed is not told any more.
    let removed = format!("{org}/members/{inside}");
    api.write("DELETE", &removed, &json!({})).await.expect(200);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn streams_and_pages_begin_only_where_there_is_something_to_begin_after() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let path = of(&key);
    for after in ["1-0", "x", "0-5-low-1", "0-5-balance_low"] {
        assert_eq!(api.get(&format!("{path}?after={after}")).await.refused(400), "invalid_fields", "{after}");
        assert_eq!(api.get(&format!("{path}/stream?after={after}")).await.refused(400), "invalid_fields");
        let header = api.request("GET", &format!("{path}/stream")).header("Last-Event-ID", after);
        assert_eq!(api.send(header).await.status, 400);
    }
    assert_eq!(api.get("/v1/alerts?after=-1").await.refused(400), "invalid_fields");
    let header = api.request("GET", "/v1/alerts/stream").header("Last-Event-ID", "none");
    assert_eq!(api.send(header).await.refused(400), "malformed");
    let limited = api.with_token(&api.service_token(&["operator"], Some(&[&key.organization])).await);
    for path in ["/v1/alerts", "/v1/alerts/stream", "/v1/alert-subscriptions"] {
        assert_eq!(limited.get(path).await.refused(403), "forbidden", "{path}");
    }
    // A token that is revoked ends its streams.
    let issued = api.post("/v1/tokens", &json!({ "name": "t", "scopes": ["auditor"] })).await.expect(201);
    let auditor = api.with_token(issued["secret"].as_str().unwrap());
    let (mut stream, mut whole) = (
        follow(&auditor, &format!("{path}/stream"), None).await,
        follow(&auditor, "/v1/alerts/stream", None).await,
    );
    let token = format!("/v1/tokens/{}", issued["id"].as_str().unwrap());
    api.write("DELETE", &token, &json!({})).await.expect(200);
    assert!(stream.next().await.is_none() && whole.next().await.is_none());
    // With the log embedded there is nothing to subscribe to.
    let refused = api.post("/v1/alert-subscriptions", &json!({ "name": "mail" })).await;
    assert_eq!(refused.refused(422), "no_alert_stream");
    assert_eq!(api.all("/v1/alert-subscriptions").await, Vec::<Value>::new());
}
