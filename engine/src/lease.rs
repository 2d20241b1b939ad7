//! Who owns a partition: a lease in the JetStream bucket `TOLLBOOK_OWNERS`, one key per partition.
//!
//! It elects; it does not fence. A holder that was stopped for a while may still believe in it: only terms in the
//! log decide whose decisions count.
//!
//! ```text
//!           renewed every 0.5 s            not renewed for 1.8 s: lost, and said so
//! acquire ──────┬──────┬──────┬───── … ─────────┐
//!               └ expires on the server 2 s after the last renewal: the next one acquires
//! ```

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tollbook_schemas::position::{PartitionId, WriterId};

use crate::log::jetstream::JetStream;
use crate::log::jetstream::bucket::{Bucket, BucketError, Slot, Written};

/// Name of the bucket.
const BUCKET: &str = "TOLLBOOK_OWNERS";

/// Servers take whole seconds; at 1 s a pause of the server's would end leases.
const TTL: Duration = Duration::from_secs(2);

/// Three renewals may fail before the lease is lost.
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// A renewal without answer is sent again: two fit before the lease is lost.
const RENEW_TIMEOUT: Duration = Duration::from_millis(600);

/// Sooner than the server's expiry, which counts from when the renewal arrived there.
const BELIEVED: Duration = Duration::from_millis(1800);

/// How often one that waits looks; adds to the time without an owner.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long the mark of an expired or released lease stays; it only has to outlive those who wait.
const MARKER_TTL: Duration = Duration::from_secs(5);

/// Why a lease could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the ownership lease cannot be used: {0}")]
pub struct LeaseError(String);

impl From<BucketError> for LeaseError {
    fn from(error: BucketError) -> Self {
        Self(error.to_string())
    }
}

/// Where the leases of a ledger are.
#[derive(Clone, Debug)]
pub struct Leases {
    bucket: Bucket,
}

/// The ownership of one partition, renewed in the background until it is lost, released or dropped.
#[derive(Debug)]
pub struct Lease {
    partition: PartitionId,
    lost: watch::Receiver<bool>,
    release: Option<oneshot::Sender<()>>,
    renewing: JoinHandle<()>,
}

impl Leases {
    /// Finds or creates the bucket, replicated as the log is.
    pub async fn open(log: &JetStream) -> Result<Self, LeaseError> {
        Ok(Self { bucket: Bucket::open(log.context(), BUCKET, log.replicas(), Some(MARKER_TTL)).await? })
    }

    /// Who holds the lease of `partition` now: node and writer.
    pub async fn holder(&self, partition: PartitionId) -> Result<Option<String>, LeaseError> {
        let slot = self.bucket.get(&partition.to_string()).await?;
        Ok(slot.value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Takes the lease of `partition` if nobody holds it. `node` is for people; `writer` tells two runs of it apart.
    pub async fn try_acquire(
        &self,
        partition: PartitionId,
        node: &str,
        writer: WriterId,
    ) -> Result<Option<Lease>, LeaseError> {
        let key = partition.to_string();
        let Slot { revision, value: None } = self.bucket.get(&key).await? else { return Ok(None) };
        let value = Bytes::from(format!("{node} {:016x}", writer.0));
        // Counted from before it is sent, so that it never outlives the server's.
        let expiry = tokio::time::sleep(BELIEVED);
        let written = self.bucket.put(&key, value.clone(), revision, Some(TTL)).await?;
        let Written::Revision(revision) = written else { return Ok(None) };
        tracing::info!(%partition, node, "holds the lease");
        let (tell, lost) = watch::channel(false);
        let (release, released) = oneshot::channel();
        let renewal = Renewal { bucket: self.bucket.clone(), key, value, revision };
        let renewing = tokio::spawn(async move {
            renewal.run(expiry, released).await;
            tell.send_replace(true);
        });
        Ok(Some(Lease { partition, lost, release: Some(release), renewing }))
    }

    /// Waits until `node` gets the lease of `partition`, through lost connections and elections.
    pub async fn acquire(&self, partition: PartitionId, node: &str, writer: WriterId) -> Lease {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            match self.try_acquire(partition, node, writer).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                Err(error) => tracing::warn!(%partition, %error, "asking for the lease again"),
            }
        }
    }
}

impl Lease {
    /// The partition it is about.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// Whether the lease is gone: nothing may be decided any more.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Becomes true, once and for all, when the lease is lost or released.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.lost.clone()
    }

    /// Waits until the lease is lost.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        // An error says that the renewal ended: lost as well.
        if lost.wait_for(|lost| *lost).await.is_err() {
            tracing::debug!(partition = %self.partition, "the renewal ended");
        }
    }

    /// Gives the lease up, so that the next node takes over at once. Call it after the last decision.
    pub async fn release(mut self) {
        if let Some(release) = self.release.take()
            && release.send(()).is_ok()
        {
            self.lost().await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Without renewal it expires by itself; a task told to release is done already.
        self.renewing.abort();
    }
}

/// What a renewal came to.
enum Renewed {
    /// The lease runs anew from when this renewal was sent.
    Until,
    /// An earlier renewal that seemed lost was stored; since when is not known.
    Before,
    /// Somebody else's, or expired.
    Taken,
}

struct Renewal {
    bucket: Bucket,
    key: String,
    value: Bytes,
    revision: u64,
}

impl Renewal {
    /// Renews until it is lost or `released`.
    async fn run(mut self, expiry: tokio::time::Sleep, mut released: oneshot::Receiver<()>) {
        let mut expiry = Box::pin(expiry);
        let mut every = tokio::time::interval(RENEW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut expiry => return self.expired(),
                given_up = &mut released => {
                    if given_up.is_ok() {
                        self.give_up().await;
                    }
                    return;
                }
                _ = every.tick() => {}
            }
            let next = Box::pin(tokio::time::sleep(BELIEVED));
            let renewed = tokio::select! {
                biased;
                () = &mut expiry => return self.expired(),
                renewed = tokio::time::timeout(RENEW_TIMEOUT, self.renew()) => renewed,
            };
            match renewed {
                Ok(Ok(Renewed::Until)) => expiry = next,
                Ok(Ok(Renewed::Before)) => {}
                Ok(Ok(Renewed::Taken)) => {
                    tracing::error!(key = self.key, "another node took the ownership lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the ownership lease could not be renewed"),
                Err(_) => tracing::warn!(key = self.key, "renewing the ownership lease again"),
            }
        }
    }

    async fn renew(&mut self) -> Result<Renewed, BucketError> {
        match self.bucket.put(&self.key, self.value.clone(), self.revision, Some(TTL)).await? {
            Written::Revision(revision) => {
                self.revision = revision;
                Ok(Renewed::Until)
            }
            Written::Conflict => {
                let slot = self.bucket.get(&self.key).await?;
                if slot.value.as_ref() != Some(&self.value) {
                    return Ok(Renewed::Taken);
                }
                self.revision = slot.revision;
                Ok(Renewed::Before)
            }
        }
    }

    fn expired(&self) {
        tracing::error!(key = self.key, "the ownership lease was not renewed in time");
    }

    async fn give_up(&self) {
        match self.bucket.release(&self.key, self.revision, MARKER_TTL).await {
            Ok(Written::Revision(_)) => tracing::info!(key = self.key, "released the ownership lease"),
            Ok(Written::Conflict) => tracing::warn!(key = self.key, "the lease was not ours any more"),
            // It expires by itself.
            Err(error) => tracing::warn!(key = self.key, %error, "the lease could not be released"),
        }
    }
}
