//! A thread of its own for writing views, because sled blocks.

use tokio::sync::{mpsc, watch};
use tollbook_projections::view::{Rows, View, ViewError};
use tollbook_schemas::position::{PartitionId, Position};

use super::OwnerError;
use crate::fault::{self, FaultPoint};
use crate::feed::FeedError;
use crate::metrics;

/// The owner's side of the thread.
pub(super) struct ViewWriter {
    rows: mpsc::Sender<(Rows, Position)>,
    written: watch::Receiver<Position>,
    failed: mpsc::Receiver<ViewError>,
    sent: Position,
}

impl ViewWriter {
    /// Starts the thread for a view that holds `position`, and says what to watch for what is written.
    pub(super) fn start(
        view: View,
        position: Position,
    ) -> Result<(Self, watch::Receiver<Position>), OwnerError> {
        let (rows, mut to_write) = mpsc::channel::<(Rows, Position)>(1);
        let (done, written) = watch::channel(position);
        let (fail, failed) = mpsc::channel(1);
        let partition: PartitionId = view.number();
        let thread = std::thread::Builder::new().name(format!("views-{partition}"));
        let run = move || {
            while let Some((rows, position)) = to_write.blocking_recv() {
                if let Err(error) = view.write(rows) {
                    if fail.blocking_send(error).is_err() {
                        tracing::error!(%partition, "the views failed after their owner stopped");
                    }
                    return;
                }
                fault::reached(FaultPoint::ViewWritten);
                metrics::viewed(partition, position);
                done.send_replace(position);
            }
        };
        thread.spawn(run).map_err(FeedError::Thread)?;
        Ok((Self { rows, written: written.clone(), failed, sent: position }, written))
    }

    /// The last position whose rows were handed over.
    pub(super) const fn sent(&self) -> Position {
        self.sent
    }

    /// Whether everything handed over is written. Errors: it cannot be.
    pub(super) fn is_idle(&mut self) -> Result<bool, OwnerError> {
        if let Ok(error) = self.failed.try_recv() {
            return Err(error.into());
        }
        Ok(*self.written.borrow() >= self.sent)
    }

    /// Hands rows over. Call it when idle.
    pub(super) fn send(&mut self, rows: Rows, position: Position) -> Result<(), OwnerError> {
        self.rows.try_send((rows, position)).map_err(|_| OwnerError::ViewWriterGone)?;
        self.sent = position;
        Ok(())
    }

    /// Waits until everything handed over is written.
    pub(super) async fn idle(&mut self) -> Result<(), OwnerError> {
        let sent = self.sent;
        let ended = self.written.wait_for(|written| *written >= sent).await.is_err();
        if let Ok(error) = self.failed.try_recv() {
            return Err(error.into());
        }
        if ended { Err(OwnerError::ViewWriterGone) } else { Ok(()) }
    }
}
