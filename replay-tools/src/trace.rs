//! `trace`: one usage record's way through the whole log.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use futures_util::StreamExt;
use tollbook_engine::partition::partition_of;
use tollbook_projections::first::{FirstPlacesInMemory, Lookup};
use tollbook_projections::movement::{Movement, What};
use tollbook_projections::past::Settling;
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::{Effect, State};
use tollbook_projections::trace::{By, Wanted};
use tollbook_schemas::entry::Body;
use tollbook_schemas::event::{Event, QuarantineEvent};
use tollbook_schemas::id::{OrgId, SourceName};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Usage, UsagePlace};

use crate::Failure;
use crate::source::{Source, SourceArgs, SourceError};

/// What to follow.
#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    log: SourceArgs,
    /// Whose record it is, org_…
    #[arg(long, value_name = "ORG", value_parser = organization)]
    org: OrgId,
    /// Who published it
    #[arg(long, value_parser = publisher)]
    source: SourceName,
    /// Its id there
    #[arg(long, required_unless_present = "producerseq", conflicts_with = "producerseq")]
    id: Option<String>,
    /// Its producerseq there
    #[arg(long)]
    producerseq: Option<u64>,
}

fn organization(text: &str) -> Result<OrgId, String> {
    OrgId::parse(text).map_err(|error| error.to_string())
}

fn publisher(text: &str) -> Result<SourceName, String> {
    SourceName::parse(text).map_err(|error| error.to_string())
}

/// Every occurrence of the record in the whole log, with what became of it. Exit code 1 if there is none.
pub(crate) async fn run(args: TraceArgs) -> Result<(), Failure> {
    let by = match (args.id, args.producerseq) {
        (_, Some(count)) => By::Count(count),
        (id, None) => By::Id(id.unwrap_or_default()),
    };
    let source = args.log.open().await?;
    let partition = partition_of(&args.org, source.ledger.partitions);
    let mut way = Way {
        partition,
        wanted: Wanted { organization: args.org, source: args.source, by },
        told: BTreeMap::new(),
    };
    way.follow(&source).await?;
    if way.told.is_empty() {
        return Err(Failure::Check("there is no such record in the whole log".into()));
    }
    for lines in way.told.values() {
        say(lines);
    }
    Ok(())
}

/// What was found so far, by place.
struct Way {
    partition: PartitionId,
    wanted: Wanted,
    told: BTreeMap<UsagePlace, String>,
}

impl Way {
    async fn follow(&mut self, source: &Source) -> Result<(), Failure> {
        let last = source.log.last(self.partition).await.map_err(SourceError::from)?;
        let mut tail = source.log.tail(self.partition, Position::ZERO);
        let mut state = State::empty(self.partition);
        let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
        while state.head().position < last {
            let Some(stored) = tail.next().await else { break };
            let stored = stored.map_err(SourceError::from)?;
            let (position, subject) = (stored.position, &stored.subject);
            let record = Record::read(&source.ledger.id, self.partition, position, subject, &stored.payload);
            let check = |error: &dyn std::fmt::Display| {
                Failure::Check(format!("the log cannot be folded at {}-{position}: {error}", self.partition))
            };
            let sightings = lookup.sightings(&record).map_err(|error| check(&error))?;
            let effects = state.apply(&record, &sightings).map_err(|error| check(&error))?;
            self.note(&state, &record, &effects);
        }
        Ok(())
    }

    /// Notes what one entry says about the record.
    fn note(&mut self, state: &State, record: &Record, effects: &[Effect]) {
        let found = self.wanted.find(record);
        if let Content::Entry(_, entry) = &record.content {
            for (place, usage) in found {
                let fate = self.fate(state, place, &usage, effects);
                self.add(place, entry.recorded_at, &fate);
            }
        }
        for effect in effects {
            if let Effect::Settled { place, settled } = effect
                && self.told.contains_key(place)
            {
                let how = match &settled.how {
                    Settling::Released => {
                        let released = released(record, *place);
                        let charged = released.and_then(|usage| self.charged(state, usage, record.position));
                        format!("released: {}", charged.unwrap_or_default())
                    }
                    Settling::Dismissed(reason) => format!("dismissed: {}", reason.as_str()),
                };
                self.add(*place, settled.at, &how);
            }
            if let Effect::Moved { organization, movement } = effect
                && *organization == self.wanted.organization
                && let What::UsageReversal { reversal, usage, back, .. } = &movement.what
                && self.told.contains_key(usage)
            {
                let Movement { position, booked_at, .. } = &**movement;
                let (cash, vouchers) = (back.cash, back.vouchers);
                let (place, at) = (*usage, *booked_at);
                let how = format!(
                    "reversed by {reversal} at {}-{position}: {cash} to cash, {vouchers} as a voucher",
                    self.partition
                );
                self.add(place, at, &how);
            }
        }
    }

    fn fate(&self, state: &State, place: UsagePlace, usage: &Usage, effects: &[Effect]) -> String {
        for effect in effects {
            if let Effect::Foreign { reason, .. } = effect {
                return format!("skipped: {reason}");
            }
            if let Effect::Copy { .. } = effect {
                return "skipped: a copy of an entry applied before".to_owned();
            }
            if let Effect::Repeated { rows, .. } = effect
                && rows.contains(&place.row)
            {
                let first = self.told.keys().next();
                return match first {
                    Some(first) => format!("duplicate of {}-{first}", self.partition),
                    None => "duplicate".to_owned(),
                };
            }
            if let Effect::Quarantined(record) = effect
                && record.place == place
            {
                return format!("quarantined, {}: {}", record.reason.code(), record.reason);
            }
        }
        let charged = self.charged(state, usage, place.position);
        format!("accepted: {}", charged.unwrap_or_default())
    }

    /// How a record was charged that the entry applied last has booked.
    fn charged(&self, state: &State, usage: &Usage, position: Position) -> Option<String> {
        let known = state.organization(&self.wanted.organization)?;
        let booked = state.as_booked(known, usage, UsagePlace { position, row: 0 })?;
        let key = booked.key.map(|key| format!(", {key}")).unwrap_or_default();
        Some(format!(
            "{} for {} in {}{key}, of {}, booked in {}",
            booked.cost, booked.model, booked.project, booked.day, known.month.month
        ))
    }

    fn add(&mut self, place: UsagePlace, at: Timestamp, what: &str) {
        let lines = self.told.entry(place).or_default();
        let before = if lines.is_empty() { format!("{}-{place}", self.partition) } else { "\n ".to_owned() };
        if write!(lines, "{before} {at} {what}").is_err() {
            lines.push_str(what);
        }
    }
}

fn released(record: &Record, from: UsagePlace) -> Option<&Usage> {
    let Content::Entry(_, entry) = &record.content else { return None };
    let Body::Decision(decision) = &entry.body else { return None };
    decision.events.iter().find_map(|event| match event {
        Event::Quarantine(QuarantineEvent::Released { place, usage, .. }) if *place == from => Some(&**usage),
        Event::Quarantine(QuarantineEvent::Released { .. } | QuarantineEvent::Dismissed { .. })
        | Event::Organization(_)
        | Event::Member(_)
        | Event::Project(_)
        | Event::Key(_)
        | Event::Money(_)
        | Event::Webhook(_)
        | Event::Config(_)
        | Event::Partition(_) => None,
    })
}

#[expect(clippy::print_stdout, reason = "this is a command's output")]
fn say(lines: &str) {
    println!("{lines}");
}
