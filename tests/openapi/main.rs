//! The server keeps to the document that it serves: schemathesis makes requests of it, as the platform and as a member.
//!
//! `TOLLBOOK_EXAMPLES=500 cargo test -p tollbook-tests --test openapi` makes more of them, `TOLLBOOK_SEED=7` others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on fails"
)]

mod known;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tollbook_tests::python::interpreter;
use tollbook_tests::system::System;

use self::known::Known;

/// Requests of each kind for each operation, where nobody asks for more: enough to see a document that is wrong.
const EXAMPLES: u32 = 8;

/// A run of this many takes half a minute on two busy cores; one that takes so long has come to a halt.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi")
}

fn number(variable: &str) -> Option<u32> {
    std::env::var_os(variable).map(|text| text.to_string_lossy().parse().unwrap())
}

/// How the document is put to the test.
struct Trial<'a> {
    token: &'a str,
    known: &'a Known,
    phases: &'a str,
}

async fn try_document(system: &System, name: &str, trial: Trial<'_>) {
    let python = interpreter("schemathesis==4.32.5", "schemathesis").await;
    let known = system.scratch().join(format!("known-{name}.json"));
    std::fs::write(&known, trial.known.to_json().to_string()).unwrap();
    let (examples, seed) = (number("TOLLBOOK_EXAMPLES"), number("TOLLBOOK_SEED").unwrap_or(1));
    let patience = PATIENCE * examples.unwrap_or(EXAMPLES).div_ceil(EXAMPLES);
    let examples = examples.unwrap_or(EXAMPLES);
    println!("{name}: {examples} examples, seed {seed}");
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .arg("--config-file")
        .arg(directory().join("schemathesis.toml"))
        .args(["run", "--no-color", "--checks", "all", "--workers", "1"])
        .args([
            "--phases",
            trial.phases,
            "--max-examples",
            &examples.to_string(),
            "--seed",
            &seed.to_string(),
        ])
        .args(["--header", &format!("Authorization: Bearer {}", trial.token)])
        .arg(format!("{}/openapi.json", system.api.url()))
        .env("SCHEMATHESIS_HOOKS", directory().join("hooks.py"))
        .env("TOLLBOOK_KNOWN", known)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(system.scratch())
        .kill_on_drop(true);
    let output = tokio::time::timeout(patience, command.output()).await.expect("schemathesis ends").unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}, seed {seed}, {}:\n{said}\n{complained}", output.status);
    println!("{said}");
}

#[tokio::test]
async fn the_server_keeps_to_its_document() {
    let system = System::start().await;
    let known = known::made(&system.api).await;
    let admin = system.api.token();
    let trial = Trial { token: &admin, known: &known, phases: "examples,coverage,fuzzing,stateful" };
    try_document(&system, "admin", trial).await;

    let known = known::made(&system.api).await;
    let console = system.api.service_token(&["console"], None).await;
    let trial = Trial { token: &console, known: &known, phases: "fuzzing,stateful" };
    try_document(&system, "console", trial).await;

    assert_eq!(system.api.get("/readyz").await.status, 200);
    let log = system.log();
    let errors: Vec<_> = log.lines().filter(|line| line.contains("\"level\":\"ERROR\"")).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// What schemathesis does not send.
#[tokio::test]
async fn what_is_said_twice_or_packed_is_refused() {
    let system = System::start().await;
    let api = &system.api;
    let get = || api.request("GET", "/v1/organizations");
    for name in ["Authorization", "Tollbook-Actor"] {
        let twice = get().header(name, "mem_a").header(name, "mem_b");
        assert_eq!(api.send(twice).await.refused(400), "malformed", "{name}");
    }
    let body = json!({ "name": "service", "scopes": ["auditor"] });
    let post = || api.request("POST", "/v1/tokens").json(&body);
    let twice = post().header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    assert_eq!(api.send(twice).await.refused(400), "malformed");
    assert_eq!(api.send(post().header("Content-Encoding", "gzip")).await.refused(415), "media_type");
    api.send(post().header("Content-Encoding", "identity")).await.expect(201);
    let usage = api.raw("[]", "application/json").header("Content-Encoding", "gzip");
    assert_eq!(api.send(usage).await.refused(415), "media_type");
}
