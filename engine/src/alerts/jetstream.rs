//! The alert feed on JetStream: the stream `TOLLBOOK_ALERTS`, a message per alert.
//!
//! ```text
//! raise ─> by organization, one after another ─> publish, expecting the subject's last ─> stored
//!            a few dozen of them at once              │ conflict, no answer
//!                                                     └─> read the last back: raised by now, or again
//! ```
//!
//! Never by message ids, which hold for a window only, and never two of a subject in flight. Of an organization none at all
//! are, so that its alerts come in the order of the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tollbook_schemas::alert::{Alert, AlertPlace};
use tollbook_schemas::id::{LedgerId, OrgId};
use tollbook_schemas::position::{PartitionId, Position};

use super::feed::{AlertFeed, AlertFeedError, Raised, event};
use crate::log::ReadError;
use crate::log::jetstream::bucket::{Bucket, BucketError, Written};
use crate::log::jetstream::{Beside, JetStream, OpenError, Put};
use crate::metrics;

/// Name of the stream.
pub const STREAM: &str = "TOLLBOOK_ALERTS";

/// What it holds.
const SUBJECTS: &str = "tollbook.alerts.>";

/// Bucket of how far everything was raised, by partition.
const MARKS: &str = "TOLLBOOK_ALERT_MARKS";

/// Organizations whose alerts are published at once: enough to share the server's syncs, too few to keep the log's entries waiting.
const IN_FLIGHT_MAX: usize = 64;

/// Messages read at once.
const READ_AHEAD: usize = 64;

/// Subjects whose last message is remembered, some 100 bytes each: rather asked for again than kept without bound.
const PLACES_MAX: usize = 100_000;

/// How often it is looked for what other nodes raised, while somebody waits.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Pauses between attempts: first and longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long alerts are tried that are raised together: three times the longest election seen.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often two writers of a mark may meet.
const MARK_ATTEMPTS: usize = 8;

/// The feed of a ledger whose log is on JetStream.
#[derive(Debug)]
pub struct JetStreamFeed {
    stream: Beside,
    marks: Bucket,
    ledger: LedgerId,
    /// The last message of a subject, as far as this node has seen: where the stream is further, its condition fails.
    places: Mutex<HashMap<String, Last>>,
    last: watch::Sender<u64>,
}

/// The last message of a subject: 0 and no place when there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    sequence: u64,
    place: Option<AlertPlace>,
}

impl From<ReadError> for AlertFeedError {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

impl From<BucketError> for AlertFeedError {
    fn from(error: BucketError) -> Self {
        Self(error.to_string())
    }
}

impl JetStreamFeed {
    /// Finds or creates stream and bucket, replicated as the log is, and verifies the stream. Errors: what is wrong.
    pub async fn open(log: &JetStream, ledger: LedgerId) -> Result<Arc<Self>, OpenError> {
        let stream = Beside::open(log, STREAM, SUBJECTS, &ledger).await?;
        let marks = Bucket::open(log.context(), MARKS, log.replicas(), None).await;
        let marks = marks.map_err(|error| OpenError::JetStream {
            what: "find or create a bucket",
            reason: error.to_string(),
        })?;
        let (last, _) = watch::channel(0);
        let feed = Arc::new(Self { stream, marks, ledger, places: Mutex::default(), last });
        tokio::spawn(look(Arc::downgrade(&feed)));
        Ok(feed)
    }

    /// The stream, for subscribers' consumers.
    pub(crate) const fn stream(&self) -> &Beside {
        &self.stream
    }

    fn places(&self) -> MutexGuard<'_, HashMap<String, Last>> {
        // Nothing can panic halfway under this lock.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, subject: &str, last: Last) {
        let mut places = self.places();
        if places.len() >= PLACES_MAX {
            places.clear();
        }
        places.insert(subject.to_owned(), last);
    }

    fn raised_up_to(&self, sequence: u64) {
        self.last.send_if_modified(|last| {
            let further = sequence > *last;
            *last = sequence.max(*last);
            further
        });
    }

    /// Raises alerts of many organizations.
    async fn raise_all(&self, alerts: Vec<Alert>) -> Result<usize, AlertFeedError> {
        let mut raising = stream::iter(by_organization(alerts))
            .map(|(_, alerts)| self.raise_each(alerts))
            .buffer_unordered(IN_FLIGHT_MAX);
        let (mut new, mut failed) = (0_usize, None);
        // To the end in any case: what is wrong with one of them must not keep others waiting.
        while let Some(raised) = raising.next().await {
            match raised {
                Ok(raised) => new = new.saturating_add(raised),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(new), Err)
    }

    /// Raises alerts in their order; how many were new.
    async fn raise_each(&self, alerts: Vec<Alert>) -> Result<usize, AlertFeedError> {
        let mut new = 0_usize;
        for alert in alerts {
            if self.raise_one(&alert.subject(), &alert).await? {
                new = new.saturating_add(1);
                metrics::alert_raised(alert.kind());
            }
        }
        Ok(new)
    }

    /// Whether it was this call that raised it.
    async fn raise_one(&self, subject: &str, alert: &Alert) -> Result<bool, AlertFeedError> {
        let (place, payload) = (alert.place(), event(&self.ledger, alert));
        let mut pause = PAUSE_FIRST;
        let (mut uncertain, mut known) = (false, self.places().get(subject).copied());
        loop {
            // Where nothing is known it is most likely the first of its subject; the condition finds out.
            let last = known.unwrap_or_default();
            if last.place.is_some_and(|last| !place.is_after(last)) {
                // After an attempt without an answer it may be this node's own, which is new all the same.
                return Ok(uncertain && last.place == Some(place));
            }
            match self.stream.put(subject, payload.clone(), last.sequence).await {
                Put::Stored(sequence) => {
                    self.remember(subject, Last { sequence, place: Some(place) });
                    self.raised_up_to(sequence);
                    return Ok(true);
                }
                Put::Refused(reason) => return Err(AlertFeedError(reason)),
                Put::Conflict => {}
                Put::Again(reason) => {
                    tracing::debug!(subject, reason, "raising an alert again");
                    uncertain = true;
                }
            }
            let found = self.last_of(subject).await?;
            self.remember(subject, found);
            if found.sequence == last.sequence {
                // Ours or another one is under way.
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(PAUSE_MAX);
            }
            known = Some(found);
        }
    }

    async fn last_of(&self, subject: &str) -> Result<Last, AlertFeedError> {
        let Some(message) = self.stream.last_of(subject).await? else { return Ok(Last::default()) };
        let sequence = message.sequence;
        let place = Raised::parse(sequence, message.payload)?.place();
        self.raised_up_to(sequence);
        Ok(Last { sequence, place: Some(place) })
    }

    async fn message(&self, sequence: u64) -> Result<Raised, AlertFeedError> {
        let message = self.stream.get(sequence).await?;
        let message = message.ok_or_else(|| AlertFeedError(format!("alert {sequence} is missing")))?;
        Raised::parse(sequence, message.payload)
    }
}

/// Looks for what other nodes raised, while the feed is used.
async fn look(feed: std::sync::Weak<JetStreamFeed>) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(feed) = feed.upgrade() else { return };
        if feed.last.receiver_count() == 0 {
            continue;
        }
        match feed.stream.last().await {
            Ok(last) => feed.raised_up_to(last),
            Err(error) => tracing::debug!(%error, "the alert stream cannot be seen"),
        }
    }
}

/// Alerts by organization, each one's in their order.
fn by_organization(alerts: Vec<Alert>) -> BTreeMap<Option<OrgId>, Vec<Alert>> {
    let mut organizations: BTreeMap<_, Vec<Alert>> = BTreeMap::new();
    for alert in alerts {
        organizations.entry(alert.organization.clone()).or_default().push(alert);
    }
    organizations
}

impl AlertFeed for JetStreamFeed {
    fn raise(&self, alerts: Vec<Alert>) -> BoxFuture<'_, Result<usize, AlertFeedError>> {
        Box::pin(async move {
            let raised = tokio::time::timeout(DEADLINE, self.raise_all(alerts)).await;
            raised.unwrap_or_else(|_| Err(AlertFeedError("no answer in time".to_owned())))
        })
    }

    fn last(&self) -> BoxFuture<'_, Result<u64, AlertFeedError>> {
        Box::pin(async move { Ok(self.stream.last().await?) })
    }

    fn after(&self, sequence: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Raised>, AlertFeedError>> {
        Box::pin(async move {
            let most = sequence.saturating_add(u64::try_from(limit).unwrap_or(u64::MAX));
            let last = self.stream.last().await?.min(most);
            let sequences = stream::iter(sequence.saturating_add(1)..=last);
            sequences.map(|sequence| self.message(sequence)).buffered(READ_AHEAD).try_collect().await
        })
    }

    fn wait(&self, sequence: u64) -> BoxFuture<'_, Result<(), AlertFeedError>> {
        let mut last = self.last.subscribe();
        Box::pin(async move {
            let more = last.wait_for(|last| *last > sequence).await;
            more.map(drop).map_err(|_| AlertFeedError("it is closed".to_owned()))
        })
    }

    fn through(&self, partition: PartitionId) -> BoxFuture<'_, Result<Position, AlertFeedError>> {
        Box::pin(async move {
            let slot = self.marks.get(&mark_key(partition)).await?;
            read_mark(slot.value)
        })
    }

    fn mark_through(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> BoxFuture<'_, Result<(), AlertFeedError>> {
        Box::pin(async move {
            let key = mark_key(partition);
            for _ in 0..MARK_ATTEMPTS {
                let slot = self.marks.get(&key).await?;
                if read_mark(slot.value)? >= position {
                    return Ok(());
                }
                let value = Bytes::from(position.to_string());
                match self.marks.put(&key, value, slot.revision, None).await? {
                    Written::Revision(_) => return Ok(()),
                    Written::Conflict => tokio::time::sleep(PAUSE_FIRST).await,
                }
            }
            Err(AlertFeedError("others are marking the same".to_owned()))
        })
    }
}

fn mark_key(partition: PartitionId) -> String {
    format!("through.{partition}")
}

fn read_mark(value: Option<Bytes>) -> Result<Position, AlertFeedError> {
    let Some(value) = value else { return Ok(Position::ZERO) };
    let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
    number.map(Position).ok_or_else(|| AlertFeedError("a mark is no position".to_owned()))
}
