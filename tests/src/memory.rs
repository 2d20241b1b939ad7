//! A ledger of one partition on the pure core alone: `decide`, a list as the log, and the fold. No I/O, virtual time.
//!
//! Every entry goes through its stored bytes: encoded, read back as a record, looked up, applied.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tollbook_engine::decide::{Decided, decide, questions};
use tollbook_projections::account::{Account, Posting, TrialBalance};
use tollbook_projections::books::{EndedMonth, Seal};
use tollbook_projections::budget::EndedBreach;
use tollbook_projections::first::{FirstPlacesInMemory, Lookup};
use tollbook_projections::movement::Movement;
use tollbook_projections::organization::Organization;
use tollbook_projections::past::{Past, Settled};
use tollbook_projections::purse::Funds;
use tollbook_projections::record::{Hash, Record};
use tollbook_projections::spend::{Cell, CellKey, OpenCells};
use tollbook_projections::state::{AuditRow, Corrupt, Effect, Quarantined, State};
use tollbook_schemas::alert::Alert;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::batch::BatchBuilder;
use tollbook_schemas::codec;
use tollbook_schemas::command::{Command, OrganizationCommand, PartitionCommand};
use tollbook_schemas::entry::{Actor, Body, Cause, Decision, Entry, Idempotency};
use tollbook_schemas::event::{ConfigEvent, Event, PartitionEvent};
use tollbook_schemas::id::{LedgerId, NodeName, OrgId, ProjectId};
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::topic::Topic;
use tollbook_schemas::usage::{Unreadable, Usage, UsagePlace};

/// The only partition.
pub const PARTITION: PartitionId = PartitionId(0);

/// One message of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// What a command led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An entry, with what applying it owed the world.
    Entry {
        /// Where it stands.
        position: Position,
        /// What it says.
        events: Vec<Event>,
        /// What applying it gave.
        effects: Vec<Effect>,
    },
    /// Nothing, for it came before.
    Before(Position),
    /// Nothing, for all is as wanted.
    AsItIs,
}

/// What a command is about to lead to.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// This entry.
    Entry(Topic, Entry),
    /// Nothing.
    Nothing(Outcome),
}

/// The ledger.
#[derive(Clone, Debug)]
pub struct MemoryLedger {
    /// Everything that was written.
    pub log: Vec<Message>,
    /// What the log says.
    pub state: State,
    /// The time.
    pub now: Timestamp,
    /// Cells of closed days.
    pub history: Vec<(OrgId, OpenCells)>,
    /// Everything that was quarantined.
    pub quarantine: Vec<Quarantined>,
    /// Every alert, in order (R7).
    pub alerts: Vec<Alert>,
    /// Every breach of a budget that is over (R6.2).
    pub breaches: Vec<(OrgId, ProjectId, EndedBreach)>,
    /// Every decision about an organization or, without one, about the configuration.
    pub audit: Vec<(Option<OrgId>, AuditRow)>,
    /// Every line of every organization's books.
    pub movements: Vec<(OrgId, Movement)>,
    /// Every month that ended with something booked in it.
    pub months: Vec<(OrgId, EndedMonth)>,
    /// Every sealed statement.
    pub seals: Vec<(OrgId, Seal)>,
    /// What became of quarantined records.
    pub settled: BTreeMap<UsagePlace, Settled>,
    /// The sum of all postings of every organization.
    pub posted: BTreeMap<OrgId, TrialBalance>,
    /// Records that came before.
    pub repeated: BTreeSet<UsagePlace>,
    remembered: BTreeMap<(OrgId, [u8; 16]), ([u8; 16], Position)>,
    lookup: Lookup<FirstPlacesInMemory>,
    rows: BTreeMap<OrgId, Vec<u8>>,
    writer: WriterId,
    count: u64,
}

/// The id of every ledger in memory.
pub fn ledger_id() -> LedgerId {
    LedgerId::from_bits(7)
}

impl MemoryLedger {
    /// A new ledger in USD, owned by `node1`.
    pub fn new(now: Timestamp) -> Self {
        let mut ledger = Self::empty(now);
        let created =
            ConfigEvent::LedgerCreated { ledger: ledger_id(), currency: "USD".into(), partitions: 1 };
        let decision = Decision {
            term: 0,
            actor: Actor::Engine,
            cause: Cause::Takeover,
            events: vec![Event::Config(created)],
        };
        let entry = ledger.entry(Body::Decision(decision));
        ledger.append(&Topic::Config, &entry).unwrap();
        ledger.take_over("node1");
        ledger
    }

    /// What it was after so many messages.
    pub fn after(&self, messages: usize) -> Self {
        let mut ledger = Self::empty(self.now);
        for Message { subject, payload } in &self.log[..messages] {
            ledger.append_bytes(subject, payload.clone()).unwrap();
        }
        ledger
    }

    fn empty(now: Timestamp) -> Self {
        let mut state = State::empty(PARTITION);
        state.report_charges();
        Self {
            log: Vec::new(),
            state,
            now,
            history: Vec::new(),
            quarantine: Vec::new(),
            alerts: Vec::new(),
            breaches: Vec::new(),
            audit: Vec::new(),
            movements: Vec::new(),
            months: Vec::new(),
            seals: Vec::new(),
            settled: BTreeMap::new(),
            repeated: BTreeSet::new(),
            posted: BTreeMap::new(),
            remembered: BTreeMap::new(),
            lookup: Lookup::new(&State::empty(PARTITION), FirstPlacesInMemory::default()),
            rows: BTreeMap::new(),
            writer: WriterId(1),
            count: 0,
        }
    }

    /// The next entry of the present writer.
    pub fn entry(&mut self, body: Body) -> Entry {
        self.count += 1;
        let id =
            EntryId { ledger: ledger_id(), partition: PARTITION, writer: self.writer, count: self.count };
        Entry { id, recorded_at: self.now, body }
    }

    /// Another process writes from now on, or the same one again after a restart.
    pub fn change_writer(&mut self, writer: u64) {
        self.writer = WriterId(writer);
        self.count = 0;
    }

    /// Leaves out counts, as a writer does that gave entries up.
    pub fn skip_counts(&mut self, counts: u64) {
        self.count += counts;
    }

    /// Writes one entry and applies it.
    pub fn append(&mut self, topic: &Topic, entry: &Entry) -> Result<Vec<Effect>, Corrupt> {
        self.append_bytes(&topic.subject(PARTITION), codec::encode_entry(entry).unwrap())
    }

    /// Writes one message and applies it.
    pub fn append_bytes(&mut self, subject: &str, payload: Vec<u8>) -> Result<Vec<Effect>, Corrupt> {
        let position = self.state.head().position.next();
        let record = Record::read(&ledger_id(), PARTITION, position, subject, &payload);
        self.log.push(Message { subject: subject.to_owned(), payload });
        let sightings = self.lookup.sightings(&record).unwrap();
        let effects = self.state.apply(&record, &sightings)?;
        for effect in &effects {
            match effect {
                Effect::Quarantined(record) => self.quarantine.push((**record).clone()),
                Effect::CellsClosed { organization, cells, position: _ } => {
                    self.history.push((organization.clone(), cells.clone()));
                }
                Effect::Decided { organization, row } => {
                    self.audit.push((organization.clone(), (**row).clone()));
                }
                Effect::Moved { organization, movement } => {
                    self.post(organization, movement.postings().unwrap());
                    self.movements.push((organization.clone(), (**movement).clone()));
                }
                Effect::Charged { organization, took, after, .. } => {
                    let before = after.plus(*took).unwrap();
                    self.post(organization, after.postings(before, Account::UsageRevenue).unwrap());
                }
                Effect::MonthEnded { organization, ended } => {
                    self.months.push((organization.clone(), (**ended).clone()));
                }
                Effect::Sealed { organization, seal } => {
                    self.seals.push((organization.clone(), seal.clone()))
                }
                Effect::Remembered { organization, idempotency, position } => {
                    let key = (organization.clone(), idempotency.key);
                    self.remembered.insert(key, (idempotency.content, *position));
                }
                Effect::Settled { place, settled } => {
                    self.settled.insert(*place, (**settled).clone());
                }
                Effect::Repeated { position, rows } => {
                    let place = |row: &u32| UsagePlace { position: *position, row: *row };
                    self.repeated.extend(rows.iter().map(place));
                }
                Effect::Alert(alert) => self.alerts.push((**alert).clone()),
                Effect::BreachEnded { organization, project, ended } => {
                    self.breaches.push((organization.clone(), project.clone(), (**ended).clone()));
                }
                Effect::Foreign { .. } | Effect::Copy { .. } | Effect::Voided { .. } => {}
            }
        }
        // Only books of usage ask for charges, and what was told is kept: whoever looks at effects here looks at the rest.
        let is_kept = |effect: &Effect| {
            !matches!(effect, Effect::Charged { .. } | Effect::Alert(_) | Effect::BreachEnded { .. })
        };
        Ok(effects.into_iter().filter(is_kept).collect())
    }

    /// Adds the postings of one event, which sum to zero (R4.10).
    fn post(&mut self, organization: &OrgId, postings: Vec<Posting>) {
        let posted = self.posted.entry(organization.clone()).or_default();
        let mut event = TrialBalance::default();
        for posting in postings {
            assert!(!posting.amount.is_zero(), "{posting:?} says nothing");
            event.post(posting).unwrap();
        }
        assert_eq!(event.sum(), Ok(Amount::ZERO), "{organization}: {event:?}");
        posted.add(&event).unwrap();
    }

    /// What a view would answer to a command's questions.
    fn past(&self, command: &Command, idempotency: Option<&Idempotency>) -> Past {
        let Command::Organization(organization, _) = command else { return Past::default() };
        let questions = questions(command, idempotency);
        let mine =
            || self.movements.iter().filter(|(of, _)| of == organization).map(|(_, movement)| movement);
        let mut wanted = questions.movements.clone();
        if let Some(month) = questions.month {
            let recharges = mine().filter(|movement| movement.month == month);
            wanted.extend(recharges.flat_map(Movement::keys));
        }
        let found = mine().filter(|movement| wanted.iter().any(|key| movement.answers(key)));
        let quarantined = questions.quarantined.and_then(|place| {
            self.quarantine.iter().find(|record| record.place == place).cloned().map(Box::new)
        });
        let key = questions.idempotency.map(|key| (organization.clone(), key));
        Past {
            through: self.state.head().position,
            idempotency: key.and_then(|key| self.remembered.get(&key).copied()),
            movements: found.cloned().collect(),
            settled: questions.quarantined.and_then(|place| self.settled.get(&place).cloned()),
            quarantined,
        }
    }

    /// Decides a command, writes its entry, and applies it.
    pub fn command(
        &mut self,
        command: &Command,
        idempotency: Option<Idempotency>,
    ) -> Result<Outcome, Rejection> {
        self.command_of(&actor_of(command), command, idempotency)
    }

    /// The same on behalf of somebody.
    pub fn command_of(
        &mut self,
        actor: &Actor,
        command: &Command,
        idempotency: Option<Idempotency>,
    ) -> Result<Outcome, Rejection> {
        self.command_in_term(actor, command, idempotency, self.state.head().term)
    }

    /// The same by an owner that believes to be in `term`.
    pub fn command_in_term(
        &mut self,
        actor: &Actor,
        command: &Command,
        idempotency: Option<Idempotency>,
        term: u64,
    ) -> Result<Outcome, Rejection> {
        self.command_overtaken(actor, command, idempotency, term, |_| {})
    }

    /// The same, where `meanwhile` reaches the log between deciding and appending.
    pub fn command_overtaken(
        &mut self,
        actor: &Actor,
        command: &Command,
        idempotency: Option<Idempotency>,
        term: u64,
        meanwhile: impl FnOnce(&mut Self),
    ) -> Result<Outcome, Rejection> {
        match self.prepare(actor, command, idempotency, term)? {
            Prepared::Entry(topic, entry) => {
                meanwhile(self);
                Ok(self.book(&topic, &entry))
            }
            Prepared::Nothing(outcome) => Ok(outcome),
        }
    }

    /// Decides a command without writing its entry: others may come between.
    pub fn prepare(
        &mut self,
        actor: &Actor,
        command: &Command,
        idempotency: Option<Idempotency>,
        term: u64,
    ) -> Result<Prepared, Rejection> {
        let past = self.past(command, idempotency.as_ref());
        let events = match decide(&self.state, command, actor, idempotency.as_ref(), &past, self.now)? {
            Decided::Events(events) => events,
            Decided::Before(position) => return Ok(Prepared::Nothing(Outcome::Before(position))),
            Decided::AsItIs => return Ok(Prepared::Nothing(Outcome::AsItIs)),
        };
        let cause = match command {
            Command::Organization(_, OrganizationCommand::ExpireVouchers)
            | Command::Partition(PartitionCommand::CloseCycles | PartitionCommand::CloseMonths) => {
                Cause::Timer
            }
            Command::Organization(..) | Command::Config(_) => Cause::Command { idempotency },
            Command::Partition(PartitionCommand::TakeOwnership(_)) => Cause::Takeover,
            Command::Partition(PartitionCommand::CopyConfig { of, .. }) => Cause::Copy { of: *of },
        };
        let taken = events.iter().find_map(|event| match event {
            Event::Partition(PartitionEvent::OwnershipTaken { term, .. }) => Some(*term),
            _ => None,
        });
        let decision = Decision { term: taken.unwrap_or(term), actor: actor.clone(), cause, events };
        Ok(Prepared::Entry(command.topic(), self.entry(Body::Decision(decision))))
    }

    /// Writes the entry of a decision and applies it.
    pub fn book(&mut self, topic: &Topic, entry: &Entry) -> Outcome {
        let effects = self.append(topic, entry).expect("what was decided can be folded");
        let Body::Decision(decision) = &entry.body else { panic!("{entry:?} is no decision") };
        Outcome::Entry { position: self.state.head().position, events: decision.events.clone(), effects }
    }

    /// A node takes the partition over.
    pub fn take_over(&mut self, node: &str) {
        let node = NodeName::parse(node).unwrap();
        let command = Command::Partition(PartitionCommand::TakeOwnership(node));
        self.command(&command, None).unwrap();
    }

    /// Packs usage as ingress does, writes it as one entry, and applies it.
    pub fn usage(&mut self, usage: &[Usage]) -> Vec<Effect> {
        let (topic, entry) = self.pack(usage);
        self.append(&topic, &entry).expect("usage can always be folded")
    }

    /// Packs usage as ingress does.
    pub fn pack(&mut self, usage: &[Usage]) -> (Topic, Entry) {
        let mut builder = BatchBuilder::new(self.now);
        for usage in usage {
            builder.push(usage);
        }
        let topic = match builder.only_organization() {
            Some(organization) => Topic::Usage(organization.clone()),
            None => Topic::UsageMixed,
        };
        let entry = self.entry(Body::Usage(builder.finish()));
        (topic, entry)
    }

    /// Writes bytes that ingress could not read.
    pub fn unreadable(&mut self, organization: Option<OrgId>, reason: &str) -> Vec<Effect> {
        let refused = Unreadable {
            organization,
            reason: reason.to_owned(),
            ingress: tollbook_schemas::usage::Ingress::Http,
            bytes: Bytes::from_static(b"{"),
        };
        let entry = self.entry(Body::Unreadable(vec![refused]));
        self.append(&Topic::UsageMixed, &entry).expect("unreadable bytes can always be folded")
    }

    /// Keeps what has changed of State, as views do.
    pub fn keep(&mut self) {
        self.rows.extend(self.state.take_changed().unwrap());
    }

    /// Keeps State as views do, and goes on with what was kept. What was kept must be the same.
    pub fn restart(&mut self) {
        self.keep();
        let common = self.state.common_bytes().unwrap();
        let restored = State::restore(PARTITION, &common, self.rows.values().map(Vec::as_slice)).unwrap();
        assert_same(&restored, &self.state);
        self.state = restored;
        self.state.report_charges();
    }

    /// The same log folded from nothing; `keep` says after which positions changed rows are taken.
    pub fn refold(&self, mut keep: impl FnMut(u64) -> bool) -> State {
        let mut state = State::empty(PARTITION);
        let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
        for (position, message) in (1..).zip(&self.log) {
            let record =
                Record::read(&ledger_id(), PARTITION, Position(position), &message.subject, &message.payload);
            let sightings = lookup.sightings(&record).unwrap();
            state.apply(&record, &sightings).unwrap();
            if keep(position) {
                state.take_changed().unwrap();
            }
        }
        state
    }

    /// Folds the same log from nothing, going on with what was kept of State wherever `restart` says so: the same alerts
    /// with the same ids, the same breaches, the same State (R7.3).
    pub fn check_told(&self, mut restart: impl FnMut(u64) -> bool) {
        let mut state = State::empty(PARTITION);
        let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
        let mut rows = BTreeMap::new();
        let (mut alerts, mut breaches) = (Vec::new(), Vec::new());
        for (position, message) in (1..).zip(&self.log) {
            let record =
                Record::read(&ledger_id(), PARTITION, Position(position), &message.subject, &message.payload);
            let sightings = lookup.sightings(&record).unwrap();
            for effect in state.apply(&record, &sightings).unwrap() {
                match effect {
                    Effect::Alert(alert) => alerts.push(*alert),
                    Effect::BreachEnded { organization, project, ended } => {
                        breaches.push((organization, project, *ended));
                    }
                    _ => {}
                }
            }
            if restart(position) {
                rows.extend(state.take_changed().unwrap());
                let common = state.common_bytes().unwrap();
                state = State::restore(PARTITION, &common, rows.values().map(Vec::as_slice)).unwrap();
            }
        }
        assert_same(&state, &self.state);
        assert_eq!(alerts, self.alerts, "alerts differ");
        assert_eq!(breaches, self.breaches, "breaches differ");
        let ids: BTreeSet<_> = alerts.iter().map(|alert| &alert.id).collect();
        assert_eq!(ids.len(), alerts.len(), "every alert has an id of its own");
    }

    /// The digest of State.
    pub fn digest(&self) -> Hash {
        self.state.digest().unwrap()
    }

    /// Everything that one organization consumed, history and open cells together.
    pub fn cells(&self, organization: &OrgId) -> BTreeMap<CellKey, Cell> {
        let closed = self.history.iter().filter(|(of, _)| of == organization).map(|(_, cells)| cells);
        let open = self.state.organization(organization).map(|known| &known.open);
        let mut all: BTreeMap<CellKey, Cell> = BTreeMap::new();
        for (key, cell) in closed.chain(open).flat_map(|cells| cells.cells.iter()) {
            all.entry(key.clone()).or_default().add(cell).unwrap();
        }
        all
    }

    /// What holds of every ledger at every moment.
    pub fn check(&self) {
        let mut told_apart = self.state.head().quarantined;
        let mut all = TrialBalance::default();
        for organization in self.state.organizations() {
            self.check_books(organization, &mut all);
            assert!(organization.purse.conserves(), "{} does not conserve money", organization.id);
            assert!(
                !organization.purse.vouchers().is_negative(),
                "{} has vouchers below zero",
                organization.id
            );
            told_apart += organization.counts.booked + organization.counts.duplicates;
            let mut consumed = Amount::ZERO;
            for (_, cell) in organization.open.cells.iter() {
                consumed = consumed.checked_add(cell.cost).unwrap();
            }
            for (of, closed) in &self.history {
                if *of == organization.id {
                    for (_, cell) in closed.cells.iter() {
                        consumed = consumed.checked_add(cell.cost).unwrap();
                    }
                }
            }
            assert_eq!(consumed, organization.purse.spent(), "{}: cells and purse differ", organization.id);
        }
        assert_eq!(
            told_apart,
            self.state.head().usage_records,
            "booked + duplicate + quarantined = accepted"
        );
        assert_eq!(self.state.trial_balance().unwrap(), all, "the trial balance of all organizations");
        assert_eq!(all.sum(), Ok(Amount::ZERO), "{all:?}");
    }

    /// What holds of every organization's books: postings, trial balance, months and document numbers agree.
    fn check_books(&self, organization: &Organization, all: &mut TrialBalance) {
        let id = &organization.id;
        let trial = organization.purse.trial_balance().unwrap();
        assert_eq!(trial, self.posted.get(id).cloned().unwrap_or_default(), "{id}: postings differ");
        all.add(&trial).unwrap();
        for voucher in organization.purse.each_voucher() {
            assert!(voucher.left.is_positive() && voucher.left <= voucher.granted, "{id}: {voucher:?}");
        }
        let mine = self.movements.iter().filter(|(of, _)| of == id).map(|(_, movement)| movement);
        let mut changes: BTreeMap<Month, Funds> = BTreeMap::new();
        let mut documents = 0;
        for movement in mine {
            let change = changes.entry(movement.month).or_default();
            *change = change.plus(movement.change).unwrap();
            if let Some(number) = movement.document() {
                documents += 1;
                assert_eq!(number, documents, "{id}: documents are numbered without gaps");
            }
        }
        assert_eq!(organization.documents, documents, "{id}: documents");
        let mut opening = Funds::default();
        for (_, ended) in self.months.iter().filter(|(of, _)| of == id) {
            let change = changes.remove(&ended.month).unwrap_or_default();
            let closing = ended.opening.plus(change).unwrap().minus(ended.usage).unwrap();
            assert_eq!((ended.opening, ended.closing), (opening, closing), "{id}: {ended:?}");
            opening = ended.closing;
        }
        let open = &organization.month;
        let change = changes.remove(&open.month).unwrap_or_default();
        let closing = open.opening.plus(change).unwrap().minus(open.usage).unwrap();
        assert_eq!((open.opening, organization.purse.funds()), (opening, closing), "{id}: {open:?}");
        assert!(changes.is_empty(), "{id}: movements of months that never were: {changes:?}");
    }
}

/// Who asks for such a command where nobody else is named.
pub fn actor_of(command: &Command) -> Actor {
    match command {
        Command::Organization(_, OrganizationCommand::AcceptInvitation { .. }) => {
            Actor::Invitee { token: None }
        }
        Command::Organization(..) | Command::Config(_) => Actor::Operator { token: None },
        Command::Partition(_) => Actor::Engine,
    }
}

/// Compares two states in everything that can be seen of them.
pub fn assert_same(one: &State, other: &State) {
    assert_eq!(one.head(), other.head());
    assert_eq!(one.config(), other.config());
    assert_eq!(one.common_bytes().unwrap(), other.common_bytes().unwrap());
    let (ours, theirs): (Vec<_>, Vec<_>) = (one.organizations().collect(), other.organizations().collect());
    assert_eq!(ours, theirs);
    assert_eq!(one.digest().unwrap(), other.digest().unwrap());
}

/// A command's entry has one row of the audit log, unless it is nobody's decision or says nothing; besides, only what
/// it moved, ended, or made recognizable.
#[track_caller]
pub fn assert_audited(command: &Command, events: &[Event], effects: &[Effect]) {
    let audited: Vec<Option<&OrgId>> = match command {
        _ if events.is_empty() => Vec::new(),
        Command::Organization(id, _) => vec![Some(id)],
        Command::Config(_) => vec![None],
        Command::Partition(_) => Vec::new(),
    };
    let rows = effects.iter().filter_map(|effect| match effect {
        Effect::Decided { organization, .. } => Some(organization.as_ref()),
        Effect::Moved { .. }
        | Effect::MonthEnded { .. }
        | Effect::CellsClosed { .. }
        | Effect::Sealed { .. }
        | Effect::Remembered { .. }
        | Effect::Settled { .. }
        | Effect::Charged { .. } => None,
        other => panic!("{command:?}: {other:?}"),
    });
    assert_eq!(rows.collect::<Vec<_>>(), audited, "{command:?}");
}
