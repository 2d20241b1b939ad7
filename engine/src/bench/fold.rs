//! How fast the log folds: what rebuilds, verifications and the owner do with usage, on one core.

use std::time::Duration;

use clap::Args;
use sha2::{Digest, Sha256};
use tollbook_projections::first::{FirstPlaces, FirstPlacesInMemory, Lookup};
use tollbook_projections::ids::Ids;
use tollbook_projections::past::Past;
use tollbook_projections::record::Record;
use tollbook_projections::state::State;
use tollbook_schemas::batch::BatchBuilder;
use tollbook_schemas::codec;
use tollbook_schemas::entry::{Actor, Body, Cause, Decision, Entry};
use tollbook_schemas::event::{ConfigEvent, Event};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;

use super::report::{self, CpuWatch, Rates, each, grouped};
use super::scratch::Scratch;
use super::traffic::Traffic;
use super::{BenchError, whole};
use crate::decide::{Decided, decide};

const P0: PartitionId = PartitionId(0);
/// Entries between two writes to the index of ids, as the feed does it.
const KEEP_EVERY: usize = 32;

/// Folds made-up usage entries from memory, on one core.
#[derive(Clone, Debug, Args)]
pub struct Fold {
    /// Usage records per run.
    #[arg(long, default_value_t = 1_000_000)]
    records: usize,
    /// Usage records per entry.
    #[arg(long, default_value_t = 500)]
    per_entry: usize,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only the path of records without `producerseq`, whose ids are looked up, instead of beside the other.
    #[arg(long)]
    by_id: bool,
}

/// Messages as they stand in a log: set-up, then usage.
struct Log {
    ledger: LedgerId,
    setup: Vec<(Topic, Vec<u8>)>,
    usage: Vec<(String, Vec<u8>)>,
    records: u64,
    bytes: u64,
}

pub(super) fn run(options: &Fold) -> Result<(), BenchError> {
    if !options.by_id {
        by_sequence(options, &Log::make(options, false)?)?;
    }
    by_id(options, &Log::make(options, true)?)
}

fn by_sequence(options: &Fold, log: &Log) -> Result<(), BenchError> {
    let mut rates: [Rates; 6] = Default::default();
    let [fold, decode, read, apply, sha, copy] = &mut rates;
    let mut digest = None;
    for _ in 0..options.runs.max(1) {
        let mut state = log.begin()?;
        let watch = CpuWatch::start();
        log.fold(&mut state, &mut FirstPlacesInMemory::default(), |_, _| Ok(()))?;
        fold.add(log.records, watch.elapsed());
        let found = state.digest().map_err(BenchError::made)?;
        if digest.is_some_and(|before| before != found) {
            return Err(BenchError::Different);
        }
        digest = Some(found);
        log.parts(decode, read, apply)?;
        let watch = CpuWatch::start();
        let hashes = log
            .usage
            .iter()
            .fold(0u8, |all, (_, payload)| all ^ Sha256::digest(payload).first().copied().unwrap_or(0));
        sha.add(log.records, watch.elapsed());
        let watch = CpuWatch::start();
        let mut copied = Vec::with_capacity(1 << 20);
        for (_, payload) in &log.usage {
            copied.clear();
            copied.extend_from_slice(std::hint::black_box(payload));
            std::hint::black_box(&copied);
        }
        std::hint::black_box(hashes);
        copy.add(log.records, watch.elapsed());
    }
    let limit = decode.median();
    let rows = [
        fold.row("fold: decode, hash, check, apply", limit),
        read.row("of that, up to the record: decode, hash, check", limit),
        apply.row("of that, apply alone", limit),
        decode.row("limit: decode alone", limit),
        sha.row("limit: SHA-256 of the payloads alone", limit),
        copy.row("limit: copying the payloads", limit),
    ];
    log.print("Fold, records that carry producerseq", &rows);
    Ok(())
}

fn by_id(options: &Fold, log: &Log) -> Result<(), BenchError> {
    let mut rates: [Rates; 3] = Default::default();
    let [memory, disk, decode] = &mut rates;
    for _ in 0..options.runs.max(1) {
        let mut state = log.begin()?;
        let watch = CpuWatch::start();
        log.fold(&mut state, &mut FirstPlacesInMemory::default(), |_, _| Ok(()))?;
        memory.add(log.records, watch.elapsed());
        let directory = Scratch::new(None)?;
        let ids = Ids::open(&directory.path().join("ids")).map_err(BenchError::ids)?;
        let mut index = ids.partition(P0).map_err(BenchError::ids)?;
        let mut state = log.begin()?;
        let watch = CpuWatch::start();
        log.fold(&mut state, &mut index, |index, position| index.keep(position).map_err(BenchError::ids))?;
        disk.add(log.records, watch.elapsed());
        let watch = CpuWatch::start();
        for (_, payload) in &log.usage {
            std::hint::black_box(codec::decode_entry(payload).map_err(BenchError::made)?);
        }
        decode.add(log.records, watch.elapsed());
    }
    let limit = decode.median();
    let rows = [
        memory.row("fold by id, first places in memory", limit),
        disk.row("fold by id, first places on disk (fjall)", limit),
        decode.row("limit: decode alone", limit),
    ];
    log.print("Fold, records without producerseq", &rows);
    Ok(())
}

impl Log {
    fn make(options: &Fold, by_id: bool) -> Result<Self, BenchError> {
        let at: Timestamp = "2026-11-20T10:00:00Z".parse().map_err(BenchError::made)?;
        let ledger = LedgerId::from_bits(1);
        let mut traffic = Traffic::new(1 << 64, at, by_id)?;
        let mut log =
            Self { setup: setup(&ledger, &traffic, at)?, ledger, usage: Vec::new(), records: 0, bytes: 0 };
        let entries = options.records.div_ceil(options.per_entry.max(1));
        for number in 0..entries {
            let recorded_at = at.plus_nanos(i64::try_from(number).unwrap_or(0).saturating_mul(10_000_000));
            let mut builder = BatchBuilder::new(recorded_at);
            for usage in traffic.batch(options.per_entry) {
                builder.push(&usage);
            }
            log.records = log.records.saturating_add(whole(builder.len()));
            let id = log.id(whole(number).saturating_add(1));
            let entry = Entry { id, recorded_at, body: Body::Usage(builder.finish()) };
            let payload = codec::encode_entry(&entry).map_err(BenchError::made)?;
            log.bytes = log.bytes.saturating_add(whole(payload.len()));
            log.usage.push((Topic::UsageMixed.subject(P0), payload));
        }
        Ok(log)
    }

    fn id(&self, count: u64) -> EntryId {
        EntryId { ledger: self.ledger.clone(), partition: P0, writer: WriterId(2), count }
    }

    /// State after the set-up.
    fn begin(&self) -> Result<State, BenchError> {
        let mut state = State::empty(P0);
        for (topic, payload) in &self.setup {
            let position = state.head().position.next();
            let record = Record::read(&self.ledger, P0, position, &topic.subject(P0), payload);
            state.apply(&record, &[]).map_err(BenchError::made)?;
        }
        Ok(state)
    }

    fn fold<P: FirstPlaces>(
        &self,
        state: &mut State,
        places: P,
        keep: impl Fn(&mut P, Position) -> Result<(), BenchError>,
    ) -> Result<(), BenchError>
    where
        P::Error: std::error::Error,
    {
        let before = state.head().usage_records;
        let mut lookup = Lookup::new(state, places);
        for (number, (subject, payload)) in self.usage.iter().enumerate() {
            let position = state.head().position.next();
            let record = Record::read(&self.ledger, P0, position, subject, payload);
            let sightings = lookup.sightings(&record).map_err(BenchError::made)?;
            let effects = state.apply(&record, &sightings).map_err(BenchError::made)?;
            if !effects.is_empty() {
                return Err(BenchError::NotBooked(format!("{:?}", effects.first())));
            }
            if number % KEEP_EVERY == 0 {
                keep(lookup.places(), position)?;
            }
        }
        let booked = state.head().usage_records.saturating_sub(before);
        if booked == self.records { Ok(()) } else { Err(BenchError::NotBooked(format!("only {booked}"))) }
    }

    /// The same in parts: decode, then with hash and checks, then apply.
    fn parts(&self, decode: &mut Rates, read: &mut Rates, apply: &mut Rates) -> Result<(), BenchError> {
        let watch = CpuWatch::start();
        for (_, payload) in &self.usage {
            std::hint::black_box(codec::decode_entry(payload).map_err(BenchError::made)?);
        }
        decode.add(self.records, watch.elapsed());
        let (mut reading, mut applying) = (Duration::ZERO, Duration::ZERO);
        let mut state = self.begin()?;
        // In chunks, because the watch itself costs as much as a few records.
        for chunk in self.usage.chunks(KEEP_EVERY) {
            let mut position = state.head().position;
            let watch = CpuWatch::start();
            let records = chunk.iter().map(|(subject, payload)| {
                position = position.next();
                Record::read(&self.ledger, P0, position, subject, payload)
            });
            let records: Vec<Record> = records.collect();
            reading = reading.saturating_add(watch.elapsed());
            let watch = CpuWatch::start();
            for record in records {
                state.apply(&record, &[]).map_err(BenchError::made)?;
            }
            applying = applying.saturating_add(watch.elapsed());
        }
        read.add(self.records, reading);
        apply.add(self.records, applying);
        Ok(())
    }

    fn print(&self, title: &str, rows: &[Vec<String>]) {
        report::print(
            title,
            &["records per processor second", "min", "median", "max", "of decode alone"],
            rows,
        );
        report::say(&format!(
            "{} records in {} entries, {} bytes per record encoded; resident {} MiB\n",
            grouped(self.records),
            grouped(whole(self.usage.len())),
            each(self.bytes, self.records),
            report::resident_mib(),
        ));
    }
}

/// Entries that create the ledger and everything that traffic needs.
fn setup(ledger: &LedgerId, traffic: &Traffic, at: Timestamp) -> Result<Vec<(Topic, Vec<u8>)>, BenchError> {
    let mut state = State::empty(P0);
    let created =
        ConfigEvent::LedgerCreated { ledger: ledger.clone(), currency: "USD".to_owned(), partitions: 1 };
    let mut decided = vec![(Topic::Config, vec![Event::Config(created)])];
    let mut entries: Vec<(Topic, Vec<u8>)> = Vec::new();
    let mut commands = traffic.commands("USD")?.into_iter();
    while let Some((topic, events)) = decided.pop() {
        let count = whole(entries.len()).saturating_add(1);
        let id = EntryId { ledger: ledger.clone(), partition: P0, writer: WriterId(1), count };
        let body = Decision { term: 0, actor: Actor::Engine, cause: Cause::Timer, events };
        let entry = Entry { id, recorded_at: at, body: Body::Decision(body) };
        let payload = codec::encode_entry(&entry).map_err(BenchError::made)?;
        let position = state.head().position.next();
        let record = Record::read(ledger, P0, position, &topic.subject(P0), &payload);
        state.apply(&record, &[]).map_err(BenchError::made)?;
        entries.push((topic, payload));
        if let Some(command) = commands.next()
            && let Decided::Events(events) =
                decide(&state, &command, &Actor::Operator { token: None }, None, &Past::default(), at)
                    .map_err(BenchError::made)?
        {
            decided.push((command.topic(), events));
        }
    }
    Ok(entries)
}
