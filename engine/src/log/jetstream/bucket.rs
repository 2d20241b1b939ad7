//! A key-value bucket as leases and the side store need it: every answer from the stream's leader, every write
//! conditional. The client's own `Store` reads replicas, and drops the time to live when it recreates a key.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType, Stream};
use bytes::Bytes;
use futures_util::TryStreamExt;

use super::check::CREATE_DEADLINE;
use super::{BACKOFF_FIRST, found, pause};

/// Tells the marker of a deleted key from a value; clients of every language do it so.
const OPERATION_HEADER: &str = "KV-Operation";
const MARKER_HEADER: &str = "Nats-Marker-Reason";

/// What went wrong between us and the bucket.
#[derive(Debug, thiserror::Error)]
#[error("bucket {bucket}: {reason}")]
pub(crate) struct BucketError {
    bucket: &'static str,
    reason: String,
}

/// What a conditional write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Durable, under this revision.
    Revision(u64),
    /// Somebody else wrote since, or is about to.
    Conflict,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The condition for the next write.
    pub(crate) revision: u64,
    /// Its value, unless it was deleted or has expired.
    pub(crate) value: Option<Bytes>,
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub(crate) struct Bucket {
    name: &'static str,
    context: Context,
    stream: Stream<()>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.name)
    }
}

impl Bucket {
    /// Finds or creates a bucket with one value per key. `markers`: keys may expire, and leave a marker that long.
    pub(crate) async fn open(
        context: &Context,
        name: &'static str,
        replicas: usize,
        markers: Option<Duration>,
    ) -> Result<Self, BucketError> {
        let failed = |reason: String| BucketError { bucket: name, reason };
        let stream_name = format!("KV_{name}");
        let config = Config {
            name: stream_name.clone(),
            subjects: vec![format!("$KV.{name}.>")],
            storage: StorageType::File,
            num_replicas: replicas,
            max_messages_per_subject: 1,
            discard: DiscardPolicy::New,
            allow_rollup: true,
            allow_message_ttl: markers.is_some(),
            subject_delete_marker_ttl: markers,
            ..Default::default()
        };
        let mut reason = "no answer".to_owned();
        let attempts = async {
            let mut backoff = BACKOFF_FIRST;
            while let Err(error) = find_or_create(context, &config).await {
                reason = error;
                pause(&mut backoff).await;
            }
        };
        // As for the log's streams: an election is no reason not to start.
        if tokio::time::timeout(CREATE_DEADLINE, attempts).await.is_err() {
            return Err(failed(reason));
        }
        let stream = context.get_stream_no_info(stream_name).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        Ok(Self { name, context: context.clone(), stream })
    }

    /// What `key` holds; revision 0 when it was never written.
    pub(crate) async fn get(&self, key: &str) -> Result<Slot, BucketError> {
        let subject = self.subject(key);
        let last = found(self.stream.get_last_raw_message_by_subject(&subject).await);
        let Some(last) = last.map_err(|error| self.failed(error))? else {
            return Ok(Slot { revision: 0, value: None });
        };
        let marker =
            last.headers.get(OPERATION_HEADER).is_some() || last.headers.get(MARKER_HEADER).is_some();
        Ok(Slot { revision: last.sequence, value: (!marker).then_some(last.payload) })
    }

    /// Writes `value` if the key's revision is still `expected`; with `ttl` it expires, in whole seconds.
    pub(crate) async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        ttl: Option<Duration>,
    ) -> Result<Written, BucketError> {
        let mut message = PublishMessage::build().payload(value).expected_last_subject_sequence(expected);
        if let Some(ttl) = ttl {
            message = message.ttl(ttl);
        }
        self.publish(key, message).await
    }

    /// Replaces the value by a marker that expires after `ttl`, if the key's revision is still `expected`.
    pub(crate) async fn release(
        &self,
        key: &str,
        expected: u64,
        ttl: Duration,
    ) -> Result<Written, BucketError> {
        let marker = PublishMessage::build()
            .header(OPERATION_HEADER, "PURGE")
            .header("Nats-Rollup", "sub")
            .ttl(ttl)
            .expected_last_subject_sequence(expected);
        self.publish(key, marker).await
    }

    /// The keys that match a pattern, those that expired or were deleted lately among them.
    pub(crate) async fn keys(&self, pattern: &str) -> Result<Vec<String>, BucketError> {
        let found = self.stream.info_with_subjects(self.subject(pattern)).await;
        let found: Vec<(String, usize)> =
            found.map_err(|error| self.failed(error))?.try_collect().await.map_err(|error| self.failed(error))?;
        let prefix = self.subject("");
        let key = |(subject, _): (String, usize)| subject.strip_prefix(&prefix).map(str::to_owned);
        Ok(found.into_iter().filter_map(key).collect())
    }

    /// Removes the value and overwrites its bytes in the server's file.
    pub(crate) async fn erase(&self, revision: u64) -> Result<(), BucketError> {
        match self.stream.delete_message(revision).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.failed("the server did not erase")),
            Err(error) => Err(self.failed(error)),
        }
    }

    async fn publish(&self, key: &str, message: PublishMessage) -> Result<Written, BucketError> {
        let sent = self.context.send_publish(self.subject(key), message).await;
        let answer = match sent {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(stored) => Ok(Written::Revision(stored.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Written::Conflict),
            Err(error) if super::append::server_code(&error) == Some(10164) => Ok(Written::Conflict),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    fn failed(&self, error: impl ToString) -> BucketError {
        BucketError { bucket: self.name, reason: error.to_string() }
    }
}

async fn find_or_create(context: &Context, config: &Config) -> Result<(), String> {
    match context.get_stream(&config.name).await {
        Ok(_) => return Ok(()),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(answer) if answer.error_code().0 == 10059 => {}
            GetStreamErrorKind::JetStream(_)
            | GetStreamErrorKind::Request
            | GetStreamErrorKind::EmptyName
            | GetStreamErrorKind::InvalidStreamName => return Err(error.to_string()),
        },
    }
    context.create_stream(config.clone()).await.map(drop).map_err(|error| error.to_string())
}
