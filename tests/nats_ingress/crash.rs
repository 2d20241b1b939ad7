//! The server is killed under load; publishers try again until they are answered.

use async_nats::jetstream::{self, Context};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;

use crate::DEADLINE;
use crate::deployment::ATTEMPT;
use crate::engine::{Engine, SPOOL, USAGE, event, publisher};

const PUBLISHERS: u64 = 16;
const EACH: u64 = 60;

/// Publishes until it is acknowledged, as a service does.
async fn until_acknowledged(context: &Context, subject: &'static str, id: &str) {
    let payload = event(id).to_string();
    let payload = &payload;
    eventually(DEADLINE, "a publish is acknowledged", || async move {
        context.publish(subject, payload.clone().into()).await.ok()?.await.ok()
    })
    .await;
}

#[tokio::test]
async fn r8_2_nothing_is_lost_or_doubled_when_the_server_is_killed_under_load() {
    let (mut server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start_with_spool(&server, &data).await;
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS {
        let (client, _) = publisher(&server).await;
        let context = jetstream::ContextBuilder::new().timeout(ATTEMPT).build(client);
        let subject = if number % 2 == 0 { USAGE } else { SPOOL };
        publishers.spawn(async move {
            for turn in 0..EACH {
                until_acknowledged(&context, subject, &format!("{number}-{turn}")).await;
            }
        });
    }
    for share in [1, 3] {
        let engine = &engine;
        eventually(DEADLINE, "some are booked", || async move {
            (booked(engine).await >= PUBLISHERS * EACH * share / 6).then_some(())
        })
        .await;
        server.restart().await;
    }
    while let Some(ended) = publishers.join_next().await {
        ended.unwrap();
    }
    let engine = {
        let engine_ref = &engine;
        eventually(DEADLINE, "all are booked", || async move {
            (booked(engine_ref).await >= PUBLISHERS * EACH).then_some(())
        })
        .await;
        engine
    };
    let totals = engine.totals().await;
    assert_eq!((totals.booked, totals.spent, totals.quarantined), (PUBLISHERS * EACH, PUBLISHERS * EACH, 0));
    engine.stop().await;
}

/// As far as it is applied; the log itself may be away.
async fn booked(engine: &Engine) -> u64 {
    let owner = engine.node.owners().next().unwrap();
    owner.read(|state| state.organization(&crate::engine::org()).unwrap().counts.booked).await.unwrap()
}
