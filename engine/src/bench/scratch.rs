//! Directories that a measurement may fill, gone when it is over.

use std::path::{Path, PathBuf};

use super::BenchError;
use crate::clock;

/// A new directory, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// In `parent`, or where temporary files go.
    pub(super) fn new(parent: Option<&Path>) -> Result<Self, BenchError> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("tollbook-bench-{:032x}", clock::new_id_bits()));
        std::fs::create_dir_all(&path)
            .map_err(|source| BenchError::Directory { path: path.clone(), source })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "a scratch directory is left behind");
        }
    }
}
