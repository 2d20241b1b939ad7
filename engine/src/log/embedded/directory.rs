//! The directory of an embedded log: one process at a time, a stated format, nothing foreign in it.
//!
//! ```text
//! LOCK           locked by the process that has the log open; holds its process id
//! FORMAT         format version and number of partitions, written once
//! entries/       fjall's files
//! entries.new/   a log that is being created
//! side/          the store beside the log, if it is kept here
//! alerts/        the alert feed, if it is kept here
//! deliveries/    records of deliveries, if they are kept here
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::OpenError;

/// The layout this program writes, and the newest it can read.
const FORMAT_VERSION: u32 = 1;

/// The first line of FORMAT: what kind of directory this is.
const TITLE: &str = "tollbook embedded log";

/// What may stand in the directory; anything else is not ours to write beside.
const OURS: [&str; 8] =
    ["LOCK", "FORMAT", "FORMAT.new", "entries", "entries.new", "side", "alerts", "deliveries"];

/// An embedded log's directory, locked for this process until dropped.
#[derive(Debug)]
pub(super) struct Directory {
    dir: PathBuf,
    // Held, never read: dropping it unlocks.
    _lock: File,
}

impl Directory {
    /// Locks `dir`, and creates it and a log of `partitions` in it if there is none; `create` makes an empty
    /// database in the directory it is given.
    pub(super) fn open(
        dir: &Path,
        partitions: u16,
        create: impl FnOnce(&Path) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { dir: dir.to_owned(), source };
        let is_new = || dir.join("FORMAT").try_exists().map(|exists| !exists).map_err(io);
        fs::create_dir_all(dir).map_err(io)?;
        if is_new()? {
            // Before the lock, which would leave a file in a directory that is not ours.
            check_empty(dir)?;
        }
        let this = Self { dir: dir.to_owned(), _lock: lock(dir)? };
        let fresh = is_new()?;
        let (entries, new) = (this.entries(), dir.join("entries.new"));
        if fresh {
            if entries.try_exists().map_err(io)? {
                return Err(OpenError::Missing { path: dir.join("FORMAT") });
            }
            // FORMAT comes last but one, so whatever a crash left without it held no entry yet.
            if new.try_exists().map_err(io)? {
                fs::remove_dir_all(&new).map_err(io)?;
            }
            create(&new)?;
            write_format(dir, partitions).map_err(io)?;
        } else {
            check_format(dir, partitions)?;
        }
        if !entries.try_exists().map_err(io)? {
            match fs::rename(&new, &entries) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(OpenError::Missing { path: entries });
                }
                result => result.map_err(io)?,
            }
            sync_directory(dir).map_err(io)?;
        }
        Ok(this)
    }

    /// Where fjall keeps its files.
    pub(super) fn entries(&self) -> PathBuf {
        self.dir.join("entries")
    }
}

fn check_empty(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), source };
    for found in fs::read_dir(dir).map_err(io)? {
        let name = found.map_err(io)?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            let found = name.to_string_lossy().into_owned();
            return Err(OpenError::NotALog { dir: dir.to_owned(), found });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), source };
    let path = dir.join("LOCK");
    let mut file =
        File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            return Err(OpenError::Locked { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    // Only a hint for whoever finds the directory locked.
    file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id())).map_err(io)?;
    Ok(file)
}

fn write_format(dir: &Path, partitions: u16) -> io::Result<()> {
    let new = dir.join("FORMAT.new");
    let mut file = File::create(&new)?;
    write!(file, "{TITLE}\nformat {FORMAT_VERSION}\npartitions {partitions}\n")?;
    file.sync_all()?;
    fs::rename(&new, dir.join("FORMAT"))?;
    sync_directory(dir)
}

fn check_format(dir: &Path, wanted: u16) -> Result<(), OpenError> {
    let damaged = || OpenError::Format { path: dir.join("FORMAT") };
    let text = match fs::read_to_string(dir.join("FORMAT")) {
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(damaged()),
        read => read.map_err(|source| OpenError::Io { dir: dir.to_owned(), source })?,
    };
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(damaged());
    }
    let mut number = |name| lines.next().and_then(|line| line.strip_prefix(name)?.parse::<u32>().ok());
    let version = number("format ").ok_or_else(damaged)?;
    if version > FORMAT_VERSION {
        return Err(OpenError::Newer { dir: dir.to_owned(), found: version, known: FORMAT_VERSION });
    }
    let has = number("partitions ").ok_or_else(damaged)?;
    if has != u32::from(wanted) {
        return Err(OpenError::Partitions { dir: dir.to_owned(), has, wanted });
    }
    Ok(())
}

/// Makes new names in `dir` durable.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
