//! Over HTTP, with a load generator that does next to nothing: requests are made before, of answers only status, length
//! and lease are read, and one thread serves all connections, so that the server has the rest of the machine.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::{Gate, lease};
use crate::bench::report::{self, Latencies, Rates};
use crate::bench::{BenchError, whole};
use crate::clock::Stopwatch;

/// Requests before any time is taken.
const WARM_UP: usize = 5_000;
/// Where an answer's length stands, as this server writes it.
const LENGTH: &[u8] = b"content-length: ";

pub(super) async fn run(token: String, asks: Vec<Vec<u8>>, options: Gate) -> Result<(), BenchError> {
    let work = move || -> Result<(), BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BenchError::made)?;
        LocalSet::new().block_on(&runtime, drive(token, asks, options))
    };
    tokio::task::spawn_blocking(work).await.map_err(BenchError::made)?
}

async fn drive(token: String, asks: Vec<Vec<u8>>, options: Gate) -> Result<(), BenchError> {
    let rest = options.url.trim_end_matches('/');
    let host = rest.strip_prefix("http://").unwrap_or(rest).to_owned();
    let mut connections = Vec::new();
    for _ in 0..options.connections.max(1) {
        connections.push(Connection::open(&host, &token, &asks).await?);
    }
    let (mut rates, mut waits) = (Rates::default(), Latencies::default());
    let mut bare = Rates::default();
    for run in 0..=options.runs.max(1) {
        let requests = if run == 0 { WARM_UP } else { options.requests };
        let each = requests.div_ceil(connections.len().max(1));
        let sent = whole(each.saturating_mul(connections.len()));
        let watch = Stopwatch::start();
        let (asked, took) = at_once(connections, move |mut connection| async move {
            let waits = connection.ask(each).await?;
            Ok((connection, waits))
        })
        .await?;
        let elapsed = watch.elapsed();
        if run > 0 {
            rates.add(sent, elapsed);
            waits.extend(took);
        }
        // Outside of the time that is taken.
        let released = |mut connection: Connection| async move {
            connection.release().await?;
            Ok((connection, Vec::new()))
        };
        let released = at_once(asked, released).await?.0;
        let watch = Stopwatch::start();
        let bare_ones = move |mut connection: Connection| async move {
            connection.bare(each).await?;
            Ok((connection, Vec::new()))
        };
        connections = at_once(released, bare_ones).await?.0;
        if run > 0 {
            bare.add(sent, watch.elapsed());
        }
    }
    report::print(
        "Admission over HTTP",
        &["a second", "min", "median", "max", "of the limit"],
        &[
            rates.row(&format!("decisions, {} connections", options.connections), bare.median()),
            bare.row("limit: GET /healthz on the same connections", bare.median()),
        ],
    );
    waits.say_nanos("From asking to the decision");
    Ok(())
}

/// Has every connection do the same at the same time.
async fn at_once<F, Fut>(
    connections: Vec<Connection>,
    act: F,
) -> Result<(Vec<Connection>, Vec<Duration>), BenchError>
where
    F: Fn(Connection) -> Fut,
    Fut: Future<Output = Result<(Connection, Vec<Duration>), BenchError>> + 'static,
{
    let tasks: Vec<_> = connections.into_iter().map(|one| tokio::task::spawn_local(act(one))).collect();
    let (mut back, mut waits) = (Vec::new(), Vec::new());
    for task in tasks {
        let (connection, took) = task.await.map_err(BenchError::made)??;
        back.push(connection);
        waits.extend(took);
    }
    Ok((back, waits))
}

/// One connection, with one request under way.
struct Connection {
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
    next: usize,
    /// What has come and is not read.
    buffer: Vec<u8>,
    leases: Vec<String>,
    head: String,
}

impl Connection {
    async fn open(host: &str, token: &str, asks: &[Vec<u8>]) -> Result<Self, BenchError> {
        let stream = TcpStream::connect(host).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let head = format!("host: {host}\r\nauthorization: Bearer {token}\r\n");
        let request = |ask: &Vec<u8>| {
            let line = format!(
                "POST /v1/admissions HTTP/1.1\r\n{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                ask.len()
            );
            [line.as_bytes(), ask].concat()
        };
        let requests = asks.iter().map(request).collect();
        let (buffer, leases) = (Vec::with_capacity(4_096), Vec::new());
        Ok(Self { stream, requests, next: 0, buffer, leases, head })
    }

    async fn ask(&mut self, requests: usize) -> Result<Vec<Duration>, BenchError> {
        let mut waits = Vec::with_capacity(requests);
        self.leases.reserve(requests);
        for _ in 0..requests {
            let place = self.next.checked_rem(self.requests.len()).unwrap_or(0);
            self.next = self.next.wrapping_add(1);
            let Some(request) = self.requests.get(place) else { break };
            let watch = Stopwatch::start();
            self.stream.write_all(request).await.map_err(failed)?;
            let (head, all) = self.answer().await?;
            waits.push(watch.elapsed());
            let body = self.buffer.get(head..all).unwrap_or_default();
            self.leases.push(lease(body)?);
            self.buffer.drain(..all);
        }
        Ok(waits)
    }

    /// Asks for what takes the server nothing.
    async fn bare(&mut self, requests: usize) -> Result<(), BenchError> {
        let request = format!("GET /healthz HTTP/1.1\r\n{}\r\n", self.head);
        for _ in 0..requests {
            self.stream.write_all(request.as_bytes()).await.map_err(failed)?;
            let (_, all) = self.answer().await?;
            self.buffer.drain(..all);
        }
        Ok(())
    }

    async fn release(&mut self) -> Result<(), BenchError> {
        for lease in std::mem::take(&mut self.leases) {
            let request = format!("DELETE /v1/admissions/{lease} HTTP/1.1\r\n{}\r\n", self.head);
            self.stream.write_all(request.as_bytes()).await.map_err(failed)?;
            let (_, all) = self.answer().await?;
            self.buffer.drain(..all);
        }
        Ok(())
    }

    /// Waits for a whole answer; where its body begins and ends in the buffer.
    async fn answer(&mut self) -> Result<(usize, usize), BenchError> {
        loop {
            if let Some((head, length)) = lengths(&self.buffer) {
                let all = head.saturating_add(length);
                if self.buffer.len() >= all {
                    return match self.buffer.get(..12) {
                        Some(b"HTTP/1.1 200") => Ok((head, all)),
                        _ => Err(BenchError::Http(String::from_utf8_lossy(&self.buffer).into_owned())),
                    };
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.map_err(failed)? == 0 {
                return Err(BenchError::Http("the connection was closed".to_owned()));
            }
        }
    }
}

/// How long an answer's head and body are, once its head has come.
fn lengths(buffer: &[u8]) -> Option<(usize, usize)> {
    let (mut head, mut length) = (0_usize, None);
    for line in buffer.split_inclusive(|byte| *byte == b'\n') {
        head = head.saturating_add(line.len());
        if line == b"\r\n" {
            return Some((head, length?));
        }
        if let Some(digits) = line.strip_prefix(LENGTH) {
            length = std::str::from_utf8(digits.trim_ascii()).ok()?.parse().ok();
        }
    }
    None
}

fn failed(error: std::io::Error) -> BenchError {
    BenchError::Http(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_once_its_body_has_come() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: a\r\nContent-Length: 2\r\nx: y\r\n\r\n{}HTTP";
        assert_eq!(lengths(answer), Some((61, 2)));
        assert_eq!(lengths(&answer[..60]), None);
        assert_eq!(lengths(b""), None);
    }
}
