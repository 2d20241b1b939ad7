//! A real nginx per test, with a configuration, a directory and a port of its own, ended on drop.
//!
//! The binary is the nginx on `PATH` or in `/usr/sbin`, else that of Debian's package, unpacked once into
//! `target/nginx/`. Nothing is installed.

mod binary;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::eventually;

/// nginx listens within a tenth of a second; a hundred times that on a busy machine is a fault.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// What an nginx is started with.
#[derive(Clone, Debug)]
pub struct NginxBuilder {
    config: String,
    words: Vec<(String, String)>,
}

impl NginxBuilder {
    /// Puts `to` in the place of `from`, which the configuration must have.
    pub fn replace(mut self, from: &str, to: impl Into<String>) -> Self {
        self.words.push((from.to_owned(), to.into()));
        self
    }

    /// Starts it and waits until it listens on this loopback port, which the configuration has.
    pub async fn start(self, port: u16) -> Nginx {
        let directory = TempDir::with_prefix("tollbook-nginx-").unwrap();
        let place = |name: &str| directory.path().join(name).display().to_string();
        // What a distribution puts elsewhere goes into the directory.
        let kept = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", place(kind)))
            .concat();
        // Only root's workers would run as somebody else, who may not use the directory.
        let root = fs::metadata(directory.path()).unwrap().uid() == 0;
        let this = self
            .replace("user www-data;", if root { "user root;" } else { "" })
            .replace("worker_processes auto;", "worker_processes 1;")
            .replace("/var/log/nginx/", format!("{}/", directory.path().display()))
            .replace("\nhttp {\n", format!("\nhttp {{ {kept}\n"));
        let text = this.words.iter().fold(this.config, |text, (from, to)| {
            assert!(text.contains(from), "the configuration does not have {from}");
            text.replace(from, to)
        });
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            assert!(!line.contains("REPLACE"), "a placeholder that no test knows: {line}");
        }
        fs::write(directory.path().join("nginx.conf"), text).unwrap();
        let mut nginx = Nginx { directory, port, child: None };
        nginx.spawn();
        nginx.listening().await;
        nginx
    }
}

/// One nginx of its own; dropping it ends it.
#[derive(Debug)]
pub struct Nginx {
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nginx {
    /// One with this configuration.
    pub fn builder(config: &Path) -> NginxBuilder {
        NginxBuilder { config: fs::read_to_string(config).unwrap(), words: Vec::new() }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it complained about.
    pub fn log(&self) -> String {
        self.read("stderr.log") + &self.read("error.log")
    }

    /// A line per request that has ended.
    pub fn access_log(&self) -> String {
        self.read("access.log")
    }

    /// Starts to read its configuration anew, and waits until a new worker is there beside the one that still has
    /// requests.
    pub async fn reload(&self) {
        let master = self.child.as_ref().expect("it runs").id();
        assert!(Command::new("kill").args(["-HUP", &master.to_string()]).status().unwrap().success());
        let children = format!("/proc/{master}/task/{master}/children");
        eventually(START_DEADLINE, "nginx has two workers", || async {
            let workers = fs::read_to_string(&children).unwrap().split_whitespace().count();
            (workers == 2).then_some(())
        })
        .await;
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self) {
        let errors = File::create(self.path("stderr.log")).unwrap();
        let main = format!("daemon off; pid {};", self.path("nginx.pid").display());
        let child = Command::new(binary::path())
            .arg("-p")
            .arg(self.directory.path())
            .arg("-c")
            .arg(self.path("nginx.conf"))
            .args(["-e", "error.log", "-g", &main])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    async fn listening(&mut self) {
        let port = self.port;
        let child = Mutex::new(self.child.take().expect("it was started"));
        eventually(START_DEADLINE, "nginx listens", || async {
            let ended = child.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "nginx ended: {}", self.log());
            TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
        })
        .await;
        self.child = Some(child.into_inner().unwrap());
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM, for SIGKILL would leave its workers.
        if let Some(mut child) = self.child.take() {
            Command::new("kill").arg(child.id().to_string()).status().unwrap();
            child.wait().unwrap();
        }
    }
}
