//! Where the nginx binary comes from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::nats::target;

/// What the shipped configuration is made of.
const WANTED: &str = "--with-http_auth_request_module";

/// The nginx to run; found or fetched on first use.
pub(super) fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let installed = ["nginx", "/usr/sbin/nginx"].map(PathBuf::from);
        installed.into_iter().find(|binary| works(binary)).unwrap_or_else(fetched)
    })
}

fn works(binary: &Path) -> bool {
    let Ok(output) = Command::new(binary).arg("-V").output() else { return false };
    String::from_utf8_lossy(&output.stderr).contains(WANTED)
}

/// Unpacks Debian's package unless this or another process already has. The lists of packages are its own, so that it
/// needs neither root nor lists that somebody fetched before.
fn fetched() -> PathBuf {
    let directory = target().join("nginx");
    let binary = directory.join("nginx");
    fs::create_dir_all(&directory).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    // Test processes start together; the others wait for the first.
    lock.lock().unwrap();
    if works(&binary) {
        return binary;
    }
    let work = directory.canonicalize().unwrap().join("work");
    for part in ["lists/partial", "cache/archives/partial", "package"] {
        fs::create_dir_all(work.join(part)).unwrap();
    }
    apt(&work, &["update"]);
    apt(&work, &["download", "nginx"]);
    let archive = fs::read_dir(&work).unwrap().map(|entry| entry.unwrap().path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
    run(Command::new("dpkg")
        .arg("-x")
        .arg(archive.expect("apt-get downloaded a package"))
        .arg(work.join("package")));
    fs::rename(work.join("package/usr/sbin/nginx"), &binary).unwrap();
    fs::remove_dir_all(&work).unwrap();
    assert!(works(&binary), "{} does not run, or lacks {WANTED}", binary.display());
    binary
}

fn apt(work: &Path, arguments: &[&str]) {
    let of = |name: &str, part: &str| format!("{name}={}", work.join(part).display());
    let options = [
        of("Dir::State", ""),
        of("Dir::State::lists", "lists"),
        of("Dir::Cache", "cache"),
        "Dir::State::status=/var/lib/dpkg/status".to_owned(),
        "APT::Sandbox::User=".to_owned(),
    ];
    let mut command = Command::new("apt-get");
    command.arg("--quiet=2").args(options.iter().flat_map(|option| ["-o", option]));
    run(command.args(arguments).current_dir(work));
}

fn run(command: &mut Command) {
    let output = command.output();
    let output =
        output.unwrap_or_else(|error| panic!("{command:?}: {error}; nginx must be installed by hand"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
