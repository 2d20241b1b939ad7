//! The log, the lease and the side store on real JetStream servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod cluster;
mod contract_held;
mod crash;
mod feed_held;
mod harness;
mod lease;
mod load;
mod side;
mod startup;
mod tail;

use std::time::Duration;

use tollbook_engine::log::jetstream::{JetStream, JetStreamOptions};
use tollbook_tests::nats::{NatsCluster, NatsServer};

/// More than any step takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn options(server: &NatsServer) -> JetStreamOptions {
    let mut options = JetStreamOptions::new(vec![server.url()]);
    options.monitor_urls = vec![server.monitor_url()];
    options
}

fn cluster_options(cluster: &NatsCluster) -> JetStreamOptions {
    let mut options = JetStreamOptions::new(cluster.nodes.iter().map(NatsServer::url).collect());
    options.monitor_urls = cluster.monitor_urls();
    options
}

async fn open(server: &NatsServer) -> JetStream {
    JetStream::open(options(server), 1).await.unwrap()
}
