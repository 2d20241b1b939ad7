//! Leases of one organization: what admitted requests have reserved until they are settled, released or over (R5.7).

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;
use std::sync::Arc;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::ModelName;
use tollbook_schemas::policy::Meters;
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_schemas::usage::Tokens;

use super::counted::{Counted, StillCounted};
use super::window::{Millis, SlidingWindow};

/// Leases that an organization may have open at once: what waits for its usage counts too.
pub const LEASES_MAX: usize = 200_000;
/// Ends of leases that one refusal looks at: a flood of refusals must not keep an organization's own requests waiting.
/// Beyond that a promised wait may be longer than it had to be.
const LOOKED_AT_MAX: usize = 1_000;
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
    /// Whether it had a price; only observing lets others pass.
    pub priced: bool,
    /// What it really used, once that is known; otherwise its tokens are the estimate.
    pub actual: Option<Box<Tokens>>,
    /// The caller's own name for the request.
    pub request: Option<Arc<str>>,
}

impl Lease {
    /// Where its tokens are counted.
    pub fn counted(&self) -> Counted {
        Counted { project: self.project(), at: self.at(), day: self.day, tokens: self.tokens }
    }

    /// Whether what is counted for it is given back while it would still count in the window.
    fn is_short(&self) -> bool {
        self.expires_at < self.at().plus(SlidingWindow::SPAN).begins()
    }

    /// Where its tokens are counted in the windows.
    pub const fn at(&self) -> Millis {
        Millis::not_before(self.admitted_at)
    }

    /// Its project's place.
    pub fn project(&self) -> usize {
        usize::try_from(self.project).unwrap_or(usize::MAX)
    }
}

/// The leases of the same request around one: a request that is over and waits for its usage may be made again, and
/// a gateway that names all of them alike has as many as there may be.
#[derive(Clone, Copy, Debug, Default)]
struct Links {
    earlier: Option<NonZeroU64>,
    later: Option<NonZeroU64>,
}

/// The leases of one request.
#[derive(Clone, Copy, Debug)]
struct OfRequest {
    first: u64,
    last: u64,
}

/// A place for a lease.
#[derive(Clone, Debug)]
enum Slot {
    /// An open lease, its number, and others of its request.
    Taken(u64, Links, Lease),
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
    /// When leases are over.
    ends: Ends,
    /// The same of those that are over before a minute is.
    short_ends: Ends,
    requests: HashMap<Arc<str>, OfRequest>,
    still_counted: StillCounted,
    /// Tokens of leases by the day that they count in, as far as they are estimates; few days.
    estimated: Vec<(Day, u128)>,
    /// How many are over before a minute is.
    short: usize,
    running: u64,
    held: Amount,
    /// The same by project: what strict budgets compare (R6.3).
    held_by: Vec<Amount>,
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

    /// What is held for those of the project at a place.
    pub fn held_for(&self, project: usize) -> Amount {
        self.held_by.get(project).copied().unwrap_or_default()
    }

    /// The first instant from one on at which at most so much is held for a project, if none is renewed: exact as far as
    /// ends are looked at.
    pub fn held_falls(&self, project: usize, most: Amount, from: Timestamp) -> Timestamp {
        let mut held = self.held_for(project);
        if held <= most {
            return from;
        }
        for lease in self.first_over().filter(|lease| lease.project() == project) {
            held = held.checked_sub(lease.hold).unwrap_or_default();
            if held <= most {
                return lease.expires_at.max(from);
            }
        }
        self.all_over().unwrap_or(from).max(from)
    }

    /// The first instant from one on at which fewer requests are in progress, if none ends before its lease is over.
    pub fn running_falls(&self, below: u64, from: Timestamp) -> Timestamp {
        let mut running = self.running;
        if running < below {
            return from;
        }
        for lease in self.first_over().filter(|lease| lease.running) {
            running = running.saturating_sub(1);
            if running < below {
                return lease.expires_at.max(from);
            }
        }
        self.all_over().unwrap_or(from).max(from)
    }

    /// Holds another amount for a project; less never fails.
    fn hold_for(&mut self, project: usize, less: Amount, more: Amount) {
        // A place beyond all numbers is nobody's.
        let is_place = u32::try_from(project).is_ok_and(|place| place < u32::MAX);
        if self.held_by.len() <= project && is_place {
            self.held_by.resize(project.saturating_add(1), Amount::ZERO);
        }
        if let Some(held) = self.held_by.get_mut(project) {
            *held = held.checked_sub(less).and_then(|held| held.checked_add(more)).unwrap_or_default();
        }
    }

    /// One of them.
    pub fn get(&self, number: u64) -> Option<&Lease> {
        match self.slots.get(slot_of(number))? {
            Slot::Taken(known, _, lease) => (*known == number).then_some(lease),
            Slot::Free(_) => None,
        }
    }

    fn get_mut(&mut self, number: u64) -> Option<&mut Lease> {
        match self.slots.get_mut(slot_of(number))? {
            Slot::Taken(known, _, lease) => (*known == number).then_some(lease),
            Slot::Free(_) => None,
        }
    }

    /// The first lease of a request that is open: the one that its usage settles.
    pub fn first_of_request(&self, request: &str) -> Option<u64> {
        self.requests.get(request).map(|of| of.first)
    }

    /// The last lease of a request.
    pub fn of_request(&self, request: &str) -> Option<(u64, &Lease)> {
        let number = self.requests.get(request)?.last;
        Some((number, self.get(number)?))
    }

    /// Opens a lease; its number is never used again. A hold that does not fit beside the others is not kept.
    pub fn open(&mut self, mut lease: Lease) -> u64 {
        match self.held.checked_add(lease.hold) {
            Some(held) => self.held = held,
            None => lease.hold = Amount::ZERO,
        }
        self.hold_for(lease.project(), Amount::ZERO, lease.hold);
        self.count = self.count.wrapping_add(1);
        let slot = self.free.unwrap_or(self.slots.len());
        let number = self.count << SLOT_BITS | u64::try_from(slot).unwrap_or(u64::MAX);
        self.running = self.running.saturating_add(u64::from(lease.running));
        self.open = self.open.saturating_add(1);
        self.note_estimate(&lease);
        self.note_end(number, lease.expires_at, lease.is_short());
        let earlier = lease.request.as_ref().and_then(|request| self.link(request, number));
        let links = Links { earlier, later: None };
        match self.slots.get_mut(slot) {
            Some(place) => {
                self.free = match place {
                    Slot::Free(next) => *next,
                    Slot::Taken(..) => None,
                };
                *place = Slot::Taken(number, links, lease);
            }
            None => self.slots.push(Slot::Taken(number, links, lease)),
        }
        number
    }

    /// Closes a lease: its slot and hold are free.
    pub fn close(&mut self, number: u64) -> Option<Lease> {
        self.get(number)?;
        let slot = slot_of(number);
        let free = Slot::Free(self.free);
        let Slot::Taken(_, links, lease) = std::mem::replace(self.slots.get_mut(slot)?, free) else {
            return None;
        };
        self.free = Some(slot);
        self.open = self.open.saturating_sub(1);
        self.running = self.running.saturating_sub(u64::from(lease.running));
        self.held = self.held.checked_sub(lease.hold).unwrap_or_default();
        self.hold_for(lease.project(), lease.hold, Amount::ZERO);
        self.forget_estimate(&lease);
        if lease.is_short() {
            self.forget_short();
        }
        if let Some(request) = &lease.request {
            self.unlink(request, links);
        }
        if self.open == 0 && self.slots.len() > STALE_MAX {
            // What a busy hour took is given back once it is over.
            let still_counted = std::mem::take(&mut self.still_counted);
            *self = Self { count: self.count, still_counted, ..Self::default() };
        }
        Some(lease)
    }

    /// The request is over; its slot is free.
    pub fn end(&mut self, number: u64) -> Option<&Lease> {
        let lease = self.get_mut(number)?;
        if std::mem::take(&mut lease.running) {
            self.running = self.running.saturating_sub(1);
        }
        self.get(number)
    }

    /// What a request really used is known, and so many tokens are counted for it.
    pub fn note_actual(&mut self, number: u64, actual: Tokens, tokens: u64) {
        let Some(lease) = self.get_mut(number) else { return };
        let estimate = lease.actual.is_none().then_some((lease.day, lease.tokens));
        lease.tokens = tokens;
        lease.actual = Some(Box::new(actual));
        if let Some((day, tokens)) = estimate {
            self.lower_estimate(day, tokens);
        }
    }

    /// `hold` is what is held for a lease from now on, unless that is more than can be said.
    pub fn hold(&mut self, number: u64, hold: Amount) {
        let held = self.held;
        let Some(lease) = self.get_mut(number) else { return };
        let others = held.checked_sub(lease.hold).unwrap_or_default();
        if let Some(held) = others.checked_add(hold) {
            let (project, before) = (lease.project(), std::mem::replace(&mut lease.hold, hold));
            self.held = held;
            self.hold_for(project, before, hold);
        }
    }

    /// The lease lives until `until`.
    pub fn renew(&mut self, number: u64, until: Timestamp) -> Option<Timestamp> {
        let lease = self.get_mut(number)?;
        let was_short = lease.is_short();
        lease.expires_at = until;
        let is_short = lease.is_short();
        self.note_end(number, until, is_short);
        if was_short {
            self.forget_short();
        }
        Some(until)
    }

    /// The numbers of all of them.
    pub fn numbers(&self) -> Vec<u64> {
        let taken = self.slots.iter().filter_map(|slot| match slot {
            Slot::Taken(number, ..) => Some(*number),
            Slot::Free(_) => None,
        });
        taken.collect()
    }

    /// Those that are over first, in order; not all where there are many.
    pub fn first_over(&self) -> impl Iterator<Item = &Lease> {
        self.alive(&self.ends)
    }

    /// By when all of them are over, if they are not renewed.
    pub fn all_over(&self) -> Option<Timestamp> {
        self.ends.0.back().map(|(end, _)| *end)
    }

    /// Those that are over before a minute is, in the order of their ends; not all where there are many.
    pub fn short(&self) -> impl Iterator<Item = &Lease> {
        self.alive(&self.short_ends)
    }

    fn alive<'a>(&'a self, ends: &'a Ends) -> impl Iterator<Item = &'a Lease> {
        let looked_at = ends.0.iter().take(LOOKED_AT_MAX);
        looked_at.filter_map(|(end, number)| self.get(*number).filter(|lease| lease.expires_at == *end))
    }

    /// Tokens that are counted in a day only by estimate.
    pub fn estimated(&self, day: Day) -> u128 {
        self.estimated.iter().find(|(known, _)| *known == day).map_or(0, |(_, sum)| *sum)
    }

    /// Closes a lease that is over. What a request is known to have used stays counted, so it is kept in mind.
    pub fn expire(&mut self, number: u64) -> Option<Lease> {
        let lease = self.close(number)?;
        if lease.actual.is_some() {
            self.still_counted.note(number, lease.counted(), lease.request.clone());
        }
        Some(lease)
    }

    /// Leases that are over and still counted.
    pub const fn counted(&mut self) -> &mut StillCounted {
        &mut self.still_counted
    }

    /// Puts a lease behind the others of its request; the one before it.
    fn link(&mut self, request: &Arc<str>, number: u64) -> Option<NonZeroU64> {
        let earlier = match self.requests.entry(request.clone()) {
            Entry::Vacant(place) => {
                place.insert(OfRequest { first: number, last: number });
                return None;
            }
            Entry::Occupied(mut known) => std::mem::replace(&mut known.get_mut().last, number),
        };
        self.links_mut(earlier)?.later = NonZeroU64::new(number);
        NonZeroU64::new(earlier)
    }

    /// Takes a lease out from among the others of its request.
    fn unlink(&mut self, request: &Arc<str>, Links { earlier, later }: Links) {
        if let Some(links) = earlier.and_then(|earlier| self.links_mut(earlier.get())) {
            links.later = later;
        }
        if let Some(links) = later.and_then(|later| self.links_mut(later.get())) {
            links.earlier = earlier;
        }
        match (earlier, later) {
            (Some(_), Some(_)) => {}
            (None, None) => {
                self.requests.remove(request);
            }
            (Some(last), None) => {
                if let Some(known) = self.requests.get_mut(request) {
                    known.last = last.get();
                }
            }
            (None, Some(first)) => {
                if let Some(known) = self.requests.get_mut(request) {
                    known.first = first.get();
                }
            }
        }
    }

    fn links_mut(&mut self, number: u64) -> Option<&mut Links> {
        match self.slots.get_mut(slot_of(number))? {
            Slot::Taken(known, links, _) => (*known == number).then_some(links),
            Slot::Free(_) => None,
        }
    }

    fn note_estimate(&mut self, lease: &Lease) {
        if lease.actual.is_some() || lease.tokens == 0 {
            return;
        }
        let tokens = u128::from(lease.tokens);
        match self.estimated.iter_mut().find(|(day, _)| *day == lease.day) {
            Some((_, sum)) => *sum = sum.saturating_add(tokens),
            None => self.estimated.push((lease.day, tokens)),
        }
    }

    fn forget_estimate(&mut self, lease: &Lease) {
        if lease.actual.is_none() {
            self.lower_estimate(lease.day, lease.tokens);
        }
    }

    fn lower_estimate(&mut self, day: Day, tokens: u64) {
        if let Some(place) = self.estimated.iter().position(|(known, _)| *known == day)
            && let Some((_, sum)) = self.estimated.get_mut(place)
        {
            *sum = sum.saturating_sub(tokens.into());
            if *sum == 0 {
                self.estimated.swap_remove(place);
            }
        }
    }

    /// The first lease that is over by `now`.
    pub fn over(&mut self, now: Timestamp) -> Option<u64> {
        self.short_ends.forget(now);
        while let Some((end, number)) = self.ends.0.front().copied().filter(|(end, _)| *end <= now) {
            self.ends.0.pop_front();
            if self.get(number).is_some_and(|lease| lease.expires_at == end) {
                return Some(number);
            }
        }
        None
    }

    /// When the next lease may be over; not later than it is.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.0.front().map(|(end, _)| *end)
    }

    fn note_end(&mut self, number: u64, end: Timestamp, is_short: bool) {
        if self.ends.is_stale(self.open) {
            let ends = std::mem::take(&mut self.ends);
            self.ends = self.living(ends);
        }
        self.ends.note(end, number);
        if is_short {
            if self.short_ends.is_stale(self.short) {
                let ends = std::mem::take(&mut self.short_ends);
                self.short_ends = self.living(ends);
            }
            self.short = self.short.saturating_add(1);
            self.short_ends.note(end, number);
        }
    }

    fn living(&self, Ends(mut ends): Ends) -> Ends {
        ends.retain(|(end, number)| self.get(*number).is_some_and(|lease| lease.expires_at == *end));
        Ends(ends)
    }

    /// One that was over before a minute is lives longer, or no more.
    fn forget_short(&mut self) {
        self.short = self.short.saturating_sub(1);
        if self.short == 0 {
            self.short_ends = Ends::default();
        }
    }
}

/// Ends of leases with their numbers, in order; what has ended before, or lives longer by now, is found out when it is
/// reached.
#[derive(Clone, Debug, Default)]
struct Ends(VecDeque<(Timestamp, u64)>);

impl Ends {
    /// Whether most may be out of date, where so many are not.
    fn is_stale(&self, alive: usize) -> bool {
        self.0.len() > alive.saturating_mul(2).saturating_add(STALE_MAX)
    }

    /// Most leases live equally long, so most ends come last. A lease that is renewed to and fro is noted once for each.
    fn note(&mut self, end: Timestamp, number: u64) {
        let place = match self.0.back() {
            Some(last) if *last >= (end, number) => match self.0.binary_search(&(end, number)) {
                Ok(_) => return,
                Err(place) => place,
            },
            Some(_) | None => self.0.len(),
        };
        self.0.insert(place, (end, number));
    }

    fn forget(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|(end, _)| *end <= now) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(admitted: i64, until: i64) -> Lease {
        Lease {
            asked: Asked {
                key: 0,
                model: ModelName::parse("m").unwrap(),
                input_tokens: 1,
                max_output_tokens: None,
                meters: None,
            },
            project: 0,
            admitted_at: Timestamp::from_nanos(admitted),
            day: Day::of_number(0),
            tokens: 1,
            hold: Amount::ZERO,
            expires_at: Timestamp::from_nanos(until),
            running: true,
            priced: true,
            actual: None,
            request: None,
        }
    }

    const SECOND: i64 = 1_000_000_000;

    /// Found by review: leases of one request were looked through from the last to the first, each time.
    #[test]
    fn r5_7_leases_of_one_request_are_found_at_once_however_many() {
        let mut leases = Leases::default();
        let named = || Lease { request: Some("r".into()), ..lease(0, 600 * SECOND) };
        let numbers: Vec<_> = (0..100_000).map(|_| leases.open(named())).collect();
        let ends = |leases: &Leases| {
            (leases.first_of_request("r"), leases.of_request("r").map(|(number, _)| number))
        };
        assert_eq!(ends(&leases), (Some(numbers[0]), Some(numbers[99_999])));
        // From the middle, from both ends, and all the others in order: the whole takes no time.
        for number in numbers[50_000..99_000].iter().chain(&numbers[99_500..]).chain(&numbers[..10]) {
            leases.close(*number);
        }
        assert_eq!(ends(&leases), (Some(numbers[10]), Some(numbers[99_499])));
        for number in &numbers[10..50_000] {
            assert_eq!(leases.first_of_request("r"), Some(*number));
            leases.close(*number);
        }
        assert_eq!(ends(&leases), (Some(numbers[99_000]), Some(numbers[99_499])));
        for number in numbers[99_000..99_500].iter().rev() {
            assert_eq!(leases.of_request("r").map(|(number, _)| number), Some(*number));
            leases.close(*number);
        }
        assert_eq!((ends(&leases), leases.len()), ((None, None), 0));
    }

    #[test]
    fn r5_6_of_many_leases_a_refusal_looks_at_the_first() {
        let mut leases = Leases::default();
        let numbers: Vec<_> = (0..5_000).map(|at| leases.open(lease(0, 30 * SECOND + at))).collect();
        assert_eq!((leases.short().count(), leases.first_over().count()), (LOOKED_AT_MAX, LOOKED_AT_MAX));
        assert_eq!(leases.all_over(), Some(Timestamp::from_nanos(30 * SECOND + 4_999)));
        for number in &numbers[1..] {
            leases.renew(*number, Timestamp::from_nanos(60 * SECOND));
        }
        assert_eq!((leases.short, leases.short().count()), (1, 1));
        // To and fro: each end is noted once.
        for end in [10, 60, 10, 60, 10] {
            leases.renew(numbers[7], Timestamp::from_nanos(end * SECOND));
        }
        assert_eq!((leases.short, leases.short().count()), (2, 2));
        leases.close(numbers[0]);
        leases.close(numbers[7]);
        assert_eq!((leases.short, leases.short_ends.0.len()), (0, 0));
    }
}
