//! Admission over HTTP, from the question to the usage that settles it (R5), and as an auth subrequest.

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tollbook_tests::eventually;
use tollbook_tests::system::{Answer, Api, DEADLINE, Key, System, Timed};

/// $1 for a million tokens of any kind.
pub(super) const MODEL: &str = "cheap";

/// Asks for so many tokens, all of them input.
pub(super) async fn ask(api: &Api, key: &Key, tokens: u64) -> Answer {
    let body =
        json!({ "api_key": key.secret, "model": MODEL, "input_tokens": tokens, "max_output_tokens": 0 });
    api.post("/v1/admissions", &body).await
}

/// A customer who has recharged once; what a lease reserves is named by [`ask`].
pub(super) async fn customer(api: &Api, recharge: &str) -> Key {
    api.prices(MODEL, "1", "1", "1").await;
    let key = api.customer("Acme").await;
    // None of the money is a voucher's.
    let none = json!({ "threshold": "5", "amount": "0", "expires_after_days": null });
    api.put("/v1/config/voucher-policy", &none).await.expect(200);
    api.recharge(&key.organization, recharge, "first").await;
    key
}

/// What is used of limits now.
pub(super) async fn used(api: &Api, key: &Key) -> Value {
    api.get(&format!("/v1/organizations/{}/limits", key.organization)).await.expect(200)["used"].clone()
}

pub(super) fn lease(admitted: &Answer) -> String {
    admitted.expect(200)["lease"].as_str().unwrap().to_owned()
}

/// Cash, and what is held of it.
pub(super) async fn money(api: &Api, key: &Key) -> [String; 3] {
    let balance = api.balance(&key.organization).await;
    ["cash", "held", "available"].map(|name| balance[name].as_str().unwrap().to_owned())
}

/// Usage of so many input tokens that settles a lease.
pub(super) fn usage(key: &Key, id: &str, tokens: u64, settles: &Value) -> Value {
    let mut event = key.event(id, MODEL);
    event["data"] =
        json!({ "api_key_id": key.id, "model": MODEL, "input_tokens": tokens, "output_tokens": 0 });
    event["data"].as_object_mut().unwrap().extend(settles.as_object().unwrap().clone());
    event
}

#[tokio::test]
async fn r5_7_a_request_is_reserved_for_settled_and_charged() {
    let system = System::start().await;
    let api = &system.api;
    let key = customer(api, "10").await;
    let admitted = ask(api, &key, 1_000_000).await;
    let lease = lease(&admitted);
    assert_eq!(admitted.json()["remaining"]["balance"], "9");
    assert_eq!(money(api, &key).await, ["10", "1", "10"], "R4.1: what is available is before holds");
    let before = used(api, &key).await;
    let project = json!([{ "project": key.project, "tokens": 1_000_000 }]);
    assert_eq!(
        before,
        json!({ "concurrency": 1, "requests": 1, "tokens": 1_000_000, "tokens_today": 1_000_000, "leases": 1,
            "projects": project })
    );
    // The request is over: its slot is free, and no more is held than it cost.
    let at = format!("/v1/admissions/{lease}");
    let body = json!({ "input_tokens": 250_000, "cached_input_tokens": 0, "output_tokens": 0 });
    for _ in 0..2 {
        let settled = api.post(&format!("{at}/settle"), &body).await.expect(200);
        assert_eq!((&settled["lease"], &settled["held"]), (&json!(lease), &json!("0.25")));
    }
    let now = used(api, &key).await;
    assert_eq!([&now["concurrency"], &now["tokens"], &now["leases"]], [0, 250_000, 1]);
    // Usage that names it ends it.
    api.events(&[usage(&key, "1", 200_000, &json!({ "lease": lease }))]).await;
    api.folded().await;
    assert_eq!(money(api, &key).await, ["9.8", "0", "9.8"]);
    let now = used(api, &key).await;
    assert_eq!(
        [&now["tokens"], &now["tokens_today"], &now["leases"], &now["requests"]],
        [200_000, 200_000, 0, 1]
    );
    assert_eq!(api.post(&format!("{at}/settle"), &json!({})).await.refused(404), "lease_not_found");
}

#[tokio::test]
async fn a_lease_is_released_renewed_and_over() {
    let mut timed = Timed::start("2026-11-20T10:00:00Z").await;
    let api = timed.api.clone();
    let key = customer(&api, "10").await;
    let first = lease(&ask(&api, &key, 1_000_000).await);
    let answer = api.write("DELETE", &format!("/v1/admissions/{first}"), &json!({})).await;
    assert_eq!(answer.expect(200), json!({ "lease": first }));
    // The request was made all the same.
    let now = used(&api, &key).await;
    assert_eq!([&now["concurrency"], &now["tokens"], &now["leases"], &now["requests"]], [0, 0, 0, 1]);
    let second = lease(&ask(&api, &key, 1_000_000).await);
    let renewed = api.post(&format!("/v1/admissions/{second}/renew"), &json!({ "seconds": 3_600 })).await;
    assert_eq!(renewed.expect(200), json!({ "lease": second, "expires_at": "2026-11-20T11:00:00Z" }));
    timed.until("2026-11-20T10:59:59.999Z");
    assert_eq!(money(&api, &key).await, ["10", "1", "10"]);
    timed.until("2026-11-20T11:00:00Z");
    assert_eq!(money(&api, &key).await, ["10", "0", "10"]);
    assert_eq!(
        api.post(&format!("/v1/admissions/{second}/renew"), &json!({})).await.refused(404),
        "lease_not_found"
    );
    // Nobody who reads no answers gets any.
    let third = lease(&ask(&api, &key, 1).await);
    for (method, rest) in [("POST", "/settle"), ("DELETE", "")] {
        let request = api.request(method, &format!("/v1/admissions/{third}{rest}"));
        let answer = api.send(request.header("prefer", "return=minimal")).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
        assert_eq!(answer.header("preference-applied"), "return=minimal");
    }
    timed.stop().await;
}

#[tokio::test]
async fn the_same_request_gets_the_same_lease() {
    let system = System::start().await;
    let api = &system.api;
    let key = customer(api, "10").await;
    let body = json!({ "api_key": key.secret, "model": MODEL, "input_tokens": 5, "request_id": "r1" });
    let first = lease(&api.post("/v1/admissions", &body).await);
    assert_eq!(lease(&api.post("/v1/admissions", &body).await), first);
    assert_eq!(used(api, &key).await["requests"], 1);
    // Usage that names the request settles it as well.
    api.events(&[usage(&key, "1", 5, &json!({ "request_id": "r1" }))]).await;
    api.folded().await;
    assert_eq!(used(api, &key).await["leases"], 0);
}

#[tokio::test]
async fn a_token_limited_to_organizations_asks_for_no_other() {
    let system = System::start().await;
    let api = &system.api;
    let key = customer(api, "10").await;
    let limited = |organization: String| async move {
        api.with_token(&api.service_token(&["gateway"], Some(&[&organization])).await)
    };
    let ours = limited(key.organization.clone()).await;
    let theirs = limited(api.organization("Other").await).await;
    let lease = lease(&ask(&ours, &key, 1).await);
    assert_eq!(ask(&theirs, &key, 1).await.expect(401)["error"]["code"], "api_key_invalid");
    let at = format!("/v1/admissions/{lease}");
    assert_eq!(theirs.post(&format!("{at}/settle"), &json!({})).await.refused(404), "lease_not_found");
    assert_eq!(theirs.write("DELETE", &at, &json!({})).await.refused(404), "lease_not_found");
    ours.post(&format!("{at}/renew"), &json!({})).await.expect(200);
    ours.write("DELETE", &at, &json!({})).await.expect(200);
}

/// A subrequest as Envoy's ext_authz makes it over HTTP: the client's own method, its path behind ours, what
/// `allowed_headers` lets through, and no body.
fn envoy(api: &Api, token: &str, key: &Key, (method, path): (&str, &str)) -> RequestBuilder {
    let request = api.anonymous(method, &format!("/v1/authorize{path}")).header("content-length", "0");
    request.header("authorization", format!("Bearer {}", key.secret)).header("tollbook-token", token)
}

/// Envoy lets pass what is answered 200 exactly, and gives the client any other answer as it is: docs/envoy.md.
#[tokio::test]
async fn envoys_contract_is_kept() {
    let mut timed = Timed::start("2026-11-20T10:00:00Z").await;
    timed.stop().await;
    timed.admission.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    timed.go_on().await;
    let api = &timed.api;
    let key = customer(api, "1").await;
    let token = api.service_token(&["gateway"], None).await;
    let ways = [
        ("POST", "/v1/chat/completions"),
        ("GET", "/"),
        ("GET", "/v1/models?style=any&x=%2F"),
        ("PUT", "/a/b//c"),
        ("DELETE", "/v1/files/1"),
        ("PATCH", "/x"),
        ("HEAD", "/x"),
        ("OPTIONS", "/x"),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let key = customer(api, "1").await;
        let request = envoy(api, &token, &key, way).header("x-tollbook-model", MODEL);
        let request =
            request.header("x-tollbook-input-tokens", "100").header("x-request-id", format!("r{number}"));
        let answer = api.send(request).await;
        assert_eq!(answer.status, 200, "{way:?} {answer:?}");
        assert!(answer.header("x-tollbook-lease").starts_with("lease_"));
        assert_eq!(answer.header("x-tollbook-organization"), key.organization);
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), "2");
    }
    let refusal = |request: RequestBuilder| async move { api.send(request).await };
    let post = ("POST", "/v1/chat/completions");
    let no_model = refusal(envoy(api, &token, &key, post)).await;
    assert_eq!(no_model.expect(400)["error"]["code"], "model_missing");
    let asked = || envoy(api, &token, &key, post).header("x-tollbook-model", MODEL);
    refusal(asked()).await.expect(200);
    let busy = refusal(asked()).await;
    assert_eq!(busy.expect(429)["error"]["code"], "organization_concurrency");
    assert_eq!([busy.header("retry-after"), busy.header("retry-after-ms")], ["1", "1000"]);
    // What a customer writes behind the path is not an order of the proxy's.
    for path in ["/v1/chat/completions?style=nginx", "/?style=nginx"] {
        let styled = envoy(api, &token, &key, ("POST", path)).header("x-tollbook-model", MODEL);
        let styled = refusal(styled).await;
        assert_eq!((styled.status, styled.header("x-tollbook-status")), (429, ""), "{path}");
    }
    // 503 makes Envoy do what `failure_mode_allow` says; the customer's own key was never in question.
    assert_eq!(
        refusal(envoy(api, "wrong", &key, post)).await.expect(503)["error"]["code"],
        "gateway_unauthorized"
    );
    // The address is the last hop that is no proxy of ours.
    let path = format!("/v1/organizations/{}", key.organization);
    api.post(&format!("{path}/verification"), &json!({ "level": "verified" })).await.expect(200);
    api.put(&format!("{path}/ip-allowlist"), &json!({ "text": "8.8.8.8" })).await.expect(200);
    for (forwarded, status) in
        [("8.8.8.8", 429), ("8.8.8.8, 9.9.9.9", 403), ("9.9.9.9, 8.8.8.8, 127.0.0.9", 429)]
    {
        let answer = refusal(asked().header("x-forwarded-for", forwarded)).await;
        assert_eq!(answer.status, status, "{forwarded} {answer:?}");
    }
    // Its lease lives a minute, as nobody tells when the request ends; usage may name the request.
    timed.until("2026-11-20T10:01:00Z");
    let named = || asked().header("x-request-id", "r1").header("x-forwarded-for", "8.8.8.8");
    assert_eq!(refusal(named()).await.expect(200)["expires_at"], "2026-11-20T10:02:00Z");
    api.events(&[usage(&key, "1", 5, &json!({ "request_id": "r1" }))]).await;
    eventually(DEADLINE, "usage settles the lease", || async {
        (used(api, &key).await["leases"] == 0).then_some(())
    })
    .await;
}

/// What the command line makes of it.
#[tokio::test]
async fn admission_by_hand() {
    let system = System::start().await;
    let key = customer(&system.api, "10").await;
    let admit = |more: &[&'static str]| {
        let args =
            ["admission", "admit", "--api-key", &key.secret, "--model", MODEL, "--max-output-tokens", "10"];
        let args: Vec<String> = args.iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        let system = &system;
        async move { system.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let admitted = admit(&["--json"]).await.json();
    let lease = admitted["lease"].as_str().unwrap();
    let shown = admit(&[]).await;
    assert!(shown.out.contains("remaining.tokens") && shown.out.contains("Tier1"), "{}", shown.out);
    let settle = ["admission", "settle", lease, "--input-tokens", "4", "--output-tokens", "3", "--json"];
    assert_eq!(system.run(&settle).await.json()["held"], "0.000007");
    let renewed = system.run(&["admission", "renew", lease, "--seconds", "60", "--json"]).await.json();
    assert_eq!(renewed["lease"], lease);
    // Its tokens are known, so only usage ends it.
    for _ in 0..2 {
        assert!(system.run(&["admission", "release", lease]).await.out.contains(lease));
    }
    let another = admit(&["--json"]).await.json();
    let another = another["lease"].as_str().unwrap();
    assert!(system.run(&["admission", "release", another]).await.out.contains(another));
    let gone = system.run(&["admission", "release", another]).await;
    assert!(gone.err.contains("(lease_not_found, 404)"), "{}", gone.err);
    let unknown = system.run(&["admission", "admit", "--api-key", "sk-none", "--model", MODEL]).await;
    assert!(unknown.err.contains("there is no such API key (api_key_invalid, 401)"), "{}", unknown.err);
    assert_eq!(
        system.run(&["admission", "disagreements", "--json"]).await.json(),
        json!({ "items": [], "total": 0 })
    );
    let limits = system.run(&["org", "limits", &key.organization]).await;
    let rpm = limits.out.lines().find(|line| line.contains("rpm")).unwrap().to_owned();
    assert!(rpm.contains("200") && rpm.contains(" 3 "), "{rpm}");
}
