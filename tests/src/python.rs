//! Python packages from the ordinary index, each kept with an interpreter of its own under `target/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// An interpreter that has `package` (such as `nats-py==2.16.0`; several with spaces between), whose `module` it can import; made on first use.
/// Other test processes wait meanwhile.
pub async fn interpreter(package: &str, module: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python").join(package);
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    lock.lock().unwrap();
    let python = directory.join("venv/bin/python");
    let has_module = Command::new(&python).args(["-c", &format!("import {module}")]).output().await;
    if !has_module.is_ok_and(|output| output.status.success()) {
        run("python3".as_ref(), &["-m", "venv", &directory.join("venv").to_string_lossy()]).await;
        let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let packages = package.split(' ');
        run(&python, &install.into_iter().chain(packages).collect::<Vec<_>>()).await;
    }
    python
}

/// Runs a program, which must end well, and returns what it printed.
pub async fn run(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} {arguments:?}: {errors}", program.display());
    String::from_utf8(output.stdout).unwrap()
}
