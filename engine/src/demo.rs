//! `tollbook demo`: an hour of traffic that ends now, played through the real ways in on a simulated clock, checked
//! against what was sent, and then served.
//!
//! In reading order: `traffic` says when which call is made, `cast` who makes it, `script` what happens besides;
//! `play` plays it over HTTP, with a `budget` that is crossed and the `alerts` that are raised, `books` counts along and
//! `check` compares, `show` prints.

mod alerts;
mod books;
mod budget;
mod cast;
mod check;
mod play;
mod script;
mod show;
mod traffic;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::sync::oneshot;
use tollbook_schemas::id::{NameError, NodeName};
use tollbook_schemas::position::{PartitionId, Position};

use self::play::Player;
use self::script::Hour;
use self::show::Stage;
use self::traffic::Traffic;
use crate::admission::AdmissionSettings;
use crate::cli::client::ClientError;
use crate::clock::{self, Clock};
use crate::config::{ConfigError, LISTEN, NatsArgs, ServerConfig};
use crate::import;
use crate::log::jetstream::{JetStream, OpenError};
use crate::log::{EventLog, ReadError};
use crate::node::{LogSettings, Settings, StartError};
use crate::owner::CommandError;
use crate::server::{self, Ready, ServerError};

/// What the demo can be told.
#[derive(Args, Clone, Debug, Default)]
pub struct DemoArgs {
    /// Play the calls of this trace of the Azure Public Dataset (TIMESTAMP,ContextTokens,GeneratedTokens) instead of
    /// generated ones
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Seconds of the hour per second [default: as fast as it goes]
    #[arg(long, value_name = "X", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub speed: Option<u32>,
    /// Keep everything in this directory [default: a new one, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to serve HTTP on [default: 127.0.0.1:8480]
    #[arg(long, env = "TOLLBOOK_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// How to reach NATS
    #[command(flatten)]
    pub nats: NatsArgs,
}

/// Why the demo did not play to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// There is a ledger already.
    #[error("{0} already holds a ledger, and the demo writes only into one of its own; {1}")]
    HoldsLedger(String, &'static str),
    /// Somebody listens there.
    #[error(
        "{0} is taken, perhaps by another Tollbook; name another address, such as --listen 127.0.0.1:8490"
    )]
    PortTaken(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; name another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A directory cannot be used.
    #[error("the directory {} cannot be used: {source}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The trace cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Trace {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The trace is not one.
    #[error("{} is not an Azure LLM trace: {source}", path.display())]
    Layout {
        /// Which.
        path: PathBuf,
        /// Why.
        source: import::OpenError,
    },
    /// A row of the trace is not a call.
    #[error("{}: {source}", path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: import::RowError,
    },
    /// The trace holds no calls.
    #[error("{} holds no calls", .0.display())]
    EmptyTrace(PathBuf),
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the demo calls itself is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server failed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The server ended by itself.
    #[error("the server ended before the demo did")]
    Ended,
    /// The server said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// State could not be read.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An answer lacks what it should have.
    #[error("the server's answer has no {member}: {answer}")]
    Answer {
        /// What was looked for.
        member: &'static str,
        /// Where.
        answer: String,
    },
    /// The ledger says something else than what was sent. This is a bug of Tollbook.
    #[error("the ledger does not say what was sent; please report this: {0}")]
    Differs(String),
}

/// Plays the hour and serves until `shutdown` ends, which may also be while it plays.
pub async fn run(args: DemoArgs, shutdown: impl Future<Output = ()>) -> Result<(), DemoError> {
    let listen = match args.listen {
        Some(listen) => listen,
        None => LISTEN.parse().map_err(ConfigError::from)?,
    };
    // Whatever may be wrong is found before anything is written.
    let traffic = match &args.trace {
        Some(path) => Traffic::of_trace(path)?,
        None => Traffic::generated(),
    };
    is_free(listen)?;
    let log = args.nats.log_settings()?;
    let home = Home::open(args.data)?;
    holds_no_ledger(&log, &home).await?;

    let hour = Hour::ending_now(args.speed);
    let clock = Clock::simulated(hour.start);
    let place = match &log {
        LogSettings::Embedded => format!("embedded, in {}", home.path.display()),
        LogSettings::JetStream(options) => format!("on NATS JetStream at {}", options.urls.join(",")),
    };
    let settings = Settings {
        data: home.path.clone(),
        log,
        partitions: None,
        currency: None,
        node: NodeName::parse(&format!("demo-{:08x}", clock::new_writer().0 & u64::from(u32::MAX)))?,
        admission: AdmissionSettings::default(),
        delivery: None,
    };
    let config = ServerConfig { settings, listen, console_url: None, spool: None };
    let (stop, stopped) = oneshot::channel();
    let (started, ready) = oneshot::channel();
    let server = server::run(config, clock.clone(), Some(started), async {
        if stopped.await.is_err() {
            tracing::debug!("nobody can stop the server any more, so it stops");
        }
    });
    let stage = Stage::new();
    tokio::pin!(server, shutdown);
    let played = tokio::select! {
        ended = &mut server => return Err(ended.map_or_else(listen_error, |()| DemoError::Ended)),
        () = &mut shutdown => None,
        played = perform(&stage, ready, clock, hour, &traffic, &place) => Some(played),
    };
    if let Some(Ok(())) = played {
        stage.say(&home.farewell());
        tokio::select! {
            ended = &mut server => return Err(ended.err().map_or(DemoError::Ended, DemoError::from)),
            () = &mut shutdown => {}
        }
    }
    stage.clear();
    if stop.send(()).is_err() {
        tracing::debug!("the server stopped by itself");
    }
    server.await?;
    played.unwrap_or(Ok(()))
}

async fn perform(
    stage: &Stage,
    ready: oneshot::Receiver<Ready>,
    clock: Clock,
    hour: Hour,
    traffic: &Traffic,
    place: &str,
) -> Result<(), DemoError> {
    // Without a server there is nothing to wait for here: its own end is told elsewhere.
    let Ok(ready) = ready.await else { return std::future::pending().await };
    let mut player = Player::enter(stage, &ready, clock, hour, traffic, place).await?;
    player.play().await?;
    player.close_the_books().await
}

/// Errors: somebody listens there, or nobody can. Asked first, because a ledger that is created stays.
fn is_free(address: SocketAddr) -> Result<(), DemoError> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(source) => Err(cannot_listen(address, source)),
    }
}

fn listen_error(error: ServerError) -> DemoError {
    let ServerError::Listen { address, source } = error else { return error.into() };
    cannot_listen(address, source)
}

fn cannot_listen(address: SocketAddr, source: io::Error) -> DemoError {
    if source.kind() == io::ErrorKind::AddrInUse {
        DemoError::PortTaken(address)
    } else {
        DemoError::Listen { address, source }
    }
}

/// Errors: the log or the directory holds a ledger, or may hold one.
async fn holds_no_ledger(log: &LogSettings, home: &Home) -> Result<(), DemoError> {
    for part in ["log", "views"] {
        let path = home.path.join(part);
        match std::fs::read_dir(&path).map(|mut inside| inside.next().is_some()) {
            Ok(true) => {
                let advice = "name another --data directory, or leave it out";
                return Err(DemoError::HoldsLedger(home.path.display().to_string(), advice));
            }
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(DemoError::Directory { path, source }),
        }
    }
    let LogSettings::JetStream(options) = log else { return Ok(()) };
    let taken = || {
        let place = format!("NATS at {}", options.urls.join(","));
        DemoError::HoldsLedger(place, "name another NATS server or account, or leave --nats out")
    };
    let first = PartitionId(0);
    match JetStream::open((**options).clone(), 1).await {
        Ok(log) if log.last(first).await? == Position::ZERO => Ok(()),
        Ok(_) | Err(OpenError::Partitions { .. }) => Err(taken()),
        Err(error) => Err(StartError::from(error).into()),
    }
}

/// The demo's directory. One that was made for it goes away with it, however it ends.
struct Home {
    path: PathBuf,
    scratch: bool,
}

impl Home {
    fn open(data: Option<PathBuf>) -> Result<Self, DemoError> {
        let (path, scratch) = match data {
            Some(path) => (path, false),
            None => {
                (std::env::temp_dir().join(format!("tollbook-demo-{:016x}", clock::new_writer().0)), true)
            }
        };
        // Only for us: it holds an admin token. A scratch directory must be new.
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(!scratch).mode(0o700).create(&path);
        made.map_err(|source| DemoError::Directory { path: path.clone(), source })?;
        Ok(Self { path, scratch })
    }

    fn farewell(&self) -> String {
        let path = self.path.display();
        if self.scratch {
            format!("\nCtrl-C ends it and removes {path}")
        } else {
            format!("\nCtrl-C ends it; what it wrote stays in {path}")
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.scratch
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "left a directory behind");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
