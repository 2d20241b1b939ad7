//! What every [`AlertFeed`] promises, as tests that any implementation runs through.
//!
//! ```text
//! mod feed_contract;                 // beside a test file that has
//! async fn fresh() -> MyFixture      // a new, empty feed of the ledger feed_contract::ledger()
//! feed_contract_tests!(fresh);       // one #[tokio::test] for each suite below
//! ```

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join, join_all};
use tollbook_engine::alerts::feed::{AlertFeed, Raised};
use tollbook_schemas::alert::{Alert, AlertData, AlertKind};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{LedgerId, OrgId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::Timestamp;

/// Far more than any step takes, so that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);

/// A feed under test, and whatever keeps it alive.
pub(crate) trait Fixture: Send {
    /// The feed as one node has it.
    fn feed(&self) -> Arc<dyn AlertFeed>;
    /// The same as another node has it, or the same node where there can be one only.
    fn other(&self) -> Arc<dyn AlertFeed>;
    /// Closes the feed and opens the same one again. The caller holds no other reference.
    fn reopen(self: Box<Self>) -> BoxFuture<'static, Box<dyn Fixture>>;
}

/// One test for each suite, each on a feed of its own.
#[macro_export]
macro_rules! feed_contract_tests {
    ($fresh:path) => {
        $crate::feed_contract_tests!(@each $fresh:
            r7_3_alerts_are_raised_in_order_and_once, r7_3_of_two_publishers_each_alert_is_raised_by_one,
            r7_3_an_owner_that_comes_late_raises_nothing_again, r7_3_the_platforms_own_alerts_are_told_apart_by_partition,
            r7_3_who_waits_is_woken, r7_3_marks_rise_and_stay, r7_3_what_was_raised_stays);
    };
    (@each $fresh:path: $($suite:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $suite() {
            feed_contract::in_time(feed_contract::$suite(Box::new($fresh().await))).await;
        }
    )+};
}

/// Waits for `step`, but not for ever.
pub(crate) async fn in_time<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, step).await.expect("the feed hangs")
}

/// The ledger of every feed that is tested.
pub(crate) fn ledger() -> LedgerId {
    LedgerId::from_bits(1)
}

/// An alert of one of a few organizations, caused by an entry of partition 0.
pub(crate) fn alert(organization: u128, position: u64, number: u32) -> Alert {
    of(0, Some(OrgId::from_bits(organization)), position, number)
}

fn of(partition: u16, organization: Option<OrgId>, position: u64, number: u32) -> Alert {
    let position = LogPosition { partition: PartitionId(partition), position: Position(position) };
    let id = Alert::id_of(&ledger(), position, organization.as_ref(), AlertKind::BalanceLow, number);
    let data = AlertData::BalanceLow { threshold: Amount::ZERO, available: Amount::ZERO };
    Alert { id, organization, position, number, raised_at: Timestamp::EPOCH, data }
}

async fn all(feed: &Arc<dyn AlertFeed>) -> Vec<Raised> {
    feed.after(0, usize::MAX).await.expect("the feed is read")
}

async fn raise(feed: &Arc<dyn AlertFeed>, alerts: &[Alert]) -> usize {
    feed.raise(alerts.to_vec()).await.expect("alerts are raised")
}

/// Everything is there once, in an order that keeps each organization's.
fn assert_holds(found: &[Raised], wanted: &[Alert]) {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().zip(1_u64..).all(|(raised, sequence)| raised.sequence == sequence));
    let ids: BTreeSet<_> = found.iter().map(|raised| &raised.id).collect();
    assert_eq!(ids, wanted.iter().map(|alert| &alert.id).collect());
    for alert in wanted {
        let same = |raised: &&Raised| raised.organization == alert.organization;
        let mut places = found.iter().filter(same).map(|raised| (raised.position.position, raised.number));
        let mut last = places.next();
        assert!(places.all(|place| last.replace(place) < Some(place)), "{found:?}");
    }
}

pub(crate) async fn r7_3_alerts_are_raised_in_order_and_once(fixture: Box<dyn Fixture>) {
    let feed = fixture.feed();
    assert_eq!((feed.last().await.expect("last"), all(&feed).await), (0, vec![]));
    let first = [alert(1, 5, 0), alert(1, 5, 1), alert(2, 5, 0), alert(1, 9, 0)];
    assert_eq!(raise(&feed, &first).await, 4);
    assert_eq!(raise(&feed, &first).await, 0);
    let more = [alert(2, 5, 0), alert(1, 9, 0), alert(2, 10, 0)];
    assert_eq!(raise(&feed, &more).await, 1);
    let wanted: Vec<Alert> = [&first[..], &more[2..]].concat();
    assert_holds(&all(&feed).await, &wanted);
    assert_eq!(feed.last().await.expect("last"), 5);
    let page = feed.after(2, 2).await.expect("a page");
    assert_eq!(page, all(&feed).await[2..4]);
    assert!(feed.after(5, 10).await.expect("nothing more").is_empty());
    for (raised, alert) in
        page.iter().filter_map(|raised| Some((raised, wanted.iter().find(|alert| alert.id == raised.id)?)))
    {
        assert_eq!(
            (raised.kind, raised.raised_at, raised.place()),
            (alert.kind(), alert.raised_at, alert.place())
        );
    }
}

pub(crate) async fn r7_3_of_two_publishers_each_alert_is_raised_by_one(fixture: Box<dyn Fixture>) {
    let wanted: Vec<Alert> = (1..=10)
        .flat_map(|position| (0..20).map(move |organization| alert(organization, position, 0)))
        .collect();
    let publish = async |feed: Arc<dyn AlertFeed>, batch: usize| {
        let mut new = 0;
        for alerts in wanted.chunks(batch) {
            new += raise(&feed, alerts).await;
        }
        new
    };
    let (one, other) = join(publish(fixture.feed(), 30), publish(fixture.other(), 50)).await;
    assert_eq!(one + other, wanted.len(), "{one} and {other}");
    assert_holds(&all(&fixture.feed()).await, &wanted);
    assert_eq!(all(&fixture.other()).await, all(&fixture.feed()).await);
}

pub(crate) async fn r7_3_an_owner_that_comes_late_raises_nothing_again(fixture: Box<dyn Fixture>) {
    let (old, new) = (fixture.feed(), fixture.other());
    let wanted: Vec<Alert> = (1..=12).map(|position| alert(1, position, 0)).collect();
    assert_eq!(raise(&old, &wanted[..3]).await, 3);
    assert_eq!(raise(&new, &wanted[..8]).await, 5);
    // What it had read before it knew.
    assert_eq!(raise(&old, &wanted[2..6]).await, 0);
    assert_eq!(raise(&old, &wanted[..9]).await, 1);
    assert_eq!(raise(&new, &wanted).await, 3);
    assert_holds(&all(&new).await, &wanted);
}

pub(crate) async fn r7_3_the_platforms_own_alerts_are_told_apart_by_partition(fixture: Box<dyn Fixture>) {
    let feed = fixture.feed();
    // Positions of partitions do not compare: the higher one of one hides nothing of another.
    assert_eq!(raise(&feed, &[of(0, None, 50, 0)]).await, 1);
    assert_eq!(raise(&feed, &[of(1, None, 7, 0), of(2, None, 7, 0)]).await, 2);
    assert_eq!(raise(&feed, &[of(1, None, 7, 0), of(1, None, 8, 0)]).await, 1);
    let found = all(&feed).await;
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|raised| raised.organization.is_none()));
}

pub(crate) async fn r7_3_who_waits_is_woken(fixture: Box<dyn Fixture>) {
    let (feed, other) = (fixture.feed(), fixture.other());
    let waiting = (0..4).map(|_| {
        let feed = feed.clone();
        tokio::spawn(async move {
            feed.wait(0).await.expect("there is more");
            feed.after(0, 10).await.expect("it is read").len()
        })
    });
    let waiting: Vec<_> = waiting.collect();
    assert_eq!(raise(&other, &[alert(1, 1, 0)]).await, 1);
    for seen in join_all(waiting).await {
        assert_eq!(seen.expect("nobody panics"), 1);
    }
    feed.wait(0).await.expect("there is more already");
}

pub(crate) async fn r7_3_marks_rise_and_stay(fixture: Box<dyn Fixture>) {
    let through = async |feed: &Arc<dyn AlertFeed>, partition| {
        feed.through(PartitionId(partition)).await.expect("a mark").0
    };
    let feed = fixture.feed();
    assert_eq!(through(&feed, 0).await, 0);
    for position in [7, 5, 9, 9] {
        feed.mark_through(PartitionId(0), Position(position)).await.expect("it is marked");
    }
    feed.mark_through(PartitionId(3), Position(2)).await.expect("it is marked");
    assert_eq!((through(&feed, 0).await, through(&fixture.other(), 3).await), (9, 2));
    let nodes = [fixture.feed(), fixture.other()];
    join_all((10..30).map(|position| {
        let node = nodes[usize::from(position % 2 == 0)].clone();
        async move { node.mark_through(PartitionId(1), Position(position)).await }
    }))
    .await;
    drop((feed, nodes));
    let fixture = fixture.reopen().await;
    let feed = fixture.feed();
    feed.mark_through(PartitionId(1), Position(29)).await.expect("it is marked");
    assert_eq!((through(&feed, 0).await, through(&feed, 1).await, through(&feed, 2).await), (9, 29, 0));
}

pub(crate) async fn r7_3_what_was_raised_stays(fixture: Box<dyn Fixture>) {
    let wanted: Vec<Alert> = (1..=40).map(|position| alert(u128::from(position % 3), position, 0)).collect();
    assert_eq!(raise(&fixture.feed(), &wanted[..25]).await, 25);
    let before = all(&fixture.feed()).await;
    let fixture = fixture.reopen().await;
    let feed = fixture.feed();
    assert_eq!((feed.last().await.expect("last"), all(&feed).await), (25, before));
    assert_eq!(raise(&feed, &wanted).await, 15);
    assert_holds(&all(&feed).await, &wanted);
}
