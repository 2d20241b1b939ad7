//! How fast the embedded log makes entries durable, whatever they say, beside a plain file on the same disk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, stream};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{EntryId, PartitionId, WriterId};

use super::report::{self, Latencies, Rates, each, grouped};
use super::scratch::Scratch;
use super::traffic::Random;
use super::{BenchError, whole};
use crate::clock::Stopwatch;
use crate::log::embedded::Embedded;
use crate::log::{Append as Entry, EventLog, Topic};

const P0: PartitionId = PartitionId(0);

/// Appends opaque entries to an embedded log.
#[derive(Clone, Debug, Args)]
pub struct Append {
    /// Where to make a log for the run; temporary files otherwise. Removed afterwards.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Entries per run.
    #[arg(long, default_value_t = 10_000)]
    entries: usize,
    /// Bytes per entry.
    #[arg(long, default_value_t = 33_000)]
    bytes: usize,
    /// Appends under way at once.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

pub(super) async fn run(options: &Append) -> Result<(), BenchError> {
    let directory = Scratch::new(options.data.as_deref())?;
    let log: Arc<dyn EventLog> =
        Arc::new(Embedded::open(&directory.path().join("log"), 1).map_err(BenchError::made)?);
    let (mut ours, mut alone, mut file) = (Rates::default(), Rates::default(), Rates::default());
    let (mut waits, mut waits_alone) = (Latencies::default(), Latencies::default());
    let mut count = 0;
    for _ in 0..options.runs.max(1) {
        let payloads: Vec<Bytes> =
            (0..options.entries).map(|number| payload(number, options.bytes)).collect();
        for (rates, waits, in_flight) in
            [(&mut ours, &mut waits, options.in_flight), (&mut alone, &mut waits_alone, 1)]
        {
            // One at a time takes long and shows as much in a tenth.
            let take = if in_flight == 1 { payloads.len().div_ceil(10) } else { payloads.len() };
            let first = count;
            let watch = Stopwatch::start();
            let mut answers = stream::iter(payloads.iter().take(take).zip(first..))
                .map(|(payload, count): (&Bytes, u64)| append(&log, payload.clone(), count.saturating_add(1)))
                .buffer_unordered(in_flight.max(1));
            let mut each_wait = Vec::with_capacity(take);
            while let Some(wait) = answers.next().await {
                each_wait.push(wait?);
            }
            rates.add(whole(take), watch.elapsed());
            waits.extend(each_wait);
            count = count.saturating_add(whole(take));
        }
        let path = directory.path().join("plain");
        let watch = Stopwatch::start();
        plain(&path, &payloads, options.in_flight)?;
        file.add(whole(payloads.len()), watch.elapsed());
    }
    let limit = file.median();
    report::print(
        "Append, embedded log",
        &["entries/s", "min", "median", "max", "of the limit"],
        &[
            ours.row(&format!("{} under way at once", options.in_flight), limit),
            alone.row("one at a time", limit),
            file.row("limit: a plain file, as many per sync", limit),
        ],
    );
    waits.say(&format!("{} under way at once", options.in_flight));
    waits_alone.say("one at a time");
    report::say(&format!(
        "{} entries of {} bytes, {} bytes each on disk; resident {} MiB, {} MiB at most\n",
        grouped(count),
        grouped(whole(options.bytes)),
        each(report::bytes_on_disk(&directory.path().join("log")), count),
        report::resident_mib(),
        report::peak_mib(),
    ));
    Ok(())
}

async fn append(
    log: &Arc<dyn EventLog>,
    payload: Bytes,
    count: u64,
) -> Result<std::time::Duration, BenchError> {
    let id = EntryId { ledger: LedgerId::from_bits(1), partition: P0, writer: WriterId(1), count };
    let watch = Stopwatch::start();
    let append = Entry { id, topic: Topic::UsageMixed, payload, expected: None };
    log.append(append).await.map_err(BenchError::made)?;
    Ok(watch.elapsed())
}

/// Writes and syncs the same bytes with nothing around them.
fn plain(path: &Path, payloads: &[Bytes], per_sync: usize) -> Result<(), BenchError> {
    let failed = |source| BenchError::Directory { path: path.to_path_buf(), source };
    let mut file = File::create(path).map_err(failed)?;
    for group in payloads.chunks(per_sync.max(1)) {
        for payload in group {
            file.write_all(payload).map_err(failed)?;
        }
        file.sync_data().map_err(failed)?;
    }
    Ok(())
}

/// Half of it hard to compress, as ids and counts are.
fn payload(number: usize, bytes: usize) -> Bytes {
    let mut random = Random::new(whole(number));
    let mut payload = Vec::with_capacity(bytes.saturating_add(16));
    while payload.len() < bytes {
        payload.extend_from_slice(&random.next().to_le_bytes());
        payload.extend_from_slice(&whole(number).to_le_bytes());
    }
    payload.truncate(bytes);
    payload.into()
}
