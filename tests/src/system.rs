//! The real `tollbook`: a server of its own per test, killed on drop, and the command line against it.

mod api;
mod binary;
mod timed;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub use self::api::{Answer, Api, Key, Totals, amount};
pub use self::binary::example;
pub use self::timed::Timed;
use crate::eventually;
use crate::nats::NatsServer;

/// A debug build that folds a few thousand entries on a busy machine starts within seconds; ten times that is a fault.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct SystemBuilder {
    data: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl SystemBuilder {
    /// Keeps its data in this directory, which outlives the server.
    pub fn data(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data = Some(directory.into());
        self
    }

    /// A further argument of `serve`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Keeps the log on this server instead of in the data directory.
    pub fn nats(self, nats: &NatsServer) -> Self {
        self.arg("--nats").arg(nats.url()).arg("--nats-monitor").arg(nats.monitor_url())
    }

    /// Partitions of a new ledger.
    pub fn partitions(self, count: u16) -> Self {
        self.arg("--partitions").arg(count.to_string())
    }

    /// Starts a server and waits until it may write.
    pub async fn start(self) -> System {
        let system = self.start_standby().await;
        system.ready().await;
        system
    }

    /// Starts a server and waits until it answers; another one may own its partitions.
    pub async fn start_standby(self) -> System {
        let mut system = self.prepare();
        system.spawn();
        system.listening().await;
        system
    }

    /// Starts a server and waits for nothing.
    pub fn spawn(self) -> System {
        let mut system = self.prepare();
        system.spawn();
        system
    }

    /// Starts a server that must give up. Its exit code, and what it said.
    pub async fn start_in_vain(self) -> (Option<i32>, String) {
        let mut system = self.prepare();
        system.spawn();
        let status = system.exited().await;
        (status.code(), system.log())
    }

    fn prepare(self) -> System {
        let directory = TempDir::with_prefix("tollbook-system-").unwrap();
        let data = self.data.unwrap_or_else(|| directory.path().join("data"));
        System {
            directory,
            data,
            args: self.args,
            api: Api::nowhere(),
            child: None,
            starts: 0,
            env: self.env,
        }
    }
}

/// One server of its own; dropping it kills it.
#[derive(Debug)]
pub struct System {
    /// Calls it, with the admin token.
    pub api: Api,
    directory: TempDir,
    data: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
    starts: usize,
    env: Vec<(String, String)>,
}

impl System {
    /// A server with the embedded log.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// A server with other settings.
    pub fn builder() -> SystemBuilder {
        SystemBuilder::default()
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A directory of this test's own, for whatever it needs.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// What the server has logged since its last start, as lines of JSON.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// SIGKILL: whatever was not written is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM, and waits for the end, which must be a good one.
    pub async fn terminate(&mut self) {
        self.signal("-TERM");
        let status = self.exited().await;
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Sends the process a signal.
    pub fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("the server runs");
        assert!(Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap().success());
    }

    /// Starts again with the same data, killed before if need be, and waits until it may write. Clones of
    /// [`System::api`] find it again.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn();
        self.listening().await;
        self.ready().await;
    }

    /// Starts again, killed before if need be, to die at a place of `engine/src/fault.rs`, such as `alert_raised:3`, or
    /// nowhere. Waits until it answers, or has died by then.
    pub async fn restart_to_die(&mut self, place: Option<&str>) {
        const FAULT: &str = "TOLLBOOK_FAULT";
        self.kill();
        self.env.retain(|(name, _)| name != FAULT);
        self.env.extend(place.map(|place| (FAULT.to_owned(), place.to_owned())));
        self.spawn();
        if let Err((code, said)) = self.listening_or_ended().await {
            assert_eq!(code, None, "it was not killed, it gave up: {said}");
        }
    }

    /// Whether the process ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Waits until the server may write.
    pub async fn ready(&self) {
        let api = &self.api;
        eventually(DEADLINE, "the server is ready", || async move {
            let answer = api.try_send(api.request("GET", "/readyz")).await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Waits until the process ends by itself.
    pub async fn exited(&mut self) -> ExitStatus {
        let log = self.log_path();
        let child = std::sync::Mutex::new(self.child.take().expect("the server runs"));
        let what = format!("the server of {} ends", log.display());
        eventually(DEADLINE, &what, || async { child.lock().unwrap().try_wait().unwrap() }).await
    }

    /// A command of the command line against this server: `--server` and the token are added.
    pub async fn run(&self, args: &[&str]) -> Ran {
        let mut command = Self::command();
        command.args(args).env("TOLLBOOK_SERVER", self.api.url()).env("TOLLBOOK_TOKEN", self.api.token());
        Self::output(command).await
    }

    /// A command of `tollbook-replay` on this server's embedded log; the server must be stopped.
    pub async fn replay(&self, args: &[&str]) -> Ran {
        let mut command = Self::replay_command();
        command.args(args).arg("--data").arg(&self.data);
        Self::output(command).await
    }

    /// `tollbook-replay`, with nothing of this process's environment that it would read.
    pub fn replay_command() -> Command {
        Self::clean(binary::replay())
    }

    /// The binary, with nothing of this process's environment that it would read.
    pub fn command() -> Command {
        Self::clean(binary::tollbook())
    }

    fn clean(binary: &Path) -> Command {
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("tollbook_") || text.ends_with("_proxy") {
                command.env_remove(&name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub async fn output(command: Command) -> Ran {
        let output = tokio::process::Command::from(command).kill_on_drop(true).output();
        let output = tokio::time::timeout(DEADLINE, output).await.expect("the command ends").unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join(format!("server-{}.log", self.starts))
    }

    fn spawn(&mut self) {
        self.starts += 1;
        let log = File::create(self.log_path()).unwrap();
        let child = Self::command()
            .args(["--log-json", "serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(&self.data)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    async fn listening(&mut self) {
        if let Err((_, said)) = self.listening_or_ended().await {
            panic!("the server ended: {said}");
        }
    }

    /// Waits until the server answers. Errors: its exit code and what it said, if it ended instead.
    pub async fn listening_or_ended(&mut self) -> Result<(), (Option<i32>, String)> {
        let path = self.log_path();
        let child = std::sync::Mutex::new(self.child.as_mut().expect("the server runs"));
        let listening = eventually(DEADLINE, "the server listens", || async {
            let ended = child.lock().unwrap().try_wait().unwrap();
            let log = fs::read_to_string(&path).unwrap();
            match (log.lines().find_map(serving), ended) {
                (Some(address), _) => Some(Ok(address)),
                (None, Some(status)) => Some(Err((status.code(), log))),
                (None, None) => None,
            }
        });
        let address = listening.await?;
        let token = fs::read_to_string(self.data.join("admin-token")).unwrap();
        self.api.moved(&format!("http://{address}"), token.trim());
        Ok(())
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address in the line that says where the server serves.
fn serving(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    (fields["message"] == "serving").then(|| fields["address"].as_str().unwrap().to_owned())
}

/// What a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Its output.
    pub out: String,
    /// Its complaints.
    pub err: String,
}

impl Ran {
    /// Its output as JSON; it must have gone well.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}
