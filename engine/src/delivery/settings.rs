//! What the operator decides about deliveries: `[smtp]`, `[webhooks]` and `[alerts]`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use lettre::message::Mailbox;
use tollbook_schemas::alert::AlertKind;

/// Kinds of alerts that are mailed unless told otherwise: the others are for programs, which have the stream.
pub const MAILED: [AlertKind; 10] = [
    AlertKind::BalanceLow,
    AlertKind::BudgetWarning,
    AlertKind::BudgetReached,
    AlertKind::SpendNotification,
    AlertKind::TierChanged,
    AlertKind::VoucherGranted,
    AlertKind::VoucherExpiring,
    AlertKind::VoucherExpired,
    AlertKind::KeyInvalidated,
    AlertKind::WebhookDisabled,
];

/// How long one attempt may take unless told otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Everything about deliveries.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// How mail leaves; `None`: none does.
    pub smtp: Option<SmtpSettings>,
    /// How webhooks are called.
    pub webhooks: WebhookSettings,
    /// Kinds of alerts that are mailed.
    pub mailed: BTreeSet<AlertKind>,
    /// Where the platform's console is, if it is known: messages have a link to it.
    pub console_url: Option<String>,
}

impl Default for DeliverySettings {
    fn default() -> Self {
        let mailed = MAILED.into_iter().collect();
        Self { smtp: None, webhooks: WebhookSettings::default(), mailed, console_url: None }
    }
}

/// `[smtp]`
#[derive(Clone)]
pub struct SmtpSettings {
    /// The server's name, which its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// Certificates to trust beside those of the machine.
    pub tls_ca: Option<PathBuf>,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// Whom messages are from.
    pub from: Mailbox,
    /// Where answers go, if not there.
    pub reply_to: Option<Mailbox>,
    /// How long an attempt may take.
    pub timeout: Duration,
    /// Who gets the platform's own alerts.
    pub operator: Option<Mailbox>,
    /// What this machine calls itself to the server.
    pub hello: String,
}

/// Without the password.
impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SmtpSettings({}:{}, {:?})", self.host, self.port, self.tls)
    }
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SmtpTls {
    /// By STARTTLS, or nothing is sent.
    #[default]
    Required,
    /// By STARTTLS where the server has it.
    Opportunistic,
    /// From the first byte on.
    Implicit,
    /// Not at all.
    None,
}

impl SmtpTls {
    /// The port that is usual.
    pub const fn port(self) -> u16 {
        match self {
            Self::Required | Self::Opportunistic => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// `[webhooks]`
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Whether they may be called without TLS.
    pub allow_http: bool,
    /// Networks that may be called although they are not public.
    pub allow_private: Vec<IpNet>,
    /// Certificates to trust beside those of the machine.
    pub tls_ca: Option<PathBuf>,
    /// How long an attempt may take.
    pub timeout: Duration,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { allow_http: false, allow_private: Vec::new(), tls_ca: None, timeout: TIMEOUT }
    }
}
