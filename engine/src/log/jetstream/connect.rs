//! How to reach the servers, and what the connection reports.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::watch;

use super::check::OpenError;

/// A dead server is noticed after two missed pings; the client's default would take minutes.
const PING_INTERVAL: Duration = Duration::from_secs(2);

/// Who we are to the servers.
#[derive(Clone, Default)]
pub enum Credentials {
    /// The servers ask for none.
    #[default]
    None,
    /// The seed of an nkey user.
    Nkey(String),
    /// A credentials file with a JWT and a seed.
    File(PathBuf),
    /// A user with a password.
    Password {
        /// The user's name.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Nkey(_) => f.write_str("Nkey(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Password { user, .. } => write!(f, "Password({user}, …)"),
        }
    }
}

/// What [`JetStream::open`](super::JetStream::open) needs.
#[derive(Clone, Debug)]
pub struct JetStreamOptions {
    /// The servers, such as `nats://127.0.0.1:4222`; the others of their cluster are discovered.
    pub urls: Vec<String>,
    /// The engine's user.
    pub credentials: Credentials,
    /// Certificates to trust; requires TLS.
    pub tls_root: Option<PathBuf>,
    /// Monitoring addresses of all servers, such as `http://127.0.0.1:8222`. When empty and all `urls` are on
    /// loopback, port 8222 is tried.
    pub monitor_urls: Vec<String>,
    /// A user of the system account, instead of monitoring addresses.
    pub system: Option<Credentials>,
    /// Start even if it cannot be verified that the servers sync before they acknowledge.
    pub allow_unverified_durability: bool,
    /// Copies of each stream; else three where there are three servers, or one.
    pub replicas: Option<usize>,
    /// How long an append is tried before it is [`AppendError::Unknown`](super::AppendError::Unknown).
    pub append_deadline: Duration,
}

impl JetStreamOptions {
    /// Servers without credentials, and everything else at its default.
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            credentials: Credentials::None,
            tls_root: None,
            monitor_urls: Vec::new(),
            system: None,
            allow_unverified_durability: false,
            replicas: None,
            // Three times the longest election seen.
            append_deadline: Duration::from_secs(30),
        }
    }
}

/// Connects as the engine, and answers with the count of connections established so far.
pub(super) async fn connect(options: &JetStreamOptions) -> Result<(Client, watch::Receiver<u64>), OpenError> {
    let (connected, connections) = watch::channel(0_u64);
    let connect =
        prepare(options, &options.credentials).await?.name("tollbook").event_callback(move |event| {
            report(&event);
            if matches!(event, Event::Connected) {
                connected.send_modify(|count| *count = count.saturating_add(1));
            }
            std::future::ready(())
        });
    let client = open(options, connect).await?;
    Ok((client, connections))
}

/// Connects as a user of the system account.
pub(super) async fn connect_system(
    options: &JetStreamOptions,
    system: &Credentials,
) -> Result<Client, OpenError> {
    let connect = prepare(options, system).await?.name("tollbook start-up check");
    open(options, connect).await
}

/// Connects to the same servers as another user: for what stands in an account of its own.
pub async fn connect_as(
    options: &JetStreamOptions,
    credentials: &Credentials,
    name: &str,
) -> Result<Client, OpenError> {
    let connect = prepare(options, credentials).await?.name(name).event_callback(|event| {
        report(&event);
        std::future::ready(())
    });
    open(options, connect).await
}

/// The same for requests that are worth nothing when they are late: at most `waiting_max` messages of a subscription wait,
/// and `dropped` is called for those beyond.
pub(crate) async fn connect_losing(
    options: &JetStreamOptions,
    name: &str,
    waiting_max: usize,
    dropped: impl Fn() + Send + Sync + 'static,
) -> Result<Client, OpenError> {
    let connect = prepare(options, &options.credentials).await?.name(name);
    let connect = connect.subscription_capacity(waiting_max).event_callback(move |event| {
        // One event for each message, up to a bound: a metric, where a line for each would fill the disk.
        if matches!(event, Event::SlowConsumer(_)) {
            dropped()
        } else {
            report(&event)
        }
        std::future::ready(())
    });
    open(options, connect).await
}

async fn open(options: &JetStreamOptions, connect: ConnectOptions) -> Result<Client, OpenError> {
    let failed = |reason: String| OpenError::Connect { urls: options.urls.join(","), reason };
    connect.connect(options.urls.clone()).await.map_err(|error| failed(error.to_string()))
}

async fn prepare(options: &JetStreamOptions, credentials: &Credentials) -> Result<ConnectOptions, OpenError> {
    let mut connect = ConnectOptions::new().ping_interval(PING_INTERVAL);
    connect = match credentials {
        Credentials::None => connect,
        Credentials::Nkey(seed) => connect.nkey(seed.clone()),
        Credentials::Password { user, password } => connect.user_and_password(user.clone(), password.clone()),
        Credentials::File(path) => connect.credentials_file(path).await.map_err(|error| {
            OpenError::Credentials { path: path.display().to_string(), reason: error.to_string() }
        })?,
    };
    if let Some(root) = &options.tls_root {
        connect = connect.add_root_certificates(root.clone()).require_tls(true);
    }
    Ok(connect)
}

fn report(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("lost the connection to NATS"),
        Event::LameDuckMode => tracing::warn!("the NATS server is about to shut down"),
        Event::Draining | Event::Closed => tracing::info!(%event, "the connection to NATS ends"),
        // Messages were dropped: the tail will find the gap and read it again.
        Event::SlowConsumer(_) => tracing::error!(%event, "NATS messages were dropped"),
        // Denied permissions arrive only here; the call itself times out.
        Event::ServerError(_) | Event::ClientError(_) => tracing::error!(%event, "NATS reports an error"),
    }
}
