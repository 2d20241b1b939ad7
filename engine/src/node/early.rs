//! Views read while the log is being opened: both take as long as there is much in them, and neither needs the other.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::task::JoinHandle;
use tollbook_projections::state::State;
use tollbook_projections::view::{ViewError, Views};
use tollbook_schemas::position::PartitionId;

/// Views on their way.
pub(super) struct Early(Option<JoinHandle<Result<Loaded, ViewError>>>);

/// Views, and State of every partition that they hold.
pub(super) struct Loaded {
    pub(super) views: Views,
    pub(super) states: BTreeMap<PartitionId, Result<Option<State>, ViewError>>,
}

impl Early {
    /// Begins, where there are views: nothing may be made here before the log says that the directory is ours.
    pub(super) fn begin(path: &Path) -> Self {
        let path = path.to_path_buf();
        let there = path.is_dir();
        Self(there.then(|| tokio::task::spawn_blocking(move || Loaded::read(&path))))
    }

    /// What was read. `None` where that failed: then it is done again once the log is open, which may throw it away.
    pub(super) async fn finish(self) -> Option<Loaded> {
        match self.0?.await {
            Ok(Ok(loaded)) => Some(loaded),
            Ok(Err(error)) => {
                tracing::debug!(%error, "the views could not be read ahead of the log");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "reading the views ahead of the log panicked");
                None
            }
        }
    }
}

impl Loaded {
    fn read(path: &Path) -> Result<Self, ViewError> {
        let views = Views::open(path)?;
        let mut states = BTreeMap::new();
        for partition in views.partitions() {
            states.insert(partition, views.partition(partition).and_then(|view| view.load()));
        }
        Ok(Self { views, states })
    }
}
