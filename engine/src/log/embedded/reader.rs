//! The thread that reads the embedded log, so that no task ever waits for a disk.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fjall::Keyspace;
use tokio::sync::{mpsc, oneshot};
use tollbook_schemas::position::{PartitionId, Position};

use super::layout::Chain;
use super::store::{Run, read_run, read_topic};
use crate::log::{ReadError, Topic};

/// One thing to be read.
#[derive(Debug)]
pub(super) enum Read {
    /// Some entries after a position, whose chain the reader may know, up to `last`.
    Run {
        partition: PartitionId,
        after: (Position, Option<Chain>),
        last: Position,
        max: usize,
        answer: oneshot::Sender<Result<Run, ReadError>>,
    },
    /// The last position of a topic.
    LastOf { partition: PartitionId, topic: Topic, answer: oneshot::Sender<Result<Position, ReadError>> },
}

/// Reads for everybody until all who could ask are gone.
pub(super) fn run(keyspace: &Keyspace, mut reads: mpsc::Receiver<Read>) {
    while let Some(read) = reads.blocking_recv() {
        match read {
            Read::Run { partition, after, last, max, answer } => {
                // Whoever asked may have left.
                drop(answer.send(guarded(partition, after.0.next(), || {
                    read_run(keyspace, partition, after, last, max)
                })));
            }
            Read::LastOf { partition, topic, answer } => {
                drop(answer.send(guarded(partition, Position::ZERO, || {
                    read_topic(keyspace, partition, &topic).map_err(|reason| ReadError::Corrupt {
                        partition,
                        position: Position::ZERO,
                        reason,
                    })
                })));
            }
        }
    }
}

/// fjall asserts some of what it reads from files; a damaged file must not end the reading of all others.
fn guarded<T>(
    partition: PartitionId,
    position: Position,
    read: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let reason = "the database gave up on what it read".to_owned();
        Err(ReadError::Corrupt { partition, position, reason })
    })
}
