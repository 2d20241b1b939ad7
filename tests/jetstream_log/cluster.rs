//! Three servers, three replicas, and the leader killed or stopped under load.

use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use tollbook_engine::lease::Leases;
use tollbook_engine::log::EventLog;
use tollbook_engine::log::jetstream::JetStream;
use tollbook_schemas::position::{Position, WriterId};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsCluster;

use super::load::{Load, P0, check, decision};
use super::{DEADLINE, cluster_options};

async fn more(load: &Load, count: u64) {
    let before = load.done.load(Ordering::Relaxed);
    eventually(DEADLINE, "appends go on", || async move {
        (load.done.load(Ordering::Relaxed) >= before + count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_and_doubles_nothing() {
    let mut cluster = NatsCluster::start(3).await;
    let log = JetStream::open(cluster_options(&cluster), 1).await.unwrap();
    assert_eq!(log.replicas(), 3);
    let load = Load::default();
    let running = tokio::spawn(load.clone().run(log.clone(), 64));
    let mut tail = log.tail(P0, Position::ZERO);
    let reading = tokio::spawn(async move {
        for position in 1..=2000 {
            assert_eq!(tail.next().await.unwrap().unwrap().position, Position(position));
        }
    });
    for _ in 0..2 {
        more(&load, 500).await;
        let leader = cluster.leader("TOLLBOOK_LOG_0_0").await;
        cluster.nodes[leader].kill();
        more(&load, 500).await;
        cluster.nodes[leader].restart().await;
    }
    more(&load, 500).await;
    load.stop.store(true, Ordering::Relaxed);
    check(&log, &running.await.unwrap()).await;
    tokio::time::timeout(DEADLINE, reading).await.expect("the tail goes on").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_servers_killed_at_once_lose_and_double_nothing() {
    let mut cluster = NatsCluster::start(3).await;
    let log = JetStream::open(cluster_options(&cluster), 1).await.unwrap();
    let load = Load::default();
    let running = tokio::spawn(load.clone().run(log.clone(), 64));
    more(&load, 500).await;
    cluster.nodes.iter_mut().for_each(|node| node.kill());
    cluster.nodes.iter_mut().for_each(|node| node.start_again());
    more(&load, 500).await;
    load.stop.store(true, Ordering::Relaxed);
    check(&log, &running.await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_with_one_condition_one_wins() {
    let cluster = NatsCluster::start(3).await;
    let logs = [
        JetStream::open(cluster_options(&cluster), 1).await.unwrap(),
        JetStream::open(cluster_options(&cluster), 1).await.unwrap(),
    ];
    for org in 1..=50 {
        let race = logs.iter().zip(1..).map(|(log, writer)| {
            log.append(decision(org, writer, u64::try_from(org).unwrap(), Position::ZERO))
        });
        let answers = futures_util::future::join_all(race).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_does_not_keep_others_from_starting() {
    let mut cluster = NatsCluster::start(3).await;
    let options = cluster_options(&cluster);
    drop(JetStream::open(options.clone(), 1).await.unwrap());
    cluster.nodes[2].kill();
    let log = eventually(DEADLINE, "opens with two of three", || async {
        JetStream::open(options.clone(), 1).await.ok()
    })
    .await;
    log.append(decision(1, 1, 1, Position::ZERO)).await.unwrap();
    let mut forgotten = options.clone();
    forgotten.monitor_urls.pop();
    assert!(JetStream::open(forgotten, 1).await.is_err(), "every server must be named");
    let leases = Leases::open(&log).await.unwrap();
    tokio::time::timeout(DEADLINE, leases.acquire(P0, "node", WriterId(1))).await.expect("acquired");
}
