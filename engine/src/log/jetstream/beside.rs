//! A stream beside the log, as durable, whose writers say what they know to be the last message of a subject.

use std::fmt;

use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use tollbook_schemas::id::LedgerId;

use super::append::{Attempt, publish};
use super::{JetStream, OpenError, check, found, reading};
use crate::log::ReadError;

/// A handle; cheap to clone.
#[derive(Clone)]
pub(crate) struct Beside {
    log: JetStream,
    name: &'static str,
    stream: Stream<()>,
}

/// What came of one attempt to put a message under a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// It stands at this sequence.
    Stored(u64),
    /// Another message is the subject's last, or is about to be; or an earlier attempt came through after all.
    Conflict,
    /// Not known, or not now: look at the subject's last message, and try again.
    Again(String),
    /// No further attempt can change it.
    Refused(String),
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Beside({})", self.name)
    }
}

impl Beside {
    /// Finds or creates the stream of `ledger`, replicated as the log is, and verifies its settings.
    pub(crate) async fn open(
        log: &JetStream,
        name: &'static str,
        subjects: &str,
        ledger: &LedgerId,
    ) -> Result<Self, OpenError> {
        check::stream_of_ledger(&log.shared.appending, name, subjects, ledger, log.replicas()).await?;
        let stream = log.context().get_stream_no_info(name).await;
        let stream = stream
            .map_err(|error| OpenError::JetStream { what: "look up a stream", reason: error.to_string() })?;
        Ok(Self { log: log.clone(), name, stream })
    }

    /// The stream, for its consumers.
    pub(crate) const fn stream(&self) -> &Stream<()> {
        &self.stream
    }

    /// Attempts to store a message if the subject's last one still stands at `expected`; 0: there is none.
    pub(crate) async fn put(&self, subject: &str, payload: Bytes, expected: u64) -> Put {
        let bytes = payload.len();
        let message = PublishMessage::build().payload(payload).expected_last_subject_sequence(expected);
        match publish(&self.log.shared, self.name, subject, message, bytes).await {
            Attempt::Stored(sequence) => Put::Stored(sequence),
            Attempt::Conflict => Put::Conflict,
            Attempt::Again(reason) => Put::Again(reason),
            Attempt::Final(error) => Put::Refused(error.to_string()),
        }
    }

    /// The last message of `subject`, asked from the stream's leader.
    pub(crate) async fn last_of(&self, subject: &str) -> Result<Option<StreamMessage>, ReadError> {
        reading(|| async { found(self.stream.get_last_raw_message_by_subject(subject).await) }).await
    }

    /// The message at `sequence`, asked from the stream's leader.
    pub(crate) async fn get(&self, sequence: u64) -> Result<Option<StreamMessage>, ReadError> {
        reading(|| async { found(self.stream.get_raw_message(sequence).await) }).await
    }

    /// The last sequence; 0 while there is none.
    pub(crate) async fn last(&self) -> Result<u64, ReadError> {
        Ok(reading(|| self.stream.get_info()).await?.state.last_sequence)
    }
}
