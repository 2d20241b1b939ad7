//! `tollbook import`: usage files into the log, by way of a running server or straight.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tollbook_schemas::cloudevent;
use tollbook_schemas::id::{IdError, KeyId, ModelName, NameError, NodeName, OrgId};
use tollbook_schemas::usage::Usage;

use super::client::{Caller, ClientArgs, ClientError};
use crate::admission::AdmissionSettings;
use crate::clock::{self, Clock};
use crate::config::{ConfigError, NatsArgs};
use crate::http::BODY_MAX;
use crate::import::{self, BadRow, Format, Layout, RowError, Rows, Trace};
use crate::ingress::IngressError;
use crate::node::{LogSettings, Node, Running, Settings, StartError};
use crate::owner::{CommandError, OwnerError};

/// Records of one request: half of what a request may hold, and one entry's worth.
const BATCH: usize = 500;
/// Requests in flight: enough to keep a log busy, and few against a publisher's sequence window of 65,536.
const IN_FLIGHT: usize = 32;
/// Pause before what was refused with 503 is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How often a batch is sent again before the import gives up: half a minute of an unreachable log.
const RETRIES_MAX: u32 = 120;
/// Bad lines that are shown; all are counted.
const SHOWN_MAX: usize = 20;

/// What to import, and where to.
#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// What the file holds
    #[arg(long, value_enum)]
    format: Format,
    /// The file
    file: PathBuf,
    /// The key that a trace's calls are charged to, ak_…
    #[arg(long, value_name = "AK_ID")]
    api_key: Option<String>,
    /// The model that a trace's calls used
    #[arg(long)]
    model: Option<String>,
    /// Straight into the embedded log in this directory, whose server is stopped; `--server` does not matter then
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    nats: NatsArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Why an import did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not of the format.
    #[error("{} is not of this format: {source}", path.display())]
    Layout {
        /// Which.
        path: PathBuf,
        /// Why.
        source: import::OpenError,
    },
    /// A trace does not say whose it is.
    #[error("a trace needs --api-key and --model: its rows do not say whose calls they were")]
    TraceNeedsKey,
    /// The key is no id.
    #[error("--api-key {0}")]
    Key(#[from] IdError),
    /// The model or node is no name.
    #[error("--model {0}")]
    Name(#[from] NameError),
    /// Nobody has the key.
    #[error("no organization of this ledger has the key {0}")]
    UnknownKey(KeyId),
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine failed.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// State could not be read.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Usage could not be written.
    #[error(
        "gave up after {RETRIES_MAX} attempts: {0}; what was written is recognized when you import again"
    )]
    Ingress(#[from] IngressError),
    /// The server refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Some lines are not usage.
    #[error("{bad} of {rows} rows were not imported; the first: {first}")]
    BadRows {
        /// How many.
        bad: usize,
        /// Of how many.
        rows: usize,
        /// The first of them.
        first: BadRow,
    },
}

/// Where usage goes. Cheap to clone.
#[derive(Clone)]
enum Target {
    Server(Caller),
    Node(Node),
}

/// Imports a file. Importing it again, also after having been interrupted, books nothing twice (R8.2).
pub(super) async fn run(args: ImportArgs) -> Result<(), ImportError> {
    if args.data.is_none() && args.nats.nats.is_empty() {
        let target = Target::Server(args.client.caller()?);
        return import(&args, &target).await;
    }
    let (node, running, scratch) = start_node(&args).await?;
    let result = import(&args, &Target::Node(node)).await;
    running.stop().await?;
    if let Some(scratch) = scratch
        && let Err(error) = std::fs::remove_dir_all(&scratch)
    {
        tracing::warn!(%error, path = %scratch.display(), "left a directory behind");
    }
    result
}

/// An engine without doors on the log, and the directory to remove afterwards if it was only for this.
async fn start_node(args: &ImportArgs) -> Result<(Node, Running, Option<PathBuf>), ImportError> {
    let scratch = args
        .data
        .is_none()
        .then(|| std::env::temp_dir().join(format!("tollbook-import-{:016x}", clock::new_writer().0)));
    let log =
        if args.nats.nats.is_empty() { LogSettings::Embedded } else { args.nats.clone().log_settings()? };
    let settings = Settings {
        data: args.data.clone().or_else(|| scratch.clone()).unwrap_or_default(),
        log,
        partitions: None,
        currency: None,
        node: NodeName::parse(&format!("import-{:08x}", clock::new_writer().0 & u64::from(u32::MAX)))?,
        admission: AdmissionSettings::default(),
        delivery: None,
    };
    let (node, running) = Node::start(settings, Clock::System).await?;
    for owner in node.owners() {
        let last = node.log().last(owner.partition()).await.map_err(StartError::Log)?;
        owner.wait_applied(last).await?;
    }
    Ok((node, running, scratch))
}

async fn import(args: &ImportArgs, target: &Target) -> Result<(), ImportError> {
    let failed = |source| ImportError::File { path: args.file.clone(), source };
    let layout = match args.format {
        Format::AzureLlmTrace => Layout::AzureLlmTrace(trace(args, target).await?),
        Format::CloudEvents => Layout::CloudEvents,
        Format::Csv => Layout::Csv,
    };
    let file = File::open(&args.file).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let bar = progress(size);
    let mut rows = Rows::open(BufReader::new(file), layout, Clock::System.now())
        .map_err(|source| ImportError::Layout { path: args.file.clone(), source })?;
    let mut sending = FuturesUnordered::new();
    let mut bad: Vec<BadRow> = Vec::new();
    let (mut read, mut sent) = (0usize, 0usize);
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        let mut ended = true;
        for row in rows.by_ref() {
            match row {
                Ok(usage) => batch.push(usage),
                Err(RowError::Bad(row)) => bad.push(row),
                Err(RowError::Read { source, .. }) => return Err(failed(source)),
            }
            read = read.saturating_add(1);
            if batch.len() == BATCH {
                ended = false;
                break;
            }
        }
        if !batch.is_empty() {
            sending.push(target.clone().send(batch));
        }
        while sending.len() >= if ended { 1 } else { IN_FLIGHT } {
            if let Some(done) = sending.next().await {
                sent = sent.saturating_add(done?);
                bar.set_message(format!("{sent} records"));
            }
        }
        bar.set_position(rows.bytes_read());
        if ended {
            break;
        }
    }
    bar.finish_and_clear();
    report(target, read, sent, &bad);
    match bad.first() {
        Some(first) => Err(ImportError::BadRows { bad: bad.len(), rows: read, first: first.clone() }),
        None => Ok(()),
    }
}

/// Whose a trace is, and what tells it from others.
async fn trace(args: &ImportArgs, target: &Target) -> Result<Trace, ImportError> {
    let (Some(key), Some(model)) = (&args.api_key, &args.model) else {
        return Err(ImportError::TraceNeedsKey);
    };
    let key = KeyId::parse(key)?;
    let model = ModelName::parse(model)?;
    let organization =
        target.organization_of(&key).await?.ok_or_else(|| ImportError::UnknownKey(key.clone()))?;
    let failed = |source| ImportError::File { path: args.file.clone(), source };
    let digest = import::file_digest(File::open(&args.file).map_err(failed)?).map_err(failed)?;
    Ok(Trace { organization, key, model, digest })
}

impl Target {
    async fn organization_of(&self, key: &KeyId) -> Result<Option<OrgId>, ImportError> {
        match self {
            Self::Server(caller) => match caller.get(&format!("/v1/api-keys/{key}"), &[]).await {
                Ok(answer) => {
                    let id = answer.get("organization").and_then(Value::as_str).map(OrgId::parse);
                    Ok(id.transpose()?)
                }
                Err(ClientError::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Node(node) => {
                for owner in node.owners() {
                    let wanted = key.clone();
                    let found = owner.read(move |state| {
                        let holder = state.organizations().find(|known| known.keys.contains_key(&wanted));
                        holder.map(|known| known.id.clone())
                    });
                    if let Some(found) = found.await? {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }

    /// Sends a batch until it is durable; what is sent twice counts once.
    async fn send(self, batch: Vec<Usage>) -> Result<usize, ImportError> {
        let records = batch.len();
        let mut attempts = 0u32;
        loop {
            let error = match self.attempt(&batch).await {
                Ok(()) => return Ok(records),
                Err(error) => error,
            };
            attempts = attempts.saturating_add(1);
            if attempts > RETRIES_MAX || !error.may_pass() {
                return Err(error);
            }
            tracing::debug!(%error, attempts, "sending again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(&self, batch: &[Usage]) -> Result<(), ImportError> {
        match self {
            Self::Server(caller) => {
                for body in bodies(batch) {
                    let request = caller.request(Method::POST, "/v1/events");
                    let request =
                        request.header("content-type", "application/cloudevents-batch+json").body(body);
                    caller.send(request).await?;
                }
                Ok(())
            }
            Self::Node(node) => Ok(node.submit(batch.to_vec()).await.map(|_| ())?),
        }
    }
}

/// JSON arrays of all events, none larger than a server takes.
fn bodies(batch: &[Usage]) -> Vec<String> {
    let mut bodies = Vec::new();
    let mut body = String::new();
    for usage in batch {
        let event = cloudevent::to_event(usage).to_string();
        if !body.is_empty() && body.len().saturating_add(event.len()).saturating_add(2) > BODY_MAX {
            bodies.push(std::mem::take(&mut body) + "]");
        }
        body.push(if body.is_empty() { '[' } else { ',' });
        body.push_str(&event);
    }
    if !body.is_empty() {
        bodies.push(body + "]");
    }
    bodies
}

impl ImportError {
    /// Whether trying again may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Ingress(_) | Self::Client(ClientError::Unreachable { .. }) => true,
            Self::Client(ClientError::Refused(refusal)) => refusal.status == StatusCode::SERVICE_UNAVAILABLE,
            Self::Client(ClientError::NoToken { .. } | ClientError::NotTheApi { .. })
            | Self::File { .. }
            | Self::Layout { .. }
            | Self::TraceNeedsKey
            | Self::Key(_)
            | Self::Name(_)
            | Self::UnknownKey(_)
            | Self::Config(_)
            | Self::Start(_)
            | Self::Owner(_)
            | Self::Command(_)
            | Self::BadRows { .. } => false,
        }
    }
}

fn progress(size: u64) -> ProgressBar {
    let bar = ProgressBar::new(size);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {msg}  {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command's output")]
fn report(target: &Target, read: usize, sent: usize, bad: &[BadRow]) {
    for row in bad.iter().take(SHOWN_MAX) {
        eprintln!("{row}");
    }
    let to = match target {
        Target::Server(_) => "accepted by the server",
        Target::Node(_) => "in the log",
    };
    println!("{read} rows read, {sent} records {to}; records imported before are recognized and count once");
}
