//! The newest entries of one partition, in memory, so that following the log costs no reading.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::layout::Chain;
use crate::log::Stored;
use tollbook_schemas::position::Position;

/// One durable entry and the chain after it.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) stored: Stored,
    pub(super) chain: Chain,
}

/// A window of the newest entries without gaps, bounded in bytes of payload.
#[derive(Debug)]
pub(super) struct Recent {
    bound: usize,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    entries: VecDeque<Fresh>,
    bytes: usize,
}

impl Recent {
    /// An empty window of at most `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self { bound, window: Mutex::default() }
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Nothing below can panic halfway, so what a poisoned lock guards is whole.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what became durable, and forgets the oldest beyond the bound.
    pub(super) fn extend(&self, fresh: impl IntoIterator<Item = Fresh>) {
        let mut window = self.window();
        for entry in fresh {
            window.bytes = window.bytes.saturating_add(size(&entry));
            window.entries.push_back(entry);
        }
        while window.bytes > self.bound {
            let Some(oldest) = window.entries.pop_front() else { break };
            window.bytes = window.bytes.saturating_sub(size(&oldest));
        }
    }

    /// At most `max` entries from the one after `after` on and up to `last`, or `None` when that one is not here
    /// (any more). `last` is what readers were told: they must not run ahead of it.
    pub(super) fn after(&self, after: Position, last: Position, max: usize) -> Option<Vec<Fresh>> {
        let window = self.window();
        let first = window.entries.front()?.stored.position;
        let skip = usize::try_from(after.next().0.checked_sub(first.0)?).ok()?;
        let told = |entry: &&Fresh| entry.stored.position <= last;
        let run: Vec<Fresh> = window.entries.iter().skip(skip).take(max).take_while(told).cloned().collect();
        (!run.is_empty()).then_some(run)
    }
}

/// The bytes an entry counts for, with a guess at what surrounds them.
fn size(entry: &Fresh) -> usize {
    entry.stored.payload.len().saturating_add(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(position: u64) -> Fresh {
        let stored =
            Stored { position: Position(position), subject: "s".to_owned(), payload: vec![0; 1000].into() };
        Fresh { stored, chain: [0; 32] }
    }

    fn positions(recent: &Recent, after: u64, max: usize) -> Option<Vec<u64>> {
        let run = recent.after(Position(after), Position(4), max)?;
        Some(run.iter().map(|entry| entry.stored.position.0).collect())
    }

    #[test]
    fn the_window_moves_and_says_what_it_no_longer_has() {
        let recent = Recent::new(1256 * 3);
        assert_eq!(positions(&recent, 0, 10), None);
        recent.extend([fresh(1), fresh(2)]);
        assert_eq!(positions(&recent, 0, 10), Some(vec![1, 2]));
        assert_eq!(positions(&recent, 0, 1), Some(vec![1]));
        recent.extend([fresh(3), fresh(4), fresh(5)]);
        assert_eq!(positions(&recent, 0, 10), None);
        assert_eq!(positions(&recent, 1, 10), None);
        assert_eq!(positions(&recent, 2, 10), Some(vec![3, 4]), "5 is not announced yet");
        assert_eq!(positions(&recent, 3, 10), Some(vec![4]));
        assert_eq!(positions(&recent, 4, 10), None);
        assert_eq!(positions(&recent, 5, 10), None);
    }
}
