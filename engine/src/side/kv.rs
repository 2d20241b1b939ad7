//! The store beside the log, in the JetStream bucket `TOLLBOOK_SIDE`.
//!
//! Erasing deletes the message and has the server overwrite its bytes. On replicated streams copies stay in each
//! server's raft log until its next snapshot, and file systems may keep older blocks: what must be unreadable at
//! once needs an encrypted disk beneath.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{SideError, SideStore};
use crate::log::jetstream::JetStream;
use crate::log::jetstream::bucket::{Bucket, BucketError, Written};

/// Name of the bucket.
const BUCKET: &str = "TOLLBOOK_SIDE";

/// How often two writers may meet before one of them reports it.
const ATTEMPTS: usize = 8;

/// The side store of a ledger whose log is on JetStream.
#[derive(Clone, Debug)]
pub struct KvSide {
    bucket: Bucket,
}

impl KvSide {
    /// Finds or creates the bucket, replicated as the log is.
    pub async fn open(log: &JetStream) -> Result<Self, SideError> {
        let bucket = Bucket::open(log.context(), BUCKET, log.replicas(), None).await.map_err(side)?;
        Ok(Self { bucket })
    }
}

fn side(error: BucketError) -> SideError {
    SideError(error.to_string())
}

fn check(key: &str) -> Result<(), SideError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if key.split('.').all(|part| !part.is_empty() && part.bytes().all(plain)) {
        return Ok(());
    }
    Err(SideError(format!("`{key}` is not a key")))
}

impl SideStore for KvSide {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Bytes>, SideError>> {
        let key = key.to_owned();
        Box::pin(async move {
            check(&key)?;
            self.bucket.get(&key).await.map(|slot| slot.value).map_err(side)
        })
    }

    fn put_new(&self, key: &str, value: Bytes) -> BoxFuture<'_, Result<Bytes, SideError>> {
        let key = key.to_owned();
        Box::pin(async move {
            check(&key)?;
            for _ in 0..ATTEMPTS {
                let slot = self.bucket.get(&key).await.map_err(side)?;
                if let Some(present) = slot.value {
                    return Ok(present);
                }
                match self.bucket.put(&key, value.clone(), slot.revision, None).await.map_err(side)? {
                    Written::Revision(_) => return Ok(value),
                    Written::Conflict => tokio::task::yield_now().await,
                }
            }
            Err(SideError(format!("`{key}` is written by others all the time")))
        })
    }

    fn erase(&self, key: &str) -> BoxFuture<'_, Result<(), SideError>> {
        let key = key.to_owned();
        Box::pin(async move {
            check(&key)?;
            let slot = self.bucket.get(&key).await.map_err(side)?;
            if slot.value.is_none() {
                return Ok(());
            }
            let Err(error) = self.bucket.erase(slot.revision).await else { return Ok(()) };
            // Of two that erase the same value, one finds nothing: that is as well.
            match self.bucket.get(&key).await {
                Ok(slot) if slot.value.is_none() => Ok(()),
                Ok(_) | Err(_) => Err(side(error)),
            }
        })
    }
}
