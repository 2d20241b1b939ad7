//! How admission is set.

use std::time::Duration;

use ipnet::IpNet;

use super::account::Terms;

/// Whether refusals hold (R10.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// They are only noted: every request passes, and what the system to be replaced decided is compared.
    Observe,
}

/// What is done while State trails the log too far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBehind {
    /// Requests are answered with 503.
    #[default]
    Refuse,
    /// Requests are decided on what is known, and the answer says so.
    Admit,
}

/// How admission is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionSettings {
    /// Whether refusals hold.
    pub mode: Mode,
    /// How long a lease lives unless renewed, in seconds.
    pub lease_seconds: i64,
    /// The same for leases of auth subrequests, which nobody tells the end of, in seconds.
    pub authorize_lease_seconds: i64,
    /// How far State may trail the log.
    pub lag_max: Duration,
    /// What is done beyond that.
    pub when_behind: WhenBehind,
    /// HTTP status of refusals for want of money or budget: 402, 403 or 429.
    pub balance_status: u16,
    /// Whether token windows keep the estimate when the actual number is known, as the live platform does (R5.7).
    pub keep_estimates: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for AdmissionSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            lease_seconds: 600,
            authorize_lease_seconds: 60,
            lag_max: Duration::from_secs(10),
            when_behind: WhenBehind::Refuse,
            balance_status: 429,
            keep_estimates: false,
            trusted_proxies: Vec::new(),
        }
    }
}

impl AdmissionSettings {
    /// Longest life of a lease, in seconds: a day.
    pub const LEASE_SECONDS_MAX: i64 = 86_400;

    /// On what terms requests are admitted.
    pub const fn terms(&self) -> Terms {
        Terms {
            lease_seconds: self.lease_seconds,
            observe: match self.mode {
                Mode::Enforce => false,
                Mode::Observe => true,
            },
            keep_estimates: self.keep_estimates,
        }
    }
}
