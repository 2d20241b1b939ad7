//! The log in one directory of one process, on fjall.
//!
//! ```text
//! append ──bounded queue──> writer thread ── one batch, one fdatasync ──> answers
//!                                │
//!                                ├─> recent: newest entries in memory ──┐
//!                                └─> last: how far readers may go ──────┴─> tails
//! get, last_of, tails that are behind ──> reader thread ── checks the chain ──> answers
//! ```

mod directory;
mod layout;
mod reader;
mod recent;
mod store;
mod writer;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tollbook_schemas::position::{PartitionId, Position};

use self::directory::Directory;
pub use self::layout::{Chain, GENESIS, chain};
use self::reader::Read;
use self::recent::Recent;
use self::store::Run;
use self::writer::{Line, Request, Writer};
use super::{Append, AppendError, EventLog, PAYLOAD_MAX, ReadError, Stored, Tail, Topic};

/// Appends that wait for the writer before callers do: a few times what one sync takes along.
const QUEUE: usize = 1024;

/// Reads that wait before callers do; one per tail and per caller is usual.
const READS: usize = 64;

/// Newest payloads kept for tails, over all partitions: about 0.2 s at full speed, then they read what fjall has.
const RECENT_BYTES: usize = 16 * 1024 * 1024;

/// Entries a tail takes at a time, so that a reader that stops holds few.
const TAIL_ENTRIES: usize = 256;

/// Why a directory could not be opened as a log.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by {holder}: stop that first, or name another directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// There are other things in it.
    #[error("{} is not a log and holds `{found}`: name an empty directory, or one that will be made", dir.display())]
    NotALog {
        /// The directory.
        dir: PathBuf,
        /// One of the things found.
        found: String,
    },
    /// A part of the log is not there.
    #[error("{} is missing: restore it together with the rest of the log, from one copy", path.display())]
    Missing {
        /// The missing part.
        path: PathBuf,
    },
    /// The format file cannot be read.
    #[error("{} does not describe a log: restore it from a copy", path.display())]
    Format {
        /// The format file.
        path: PathBuf,
    },
    /// Written by a newer program.
    #[error("{} has format {found}, this program knows up to {known}: use a newer one", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// What it has.
        found: u32,
        /// What this program knows.
        known: u32,
    },
    /// The number of partitions is fixed when a log is created.
    #[error("{} has {has} partitions, not {wanted}: that cannot be changed", dir.display())]
    Partitions {
        /// The directory.
        dir: PathBuf,
        /// What it has.
        has: u32,
        /// What was asked for.
        wanted: u16,
    },
    /// Zero partitions were asked for.
    #[error("a log has at least one partition")]
    NoPartition,
    /// An entry is damaged or missing. Nothing may continue on it.
    #[error("the log is damaged at {partition}-{position}: {reason}")]
    Corrupt {
        /// The partition.
        partition: PartitionId,
        /// The first position that cannot be trusted.
        position: Position,
        /// What was found.
        reason: String,
    },
    /// The database's files are damaged, and it cannot say which entry is.
    #[error("the files in {} are damaged: {reason}", dir.display())]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The directory could not be read or written.
    #[error("{} cannot be used", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The log in a directory. Dropping it closes it and waits for its threads; [`Embedded::close`] does so without
/// blocking.
pub struct Embedded {
    partitions: Vec<Partition>,
    open: Mutex<Option<Open>>,
}

/// What readers of one partition share with the writer.
#[derive(Clone)]
struct Partition {
    last: watch::Receiver<Position>,
    recent: Arc<Recent>,
}

/// What is gone once the log is closed.
struct Open {
    appends: mpsc::Sender<Request>,
    reads: mpsc::Sender<Read>,
    threads: [JoinHandle<()>; 2],
    directory: Directory,
}

impl Open {
    fn close(self) {
        let Self { appends, reads, threads, directory } = self;
        drop((appends, reads));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        // Only now may another process have it.
        drop(directory);
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the log in `dir`, and creates one of `partitions` if there is none. Blocks while journals are replayed
    /// and checked: a second at most, usually far less.
    pub fn open(dir: &Path, partitions: u16) -> Result<Self, OpenError> {
        if partitions == 0 {
            return Err(OpenError::NoPartition);
        }
        let directory =
            Directory::open(dir, partitions, |path| open_guarded(path).map(|database| drop(database)))?;
        let path = directory.entries();
        let unchecked =
            store::journal_bytes(&path).map_err(|source| OpenError::Io { dir: path.clone(), source })?;
        let (database, keyspace) = open_guarded(&path)?;
        let share = RECENT_BYTES.checked_div(usize::from(partitions)).unwrap_or_default();
        let (mut lines, mut readers) = (Vec::new(), Vec::new());
        for partition in (0..partitions).map(PartitionId) {
            let end = guarded(&path, || store::check_end(&keyspace, partition, unchecked))?;
            let recent = Arc::new(Recent::new(share));
            let (last, reader) = watch::channel(end.last);
            lines.push(Line { end, last, recent: recent.clone() });
            readers.push(Partition { last: reader, recent });
        }
        let (appends, requests) = mpsc::channel(QUEUE);
        let (reads, requested) = mpsc::channel(READS);
        let writer = Writer::new(database, keyspace.clone(), lines);
        let threads = [
            spawn(dir, "log-writer", move || writer.run(requests))?,
            spawn(dir, "log-reader", move || reader::run(&keyspace, requested))?,
        ];
        let open = Open { appends, reads, threads, directory };
        Ok(Self { partitions: readers, open: Mutex::new(Some(open)) })
    }

    /// Closes the log: what was given to it before is written and answered, everything later is refused.
    pub async fn close(&self) {
        let open = self.with_open(Option::take);
        if let Some(open) = open
            && tokio::task::spawn_blocking(|| open.close()).await.is_err()
        {
            tracing::error!("closing the log panicked");
        }
    }

    fn with_open<T>(&self, use_it: impl FnOnce(&mut Option<Open>) -> T) -> T {
        // Nothing can panic halfway under this lock.
        use_it(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn appends(&self) -> Option<mpsc::Sender<Request>> {
        self.with_open(|open| open.as_ref().map(|open| open.appends.clone()))
    }

    fn reads(&self) -> Option<mpsc::Sender<Read>> {
        self.with_open(|open| open.as_ref().map(|open| open.reads.clone()))
    }

    fn partition(&self, partition: PartitionId) -> Result<&Partition, ReadError> {
        self.partitions
            .get(usize::from(partition.0))
            .ok_or_else(|| ReadError::Unavailable(format!("the log has no partition {partition}")))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(open) = self.with_open(Option::take) {
            open.close();
        }
    }
}

fn spawn(dir: &Path, name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|source| OpenError::Io { dir: dir.to_owned(), source })
}

fn open_guarded(path: &Path) -> Result<(fjall::Database, fjall::Keyspace), OpenError> {
    guarded(path, || {
        store::open_database(path).map_err(|error| {
            let dir = path.to_owned();
            match error {
                fjall::Error::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                    OpenError::Io { dir, source }
                }
                error => OpenError::Damaged { dir, reason: error.to_string() },
            }
        })
    })
}

/// fjall asserts some of what it reads from files.
fn guarded<T>(path: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(open)).unwrap_or_else(|_| {
        let reason = "the database gave up on what it read".to_owned();
        Err(OpenError::Damaged { dir: path.to_owned(), reason })
    })
}

impl EventLog for Embedded {
    fn append(&self, append: Append) -> BoxFuture<'_, Result<Position, AppendError>> {
        Box::pin(async move {
            let bytes = append.payload.len();
            if bytes > PAYLOAD_MAX {
                return Err(AppendError::TooLarge { bytes, limit: PAYLOAD_MAX });
            }
            let (answer, answered) = oneshot::channel();
            let appends = self.appends().ok_or(AppendError::Closed)?;
            appends.send(Request { append, answer }).await.map_err(|_| AppendError::Closed)?;
            // Closing waits for senders.
            drop(appends);
            answered.await.unwrap_or_else(|_| {
                Err(AppendError::Unknown { reason: "the thread that writes has ended".to_owned() })
            })
        })
    }

    fn last(&self, partition: PartitionId) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            let partition = self.partition(partition)?;
            self.with_open(|open| open.is_some()).then(|| *partition.last.borrow()).ok_or(ReadError::Closed)
        })
    }

    fn last_of(&self, partition: PartitionId, topic: Topic) -> BoxFuture<'_, Result<Position, ReadError>> {
        Box::pin(async move {
            self.partition(partition)?;
            let reads = self.reads().ok_or(ReadError::Closed)?;
            ask(reads, |answer| Read::LastOf { partition, topic, answer }).await
        })
    }

    fn tail(&self, partition: PartitionId, after: Position) -> Tail {
        let follower = self.partition(partition).and_then(|readers| {
            Ok(Follower {
                partition,
                readers: readers.clone(),
                reads: self.reads().ok_or(ReadError::Closed)?.downgrade(),
                at: (after, None),
                taken: VecDeque::new(),
            })
        });
        match follower {
            Ok(follower) => stream::unfold(Some(follower), follow).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn get(
        &self,
        partition: PartitionId,
        position: Position,
    ) -> BoxFuture<'_, Result<Option<Stored>, ReadError>> {
        Box::pin(async move {
            let last = self.last(partition).await?;
            let Some(before) = position.0.checked_sub(1).filter(|_| position <= last) else {
                return Ok(None);
            };
            let after = (Position(before), None);
            let reads = self.reads().ok_or(ReadError::Closed)?;
            let run =
                ask(reads, |answer| Read::Run { partition, after, last: position, max: 1, answer }).await?;
            Ok(run.entries.into_iter().next())
        })
    }
}

/// Asks the reader thread; a closed log does not answer.
async fn ask<T>(
    reads: mpsc::Sender<Read>,
    read: impl FnOnce(oneshot::Sender<Result<T, ReadError>>) -> Read,
) -> Result<T, ReadError> {
    let (answer, answered) = oneshot::channel();
    reads.send(read(answer)).await.map_err(|_| ReadError::Closed)?;
    // Closing waits for senders.
    drop(reads);
    answered.await.unwrap_or(Err(ReadError::Closed))
}

/// A tail: where it is, and what it has taken but not handed on.
struct Follower {
    partition: PartitionId,
    readers: Partition,
    // A tail nobody reads must not keep the log open.
    reads: mpsc::WeakSender<Read>,
    at: (Position, Option<Chain>),
    taken: VecDeque<Stored>,
}

async fn follow(follower: Option<Follower>) -> Option<(Result<Stored, ReadError>, Option<Follower>)> {
    let mut follower = follower?;
    let next = follower.next().await;
    // An error is the last thing a tail says.
    let follower = next.is_ok().then_some(follower);
    Some((next, follower))
}

impl Follower {
    async fn next(&mut self) -> Result<Stored, ReadError> {
        loop {
            if let Some(stored) = self.taken.pop_front() {
                return Ok(stored);
            }
            let last = *self.readers.last.borrow_and_update();
            let (after, _) = self.at;
            if after > last {
                let reason = format!("the log ends at {last}, but something was read up to {after}");
                return Err(ReadError::Corrupt { partition: self.partition, position: last.next(), reason });
            }
            if after == last {
                self.readers.last.changed().await.map_err(|_| ReadError::Closed)?;
                continue;
            }
            self.take(last).await?;
        }
    }

    /// Takes some entries from memory, or from the disk if they are no longer there.
    async fn take(&mut self, last: Position) -> Result<(), ReadError> {
        if let Some(fresh) = self.readers.recent.after(self.at.0, last, TAIL_ENTRIES) {
            for fresh in fresh {
                self.at = (fresh.stored.position, Some(fresh.chain));
                self.taken.push_back(fresh.stored);
            }
            return Ok(());
        }
        let (partition, after, max) = (self.partition, self.at, TAIL_ENTRIES);
        let reads = self.reads.upgrade().ok_or(ReadError::Closed)?;
        let Run { entries, chain } =
            ask(reads, |answer| Read::Run { partition, after, last, max, answer }).await?;
        if let Some(newest) = entries.last() {
            self.at = (newest.position, Some(chain));
        }
        self.taken.extend(entries);
        Ok(())
    }
}
