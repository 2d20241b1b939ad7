//! nginx with its neighbours, and customers of it.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tollbook_tests::eventually;
use tollbook_tests::nats::free_ports;
use tollbook_tests::nginx::{Nginx, NginxBuilder};
use tollbook_tests::system::Answer;

use super::stub::{Asked, Stub, answer};
use crate::deployment::DEADLINE;

/// The gateway's token in these tests.
pub(crate) const TOKEN: &str = "tbt_gateway";
/// The model that nginx names in these tests.
pub(crate) const MODEL: &str = "kimi-k2.5";
/// The change that makes nginx wait for Tollbook as shipped: tests wait for longer.
pub(crate) const PATIENCE: (&str, &str) = ("proxy_read_timeout 60s;", "proxy_read_timeout 1s;");
/// What customers send.
pub(crate) const BODY: &str = r#"{"model":"kimi-k2.5","messages":[{"role":"user","content":"Hello"}]}"#;
/// How many bytes that is.
pub(crate) const BODY_BYTES: &str = "68";
/// A customer's key.
pub(crate) const KEY: &str = "sk-customer";

/// nginx in front of an LLM server.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) nginx: Nginx,
    pub(crate) llm: Stub,
    http: Client,
    begun: AtomicUsize,
}

impl Gateway {
    /// Between an LLM server and whoever answers as Tollbook on this port, with these further changes of the
    /// configuration.
    pub(crate) async fn start(tollbook: u16, token: &str, words: &[(&str, &str)]) -> Self {
        let llm = llm().await;
        let builder =
            words.iter().fold(shipped(tollbook, token), |builder, (from, to)| builder.replace(from, *to));
        let port = free_ports(1)[0];
        let nginx = builder
            .replace("127.0.0.1:8000", format!("127.0.0.1:{}", llm.port))
            .replace("listen 127.0.0.1:8081;", format!("listen 127.0.0.1:{port};"))
            .start(port)
            .await;
        Self { nginx, llm, http: client([127, 0, 0, 1]), begun: AtomicUsize::new(0) }
    }

    /// A request with this key of a customer who has this client.
    pub(crate) fn request_of(&self, customer: &Client, path: &str, key: &str) -> RequestBuilder {
        self.begun.fetch_add(1, Ordering::SeqCst);
        customer.post(format!("{}{path}", self.nginx.url())).bearer_auth(key).body(BODY)
    }

    /// A customer's request with this key.
    pub(crate) fn request(&self, path: &str, key: &str) -> RequestBuilder {
        self.request_of(&self.http, path, key)
    }

    /// The answer to a customer's request.
    pub(crate) async fn ask(&self, path: &str, key: &str) -> Answer {
        read(self.request(path, key)).await
    }

    /// Waits until nginx is done with all requests, their leases ended; what it wrote of them.
    pub(crate) async fn all_ended(&self) -> String {
        let begun = self.begun.load(Ordering::SeqCst);
        let what = format!("{begun} requests are in the log");
        eventually(DEADLINE, &what, || async {
            Some(self.nginx.access_log()).filter(|log| log.ends_with('\n') && log.lines().count() == begun)
        })
        .await
    }

    /// Lets the LLM server go on with what it sends.
    pub(crate) async fn go_on(&self) {
        go_on(&self.llm).await;
    }
}

/// Lets a stub go on that waits in the middle.
pub(crate) async fn go_on(stub: &Stub) {
    let said = read(client([127, 0, 0, 1]).get(format!("http://127.0.0.1:{}/go-on", stub.port))).await;
    assert_eq!(said.status, 204);
}

/// The shipped configuration, with a token and Tollbook's port.
fn shipped(tollbook: u16, token: &str) -> NginxBuilder {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nginx.conf");
    Nginx::builder(&config)
        .replace("REPLACE_GATEWAY_TOKEN", token)
        .replace("REPLACE_MODEL", MODEL)
        .replace("127.0.0.1:8480", format!("127.0.0.1:{tollbook}"))
        // A busy machine is not a slow Tollbook.
        .replace(PATIENCE.1, PATIENCE.0)
}

/// A client with connections of its own from this address. It waits long, but not for ever.
pub(crate) fn client(address: [u8; 4]) -> Client {
    // Only the first of a process can be installed.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = Client::builder().no_proxy().timeout(Duration::from_secs(60));
    builder.local_address(IpAddr::from(address)).build().unwrap()
}

/// Reads an answer to its end.
pub(crate) async fn read(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// An LLM server. The path says how it answers.
async fn llm() -> Stub {
    let more = Arc::new(Semaphore::new(0));
    Stub::start(move |asked: Asked| {
        let more = Arc::clone(&more);
        async move {
            match asked.path.as_str() {
                "/v1/failing" => answer(500, &[], r#"{"error":{"message":"out of memory"}}"#),
                "/v1/refusing" => answer(400, &[], r#"{"error":{"message":"no such parameter"}}"#),
                "/v1/hanging" => std::future::pending().await,
                "/v1/cut" => answer(200, &[], broken(more)),
                "/v1/counted" => answer(
                    200,
                    &[
                        ("X-Tollbook-Input-Tokens", "12"),
                        ("X-Tollbook-Cached-Input-Tokens", "2"),
                        ("X-Tollbook-Output-Tokens", "5"),
                    ],
                    "{}",
                ),
                "/v1/stream" => answer(200, &[("content-type", "text/event-stream")], events(more)),
                "/go-on" => {
                    more.add_permits(1);
                    answer(204, &[], "")
                }
                _ => completion(),
            }
        }
    })
    .await
}

/// What a client of a chat API expects, from a server that has limits of its own.
fn completion() -> Response {
    let body = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "Hi" } }],
        "usage": { "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17 },
    });
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "llm-1"),
        ("x-ratelimit-limit-requests", "7"),
        ("ratelimit", "\"llm\";r=7"),
    ];
    answer(200, &headers, body.to_string())
}

/// One event at once, and one more whenever it may go on, three in all.
fn events(more: Arc<Semaphore>) -> Body {
    let event = |number| Ok(Bytes::from(format!("data: {number}\n\n")));
    Body::from_stream(slowly((0..3).map(event).collect(), more))
}

/// The beginning of an answer, and once it may go on, the connection breaks.
fn broken(more: Arc<Semaphore>) -> Body {
    let parts = vec![Ok(Bytes::from("data: 0\n\n")), Err(io::Error::other("the server died"))];
    Body::from_stream(slowly(parts, more))
}

fn slowly(parts: Vec<io::Result<Bytes>>, more: Arc<Semaphore>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::iter(parts.into_iter().enumerate()).then(move |(number, part)| {
        let more = Arc::clone(&more);
        async move {
            if number > 0 {
                more.acquire().await.unwrap().forget();
            }
            part
        }
    })
}

/// Somebody who answers as Tollbook does, by the key: what the engine says is tested beside it; this one remembers
/// what nginx says.
pub(crate) async fn authorizer() -> Stub {
    let (more, refused) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicBool::new(false)));
    Stub::start(move |asked: Asked| {
        let (more, refused) = (Arc::clone(&more), Arc::clone(&refused));
        async move {
            if asked.path == "/go-on" {
                more.add_permits(1);
                return answer(204, &[], "");
            }
            if !asked.path.starts_with("/v1/authorize") {
                let minimal = asked.header("prefer") == "return=minimal";
                return if minimal { answer(204, &[], "") } else { answer(200, &[], "{}") };
            }
            match asked.header("authorization").trim_start_matches("Bearer ") {
                "behind" => answer(503, &[], "{}"),
                "broken" => answer(500, &[], "{}"),
                "late" => std::future::pending().await,
                // As in observe mode, where something would have been refused.
                "unreserved" => answer(200, &[], r#"{"lease":null}"#),
                "soon" => {
                    more.acquire().await.unwrap().forget();
                    admitted()
                }
                "refused-once" if !refused.swap(true, Ordering::SeqCst) => refusal("429"),
                key => match key.strip_prefix("refuse-") {
                    Some(status) => refusal(status),
                    None => admitted(),
                },
            }
        }
    })
    .await
}

/// The limit headers of every answer to a customer whose key is known.
pub(crate) const LIMITS: [(&str, &str); 8] = [
    ("x-ratelimit-limit-requests", "3"),
    ("x-ratelimit-limit-tokens", "500000"),
    ("x-ratelimit-remaining-requests", "2"),
    ("x-ratelimit-remaining-tokens", "499750"),
    ("x-ratelimit-reset-requests", "1m0s"),
    ("x-ratelimit-reset-tokens", "1s"),
    ("ratelimit-policy", "\"rpm\";q=3;w=60, \"concurrency\";q=1;qu=\"concurrent-requests\""),
    ("ratelimit", "\"rpm\";r=2;t=60, \"concurrency\";r=0"),
];

fn admitted() -> Response {
    let mut headers = vec![
        ("X-Tollbook-Lease", "lease_1"),
        ("X-Tollbook-Organization", "org_1"),
        ("X-Tollbook-Project", "proj_1"),
        ("X-Tollbook-Api-Key-Id", "key_1"),
        ("X-Tollbook-Tier", "Tier0"),
    ];
    headers.extend(LIMITS);
    answer(200, &headers, r#"{"lease":"lease_1"}"#)
}

/// What clears a refusal up.
pub(crate) fn refused_body(status: &str) -> Value {
    json!({ "error": {
        "message": "Why \"not\", and \\ what; then #%", "type": "rate_limit_reached_error", "param": null,
        "code": format!("code_{status}"),
        "metadata": { "scope": "organization", "id": "org_1", "limit": 3, "current": 3, "retryable": true },
    } })
}

fn refusal(status: &str) -> Response {
    let body = refused_body(status).to_string();
    let mut headers = vec![("X-Tollbook-Status", status), ("X-Tollbook-Body", &body)];
    match status {
        "401" => headers.push(("WWW-Authenticate", "Bearer")),
        "429" => headers.extend([("Retry-After", "1"), ("retry-after-ms", "34")]),
        _ => headers.push(("x-should-retry", "false")),
    }
    if status != "401" {
        headers.extend(LIMITS);
    }
    answer(403, &headers, body.clone())
}
