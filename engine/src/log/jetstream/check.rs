//! What is verified before anything is written: versions, durability, and the streams' settings.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Compression, Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::PartitionId;

use super::{BACKOFF_FIRST, pause, stream_name};
use crate::log::PAYLOAD_MAX;

mod servers;

pub(super) use servers::servers;

/// Room for subject, id and condition beside the payload.
const HEADERS_MAX: usize = 4096;

/// Doubled messages are caught this long after the first attempt.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// How long a cluster that has just started may take to place a stream.
pub(super) const CREATE_DEADLINE: Duration = Duration::from_secs(30);

/// The stream metadata that remembers how many partitions the ledger has.
const PARTITIONS_KEY: &str = "tollbook_partitions";

/// The stream metadata that remembers whose the stream is.
const LEDGER_KEY: &str = "tollbook_ledger";

/// Why the log was not opened. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server answered, or none let us in.
    #[error("cannot connect to NATS at {urls}: {reason}; check the address and the credentials")]
    Connect {
        /// What was tried.
        urls: String,
        /// What happened.
        reason: String,
    },
    /// The credentials file cannot be used.
    #[error("cannot read the credentials file {path}: {reason}")]
    Credentials {
        /// The file.
        path: String,
        /// What happened.
        reason: String,
    },
    /// A server too old to be durable at a bearable price.
    #[error("NATS server {server} has version {found}; upgrade it to {wanted} or newer")]
    OldServer {
        /// The server's name.
        server: String,
        /// Its version.
        found: String,
        /// The oldest that will do.
        wanted: &'static str,
    },
    /// A server that acknowledges before it syncs.
    #[error(
        "NATS server {server} acknowledges before it syncs ({setting} is off); set `{remedy}` in its `jetstream` \
         block and restart it"
    )]
    NotDurable {
        /// The server's name.
        server: String,
        /// The setting as `/jsz` names it.
        setting: &'static str,
        /// The line for the configuration file.
        remedy: &'static str,
    },
    /// Nobody could tell whether the servers sync.
    #[error(
        "cannot verify that every NATS server syncs before it acknowledges: {reason}; name the monitoring address \
         of every server, or a user of the system account, or accept the risk with --allow-unverified-durability"
    )]
    Unverified {
        /// What is missing.
        reason: String,
    },
    /// The servers do not take entries of the size the log promises.
    #[error("NATS takes messages of at most {found} bytes; set `max_payload: 2MB` and restart it")]
    Payload {
        /// The server's limit.
        found: usize,
    },
    /// An existing stream is not set as a log must be.
    #[error(
        "stream {stream} is not set as a log must be: {}; change it with `nats stream edit`",
        list(wrong)
    )]
    Settings {
        /// The stream.
        stream: String,
        /// Every setting that is wrong.
        wrong: Vec<WrongSetting>,
    },
    /// The ledger was created with another number of partitions, which never changes.
    #[error(
        "stream {stream} belongs to a ledger of {found} partitions, not {wanted}; start with --partitions {found}"
    )]
    Partitions {
        /// The stream.
        stream: String,
        /// What the stream remembers.
        found: String,
        /// What was asked for.
        wanted: u16,
    },
    /// JetStream refused or did not answer.
    #[error("cannot {what}: {reason}")]
    JetStream {
        /// What was attempted.
        what: &'static str,
        /// What came back.
        reason: String,
    },
}

/// One setting of a stream that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongSetting {
    /// Its name in the stream's configuration.
    pub setting: &'static str,
    /// What it is.
    pub found: String,
    /// What it must be.
    pub wanted: String,
}

impl fmt::Display for WrongSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, must be {}", self.setting, self.found, self.wanted)
    }
}

fn list(wrong: &[WrongSetting]) -> String {
    wrong.iter().map(WrongSetting::to_string).collect::<Vec<_>>().join("; ")
}

/// Finds or creates the stream of `partition`, and verifies its settings.
pub(super) async fn stream(
    context: &Context,
    partition: PartitionId,
    partitions: u16,
    replicas: usize,
) -> Result<Info, OpenError> {
    let subjects = format!("tollbook.log.{partition}.>");
    let metadata = (PARTITIONS_KEY, partitions.to_string());
    let wanted = config(stream_name(partition), subjects, replicas, metadata);
    let info = found_or_created(context, &wanted).await?;
    let remembered = info.config.metadata.get(PARTITIONS_KEY);
    if let Some(remembered) = remembered
        && *remembered != partitions.to_string()
    {
        let (stream, found) = (info.config.name.clone(), remembered.clone());
        return Err(OpenError::Partitions { stream, found, wanted: partitions });
    }
    verify(&info.config, &wanted)?;
    Ok(info)
}

/// The same for a stream beside the log that is as durable and belongs to `ledger`.
pub(super) async fn stream_of_ledger(
    context: &Context,
    name: &str,
    subjects: &str,
    ledger: &LedgerId,
    replicas: usize,
) -> Result<Info, OpenError> {
    let metadata = (LEDGER_KEY, ledger.to_string());
    let wanted = config(name.to_owned(), subjects.to_owned(), replicas, metadata);
    let info = found_or_created(context, &wanted).await?;
    verify(&info.config, &wanted)?;
    Ok(info)
}

async fn found_or_created(context: &Context, wanted: &Config) -> Result<Info, OpenError> {
    let mut reason = "no answer".to_owned();
    let attempts = async {
        let mut backoff = BACKOFF_FIRST;
        loop {
            match find_or_create(context, wanted).await {
                Ok(Some(info)) => return info,
                Ok(None) => {}
                Err(error) => reason = error,
            }
            pause(&mut backoff).await;
        }
    };
    let found = tokio::time::timeout(CREATE_DEADLINE, attempts).await;
    found.map_err(|_| OpenError::JetStream { what: "find or create a stream", reason })
}

/// `None` when another node created it in the same moment.
async fn find_or_create(context: &Context, wanted: &Config) -> Result<Option<Info>, String> {
    match context.get_stream(&wanted.name).await {
        Ok(stream) => return Ok(Some(stream.cached_info().clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.error_code().0 == 10059 => {}
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::InvalidStreamName => return Err(error.to_string()),
        },
    }
    match context.create_stream(wanted.clone()).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) => match error.kind() {
            // Exists with other settings: look at it and say which.
            CreateStreamErrorKind::JetStream(answer) if answer.error_code().0 == 10058 => Ok(None),
            CreateStreamErrorKind::JetStream(_)
            | CreateStreamErrorKind::JetStreamUnavailable
            | CreateStreamErrorKind::TimedOut
            | CreateStreamErrorKind::Response
            | CreateStreamErrorKind::ResponseParse
            | CreateStreamErrorKind::NotFound
            | CreateStreamErrorKind::EmptyStreamName
            | CreateStreamErrorKind::InvalidStreamName
            | CreateStreamErrorKind::DomainAndExternalSet => Err(error.to_string()),
        },
    }
}

fn config(name: String, subjects: String, replicas: usize, (key, value): (&'static str, String)) -> Config {
    Config {
        name,
        subjects: vec![subjects],
        storage: StorageType::File,
        num_replicas: replicas,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        max_age: Duration::ZERO,
        deny_delete: true,
        deny_purge: true,
        allow_direct: false,
        duplicate_window: DUPLICATE_WINDOW,
        metadata: HashMap::from([(key.to_owned(), value)]),
        ..Default::default()
    }
}

fn verify(found: &Config, wanted: &Config) -> Result<(), OpenError> {
    let mut wrong = Wrong(Vec::new());
    wrong.compare("subjects", &found.subjects, &wanted.subjects);
    wrong.compare("storage", &found.storage, &wanted.storage);
    wrong.compare("num_replicas", &found.num_replicas, &wanted.num_replicas);
    wrong.compare("retention", &found.retention, &wanted.retention);
    wrong.compare("discard", &found.discard, &wanted.discard);
    wrong.compare("max_age", &found.max_age, &wanted.max_age);
    wrong.compare("deny_delete", &found.deny_delete, &true);
    wrong.compare("deny_purge", &found.deny_purge, &true);
    wrong.compare("allow_direct", &found.allow_direct, &false);
    wrong.compare("mirror_direct", &found.mirror_direct, &false);
    wrong.compare("duplicate_window", &found.duplicate_window, &wanted.duplicate_window);
    // Over this limit, old messages of the subject would be deleted.
    wrong.compare("max_msgs_per_subject", &found.max_messages_per_subject.max(0), &0);
    let limit = usize::try_from(found.max_message_size).unwrap_or(0);
    if limit > 0 && limit < PAYLOAD_MAX.saturating_add(HEADERS_MAX) {
        wrong.compare("max_msg_size", &found.max_message_size, &-1);
    }
    wrong.compare("sealed", &found.sealed, &false);
    wrong.compare("no_ack", &found.no_ack, &false);
    wrong.compare("allow_rollup_hdrs", &found.allow_rollup, &false);
    wrong.compare("allow_msg_ttl", &found.allow_message_ttl, &false);
    wrong.compare("allow_msg_counter", &found.allow_message_counter, &false);
    wrong.compare("allow_msg_schedules", &found.allow_message_schedules, &false);
    wrong.compare("mirror", &found.mirror.is_some(), &false);
    wrong.compare("sources", &found.sources.as_ref().is_some_and(|sources| !sources.is_empty()), &false);
    wrong.compare("republish", &found.republish.is_some(), &false);
    wrong.compare("subject_transform", &found.subject_transform.is_some(), &false);
    wrong.compare(
        "compression",
        found.compression.as_ref().unwrap_or(&Compression::None),
        &Compression::None,
    );
    wrong.compare("persist_mode", &found.persist_mode.unwrap_or_default(), &PersistenceMode::Default);
    wrong.compare("first_seq", &found.first_sequence.unwrap_or(0).max(1), &1);
    for (key, setting) in
        [(PARTITIONS_KEY, "metadata.tollbook_partitions"), (LEDGER_KEY, "metadata.tollbook_ledger")]
    {
        if let Some(wanted) = wanted.metadata.get(key) {
            wrong.compare(setting, found.metadata.get(key).unwrap_or(&"missing".to_owned()), wanted);
        }
    }
    if wrong.0.is_empty() {
        return Ok(());
    }
    Err(OpenError::Settings { stream: found.name.clone(), wrong: wrong.0 })
}

struct Wrong(Vec<WrongSetting>);

impl Wrong {
    fn compare<T: PartialEq + fmt::Debug>(&mut self, setting: &'static str, found: &T, wanted: &T) {
        if found != wanted {
            let (found, wanted) = (format!("{found:?}"), format!("{wanted:?}"));
            self.0.push(WrongSetting { setting, found, wanted });
        }
    }
}

/// Errors: the connected server takes too little.
fn payload(client: &Client) -> Result<(), OpenError> {
    let found = client.max_payload();
    if found < PAYLOAD_MAX.saturating_add(HEADERS_MAX) {
        return Err(OpenError::Payload { found });
    }
    Ok(())
}
