//! `Idempotency-Key`: the same request again changes nothing, whenever it comes.

use serde_json::{Value, json};
use tollbook_tests::system::{Answer, Api, System};

use super::{MODEL, priced};

async fn keyed(api: &Api, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    api.send(api.request(method, path).header("idempotency-key", key).json(body)).await
}

/// An organization with a past.
fn moving_in() -> Value {
    json!({
        "name": "Past", "email": "p@example.com", "creator": { "name": "Pat", "email": "p@example.com" },
        "cash": "1", "cumulative_recharge": "1", "references": ["past-1"], "projects": [{ "name": "old" }],
    })
}

/// Every write there is, for one organization, in an order in which each of them changes something.
async fn writes(api: &Api) -> Vec<(&'static str, String, Value)> {
    let key = api.customer("Acme").await;
    let token = api.post("/v1/tokens", &json!({ "name": "t", "scopes": ["gateway"] })).await.expect(201);
    let price = json!({ "model": "m", "input": "1", "cached_input": "1", "output": "1" });
    let organization = json!({
        "name": "Acme", "email": "a@example.com", "creator": { "name": "Ada", "email": "a@example.com" },
    });
    let org = format!("/v1/organizations/{}", key.organization);
    let project = format!("{org}/projects/{}", key.project);
    let archived = format!("{org}/projects/{}", api.project(&key.organization).await);
    let level = json!({ "level": "enterprise_verified" });
    api.post(&format!("{org}/verification"), &json!({ "level": "verified" })).await.expect(200);
    api.post(&format!("{org}/verification"), &level).await.expect(200);
    let invite =
        async || api.post(&format!("{org}/invitations"), &json!({ "role": "member" })).await.expect(201);
    let join = async || {
        let accept = json!({ "token": invite().await["token"], "name": "Mia", "email": "m@example.com" });
        let accepted = api.post("/v1/invitations/accept", &accept).await.expect(201);
        accepted["member"]["id"].as_str().unwrap().to_owned()
    };
    let (promoted, moved, removed) = (join().await, join().await, join().await);
    let (accepted, revoked) = (invite().await, invite().await);
    let acceptance = json!({ "token": accepted["token"], "name": "New", "email": "n@example.com" });
    let limits = json!({ "projects": 30, "api_keys": 60 });
    let recharge = api.recharge(&key.organization, "3", "before").await;
    let reversals = format!("{org}/recharges/{}/reversals", recharge["id"].as_str().unwrap());
    let webhook = async || {
        let url = json!({ "url": "https://hooks.example.com/old" });
        let made = api.post(&format!("{org}/webhooks"), &url).await.expect(201);
        format!("{org}/webhooks/{}", made["id"].as_str().unwrap())
    };
    let (webhook, dropped) = (webhook().await, webhook().await);
    let tier = json!({
        "name": "Only", "cumulative_recharge": "1", "concurrency": 1, "rpm": 1, "tpm": null, "tpd": null,
    });
    let in_project = format!("{project}/members/{moved}");
    priced(api).await;
    // Of no cost, so that balances stay as they are shown.
    let free = |id: &str, model: &str| {
        let mut event = key.event(id, model);
        event["data"]["cost"] = json!("0");
        event
    };
    api.events(&[free("booked", MODEL), key.event("a", "none"), key.event("b", "none")]).await;
    let quarantine: Vec<String> =
        api.quarantine().await.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
    let mended = free("a", MODEL);
    vec![
        ("POST", "/v1/organizations".to_owned(), organization),
        ("POST", "/v1/organizations/imports".to_owned(), moving_in()),
        (
            "PATCH",
            org.clone(),
            json!({ "name": "Acme II", "email": "b@example.com", "time_zone": "Asia/Tokyo" }),
        ),
        ("PUT", format!("{org}/ip-allowlist"), json!({ "text": "203.0.113.4" })),
        ("POST", format!("{org}/limits/override"), json!({ "rpm": 7, "projects": 25 })),
        ("POST", format!("{org}/invitations"), json!({ "role": "member", "email": "i@example.com" })),
        ("DELETE", format!("{org}/invitations/{}", revoked["id"].as_str().unwrap()), json!({})),
        ("POST", "/v1/invitations/accept".to_owned(), acceptance),
        ("PATCH", format!("{org}/members/{promoted}"), json!({ "role": "administrator" })),
        ("DELETE", format!("{org}/members/{removed}"), json!({})),
        ("POST", format!("{org}/projects"), json!({ "name": "chat" })),
        ("PUT", format!("{project}/tpm"), json!({ "limit": 1000 })),
        (
            "PUT",
            format!("{project}/budgets"),
            json!({ "daily": "1000", "monthly": null, "enforcement": "strict" }),
        ),
        ("PUT", format!("{project}/spend-notifications"), json!({ "daily": ["5"], "monthly": ["70", "7"] })),
        ("PATCH", project.clone(), json!({ "name": "talk" })),
        ("POST", format!("{project}/members"), json!({ "member": moved, "role": "member" })),
        ("PATCH", in_project.clone(), json!({ "role": "administrator" })),
        ("DELETE", in_project, json!({})),
        ("POST", format!("{project}/api-keys"), json!({ "name": "production" })),
        ("DELETE", format!("{project}/api-keys/{}", key.id), json!({})),
        ("DELETE", archived, json!({})),
        ("POST", format!("{org}/recharges"), json!({ "amount": "7", "reference": "r" })),
        (
            "POST",
            format!("{org}/usage-reversals"),
            json!({ "usage": { "source": "test", "id": "booked" }, "reason": "a test" }),
        ),
        ("POST", format!("/v1/quarantine/{}/release", quarantine[0]), json!({ "event": mended })),
        ("POST", format!("/v1/quarantine/{}/dismiss", quarantine[1]), json!({ "reason": "a test" })),
        ("POST", format!("{org}/refunds"), json!({ "amount": "1", "reference": "r" })),
        ("POST", format!("{org}/vouchers"), json!({ "amount": "2", "reference": "r" })),
        ("POST", format!("{org}/adjustments"), json!({ "amount": "-1", "reference": "r", "reason": "why" })),
        ("POST", reversals, json!({ "reference": "r", "reason": "why" })),
        ("PUT", format!("{org}/credit-limit"), json!({ "limit": "50" })),
        ("PUT", format!("{org}/balance-alert"), json!({ "threshold": "1" })),
        ("POST", format!("{org}/webhooks"), json!({ "url": "https://hooks.example.com/new" })),
        ("POST", format!("{webhook}/rotate-secret"), json!({})),
        ("POST", format!("{webhook}/disable"), json!({ "reason": "a test" })),
        ("POST", format!("{webhook}/enable"), json!({})),
        ("DELETE", dropped, json!({})),
        ("PUT", format!("{org}/prices"), json!({ "models": [price] })),
        ("PUT", "/v1/config/prices".to_owned(), json!({ "models": [price] })),
        ("PUT", "/v1/config/tiers".to_owned(), json!({ "tiers": [tier] })),
        (
            "PUT",
            "/v1/config/rate-scale".to_owned(),
            json!({ "factor": "0.5", "until": "2099-01-01T00:00:00Z", "reason": "why", "tiers": ["Only"] }),
        ),
        (
            "PUT",
            "/v1/config/voucher-policy".to_owned(),
            json!({ "threshold": "6", "amount": "6", "expires_after_days": 30 }),
        ),
        (
            "PUT",
            "/v1/config/defaults".to_owned(),
            json!({ "balance_alert_threshold": null, "max_output_tokens": 100 }),
        ),
        ("PUT", "/v1/config/billing-cycle".to_owned(), json!({ "cycle_seconds": 30 })),
        (
            "PUT",
            "/v1/config/quantity-limits".to_owned(),
            json!({ "default": limits, "enterprise_verified": limits }),
        ),
        ("POST", "/v1/tokens".to_owned(), json!({ "name": "auditor", "scopes": ["auditor"] })),
        ("DELETE", format!("/v1/tokens/{}", token["id"].as_str().unwrap()), json!({})),
        ("POST", format!("{org}/verification"), json!({ "level": "verified" })),
        ("DELETE", format!("{org}/contacts"), json!({})),
    ]
}

/// What may differ: secrets are not shown again, and what is shown of somebody's data is what can be read now.
fn comparable(mut answer: Value) -> Value {
    for passing in [
        "secret",
        "token",
        "link",
        "email",
        "name",
        "creator",
        "verification",
        "tier",
        "balance",
        "limits",
        "scaled",
        "scale",
        "used",
        "quantities",
        "cycle",
    ] {
        answer.as_object_mut().unwrap().remove(passing);
    }
    // A webhook is shown as it is now.
    if answer.get("disabled_at").is_some() {
        for passing in ["url", "state", "disabled_at", "disabled_reason"] {
            answer.as_object_mut().unwrap().remove(passing);
        }
    }
    if let Some(member) = answer.get_mut("member").and_then(Value::as_object_mut) {
        member.retain(|name, _| name != "name" && name != "email");
    }
    answer
}

#[tokio::test]
async fn the_same_request_again_answers_the_same_also_after_a_restart() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let writes = writes(&api).await;
    let described = api.get("/openapi.json").await.expect(200)["paths"]
        .as_object()
        .unwrap()
        .iter()
        // Leases are no management: what is asked twice has its request id. And beside an embedded log there is no stream
        // to subscribe to: tests/deploy/subscription.rs asks for that twice.
        .filter(|(path, _)| {
            let recognized = ["/v1/admissions", "/v1/alert-subscriptions"];
            // A delivery that is asked for is no decision of the log.
            !recognized.iter().any(|start| path.starts_with(start)) && !path.ends_with("/deliveries")
        })
        .map(|(_, path)| path.as_object().unwrap().keys().filter(|method| *method != "get").count())
        .sum::<usize>();
    // Usage comes at two paths, and is recognized by its own ids; an invoice needs a month that is over.
    assert_eq!(writes.len(), described - 3, "every write that is described");
    let mut firsts = Vec::new();
    for (index, (method, path, body)) in writes.iter().enumerate() {
        let first = keyed(&api, &format!("key-{index}"), method, path, body).await;
        assert!([200, 201].contains(&first.status), "{method} {path}: {first:?}");
        assert_eq!(first.header("idempotent-replayed"), "");
        firsts.push(first);
    }
    let before = api.digest(0).await;
    for restarted in [false, true] {
        if restarted {
            system.terminate().await;
            system.restart().await;
        }
        for (index, ((method, path, body), first)) in writes.iter().zip(&firsts).enumerate() {
            let again = keyed(&api, &format!("key-{index}"), method, path, body).await;
            let what = format!("{method} {path}, restarted: {restarted}");
            assert_eq!(again.header("idempotent-replayed"), "true", "{what}: {again:?}");
            assert_eq!(again.status, first.status, "{what}: {again:?}");
            for secret in ["secret", "token", "link"] {
                assert!(again.json()[secret].is_null(), "{what}: {again:?}");
            }
            assert_eq!(comparable(again.json()), comparable(first.json()), "{what}");
            let other = json!({ "name": "Other" });
            let refused = keyed(&api, &format!("key-{index}"), method, path, &other).await;
            assert!(refused.status == 409 || refused.status == 400, "{what}: {refused:?}");
        }
        if !restarted {
            assert_eq!(api.digest(0).await, before, "repetitions change nothing");
        }
    }
    assert_eq!(api.all("/v1/organizations").await.len(), 3);
}

#[tokio::test]
async fn the_same_key_with_another_request_is_a_conflict() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let recharges = format!("/v1/organizations/{org}/recharges");
    let recharge = |amount: &str, reference: &str| json!({ "amount": amount, "reference": reference });
    keyed(api, "k", "POST", &recharges, &recharge("7", "a")).await.expect(201);
    let conflict = keyed(api, "k", "POST", &recharges, &recharge("8", "b")).await;
    assert_eq!(conflict.refused(409), "idempotency_conflict");
    let projects = format!("/v1/organizations/{org}/projects");
    let conflict = keyed(api, "k", "POST", &projects, &json!({ "name": "chat" })).await;
    assert_eq!(conflict.refused(409), "idempotency_conflict", "another path is another request");
    let organization = |name: &str| json!({ "name": name, "email": "a@example.com", "creator": { "name": "A", "email": "a@example.com" } });
    keyed(api, "o", "POST", "/v1/organizations", &organization("One")).await.expect(201);
    let conflict = keyed(api, "o", "POST", "/v1/organizations", &organization("Two")).await;
    assert_eq!(conflict.refused(409), "idempotency_conflict");
    let cycle = |seconds: u32| json!({ "cycle_seconds": seconds });
    keyed(api, "c", "PUT", "/v1/config/billing-cycle", &cycle(30)).await.expect(200);
    let conflict = keyed(api, "c", "PUT", "/v1/config/billing-cycle", &cycle(31)).await;
    assert_eq!(conflict.refused(409), "idempotency_conflict");
    // Another token's keys are its own.
    let operator = api.with_token(&api.service_token(&["operator"], None).await);
    keyed(&operator, "k", "POST", &recharges, &recharge("8", "b")).await.expect(201);
    assert_eq!(api.balance(&org).await["cash"], "15");
}

#[tokio::test]
async fn refusals_are_not_remembered() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    api.recharge(&org, "1", "taken").await;
    let path = format!("/v1/organizations/{org}/recharges");
    let bad = json!({ "amount": "2", "reference": "taken" });
    assert_eq!(keyed(api, "k", "POST", &path, &bad).await.refused(409), "reference_conflict");
    let good = json!({ "amount": "2", "reference": "free" });
    let made = keyed(api, "k", "POST", &path, &good).await;
    made.expect(201);
    assert_eq!(made.header("idempotent-replayed"), "");
}

#[tokio::test]
async fn many_at_once_with_one_key_do_it_once() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let org = api.organization("Acme").await;
    let path = format!("/v1/organizations/{org}/recharges");
    let body = json!({ "amount": "3", "reference": "r" });
    let asked = (0..20).map(|_| keyed(api, "k", "POST", &path, &body));
    let answers = futures_util::future::join_all(asked).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.expect(201)["id"].clone()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
    let fresh = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_empty()).count();
    assert_eq!(fresh, 1);
    assert_eq!(api.balance(&org).await["cash"], "3");
    let projects = format!("/v1/organizations/{org}/projects");
    let body = json!({ "name": MODEL });
    let asked = (0..20).map(|_| keyed(api, "p", "POST", &projects, &body));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.status == 201));
    assert_eq!(api.all(&projects).await.len(), 1);
    let organization = json!({
        "name": "One", "email": "a@example.com", "creator": { "name": "A", "email": "a@example.com" },
    });
    let asked = (0..20).map(|_| keyed(api, "o", "POST", "/v1/organizations", &organization));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(api.all("/v1/organizations").await.len(), 2);
}

#[tokio::test]
async fn a_request_that_changed_nothing_changes_nothing_later() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let path = format!("/v1/organizations/{org}/projects/{}/tpm", api.project(&org).await);
    let none = json!({ "limit": null });
    let first = keyed(api, "k", "PUT", &path, &none).await;
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, ""));
    api.put(&path, &json!({ "limit": 5 })).await.expect(200);
    let again = keyed(api, "k", "PUT", &path, &none).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, "true"));
    assert_eq!(again.json()["position"], first.json()["position"]);
    assert_eq!(
        keyed(api, "k", "PUT", &path, &json!({ "limit": 7 })).await.refused(409),
        "idempotency_conflict"
    );
    let projects = api.all(&format!("/v1/organizations/{org}/projects")).await;
    assert_eq!(projects[0]["tpm_limit"], 5, "what somebody set in between stays");
    let log = api.all(&format!("/v1/organizations/{org}/log")).await;
    assert!(log.iter().all(|item| !item["events"].as_array().unwrap().is_empty()), "{log:?}");
}

#[tokio::test]
async fn a_repetition_shows_nothing_to_whoever_lost_the_role() {
    let system = System::start().await;
    let api = &system.api;
    let org = format!("/v1/organizations/{}", api.organization("Acme").await);
    let level = json!({ "level": "enterprise_verified" });
    api.post(&format!("{org}/verification"), &level).await.expect(200);
    let invitation = json!({ "role": "administrator" });
    let invited = api.post(&format!("{org}/invitations"), &invitation).await.expect(201);
    let accept = json!({ "token": invited["token"], "name": "Ada", "email": "ada@example.com" });
    let accepted = api.post("/v1/invitations/accept", &accept).await.expect(201);
    let ada = accepted["member"]["id"].as_str().unwrap();
    let console = api.with_token(&api.service_token(&["console"], None).await).acting(ada);
    let (list, body) = (format!("{org}/ip-allowlist"), json!({ "text": "203.0.113.4" }));
    keyed(&console, "a", "PUT", &list, &body).await.expect(200);
    api.put(&list, &json!({ "text": "203.0.113.99" })).await.expect(200);
    assert_eq!(keyed(&console, "a", "PUT", &list, &body).await.expect(200)["entries"][0], "203.0.113.99");
    let member = format!("{org}/members/{ada}");
    api.write("PATCH", &member, &json!({ "role": "member" })).await.expect(200);
    assert_eq!(keyed(&console, "a", "PUT", &list, &body).await.refused(403), "role_missing");
    api.write("DELETE", &member, &json!({})).await.expect(200);
    assert_eq!(keyed(&console, "a", "PUT", &list, &body).await.refused(403), "not_a_member");
}
