//! The audit log: who did what when.

use std::fs;

use serde_json::{Value, json};
use tollbook_tests::system::System;

use super::priced;

/// The types of the events of all items.
fn types(items: &[Value]) -> Vec<&str> {
    let events = items.iter().flat_map(|item| item["events"].as_array().unwrap());
    events.map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn everything_decided_about_an_organization_is_told_in_order_also_after_a_rebuild() {
    let mut system = System::start().await;
    let api = system.api.clone();
    priced(&api).await;
    let body = json!({
        "name": "Acme", "email": "billing@acme.example",
        "creator": { "name": "Ada Löwe", "email": "ada@acme.example" },
    });
    let registered = api.post("/v1/organizations", &body).await.expect(201);
    let org = registered["id"].as_str().unwrap();
    let project = api.project(org).await;
    // Somebody else's come between.
    let other = api.customer("Other").await;
    let key = api.key(org, &project).await;
    let by = api.with_token(&api.service_token(&["operator"], None).await);
    let recharged = by.recharge(org, "10", "pay_1").await;
    api.events(&[key.event("1", "unknown")]).await;

    let path = format!("/v1/organizations/{org}/log");
    let told = api.get(&path).await;
    let log = told.expect(200);
    let items = log["items"].as_array().unwrap();
    let expected = [
        "organization.registered",
        "project.created",
        "api_key.issued",
        "recharge.booked",
        "voucher.granted",
    ];
    assert_eq!(types(items), expected);
    assert_eq!(log["next_page"], Value::Null);
    let first = &items[0]["events"][0];
    assert_eq!(items[0]["position"], registered["position"]);
    assert_eq!(items[0]["recorded_at"], registered["created_at"]);
    assert_eq!(items[0]["actor"], json!({ "kind": "operator", "token": null, "member": null }));
    for field in ["name", "email", "creator", "time_zone"] {
        assert_eq!(first[field], registered[field], "{field}");
    }
    assert_eq!(items[2]["events"][0]["api_key"], key.id);
    assert_eq!(items[3]["position"], recharged["position"]);
    assert_eq!(items[3]["events"].as_array().unwrap().len(), 2, "one entry");
    assert_eq!(items[3]["events"][0]["recharge"], recharged["id"]);
    let token = items[3]["actor"]["token"].as_str().unwrap();
    assert!(token.starts_with("tok_"), "{token}");
    assert!(!told.text.contains(&key.secret) && !told.text.contains(&other.organization));
    assert!(!told.text.contains("secret") && !told.text.contains("cipher"));

    // A page after the other, by positions of either form.
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = api.get(&format!("{path}?limit=1{after}")).await.expect(200);
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_page"].as_str() else { break };
        let number = next.split_once('-').unwrap().1;
        after = format!("&after={}", if paged.len() % 2 == 0 { next } else { number });
    }
    assert_eq!(&paged, items);
    assert_eq!(api.all(&path).await, *items);

    system.terminate().await;
    fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert_eq!(api.get(&path).await.expect(200), log);
}

#[tokio::test]
async fn the_audit_log_of_a_partition_takes_only_its_positions() {
    let system = System::builder().partitions(4).start().await;
    let api = &system.api;
    for _ in 0..6 {
        let org = api.organization("Acme").await;
        api.project(&org).await;
        let path = format!("/v1/organizations/{org}/log");
        let items = api.all(&path).await;
        assert_eq!(types(&items), ["organization.registered", "project.created"]);
        let position = items[0]["position"].as_str().unwrap();
        let (partition, number) = position.split_once('-').unwrap();
        for after in [position, number] {
            let rest = api.get(&format!("{path}?after={after}")).await.expect(200);
            assert_eq!(rest["items"].as_array().unwrap(), &items[1..]);
        }
        let elsewhere = (partition.parse::<u16>().unwrap() + 1) % 4;
        for wrong in [format!("{elsewhere}-{number}"), "x".into(), "-1".into(), "0-".into(), String::new()] {
            let refused = api.get(&format!("{path}?after={wrong}")).await;
            assert_eq!(refused.faults(), ["after"], "{wrong}");
        }
    }
    let unknown = api.get("/v1/organizations/org_00000000000000000000000001/log").await;
    assert_eq!(unknown.refused(404), "organization_not_found");
}

#[tokio::test]
async fn everything_decided_about_the_ledger_is_told_to_the_platform() {
    let mut system = System::builder().partitions(3).start().await;
    let api = system.api.clone();
    let path = "/v1/config/log";
    let before = api.all(path).await.len();
    priced(&api).await;
    let set = api.put("/v1/config/billing-cycle", &json!({ "cycle_seconds": 60 })).await.expect(200);
    let limits = json!({ "projects": 30, "api_keys": 60 });
    let limits = json!({ "default": limits, "enterprise_verified": limits });
    api.put("/v1/config/quantity-limits", &limits).await.expect(200);
    let operator = api.with_token(&api.service_token(&["operator"], None).await);
    let body = json!({ "name": "auditor", "scopes": ["auditor"] });
    let issued = operator.post("/v1/tokens", &body).await.expect(201);
    let secret = issued["secret"].as_str().unwrap();
    let revoked = format!("/v1/tokens/{}", issued["id"].as_str().unwrap());

    let auditor = api.with_token(secret);
    let told = auditor.get(path).await;
    let items = told.expect(200)["items"].as_array().unwrap()[before..].to_vec();
    let expected = [
        "config.prices_published",
        "config.billing_cycle_set",
        "config.quantity_limits_set",
        "token.issued",
        "token.issued",
    ];
    assert_eq!(types(&items), expected);
    assert_eq!(items[1]["position"], set["position"]);
    assert_eq!(items[4]["actor"]["token"], items[3]["events"][0]["token"], "{items:?}");
    assert!(!told.text.contains(secret) && !told.text.contains("secret"), "{}", told.text);

    let all = auditor.all(path).await;
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = auditor.get(&format!("{path}?limit=2{after}")).await.expect(200);
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_page"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(paged, all);
    assert_eq!(auditor.get(&format!("{path}?after=1-1")).await.faults(), ["after"]);

    // Not to whoever is limited, nor to members or gateways.
    let org = api.organization("Acme").await;
    for (scope, only) in [("operator", Some(org.as_str())), ("gateway", None), ("console", None)] {
        let only = only.as_ref().map(std::slice::from_ref);
        let limited = api.with_token(&api.service_token(&[scope], only).await);
        assert_eq!(limited.get(path).await.refused(403), "forbidden", "{scope}");
    }
    assert_eq!(api.acting("mem_1").get(path).await.refused(403), "forbidden");

    api.write("DELETE", &revoked, &json!({})).await.expect(200);
    let all = api.all(path).await;
    assert_eq!(types(&all[all.len() - 1..]), ["token.revoked"]);
    let ran = system.run(&["log", "--limit", "3", "--json"]).await;
    assert_eq!(ran.json()["items"].as_array().unwrap(), &all[..3]);
    system.terminate().await;
    fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert_eq!(api.all(path).await, all);
}
