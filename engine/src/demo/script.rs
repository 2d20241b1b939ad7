//! What happens in the hour and when: whose call each one is, and the accidents that a ledger has to live with.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Tokens;

use super::cast::{Cast, MODELS, ROLES};
use super::traffic::Traffic;
use crate::clock::{Clock, Stopwatch};

/// Length of what is played.
pub(super) const HOUR_SECONDS: i64 = 3_600;
/// How often a gateway sends what it has gathered, in seconds.
const TICK_SECONDS: i64 = 5;
/// A model that is called before anybody has priced it.
pub(super) const UNPRICED: &str = "kimi-k4-preview";
/// Everybody sees the same hour.
const SEED: u64 = 0xca_57;

/// The hour, and how fast it is played.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hour {
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pace: Option<(u32, Stopwatch)>,
}

impl Hour {
    /// The hour that ends now; at a given pace, the one that ends when it has been played.
    pub(super) fn ending_now(speed: Option<u32>) -> Self {
        let now = Timestamp::from_seconds(Clock::System.now().seconds());
        let lasts = speed.and_then(|speed| HOUR_SECONDS.checked_div(i64::from(speed))).unwrap_or(0);
        let end = now.plus_seconds(lasts);
        let pace = speed.map(|speed| (speed, Stopwatch::start()));
        Self { start: end.plus_seconds(-HOUR_SECONDS), end, pace }
    }

    /// Waits until `at` is due at the pace.
    pub(super) async fn keep_pace(&self, at: Timestamp) {
        let Some((speed, since_start)) = self.pace else { return };
        let due = at.nanos_since(self.start).checked_div(i64::from(speed)).unwrap_or(0);
        let due = Duration::from_nanos(u64::try_from(due).unwrap_or(0));
        tokio::time::sleep(due.saturating_sub(since_start.elapsed())).await;
    }

    /// Whole seconds from the start to `at`.
    pub(super) fn seconds_to(&self, at: Timestamp) -> u64 {
        u64::try_from(at.seconds().saturating_sub(self.start.seconds())).unwrap_or(0)
    }
}

/// A gateway, by its place in [`GATEWAYS`].
pub(super) type GatewayId = usize;

/// Who reports usage. The first numbers its records, so that repetitions are recognized by number; those of the second
/// are recognized by id.
pub(super) const GATEWAYS: [(&str, bool); 2] = [("gateway-eu-1", true), ("gateway-us-1", false)];

/// One call, and whose it is; `key` is a place in the cast's list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) at: Timestamp,
    pub(super) gateway: GatewayId,
    pub(super) key: usize,
    pub(super) model: &'static str,
    pub(super) tokens: Tokens,
}

/// Something that happens at one instant. In this order where several do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    /// An organization pays, by its place, so much.
    Recharge(usize, &'static str),
    /// Gateways send what they have gathered.
    Tick,
    /// A billing cycle ends.
    CycleEnd,
    /// A gateway had no answer and sends its last batch again.
    SendAgain(GatewayId),
    /// A gateway loses its connection, for so many minutes.
    Offline(GatewayId, i64),
    /// A gateway is back and sends all that it kept.
    Online(GatewayId),
    /// A customer calls a model that has no price yet.
    Unpriced(GatewayId),
    /// A gateway uses an id twice for different calls.
    Conflict(GatewayId),
    /// The project that spent its budget gets a larger one.
    RaiseBudget,
}

/// Minute of the hour, and what goes wrong then. No accident, no ledger.
const ACCIDENTS: [(i64, Moment); 9] = [
    (6, Moment::SendAgain(0)),
    (19, Moment::SendAgain(1)),
    (21, Moment::Offline(1, 12)),
    (33, Moment::Online(1)),
    (38, Moment::Unpriced(0)),
    (41, Moment::SendAgain(0)),
    (48, Moment::Conflict(1)),
    (53, Moment::SendAgain(1)),
    (56, Moment::SendAgain(0)),
];

/// Everything that happens, in order.
pub(super) fn moments(hour: &Hour, raise_at: Option<Timestamp>) -> Vec<(Timestamp, Moment)> {
    let minute = |minute: i64| hour.start.plus_seconds(minute.saturating_mul(60));
    let mut moments: Vec<(Timestamp, Moment)> =
        ACCIDENTS.iter().map(|(at, moment)| (minute(*at), *moment)).collect();
    for (place, role) in ROLES.iter().enumerate() {
        moments
            .extend(role.recharges.iter().map(|(at, amount)| (minute(*at), Moment::Recharge(place, amount))));
    }
    let ticks = HOUR_SECONDS.checked_div(TICK_SECONDS).unwrap_or(0);
    moments.extend(
        (1..=ticks).map(|tick| (hour.start.plus_seconds(tick.saturating_mul(TICK_SECONDS)), Moment::Tick)),
    );
    let lag = LagModel::default();
    let mut end = lag.last_boundary(hour.end);
    while let Some(at) = end.filter(|at| *at > hour.start) {
        // What a cycle's last seconds brought is sent just before it ends, so that the close finds all of it.
        moments.push((at.plus_nanos(-1), Moment::Tick));
        moments.push((at, Moment::CycleEnd));
        end = lag.last_boundary(at.plus_nanos(-1));
    }
    moments.extend(raise_at.map(|at| (at, Moment::RaiseBudget)));
    moments.sort_unstable();
    moments
}

/// Whose call each one is.
pub(super) fn calls(hour: &Hour, traffic: &Traffic, cast: &Cast) -> Vec<Call> {
    let mut random = StdRng::seed_from_u64(SEED);
    let parts: Vec<_> = ROLES
        .iter()
        .enumerate()
        .flat_map(|(role, of)| of.parts().iter().enumerate().map(move |(part, of)| (role, part, of)))
        .collect();
    let shares: Vec<u32> = parts.iter().map(|(_, _, part)| part.share).collect();
    let mut calls = Vec::with_capacity(traffic.requests.len());
    for request in &traffic.requests {
        let Some((role, project, part)) = parts.get(pick(&mut random, &shares)) else { continue };
        let keys: Vec<usize> = cast
            .keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.organization == *role && key.project == *project)
            .map(|(place, _)| place)
            .collect();
        let Some(key) = keys.get(random.random_range(0..keys.len().max(1))) else { continue };
        let Some(model) = MODELS.get(pick(&mut random, &part.models)) else { continue };
        let cached_percent =
            if random.random_ratio(part.cached, 100) { random.random_range(20..80) } else { 0 };
        let cached_input = request.input.saturating_mul(cached_percent).checked_div(100).unwrap_or(0);
        calls.push(Call {
            at: hour.start.plus_nanos(request.after),
            gateway: key.checked_rem(GATEWAYS.len()).unwrap_or(0),
            key: *key,
            model: model.name,
            tokens: Tokens { input: request.input, cached_input, output: request.output },
        });
    }
    calls
}

/// A place, as often as its share.
fn pick(random: &mut StdRng, shares: &[u32]) -> usize {
    let mut drawn = random.random_range(0..shares.iter().sum::<u32>().max(1));
    for (place, share) in shares.iter().enumerate() {
        match drawn.checked_sub(*share) {
            Some(rest) => drawn = rest,
            None => return place,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cycle_end_comes_after_what_its_last_seconds_brought() {
        for start in [0, 1, 599, 600, 3_599] {
            let start = Timestamp::from_seconds(1_790_000_000 + start);
            let hour = Hour { start, end: start.plus_seconds(HOUR_SECONDS), pace: None };
            let moments = moments(&hour, None);
            let ends: Vec<usize> =
                (0..moments.len()).filter(|at| moments[*at].1 == Moment::CycleEnd).collect();
            assert_eq!(ends.len(), 6);
            for end in ends {
                assert_eq!(moments[end].0.seconds() % 600, 0);
                let before = moments[..end].iter().rev().find(|(_, moment)| *moment == Moment::Tick).unwrap();
                assert!(before.0 <= moments[end].0 && before.0 >= moments[end].0.plus_nanos(-1));
            }
            let (last, moment) = moments.last().unwrap();
            assert_eq!(*last, hour.end);
            assert!([Moment::Tick, Moment::CycleEnd].contains(moment));
        }
    }
}
