//! The stock Python client.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::python::{interpreter, run};

use crate::engine::{Engine, Totals, event};
use crate::gate::{MODEL, asking, customer, serving};

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
    // The engine may write entries of its own beside them.
    let last = engine.last().await.0;
    let sequences: Vec<u64> = said.iter().filter_map(|answer| answer["seq"].as_u64()).collect();
    assert!(
        sequences.is_sorted_by(|one, next| one < next) && sequences[1] <= last,
        "{sequences:?} of {last}"
    );
    assert_eq!(
        said,
        [
            json!({ "stream": "TOLLBOOK_LOG_0_0", "seq": sequences[0] }),
            json!({ "stream": "TOLLBOOK_LOG_0_0", "seq": sequences[1] }),
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

#[tokio::test]
async fn the_stock_python_client_asks_for_admission() {
    let nats = NatsServer::start().await;
    let (mut system, _gate) = serving(&nats).await;
    let key = customer(&system.api, 100, &json!({ "rpm": 1 })).await;
    let mut question = asking(&key, 30);
    question["request_id"] = json!("r1");
    let questions = [
        json!(["admit", question]),
        json!(["admit", asking(&key, 1)]),
        json!(["settle", { "lease": "lease_1" }]),
        json!(["renew", {}]),
        json!(["release", { "api_key": key.secret, "model": MODEL }]),
    ];
    let file = system.scratch().join("questions");
    let lines: Vec<String> = questions.iter().map(Value::to_string).collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("nats_ingress/ask.py");
    let (script, url, file) = (script.to_string_lossy(), nats.url(), file.to_string_lossy().into_owned());
    let arguments = [&*script, url.as_str(), file.as_str()];
    let python = interpreter(PACKAGE, "nats").await;
    let said = |printed: String| -> Vec<Value> {
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let answers = said(run(&python, &arguments).await);
    assert_eq!(answers[0]["headers"], json!({}));
    assert_eq!(answers[0]["body"]["remaining"]["balance"], "70", "{answers:?}");
    let seen: Vec<(&Value, &Value)> = answers[1..]
        .iter()
        .map(|answer| &answer["headers"])
        .map(|headers| (&headers["Nats-Service-Error-Code"], &headers["Nats-Service-Error"]))
        .collect();
    let expected = [
        ("429", "organization_rpm"),
        ("404", "lease_not_found"),
        ("400", "invalid_fields"),
        ("400", "invalid_fields"),
    ];
    assert_eq!(
        seen,
        expected.map(|(status, code)| (json!(status), json!(code))).each_ref().map(|(a, b)| (a, b))
    );
    let refused = &answers[1];
    assert_eq!(refused["body"]["error"]["type"], "rate_limit_reached_error");
    assert_eq!(
        refused["headers"]["retry-after-ms"],
        refused["body"]["error"]["metadata"]["retry_after_ms"].to_string()
    );
    // No engine: the server says so at once.
    system.terminate().await;
    for answer in said(run(&python, &arguments).await) {
        assert_eq!(answer, json!({ "error": "NoRespondersError" }));
    }
}
