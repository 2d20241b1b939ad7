//! `Idempotency-Key`: the same request again changes nothing, whenever it comes.

use serde_json::{Value, json};
use tollbook_tests::system::{Answer, Api, System};

use super::{MODEL, priced};

async fn keyed(api: &Api, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    api.send(api.request(method, path).header("idempotency-key", key).json(body)).await
}

/// Every write there is, for one organization and project.
fn writes(org: &str, project: &str, token: &str) -> Vec<(&'static str, String, Value)> {
    let price = json!({ "model": "m", "input": "1", "cached_input": "1", "output": "1" });
    let organization = json!({
        "name": "Acme", "email": "a@example.com", "creator": { "name": "Ada", "email": "a@example.com" },
    });
    let org = format!("/v1/organizations/{org}");
    vec![
        ("POST", "/v1/organizations".to_owned(), organization),
        ("POST", format!("{org}/projects"), json!({ "name": "chat" })),
        ("POST", format!("{org}/projects/{project}/api-keys"), json!({ "name": "production" })),
        ("POST", format!("{org}/recharges"), json!({ "amount": "7", "reference": "r" })),
        ("PUT", "/v1/config/prices".to_owned(), json!({ "models": [price] })),
        ("PUT", "/v1/config/billing-cycle".to_owned(), json!({ "cycle_seconds": 30 })),
        ("POST", "/v1/tokens".to_owned(), json!({ "name": "auditor", "scopes": ["auditor"] })),
        ("DELETE", format!("/v1/tokens/{token}"), json!({})),
    ]
}

#[tokio::test]
async fn the_same_request_again_answers_the_same_also_after_a_restart() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = api.customer("Acme").await;
    let token = api.post("/v1/tokens", &json!({ "name": "t", "scopes": ["gateway"] })).await.expect(201);
    let writes = writes(&key.organization, &key.project, token["id"].as_str().unwrap());
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
            let (mut first, again) = (first.expect(again.status), again.json());
            first.as_object_mut().unwrap().remove("secret");
            assert_eq!(again, first, "{what}; a secret is not shown again");
            let other = json!({ "name": "Other" });
            let refused = keyed(&api, &format!("key-{index}"), method, path, &other).await;
            assert!(refused.status == 409 || refused.status == 400, "{what}: {refused:?}");
        }
        if !restarted {
            assert_eq!(api.digest(0).await, before, "repetitions change nothing");
        }
    }
    assert_eq!(api.all("/v1/organizations").await.len(), 2);
    assert_eq!(api.balance(&key.organization).await["cash"], "7");
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
