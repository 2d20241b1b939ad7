//! How a term ends: what is under way may end, and is taken down.

use std::time::Duration;

use tollbook_schemas::id::AlertId;

use super::{Term, WorkError};

/// How long what is under way may take when the process stops or begins again. What takes longer is attempted again.
const GRACE: Duration = Duration::from_secs(5);
/// Until what was not written is written again.
const WRITE_PAUSE: Duration = Duration::from_millis(200);

impl Term {
    /// Records what is under way, as far as it ends soon; after a failure, also what that kept from being written.
    pub(super) async fn finish(mut self, failed: bool) {
        let ending = async {
            if failed {
                self.write_again().await;
            }
            while let Some(finished) = self.running.join_next().await {
                let Ok(finished) = finished else { continue };
                if let Err(error) = self.settle(finished).await {
                    tracing::debug!(%error, "how a delivery ended is not written yet");
                    self.write_again().await;
                }
            }
        };
        if tokio::time::timeout(GRACE, ending).await.is_err() {
            tracing::debug!("what is still under way is attempted again");
        }
    }

    /// Writes what is held until the store takes it.
    async fn write_again(&mut self) {
        while let Err(error) = self.reconcile().await {
            tracing::debug!(%error, "deliveries are not written yet");
            tokio::time::sleep(WRITE_PAUSE).await;
        }
        self.held.retain(|_, held| held.running > 0);
    }

    /// Writes what is held, after writes of which nobody knows whether they were done; what somebody else wrote stays.
    async fn reconcile(&mut self) -> Result<(), WorkError> {
        let ids: Vec<AlertId> = self.held.keys().cloned().collect();
        for id in &ids {
            let stored = self.tools.store.get(id.clone()).await?;
            let Some(held) = self.held.get_mut(id) else { continue };
            let ours = stored.filter(|stored| {
                stored.revision == held.stored.revision || stored.record == held.stored.record
            });
            match ours {
                Some(stored) => held.stored.revision = stored.revision,
                None => {
                    self.held.remove(id);
                }
            }
        }
        self.write(ids).await
    }
}
