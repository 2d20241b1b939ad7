//! How much of a bare client's throughput the log keeps, appended and read back in order.
//!
//! `cargo run --release -p tollbook-tests --example jetstream_bench -- [entries] [bytes] [in flight] [rounds] [nodes]`
//!
//! Rows alternate, so that both see the same machine: `bare` publishes to a stream with the log's settings and waits for
//! acknowledgements; `ids` gives each a message id; `append` appends and reads nothing; `ours` appends and reads everything back through `tail`; `other` reads it on another
//! connection, as a standby does, which is also what an owner without memory of its own entries would pay.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::float_arithmetic,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a measurement: it reads clocks, divides, prints, and may stop"
)]

use std::time::{Duration, Instant};

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tollbook_engine::log::jetstream::{JetStream, JetStreamOptions};
use tollbook_engine::log::{Append, EventLog, Topic};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{EntryId, PartitionId, WriterId};
use tollbook_tests::nats::{NatsCluster, NatsServer};

const P0: PartitionId = PartitionId(0);

struct Bench {
    entries: u64,
    payload: Bytes,
    in_flight: usize,
}

impl Bench {
    async fn bare(&self, log: &JetStream, ids: Option<u64>) -> Duration {
        // A connection of its own, as the log's tail has one of its own in `other`.
        let urls = log.context().client().server_info();
        let client = async_nats::connect(format!("127.0.0.1:{}", urls.port)).await.unwrap();
        let context = async_nats::jetstream::new(client);
        let start = Instant::now();
        let publish = |count| {
            let mut message = PublishMessage::build().payload(self.payload.clone());
            if let Some(round) = ids {
                let ledger = LedgerId::from_bits(1);
                message = message.message_id(format!("{ledger}.0.{round:016x}.{count}"));
            }
            let context = &context;
            async move { context.send_publish("bare.bench", message).await.unwrap().await.unwrap() }
        };
        stream::iter(0..self.entries)
            .map(publish)
            .buffer_unordered(self.in_flight)
            .for_each(async |_| {})
            .await;
        start.elapsed()
    }

    /// Until everything appended through `log` was read back through `reader`.
    async fn through(&self, log: &JetStream, reader: Option<&JetStream>, writer: u64) -> Duration {
        let after = log.last(P0).await.unwrap();
        let mut tail = reader.unwrap_or(log).tail(P0, after);
        let to_read = if reader.is_some() { self.entries } else { 0 };
        let start = Instant::now();
        let reading = tokio::spawn(async move {
            let mut next = after;
            for _ in 0..to_read {
                next = next.next();
                assert_eq!(tail.next().await.unwrap().unwrap().position, next);
            }
        });
        let append = |count| {
            let id = EntryId {
                ledger: LedgerId::from_bits(1),
                partition: P0,
                writer: WriterId(writer),
                count: count + 1,
            };
            log.append(Append { id, topic: Topic::UsageMixed, payload: self.payload.clone(), expected: None })
        };
        stream::iter(0..self.entries)
            .map(append)
            .buffer_unordered(self.in_flight)
            .for_each(async |position| {
                position.unwrap();
            })
            .await;
        reading.await.unwrap();
        start.elapsed()
    }

    /// Median time from appending one entry to reading it back, one after the other.
    async fn latency(&self, log: &JetStream) -> (Duration, Duration) {
        let after = log.last(P0).await.unwrap();
        let mut tail = log.tail(P0, after);
        let (mut acknowledged, mut read) = (Vec::new(), Vec::new());
        for count in 1..=500 {
            let id =
                EntryId { ledger: LedgerId::from_bits(1), partition: P0, writer: WriterId(u64::MAX), count };
            let start = Instant::now();
            let payload = self.payload.slice(..200);
            log.append(Append { id, topic: Topic::UsageMixed, payload, expected: None }).await.unwrap();
            acknowledged.push(start.elapsed());
            tail.next().await.unwrap().unwrap();
            read.push(start.elapsed());
        }
        (median(acknowledged), median(read))
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

async fn measure(title: &str, options: JetStreamOptions, bench: &Bench, rounds: u64) {
    let log = JetStream::open(options.clone(), 1).await.unwrap();
    let other = JetStream::open(options, 1).await.unwrap();
    let info = log.context().get_stream("TOLLBOOK_LOG_0_0").await.unwrap();
    let mut config = info.cached_info().config.clone();
    (config.name, config.subjects) = ("BARE".to_owned(), vec!["bare.>".to_owned()]);
    log.context().create_stream(config).await.unwrap();
    let mut times = [const { Vec::new() }; 5];
    for round in 0..rounds {
        times[0].push(bench.bare(&log, None).await);
        times[4].push(bench.bare(&log, Some(round)).await);
        times[1].push(bench.through(&log, None, round * 3).await);
        times[2].push(bench.through(&log, Some(&log), round * 3 + 1).await);
        times[3].push(bench.through(&log, Some(&other), round * 3 + 2).await);
    }
    let rate = |time: Duration| bench.entries as f64 / time.as_secs_f64();
    // The best of each: whatever else the machine does only ever adds.
    let best = |times: &Vec<Duration>| times.iter().min().copied().unwrap();
    let rows: Vec<f64> = times.iter().map(|times| rate(best(times))).collect();
    println!(
        "{title}: {} bytes, {} in flight, {} entries",
        bench.payload.len(),
        bench.in_flight,
        bench.entries
    );
    for (name, (rate, times)) in
        ["bare", "append", "ours", "other", "ids"].iter().zip(rows.iter().zip(&times))
    {
        let each: Vec<String> = times.iter().map(|time| format!("{:.2}s", time.as_secs_f64())).collect();
        println!("  {name:6} {rate:8.0} entries/s  {:5.1} %  ({})", 100.0 * rate / rows[0], each.join(" "));
    }
    let (acknowledged, read) = bench.latency(&log).await;
    println!("  one at a time, 200 bytes: acknowledged {acknowledged:.0?}, read back {read:.0?}");
}

#[tokio::main]
async fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let argument = |index: usize, default| arguments.get(index).copied().unwrap_or(default);
    let bytes = usize::try_from(argument(1, 40_000)).unwrap();
    // Not all zeros: no layer may profit from that.
    let payload: Bytes = (0..bytes).map(|index| (index.wrapping_mul(31) >> 3) as u8).collect();
    let bench =
        Bench { entries: argument(0, 3000), payload, in_flight: usize::try_from(argument(2, 64)).unwrap() };
    let rounds = argument(3, 3);

    let server = NatsServer::start().await;
    let mut options = JetStreamOptions::new(vec![server.url()]);
    options.monitor_urls = vec![server.monitor_url()];
    measure("one node", options, &bench, rounds).await;
    drop(server);

    if argument(4, 3) == 1 {
        return;
    }
    let cluster = NatsCluster::start(3).await;
    let mut options = JetStreamOptions::new(cluster.nodes.iter().map(NatsServer::url).collect());
    options.monitor_urls = cluster.monitor_urls();
    measure("three nodes", options, &bench, rounds).await;
}
