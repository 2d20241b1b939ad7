//! Tokens that stay counted when their lease is over: those of requests that were settled with their numbers, and whose
//! usage may still come. It must not count again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tollbook_schemas::time::Day;

use super::lease::LEASES_MAX;
use super::window::{Millis, SlidingWindow};

/// Where the tokens of a request are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The project's place.
    pub project: usize,
    /// Where in the windows.
    pub at: Millis,
    /// On which local day.
    pub day: Day,
    /// How many.
    pub tokens: u64,
}

impl Counted {
    /// Whether they still count somewhere.
    fn counts(&self, today: Day, now: Millis) -> bool {
        self.day == today || now < self.at.plus(SlidingWindow::SPAN)
    }
}

/// Leases that are over without their usage, by number, until they count nowhere. As many as may be open: of more the
/// oldest are forgotten, and their usage counts a second time.
#[derive(Clone, Debug, Default)]
pub struct StillCounted {
    leases: BTreeMap<u64, (Counted, Option<Arc<str>>)>,
    requests: HashMap<Arc<str>, u64>,
}

impl StillCounted {
    pub(super) fn note(&mut self, number: u64, counted: Counted, request: Option<Arc<str>>) {
        if let Some(request) = &request {
            self.requests.insert(request.clone(), number);
        }
        self.leases.insert(number, (counted, request));
        if self.leases.len() > LEASES_MAX
            && let Some((_, (_, request))) = self.leases.pop_first()
        {
            self.forget_request(request);
        }
    }

    /// What stays counted for a lease, if it still counts somewhere; only once.
    pub(super) fn take(&mut self, number: u64, today: Day, now: Millis) -> Option<Counted> {
        let (counted, request) = self.leases.remove(&number)?;
        self.forget_request(request);
        counted.counts(today, now).then_some(counted)
    }

    /// The last lease of a request.
    pub(super) fn of_request(&self, request: &str) -> Option<u64> {
        self.requests.get(request).copied()
    }

    /// Forgets what counts nowhere any more.
    pub(super) fn forget(&mut self, today: Day, now: Millis) {
        self.leases.retain(|_, (counted, _)| counted.counts(today, now));
        let Self { leases, requests } = self;
        requests.retain(|_, number| leases.contains_key(number));
    }

    fn forget_request(&mut self, request: Option<Arc<str>>) {
        if let Some(request) = &request
            && self.requests.get(request).is_some_and(|number| !self.leases.contains_key(number))
        {
            self.requests.remove(request);
        }
    }
}
