//! How fast a running server decides for gateways: over HTTP with connections that are kept, or over NATS beside a bare
//! request and reply.

mod http;
mod nats;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use super::http::Server;
use super::report;
use super::traffic::PRICES;
use super::{BenchError, whole};

/// Organizations that are made at the same time.
const SET_UP_AT_ONCE: usize = 32;

/// Asks a running server whether requests may pass. It makes organizations, money, keys and prices of its own there
/// first: not for production.
#[derive(Clone, Debug, Args)]
pub struct Gate {
    /// The server.
    #[arg(long = "server", env = "TOLLBOOK_SERVER", default_value = "http://127.0.0.1:8480")]
    url: String,
    /// A token of scope `operator`.
    #[arg(long, env = "TOLLBOOK_TOKEN", hide_env_values = true)]
    token: String,
    /// The nats-server that its log is on: asks over NATS, one request after the other, in turn with a bare request and
    /// reply. The user must be allowed everything.
    #[arg(long)]
    nats: Option<String>,
    /// Keep-alive connections over HTTP, each with one request under way.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Organizations, each with a key.
    #[arg(long, default_value_t = 100)]
    organizations: usize,
    /// Requests per run.
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only answers on this subject with what comes: for another process that measures.
    #[arg(long, hide = true, requires = "nats")]
    echo: Option<String>,
}

impl Gate {
    /// Whether this process only answers another.
    pub(super) const fn is_child(&self) -> bool {
        self.echo.is_some()
    }
}

pub(super) async fn run(options: &Gate) -> Result<(), BenchError> {
    if let (Some(subject), Some(url)) = (&options.echo, &options.nats) {
        return nats::echo(url, subject).await;
    }
    let server = Server::new(&options.url, &options.token)?;
    let asks = set_up(&server, options.organizations.max(1)).await?;
    match &options.nats {
        Some(url) => nats::run(url, &asks, options).await,
        None => {
            let token = json!({ "name": "benchmark", "scopes": ["gateway"] });
            let token = server.post("/v1/tokens", &token).await?;
            http::run(text(&token, "secret")?.to_owned(), asks, options.clone()).await
        }
    }
}

/// Makes organizations with money, a key and limits that are all there and never reached; what to ask for each.
async fn set_up(server: &Server, organizations: usize) -> Result<Vec<Vec<u8>>, BenchError> {
    server.prices().await?;
    let mut asks = Vec::with_capacity(organizations);
    let mut under_way = FuturesUnordered::new();
    for number in 0..organizations {
        if under_way.len() >= SET_UP_AT_ONCE
            && let Some(done) = under_way.next().await
        {
            let done: Result<_, BenchError> = done;
            asks.push(done?);
        }
        under_way.push(set_up_one(server, number));
    }
    while let Some(done) = under_way.next().await {
        asks.push(done?);
    }
    report::say(&format!("{} organizations, each with a key", report::grouped(whole(asks.len()))));
    Ok(asks)
}

async fn set_up_one(server: &Server, number: usize) -> Result<Vec<u8>, BenchError> {
    let creator = json!({ "name": "Benchmark", "email": "creator@example.com" });
    let body =
        json!({ "name": format!("gate {number}"), "email": "billing@example.com", "creator": creator });
    let made = server.post("/v1/organizations", &body).await?;
    let organization = format!("/v1/organizations/{}", text(&made, "id")?);
    let recharge = json!({ "amount": "100000000", "reference": format!("gate-{number}") });
    server.post(&format!("{organization}/recharges"), &recharge).await?;
    let much = json!({ "concurrency": 1_000_000_000, "rpm": 1_000_000_000, "tpm": 1_000_000_000_000_u64, "tpd": 1_000_000_000_000_000_u64 });
    server.post(&format!("{organization}/limits/override"), &much).await?;
    let project = server.post(&format!("{organization}/projects"), &json!({ "name": "benchmark" })).await?;
    let keys = format!("{organization}/projects/{}/api-keys", text(&project, "id")?);
    let key = server.post(&keys, &json!({ "name": "a customer's key" })).await?;
    let models = PRICES.iter().map(|(model, ..)| *model);
    let model = models.cycle().nth(number).unwrap_or_default();
    let ask = json!({
        "api_key": text(&key, "secret")?, "ip": "203.0.113.7", "model": model,
        "input_tokens": 1_000, "max_output_tokens": 500,
    });
    Ok(ask.to_string().into_bytes())
}

fn text<'a>(answer: &'a Value, member: &str) -> Result<&'a str, BenchError> {
    let found = answer.get(member).and_then(Value::as_str);
    found.ok_or_else(|| BenchError::Http(format!("an answer without {member}: {answer}")))
}

/// The lease that an answer names.
fn lease(body: &[u8]) -> Result<String, BenchError> {
    let named = |body: &[u8]| {
        let text = std::str::from_utf8(body).ok()?;
        let (_, rest) = text.split_once("\"lease\":\"")?;
        rest.split_once('"').map(|(lease, _)| lease.to_owned())
    };
    named(body).ok_or_else(|| BenchError::Http(format!("not admitted: {}", String::from_utf8_lossy(body))))
}
