//! The embedded log's database: how fjall is set up, read, and checked after opening.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions};
use tollbook_schemas::position::{PartitionId, Position};

use super::OpenError;
use super::layout::{
    Chain, GENESIS, Row, chain, decode_row, entry_key, position_of_key, read_position, topic_key,
};
use crate::log::{ReadError, Stored, Topic};

/// Journals on disk; all of it is replayed on opening, at some 500 MB/s.
const JOURNAL_BYTES: u64 = 128 * 1024 * 1024;

/// Blocks and blobs read lately. Readers go through the log in order, so more would hardly help them.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// What is in memory before it is written out; up to four of these wait when the disk is slow.
const MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;

/// Values from here on are written once into blob files and never again by compaction.
const BLOB_BYTES: u32 = 512;

/// One flushing while the other compacts; there is nothing for a third.
const WORKERS: usize = 2;

/// Payload bytes of one read from disk: enough to keep a reader busy, little enough to keep others waiting.
const RUN_BYTES: usize = 2 * 1024 * 1024;

/// Opens or creates the database in `path`.
pub(super) fn open_database(path: &Path) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(path)
        .worker_threads(WORKERS)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .open()?;
    let keyspace = database.keyspace("log", || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .with_kv_separation(Some(KvSeparationOptions::default().separation_threshold(BLOB_BYTES)))
    })?;
    Ok((database, keyspace))
}

/// The bytes in journals of the database in `path`: what may be only there, and may be cut when it is opened.
pub(super) fn journal_bytes(path: &Path) -> io::Result<u64> {
    let mut bytes = 0_u64;
    for file in std::fs::read_dir(path)? {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "jnl") {
            bytes = bytes.saturating_add(file.metadata()?.len());
        }
    }
    Ok(bytes)
}

/// The end of one partition.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// The last entry's position.
    pub(super) last: Position,
    /// The chain after it.
    pub(super) chain: Chain,
}

/// A run of entries in order.
#[derive(Debug)]
pub(super) struct Run {
    /// The entries.
    pub(super) entries: Vec<Stored>,
    /// The chain after the last of them.
    pub(super) chain: Chain,
}

/// What fjall answered, as a reason to stop reading at `position`.
fn read_error(partition: PartitionId, position: Position, error: fjall::Error) -> ReadError {
    let io = match &error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io.kind()),
        _ => None,
    };
    match io {
        // A file that ends too early is damage, not an outage.
        Some(kind) if kind != ErrorKind::UnexpectedEof && kind != ErrorKind::InvalidData => {
            ReadError::Unavailable(error.to_string())
        }
        Some(_) | None => corrupt(partition, position, error.to_string()),
    }
}

fn corrupt(partition: PartitionId, position: Position, reason: impl Into<String>) -> ReadError {
    ReadError::Corrupt { partition, position, reason: reason.into() }
}

/// Some entries from the one after `after` on, at most `max`, none past `last`, each checked against the chain.
/// `before` is the chain after `after`; without it, it is read from there.
pub(super) fn read_run(
    keyspace: &Keyspace,
    partition: PartitionId,
    (after, before): (Position, Option<Chain>),
    last: Position,
    max: usize,
) -> Result<Run, ReadError> {
    let mut before = before.or((after == Position::ZERO).then_some(GENESIS));
    let mut expected = if before.is_some() { after.next() } else { after };
    let (mut entries, mut bytes) = (Vec::new(), 0_usize);
    let keys = entry_key(partition, expected)..=entry_key(partition, last);
    for guard in keyspace.range(keys) {
        let (key, value) = guard.into_inner().map_err(|error| read_error(partition, expected, error))?;
        let damaged = |reason: &str| corrupt(partition, expected, reason);
        if position_of_key(&key) != Some(expected) {
            return Err(damaged("the entry is missing"));
        }
        let row = decode_row(&Bytes::from(value)).map_err(|reason| damaged(&reason))?;
        if let Some(before) = before {
            if chain(&before, expected, &row.subject, &row.payload) != row.chain {
                return Err(damaged("the entry is not the one that was stored after those before it"));
            }
            bytes = bytes.saturating_add(row.payload.len());
            entries.push(Stored { position: expected, subject: row.subject, payload: row.payload });
        }
        before = Some(row.chain);
        if entries.len() >= max || bytes >= RUN_BYTES || expected >= last {
            break;
        }
        expected = expected.next();
    }
    match before {
        Some(chain) if !entries.is_empty() => Ok(Run { entries, chain }),
        Some(_) | None => Err(corrupt(partition, expected, "the entry is missing")),
    }
}

/// The position stored under an index key.
pub(super) fn read_index(keyspace: &Keyspace, key: &[u8]) -> Result<Option<Position>, String> {
    match keyspace.get(key) {
        Ok(None) => Ok(None),
        Ok(Some(value)) => match read_position(&value) {
            Some(position) => Ok(Some(position)),
            None => Err("an index value is not a position".to_owned()),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Where the last entry of `topic` stands.
pub(super) fn read_topic(
    keyspace: &Keyspace,
    partition: PartitionId,
    topic: &Topic,
) -> Result<Position, String> {
    let position = read_index(keyspace, &topic_key(partition, &topic.subject(partition)))?;
    Ok(position.unwrap_or(Position::ZERO))
}

/// Finds the end of `partition` and checks its last `bytes` of entries, and the indexes of those: opening replays
/// journals, and of a damaged journal fjall keeps what it can read.
pub(super) fn check_end(keyspace: &Keyspace, partition: PartitionId, bytes: u64) -> Result<End, OpenError> {
    let damaged = |position, reason: String| OpenError::Corrupt { partition, position, reason };
    let mut end = None;
    let mut topics = BTreeSet::new();
    let mut later: Option<(Position, Row)> = None;
    let mut checked = 0_u64;
    let keys = entry_key(partition, Position::ZERO)..=entry_key(partition, Position(u64::MAX));
    for guard in keyspace.range(keys).rev() {
        let place = later.as_ref().map_or(Position::ZERO, |(position, _)| *position);
        let (key, value) = guard.into_inner().map_err(|error| damaged(place, error.to_string()))?;
        let position = position_of_key(&key).ok_or_else(|| damaged(place, "the key is too short".into()))?;
        let row = decode_row(&Bytes::from(value)).map_err(|reason| damaged(position, reason))?;
        check_link(partition, (position, row.chain), later.take())?;
        let by_id =
            read_index(keyspace, &row.id.key(partition)).map_err(|reason| damaged(position, reason))?;
        if by_id != Some(position) {
            return Err(damaged(position, "the index of ids does not know the entry".into()));
        }
        if !topics.contains(&row.subject) {
            let by_topic = read_index(keyspace, &topic_key(partition, &row.subject))
                .map_err(|reason| damaged(position, reason))?;
            if by_topic != Some(position) {
                return Err(damaged(position, "the index of topics does not know the entry".into()));
            }
            topics.insert(row.subject.clone());
        }
        end.get_or_insert(End { last: position, chain: row.chain });
        checked = checked.saturating_add(u64::try_from(row.payload.len()).unwrap_or(u64::MAX));
        if checked > bytes {
            return Ok(end.unwrap_or(End { last: position, chain: row.chain }));
        }
        later = Some((position, row));
    }
    check_link(partition, (Position::ZERO, GENESIS), later)?;
    Ok(end.unwrap_or(End { last: Position::ZERO, chain: GENESIS }))
}

/// Checks that `later` stands right after `(position, before)`.
fn check_link(
    partition: PartitionId,
    (position, before): (Position, Chain),
    later: Option<(Position, Row)>,
) -> Result<(), OpenError> {
    let Some((found, row)) = later else { return Ok(()) };
    let reason = if found != position.next() {
        "the entry is missing"
    } else if chain(&before, found, &row.subject, &row.payload) != row.chain {
        "the entry is not the one that was stored after those before it"
    } else {
        return Ok(());
    };
    Err(OpenError::Corrupt { partition, position: position.next(), reason: reason.to_owned() })
}
