//! Headers that no client library writes. The server passes them on as they are.

use std::cell::Cell;

use async_nats::jetstream::Context;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollbook_schemas::cloudevent::{self, Payload};
use tollbook_schemas::usage::Usage;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;

use crate::DEADLINE;
use crate::deployment::ATTEMPT;
use crate::engine::{Engine, SPOOL, USAGE, event, publish, publisher};
use crate::spool;

/// Publishes with this head, which ends with an empty line.
pub(crate) async fn publish_raw(server: &NatsServer, subject: &str, head: &[u8], payload: &str) {
    let address = server.url().replace("nats://", "");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let all = head.len() + payload.len();
    let hpub =
        format!("CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB {subject} {} {all}\r\n", head.len());
    for part in [hpub.as_bytes(), head, payload.as_bytes(), b"\r\nPING\r\n"] {
        stream.write_all(part).await.unwrap();
    }
    let mut answer = String::new();
    let pong = async {
        while !answer.contains("PONG") {
            let mut piece = [0; 4096];
            let length = stream.read(&mut piece).await.unwrap();
            assert!(length > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&piece[..length]));
        }
    };
    tokio::time::timeout(DEADLINE, pong).await.unwrap();
}

/// Most of them end a connection of the client library, each in its own way; the fourth makes it panic.
pub(crate) const HOSTILE: [&[u8]; 6] = [
    b"NATS/1.0 nonsense\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nX: a\rb\r\n\r\n",
    b"NATS/1.0\r\n: no name\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
];

/// Publishes as services do, again when there is no answer soon, and each time something new.
async fn until_acknowledged(context: &Context, subject: &'static str) -> u64 {
    let attempts = &Cell::new(0_u64);
    eventually(DEADLINE, "usage is acknowledged", || async move {
        attempts.set(attempts.get() + 1);
        let payload = event(attempts.get()).to_string();
        let ack = context.publish(subject, payload.into()).await.ok()?;
        tokio::time::timeout(ATTEMPT, ack.into_future()).await.ok()?.ok()
    })
    .await;
    attempts.get()
}

#[tokio::test]
async fn hostile_headers_harm_neither_the_log_nor_those_who_try_again() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start(&server, &data).await;
    let (_client, context) = publisher(&server).await;
    for head in HOSTILE {
        publish_raw(&server, USAGE, head, "{}").await;
        // What the engine writes by itself does not notice.
        engine.node.submit(one(&engine)).await.unwrap();
        until_acknowledged(&context, USAGE).await;
    }
    engine.stop().await;
}

#[tokio::test]
async fn hostile_headers_in_the_spool_do_not_keep_others_there() {
    let (server, data) = (NatsServer::start().await, TempDir::new().unwrap());
    let engine = Engine::start_with_spool(&server, &data).await;
    let (_client, context) = publisher(&server).await;
    spool::ready(&context).await;
    for (number, head) in HOSTILE.iter().enumerate() {
        publish_raw(&server, SPOOL, head, "{}").await;
        // What was on its way over the same connection comes again later; what comes now is taken now.
        let (context, engine, turn) = (&context, &engine, &Cell::new(0));
        eventually(DEADLINE, "spooled usage is booked", || async move {
            turn.set(turn.get() + 1);
            let id = format!("{number}-{}", turn.get());
            publish(context, SPOOL, &event(&id)).await;
            let before = engine.totals().await.booked;
            let deadline = tokio::time::Duration::from_secs(1);
            let booked = async {
                eventually(DEADLINE, "one more is booked", || async {
                    (engine.totals().await.booked > before).then_some(())
                })
                .await;
            };
            tokio::time::timeout(deadline, booked).await.ok()
        })
        .await;
    }
    engine.stop().await;
}

/// A record as HTTP would bring it.
fn one(engine: &Engine) -> Vec<Usage> {
    let now = engine.node.clock().now();
    cloudevent::parse(event("other").to_string().as_bytes(), Payload::One, now, None).unwrap()
}
