//! The feed beside the embedded log keeps the contract of every alert feed.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod feed_contract;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tollbook_engine::alerts::embedded::EmbeddedFeed;
use tollbook_engine::alerts::feed::AlertFeed;
use tollbook_engine::log::embedded::{Embedded, OpenError};
use tollbook_schemas::id::LedgerId;

use feed_contract::{Fixture, alert, ledger};

struct OnDisk {
    feed: Arc<EmbeddedFeed>,
    dir: TempDir,
}

fn open(dir: &TempDir, ledger: LedgerId) -> Result<EmbeddedFeed, String> {
    let log = Embedded::open(dir.path(), 1).unwrap();
    EmbeddedFeed::open(&dir.path().join("alerts"), Arc::new(log), ledger).map_err(|error| error.to_string())
}

impl Fixture for OnDisk {
    fn feed(&self) -> Arc<dyn AlertFeed> {
        self.feed.clone()
    }

    fn other(&self) -> Arc<dyn AlertFeed> {
        self.feed.clone()
    }

    fn reopen(self: Box<Self>) -> BoxFuture<'static, Box<dyn Fixture>> {
        async move {
            let Self { feed, dir } = *self;
            drop(Arc::into_inner(feed).unwrap());
            let feed = Arc::new(open(&dir, ledger()).unwrap());
            let reopened: Box<dyn Fixture> = Box::new(Self { feed, dir });
            reopened
        }
        .boxed()
    }
}

async fn fresh() -> OnDisk {
    let dir = tempfile::tempdir().unwrap();
    OnDisk { feed: Arc::new(open(&dir, ledger()).unwrap()), dir }
}

feed_contract_tests!(fresh);

#[tokio::test]
async fn r7_3_a_feed_keeps_its_directory_and_its_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let feed = open(&dir, ledger()).unwrap();
    feed.raise(vec![alert(1, 1, 0)]).await.unwrap();
    // The log's owner let go of it, the feed did not.
    assert!(matches!(Embedded::open(dir.path(), 1), Err(OpenError::Locked { .. })));
    drop(feed);
    let refused = open(&dir, LedgerId::from_bits(2)).unwrap_err();
    assert!(refused.contains("holds alerts of ledger"), "{refused}");
    assert_eq!(open(&dir, ledger()).unwrap().last().await.unwrap(), 1);
}
