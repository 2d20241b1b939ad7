//! Leases of one organization: what admitted requests have reserved until they are settled, released or over (R5.7).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::ModelName;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::{Day, Timestamp};

use super::window::Millis;

/// Leases that an organization may have open at once: what waits for its usage counts too.
pub const LEASES_MAX: usize = 200_000;

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
    /// What is held for it.
    pub hold: Amount,
    /// When it is given back unless renewed.
    pub expires_at: Timestamp,
    /// Whether the request is in progress: it takes a slot.
    pub running: bool,
    /// Whether its tokens are what it really used; otherwise the estimate.
    pub actual: bool,
    /// The caller's own name for the request.
    pub request: Option<Arc<str>>,
}

/// All leases of an organization.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    open: HashMap<u64, Lease>,
    ends: BTreeSet<(Timestamp, u64)>,
    requests: HashMap<Arc<str>, u64>,
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

    /// The lease of a request.
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
        if let Some(request) = &lease.request
            && self.requests.get(request) == Some(&number)
        {
            self.requests.remove(request);
        }
        if self.open.is_empty() {
            // What a busy hour took is given back once it is over.
            self.open.shrink_to_fit();
            self.requests.shrink_to_fit();
        }
        Some(lease)
    }

    /// The request is over; its slot is free, and `hold` is what it holds from now on, unless that is more.
    pub fn end(&mut self, number: u64, tokens: Option<u64>, hold: Option<Amount>) -> Option<&Lease> {
        let lease = self.open.get_mut(&number)?;
        self.running = self.running.saturating_sub(u64::from(lease.running));
        lease.running = false;
        if let Some(hold) = hold {
            let others = self.held.checked_sub(lease.hold).unwrap_or_default();
            if let Some(held) = others.checked_add(hold) {
                self.held = held;
                lease.hold = hold;
            }
        }
        if let Some(tokens) = tokens {
            lease.tokens = tokens;
            lease.actual = true;
        }
        Some(lease)
    }

    /// The lease lives until `until`.
    pub fn renew(&mut self, number: u64, until: Timestamp) -> Option<Timestamp> {
        let lease = self.open.get_mut(&number)?;
        self.ends.remove(&(lease.expires_at, number));
        lease.expires_at = until;
        self.ends.insert((until, number));
        Some(until)
    }

    /// The first lease that is over by `now`.
    pub fn over(&self, now: Timestamp) -> Option<u64> {
        self.ends.first().filter(|(end, _)| *end <= now).map(|(_, number)| *number)
    }
}
