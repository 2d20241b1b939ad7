//! A server in this process on a simulated clock: for what takes weeks.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollbook_engine::admission::AdmissionSettings;
use tollbook_engine::clock::Clock;
use tollbook_engine::config::ServerConfig;
use tollbook_engine::delivery::settings::DeliverySettings;
use tollbook_engine::log::embedded::OpenError;
use tollbook_engine::log::jetstream::JetStreamOptions;
use tollbook_engine::node::{LogSettings, Node, Settings, StartError};
use tollbook_engine::server::{self, Ready, ServerError};
use tollbook_schemas::id::NodeName;
use tollbook_schemas::time::Timestamp;

use super::{Api, DEADLINE};
use crate::eventually;
use crate::nats::NatsServer;

/// One server of its own, and the clock that it goes by.
#[derive(Debug)]
pub struct Timed {
    /// Calls it, with the admin token.
    pub api: Api,
    /// Its clock, which goes on while the server is stopped.
    pub clock: Clock,
    /// How its admission is set the next time that it starts.
    pub admission: AdmissionSettings,
    /// How its alerts leave the next time that it starts.
    pub delivery: DeliverySettings,
    directory: TempDir,
    log: LogSettings,
    running: Option<Running>,
}

/// A server's task, what stops it, and its engine.
#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), ServerError>>,
    node: Node,
}

impl Timed {
    /// A server with the embedded log at an instant, such as `2026-01-10T00:00:00Z`.
    pub async fn start(at: &str) -> Self {
        Self::start_with(at, LogSettings::Embedded).await
    }

    /// The same with its log on NATS.
    pub async fn start_on(nats: &NatsServer, at: &str) -> Self {
        let mut options = JetStreamOptions::new(vec![nats.url()]);
        options.monitor_urls = vec![nats.monitor_url()];
        Self::start_with(at, LogSettings::JetStream(Box::new(options))).await
    }

    async fn start_with(at: &str, log: LogSettings) -> Self {
        let directory = TempDir::with_prefix("tollbook-timed-").unwrap();
        let clock = Clock::simulated(at.parse().unwrap());
        let admission = AdmissionSettings::default();
        let delivery = DeliverySettings::default();
        let mut timed = Self { api: Api::nowhere(), clock, admission, delivery, directory, log, running: None };
        timed.go_on().await;
        timed
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its engine.
    pub fn node(&self) -> &Node {
        &self.running.as_ref().expect("the server runs").node
    }

    /// The present instant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets this many days pass.
    pub fn days(&self, days: i64) {
        self.clock.advance_to(self.now().plus_seconds(days * 24 * 60 * 60));
    }

    /// Lets time pass until this instant.
    pub fn until(&self, at: &str) {
        self.clock.advance_to(at.parse().unwrap());
    }

    /// Stops the server as SIGTERM does.
    pub async fn stop(&mut self) {
        let Running { stop, server, node } = self.running.take().expect("the server runs");
        drop(node);
        stop.send(()).unwrap();
        tokio::time::timeout(DEADLINE, server).await.expect("the server stops").unwrap().unwrap();
    }

    /// Starts it again with the same data, and waits until it may write.
    pub async fn go_on(&mut self) {
        let (running, Ready { address, admin_token, .. }) =
            eventually(DEADLINE, "the stopped server's log is free", || self.try_start()).await;
        let token = std::fs::read_to_string(admin_token).unwrap();
        self.api.moved(&format!("http://{address}"), token.trim());
        self.running = Some(running);
        let api = &self.api;
        eventually(DEADLINE, "the server is ready", || async move {
            let answer = api.try_send(api.request("GET", "/readyz")).await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Starts it; `None` while the one that stopped in this process has not let go of the log.
    async fn try_start(&self) -> Option<(Running, Ready)> {
        let settings = Settings {
            data: self.data(),
            log: self.log.clone(),
            partitions: None,
            currency: None,
            node: NodeName::parse("timed").unwrap(),
            admission: self.admission.clone(),
            delivery: Some(self.delivery.clone()),
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = ServerConfig { settings, listen, console_url: None, spool: None };
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, ready) = oneshot::channel();
        let clock = self.clock.clone();
        let server = tokio::spawn(async move {
            let told = async move { drop(stopped.await) };
            server::run(config, clock, Some(started), told).await
        });
        let Ok(ready) = tokio::time::timeout(DEADLINE, ready).await.expect("the server starts") else {
            match server.await.unwrap() {
                Err(ServerError::Start(StartError::Embedded(OpenError::Locked { .. }))) => return None,
                other => panic!("{other:?}"),
            }
        };
        let node = ready.node.clone();
        Some((Running { stop, server, node }, ready))
    }

    /// Stops it, throws the views away and starts it again.
    pub async fn rebuild_views(&mut self) {
        self.stop().await;
        std::fs::remove_dir_all(self.views()).unwrap();
        self.go_on().await;
    }

    fn views(&self) -> PathBuf {
        Path::new(&self.data()).join("views")
    }
}
