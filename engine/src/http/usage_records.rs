//! One usage record's way through the ledger, and taking a booked one back (R4.8, R8.1).

use serde_json::Value;
use tollbook_projections::movement::{Movement, What};
use tollbook_projections::trace::{By, Wanted};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::cloudevent;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, MoneyEvent};
use tollbook_schemas::id::{MovementId, OrgId, Reason, SourceName};
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::time::{Day, Timestamp};
use tollbook_schemas::usage::UsagePlace;
use utoipa::openapi::schema::{OneOfBuilder, Schema};

use super::answer::Json;
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::problem::{Fault, Problem};
use super::quarantine::{QuarantinedUsage, traced};
use super::reading::Reading;
use super::shape::{Described, FromJson, IfAny, Parts, Shape, answer, request};
use super::usage_record::{BookedRecord, Place};
use super::values::Whole;
use super::write::{Created, Write};
use crate::clock;
use crate::permission::Action;
use crate::trace::{Fate, Occurrence, Searched, Tracer};

/// Days up to today that are searched for a record unless others are named.
const SEARCH_DAYS: u16 = 3;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Usage records", "The way of single records, and taking them back.");
    let says = Says {
        id: "traceUsageRecord",
        summary: "Follow a usage record",
        more: "By `place`, by `source` and `id`, or by `source` and `producerseq`: every occurrence in the order of the \
               log, with what became of it. The first occurrence of an id without `producerseq` is always found; for \
               others, and for repetitions, the log is searched: from the first occurrence on, or else the last 3 days, \
               unless `from` and `to` name the days on which it may have been booked. `searched` says how far one \
               request got. For the organization's administrators.",
    };
    routes.read("/v1/organizations/{org}/usage-records", says, trace);
    let says = Says {
        id: "reverseUsage",
        summary: "Take a booked usage record back",
        more: "Its whole cost comes back: to cash as far as cash paid for usage, the rest as a voucher without expiry. \
               Budgets and analysis count it off on the day in which it occurred, the statement in the open month. A \
               record that was released from quarantine is named by its place there. Once: the same record again \
               changes nothing and answers as the first time. 422 `usage_not_booked` says what it is instead.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/usage-reversals", says, reverse);
}

request! {
    /// Which record.
    pub(super) struct UsageRecordQuery {
        /// Where it stands.
        place: Option<Place>,
        /// Who published it.
        source: Option<SourceName>,
        /// Its id there.
        id: Option<String>,
        /// Its `producerseq` there.
        producerseq: Option<Whole>,
        /// The first day on which it may have been booked.
        from: Option<Day>,
        /// The last such day.
        to: Option<Day>,
        /// Searches on after this entry: the `next_page` of the answer before.
        after: Option<LogPosition>,
    }
}

answer! {
    /// Every occurrence of a record that was found.
    pub(super) struct UsageRecordWay {
        /// In the order of the log.
        items: Vec<UsageOccurrence>,
        /// How much of the log was searched; not for a place.
        searched: IfAny<SearchedLog>,
        /// The value of `after` that searches on; null when everything was searched.
        next_page: Option<String>,
    }
}

answer! {
    /// A part of the log.
    pub(super) struct SearchedLog {
        /// It begins after this entry.
        after: LogPosition,
        /// It ends with this one.
        through: LogPosition,
        /// Whether that is all that was asked for.
        complete: bool,
    }
}

answer! {
    /// A record where it came.
    pub(super) struct UsageOccurrence {
        /// Where it stands.
        place: Place,
        /// When its entry was written.
        recorded_at: Timestamp,
        /// What became of it.
        outcome: Outcome,
        /// Why its entry was skipped.
        detail: IfAny<String>,
        /// Where it came first, as far as that was found.
        duplicate_of: IfAny<Place>,
        /// What came, as a CloudEvent.
        event: Value,
        /// How it was charged, if it was booked.
        booked: IfAny<BookedRecord>,
        /// Why it was not booked as it came, and what became of it.
        quarantine: IfAny<QuarantinedUsage>,
        /// How it was taken back, if it was.
        reversed: IfAny<UsageReversal>,
    }
}

/// What became of a record where it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Accepted,
    Duplicate,
    Quarantined,
    Skipped,
}

choices! {
    Outcome = "UsageOutcome", "What became of a record where it came: booked, recognized as a repetition, put into \
               quarantine, or skipped with its whole entry." {
        Accepted = "accepted",
        Duplicate = "duplicate",
        Quarantined = "quarantined",
        Skipped = "skipped",
    }
}

request! {
    /// A record to take back.
    pub(super) struct NewUsageReversal {
        /// Which.
        usage: UsageRef,
        /// Why.
        reason: Reason,
    }
}

request! {
    /// A record by what its publisher called it.
    pub(super) struct UsageName {
        /// Who published it.
        source: SourceName,
        /// Its id there.
        id: String,
    }
}

/// A record by its place, or by what its publisher called it.
#[derive(Debug)]
pub(super) enum UsageRef {
    At(Place),
    Named(UsageName),
}

impl Shape for UsageRef {
    fn describe(parts: &mut Parts) -> Described {
        let (place, name) = (<Place as Shape>::describe(parts), UsageName::describe(parts));
        Schema::from(OneOfBuilder::new().item(place).item(name)).into()
    }
}

impl FromJson for UsageRef {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        if value.is_object() {
            return UsageName::read(path, value, faults).map(Self::Named);
        }
        Place::read(path, value, faults).map(Self::At)
    }
}

answer! {
    /// A record that was taken back.
    pub(super) struct UsageReversal {
        /// The reversal.
        id: MovementId,
        /// The record.
        usage: Place,
        /// Why.
        reason: Option<Reason>,
        /// The entry that says so.
        reversed_by: LogPosition,
        /// When.
        reversed_at: Timestamp,
        /// What came back.
        back: Back,
        /// As it had been charged.
        booked: IfAny<BookedRecord>,
    }
}

answer! {
    /// What came back of each purse.
    pub(super) struct Back {
        /// To cash.
        cash: Amount,
        /// As a voucher.
        vouchers: Amount,
    }
}

async fn trace(
    Reading { path: org, query, at }: Reading<OrgId, UsageRecordQuery>,
) -> Result<Json<UsageRecordWay>, Problem> {
    let read = at.organization(&org, Action::ManageOrganization, |known| known.calendar.clone());
    let calendar = read.await?;
    let tracer = Tracer::new(&at.node, &org)?;
    let partition = tracer.partition();
    let UsageRecordQuery { place, source, id, producerseq, from, to, after } = query;
    let by = match (place, id, producerseq) {
        (Some(place), None, None) => {
            let found = match place.partition == partition {
                true => tracer.at(place.place).await?,
                false => None,
            };
            let mut items = Vec::new();
            if let Some(occurrence) = found {
                let first = first_of(&tracer, &org, &occurrence).await?;
                items.push(told(&tracer, &occurrence, first).await?);
            }
            return Ok(Json(UsageRecordWay { items, searched: IfAny(None), next_page: None }));
        }
        (None, Some(id), None) => By::Id(id),
        (None, None, Some(Whole(count))) => By::Count(count),
        (_, _, _) => {
            return Err(Problem::parameter(
                "place",
                &"or `source` with `id` or `producerseq` must be given, and only one of these",
            ));
        }
    };
    let source = source.ok_or_else(|| Problem::parameter("source", &"is missing"))?;
    let wanted = Wanted { organization: org.clone(), source, by };
    let first = tracer.first(&wanted).await?;
    let today = calendar.day(at.node.clock().now());
    let (mut begin, before) = match (from, to, first) {
        (None, None, Some(first)) => (Position(first.position.0.saturating_sub(1)), None),
        (from, to, _) => {
            let to = to.unwrap_or(today);
            tracer.days(from.unwrap_or_else(|| to.earlier_by(SEARCH_DAYS.saturating_sub(1))), to).await?
        }
    };
    if let Some(after) = after {
        if after.partition != partition {
            return Err(Problem::parameter("after", &"is no position of this organization"));
        }
        begin = begin.max(after.position);
    }
    let (mut found, searched) = tracer.search(&wanted, begin, before).await?;
    // The first page begins with the first occurrence, wherever that is.
    if after.is_none()
        && let Some(first) = first
        && found.iter().all(|occurrence| occurrence.place != first)
    {
        found.extend(tracer.at(first).await?);
        found.sort_by_key(|occurrence| occurrence.place);
    }
    let mut items = Vec::new();
    let mut earlier = first;
    for occurrence in &found {
        items.push(told(&tracer, occurrence, earlier).await?);
        earlier = earlier.or(Some(occurrence.place));
    }
    let at = |position| LogPosition { partition, position };
    let Searched { after, through, complete } = searched;
    let next_page = (!complete).then(|| at(through).to_string());
    let searched = SearchedLog { after: at(after), through: at(through), complete };
    Ok(Json(UsageRecordWay { items, searched: IfAny(Some(searched)), next_page }))
}

/// Where the id of an occurrence came first, of records that go by id.
async fn first_of(
    tracer: &Tracer<'_>,
    organization: &OrgId,
    occurrence: &Occurrence,
) -> Result<Option<UsagePlace>, Problem> {
    let usage = &occurrence.usage;
    if usage.producerseq.is_some() {
        return Ok(None);
    }
    let (organization, source) = (organization.clone(), usage.source.clone());
    let wanted = Wanted { organization, source, by: By::Id(usage.id.clone()) };
    Ok(tracer.first(&wanted).await?)
}

async fn told(
    tracer: &Tracer<'_>,
    occurrence: &Occurrence,
    first: Option<UsagePlace>,
) -> Result<UsageOccurrence, Problem> {
    let partition = tracer.partition();
    let mut item = UsageOccurrence {
        place: Place { partition, place: occurrence.place },
        recorded_at: occurrence.recorded_at,
        outcome: Outcome::Accepted,
        detail: IfAny(None),
        duplicate_of: IfAny(None),
        event: cloudevent::to_event(&occurrence.usage),
        booked: IfAny(None),
        quarantine: IfAny(None),
        reversed: IfAny(None),
    };
    let fate = tracer.fate(occurrence, first).await?;
    item.booked = IfAny(fate.charged().map(BookedRecord::of));
    if fate.charged().is_some() {
        let reversal = tracer.reversal(occurrence.place).await?;
        item.reversed = IfAny(reversal.and_then(|movement| reversed(tracer, movement)));
    }
    match fate {
        Fate::Booked(_) => {}
        Fate::Duplicate(of) => {
            item.outcome = Outcome::Duplicate;
            item.duplicate_of = IfAny(of.map(|place| Place { partition, place }));
        }
        Fate::Quarantined { record, settled, released } => {
            item.outcome = Outcome::Quarantined;
            item.quarantine = IfAny(Some(traced(partition, &record, settled.as_ref(), released.as_deref())));
        }
        Fate::Skipped(why) => {
            item.outcome = Outcome::Skipped;
            item.detail = IfAny(Some(why));
        }
    }
    Ok(item)
}

async fn reverse(
    Write { path: org, body, author }: Write<OrgId, NewUsageReversal>,
) -> Result<Created<UsageReversal>, Problem> {
    author.may(&org, Action::Operate).await?;
    let tracer = Tracer::new(&author.node, &org)?;
    let (occurrence, fate) = find(&tracer, &org, body.usage).await?;
    let usage = occurrence.place;
    let charged = fate.charged().ok_or_else(|| not_booked(&tracer, usage, &fate))?;
    let command = OrganizationCommand::ReverseUsage {
        reversal: MovementId::from_bits(clock::new_id_bits()),
        usage,
        booked: Box::new(charged.booked.clone()),
        reason: body.reason,
    };
    let done = author.decide(&org, command).await?;
    let reversed_one = done.events.iter().find_map(|event| match event {
        Event::Money(MoneyEvent::UsageReversed { usage, .. }) => Some(*usage),
        Event::Money(_)
        | Event::Organization(_)
        | Event::Member(_)
        | Event::Project(_)
        | Event::Key(_)
        | Event::Quarantine(_)
        | Event::Webhook(_)
        | Event::Config(_)
        | Event::Partition(_) => None,
    });
    let reversed_one = reversed_one.ok_or_else(|| Problem::internal("the entry reversed nothing"))?;
    let movement = tracer.reversal(reversed_one).await?;
    let shown = movement.and_then(|movement| reversed(&tracer, movement));
    let mut shown = shown.ok_or_else(|| Problem::internal("the reversal is in no books"))?;
    shown.booked = IfAny(Some(BookedRecord::of(charged)));
    Ok(Created::new(done, shown))
}

/// A record, and what became of it. Errors: there is none.
async fn find(
    tracer: &Tracer<'_>,
    organization: &OrgId,
    usage: UsageRef,
) -> Result<(Occurrence, Fate), Problem> {
    let (place, wanted) = match usage {
        UsageRef::At(place) => ((place.partition == tracer.partition()).then_some(place.place), None),
        UsageRef::Named(UsageName { source, id }) => {
            let wanted = Wanted { organization: organization.clone(), source, by: By::Id(id) };
            (tracer.first(&wanted).await?, Some(wanted))
        }
    };
    if let Some(place) = place
        && let Some(occurrence) = tracer.at(place).await?
    {
        let first = first_of(tracer, organization, &occurrence).await?;
        let fate = tracer.fate(&occurrence, first).await?;
        return Ok((occurrence, fate));
    }
    let Some(wanted) = wanted else {
        return Err(Problem::usage_not_found("there is no usage record of this organization at this place"));
    };
    // Records that count are not found by their ids: the latest entries are searched.
    let (found, _) = tracer.search_latest(&wanted).await?;
    let mut last = None;
    for occurrence in found {
        let fate = tracer.fate(&occurrence, None).await?;
        if fate.charged().is_some() {
            return Ok((occurrence, fate));
        }
        last = Some((occurrence, fate));
    }
    last.ok_or_else(|| {
        Problem::usage_not_found(
            "there is no such usage record among the latest entries; one with `producerseq` that came earlier is \
             found with GET \u{2026}/usage-records and named by its place",
        )
    })
}

fn not_booked(tracer: &Tracer<'_>, place: UsagePlace, fate: &Fate) -> Problem {
    let text = |place| {
        let place = Place { partition: tracer.partition(), place };
        super::shape::Text::text(&place).into_owned()
    };
    let what = match fate {
        Fate::Booked(_) => "booked".to_owned(),
        Fate::Duplicate(Some(of)) => format!("a repetition of {}, which may be reversed", text(*of)),
        Fate::Duplicate(None) => "a repetition of an earlier record, which may be reversed".to_owned(),
        Fate::Quarantined { record, settled: None, .. } => format!("in quarantine: {}", record.reason),
        Fate::Quarantined { .. } => "dismissed from quarantine".to_owned(),
        Fate::Skipped(why) => format!("in an entry that was skipped: {why}"),
    };
    Problem::usage_not_booked(format!("{} was not booked: it is {what}", text(place)))
}

fn reversed(tracer: &Tracer<'_>, movement: Movement) -> Option<UsageReversal> {
    let partition = tracer.partition();
    let Movement { position, booked_at, reason, what, .. } = movement;
    let What::UsageReversal { reversal, usage, back, .. } = what else { return None };
    Some(UsageReversal {
        id: reversal,
        usage: Place { partition, place: usage },
        reason,
        reversed_by: LogPosition { partition, position },
        reversed_at: booked_at,
        back: Back { cash: back.cash, vouchers: back.vouchers },
        booked: IfAny(None),
    })
}
