//! An engine in this process with its NATS doors, and usage for it.

use std::path::Path;

use async_nats::Client;
use async_nats::jetstream::{self, Context};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tollbook_engine::admission::AdmissionSettings;
use tollbook_engine::clock::Clock;
use tollbook_engine::config::SpoolConfig;
use tollbook_engine::log::jetstream::{Credentials, JetStreamOptions};
use tollbook_engine::nats::Door;
use tollbook_engine::nats::rpc::RpcDoor;
use tollbook_engine::nats::spool::Spool;
use tollbook_engine::node::{LogSettings, Node, Running, Settings};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::codec;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::entry::{Actor, Body};
use tollbook_schemas::id::{DisplayName, MemberId, ModelName, NodeName, OrgId, ProjectId};
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::price::{ModelPrice, PriceList};
use tollbook_schemas::time::{Timestamp, Zone};
use tollbook_schemas::usage::{Unreadable, Usage};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;

use crate::DEADLINE;

pub(crate) const USAGE: &str = "tollbook.usage.org_a";
pub(crate) const SPOOL: &str = "tollbook.spool.org_a";

/// A dollar for each input token, so that totals are counts.
const PRICE: &str = "1000000";

/// What an organization's usage came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) booked: u64,
    pub(crate) duplicates: u64,
    pub(crate) quarantined: u64,
    /// Whole dollars.
    pub(crate) spent: u64,
}

impl Totals {
    pub(crate) const fn booked(booked: u64) -> Self {
        Self { booked, duplicates: 0, quarantined: 0, spent: booked }
    }

    pub(crate) const fn records(self) -> u64 {
        self.booked + self.duplicates + self.quarantined
    }
}

/// A running engine.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) node: Node,
    running: Running,
    stop: watch::Sender<bool>,
    doors: JoinSet<()>,
}

impl Engine {
    /// An engine with the organization `org_a`, without a spool.
    pub(crate) async fn start(server: &NatsServer, data: &TempDir) -> Self {
        Self::start_with(options(server), data.path(), None).await
    }

    /// The same with a spool, in the log's own account.
    pub(crate) async fn start_with_spool(server: &NatsServer, data: &TempDir) -> Self {
        Self::start_with(options(server), data.path(), Some(spool_config(Credentials::None))).await
    }

    pub(crate) async fn start_with(
        options: JetStreamOptions,
        data: &Path,
        spool: Option<SpoolConfig>,
    ) -> Self {
        let settings = Settings {
            data: data.to_owned(),
            log: LogSettings::JetStream(Box::new(options.clone())),
            partitions: None,
            currency: None,
            node: NodeName::parse("test").unwrap(),
            admission: AdmissionSettings::default(),
            delivery: None,
        };
        let (node, running) = Node::start(settings, Clock::System).await.unwrap();
        node.owners().next().unwrap().wait_owner().await.unwrap();
        seed(&node).await;
        let (stop, stopped) = watch::channel(false);
        let mut doors = JoinSet::new();
        let door = Door::connect(node.clone(), options.clone()).await.unwrap();
        doors.spawn(door.run(stopped.clone()));
        let rpc = RpcDoor::connect(node.clone(), options.clone()).await.unwrap();
        doors.spawn(rpc.run(stopped.clone()));
        if let Some(config) = spool {
            let spool = Spool::connect(options, config).await.unwrap();
            doors.spawn(spool.run(node.clone(), stopped));
        }
        Self { node, running, stop, doors }
    }

    /// Doors first, as the server does it.
    pub(crate) async fn stop(mut self) {
        self.close_doors().await;
        self.running.stop().await.unwrap();
    }

    pub(crate) async fn close_doors(&mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.doors.join_next().await {
            ended.unwrap();
        }
    }

    /// What has come of everything that stands in the log now.
    pub(crate) async fn totals(&self) -> Totals {
        let last = self.last().await;
        let owner = self.node.owners().next().unwrap();
        owner.wait_applied(last).await.unwrap();
        let read = |state: &tollbook_projections::state::State| {
            assert_eq!(state.head().skipped, 0, "something that is no entry stands in the log");
            let organization = state.organization(&org()).unwrap();
            (organization.counts, organization.purse.spent())
        };
        let (counts, spent) = owner.read(read).await.unwrap();
        let dollar = Amount::whole(1).units();
        assert_eq!(spent.units() % dollar, 0);
        Totals {
            booked: counts.booked,
            duplicates: counts.duplicates,
            quarantined: counts.quarantined,
            spent: u64::try_from(spent.units() / dollar).unwrap(),
        }
    }

    /// Waits until the totals are these.
    pub(crate) async fn comes_to(&self, expected: Totals) {
        eventually(DEADLINE, &format!("usage comes to {expected:?}"), || async move {
            let totals = self.totals().await;
            assert!(totals.records() <= expected.records(), "{totals:?} is more than {expected:?}");
            (totals == expected).then_some(())
        })
        .await;
    }

    /// The last position of the log.
    pub(crate) async fn last(&self) -> Position {
        self.node.log().last(PartitionId(0)).await.unwrap()
    }

    /// All usage and all unreadable bytes in the log, in order.
    pub(crate) async fn observations(&self) -> (Vec<Usage>, Vec<Unreadable>) {
        let (mut usages, mut refused) = (Vec::new(), Vec::new());
        for position in 1..=self.last().await.0 {
            let stored = self.node.log().get(PartitionId(0), Position(position)).await.unwrap().unwrap();
            match codec::decode_entry(&stored.payload).unwrap().body {
                Body::Usage(batch) => usages.extend(batch.unpack()),
                Body::Unreadable(bytes) => refused.extend(bytes),
                Body::Decision(_) => {}
            }
        }
        (usages, refused)
    }
}

pub(crate) fn spool_config(credentials: Credentials) -> SpoolConfig {
    SpoolConfig { credentials, max_bytes: 256 * 1024 * 1024 }
}

pub(crate) fn options(server: &NatsServer) -> JetStreamOptions {
    let mut options = JetStreamOptions::new(vec![server.url()]);
    options.monitor_urls = vec![server.monitor_url()];
    options
}

pub(crate) fn org() -> OrgId {
    OrgId::parse("org_a").unwrap()
}

async fn seed(node: &Node) {
    if node.owner_of(&org()).unwrap().read(|state| state.organization(&org()).is_some()).await.unwrap() {
        return;
    }
    let sealed = node.contacts().seal(&org(), 0, "somebody").await.unwrap();
    let name = DisplayName::parse("A").unwrap();
    let price = ModelPrice {
        input: PRICE.parse().unwrap(),
        cached_input: PRICE.parse().unwrap(),
        output: "0".parse().unwrap(),
        meters: Default::default(),
        max_output_tokens: None,
    };
    let list = PriceList {
        effective_from: Timestamp::EPOCH,
        models: [(ModelName::parse("m").unwrap(), price)].into(),
    };
    let register = OrganizationCommand::Register {
        name: name.clone(),
        email: sealed.clone(),
        creator: MemberId::from_bits(1),
        creator_name: sealed.clone(),
        creator_email: sealed,
        zone: Zone::utc(),
    };
    let project = OrganizationCommand::CreateProject { project: ProjectId::parse("proj_a").unwrap(), name };
    for command in [
        Command::Config(ConfigCommand::PublishPrices { currency: "USD".to_owned(), list: list.into() }),
        Command::Organization(org(), register),
        Command::Organization(org(), project),
    ] {
        node.decide(command, Actor::Operator { token: None }, None).await.unwrap();
    }
}

/// A dollar's worth of usage of `org_a`.
pub(crate) fn event(id: impl std::fmt::Display) -> Value {
    json!({
        "specversion": "1.0", "id": id.to_string(), "source": "tests", "type": "tollbook.usage.v1",
        "subject": "org_a",
        "data": { "project": "proj_a", "model": "m", "input_tokens": 1, "cached_input_tokens": 0, "output_tokens": 1 },
    })
}

/// A publisher's client, and its JetStream.
pub(crate) async fn publisher(server: &NatsServer) -> (Client, Context) {
    let client = async_nats::ConnectOptions::new()
        .ping_interval(std::time::Duration::from_secs(2))
        .request_timeout(Some(DEADLINE))
        .connect(server.url())
        .await
        .unwrap();
    let context = jetstream::ContextBuilder::new().timeout(DEADLINE).build(client.clone());
    (client, context)
}

/// Publishes and waits for the acknowledgement.
pub(crate) async fn publish(
    context: &Context,
    subject: &str,
    payload: &Value,
) -> jetstream::publish::PublishAck {
    let subject = subject.to_owned();
    context.publish(subject, payload.to_string().into()).await.unwrap().await.unwrap()
}
