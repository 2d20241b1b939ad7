//! How fast the embedded log is here: `cargo run --release --example embedded_speed [directory]`.
#![expect(clippy::print_stdout, reason = "that is what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]
#![expect(clippy::unwrap_used, reason = "whatever goes wrong ends it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tollbook_engine::log::embedded::Embedded;
use tollbook_engine::log::{Append, EventLog, Topic};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};

const P0: PartitionId = PartitionId(0);

/// 500 records of 60 bytes, of which half are hard to compress.
fn payload(count: u64, bytes: usize) -> Bytes {
    let mut state = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut payload = Vec::with_capacity(bytes + 8);
    while payload.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend_from_slice(&state.to_le_bytes());
        payload.extend_from_slice(&count.to_le_bytes());
    }
    payload.truncate(bytes);
    payload.into()
}

fn append(count: u64, bytes: usize) -> Append {
    let id = EntryId { ledger: LedgerId::from_bits(1), partition: P0, writer: WriterId(7), count };
    Append { id, topic: Topic::UsageMixed, payload: payload(count, bytes), expected: None }
}

/// User and system time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 = stat
        .rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .skip(11)
        .take(2)
        .map(|t| t.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

async fn run(log: &Arc<dyn EventLog>, name: &str, first: u64, entries: u64, bytes: usize, in_flight: usize) {
    let mut tail = log.tail(P0, Position(first - 1));
    let follower = tokio::spawn(async move {
        for _ in 0..entries {
            tail.next().await.unwrap().unwrap();
        }
    });
    let (start, busy) = (Instant::now(), cpu());
    let mut waits: Vec<Duration> = stream::iter(first..first + entries)
        .map(|count| {
            let log = log.clone();
            async move {
                let append = append(count, bytes);
                let asked = Instant::now();
                log.append(append).await.unwrap();
                asked.elapsed()
            }
        })
        .buffer_unordered(in_flight)
        .collect()
        .await;
    let took = start.elapsed();
    follower.await.unwrap();
    let busy = cpu().saturating_sub(busy);
    waits.sort();
    let at = |part: usize| waits.get(waits.len() * part / 100).copied().unwrap_or_default();
    let rate = u128::from(entries) * 1_000_000 / took.as_micros().max(1);
    println!(
        "{name}: {rate}/s; p50 {:?} p99 {:?} max {:?}; took {took:?}, cpu {busy:?}, followed {:?} later",
        at(50),
        at(99),
        waits.last().unwrap(),
        start.elapsed().saturating_sub(took)
    );
}

#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("tollbook-speed-{}", std::process::id()));
    let log: Arc<dyn EventLog> = Arc::new(Embedded::open(&dir, 1).unwrap());
    run(&log, "30 kB, 64 in flight", 1, 30_000, 30_000, 64).await;
    run(&log, "30 kB, 64 in flight, again", 30_001, 30_000, 30_000, 64).await;
    run(&log, "30 kB, 1 in flight", 60_001, 1_000, 30_000, 1).await;
    run(&log, "200 B, 64 in flight", 61_001, 60_000, 200, 64).await;
    run(&log, "200 B, 1 in flight", 121_001, 3_000, 200, 1).await;
    drop(log);
    let start = Instant::now();
    let log = Embedded::open(&dir, 1).unwrap();
    println!("opening: {:?}", start.elapsed());
    let (start, busy) = (Instant::now(), cpu());
    let read = log
        .tail(P0, Position::ZERO)
        .take(61_000)
        .fold(0, async |read, stored| read + stored.unwrap().payload.len());
    let read = read.await;
    println!("reading {} MB: {:?}, cpu {:?}", read / 1_000_000, start.elapsed(), cpu().saturating_sub(busy));
    let resident = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", resident.lines().filter(|line| line.starts_with("VmHWM")).collect::<String>());
    drop(log);
    std::fs::remove_dir_all(&dir).unwrap();
}
