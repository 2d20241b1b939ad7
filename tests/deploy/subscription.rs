//! Subscriptions to alerts, from the request to the subscriber's last acknowledgement, in the accounts as they are deployed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tollbook_engine::clock::Clock;
use tollbook_schemas::time::Timestamp;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::python::{interpreter, run};
use tollbook_tests::system::{Api, Key, System, example};

use crate::deployment::{Caller, DEADLINE, Deployment, ENGINE, MONITOR, SUBSCRIBER};

const PACKAGE: &str = "nats-py[nkeys]==2.16.0";
const MODEL: &str = "kimi-k2.5";
/// Twice as long as an acknowledgement may take.
const REDELIVERY: Duration = Duration::from_secs(60);
/// Longer than what a subscription may get from before it, and than an alert takes into the feed.
const OVERLAP_SECONDS: i64 = 3;
const PATH: &str = "/v1/alert-subscriptions";

/// A server with the engine's keys.
async fn serving(deployment: &Deployment, files: &Path) -> System {
    let seed = |name: &str, principal| {
        let path = files.join(name);
        fs::write(&path, deployment.seed(principal)).unwrap();
        path.display().to_string()
    };
    let urls: Vec<String> = deployment.servers.iter().map(NatsServer::url).collect();
    let (engine, monitor) = (seed("engine.nk", ENGINE), seed("monitor.nk", MONITOR));
    let config = files.join("tollbook.toml");
    let text = format!("[nats]\nurl = {urls:?}\nnkey = {engine:?}\n[nats.system]\nnkey = {monitor:?}\n");
    fs::write(&config, text).unwrap();
    System::builder().arg("--config").arg(config.display().to_string()).start().await
}

/// A customer with three alerts: its first recharge brought a tier and a voucher, and then its balance fell to $4.
async fn poor(api: &Api, name: &str) -> Key {
    let key = api.customer(name).await;
    api.recharge(&key.organization, "10", "first").await;
    fall(api, &key, "first", "11").await;
    key
}

async fn fall(api: &Api, key: &Key, id: &str, cost: &str) {
    let mut event = key.event(id, MODEL);
    event["data"]["cost"] = json!(cost);
    api.events(&[event]).await;
}

/// The feed, once it holds so many alerts.
async fn feed(api: &Api, count: usize) -> Vec<Value> {
    let feed = eventually(DEADLINE, "alerts are in the feed", || async {
        Some(api.all("/v1/alerts").await).filter(|feed| feed.len() >= count)
    })
    .await;
    assert_eq!(feed.len(), count, "{feed:#?}");
    feed
}

fn ids<'a>(events: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    events.into_iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn consumer(engine: &Caller, name: &str) -> Option<PullConsumer> {
    engine.jetstream().get_consumer_from_stream(name, "TOLLBOOK_ALERTS").await.ok()
}

/// How many alerts a consumer has still to deliver.
async fn pending(engine: &Caller, name: &str) -> u64 {
    consumer(engine, name).await.unwrap().cached_info().num_pending
}

async fn subscribes(deployment: &Deployment) {
    let files = tempfile::tempdir().unwrap();
    let mut system = serving(deployment, files.path()).await;
    let api = system.api.clone();
    let engine = deployment.connect(ENGINE).await;
    api.prices(MODEL, "0.60", "0.10", "3.00").await;
    let before = poor(&api, "Before").await;
    // Alerts from shortly before may be delivered, as clocks differ; these are to be from before that.
    let last: Timestamp = feed(&api, 3).await[2]["event"]["time"].as_str().unwrap().parse().unwrap();
    eventually(DEADLINE, "the alerts are of some time ago", || async {
        (Clock::System.now() > last.plus_seconds(OVERLAP_SECONDS)).then_some(())
    })
    .await;
    let (one, other) = (api.customer("One").await, api.customer("Other").await);
    let keyed = |body: Value| api.request("POST", PATH).header("Idempotency-Key", "k").json(&body);
    let made = api.send(keyed(json!({ "name": "mail" }))).await.expect(201);
    assert_eq!((&made["name"], &made["organizations"]), (&json!("mail"), &Value::Null));
    let again = api.send(keyed(json!({ "name": "mail" }))).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.expect(201), made);
    let limited = json!({ "name": "pager", "organizations": [other.organization] });
    api.post(PATH, &limited).await.expect(201);
    api.post(PATH, &limited).await.expect(201);
    let taken = api.post(PATH, &json!({ "name": "pager" })).await;
    assert_eq!(taken.refused(409), "name_taken");
    let listed = api.all(PATH).await;
    assert_eq!(listed.iter().map(|item| &item["name"]).collect::<Vec<_>>(), ["mail", "pager"]);
    assert_eq!(api.get(&format!("{PATH}/pager")).await.expect(200), listed[1]);
    // Whoever was answered finds the consumers there.
    assert!(consumer(&engine, "mail").await.is_some() && consumer(&engine, "pager").await.is_some());

    for key in [&one, &other] {
        api.recharge(&key.organization, "10", "first").await;
        fall(&api, key, "first", "11").await;
    }
    let fed = feed(&api, 9).await;
    let (handled, seed) = (files.path().join("handled"), files.path().join("mail.nk"));
    fs::write(&seed, deployment.seed(SUBSCRIBER)).unwrap();
    let (url, handled) = (deployment.servers[0].url(), handled.display().to_string());
    let seed = seed.display().to_string();
    let printed = run(example("alert_subscriber"), &[&url, "mail", &handled, "6", &seed]).await;
    let said = lines(&printed);
    assert!(said.iter().all(|said| said["repeated"] == false), "{said:?}");
    assert_eq!(ids(&said), ids(fed[3..].iter().map(|fed| &fed["event"])), "none of {before:?}");
    assert_eq!((pending(&engine, "mail").await, pending(&engine, "pager").await), (0, 3));

    // One is delivered, handled, and not acknowledged: whoever comes next knows it again.
    api.recharge(&one.organization, "5", "second").await;
    fall(&api, &one, "second", "6").await;
    let fed = feed(&api, 10).await;
    let subscriber = deployment.connect(SUBSCRIBER).await;
    let mail: PullConsumer =
        subscriber.ledger().get_consumer_from_stream("mail", "TOLLBOOK_ALERTS").await.unwrap();
    let mut messages = mail.messages().await.unwrap();
    // What a cluster sent to the subscriber that has just ended comes again when that has not acknowledged it.
    let message = tokio::time::timeout(REDELIVERY, async {
        loop {
            if let Some(Ok(message)) = messages.next().await {
                return message;
            }
        }
    });
    let message = message.await.unwrap();
    assert_eq!(message.payload, fed[9]["event"].to_string());
    let known = fs::read_to_string(&handled).unwrap();
    fs::write(&handled, format!("{known}{}\n", fed[9]["event"]["id"].as_str().unwrap())).unwrap();
    // Its pull ends, so that what comes again comes to others.
    drop(messages);
    message.ack_with(AckKind::Nak(None)).await.unwrap();
    fall(&api, &other, "third", "1").await;
    api.recharge(&other.organization, "5", "second").await;
    fall(&api, &other, "second", "6").await;
    let fed = feed(&api, 11).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/alert_subscriber.py");
    let script = script.display().to_string();
    let python = interpreter(PACKAGE, "nats, nkeys").await;
    let printed = run(&python, &[&script, &url, "mail", &handled, "1", &seed]).await;
    let said = lines(&printed);
    let seen: Vec<(&Value, bool)> = said.iter().map(|said| (&said["id"], said["repeated"] == true)).collect();
    assert_eq!(
        seen.iter().filter(|(_, repeated)| !repeated).collect::<Vec<_>>(),
        [&(&fed[10]["event"]["id"], false)]
    );
    assert!(seen.iter().all(|(id, repeated)| !repeated || **id == fed[9]["event"]["id"]), "{seen:?}");
    subscriber.nothing_denied().await;

    // A consumer that somebody has deleted is made again, with everything since the subscription; one that is removed goes.
    let stream = engine.jetstream().get_stream("TOLLBOOK_ALERTS").await.unwrap();
    stream.delete_consumer("pager").await.unwrap();
    system.restart().await;
    let engine = &engine;
    eventually(DEADLINE, "the consumer is made again", || async {
        Some(consumer(engine, "pager").await?.cached_info().num_pending).filter(|pending| *pending == 4)
    })
    .await;
    let removed = api.write("DELETE", &format!("{PATH}/pager"), &json!({})).await.expect(200);
    assert_eq!((&removed["name"], &removed["state"]), (&json!("pager"), &json!("removed")));
    assert!(consumer(engine, "pager").await.is_none());
    assert_eq!(api.get(&format!("{PATH}/pager")).await.refused(404), "alert_subscription_not_found");
    // The same name for others is another one: none of what its predecessor had.
    api.post(PATH, &json!({ "name": "pager", "organizations": [before.organization] })).await.expect(201);
    assert_eq!(pending(engine, "pager").await, 0);
    api.recharge(&before.organization, "5", "second").await;
    fall(&api, &before, "second", "6").await;
    feed(&api, 12).await;
    assert_eq!(pending(engine, "pager").await, 1);
    engine.nothing_denied().await;
}

#[tokio::test]
async fn r7_3_a_subscription_delivers_each_alert_to_its_subscriber() {
    subscribes(&Deployment::one_node().await).await;
}

#[tokio::test]
async fn r7_3_a_subscription_delivers_each_alert_on_three_nodes() {
    subscribes(&Deployment::three_nodes().await).await;
}
