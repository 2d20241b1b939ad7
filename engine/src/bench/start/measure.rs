//! What a process of its own measures, said as lines `name: number`.

use std::path::Path;
use std::time::Duration;

use tollbook_projections::ids::Ids;
use tollbook_projections::state::State;
use tollbook_projections::view::Views;
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::time::Timestamp;

use super::super::report;
use super::super::{BenchError, whole};
use super::make::{open, owner, short};
use super::say_time;
use crate::clock::{Clock, Stopwatch};
use crate::log::embedded::Embedded;
use crate::side::files::Files;

const P0: PartitionId = PartitionId(0);

/// A whole start, until the node decides.
pub(super) async fn start(data: &Path, now: Timestamp) -> Result<(), BenchError> {
    let watch = Stopwatch::start();
    let (node, running) = open(data, Clock::simulated(now)).await?;
    let started = watch.elapsed();
    let owner = owner(&node).await?;
    let ready = watch.elapsed();
    let (resident, cpu) = (report::resident_bytes(), report::process_cpu_ms());
    say_time("started", started);
    say_time("**ready**: tail folded, partition taken over", ready);
    say_time("processor time of all threads until then", Duration::from_millis(cpu));
    report::say(&format!("resident bytes: {resident}"));
    let head = owner.read(|state| state.head().clone()).await.map_err(BenchError::made)?;
    owner.wait_viewed(head.position).await.map_err(BenchError::made)?;
    running.stop().await.map_err(BenchError::made)
}

/// A start's parts that depend on how much there is.
pub(super) fn parts(data: &Path) -> Result<(), BenchError> {
    let log = data.join("log");
    let watch = Stopwatch::start();
    let opened = Embedded::open(&log, 1).map_err(BenchError::made)?;
    say_time("open the log", watch.elapsed());
    let watch = Stopwatch::start();
    let side = Files::open(&log.join("side")).map_err(BenchError::made)?;
    say_time("open the store of keys", watch.elapsed());
    let watch = Stopwatch::start();
    let views = Views::open(&data.join("views/state")).map_err(BenchError::made)?;
    say_time("open the views (sled)", watch.elapsed());
    let watch = Stopwatch::start();
    let ids = Ids::open(&data.join("views/ids")).map_err(BenchError::ids)?;
    let index = ids.partition(P0).map_err(BenchError::ids)?;
    say_time("open the index of ids", watch.elapsed());
    let view = views.partition(P0).map_err(BenchError::made)?;
    let watch = Stopwatch::start();
    let state = view.load().map_err(BenchError::made)?.ok_or(BenchError::Different)?;
    say_time("load State: read and decode rows", watch.elapsed());
    std::hint::black_box(&(state, index, side, opened));
    Ok(())
}

/// What State alone takes.
pub(super) fn memory(path: &Path) -> Result<(), BenchError> {
    let failed = |source| BenchError::Directory { path: path.to_path_buf(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    let mut rows = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, more)) = rest.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
        let (row, after) = more.split_at_checked(length).ok_or(BenchError::Different)?;
        rows.push(row);
        rest = after;
    }
    let (common, organizations) = rows.split_first().ok_or(BenchError::Different)?;
    let size = organizations.iter().fold(0u64, |size, row| size.saturating_add(whole(row.len())));
    report::say(&format!("row bytes: {size}"));
    let before = report::resident_bytes();
    let watch = Stopwatch::start();
    let state = State::restore(P0, common, organizations.iter().copied()).map_err(BenchError::made)?;
    let took = watch.elapsed();
    let taken = report::resident_bytes().saturating_sub(before);
    say_time("restored", took);
    report::say(&format!("state bytes: {taken}"));
    report::say(&format!("digest: {}", short(&state)?));
    Ok(())
}
