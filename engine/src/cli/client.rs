//! Calling a server's HTTP API, and showing what it answers.

use std::path::{Path, PathBuf};
use std::sync::Once;

use clap::Args;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use super::refusal::Refusal;
use crate::config::{DATA, LISTEN};
use crate::server::ADMIN_TOKEN;

/// Where help lists what all commands of a server have.
pub(super) const SERVER: &str = "Server";

/// Which server, and who calls.
#[derive(Args, Clone, Debug)]
pub struct ClientArgs {
    /// The server [default: http://127.0.0.1:8480]
    #[arg(long, env = "TOLLBOOK_SERVER", value_name = "URL", global = true, help_heading = SERVER)]
    server: Option<String>,
    /// A service token; else the admin token in the data directory
    #[arg(long, env = "TOLLBOOK_TOKEN", hide_env_values = true, value_name = "TOKEN", global = true, help_heading = SERVER)]
    token: Option<String>,
    /// The server's data directory, for its admin token
    #[arg(long = "server-data", env = "TOLLBOOK_DATA", value_name = "DIR", default_value = DATA, global = true, help_heading = SERVER)]
    server_data: PathBuf,
    /// Print the answer as JSON
    #[arg(long, global = true, help_heading = SERVER)]
    json: bool,
}

/// Why a client command failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no token to call with.
    #[error("no token: give --token, set TOLLBOOK_TOKEN, or name the data directory whose {ADMIN_TOKEN} to use ({}: {source})", path.display())]
    NoToken {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it was not found.
        source: std::io::Error,
    },
    /// The server did not answer.
    #[error("no answer from {url}: {source}")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Something else answered than this API.
    #[error("{url} answered with something that is not JSON; is it a tollbook server?")]
    NotTheApi {
        /// Who.
        url: String,
    },
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
}

impl ClientArgs {
    /// A caller of that server.
    pub fn caller(&self) -> Result<Caller, ClientError> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => admin_token(&self.server_data)?,
        };
        let url = self.server.clone().unwrap_or_else(|| format!("http://{LISTEN}"));
        Ok(Caller { http: http_client(), url: url.trim_end_matches('/').to_owned(), token, json: self.json })
    }
}

/// An HTTP client; TLS needs its provider chosen once per process.
pub fn http_client() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS provider was chosen before");
        }
    });
    Client::new()
}

fn admin_token(data: &Path) -> Result<String, ClientError> {
    let path = data.join(ADMIN_TOKEN);
    let secret = std::fs::read_to_string(&path).map_err(|source| ClientError::NoToken { path, source })?;
    Ok(secret.trim().to_owned())
}

/// Calls one server with one token.
#[derive(Clone, Debug)]
pub struct Caller {
    http: Client,
    url: String,
    token: String,
    json: bool,
}

impl Caller {
    /// Calls the server at `url` with a token.
    pub(crate) fn new(url: &str, token: &str) -> Self {
        Self { http: http_client(), url: url.to_owned(), token: token.to_owned(), json: false }
    }

    /// A GET with query parameters; absent ones are left out.
    pub async fn get(&self, path: &str, query: &[(&str, Option<String>)]) -> Result<Value, ClientError> {
        let query: Vec<(&str, &String)> =
            query.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
        self.send(self.request(Method::GET, path).query(&query)).await
    }

    /// A write with a JSON body.
    pub async fn write(&self, method: Method, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send(self.request(method, path).json(body)).await
    }

    /// A request to this server, with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    /// Sends a request and reads its answer; null where it has no body. Errors: no answer, or a refusal.
    pub async fn send(&self, request: RequestBuilder) -> Result<Value, ClientError> {
        let answer = self.exchange(request).await?;
        if answer.body.is_empty() { Ok(Value::Null) } else { self.parse(&answer) }
    }

    /// Sends a request. Errors: no answer, or a refusal.
    pub(super) async fn exchange(&self, request: RequestBuilder) -> Result<Answer, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.url.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotent-replayed");
        let body = response.bytes().await.map_err(unreachable)?.into();
        if status.is_success() {
            return Ok(Answer { body, replayed });
        }
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Err(ClientError::Refused(Refusal { status, body }))
    }

    /// Sends a request whose answer is read while it goes on. Errors: no answer, or a refusal.
    pub(super) async fn open(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.url.clone(), source };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(unreachable)?;
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Err(ClientError::Refused(Refusal { status, body }))
    }

    /// Reads an answer's JSON.
    pub(super) fn parse(&self, answer: &Answer) -> Result<Value, ClientError> {
        serde_json::from_slice(&answer.body).map_err(|_| ClientError::NotTheApi { url: self.url.clone() })
    }

    /// Whether answers are shown as JSON.
    pub(super) const fn wants_json(&self) -> bool {
        self.json
    }
}

/// What a server said yes with.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    /// It was done before, under the same idempotency key.
    pub(super) replayed: bool,
}
