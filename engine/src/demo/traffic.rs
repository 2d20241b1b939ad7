//! When calls are made and how large they are: generated in the shape of the Azure code trace, or of such a trace.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollbook_schemas::id::{KeyId, ModelName, OrgId};
use tollbook_schemas::time::Timestamp;

use super::DemoError;
use super::script::HOUR_SECONDS;
use crate::import::{Layout, Rows, Trace};

/// Everybody sees the same hour.
const SEED: u64 = 0x70_11_b0_0c;
/// As many as the Azure code trace has, nearly.
const REQUESTS: usize = 8_800;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Tokens by share of calls, in millionths: how the Azure code trace is distributed, with straight lines between.
const INPUT: [(u64, u64); 13] = [
    (0, 3),
    (50_000, 75),
    (100_000, 150),
    (200_000, 390),
    (300_000, 770),
    (400_000, 1_080),
    (500_000, 1_470),
    (600_000, 1_910),
    (700_000, 2_430),
    (800_000, 3_190),
    (900_000, 5_190),
    (950_000, 7_320),
    (1_000_000, 7_440),
];
const OUTPUT: [(u64, u64); 10] = [
    (0, 6),
    (100_000, 7),
    (300_000, 9),
    (500_000, 13),
    (700_000, 20),
    (800_000, 29),
    (900_000, 55),
    (950_000, 90),
    (990_000, 250),
    (1_000_000, 1_900),
];

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Since the beginning of the hour, in nanoseconds; less than an hour.
    pub(super) after: i64,
    /// Prompt tokens.
    pub(super) input: u64,
    /// Generated tokens.
    pub(super) output: u64,
}

/// The calls of an hour, in order.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    pub(super) requests: Vec<Request>,
    /// What to say about where they come from.
    pub(super) origin: String,
}

impl Traffic {
    /// Bursts of some seconds with silence between, as editors send them.
    pub(super) fn generated() -> Self {
        let mut random = StdRng::seed_from_u64(SEED);
        let mut cumulative = Vec::new();
        let mut all = 0u64;
        for weight in intensity(&mut random) {
            all = all.saturating_add(weight);
            cumulative.push(all);
        }
        let mut requests: Vec<Request> = (0..REQUESTS)
            .map(|_| {
                let drawn = random.random_range(0..all.max(1));
                let second = cumulative.partition_point(|sum| *sum <= drawn);
                let second = i64::try_from(second).unwrap_or(0).min(HOUR_SECONDS.saturating_sub(1));
                Request {
                    after: second
                        .saturating_mul(NANOS_PER_SECOND)
                        .saturating_add(random.random_range(0..NANOS_PER_SECOND)),
                    input: quantile(&INPUT, random.random_range(0..1_000_000)),
                    output: quantile(&OUTPUT, random.random_range(0..1_000_000)),
                }
            })
            .collect();
        requests.sort_by_key(|request| request.after);
        Self { requests, origin: "generated, in bursts as in the Azure code trace".to_owned() }
    }

    /// The last hour of a trace.
    pub(super) fn of_trace(path: &Path) -> Result<Self, DemoError> {
        let unreadable = |source| DemoError::Trace { path: path.to_path_buf(), source };
        let layout = |source| DemoError::Layout { path: path.to_path_buf(), source };
        let file = BufReader::new(File::open(path).map_err(unreadable)?);
        // Whose the calls are is decided later; here only times and tokens count.
        let nobody = Trace {
            organization: OrgId::from_bits(0),
            key: KeyId::from_bits(0),
            model: ModelName::parse("any")?,
            digest: [0; 32],
        };
        let rows = Rows::open(file, Layout::AzureLlmTrace(nobody), Timestamp::MAX).map_err(layout)?;
        let mut kept: VecDeque<(Timestamp, Request)> = VecDeque::new();
        let (mut last, mut read) = (Timestamp::EPOCH, 0u64);
        for row in rows {
            let usage = row.map_err(|source| DemoError::Row { path: path.to_path_buf(), source })?;
            let at = usage.occurred.at();
            read = read.saturating_add(1);
            last = last.max(at);
            kept.push_back((
                at,
                Request { after: 0, input: usage.tokens.input, output: usage.tokens.output },
            ));
            // Traces of a whole week are read in the room of an hour.
            while kept.front().is_some_and(|(first, _)| *first <= last.plus_seconds(-HOUR_SECONDS)) {
                kept.pop_front();
            }
        }
        let begin = last.plus_seconds(-HOUR_SECONDS);
        let mut requests: Vec<Request> = kept
            .into_iter()
            .map(|(at, request)| Request { after: at.nanos_since(begin).saturating_sub(1), ..request })
            .filter(|request| request.after >= 0)
            .collect();
        if requests.is_empty() {
            return Err(DemoError::EmptyTrace(path.to_path_buf()));
        }
        requests.sort_by_key(|request| request.after);
        let left_out = read.saturating_sub(u64::try_from(requests.len()).unwrap_or(u64::MAX));
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let origin = match left_out {
            0 => format!("of {name}, its end moved to now"),
            _ => {
                format!("of the last hour of {name} ({left_out} earlier ones left out), its end moved to now")
            }
        };
        Ok(Self { requests, origin })
    }
}

/// How busy each second of the hour is, as a weight.
fn intensity(random: &mut StdRng) -> Vec<u64> {
    let mut seconds = Vec::new();
    let wanted = usize::try_from(HOUR_SECONDS).unwrap_or_default();
    while seconds.len() < wanted {
        let (busy, level) = (random.random_range(4..45), random.random_range(2..16));
        seconds.extend((0..busy).map(|_| random.random_range(level / 2..=level)));
        // Now and then everybody is in the same meeting.
        let longest = if random.random_ratio(1, 12) { 240 } else { 60 };
        seconds.extend((0..random.random_range(2..longest)).map(|_| 0));
    }
    seconds.truncate(wanted);
    seconds
}

/// The value at a share of millionths, between the rows of a table.
fn quantile(table: &[(u64, u64)], share: u64) -> u64 {
    for pair in table.windows(2) {
        if let [(from, low), (to, high)] = pair
            && share < *to
        {
            let width = to.saturating_sub(*from).max(1);
            let part = high.saturating_sub(*low).saturating_mul(share.saturating_sub(*from));
            return low.saturating_add(part.checked_div(width).unwrap_or(0));
        }
    }
    table.last().map_or(0, |(_, highest)| *highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_traffic_has_the_shape_of_the_azure_code_trace() {
        let traffic = Traffic::generated();
        let mut input: Vec<u64> = traffic.requests.iter().map(|request| request.input).collect();
        input.sort_unstable();
        assert_eq!(input.len(), REQUESTS);
        let median = input[input.len() / 2];
        assert!((1_300..1_700).contains(&median), "{median}");
        assert!(*input.last().unwrap() <= 7_440);
        let mut busy: Vec<i64> =
            traffic.requests.iter().map(|request| request.after / NANOS_PER_SECOND).collect();
        assert!(busy.is_sorted() && busy.iter().all(|second| (0..HOUR_SECONDS).contains(second)));
        busy.dedup();
        // Silent for a good part of the hour.
        assert!(busy.len() < 2_400, "{}", busy.len());
        let again = Traffic::generated();
        assert!(traffic.requests.iter().zip(&again.requests).all(|(a, b)| a.after == b.after));
    }

    #[test]
    fn a_trace_longer_than_an_hour_is_played_from_its_last_hour() {
        let path = std::env::temp_dir().join(format!("tollbook-demo-trace-{}.csv", std::process::id()));
        let rows = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 10:00:00.1,1,1\r\n\
                    2023-11-16 11:00:00.0,2,2\r\n2023-11-16 11:59:59.0,3,3\r\n2023-11-16 12:00:00.0,4,4\r\n";
        std::fs::write(&path, rows).unwrap();
        let traffic = Traffic::of_trace(&path);
        std::fs::remove_file(&path).unwrap();
        let traffic = traffic.unwrap();
        let input: Vec<u64> = traffic.requests.iter().map(|request| request.input).collect();
        assert_eq!(input, [3, 4]);
        assert_eq!(traffic.requests[1].after, HOUR_SECONDS * NANOS_PER_SECOND - 1);
        assert!(traffic.origin.contains("2 earlier"), "{}", traffic.origin);
    }
}
