//! A publisher of one organization: its own usage, answered, and nothing else.

use async_nats::Client;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use tollbook_tests::eventually;

use crate::deployment::{ATTEMPT, DEADLINE, Deployment, FORGOTTEN, GATEWAY, PUBLISHER};

/// Plays the engine's ingress with an engine's key. `careful` answers as engines do, only to inboxes and to requests
/// from another account; otherwise to whatever the sender names.
pub(crate) async fn ingress(engine: &Client, careful: bool) -> JoinHandle<()> {
    let client = engine.clone();
    let mut requests = client.queue_subscribe("tollbook.usage.*", "ingress".to_owned()).await.unwrap();
    let mut admissions = client.queue_subscribe("tollbook.rpc.*", "admission".to_owned()).await.unwrap();
    tokio::spawn(async move {
        loop {
            let message = tokio::select! {
                Some(message) = requests.next() => message,
                Some(message) = admissions.next() => message,
                else => return,
            };
            let Some(reply) = message.reply else { continue };
            if careful && !(reply.starts_with("_INBOX") || reply.starts_with("_R_.")) {
                continue;
            }
            // An empty body deletes and acknowledges; an engine never sends one, this test does when asked to.
            let answer =
                if message.payload == "empty" { "" } else { r#"{"stream":"TOLLBOOK_LOG_0_0","seq":4711}"# };
            client.publish(reply, answer.into()).await.unwrap();
        }
    })
}

/// Waits until this client's usage finds the ingress.
pub(crate) async fn until_answered(publisher: &Client) {
    eventually(DEADLINE, "usage is answered", || async move {
        let answer = publisher.request("tollbook.usage.org_a", "usage".into());
        tokio::time::timeout(ATTEMPT, answer).await.ok()?.ok()
    })
    .await;
}

#[tokio::test]
async fn a_publisher_sends_its_own_usage_with_an_ordinary_publish_and_is_answered() {
    let deployment = Deployment::one_node().await;
    let engine = deployment.with_streams().await;
    let _ingress = ingress(&engine.client, true).await;
    is_answered(&deployment).await;
}

pub(crate) async fn is_answered(deployment: &Deployment) {
    let publisher = deployment.connect(PUBLISHER).await;
    until_answered(&publisher.client).await;
    let ack = publisher.jetstream().publish("tollbook.usage.org_a", "usage".into()).await.unwrap();
    let ack = ack.await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence), ("TOLLBOOK_LOG_0_0", 4711));
    publisher.nothing_denied().await;

    let gateway = deployment.connect(GATEWAY).await;
    until_answered(&gateway.client).await;
    for subject in ["tollbook.usage.org_a", "tollbook.usage.org_b"] {
        gateway.jetstream().publish(subject, "usage".into()).await.unwrap().await.unwrap();
    }
    gateway.client.request("tollbook.rpc.admit", "may I".into()).await.unwrap();
    gateway.nothing_denied().await;
}

#[tokio::test]
async fn a_publisher_can_do_nothing_else() {
    let deployment = Deployment::one_node().await;
    let engine = deployment.with_streams().await;
    is_confined(&deployment).await;
    assert_eq!(engine.append().await, 2);
}

pub(crate) async fn is_confined(deployment: &Deployment) {
    let publisher = deployment.connect(PUBLISHER).await;
    publisher
        .may_not_publish(&[
            "tollbook.usage.org_b",
            "tollbook.spool.org_b",
            "tollbook.rpc.admit",
            "tollbook.rpc.release",
            "tollbook.log.0.usage.mixed",
            "tollbook.log.0.org.org_a",
            "tollbook.log.0.config",
            "tollbook.alerts.org_a.low",
            "tollbook.seals.0",
            "$KV.TOLLBOOK_OWNERS.0",
            "$JS.API.STREAM.INFO.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.CREATE.MINE",
            "$JS.API.STREAM.UPDATE.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.PURGE.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.DELETE.TOLLBOOK_SPOOL",
            "$JS.API.STREAM.MSG.GET.TOLLBOOK_SPOOL",
            "$JS.API.CONSUMER.CREATE.TOLLBOOK_SPOOL.engine",
            "$JS.API.CONSUMER.MSG.NEXT.TOLLBOOK_SPOOL.engine",
            "$JS.ACK.TOLLBOOK_SPOOL.engine.1.1.1.1.0",
            "ledger.api.STREAM.MSG.GET.TOLLBOOK_LOG_0_0",
            "_INBOX_gateway.guess",
            "_R_.guess",
        ])
        .await;
    publisher
        .may_not_subscribe(&[
            ">",
            "tollbook.>",
            "tollbook.log.>",
            "tollbook.usage.*",
            "tollbook.usage.org_a",
            "tollbook.spool.*",
            "_INBOX.>",
            "_INBOX_gateway.>",
            "_R_.>",
        ])
        .await;
}

#[tokio::test]
async fn a_services_user_without_permissions_may_do_nothing() {
    let deployment = Deployment::one_node().await;
    let forgotten = deployment.connect(FORGOTTEN).await;
    forgotten.may_not_publish(&["tollbook.usage.org_a", "tollbook.spool.org_a", "anything"]).await;
    forgotten.may_not_subscribe(&["anything", "_INBOX.>"]).await;
}
