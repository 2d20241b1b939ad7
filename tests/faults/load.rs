//! Ingest over HTTP from several clients that remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rust_decimal::Decimal;
use serde_json::Value;
use tokio::task::JoinSet;
use tollbook_tests::eventually;
use tollbook_tests::system::{Api, DEADLINE, Key, Totals};

/// A model that [`prepared`] gives a price.
const MODEL: &str = "kimi-k2.5";

/// Clients that send at once.
const CLIENTS: u64 = 4;

/// Events of one request.
const BATCH: u64 = 20;

/// An organization whose usage has a price.
pub(crate) async fn prepared(api: &Api) -> Key {
    api.prices(MODEL, "0.60", "0.10", "3.00").await;
    api.customer("Acme").await
}

/// What so many events of the load cost and count.
pub(crate) fn totals(requests: u64) -> Totals {
    let cost = Decimal::new(7, 5) * Decimal::from(requests);
    Totals { requests, input: 100 * requests, cached: 40 * requests, output: 10 * requests, cost }
}

/// What became of each batch: whether it was acknowledged.
pub(crate) type Sent = BTreeMap<(u64, u64), bool>;

/// Clients that send batch after batch until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    clients: JoinSet<Sent>,
}

impl Load {
    /// Starts the clients. With `patient`, each sends a batch again until it is acknowledged; else once. Every second
    /// client numbers its events.
    pub(crate) fn start(api: &Api, key: &Key, round: u64, patient: bool) -> Self {
        let (stop, acknowledged) = (Arc::default(), Arc::default());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let sender = Client {
                api: api.reconnected(),
                key: key.clone(),
                name: round * CLIENTS + client,
                patient,
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
            };
            clients.spawn(sender.run());
        }
        Self { stop, acknowledged, clients }
    }

    /// Waits until so many more batches are acknowledged.
    pub(crate) async fn more(&self, batches: u64) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        eventually(DEADLINE, "usage is acknowledged", || async {
            (self.acknowledged.load(Ordering::Relaxed) >= before + batches).then_some(())
        })
        .await;
    }

    /// Tells the clients to stop, and what they sent.
    pub(crate) async fn stop(mut self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Sent::new();
        while let Some(client) = self.clients.join_next().await {
            sent.extend(client.unwrap());
        }
        sent
    }
}

struct Client {
    api: Api,
    key: Key,
    name: u64,
    patient: bool,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Client {
    async fn run(self) -> Sent {
        let mut sent = Sent::new();
        for batch in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let events = events(&self.key, self.name, batch);
            let mut taken = self.attempt(&events).await;
            if self.patient {
                while !taken {
                    taken = eventually(DEADLINE, "the batch is taken", || async {
                        self.attempt(&events).await.then_some(true)
                    })
                    .await;
                }
            }
            sent.insert((self.name, batch), taken);
            if taken {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            } else {
                // The server is gone; what was never sent is nobody's.
                break;
            }
        }
        sent
    }

    async fn attempt(&self, events: &[Value]) -> bool {
        match self.api.try_send(self.api.batch(events)).await {
            Some(answer) if answer.status == 204 => true,
            Some(answer) => {
                assert_eq!(answer.status, 503, "{answer:?}");
                answer.refused(503);
                false
            }
            None => false,
        }
    }
}

/// The events of one batch, always the same.
fn events(key: &Key, client: u64, batch: u64) -> Vec<Value> {
    (batch * BATCH..(batch + 1) * BATCH)
        .map(|number| {
            let mut event = key.event(&format!("{client}-{number}"), MODEL);
            event["source"] = format!("client-{client}").into();
            if client % 2 == 1 {
                event["producerseq"] = (number + 1).to_string().into();
            }
            event
        })
        .collect()
}

/// Everything acknowledged is there and nothing that nobody sent; sent again, everything is there exactly once. How
/// many events that is.
pub(crate) async fn check(api: &Api, key: &Key, sent: &Sent) -> u64 {
    api.folded().await;
    let count = |only_acknowledged: bool| {
        let batches = sent.values().filter(|acknowledged| **acknowledged || !only_acknowledged).count();
        u64::try_from(batches).unwrap() * BATCH
    };
    let found = api.spend(&key.organization).await;
    assert_eq!(found, totals(found.requests), "every call is counted whole");
    let (least, most) = (count(true), count(false));
    assert!((least..=most).contains(&found.requests), "{} of {least} to {most} are there", found.requests);
    // Not only as many, but these: were one missing and another there twice, sending all again would show it.
    for (client, batch) in sent.keys() {
        api.events(&events(key, *client, *batch)).await;
    }
    api.folded().await;
    assert_eq!(api.spend(&key.organization).await, totals(most));
    assert!(api.quarantine().await.is_empty());
    most
}
