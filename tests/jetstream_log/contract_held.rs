//! The contract of every log, on one server.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tollbook_engine::log::EventLog;
use tollbook_engine::log::jetstream::JetStream;
use tollbook_tests::nats::NatsServer;

use super::options;

#[path = "../../engine/tests/contract/mod.rs"]
mod contract;

struct OnServer {
    server: NatsServer,
    log: Arc<JetStream>,
}

impl contract::Fixture for OnServer {
    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    fn reopen(self: Box<Self>) -> BoxFuture<'static, Box<dyn contract::Fixture>> {
        Box::pin(async move {
            let Self { mut server, log } = *self;
            drop(log);
            server.restart().await;
            let log = JetStream::open(options(&server), contract::PARTITIONS).await.unwrap();
            let again: Box<dyn contract::Fixture> = Box::new(Self { server, log: Arc::new(log) });
            again
        })
    }
}

async fn fresh() -> OnServer {
    let server = NatsServer::start().await;
    let log = JetStream::open(options(&server), contract::PARTITIONS).await.unwrap();
    OnServer { server, log: Arc::new(log) }
}

crate::contract_tests!(fresh);
