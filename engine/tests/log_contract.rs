//! The embedded log keeps the contract of every log.

mod contract;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tollbook_engine::log::EventLog;
use tollbook_engine::log::embedded::Embedded;

use contract::{Fixture, PARTITIONS};

struct OnDisk {
    log: Arc<Embedded>,
    dir: TempDir,
}

impl Fixture for OnDisk {
    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }

    fn reopen(self: Box<Self>) -> BoxFuture<'static, Box<dyn Fixture>> {
        async move {
            let Self { log, dir } = *self;
            log.close().await;
            let log = Arc::new(Embedded::open(dir.path(), PARTITIONS).unwrap());
            Box::new(Self { log, dir }) as Box<dyn Fixture>
        }
        .boxed()
    }
}

async fn fresh() -> OnDisk {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Embedded::open(dir.path(), PARTITIONS).unwrap());
    OnDisk { log, dir }
}

contract_tests!(fresh);
