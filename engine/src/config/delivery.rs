//! `[smtp]`, `[webhooks]` and `[alerts]`: how alerts leave (R7.3).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use lettre::message::Mailbox;
use serde::Deserialize;
use tollbook_schemas::alert::AlertKind;

use super::{ConfigError, host_name};
use crate::delivery::settings::{
    DeliverySettings, MAILED, SmtpSettings, SmtpTls, TIMEOUT, WebhookSettings,
};

/// Most seconds that one attempt may take.
const TIMEOUT_MAX: u64 = 300;

/// `[smtp]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SmtpFile {
    host: String,
    port: Option<u16>,
    /// `required`, `opportunistic`, `implicit` or `none`.
    #[serde(default)]
    tls: SmtpTls,
    tls_ca: Option<PathBuf>,
    user: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    from: String,
    reply_to: Option<String>,
    timeout_seconds: Option<u64>,
    /// Who gets the platform's own alerts.
    operator: Option<String>,
    /// What this machine calls itself to the server.
    hello: Option<String>,
}

/// `[webhooks]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebhooksFile {
    allow_http: bool,
    /// `true`, or a list of networks.
    allow_private: Private,
    tls_ca: Option<PathBuf>,
    timeout_seconds: Option<u64>,
}

/// Addresses that may be called although they are not public.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Private {
    All(bool),
    Networks(Vec<String>),
}

impl Default for Private {
    fn default() -> Self {
        Self::All(false)
    }
}

/// `[alerts]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AlertsFile {
    /// Kinds of alerts that are mailed.
    mail: Option<Vec<String>>,
}

pub(super) fn settings(
    smtp: Option<SmtpFile>,
    webhooks: WebhooksFile,
    alerts: AlertsFile,
    console_url: Option<String>,
) -> Result<DeliverySettings, ConfigError> {
    Ok(DeliverySettings {
        smtp: smtp.map(SmtpFile::settings).transpose()?,
        webhooks: webhooks.settings()?,
        mailed: alerts.mailed()?,
        console_url,
    })
}

impl SmtpFile {
    fn settings(self) -> Result<SmtpSettings, ConfigError> {
        let address = |name, text: String| {
            let parsed = text.parse::<Mailbox>();
            parsed.map_err(|error| wrong(name, format!("must be an e-mail address, not {text:?}: {error}")))
        };
        let password = match (self.password, self.password_file) {
            (Some(_), Some(_)) => {
                return Err(wrong("smtp.password", "stands beside password_file; name one".to_owned()));
            }
            (Some(password), None) => Some(password),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(&path);
                let text = read.map_err(|source| ConfigError::Read { path, source })?;
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            (None, None) => None,
        };
        let credentials = match (self.user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => return Err(wrong("smtp.user", "needs a password or password_file".to_owned())),
            (None, Some(_)) => return Err(wrong("smtp.password", "needs a user".to_owned())),
        };
        Ok(SmtpSettings {
            port: self.port.unwrap_or_else(|| self.tls.port()),
            host: self.host,
            tls: self.tls,
            tls_ca: self.tls_ca,
            credentials,
            from: address("smtp.from", self.from)?,
            reply_to: self.reply_to.map(|text| address("smtp.reply_to", text)).transpose()?,
            timeout: timeout("smtp.timeout_seconds", self.timeout_seconds)?,
            operator: self.operator.map(|text| address("smtp.operator", text)).transpose()?,
            hello: self.hello.unwrap_or_else(host_name),
        })
    }
}

impl WebhooksFile {
    fn settings(self) -> Result<WebhookSettings, ConfigError> {
        let allow_private = match self.allow_private {
            Private::All(false) => Vec::new(),
            Private::All(true) => {
                vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
            }
            Private::Networks(networks) => {
                let network = |text: String| match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
                    (Ok(network), _) => Ok(network),
                    (Err(_), Ok(address)) => Ok(IpNet::from(address)),
                    (Err(_), Err(_)) => Err(wrong(
                        "webhooks.allow_private",
                        format!("must be true, or hold networks such as \"10.0.0.0/8\", not {text:?}"),
                    )),
                };
                networks.into_iter().map(network).collect::<Result<_, _>>()?
            }
        };
        Ok(WebhookSettings {
            allow_http: self.allow_http,
            allow_private,
            tls_ca: self.tls_ca,
            timeout: timeout("webhooks.timeout_seconds", self.timeout_seconds)?,
        })
    }
}

impl AlertsFile {
    fn mailed(self) -> Result<BTreeSet<AlertKind>, ConfigError> {
        let Some(codes) = self.mail else { return Ok(MAILED.into_iter().collect()) };
        let kind = |code: String| {
            let known = || AlertKind::ALL.iter().map(|kind| kind.code()).collect::<Vec<_>>().join(", ");
            AlertKind::of_code(&code)
                .ok_or_else(|| wrong("alerts.mail", format!("holds {code:?}; kinds of alerts are {}", known())))
        };
        codes.into_iter().map(kind).collect()
    }
}

fn timeout(name: &'static str, given: Option<u64>) -> Result<Duration, ConfigError> {
    match given {
        None => Ok(TIMEOUT),
        Some(seconds) if (1..=TIMEOUT_MAX).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(seconds) => Err(wrong(name, format!("must be from 1 to {TIMEOUT_MAX}, not {seconds}"))),
    }
}

const fn wrong(name: &'static str, reason: String) -> ConfigError {
    ConfigError::Delivery { name, reason }
}
