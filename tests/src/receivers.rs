//! Where alerts arrive: a real SMTP server (aiosmtpd) and an HTTP endpoint, which keep what they get.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::eventually;
use crate::python;
use crate::system::DEADLINE;

/// Says on which port it listens, then writes a line of JSON per message before it accepts it.
const MAIL_SERVER: &str = r#"
import asyncio, email, json, os, sys
from aiosmtpd.smtp import SMTP

class Keep:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content)
        line = json.dumps({"to": envelope.rcpt_tos, "headers": {k.lower(): v for k, v in message.items()}})
        kept.write(line + "\n")
        kept.flush()
        return "250 kept"

async def main():
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Keep()), "127.0.0.1", 0)
    port = os.path.join(sys.argv[1], "port")
    with open(port + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(port + ".new", port)
    await server.serve_forever()

kept = open(os.path.join(sys.argv[1], "messages"), "a")
asyncio.run(main())
"#;

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// To whom.
    pub to: Vec<String>,
    /// Its headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// An SMTP server of its own; dropping it kills it.
#[derive(Debug)]
pub struct MailServer {
    directory: TempDir,
    child: Child,
    /// Its port on this machine.
    pub port: u16,
}

impl MailServer {
    /// Starts one that takes everything, without TLS.
    pub async fn start() -> Self {
        let interpreter = python::interpreter("aiosmtpd==1.4.6", "aiosmtpd").await;
        let directory = TempDir::with_prefix("tollbook-mail-").unwrap();
        let child = Command::new(interpreter)
            .args(["-c", MAIL_SERVER])
            .arg(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let port = eventually(DEADLINE, "the mail server names its port", || {
            let text = std::fs::read_to_string(directory.path().join("port")).ok();
            std::future::ready(text.map(|text| text.parse().unwrap()))
        })
        .await;
        Self { directory, child, port }
    }

    /// What arrived, in order.
    pub fn messages(&self) -> Vec<Mail> {
        let text = std::fs::read_to_string(self.directory.path().join("messages")).unwrap();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(message).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn message(line: &str) -> Mail {
    let line: Value = serde_json::from_str(line).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let headers = line["headers"].as_object().unwrap().iter();
    Mail {
        to: line["to"].as_array().unwrap().iter().map(text).collect(),
        headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
    }
}

/// A call that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The last part of its path.
    pub name: String,
    /// Its header `webhook-id`.
    pub id: String,
    /// What it says.
    pub body: Value,
}

/// An HTTP endpoint that takes everything.
#[derive(Debug)]
pub struct HookServer {
    calls: Arc<Mutex<Vec<Call>>>,
    task: JoinHandle<()>,
    port: u16,
}

impl HookServer {
    /// Starts one.
    pub async fn start() -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router =
            axum::Router::new().route("/{name}", axum::routing::post(called)).with_state(Arc::clone(&calls));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { calls, task, port }
    }

    /// Where to call it by a name.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// What arrived, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

impl Drop for HookServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn called(
    State(calls): State<Arc<Mutex<Vec<Call>>>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let id = headers["webhook-id"].to_str().unwrap().to_owned();
    calls.lock().unwrap().push(Call { name, id, body: serde_json::from_str(&body).unwrap() });
    StatusCode::NO_CONTENT
}
