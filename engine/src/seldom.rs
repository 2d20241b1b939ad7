//! Lines of a log that everybody who asks could cause: one a minute of each kind is enough, with how many were left out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tollbook_schemas::time::Timestamp;

/// For how long a kind of line is not said again, in nanoseconds.
const PAUSE: i64 = 60_000_000_000;

/// Which lines were said when.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<BTreeMap<&'static str, Said>>);

/// A kind of line.
#[derive(Clone, Copy, Debug)]
struct Said {
    at: Timestamp,
    left_out: u64,
}

impl Seldom {
    /// How many lines of a kind were left out since the last one, if one may be said now; else this one is left out.
    pub(crate) fn may_say(&self, kind: &'static str, now: Timestamp) -> Option<u64> {
        // Nothing can panic halfway under this lock.
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = kinds.get(kind).copied();
        // A clock that was set back must not silence anything.
        match said.filter(|said| (0..PAUSE).contains(&now.nanos_since(said.at))) {
            Some(Said { at, left_out }) => {
                kinds.insert(kind, Said { at, left_out: left_out.saturating_add(1) });
                None
            }
            None => {
                kinds.insert(kind, Said { at: now, left_out: 0 });
                Some(said.map_or(0, |said| said.left_out))
            }
        }
    }
}

/// What is logged in this thread while `act` runs, line by line.
#[cfg(test)]
pub(crate) fn logged(act: impl FnOnce()) -> Vec<String> {
    use std::io::{self, Write};
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let shared = Shared::default();
    let writer = shared.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, act);
    let text = String::from_utf8(shared.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_said_once_a_minute_with_how_many_were_left_out() {
        let seldom = Seldom::default();
        let at = Timestamp::from_seconds;
        for (kind, now, expected) in [
            ("one", 0, Some(0)),
            ("one", 0, None),
            ("other", 1, Some(0)),
            ("one", 59, None),
            ("one", 60, Some(2)),
            ("one", 119, None),
            ("one", 120, Some(1)),
            // The clock was set back.
            ("one", 100, Some(0)),
            ("one", 101, None),
        ] {
            assert_eq!(seldom.may_say(kind, at(now)), expected, "{kind} {now}");
        }
    }
}
