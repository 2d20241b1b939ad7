//! The store beside the embedded log: one small file for each key, so that erasing overwrites the only copy.
//!
//! A database would not do: its journal and its sorted files keep old versions until they are compacted.
//!
//! ```text
//! <dir>/<key>        1 value    put_new: a whole file appears under its name at once, by a hard link
//!                    0 …        erased
//! <dir>/.new-<n>                being written
//! <dir>/.gone-<key>             being erased: renamed first, so that opening finds it without reading every file
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{SideError, SideStore};

/// First byte of a file that holds a value.
const HELD: u8 = 1;

/// First byte of a file whose value is being erased.
const ERASED: u8 = 0;

/// How the name begins of a file that is being erased. No key begins with a dot.
const GONE: &str = ".gone-";

/// Longest key: a file name, with room for what file systems take.
const KEY_MAX: usize = 200;

/// A store in a directory. Only one process may use it at a time: the lock of the log beside it sees to that.
#[derive(Clone, Debug)]
pub struct Files {
    // Held while files change, so that one put or erase is over before the next begins; counts new files.
    turn: Arc<Mutex<u64>>,
    dir: PathBuf,
}

impl Files {
    /// Opens the store in `dir`, creates it if there is none, and finishes what a crash interrupted. Blocks.
    pub fn open(dir: &Path) -> Result<Self, SideError> {
        let finish = || {
            fs::create_dir_all(dir)?;
            for found in fs::read_dir(dir)? {
                let found = found?;
                let name = found.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(GONE) {
                    erase_file(&found.path())?;
                } else if name.starts_with('.') {
                    // Under its own name it may be held already: then both names mean one file.
                    fs::remove_file(found.path())?;
                }
            }
            sync_directory(dir)
        };
        finish().map_err(|error| failed(dir, &error))?;
        Ok(Self { turn: Arc::default(), dir: dir.to_owned() })
    }

    /// Runs `work` on this store where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Path, &mut u64, &Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SideError> {
        if !is_key(key) {
            return Err(SideError(format!("`{key}` is not a key")));
        }
        let (this, path) = (self.clone(), self.dir.join(key));
        let run = move || {
            let mut turn = this.turn.lock().unwrap_or_else(PoisonError::into_inner);
            work(&path, &mut turn, &this.dir).map_err(|error| failed(&path, &error))
        };
        tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| Err(SideError(error.to_string())))
    }
}

impl SideStore for Files {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Bytes>, SideError>> {
        let key = key.to_owned();
        Box::pin(async move { self.blocking(&key, |path, _, _| read(path)).await })
    }

    fn put_new(&self, key: &str, value: Bytes) -> BoxFuture<'_, Result<Bytes, SideError>> {
        let key = key.to_owned();
        Box::pin(async move {
            self.blocking(&key, move |path, turn, dir| {
                if let Some(held) = read(path)? {
                    return Ok(held);
                }
                *turn = turn.wrapping_add(1);
                let new = dir.join(format!(".new-{turn}"));
                let result = write_new(&new, path, &value);
                // A leftover would outlive an erasure.
                let removed = fs::remove_file(&new);
                result?;
                removed?;
                sync_directory(dir)?;
                Ok(value)
            })
            .await
        })
    }

    fn erase(&self, key: &str) -> BoxFuture<'_, Result<(), SideError>> {
        let key = key.to_owned();
        Box::pin(async move {
            let gone = format!("{GONE}{key}");
            self.blocking(&key, move |path, _, dir| {
                let gone = dir.join(gone);
                // What failed halfway before: another file must not take its name.
                let halfway = gone.try_exists()?;
                if halfway {
                    erase_file(&gone)?;
                }
                match fs::rename(path, &gone) {
                    // Keys are asked for again at every start.
                    Err(error) if error.kind() == ErrorKind::NotFound && !halfway => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    renamed => renamed?,
                }
                // Before any byte is overwritten, or a crash could leave half of a value under its own name.
                sync_directory(dir)?;
                erase_file(&gone)?;
                sync_directory(dir)
            })
            .await
        })
    }
}

fn is_key(key: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    key.len() <= KEY_MAX && key.split('.').all(|part| !part.is_empty() && part.bytes().all(plain))
}

fn failed(path: &Path, error: &io::Error) -> SideError {
    SideError(format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> io::Result<Option<Bytes>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => Bytes::from(read?),
    };
    match bytes.first() {
        Some(&HELD) => Ok(Some(bytes.slice(1..))),
        // What was erased under its own name, by an older version.
        Some(&ERASED) => Ok(None),
        Some(_) | None => Err(io::Error::new(ErrorKind::InvalidData, "it is damaged")),
    }
}

/// Writes `value` to `new` and, once it is durable, makes it appear as `path` if that is not there.
fn write_new(new: &Path, path: &Path, value: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(new)?;
    file.write_all(&[HELD])?;
    file.write_all(value)?;
    file.sync_all()?;
    if path.try_exists()? {
        // Its first byte says that it is erased.
        erase_file(path)?;
    }
    fs::hard_link(new, path)
}

/// Overwrites the value and removes the file; the first byte goes first, so that no half of a value is ever read.
fn erase_file(path: &Path) -> io::Result<()> {
    let mut file = match File::options().write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        open => open?,
    };
    let length = file.metadata()?.len();
    file.write_all(&[ERASED])?;
    file.sync_data()?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut io::Read::take(io::repeat(ERASED), length), &mut file)?;
    file.sync_data()?;
    fs::remove_file(path)
}

fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join_all;

    fn value(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn the_first_value_stays_until_it_is_erased() {
        let dir = tempfile::tempdir().unwrap();
        let side = Files::open(dir.path()).unwrap();
        assert_eq!(side.get("a.b").await.unwrap(), None);
        assert_eq!(side.put_new("a.b", value("one")).await.unwrap(), "one");
        assert_eq!(side.put_new("a.b", value("two")).await.unwrap(), "one");
        assert_eq!(side.put_new("a.c", value("")).await.unwrap(), "");
        let side = Files::open(dir.path()).unwrap();
        assert_eq!(side.get("a.b").await.unwrap(), Some(value("one")));
        assert_eq!(side.get("a.c").await.unwrap(), Some(value("")));
        side.erase("a.b").await.unwrap();
        side.erase("a.b").await.unwrap();
        assert_eq!(side.get("a.b").await.unwrap(), None);
        assert_eq!(side.put_new("a.b", value("three")).await.unwrap(), "three");
    }

    #[tokio::test]
    async fn of_many_writers_one_wins_and_all_learn_which() {
        let dir = tempfile::tempdir().unwrap();
        let side = Files::open(dir.path()).unwrap();
        let writers = (0..16).map(|writer| side.put_new("key", Bytes::from(format!("{writer}"))));
        let seen: Vec<Bytes> = join_all(writers).await.into_iter().map(|seen| seen.unwrap()).collect();
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[tokio::test]
    async fn erasing_overwrites_the_bytes_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let side = Files::open(dir.path()).unwrap();
        side.put_new("key", value("secret")).await.unwrap();
        // A second name for the same file shows what becomes of its bytes.
        let witness = tempfile::tempdir_in(dir.path().parent().unwrap()).unwrap();
        let witness = witness.path().join("witness");
        fs::hard_link(dir.path().join("key"), &witness).unwrap();
        assert_eq!(fs::read(&witness).unwrap(), b"\x01secret");
        side.erase("key").await.unwrap();
        assert_eq!(fs::read(&witness).unwrap(), [0; 7]);
    }

    #[tokio::test]
    async fn opening_finishes_what_a_crash_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let side = Files::open(dir.path()).unwrap();
        side.put_new("kept", value("kept")).await.unwrap();
        let interrupted = |gone: &str| {
            fs::write(dir.path().join(gone), b"\0ecret").unwrap();
            fs::hard_link(dir.path().join(gone), dir.path().join("witness")).unwrap();
        };
        interrupted(".gone-erased");
        fs::write(dir.path().join(".new-7"), b"\x01half").unwrap();
        assert_eq!(side.get("erased").await.unwrap(), None);
        let side = Files::open(dir.path()).unwrap();
        assert_eq!(fs::read(dir.path().join("witness")).unwrap(), [0; 6]);
        fs::remove_file(dir.path().join("witness")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // Asking again finishes it as well, though the key has a new value by now.
        interrupted(".gone-kept");
        side.erase("kept").await.unwrap();
        assert_eq!(fs::read(dir.path().join("witness")).unwrap(), [0; 6]);
        fs::remove_file(dir.path().join("witness")).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        side.put_new("kept", value("kept")).await.unwrap();
        assert_eq!(side.get("kept").await.unwrap(), Some(value("kept")));
    }

    #[tokio::test]
    async fn keys_cannot_name_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let side = Files::open(dir.path()).unwrap();
        let long = "k".repeat(KEY_MAX + 1);
        for key in ["", ".", "..", "a..b", ".new-1", "a.", "a/b", "../a", "ä", "a b", long.as_str()] {
            assert!(side.get(key).await.is_err(), "{key}");
            assert!(side.put_new(key, value("v")).await.is_err(), "{key}");
            assert!(side.erase(key).await.is_err(), "{key}");
        }
    }
}
