//! Leases of one organization: what admitted requests have reserved until they are settled, released or over (R5.7).

use std::collections::{HashMap, VecDeque};
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
    pub key: u32,
    /// The model.
    pub model: ModelName,
    /// Input tokens.
    pub input_tokens: u64,
    /// Most output tokens, if it limits them.
    pub max_output_tokens: Option<u64>,
    /// Units beyond tokens; few requests have any.
    pub meters: Option<Box<Meters>>,
}

/// What one admitted request has reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What was asked.
    pub asked: Asked,
    /// The project's place.
    pub project: u32,
    /// When it was admitted.
    pub admitted_at: Timestamp,
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

impl Lease {
    /// Where its tokens are counted in the windows.
    pub const fn at(&self) -> Millis {
        Millis::not_before(self.admitted_at)
    }

    /// Its project's place.
    pub fn project(&self) -> usize {
        usize::try_from(self.project).unwrap_or(usize::MAX)
    }
}

/// A place for a lease.
#[derive(Clone, Debug)]
enum Slot {
    /// An open lease and its number.
    Taken(u64, Lease),
    /// Nothing, and the next free place.
    Free(Option<usize>),
}

/// All leases of an organization.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Places of leases; they are taken again.
    slots: Vec<Slot>,
    /// The first free place.
    free: Option<usize>,
    open: usize,
    /// When leases are over, in order; what has ended before, or lives longer by now, is found out when it is reached.
    ends: VecDeque<(Timestamp, u64)>,
    requests: HashMap<Arc<str>, u64>,
    running: u64,
    held: Amount,
    /// How many were ever opened.
    count: u64,
}

/// Bits of a lease's number that say where it is; the others count.
const SLOT_BITS: u32 = 18;
/// Ends that may be out of date before they are looked through.
const STALE_MAX: usize = 64;

fn slot_of(number: u64) -> usize {
    usize::try_from(number & ((1 << SLOT_BITS) - 1)).unwrap_or(usize::MAX)
}

impl Leases {
    /// How many are open.
    pub const fn len(&self) -> usize {
        self.open
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.open == 0
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
        match self.slots.get(slot_of(number))? {
            Slot::Taken(known, lease) => (*known == number).then_some(lease),
            Slot::Free(_) => None,
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Lease> {
        match self.slots.get_mut(slot_of(number))? {
            Slot::Taken(known, lease) => (*known == number).then_some(lease),
            Slot::Free(_) => None,
        }
    }

    /// The lease of a request.
    pub fn of_request(&self, request: &str) -> Option<(u64, &Lease)> {
        let number = *self.requests.get(request)?;
        Some((number, self.get(number)?))
    }

    /// Opens a lease; its number is never used again. A hold that does not fit beside the others is not kept.
    pub fn open(&mut self, mut lease: Lease) -> u64 {
        match self.held.checked_add(lease.hold) {
            Some(held) => self.held = held,
            None => lease.hold = Amount::ZERO,
        }
        self.count = self.count.wrapping_add(1);
        let slot = self.free.unwrap_or(self.slots.len());
        let number = self.count << SLOT_BITS | u64::try_from(slot).unwrap_or(u64::MAX);
        self.running = self.running.saturating_add(u64::from(lease.running));
        self.open = self.open.saturating_add(1);
        self.note_end(lease.expires_at, number);
        if let Some(request) = &lease.request {
            self.requests.insert(request.clone(), number);
        }
        match self.slots.get_mut(slot) {
            Some(place) => {
                self.free = match place {
                    Slot::Free(next) => *next,
                    Slot::Taken(..) => None,
                };
                *place = Slot::Taken(number, lease);
            }
            None => self.slots.push(Slot::Taken(number, lease)),
        }
        number
    }

    /// Closes a lease: its slot and hold are free.
    pub fn close(&mut self, number: u64) -> Option<Lease> {
        self.get(number)?;
        let slot = slot_of(number);
        let free = Slot::Free(self.free);
        let Slot::Taken(_, lease) = std::mem::replace(self.slots.get_mut(slot)?, free) else { return None };
        self.free = Some(slot);
        self.open = self.open.saturating_sub(1);
        self.running = self.running.saturating_sub(u64::from(lease.running));
        self.held = self.held.checked_sub(lease.hold).unwrap_or_default();
        if let Some(request) = &lease.request
            && self.requests.get(request) == Some(&number)
        {
            self.requests.remove(request);
        }
        if self.open == 0 && self.slots.len() > STALE_MAX {
            // What a busy hour took is given back once it is over.
            *self = Self { count: self.count, ..Self::default() };
        }
        Some(lease)
    }

    /// The request is over; its slot is free, and `hold` is what it holds from now on.
    pub fn end(&mut self, number: u64, tokens: Option<u64>, hold: Option<Amount>) -> Option<&Lease> {
        let (held, running) = (self.held, self.running);
        let lease = self.get_mut(number)?;
        let running = running.saturating_sub(u64::from(lease.running));
        lease.running = false;
        let others = held.checked_sub(lease.hold).unwrap_or_default();
        let wanted = hold.and_then(|hold| Some((hold, others.checked_add(hold)?)));
        let held = match wanted {
            Some((hold, held)) => {
                lease.hold = hold;
                held
            }
            None => held,
        };
        if let Some(tokens) = tokens {
            lease.tokens = tokens;
            lease.actual = true;
        }
        (self.held, self.running) = (held, running);
        self.get(number)
    }

    /// The lease lives until `until`.
    pub fn renew(&mut self, number: u64, until: Timestamp) -> Option<Timestamp> {
        self.get_mut(number)?.expires_at = until;
        self.note_end(until, number);
        Some(until)
    }

    /// The first lease that is over by `now`.
    pub fn over(&mut self, now: Timestamp) -> Option<u64> {
        while let Some((end, number)) = self.ends.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.pop_front();
            if self.get(number).is_some_and(|lease| lease.expires_at == end) {
                return Some(number);
            }
        }
        None
    }

    /// When the next lease may be over; not later than it is.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// Most leases live equally long, so most ends come last.
    fn note_end(&mut self, end: Timestamp, number: u64) {
        if self.ends.len() > self.open.saturating_mul(2).saturating_add(STALE_MAX) {
            let ends = std::mem::take(&mut self.ends);
            let lives = |(end, number): &(Timestamp, u64)| {
                self.get(*number).is_some_and(|lease| lease.expires_at == *end)
            };
            self.ends = ends.into_iter().filter(lives).collect();
        }
        let place = match self.ends.back() {
            Some((last, _)) if *last > end => self.ends.partition_point(|(known, _)| *known <= end),
            Some(_) | None => self.ends.len(),
        };
        self.ends.insert(place, (end, number));
    }
}
