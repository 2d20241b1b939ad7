//! Admission: may this request pass? Decided in the caller's thread, in microseconds, on what the owner of State has
//! published (ARCHITECTURE, Admission; docs/decisions/0020).
//!
//! ```text
//! owner ─ applies ─> publishes ──> Account: standing │ leases, windows <── admit, settle, release, renew ── doors
//! ```
//!
//! [`account`] is one organization, pure; [`check`] the order of the limits; [`Desk`] the accounts of a partition.

pub mod account;
pub mod asked;
pub mod budget;
pub mod check;
mod counted;
mod desk;
pub mod fresh;
pub mod lease;
mod projects;
pub mod refusal;
pub(crate) mod seed;
mod settings;
pub mod standing;
pub mod window;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{LeaseId, ModelName, OrgId, ProjectId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Tokens;

use self::account::{Account, Request};
pub use self::account::{Ended, Granted, InFlight, Terms};
pub use self::check::{Quota, Quotas};
pub use self::desk::Desk;
pub use self::refusal::{Code, Refusal};
pub use self::settings::{AdmissionSettings, Mode, WhenBehind};
use crate::clock::{self, Clock};
use crate::metrics;
use crate::seldom::Seldom;

/// Longest secret that can be one.
const SECRET_MAX: usize = 512;
/// Parts of the table of keys, so that publishing one key stops few requests.
const KEY_SHARDS: usize = 64;
/// Disagreements with the system to be replaced that are kept (R10.2).
const DISAGREEMENTS_MAX: usize = 1_000;

/// A request that asks whether it may pass.
#[derive(Clone)]
pub struct Ask<'a> {
    /// The customer's API key, as it was sent.
    pub api_key: &'a str,
    /// Where the request comes from, if that is known.
    pub ip: Option<IpAddr>,
    /// The model it is for.
    pub model: &'a ModelName,
    /// Its input tokens, cached ones included.
    pub input_tokens: u64,
    /// Most output tokens that it may make; `None`: the model's most.
    pub max_output_tokens: Option<u64>,
    /// Units beyond tokens.
    pub meters: &'a Meters,
    /// The caller's own name for it: the same again gets the same lease.
    pub request_id: Option<&'a str>,
    /// How long its lease lives; `None`: as configured.
    pub lease_seconds: Option<i64>,
    /// The organizations that the caller may ask for; `None`: all.
    pub organizations: Option<&'a [OrgId]>,
}

/// A request that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What settles, renews or releases it.
    pub lease: LeaseId,
    /// What was decided.
    pub granted: Granted,
    /// How far State trails the log, where that is more than it should.
    pub behind: Option<Duration>,
}

/// Why something was not done to a lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is no such lease: it was settled by usage, released, or is over.
    #[error("there is no such lease: it was settled by usage, was released, or is over")]
    NotFound,
    /// This node cannot tell now.
    #[error("{0}")]
    NotReady(&'static str),
}

/// What the system that is to be replaced decided (R10.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// The request passed.
    Admit,
    /// It did not.
    Refuse,
}

/// A request that was decided otherwise by the system to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// When.
    pub at: Timestamp,
    /// What that system decided.
    pub theirs: Decided,
    /// Why it would have been refused here; `None`: it would have passed.
    pub ours: Option<Refusal>,
    /// The model.
    pub model: ModelName,
    /// The organization, where the key is known.
    pub organization: Option<OrgId>,
}

/// Where a key is.
#[derive(Clone, Debug)]
struct KeyAt {
    partition: PartitionId,
    account: Arc<Mutex<Account>>,
    number: u32,
    place: usize,
}

/// A key, and what tells which of two with one secret counts.
#[derive(Debug)]
struct KeyEntry {
    at: KeyAt,
    made: (Timestamp, OrgId),
}

/// Keys by what their secrets hash to.
type KeyShard = RwLock<HashMap<SecretHash, KeyEntry, BuildHasherDefault<FirstBytes>>>;

/// Keys of every partition.
#[derive(Debug)]
struct Keys(Vec<KeyShard>);

/// A hash of a hash is its first bytes.
#[derive(Clone, Copy, Debug, Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

/// Admission of one node. Cheap to share.
#[derive(Debug)]
pub struct Admissions {
    settings: AdmissionSettings,
    clock: Clock,
    /// Tells this process's leases from others'.
    run: u64,
    keys: Arc<Keys>,
    desks: Vec<Arc<Desk>>,
    admitted: AtomicU64,
    refused: Vec<AtomicU64>,
    disagreements: Mutex<VecDeque<Disagreement>>,
    disagreed: AtomicU64,
    said: Seldom,
}

impl Keys {
    fn new() -> Self {
        Self((0..KEY_SHARDS).map(|_| RwLock::default()).collect())
    }

    fn shard(&self, secret: &SecretHash) -> Option<&KeyShard> {
        // By another byte than the tables go by.
        self.0.get(usize::from(secret.0[31]) % KEY_SHARDS)
    }

    fn find(&self, secret: &SecretHash) -> Option<KeyAt> {
        let shard = self.shard(secret)?.read().unwrap_or_else(PoisonError::into_inner);
        shard.get(secret).map(|key| key.at.clone())
    }

    /// Notes a key. A secret that was moved in twice, into two partitions, is of the key that was made first, whichever
    /// is noted first: as within a partition.
    fn note(&self, secret: SecretHash, key: KeyEntry) {
        let Some(shard) = self.shard(&secret) else { return };
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        let stays = |known: &KeyEntry| known.at.partition != key.at.partition && known.made < key.made;
        if !shard.get(&secret).is_some_and(stays) {
            shard.insert(secret, key);
        }
    }
}

impl Admissions {
    /// Admission of a node with so many partitions, of which it knows nothing yet.
    pub fn new(settings: AdmissionSettings, clock: Clock, partitions: u16) -> Self {
        let keys = Arc::new(Keys::new());
        let run = clock::new_writer().0;
        let desks = (0..partitions).map(|partition| {
            Arc::new(Desk::new(PartitionId(partition), keys.clone(), settings.terms(), clock.clone(), run))
        });
        Self {
            desks: desks.collect(),
            clock,
            run,
            keys,
            admitted: AtomicU64::new(0),
            refused: Code::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            disagreements: Mutex::default(),
            disagreed: AtomicU64::new(0),
            said: Seldom::default(),
            settings,
        }
    }

    /// How it is set.
    pub const fn settings(&self) -> &AdmissionSettings {
        &self.settings
    }

    /// The accounts of a partition.
    pub fn desk(&self, partition: PartitionId) -> Option<&Arc<Desk>> {
        self.desks.get(usize::from(partition.0))
    }

    /// The accounts of every partition, in order.
    pub fn desks(&self) -> impl Iterator<Item = &Arc<Desk>> {
        self.desks.iter()
    }

    /// Decides whether a request may pass, and reserves for it what it may come to (R5.7). Never waits.
    pub fn admit(&self, ask: &Ask<'_>) -> Result<Admitted, Box<Refusal>> {
        let result = self.decide(ask);
        match &result {
            Ok(_) => {
                self.admitted.fetch_add(1, Ordering::Relaxed);
            }
            Err(refusal) => self.count(refusal.code),
        }
        result
    }

    fn decide(&self, ask: &Ask<'_>) -> Result<Admitted, Box<Refusal>> {
        let now = self.clock.now();
        let (desk, key) = self.find(ask)?;
        let behind = self.ready(desk)?;
        let terms = self.settings.terms();
        let terms = Terms { lease_seconds: ask.lease_seconds.unwrap_or(terms.lease_seconds), ..terms };
        let rules = desk.rules();
        let mut account = lock(&key.account);
        let open = account.leases();
        let granted = account.admit(&rules, &ask.request(), key.place, terms, now);
        let first = open == 0 && account.leases() > 0;
        desk.note_expired(account.take_expired());
        let first_refusal = account.take_first_refusal();
        drop(account);
        if let Some(refusal) = first_refusal {
            desk.note_first_refusal(refusal);
        }
        if first {
            desk.note_busy(key.number);
        }
        let granted = granted?;
        let lease = self.lease_id(desk.partition(), key.number, granted.number);
        Ok(Admitted { lease, granted, behind })
    }

    /// Why a request would not pass: nothing is reserved or counted.
    pub fn compare(&self, ask: &Ask<'_>) -> Result<(), Box<Refusal>> {
        let now = self.clock.now();
        let (desk, key) = self.find(ask)?;
        self.ready(desk)?;
        let rules = desk.rules();
        let mut account = lock(&key.account);
        match account.would_refuse(&rules, &ask.request(), key.place, self.settings.terms(), now) {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    /// The request of a lease is over: frees its slot. With its numbers, windows and hold become what it used until its
    /// usage is applied; without, they stay until its usage comes or the lease is over.
    pub fn settle(
        &self,
        lease: &LeaseId,
        actual: Option<Tokens>,
        organizations: Option<&[OrgId]>,
    ) -> Result<Ended, LeaseError> {
        let terms = self.settings.terms();
        self.with_lease(lease, organizations, |account, rules, number, now| {
            account.settle(rules, number, actual, terms, now)
        })
    }

    /// Gives back what a lease has reserved: slot, tokens and hold, but not its request count. Once it was settled with
    /// numbers only the slot: what was used stays held until its usage is applied.
    pub fn release(&self, lease: &LeaseId, organizations: Option<&[OrgId]>) -> Result<(), LeaseError> {
        self.with_lease(lease, organizations, |account, _, number, now| account.release(number, now))
    }

    /// Lets a lease live so many seconds from now; `None`: as configured.
    pub fn renew(
        &self,
        lease: &LeaseId,
        seconds: Option<i64>,
        organizations: Option<&[OrgId]>,
    ) -> Result<Timestamp, LeaseError> {
        let seconds = seconds.unwrap_or(self.settings.lease_seconds);
        self.with_lease(lease, organizations, |account, rules, number, now| {
            account.renew(rules, number, seconds, now)
        })
    }

    /// What an organization has in flight; `None`: this node does not decide about it.
    pub fn in_flight(&self, partition: PartitionId, organization: &OrgId) -> Option<InFlight> {
        let (_, account) = self.desk(partition).filter(|desk| desk.is_owned())?.find(organization)?;
        Some(lock(&account).in_flight(self.clock.now()))
    }

    /// What is held for a project of an organization; `None`: this node does not decide about it.
    pub fn held_for(
        &self,
        partition: PartitionId,
        organization: &OrgId,
        project: &ProjectId,
    ) -> Option<Amount> {
        let (_, account) = self.desk(partition).filter(|desk| desk.is_owned())?.find(organization)?;
        let mut account = lock(&account);
        account.advance(self.clock.now());
        Some(account.held_for(project))
    }

    /// Notes what the system to be replaced decided about a request (R10.2); whether it was the same.
    pub fn note_decided(&self, ask: &Ask<'_>, theirs: Decided, ours: Option<&Refusal>) -> bool {
        let agrees = (theirs == Decided::Refuse) == ours.is_some();
        if !agrees {
            let (at, model) = (self.clock.now(), ask.model.clone());
            let organization = self.find(ask).ok().map(|(_, key)| lock(&key.account).id().clone());
            let code = ours.map_or("admit", |refusal| refusal.code.as_str());
            if let Some(left_out) = self.may_say(code) {
                tracing::info!(?theirs, ours = code, organization = organization.as_ref().map(OrgId::as_str), %model, left_out, "decided otherwise than the system to be replaced");
            }
            let mut kept = lock(&self.disagreements);
            if kept.len() >= DISAGREEMENTS_MAX {
                kept.pop_front();
            }
            kept.push_back(Disagreement { at, theirs, ours: ours.cloned(), model, organization });
            self.disagreed.fetch_add(1, Ordering::Relaxed);
        }
        agrees
    }

    /// How many lines of a kind the log was spared since the last one, if one may be written now.
    pub(crate) fn may_say(&self, kind: &'static str) -> Option<u64> {
        self.said.may_say(kind, self.clock.now())
    }

    /// The last disagreements, oldest first, and how many there were since the start.
    pub fn disagreements(&self) -> (Vec<Disagreement>, u64) {
        let kept = lock(&self.disagreements).iter().cloned().collect();
        (kept, self.disagreed.load(Ordering::Relaxed))
    }

    /// Gives back leases that are over, and says how things stand.
    pub fn sweep(&self) {
        for desk in &self.desks {
            desk.sweep(self.clock.now());
        }
        let refused = Code::ALL.iter().zip(&self.refused);
        let refused = refused.map(|(code, count)| (code.as_str(), count.load(Ordering::Relaxed)));
        metrics::admissions(self.admitted.load(Ordering::Relaxed), refused);
        metrics::disagreements(self.disagreed.load(Ordering::Relaxed));
    }

    /// Whether State is near enough to the log everywhere that this node owns, or how far it trails.
    pub fn behind(&self) -> Option<Duration> {
        let lags = self.desks.iter().filter(|desk| desk.is_owned()).map(|desk| desk.fresh().lag());
        lags.max().filter(|lag| *lag > self.settings.lag_max)
    }

    /// The same, where that keeps requests from being admitted.
    pub(crate) fn too_far_behind(&self) -> Option<Duration> {
        match self.settings.when_behind {
            WhenBehind::Refuse => self.behind(),
            WhenBehind::Admit => None,
        }
    }

    fn count(&self, code: Code) {
        let place = Code::ALL.iter().position(|known| *known == code);
        if let Some(count) = place.and_then(|place| self.refused.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The key of a request, and the partition that it is in.
    fn find(&self, ask: &Ask<'_>) -> Result<(&Desk, KeyAt), Box<Refusal>> {
        let refused = |code| Err(Box::new(Refusal::bare(code)));
        let secret = ask.api_key;
        if secret.is_empty() {
            return refused(Code::KeyMissing);
        }
        if secret.len() > SECRET_MAX || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return refused(Code::KeyMalformed);
        }
        let found = self.keys.find(&SecretHash(Sha256::digest(secret).into()));
        let found = found.and_then(|key| Some((self.desk(key.partition)?, key)));
        let Some((desk, key)) = found else {
            // A key that is not known may be one that this node has not applied yet.
            for desk in &self.desks {
                self.ready(desk)?;
            }
            // Keys that were moved in need not look like ours, but what does not and is none was never meant to be one.
            return refused(if secret.starts_with("sk-") { Code::KeyInvalid } else { Code::KeyMalformed });
        };
        match ask.organizations {
            Some(allowed) if !allowed.contains(lock(&key.account).id()) => refused(Code::KeyInvalid),
            Some(_) | None => Ok((desk, key)),
        }
    }

    /// Whether this node may decide for a partition, and how far State trails the log where that is too far.
    fn ready(&self, desk: &Desk) -> Result<Option<Duration>, Box<Refusal>> {
        if !desk.is_owned() {
            return Err(Box::new(Refusal::not_ready(NOT_OWNER)));
        }
        let lag = desk.fresh().lag();
        if lag <= self.settings.lag_max {
            return Ok(None);
        }
        match self.settings.when_behind {
            WhenBehind::Admit => Ok(Some(lag)),
            WhenBehind::Refuse => Err(Box::new(Refusal::not_ready(BEHIND))),
        }
    }

    fn with_lease<T>(
        &self,
        lease: &LeaseId,
        organizations: Option<&[OrgId]>,
        act: impl FnOnce(&mut Account, &standing::Rules, u64, Timestamp) -> Option<T>,
    ) -> Result<T, LeaseError> {
        let Some((partition, account, number)) = self.lease_place(lease) else {
            // It may be a lease of the process that owns what this one does not.
            let owns_all = self.desks.iter().all(|desk| desk.is_owned());
            return Err(if owns_all { LeaseError::NotFound } else { LeaseError::NotReady(NOT_OWNER) });
        };
        let desk = self.desk(partition).ok_or(LeaseError::NotFound)?;
        if !desk.is_owned() {
            return Err(LeaseError::NotReady(NOT_OWNER));
        }
        let account = desk.at(account).ok_or(LeaseError::NotFound)?;
        let rules = desk.rules();
        let mut account = lock(&account);
        if organizations.is_some_and(|allowed| !allowed.contains(account.id())) {
            return Err(LeaseError::NotFound);
        }
        let done = act(&mut account, &rules, number, self.clock.now());
        desk.note_expired(account.take_expired());
        done.ok_or(LeaseError::NotFound)
    }

    fn lease_id(&self, partition: PartitionId, account: u32, number: u64) -> LeaseId {
        desk::lease_id(self.run, partition, account, number)
    }

    fn lease_place(&self, lease: &LeaseId) -> Option<(PartitionId, u32, u64)> {
        desk::lease_place(self.run, lease)
    }
}

/// Without the customer's key, so that no log has it.
impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            api_key: _,
            ip,
            model,
            input_tokens,
            max_output_tokens,
            meters,
            request_id,
            lease_seconds,
            organizations,
        } = self;
        f.debug_struct("Ask")
            .field("ip", ip)
            .field("model", model)
            .field("input_tokens", input_tokens)
            .field("max_output_tokens", max_output_tokens)
            .field("meters", meters)
            .field("request_id", request_id)
            .field("lease_seconds", lease_seconds)
            .field("organizations", organizations)
            .finish_non_exhaustive()
    }
}

impl<'a> Ask<'a> {
    fn request(&self) -> Request<'a> {
        Request {
            ip: self.ip,
            model: self.model,
            input_tokens: self.input_tokens,
            max_output_tokens: self.max_output_tokens,
            meters: self.meters,
            request_id: self.request_id,
        }
    }
}

const NOT_OWNER: &str = "this node does not decide for that organization now; try again shortly";
const BEHIND: &str = "this node has not caught up with the log; try again shortly";

/// Nothing can panic halfway under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
