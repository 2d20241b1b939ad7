//! `tollbook demo` as a newcomer runs it: a process with its own output, signals and exit code.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod process;

use std::net::TcpListener;
use std::path::Path;

use rust_decimal::Decimal;
use serde_json::Value;
use tollbook_tests::nats::NatsServer;

use self::process::Demo;

/// Requests of the generated hour.
const REQUESTS: u64 = 8_800;
/// What is sent beside them and cannot be booked.
const QUARANTINED: usize = 25;

#[tokio::test]
async fn the_demo_plays_on_the_embedded_log_serves_and_leaves_nothing_behind() {
    let mut demo = Demo::start(&["--listen", "127.0.0.1:0"]).await;
    let server = demo.serves().await;
    demo.told_all_that_happened();
    let token = demo.said("export TOLLBOOK_TOKEN=$(cat ").trim_end_matches(')').to_owned();
    the_ledger_has_the_whole_hour(&server, Path::new(&token), demo.refused()).await;
    let scratch = demo.last_word("removes ").await;
    assert!(Path::new(&token).starts_with(&scratch), "{token} in {scratch}");
    demo.terminate().await;
    assert!(!Path::new(&scratch).exists());
}

#[tokio::test]
async fn the_demo_plays_on_jetstream_once_and_never_into_a_ledger() {
    let nats = NatsServer::start().await;
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("demo");
    let (url, monitor, directory) = (nats.url(), nats.monitor_url(), data.display().to_string());
    let on_nats = ["--listen", "127.0.0.1:0", "--nats", &url, "--nats-monitor", &monitor];
    let mut demo = Demo::start(&[&on_nats[..], &["--data", &directory]].concat()).await;
    let server = demo.serves().await;
    demo.told_all_that_happened();
    the_ledger_has_the_whole_hour(&server, &data.join("admin-token"), demo.refused()).await;
    demo.last_word("stays in ").await;
    demo.terminate().await;
    assert!(data.join("views").exists());

    let entries = messages(&nats).await;
    let refused = Demo::start(&on_nats).await.fails().await;
    assert!(refused.contains("already holds a ledger"), "{refused}");
    assert_eq!(messages(&nats).await, entries);
    let refused = Demo::start(&["--listen", "127.0.0.1:0", "--data", &directory]).await.fails().await;
    assert!(refused.contains("already holds a ledger") && refused.contains(&directory), "{refused}");
}

#[tokio::test]
async fn a_trace_is_played_so_that_it_ends_now() {
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.csv");
    let rows = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n\
                2023-11-16 18:50:00.0000000,3180,8\r\n2023-11-16 19:14:19.9280160,110,27\r\n";
    std::fs::write(&trace, rows).unwrap();
    let mut demo = Demo::start(&["--listen", "127.0.0.1:0", "--trace", &trace.display().to_string()]).await;
    let server = demo.serves().await;
    let token = demo.said("export TOLLBOOK_TOKEN=$(cat ").trim_end_matches(')').to_owned();
    let api = Api::of(&server, Path::new(&token));
    let (requests, input, _) = api.consumption().await;
    assert_eq!((requests, input), (3, 4_808 + 3_180 + 110));
    demo.last_word("removes ").await;
    demo.terminate().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_before_anything_is_written() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("demo");
    let refused = Demo::start(&["--listen", &address, "--data", &data.display().to_string()]).await.fails();
    let refused = refused.await;
    assert!(refused.contains(&address) && refused.contains("--listen"), "{refused}");
    assert!(!data.exists());
}

/// Entries of the ledger's stream.
async fn messages(nats: &NatsServer) -> u64 {
    let jsz = nats.monitor("jsz?accounts=1&streams=1").await.unwrap();
    let streams = jsz["account_details"][0]["stream_detail"].as_array().unwrap();
    let log = streams.iter().find(|stream| stream["name"] == "TOLLBOOK_LOG_0_0").unwrap();
    log["state"]["messages"].as_u64().unwrap()
}

/// What an operator would ask first.
async fn the_ledger_has_the_whole_hour(server: &str, token: &Path, refused: u64) {
    let api = Api::of(server, token);
    let (requests, input, cost) = api.consumption().await;
    assert!(refused > 0, "the budget stopped nothing");
    assert_eq!(requests + refused, REQUESTS);
    assert!(input > 10_000_000 && cost > Decimal::from(10), "{input} tokens for {cost}");
    let quarantine = api.get("/v1/quarantine").await;
    assert_eq!(quarantine["items"].as_array().unwrap().len(), QUARANTINED);
    let mut left = -cost;
    for organization in api.organizations().await {
        let balance = api.get(&format!("/v1/organizations/{organization}/balance")).await;
        left += decimal(&balance["cumulative_recharge"]);
        // Each has earned the voucher of 5.
        left += Decimal::from(5) - decimal(&balance["available"]);
        assert!(balance["tier"].is_string(), "{balance}");
    }
    assert_eq!(left, Decimal::ZERO);
}

fn decimal(amount: &Value) -> Decimal {
    amount.as_str().unwrap().parse().unwrap()
}

/// The server that the demo left running.
struct Api {
    http: reqwest::Client,
    server: String,
    token: String,
}

impl Api {
    fn of(server: &str, token: &Path) -> Self {
        let token = std::fs::read_to_string(token).unwrap().trim().to_owned();
        Self { http: process::http_client(), server: server.to_owned(), token }
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.server);
        let answer = self.http.get(url).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    async fn organizations(&self) -> Vec<String> {
        let list = self.get("/v1/organizations").await;
        let items = list["items"].as_array().unwrap();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Requests, input tokens and cost of both organizations, whenever they were.
    async fn consumption(&self) -> (u64, u64, Decimal) {
        let mut all = (0, 0, Decimal::ZERO);
        for organization in self.organizations().await {
            let spend = self.get(&format!("/v1/organizations/{organization}/spend?from=2020-01-01")).await;
            for bucket in spend["buckets"].as_array().unwrap() {
                for result in bucket["results"].as_array().unwrap() {
                    all.0 += result["requests"].as_u64().unwrap();
                    all.1 += result["input_tokens"].as_u64().unwrap();
                    all.2 += decimal(&result["cost"]);
                }
            }
        }
        all
    }
}
