//! What every [`EventLog`] promises, as tests that any implementation runs through.
//!
//! ```text
//! mod contract;                      // beside a test file that has
//! async fn fresh() -> MyFixture      // a new, empty log of contract::PARTITIONS partitions
//! contract_tests!(fresh);            // one #[tokio::test] for each suite below
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use tollbook_engine::log::{Append, AppendError, EventLog, PAYLOAD_MAX, ReadError, Stored, Tail, Topic};
use tollbook_schemas::id::{LedgerId, OrgId};
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};

/// Partitions of every log that is tested.
pub(crate) const PARTITIONS: u16 = 3;

/// Far more than any step takes, so that only a hang reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Appends that are in flight at once, as many as an ingress has.
const IN_FLIGHT: u64 = 64;

/// A log under test, and whatever keeps it alive.
pub(crate) trait Fixture: Send {
    /// The log.
    fn log(&self) -> Arc<dyn EventLog>;
    /// Closes the log and opens the same one again. The caller holds no other reference.
    fn reopen(self: Box<Self>) -> BoxFuture<'static, Box<dyn Fixture>>;
}

/// One test for each suite, each on a log of its own.
#[macro_export]
macro_rules! contract_tests {
    ($fresh:path) => {
        $crate::contract_tests!(@log $fresh:
            suite_order, suite_exact_bytes, suite_expected, suite_race, suite_retry, suite_retry_at_once,
            suite_cancelled, suite_too_large, suite_get, suite_tail, suite_tail_live, suite_tail_slow,
            suite_tail_past_the_end, suite_partitions, suite_in_flight);
        $crate::contract_tests!(@fixture $fresh: suite_reopen, suite_reopen_empty);
    };
    (@log $fresh:path: $($suite:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $suite() {
            let fixture = $fresh().await;
            contract::in_time(contract::$suite(contract::Fixture::log(&fixture))).await;
        }
    )+};
    (@fixture $fresh:path: $($suite:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $suite() {
            contract::in_time(contract::$suite(Box::new($fresh().await))).await;
        }
    )+};
}

/// The first partition.
pub(crate) const P0: PartitionId = PartitionId(0);

/// Waits for `step`, but not for ever.
pub(crate) async fn in_time<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, step).await.expect("the log hangs")
}

/// The id of a writer's entry.
pub(crate) fn id(partition: PartitionId, writer: u64, count: u64) -> EntryId {
    EntryId { ledger: LedgerId::from_bits(1), partition, writer: WriterId(writer), count }
}

/// The topic of one of a few organizations.
pub(crate) fn org(number: u64) -> Topic {
    Topic::Organization(OrgId::from_bits(number.into()))
}

/// An entry without condition.
pub(crate) fn entry(partition: PartitionId, writer: u64, count: u64, topic: Topic) -> Append {
    let payload = Bytes::from(format!("payload {partition} {writer} {count}"));
    Append { id: id(partition, writer, count), topic, payload, expected: None }
}

fn when(expected: u64, append: Append) -> Append {
    Append { expected: Some(Position(expected)), ..append }
}

/// What `append` looks like when it is stored at `position`.
pub(crate) fn stored(append: &Append, position: Position) -> Stored {
    Stored { position, subject: append.topic.subject(append.id.partition), payload: append.payload.clone() }
}

/// Appends and answers the position.
pub(crate) async fn put(log: &Arc<dyn EventLog>, append: &Append) -> u64 {
    in_time(log.append(append.clone())).await.expect("appended").0
}

/// The next `count` entries.
pub(crate) async fn take(tail: &mut Tail, count: usize) -> Vec<Stored> {
    let mut read = Vec::new();
    while read.len() < count {
        let next = in_time(tail.next()).await.expect("the tail goes on");
        read.push(next.expect("readable"));
    }
    read
}

/// Nothing more is there to be read now.
async fn assert_waiting(tail: &mut Tail) {
    assert!(tail.next().now_or_never().is_none(), "the tail has more than was appended");
}

async fn last(log: &Arc<dyn EventLog>, partition: PartitionId) -> u64 {
    in_time(log.last(partition)).await.expect("readable").0
}

async fn last_of(log: &Arc<dyn EventLog>, partition: PartitionId, topic: Topic) -> u64 {
    in_time(log.last_of(partition, topic)).await.expect("readable").0
}

/// `count` entries of one writer in turn on every kind of topic, and where they stand.
pub(crate) async fn fill(
    log: &Arc<dyn EventLog>,
    partition: PartitionId,
    writer: u64,
    count: u64,
) -> Vec<Stored> {
    let topics = [
        Topic::Config,
        Topic::UsageMixed,
        org(1),
        org(2),
        Topic::Usage(OrgId::from_bits(1)),
        Topic::Usage(OrgId::from_bits(2)),
    ];
    let mut written = Vec::new();
    for (count, topic) in (1..=count).zip(topics.iter().cycle()) {
        let append = entry(partition, writer, count, topic.clone());
        let position = put(log, &append).await;
        written.push(stored(&append, Position(position)));
    }
    written
}

/// Everything that stands in `partition`, read by the tail, has the positions from 1 without gaps.
pub(crate) async fn read_all(log: &Arc<dyn EventLog>, partition: PartitionId) -> Vec<Stored> {
    let count = last(log, partition).await;
    let read = take(&mut log.tail(partition, Position::ZERO), count.try_into().expect("few")).await;
    let positions: Vec<u64> = read.iter().map(|stored| stored.position.0).collect();
    assert_eq!(positions, (1..=count).collect::<Vec<_>>());
    read
}

/// Positions count from 1 in the order of appending, and every way to read agrees.
pub(crate) async fn suite_order(log: Arc<dyn EventLog>) {
    assert_eq!(last(&log, P0).await, 0);
    assert_eq!(last_of(&log, P0, Topic::Config).await, 0);
    let written = fill(&log, P0, 7, 20).await;
    assert_eq!(read_all(&log, P0).await, written);
    assert_eq!(last(&log, P0).await, 20);
    for stored in &written {
        assert_eq!(in_time(log.get(P0, stored.position)).await.expect("readable").as_ref(), Some(stored));
        let topic = Topic::of_subject(&stored.subject, P0).expect("a topic");
        let latest = written.iter().rev().find(|other| other.subject == stored.subject).expect("itself");
        assert_eq!(last_of(&log, P0, topic).await, latest.position.0);
    }
    assert_eq!(last_of(&log, P0, org(3)).await, 0);
}

/// Payloads come back exactly as they were, whatever is in them.
pub(crate) async fn suite_exact_bytes(log: Arc<dyn EventLog>) {
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let payloads = [Bytes::new(), Bytes::from_static(&[0]), Bytes::from(every_byte)];
    for (payload, count) in payloads.into_iter().zip(1..) {
        let append = Append { payload, ..entry(P0, 1, count, Topic::UsageMixed) };
        let position = Position(put(&log, &append).await);
        let read = in_time(log.get(P0, position)).await.expect("readable");
        assert_eq!(read, Some(stored(&append, position)));
    }
    assert_eq!(read_all(&log, P0).await.len(), 3);
}

/// A condition is about the topic only; where it fails, nothing is written and the answer says what stands there.
pub(crate) async fn suite_expected(log: Arc<dyn EventLog>) {
    let conflict = async |expected: u64, actual: u64, count: u64| {
        let before = last(&log, P0).await;
        match in_time(log.append(when(expected, entry(P0, 1, count, org(1))))).await {
            Err(AppendError::Conflict { expected: e, actual: a }) => {
                assert_eq!((e.0, a.0), (expected, actual))
            }
            other => panic!("expected {expected}, actual {actual}: {other:?}"),
        }
        assert_eq!(last(&log, P0).await, before, "nothing was written");
    };
    conflict(5, 0, 1).await;
    assert_eq!(put(&log, &when(0, entry(P0, 1, 2, org(1)))).await, 1);
    conflict(0, 1, 3).await;
    conflict(2, 1, 4).await;
    assert_eq!(put(&log, &entry(P0, 1, 5, org(2))).await, 2);
    assert_eq!(put(&log, &entry(P0, 1, 6, Topic::Usage(OrgId::from_bits(1)))).await, 3);
    assert_eq!(put(&log, &when(1, entry(P0, 1, 7, org(1)))).await, 4, "other topics do not matter");
    conflict(1, 4, 8).await;
    conflict(3, 4, 9).await;
    assert_eq!(put(&log, &entry(P0, 1, 10, org(1))).await, 5, "no condition");
    conflict(4, 5, 11).await;
    assert_eq!(put(&log, &when(5, entry(P0, 1, 12, org(1)))).await, 6);
    assert_eq!(put(&log, &when(0, entry(P0, 1, 13, org(3)))).await, 7);
    // An id whose append was refused is still free.
    assert_eq!(put(&log, &when(6, entry(P0, 1, 11, org(1)))).await, 8);
}

/// Of many that expect the same, exactly one is written, and all others learn where it stands.
pub(crate) async fn suite_race(log: Arc<dyn EventLog>) {
    let mut expected = 0;
    for round in 0..8 {
        let racers = (0..16).map(|racer| log.append(when(expected, entry(P0, racer, round + 1, org(1)))));
        let mut winners = Vec::new();
        let mut losers = Vec::new();
        for result in in_time(join_all(racers)).await {
            match result {
                Ok(position) => winners.push(position.0),
                Err(AppendError::Conflict { expected: e, actual }) => {
                    assert_eq!(e.0, expected);
                    losers.push(actual.0);
                }
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(winners, [round + 1]);
        assert_eq!(losers, vec![round + 1; 15]);
        expected = round + 1;
    }
    assert_eq!(read_all(&log, P0).await.len(), 8);
}

/// The same id again is the same entry, however much later and whatever it expects.
pub(crate) async fn suite_retry(log: Arc<dyn EventLog>) {
    let first = entry(P0, 1, 1, org(1));
    let second = when(1, entry(P0, 1, 2, org(1)));
    assert_eq!(put(&log, &first).await, 1);
    assert_eq!(put(&log, &first).await, 1);
    assert_eq!(put(&log, &second).await, 2);
    assert_eq!(put(&log, &second).await, 2, "what it expects holds no longer, but it is there");
    fill(&log, P0, 2, 100).await;
    assert_eq!(put(&log, &when(0, first.clone())).await, 1);
    assert_eq!(put(&log, &second).await, 2);
    assert_eq!(last(&log, P0).await, 102);
    // Another writer's count, or another partition's, is another entry.
    assert_eq!(put(&log, &entry(P0, 3, 1, org(1))).await, 103);
    assert_eq!(put(&log, &entry(PartitionId(1), 1, 1, org(1))).await, 1);
    // Counts need not arrive in order.
    assert_eq!(put(&log, &entry(P0, 1, 9, org(1))).await, 104);
    assert_eq!(put(&log, &entry(P0, 1, 5, org(1))).await, 105);
    assert_eq!(put(&log, &entry(P0, 1, 9, org(1))).await, 104);
    assert_eq!(put(&log, &entry(P0, 1, 5, org(1))).await, 105);
    assert_eq!(read_all(&log, P0).await.len(), 105);
}

/// The same entry sent several times at once is stored once.
pub(crate) async fn suite_retry_at_once(log: Arc<dyn EventLog>) {
    for count in 1..=8 {
        let free = entry(P0, 1, count, org(1));
        let bound = when(0, entry(P0, 2, count, org(100 + count)));
        for append in [free, bound] {
            let copies = (0..8).map(|_| log.append(append.clone()));
            let positions: Vec<Position> = in_time(join_all(copies))
                .await
                .into_iter()
                .map(|answer| answer.expect("each copy is told where the entry stands"))
                .collect();
            assert!(positions.windows(2).all(|pair| pair[0] == pair[1]), "{positions:?}");
        }
    }
    assert_eq!(read_all(&log, P0).await.len(), 16);
}

/// An append nobody waits for any more is there once or not at all, and can be retried.
pub(crate) async fn suite_cancelled(log: Arc<dyn EventLog>) {
    for count in 1..=20 {
        let append = entry(P0, 1, count, org(1));
        assert!(!matches!(log.append(append.clone()).now_or_never(), Some(Err(_))));
        put(&log, &append).await;
    }
    let read = read_all(&log, P0).await;
    assert_eq!(read.len(), 20);
    for (stored, count) in read.iter().zip(1..) {
        assert_eq!(stored.payload, entry(P0, 1, count, org(1)).payload);
    }
}

/// The largest payload fits; one byte more is refused, and nothing is written.
pub(crate) async fn suite_too_large(log: Arc<dyn EventLog>) {
    let fits = Append { payload: vec![7; PAYLOAD_MAX].into(), ..entry(P0, 1, 1, Topic::UsageMixed) };
    let over = Append { payload: vec![7; PAYLOAD_MAX + 1].into(), ..entry(P0, 1, 2, Topic::UsageMixed) };
    assert_eq!(put(&log, &fits).await, 1);
    match in_time(log.append(over)).await {
        Err(AppendError::TooLarge { bytes, limit }) => {
            assert_eq!((bytes, limit), (PAYLOAD_MAX + 1, PAYLOAD_MAX));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(read_all(&log, P0).await, [stored(&fits, Position(1))]);
}

/// There is nothing at zero, and nothing past the end.
pub(crate) async fn suite_get(log: Arc<dyn EventLog>) {
    let absent = async |partition: u16, position: u64| {
        let read = in_time(log.get(PartitionId(partition), Position(position))).await;
        assert_eq!(read.expect("readable"), None, "{partition}-{position}");
    };
    absent(0, 0).await;
    absent(0, 1).await;
    let written = fill(&log, P0, 1, 3).await;
    absent(0, 0).await;
    absent(0, 4).await;
    absent(0, u64::MAX).await;
    absent(1, 1).await;
    for stored in &written {
        assert_eq!(in_time(log.get(P0, stored.position)).await.expect("readable").as_ref(), Some(stored));
    }
}

/// A tail begins after any position, and goes on with what is appended later.
pub(crate) async fn suite_tail(log: Arc<dyn EventLog>) {
    let mut empty = log.tail(P0, Position::ZERO);
    assert_waiting(&mut empty).await;
    let mut written = fill(&log, P0, 1, 12).await;
    let mut middle = log.tail(P0, Position(5));
    let mut end = log.tail(P0, Position(12));
    assert_eq!(take(&mut empty, 12).await, written);
    assert_eq!(take(&mut middle, 7).await, written[5..]);
    assert_waiting(&mut empty).await;
    assert_waiting(&mut middle).await;
    assert_waiting(&mut end).await;
    written.extend(fill(&log, P0, 2, 6).await);
    for tail in [&mut empty, &mut middle, &mut end] {
        assert_eq!(take(tail, 6).await, written[12..]);
        assert_waiting(tail).await;
    }
}

/// A tail misses nothing and repeats nothing while others append.
pub(crate) async fn suite_tail_live(log: Arc<dyn EventLog>) {
    let writers = (1..=4).map(|writer| {
        let log = log.clone();
        tokio::spawn(async move { fill(&log, P0, writer, 100).await })
    });
    let readers = (0..3u64).map(|reader| {
        let log = log.clone();
        tokio::spawn(async move {
            while last(&log, P0).await < reader * 100 {
                tokio::task::yield_now().await;
            }
            take(&mut log.tail(P0, Position(reader * 50)), 400 - usize::try_from(reader * 50).expect("small"))
                .await
        })
    });
    let (writers, readers) = (writers.collect::<Vec<_>>(), readers.collect::<Vec<_>>());
    let mut written: Vec<Stored> =
        in_time(join_all(writers)).await.into_iter().flat_map(|part| part.expect("wrote")).collect();
    written.sort_by_key(|stored| stored.position);
    for (read, from) in in_time(join_all(readers)).await.into_iter().zip([0, 50, 100]) {
        assert_eq!(read.expect("read"), written[from..]);
    }
}

/// A tail that is not read for long goes on where it was.
pub(crate) async fn suite_tail_slow(log: Arc<dyn EventLog>) {
    let mut slow = log.tail(P0, Position::ZERO);
    let large = |count| Append { payload: vec![7; 100_000].into(), ..entry(P0, 1, count, Topic::UsageMixed) };
    put(&log, &large(1)).await;
    assert_eq!(take(&mut slow, 1).await, [stored(&large(1), Position(1))]);
    // More than any log keeps in memory for its readers.
    for count in 2..=400 {
        put(&log, &large(count)).await;
    }
    for stored in take(&mut slow, 399).await {
        assert_eq!(stored.payload, large(1).payload);
    }
    put(&log, &entry(P0, 1, 401, org(1))).await;
    assert_eq!(take(&mut slow, 1).await, [stored(&entry(P0, 1, 401, org(1)), Position(401))]);
}

/// Going on after a position that the log does not have means that the log lost entries.
pub(crate) async fn suite_tail_past_the_end(log: Arc<dyn EventLog>) {
    fill(&log, P0, 1, 3).await;
    match in_time(log.tail(P0, Position(5)).next()).await {
        Some(Err(ReadError::Corrupt { partition, position, .. })) => {
            assert_eq!((partition, position), (P0, Position(4)), "the first that is missing");
        }
        other => panic!("{other:?}"),
    }
}

/// Partitions know nothing of each other.
pub(crate) async fn suite_partitions(log: Arc<dyn EventLog>) {
    let mut tails: Vec<Tail> =
        (0..PARTITIONS).map(|partition| log.tail(PartitionId(partition), Position::ZERO)).collect();
    for count in 1..=5 {
        for partition in (0..PARTITIONS).map(PartitionId) {
            // The same writer, count and topic in each.
            let append = when(count - 1, entry(partition, 1, count, org(1)));
            assert_eq!(put(&log, &append).await, count);
            assert_eq!(put(&log, &append).await, count);
        }
    }
    for (tail, partition) in tails.iter_mut().zip((0..PARTITIONS).map(PartitionId)) {
        assert_eq!(last(&log, partition).await, 5);
        assert_eq!(last_of(&log, partition, org(1)).await, 5);
        for (read, count) in take(tail, 5).await.into_iter().zip(1..) {
            assert_eq!(read, stored(&entry(partition, 1, count, org(1)), Position(count)));
        }
        assert_waiting(tail).await;
    }
}

/// With many in flight, each answer names the place where that very entry stands.
pub(crate) async fn suite_in_flight(log: Arc<dyn EventLog>) {
    let mut answers = BTreeMap::new();
    for round in 1..=10 {
        let flight = (0..IN_FLIGHT).map(|writer| {
            let append = entry(P0, writer, round, org(writer % 5));
            log.append(append.clone()).map(|answer| (answer.expect("appended"), append))
        });
        for (position, append) in in_time(join_all(flight)).await {
            let twice = answers.insert(position, stored(&append, position));
            assert_eq!(twice, None, "two entries at {position}");
        }
    }
    assert_eq!(read_all(&log, P0).await, answers.into_values().collect::<Vec<_>>());
}

/// A log that was closed and opened again is the same log.
pub(crate) async fn suite_reopen(mut fixture: Box<dyn Fixture>) {
    let mut written = fill(&fixture.log(), P0, 1, 12).await;
    let elsewhere = fill(&fixture.log(), PartitionId(2), 1, 3).await;
    for round in 2..=4 {
        fixture = in_time(fixture.reopen()).await;
        let log = fixture.log();
        assert_eq!(read_all(&log, P0).await, written);
        assert_eq!(read_all(&log, PartitionId(2)).await, elsewhere);
        assert_eq!(last(&log, PartitionId(1)).await, 0);
        assert_eq!(
            last_of(&log, P0, Topic::UsageMixed).await,
            u64::try_from(written.len()).expect("few") - 4
        );
        assert_eq!(put(&log, &entry(P0, 1, 5, org(9))).await, 5, "a retry");
        let mut tail = log.tail(P0, Position(10));
        written.extend(fill(&log, P0, round, 6).await);
        assert_eq!(take(&mut tail, written.len() - 10).await, written[10..]);
        match in_time(log.append(when(2, entry(P0, round, 7, Topic::UsageMixed)))).await {
            Err(AppendError::Conflict { actual, .. }) => {
                assert_eq!(actual.0, u64::try_from(written.len()).expect("few") - 4);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Opening creates nothing that a reader could see.
pub(crate) async fn suite_reopen_empty(fixture: Box<dyn Fixture>) {
    let fixture = in_time(fixture.reopen()).await;
    let log = fixture.log();
    assert_eq!(last(&log, P0).await, 0);
    assert_eq!(put(&log, &when(0, entry(P0, 1, 1, org(1)))).await, 1);
}
