//! The way of one usage record through the ledger: found again in the log, with what became of each occurrence (R8.1,
//! R8.2).
//!
//! ```text
//! id ─ index of first places ─> place ─┐
//! source and id, or count ─ scan ─> places ─> log: what came   view: skipped, quarantined, repetition, reversed
//! ```
//!
//! Reads that block run on threads that may. At most `CHUNK` entries are in memory at once, and one search looks at
//! `SCAN_MAX` of them.

use futures_util::StreamExt;
use tollbook_projections::first::UsageKey;
use tollbook_projections::movement::Movement;
use tollbook_projections::past::{Settled, Settling};
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::Quarantined;
use tollbook_projections::trace::{By, Wanted};
use tollbook_projections::view::View;
use tollbook_schemas::entry::Body;
use tollbook_schemas::event::{Event, QuarantineEvent};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::{Day, Month, Timestamp};
use tollbook_schemas::usage::{BookedUsage, Usage, UsagePlace};

use crate::log::{ReadError, Stored};
use crate::node::Node;
use crate::owner::CommandError;

/// Entries that one search looks at: a few seconds' work.
const SCAN_MAX: u64 = 20_000;
/// Entries decoded at once: at most as many megabytes.
const CHUNK: usize = 16;

/// Why a record's way cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The owner does not answer.
    #[error(transparent)]
    Owner(#[from] CommandError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A view or an index cannot be read.
    #[error("{0}")]
    Read(String),
}

/// Where a record was found.
#[derive(Clone, Debug)]
pub struct Occurrence {
    /// Where.
    pub place: UsagePlace,
    /// What came.
    pub usage: Usage,
    /// When its entry was written.
    pub recorded_at: Timestamp,
}

/// What became of an occurrence.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It was booked.
    Booked(Charged),
    /// It came before and changed nothing; where it came first, if that is known.
    Duplicate(Option<UsagePlace>),
    /// It went to quarantine; how it was charged, if it was released.
    Quarantined {
        /// With the reason.
        record: Box<Quarantined>,
        /// What became of it.
        settled: Option<Settled>,
        /// What was booked of it.
        released: Option<Box<(Usage, Charged)>>,
    },
    /// Its entry was skipped as a whole.
    Skipped(String),
}

/// How a record was charged.
#[derive(Clone, Debug)]
pub struct Charged {
    /// To what, and how much.
    pub booked: BookedUsage,
    /// When.
    pub at: Timestamp,
    /// The month whose statement has it.
    pub month: Month,
}

impl Fate {
    /// How it was charged, whichever way it was booked.
    pub fn charged(&self) -> Option<&Charged> {
        match self {
            Self::Booked(charged) => Some(charged),
            Self::Quarantined { released, .. } => released.as_deref().map(|(_, charged)| charged),
            Self::Duplicate(_) | Self::Skipped(_) => None,
        }
    }
}

/// What a search looked at.
#[derive(Clone, Copy, Debug)]
pub struct Searched {
    /// It began after this entry.
    pub after: Position,
    /// It ended with this one.
    pub through: Position,
    /// Whether that is everything it was asked to look at.
    pub complete: bool,
}

/// Traces records of one organization.
#[derive(Debug)]
pub struct Tracer<'a> {
    node: &'a Node,
    organization: &'a OrgId,
    partition: PartitionId,
    view: View,
}

impl<'a> Tracer<'a> {
    /// For one organization's records.
    pub fn new(node: &'a Node, organization: &'a OrgId) -> Result<Self, TraceError> {
        let partition = node.partition_of(organization);
        let view = node.view(partition).cloned();
        let view = view.ok_or_else(|| TraceError::Read("this node has no view of the partition".into()))?;
        Ok(Self { node, organization, partition, view })
    }

    /// The partition of the organization.
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Where an id came first, of records that go by id.
    pub async fn first(&self, wanted: &Wanted) -> Result<Option<UsagePlace>, TraceError> {
        let By::Id(id) = &wanted.by else { return Ok(None) };
        let Some(ids) = self.node.ids(self.partition).cloned() else { return Ok(None) };
        let key = UsageKey::of(&wanted.organization, &wanted.source, id);
        let found = blocking(move || ids.find(key)).await?;
        let applied = self.node.owner(self.partition)?.applied();
        Ok(found.map(|first| first.place).filter(|place| place.position <= applied))
    }

    /// What stands at a place, if that is a usage record of this organization.
    pub async fn at(&self, place: UsagePlace) -> Result<Option<Occurrence>, TraceError> {
        if place.position > self.node.owner(self.partition)?.applied() {
            return Ok(None);
        }
        let Some(stored) = self.node.log().get(self.partition, place.position).await? else {
            return Ok(None);
        };
        let record = self.read(&stored);
        let Content::Entry(_, entry) = record.content else { return Ok(None) };
        let Body::Usage(batch) = entry.body else { return Ok(None) };
        let row = usize::try_from(place.row).unwrap_or(usize::MAX);
        let usage = batch.unpack().nth(row).filter(|usage| usage.organization == *self.organization);
        Ok(usage.map(|usage| Occurrence { place, usage, recorded_at: entry.recorded_at }))
    }

    /// Between which entries everything stands that was booked on these days.
    pub async fn days(&self, from: Day, to: Day) -> Result<(Position, Option<Position>), TraceError> {
        let owner = self.node.owner(self.partition)?;
        let id = self.organization.clone();
        let closed = owner.read(move |state| state.organization(&id).map(|known| known.history_at)).await?;
        owner.wait_viewed(closed.unwrap_or_default()).await?;
        let (view, id) = (self.view.clone(), self.organization.clone());
        blocking(move || view.positions_of(&id, from..to.next())).await
    }

    /// Looks for a record after an entry and before another, at most `SCAN_MAX` entries.
    pub async fn search(
        &self,
        wanted: &Wanted,
        after: Position,
        before: Option<Position>,
    ) -> Result<(Vec<Occurrence>, Searched), TraceError> {
        let applied = self.node.owner(self.partition)?.applied();
        let last = before.map_or(applied, |before| Position(before.0.saturating_sub(1)).min(applied));
        let through = last.min(Position(after.0.saturating_add(SCAN_MAX))).max(after);
        let mut found = Vec::new();
        if through > after {
            let entries = usize::try_from(through.0.saturating_sub(after.0)).unwrap_or(usize::MAX);
            let mut chunks = self.node.log().tail(self.partition, after).take(entries).chunks(CHUNK);
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.into_iter().collect::<Result<Vec<Stored>, ReadError>>()?;
                let (ledger, partition, wanted) =
                    (self.node.ledger().id.clone(), self.partition, wanted.clone());
                let decode = move || {
                    let mut found = Vec::new();
                    for stored in chunk {
                        let Stored { position, subject, payload } = &stored;
                        let record = Record::read(&ledger, partition, *position, subject, payload);
                        let Content::Entry(_, entry) = &record.content else { continue };
                        let recorded_at = entry.recorded_at;
                        let places = wanted.find(&record).into_iter();
                        found.extend(places.map(|(place, usage)| Occurrence { place, usage, recorded_at }));
                    }
                    Ok::<_, std::convert::Infallible>(found)
                };
                found.extend(blocking(decode).await?);
            }
        }
        Ok((found, Searched { after, through, complete: through >= last }))
    }

    /// Looks for a record among the latest entries.
    pub async fn search_latest(&self, wanted: &Wanted) -> Result<(Vec<Occurrence>, Searched), TraceError> {
        let applied = self.node.owner(self.partition)?.applied();
        self.search(wanted, Position(applied.0.saturating_sub(SCAN_MAX)), None).await
    }

    /// What became of an occurrence. `first`: where it came first, as far as the caller knows.
    pub async fn fate(&self, occurrence: &Occurrence, first: Option<UsagePlace>) -> Result<Fate, TraceError> {
        let place = occurrence.place;
        // Rows reach the view a little after they are applied.
        self.node.owner(self.partition)?.wait_viewed(place.position).await?;
        let view = self.view.clone();
        let known = blocking(move || {
            Ok::<_, tollbook_projections::view::ViewError>((
                view.skipped(place.position)?,
                view.is_repetition(place)?,
                view.quarantined(place)?,
            ))
        });
        match known.await? {
            (Some(why), _, _) => Ok(Fate::Skipped(why)),
            (None, true, _) => Ok(Fate::Duplicate(first.filter(|first| *first != place))),
            (None, false, Some((record, viewed))) => {
                let settled = match viewed {
                    Some(settled) => Some(settled),
                    None => self.settled(place).await?,
                };
                let released = match &settled {
                    Some(Settled { position, at, how: Settling::Released }) => {
                        self.released(place, *position, *at).await?.map(Box::new)
                    }
                    Some(Settled { how: Settling::Dismissed(_), .. }) | None => None,
                };
                Ok(Fate::Quarantined { record: Box::new(record), settled, released })
            }
            (None, false, None) => {
                let at = occurrence.recorded_at;
                let charged = self.charged(occurrence.usage.clone(), place, at).await?;
                Ok(charged.map_or_else(|| Fate::Skipped("it is not booked".into()), Fate::Booked))
            }
        }
    }

    /// The reversal of a record, if it was reversed.
    pub async fn reversal(&self, place: UsagePlace) -> Result<Option<Movement>, TraceError> {
        let owner = self.node.owner(self.partition)?;
        let id = self.organization.clone();
        let last = owner.read(move |state| state.organization(&id).map(|known| known.last_decision)).await?;
        owner.wait_viewed(last.unwrap_or_default()).await?;
        let (view, id) = (self.view.clone(), self.organization.clone());
        blocking(move || view.reversal(&id, place)).await
    }

    /// What State knows of a record's release that the view does not know yet.
    async fn settled(&self, place: UsagePlace) -> Result<Option<Settled>, TraceError> {
        let id = self.organization.clone();
        let read = self.node.owner(self.partition)?.read(move |state| {
            state.organization(&id).and_then(|known| known.recent.settled(place).cloned())
        });
        Ok(read.await?)
    }

    /// What an entry released from a place in quarantine, and how it was charged.
    pub async fn released(
        &self,
        place: UsagePlace,
        position: Position,
        at: Timestamp,
    ) -> Result<Option<(Usage, Charged)>, TraceError> {
        let events = self.node.events_at(LogPosition { partition: self.partition, position }).await?;
        for event in events {
            if let Event::Quarantine(QuarantineEvent::Released { place: from, usage, .. }) = event
                && from == place
            {
                let booked_by = UsagePlace { position, row: 0 };
                let charged = self.charged((*usage).clone(), booked_by, at).await?;
                return Ok(charged.map(|charged| (*usage, charged)));
            }
        }
        Ok(None)
    }

    /// How a record was charged that the entry at `booked_by` booked.
    async fn charged(
        &self,
        usage: Usage,
        booked_by: UsagePlace,
        at: Timestamp,
    ) -> Result<Option<Charged>, TraceError> {
        let owner = self.node.owner(self.partition)?;
        let id = self.organization.clone();
        let read = move |state: &tollbook_projections::state::State| {
            let known = state.organization(&id)?;
            let booked = state.as_booked(known, &usage, booked_by)?;
            Some((booked, known.calendar.day(at), known.open.booked_on, known.history_at))
        };
        let Some((booked, day, open, history_at)) = owner.read(read).await? else { return Ok(None) };
        owner.wait_viewed(history_at).await?;
        let (view, id) = (self.view.clone(), self.organization.clone());
        // Recorded times never go back, so it was booked on the entry's own day or later.
        let closed = blocking(move || view.booked_on(&id, booked_by.position, day.earlier_by(1))).await?;
        Ok(Some(Charged { booked, at, month: closed.unwrap_or(open).month() }))
    }

    fn read(&self, stored: &Stored) -> Record {
        let Stored { position, subject, payload } = stored;
        Record::read(&self.node.ledger().id, self.partition, *position, subject, payload)
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    read: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, TraceError> {
    let read =
        tokio::task::spawn_blocking(read).await.map_err(|error| TraceError::Read(error.to_string()))?;
    read.map_err(|error| TraceError::Read(error.to_string()))
}
