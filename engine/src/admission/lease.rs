//! Leases of one organization: what admitted requests have reserved until they are settled, released or over (R5.7).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::ModelName;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_schemas::usage::Tokens;

use super::window::{Millis, SlidingWindow};

/// Leases that an organization may have open at once: what waits for its usage counts too.
pub const LEASES_MAX: usize = 200_000;
/// Leases that are over and whose usage may still come, that an organization keeps: beyond that the oldest is forgotten,
/// and its usage counts a second time.
const COUNTED_MAX: usize = 2_000;

/// What a request asked for: the same request id with anything else is another request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The key's place.
    pub key: usize,
    /// The model.
    pub model: ModelName,
    /// Input tokens.
    pub input_tokens: u64,
    /// Most output tokens, if it limits them.
    pub max_output_tokens: Option<u64>,
    /// Units beyond tokens.
    pub meters: Meters,
}

/// What one admitted request has reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What was asked.
    pub asked: Asked,
    /// The project's place.
    pub project: usize,
    /// When it was admitted.
    pub admitted_at: Timestamp,
    /// Where its tokens are counted in the windows.
    pub at: Millis,
    /// The local day that its tokens are counted in.
    pub day: Day,
    /// How many tokens are counted for it.
    pub tokens: u64,
    /// The output tokens of its estimate; `None` where the model had no price, which only observing lets pass.
    pub output: Option<u64>,
    /// What is held for it.
    pub hold: Amount,
    /// When it is given back unless renewed.
    pub expires_at: Timestamp,
    /// Whether the request is in progress: it takes a slot.
    pub running: bool,
    /// What it really used, once that is known; otherwise its tokens are the estimate.
    pub actual: Option<Tokens>,
    /// The caller's own name for the request.
    pub request: Option<Arc<str>>,
    /// The lease of the same request before this one, where that was over and still waits for its usage.
    pub earlier: Option<u64>,
}

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

impl Lease {
    /// Where its tokens are counted.
    pub const fn counted(&self) -> Counted {
        Counted { project: self.project, at: self.at, day: self.day, tokens: self.tokens }
    }

    /// Whether what is counted for it is given back while it would still count in the window.
    fn is_short(&self) -> bool {
        self.expires_at < self.at.plus(SlidingWindow::SPAN).begins()
    }
}

/// All leases of an organization.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    open: HashMap<u64, Lease>,
    ends: BTreeSet<(Timestamp, u64)>,
    requests: HashMap<Arc<str>, u64>,
    /// Leases that are over without their usage, whose actual tokens stay counted: it must not count again.
    counted: BTreeMap<u64, (Counted, Option<Arc<str>>)>,
    counted_requests: HashMap<Arc<str>, u64>,
    /// Tokens of leases by the day that they count in, as far as they are estimates.
    estimated: BTreeMap<Day, u128>,
    /// How many are over before a minute is.
    short: usize,
    running: u64,
    held: Amount,
    last: u64,
}

impl Leases {
    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// How many requests are in progress.
    pub const fn running(&self) -> u64 {
        self.running
    }

    /// What is held for all of them.
    pub const fn held(&self) -> Amount {
        self.held
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Option<&Lease> {
        self.open.get(&number)
    }

    /// The first lease of a request that is open: the one that its usage settles.
    pub fn first_of_request(&self, request: &str) -> Option<u64> {
        let (mut number, mut lease) = self.of_request(request)?;
        while let Some((earlier, found)) =
            lease.earlier.and_then(|earlier| Some((earlier, self.get(earlier)?)))
        {
            (number, lease) = (earlier, found);
        }
        Some(number)
    }

    /// The last lease of a request.
    pub fn of_request(&self, request: &str) -> Option<(u64, &Lease)> {
        let number = *self.requests.get(request)?;
        Some((number, self.open.get(&number)?))
    }

    /// Opens a lease; its number is never used again. A hold that does not fit beside the others is not kept.
    pub fn open(&mut self, mut lease: Lease) -> u64 {
        match self.held.checked_add(lease.hold) {
            Some(held) => self.held = held,
            None => lease.hold = Amount::ZERO,
        }
        self.last = self.last.saturating_add(1);
        let number = self.last;
        self.note_estimate(&lease);
        self.short = self.short.saturating_add(usize::from(lease.is_short()));
        self.running = self.running.saturating_add(u64::from(lease.running));
        self.ends.insert((lease.expires_at, number));
        if let Some(request) = &lease.request {
            self.requests.insert(request.clone(), number);
        }
        self.open.insert(number, lease);
        number
    }

    /// Closes a lease: its slot and hold are free.
    pub fn close(&mut self, number: u64) -> Option<Lease> {
        let lease = self.open.remove(&number)?;
        self.running = self.running.saturating_sub(u64::from(lease.running));
        self.held = self.held.checked_sub(lease.hold).unwrap_or_default();
        self.ends.remove(&(lease.expires_at, number));
        self.forget_estimate(&lease);
        self.short = self.short.saturating_sub(usize::from(lease.is_short()));
        if let Some(request) = &lease.request {
            self.unlink(request, number, lease.earlier);
        }
        if self.open.is_empty() {
            // What a busy hour took is given back once it is over.
            self.open.shrink_to_fit();
            self.requests.shrink_to_fit();
        }
        Some(lease)
    }

    /// The request is over; its slot is free.
    pub fn end(&mut self, number: u64) -> Option<&Lease> {
        let lease = self.open.get_mut(&number)?;
        self.running = self.running.saturating_sub(u64::from(lease.running));
        lease.running = false;
        Some(lease)
    }

    /// What a request really used is known, and so many tokens are counted for it.
    pub fn note_actual(&mut self, number: u64, actual: Tokens, tokens: u64) {
        let Some(before) = self.open.get(&number).cloned() else { return };
        self.forget_estimate(&before);
        if let Some(lease) = self.open.get_mut(&number) {
            lease.tokens = tokens;
            lease.actual = Some(actual);
        }
    }

    /// `hold` is what is held for a lease from now on, unless that is more than can be said.
    pub fn hold(&mut self, number: u64, hold: Amount) {
        let Some(lease) = self.open.get_mut(&number) else { return };
        let others = self.held.checked_sub(lease.hold).unwrap_or_default();
        if let Some(held) = others.checked_add(hold) {
            self.held = held;
            lease.hold = hold;
        }
    }

    /// The lease lives until `until`.
    pub fn renew(&mut self, number: u64, until: Timestamp) -> Option<Timestamp> {
        let lease = self.open.get_mut(&number)?;
        self.ends.remove(&(lease.expires_at, number));
        self.short = self.short.saturating_sub(usize::from(lease.is_short()));
        lease.expires_at = until;
        self.short = self.short.saturating_add(usize::from(lease.is_short()));
        self.ends.insert((until, number));
        Some(until)
    }

    /// All of them, the first that is over first.
    pub fn by_end(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.ends.iter().filter_map(|(_, number)| Some((*number, self.open.get(number)?)))
    }

    /// Whether any is over before a minute is.
    pub const fn has_short(&self) -> bool {
        self.short > 0
    }

    /// Tokens that are counted in a day only by estimate.
    pub fn estimated(&self, day: Day) -> u128 {
        self.estimated.get(&day).copied().unwrap_or_default()
    }

    /// Closes a lease that is over. What a request is known to have used stays counted, so it is kept in mind.
    pub fn expire(&mut self, number: u64) -> Option<Lease> {
        let lease = self.close(number)?;
        if lease.actual.is_some() {
            if let Some(request) = &lease.request {
                self.counted_requests.insert(request.clone(), number);
            }
            self.counted.insert(number, (lease.counted(), lease.request.clone()));
            if self.counted.len() > COUNTED_MAX
                && let Some((_, (_, request))) = self.counted.pop_first()
            {
                self.forget_counted_request(request);
            }
        }
        Some(lease)
    }

    /// What stays counted for a lease that is over, if it still counts somewhere; only once.
    pub fn take_counted(&mut self, number: u64, today: Day, now: Millis) -> Option<Counted> {
        let (counted, request) = self.counted.remove(&number)?;
        self.forget_counted_request(request);
        counted.counts(today, now).then_some(counted)
    }

    /// The lease of a request that is over and stays counted.
    pub fn counted_request(&self, request: &str) -> Option<u64> {
        self.counted_requests.get(request).copied()
    }

    /// Forgets what counts nowhere any more.
    pub fn forget_counted(&mut self, today: Day, now: Millis) {
        self.counted.retain(|_, (counted, _)| counted.counts(today, now));
        let Self { counted, counted_requests, .. } = self;
        counted_requests.retain(|_, number| counted.contains_key(number));
    }

    /// Takes a lease out of the chain of its request's leases.
    fn unlink(&mut self, request: &Arc<str>, number: u64, earlier: Option<u64>) {
        let Some(mut at) = self.requests.get(request).copied() else { return };
        if at == number {
            match earlier {
                Some(earlier) => self.requests.insert(request.clone(), earlier),
                None => self.requests.remove(request),
            };
            return;
        }
        while let Some(lease) = self.open.get_mut(&at) {
            match lease.earlier {
                Some(next) if next == number => {
                    lease.earlier = earlier;
                    return;
                }
                Some(next) => at = next,
                None => return,
            }
        }
    }

    fn forget_counted_request(&mut self, request: Option<Arc<str>>) {
        if let Some(request) = &request
            && self.counted_requests.get(request).is_some_and(|number| !self.counted.contains_key(number))
        {
            self.counted_requests.remove(request);
        }
    }

    fn note_estimate(&mut self, lease: &Lease) {
        if lease.actual.is_none() && lease.tokens > 0 {
            let sum = self.estimated.entry(lease.day).or_default();
            *sum = sum.saturating_add(lease.tokens.into());
        }
    }

    fn forget_estimate(&mut self, lease: &Lease) {
        if lease.actual.is_none()
            && let Some(sum) = self.estimated.get_mut(&lease.day)
        {
            *sum = sum.saturating_sub(lease.tokens.into());
            if *sum == 0 {
                self.estimated.remove(&lease.day);
            }
        }
    }

    /// The first lease that is over by `now`.
    pub fn over(&self, now: Timestamp) -> Option<u64> {
        self.ends.first().filter(|(end, _)| *end <= now).map(|(_, number)| *number)
    }
}
