//! Where our binaries come from: built once per run, as the running test is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use serde_json::Value;

/// `tollbook`; built on first use.
pub(super) fn tollbook() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("tollbook-engine", "--bin", "tollbook"))
}

/// `tollbook-replay`; built on first use.
pub(super) fn replay() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| build("tollbook-replay-tools", "--bin", "tollbook-replay"))
}

/// One of `tests/examples`; built on first use.
pub fn example(name: &str) -> &'static Path {
    static PATHS: Mutex<BTreeMap<String, &'static Path>> = Mutex::new(BTreeMap::new());
    let mut paths = PATHS.lock().unwrap();
    let build =
        || -> &'static Path { Box::leak(build("tollbook-tests", "--example", name).into_boxed_path()) };
    paths.entry(name.to_owned()).or_insert_with(build)
}

fn build(package: &str, kind: &str, name: &str) -> PathBuf {
    let (target, profile) = directories();
    let mut cargo = Command::new(env!("CARGO"));
    // What `cargo test` tells this process would make build scripts run again, and everything after them.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST") || text == "LD_LIBRARY_PATH" {
            cargo.env_remove(&name);
        }
    }
    let output = cargo
        .args(["build", "-p", package, kind, name])
        .args(["--message-format", "json-render-diagnostics", "--profile", &profile, "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the binary cannot be built");
    let text = String::from_utf8(output.stdout).unwrap();
    let executable = text.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["target"]["name"] == name).then(|| line["executable"].as_str().map(PathBuf::from))?
    });
    executable.expect("cargo names the executable")
}

/// Target directory and profile of this test: it runs as `<target>/<profile's directory>/deps/<test>`.
fn directories() -> (PathBuf, String) {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap();
    let profile = match built.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    (built.parent().unwrap().to_owned(), profile.to_owned())
}
