//! The ledger that is started: decided, submitted and viewed by a node, with a clock that is moved on.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tollbook_projections::organization::Organization;
use tollbook_projections::spend::OpenCells;
use tollbook_projections::state::State;
use tollbook_schemas::batch::BatchBuilder;
use tollbook_schemas::codec;
use tollbook_schemas::entry::{Actor, Body};
use tollbook_schemas::id::{NodeName, OrgId};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Day;
use tollbook_schemas::usage::Usage;

use super::super::report::{self, grouped};
use super::super::traffic::{Shape, Traffic};
use super::super::{BenchError, whole};
use super::{Measure, Start};
use crate::admission::AdmissionSettings;
use crate::clock::{self, Clock, Stopwatch};
use crate::log::embedded::Embedded;
use crate::log::{Append, EventLog, Topic};
use crate::node::{LogSettings, Node, Running, Settings};
use crate::owner::OwnerHandle;
use crate::writer::Writer;

const P0: PartitionId = PartitionId(0);
/// Commands and requests under way at once.
const IN_FLIGHT: usize = 512;
/// Usage records per request.
const PER_REQUEST: usize = 1_000;
/// One month on, in seconds.
const MONTH_SECONDS: i64 = 2_629_800;

/// A ledger on disk, and where its time stands.
pub(super) struct Ledger {
    directory: PathBuf,
    clock: Clock,
    traffic: Traffic,
}

/// Files of State's rows, each behind its length; and how many rows of history there are.
pub(super) struct Rows {
    /// The common row, then organizations.
    pub(super) all: PathBuf,
    /// Likewise, with organizations that have no project, key or consumption.
    pub(super) bare: PathBuf,
    /// Closed days.
    pub(super) history: u64,
    /// Decisions.
    pub(super) audit: u64,
    /// State's digest, as [`short`] has it.
    pub(super) digest: u64,
}

impl Ledger {
    /// Registers organizations, and has every key used once.
    pub(super) async fn make(directory: &Path, options: &Start) -> Result<Self, BenchError> {
        let past = MONTH_SECONDS.saturating_mul(i64::try_from(options.months).unwrap_or(0));
        let began = Clock::System.now().plus_seconds(past.saturating_neg());
        let (organizations, projects) = (options.organizations, options.projects);
        let shape = Shape { organizations, projects, keys: projects };
        let traffic = Traffic::shaped(shape, clock::new_id_bits(), began, false)?;
        let mut this = Self { directory: directory.to_path_buf(), clock: Clock::simulated(began), traffic };
        let watch = Stopwatch::start();
        let (node, running) = open(&this.data(), this.clock.clone()).await?;
        let commands = this.traffic.commands(&node.ledger().currency)?;
        let count = whole(commands.len());
        let decided = stream::iter(commands).map(|command| node.decide(command, Actor::Engine, None));
        let mut decided = decided.buffer_unordered(IN_FLIGHT);
        while let Some(done) = decided.next().await {
            done.map_err(BenchError::made)?;
        }
        drop(decided);
        this.make_keys()?;
        this.day(&node).await?;
        close(this.data(), node, running).await?;
        report::say(&format!("made with {} commands in {} s\n", grouped(count), watch.elapsed().as_secs()));
        Ok(this)
    }

    /// Where its node keeps it.
    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Lets months pass, with one day of usage each.
    pub(super) async fn live(&mut self, months: usize) -> Result<(), BenchError> {
        let (node, running) = open(&self.data(), self.clock.clone()).await?;
        for _ in 0..months {
            self.clock.advance_to(self.clock.now().plus_seconds(MONTH_SECONDS));
            self.day(&node).await?;
        }
        close(self.data(), node, running).await
    }

    /// Has a process of its own measure something at this ledger's time.
    pub(super) async fn child(&self, measure: Measure, at: &Path) -> Result<String, BenchError> {
        super::child(measure, at, self.clock.now()).await
    }

    /// Appends usage that no view knows of.
    pub(super) async fn crash(&mut self, records: usize) -> Result<(), BenchError> {
        let log = Embedded::open(&self.data().join("log"), 1).map_err(BenchError::made)?;
        let log: std::sync::Arc<dyn EventLog> = std::sync::Arc::new(log);
        let ledger =
            crate::ledger::find_or_create(&log, 1, None, &self.clock).await.map_err(BenchError::made)?;
        let writer = Writer::new(ledger.id, P0, clock::new_writer());
        let usage = self.traffic.of_every_key(self.clock.now(), records);
        for usage in usage.chunks(PER_REQUEST) {
            let mut batch = BatchBuilder::new(self.clock.now());
            usage.iter().for_each(|usage| {
                batch.push(usage);
            });
            let ticket = writer.begin().await;
            let entry = writer.entry(&ticket, self.clock.now(), Body::Usage(batch.finish()));
            let payload = Bytes::from(codec::encode_entry(&entry).map_err(BenchError::made)?);
            let append = Append { id: entry.id, topic: Topic::UsageMixed, payload, expected: None };
            log.append(append).await.map_err(BenchError::made)?;
        }
        Ok(())
    }

    /// Writes State's rows into files, as they are in the views.
    pub(super) async fn rows(&self) -> Result<Rows, BenchError> {
        let (node, running) = open(&self.data(), self.clock.clone()).await?;
        let owner = owner(&node).await?;
        let (all, bare) = (self.directory.join("rows"), self.directory.join("rows-bare"));
        let to = (all.clone(), bare.clone());
        let written = owner.read(move |state| {
            write_rows(&to.0, state, Organization::clone)?;
            write_rows(&to.1, state, stripped)?;
            let ids: Vec<OrgId> = state.organizations().map(|known| known.id.clone()).collect();
            Ok::<_, BenchError>((ids, short(state)?))
        });
        let (organizations, digest) = written.await.map_err(BenchError::made)??;
        let view = node.view(P0).ok_or(BenchError::Different)?.clone();
        let (mut history, mut audit) = (0u64, 0u64);
        for id in &organizations {
            let days = view.history(id, Day::default()).map_err(BenchError::made)?;
            history = history.saturating_add(whole(days.len()));
            let rows = view.audit(Some(id), None, usize::MAX).map_err(BenchError::made)?;
            audit = audit.saturating_add(whole(rows.len()));
        }
        drop(view);
        close(self.data(), node, running).await?;
        Ok(Rows { all, bare, history, audit, digest })
    }

    /// Every key is used once, the cycle ends, and the views have it.
    async fn day(&mut self, node: &Node) -> Result<(), BenchError> {
        let owner = owner(node).await?;
        let usage = self.traffic.of_every_key(self.clock.now(), usize::MAX);
        let requests: Vec<Vec<Usage>> = usage.chunks(PER_REQUEST).map(<[Usage]>::to_vec).collect();
        let mut answers = stream::iter(requests).map(|request| node.submit(request)).buffer_unordered(64);
        while let Some(answer) = answers.next().await {
            answer.map_err(BenchError::made)?;
        }
        let used = self.clock.now();
        let cycle = owner.read(|state| state.config().lag.cycle_seconds).await.map_err(BenchError::made)?;
        self.clock.advance_to(used.plus_seconds(i64::from(cycle).saturating_add(1)));
        let mut applied = node.log().last(P0).await.map_err(BenchError::made)?;
        loop {
            owner.wait_applied(applied).await.map_err(BenchError::made)?;
            let head = owner.read(|state| state.head().clone()).await.map_err(BenchError::made)?;
            if head.quarantined > 0 {
                return Err(BenchError::NotBooked(format!("{} in quarantine", head.quarantined)));
            }
            if head.closed_through > used {
                return owner.wait_viewed(head.position).await.map_err(BenchError::made);
            }
            applied = head.position.next();
        }
    }

    /// The keys of personal data that registering over HTTP leaves.
    fn make_keys(&mut self) -> Result<(), BenchError> {
        let side = self.data().join("log/side");
        let failed = |source| BenchError::Directory { path: side.clone(), source };
        for customer in self.traffic.customers() {
            // As the store does it, but for the two syncs of each.
            let key = [&[1], clock::random_bytes::<32>().as_slice()].concat();
            std::fs::write(side.join(customer.id.as_str()), key).map_err(failed)?;
        }
        Ok(())
    }
}

/// Opens it as `serve` does.
pub(super) async fn open(data: &Path, clock: Clock) -> Result<(Node, Running), BenchError> {
    let node = NodeName::parse("bench").map_err(BenchError::made)?;
    let settings = Settings {
        data: data.to_path_buf(),
        log: LogSettings::Embedded,
        partitions: None,
        currency: None,
        node,
        admission: AdmissionSettings::default(),
        delivery: None,
    };
    Node::start(settings, clock).await.map_err(BenchError::made)
}

/// The beginning of State's digest.
pub(super) fn short(state: &State) -> Result<u64, BenchError> {
    let digest = state.digest().map_err(BenchError::made)?;
    Ok(digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
}

/// Its only partition's, once it decides.
pub(super) async fn owner(node: &Node) -> Result<OwnerHandle, BenchError> {
    let owner = node.owner(P0).map_err(BenchError::made)?.clone();
    owner.wait_owner().await.map_err(BenchError::made)?;
    Ok(owner)
}

/// Closes it, and waits until another process may open it: threads hold its files a little longer than tasks run.
async fn close(data: PathBuf, node: Node, running: Running) -> Result<(), BenchError> {
    drop(node);
    running.stop().await.map_err(BenchError::made)?;
    let wait = move || {
        for file in ["log/LOCK", "views/state/db", "views/ids/lock"] {
            let path = data.join(file);
            let unlocked = std::fs::File::open(&path).and_then(|file| file.lock());
            unlocked.map_err(|source| BenchError::Directory { path, source })?;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(wait).await.map_err(BenchError::made)?
}

fn stripped(organization: &Organization) -> Organization {
    let mut bare = organization.clone();
    bare.projects.clear();
    bare.keys.clear();
    bare.open = OpenCells::default();
    bare
}

fn write_rows(
    path: &Path,
    state: &State,
    row: impl Fn(&Organization) -> Organization,
) -> Result<(), BenchError> {
    let failed = |source: io::Error| BenchError::Directory { path: path.to_path_buf(), source };
    let mut file = io::BufWriter::new(std::fs::File::create(path).map_err(failed)?);
    let mut write = |bytes: Vec<u8>| {
        file.write_all(&whole(bytes.len()).to_be_bytes())
            .and_then(|()| file.write_all(&bytes))
            .map_err(failed)
    };
    write(state.common_bytes().map_err(BenchError::made)?)?;
    for organization in state.organizations() {
        write(codec::encode_row(&row(organization)).map_err(BenchError::made)?)?;
    }
    file.flush().map_err(failed)
}
