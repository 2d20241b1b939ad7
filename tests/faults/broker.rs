//! The broker killed under load: publishers recover by themselves.

use tollbook_engine::clock::Stopwatch;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::System;

use super::load::{Load, check, prepared};

/// Kills of the broker in one run.
const KILLS: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_recover_when_the_broker_is_killed_and_nothing_is_lost_or_doubled() {
    let mut nats = NatsServer::start().await;
    let mut system = System::builder().nats(&nats).start().await;
    let api = system.api.clone();
    let key = prepared(&api).await;
    let watch = Stopwatch::start();
    let load = Load::start(&api, &key, 0, true);
    for _ in 0..KILLS {
        load.more(30).await;
        nats.kill();
        nats.restart().await;
    }
    load.more(30).await;
    let sent = load.stop().await;
    assert!(sent.values().all(|acknowledged| *acknowledged), "every client got its 204 in the end");
    system.ready().await;
    let events = check(&api, &key, &sent).await;
    println!("{events} events through {KILLS} kills of the broker in {:?}", watch.elapsed());
    system.terminate().await;
    system.restart().await;
    check(&api, &key, &sent).await;
}
