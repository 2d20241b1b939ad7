//! The stock Python client.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::python::{interpreter, run};

use crate::engine::{Engine, Totals, event};

const PACKAGE: &str = "nats-py==2.16.0";

#[tokio::test]
async fn the_stock_python_client_gets_acknowledgements_and_errors() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let mut bad = event("bad");
    bad["data"]["input_tokens"] = json!(-1);
    let many = Value::Array((0..1_001).map(event).collect());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats_ingress/publish.py");
    let files = TempDir::new().unwrap();
    let payloads = [event(1), json!([event(2), event(3)]), bad, many, json!("text")];
    let paths: Vec<String> = payloads
        .iter()
        .enumerate()
        .map(|(number, payload)| {
            let path = files.path().join(number.to_string());
            fs::write(&path, payload.to_string()).unwrap();
            path.to_string_lossy().into_owned()
        })
        .collect();
    let url = server.url();
    let script = script.to_string_lossy();
    let mut arguments = vec![&*script, url.as_str(), "tollbook.usage.org_a"];
    arguments.extend(paths.iter().map(String::as_str));
    let printed = run(&interpreter(PACKAGE, "nats").await, &arguments).await;
    let said: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = engine.last().await.0;
    assert_eq!(
        said,
        [
            json!({ "stream": "TOLLBOOK_LOG_0_0", "seq": last - 1 }),
            json!({ "stream": "TOLLBOOK_LOG_0_0", "seq": last }),
            json!({ "error": "BadRequestError", "code": 400, "err_code": 60_002 }),
            json!({ "error": "APIError", "code": 413, "err_code": 60_004 }),
            json!({ "error": "BadRequestError", "code": 400, "err_code": 60_001 }),
        ]
    );
    assert_eq!(engine.totals().await, Totals::booked(3));
    engine.stop().await;
    // Nobody listens: the server says so at once.
    arguments.truncate(4);
    let printed = run(&interpreter(PACKAGE, "nats").await, &arguments).await;
    assert_eq!(printed.trim(), r#"{"error": "NoStreamResponseError"}"#);
}
