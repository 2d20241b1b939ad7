//! How fast requests are decided in process, alone and while usage is ingested.

use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{LeaseId, ModelName, NodeName, OrgId};
use tollbook_schemas::policy::{Change, Meters, QuantityOverride, RateOverride};
use tollbook_schemas::position::PartitionId;

use super::report::{self, CpuWatch, Latencies, Rates, grouped};
use super::scratch::Scratch;
use super::traffic::{PRICES, Random, Shape, Traffic, secret_of};
use super::{BenchError, whole};
use crate::admission::refusal::{Code, Refusal};
use crate::admission::{AdmissionSettings, Admissions, Ask};
use crate::clock::{self, Clock, Stopwatch};
use crate::node::{LogSettings, Node, Running, Settings};

/// Leases open at once: then the oldest is settled.
const OPEN: usize = 1_000;
/// Decisions a second beside ingest, and usage records a second.
const STEADY_DECISIONS: u64 = 10_000;
const STEADY_RECORDS: u64 = 100_000;
/// Decisions at a steady rate come so many at once, so often.
const STEADY_AT_ONCE: u64 = 10;
const STEADY_EVERY: Duration = Duration::from_millis(1);
/// Leases that one organization has open while its requests are refused, and how long they live: one that is over before
/// its tokens leave the window is looked at for the wait.
const REFUSED_OPEN: usize = 10_000;
const REFUSED_LEASE_SECONDS: [i64; 2] = [60, 50];
/// Records per request of the steady load.
const PER_REQUEST: usize = 1_000;

/// Decides requests in process: a key is looked up, everything is checked, a lease is taken; later it is settled.
#[derive(Clone, Debug, Args)]
pub struct Admission {
    /// Organizations, each with a key.
    #[arg(long, default_value_t = 10_000)]
    organizations: usize,
    /// Decisions per run.
    #[arg(long, default_value_t = 1_000_000)]
    decisions: usize,
    /// How long decisions are measured beside ingest, and how long without, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

pub(super) async fn run(options: &Admission) -> Result<(), BenchError> {
    let directory = Scratch::new(None)?;
    let (node, running, mut traffic) = start(options, &directory).await?;
    let gate = Gate::new(&node, &mut traffic)?;
    let (mut admits, mut settles) = (Rates::default(), Rates::default());
    let mut waits = Latencies::default();
    for _ in 0..options.runs.max(1) {
        gate.rates(options.decisions, &mut admits, &mut settles)?;
        waits.extend(gate.waits(options.decisions / 10)?);
    }
    report::print(
        &format!("Decisions in process, one thread, {} organizations", grouped(whole(options.organizations))),
        &["a second", "min", "median", "max", "of the first"],
        &[admits.row("admitted", admits.median()), settles.row("ended and released", admits.median())],
    );
    waits.say_nanos("From asking to the decision");
    let (mut quiet, mut busy) = (Latencies::default(), Latencies::default());
    let mut records = 0;
    for _ in 0..options.runs.max(1) {
        quiet.extend(gate.steady(options.seconds).await?);
        let (node, load) = (node.clone(), traffic.clone());
        let seconds = options.seconds;
        let ingest = tokio::spawn(async move { ingest(&node, load, seconds).await });
        busy.extend(gate.steady(options.seconds).await?);
        let (sent, after) = ingest.await.map_err(BenchError::made)??;
        (records, traffic) = (sent.saturating_add(records), after);
    }
    quiet.say_nanos(&format!("At {} decisions/s", grouped(STEADY_DECISIONS)));
    busy.say_nanos(&format!(
        "The same beside {} records/s ingested",
        grouped(records.checked_div(options.seconds.saturating_mul(whole(options.runs.max(1)))).unwrap_or(0))
    ));
    for lease_seconds in REFUSED_LEASE_SECONDS {
        let refused = gate.refusals(&mut traffic, lease_seconds).await?;
        refused.say_nanos(&format!(
            "Refused for its tokens of a minute, {} leases of {lease_seconds} s open",
            grouped(whole(REFUSED_OPEN))
        ));
    }
    running.stop().await.map_err(BenchError::made)
}

async fn start(options: &Admission, directory: &Scratch) -> Result<(Node, Running, Traffic), BenchError> {
    let settings = Settings {
        data: directory.path().join("data"),
        log: LogSettings::Embedded,
        partitions: None,
        currency: None,
        node: NodeName::parse("bench").map_err(BenchError::made)?,
        admission: AdmissionSettings::default(),
        delivery: None,
    };
    let (node, running) = Node::start(settings, Clock::System).await.map_err(BenchError::made)?;
    node.owner(PartitionId(0)).map_err(BenchError::made)?.wait_owner().await.map_err(BenchError::made)?;
    let shape = Shape { organizations: options.organizations.max(1), projects: 1, keys: 1 };
    let mut traffic = Traffic::shaped(shape, clock::new_id_bits(), node.clock().now(), false)?;
    let mut commands = traffic.commands(&node.ledger().currency)?;
    // Every limit is there and checked, and none is reached.
    let much = Change::Set(1_000_000_000);
    let rates = RateOverride {
        concurrency: much,
        rpm: much,
        tpm: Change::Set(1_000_000_000_000),
        tpd: Change::Set(1_000_000_000_000_000),
    };
    for customer in traffic.customers() {
        let quantities = QuantityOverride { projects: Change::Keep, api_keys: Change::Keep };
        let limits = OrganizationCommand::OverrideLimits { quantities, rates };
        commands.push(Command::Organization(customer.id.clone(), limits));
    }
    let mut decided: FuturesUnordered<_> = FuturesUnordered::new();
    for command in commands {
        if decided.len() >= 512
            && let Some(done) = decided.next().await
        {
            let done: Result<_, crate::owner::CommandError> = done;
            done.map_err(BenchError::made)?;
        }
        decided.push(node.decide(command, Actor::Engine, None));
    }
    while let Some(done) = decided.next().await {
        done.map_err(BenchError::made)?;
    }
    drop(decided);
    // Admission waits until State is known to have everything.
    let gate = Gate::new(&node, &mut traffic)?;
    while gate.one(0).is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok((node, running, traffic))
}

/// Requests that are asked about.
struct Gate {
    node: Node,
    secrets: Vec<String>,
    models: Vec<ModelName>,
    meters: Meters,
}

impl Gate {
    fn new(node: &Node, traffic: &mut Traffic) -> Result<Self, BenchError> {
        let keys = traffic.customers().iter().flat_map(|customer| &customer.keys);
        let secrets = keys.map(secret_of).collect();
        let models = PRICES.iter().map(|(model, ..)| ModelName::parse(model).map_err(BenchError::made));
        let models = models.collect::<Result<_, _>>()?;
        Ok(Self { node: node.clone(), secrets, models, meters: Meters::default() })
    }

    fn admissions(&self) -> &Admissions {
        self.node.admissions()
    }

    /// The key of a request, and the number that its model goes by.
    fn request(&self, random: u64) -> Option<(String, u64)> {
        Some((self.secrets.get(place(self.secrets.len(), random))?.clone(), random))
    }

    fn one(&self, random: u64) -> Result<LeaseId, BenchError> {
        let secret = self.secrets.get(place(self.secrets.len(), random));
        self.ask(secret.map_or("", String::as_str), random)
    }

    fn ask(&self, secret: &str, random: u64) -> Result<LeaseId, BenchError> {
        self.ask_for(secret, random, None)?.map_err(|refusal| BenchError::Made(refusal.message()))
    }

    fn ask_for(
        &self,
        secret: &str,
        random: u64,
        lease_seconds: Option<i64>,
    ) -> Result<Result<LeaseId, Box<Refusal>>, BenchError> {
        let Some(model) = self.models.get(place(self.models.len(), random >> 32)) else {
            return Err(BenchError::Made("there is no model".to_owned()));
        };
        let ask = Ask {
            api_key: secret,
            ip: None,
            model,
            input_tokens: 1_000,
            max_output_tokens: Some(500),
            meters: &self.meters,
            request_id: None,
            lease_seconds,
            organizations: None,
        };
        let admitted = self.admissions().admit(&ask);
        Ok(admitted.map(|admitted| admitted.lease))
    }

    /// Refusals of one organization whose tokens of a minute are used up by requests in progress.
    async fn refusals(&self, traffic: &mut Traffic, lease_seconds: i64) -> Result<Latencies, BenchError> {
        let first = traffic.customers().first().map(|customer| customer.id.clone());
        let (Some(customer), Some(secret)) = (first, self.secrets.first()) else {
            return Err(BenchError::Made("there is no organization".to_owned()));
        };
        let leases = (0..REFUSED_OPEN).map(|_| {
            let admitted = self.ask_for(secret, 0, Some(lease_seconds))?;
            admitted.map_err(|refusal| BenchError::Made(refusal.message()))
        });
        let leases: Vec<_> = leases.collect::<Result<_, _>>()?;
        let limit = |tpm| {
            let rates = RateOverride { tpm, ..RateOverride::default() };
            let quantities = QuantityOverride { projects: Change::Keep, api_keys: Change::Keep };
            let limits = OrganizationCommand::OverrideLimits { quantities, rates };
            self.node.decide(Command::Organization(customer.clone(), limits), Actor::Engine, None)
        };
        limit(Change::Set(2_000)).await.map_err(BenchError::made)?;
        let mut waits = Vec::with_capacity(REFUSED_OPEN);
        for _ in 0..REFUSED_OPEN {
            let watch = Stopwatch::start();
            let answer = self.ask_for(secret, 0, None)?;
            waits.push(watch.elapsed());
            match answer {
                Err(refusal) if refusal.code == Code::OrganizationTpm => {}
                Ok(_) | Err(_) => return Err(BenchError::Made("it was not refused".to_owned())),
            }
        }
        limit(Change::Set(1_000_000_000_000)).await.map_err(BenchError::made)?;
        for lease in &leases {
            self.admissions().release(lease, None).map_err(BenchError::made)?;
        }
        let mut refused = Latencies::default();
        refused.extend(waits);
        Ok(refused)
    }

    fn settle(&self, lease: &LeaseId, organizations: Option<&[OrgId]>) -> Result<(), BenchError> {
        // With its numbers the lease would stay open until its usage comes.
        self.admissions().settle(lease, None, organizations).map_err(BenchError::made)?;
        self.admissions().release(lease, organizations).map_err(BenchError::made)
    }

    /// Admits and settles by the thousand, so that looking at the watch does not count.
    fn rates(&self, decisions: usize, admits: &mut Rates, settles: &mut Rates) -> Result<(), BenchError> {
        let mut random = Random::new(clock::new_writer().0);
        let (mut admitting, mut settling) = (Duration::ZERO, Duration::ZERO);
        let rounds = decisions.div_ceil(OPEN);
        let mut leases = Vec::with_capacity(OPEN);
        for _ in 0..rounds {
            // A request's key comes with the request, so it is in the cache; the organization is not.
            let requests: Vec<(String, u64)> =
                (0..OPEN).filter_map(|_| self.request(random.next())).collect();
            let watch = CpuWatch::start();
            for (secret, bits) in &requests {
                leases.push(self.ask(secret, *bits)?);
            }
            admitting = admitting.saturating_add(watch.elapsed());
            let watch = CpuWatch::start();
            for lease in leases.drain(..) {
                self.settle(&lease, None)?;
            }
            settling = settling.saturating_add(watch.elapsed());
        }
        admits.add(whole(rounds.saturating_mul(OPEN)), admitting);
        settles.add(whole(rounds.saturating_mul(OPEN)), settling);
        Ok(())
    }

    /// One by one, each with its own time.
    fn waits(&self, decisions: usize) -> Result<Vec<Duration>, BenchError> {
        let mut random = Random::new(clock::new_writer().0);
        let mut waits = Vec::with_capacity(decisions);
        for _ in 0..decisions {
            let Some((secret, bits)) = self.request(random.next()) else { continue };
            let watch = Stopwatch::start();
            let lease = self.ask(&secret, bits)?;
            waits.push(watch.elapsed());
            self.settle(&lease, None)?;
        }
        Ok(waits)
    }

    /// At a steady rate, in a thread of its own.
    async fn steady(&self, seconds: u64) -> Result<Vec<Duration>, BenchError> {
        let gate = Self {
            node: self.node.clone(),
            secrets: self.secrets.clone(),
            models: self.models.clone(),
            meters: Meters::default(),
        };
        let run = move || -> Result<Vec<Duration>, BenchError> {
            let all = Stopwatch::start();
            let mut random = Random::new(clock::new_writer().0);
            let count = STEADY_DECISIONS.saturating_mul(seconds);
            let mut waits = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
            let mut due = Duration::ZERO;
            for _ in 0..count.checked_div(STEADY_AT_ONCE).unwrap_or(0) {
                // Sleeps, as a gateway does between requests: who spins is put off by the system when others have work.
                #[expect(clippy::disallowed_methods, reason = "a load generator keeps a pace")]
                std::thread::sleep(due.saturating_sub(all.elapsed()));
                due = due.saturating_add(STEADY_EVERY);
                for _ in 0..STEADY_AT_ONCE {
                    let Some((secret, bits)) = gate.request(random.next()) else { continue };
                    let watch = Stopwatch::start();
                    let lease = gate.ask(&secret, bits)?;
                    waits.push(watch.elapsed());
                    gate.settle(&lease, None)?;
                }
            }
            Ok(waits)
        };
        tokio::task::spawn_blocking(run).await.map_err(BenchError::made)?
    }
}

/// One of so many places, by random bits.
fn place(count: usize, bits: u64) -> usize {
    usize::try_from(bits.checked_rem(whole(count)).unwrap_or(0)).unwrap_or(0)
}

/// Submits usage at a steady rate; how much, and the traffic for going on.
async fn ingest(node: &Node, mut traffic: Traffic, seconds: u64) -> Result<(u64, Traffic), BenchError> {
    let every = PER_REQUEST.saturating_mul(1_000_000_000);
    let every = whole(every).checked_div(STEADY_RECORDS).unwrap_or(1);
    let mut ticks = tokio::time::interval(Duration::from_nanos(every));
    let watch = Stopwatch::start();
    let (mut sent, mut under_way) = (0, FuturesUnordered::new());
    while watch.elapsed() < Duration::from_secs(seconds) {
        ticks.tick().await;
        traffic.now(node.clock().now());
        let batch = traffic.batch(PER_REQUEST);
        sent = whole(batch.len()).saturating_add(sent);
        let node = node.clone();
        under_way.push(tokio::spawn(async move { node.submit(batch).await }));
    }
    while let Some(done) = under_way.next().await {
        done.map_err(BenchError::made)?.map_err(BenchError::made)?;
    }
    Ok((sent, traffic))
}
