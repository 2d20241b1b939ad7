//! A real mail server and a real webhook receiver, in Python, with the published libraries of each.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::eventually;
use crate::python::{interpreter, run};
use crate::system::DEADLINE;

const PACKAGES: &str = "aiosmtpd==1.4.6 standardwebhooks==1.1.0";
const MODULES: &str = "aiosmtpd, standardwebhooks";

/// The receivers, until dropped.
#[derive(Debug)]
pub struct Receivers {
    /// Port of the receiver of webhooks.
    pub http: u16,
    /// Port of a mail server without TLS.
    pub smtp: u16,
    /// Port of one that needs STARTTLS, and the user `tollbook` with the password `secret`.
    pub smtp_tls: u16,
    directory: TempDir,
    client: reqwest::Client,
    _child: Child,
}

impl Receivers {
    /// Starts them.
    pub async fn start() -> Self {
        let python = interpreter(PACKAGES, MODULES).await;
        let directory = TempDir::with_prefix("tollbook-receivers-").unwrap();
        let at = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let key = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &at("key.pem"),
            "-out",
            &at("cert.pem"),
        ];
        run("openssl".as_ref(), &key).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/receivers/receivers.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(directory.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
        let ports: Value = serde_json::from_str(&line).unwrap();
        let port = |name: &str| u16::try_from(ports[name].as_u64().unwrap()).unwrap();
        let (http, smtp, smtp_tls) = (port("http"), port("smtp"), port("smtp_tls"));
        // An error says that one was chosen before.
        drop(rustls::crypto::ring::default_provider().install_default());
        Self { http, smtp, smtp_tls, directory, client: reqwest::Client::new(), _child: child }
    }

    /// The certificate of the mail server, which is for `localhost`.
    pub fn certificate(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// Where a webhook is that answers as the path says.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// Everything that was posted to a path so far.
    pub async fn any_calls(&self, path: &str) -> Vec<Value> {
        self.seen("calls").await.into_iter().filter(|call| call["path"] == path).collect()
    }

    async fn seen(&self, what: &str) -> Vec<Value> {
        self.log().await[what].as_array().unwrap().clone()
    }

    /// Everything that arrived: `mails` and `calls`.
    pub async fn log(&self) -> Value {
        self.client.get(self.url("/control/log")).send().await.unwrap().json().await.unwrap()
    }

    /// Everything that was posted to a path, once it is so much.
    pub async fn calls(&self, path: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} calls of {path}");
        let calls = eventually(DEADLINE, &what, || async {
            let calls = self.seen("calls").await.into_iter();
            let calls: Vec<Value> = calls.filter(|call| call["path"] == path).collect();
            Some(calls).filter(|calls| calls.len() >= count)
        })
        .await;
        assert_eq!(calls.len(), count, "{calls:#?}");
        calls
    }

    /// Everything that was mailed to an address, once it is so much.
    pub async fn mails(&self, address: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} mails to {address}");
        let mails = eventually(DEADLINE, &what, || async {
            let mails = self.seen("mails").await.into_iter();
            let mails: Vec<Value> = mails.filter(|mail| mail["to"] == json!([address])).collect();
            Some(mails).filter(|mails| mails.len() >= count)
        })
        .await;
        assert_eq!(mails.len(), count, "{mails:#?}");
        mails
    }

    /// Whether the published library takes a call as signed with a secret.
    pub async fn verified(&self, call: &Value, secret: &str) -> bool {
        let asked = json!({ "secret": secret, "headers": call["headers"], "body": call["body"] });
        let answer = self.client.post(self.url("/control/verify")).json(&asked).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["verified"] == true
    }
}
