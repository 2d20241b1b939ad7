//! One owner at a time.

use std::time::Duration;

use tollbook_engine::lease::{Lease, Leases};
use tollbook_engine::log::jetstream::JetStream;
use tollbook_schemas::position::WriterId;
use tollbook_tests::nats::NatsServer;

use super::load::P0;
use super::{DEADLINE, open, options};

async fn leases(server: &NatsServer) -> Leases {
    Leases::open(&open(server).await).await.unwrap()
}

async fn acquired(leases: &Leases, writer: u64) -> Lease {
    let acquire = leases.acquire(P0, "node", WriterId(writer));
    tokio::time::timeout(DEADLINE, acquire).await.expect("acquired in time")
}

#[tokio::test]
async fn the_second_waits_until_the_first_releases() {
    let server = NatsServer::start().await;
    let (one, two) = (leases(&server).await, leases(&server).await);
    let first = acquired(&one, 1).await;
    // Longer than the lease without renewal.
    let waited = tokio::time::timeout(Duration::from_secs(4), two.acquire(P0, "node", WriterId(2))).await;
    assert!(waited.is_err(), "it is renewed");
    assert!(!first.is_lost());
    assert_eq!(two.holder(P0).await.unwrap().as_deref(), Some("node 0000000000000001"));
    first.release().await;
    let second = two.acquire(P0, "node", WriterId(2));
    // Sooner than it would expire.
    let second = tokio::time::timeout(Duration::from_secs(1), second).await.expect("at once");
    second.release().await;
    assert_eq!(two.holder(P0).await.unwrap(), None);
}

#[tokio::test]
async fn a_dead_holder_is_replaced_within_five_seconds_again_and_again() {
    let server = NatsServer::start().await;
    let leases = leases(&server).await;
    let mut holder = acquired(&leases, 1).await;
    for writer in 2..5 {
        // As a killed process: no renewal, no release.
        drop(holder);
        let next = leases.acquire(P0, "node", WriterId(writer));
        // Twice over a mark of an expired lease, which must not make the new one eternal.
        holder = tokio::time::timeout(Duration::from_secs(5), next).await.expect("replaced in time");
    }
    assert!(!holder.is_lost());
}

#[tokio::test]
async fn a_holder_without_server_knows_that_it_lost() {
    let mut server = NatsServer::start().await;
    let leases = leases(&server).await;
    let lease = acquired(&leases, 1).await;
    server.kill();
    tokio::time::timeout(Duration::from_secs(3), lease.lost()).await.expect("told in time");
    server.restart().await;
    assert!(lease.is_lost(), "once and for all");
    assert!(!acquired(&leases, 2).await.is_lost());
}

#[tokio::test]
async fn partitions_have_leases_of_their_own() {
    let server = NatsServer::start().await;
    let log = JetStream::open(options(&server), 2).await.unwrap();
    let leases = Leases::open(&log).await.unwrap();
    let one = acquired(&leases, 1).await;
    let other =
        leases.try_acquire(tollbook_schemas::position::PartitionId(1), "node", WriterId(2)).await.unwrap();
    assert!(other.is_some());
    assert!(leases.try_acquire(P0, "node", WriterId(2)).await.unwrap().is_none());
    assert!(!one.is_lost());
}
