//! Rate-limit headers: what clients of LLM APIs read, and the IETF's draft (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::{self, Write as _};

use axum::http::HeaderName;

use super::reply::Headers;
use crate::admission::refusal::Refusal;
use crate::admission::{Quota, Quotas};

static REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
static TOKENS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RETRY_AFTER: HeaderName = axum::http::header::RETRY_AFTER;
static RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Clients that are told to wait for longer had better fail, or they hang.
const WAIT_MAX_MS: i64 = 60_000;
/// Largest number of a structured field (RFC 9651).
const FIELD_MAX: u64 = 999_999_999_999_999;

/// A policy's name and its fixed parameters. The draft has no unit of tokens, so ours is a parameter of our own.
struct Policy(&'static str, &'static str);

const RPM: Policy = Policy("rpm", ";w=60");
const TPM: Policy = Policy("tpm", ";w=60;tollbook-unit=\"tokens\"");
const TPD: Policy = Policy("tpd", ";w=86400;tollbook-unit=\"tokens\"");
const PROJECT_TPM: Policy = Policy("project-tpm", ";w=60;tollbook-unit=\"tokens\"");
const CONCURRENCY: Policy = Policy("conc", ";qu=\"concurrent-requests\"");

/// A span of time as Go writes it: `12ms`, `1s`, `6m0s`.
struct GoDuration(i64);

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.max(0);
        if (1..1_000).contains(&millis) {
            return write!(f, "{millis}ms");
        }
        let (seconds, millis) = (millis.div_euclid(1_000), millis.rem_euclid(1_000));
        let (hours, minutes) = (seconds.div_euclid(3_600), seconds.rem_euclid(3_600).div_euclid(60));
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if seconds >= 60 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}", seconds.rem_euclid(60))?;
        if millis > 0 {
            let digits = format!("{millis:03}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("s")
    }
}

/// Says how limits stand; what is unlimited is left out.
pub(super) fn quotas(known: &Quotas, headers: &mut Headers) {
    if let Some(requests) = &known.requests {
        plain(&REQUESTS, requests, headers);
    }
    // Of the two limits of tokens per minute, the one that a client meets first.
    let tighter = known.tokens.iter().chain(&known.project_tokens).min_by_key(|quota| quota.remaining);
    if let Some(tokens) = tighter {
        plain(&TOKENS, tokens, headers);
    }
    let policies = [
        (RPM, &known.requests),
        (TPM, &known.tokens),
        (TPD, &known.tokens_today),
        (PROJECT_TPM, &known.project_tokens),
        (CONCURRENCY, &known.concurrency),
    ];
    let limited = || policies.iter().filter_map(|(policy, quota)| Some((policy, quota.as_ref()?)));
    if limited().next().is_none() {
        return;
    }
    headers.add(&POLICY, |text| {
        for (place, (Policy(name, parameters), quota)) in limited().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(text, "{comma}\"{name}\";q={}{parameters}", quota.limit.min(FIELD_MAX))?;
        }
        Ok(())
    });
    headers.add(&LIMIT, |text| {
        for (place, (Policy(name, _), quota)) in limited().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(text, "{comma}\"{name}\";r={}", quota.remaining.min(FIELD_MAX))?;
            if quota.frees_in_ms > 0 {
                write!(text, ";t={}", whole_seconds(quota.frees_in_ms))?;
            }
        }
        Ok(())
    });
}

fn plain([limit, remaining, reset]: &'static [HeaderName; 3], quota: &Quota, headers: &mut Headers) {
    headers.add(limit, |text| write!(text, "{}", quota.limit));
    headers.add(remaining, |text| write!(text, "{}", quota.remaining));
    headers.add(reset, |text| write!(text, "{}", GoDuration(quota.clears_in_ms)));
}

/// Says when to come back, or that it is no use.
pub(super) fn retry(refusal: &Refusal, headers: &mut Headers) {
    match refusal.retry_after_ms() {
        Some(millis) => {
            headers.add(&RETRY_AFTER, |text| write!(text, "{}", refusal.seconds()));
            headers.add(&RETRY_AFTER_MS, |text| write!(text, "{millis}"));
            if millis > WAIT_MAX_MS {
                headers.add(&SHOULD_RETRY, |text| text.write_str("false"));
            }
        }
        None => headers.add(&SHOULD_RETRY, |text| text.write_str("false")),
    }
}

/// Whole seconds, never too few.
const fn whole_seconds(millis: i64) -> i64 {
    millis.saturating_add(999).div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_go_does() {
        for (millis, text) in [
            (0, "0s"),
            (-5, "0s"),
            (1, "1ms"),
            (12, "12ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (1_830, "1.83s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (61_001, "1m1.001s"),
            (3_600_000, "1h0m0s"),
            (86_399_000, "23h59m59s"),
        ] {
            assert_eq!(GoDuration(millis).to_string(), text, "{millis}");
        }
    }
}
