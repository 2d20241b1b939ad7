//! First places of usage ids on disk, with fjall: an index that grows with usage and is read for every id.
//!
//! sled's 80 to 95 thousand keys a second would cap ingest; an LSM tree takes writes in order of arrival and answers
//! most look-ups of new ids from its filters.

use std::collections::HashMap;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::usage::UsagePlace;

use crate::first::{First, FirstPlaces, UsageKey};

/// Memory for cached blocks, in bytes.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// Memory for ids not yet written to a table, in bytes, per partition.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// The row that says how far the index goes; keys of ids have 16 bytes.
const THROUGH: &[u8] = b"through";

/// Why the index cannot be used. Whatever it is, deleting its directory and the views rebuilds both.
#[derive(Debug, thiserror::Error)]
pub enum IdsError {
    /// fjall failed.
    #[error("{0}")]
    Store(#[from] fjall::Error),
    /// fjall gave up on what it found.
    #[error("its files are damaged")]
    Damaged,
    /// A row is not what was written.
    #[error("a row has {0} bytes")]
    Row(usize),
}

/// The indexes of all partitions of one process.
#[derive(Clone)]
pub struct Ids(Database);

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ids")
    }
}

impl Ids {
    /// Opens or makes the indexes in a directory.
    pub fn open(path: &Path) -> Result<Self, IdsError> {
        // fjall 3.1 panics on some damage that it finds in its journal.
        let open = || Database::builder(path).cache_size(CACHE_BYTES).worker_threads(1).open();
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(open));
        Ok(Self(opened.map_err(|_| IdsError::Damaged)??))
    }

    /// The index of one partition.
    pub fn partition(&self, partition: PartitionId) -> Result<IdIndex, IdsError> {
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = self.0.keyspace(&format!("first-p{partition}"), options)?;
        let through = match keyspace.get(THROUGH)? {
            Some(bytes) => {
                let chunk = bytes.first_chunk().ok_or(IdsError::Row(bytes.len()))?;
                Position(u64::from_be_bytes(*chunk))
            }
            None => Position::ZERO,
        };
        Ok(IdIndex { db: self.0.clone(), keyspace, fresh: HashMap::new(), through })
    }
}

/// First places of one partition. Used by one thread.
pub struct IdIndex {
    db: Database,
    keyspace: Keyspace,
    /// Noted since the last [`IdIndex::keep`].
    fresh: HashMap<UsageKey, First>,
    through: Position,
}

impl std::fmt::Debug for IdIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdIndex through {}", self.through)
    }
}

impl IdIndex {
    /// How far the index goes. It may be ahead of State, and must not be behind it.
    pub const fn through(&self) -> Position {
        self.through
    }

    /// Hands everything noted up to `through` to the operating system, in one batch. It need not reach the disk before
    /// the views: after a power failure the index may be behind them, which is seen at the start, and both are rebuilt.
    pub fn keep(&mut self, through: Position) -> Result<(), IdsError> {
        if through <= self.through {
            return Ok(());
        }
        let mut batch = self.db.batch();
        for (key, first) in
            std::mem::take(&mut self.fresh).into_iter().collect::<std::collections::BTreeMap<_, _>>()
        {
            batch.insert(&self.keyspace, key.0.as_slice(), value(first).as_slice());
        }
        batch.insert(&self.keyspace, THROUGH, through.0.to_be_bytes().as_slice());
        batch.commit()?;
        self.through = through;
        Ok(())
    }

    /// For looking up beside the thread that fills it.
    pub fn reader(&self) -> IdReader {
        IdReader(self.keyspace.clone())
    }

    /// Forgets everything.
    pub fn clear(&mut self) -> Result<(), IdsError> {
        self.keyspace.clear()?;
        self.fresh.clear();
        self.through = Position::ZERO;
        Ok(())
    }
}

/// Looks first places of one partition up, from any thread. Cheap to clone.
#[derive(Clone)]
pub struct IdReader(Keyspace);

impl std::fmt::Debug for IdReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdReader")
    }
}

impl IdReader {
    /// Where an id came first, as far as [`IdIndex::keep`] was called: that is before State applies it. Blocks.
    pub fn find(&self, key: UsageKey) -> Result<Option<First>, IdsError> {
        self.0.get(key.0)?.map(|bytes| parse(&bytes)).transpose()
    }
}

impl FirstPlaces for IdIndex {
    type Error = IdsError;

    fn note(&mut self, key: UsageKey, here: First) -> Result<First, IdsError> {
        if let Some(first) = self.fresh.get(&key) {
            return Ok(*first);
        }
        if let Some(bytes) = self.keyspace.get(key.0)? {
            return parse(&bytes);
        }
        self.fresh.insert(key, here);
        Ok(here)
    }
}

fn value(first: First) -> Vec<u8> {
    [first.place.position.0.to_be_bytes().as_slice(), &first.place.row.to_be_bytes(), &first.content].concat()
}

fn parse(bytes: &[u8]) -> Result<First, IdsError> {
    let short = || IdsError::Row(bytes.len());
    let (position, rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (row, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let content = rest.first_chunk().filter(|_| rest.len() == 16).ok_or_else(short)?;
    Ok(First {
        place: UsagePlace {
            position: Position(u64::from_be_bytes(*position)),
            row: u32::from_be_bytes(*row),
        },
        content: *content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(position: u64) -> First {
        First { place: UsagePlace { position: Position(position), row: 7 }, content: [3; 16] }
    }

    #[test]
    fn r8_2_first_places_outlive_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let key = UsageKey([1; 16]);
        {
            let ids = Ids::open(directory.path()).unwrap();
            let mut index = ids.partition(PartitionId(0)).unwrap();
            assert_eq!(index.through(), Position::ZERO);
            assert_eq!(index.note(key, first(5)).unwrap(), first(5));
            assert_eq!(index.note(key, first(6)).unwrap(), first(5), "before it is kept");
            let reader = index.reader();
            assert_eq!(reader.find(key).unwrap(), None);
            index.keep(Position(6)).unwrap();
            assert_eq!(reader.find(key).unwrap(), Some(first(5)), "also for who only reads");
            assert_eq!(index.note(key, first(7)).unwrap(), first(5), "and after");
            // Another partition knows nothing of it.
            let mut other = ids.partition(PartitionId(1)).unwrap();
            assert_eq!(other.note(key, first(8)).unwrap(), first(8));
        }
        let ids = Ids::open(directory.path()).unwrap();
        let mut index = ids.partition(PartitionId(0)).unwrap();
        assert_eq!(index.through(), Position(6));
        assert_eq!(index.note(key, first(9)).unwrap(), first(5));
        index.keep(Position(3)).unwrap();
        assert_eq!(index.through(), Position(6), "never back");
        index.clear().unwrap();
        assert_eq!(index.through(), Position::ZERO);
        assert_eq!(index.note(key, first(9)).unwrap(), first(9));
    }
}
