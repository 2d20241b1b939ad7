//! Durable consumers of the alert stream, one for each subscription of the ledger: made and removed by the owner of
//! partition 0, which knows them all.
//!
//! ```text
//! start, takeover, another configuration ─> consumers there ─ not wanted, or of an earlier one of that name ─> deleted
//!                                           subscriptions ─── not there ────────────────────────────────────> made
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, Info};
use futures_util::TryStreamExt;
use tokio::sync::watch;
use tollbook_projections::config::Subscription;
use tollbook_schemas::id::DisplayName;

use crate::log::jetstream::Beside;
use crate::owner::{CommandError, OwnerError, OwnerHandle, Role};
use crate::rounds::{Unfinished, rounds};

/// The consumer's metadata that says which subscription it is of: when that was made. Consumers without it are none of
/// ours.
const MARK: &str = "tollbook_subscription";

/// How long a subscriber may take to acknowledge before an alert is delivered again.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// The broker's clock may be behind ours by this much, in nanoseconds: rather an alert from before than none.
const SKEW_NANOS: i64 = 2_000_000_000;

/// Subscriptions by name.
pub(crate) type Subscriptions = BTreeMap<DisplayName, Subscription>;

/// The task.
#[derive(Debug)]
pub(crate) struct Subscribers {
    owner: OwnerHandle,
    stream: Beside,
    made: watch::Sender<Subscriptions>,
}

impl Subscribers {
    /// Of the owner of partition 0; and what to watch for which subscriptions have their consumers.
    pub(crate) fn new(owner: OwnerHandle, stream: Beside) -> (Self, watch::Receiver<Subscriptions>) {
        let (made, watched) = watch::channel(Subscriptions::new());
        (Self { owner, stream, made }, watched)
    }

    /// Makes and removes consumers until told to stop.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) -> Result<(), OwnerError> {
        rounds(&self.owner, self.owner.journal(), stop, || self.reconcile()).await;
        Ok(())
    }

    async fn reconcile(&self) -> Result<(), Unfinished> {
        if self.owner.role() != Role::Owner {
            return Err(Unfinished::Standby);
        }
        let wanted = self.owner.read(|state| state.config().subscriptions.clone()).await;
        let wanted = wanted.map_err(|error| match error {
            CommandError::Stopping => Unfinished::Stopping,
            CommandError::Rejected(_)
            | CommandError::NotOwner
            | CommandError::ClockSkewed
            | CommandError::Busy
            | CommandError::Forgotten(_)
            | CommandError::View(_)
            | CommandError::Log(_)
            | CommandError::Encode(_) => Unfinished::Later,
        })?;
        match self.fit(&wanted).await {
            Ok(()) => {
                self.made.send_replace(wanted);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(
                    error,
                    "consumers of alert subscriptions are not as they should be; trying again"
                );
                Err(Unfinished::Later)
            }
        }
    }

    async fn fit(&self, wanted: &Subscriptions) -> Result<(), String> {
        let stream = self.stream.stream();
        let found: Vec<Info> = stream.consumers().try_collect().await.map_err(|error| error.to_string())?;
        let mut there = BTreeSet::new();
        for info in found {
            let Some(mark) = info.config.metadata.get(MARK) else { continue };
            let name = DisplayName::parse(&info.name).ok();
            let of = name.as_ref().and_then(|name| wanted.get(name));
            if of.is_some_and(|of| mark_of(of) == *mark) {
                there.extend(name);
                continue;
            }
            stream.delete_consumer(&info.name).await.map_err(|error| error.to_string())?;
            tracing::info!(consumer = info.name, "removed the consumer of an alert subscription");
        }
        let mut failed = Ok(());
        for (name, subscription) in wanted.iter().filter(|(name, _)| !there.contains(*name)) {
            let config = consumer(name, subscription)?;
            let made: Result<Consumer<pull::Config>, _> = stream.create_consumer_strict(config).await;
            match made {
                Ok(_) => tracing::info!(consumer = %name, "made the consumer of an alert subscription"),
                // Somebody else's of that name keeps only this one from being made.
                Err(error) => failed = Err(format!("{name}: {error}")),
            }
        }
        failed
    }
}

fn mark_of(subscription: &Subscription) -> String {
    subscription.created_at.to_string()
}

/// What a subscription's consumer is like: it keeps its place for ever, and delivers again what is not acknowledged.
fn consumer(name: &DisplayName, subscription: &Subscription) -> Result<pull::Config, String> {
    let from = subscription.created_at.plus_nanos(SKEW_NANOS.saturating_neg()).to_string();
    let start_time = async_nats::datetime::parse_rfc3339(&from).map_err(|error| error.to_string())?;
    let filter_subjects = match &subscription.organizations {
        None => Vec::new(),
        // Without any filter it would get everything.
        Some(none) if none.is_empty() => vec!["tollbook.alerts._nobody.>".to_owned()],
        Some(some) => some.iter().map(|organization| format!("tollbook.alerts.{organization}.>")).collect(),
    };
    Ok(pull::Config {
        durable_name: Some(name.as_str().to_owned()),
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        filter_subjects,
        metadata: HashMap::from([(MARK.to_owned(), mark_of(subscription))]),
        ..Default::default()
    })
}
