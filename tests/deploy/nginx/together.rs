//! nginx and the real engine.

use std::fs;
use std::path::Path;

use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tollbook_tests::eventually;
use tollbook_tests::system::{Answer, Key, System};

use super::gateway::{BODY, BODY_BYTES, Gateway, MODEL, client, read};
use super::python::calls;
use super::refusals::unavailable;
use crate::deployment::DEADLINE;

/// An address of customers that is not also that of nginx.
const CUSTOMER: [u8; 4] = [127, 0, 0, 2];

/// What the nginx configuration wants of Tollbook's.
fn beside() -> String {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx.conf");
    let config = fs::read_to_string(config).unwrap();
    let lines = config.lines().skip_while(|line| *line != "#   [admission]");
    lines.map_while(|line| line.strip_prefix("#   ")).map(|line| format!("{line}\n")).collect()
}

/// The whole deployment.
struct Platform {
    tollbook: System,
    token: String,
    gateway: Gateway,
    customer: Client,
    _files: TempDir,
}

impl Platform {
    async fn start(words: &[(&str, &str)]) -> Self {
        Self::start_with(&beside(), ["1", "1"], words).await
    }

    /// With this configuration of Tollbook, and these prices of input and output.
    async fn start_with(settings: &str, [input, output]: [&str; 2], words: &[(&str, &str)]) -> Self {
        let files = TempDir::new().unwrap();
        let config = files.path().join("tollbook.toml");
        fs::write(&config, settings).unwrap();
        let tollbook = System::builder().arg("--config").arg(config.to_string_lossy()).start().await;
        tollbook.api.prices(MODEL, input, input, output).await;
        let token = tollbook.api.service_token(&["gateway"], None).await;
        let port = tollbook.api.url().rsplit(':').next().unwrap().parse().unwrap();
        let gateway = Gateway::start(port, &token, words).await;
        Self { tollbook, token, gateway, customer: client(CUSTOMER), _files: files }
    }

    /// A customer of Tier0: one request at a time, three a minute.
    async fn tier0(&self, name: &str) -> Key {
        let key = self.tollbook.api.customer(name).await;
        self.tollbook.api.recharge(&key.organization, "1", name).await;
        key
    }

    async fn ask(&self, path: &str, key: &str) -> Answer {
        read(self.gateway.request_of(&self.customer, path, key)).await
    }

    /// A stream that has begun, and stays open.
    async fn stream(&self, key: &Key) -> Response {
        let request = self.gateway.request_of(&self.customer, "/v1/stream", &key.secret);
        let mut stream = request.send().await.unwrap();
        assert_eq!(stream.status(), 200);
        stream.chunk().await.unwrap().expect("an event");
        stream
    }

    /// What a customer has, below zero too, and what of it is held.
    async fn money(&self, key: &Key) -> [String; 2] {
        let balance = self.tollbook.api.balance(&key.organization).await;
        ["cash", "held"].map(|name| balance[name].as_str().unwrap().to_owned())
    }

    /// Tells what a stream used, as its LLM server does, and waits until it is charged.
    async fn charge(&self, key: &Key, stream: &Response) {
        let request = stream.headers()["x-request-id"].to_str().unwrap();
        let mut event = key.event(request, MODEL);
        event["data"] = json!({
            "api_key_id": key.id, "model": MODEL, "request_id": request,
            "input_tokens": BODY.len(), "output_tokens": 0,
        });
        self.tollbook.api.events(&[event]).await;
        self.tollbook.api.folded().await;
    }

    /// What the engine says of this key itself, as to a proxy that passes on what it says.
    async fn said_itself(&self, key: &str) -> Answer {
        let request = self.tollbook.api.anonymous("POST", "/v1/authorize").bearer_auth(key);
        let request = request.header("tollbook-token", &self.token).header("x-forwarded-for", "127.0.0.2");
        read(request.header("x-tollbook-model", MODEL).header("x-tollbook-input-tokens", BODY_BYTES)).await
    }
}

#[tokio::test]
async fn a_request_passes_with_its_limits_and_the_llm_server_knows_whose_it_is() {
    let platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    let said = platform.ask("/v1/chat/completions", &key.secret).await;
    assert_eq!(said.expect(200)["choices"][0]["message"]["content"], "Hi");
    for (name, value) in [
        ("x-ratelimit-limit-requests", "3"),
        ("x-ratelimit-remaining-requests", "2"),
        ("x-ratelimit-limit-tokens", "500000"),
    ] {
        assert_eq!(said.header(name), value, "{name}");
    }
    for name in
        ["x-ratelimit-remaining-tokens", "x-ratelimit-reset-requests", "ratelimit", "ratelimit-policy"]
    {
        assert!(!said.header(name).is_empty(), "{name}");
    }
    let served = &platform.gateway.llm.asked()[0];
    for (name, value) in [
        ("x-tollbook-organization", &key.organization),
        ("x-tollbook-project", &key.project),
        ("x-tollbook-api-key-id", &key.id),
    ] {
        assert_eq!(served.header(name), value, "{name}");
    }
    assert!(served.header("x-tollbook-lease").starts_with("lease_"));
}

/// Tier0 has one request at a time, so that a lease which were left would refuse the next request.
#[tokio::test]
async fn r5_2_no_failure_blocks_the_next_request_of_a_tier0_customer() {
    let platform = Platform::start(&[("proxy_read_timeout 300s", "proxy_read_timeout 2s")]).await;
    for (path, status) in
        [("/v1/failing", 500), ("/v1/refusing", 400), ("/v1/hanging", 502), ("/v1/chat/completions", 200)]
    {
        let key = platform.tier0(path).await;
        assert_eq!(platform.ask(path, &key.secret).await.status, status, "{path}");
        passes_next(&platform, &key).await;
    }
}

#[tokio::test]
async fn r5_2_an_llm_server_that_is_away_blocks_nobody() {
    let platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    platform.gateway.llm.leave().await;
    for _ in 0..2 {
        platform.ask("/v1/chat/completions", &key.secret).await.expect(502);
        platform.gateway.all_ended().await;
    }
}

#[tokio::test]
async fn r5_2_one_request_at_a_time_until_the_customer_goes_away() {
    let platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    let request = platform.gateway.request_of(&platform.customer, "/v1/hanging", &key.secret);
    let request = tokio::spawn(request.send());
    platform.gateway.llm.asked_often(1).await;
    let refused = platform.ask("/v1/chat/completions", &key.secret).await;
    assert_eq!(refused.expect(429)["error"]["code"], "organization_concurrency");
    request.abort();
    passes_next(&platform, &key).await;
}

#[tokio::test]
async fn r5_2_a_stream_that_is_left_frees_its_slot() {
    let platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    let request = platform.gateway.request_of(&platform.customer, "/v1/stream", &key.secret);
    let mut stream = request.send().await.unwrap();
    stream.chunk().await.unwrap().expect("an event");
    drop(stream);
    passes_next(&platform, &key).await;
}

/// A customer's dollar, and requests at 68 cents.
const DEAR: [&str; 2] = ["10000", "0"];

#[tokio::test]
async fn r5_7_a_stream_within_its_lease_is_held_to_its_end() {
    let platform = Platform::start_with(&beside(), DEAR, &[]).await;
    let key = platform.tier0("Acme").await;
    let stream = platform.stream(&key).await;
    assert_eq!(platform.money(&key).await, ["1", "0.68"]);
    // The same before and after the charge: nothing is promised twice.
    for money in [["1", "0.68"], ["0.32", "0"]] {
        assert_eq!(platform.money(&key).await, money);
        let refused = platform.ask("/v1/chat/completions", &key.secret).await;
        assert_eq!(refused.expect(429)["error"]["code"], "balance_below_request");
        platform.charge(&key, &stream).await;
    }
}

/// The bound of docs/nginx.md: with one slot, and streams of three leases, two at a time have no hold.
#[tokio::test]
async fn r5_7_streams_that_outlive_their_leases_overdraw_by_as_many_as_the_bound_says() {
    let settings = beside().replace("authorize_lease_seconds = 600 ", "authorize_lease_seconds = 1 ");
    assert_ne!(settings, beside());
    let platform = Platform::start_with(&settings, DEAR, &[]).await;
    let key = platform.tier0("Acme").await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(platform.stream(&key).await);
        eventually(DEADLINE, "the lease is over", || async {
            (platform.money(&key).await == ["1", "0"]).then_some(())
        })
        .await;
    }
    for (stream, available) in streams.iter().zip(["0.32", "-0.36", "-1.04"]) {
        platform.charge(&key, stream).await;
        assert_eq!(platform.money(&key).await, [available, "0"]);
        // What is charged stops what comes next, while they still run.
        assert_eq!(platform.ask("/v1/chat/completions", &key.secret).await.status, 429);
    }
    // -1.04 is less than the price of two of them. That they end now, and their leases are not found, changes nothing.
    for _ in 0..6 {
        platform.gateway.go_on().await;
    }
    platform.gateway.all_ended().await;
    assert_eq!(platform.money(&key).await, ["-1.04", "0"]);
}

/// Once nginx has ended what was under way, which it does before it writes of it, the next request passes.
async fn passes_next(platform: &Platform, key: &Key) {
    platform.gateway.all_ended().await;
    platform.ask("/v1/chat/completions", &key.secret).await.expect(200);
    platform.gateway.all_ended().await;
}

#[tokio::test]
async fn refusals_are_those_of_the_api() {
    let platform = Platform::start(&[]).await;
    let unpaid = platform.tollbook.api.customer("Unpaid").await;
    let elsewhere = only_from(&platform, "203.0.113.7").await;
    let gone = platform.tier0("Gone").await;
    let api = &platform.tollbook.api;
    let path =
        format!("/v1/organizations/{}/projects/{}/api-keys/{}", gone.organization, gone.project, gone.id);
    api.send(api.request("DELETE", &path)).await.expect(200);
    for (key, status, code) in [
        ("", 401, "api_key_missing"),
        ("no key", 401, "api_key_malformed"),
        ("sk-unknown", 401, "api_key_invalid"),
        (&gone.secret, 401, "api_key_revoked"),
        (&elsewhere.secret, 403, "ip_not_allowed"),
        (&unpaid.secret, 429, "recharge_required"),
    ] {
        as_the_api(&platform, key, status, code).await;
    }
}

#[tokio::test]
async fn a_model_without_a_price_is_404() {
    let platform = Platform::start(&[("default \"kimi-k2.5\"", "default \"kimi-k9\"")]).await;
    let key = platform.tier0("Acme").await;
    let error = platform.ask("/v1/chat/completions", &key.secret).await.expect(404)["error"].clone();
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("resource_not_found_error"), &json!("model_not_found"))
    );
}

async fn as_the_api(platform: &Platform, key: &str, status: u16, code: &str) {
    let said = platform.ask("/v1/chat/completions", key).await;
    assert_eq!(said.expect(status)["error"]["code"], code);
    let itself = platform.said_itself(key).await;
    assert_eq!((itself.status, itself.json()), (status, said.json()));
    let names = [
        "content-type",
        "www-authenticate",
        "retry-after",
        "retry-after-ms",
        "x-should-retry",
        "x-ratelimit-limit-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "ratelimit-policy",
    ];
    for name in names {
        assert_eq!(said.header(name), itself.header(name), "{code}: {name}");
    }
}

/// A customer whose key works from this address only.
async fn only_from(platform: &Platform, address: &str) -> Key {
    let key = platform.tier0(address).await;
    let path = format!("/v1/organizations/{}", key.organization);
    let api = &platform.tollbook.api;
    api.post(&format!("{path}/verification"), &json!({ "level": "verified" })).await.expect(200);
    api.put(&format!("{path}/ip-allowlist"), &json!({ "text": address })).await.expect(200);
    key
}

#[tokio::test]
async fn r2_1_the_address_is_that_of_the_connection_whatever_the_customer_says() {
    let front = [127, 0, 0, 3];
    let named = [("# set_real_ip_from 10.0.0.5/32;", "set_real_ip_from 127.0.0.3/32;")];
    let platform = Platform::start(&named).await;
    let key = only_from(&platform, "203.0.113.7").await;
    for (from, claim, status) in [
        (CUSTOMER, "203.0.113.7", 403),
        (CUSTOMER, "203.0.113.7, 127.0.0.1", 403),
        (front, "203.0.113.7", 200),
        // A customer's claim, and the address that the gateway in front added.
        (front, "203.0.113.7, 198.51.100.1", 403),
    ] {
        let request = platform.gateway.request_of(&client(from), "/v1/chat/completions", &key.secret);
        assert_eq!(read(request.header("x-forwarded-for", claim)).await.status, status, "{from:?} {claim}");
    }
}

/// Were a customer's own request id believed, the second request would get the first one's lease.
#[tokio::test]
async fn r5_2_requests_with_the_same_id_count_each() {
    let platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let request = platform.gateway.request_of(&platform.customer, "/v1/chat/completions", &key.secret);
        let said = read(request.header("x-request-id", "mine")).await;
        platform.gateway.all_ended().await;
        seen.push((said.status, said.json()["error"]["code"].clone()));
    }
    let passed = (200, Value::Null);
    assert_eq!(seen, [passed.clone(), passed.clone(), passed, (429, json!("organization_rpm"))]);
}

#[tokio::test]
async fn without_an_engine_what_was_admitted_goes_on_and_nothing_else_passes() {
    let mut platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    let request = platform.gateway.request_of(&platform.customer, "/v1/stream", &key.secret);
    let mut stream = request.send().await.unwrap();
    stream.chunk().await.unwrap().expect("an event");
    platform.tollbook.kill();
    unavailable(&platform.ask("/v1/chat/completions", &key.secret).await);
    for _ in 0..2 {
        platform.gateway.go_on().await;
        stream.chunk().await.unwrap().expect("an event");
    }
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_gateway_whose_token_does_not_work_says_503_not_401() {
    let platform = Platform::start(&[("default \"tb", "default \"xx")]).await;
    let key = platform.tier0("Acme").await;
    let said = platform.ask("/v1/chat/completions", &key.secret).await;
    assert_eq!(said.expect(503)["error"]["type"], "server_unavailable");
}

#[tokio::test]
async fn the_official_client_raises_its_own_errors() {
    let platform = Platform::start(&[]).await;
    let key = platform.tier0("Acme").await;
    let elsewhere = only_from(&platform, "203.0.113.7").await;
    let unpaid = platform.tollbook.api.customer("Unpaid").await;
    let keys = [&key.secret, "sk-unknown", &elsewhere.secret, &unpaid.secret];
    let raised = |error: &str, status: u16, kind: &str, code: &str| json!({ "error": error, "status": status, "code": code, "type": kind, "request": 32, "waits": [] });
    assert_eq!(
        calls(&platform.gateway, &keys).await,
        [
            json!({ "content": "Hi", "waits": [] }),
            raised("AuthenticationError", 401, "incorrect_api_key_error", "api_key_invalid"),
            raised("PermissionDeniedError", 403, "permission_denied_error", "ip_not_allowed"),
            raised("RateLimitError", 429, "exceeded_current_quota_error", "recharge_required"),
        ]
    );
}
