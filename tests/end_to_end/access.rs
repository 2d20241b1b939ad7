//! Which tokens may do what.

use serde_json::{Value, json};
use tollbook_tests::system::{Answer, Api, System};

use super::{MODEL, calls, check_spend, priced};

const SCOPES: [&str; 5] = ["operator", "console", "publisher", "gateway", "auditor"];

/// Asks for something with a token of each scope; the scopes that are allowed it.
async fn allowed(api: &Api, method: &str, path: &str, body: &Value) -> Vec<&'static str> {
    let mut allowed = Vec::new();
    for scope in SCOPES {
        let other = api.with_token(&api.service_token(&[scope], None).await);
        let answer = other.write(method, path, body).await;
        if answer.status == 403 {
            // A console must name a member, wherever members may do anything at all.
            let code = if scope == "console" && path.starts_with("/v1/organizations/") {
                "actor_missing"
            } else {
                "forbidden"
            };
            assert_eq!(answer.refused(403), code, "{method} {path} {scope}");
            continue;
        }
        // What is wrong with a request is nobody's business who may not make it, but everybody else is told.
        assert!([200, 201, 204, 400, 404, 409, 422].contains(&answer.status), "{answer:?}");
        allowed.push(scope);
    }
    allowed
}

#[tokio::test]
async fn each_endpoint_takes_the_scopes_that_it_needs() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let org = format!("/v1/organizations/{}", key.organization);
    let project = format!("{org}/projects/{}", key.project);
    let writes = [
        ("POST", "/v1/organizations".to_owned()),
        ("POST", format!("{org}/projects")),
        ("POST", format!("{project}/api-keys")),
        ("POST", format!("{org}/recharges")),
        ("POST", format!("{org}/invoices")),
        ("POST", format!("{org}/recharges/rch_none/reversals")),
        ("POST", format!("{org}/refunds")),
        ("POST", format!("{org}/vouchers")),
        ("POST", format!("{org}/adjustments")),
        ("PUT", format!("{org}/credit-limit")),
        ("PUT", format!("{org}/balance-alert")),
        ("PUT", format!("{project}/budgets")),
        ("PUT", format!("{project}/spend-notifications")),
        ("POST", format!("{org}/webhooks")),
        ("POST", format!("{org}/webhooks/wh_none/rotate-secret")),
        ("POST", format!("{org}/alerts/alert_none/deliveries")),
        ("PUT", format!("{org}/prices")),
        ("PUT", "/v1/config/prices".to_owned()),
        ("PUT", "/v1/config/tiers".to_owned()),
        ("PUT", "/v1/config/rate-scale".to_owned()),
        ("PUT", "/v1/config/voucher-policy".to_owned()),
        ("PUT", "/v1/config/defaults".to_owned()),
        ("PUT", "/v1/config/billing-cycle".to_owned()),
        ("POST", "/v1/tokens".to_owned()),
        ("DELETE", "/v1/tokens/tok_none".to_owned()),
        ("POST", "/v1/alert-subscriptions".to_owned()),
        ("DELETE", "/v1/alert-subscriptions/none".to_owned()),
    ];
    for (method, path) in &writes {
        assert_eq!(allowed(api, method, path, &json!({})).await, ["operator"], "{method} {path}");
    }
    let reads = [
        "/v1/organizations".to_owned(),
        org.clone(),
        format!("{org}/projects"),
        format!("{project}/api-keys"),
        format!("{project}/budgets"),
        format!("{project}/breaches"),
        format!("{project}/spend-notifications"),
        format!("{org}/balance-alert"),
        format!("{org}/balance"),
        format!("{org}/recharges"),
        format!("{org}/vouchers"),
        format!("{org}/prices"),
        format!("{org}/spend"),
        format!("{org}/webhooks"),
        format!("{org}/webhooks/wh_none/deliveries"),
        format!("{org}/alerts/alert_none/deliveries"),
        format!("{org}/log"),
        format!("{org}/statement?month=2020-01"),
        format!("{org}/invoices"),
        "/v1/config/prices".to_owned(),
        "/v1/config/tiers".to_owned(),
        "/v1/config/rate-scale".to_owned(),
        "/v1/config/voucher-policy".to_owned(),
        "/v1/config/defaults".to_owned(),
        "/v1/trial-balance".to_owned(),
        "/v1/config/billing-cycle".to_owned(),
        "/v1/tokens".to_owned(),
        format!("{org}/alerts"),
        "/v1/alerts".to_owned(),
        "/v1/alert-subscriptions".to_owned(),
        format!("/v1/api-keys/{}", key.id),
        "/v1/quarantine".to_owned(),
        "/v1/digest".to_owned(),
    ];
    for path in &reads {
        assert_eq!(allowed(api, "GET", path, &json!({})).await, ["operator", "auditor"], "{path}");
        assert_eq!(api.send(api.anonymous("GET", path)).await.refused(401), "unauthorized", "{path}");
    }
    assert_eq!(allowed(api, "POST", "/v1/admissions", &json!({})).await, ["gateway"]);
    assert_eq!(
        allowed(api, "GET", "/v1/admissions/disagreements", &json!({})).await,
        ["operator", "auditor"]
    );
    for (method, rest) in [("POST", "/settle"), ("POST", "/renew"), ("DELETE", "")] {
        let path = format!("/v1/admissions/lease_none{rest}");
        assert_eq!(allowed(api, method, &path, &json!({})).await, ["gateway"], "{method} {path}");
    }
    for path in ["/v1/events", "/api/v1/events"] {
        assert_eq!(allowed(api, "POST", path, &json!([])).await, ["operator", "publisher"]);
    }
}

/// Whatever the document describes: nobody reaches it without a token, and no token does more than its scope.
#[tokio::test]
async fn every_operation_takes_only_the_scopes_that_it_needs() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let verified = format!("/v1/organizations/{}/verification", key.organization);
    api.post(&verified, &json!({ "level": "enterprise_verified" })).await.expect(200);
    let mut by_scope = Vec::new();
    for scope in SCOPES {
        by_scope.push((scope, api.with_token(&api.service_token(&[scope], None).await)));
    }
    let document = api.send(api.anonymous("GET", "/openapi.json")).await.expect(200);
    let ids = [
        ("{org}", key.organization.as_str()),
        ("{project}", &key.project),
        ("{key}", &key.id),
        ("{member}", "mem_none"),
        ("{invitation}", "inv_none"),
        ("{invoice}", "invoice_none"),
        ("{token}", "tok_none"),
        ("{name}", "none"),
        ("{record}", "0-1.0"),
        ("{webhook}", "wh_none"),
        ("{alert}", "alert_none"),
        ("{lease}", "lease_none"),
        ("{path}", "v1/chat/completions"),
        ("{invoice}", "invoice_none"),
        ("{recharge}", "rch_none"),
        ("{invoice}", "invoice_none"),
    ];
    let mut operations = 0;
    for (template, methods) in document["paths"].as_object().unwrap() {
        let path = ids.iter().fold(template.clone(), |path, (name, id)| path.replace(name, id));
        assert!(!path.contains('{'), "{template} has an id that this test does not know");
        // A stream does not end; what is wrong with one is said at once.
        let path = if path.ends_with("/stream") { format!("{path}?after=nonsense") } else { path };
        for (method, operation) in methods.as_object().unwrap() {
            // What needs no token says so by having no security.
            if operation["security"].is_null() || template.ends_with("/events") {
                continue;
            }
            // Beside a customer's key it is in a header of its own: a customer is not told that the gateway's is wrong.
            if operation["security"][0].get("gateway_token").is_some() {
                let answer = api.get(&path).await.expect(503);
                assert_eq!(answer["error"]["code"], "gateway_unauthorized", "{template}");
                continue;
            }
            // Customers' own keys are no service tokens, and service tokens no keys.
            if operation["security"][0].get("api_key").is_some() {
                for (scope, api) in &by_scope {
                    assert_eq!(
                        api.get(&path).await.expect(401)["error"]["code"],
                        "api_key_malformed",
                        "{scope}"
                    );
                }
                continue;
            }
            operations += 1;
            let of_gateways = template.starts_with("/v1/admissions") && method != "get";
            let method = method.to_uppercase();
            let what = format!("{method} {template}");
            // A body that nothing takes: whoever may ask at all is told that, or what else is wrong.
            let body = json!({ "nonsense": true });
            let anonymous = api.anonymous(&method, &path).json(&body);
            assert_eq!(api.send(anonymous).await.refused(401), "unauthorized", "{what}");
            for (scope, api) in &by_scope {
                let request = api.request(&method, &path);
                let request = if method == "GET" { request } else { request.json(&body) };
                let answer = api.send(request).await;
                let may = match *scope {
                    "gateway" => of_gateways,
                    _ if of_gateways => false,
                    "operator" => true,
                    "auditor" => method == "GET",
                    // Without a member it may only let newcomers in.
                    "console" => template == "/v1/invitations/accept",
                    _ => false,
                };
                assert_eq!(answer.status != 403, may, "{what} with a {scope} token: {answer:?}");
                assert!(!may || [200, 400, 404, 409, 422].contains(&answer.status), "{what}: {answer:?}");
            }
        }
    }
    assert!(operations >= 45, "{operations} operations");
}

#[tokio::test]
async fn without_a_token_that_works_nothing_is_told() {
    let system = System::start().await;
    let api = &system.api;
    let ask = async |authorization: Option<&str>| -> Answer {
        let request = api.anonymous("GET", "/v1/organizations");
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        api.send(request).await
    };
    let basic = format!("Basic {}", api.token());
    let cut = format!("Bearer {}", &api.token()[..api.token().len() - 1]);
    for wrong in [None, Some("Bearer"), Some("Bearer "), Some("Bearer nonsense"), Some(&basic), Some(&cut)] {
        let answer = ask(wrong).await;
        assert_eq!(answer.refused(401), "unauthorized", "{wrong:?}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        assert!(!answer.text.contains("nonsense"), "a secret is not told back");
    }
    ask(Some(&format!("bearer {}", api.token()))).await.expect(200);
}

#[tokio::test]
async fn a_token_limited_to_organizations_reaches_no_other() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let (ours, theirs) = (api.customer("Ours").await, api.customer("Theirs").await);
    let limit = Some(&[ours.organization.as_str()][..]);
    let publisher = api.with_token(&api.service_token(&["publisher"], limit).await);
    publisher.events(&[ours.event("1", MODEL)]).await;
    let mixed = [ours.event("2", MODEL), theirs.event("3", MODEL)];
    let refused = publisher.send(publisher.batch(&mixed)).await;
    assert_eq!(refused.refused(403), "forbidden");
    check_spend(api, &ours.organization, calls(1)).await;
    check_spend(api, &theirs.organization, calls(0)).await;

    let auditor = api.with_token(&api.service_token(&["auditor"], limit).await);
    let seen = auditor.all("/v1/organizations").await;
    assert_eq!((seen.len(), &seen[0]["id"]), (1, &json!(ours.organization)));
    auditor.balance(&ours.organization).await;
    assert_eq!(
        auditor.get("/v1/trial-balance").await.refused(403),
        "forbidden",
        "it is of all organizations"
    );
    for path in ["", "/projects", "/balance", "/recharges", "/vouchers", "/prices", "/spend"] {
        let path = format!("/v1/organizations/{}{path}", theirs.organization);
        assert_eq!(auditor.get(&path).await.refused(403), "forbidden", "{path}");
    }
    let path = format!("/v1/api-keys/{}", theirs.id);
    assert_eq!(auditor.get(&path).await.refused(403), "forbidden");
    // Quarantined records of others are theirs.
    api.events(&[theirs.event("4", "unknown"), ours.event("5", "unknown")]).await;
    assert_eq!(api.quarantine().await.len(), 2);
    let seen = auditor.quarantine().await;
    assert_eq!((seen.len(), &seen[0]["event"]["id"]), (1, &json!("5")));
}

#[tokio::test]
async fn an_operator_limited_to_organizations_does_nothing_to_the_whole_ledger() {
    let system = System::start().await;
    let api = &system.api;
    let ours = api.customer("Ours").await;
    let limit = Some(&[ours.organization.as_str()][..]);
    let limited = api.with_token(&api.service_token(&["operator"], limit).await);
    let creator = json!({ "name": "Ann", "email": "ann@example.org" });
    let price = json!({ "model": "free", "input": "0", "cached_input": "0", "output": "0" });
    let cases = [
        (
            "POST",
            "/v1/organizations",
            json!({ "name": "New", "email": "new@example.org", "creator": creator }),
        ),
        ("POST", "/v1/tokens", json!({ "name": "all", "scopes": ["operator"] })),
        ("PUT", "/v1/config/prices", json!({ "models": [price] })),
        ("PUT", "/v1/config/billing-cycle", json!({ "cycle_seconds": 0 })),
        ("PUT", "/v1/config/defaults", json!({ "balance_alert_threshold": "1", "max_output_tokens": 1 })),
    ];
    for (method, path, body) in cases {
        assert_eq!(limited.write(method, path, &body).await.refused(403), "forbidden", "{method} {path}");
        let all = api.write(method, path, &body).await;
        assert!([200, 201].contains(&all.status), "an unlimited token may: {all:?}");
    }
    assert_eq!(limited.get("/v1/tokens").await.refused(403), "forbidden");
    limited.balance(&ours.organization).await;
}

#[tokio::test]
async fn the_admin_token_is_kept_and_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mut system = System::start().await;
    let token = system.api.token();
    let mode = std::fs::metadata(system.data().join("admin-token")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!system.log().contains(&token), "it is not logged");
    system.restart().await;
    assert_eq!(system.api.token(), token);
}
