//! Where a log is read from: a stopped server's directory, or JetStream. Nothing is ever written to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use tollbook_engine::config::{ConfigError, NatsArgs};
use tollbook_engine::ledger::{self, Ledger, LedgerError};
use tollbook_engine::log::embedded::{self, Embedded};
use tollbook_engine::log::jetstream::{self, JetStream};
use tollbook_engine::log::{EventLog, ReadError};
use tollbook_engine::node::LogSettings;
use tollbook_schemas::position::PartitionId;

/// Which log to read.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// Data directory of a stopped server with the embedded log
    #[arg(long, env = "TOLLBOOK_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    nats: NatsArgs,
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// No source was named.
    #[error("name the log: --data DIR of a stopped server, or --nats URL")]
    None,
    /// There is no log.
    #[error("there is no log in {}", .0.display())]
    Absent(PathBuf),
    /// There is a log with nothing in it.
    #[error("the log is empty")]
    Empty,
    /// The directory cannot be opened, or a running server holds it.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// JetStream cannot be reached or is not safe to use.
    #[error(transparent)]
    JetStream(#[from] jetstream::OpenError),
    /// The settings are not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It is not a log of ours.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A log, open for reading.
pub(crate) struct Source {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) ledger: Ledger,
}

impl SourceArgs {
    /// Opens the log.
    pub(crate) async fn open(self) -> Result<Source, SourceError> {
        let log: Arc<dyn EventLog> = match (self.nats.log_settings()?, self.data) {
            (LogSettings::JetStream(options), _) => match JetStream::open((*options).clone(), 1).await {
                Err(jetstream::OpenError::Partitions { found, stream, wanted }) => match found.parse() {
                    Ok(found) => Arc::new(JetStream::open(*options, found).await?),
                    Err(_) => return Err(jetstream::OpenError::Partitions { found, stream, wanted }.into()),
                },
                opened => Arc::new(opened?),
            },
            (LogSettings::Embedded, Some(data)) => Arc::new(open_embedded(&data.join("log"))?),
            (LogSettings::Embedded, None) => return Err(SourceError::None),
        };
        let ledger = ledger::find(&log, PartitionId(0)).await?.ok_or(SourceError::Empty)?;
        Ok(Source { log, ledger })
    }
}

fn open_embedded(directory: &Path) -> Result<Embedded, SourceError> {
    // Opening would make one.
    if !directory.join("FORMAT").exists() {
        return Err(SourceError::Absent(directory.to_path_buf()));
    }
    match Embedded::open(directory, 1) {
        Err(embedded::OpenError::Partitions { has, dir, wanted }) => match u16::try_from(has) {
            Ok(has) => Ok(Embedded::open(directory, has)?),
            Err(_) => Err(embedded::OpenError::Partitions { has, dir, wanted }.into()),
        },
        opened => Ok(opened?),
    }
}
