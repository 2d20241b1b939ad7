//! The server killed under load, again and again.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollbook_engine::clock::Stopwatch;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{DEADLINE, System, SystemBuilder};

use super::load::{Load, Sent, check, prepared};

/// Kills in one run; `TOLLBOOK_KILLS` says otherwise.
fn kills() -> u64 {
    let said = std::env::var_os("TOLLBOOK_KILLS").and_then(|text| text.to_str()?.parse().ok());
    said.unwrap_or(5)
}

async fn survives_being_killed(builder: SystemBuilder) {
    let seed: u64 = rand::rng().random();
    println!("seed={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut system = builder.start().await;
    let api = system.api.clone();
    let key = prepared(&api).await;
    let watch = Stopwatch::start();
    let mut sent = Sent::new();
    for round in 0..kills() {
        let load = Load::start(&api, &key, round, false);
        load.more(random.random_range(1..60)).await;
        system.kill();
        let of_round = load.stop().await;
        let unanswered = of_round.values().filter(|acknowledged| !**acknowledged).count();
        println!("kill {round}: {} batches, {unanswered} of them unanswered", of_round.len());
        sent.extend(of_round);
        system.restart().await;
    }
    let events = check(&api, &key, &sent).await;
    println!("{events} events through {} kills in {:?}", kills(), watch.elapsed());
    system.terminate().await;
    std::fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    check(&api, &key, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    survives_being_killed(System::builder()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed_on_jetstream() {
    let nats = NatsServer::start().await;
    survives_being_killed(System::builder().nats(&nats)).await;
}

/// Partitions of the ledger whose first start is killed.
const PARTITIONS: usize = 3;

/// Kills first starts a little later each time; whatever was there by then, the next start finishes it.
async fn first_starts_may_be_killed(builder: SystemBuilder) {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let builder = builder.data(&data);
    for moment in 1..=15 {
        let mut killed = builder.clone().spawn();
        let mut looks = 0;
        eventually(DEADLINE, "a moment passes", || {
            looks += 1;
            std::future::ready((looks > moment).then_some(()))
        })
        .await;
        killed.kill();
    }
    let system = builder.start().await;
    assert_eq!(
        system.api.get("/readyz").await.expect(200)["partitions"].as_array().unwrap().len(),
        PARTITIONS
    );
    for _ in 0..10 {
        system.api.customer("Acme").await;
    }
}

#[tokio::test]
async fn starts_may_be_killed() {
    for _ in 0..3 {
        first_starts_may_be_killed(System::builder().partitions(3)).await;
    }
}

#[tokio::test]
async fn starts_may_be_killed_on_jetstream() {
    let nats = NatsServer::start().await;
    first_starts_may_be_killed(System::builder().nats(&nats).partitions(3)).await;
}
