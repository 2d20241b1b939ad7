//! Every management endpoint, when all goes well.

use serde_json::json;
use tollbook_tests::system::{System, amount};

use super::{MODEL, calls, check_spend, priced};

#[tokio::test]
async fn organizations_projects_and_keys_are_created_and_seen() {
    let system = System::start().await;
    let api = &system.api;
    let body = json!({
        "name": "Acme", "email": "billing@acme.example", "time_zone": "Europe/Berlin",
        "creator": { "name": "Ada Löwe", "email": "ada@acme.example" },
    });
    let made = api.post("/v1/organizations", &body).await.expect(201);
    let org = made["id"].as_str().unwrap();
    assert!(org.starts_with("org_"), "{org}");
    assert_eq!(made["name"], "Acme");
    assert_eq!(made["email"], "billing@acme.example");
    assert_eq!(made["time_zone"], "Europe/Berlin");
    assert_eq!(made["verification"], "unverified");
    assert_eq!(made["creator"]["name"], "Ada Löwe");
    assert_eq!(made["creator"]["email"], "ada@acme.example");
    assert!(made["creator"]["id"].as_str().unwrap().starts_with("mem_"));
    assert!(made["created_at"].as_str().unwrap().ends_with('Z'));
    assert!(made["position"].as_str().unwrap().starts_with("0-"));
    assert_eq!(api.get(&format!("/v1/organizations/{org}")).await.expect(200), made);

    let path = format!("/v1/organizations/{org}/projects");
    let project = api.post(&path, &json!({ "name": "chat" })).await.expect(201);
    let id = project["id"].as_str().unwrap();
    assert!(id.starts_with("proj_"), "{id}");
    assert_eq!((&project["name"], &project["state"]), (&json!("chat"), &json!("active")));
    assert_eq!(project["budgets"], json!({ "daily": null, "monthly": null }));
    let listed = api.get(&path).await.expect(200);
    assert_eq!(listed["items"][0]["id"], id);
    assert_eq!(listed["next_page"], json!(null));

    let path = format!("{path}/{id}/api-keys");
    let key = api.post(&path, &json!({ "name": "production" })).await.expect(201);
    let secret = key["secret"].as_str().unwrap();
    assert!(key["id"].as_str().unwrap().starts_with("ak_"));
    assert_eq!(key["hint"], format!("sk-…{}", &secret[secret.len() - 4..]));
    assert_eq!((&key["project"], &key["member"]), (&json!(id), &made["creator"]["id"]));
    let listed = api.get(&path).await;
    assert_eq!(listed.expect(200)["items"][0]["id"], key["id"]);
    assert!(!listed.text.contains(secret), "a secret is shown once (R3.6)");
    let holder = api.get(&format!("/v1/api-keys/{}", key["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(holder, json!({ "id": key["id"], "organization": org, "project": id }));
}

#[tokio::test]
async fn lists_come_in_pages() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(api.project(&org).await);
    }
    made.sort_unstable();
    let mut seen = Vec::new();
    let mut after = String::new();
    for size in [2, 2, 1] {
        let page = api.get(&format!("/v1/organizations/{org}/projects?limit=2{after}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), size);
        seen.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        after = format!("&after={}", page["next_page"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, made);
    for _ in 0..2 {
        api.organization("Other").await;
    }
    let page = api.get("/v1/organizations?limit=2").await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), page["next_page"].is_string()), (2, true));
    assert_eq!(api.all("/v1/organizations").await.len(), 3);
}

#[tokio::test]
async fn recharges_move_the_balance_and_bring_the_voucher_once() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let empty = api.balance(&org).await;
    let expected = json!({
        "cash": "0", "vouchers": "0", "held": "0", "available": "0", "credit_limit": null,
        "cumulative_recharge": "0", "tier": null, "currency": "USD",
    });
    assert_eq!(empty, expected);
    let first = api.recharge(&org, "3.00", "a").await;
    assert!(first["voucher"].is_null() && first["position"].is_string(), "{first}");
    assert_eq!((&first["amount"], &first["reference"]), (&json!("3"), &json!("a")));
    let second = api.recharge(&org, "2.00", "b").await;
    assert_eq!(second["voucher"]["amount"], "5");
    let again = api.recharge(&org, "2.00", "b").await;
    assert_eq!(
        (&again["id"], &again["position"], &again["balance"]),
        (&second["id"], &second["position"], &second["balance"]),
        "the same reference again changes nothing (R4.7)"
    );
    let third = api.recharge(&org, "5.000000000001", "c").await;
    assert!(third["voucher"].is_null(), "{third}");
    let balance = api.balance(&org).await;
    assert_eq!(amount(&balance["cash"]).to_string(), "10.000000000001");
    assert_eq!(balance["vouchers"], "5");
    assert_eq!(balance["available"], "15.000000000001");
    assert_eq!(balance["cumulative_recharge"], "10.000000000001");
    assert_eq!(balance["tier"], "Tier1");
}

#[tokio::test]
async fn prices_the_cycle_and_tokens_are_set_and_seen() {
    let system = System::start().await;
    let api = &system.api;
    let model = json!({
        "model": MODEL, "input": "0.60", "cached_input": "0.10", "output": "3.00",
        "meters": { "image": "2.5" }, "max_output_tokens": 8192,
    });
    let list = json!({ "currency": "USD", "effective_from": "2026-01-01T00:00:00Z", "models": [model] });
    let set = api.put("/v1/config/prices", &list).await.expect(200);
    assert!(set["position"].is_string());
    let shown = api.get("/v1/config/prices").await.expect(200);
    let expected = json!({ "currency": "USD", "models": [{
        "model": MODEL, "effective_from": "2026-01-01T00:00:00Z", "input": "0.6", "cached_input": "0.1",
        "output": "3", "meters": { "image": "2.5" }, "max_output_tokens": 8192,
    }] });
    assert_eq!(shown, expected);
    let before = api.digest(0).await;
    api.put("/v1/config/prices", &list).await.expect(200);
    assert_eq!(api.digest(0).await, before, "an identical PUT changes nothing");

    let cycle = json!({ "cycle_seconds": 60, "delay_seconds": 5 });
    api.put("/v1/config/billing-cycle", &cycle).await.expect(200);
    assert_eq!(api.get("/v1/config/billing-cycle").await.expect(200), cycle);

    let body = json!({ "name": "gateway", "scopes": ["publisher", "gateway"], "organizations": null });
    let token = api.post("/v1/tokens", &body).await.expect(201);
    let (id, secret) = (token["id"].as_str().unwrap(), token["secret"].as_str().unwrap());
    let listed = api.get("/v1/tokens").await;
    assert_eq!(listed.expect(200)["items"][0]["id"], id);
    assert!(!listed.text.contains(secret));
    let other = api.with_token(secret);
    other.send(other.batch(&[])).await.expect(204);
    let revoked = api.write("DELETE", &format!("/v1/tokens/{id}"), &json!({})).await.expect(200);
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(other.send(other.batch(&[])).await.refused(401), "unauthorized");
    assert_eq!(api.get("/v1/tokens").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn spend_and_budgets_show_what_was_used() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    api.prices("other", "1", "1", "1").await;
    let key = api.customer("Acme").await;
    let second = api.key(&key.organization, &key.project).await;
    let events =
        [key.event("1", MODEL), key.event("2", MODEL), second.event("3", MODEL), key.event("4", "other")];
    api.events(&events).await;
    api.folded().await;
    let by = |group: &str| {
        format!("/v1/organizations/{}/spend?from=2020-01-01&to=2099-12-31&group_by={group}", key.organization)
    };
    let rows = |body: serde_json::Value| body["buckets"][0]["results"].as_array().unwrap().clone();
    assert_eq!(rows(api.get(&by("")).await.expect(200)).len(), 1);
    let models = rows(api.get(&by("model")).await.expect(200));
    assert_eq!(models[0]["model"], MODEL);
    assert_eq!((&models[0]["requests"], &models[0]["cost"]), (&json!(3), &json!("0.00021")));
    assert_eq!((&models[1]["requests"], &models[1]["cost"]), (&json!(1), &json!("0.00011")));
    assert_eq!(rows(api.get(&by("project,model,api_key")).await.expect(200)).len(), 3);

    let budgets = format!("/v1/organizations/{}/projects/{}/budgets", key.organization, key.project);
    let shown = api.get(&budgets).await.expect(200);
    assert_eq!(shown["daily"]["pending"], "0.00032", "pending until the cycle closes (R6.3)");
    assert_eq!(shown["monthly"]["settled"], "0");
    assert!(shown["cycle"]["closes_at"].is_string(), "{shown}");
    assert_eq!(amount(&api.balance(&key.organization).await["cash"]).to_string(), "-0.00032");
}

#[tokio::test]
async fn a_cycle_of_no_length_settles_at_once() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    api.put("/v1/config/billing-cycle", &json!({ "cycle_seconds": 0 })).await.expect(200);
    let key = api.customer("Acme").await;
    api.events(&[key.event("1", MODEL)]).await;
    check_spend(api, &key.organization, calls(1)).await;
    let budgets = format!("/v1/organizations/{}/projects/{}/budgets", key.organization, key.project);
    let shown = api.get(&budgets).await.expect(200);
    assert_eq!((&shown["daily"]["settled"], &shown["daily"]["pending"]), (&json!("0.00007"), &json!("0")));
}

#[tokio::test]
async fn reads_wait_for_a_position_but_not_for_ever() {
    let system = System::start().await;
    let api = &system.api;
    let body = json!({
        "name": "Acme", "email": "a@example.com", "creator": { "name": "Ada", "email": "a@example.com" },
    });
    let made = api.post("/v1/organizations", &body).await.expect(201);
    let (org, position) = (made["id"].as_str().unwrap(), made["position"].as_str().unwrap());
    api.get(&format!("/v1/organizations/{org}?min_position={position}")).await.expect(200);
    // What is read says which position shows no less, whatever was decided last.
    let seen = async || api.get(&format!("/v1/organizations/{org}")).await.expect(200)["position"].clone();
    assert_eq!(seen().await, position);
    let project = api.project(org).await;
    let key = format!("/v1/organizations/{org}/projects/{project}/api-keys");
    let issued = api.post(&key, &json!({ "name": "k" })).await.expect(201)["position"].clone();
    assert_eq!(seen().await, issued);
    assert_eq!(api.all("/v1/organizations").await[0]["position"], issued);
    let changed = json!({ "name": "Other" });
    let changed = api.write("PATCH", &format!("/v1/organizations/{org}"), &changed).await.expect(200);
    assert_eq!(seen().await, changed["position"]);
    let path = format!("/v1/organizations/{org}?min_position=0-1000000");
    assert_eq!(api.get(&path).await.refused(503), "behind");
}

#[tokio::test]
async fn what_stays_as_it_is_is_no_entry() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let path = format!("/v1/organizations/{org}");
    let shown = api.get(&path).await.expect(200);
    let change = async |body: serde_json::Value| api.write("PATCH", &path, &body).await.expect(200);
    let same = json!({ "email": shown["email"], "name": "Acme", "time_zone": "UTC" });
    assert_eq!(change(same).await["email"], shown["email"]);
    assert_eq!(api.get(&path).await.expect(200)["position"], shown["position"]);
    let other = change(json!({ "email": "other@example.com" })).await;
    assert_ne!(other["position"], shown["position"]);
    change(json!({ "email": "other@example.com" })).await;
    let seen = api.get(&path).await.expect(200);
    assert_eq!((&seen["email"], &seen["position"]), (&json!("other@example.com"), &other["position"]));
    assert_eq!(api.all(&format!("{path}/log")).await.len(), 2);
}

#[tokio::test]
async fn names_are_to_be_seen_and_time_zones_are_some() {
    let system = System::start().await;
    let api = &system.api;
    let ask = async |name: &str, email: &str, zone: &str| {
        let creator = json!({ "name": "Ada", "email": "ada@example.com" });
        let body = json!({ "name": name, "email": email, "creator": creator, "time_zone": zone });
        api.post("/v1/organizations", &body).await
    };
    for (name, email, zone, fault) in [
        ("\u{200b}\u{200d}", "a@b.co", "UTC", "name"),
        (" Acme", "a@b.co", "UTC", "name"),
        ("Acme\u{3000}", "a@b.co", "UTC", "name"),
        ("\u{202e}emcA", "a@b.co", "UTC", "name"),
        ("Ac\u{2067}me", "a@b.co", "UTC", "name"),
        ("Acme", "a@\u{202e}b.co", "UTC", "email"),
        ("Acme", "a\u{200b}@b.co", "UTC", "email"),
        ("Acme", "a@b.co", "Etc/Unknown", "time_zone"),
        ("Acme", "a@b.co", "Factory", "time_zone"),
    ] {
        assert_eq!(ask(name, email, zone).await.faults(), [fault], "{name:?} {email:?} {zone}");
    }
    for name in ["Żółw & Söhne", "👩\u{200d}🚀", "می\u{200c}خواهم", "שלום"] {
        assert_eq!(ask(name, "zoë@exämple.com", "Etc/GMT+5").await.expect(201)["name"], name);
    }
}

#[tokio::test]
async fn health_readiness_metrics_and_the_first_page_need_no_token() {
    let system = System::start().await;
    let api = &system.api;
    let get = async |path: &str| api.send(api.anonymous("GET", path)).await;
    assert_eq!(get("/healthz").await.expect(200), json!({ "status": "ok" }));
    let ready = get("/readyz").await.expect(200);
    assert_eq!((&ready["status"], &ready["partitions"][0]["role"]), (&json!("ready"), &json!("owner")));
    let metrics = get("/metrics").await;
    assert!(metrics.text.contains("tollbook_applied_position{partition=\"0\"}"), "{}", metrics.text);
    assert!(get("/").await.text.contains("Tollbook"));
}

#[tokio::test]
async fn the_api_describes_itself_to_anybody() {
    let system = System::start().await;
    let api = &system.api;
    let answer = api.send(api.anonymous("GET", "/openapi.json")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let published = include_str!("../../docs/openapi.json");
    assert_eq!(answer.text, published);
    assert!(answer.expect(200)["openapi"].as_str().unwrap().starts_with("3.1."));
    let other = api.send(api.request("DELETE", "/v1/organizations")).await;
    assert_eq!(other.refused(405), "method_not_allowed");
    assert_eq!(other.header("allow"), "POST,GET,HEAD");
}
