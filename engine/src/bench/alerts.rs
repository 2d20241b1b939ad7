//! Whether alerts hold up usage: every organization crosses its threshold within a second, beside the same load with
//! nobody crossing.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, ConfigCommand, OrganizationCommand};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{NodeName, OrgId};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::usage::Usage;

use super::report::{self, Latencies, Rates, grouped, percent};
use super::scratch::Scratch;
use super::traffic::{Shape, Traffic};
use super::{BenchError, whole};
use crate::admission::AdmissionSettings;
use crate::alerts::feed::AlertFeed;
use crate::clock::{self, Clock, Stopwatch};
use crate::delivery::settings::DeliverySettings;
use crate::log::jetstream::JetStreamOptions;
use crate::node::{LogSettings, Node, Running, Settings};
use crate::owner::{CommandError, OwnerHandle};

const P0: PartitionId = PartitionId(0);
/// Calls of an organization in one request.
const CALLS: usize = 10;
/// Decisions under way at once while a round is prepared.
const DECIDING: usize = 512;
/// How long alerts may take to leave: what takes longer has failed.
const LEAVE_MAX: Duration = Duration::from_secs(120);

/// Submits usage by which every organization crosses its threshold, in process, until it is durable and applied, and
/// the same with nobody crossing, in turn.
#[derive(Clone, Debug, Args)]
pub struct Alerts {
    /// Where to make a ledger for the run; temporary files otherwise. Removed afterwards.
    #[arg(long)]
    data: Option<std::path::PathBuf>,
    /// Servers of a JetStream to use instead of an embedded log. Its ledger stays, with one more set of benchmark
    /// organizations: not for production.
    #[arg(long, value_delimiter = ',')]
    nats: Vec<String>,
    /// Their monitoring addresses, to verify that they sync before they acknowledge.
    #[arg(long, value_delimiter = ',')]
    monitor: Vec<String>,
    /// Organizations, each of which crosses.
    #[arg(long, default_value_t = 10_000)]
    organizations: usize,
    /// How long usage comes at a steady pace, in seconds. All cross within the first.
    #[arg(long, default_value_t = 4)]
    seconds: usize,
    /// Requests under way at once where usage comes as fast as it is taken.
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// How usage comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Ten calls of each organization in a second.
    Steady,
    /// As fast as it is taken, as much of it.
    Full,
}

/// What a round gave.
struct Round {
    /// When each request was sent, since the begin of the round, and how long it took.
    waits: Vec<(Duration, Duration)>,
    /// Until everything was durable and applied.
    took: Duration,
    /// Until the last alert was in the feed.
    left: Option<Duration>,
}

struct Bench {
    node: Node,
    owner: OwnerHandle,
    traffic: Traffic,
    organizations: Vec<OrgId>,
    seconds: usize,
    in_flight: usize,
}

pub(super) async fn run(options: &Alerts) -> Result<(), BenchError> {
    let directory = Scratch::new(options.data.as_deref())?;
    let (node, running) = start(options, &directory).await?;
    let mut bench = Bench::new(options, node).await?;
    let (mut quiet, mut crossing) = (Latencies::default(), Latencies::default());
    let (mut quiet_rate, mut crossing_rate) = (Rates::default(), Rates::default());
    let (mut paced, mut at_full) = (Rates::default(), Rates::default());
    let (mut left_paced, mut left_full) = (Latencies::default(), Latencies::default());
    let alerts = whole(bench.organizations.len());
    for _ in 0..options.rounds.max(1) {
        let calm = bench.round(Pace::Steady, false).await?;
        let busy = bench.round(Pace::Steady, true).await?;
        let left = busy.left.unwrap_or_default();
        paced.add(alerts, left);
        left_paced.extend([left]);
        // While they cross and leave, and the same part of the quiet round.
        let part = |round: Round| {
            let during = round.waits.into_iter().filter(move |(sent, _)| *sent <= left);
            during.map(|(_, wait)| wait).collect::<Vec<_>>()
        };
        quiet.extend(part(calm));
        crossing.extend(part(busy));
        let calm = bench.round(Pace::Full, false).await?;
        let busy = bench.round(Pace::Full, true).await?;
        quiet_rate.add(whole(calm.waits.len()), calm.took);
        crossing_rate.add(whole(busy.waits.len()), busy.took);
        let left = busy.left.unwrap_or_default();
        at_full.add(alerts, left);
        left_full.extend([left]);
    }
    let log = if options.nats.is_empty() { "embedded log" } else { "JetStream" };
    let records = grouped(whole(CALLS).saturating_mul(alerts));
    report::say(&format!("{} organizations cross their thresholds, {log}\n", grouped(alerts)));
    quiet.say(&format!("{records} records/s, nobody crossing: a request"));
    crossing.say(&format!(
        "{records} records/s, all crossing in the first second, until their alerts have left: a request"
    ));
    for (name, thousandths) in [("p50", 500), ("p99", 990)] {
        let (with, without) = (crossing.micros(thousandths), quiet.micros(thousandths));
        report::say(&format!("{name}: {} of that with nobody crossing", percent(with, without)));
    }
    left_paced.say("Until the last alert was in the feed, which began with the first record of that second");
    report::say("");
    report::print(
        &format!("As fast as usage is taken, requests of {}", grouped(whole(bench.per_request()))),
        &["requests/s", "min", "median", "max", "of those with nobody crossing"],
        &[
            quiet_rate.row("nobody crossing", quiet_rate.median()),
            crossing_rate.row("all crossing", quiet_rate.median()),
        ],
    );
    left_full.say("Until the last alert was in the feed");
    report::say(&format!(
        "alerts/s, from the first record to the last alert: {} at the steady pace, {} as fast as usage is taken\n",
        grouped(paced.median()),
        grouped(at_full.median()),
    ));
    bench.check().await?;
    drop(bench);
    running.stop().await.map_err(BenchError::made)
}

async fn start(options: &Alerts, directory: &Scratch) -> Result<(Node, Running), BenchError> {
    let log = if options.nats.is_empty() {
        LogSettings::Embedded
    } else {
        let mut jetstream = JetStreamOptions::new(options.nats.clone());
        jetstream.monitor_urls.clone_from(&options.monitor);
        LogSettings::JetStream(Box::new(jetstream))
    };
    let settings = Settings {
        data: directory.path().join("data"),
        log,
        partitions: None,
        currency: None,
        node: NodeName::parse("bench").map_err(BenchError::made)?,
        admission: AdmissionSettings::default(),
        // As every server has it: what is to be delivered is written down, though there is no mail server.
        delivery: Some(DeliverySettings::default()),
    };
    Node::start(settings, Clock::System).await.map_err(BenchError::made)
}

impl Bench {
    async fn new(options: &Alerts, node: Node) -> Result<Self, BenchError> {
        let owner = node.owner(P0).map_err(BenchError::made)?.clone();
        owner.wait_owner().await.map_err(BenchError::made)?;
        let shape = Shape { organizations: options.organizations.max(1), projects: 1, keys: 1 };
        let mut traffic = Traffic::shaped(shape, clock::new_id_bits(), node.clock().now(), false)?;
        let mut commands = traffic.commands(&node.ledger().currency)?;
        // Settled at once: a cycle's close would have all of them cross in one entry.
        let lag = LagModel { cycle_seconds: 0, delay_seconds: 0 };
        commands.push(Command::Config(ConfigCommand::SetLagModel(lag)));
        let organizations = traffic.customers().iter().map(|customer| customer.id.clone()).collect();
        let (seconds, in_flight) = (options.seconds.max(1), options.in_flight.max(1));
        let bench = Self { node, owner, traffic, organizations, seconds, in_flight };
        bench.decide(commands).await?;
        Ok(bench)
    }

    async fn decide(&self, commands: Vec<Command>) -> Result<(), BenchError> {
        let mut decided = FuturesUnordered::new();
        let check = |done: Result<_, CommandError>| done.map(drop).map_err(BenchError::made);
        for command in commands {
            if decided.len() >= DECIDING
                && let Some(done) = decided.next().await
            {
                check(done)?;
            }
            decided.push(self.node.decide(command, Actor::Engine, None));
        }
        while let Some(done) = decided.next().await {
            check(done)?;
        }
        Ok(())
    }

    /// Each organization has its threshold where it is now, so that whatever it uses crosses it, or far below.
    async fn thresholds(&self, crossing: bool) -> Result<(), BenchError> {
        let ids = self.organizations.clone();
        let read = self.owner.read(move |state| {
            let available = |id: &OrgId| Some(state.organization(id)?.purse.available());
            ids.into_iter()
                .map(|id| available(&id).map(|available| (id, available)))
                .collect::<Option<Vec<_>>>()
        });
        let all = read.await.map_err(BenchError::made)?;
        let all = all.ok_or_else(|| BenchError::Made("an organization is missing".to_owned()))?;
        let threshold = |available| if crossing { available } else { Amount::whole(1) };
        let command = |(id, available)| {
            Command::Organization(id, OrganizationCommand::SetBalanceAlert(Some(threshold(available))))
        };
        self.decide(all.into_iter().map(command).collect()).await
    }

    /// Organizations whose calls are in one request, so that a hundred requests have those of all of them.
    fn at_once(&self) -> usize {
        self.organizations.len().div_ceil(100)
    }

    fn per_request(&self) -> usize {
        self.at_once().saturating_mul(CALLS)
    }

    /// Requests of a second after the other, each with some calls of some organizations.
    fn requests(&mut self) -> Vec<Vec<Usage>> {
        let at_once = self.at_once();
        let mut requests = Vec::new();
        for _ in 0..self.seconds {
            let at = self.node.clock().now();
            let calls: Vec<Vec<Usage>> =
                (0..CALLS).map(|_| self.traffic.of_every_key(at, usize::MAX)).collect();
            let of = |from: usize| {
                let part =
                    |calls: &Vec<Usage>| calls.iter().skip(from).take(at_once).cloned().collect::<Vec<_>>();
                calls.iter().flat_map(part).collect::<Vec<_>>()
            };
            requests.extend((0..self.organizations.len()).step_by(at_once).map(of));
        }
        requests
    }

    async fn round(&mut self, pace: Pace, crossing: bool) -> Result<Round, BenchError> {
        self.thresholds(crossing).await?;
        let requests = self.requests();
        let feed = self.node.alert_feed().clone();
        let before = feed.last().await.map_err(BenchError::made)?;
        let expected = before.saturating_add(whole(self.organizations.len()));
        let watch = Stopwatch::start();
        let leaving = crossing.then(|| tokio::spawn(left(feed.clone(), expected, watch)));
        let (last, waits) = self.submit(requests, pace, watch).await?;
        self.owner.wait_applied(last).await.map_err(BenchError::made)?;
        let took = watch.elapsed();
        let left = match leaving {
            Some(leaving) => Some(leaving.await.map_err(BenchError::made)??),
            None => None,
        };
        let raised = feed.last().await.map_err(BenchError::made)?;
        if raised != if crossing { expected } else { before } {
            return Err(BenchError::NotBooked(format!("{raised} alerts were raised, not {expected}")));
        }
        Ok(Round { waits, took, left })
    }

    /// Submits everything; the last position, and when each request was sent and how long it took.
    async fn submit(
        &self,
        requests: Vec<Vec<Usage>>,
        pace: Pace,
        watch: Stopwatch,
    ) -> Result<(Position, Vec<(Duration, Duration)>), BenchError> {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        let (mut last, mut waits, mut under_way) = (Position::ZERO, Vec::new(), FuturesUnordered::new());
        let mut note = |done: Result<(Position, Duration, Duration), BenchError>| {
            let (position, sent, wait) = done?;
            last = last.max(position);
            waits.push((sent, wait));
            Ok::<_, BenchError>(())
        };
        let mut requests = requests.into_iter();
        loop {
            let may_send = match pace {
                Pace::Steady => true,
                Pace::Full => under_way.len() < self.in_flight,
            };
            if may_send && requests.len() > 0 {
                if pace == Pace::Steady {
                    // What comes back meanwhile is noted at its time.
                    while let Some(done) = tokio::select! {
                        biased;
                        Some(done) = under_way.next() => Some(done),
                        _ = ticks.tick() => None,
                    } {
                        note(done)?;
                    }
                }
                let Some(request) = requests.next() else { continue };
                let node = self.node.clone();
                under_way.push(async move {
                    let sent = watch.elapsed();
                    let at = node.submit(request).await.map_err(BenchError::made)?;
                    Ok((at.position, sent, watch.elapsed().saturating_sub(sent)))
                });
                continue;
            }
            match under_way.next().await {
                Some(done) => note(done)?,
                None if requests.len() == 0 => return Ok((last, waits)),
                None => {}
            }
        }
    }

    /// Everything must have been booked.
    async fn check(&self) -> Result<(), BenchError> {
        let quarantined =
            self.owner.read(|state| state.head().quarantined).await.map_err(BenchError::made)?;
        if quarantined > 0 {
            return Err(BenchError::NotBooked(format!("{quarantined} records are in quarantine")));
        }
        Ok(())
    }
}

/// When the feed has an alert.
async fn left(feed: Arc<dyn AlertFeed>, sequence: u64, watch: Stopwatch) -> Result<Duration, BenchError> {
    let waiting = feed.wait(sequence.saturating_sub(1));
    let waited = tokio::time::timeout(LEAVE_MAX, waiting).await;
    waited
        .map_err(|_| BenchError::NotBooked("alerts did not leave".to_owned()))?
        .map_err(BenchError::made)?;
    Ok(watch.elapsed())
}
