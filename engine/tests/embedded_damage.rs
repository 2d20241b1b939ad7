//! What the embedded log does with a directory that crashed, was damaged, or is not its own.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking"
)]

#[expect(dead_code, reason = "its suites run in `log_contract`")]
mod contract;

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use proptest::prelude::*;
use tempfile::TempDir;
use tollbook_engine::log::embedded::{Embedded, GENESIS, OpenError, chain};
use tollbook_engine::log::{Append, AppendError, EventLog, ReadError, Stored, Topic};
use tollbook_schemas::position::{PartitionId, Position};

use contract::{P0, entry, fill, id, in_time, org, put, read_all, take};

/// A log that was filled and not closed: its directory as a crash would have left it.
struct Crashed {
    dir: TempDir,
    written: Vec<Stored>,
}

/// Fills a log and copies its directory while it is open.
async fn crashed(entries: u64) -> Crashed {
    let original = tempfile::tempdir().unwrap();
    let log: Arc<dyn EventLog> = Arc::new(Embedded::open(original.path(), 1).unwrap());
    let written = fill(&log, P0, 1, entries).await;
    let dir = tempfile::tempdir().unwrap();
    copy(original.path(), dir.path());
    Crashed { dir, written }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let target = to.join(found.file_name());
        if found.file_type().unwrap().is_dir() {
            copy(&found.path(), &target);
        } else if found.path().extension().is_some_and(|extension| extension == "jnl") {
            fs::write(target, content(&found.path())).unwrap();
        } else {
            fs::copy(found.path(), target).unwrap();
        }
    }
}

/// A journal without the zeros that fjall reserves space with.
fn content(journal: &Path) -> Vec<u8> {
    let mut bytes = fs::read(journal).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(used);
    bytes
}

/// All files below `dir` with this extension or, without one, with any; the newest journal last.
fn files(dir: &Path, extension: Option<&str>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if extension.is_none() || path.extension().and_then(|e| e.to_str()) == extension {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn flip(file: &Path, offset: u64, bit: u8) {
    let mut file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[byte[0] ^ (1 << bit)]).unwrap();
}

/// Opens a damaged copy and reads it to the end: how many entries came before it ended or refused, all of them as
/// they were written, and whether anything complained.
async fn survey(dir: &Path, written: &[Stored]) -> (usize, bool) {
    let log = match Embedded::open(dir, 1) {
        Ok(log) => log,
        Err(OpenError::Corrupt { .. } | OpenError::Damaged { .. } | OpenError::Io { .. }) => {
            return (0, true);
        }
        Err(other) => panic!("{other}"),
    };
    let last = in_time(log.last(P0)).await.unwrap().0;
    let mut tail = log.tail(P0, Position::ZERO);
    let mut read = 0;
    while u64::try_from(read).unwrap() < last {
        match in_time(tail.next()).await.expect("the tail goes on") {
            Ok(stored) => assert_eq!(Some(&stored), written.get(read), "other data"),
            Err(ReadError::Corrupt { position, .. }) => {
                assert!(position.0 <= last);
                return (read, true);
            }
            Err(other) => panic!("{other}"),
        }
        read += 1;
    }
    // What is left works as a log: the indexes are as old as the entries.
    let log: Arc<dyn EventLog> = Arc::new(log);
    for (stored, count) in written.iter().take(read).zip(1..) {
        let topic = Topic::of_subject(&stored.subject, P0).unwrap();
        assert_eq!(put(&log, &entry(P0, 1, count, topic)).await, count, "a retry");
    }
    let lost = entry(P0, 1, last + 1, Topic::Config);
    assert_eq!(put(&log, &lost).await, last + 1, "what was cut off is appended again");
    (read, false)
}

/// 128 kB that do not compress: SHA-256 over and over.
fn noise(seed: u64) -> Bytes {
    let blocks = (0..4_000_u16).scan(GENESIS, |state, block| {
        *state = chain(state, Position(seed), "", &block.to_be_bytes());
        Some(*state)
    });
    Bytes::from(blocks.flatten().collect::<Vec<u8>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_without_closing_loses_nothing_that_was_acknowledged() {
    let crashed = crashed(50).await;
    assert_eq!(survey(crashed.dir.path(), &crashed.written).await, (50, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_journal_keeps_a_whole_prefix() {
    let crashed = crashed(12).await;
    let journal = files(crashed.dir.path(), Some("jnl")).pop().unwrap();
    let bytes = content(&journal);
    let mut kept = Vec::new();
    for cut in (0..bytes.len()).step_by(19).chain([bytes.len()]) {
        let torn = tempfile::tempdir().unwrap();
        copy(crashed.dir.path(), torn.path());
        let journal = files(torn.path(), Some("jnl")).pop().unwrap();
        fs::write(&journal, &bytes[..cut]).unwrap();
        let (read, complained) = survey(torn.path(), &crashed.written).await;
        assert!(!complained, "cut at {cut}");
        kept.push(read);
    }
    assert!(kept.is_sorted(), "{kept:?}");
    assert_eq!((kept.first(), kept.last()), (Some(&0), Some(&12)), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_a_journal_never_reads_as_other_data() {
    let crashed = crashed(12).await;
    let length = content(&files(crashed.dir.path(), Some("jnl")).pop().unwrap()).len();
    let (mut complaints, mut cuts) = (0, 0);
    for offset in (0..length).step_by(17) {
        let flipped = tempfile::tempdir().unwrap();
        copy(crashed.dir.path(), flipped.path());
        let journal = files(flipped.path(), Some("jnl")).pop().unwrap();
        flip(&journal, offset.try_into().unwrap(), u8::try_from(offset % 8).unwrap());
        let (read, complained) = survey(flipped.path(), &crashed.written).await;
        complaints += usize::from(complained);
        // fjall cannot tell some flips from a torn end; whoever remembers more than what is left must halt.
        cuts += usize::from(!complained && read < 12);
    }
    assert!(complaints > 0, "{complaints} complaints, {cuts} cuts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_in_stored_entries_is_corrupt_at_its_position() {
    let original = tempfile::tempdir().unwrap();
    let log: Arc<dyn EventLog> = Arc::new(Embedded::open(original.path(), 1).unwrap());
    // More than is kept in memory before it is written out for good.
    for count in 1..=600 {
        let append = Append { payload: noise(count), ..entry(P0, 1, count, org(count % 3)) };
        assert_eq!(put(&log, &append).await, count);
    }
    drop(log);
    let blobs: Vec<PathBuf> =
        files(original.path(), None).into_iter().filter(|path| path.ends_with_component("blobs")).collect();
    assert!(!blobs.is_empty(), "{:?}", files(original.path(), None));
    let blob = blobs[0].strip_prefix(original.path()).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy(original.path(), copied.path());
    let log = Embedded::open(copied.path(), 1).unwrap();
    // Somewhere in the third blob.
    flip(&copied.path().join(blob), 300_000, 3);
    let mut tail = log.tail(P0, Position::ZERO);
    let mut read = 0;
    let position = loop {
        match in_time(tail.next()).await.expect("the tail goes on") {
            Ok(stored) => {
                read += 1;
                assert_eq!((stored.position, &stored.payload), (Position(read), &noise(read)));
            }
            Err(ReadError::Corrupt { partition, position, .. }) => {
                assert_eq!(partition, P0);
                break position;
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(position, Position(read + 1));
    assert!(read < 10, "{read}");
    assert!(in_time(tail.next()).await.is_none(), "an error is the last thing a tail says");
    assert!(matches!(in_time(log.get(P0, position)).await, Err(ReadError::Corrupt { .. })));
    assert!(in_time(log.get(P0, Position(600))).await.unwrap().is_some());
}

trait EndsWith {
    fn ends_with_component(&self, parent: &str) -> bool;
}

impl EndsWith for PathBuf {
    fn ends_with_component(&self, parent: &str) -> bool {
        self.parent().and_then(Path::file_name).is_some_and(|name| name == parent)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_is_what_anybody_can_compute() {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn EventLog> = Arc::new(Embedded::open(dir.path(), 1).unwrap());
    fill(&log, P0, 1, 10).await;
    let mut running = GENESIS;
    for stored in read_all(&log, P0).await {
        running = chain(&running, stored.position, &stored.subject, &stored.payload);
    }
    drop(log);
    // The value of the tenth entry stands in the journal, with the chain right after its format byte.
    let journal = content(&files(dir.path(), Some("jnl")).pop().unwrap());
    assert!(journal.windows(33).any(|window| window[0] == 1 && window[1..] == running));
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), 1).unwrap();
    let error = Embedded::open(dir.path(), 1).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("in use by process {}: stop that first", std::process::id())), "{text}");
    log.close().await;
    Embedded::open(dir.path(), 1).unwrap();
}

#[test]
fn partitions_are_fixed() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Embedded::open(dir.path(), 0), Err(OpenError::NoPartition)));
    drop(Embedded::open(dir.path(), 2).unwrap());
    match Embedded::open(dir.path(), 3).unwrap_err() {
        OpenError::Partitions { has: 2, wanted: 3, .. } => {}
        other => panic!("{other}"),
    }
    Embedded::open(dir.path(), 2).unwrap();
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(dir.path(), 1).unwrap());
    let format = dir.path().join("FORMAT");
    let text = fs::read_to_string(&format).unwrap();
    assert_eq!(text, "tollbook embedded log\nformat 1\npartitions 1\n");
    fs::write(&format, text.replace("format 1", "format 2")).unwrap();
    match Embedded::open(dir.path(), 1).unwrap_err() {
        OpenError::Newer { found: 2, known: 1, .. } => {}
        other => panic!("{other}"),
    }
    for damaged in ["", "tollbook embedded log\n", "tollbook embedded log\nformat x\n", "\u{0}"] {
        fs::write(&format, damaged).unwrap();
        let error = Embedded::open(dir.path(), 1).unwrap_err();
        assert!(matches!(error, OpenError::Format { .. }), "{damaged:?}: {error}");
    }
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    match Embedded::open(dir.path(), 1).unwrap_err() {
        OpenError::NotALog { found, .. } => assert_eq!(found, "notes.txt"),
        other => panic!("{other}"),
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made in it");
}

#[test]
fn half_a_log_is_no_new_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::open(dir.path(), 1).unwrap());
    fs::rename(dir.path().join("FORMAT"), dir.path().join("side")).unwrap();
    assert!(matches!(Embedded::open(dir.path(), 1), Err(OpenError::Missing { .. })));
    fs::rename(dir.path().join("side"), dir.path().join("FORMAT")).unwrap();
    fs::rename(dir.path().join("entries"), dir.path().join("side")).unwrap();
    assert!(matches!(Embedded::open(dir.path(), 1), Err(OpenError::Missing { .. })));
    // A crash between the last two steps of creation.
    fs::rename(dir.path().join("side"), dir.path().join("entries.new")).unwrap();
    drop(Embedded::open(dir.path(), 1).unwrap());
    // A crash before FORMAT was written.
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    fs::rename(dir.path().join("entries"), dir.path().join("entries.new")).unwrap();
    fs::remove_file(dir.path().join("entries.new/version")).unwrap();
    Embedded::open(dir.path(), 1).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_finishes_what_was_begun_and_refuses_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), 1).unwrap();
    let mut tail = log.tail(P0, Position::ZERO);
    let mut begun: Vec<_> = (1..=32).map(|count| log.append(entry(P0, 1, count, org(1)))).collect();
    for append in &mut begun {
        assert!(futures_util::poll!(append).is_pending(), "not durable at once");
    }
    let closing = log.close();
    let (answers, ()) =
        in_time(futures_util::future::join(futures_util::future::join_all(begun), closing)).await;
    let positions: Vec<u64> = answers.into_iter().map(|answer| answer.unwrap().0).collect();
    assert_eq!(positions, (1..=32).collect::<Vec<_>>());
    assert!(matches!(log.append(entry(P0, 1, 33, org(1))).await, Err(AppendError::Closed)));
    assert!(matches!(log.last(P0).await, Err(ReadError::Closed)));
    assert!(matches!(log.last_of(P0, org(1)).await, Err(ReadError::Closed)));
    assert!(matches!(log.get(P0, Position(1)).await, Err(ReadError::Closed)));
    assert_eq!(take(&mut tail, 32).await.len(), 32);
    assert!(matches!(in_time(tail.next()).await, Some(Err(ReadError::Closed))));
    assert!(in_time(tail.next()).await.is_none());
    log.close().await;
}

#[tokio::test]
async fn a_partition_that_is_not_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path(), 2).unwrap();
    let beyond = PartitionId(2);
    let refused = in_time(log.append(Append { id: id(beyond, 1, 1), ..entry(P0, 1, 1, org(1)) })).await;
    assert!(matches!(refused, Err(AppendError::Refused { .. })), "{refused:?}");
    assert!(matches!(log.last(beyond).await, Err(ReadError::Unavailable(_))));
    assert!(matches!(in_time(log.tail(beyond, Position::ZERO).next()).await, Some(Err(_))));
}

/// `mkdir /tmp/tollbook-small && mount -t tmpfs -o size=100m tmpfs /tmp/tollbook-small`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a small file system mounted at /tmp/tollbook-small"]
async fn a_full_disk_acknowledges_nothing_it_does_not_have() {
    let dir = tempfile::tempdir_in("/tmp/tollbook-small").unwrap();
    let log = Embedded::open(dir.path(), 1).unwrap();
    let large = |count| Append { payload: noise(count), ..entry(P0, 1, count, org(1)) };
    let mut acknowledged = 0;
    let unknown = loop {
        match in_time(log.append(large(acknowledged + 1))).await {
            Ok(position) => acknowledged = position.0,
            Err(error) => break error,
        }
        assert!(acknowledged < 2_000, "the disk is not small");
    };
    assert!(matches!(unknown, AppendError::Unknown { .. }), "{unknown}");
    let again = in_time(log.append(large(acknowledged + 1))).await;
    assert!(matches!(again, Err(AppendError::Unknown { .. })), "{again:?}");
    let other = in_time(log.append(large(acknowledged + 2))).await;
    assert!(matches!(other, Err(AppendError::Refused { .. })), "{other:?}");
    assert_eq!(in_time(log.last(P0)).await.unwrap(), Position(acknowledged));
    log.close().await;
    let elsewhere = tempfile::tempdir().unwrap();
    copy(dir.path(), elsewhere.path());
    let log: Arc<dyn EventLog> = Arc::new(Embedded::open(elsewhere.path(), 1).unwrap());
    let kept = read_all(&log, P0).await.len();
    let acknowledged = usize::try_from(acknowledged).unwrap();
    assert!(kept == acknowledged || kept == acknowledged + 1, "{kept} of {acknowledged}");
    put(&log, &large(u64::try_from(acknowledged).unwrap() + 1)).await;
    assert_eq!(read_all(&log, P0).await.len(), acknowledged + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever is cut off the end, and whatever is garbage after it, the rest is a prefix.
    #[test]
    fn garbage_after_the_end_is_no_entry(cut in 0.0..1.0_f64, garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let crashed = crashed(6).await;
            let journal = files(crashed.dir.path(), Some("jnl")).pop().unwrap();
            let mut bytes = content(&journal);
            #[expect(clippy::as_conversions, clippy::float_arithmetic, reason = "any place will do")]
            bytes.truncate((cut * bytes.len() as f64) as usize);
            bytes.extend(&garbage);
            fs::write(&journal, bytes).unwrap();
            survey(crashed.dir.path(), &crashed.written).await;
        });
    }
}
