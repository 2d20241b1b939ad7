//! One server, killed or stopped while 64 appends are in flight.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use tollbook_engine::log::EventLog;
use tollbook_schemas::position::Position;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;

use super::load::{Load, P0, check};
use super::{DEADLINE, open};

async fn more(load: &Load, count: u64) {
    let before = load.done.load(Ordering::Relaxed);
    eventually(DEADLINE, "appends go on", || async move {
        (load.done.load(Ordering::Relaxed) >= before + count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_server_is_killed() {
    let mut server = NatsServer::start().await;
    let log = open(&server).await;
    let load = Load::default();
    let running = tokio::spawn(load.clone().run(log.clone(), 64));
    // The tail lives through it all.
    let mut tail = log.tail(P0, Position::ZERO);
    let reading = tokio::spawn(async move {
        let mut next = Position::ZERO;
        while let Some(entry) = tail.next().await {
            next = next.next();
            assert_eq!(entry.unwrap().position, next);
            if tail_end(next) {
                break;
            }
        }
        next
    });
    for _ in 0..3 {
        more(&load, 200).await;
        server.kill();
        server.restart().await;
    }
    more(&load, 200).await;
    load.stop.store(true, Ordering::Relaxed);
    let acknowledged = running.await.unwrap();
    check(&log, &acknowledged).await;
    let read = tokio::time::timeout(DEADLINE, reading).await.expect("the tail goes on").unwrap();
    assert!(tail_end(read));
}

/// Read past all three restarts.
fn tail_end(position: Position) -> bool {
    position.0 >= 700
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_the_server_hangs() {
    let server = NatsServer::start().await;
    let log = open(&server).await;
    let load = Load::default();
    let running = tokio::spawn(load.clone().run(log.clone(), 64));
    more(&load, 200).await;
    server.pause();
    // Long enough for attempts to be given up and sent again.
    eventually(DEADLINE, "the client notices", || async {
        (log.context().client().connection_state() != async_nats::connection::State::Connected).then_some(())
    })
    .await;
    server.resume();
    more(&load, 200).await;
    load.stop.store(true, Ordering::Relaxed);
    check(&log, &running.await.unwrap()).await;
}
