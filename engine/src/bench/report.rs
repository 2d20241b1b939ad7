//! Figures as people read them: whole numbers, a row per thing measured.

use std::path::Path;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use crate::clock::Stopwatch;

/// Prints a titled table; the first row is its header.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(super) fn print(title: &str, header: &[&str], rows: &[Vec<String>]) {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    println!("{title}\n\n{table}\n");
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "a command's output")]
pub(super) fn say(line: &str) {
    println!("{line}");
}

/// How often something happened in a time, per second.
pub(super) fn per_second(count: u64, took: Duration) -> u64 {
    let micros = took.as_micros().max(1);
    let rate = u128::from(count).saturating_mul(1_000_000).checked_div(micros).unwrap_or(0);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// `part` of `whole` in percent.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let thousandths = part.saturating_mul(1_000).checked_div(whole).unwrap_or(0);
    format!("{}.{} %", thousandths / 10, thousandths % 10)
}

/// `total` over `count`, with one decimal.
pub(super) fn each(total: u64, count: u64) -> String {
    let tenths = total.saturating_mul(10).checked_div(count).unwrap_or(0);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// With a space between groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().saturating_sub(place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Rates of several runs.
#[derive(Debug, Default)]
pub(super) struct Rates(Vec<u64>);

impl Rates {
    pub(super) fn add(&mut self, count: u64, took: Duration) {
        self.0.push(per_second(count, took));
        self.0.sort_unstable();
    }

    pub(super) fn median(&self) -> u64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(0)
    }

    /// Minimum, median, maximum.
    pub(super) fn cells(&self) -> Vec<String> {
        let rates = [self.0.first().copied(), Some(self.median()), self.0.last().copied()];
        rates.into_iter().map(|rate| grouped(rate.unwrap_or(0))).collect()
    }

    /// A row of a table of rates, with the median as a part of `limit`.
    pub(super) fn row(&self, name: &str, limit: u64) -> Vec<String> {
        let mut row = vec![name.to_owned()];
        row.extend(self.cells());
        row.push(percent(self.median(), limit));
        row
    }
}

/// Times of single operations.
#[derive(Debug, Default)]
pub(super) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(super) fn extend(&mut self, waits: impl IntoIterator<Item = Duration>) {
        self.0.extend(waits);
        self.0.sort_unstable();
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = Duration> {
        self.0.iter().copied()
    }

    /// The one that so many thousandths are not longer than, in microseconds.
    pub(super) fn micros(&self, thousandths: usize) -> u64 {
        let place = self.0.len().saturating_mul(thousandths) / 1_000;
        let wait = self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default();
        u64::try_from(wait.as_micros()).unwrap_or(u64::MAX)
    }

    fn at(&self, hundredths: usize) -> String {
        let place = self.0.len().saturating_mul(hundredths) / 100;
        let wait = self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default();
        let micros = wait.as_micros();
        format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10)
    }

    /// The same of times that are far shorter.
    pub(super) fn say_nanos(&self, what: &str) {
        let at = |thousandths: usize| {
            let place = self.0.len().saturating_mul(thousandths) / 1_000;
            let wait = self.0.get(place.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default();
            let nanos = wait.as_nanos();
            format!("{}.{:02} µs", nanos / 1_000, nanos % 1_000 / 10)
        };
        let (half, most, nearly) = (at(500), at(990), at(999));
        say(&format!("{what}: p50 {half}, p99 {most}, p99.9 {nearly}, slowest {}", at(1_000)));
    }

    pub(super) fn say(&self, what: &str) {
        say(&format!("{what}: p50 {}, p99 {}, slowest {}", self.at(50), self.at(99), self.at(100)));
    }
}

/// Measures the processor time of this thread, so that neighbours on a shared machine do not count; the time itself
/// where the system does not tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct CpuWatch {
    cpu_nanos: Option<u64>,
    watch: Stopwatch,
}

impl CpuWatch {
    pub(super) fn start() -> Self {
        Self { cpu_nanos: cpu_nanos(), watch: Stopwatch::start() }
    }

    pub(super) fn elapsed(self) -> Duration {
        match (self.cpu_nanos, cpu_nanos()) {
            (Some(before), Some(now)) => Duration::from_nanos(now.saturating_sub(before)),
            (None, _) | (_, None) => self.watch.elapsed(),
        }
    }
}

fn cpu_nanos() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

/// Processor time of all threads of this process so far, in milliseconds, to a hundredth of a second.
pub(super) fn process_cpu_ms() -> u64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before may hold anything; ticks of user and system time are the 12th and 13th field after it.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    ticks.fold(0, u64::saturating_add).saturating_mul(10)
}

/// A line of `/proc/self/status`, in KiB; 0 where there is none.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// Resident memory of this process, in MiB.
pub(super) fn resident_mib() -> u64 {
    status("VmRSS") / 1024
}

/// Resident memory of this process, in bytes.
pub(super) fn resident_bytes() -> u64 {
    status("VmRSS").saturating_mul(1024)
}

/// The most that was ever resident, in MiB.
pub(super) fn peak_mib() -> u64 {
    status("VmHWM") / 1024
}

/// Bytes that a directory takes on disk, as the file system counts them.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries.flatten().fold(0, |bytes, entry| {
        let Ok(metadata) = entry.metadata() else { return bytes };
        let inside = if metadata.is_dir() { bytes_on_disk(&entry.path()) } else { 0 };
        bytes.saturating_add(metadata.blocks().saturating_mul(512)).saturating_add(inside)
    })
}

/// The machine, in a few words.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let build = if cfg!(debug_assertions) { "debug build: figures mean nothing" } else { "release build" };
    format!(
        "{cores} cores,{}, {build}",
        model
            .trim_start_matches([' ', '\t', ':'])
            .split(" @")
            .next()
            .map_or(String::new(), |m| format!(" {m}"))
    )
}
