//! One append: published under the entry's id until the answer is known, or the deadline is over.
//!
//! An entry with a condition is stored at most once. One without may be stored twice when a retry arrives after
//! the stream's duplicate window (two minutes, four times the deadline); the fold recognizes copies by entry id.

use std::error::Error;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use bytes::Bytes;

use super::own::Body;
use super::{BACKOFF_FIRST, ID_HEADER, Partition, Shared, found, pause, position_of, sequence_of};
use crate::log::{Append, AppendError, PAYLOAD_MAX};
use tollbook_schemas::position::Position;

/// What came of one attempt.
pub(super) enum Attempt {
    /// It stands at this sequence.
    Stored(u64),
    /// The condition did not hold, this time.
    Conflict,
    /// No further attempt can change it.
    Final(AppendError),
    /// Not known, or not now.
    Again(String),
}

pub(super) async fn append(shared: &Shared, append: Append) -> Result<Position, AppendError> {
    let bytes = append.payload.len();
    if bytes > PAYLOAD_MAX {
        return Err(AppendError::TooLarge { bytes, limit: PAYLOAD_MAX });
    }
    let Some(partition) = shared.partition(append.id.partition) else {
        return Err(AppendError::Refused {
            reason: format!("there is no partition {}", append.id.partition),
        });
    };
    let _permit = shared.in_flight.acquire().await.map_err(|_| AppendError::Closed)?;
    let call = Call {
        shared,
        partition,
        id: append.id.to_string(),
        subject: append.topic.subject(append.id.partition),
        payload: append.payload,
        expected: append.expected.map(sequence_of),
    };
    let body = Body { subject: call.subject.clone(), payload: call.payload.clone() };
    let pending = partition.own.begin(&call.id, body);
    let mut uncertain = None;
    let stored = tokio::time::timeout(shared.options.append_deadline, call.until_known(&mut uncertain)).await;
    match stored {
        Ok(Ok(sequence)) => {
            pending.acknowledged(sequence);
            Ok(position_of(sequence))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(AppendError::Unknown { reason: uncertain.unwrap_or_else(|| "no answer".to_owned()) }),
    }
}

struct Call<'a> {
    shared: &'a Shared,
    partition: &'a Partition,
    id: String,
    subject: String,
    payload: Bytes,
    expected: Option<u64>,
}

impl Call<'_> {
    /// `uncertain` is set as soon as an attempt may have been stored without our knowing.
    async fn until_known(&self, uncertain: &mut Option<String>) -> Result<u64, AppendError> {
        let mut backoff = BACKOFF_FIRST;
        loop {
            let mut attempt = self.publish().await;
            if let (Attempt::Conflict, Some(expected)) = (&attempt, self.expected) {
                attempt = self.read_back(expected).await;
            }
            match attempt {
                Attempt::Stored(sequence) => return Ok(sequence),
                Attempt::Final(error @ AppendError::Conflict { .. }) => return Err(error),
                Attempt::Final(error) => {
                    return Err(match uncertain.take() {
                        // The refusal is about this attempt; an earlier one may have been stored.
                        Some(earlier) => AppendError::Unknown { reason: format!("{earlier}, then {error}") },
                        None => error,
                    });
                }
                Attempt::Conflict => *uncertain = Some("a conflict without condition".to_owned()),
                Attempt::Again(reason) => {
                    tracing::debug!(id = self.id, reason, "appending again");
                    *uncertain = Some(reason);
                }
            }
            pause(&mut backoff).await;
        }
    }

    async fn publish(&self) -> Attempt {
        let mut message = PublishMessage::build().payload(self.payload.clone()).message_id(&self.id);
        if let Some(expected) = self.expected {
            message = message.expected_last_subject_sequence(expected);
        }
        publish(self.shared, &self.partition.name, &self.subject, message, self.payload.len()).await
    }

    /// After a conflict: whether the entry that follows `expected` on the subject is this one after all.
    async fn read_back(&self, expected: u64) -> Attempt {
        let next = self.partition.stream.raw_message_builder().sequence(expected.saturating_add(1));
        let winner = match found(next.next_by_subject(self.subject.as_str()).send().await) {
            Ok(winner) => winner,
            Err(error) => return Attempt::Again(error.to_string()),
        };
        // Only one message can ever have been stored with this condition.
        if let Some(winner) = &winner
            && id_of(winner) == Some(self.id.as_str())
        {
            return Attempt::Stored(winner.sequence);
        }
        let last = match self.partition.last_message(&self.subject).await {
            Ok(last) => last.map_or(0, |message| message.sequence),
            Err(error) => return Attempt::Again(error.to_string()),
        };
        if last == expected {
            // Replicated streams answer so while the other message, or our own earlier one, is not committed yet.
            return Attempt::Again("an append under the same condition is under way".to_owned());
        }
        Attempt::Final(AppendError::Conflict { expected: position_of(expected), actual: position_of(last) })
    }
}

/// One attempt to store a message of so many bytes in a stream.
pub(super) async fn publish(
    shared: &Shared,
    stream: &str,
    subject: &str,
    message: PublishMessage,
    bytes: usize,
) -> Attempt {
    let mut connections = shared.connections.clone();
    connections.mark_unchanged();
    let acknowledgement = match shared.appending.send_publish(subject.to_owned(), message).await {
        Ok(acknowledgement) => acknowledgement,
        Err(error) => return classify(&error, bytes),
    };
    let answer = tokio::select! {
        biased;
        answer = acknowledgement.into_future() => answer,
        // A new connection: the answer was most likely lost with the old one, so do not wait for it.
        () = reconnected(&mut connections) => return Attempt::Again("the connection was lost".to_owned()),
    };
    match answer {
        Ok(stored) if stored.stream == stream => Attempt::Stored(stored.sequence),
        Ok(stored) => Attempt::Final(AppendError::Refused {
            reason: format!("stream {} binds {subject}", stored.stream),
        }),
        Err(error) => classify(&error, bytes),
    }
}

fn id_of(message: &StreamMessage) -> Option<&str> {
    message.headers.get(ID_HEADER).map(|value| value.as_str())
}

/// Waits until a connection is established, and a moment more for answers it brings.
async fn reconnected(connections: &mut tokio::sync::watch::Receiver<u64>) {
    /// Replicated streams answer over the new connection what was asked over the old one.
    const LATE_ANSWERS: Duration = Duration::from_millis(200);
    if connections.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(LATE_ANSWERS).await;
}

fn classify(error: &PublishError, bytes: usize) -> Attempt {
    let too_large = || Attempt::Final(AppendError::TooLarge { bytes, limit: PAYLOAD_MAX });
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Attempt::Conflict,
        PublishErrorKind::MaxPayloadExceeded => too_large(),
        PublishErrorKind::StreamNotFound
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::WrongLastMessageId => Attempt::Again(error.to_string()),
        PublishErrorKind::Other => {
            let Some(code) = server_code(error) else { return Attempt::Again(error.to_string()) };
            let described = || error.source().map_or_else(|| error.to_string(), ToString::to_string);
            match code {
                // Wrong last sequence, in two spellings.
                10071 | 10164 => Attempt::Conflict,
                10054 | 10097 => too_large(),
                // Full, in three ways; then sealed, limits of the account, and requests nobody should answer so.
                10023 | 10047 | 10077 | 10109 | 10002 | 10025 | 10052 | 10056 | 10060 => {
                    Attempt::Final(AppendError::Refused { reason: described() })
                }
                // Not ready, no leader, the same id under way, and whatever later servers invent.
                _ => Attempt::Again(described()),
            }
        }
    }
}

/// The code a server gave, where the client has no kind of its own for it.
pub(super) fn server_code(error: &dyn Error) -> Option<u64> {
    let answer = error.source()?.downcast_ref::<jetstream::Error>()?;
    Some(answer.error_code().0)
}
