//! How long a large ledger takes to start from its views, and what its organizations take in memory: at first, and
//! again after further months of usage.
//!
//! Every start and every look at memory is a process of its own, so that nothing is warm or fragmented from before.

mod make;
mod measure;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::process::Command;
use tollbook_schemas::time::Timestamp;

use self::make::{Ledger, Rows};
use super::report::{self, each, grouped};
use super::scratch::Scratch;
use super::{BenchError, whole};

/// Makes a large ledger with an embedded log, and starts from its views.
#[derive(Clone, Debug, Args)]
pub struct Start {
    /// Where to make the ledger; temporary files otherwise. Removed afterwards.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Organizations.
    #[arg(long, default_value_t = 100_000)]
    organizations: usize,
    /// Projects of each, with one API key each.
    #[arg(long, default_value_t = 3)]
    projects: usize,
    /// Further months, of one day each on which every key is used.
    #[arg(long, default_value_t = 12)]
    months: usize,
    /// Usage records that a crash left in the log and not in the views, in another start.
    #[arg(long, default_value_t = 10_000)]
    tail: usize,
    /// Starts; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// What to measure in a process of its own.
    #[arg(long, hide = true, requires = "at", requires = "now")]
    measure: Option<Measure>,
    /// On what.
    #[arg(long, hide = true)]
    at: Option<PathBuf>,
    /// And when.
    #[arg(long, hide = true)]
    now: Option<Timestamp>,
}

/// What a process of its own measures.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Measure {
    /// A whole start.
    Start,
    /// Its parts, one after the other.
    Parts,
    /// State alone, restored from rows in a file.
    Memory,
}

impl Start {
    /// Whether this process only measures for another.
    pub(super) const fn is_child(&self) -> bool {
        self.measure.is_some()
    }
}

pub(super) async fn run(options: &Start) -> Result<(), BenchError> {
    if let (Some(measure), Some(at), Some(now)) = (options.measure, &options.at, options.now) {
        return match measure {
            Measure::Start => measure::start(at, now).await,
            Measure::Parts => measure::parts(at),
            Measure::Memory => measure::memory(at),
        };
    }
    let directory = Scratch::new(options.data.as_deref())?;
    let mut ledger = Ledger::make(directory.path(), options).await?;
    measure(&mut ledger, options, "after a first day").await?;
    if options.months > 0 {
        ledger.live(options.months).await?;
        measure(&mut ledger, options, &format!("{} months later", options.months)).await?;
    }
    Ok(())
}

async fn measure(ledger: &mut Ledger, options: &Start, when: &str) -> Result<(), BenchError> {
    report::say(&format!("Start of {} organizations, {when}\n", grouped(whole(options.organizations))));
    starts(ledger, options).await?;
    memory(ledger, options).await
}

async fn starts(ledger: &mut Ledger, options: &Start) -> Result<(), BenchError> {
    let (mut parts, mut clean) = (Figures::default(), Figures::default());
    for _ in 0..options.runs.max(1) {
        parts.add(&ledger.child(Measure::Parts, &ledger.data()).await?);
        clean.add(&ledger.child(Measure::Start, &ledger.data()).await?);
    }
    let mut rows: Vec<Vec<String>> = parts.times();
    rows.extend(clean.times());
    if options.tail > 0 {
        let mut crashed = Figures::default();
        for _ in 0..options.runs.max(1) {
            ledger.crash(options.tail).await?;
            crashed.add(&ledger.child(Measure::Start, &ledger.data()).await?);
        }
        let behind = |row: &mut Vec<String>| {
            if let Some(name) = row.first_mut() {
                name.push_str(&format!(", views {} records behind", grouped(whole(options.tail))));
            }
        };
        let mut times = crashed.times();
        times.iter_mut().for_each(behind);
        rows.extend(times);
    }
    report::print("Time", &["ms", "min", "median", "max"], &rows);
    report::say(&format!(
        "resident after a start: {} MiB; views {} MiB, log {} MiB on disk",
        grouped(clean.median("resident bytes") / 1_048_576),
        grouped(report::bytes_on_disk(&ledger.data().join("views")) / 1_048_576),
        grouped(report::bytes_on_disk(&ledger.data().join("log")) / 1_048_576),
    ));
    Ok(())
}

async fn memory(ledger: &Ledger, options: &Start) -> Result<(), BenchError> {
    let organizations = whole(options.organizations);
    let projects = organizations.saturating_mul(whole(options.projects));
    let Rows { all, bare, history, audit, digest } = ledger.rows().await?;
    let mut taken = [Figures::default(), Figures::default()];
    for (figures, path) in taken.iter_mut().zip([&all, &bare]) {
        for _ in 0..options.runs.max(1) {
            figures.add(&ledger.child(Measure::Memory, path).await?);
        }
    }
    let of = |figures: &Figures, what: &str| figures.median(what);
    let [all, bare] = &taken;
    if of(all, "digest") != digest {
        return Err(BenchError::Different);
    }
    let state = of(all, "state bytes");
    let of_projects = state.saturating_sub(of(bare, "state bytes"));
    report::say(&format!(
        "rows of organizations: {} bytes each encoded ({} without their projects)",
        each(of(all, "row bytes"), organizations),
        each(of(bare, "row bytes"), organizations),
    ));
    report::say(&format!(
        "rows of history: {} of closed days, {} of decisions",
        grouped(history),
        grouped(audit)
    ));
    report::say(&format!(
        "State restored: {} MiB resident, {} bytes per organization with its projects; {} bytes per project with its key, {} per organization without\n",
        grouped(state / 1_048_576),
        each(state, organizations),
        each(of_projects, projects),
        each(of(bare, "state bytes"), organizations),
    ));
    Ok(())
}

/// What processes said: figures by name, as often as they ran.
#[derive(Debug, Default)]
struct Figures(Vec<(String, Vec<u64>)>);

impl Figures {
    /// Lines `name: number`.
    fn add(&mut self, output: &str) {
        for (name, number) in output.lines().filter_map(|line| line.rsplit_once(": ")) {
            let Ok(number) = number.parse() else { continue };
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, numbers)) => numbers.push(number),
                None => self.0.push((name.to_owned(), vec![number])),
            }
        }
        self.0.iter_mut().for_each(|(_, numbers)| numbers.sort_unstable());
    }

    fn median(&self, name: &str) -> u64 {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.and_then(|(_, numbers)| numbers.get(numbers.len() / 2).copied()).unwrap_or(0)
    }

    /// Minimum, median and maximum of what was measured in microseconds.
    fn times(&self) -> Vec<Vec<String>> {
        let times = self.0.iter().filter_map(|(name, numbers)| Some((name.strip_suffix(" µs")?, numbers)));
        times
            .map(|(name, numbers)| {
                let picked = [numbers.first(), numbers.get(numbers.len() / 2), numbers.last()];
                let ms = |micros: Option<&u64>| each(micros.copied().unwrap_or(0), 1_000);
                std::iter::once(name.to_owned()).chain(picked.map(ms)).collect()
            })
            .collect()
    }
}

/// Has another process measure, and answers with what it said.
async fn child(measure: Measure, at: &Path, now: Timestamp) -> Result<String, BenchError> {
    let failed = |source| BenchError::Directory { path: at.to_path_buf(), source };
    let program = std::env::current_exe().map_err(failed)?;
    let measure = measure.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut command = Command::new(program);
    command.args(["bench", "start", "--measure", &measure, "--now", &now.to_string()]);
    let output = command.arg("--at").arg(at).output().await.map_err(failed)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(BenchError::Made(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// Says a time as [`Figures`] read it.
fn say_time(name: &str, took: Duration) {
    report::say(&format!("{name} µs: {}", took.as_micros()));
}
