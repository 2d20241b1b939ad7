//! How fast usage gets in: submitted in process, appended, synced and applied, beside the same bytes appended bare.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, stream};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::NodeName;
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};
use tollbook_schemas::usage::Usage;

use super::report::{self, Latencies, Rates, each, grouped};
use super::scratch::Scratch;
use super::traffic::Traffic;
use super::{BenchError, whole};
use crate::admission::AdmissionSettings;
use crate::clock::{self, Clock, Stopwatch};
use crate::log::embedded::Embedded;
use crate::log::jetstream::{JetStream, JetStreamOptions, stream_name};
use crate::log::{Append, EventLog, Topic};
use crate::node::{LogSettings, Node, Running, Settings};

const P0: PartitionId = PartitionId(0);
/// The stream of the bare publisher, with the log's own settings.
const BARE_STREAM: &str = "TOLLBOOK_BENCH_BARE";
/// Payloads kept to be appended bare: enough that no cache holds them all.
const KEPT_PAYLOADS: usize = 512;

/// Submits usage in process, as HTTP and NATS do behind their doors, until it is durable and applied.
#[derive(Clone, Debug, Args)]
pub struct Ingest {
    /// Where to make a ledger for the run; temporary files otherwise. Removed afterwards.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Servers of a JetStream to use instead of an embedded log. Its ledger stays, with one more set of benchmark
    /// organizations: not for production.
    #[arg(long, value_delimiter = ',')]
    nats: Vec<String>,
    /// Their monitoring addresses, to verify that they sync before they acknowledge.
    #[arg(long, value_delimiter = ',')]
    monitor: Vec<String>,
    /// Usage records per run.
    #[arg(long, default_value_t = 500_000)]
    records: usize,
    /// Usage records per request. Ingress packs requests that wait together into one entry of up to 1000.
    #[arg(long, default_value_t = 500)]
    per_entry: usize,
    /// Requests under way at once.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// The bare limit: nothing but the same bytes, made durable by the same store.
enum Bare {
    Embedded { log: Arc<dyn EventLog>, directory: Scratch },
    JetStream(jetstream::Context),
}

pub(super) async fn run(options: &Ingest) -> Result<(), BenchError> {
    let directory = Scratch::new(options.data.as_deref())?;
    let (node, running) = start(options, directory.path()).await?;
    let owner = node.owner(P0).map_err(BenchError::made)?;
    owner.wait_owner().await.map_err(BenchError::made)?;
    let mut traffic = Traffic::new(clock::new_id_bits(), node.clock().now(), false)?;
    for command in traffic.commands(&node.ledger().currency)? {
        node.decide(command, Actor::Engine, None).await.map_err(BenchError::made)?;
    }
    let bare = Bare::open(options, &node).await?;
    let begin = stored(options, &node, directory.path()).await?;
    let before = report::resident_mib();
    let (mut ours, mut limit) = (Rates::default(), Rates::default());
    let (mut waits, mut records, mut entries) = (Latencies::default(), 0u64, 0u64);
    let mut bytes = 0u64;
    for _ in 0..options.runs.max(1) {
        let from = owner.applied();
        let batches: Vec<Vec<Usage>> = (0..options.records.div_ceil(options.per_entry.max(1)))
            .map(|_| traffic.batch(options.per_entry))
            .collect();
        let submitted = batches.iter().map(|batch| whole(batch.len())).sum::<u64>();
        let watch = Stopwatch::start();
        let (last, each_wait) = submit(&node, batches, options.in_flight).await?;
        owner.wait_applied(last).await.map_err(BenchError::made)?;
        ours.add(submitted, watch.elapsed());
        waits.extend(each_wait);
        let written = last.0.saturating_sub(from.0);
        let payloads = read_back(node.log(), from, written).await?;
        let size = payloads.iter().map(|payload| whole(payload.len())).sum::<u64>();
        (records, entries) = (records.saturating_add(submitted), entries.saturating_add(written));
        bytes = bytes
            .saturating_add(size.saturating_mul(written).checked_div(whole(payloads.len())).unwrap_or(0));
        // As many of its messages under way as entries were: requests share entries.
        let at_once = whole(options.in_flight)
            .saturating_mul(written)
            .div_ceil(whole(options.records.div_ceil(options.per_entry.max(1))));
        let watch = Stopwatch::start();
        bare.append(&payloads, written, usize::try_from(at_once.max(1)).unwrap_or(1)).await?;
        limit.add(submitted, watch.elapsed());
    }
    check(&node, records).await?;
    report::print(
        &format!("Ingest, {}", if options.nats.is_empty() { "embedded log" } else { "JetStream" }),
        &["records/s", "min", "median", "max", "of the limit"],
        &[
            ours.row("submitted, durable, applied", limit.median()),
            limit.row("limit: the same entries appended bare", limit.median()),
        ],
    );
    waits.say("From submitting a request to its answer");
    report::say(&format!(
        "{} records in {} entries of {} records; {} bytes per record encoded, {} on disk",
        grouped(records),
        grouped(entries),
        each(records, entries),
        each(bytes, records),
        each(stored(options, &node, directory.path()).await?.saturating_sub(begin), records),
    ));
    report::say(&format!(
        "resident memory {before} MiB before, {} MiB after, {} MiB at most (with {} MiB or so of records waiting to be sent)\n",
        report::resident_mib(),
        report::peak_mib(),
        whole(options.records).saturating_mul(300) / 1_048_576,
    ));
    bare.close().await;
    running.stop().await.map_err(BenchError::made)
}

async fn start(options: &Ingest, directory: &Path) -> Result<(Node, Running), BenchError> {
    let log = if options.nats.is_empty() {
        LogSettings::Embedded
    } else {
        let mut jetstream = JetStreamOptions::new(options.nats.clone());
        jetstream.monitor_urls.clone_from(&options.monitor);
        LogSettings::JetStream(Box::new(jetstream))
    };
    let node = NodeName::parse("bench").map_err(BenchError::made)?;
    let settings = Settings {
        data: directory.join("data"),
        log,
        partitions: None,
        currency: None,
        node,
        admission: AdmissionSettings::default(),
        delivery: None,
    };
    Node::start(settings, Clock::System).await.map_err(BenchError::made)
}

/// Submits everything, so many requests at once. Answers the last position and how long each request took.
async fn submit(
    node: &Node,
    batches: Vec<Vec<Usage>>,
    in_flight: usize,
) -> Result<(Position, Vec<Duration>), BenchError> {
    let mut answers = stream::iter(batches)
        .map(|batch| async move {
            let watch = Stopwatch::start();
            let at = node.submit(batch).await.map_err(BenchError::made)?;
            Ok::<_, BenchError>((at.position, watch.elapsed()))
        })
        .buffer_unordered(in_flight.max(1));
    let (mut last, mut waits) = (Position::ZERO, Vec::new());
    while let Some(answer) = answers.next().await {
        let (position, wait) = answer?;
        last = last.max(position);
        waits.push(wait);
    }
    Ok((last, waits))
}

/// Some of the payloads that a run wrote.
async fn read_back(log: &Arc<dyn EventLog>, from: Position, written: u64) -> Result<Vec<Bytes>, BenchError> {
    let take = usize::try_from(written).unwrap_or(usize::MAX).min(KEPT_PAYLOADS);
    let mut tail = log.tail(P0, from).take(take);
    let mut payloads = Vec::with_capacity(take);
    while let Some(stored) = tail.next().await {
        payloads.push(stored.map_err(BenchError::made)?.payload);
    }
    Ok(payloads)
}

/// Everything submitted must have been booked.
async fn check(node: &Node, records: u64) -> Result<(), BenchError> {
    let owner = node.owner(P0).map_err(BenchError::made)?;
    let head = owner.read(|state| state.head().clone()).await.map_err(BenchError::made)?;
    if head.quarantined > 0 || head.usage_records < records {
        let (came, bad) = (head.usage_records, head.quarantined);
        return Err(BenchError::NotBooked(format!("{came} of {records} came, {bad} in quarantine")));
    }
    Ok(())
}

/// Bytes that the log takes.
async fn stored(options: &Ingest, node: &Node, directory: &Path) -> Result<u64, BenchError> {
    let Some(jetstream) = node.jetstream().filter(|_| !options.nats.is_empty()) else {
        return Ok(report::bytes_on_disk(&directory.join("data/log")));
    };
    let mut stream = jetstream.context().get_stream(stream_name(P0)).await.map_err(BenchError::made)?;
    Ok(stream.info().await.map_err(BenchError::made)?.state.bytes)
}

impl Bare {
    async fn open(options: &Ingest, node: &Node) -> Result<Self, BenchError> {
        let Some(jetstream) = node.jetstream() else {
            let directory = Scratch::new(options.data.as_deref())?;
            let log = Embedded::open(&directory.path().join("log"), 1).map_err(BenchError::made)?;
            return Ok(Self::Embedded { log: Arc::new(log), directory });
        };
        Self::stream(jetstream, &options.nats).await
    }

    async fn stream(jetstream: &JetStream, servers: &[String]) -> Result<Self, BenchError> {
        let log = jetstream.context().get_stream(stream_name(P0)).await.map_err(BenchError::made)?;
        let mut config = log.cached_info().config.clone();
        (config.name, config.subjects) = (BARE_STREAM.to_owned(), vec!["tollbook.bench.bare".to_owned()]);
        (config.deny_delete, config.deny_purge) = (false, false);
        // A connection of its own, as a publisher has.
        let client = async_nats::connect(servers.to_vec()).await.map_err(BenchError::made)?;
        let context = jetstream::new(client);
        context.create_stream(config).await.map_err(BenchError::made)?;
        Ok(Self::JetStream(context))
    }

    async fn append(&self, payloads: &[Bytes], count: u64, in_flight: usize) -> Result<(), BenchError> {
        let writer = WriterId(u64::from_be_bytes(clock::random_bytes()));
        let next = AtomicU64::new(0);
        let each = payloads.iter().cycle().take(usize::try_from(count).unwrap_or(0)).map(|payload| {
            let number = next.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            self.append_one(payload.clone(), writer, number)
        });
        let mut answers = stream::iter(each).buffer_unordered(in_flight.max(1));
        while let Some(answer) = answers.next().await {
            answer?;
        }
        Ok(())
    }

    async fn append_one(&self, payload: Bytes, writer: WriterId, count: u64) -> Result<(), BenchError> {
        match self {
            Self::Embedded { log, .. } => {
                let ledger = tollbook_schemas::id::LedgerId::from_bits(1);
                let id = EntryId { ledger, partition: P0, writer, count };
                let append = Append { id, topic: Topic::UsageMixed, payload, expected: None };
                log.append(append).await.map(|_| ()).map_err(BenchError::made)
            }
            Self::JetStream(context) => {
                let message = PublishMessage::build().payload(payload);
                let sent = context.send_publish("tollbook.bench.bare", message).await;
                sent.map_err(BenchError::made)?.await.map(|_| ()).map_err(BenchError::made)
            }
        }
    }

    async fn close(self) {
        match self {
            Self::Embedded { log, directory } => {
                drop(log);
                drop(directory);
            }
            Self::JetStream(context) => {
                if let Err(error) = context.delete_stream(BARE_STREAM).await {
                    tracing::warn!(%error, "the benchmark's stream is left behind");
                }
            }
        }
    }
}
