//! A server in this process, on a clock that its test moves.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tollbook_engine::clock::Clock;
use tollbook_engine::config::ServerConfig;
use tollbook_engine::log::jetstream::JetStreamOptions;
use tollbook_engine::node::{LogSettings, Node, Settings};
use tollbook_engine::server::{self, ServerError};
use tollbook_schemas::id::NodeName;

use super::Api;
use crate::nats::NatsServer;

/// A server in this process. What it keeps outlives it, for the binary to go on with.
#[derive(Debug)]
pub struct Simulated {
    /// Calls it, with the admin token.
    pub api: Api,
    /// Its engine.
    pub node: Node,
    clock: Clock,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServerError>>,
}

impl Simulated {
    /// Starts one at an instant, with the embedded log or on JetStream, and waits until it may write.
    pub async fn start(data: &Path, nats: Option<&NatsServer>, now: &str) -> Self {
        let log = nats.map_or(LogSettings::Embedded, |server| {
            let mut options = JetStreamOptions::new(vec![server.url()]);
            options.monitor_urls = vec![server.monitor_url()];
            LogSettings::JetStream(Box::new(options))
        });
        let settings = Settings {
            data: data.to_owned(),
            log,
            partitions: None,
            currency: None,
            node: NodeName::parse("simulated").unwrap(),
        };
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = ServerConfig { settings, listen, console_url: None, spool: None };
        let clock = Clock::simulated(now.parse().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, ready) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let running = tokio::spawn(server::run(config, clock.clone(), Some(started), shutdown));
        let ready = ready.await.expect("the server starts");
        let api = Api::nowhere();
        let token = std::fs::read_to_string(&ready.admin_token).unwrap();
        api.moved(&format!("http://{}", ready.address), token.trim());
        for owner in ready.node.owners() {
            owner.wait_owner().await.unwrap();
        }
        Self { api, node: ready.node, clock, stop, running }
    }

    /// Moves its clock.
    pub fn at(&self, now: &str) {
        self.clock.advance_to(now.parse().unwrap());
    }

    /// Stops it, which must go well.
    pub async fn stop(self) {
        let Self { api, node, clock, stop, running } = self;
        drop((api, node, clock));
        stop.send(()).expect("it runs");
        running.await.unwrap().unwrap();
    }
}
