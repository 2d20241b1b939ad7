//! The stock Python client.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tollbook_tests::nats::NatsServer;

use crate::engine::{Engine, Totals, event};

const PACKAGE: &str = "nats-py==2.16.0";

/// An interpreter that has the client; made on first use.
async fn interpreter() -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/nats-py");
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let python = directory.join("venv/bin/python");
    let has_client = Command::new(&python).args(["-c", "import nats"]).output().await;
    if !has_client.is_ok_and(|output| output.status.success()) {
        run("python3".as_ref(), &["-m", "venv", &directory.join("venv").to_string_lossy()]).await;
        run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]).await;
    }
    python
}

async fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {errors}", program.display());
    String::from_utf8(output.stdout).unwrap()
}

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
    let printed = run(&interpreter().await, &arguments).await;
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
    let printed = run(&interpreter().await, &arguments).await;
    assert_eq!(printed.trim(), r#"{"error": "NoStreamResponseError"}"#);
}
