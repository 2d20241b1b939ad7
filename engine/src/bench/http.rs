//! How fast a server takes CloudEvents over HTTP. It runs elsewhere, on the same machine or not; bodies are made
//! before the time is taken.

use std::time::Duration;

use clap::Args;
use reqwest::{Client, StatusCode, header};
use serde_json::{Value, json};
use tollbook_schemas::cloudevent;
use tollbook_schemas::id::{KeyId, OrgId, ProjectId};

use super::report::{self, Latencies, Rates, each, grouped};
use super::traffic::{Customer, PRICES, Traffic};
use super::{BenchError, whole};
use crate::clock::{self, Clock, Stopwatch};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Posts batches of CloudEvents to a running server. It makes organizations, projects, keys and prices of its own
/// there first: not for production.
#[derive(Clone, Debug, Args)]
pub struct Http {
    /// The server.
    #[arg(long = "server", alias = "url", env = "TOLLBOOK_SERVER", default_value = "http://127.0.0.1:8480")]
    url: String,
    /// A token of scope `operator` that may publish.
    #[arg(long, env = "TOLLBOOK_TOKEN", hide_env_values = true)]
    token: String,
    /// Keep-alive connections, each with one request under way.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Events per run.
    #[arg(long, default_value_t = 400_000)]
    events: usize,
    /// Events per request, at most 1000.
    #[arg(long, default_value_t = 1_000)]
    per_request: usize,
    /// Leave `producerseq` out, so that the server looks ids up.
    #[arg(long)]
    by_id: bool,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

pub(super) async fn run(options: &Http) -> Result<(), BenchError> {
    let server = Server::new(&options.url, &options.token)?;
    let mut traffic = Traffic::new(clock::new_id_bits(), Clock::System.now(), options.by_id)?;
    server.set_up(&mut traffic).await?;
    let (mut rates, mut waits) = (Rates::default(), Latencies::default());
    let (mut events, mut bytes) = (0, 0);
    for _ in 0..options.runs.max(1) {
        let requests = options.events.div_ceil(options.per_request.max(1));
        let mut bodies: Vec<Vec<Vec<u8>>> = (0..options.connections.max(1)).map(|_| Vec::new()).collect();
        for number in 0..requests {
            let batch = traffic.batch(options.per_request);
            let body: Vec<Value> = batch.iter().map(cloudevent::to_event).collect();
            let body = serde_json::to_vec(&body).map_err(BenchError::made)?;
            bytes = whole(body.len()).saturating_add(bytes);
            events = whole(batch.len()).saturating_add(events);
            let connection = number.checked_rem(bodies.len()).unwrap_or(0);
            if let Some(bodies) = bodies.get_mut(connection) {
                bodies.push(body);
            }
        }
        let sent = requests.saturating_mul(options.per_request);
        let watch = Stopwatch::start();
        let mut tasks = tokio::task::JoinSet::new();
        for bodies in bodies {
            let server = Server::new(&options.url, &options.token)?;
            tasks.spawn(async move { server.post_all(bodies).await });
        }
        while let Some(done) = tasks.join_next().await {
            waits.extend(done.map_err(BenchError::made)??);
        }
        rates.add(whole(sent), watch.elapsed());
    }
    report::print(
        "Ingest over HTTP, CloudEvents in batches",
        &["events/s", "min", "median", "max", "of the median"],
        &[rates.row(&format!("{} connections", options.connections), rates.median())],
    );
    waits.say("From posting a batch to its answer, durable");
    report::say(&format!(
        "{} events in requests of {}, {} bytes per event as JSON; the load generator: {} MiB at most\n",
        grouped(events),
        grouped(whole(options.per_request)),
        each(bytes, events),
        report::peak_mib(),
    ));
    Ok(())
}

/// One connection to the server.
pub(super) struct Server {
    http: Client,
    url: String,
    token: String,
}

impl Server {
    /// With this token.
    pub(super) fn new(url: &str, token: &str) -> Result<Self, BenchError> {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider is installed already");
        }
        let http = Client::builder().timeout(TIMEOUT).pool_max_idle_per_host(1).tcp_nodelay(true).build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { http: http.map_err(BenchError::made)?, url, token: token.to_owned() })
    }

    /// Publishes a price for every model of the benchmark.
    pub(super) async fn prices(&self) -> Result<(), BenchError> {
        let models: Vec<Value> = PRICES
            .iter()
            .map(|(model, input, cached_input, output)| {
                json!({ "model": model, "input": input, "cached_input": cached_input, "output": output })
            })
            .collect();
        let prices = json!({ "currency": "USD", "effective_from": "1970-01-01T00:00:00Z", "models": models });
        self.write(self.http.put(format!("{}/v1/config/prices", self.url)), &prices).await.map(drop)
    }

    /// Posts JSON, which must be taken.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, BenchError> {
        self.write(self.http.post(format!("{}{path}", self.url)), body).await
    }

    /// Makes what traffic is charged to, and takes over the ids that the server gives.
    async fn set_up(&self, traffic: &mut Traffic) -> Result<(), BenchError> {
        self.prices().await?;
        for (number, customer) in (0u32..).zip(traffic.customers()) {
            self.set_up_one(number, customer).await?;
        }
        Ok(())
    }

    async fn set_up_one(&self, number: u32, customer: &mut Customer) -> Result<(), BenchError> {
        let name = format!("benchmark {number}");
        let creator = json!({ "name": "Benchmark", "email": "creator@example.com" });
        let body = json!({ "name": name, "email": "billing@example.com", "creator": creator });
        let id = self.create("", &body).await?;
        customer.id = OrgId::parse(&id).map_err(BenchError::made)?;
        let body = json!({ "amount": "1000000", "reference": format!("bench-{number}") });
        self.create(&format!("/{id}/recharges"), &body).await?;
        for project in &mut customer.projects {
            let made = self.create(&format!("/{id}/projects"), &json!({ "name": "benchmark" })).await?;
            *project = ProjectId::parse(&made).map_err(BenchError::made)?;
        }
        for (key, project) in customer.keys.iter_mut().zip(customer.projects.iter().cycle()) {
            let path = format!("/{id}/projects/{project}/api-keys");
            let made = self.create(&path, &json!({ "name": "a gateway's key" })).await?;
            *key = KeyId::parse(&made).map_err(BenchError::made)?;
        }
        Ok(())
    }

    /// Creates something of an organization and answers its id.
    async fn create(&self, path: &str, body: &Value) -> Result<String, BenchError> {
        let answer = self.post(&format!("/v1/organizations{path}"), body).await?;
        let id = answer.get("id").and_then(Value::as_str);
        id.map(str::to_owned)
            .ok_or_else(|| BenchError::Http(format!("{path} answered without an id: {answer}")))
    }

    async fn write(&self, request: reqwest::RequestBuilder, body: &Value) -> Result<Value, BenchError> {
        let answer = request.bearer_auth(&self.token).json(body).send().await.map_err(BenchError::http)?;
        let status = answer.status();
        let body = answer.text().await.map_err(BenchError::http)?;
        if !status.is_success() {
            return Err(BenchError::Http(format!("{status}: {body}")));
        }
        serde_json::from_str(&body).map_err(BenchError::made)
    }

    /// Posts bodies one after the other; a server that is busy gets the same once more.
    async fn post_all(self, bodies: Vec<Vec<u8>>) -> Result<Vec<Duration>, BenchError> {
        let url = format!("{}/v1/events", self.url);
        let mut waits = Vec::with_capacity(bodies.len());
        for body in bodies.into_iter().map(bytes::Bytes::from) {
            let watch = Stopwatch::start();
            loop {
                let request = self
                    .http
                    .post(&url)
                    .bearer_auth(&self.token)
                    .header(header::CONTENT_TYPE, "application/cloudevents-batch+json")
                    .body(body.clone());
                let answer = request.send().await.map_err(BenchError::http)?;
                let status = answer.status();
                let text = answer.text().await.map_err(BenchError::http)?;
                if status.is_success() {
                    break;
                }
                if status != StatusCode::SERVICE_UNAVAILABLE && status != StatusCode::TOO_MANY_REQUESTS {
                    return Err(BenchError::Http(format!("{status}: {text}")));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            waits.push(watch.elapsed());
        }
        Ok(waits)
    }
}
