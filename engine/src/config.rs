//! Configuration: flags, then `TOLLBOOK_…` variables, then a TOML file; checked once, at the start.

mod delivery;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use tollbook_schemas::id::{NameError, NodeName};

use self::delivery::{AlertsFile, SmtpFile, WebhooksFile};
use crate::admission::{AdmissionSettings, Mode, WhenBehind};
use crate::clock;
use crate::log::jetstream::{Credentials, JetStreamOptions};
use crate::node::{LogSettings, Settings};

/// Where the server listens unless told otherwise.
pub const LISTEN: &str = "127.0.0.1:8480";
/// Where the server keeps its data unless told otherwise.
pub const DATA: &str = "tollbook-data";

/// What `serve` can be told.
#[derive(Args, Clone, Debug, Default)]
pub struct ServeArgs {
    /// Directory for the views, the admin token, and the embedded log
    #[arg(long, env = "TOLLBOOK_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address to serve HTTP on
    #[arg(long, env = "TOLLBOOK_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Partitions of a new ledger; fixed for ever
    #[arg(long, env = "TOLLBOOK_PARTITIONS", value_name = "P", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub partitions: Option<u16>,
    /// Currency of a new ledger, such as USD; fixed for ever
    #[arg(long, env = "TOLLBOOK_CURRENCY", value_name = "CODE")]
    pub currency: Option<String>,
    /// This server's name among those of its ledger
    #[arg(long, env = "TOLLBOOK_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Where the platform's console is: links of invitations begin so; without it they have none
    #[arg(long, env = "TOLLBOOK_CONSOLE_URL", value_name = "URL")]
    pub console_url: Option<String>,
    /// Whether refusals of admission hold, or are only noted
    #[arg(long, env = "TOLLBOOK_ADMISSION", value_name = "MODE", value_enum)]
    pub admission: Option<Mode>,
    /// Further settings, in TOML
    #[arg(long, env = "TOLLBOOK_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub nats: NatsArgs,
}

/// How to reach NATS.
#[derive(Args, Clone, Debug, Default)]
pub struct NatsArgs {
    /// Keep the log on NATS JetStream, at these servers (separated by commas)
    #[arg(long, env = "TOLLBOOK_NATS", value_name = "URL", value_delimiter = ',')]
    pub nats: Vec<String>,
    /// Monitoring addresses of all those servers, where their settings are verified
    #[arg(long, env = "TOLLBOOK_NATS_MONITOR", value_name = "URL", value_delimiter = ',')]
    pub nats_monitor: Vec<String>,
    /// File with the engine's nkey seed
    #[arg(long, env = "TOLLBOOK_NATS_NKEY", value_name = "FILE")]
    pub nats_nkey: Option<PathBuf>,
    /// Credentials file of the engine's user
    #[arg(long, env = "TOLLBOOK_NATS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// Certificates to trust; requires TLS
    #[arg(long, env = "TOLLBOOK_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// Copies of each stream; else three where there are three servers
    #[arg(long, env = "TOLLBOOK_REPLICAS", value_name = "N")]
    pub replicas: Option<usize>,
    /// Start even if nobody can verify that the servers sync before they acknowledge
    #[arg(long, env = "TOLLBOOK_ALLOW_UNVERIFIED_DURABILITY")]
    pub allow_unverified_durability: bool,
}

/// The TOML file. Unknown keys are refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    partitions: Option<u16>,
    currency: Option<String>,
    node: Option<String>,
    console_url: Option<String>,
    nats: Option<NatsFile>,
    admission: AdmissionFile,
    smtp: Option<SmtpFile>,
    webhooks: WebhooksFile,
    alerts: AlertsFile,
}

/// `[admission]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AdmissionFile {
    /// `enforce`, or `observe`: refusals are only noted (R10.2).
    mode: Option<Mode>,
    /// How long a lease lives unless renewed.
    lease_seconds: Option<i64>,
    /// The same for leases of auth subrequests.
    authorize_lease_seconds: Option<i64>,
    /// How far State may trail the log.
    lag_max_seconds: Option<u64>,
    /// `refuse`, or `admit`: requests are decided on what is known.
    when_behind: Option<WhenBehind>,
    /// HTTP status of refusals for want of money or budget: 402, 403 or 429.
    balance_status: Option<u16>,
    /// What counts in token windows once a request's actual tokens are known: `settled`, those, or `estimated`, what was
    /// reserved for it.
    tokens: Option<CountedTokens>,
    /// Proxies whose `X-Forwarded-For` is believed.
    trusted_proxies: Vec<String>,
}

/// What counts in token windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CountedTokens {
    Settled,
    Estimated,
}

impl AdmissionFile {
    fn settings(self, mode: Option<Mode>) -> Result<AdmissionSettings, ConfigError> {
        let defaults = AdmissionSettings::default();
        let seconds = |name, given: Option<i64>, default| {
            let seconds = given.unwrap_or(default);
            let fits = (1..=AdmissionSettings::LEASE_SECONDS_MAX).contains(&seconds);
            if fits { Ok(seconds) } else { Err(ConfigError::LeaseSeconds { name, seconds }) }
        };
        let balance_status = self.balance_status.unwrap_or(defaults.balance_status);
        if !matches!(balance_status, 402 | 403 | 429) {
            return Err(ConfigError::BalanceStatus(balance_status));
        }
        let proxy = |text: String| match text.parse::<IpNet>() {
            Ok(network) => Ok(network),
            Err(_) => match text.parse::<IpAddr>() {
                Ok(address) => Ok(IpNet::from(address)),
                Err(_) => Err(ConfigError::TrustedProxy(text)),
            },
        };
        Ok(AdmissionSettings {
            mode: mode.or(self.mode).unwrap_or(defaults.mode),
            lease_seconds: seconds("lease_seconds", self.lease_seconds, defaults.lease_seconds)?,
            authorize_lease_seconds: seconds(
                "authorize_lease_seconds",
                self.authorize_lease_seconds,
                defaults.authorize_lease_seconds,
            )?,
            lag_max: self.lag_max_seconds.map_or(defaults.lag_max, Duration::from_secs),
            when_behind: self.when_behind.unwrap_or(defaults.when_behind),
            balance_status,
            keep_estimates: self.tokens == Some(CountedTokens::Estimated),
            trusted_proxies: self.trusted_proxies.into_iter().map(proxy).collect::<Result<_, _>>()?,
        })
    }
}

/// `[nats]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NatsFile {
    url: Option<OneOrMany>,
    monitor: Option<OneOrMany>,
    nkey: Option<PathBuf>,
    creds: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    replicas: Option<usize>,
    allow_unverified_durability: bool,
    /// `[nats.system]`: a user of the system account, instead of monitoring addresses.
    system: Option<UserFile>,
    /// `[nats.spool]`: the engine's user in the spool's account.
    spool: SpoolFile,
}

/// A user of NATS.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UserFile {
    nkey: Option<PathBuf>,
    creds: Option<PathBuf>,
}

/// `[nats.spool]`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct SpoolFile {
    /// Whether there is a spool. Unless told: where it has credentials of its own, or nobody has any.
    enabled: Option<bool>,
    nkey: Option<PathBuf>,
    creds: Option<PathBuf>,
    /// Bytes that a new spool may hold.
    max_bytes: Option<i64>,
}

impl SpoolFile {
    /// The spool's settings. An engine that has credentials must not open a spool without: in its own account a
    /// publisher could have answers stored where they do not belong (decision record 12).
    fn settings(&self, log: &LogSettings) -> Result<Option<SpoolConfig>, ConfigError> {
        let LogSettings::JetStream(options) = log else { return Ok(None) };
        let own = credentials(self.nkey.as_deref(), self.creds.as_deref())?;
        let open = matches!(options.credentials, Credentials::None);
        if !self.enabled.unwrap_or(open || !matches!(own, Credentials::None)) {
            return Ok(None);
        }
        Ok(Some(SpoolConfig { credentials: own, max_bytes: self.max_bytes.unwrap_or(SPOOL_BYTES) }))
    }
}

/// A list, or its items in one text, separated by commas.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(text) => text.split(',').map(|one| one.trim().to_owned()).collect(),
            Self::Many(many) => many,
        }
    }
}

/// Everything a server needs.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The engine.
    pub settings: Settings,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// What links to the platform's console begin with; unless told, invitations have no link.
    pub console_url: Option<String>,
    /// The spool, where the log is on NATS.
    pub spool: Option<SpoolConfig>,
}

/// How to reach the spool.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// The engine's user in the spool's account.
    pub credentials: Credentials,
    /// Bytes that a new spool may hold; then publishers are refused.
    pub max_bytes: i64,
}

/// A new spool's size unless told otherwise: 4 GiB.
const SPOOL_BYTES: i64 = 4 * 1024 * 1024 * 1024;

/// Why the configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{} is not a configuration: {reason}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The default address does not parse; it does.
    #[error("listen: {0}")]
    Listen(#[from] std::net::AddrParseError),
    /// The node's name is not one.
    #[error("node {0}")]
    Node(#[from] NameError),
    /// The currency is not a code.
    #[error("currency must be three letters such as USD, not {0:?}")]
    Currency(String),
    /// What links should begin with is no address.
    #[error("console_url must begin with https:// or http://, not {0:?}")]
    ConsoleUrl(String),
    /// A lease would live for no time or for ever.
    #[error("admission.{name} must be from 1 to {}, not {seconds}", AdmissionSettings::LEASE_SECONDS_MAX)]
    LeaseSeconds {
        /// The setting.
        name: &'static str,
        /// What it says.
        seconds: i64,
    },
    /// The status of refusals for want of money is not one that clients know for it.
    #[error("admission.balance_status must be 402, 403 or 429, not {0}")]
    BalanceStatus(u16),
    /// A trusted proxy is neither an address nor a network.
    #[error("admission.trusted_proxies must hold addresses and networks such as \"10.0.0.0/8\", not {0:?}")]
    TrustedProxy(String),
    /// Alerts could not leave as it says.
    #[error("{name} {reason}")]
    Delivery {
        /// The setting.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Both an nkey and a credentials file.
    #[error("name either an nkey or a credentials file, not both")]
    TwoUsers,
}

impl ServerConfig {
    /// Puts flags, variables and the file together.
    pub fn load(args: ServeArgs) -> Result<Self, ConfigError> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let mut nats_file = file.nats.unwrap_or_default();
        let spool = std::mem::take(&mut nats_file.spool);
        let log = log_settings(args.nats, nats_file)?;
        let spool = spool.settings(&log)?;
        let currency = args.currency.or(file.currency);
        if let Some(code) = &currency
            && !(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return Err(ConfigError::Currency(code.clone()));
        }
        // Two processes on one machine must not take each other for themselves.
        let node = args.node.or(file.node).unwrap_or_else(|| {
            format!("{}-{:08x}", host_name(), clock::new_writer().0 & u64::from(u32::MAX))
        });
        let admission = file.admission.settings(args.admission)?;
        let console_url = args.console_url.or(file.console_url).map(console_url).transpose()?;
        let settings = Settings {
            data: args.data.or(file.data).unwrap_or_else(|| PathBuf::from(DATA)),
            log,
            partitions: args.partitions.or(file.partitions),
            currency,
            node: NodeName::parse(&node)?,
            admission,
            delivery: Some(delivery::settings(file.smtp, file.webhooks, file.alerts, console_url.clone())?),
        };
        let listen = match args.listen.or(file.listen) {
            Some(listen) => listen,
            None => LISTEN.parse()?,
        };
        Ok(Self { settings, listen, console_url, spool })
    }
}

impl NatsArgs {
    /// Where the log is, by flags and variables alone.
    pub fn log_settings(self) -> Result<LogSettings, ConfigError> {
        log_settings(self, NatsFile::default())
    }
}

fn log_settings(args: NatsArgs, file: NatsFile) -> Result<LogSettings, ConfigError> {
    let list = |flag: Vec<String>, file: Option<OneOrMany>| {
        if flag.is_empty() { file.map(OneOrMany::list).unwrap_or_default() } else { flag }
    };
    let urls = list(args.nats, file.url);
    if urls.is_empty() {
        return Ok(LogSettings::Embedded);
    }
    let nkey = args.nats_nkey.or(file.nkey);
    let creds = args.nats_creds.or(file.creds);
    let system = match &file.system {
        Some(user) => Some(credentials(user.nkey.as_deref(), user.creds.as_deref())?),
        None => None,
    };
    Ok(LogSettings::JetStream(Box::new(JetStreamOptions {
        credentials: credentials(nkey.as_deref(), creds.as_deref())?,
        tls_root: args.nats_ca.or(file.tls_ca),
        monitor_urls: list(args.nats_monitor, file.monitor),
        system,
        allow_unverified_durability: args.allow_unverified_durability || file.allow_unverified_durability,
        replicas: args.replicas.or(file.replicas),
        ..JetStreamOptions::new(urls)
    })))
}

fn console_url(text: String) -> Result<String, ConfigError> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    if rest.is_some_and(plain) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(ConfigError::ConsoleUrl(text))
    }
}

fn credentials(nkey: Option<&Path>, creds: Option<&Path>) -> Result<Credentials, ConfigError> {
    match (nkey, creds) {
        (Some(_), Some(_)) => Err(ConfigError::TwoUsers),
        (Some(path), None) => {
            let seed = std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
            Ok(Credentials::Nkey(seed.trim().to_owned()))
        }
        (None, Some(path)) => Ok(Credentials::File(path.to_path_buf())),
        (None, None) => Ok(Credentials::None),
    }
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Toml { path: path.to_path_buf(), reason: error.to_string() })
}

/// The machine's name as the kernel has it, or `node`.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    if plain.is_empty() { "node".to_owned() } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<ServerConfig, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tollbook.toml");
        std::fs::write(directory.path().join("engine.nk"), "SUSEED\n").unwrap();
        let text = text.replace("DIR", directory.path().to_str().unwrap());
        std::fs::write(&path, text).unwrap();
        ServerConfig::load(ServeArgs { config: Some(path), ..ServeArgs::default() })
    }

    fn jetstream(config: &ServerConfig) -> &JetStreamOptions {
        match &config.settings.log {
            LogSettings::JetStream(options) => options,
            LogSettings::Embedded => panic!("the log is embedded"),
        }
    }

    #[test]
    fn nothing_said_is_the_embedded_log_on_loopback() {
        let config = ServerConfig::load(ServeArgs::default()).unwrap();
        assert!(matches!(config.settings.log, LogSettings::Embedded));
        assert_eq!(config.listen.to_string(), LISTEN);
        assert!(config.spool.is_none());
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = "listen = \"127.0.0.1:1\"\npartitions = 3\ncurrency = \"EUR\"";
        let config = load(file).unwrap();
        assert_eq!((config.listen.port(), config.settings.partitions), (1, Some(3)));
        assert_eq!(config.settings.currency.as_deref(), Some("EUR"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tollbook.toml");
        std::fs::write(&path, file).unwrap();
        let flags = ServeArgs { config: Some(path), partitions: Some(5), ..ServeArgs::default() };
        assert_eq!(ServerConfig::load(flags).unwrap().settings.partitions, Some(5));
    }

    #[test]
    fn servers_stand_in_a_list_or_between_commas() {
        for urls in ["\"nats://a:1, nats://b:2\"", "[\"nats://a:1\", \"nats://b:2\"]"] {
            let config = load(&format!("[nats]\nurl = {urls}")).unwrap();
            assert_eq!(jetstream(&config).urls, ["nats://a:1", "nats://b:2"]);
            assert!(config.spool.is_some(), "nobody has credentials, so a spool does no harm");
        }
    }

    #[test]
    fn an_engine_with_credentials_opens_no_spool_without() {
        let config = load("[nats]\nurl = \"nats://a:1\"\nnkey = \"DIR/engine.nk\"").unwrap();
        assert!(matches!(&jetstream(&config).credentials, Credentials::Nkey(seed) if seed == "SUSEED"));
        assert!(config.spool.is_none());
        let spool =
            "[nats]\nurl = \"nats://a:1\"\nnkey = \"DIR/engine.nk\"\n[nats.spool]\nnkey = \"DIR/engine.nk\"";
        assert!(load(spool).unwrap().spool.is_some());
    }

    #[test]
    fn r7_3_deliveries_are_https_and_public_unless_told() {
        let delivery = load("").unwrap().settings.delivery.unwrap();
        assert!(delivery.smtp.is_none() && !delivery.webhooks.allow_http);
        assert!(delivery.webhooks.allow_private.is_empty());
        assert_eq!(delivery.mailed.len(), 10);
        let text = "console_url = \"https://console.example.com\"\n[smtp]\nhost = \"mail\"\nfrom = \"a@b.co\"\nuser = \"u\"\n\
                    password_file = \"DIR/engine.nk\"\n[webhooks]\nallow_private = true\n[alerts]\nmail = [\"balance_low\"]";
        let delivery = load(text).unwrap().settings.delivery.unwrap();
        let smtp = delivery.smtp.unwrap();
        assert_eq!((smtp.port, smtp.credentials), (587, Some(("u".to_owned(), "SUSEED".to_owned()))));
        assert_eq!(delivery.webhooks.allow_private.len(), 2);
        assert_eq!(delivery.mailed.len(), 1);
        assert_eq!(delivery.console_url.as_deref(), Some("https://console.example.com"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |text: &str| load(text).unwrap_err().to_string();
        assert!(wrong("[smtp]\nhost = \"mail\"\nfrom = \"nobody\"").contains("smtp.from"));
        assert!(wrong("[smtp]\nhost = \"mail\"\nfrom = \"a@b.co\"\nuser = \"u\"").contains("smtp.user"));
        assert!(wrong("[webhooks]\nallow_private = [\"10.0.0\"]").contains("webhooks.allow_private"));
        assert!(wrong("[webhooks]\ntimeout_seconds = 0").contains("webhooks.timeout_seconds"));
        assert!(wrong("[alerts]\nmail = [\"balance\"]").contains("balance_low"));
        assert!(wrong("lissten = 1").contains("lissten"));
        assert!(wrong("console_url = \"console.example.com\"").contains("https://"));
        assert!(wrong("currency = \"usd\"").contains("three letters"));
        assert!(wrong("[nats]\nurl = \"nats://a:1\"\nnkey = \"DIR/none.nk\"").contains("none.nk"));
        assert!(wrong("node = \"\"").contains("must not be empty"));
    }
}
