//! The contract of every alert feed, on one server; two nodes of it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tollbook_engine::alerts::feed::AlertFeed;
use tollbook_engine::alerts::jetstream::{JetStreamFeed, STREAM};
use tollbook_engine::log::jetstream::OpenError;
use tollbook_schemas::id::LedgerId;
use tollbook_tests::nats::NatsServer;

use super::open;

#[path = "../../engine/tests/feed_contract/mod.rs"]
mod feed_contract;

struct OnServer {
    server: NatsServer,
    nodes: [Arc<JetStreamFeed>; 2],
}

async fn nodes(server: &NatsServer) -> [Arc<JetStreamFeed>; 2] {
    let (one, other) = (open(server).await, open(server).await);
    let ledger = feed_contract::ledger();
    [
        JetStreamFeed::open(&one, ledger.clone()).await.unwrap(),
        JetStreamFeed::open(&other, ledger).await.unwrap(),
    ]
}

impl feed_contract::Fixture for OnServer {
    fn feed(&self) -> Arc<dyn AlertFeed> {
        self.nodes[0].clone()
    }

    fn other(&self) -> Arc<dyn AlertFeed> {
        self.nodes[1].clone()
    }

    fn reopen(self: Box<Self>) -> BoxFuture<'static, Box<dyn feed_contract::Fixture>> {
        Box::pin(async move {
            let Self { mut server, nodes: before } = *self;
            drop(before);
            server.restart().await;
            let nodes = nodes(&server).await;
            let again: Box<dyn feed_contract::Fixture> = Box::new(Self { server, nodes });
            again
        })
    }
}

async fn fresh() -> OnServer {
    let server = NatsServer::start().await;
    let nodes = nodes(&server).await;
    OnServer { server, nodes }
}

crate::feed_contract_tests!(fresh);

#[tokio::test]
async fn r7_3_alerts_survive_a_server_that_dies_while_they_are_raised() {
    let mut fixture = fresh().await;
    let wanted: Vec<_> = (1..=600).map(|at| feed_contract::alert(u128::from(at % 50), at, 0)).collect();
    let raising = |feed: Arc<JetStreamFeed>| {
        let wanted = wanted.clone();
        tokio::spawn(async move {
            let mut new = 0;
            for alerts in wanted.chunks(100) {
                new += feed.raise(alerts.to_vec()).await.unwrap();
            }
            new
        })
    };
    let both = fixture.nodes.each_ref().map(|node| raising(node.clone()));
    for _ in 0..3 {
        fixture.server.kill();
        fixture.server.restart().await;
    }
    for raised in both {
        raised.await.unwrap();
    }
    let found = fixture.nodes[0].after(0, usize::MAX).await.unwrap();
    let ids: std::collections::BTreeSet<_> = found.iter().map(|raised| raised.id.clone()).collect();
    assert_eq!((found.len(), ids.len()), (600, 600));
}

#[tokio::test]
async fn r7_3_the_stream_is_refused_unless_it_is_set_and_owned_as_it_must_be() {
    let fixture = fresh().await;
    let log = open(&fixture.server).await;
    let other = JetStreamFeed::open(&log, LedgerId::from_bits(2)).await.unwrap_err();
    assert!(other.to_string().contains("metadata.tollbook_ledger"), "{other}");
    let mut config = log.context().get_stream(STREAM).await.unwrap().cached_info().config.clone();
    config.max_age = std::time::Duration::from_secs(3600);
    log.context().update_stream(config).await.unwrap();
    let wrong = JetStreamFeed::open(&log, feed_contract::ledger()).await.unwrap_err();
    let OpenError::Settings { stream, wrong } = wrong else { panic!("{wrong}") };
    assert_eq!((stream.as_str(), wrong.len(), wrong[0].setting), (STREAM, 1, "max_age"));
}
