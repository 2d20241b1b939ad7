//! `move-in`: organizations with their past out of a file, one by one. Doing it again changes nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::client::{Caller, ClientArgs, ClientError};
use super::table;

/// Where organizations are moved in.
const PATH: &str = "/v1/organizations/imports";
/// Until the first repetition of what a busy server refused; twice that until the next.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest time between two repetitions.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Which organizations to move in.
#[derive(Args, Debug)]
pub(super) struct MoveInArgs {
    /// Lines of JSON, an organization each, as `POST /v1/organizations/imports` takes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

/// Why moving in stopped, or what was refused.
#[derive(Debug, thiserror::Error)]
pub enum MoveInError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The server did not answer, or there is no token.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Output failed.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// Some lines were refused; all others are moved in.
    #[error(
        "{refused} of {lines} organizations were refused; mend their lines and run this again: the others stay as they are"
    )]
    Refused {
        /// How many.
        refused: u64,
        /// Of how many.
        lines: u64,
    },
}

/// Moves every line in. The idempotency key follows from the line, so a repetition finds what the first run made.
pub(super) async fn run(args: MoveInArgs) -> Result<(), MoveInError> {
    let unreadable = |source| MoveInError::File { path: args.file.clone(), source };
    let caller = args.client.caller()?;
    let file = tokio::fs::File::open(&args.file).await.map_err(unreadable)?;
    let mut text = BufReader::new(file).lines();
    let (mut number, mut lines, mut refused) = (0u64, 0u64, 0u64);
    while let Some(line) = text.next_line().await.map_err(unreadable)? {
        number = number.saturating_add(1);
        if line.trim().is_empty() {
            continue;
        }
        lines = lines.saturating_add(1);
        match patiently(&caller, &line).await {
            Ok(told) => table::print(&format!("line {number}: {told}"))?,
            Err(ClientError::Refused(refusal)) => {
                refused = refused.saturating_add(1);
                table::print(&format!("line {number}: refused: {refusal}"))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if refused > 0 { Err(MoveInError::Refused { refused, lines }) } else { Ok(()) }
}

/// Tries again while the server is busy or restarts, for about ten seconds.
async fn patiently(caller: &Caller, line: &str) -> Result<String, ClientError> {
    let mut wait = FIRST_WAIT;
    loop {
        match move_in(caller, line).await {
            Err(ClientError::Refused(refusal))
                if refusal.status == StatusCode::SERVICE_UNAVAILABLE && wait <= LAST_WAIT =>
            {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2);
            }
            other => return other,
        }
    }
}

async fn move_in(caller: &Caller, line: &str) -> Result<String, ClientError> {
    let digest: String = Sha256::digest(line.trim()).iter().map(|byte| format!("{byte:02x}")).collect();
    let request = caller
        .request(Method::POST, PATH)
        .header("Idempotency-Key", format!("move-in-{digest}"))
        .header("Content-Type", "application/json")
        .body(line.to_owned());
    let answer = caller.exchange(request).await?;
    let parsed = caller.parse(&answer)?;
    if caller.wants_json() {
        return Ok(parsed.to_string());
    }
    let part = |path: &str| parsed.pointer(path).map(table::text).unwrap_or_default();
    let before = if answer.replayed { " (was moved in before)" } else { "" };
    let count = |name: &str| parsed.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    Ok(format!(
        "{} {}, available {} {}, {} members, {} projects{before}",
        part("/id"),
        json!(part("/name")),
        part("/balance/available"),
        part("/balance/currency"),
        count("members"),
        count("projects"),
    ))
}
