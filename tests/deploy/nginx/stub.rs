//! Servers that nginx talks to, which remember what they were asked.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tollbook_tests::eventually;

use crate::deployment::DEADLINE;

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    pub(crate) body: String,
    headers: HeaderMap,
    /// The port it came from: the same on one connection.
    pub(crate) peer: u16,
}

impl Asked {
    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    /// A header that came at most once; empty without it.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name}: {all:?}");
        all.first().copied().unwrap_or_default()
    }

    /// Method and path.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// A server on a loopback port; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: AbortHandle,
}

impl Stub {
    /// Answers as `answer` says.
    pub(crate) async fn start<F, Fut>(answer: F) -> Self
    where
        F: Fn(Asked) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send + 'static,
    {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        let handle = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
            let (remembered, answer) = (Arc::clone(&remembered), answer.clone());
            async move {
                let (head, body) = request.into_parts();
                // Somebody who goes away in the middle has not asked.
                let Ok(body) = to_bytes(body, usize::MAX).await else { return Response::default() };
                let asked = Asked {
                    method: head.method.to_string(),
                    path: head.uri.to_string(),
                    body: String::from_utf8_lossy(&body).into_owned(),
                    headers: head.headers,
                    peer: peer.port(),
                };
                remembered.lock().unwrap().push(asked.clone());
                answer(asked).await
            }
        };
        let router = Router::new().fallback(handle).into_make_service_with_connect_info::<SocketAddr>();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, asked, task: task.abort_handle() }
    }

    /// Goes away: connections to it are refused.
    pub(crate) async fn leave(&self) {
        self.task.abort();
        let refused = || async { TcpStream::connect(("127.0.0.1", self.port)).await.err().map(drop) };
        eventually(DEADLINE, "connections are refused", refused).await;
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked this often, and gives what.
    pub(crate) async fn asked_often(&self, count: usize) -> Vec<Asked> {
        let what = format!("{count} requests arrive");
        eventually(DEADLINE, &what, || async { Some(self.asked()).filter(|asked| asked.len() >= count) })
            .await
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer with headers.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let builder = Response::builder().status(status);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap()
}
