//! The server: a node with its doors open, until it is told to stop or cannot go on.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::http::alert_stream::Streams;
use crate::http::auth::Auth;
use crate::http::{self, Api};
use crate::metrics;
use crate::nats::rpc::RpcDoor;
use crate::nats::spool::Spool;
use crate::nats::{Door, DoorError};
use crate::node::{LogSettings, Node, StartError};
use crate::owner::OwnerError;

/// Name of the file with the admin token, in the data directory.
pub const ADMIN_TOKEN: &str = "admin-token";

/// Why the server did not start or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The admin token cannot be read or written.
    #[error("the admin token {} cannot be used: {source}", path.display())]
    AdminToken {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The doors on NATS cannot be opened.
    #[error(transparent)]
    Nats(#[from] DoorError),
    /// Serving failed.
    #[error("serving failed: {0}")]
    Serve(io::Error),
    /// Something fatal happened.
    #[error(transparent)]
    Owner(#[from] OwnerError),
}

/// A server that has started: where it listens, its node, and how to call it.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Where HTTP is served.
    pub address: SocketAddr,
    /// The engine.
    pub node: Node,
    /// The file with the admin token.
    pub admin_token: PathBuf,
}

/// Serves until `shutdown` ends: then the doors are closed, what was taken is answered for, and nothing that was
/// accepted is lost. Tells `started` once it listens.
pub async fn run(
    config: ServerConfig,
    clock: Clock,
    started: Option<oneshot::Sender<Ready>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let metrics = metrics_handle();
    let (node, mut running) = Node::start(config.settings.clone(), clock).await?;
    let admin_token = config.settings.data.join(ADMIN_TOKEN);
    let secret = admin_secret(&admin_token)
        .map_err(|source| ServerError::AdminToken { path: admin_token.clone(), source })?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServerError::Listen { address: config.listen, source })?;
    let address = listener.local_addr().map_err(ServerError::Serve)?;
    let (stop, stopped) = watch::channel(false);
    let mut doors = JoinSet::new();
    let console_url = config.console_url.as_deref().map(Arc::from);
    let streams = Streams::new(stopped.clone());
    let api = Api { node: node.clone(), auth: Arc::new(Auth::new(&secret)), metrics, console_url, streams };
    doors.spawn(http::serve(listener, api, stopped.clone()));
    open_nats(&config, &node, &stopped, &mut doors).await?;
    tracing::info!(%address, ledger = %node.ledger().id, partitions = node.ledger().partitions, "serving");
    if let Some(started) = started
        && started.send(Ready { address, node: node.clone(), admin_token }).is_err()
    {
        tracing::debug!("nobody waits for the start any more");
    }
    let result = tokio::select! {
        () = shutdown => Ok(()),
        error = running.failed() => Err(ServerError::Owner(error)),
        Some(ended) = doors.join_next() => match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ServerError::Serve(error)),
            Err(error) => Err(ServerError::Serve(io::Error::other(error))),
        },
    };
    tracing::info!("stopping");
    stop.send_replace(true);
    while let Some(ended) = doors.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::warn!(%error, "a door did not close well");
        }
    }
    // After something fatal State is not to be trusted, so the views stay where they were.
    if result.is_ok() {
        running.stop().await?;
        tracing::info!("stopped");
    }
    result
}

/// Opens the doors on NATS, where the log is there too.
async fn open_nats(
    config: &ServerConfig,
    node: &Node,
    stopped: &watch::Receiver<bool>,
    doors: &mut JoinSet<io::Result<()>>,
) -> Result<(), ServerError> {
    let LogSettings::JetStream(options) = &config.settings.log else { return Ok(()) };
    let door = Door::connect(node.clone(), (**options).clone()).await?;
    let stop = stopped.clone();
    doors.spawn(async move {
        door.run(stop).await;
        Ok(())
    });
    let rpc = RpcDoor::connect(node.clone(), (**options).clone()).await?;
    let stop = stopped.clone();
    doors.spawn(async move {
        rpc.run(stop).await;
        Ok(())
    });
    if let Some(spool) = &config.spool {
        let spool = Spool::connect((**options).clone(), spool.clone()).await.map_err(StartError::from)?;
        let (node, stop) = (node.clone(), stopped.clone());
        doors.spawn(async move {
            spool.run(node, stop).await;
            Ok(())
        });
    }
    Ok(())
}

/// The recorder is the process's; servers of one process share it.
fn metrics_handle() -> Option<PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new().install_recorder().ok();
            metrics::describe();
            handle
        })
        .clone()
}

/// The admin token, made on first use and readable only by its owner.
fn admin_secret(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let secret = http::new_secret("tb-admin-");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(secret.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    tracing::info!(path = %path.display(), "wrote a new admin token; it may do everything");
    Ok(secret)
}
