//! Over NATS: the same client asks for admission and an echo in turn, so that whatever else the machine does hits both.

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use tokio::process::{Child, Command};

use super::{Gate, lease};
use crate::bench::report::{self, Latencies};
use crate::bench::{BenchError, whole};
use crate::clock::{self, Stopwatch};

const ADMIT: &str = "tollbook.rpc.admit";
/// Leases that are open at once; they are released outside of the time that is taken.
const OPEN: usize = 500;
/// How long the process that echoes may take to start.
const RESPONDER_MAX: Duration = Duration::from_secs(10);
/// Requests before any time is taken.
const WARM_UP: usize = 1_000;

pub(super) async fn run(url: &str, asks: &[Vec<u8>], options: &Gate) -> Result<(), BenchError> {
    let asks: Vec<Bytes> = asks.iter().cloned().map(Bytes::from).collect();
    let client = connect(url).await?;
    let subject = format!("bench.echo.{:032x}", clock::new_id_bits());
    let _echo = responder(url, &subject, &client).await?;
    measure(&client, &subject, &asks, WARM_UP).await?;
    let (mut bare, mut admit, mut rows) = (Latencies::default(), Latencies::default(), Vec::new());
    for _ in 0..options.runs.max(1) {
        let (bare_run, admit_run) = measure(&client, &subject, &asks, options.requests).await?;
        let cells =
            [bare_run.micros(500), admit_run.micros(500), bare_run.micros(990), admit_run.micros(990)];
        let [b50, a50, b99, a99] = cells;
        let mut row: Vec<String> = cells.iter().map(|micros| report::grouped(*micros)).collect();
        row.extend([ratio(a50, b50), ratio(a99, b99)]);
        rows.push(row);
        bare.extend(bare_run.all());
        admit.extend(admit_run.all());
    }
    report::print(
        "Admission over NATS beside a bare request and reply, one at a time, in microseconds",
        &["bare p50", "admit p50", "bare p99", "admit p99", "p50 ratio", "p99 ratio"],
        &rows,
    );
    bare.say_nanos("A bare request and reply");
    admit.say_nanos("tollbook.rpc.admit");
    let (b50, a50) = (bare.micros(500), admit.micros(500));
    report::say(&format!("p50 of all runs: {} of the bare one's\n", ratio(a50, b50)));
    Ok(())
}

/// Two decimals.
fn ratio(part: u64, whole: u64) -> String {
    let hundredths = part.saturating_mul(100).checked_div(whole).unwrap_or(0);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

async fn connect(url: &str) -> Result<Client, BenchError> {
    async_nats::connect(url).await.map_err(|error| BenchError::Nats(error.to_string()))
}

/// A process that answers, as the engine is one: within this process a message would wake nobody else. Ends when dropped.
async fn responder(url: &str, subject: &str, client: &Client) -> Result<Child, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::made)?;
    let mut command = Command::new(program);
    command.args(["bench", "gate", "--token", "none", "--nats", url, "--echo", subject]);
    let child = command.kill_on_drop(true).spawn().map_err(BenchError::made)?;
    let answered = async {
        while request(client, subject, &Bytes::new()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(RESPONDER_MAX, answered).await {
        Ok(()) => Ok(child),
        Err(_) => Err(BenchError::Nats("nobody echoes".to_owned())),
    }
}

/// Answers what comes with what came, as little as there can be.
pub(super) async fn echo(url: &str, subject: &str) -> Result<(), BenchError> {
    let failed = |error: String| BenchError::Nats(error);
    let client = connect(url).await?;
    let messages = client.subscribe(subject.to_owned()).await;
    let mut messages = messages.map_err(|error| failed(error.to_string()))?;
    // In a task, as the engine answers: outside of one each message would cross from a thread to another and back, and
    // the bare answer would be the slower one.
    let echoing = tokio::spawn(async move {
        while let Some(message) = messages.next().await {
            if let Some(reply) = message.reply
                && let Err(error) = client.publish(reply, message.payload).await
            {
                return Err(BenchError::Nats(error.to_string()));
            }
        }
        Ok(())
    });
    echoing.await.map_err(BenchError::made)?
}

/// Asks so many times for each, in turn.
async fn measure(
    client: &Client,
    echo: &str,
    asks: &[Bytes],
    requests: usize,
) -> Result<(Latencies, Latencies), BenchError> {
    let (mut bare, mut admit) = (Vec::with_capacity(requests), Vec::with_capacity(requests));
    let mut leases = Vec::with_capacity(OPEN);
    for (number, ask) in asks.iter().cycle().take(requests).enumerate() {
        // Whoever is second finds everything warm: they take turns at that too.
        if number.is_multiple_of(2) {
            bare.push(request(client, echo, ask).await?.0);
        }
        let (took, answer) = request(client, ADMIT, ask).await?;
        admit.push(took);
        leases.push(lease(&answer)?);
        if !number.is_multiple_of(2) {
            bare.push(request(client, echo, ask).await?.0);
        }
        if whole(leases.len()) >= whole(OPEN) {
            release(client, &mut leases).await?;
        }
    }
    release(client, &mut leases).await?;
    let (mut all_bare, mut all_admit) = (Latencies::default(), Latencies::default());
    all_bare.extend(bare);
    all_admit.extend(admit);
    Ok((all_bare, all_admit))
}

async fn request(client: &Client, subject: &str, payload: &Bytes) -> Result<(Duration, Bytes), BenchError> {
    let subject = subject.to_owned();
    let watch = Stopwatch::start();
    let answer = client.request(subject, payload.clone()).await;
    let took = watch.elapsed();
    let answer = answer.map_err(|error| BenchError::Nats(error.to_string()))?;
    Ok((took, answer.payload))
}

async fn release(client: &Client, leases: &mut Vec<String>) -> Result<(), BenchError> {
    for lease in leases.drain(..) {
        let body = json!({ "lease": lease }).to_string();
        request(client, "tollbook.rpc.release", &body.into()).await?;
    }
    Ok(())
}
