//! State: what the log says, and the one function that changes it.

mod alerts;
mod corrupt;
mod effect;
mod restore;
mod secrets;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tollbook_schemas::alert::AlertData;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::codec::{self, EncodeError};
use tollbook_schemas::entry::{Actor, Body, Cause, Decision, Entry};
use tollbook_schemas::event::{ConfigEvent, Event, KeyEvent, OrganizationEvent, PartitionEvent};
use tollbook_schemas::id::{KeyId, NodeName, OrgId};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::sealed::SecretHash;
use tollbook_schemas::time::{Day, DaySpan, Month, Timestamp, Zone};
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{QuarantineReason, Unreadable, UsagePlace};

pub use self::corrupt::Corrupt;
pub use self::effect::{AuditRow, Effect, Quarantined, QuarantinedWhat};
pub use self::restore::Restored;
use self::secrets::Secrets;
use crate::account::TrialBalance;
use crate::config::{Config, Subscription, Token};
use crate::first::Sighting;
use crate::organization::{At, Key, Organization, Writing};
use crate::record::{Content, Hash, Record};
use crate::writers::Writers;

/// Where a partition's fold stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last record applied.
    pub position: Position,
    /// The last record's own hash, to recognize another history.
    pub last: Hash,
    /// Over all records so far, in order.
    pub chain: Hash,
    /// The latest recorded time so far: it never goes back.
    pub recorded_at: Timestamp,
    /// The owner's term; 0: nobody owned it yet.
    pub term: u64,
    /// The owner.
    pub owner: Option<NodeName>,
    /// The last entry on the configuration subject, applied or not.
    pub last_config: Position,
    /// The last billing-cycle boundary that was closed.
    pub closed_through: Timestamp,
    /// When that close was recorded.
    pub closed_at: Timestamp,
    /// Records that went to quarantine, of unknown organizations too.
    pub quarantined: u64,
    /// Of those, released or dismissed since.
    pub settled: u64,
    /// The last entry of which a record went to quarantine.
    pub quarantined_at: Position,
    /// Usage records that came, so booked, repeated, or quarantined.
    pub usage_records: u64,
    /// Messages that were not entries of ours, or copies, or void.
    pub skipped: u64,
}

/// What of a partition is stored beside its organizations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Common {
    head: Head,
    writers: Writers,
    config: Config,
    /// Commands that are not about one organization and carried an idempotency key: with the hash of their content
    /// and the entry that each led to. Operators configure rarely, so these stay.
    idempotency: BTreeMap<[u8; 16], ([u8; 16], Position)>,
    /// The month that is open in every zone that an organization ever used, by the zone's name (R8.3).
    months: BTreeMap<Zone, Month>,
    /// The last day on which quarantined usage of nobody known was told, by the code of its reason (R7.2).
    quarantine_told: BTreeMap<String, Day>,
}

/// One partition's state: a pure function of its log.
#[derive(Clone, Debug)]
pub struct State {
    partition: PartitionId,
    common: Common,
    slots: Vec<Slot>,
    index: HashMap<OrgId, usize>,
    /// Slots with something pending, or a breached budget whose period will end.
    pending: BTreeSet<usize>,
    /// When the next voucher of each slot expires.
    expiries: BTreeSet<(Timestamp, usize)>,
    /// When the first of the open months ends.
    month_end: Option<Timestamp>,
    /// Whether [`Effect::Charged`] is wanted.
    report_charges: bool,
    /// API keys by what their secrets hash to, revoked ones too: found again from the organizations, never stored.
    secrets: Secrets,
    /// Slots changed since [`State::take_changed`], each once.
    changed: Vec<usize>,
}

/// An organization, and what is known about it while it does not change.
#[derive(Clone, Debug)]
struct Slot {
    organization: Organization,
    /// Of its bytes.
    hash: Option<Hash>,
    /// Whether it stands in `changed`.
    changed: bool,
    /// The local day that was last asked for.
    day: Option<DaySpan>,
    /// As it stands in `expiries`.
    expiry: Option<Timestamp>,
}

impl State {
    /// A partition with nothing in its log.
    pub fn empty(partition: PartitionId) -> Self {
        Self {
            partition,
            common: Common::default(),
            slots: Vec::new(),
            index: HashMap::new(),
            pending: BTreeSet::new(),
            expiries: BTreeSet::new(),
            month_end: None,
            report_charges: false,
            secrets: Secrets::default(),
            changed: Vec::new(),
        }
    }

    /// Has every charge reported as [`Effect::Charged`] from now on, for those who write books of usage too.
    pub const fn report_charges(&mut self) {
        self.report_charges = true;
    }

    pub(crate) const fn reports_charges(&self) -> bool {
        self.report_charges
    }

    /// The partition.
    pub const fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Where the fold stands.
    pub const fn head(&self) -> &Head {
        &self.common.head
    }

    /// What is in force.
    pub const fn config(&self) -> &Config {
        &self.common.config
    }

    /// What a command that is not about one organization led to, by its idempotency key.
    pub fn idempotency(&self, key: &[u8; 16]) -> Option<&([u8; 16], Position)> {
        self.common.idempotency.get(key)
    }

    /// When the next voucher of each organization expires, the earliest first.
    pub fn expiries(&self) -> impl Iterator<Item = (Timestamp, &Organization)> {
        self.expiries.iter().filter_map(|(at, slot)| Some((*at, self.at_slot(*slot)?)))
    }

    /// The month that is open in every zone that an organization ever used.
    pub fn open_months(&self) -> impl Iterator<Item = (&Zone, Month)> {
        self.common.months.iter().map(|(zone, month)| (zone, *month))
    }

    /// When the first of the open months ends; `None` while there is no organization.
    pub const fn month_end(&self) -> Option<Timestamp> {
        self.month_end
    }

    /// Whether nothing can be booked any more in a month of an organization: the log says that it ended (R8.3).
    pub fn is_closed(&self, organization: &Organization, month: Month) -> bool {
        let end = organization.calendar.start_of_month(month.next());
        let zone = organization.calendar.zone_at(end.plus_nanos(-1));
        self.common.months.get(zone).is_some_and(|open| *open > month)
    }

    /// Closed months whose statements wait for their seals, of so many organizations from a place on, in order; `None`
    /// past the last. Places last as long as this State.
    pub fn sealable(&self, from: usize, organizations: usize) -> Option<Vec<(&Organization, Vec<Month>)>> {
        let slots = self.slots.get(from..).filter(|slots| !slots.is_empty())?;
        // No month from this one on is closed anywhere, which spares most organizations a look at their calendars.
        let open_everywhere = self.common.months.values().max().copied();
        let due = slots.iter().take(organizations).filter_map(|slot| {
            let organization = &slot.organization;
            let closed = |month: &Month| {
                open_everywhere.is_some_and(|open| *month < open) && self.is_closed(organization, *month)
            };
            let months: Vec<Month> = organization.waiting_for_seals().filter(closed).collect();
            (!months.is_empty()).then_some((organization, months))
        });
        Some(due.collect())
    }

    /// Every account's balance over all organizations: its sum is zero (R4.10).
    pub fn trial_balance(&self) -> Result<TrialBalance, Corrupt> {
        let mut all = TrialBalance::default();
        for slot in &self.slots {
            all.add(&slot.organization.purse.trial_balance()?)?;
        }
        Ok(all)
    }

    /// Which entries of whom were applied, so that copies are recognized.
    pub const fn writers(&self) -> &Writers {
        &self.common.writers
    }

    /// One organization.
    pub fn organization(&self, id: &OrgId) -> Option<&Organization> {
        self.slots.get(*self.index.get(id)?).map(|slot| &slot.organization)
    }

    /// The API key with a secret, whether it still works or not, and whose it is. The secret is found by its SHA-256: it
    /// has 256 random bits, so how long that takes tells nothing about it.
    pub fn key_by_secret(&self, secret: &SecretHash) -> Option<(&Organization, &KeyId, &Key)> {
        let (slot, key) = self.secrets.find(secret)?;
        let organization = self.at_slot(slot)?;
        let (id, key) = organization.keys.get_key_value(key)?;
        Some((organization, id, key))
    }

    /// All organizations, in order of id.
    pub fn organizations(&self) -> impl Iterator<Item = &Organization> {
        let mut all: Vec<_> = self.slots.iter().map(|slot| &slot.organization).collect();
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        all.into_iter()
    }

    /// Organizations whose personal data was ever erased, in order of id, with the number of the key that is not
    /// erased (R9.2).
    pub fn contacts_erased(&self) -> Vec<(OrgId, u32)> {
        let organizations = self.slots.iter().map(|slot| &slot.organization);
        let erased = organizations.filter(|known| known.contact_key > 0);
        let mut erased: Vec<_> = erased.map(|known| (known.id.clone(), known.contact_key)).collect();
        erased.sort_unstable();
        erased
    }

    /// Applies the next record. `sightings` are of its usage rows that go by id ([`crate::first::Lookup`]).
    /// After an error State is not to be used any more.
    pub fn apply(&mut self, record: &Record, sightings: &[Sighting]) -> Result<Vec<Effect>, Corrupt> {
        let mut effects = Vec::new();
        let expected = self.common.head.position.next();
        if record.position != expected {
            return Err(Corrupt::Gap { expected, found: record.position });
        }
        self.advance(record);
        match &record.content {
            Content::Foreign(reason) => self.skip(foreign(record.position, reason), &mut effects),
            Content::Entry(topic, entry) => {
                self.note_topic(topic, record.position);
                if let Some(reason) = self.foreign_ledger(entry) {
                    self.skip(foreign(record.position, &reason), &mut effects);
                    return Ok(effects);
                }
                if self.common.writers.note(entry.id.writer, entry.id.count) {
                    self.apply_entry(record.position, topic, entry, sightings, &mut effects)?;
                } else {
                    self.skip(Effect::Copy { position: record.position }, &mut effects);
                }
            }
        }
        self.finish_alerts(&mut effects);
        Ok(effects)
    }

    fn advance(&mut self, record: &Record) {
        let head = &mut self.common.head;
        head.position = record.position;
        head.last = record.hash;
        let mut chain = Sha256::new();
        chain.update(head.chain);
        chain.update(record.hash);
        head.chain = chain.finalize().into();
    }

    fn skip(&mut self, effect: Effect, effects: &mut Vec<Effect>) {
        self.common.head.skipped = self.common.head.skipped.saturating_add(1);
        effects.push(effect);
    }

    /// Conditional appends compare with the last entry of a topic whatever it was, so this comes before all checks.
    fn note_topic(&mut self, topic: &Topic, position: Position) {
        match topic {
            Topic::Config => self.common.head.last_config = position,
            Topic::Organization(org) => {
                if let Some(slot) = self.index.get(org).copied() {
                    self.change(slot).last_decision = position;
                }
            }
            Topic::Usage(_) | Topic::UsageMixed => {}
        }
    }

    /// Why an entry is not of this ledger. The first entry of a partition says which ledger it is.
    fn foreign_ledger(&self, entry: &Entry) -> Option<String> {
        match &self.common.config.ledger {
            Some((ledger, _, _)) if *ledger != entry.id.ledger => {
                Some(format!("the entry is of ledger {}", entry.id.ledger))
            }
            None if !creates_ledger(entry) => Some("nothing may stand before the ledger is created".into()),
            Some(_) | None => None,
        }
    }

    fn apply_entry(
        &mut self,
        position: Position,
        topic: &Topic,
        entry: &Entry,
        sightings: &[Sighting],
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let head = &mut self.common.head;
        head.recorded_at = head.recorded_at.max(entry.recorded_at);
        let at = At { position, recorded_at: head.recorded_at };
        match &entry.body {
            Body::Usage(batch) => self.book(batch, sightings, at, effects),
            Body::Unreadable(refused) => {
                self.quarantine_bytes(refused, at, effects);
                Ok(())
            }
            Body::Decision(decision) => self.apply_decision(topic, decision, sightings, at, effects),
        }
    }

    fn apply_decision(
        &mut self,
        topic: &Topic,
        decision: &Decision,
        sightings: &[Sighting],
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        if decision.is_void(self.common.head.term) {
            self.skip(Effect::Voided { position: at.position, term: decision.term }, effects);
            return Ok(());
        }
        match topic {
            Topic::Config => {
                for event in &decision.events {
                    match event {
                        Event::Config(event) => self.apply_config(event, &decision.cause, at, effects)?,
                        Event::Partition(event) => self.apply_partition(event, at, effects)?,
                        Event::Organization(_)
                        | Event::Member(_)
                        | Event::Project(_)
                        | Event::Key(_)
                        | Event::Money(_)
                        | Event::Quarantine(_)
                        | Event::Webhook(_) => return Err(Corrupt::Misplaced),
                    }
                }
                if let Cause::Command { idempotency: Some(idempotency) } = &decision.cause {
                    self.common.idempotency.insert(idempotency.key, (idempotency.content, at.position));
                }
                effects.extend(Effect::configured(decision, at));
                Ok(())
            }
            Topic::Organization(id) => {
                self.apply_to_organization(id, decision, sightings, at, effects)?;
                effects.extend(Effect::decided(id, decision, at));
                Ok(())
            }
            Topic::Usage(_) | Topic::UsageMixed => Err(Corrupt::Misplaced),
        }
    }

    fn apply_to_organization(
        &mut self,
        id: &OrgId,
        decision: &Decision,
        sightings: &[Sighting],
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let mut events = decision.events.iter();
        let slot = match self.index.get(id) {
            Some(slot) => *slot,
            None => match events.next() {
                Some(Event::Organization(first)) => self.insert(Organization::register(id, first, at)?),
                Some(
                    Event::Member(_)
                    | Event::Project(_)
                    | Event::Key(_)
                    | Event::Money(_)
                    | Event::Quarantine(_)
                    | Event::Webhook(_)
                    | Event::Config(_)
                    | Event::Partition(_),
                )
                | None => return Err(Corrupt::OrganizationUnknown(id.clone())),
            },
        };
        let today = self.day_of(slot, at.recorded_at).day;
        let organization = self.change(slot);
        organization.last_decision = at.position;
        organization.advance(today, at, effects)?;
        let recharged = organization.purse.cumulative_recharge();
        let told = effects.len();
        let mut writing = Writing { at, effects, movements: 0 };
        let mut sightings = sightings.iter();
        for event in events {
            if !self.apply_correction(slot, event, &mut sightings, &mut writing)? {
                self.change(slot).apply(event, &mut writing)?;
            }
            if let Event::Key(KeyEvent::Issued { key, .. }) = event {
                let slots = &self.slots;
                self.secrets.note(slot, key, |slot| slots.get(slot).map(|known| &known.organization));
            }
        }
        self.tell_decided(slot, decision, recharged, at, effects);
        if decision.events.iter().any(moves_in) {
            // An organization with a past raises no alert by moving in (R10.1).
            let mut number = 0usize;
            effects.retain(|effect| {
                number = number.saturating_add(1);
                number <= told || !matches!(effect, Effect::Alert(_))
            });
        }
        if let Cause::Command { idempotency: Some(idempotency) } = &decision.cause {
            let (organization, position) = (id.clone(), at.position);
            self.change(slot).recent.remember(idempotency, position, at.recorded_at);
            effects.push(Effect::Remembered { organization, idempotency: *idempotency, position });
        }
        self.forget_day(slot);
        self.note_expiry(slot);
        self.note_zone(slot, at);
        Ok(())
    }

    /// What is told of a decision about an organization: its tier, its keys, its balance.
    fn tell_decided(
        &mut self,
        slot: usize,
        decision: &Decision,
        recharged: Amount,
        at: At,
        effects: &mut Vec<Effect>,
    ) {
        let default = self.common.config.defaults.balance_alert_threshold;
        let organization = self.change(slot);
        organization.tell_revoked(&decision.events, at, effects);
        if decision.actor == Actor::Engine {
            organization.tell_disabled(&decision.events, at, effects);
        }
        organization.watch_balance(default, at, effects);
        let (id, cumulative_recharge) = (organization.id.clone(), organization.purse.cumulative_recharge());
        if organization.is_breached() {
            self.note_pending(slot);
        }
        if cumulative_recharge != recharged {
            let (from, to) =
                (self.tier_of(recharged, at.recorded_at), self.tier_of(cumulative_recharge, at.recorded_at));
            if from != to {
                let data = AlertData::TierChanged { from, to, cumulative_recharge };
                effects.push(Effect::alert(Some(&id), at, data));
            }
        }
    }

    fn apply_config(
        &mut self,
        event: &ConfigEvent,
        cause: &Cause,
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let config = &mut self.common.config;
        match cause {
            Cause::Copy { of } => config.copied_through = config.copied_through.max(of.position),
            // Every partition begins with the ledger's creation, so that is not copied.
            Cause::Command { .. } if self.partition.0 == 0 => {
                config.journal.push((at.position, event.clone()))
            }
            Cause::Command { .. } | Cause::Timer | Cause::Takeover => {}
        }
        match event {
            ConfigEvent::LedgerCreated { ledger, currency, partitions } => {
                config.ledger = Some((ledger.clone(), currency.clone(), *partitions));
                self.common.head.closed_through = at.recorded_at;
                Ok(())
            }
            ConfigEvent::PricesPublished(list) => {
                match cause {
                    Cause::Copy { .. } => config.prices.copy(list, at.position, at.recorded_at),
                    Cause::Command { .. } | Cause::Timer | Cause::Takeover => {
                        config.prices.publish(list, at.position);
                    }
                }
                Ok(())
            }
            ConfigEvent::LagModelSet(lag) => {
                config.lag = *lag;
                // A new cycle starts here; without cycles nothing is ever pending.
                self.common.head.closed_through = at.recorded_at;
                if lag.cycle_seconds == 0 { self.settle(at, effects) } else { Ok(()) }
            }
            ConfigEvent::TokenIssued { token, name, scopes, organizations, secret } => {
                let issued = Token {
                    name: name.clone(),
                    scopes: scopes.clone(),
                    organizations: organizations.clone(),
                    secret: *secret,
                    issued_at: at.recorded_at,
                };
                config.tokens.insert(token.clone(), issued);
                Ok(())
            }
            ConfigEvent::TokenRevoked { token } => {
                config.tokens.remove(token);
                Ok(())
            }
            ConfigEvent::QuantityLimitsSet(limits) => {
                config.quantity_limits = *limits;
                Ok(())
            }
            ConfigEvent::TiersPublished(table) => {
                config.tiers.insert(table.effective_from, table.clone());
                Ok(())
            }
            ConfigEvent::VoucherPolicySet(policy) => {
                config.voucher_policy = *policy;
                Ok(())
            }
            ConfigEvent::DefaultsSet(defaults) => {
                let before = std::mem::replace(&mut config.defaults, *defaults);
                if before.balance_alert_threshold != defaults.balance_alert_threshold {
                    self.tell_default(at, effects);
                }
                Ok(())
            }
            ConfigEvent::RateScaleSet(scale) => {
                let before = std::mem::replace(&mut config.rate_scale, scale.clone());
                self.tell_scaled(before.as_ref(), at, effects);
                Ok(())
            }
            ConfigEvent::SubscriptionCreated { name, organizations } => {
                let new = Subscription { organizations: organizations.clone(), created_at: at.recorded_at };
                config.subscriptions.insert(name.clone(), new);
                Ok(())
            }
            ConfigEvent::SubscriptionRemoved { name } => {
                config.subscriptions.remove(name);
                Ok(())
            }
        }
    }

    fn apply_partition(
        &mut self,
        event: &PartitionEvent,
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let head = &mut self.common.head;
        match event {
            PartitionEvent::OwnershipTaken { term, node, zone_database: _ } => {
                head.term = *term;
                head.owner = Some(node.clone());
                Ok(())
            }
            PartitionEvent::BillingCycleClosed { through, cycles: _ } => {
                head.closed_through = *through;
                head.closed_at = at.recorded_at;
                self.settle(at, effects)
            }
            PartitionEvent::MonthClosed { zone, month, until } => {
                // Nothing that stands after this can be booked in that month, whatever a node's clock said.
                head.recorded_at = head.recorded_at.max(*until);
                self.common.months.insert(zone.clone(), month.next());
                self.find_month_end();
                Ok(())
            }
        }
    }

    /// Notes a zone that an organization uses, now or from its next month on.
    fn note_zone(&mut self, slot: usize, at: At) {
        let Some(organization) = self.slots.get(slot).map(|slot| &slot.organization) else { return };
        let calendar = &organization.calendar;
        let next = calendar.pending(at.recorded_at).map(|(_, zone)| zone);
        let zones = [Some(calendar.zone_at(at.recorded_at)), next];
        let mut new = false;
        for zone in zones.into_iter().flatten() {
            if !self.common.months.contains_key(zone) {
                self.common.months.insert(zone.clone(), zone.day(at.recorded_at).month());
                new = true;
            }
        }
        if new {
            self.find_month_end();
        }
    }

    fn find_month_end(&mut self) {
        let ends = self.common.months.iter().map(|(zone, month)| zone.start_of_month(month.next()));
        self.month_end = ends.min();
    }

    /// Notes when the next voucher of a slot expires.
    pub(crate) fn note_expiry(&mut self, slot: usize) {
        let Some(known) = self.slots.get_mut(slot) else { return };
        let next = known.organization.purse.next_expiry();
        if known.expiry != next {
            if let Some(before) = known.expiry {
                self.expiries.remove(&(before, slot));
            }
            if let Some(next) = next {
                self.expiries.insert((next, slot));
            }
            known.expiry = next;
        }
    }

    /// Counts a quarantined record that was released or dismissed.
    pub(crate) const fn count_settled(&mut self) {
        self.common.head.settled = self.common.head.settled.saturating_add(1);
    }

    fn settle(&mut self, at: At, effects: &mut Vec<Effect>) -> Result<(), Corrupt> {
        let delay_seconds = self.common.config.lag.delay_seconds;
        for slot in std::mem::take(&mut self.pending) {
            let organization = self.change(slot);
            organization.settle(delay_seconds, at, effects)?;
            if organization.is_breached() {
                self.pending.insert(slot);
            }
        }
        Ok(())
    }

    fn quarantine_bytes(&mut self, refused: &[Unreadable], at: At, effects: &mut Vec<Effect>) {
        for (row, bytes) in (0u32..).zip(refused) {
            if let Some(slot) = bytes.organization.as_ref().and_then(|org| self.index.get(org)).copied() {
                let counts = &mut self.change(slot).counts;
                counts.quarantined = counts.quarantined.saturating_add(1);
            }
            self.count_usage(1, 1);
            effects.push(Effect::Quarantined(Box::new(Quarantined {
                place: UsagePlace { position: at.position, row },
                reason: QuarantineReason::Unreadable(bytes.reason.clone()),
                recorded_at: at.recorded_at,
                what: QuarantinedWhat::Bytes(bytes.clone()),
            })));
        }
    }

    fn insert(&mut self, organization: Organization) -> usize {
        let slot = self.slots.len();
        self.index.insert(organization.id.clone(), slot);
        self.slots.push(Slot { organization, hash: None, changed: false, day: None, expiry: None });
        slot
    }

    /// The slot of an organization.
    pub(crate) fn slot_of(&self, id: &OrgId) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// An organization by its slot, for reading.
    pub(crate) fn at_slot(&self, slot: usize) -> Option<&Organization> {
        self.slots.get(slot).map(|slot| &slot.organization)
    }

    /// An organization by its slot, for changing: its hash is forgotten.
    ///
    /// Slots come from [`State::insert`] and are never removed.
    #[expect(
        clippy::indexing_slicing,
        reason = "a slot that does not exist is a bug that must not be folded over"
    )]
    pub(crate) fn change(&mut self, slot: usize) -> &mut Organization {
        let found = &mut self.slots[slot];
        if !found.changed {
            found.changed = true;
            self.changed.push(slot);
        }
        found.hash = None;
        &mut found.organization
    }

    /// The local day of an organization in which `at` lies; asking for the same day again costs next to nothing.
    pub(crate) fn day_of(&mut self, slot: usize, at: Timestamp) -> DaySpan {
        let Some(slot) = self.slots.get_mut(slot) else { return DaySpan::of(&Zone::utc(), at) };
        match slot.day {
            Some(day) if day.holds(at) => day,
            Some(_) | None => {
                let day = slot.organization.calendar.span(at);
                slot.day = Some(day);
                day
            }
        }
    }

    /// A decision may have moved the organization to another zone.
    fn forget_day(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.day = None;
        }
    }

    /// Notes that a slot has something pending.
    pub(crate) fn note_pending(&mut self, slot: usize) {
        self.pending.insert(slot);
    }

    /// Counts usage records that came, and those of them that were quarantined.
    pub(crate) fn count_usage(&mut self, records: u64, quarantined: u64) {
        let head = &mut self.common.head;
        head.usage_records = head.usage_records.saturating_add(records);
        head.quarantined = head.quarantined.saturating_add(quarantined);
        if quarantined > 0 {
            head.quarantined_at = head.position;
        }
    }

    /// The canonical bytes of what is not of one organization.
    pub fn common_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        codec::encode_row(&self.common)
    }

    /// How many organizations changed since [`State::take_changed`].
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// The canonical bytes of every organization that changed since the last call.
    pub fn take_changed(&mut self) -> Result<Vec<(OrgId, Vec<u8>)>, EncodeError> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        let mut rows = Vec::with_capacity(changed.len());
        for slot in changed {
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.changed = false;
                let bytes = codec::encode_row(&slot.organization)?;
                slot.hash = Some(Sha256::digest(&bytes).into());
                rows.push((slot.organization.id.clone(), bytes));
            }
        }
        Ok(rows)
    }

    /// The digest: SHA-256 over the partition's own bytes and the sorted list of organizations with the hash of each
    /// one's canonical bytes. Equal for equal logs, in any process, on any day.
    pub fn digest(&self) -> Result<Hash, EncodeError> {
        let mut list = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let hash = match slot.hash {
                Some(hash) => hash,
                None => Sha256::digest(codec::encode_row(&slot.organization)?).into(),
            };
            list.push((&slot.organization.id, hash));
        }
        list.sort_unstable();
        let mut digest = Sha256::new();
        digest.update(Sha256::digest(self.common_bytes()?));
        for (id, hash) in list {
            digest.update(u64::try_from(id.as_str().len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(id.as_str());
            digest.update(hash);
        }
        Ok(digest.finalize().into())
    }
}

fn foreign(position: Position, reason: &str) -> Effect {
    Effect::Foreign { position, reason: reason.to_owned() }
}

const fn moves_in(event: &Event) -> bool {
    matches!(event, Event::Organization(OrganizationEvent::MovedIn { .. }))
}

fn creates_ledger(entry: &Entry) -> bool {
    match &entry.body {
        Body::Decision(decision) => decision
            .events
            .iter()
            .any(|event| matches!(event, Event::Config(ConfigEvent::LedgerCreated { ledger, .. }) if *ledger == entry.id.ledger)),
        Body::Usage(_) | Body::Unreadable(_) => false,
    }
}
