//! Decisions in flight: one per topic, so that each is made on everything before it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::{Effect, State};
use tollbook_schemas::codec;
use tollbook_schemas::command::Command;
use tollbook_schemas::entry::{Body, Decision};
use tollbook_schemas::event::Event;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;

use super::handle::{CommandError, Done, Request};
use crate::decide::{Decided, decide};
use crate::log::{Append, AppendError, EventLog};
use crate::writer::{Ticket, Writer};

/// Commands that may wait behind others of their topic.
const WAITING_MAX: usize = 4_096;
/// Decisions in flight over all topics.
const IN_FLIGHT_MAX: usize = 1_024;

/// Commands by topic.
pub(super) struct Series {
    log: Arc<dyn EventLog>,
    writer: Writer,
    topics: HashMap<Topic, Line>,
    waiting: usize,
    results: mpsc::Sender<Appended>,
    appended: mpsc::Receiver<Appended>,
    /// Whether something that the engine itself wanted was not taken since [`Series::take_failure`].
    failed: bool,
}

/// Commands of one topic.
#[derive(Default)]
struct Line {
    current: Option<Current>,
    waiting: VecDeque<Request>,
    /// Where a conflict said that the topic's last entry stands: it may be one that the fold skipped.
    last_known: Position,
}

/// The decision in flight.
struct Current {
    request: Request,
    events: Vec<Event>,
    count: u64,
    step: Step,
    /// Held until it is known what became of the entry.
    _ticket: Ticket,
}

/// How far the decision in flight is.
enum Step {
    /// Being appended, or appended and not applied yet.
    Appending,
    /// Somebody else's entry came first, here; decided again once that is applied.
    Lost(Position),
    /// Applied.
    Applied(Position),
    /// Skipped by the fold: the partition was taken over.
    Void,
}

/// What the log said to one append.
pub(super) struct Appended {
    topic: Topic,
    count: u64,
    result: Result<Position, AppendError>,
}

impl Series {
    pub(super) fn new(log: Arc<dyn EventLog>, writer: Writer) -> Self {
        let (results, appended) = mpsc::channel(IN_FLIGHT_MAX);
        Self { log, writer, topics: HashMap::new(), waiting: 0, results, appended, failed: false }
    }

    /// Whether something that the engine itself wanted was not taken since this was last asked.
    pub(super) const fn take_failure(&mut self) -> bool {
        std::mem::replace(&mut self.failed, false)
    }

    /// Answers a request that was not carried out.
    fn fail(&mut self, request: Request, error: CommandError) {
        self.failed |= request.reply.is_none();
        request.answer(Err(error));
    }

    /// The next answer of the log.
    pub(super) async fn appended(&mut self) -> Option<Appended> {
        self.appended.recv().await
    }

    /// Whether a decision about configuration, cycles or ownership is in flight.
    pub(super) fn config_is_busy(&self) -> bool {
        self.topics.get(&Topic::Config).is_some_and(|line| line.current.is_some())
    }

    /// Whether a decision about an organization is in flight.
    pub(super) fn is_busy(&self, organization: &OrgId) -> bool {
        let line = self.topics.get(&Topic::Organization(organization.clone()));
        line.is_some_and(|line| line.current.is_some())
    }

    /// Decides a command, now or when those of its topic before it are done.
    pub(super) fn submit(&mut self, request: Request, state: &State, term: u64, now: Timestamp) {
        let topic = request.command.topic();
        let line = self.topics.entry(topic.clone()).or_default();
        if line.current.is_none() {
            self.decide(topic, request, state, term, now);
        } else if self.waiting < WAITING_MAX {
            line.waiting.push_back(request);
            self.waiting = self.waiting.saturating_add(1);
        } else {
            self.fail(request, CommandError::Busy);
        }
    }

    fn decide(&mut self, topic: Topic, request: Request, state: &State, term: u64, now: Timestamp) {
        let partition = state.partition();
        if let Some(through) = forgotten(state, &request) {
            return self.fail(request, CommandError::Forgotten(through));
        }
        let at = |position| LogPosition { partition, position };
        let events = match decide(
            state,
            &request.command,
            &request.actor,
            request.idempotency(),
            &request.past,
            now,
        ) {
            Ok(Decided::Events(events)) => events,
            Ok(Decided::Before(position)) => {
                return request.answer(Ok(Done { position: at(position), events: Vec::new(), before: true }));
            }
            Ok(Decided::AsItIs) => {
                let position = at(state.head().position);
                return request.answer(Ok(Done { position, events: Vec::new(), before: false }));
            }
            Err(rejection) => return self.fail(request, rejection.into()),
        };
        let Some(ticket) = self.writer.try_begin() else { return self.fail(request, CommandError::Busy) };
        let decision = Decision {
            term: events.iter().find_map(Event::term_taken).unwrap_or(term),
            actor: request.actor.clone(),
            cause: request.cause.clone(),
            events: events.clone(),
        };
        let entry = self.writer.entry(&ticket, now, Body::Decision(decision));
        let payload = match codec::encode_entry(&entry) {
            Ok(payload) => Bytes::from(payload),
            Err(error) => return self.fail(request, CommandError::Encode(error.to_string())),
        };
        let line = self.topics.entry(topic.clone()).or_default();
        let expected = last_of(state, &topic).max(line.last_known);
        let count = ticket.count();
        line.current = Some(Current { request, events, count, step: Step::Appending, _ticket: ticket });
        let append = Append { id: entry.id, topic: topic.clone(), payload, expected: Some(expected) };
        let (log, results) = (self.log.clone(), self.results.clone());
        tokio::spawn(async move {
            let result = log.append(append).await;
            if results.send(Appended { topic, count, result }).await.is_err() {
                tracing::debug!("the owner stopped before the log answered");
            }
        });
    }

    /// Takes the log's answer to an append.
    pub(super) fn settle(&mut self, appended: Appended, state: &State, term: u64, now: Timestamp) {
        let Some(line) = self.topics.get_mut(&appended.topic) else { return };
        let Some(current) = line.current.as_mut().filter(|current| current.count == appended.count) else {
            return;
        };
        match appended.result {
            // The answer is given when it comes back in the log's order.
            Ok(_) => {}
            Err(AppendError::Conflict { actual, .. }) => {
                line.last_known = line.last_known.max(actual);
                current.step = Step::Lost(actual);
            }
            Err(
                error @ (AppendError::TooLarge { .. }
                | AppendError::Refused { .. }
                | AppendError::Unknown { .. }
                | AppendError::Closed),
            ) => {
                // After `Unknown` the entry may still come; what is decided next expects it not to have, or conflicts.
                if let Some(current) = line.current.take() {
                    self.fail(current.request, CommandError::Log(error));
                }
            }
        }
        self.go_on(state, term, now);
    }

    /// Notes that a record of ours was applied, or skipped.
    pub(super) fn applied(&mut self, record: &Record, effects: &[Effect]) {
        let Content::Entry(topic, entry) = &record.content else { return };
        if entry.id.writer != self.writer.id() {
            return;
        }
        let Some(current) = self.topics.get_mut(topic).and_then(|line| line.current.as_mut()) else { return };
        if current.count == entry.id.count {
            let void = effects.iter().any(|effect| matches!(effect, Effect::Voided { .. }));
            current.step = if void { Step::Void } else { Step::Applied(record.position) };
        }
    }

    /// Answers what is done, and decides what waited for that.
    pub(super) fn go_on(&mut self, state: &State, term: u64, now: Timestamp) {
        let ready = |line: &Line| match line.current.as_ref().map(|current| &current.step) {
            Some(Step::Applied(_) | Step::Void) => true,
            Some(Step::Lost(at)) => state.head().position >= *at,
            Some(Step::Appending) => false,
            None => !line.waiting.is_empty(),
        };
        // Each turn answers or decides one command of every ready topic; a refusal may make the next one ready.
        loop {
            let topics: Vec<Topic> =
                self.topics.iter().filter(|(_, line)| ready(line)).map(|(topic, _)| topic.clone()).collect();
            if topics.is_empty() {
                break;
            }
            for topic in topics {
                self.go_on_with(topic, state, term, now);
            }
        }
        self.topics.retain(|_, line| {
            line.current.is_some() || !line.waiting.is_empty() || line.last_known > Position::ZERO
        });
    }

    fn go_on_with(&mut self, topic: Topic, state: &State, term: u64, now: Timestamp) {
        let Some(line) = self.topics.get_mut(&topic) else { return };
        match line.current.take() {
            Some(Current { request, events, step: Step::Applied(position), .. }) => {
                let position = LogPosition { partition: state.partition(), position };
                request.answer(Ok(Done { position, events, before: false }));
            }
            Some(Current { request, step: Step::Void, .. }) => request.answer(Err(CommandError::NotOwner)),
            Some(Current { request, .. }) => self.decide(topic, request, state, term, now),
            None => {
                if let Some(request) = line.waiting.pop_front() {
                    self.waiting = self.waiting.saturating_sub(1);
                    self.decide(topic, request, state, term, now);
                }
            }
        }
    }

    /// Refuses what waits: this process does not own the partition any more. What is in flight is answered by the log.
    pub(super) fn give_up(&mut self) {
        self.refuse_waiting(|| CommandError::NotOwner);
    }

    /// Refuses what waits: the process stops.
    pub(super) fn stop(&mut self) {
        self.refuse_waiting(|| CommandError::Stopping);
    }

    fn refuse_waiting(&mut self, why: impl Fn() -> CommandError) {
        #[expect(clippy::iter_over_hash_type, reason = "everybody gets the same refusal")]
        for line in self.topics.values_mut() {
            for request in line.waiting.drain(..) {
                request.answer(Err(why()));
            }
        }
        self.waiting = 0;
    }
}

/// What the view did not hold yet when it was asked for this request's past, and State has forgotten.
fn forgotten(state: &State, request: &Request) -> Option<Position> {
    let Command::Organization(id, _) = &request.command else { return None };
    let recent = &state.organization(id).filter(|_| request.looks_back())?.recent;
    (!recent.joins(&request.past)).then(|| recent.dropped())
}

/// Where State saw the last entry of a topic.
fn last_of(state: &State, topic: &Topic) -> Position {
    match topic {
        Topic::Config => state.head().last_config,
        Topic::Organization(id) => state.organization(id).map_or(Position::ZERO, |known| known.last_decision),
        Topic::Usage(_) | Topic::UsageMixed => Position::ZERO,
    }
}
