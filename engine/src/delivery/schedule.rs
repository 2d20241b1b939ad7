//! When a delivery is attempted again (Standard Webhooks).

use std::time::Duration;

use tollbook_schemas::time::Timestamp;

/// Seconds after each attempt that failed until the next one.
pub(crate) const DELAYS: [u32; 9] =
    [5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600];

/// Part of a delay that is added at most, in thousandths: so that endpoints that failed together are not asked again
/// together.
pub(crate) const JITTER_MAX: u32 = 100;

/// Longest that a receiver may put an attempt off: the longest delay of all.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);

/// When a delivery is attempted again that failed at `now`; `None`: it has failed for good. `made` counts the attempts so
/// far, `jitter` is random from 0 to [`JITTER_MAX`], `retry_after` is what the receiver asked for.
pub(crate) fn next(
    made: usize,
    now: Timestamp,
    jitter: u32,
    retry_after: Option<Duration>,
) -> Option<Timestamp> {
    let delay = i64::from(*DELAYS.get(made.checked_sub(1)?)?);
    // A thousandth of a second is a million nanoseconds: thousandths of the delay, in nanoseconds.
    let added = delay.saturating_mul(i64::from(jitter.min(JITTER_MAX))).saturating_mul(1_000_000);
    let planned = now.plus_seconds(delay).plus_nanos(added);
    let asked = retry_after.map(|asked| {
        let seconds = asked.min(RETRY_AFTER_MAX).as_secs();
        now.plus_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
    });
    Some(asked.map_or(planned, |asked| asked.max(planned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000_000);

    #[test]
    fn r7_3_ten_attempts_over_three_days() {
        let mut at = NOW;
        let mut delays = Vec::new();
        for made in 1.. {
            let Some(next) = next(made, at, 0, None) else { break };
            delays.push(next.seconds() - at.seconds());
            at = next;
        }
        assert_eq!(delays, [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]);
        assert_eq!(next(0, NOW, 0, None), None, "the first attempt is made at once, by nobody's schedule");
    }

    #[test]
    fn r7_3_jitter_adds_a_tenth_at_most() {
        assert_eq!(next(2, NOW, 100, None), Some(NOW.plus_seconds(330)));
        assert_eq!(next(2, NOW, 5_000, None), Some(NOW.plus_seconds(330)));
        assert_eq!(next(1, NOW, 50, None), Some(NOW.plus_seconds(5).plus_nanos(250_000_000)));
    }

    #[test]
    fn r7_3_a_receiver_may_ask_for_more_time_within_a_day() {
        let after = |seconds| next(1, NOW, 0, Some(Duration::from_secs(seconds)));
        assert_eq!(after(2), Some(NOW.plus_seconds(5)), "never sooner");
        assert_eq!(after(120), Some(NOW.plus_seconds(120)));
        assert_eq!(after(u64::MAX), Some(NOW.plus_seconds(86_400)));
        assert_eq!(next(10, NOW, 0, Some(Duration::from_secs(1))), None, "no attempt more for it");
    }
}
