//! Usage over HTTP: every shape it may have, and that nothing of a refused request is kept.

use serde_json::{Value, json};
use tollbook_tests::system::System;

use super::{MODEL, calls, check_spend, priced};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const EITHER: &str = "application/json";

#[tokio::test]
async fn every_shape_is_taken_once_durable() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let key = api.customer("Acme").await;
    let one = |id: &str| key.event(id, MODEL).to_string();
    let batch =
        |ids: &[&str]| json!(ids.iter().map(|id| key.event(id, MODEL)).collect::<Vec<_>>()).to_string();
    let taken = [
        (ONE, one("1")),
        ("Application/CloudEvents+JSON; charset=utf-8", one("2")),
        (BATCH, batch(&["3", "4"])),
        ("application/cloudevents-batch+json;charset=UTF-8", batch(&["5"])),
        (EITHER, one("6")),
        ("application/json; charset=utf-8", batch(&["7", "8"])),
        (BATCH, batch(&[])),
    ];
    for (media_type, body) in taken {
        let answer = api.send(api.raw(body, media_type)).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{media_type}");
    }
    let request = api.request("POST", "/api/v1/events").header("content-type", ONE).body(one("9"));
    api.send(request).await.expect(204);
    check_spend(api, &key.organization, calls(9)).await;
    // Again, and in one request: each counts once.
    api.events(&[key.event("9", MODEL), key.event("10", MODEL), key.event("10", MODEL)]).await;
    check_spend(api, &key.organization, calls(10)).await;
    assert_eq!(api.quarantine().await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_bad_event_keeps_all_others_out_and_every_bad_one_is_named() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let key = api.customer("Acme").await;
    let mut events: Vec<Value> = (0..10).map(|index| key.event(&index.to_string(), MODEL)).collect();
    events[2]["data"]["input_tokens"] = json!(-1);
    events[5]["data"].as_object_mut().unwrap().remove("model");
    events[7]["subject"] = json!("acme");
    events[7]["time"] = json!("tomorrow");
    let refused = api.send(api.batch(&events)).await;
    assert_eq!(refused.refused(400), "invalid_fields");
    let named: Vec<(u64, String)> = refused.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| (fault["index"].as_u64().unwrap(), fault["field"].as_str().unwrap().to_owned()))
        .collect();
    let named: Vec<(u64, &str)> = named.iter().map(|(index, field)| (*index, field.as_str())).collect();
    assert_eq!(named, [(2, "data.input_tokens"), (5, "data.model"), (7, "subject"), (7, "time")]);
    check_spend(api, &key.organization, calls(0)).await;
    events[2] = key.event("2", MODEL);
    events[5] = key.event("5", MODEL);
    events[7] = key.event("7", MODEL);
    api.events(&events).await;
    check_spend(api, &key.organization, calls(10)).await;
}

#[tokio::test]
async fn a_shape_that_the_media_type_does_not_name_is_refused() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let one = key.event("1", MODEL).to_string();
    for (media_type, body) in [(ONE, format!("[{one}]")), (BATCH, one.clone()), (EITHER, "7".to_owned())] {
        let answer = api.send(api.raw(body, media_type)).await;
        assert_eq!(answer.refused(400), "malformed", "{media_type}");
    }
    for media_type in
        ["text/plain", "application/xml", "application/cloudevents", "json", "application/*", ""]
    {
        let answer = api.send(api.raw(one.clone(), media_type)).await;
        assert_eq!(answer.refused(415), "media_type", "{media_type:?}");
    }
    let bare = api.send(api.request("POST", "/v1/events").body(one)).await;
    assert_eq!(bare.refused(415), "media_type");
}

#[tokio::test]
async fn a_thousand_events_and_a_mebibyte_are_the_most() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let key = api.customer("Acme").await;
    let mut events: Vec<Value> = (0..1_001).map(|index| key.event(&index.to_string(), MODEL)).collect();
    let answer = api.send(api.batch(&events)).await;
    assert_eq!(answer.refused(413), "too_large");
    events.pop();
    api.events(&events).await;
    check_spend(api, &key.organization, calls(1_000)).await;
    let padded = |length: usize| {
        let body = key.event("padded", MODEL).to_string();
        let room = length - body.len() - 2;
        format!("[{body}{}]", " ".repeat(room))
    };
    api.send(api.raw(padded(1024 * 1024), BATCH)).await.expect(204);
    assert_eq!(api.send(api.raw(padded(1024 * 1024 + 1), BATCH)).await.refused(413), "too_large");
    // Without a length in its head, too.
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: tollbook\r\nAuthorization: Bearer {}\r\nContent-Type: {BATCH}\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        api.token()
    );
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    let answer = api.exchange(&format!("{head}{}0\r\n\r\n", chunk.repeat(17))).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    check_spend(api, &key.organization, calls(1_001)).await;
}

#[tokio::test]
async fn what_only_state_can_tell_is_taken_and_quarantined_with_its_reason() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let (key, other) = (api.customer("Acme").await, api.customer("Other").await);
    let change = |id: &str, change: &dyn Fn(&mut Value)| {
        let mut event = key.event(id, MODEL);
        change(&mut event);
        event
    };
    let events = [
        key.event("good", MODEL),
        change("1", &|event| event["subject"] = json!("org_unknown")),
        change("2", &|event| event["data"]["api_key_id"] = json!("ak_unknown")),
        change("3", &|event| event["data"]["api_key_id"] = json!(other.id)),
        key.event("4", "unknown"),
        change("5", &|event| event["data"]["meters"] = json!({ "image": 1 })),
        change("6", &|event| event["time"] = json!("2020-02-02T00:00:00Z")),
        change("good", &|event| event["data"]["output_tokens"] = json!(11)),
        change("7", &|event| {
            let data = event["data"].as_object_mut().unwrap();
            data.remove("api_key_id");
            data.insert("project".to_owned(), json!("proj_unknown"));
        }),
    ];
    api.events(&events).await;
    check_spend(api, &key.organization, calls(1)).await;
    let quarantine = api.quarantine().await;
    let mut found: Vec<(&str, &str)> = quarantine
        .iter()
        .map(|item| (item["event"]["id"].as_str().unwrap(), item["reason"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("1", "unknown_organization"),
        ("2", "unknown_key"),
        ("3", "unknown_key"),
        ("4", "unknown_model"),
        ("5", "unknown_meter"),
        ("6", "too_old"),
        ("7", "unknown_project"),
        ("good", "conflicting_id"),
    ];
    assert_eq!(found, expected);
    assert!(quarantine.iter().all(|item| item["id"].is_string() && item["position"].is_string()));
    let page = api.get("/v1/quarantine?limit=3").await.expect(200);
    let after = page["next_page"].as_str().unwrap();
    let rest = api.get(&format!("/v1/quarantine?after={after}")).await.expect(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 5);
}
