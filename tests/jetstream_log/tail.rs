//! Reading: foreign entries, own ones from memory, and losses.

use std::time::Duration;

use futures_util::StreamExt;
use tollbook_engine::log::{EventLog, ReadError};
use tollbook_schemas::position::Position;
use tollbook_tests::nats::NatsServer;

use super::load::{P0, entry};
use super::{DEADLINE, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_see_the_same_order_and_each_other_soon() {
    let server = NatsServer::start().await;
    let (one, two) = (open(&server).await, open(&server).await);
    let (mut tail_one, mut tail_two) = (one.tail(P0, Position::ZERO), two.tail(P0, Position::ZERO));
    let mut count = 0;
    // Alone, alternating, alone, one foreign in between: through every mode of the tail.
    for (log, times) in [(&one, 200), (&two, 1), (&one, 100), (&two, 30), (&one, 3), (&two, 200), (&one, 1)] {
        for _ in 0..times {
            count += 1;
            let position = log.append(entry(1, count)).await.unwrap();
            assert_eq!(position.0, count);
            for tail in [&mut tail_one, &mut tail_two] {
                let next = tokio::time::timeout(Duration::from_secs(2), tail.next()).await.expect("soon");
                let next = next.unwrap().unwrap();
                assert_eq!((next.position, next.payload), (position, entry(1, count).payload));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_among_others_reads_everything_in_order() {
    let server = NatsServer::start().await;
    let logs = [open(&server).await, open(&server).await];
    let mut tails: Vec<_> = logs.iter().map(|log| log.tail(P0, Position::ZERO)).collect();
    let writers: Vec<_> = (0..40u64)
        .map(|writer| {
            // One of twenty is foreign to the first node.
            let log = logs[usize::from(writer % 20 == 0)].clone();
            tokio::spawn(async move {
                for count in 1..=50 {
                    log.append(entry(writer, count)).await.unwrap();
                }
            })
        })
        .collect();
    let mut read = Vec::new();
    for tail in &mut tails {
        let all = tail.take(2000).map(|entry| entry.unwrap()).collect::<Vec<_>>();
        read.push(tokio::time::timeout(DEADLINE, all).await.expect("read in time"));
    }
    assert!(read[0] == read[1]);
    assert!(read[0].iter().zip(1..).all(|(entry, position)| entry.position == Position(position)));
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn another_stream_in_its_place_is_corrupt() {
    let server = NatsServer::start().await;
    let log = open(&server).await;
    let mut tail = log.tail(P0, Position::ZERO);
    for count in 1..=3 {
        log.append(entry(1, count)).await.unwrap();
    }
    for position in 1..=3 {
        assert_eq!(tail.next().await.unwrap().unwrap().position, Position(position));
    }
    log.context().delete_stream("TOLLBOOK_LOG_0_0").await.unwrap();
    open(&server).await;
    match tokio::time::timeout(DEADLINE, tail.next()).await.expect("noticed in time") {
        Some(Err(ReadError::Corrupt { position, reason, .. })) => {
            assert_eq!(position, Position(1));
            assert!(reason.contains("created"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(tail.next().await.is_none());
}
