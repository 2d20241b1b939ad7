//! Usage that could not be booked, or should not have been: quarantine, release, reversal, and each record's way.

use serde_json::{Value, json};
use tollbook_tests::system::{Api, Key, System};

use super::{MODEL, calls, check_spend, priced};

fn id(item: &Value) -> String {
    item["id"].as_str().unwrap().to_owned()
}

fn counted(mut event: Value, count: u64) -> Value {
    event["producerseq"] = json!(count.to_string());
    event
}

async fn release(api: &Api, id: &str, body: &Value) -> Value {
    api.post(&format!("/v1/quarantine/{id}/release"), body).await.expect(200)
}

async fn listed(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/v1/quarantine?{query}")).await.expect(200);
    assert!(page["next_page"].is_null());
    page["items"].as_array().unwrap().clone()
}

async fn traced(api: &Api, key: &Key, query: &str) -> Value {
    let path = format!("/v1/organizations/{}/usage-records?{query}", key.organization);
    api.get(&path).await.expect(200)
}

fn outcomes(way: &Value) -> Vec<&str> {
    way["items"].as_array().unwrap().iter().map(|item| item["outcome"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn r8_1_a_quarantined_record_is_released_once_its_cause_is_mended() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = api.customer("Acme").await;
    api.recharge(&key.organization, "1", "a").await;
    api.events(&[key.event("1", MODEL), key.event("2", MODEL), key.event("3", "other")]).await;
    let waiting = listed(&api, "").await;
    assert_eq!(waiting.len(), 3);
    assert!(waiting.iter().all(|item| item["reason"] == "unknown_model" && item["state"] == "open"));
    let [first, second, third] = [0, 1, 2].map(|index: usize| id(&waiting[index]));

    let path = format!("/v1/quarantine/{first}/release");
    let refused = api.post(&path, &json!({})).await;
    assert_eq!(refused.refused(422), "still_unbookable");
    assert!(refused.json()["detail"].as_str().unwrap().contains("unknown_model"), "{refused:?}");
    priced(&api).await;
    let released = release(&api, &first, &json!({})).await;
    assert_eq!((&released["id"], &released["state"]), (&json!(first), &json!("released")));
    let booked = &released["released"]["booked"];
    assert_eq!((&booked["cost"], &booked["project"]), (&json!("0.00007"), &json!(key.project)));
    assert_eq!((&booked["api_key"], &booked["model"]), (&json!(key.id), &json!(MODEL)));
    assert_eq!(released["settled"]["position"], released["position"]);
    check_spend(&api, &key.organization, calls(1)).await;
    assert_eq!(api.balance(&key.organization).await["cash"], "0.99993");
    // The same again changes nothing and answers the same, and so does the record that comes again.
    let again = api.post(&path, &json!({})).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.expect(200), released);
    api.events(&[key.event("1", MODEL)]).await;
    check_spend(&api, &key.organization, calls(1)).await;

    // Mended: all that holds for published usage holds for it, and it stays the record that it is.
    let path = format!("/v1/quarantine/{third}/release");
    let mut bad = key.event("3", MODEL);
    bad["data"]["input_tokens"] = json!(-1);
    bad["data"]["cached_input_tokens"] = json!(0);
    assert_eq!(api.post(&path, &json!({ "event": bad })).await.faults(), ["event.data.input_tokens"]);
    assert_eq!(api.post(&path, &json!({ "event": "text" })).await.faults(), ["event"]);
    assert_eq!(api.post(&path, &json!({ "events": [] })).await.faults(), ["events"]);
    let another = api.post(&path, &json!({ "event": key.event("4", MODEL) })).await;
    assert_eq!(another.refused(422), "still_unbookable");
    let released = release(&api, &third, &json!({ "event": key.event("3", MODEL) })).await;
    assert_eq!(released["event"]["data"]["model"], "other", "what came is still seen");
    assert_eq!(released["released"]["event"]["data"]["model"], MODEL);
    check_spend(&api, &key.organization, calls(2)).await;
    let again = api.post(&path, &json!({ "event": key.event("3", MODEL) })).await;
    assert_eq!(again.expect(200), released);
    let mut other = key.event("3", MODEL);
    other["data"]["output_tokens"] = json!(9);
    let other = api.post(&path, &json!({ "event": other })).await;
    assert_eq!(other.refused(409), "released_otherwise");
    // Text with a member twice would be read as either: only the write's own position is there.
    assert_ne!(released["position"], json!(third.split_once('.').unwrap().0));

    // Dismissed: it is seen, and is not released any more.
    let path = format!("/v1/quarantine/{second}/dismiss");
    let dismissed = api.post(&path, &json!({ "reason": "a test of ours" })).await.expect(200);
    assert_eq!(
        (&dismissed["state"], &dismissed["settled"]["reason"]),
        (&json!("dismissed"), &json!("a test of ours"))
    );
    let again = api.post(&path, &json!({ "reason": "a test of ours" })).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(api.post(&path, &json!({ "reason": "another" })).await.refused(404), "not_in_quarantine");
    let path = format!("/v1/quarantine/{second}/release");
    assert_eq!(api.post(&path, &json!({})).await.refused(404), "not_in_quarantine");
    let path = format!("/v1/quarantine/{first}/dismiss");
    assert_eq!(api.post(&path, &json!({ "reason": "late" })).await.refused(404), "not_in_quarantine");

    for restarted in [false, true] {
        if restarted {
            system.terminate().await;
            system.restart().await;
        }
        assert_eq!(listed(&api, "").await.len(), 0);
        let of = async |state: &str| {
            listed(&api, &format!("state={state}")).await.iter().map(id).collect::<Vec<_>>()
        };
        assert_eq!(of("released").await, [first.clone(), third.clone()]);
        assert_eq!(of("dismissed").await, std::slice::from_ref(&second));
        assert_eq!(of("all").await.len(), 3);
        let shown = api.get(&format!("/v1/quarantine/{first}")).await.expect(200);
        assert_eq!(shown["released"]["booked"]["cost"], "0.00007");
        assert_eq!(api.metric("tollbook_quarantine_records{partition=\"0\"}").await, Some(0));
    }
    for none in ["0-1.0", "0-999999.0", "7-1.0", "nonsense"] {
        assert_eq!(api.get(&format!("/v1/quarantine/{none}")).await.status, 404, "{none}");
    }
}

#[tokio::test]
async fn r8_1_each_sees_the_quarantine_of_their_own() {
    let system = System::builder().partitions(3).start().await;
    let api = &system.api;
    priced(api).await;
    let mut customers = Vec::new();
    for name in ["Acme", "Beta", "Gamma", "Delta"] {
        let key = api.customer(name).await;
        let events: Vec<_> = (0..5).map(|number| key.event(&format!("{name}-{number}"), "none")).collect();
        api.events(&events).await;
        customers.push(key);
    }
    // Nobody's, as far as this ledger knows.
    let mut lost = customers[0].event("lost", MODEL);
    lost["subject"] = json!("org_none");
    api.events(&[lost]).await;
    let all = api.all("/v1/quarantine").await;
    assert_eq!(all.len(), 21);
    let unknown = all.iter().find(|item| item["reason"] == "unknown_organization").unwrap();
    assert_eq!(unknown["organization"], "org_none");
    let path = format!("/v1/quarantine/{}/release", id(unknown));
    assert_eq!(api.post(&path, &json!({})).await.refused(404), "organization_not_found");
    for key in &customers {
        let path = format!("/v1/organizations/{}/quarantine", key.organization);
        let mut paged = Vec::new();
        let mut after = String::new();
        loop {
            let page = api.get(&format!("{path}?limit=2{after}")).await.expect(200);
            paged.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_page"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(paged.len(), 5);
        assert!(paged.iter().all(|item| item["organization"] == key.organization.as_str()));
        let same = listed(api, &format!("organization={}", key.organization)).await;
        assert_eq!(same, paged);
        assert_eq!(api.get(&format!("{path}/{}", id(&paged[0]))).await.expect(200), paged[0]);
    }
    // Not that of others, under whichever path.
    let theirs = listed(api, &format!("organization={}", customers[1].organization)).await;
    let ours = &customers[0].organization;
    let path = format!("/v1/organizations/{ours}/quarantine/{}", id(&theirs[0]));
    assert_eq!(api.get(&path).await.refused(404), "not_in_quarantine");
    let auditor = api.with_token(&api.service_token(&["auditor"], Some(&[ours.as_str()])).await);
    assert_eq!(auditor.all("/v1/quarantine").await.len(), 5);
    let other = format!("/v1/quarantine?organization={}", customers[1].organization);
    assert_eq!(auditor.get(&other).await.refused(403), "forbidden");
    for item in [&theirs[0], unknown] {
        let path = format!("/v1/quarantine/{}", id(item));
        assert_eq!(auditor.get(&path).await.refused(403), "forbidden");
    }
}

#[tokio::test]
async fn r4_8_a_usage_reversal_brings_its_cost_back_once() {
    let mut system = System::start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    let reversals = format!("/v1/organizations/{}/usage-reversals", key.organization);
    api.recharge(&key.organization, "5", "a").await;
    let cost = |id: &str, cost: &str| {
        let mut event = key.event(id, MODEL);
        event["data"]["cost"] = json!(cost);
        event
    };
    api.events(&[cost("1", "6"), counted(cost("2", "1"), 1), key.event("3", "none"), cost("1", "6")]).await;
    assert_eq!(api.balance(&key.organization).await["cash"], "3");

    let by_id = json!({ "usage": { "source": "test", "id": "1" }, "reason": "booked by mistake" });
    let answer = api.post(&reversals, &by_id).await;
    let reversed = answer.expect(201);
    // Cash paid 2 of everything so far, which comes back first; the rest as a voucher.
    assert_eq!(reversed["back"], json!({ "cash": "2", "vouchers": "4" }));
    assert_eq!(
        (&reversed["booked"]["cost"], &reversed["reason"]),
        (&json!("6"), &json!("booked by mistake"))
    );
    let balance = api.balance(&key.organization).await;
    assert_eq!((&balance["cash"], &balance["vouchers"]), (&json!("5"), &json!("4")));
    // The same record, whatever it is called, and whatever the reason: once.
    let by_place = json!({ "usage": reversed["usage"], "reason": "again" });
    for body in [&by_id, &by_place] {
        let again = api.post(&reversals, body).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (201, "true"));
        assert_eq!(again.json(), reversed);
    }
    // Counts fall below zero where they were not before: what is left is the record that counts.
    let spend = api.spend(&key.organization).await;
    assert_eq!((spend.requests, spend.cost.to_string()), (1, "1".to_owned()));

    // One that counts is found among the latest entries, or by its place.
    let way = traced(&api, &key, "source=test&producerseq=1").await;
    assert_eq!(outcomes(&way), ["accepted"]);
    let place = &way["items"][0]["place"];
    let counted = json!({ "usage": { "source": "test", "id": "2" }, "reason": "too" });
    assert_eq!(api.post(&reversals, &counted).await.expect(201)["usage"], *place);

    // What was not booked is told what it is.
    let refused = async |usage: Value| {
        let answer = api.post(&reversals, &json!({ "usage": usage, "reason": "r" })).await;
        (
            answer.status,
            answer.json()["code"].as_str().unwrap().to_owned(),
            answer.json()["detail"].to_string(),
        )
    };
    let waiting = id(&listed(&api, "").await[0]);
    let (status, code, detail) = refused(json!(waiting)).await;
    assert_eq!((status, code.as_str()), (422, "usage_not_booked"));
    assert!(detail.contains("in quarantine: no price"), "{detail}");
    let entry = waiting.split('.').next().unwrap();
    let (_, code, detail) = refused(json!(format!("{entry}.3"))).await;
    assert_eq!(code, "usage_not_booked");
    assert!(detail.contains(&format!("a repetition of {entry}.0")), "{detail}");
    for none in [
        json!("0-1.0"),
        json!("0-999999.0"),
        json!("9-1.0"),
        json!(format!("{entry}.4")),
        json!({ "source": "test", "id": "none" }),
    ] {
        let (status, code, _) = refused(none.clone()).await;
        assert_eq!((status, code.as_str()), (404, "usage_not_found"), "{none}");
    }
    for (bad, fields) in [
        (json!("nonsense"), vec!["usage"]),
        (json!(7), vec!["usage"]),
        (json!({ "id": "1" }), vec!["usage.source"]),
    ] {
        let answer = api.post(&reversals, &json!({ "usage": bad, "reason": "r" })).await;
        assert_eq!(answer.faults(), fields);
    }
    let other = api.customer("Other").await;
    let theirs = format!("/v1/organizations/{}/usage-reversals", other.organization);
    assert_eq!(api.post(&theirs, &by_place).await.refused(404), "usage_not_found");

    // A released record is named by its place in the quarantine, and what was booked of it comes back.
    let mended = json!({ "event": cost("3", "0.25") });
    assert_eq!(release(&api, &waiting, &mended).await["released"]["booked"]["cost"], "0.25");
    let before = api.balance(&key.organization).await;
    assert_eq!(before["vouchers"], "4.75");
    let back = api.post(&reversals, &json!({ "usage": waiting, "reason": "r" })).await.expect(201);
    assert_eq!((&back["booked"]["cost"], &back["usage"]), (&json!("0.25"), &json!(waiting)));
    for restarted in [false, true] {
        if restarted {
            system.terminate().await;
            system.restart().await;
        }
        check_spend(&api, &key.organization, calls(0)).await;
        assert_eq!(api.post(&reversals, &by_id).await.json(), reversed);
        let way = traced(&api, &key, &format!("place={waiting}")).await;
        let item = &way["items"][0];
        assert_eq!((&item["outcome"], &item["reversed"]["id"]), (&json!("quarantined"), &back["id"]));
        assert_eq!(item["quarantine"]["state"], "released");
        assert_eq!(item["booked"]["cost"], "0.25");
    }
}

#[tokio::test]
async fn r8_2_a_records_way_is_told_occurrence_by_occurrence() {
    let mut system = System::start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    let other = api.customer("Other").await;
    let mut conflict = key.event("1", MODEL);
    conflict["data"]["output_tokens"] = json!(11);
    api.events(&[key.event("0", MODEL), key.event("1", MODEL), other.event("1", MODEL)]).await;
    api.events(&[key.event("1", MODEL)]).await;
    api.events(&[conflict, counted(key.event("7", MODEL), 1), counted(key.event("7", MODEL), 1)]).await;
    for restarted in [false, true] {
        if restarted {
            system.terminate().await;
            system.restart().await;
        }
        let way = traced(&api, &key, "source=test&id=1").await;
        assert_eq!(outcomes(&way), ["accepted", "duplicate", "quarantined"]);
        assert_eq!((&way["next_page"], &way["searched"]["complete"]), (&Value::Null, &json!(true)));
        let items = &way["items"];
        assert_eq!(items[0]["booked"]["cost"], "0.00007");
        assert_eq!(items[0]["event"]["id"], "1");
        assert_eq!(items[1]["duplicate_of"], items[0]["place"]);
        assert!(items[1]["booked"].is_null() && items[2]["booked"].is_null());
        assert_eq!(items[2]["quarantine"]["reason"], "conflicting_id");
        let way = traced(&api, &key, "source=test&producerseq=1").await;
        assert_eq!(outcomes(&way), ["accepted", "duplicate"]);
        assert_eq!(way["items"][1]["duplicate_of"], way["items"][0]["place"]);
        let by_id = traced(&api, &key, "source=test&id=7").await;
        assert_eq!(by_id["items"], way["items"]);
        let place = way["items"][1]["place"].as_str().unwrap();
        assert_eq!(outcomes(&traced(&api, &key, &format!("place={place}")).await), ["duplicate"]);
        // Nobody else's, and nothing that was not booked on the days that are asked for.
        assert_eq!(outcomes(&traced(&api, &other, &format!("place={place}")).await), [""; 0]);
        assert_eq!(outcomes(&traced(&api, &other, "source=test&id=7").await), [""; 0]);
        let past = traced(&api, &key, "source=test&producerseq=1&from=2020-01-01&to=2020-01-02").await;
        assert!(past["searched"]["complete"] == true, "{past}");
        // The search goes on where it is told to.
        let after = way["searched"]["through"].as_str().unwrap();
        let on = traced(&api, &key, &format!("source=test&id=1&after={after}")).await;
        assert_eq!(outcomes(&on), [""; 0]);
    }
    let taken_back = json!({ "usage": { "source": "test", "id": "1" }, "reason": "r" });
    let reversed =
        api.post(&format!("/v1/organizations/{}/usage-reversals", key.organization), &taken_back).await;
    let reversal = id(&reversed.expect(201));
    let refused = async |query: &str| {
        let path = format!("/v1/organizations/{}/usage-records{query}", key.organization);
        api.get(&path).await.faults()
    };
    assert_eq!(refused("").await, ["place"]);
    assert_eq!(refused("?place=0-1.0&id=1").await, ["place"]);
    assert_eq!(refused("?id=1").await, ["source"]);
    assert_eq!(refused("?source=test&id=1&producerseq=1").await, ["place"]);
    assert_eq!(refused("?source=test&id=1&from=yesterday").await, ["from"]);
    assert_eq!(refused("?source=test&id=1&after=9-9").await, ["after"]);
    // The whole log says the same, once its server is stopped.
    system.terminate().await;
    let of = ["trace", "--org", &key.organization, "--source", "test"];
    let ran = system.replay(&[&of[..], &["--id", "1"]].concat()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told =
        ["accepted: 0.00007 for kimi-k2.5", "duplicate of 0-", "quarantined, conflicting_id", "reversed by"];
    for expected in told.into_iter().chain([reversal.as_str()]) {
        assert!(ran.out.contains(expected), "{expected}: {}", ran.out);
    }
    let ran = system.replay(&[&of[..], &["--producerseq", "9"]].concat()).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[tokio::test]
async fn r8_4_spend_by_booking_filters_and_pages() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let key = api.customer("Acme").await;
    let second = api.key(&key.organization, &api.project(&key.organization).await).await;
    let on = |key: &Key, id: &str, day: &str| {
        let mut event = key.event(id, MODEL);
        event["time"] = json!(format!("{day}T12:00:00Z"));
        event
    };
    let days: Vec<String> = (1..=5).map(day).collect();
    for (number, day) in days.iter().enumerate() {
        api.events(&[on(&key, &format!("a{number}"), day), on(&second, &format!("b{number}"), day)]).await;
    }
    let org = format!("/v1/organizations/{}", key.organization);
    let range = format!("from={}&to={}", day(40), day(-1));
    let get =
        async |path: &str, query: &str| api.get(&format!("{org}{path}?{range}&{query}")).await.expect(200);
    let requests = |spend: &Value| -> Vec<i64> {
        let buckets = spend["buckets"].as_array().unwrap().iter();
        buckets
            .flat_map(|bucket| bucket["results"].as_array().unwrap())
            .map(|one| one["requests"].as_i64().unwrap())
            .collect()
    };
    assert_eq!(requests(&get("/spend", "").await), [2, 2, 2, 2, 2]);
    assert_eq!(requests(&get("/spend", "by=booked").await), [10], "all of it came today");
    assert_eq!(requests(&get("/spend", &format!("project={}", key.project)).await), [1, 1, 1, 1, 1]);
    assert_eq!(requests(&get("/spend", &format!("by=booked&api_key={}", second.id)).await), [5]);
    assert_eq!(requests(&get("/spend", "model=none").await), [0; 0]);
    let of_project = get(&format!("/projects/{}/spend", second.project), "group_by=api_key").await;
    assert_eq!(requests(&of_project), [1, 1, 1, 1, 1]);
    assert_eq!(of_project["buckets"][0]["results"][0]["api_key"], second.id.as_str());
    assert_eq!(api.get(&format!("{org}/projects/proj_none/spend")).await.refused(404), "project_not_found");
    // Pages hold whole buckets, and together they are all of them.
    let whole = get("/spend", "group_by=project").await;
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = get("/spend", &format!("group_by=project&limit=2{after}")).await;
        paged.extend(page["buckets"].as_array().unwrap().iter().cloned());
        match page["next_page"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(json!(paged), whole["buckets"]);
    assert_eq!(api.get(&format!("{org}/spend?after=nonsense")).await.faults(), ["after"]);
    assert_eq!(api.get(&format!("{org}/spend?by=hand")).await.faults(), ["by"]);
    // A reversal counts off where it was booked, and on the day in which the record occurred.
    let usage = json!({ "usage": { "source": "test", "id": "a0" }, "reason": "r" });
    api.post(&format!("{org}/usage-reversals"), &usage).await.expect(201);
    assert_eq!(requests(&get("/spend", "").await), [2, 2, 2, 2, 1]);
    assert_eq!(requests(&get("/spend", "by=booked").await), [9]);
}

/// The day so many days ago, in UTC.
fn day(back: i64) -> String {
    let now = tollbook_engine::clock::Clock::System.now();
    now.plus_seconds(-back * 24 * 60 * 60).to_string()[..10].to_owned()
}
