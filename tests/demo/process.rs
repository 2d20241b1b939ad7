//! The demo in a process of its own: this test binary again, told on its standard input what to run.

use std::io::BufRead;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tollbook_engine::cli::Cli;

/// Playing takes seconds, and half a minute where everything else is tested at the same time; four times that.
const DEADLINE: Duration = Duration::from_secs(120);

/// Not a test: what [`Demo::start`] starts. Without anything on standard input it does nothing.
#[test]
#[ignore = "started by the other tests"]
fn tollbook() {
    let arguments: Vec<String> = std::io::stdin().lock().lines().map(Result::unwrap).collect();
    if arguments.is_empty() {
        return;
    }
    let cli = Cli::parse_from(["tollbook".to_owned()].into_iter().chain(arguments));
    let ended = tollbook_engine::cli::main(cli);
    // Success must not be mistaken for the test harness's own.
    std::process::exit(if ended == ExitCode::SUCCESS { 0 } else { 1 });
}

/// A running demo. Killed on drop.
pub(crate) struct Demo {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    told: Vec<String>,
}

impl Demo {
    /// Starts `tollbook demo` with these arguments.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::tollbook", "--ignored", "--nocapture", "--test-threads=1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(
                ["demo"]
                    .iter()
                    .chain(arguments)
                    .map(|part| format!("{part}\n"))
                    .collect::<String>()
                    .as_bytes(),
            )
            .await
            .unwrap();
        drop(stdin);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, told: Vec::new() }
    }

    /// Waits until it says that it serves; gives the server's URL.
    pub(crate) async fn serves(&mut self) -> String {
        let line = self.line_with("Serving on ").await;
        line.trim_start_matches("Serving on ").split(',').next().unwrap().to_owned()
    }

    /// Waits for a line that holds `text`.
    async fn line_with(&mut self, text: &str) -> String {
        let reading = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.told.push(line);
                if let Some(line) = self.told.last().filter(|line| line.contains(text)) {
                    return line.clone();
                }
            }
            let mut why = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut why).await.unwrap();
            panic!("it ended without {text:?}:\n{}\n{why}", self.told.join("\n"));
        };
        tokio::time::timeout(DEADLINE, reading).await.expect("it says so in time")
    }

    /// What followed `text` in a line that was told.
    pub(crate) fn said(&self, text: &str) -> &str {
        let mut found = self.told.iter().filter_map(|line| line.split_once(text));
        found.next().unwrap_or_else(|| panic!("no {text:?} in:\n{}", self.told.join("\n"))).1
    }

    /// What follows `text` in the line with which it begins to serve.
    pub(crate) async fn last_word(&mut self, text: &str) -> String {
        let line = self.line_with("Ctrl-C ends it").await;
        line.split_once(text).unwrap().1.to_owned()
    }

    /// Everything that a ledger has to live with was shown, and everything was equal.
    pub(crate) fn told_all_that_happened(&self) {
        let wanted = [
            "voucher     Aurora Labs is granted 5 USD",
            "Aurora Labs: Tier0 → Tier1",
            "Boreal Games: Tier2 → Tier3",
            "offline     gateway-us-1",
            "late        gateway-us-1 is back",
            "200 recognized, 0 booked twice",
            "USD a day",
            "of that pending: requests still pass",
            "USD are settled, no request passes",
            "429 project_daily_budget",
            "requests pass at once",
            "the lag cost ",
            "a voucher of 5 USD",
            "from Tier0 to Tier1",
            "100 % of its budget",
            "USD are left, less than 15",
            "alerts were raised, once each",
            "24 records of kimi-k4-preview: no price for this model",
            "the same id came before with other content",
            "✓ equal to the last decimal",
            "25 are in quarantine, none is missing",
        ];
        for text in wanted {
            self.said(text);
        }
        let closes = self.told.iter().filter(|line| line.contains("cycle ends")).count();
        assert_eq!(closes, 6);
    }

    /// How many requests admission refused, which were therefore not made.
    pub(crate) fn refused(&self) -> u64 {
        let count = self.said("requests pass at once; ").split_once(" were refused").unwrap().0;
        count.parse().unwrap()
    }

    /// SIGTERM; it must end well.
    pub(crate) async fn terminate(mut self) {
        let id = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
        assert!(sent.success());
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await.expect("it ends in time");
        assert_eq!(ended.unwrap().code(), Some(0));
    }

    /// It must end with exit code 1; gives what it complained about.
    pub(crate) async fn fails(mut self) -> String {
        let mut complaint = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        let ending = async {
            stderr.read_to_string(&mut complaint).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let ended = tokio::time::timeout(DEADLINE, ending).await.expect("it ends in time");
        assert_eq!(ended.code(), Some(1), "{complaint}");
        complaint
    }
}

/// A client of the demo's server. Plain HTTP, but the TLS provider must be chosen all the same.
pub(crate) fn http_client() -> reqwest::Client {
    tollbook_engine::cli::http_client()
}
