//! The reply subject that a sender names is never checked by the server: whatever answers writes to it.

use async_nats::{ConnectOptions, HeaderMap};
use futures_util::StreamExt;
use nkeys::KeyPair;
use tollbook_tests::nats::NatsServer;

use crate::deployment::{Caller, DEADLINE, Deployment, PUBLISHER, durable};
use crate::publisher::{ingress, until_answered};
use crate::spool;

/// What would hurt if an answer arrived there.
pub(crate) const TARGETS: [&str; 11] = [
    "tollbook.log.0.usage.x",
    "tollbook.log.0.config",
    "tollbook.alerts.org_a.low",
    "tollbook.seals.0",
    "tollbook.spool.org_b",
    "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
    "$JS.API.STREAM.PURGE.TOLLBOOK_LOG_0_0",
    "$JS.API.STREAM.DELETE.TOLLBOOK_SPOOL",
    "$JS.API.STREAM.PURGE.TOLLBOOK_SPOOL",
    "$JS.API.CONSUMER.DELETE.TOLLBOOK_SPOOL.engine",
    "$JS.API.STREAM.MSG.DELETE.TOLLBOOK_SPOOL",
];

#[tokio::test]
async fn a_careless_engine_too_gets_nothing_into_the_log() {
    let deployment = Deployment::one_node().await;
    harms_nothing(&deployment).await;
}

/// Requests with every harmful reply, answered with and without a body by an engine that answers everything.
pub(crate) async fn harms_nothing(deployment: &Deployment) {
    let engine = deployment.with_streams().await;
    let _ingress = ingress(&engine.client, false).await;
    let spool = spool::with_stream(deployment).await;
    let publisher = deployment.connect(PUBLISHER).await;
    let context = publisher.jetstream();

    until_answered(&publisher.client).await;
    assert_eq!(publisher.put("tollbook.spool.org_a", "kept").await, 1);
    let mut spooled = 1;
    for target in TARGETS {
        for body in ["usage", "empty"] {
            for subject in ["tollbook.usage.org_a", "tollbook.spool.org_a"] {
                publisher.client.publish_with_reply(subject, target, body.into()).await.unwrap();
            }
            spooled += 1;
        }
    }
    // One connection, one order: when this is answered, so was everything above.
    let last = context.publish("tollbook.usage.org_a", "last".into()).await.unwrap();
    last.await.unwrap();
    let last = context.publish("tollbook.spool.org_a", "last".into()).await.unwrap().await.unwrap();
    assert_eq!(last.sequence, spooled + 1, "only the publisher's own messages are in the spool");
    assert_eq!(engine.append().await, 2, "nothing but the engine's own is in the log");
    for name in ["TOLLBOOK_ALERTS", "TOLLBOOK_SEALS"] {
        let mut stream = engine.jetstream().get_stream(name).await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, 0, "{name}");
    }
    let kept = spool::take(&spool, usize::try_from(last.sequence).unwrap()).await;
    assert!(kept.iter().all(|(subject, _)| subject == "tollbook.spool.org_a"));
    assert_eq!(kept[0].1, "kept");
    publisher.nothing_denied().await;

    // These two the server does refuse to a client.
    for reply in ["$JS.ACK.TOLLBOOK_SPOOL.engine.1.1.1.1.0", "_R_.guess"] {
        publisher.client.publish_with_reply("tollbook.usage.org_a", reply, "usage".into()).await.unwrap();
        publisher.denied(&format!("reply of \"{reply}\"")).await;
    }
}

#[tokio::test]
async fn in_one_account_the_same_request_writes_to_the_log() {
    // Why there are accounts: the same two users and permissions, side by side.
    let (engine, publisher) = (KeyPair::new_user(), KeyPair::new_user());
    let server = NatsServer::builder()
        .config(&format!(
            r#"accounts {{ LEDGER {{ jetstream: enabled, users: [
                {{ nkey: {} }}
                {{ nkey: {}, permissions {{ publish {{ allow: ["tollbook.usage.org_a"] }}
                                            subscribe {{ allow: ["_INBOX_publisher.>"] }} }} }}
            ] }} }}"#,
            engine.public_key(),
            publisher.public_key(),
        ))
        .start()
        .await;
    let connect = |keys: KeyPair, inbox: &'static str| {
        ConnectOptions::with_nkey(keys.seed().unwrap())
            .custom_inbox_prefix(inbox)
            .request_timeout(Some(DEADLINE))
            .connect(server.url())
    };
    let engine = connect(engine, "_INBOX").await.unwrap();
    let publisher = connect(publisher, "_INBOX_publisher").await.unwrap();
    let context = async_nats::jetstream::new(engine.clone());
    let mut log = context.create_stream(durable("TOLLBOOK_LOG_0_0", "tollbook.log.0.>", 1)).await.unwrap();
    let careless = ingress(&engine, false).await;
    until_answered(&publisher).await;
    let attack = ["tollbook.log.0.usage.x", "_INBOX_publisher.after"];
    let mut after = publisher.subscribe(attack[1]).await.unwrap();
    for reply in attack {
        publisher.publish_with_reply("tollbook.usage.org_a", reply, "usage".into()).await.unwrap();
    }
    let answered = after.next();
    tokio::time::timeout(DEADLINE, answered).await.unwrap().unwrap();
    let own = context.publish("tollbook.log.0.org.org_a", "entry".into()).await.unwrap().await.unwrap();
    assert_eq!(own.sequence, 2, "the answer stands in the log before the engine's own entry");

    // An engine that answers inboxes only is the second line of defence.
    careless.abort();
    assert!(careless.await.unwrap_err().is_cancelled());
    let _careful = ingress(&engine, true).await;
    until_answered(&publisher).await;
    for reply in attack {
        publisher.publish_with_reply("tollbook.usage.org_a", reply, "usage".into()).await.unwrap();
    }
    let answered = after.next();
    tokio::time::timeout(DEADLINE, answered).await.unwrap().unwrap();
    context.publish("tollbook.log.0.org.org_a", "entry".into()).await.unwrap().await.unwrap();
    assert_eq!(log.info().await.unwrap().state.messages, 3);
}

#[tokio::test]
async fn a_trace_header_sends_nothing_where_its_sender_may_not() {
    let deployment = Deployment::one_node().await;
    let engine = deployment.with_streams().await;
    let _ingress = ingress(&engine.client, false).await;
    let publisher = deployment.connect(PUBLISHER).await;
    until_answered(&publisher.client).await;
    for target in ["tollbook.usage.org_b", "tollbook.log.0.usage.x", "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0"]
    {
        trace(&publisher, target).await;
        publisher.denied(&format!("publish to \"{target}\"")).await;
    }
    publisher.jetstream().publish("tollbook.usage.org_a", "last".into()).await.unwrap().await.unwrap();
    assert_eq!(engine.append().await, 2);
}

async fn trace(caller: &Caller, target: &str) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Trace-Dest", target);
    caller.client.publish_with_headers("tollbook.usage.org_a", headers, "usage".into()).await.unwrap();
}
