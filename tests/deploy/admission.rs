//! Gateways ask for admission, wherever they are; those that only ask do nothing else, and nobody else asks.

use async_nats::HeaderMap;
use tollbook_tests::eventually;

use crate::deployment::{ASKER, ATTEMPT, Caller, DEADLINE, Deployment, GATEWAY};
use crate::publisher::ingress;
use crate::reply_subject::TARGETS;
use crate::spool;

const ADMIT: &str = "tollbook.rpc.admit";

/// Asks until the question finds an engine.
async fn until_answered(asker: &Caller) {
    let client = &asker.client;
    eventually(DEADLINE, "admission is answered", || async move {
        tokio::time::timeout(ATTEMPT, client.request(ADMIT, "may I".into())).await.ok()?.ok()
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_only_asks_can_do_nothing_else() {
    let deployment = Deployment::one_node().await;
    let engine = deployment.with_streams().await;
    let _ingress = ingress(&engine.client, true).await;
    only_asks(&deployment).await;
    assert_eq!(engine.append().await, 2);
}

/// Its permissions, with an engine that answers.
pub(crate) async fn only_asks(deployment: &Deployment) {
    let asker = deployment.connect(ASKER).await;
    until_answered(&asker).await;
    for operation in ["admit", "settle", "release", "renew"] {
        asker.client.request(format!("tollbook.rpc.{operation}"), "may I".into()).await.unwrap();
    }
    asker.nothing_denied().await;
    asker
        .may_not_publish(&[
            "tollbook.usage.org_a",
            "tollbook.spool.org_a",
            "tollbook.rpc.admit.more",
            "tollbook.owner.0.admit",
            "tollbook.log.0.usage.mixed",
            "tollbook.log.0.org.org_a",
            "tollbook.log.0.config",
            "tollbook.alerts.org_a.low",
            "tollbook.seals.0",
            "$KV.TOLLBOOK_OWNERS.0",
            "$JS.API.STREAM.INFO.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.CREATE.MINE",
            "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.MSG.GET.TOLLBOOK_SPOOL",
            "ledger.api.STREAM.MSG.GET.TOLLBOOK_LOG_0_0",
            "_INBOX_gateway.guess",
            "_R_.guess",
        ])
        .await;
    // Nor can it hear what others ask: customers' keys are in it.
    asker
        .may_not_subscribe(&[
            ">",
            "tollbook.>",
            "tollbook.rpc.*",
            ADMIT,
            "tollbook.log.>",
            "tollbook.usage.*",
            "_INBOX.>",
            "_INBOX_gateway.>",
            "_R_.>",
        ])
        .await;
}

#[tokio::test]
async fn no_gateway_hears_what_others_ask() {
    let deployment = Deployment::one_node().await;
    let gateway = deployment.connect(GATEWAY).await;
    gateway.may_not_subscribe(&["tollbook.rpc.*", ADMIT, "_INBOX_admission.>"]).await;
}

/// The server never checks the reply that a question names: even an engine that answers all of them must not write where
/// whoever asks may not.
#[tokio::test]
async fn answers_about_admission_go_nowhere_but_to_whoever_asked() {
    let deployment = Deployment::one_node().await;
    let engine = deployment.with_streams().await;
    let _careless = ingress(&engine.client, false).await;
    let spool = spool::with_stream(&deployment).await;
    let (asker, gateway) = (deployment.connect(ASKER).await, deployment.connect(GATEWAY).await);
    until_answered(&asker).await;
    for target in TARGETS {
        for body in ["may I", "empty"] {
            for asking in [&asker, &gateway] {
                asking.client.publish_with_reply(ADMIT, target, body.into()).await.unwrap();
            }
        }
    }
    // One connection, one order: when this is answered, so was everything above.
    for asking in [&asker, &gateway] {
        asking.client.request(ADMIT, "last".into()).await.unwrap();
    }
    assert_eq!(engine.append().await, 2, "nothing but the engine's own is in the log");
    for name in ["TOLLBOOK_ALERTS", "TOLLBOOK_SEALS"] {
        let mut stream = engine.jetstream().get_stream(name).await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, 0, "{name}");
    }
    let mut kept = spool.jetstream().get_stream("TOLLBOOK_SPOOL").await.unwrap();
    assert_eq!(kept.info().await.unwrap().state.messages, 0);
    asker.nothing_denied().await;

    let mut headers = HeaderMap::new();
    headers.insert("Nats-Trace-Dest", "tollbook.log.0.config");
    asker.client.publish_with_headers(ADMIT, headers, "may I".into()).await.unwrap();
    asker.denied("publish to \"tollbook.log.0.config\"").await;
    for reply in ["$JS.ACK.TOLLBOOK_SPOOL.engine.1.1.1.1.0", "_R_.guess"] {
        asker.client.publish_with_reply(ADMIT, reply, "may I".into()).await.unwrap();
        asker.denied(&format!("reply of \"{reply}\"")).await;
    }
}
