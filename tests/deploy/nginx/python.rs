//! The official Python client.

use std::path::Path;

use serde_json::{Value, json};
use tollbook_tests::python::{interpreter, run};

use super::gateway::{Gateway, KEY, MODEL, TOKEN, authorizer};

const PACKAGE: &str = "openai==3.54.0";

/// What became of one call per key.
pub(crate) async fn calls(gateway: &Gateway, keys: &[&str]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/nginx/client.py");
    let (script, url) = (script.to_string_lossy(), gateway.nginx.url());
    let arguments = [&[&*script, url.as_str(), MODEL], keys].concat();
    let printed = run(&interpreter(PACKAGE, "openai").await, &arguments).await;
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_official_client_raises_its_own_errors_and_waits_as_it_is_told() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let raised = |error: &str, status: u16, waits: &[f64]| {
        let code = format!("code_{status}");
        let kind = "rate_limit_reached_error";
        json!({
            "error": error, "status": status, "code": code, "type": kind, "request": 32, "waits": waits,
        })
    };
    let keys = [KEY, "refused-once", "refuse-401", "refuse-403", "refuse-404", "refuse-429", "refuse-409"];
    assert_eq!(
        calls(&gateway, &keys).await,
        [
            json!({ "content": "Hi", "waits": [] }),
            // As `retry-after-ms` says, not the whole second of `Retry-After`.
            json!({ "content": "Hi", "waits": [0.034] }),
            raised("AuthenticationError", 401, &[]),
            raised("PermissionDeniedError", 403, &[]),
            raised("NotFoundError", 404, &[]),
            raised("RateLimitError", 429, &[0.034, 0.034]),
            // It would try again, but for `x-should-retry: false`.
            raised("ConflictError", 409, &[]),
        ]
    );
}
