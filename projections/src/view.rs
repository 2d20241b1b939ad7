//! State kept in sled: disposable, rebuilt from the log at will. The only file that names sled.
//!
//! One tree per partition, so that rows and the position they belong to change in one atomic batch:
//!
//! ```text
//! s                                  what is not of one organization: head, writers, configuration
//! o <organization>                   an organization
//! h <organization> 0 <day> <position>                cells of a day that is over, by when they were booked
//! m <organization> 0 <month> <position> <number>     a movement
//! k <organization> 0 <key> 0 <month> <position> <number>   where to find it
//! i <organization> 0 <idempotency key>               what a request led to
//! n <organization> 0 <month>         what a month came to
//! z <organization> 0 <month>         the seal of its statement
//! q <position> <row>                 a quarantined record
//! u <organization> 0 <position> <row>                that it is of an organization
//! w <position> <row>                 what became of it
//! d <position>                       rows of a usage entry that came before
//! a <organization> 0 <position>      a decision about an organization
//! a 0 <position>                     a decision about the configuration
//! f <position>                       a message that was skipped, with the reason
//! l <organization> 0 <position> <kind> 0 <number>    an alert; without an organization: the platform's own
//! x <position> <organization> 0 <kind> 0 <number>    an alert that may still have to leave
//! b <organization> 0 <project> 0 <day> <position> <period>   a breach of a budget that is over, by its period's first day
//! ```

mod alerts;
mod books;
mod key;
mod load;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tollbook_schemas::codec::{self, DecodeError, EncodeError};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::usage::UsagePlace;

pub use self::alerts::{AlertCursor, BreachCursor};
use crate::past::Settled;
use crate::state::{AuditRow, Effect, Quarantined, State};

/// Counts up when rows change their meaning: an older view is not read but rebuilt.
const FORMAT: u32 = 6;
/// Memory that sled may cache with, in bytes: rows are written more than read.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// The row of what is not of one organization.
const COMMON: &[u8] = b"s";

/// Why a view cannot be used. Whatever it is, deleting the directory and starting again rebuilds it.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// sled failed.
    #[error("the view in {path} cannot be used: {source}")]
    Store {
        /// Its directory.
        path: PathBuf,
        /// What sled said.
        source: sled::Error,
    },
    /// sled gave up on what it found.
    #[error("the view in {0} is damaged")]
    Damaged(PathBuf),
    /// A row is not readable.
    #[error("a row of the view is not readable: {0}")]
    Row(#[from] DecodeError),
    /// A row is not writable.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A thread could not be started.
    #[error("no thread to read the view on: {0}")]
    Thread(std::io::Error),
}

/// The views of all partitions of one process.
#[derive(Clone, Debug)]
pub struct Views {
    db: sled::Db,
    path: Arc<Path>,
}

impl Views {
    /// Opens or makes the views in a directory. A damaged one is an error; see [`Views::open_or_reset`].
    pub fn open(path: &Path) -> Result<Self, ViewError> {
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        // sled 0.34 panics on some damage that it finds while opening.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()))
            .map_err(|_| ViewError::Damaged(path.into()))?;
        let db = opened.map_err(|source| ViewError::Store { path: path.into(), source })?;
        Ok(Self { db, path: path.into() })
    }

    /// Opens the views, or throws away what cannot be opened: the log can rebuild them.
    pub fn open_or_reset(path: &Path) -> Result<Self, ViewError> {
        Self::open(path).or_else(|error| {
            let locked = matches!(&error, ViewError::Store { source: sled::Error::Io(io), .. } if io.kind() == std::io::ErrorKind::WouldBlock || io.to_string().contains("lock"));
            if locked {
                return Err(error);
            }
            tracing::warn!(%error, "throwing the view away; it is rebuilt from the log");
            std::fs::remove_dir_all(path)
                .map_err(|source| ViewError::Store { path: path.into(), source: sled::Error::Io(source) })?;
            Self::open(path)
        })
    }

    /// The partitions that have one.
    pub fn partitions(&self) -> Vec<PartitionId> {
        let prefix = format!("v{FORMAT}-p");
        let names = self.db.tree_names();
        let numbers = names
            .iter()
            .filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix(&prefix)?.parse().ok());
        numbers.map(PartitionId).collect()
    }

    /// The view of one partition.
    pub fn partition(&self, partition: PartitionId) -> Result<View, ViewError> {
        let name = format!("v{FORMAT}-p{partition}");
        let tree = self.db.open_tree(name).map_err(|source| self.failed(source))?;
        Ok(View { tree, views: self.clone(), partition })
    }

    /// Forgets everything of one partition.
    pub fn reset(&self, partition: PartitionId) -> Result<(), ViewError> {
        let name = format!("v{FORMAT}-p{partition}");
        self.db.drop_tree(name).map(|_| ()).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: sled::Error) -> ViewError {
        ViewError::Store { path: self.path.to_path_buf(), source }
    }
}

/// Rows that belong to one position, to be written together.
#[derive(Debug, Default)]
pub struct Rows(Vec<(Vec<u8>, Vec<u8>)>);

impl Rows {
    /// Everything that changed in State, and every effect that leaves a row, since the last call.
    pub fn collect(state: &mut State, effects: &[Effect]) -> Result<Self, EncodeError> {
        let mut rows = Vec::with_capacity(effects.len().saturating_add(state.changed()).saturating_add(1));
        for effect in effects {
            match effect {
                Effect::Quarantined(record) => {
                    rows.push((key::quarantined(record.place), codec::encode_row(record)?));
                    if let Some(organization) = record.organization() {
                        rows.push((key::quarantined_of(organization, record.place), Vec::new()));
                    }
                }
                Effect::CellsClosed { organization, cells, position } => {
                    let key = key::history(organization, cells.booked_on, *position);
                    rows.push((key, codec::encode_row(cells)?));
                }
                Effect::Moved { organization, movement } => {
                    rows.push((key::movement(organization, movement), codec::encode_row(movement)?));
                    for found_by in movement.keys() {
                        rows.push((key::movement_by(organization, &found_by, movement), Vec::new()));
                    }
                }
                Effect::MonthEnded { organization, ended } => {
                    rows.push((key::month(b"n", organization, ended.month), codec::encode_row(ended)?));
                }
                Effect::Sealed { organization, seal } => {
                    rows.push((key::month(b"z", organization, seal.month), codec::encode_row(seal)?));
                }
                Effect::Remembered { organization, idempotency, position } => {
                    let key = key::idempotency(organization, &idempotency.key);
                    rows.push((key, codec::encode_row(&(idempotency.content, *position))?));
                }
                Effect::Repeated { position, rows: repeated } => {
                    rows.push((key::repeated(*position), codec::encode_row(repeated)?));
                }
                Effect::Settled { place, settled } => {
                    rows.push((key::settled(*place), codec::encode_row(settled)?));
                }
                // Cells and months sum them up.
                Effect::Charged { .. } => {}
                Effect::Alert(alert) => {
                    let bytes = codec::encode_row(alert)?;
                    rows.push((key::alert(alert), bytes.clone()));
                    rows.push((key::outgoing(alert), bytes));
                }
                Effect::BreachEnded { organization, project, ended } => {
                    rows.push((key::breach(organization, project, &ended.breach), codec::encode_row(ended)?));
                }
                Effect::Decided { organization, row } => {
                    let key = key::audit(organization.as_ref(), row.position);
                    rows.push((key, codec::encode_row(row)?));
                }
                Effect::Foreign { position, reason } => {
                    rows.push((key::skipped(*position), codec::encode_row(reason)?))
                }
                Effect::Copy { position } => {
                    rows.push((
                        key::skipped(*position),
                        codec::encode_row(&"a copy of an entry applied before")?,
                    ));
                }
                Effect::Voided { position, term } => {
                    let reason = format!("a decision of term {term}, which was over");
                    rows.push((key::skipped(*position), codec::encode_row(&reason)?));
                }
            }
        }
        for (id, bytes) in state.take_changed()? {
            rows.push((key::organization(&id), bytes));
        }
        rows.push((COMMON.to_vec(), state.common_bytes()?));
        Ok(Self(rows))
    }
}

/// The view of one partition.
#[derive(Clone, Debug)]
pub struct View {
    tree: sled::Tree,
    views: Views,
    partition: PartitionId,
}

impl View {
    /// The partition it is of.
    pub const fn number(&self) -> PartitionId {
        self.partition
    }

    /// Writes rows in one batch, and waits until they are out of this process.
    pub fn write(&self, rows: Rows) -> Result<(), ViewError> {
        let mut batch = sled::Batch::default();
        for (key, value) in rows.0 {
            batch.insert(key, value);
        }
        self.tree.apply_batch(batch).map_err(|source| self.views.failed(source))?;
        self.tree.flush().map_err(|source| self.views.failed(source))?;
        Ok(())
    }

    /// Decisions about an organization, or about the configuration, after a position, in the order of the log, at most
    /// `limit`.
    pub fn audit(
        &self,
        organization: Option<&OrgId>,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<AuditRow>, ViewError> {
        let mut from = match after {
            Some(position) => key::audit(organization, position),
            None => key::audit_prefix(organization, 0),
        };
        if after.is_some() {
            from.push(0);
        }
        self.tree
            .range(from..key::audit_prefix(organization, 1))
            .take(limit)
            .map(|row| Ok(codec::decode_row(&row.map_err(|source| self.views.failed(source))?.1)?))
            .collect()
    }

    /// Quarantined records after a place, in the order of the log, at most `limit`, with what became of each.
    pub fn quarantine(
        &self,
        after: Option<UsagePlace>,
        limit: usize,
    ) -> Result<Vec<(Quarantined, Option<Settled>)>, ViewError> {
        let from = after.map_or_else(
            || b"q".to_vec(),
            |place| {
                let mut key = key::quarantined(place);
                key.push(0);
                key
            },
        );
        self.tree
            .range(from..b"r".to_vec())
            .take(limit)
            .map(|row| {
                let record: Quarantined =
                    codec::decode_row(&row.map_err(|source| self.views.failed(source))?.1)?;
                let settled = self.row(&key::settled(record.place))?;
                Ok((record, settled))
            })
            .collect()
    }

    /// Removes rows in one batch, without waiting until that is out of this process.
    fn remove(&self, keys: impl IntoIterator<Item = Vec<u8>>) -> Result<(), ViewError> {
        let mut batch = sled::Batch::default();
        for key in keys {
            batch.remove(key);
        }
        self.tree.apply_batch(batch).map_err(|source| self.views.failed(source))
    }

    fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, ViewError> {
        let row = self.tree.get(key).map_err(|source| self.views.failed(source))?;
        row.map(|bytes| codec::decode_row(&bytes)).transpose().map_err(ViewError::from)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tollbook_schemas::entry::{Actor, Body, Cause, Decision, Entry};
    use tollbook_schemas::event::{ConfigEvent, Event, OrganizationEvent, ProjectEvent};
    use tollbook_schemas::id::{DisplayName, LedgerId, MemberId, ProjectId};
    use tollbook_schemas::policy::LagModel;
    use tollbook_schemas::position::{EntryId, WriterId};
    use tollbook_schemas::sealed::Sealed;
    use tollbook_schemas::time::{Timestamp, Zone};
    use tollbook_schemas::topic::Topic;
    use tollbook_schemas::usage::{Ingress, Unreadable};

    use super::*;
    use crate::record::Record;

    const PARTITION: PartitionId = PartitionId(0);

    /// Applies one entry.
    fn apply(state: &mut State, topic: &Topic, body: Body) -> Vec<Effect> {
        let position = state.head().position.next();
        let ledger = LedgerId::from_bits(1);
        let id =
            EntryId { ledger: ledger.clone(), partition: PARTITION, writer: WriterId(1), count: position.0 };
        let payload = codec::encode_entry(&Entry { id, recorded_at: Timestamp::EPOCH, body }).unwrap();
        let record = Record::read(&ledger, PARTITION, position, &topic.subject(PARTITION), &payload);
        state.apply(&record, &[]).unwrap()
    }

    fn decision(event: Event) -> Body {
        let cause = Cause::Command { idempotency: None };
        Body::Decision(Decision { term: 0, actor: Actor::Engine, cause, events: vec![event] })
    }

    fn registered(state: &mut State, organization: u128) -> Vec<Effect> {
        let sealed = || Sealed { key: 0, ciphertext: Bytes::from_static(b"x") };
        let event = Event::Organization(OrganizationEvent::Registered {
            name: DisplayName::parse("o").unwrap(),
            email: sealed(),
            creator: MemberId::from_bits(1),
            creator_name: sealed(),
            creator_email: sealed(),
            zone: Zone::utc(),
        });
        apply(state, &Topic::Organization(OrgId::from_bits(organization)), decision(event))
    }

    fn ledger_created(state: &mut State) -> Vec<Effect> {
        let ledger = LedgerId::from_bits(1);
        let event =
            Event::Config(ConfigEvent::LedgerCreated { ledger, currency: "USD".into(), partitions: 1 });
        apply(state, &Topic::Config, decision(event))
    }

    fn project_created(state: &mut State, organization: &OrgId) -> Vec<Effect> {
        let project = ProjectId::from_bits(state.head().position.0.into());
        let event = Event::Project(ProjectEvent::Created { project, name: DisplayName::parse("n").unwrap() });
        apply(state, &Topic::Organization(organization.clone()), decision(event))
    }

    fn cycle_set(state: &mut State, seconds: u64) -> Vec<Effect> {
        let cycle_seconds = u32::try_from(seconds).unwrap();
        let event = Event::Config(ConfigEvent::LagModelSet(LagModel { cycle_seconds, delay_seconds: 0 }));
        apply(state, &Topic::Config, decision(event))
    }

    fn unreadable(state: &mut State) -> Vec<Effect> {
        let bytes = Unreadable {
            organization: None,
            reason: "not JSON".into(),
            ingress: Ingress::Http,
            bytes: Bytes::from_static(b"{"),
        };
        apply(state, &Topic::UsageMixed, Body::Unreadable(vec![bytes; 3]))
    }

    #[test]
    fn state_comes_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = State::empty(PARTITION);
        {
            let view = Views::open(directory.path()).unwrap().partition(PARTITION).unwrap();
            assert!(view.load().unwrap().is_none(), "never written");
            let mut effects = ledger_created(&mut state);
            // Later registered, and earlier in order of id.
            effects.extend(registered(&mut state, 2));
            view.write(Rows::collect(&mut state, &effects).unwrap()).unwrap();
            let effects = registered(&mut state, 1);
            view.write(Rows::collect(&mut state, &effects).unwrap()).unwrap();
        }
        let views = Views::open(directory.path()).unwrap();
        let loaded = views.partition(PARTITION).unwrap().load().unwrap().unwrap();
        assert_eq!(loaded.digest().unwrap(), state.digest().unwrap());
        assert!(loaded.organizations().eq(state.organizations()));
        assert_eq!(loaded.head(), state.head());
        views.reset(PARTITION).unwrap();
        assert!(views.partition(PARTITION).unwrap().load().unwrap().is_none());
    }

    /// Every row of the audit logs, page by page.
    fn audited(view: &View, of: Option<&OrgId>, limit: usize) -> Vec<AuditRow> {
        let mut rows: Vec<AuditRow> = Vec::new();
        loop {
            let page = view.audit(of, rows.last().map(|row| row.position), limit).unwrap();
            let last = page.len() < limit;
            rows.extend(page);
            if last {
                return rows;
            }
        }
    }

    #[test]
    fn decisions_are_listed_by_organization_in_the_order_of_the_log_and_again_after_a_rebuild() {
        let directory = tempfile::tempdir().unwrap();
        let views = Views::open(directory.path()).unwrap();
        let (one, other) = (OrgId::from_bits(1), OrgId::from_bits(2));
        // Written at once, and after every entry, as different processes do.
        let mut runs = Vec::new();
        for each in [false, true] {
            views.reset(PARTITION).unwrap();
            let view = views.partition(PARTITION).unwrap();
            let mut state = State::empty(PARTITION);
            let mut waiting = ledger_created(&mut state);
            for number in 0..300_u64 {
                let of = if number % 3 == 0 { &other } else { &one };
                waiting.extend(match number {
                    0 => registered(&mut state, 2),
                    1 => registered(&mut state, 1),
                    _ if number % 5 == 0 => unreadable(&mut state),
                    _ if number % 7 == 0 => cycle_set(&mut state, number),
                    _ => project_created(&mut state, of),
                });
                if each {
                    view.write(Rows::collect(&mut state, &std::mem::take(&mut waiting)).unwrap()).unwrap();
                }
            }
            view.write(Rows::collect(&mut state, &waiting).unwrap()).unwrap();
            runs.push([Some(&one), Some(&other), None].map(|of| audited(&view, of, 7)));
            assert_eq!(audited(&view, Some(&one), 1), audited(&view, Some(&one), 1_000));
            assert_eq!(view.audit(Some(&OrgId::from_bits(3)), None, 10).unwrap(), []);
            assert_eq!(view.audit(Some(&one), Some(Position(u64::MAX)), 10).unwrap(), []);
            assert_eq!(view.audit(Some(&one), None, 0).unwrap(), []);
        }
        assert_eq!(runs[0], runs[1]);
        let [of_one, of_other, of_all] = &runs[0];
        for rows in &runs[0] {
            assert!(rows.windows(2).all(|pair| pair[0].position < pair[1].position));
        }
        assert!(matches!(of_all[0].events[..], [Event::Config(ConfigEvent::LedgerCreated { .. })]));
        assert!(matches!(of_one[0].events[..], [Event::Organization(OrganizationEvent::Registered { .. })]));
        assert_eq!(of_other[0].position, Position(2));
        // Usage is nobody's decision.
        let used = (2..300).filter(|number| number % 5 == 0).count();
        assert_eq!(of_one.len() + of_other.len() + of_all.len(), 301 - used);
    }

    #[test]
    fn r8_1_quarantine_is_listed_in_the_order_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let view = Views::open(directory.path()).unwrap().partition(PARTITION).unwrap();
        let mut state = State::empty(PARTITION);
        let mut effects = ledger_created(&mut state);
        for _ in 0..300 {
            effects.extend(unreadable(&mut state));
        }
        view.write(Rows::collect(&mut state, &effects).unwrap()).unwrap();
        let mut places = Vec::new();
        loop {
            let page = view.quarantine(places.last().copied(), 7).unwrap();
            places.extend(page.iter().map(|(record, _)| record.place));
            if page.len() < 7 {
                break;
            }
        }
        assert_eq!(places.len(), 900);
        assert!(places.is_sorted() && places.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
