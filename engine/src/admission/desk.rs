//! The accounts of one partition: the owner publishes into them, requests are decided on them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::Notify;
use tollbook_projections::organization::Organization;
use tollbook_projections::past::Settling;
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::{Effect, State};
use tollbook_schemas::batch::UsageBatch;
use tollbook_schemas::entry::{Body, Decision};
use tollbook_schemas::event::{ConfigEvent, Event, KeyEvent, PartitionEvent, ProjectEvent, QuarantineEvent};
use tollbook_schemas::id::{KeyId, LeaseId, OrgId, ProjectId};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Charged, Extras, UsagePlace};

use super::account::{Account, LeaseName, Terms, Used};
use super::budget::FirstRefusal;
use super::fresh::Freshness;
use super::standing::Rules;
use super::{KeyAt, KeyEntry, Keys, lock};
use crate::clock::Clock;
use crate::metrics;

/// Usage that occurred longer ago counts nowhere any more, in seconds: no local day is as long.
const COUNTED_SECONDS: i64 = 36 * 60 * 60;

/// The accounts of one partition.
#[derive(Debug)]
pub struct Desk {
    partition: PartitionId,
    terms: Terms,
    clock: Clock,
    keys: Arc<Keys>,
    rules: RwLock<Arc<Rules>>,
    accounts: RwLock<Accounts>,
    /// Accounts with leases, for finding those that are over.
    busy: Mutex<Vec<u32>>,
    /// Accounts with budgets: what a billing cycle's end changes.
    budgeted: Mutex<BTreeSet<u32>>,
    /// Refusals that the log should have; of each breach one, so there are never more than budgets.
    first_refusals: Mutex<VecDeque<FirstRefusal>>,
    first_refused: Notify,
    expired: AtomicU64,
    owned: AtomicBool,
    /// The last term by which this process decided.
    last_term: AtomicU64,
    fresh: Freshness,
    /// Tells this process's leases from others'.
    run: u64,
}

/// Accounts are never removed, so their numbers stay.
#[derive(Debug, Default)]
struct Accounts {
    numbers: HashMap<OrgId, u32>,
    all: Vec<Arc<Mutex<Account>>>,
}

impl Desk {
    pub(super) fn new(partition: PartitionId, keys: Arc<Keys>, terms: Terms, clock: Clock, run: u64) -> Self {
        Self {
            partition,
            terms,
            clock,
            keys,
            rules: RwLock::default(),
            accounts: RwLock::default(),
            busy: Mutex::default(),
            budgeted: Mutex::default(),
            first_refusals: Mutex::default(),
            first_refused: Notify::new(),
            expired: AtomicU64::new(0),
            owned: AtomicBool::new(false),
            last_term: AtomicU64::new(0),
            fresh: Freshness::default(),
            run,
        }
    }

    /// The partition.
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// How far State trails the log.
    pub const fn fresh(&self) -> &Freshness {
        &self.fresh
    }

    /// Whether this process decides for the partition.
    pub fn is_owned(&self) -> bool {
        self.owned.load(Ordering::Acquire)
    }

    /// Whether this process decides for the partition from now on, and by which term.
    ///
    /// What it admitted before another one decided says little of what that has admitted since, and those requests were
    /// ended there: an owner after another one begins without leases and request counts, as after a start.
    pub fn own(&self, term: Option<u64>) {
        if let Some(term) = term {
            let before = self.last_term.swap(term, Ordering::AcqRel);
            if term != before && term != before.saturating_add(1) {
                let now = self.clock.now();
                let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
                for account in &accounts.all {
                    lock(account).forget_requests(now);
                }
            }
        }
        self.owned.store(term.is_some(), Ordering::Release);
    }

    /// Takes all of State, before anything is asked.
    pub fn load(&self, state: &State) {
        self.take_rules(state);
        for organization in state.organizations() {
            self.take(state, organization);
        }
    }

    /// Takes what an applied record changed. Called before anybody is answered for it, so that whoever was told of a
    /// recharge, a revoked key or a saved allowlist finds it in force.
    pub fn applied(&self, state: &State, record: &Record, effects: &[Effect]) {
        let Content::Entry(topic, entry) = &record.content else { return };
        if effects.iter().any(is_skipped) {
            return;
        }
        match &entry.body {
            Body::Usage(batch) => self.take_usage(state, batch, &unbooked(record, effects), Counted::Nowhere),
            Body::Unreadable(_) => {}
            Body::Decision(decision) => match topic {
                Topic::Organization(id) => {
                    self.take_decision(state, id, decision);
                    self.take_released(state, id, decision, effects);
                }
                Topic::Config => {
                    if decision.events.iter().any(is_config) {
                        self.take_rules(state);
                    }
                    if decision.events.iter().any(settles) {
                        self.take_budgets(state);
                    }
                }
                Topic::Usage(_) | Topic::UsageMixed => {}
            },
        }
    }

    /// Counts usage that State holds already; these of its rows were not booked.
    pub fn seed(&self, state: &State, record: &Record, unbooked: &[u32]) {
        if let Content::Entry(_, entry) = &record.content
            && let Body::Usage(batch) = &entry.body
        {
            self.take_usage(state, batch, unbooked, Counted::InState);
        }
    }

    fn take_rules(&self, state: &State) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let number = rules.number.saturating_add(1);
        let same = rules.number > 0 && rules.prices == state.config().prices;
        let prices_number = if same { rules.prices_number } else { number };
        let found = Rules::of(state.config(), number, state.head().recorded_at);
        *rules = Arc::new(Rules { prices_number, ..found });
    }

    /// Takes what a decision may have changed: of projects and keys, those that it names.
    fn take_decision(&self, state: &State, id: &OrgId, decision: &Decision) {
        let Some(organization) = state.organization(id) else { return };
        let Some((number, account)) = self.find(id) else { return self.take(state, organization) };
        let mut known = lock(&account);
        known.take_standing(organization);
        let recorded_at = state.head().recorded_at;
        for project in decision.events.iter().filter_map(project_of) {
            known.take_project(organization, project);
            known.take_budget(organization, project, recorded_at);
        }
        // Usage may have been taken back, or a zone moved.
        known.take_budgets_again(organization, recorded_at);
        self.note_budgeted(number, &known);
        for key in decision.events.iter().filter_map(key_of) {
            self.take_key(state, organization, key, (number, &account), &mut known);
        }
    }

    /// Takes an organization, its projects and keys.
    fn take(&self, state: &State, organization: &Organization) {
        let found = self.find(&organization.id);
        let is_new = found.is_none();
        let (number, account) = found.unwrap_or_else(|| self.add(organization));
        let mut known = lock(&account);
        if !is_new {
            known.take(organization);
        }
        known.take_budgets(organization, state.head().recorded_at);
        self.note_budgeted(number, &known);
        for id in organization.keys.keys() {
            self.take_key(state, organization, id, (number, &account), &mut known);
        }
    }

    /// Takes what the end of a billing cycle made known. Organizations without budgets are not visited.
    fn take_budgets(&self, state: &State) {
        let recorded_at = state.head().recorded_at;
        let budgeted: Vec<u32> = lock(&self.budgeted).iter().copied().collect();
        for account in budgeted.into_iter().filter_map(|number| self.at(number)) {
            let mut account = lock(&account);
            if let Some(organization) = state.organization(account.id()) {
                account.take_budgets_again(organization, recorded_at);
            }
        }
    }

    fn note_budgeted(&self, number: u32, account: &Account) {
        let mut budgeted = lock(&self.budgeted);
        if account.has_budgets() {
            budgeted.insert(number);
        } else {
            budgeted.remove(&number);
        }
    }

    /// Leaves a refusal for the owner to write down.
    pub(super) fn note_first_refusal(&self, refusal: FirstRefusal) {
        lock(&self.first_refusals).push_back(refusal);
        self.first_refused.notify_one();
    }

    /// Waits for a refusal that the log should have.
    pub(crate) async fn first_refused(&self) {
        self.first_refused.notified().await;
    }

    /// Takes refusals that the log should have, the first so many.
    pub fn take_first_refusals(&self, most: usize) -> Vec<FirstRefusal> {
        let mut waiting = lock(&self.first_refusals);
        let taken = waiting.len().min(most);
        waiting.drain(..taken).collect()
    }

    fn take_key(
        &self,
        state: &State,
        organization: &Organization,
        id: &KeyId,
        (number, account): (u32, &Arc<Mutex<Account>>),
        known: &mut Account,
    ) {
        let Some(key) = organization.keys.get(id) else { return };
        // A secret that was moved in twice is of one key only.
        let mine = state.key_by_secret(&key.secret);
        if mine.is_none_or(|(owner, of, _)| owner.id != organization.id || of != id) {
            return;
        }
        let before = self.keys.find(&key.secret).filter(|at| Arc::ptr_eq(&at.account, account));
        let before = before.map(|at| at.place);
        let Some(place) = known.take_key(before, id, &key.project, key.is_active()) else { return };
        if before.is_none() {
            let at = KeyAt { partition: self.partition, account: account.clone(), number, place };
            let made = (key.created_at, organization.id.clone());
            self.keys.note(key.secret, KeyEntry { at, made });
        }
    }

    fn add(&self, organization: &Organization) -> (u32, Arc<Mutex<Account>>) {
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        let account = Arc::new(Mutex::new(Account::new(organization, self.clock.now())));
        let number = u32::try_from(accounts.all.len()).unwrap_or(u32::MAX);
        accounts.numbers.insert(organization.id.clone(), number);
        accounts.all.push(account.clone());
        (number, account)
    }

    /// Counts usage that was released from quarantine and booked (R8.1), after its balance was taken.
    fn take_released(&self, state: &State, id: &OrgId, decision: &Decision, effects: &[Effect]) {
        let booked = |place: &UsagePlace| effects.iter().any(|effect| is_released(effect, place));
        let Some((number, account)) = self.find(id) else { return };
        for event in &decision.events {
            let Event::Quarantine(QuarantineEvent::Released { place, usage, uncounted: _ }) = event else {
                continue;
            };
            let project = state.organization(id).and_then(|known| payer(known, &usage.charged));
            if let Some(project) = project.filter(|_| booked(place)) {
                let mut account = lock(&account);
                let Some(project) = account.project(project) else { continue };
                let tokens = usage.tokens.input.saturating_add(usage.tokens.output);
                let lease = usage.extras.as_deref().and_then(|extras| self.lease_named(extras, number));
                let used = Used { project, occurred_at: usage.occurred.at(), tokens, lease };
                account.used([used], self.terms, self.clock.now());
                self.note_expired(account.take_expired());
            }
        }
    }

    /// Takes balances that usage changed, and in the same locked step settles the leases that it names: at no moment are
    /// both the hold and the charge missing.
    fn take_usage(&self, state: &State, batch: &UsageBatch, unbooked: &[u32], counted_in: Counted) {
        let now = self.clock.now();
        let mut unbooked = unbooked.iter().peekable();
        let mut used: Vec<Vec<Used<'_>>> = batch.organizations.iter().map(|_| Vec::new()).collect();
        let accounts: Vec<_> = batch.organizations.iter().map(|id| self.find(id)).collect();
        let payers: Vec<_> = batch
            .payers
            .iter()
            .map(|(organization, charged)| {
                let organization = place(*organization);
                let known = state.organization(batch.organizations.get(organization)?)?;
                let project = payer(known, charged)?;
                let (_, account) = accounts.get(organization)?.as_ref()?;
                Some((organization, lock(account).project(project)?))
            })
            .collect();
        let counted = now.plus_seconds(COUNTED_SECONDS.saturating_neg());
        for (number, row) in (0_u32..).zip(&batch.rows) {
            if unbooked.next_if(|row| **row == number).is_some() {
                continue;
            }
            let Some(Some((organization, project))) = payers.get(place(row.payer)) else { continue };
            let occurred_at = batch.occurred(row).at();
            let account =
                accounts.get(*organization).and_then(|found| found.as_ref().map(|(number, _)| *number));
            let lease = row.extras.as_deref().zip(account);
            let lease = lease.and_then(|(extras, account)| self.lease_named(extras, account));
            if lease.is_none() && occurred_at < counted {
                continue;
            }
            let tokens = row.tokens.input.saturating_add(row.tokens.output);
            if let Some(used) = used.get_mut(*organization) {
                used.push(Used { project: *project, occurred_at, tokens, lease });
            }
        }
        let (recorded_at, at_once) = (state.head().recorded_at, state.config().lag.cycle_seconds == 0);
        for (number, ((id, account), used)) in batch.organizations.iter().zip(&accounts).zip(used).enumerate()
        {
            let (Some((_, account)), Some(organization)) = (account, state.organization(id)) else {
                continue;
            };
            let mut account = lock(account);
            account.take_funds(organization);
            if account.has_budgets() {
                let mine = payers.iter().flatten().filter(|(of, _)| *of == number);
                let projects = mine.map(|(_, project)| *project);
                account.take_consumption(organization, projects, at_once, recorded_at);
            }
            match counted_in {
                Counted::Nowhere => account.used(used, self.terms, now),
                Counted::InState => account.used_before(used, now),
            }
            self.note_expired(account.take_expired());
        }
    }

    /// How usage names its lease: a lease of another process or organization says nothing, but its request may.
    fn lease_named<'a>(&self, extras: &'a Extras, account: u32) -> Option<LeaseName<'a>> {
        let by_id = extras.lease.as_deref().and_then(|lease| self.lease_number(lease, account));
        by_id.or_else(|| extras.request_id.as_deref().map(LeaseName::Request))
    }

    /// The number of a lease of an account, if the text is one of this process.
    fn lease_number(&self, lease: &str, account: u32) -> Option<LeaseName<'static>> {
        let lease = LeaseId::parse(lease).ok()?;
        let (partition, of, number) = lease_place(self.run, &lease)?;
        (partition == self.partition && of == account).then_some(LeaseName::Number(number))
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn find(&self, organization: &OrgId) -> Option<(u32, Arc<Mutex<Account>>)> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        let number = *accounts.numbers.get(organization)?;
        Some((number, accounts.all.get(place(number))?.clone()))
    }

    pub(super) fn at(&self, number: u32) -> Option<Arc<Mutex<Account>>> {
        let accounts = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        accounts.all.get(place(number)).cloned()
    }

    pub(super) fn note_busy(&self, number: u32) {
        lock(&self.busy).push(number);
    }

    pub(super) fn note_expired(&self, leases: u64) {
        if leases > 0 {
            self.expired.fetch_add(leases, Ordering::Relaxed);
        }
    }

    /// Gives back leases that are over, of organizations that nobody asks for too.
    pub(super) fn sweep(&self, now: Timestamp) {
        let mut busy = std::mem::take(&mut *lock(&self.busy));
        busy.sort_unstable();
        busy.dedup();
        let (mut open, mut running) = (0_usize, 0_u64);
        let mut held = tollbook_schemas::amount::Amount::ZERO;
        busy.retain(|number| {
            let Some(account) = self.at(*number) else { return false };
            let mut account = lock(&account);
            let in_flight = account.in_flight(now);
            self.note_expired(account.take_expired());
            open = open.saturating_add(in_flight.leases);
            running = running.saturating_add(in_flight.concurrency);
            held = held.checked_add(in_flight.held).unwrap_or(held);
            in_flight.leases > 0
        });
        lock(&self.busy).extend(busy);
        metrics::leases(self.partition, open, held, self.expired.load(Ordering::Relaxed));
    }
}

/// The project that an event is about.
const fn project_of(event: &Event) -> Option<&ProjectId> {
    match event {
        Event::Project(
            ProjectEvent::Created { project, .. }
            | ProjectEvent::Renamed { project, .. }
            | ProjectEvent::Archived { project }
            | ProjectEvent::TpmLimitSet { project, .. }
            | ProjectEvent::BudgetsSet { project, .. }
            | ProjectEvent::SpendNotificationsSet { project, .. }
            | ProjectEvent::BudgetRefused { project, .. },
        ) => Some(project),
        Event::Organization(_)
        | Event::Member(_)
        | Event::Key(_)
        | Event::Money(_)
        | Event::Quarantine(_)
        | Event::Webhook(_)
        | Event::Config(_)
        | Event::Partition(_) => None,
    }
}

/// The key that an event is about.
const fn key_of(event: &Event) -> Option<&KeyId> {
    match event {
        Event::Key(KeyEvent::Issued { key, .. } | KeyEvent::Revoked { key, .. }) => Some(key),
        Event::Organization(_)
        | Event::Member(_)
        | Event::Project(_)
        | Event::Money(_)
        | Event::Quarantine(_)
        | Event::Webhook(_)
        | Event::Config(_)
        | Event::Partition(_) => None,
    }
}

/// Where usage was counted before it reaches the accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    /// Nowhere yet.
    Nowhere,
    /// In State, from which an account takes its day.
    InState,
}

/// The project that usage is charged to.
fn payer<'a>(known: &'a Organization, charged: &'a Charged) -> Option<&'a ProjectId> {
    match charged {
        Charged::Key(key) => known.keys.get(key).map(|key| &key.project),
        Charged::Project(project) => Some(project),
    }
}

/// Whether an effect says that nothing of its record was applied.
const fn is_skipped(effect: &Effect) -> bool {
    match effect {
        Effect::Foreign { .. } | Effect::Copy { .. } | Effect::Voided { .. } => true,
        Effect::Repeated { .. }
        | Effect::Quarantined(_)
        | Effect::CellsClosed { .. }
        | Effect::Moved { .. }
        | Effect::MonthEnded { .. }
        | Effect::Sealed { .. }
        | Effect::Remembered { .. }
        | Effect::Settled { .. }
        | Effect::Charged { .. }
        | Effect::Alert(_)
        | Effect::BreachEnded { .. }
        | Effect::Decided { .. } => false,
    }
}

/// Whether an effect says that usage was taken out of quarantine and booked.
fn is_released(effect: &Effect, place: &UsagePlace) -> bool {
    match effect {
        Effect::Settled { place: of, settled } => of == place && settled.how == Settling::Released,
        Effect::Repeated { .. }
        | Effect::Quarantined(_)
        | Effect::CellsClosed { .. }
        | Effect::Moved { .. }
        | Effect::MonthEnded { .. }
        | Effect::Sealed { .. }
        | Effect::Remembered { .. }
        | Effect::Charged { .. }
        | Effect::Alert(_)
        | Effect::BreachEnded { .. }
        | Effect::Foreign { .. }
        | Effect::Copy { .. }
        | Effect::Voided { .. }
        | Effect::Decided { .. } => false,
    }
}

/// Whether an event is of the configuration of the whole ledger.
const fn is_config(event: &Event) -> bool {
    match event {
        Event::Config(_) => true,
        Event::Organization(_)
        | Event::Member(_)
        | Event::Project(_)
        | Event::Key(_)
        | Event::Money(_)
        | Event::Quarantine(_)
        | Event::Webhook(_)
        | Event::Partition(_) => false,
    }
}

/// Whether an event settles what is pending (R6.3).
const fn settles(event: &Event) -> bool {
    match event {
        Event::Partition(PartitionEvent::BillingCycleClosed { .. })
        | Event::Config(ConfigEvent::LagModelSet(_)) => true,
        Event::Partition(PartitionEvent::OwnershipTaken { .. } | PartitionEvent::MonthClosed { .. })
        | Event::Config(_)
        | Event::Organization(_)
        | Event::Member(_)
        | Event::Project(_)
        | Event::Key(_)
        | Event::Money(_)
        | Event::Quarantine(_)
        | Event::Webhook(_) => false,
    }
}

/// Rows of an entry that were not booked, in order.
fn unbooked(record: &Record, effects: &[Effect]) -> Vec<u32> {
    let mut rows = Vec::new();
    for effect in effects {
        match effect {
            Effect::Repeated { position, rows: repeated } if *position == record.position => {
                rows.extend_from_slice(repeated);
            }
            Effect::Quarantined(quarantined) if quarantined.place.position == record.position => {
                rows.push(quarantined.place.row);
            }
            Effect::Repeated { .. }
            | Effect::Quarantined(_)
            | Effect::CellsClosed { .. }
            | Effect::Moved { .. }
            | Effect::MonthEnded { .. }
            | Effect::Sealed { .. }
            | Effect::Remembered { .. }
            | Effect::Settled { .. }
            | Effect::Charged { .. }
            | Effect::Alert(_)
            | Effect::BreachEnded { .. }
            | Effect::Foreign { .. }
            | Effect::Copy { .. }
            | Effect::Voided { .. }
            | Effect::Decided { .. } => {}
        }
    }
    rows.sort_unstable();
    rows
}

const RUN_BITS: u32 = 36;
/// There are at most 256 partitions.
const PARTITION_BITS: u32 = 8;
const ACCOUNT_BITS: u32 = 28;
const NUMBER_BITS: u32 = 56;

/// The id of a lease: which process gave it, for which account, and the how-manyth of it. Nothing has to be looked up to
/// find it again.
pub(super) fn lease_id(run: u64, partition: PartitionId, account: u32, number: u64) -> LeaseId {
    let run = u128::from(run) & mask(RUN_BITS);
    let bits = run << PARTITION_BITS | u128::from(partition.0);
    let bits = bits << ACCOUNT_BITS | u128::from(account);
    LeaseId::from_bits(bits << NUMBER_BITS | (u128::from(number) & mask(NUMBER_BITS)))
}

/// Where a lease is, if this process gave it.
pub(super) fn lease_place(run: u64, lease: &LeaseId) -> Option<(PartitionId, u32, u64)> {
    let bits = lease.to_bits()?;
    let number = u64::try_from(bits & mask(NUMBER_BITS)).ok()?;
    let bits = bits >> NUMBER_BITS;
    let account = u32::try_from(bits & mask(ACCOUNT_BITS)).ok()?;
    let bits = bits >> ACCOUNT_BITS;
    let partition = u16::try_from(bits & mask(PARTITION_BITS)).ok()?;
    (bits >> PARTITION_BITS == u128::from(run) & mask(RUN_BITS)).then_some((
        PartitionId(partition),
        account,
        number,
    ))
}

const fn mask(bits: u32) -> u128 {
    (1 << bits) - 1
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
