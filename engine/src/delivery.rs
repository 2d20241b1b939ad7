//! Alerts delivered to people and programs, at least once each, always with the alert's id (R7.3).
//!
//! ```text
//! feed ─> worker of the partition's owner ─> record ─┬─ due ─> e-mail   ─┐
//!              ^                                     └─ due ─> webhooks ─┼─> what became of it, in the record
//!              └───────────────── again, by the schedule ────────────────┘
//! ```
//!
//! A record is durable before an attempt begins and after it has ended. An attempt whose end nobody has recorded is made
//! again: receivers tell repetitions by the id.

pub(crate) mod address;
pub(crate) mod mail;
pub(crate) mod message;
pub(crate) mod outcome;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod schedule;
pub mod settings;
pub(crate) mod sign;
pub(crate) mod store;
pub(crate) mod told;
pub(crate) mod webhook;
pub(crate) mod worker;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tollbook_schemas::id::AlertId;
use tollbook_schemas::position::PartitionId;

use self::address::UrlError;
use self::mail::Mailer;
use self::record::{Channel, Record};
use self::settings::DeliverySettings;
use self::store::bucket::BucketDeliveries;
use self::store::embedded::EmbeddedDeliveries;
use self::store::{DeliveryStore, StoreError};
use self::told::Told;
use self::webhook::Caller;
use self::worker::{Redeliver, Tools, Worker};
use crate::alerts::feed::AlertFeed;
use crate::clock::Clock;
use crate::contacts::Contacts;
use crate::log::EventLog;
use crate::log::jetstream::JetStream;
use crate::owner::{CommandError, OwnerHandle};
use tollbook_projections::view::View;

/// Wishes that wait for a worker; more of them are told to come again.
const REQUESTS: usize = 64;

/// Why deliveries cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Certificates that should be trusted cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// Where they are.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Records cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There can be no TLS.
    #[error("deliveries cannot be protected: {0}")]
    Client(String),
}

/// Deliveries of a node, for whoever looks at them or wants one more. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Deliveries {
    store: Arc<dyn DeliveryStore>,
    caller: Caller,
    /// By partition.
    workers: Vec<mpsc::Sender<Redeliver>>,
}

/// What deliveries of every partition are made with.
#[derive(Debug)]
pub(crate) struct Parts {
    store: Arc<dyn DeliveryStore>,
    caller: Caller,
    mailer: Option<Mailer>,
    settings: Arc<DeliverySettings>,
    feed: Arc<dyn AlertFeed>,
    contacts: Contacts,
    currency: String,
    clock: Clock,
    workers: Vec<mpsc::Sender<Redeliver>>,
}

/// What deliveries need of a node.
#[derive(Debug)]
pub(crate) struct Needs {
    pub(crate) settings: DeliverySettings,
    pub(crate) feed: Arc<dyn AlertFeed>,
    pub(crate) contacts: Contacts,
    pub(crate) currency: String,
    pub(crate) clock: Clock,
}

impl Parts {
    /// Opens the records, in `directory` where the log is embedded. Blocks there.
    pub(crate) async fn open(
        needs: Needs,
        log: &Arc<dyn EventLog>,
        jetstream: Option<&JetStream>,
        directory: &Path,
    ) -> Result<Self, DeliveryError> {
        let store: Arc<dyn DeliveryStore> = match jetstream {
            Some(jetstream) => Arc::new(BucketDeliveries::open(jetstream).await?),
            None => Arc::new(EmbeddedDeliveries::open(directory, log.clone())?),
        };
        let Needs { settings, feed, contacts, currency, clock } = needs;
        let caller = Caller::new(&settings.webhooks)?;
        let mailer = settings.smtp.as_ref().map(Mailer::new).transpose()?;
        let (settings, workers) = (Arc::new(settings), Vec::new());
        Ok(Self { store, caller, mailer, settings, feed, contacts, currency, clock, workers })
    }

    /// The worker of the next partition.
    pub(crate) fn worker(&mut self, owner: OwnerHandle, view: View) -> Worker {
        let (sender, requests) = mpsc::channel(REQUESTS);
        self.workers.push(sender);
        let tools = Tools {
            owner,
            view,
            feed: self.feed.clone(),
            store: self.store.clone(),
            contacts: self.contacts.clone(),
            caller: self.caller.clone(),
            mailer: self.mailer.clone(),
            settings: self.settings.clone(),
            currency: self.currency.clone(),
            clock: self.clock.clone(),
        };
        Worker { tools: Arc::new(tools), requests }
    }

    /// Once every partition has its worker.
    pub(crate) fn finish(self) -> Deliveries {
        Deliveries { store: self.store, caller: self.caller, workers: self.workers }
    }
}

impl Deliveries {
    /// Whether a URL may be called. Errors: why not.
    pub(crate) fn check_url(&self, url: &str) -> Result<(), UrlError> {
        self.caller.check(url)
    }

    /// What is known of an alert's deliveries.
    pub(crate) async fn of(&self, id: &AlertId) -> Result<Option<Record>, StoreError> {
        Ok(self.store.get(id.clone()).await?.map(|stored| stored.record))
    }

    /// Has one more attempt made at once. Answers once that is sure to happen.
    pub(crate) async fn redeliver(
        &self,
        partition: PartitionId,
        told: Told,
        channel: Channel,
    ) -> Result<Record, CommandError> {
        let worker = self.workers.get(usize::from(partition.0)).ok_or(CommandError::NotOwner)?;
        let (answer, answered) = oneshot::channel();
        let request = Redeliver { id: told.id.clone(), channel, told, answer };
        worker.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopping,
        })?;
        answered.await.map_err(|_| CommandError::Busy)?
    }
}
