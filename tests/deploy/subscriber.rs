//! A subscriber to alerts pulls from the consumer that an engine made for it.

use async_nats::jetstream::consumer::{PullConsumer, pull};
use futures_util::StreamExt;

use crate::deployment::{DEADLINE, Deployment, SUBSCRIBER};
use crate::spool;

#[tokio::test]
async fn a_subscriber_reads_its_own_alerts_and_acknowledges_them() {
    let deployment = Deployment::one_node().await;
    reads_its_own(&deployment).await;
}

pub(crate) async fn reads_its_own(deployment: &Deployment) {
    let engine = deployment.with_streams().await;
    let spool = spool::with_stream(deployment).await;
    let alerts = engine.jetstream().get_stream("TOLLBOOK_ALERTS").await.unwrap();
    for name in ["mail", "pager"] {
        let config = pull::Config { durable_name: Some(name.to_owned()), ..Default::default() };
        alerts.create_consumer(config).await.unwrap();
    }
    for kind in ["low", "empty"] {
        let subject = format!("tollbook.alerts.org_a.{kind}");
        engine.put(&subject, "an alert").await;
    }

    let subscriber = deployment.connect(SUBSCRIBER).await;
    let mail: PullConsumer =
        subscriber.ledger().get_consumer_from_stream("mail", "TOLLBOOK_ALERTS").await.unwrap();
    let mut messages = mail.messages().await.unwrap();
    for kind in ["low", "empty"] {
        let alert = loop {
            // A consumer that was just made has no leader yet on three nodes.
            if let Ok(alert) = tokio::time::timeout(DEADLINE, messages.next()).await.unwrap().unwrap() {
                break alert;
            }
        };
        assert_eq!(alert.subject.as_str(), format!("tollbook.alerts.org_a.{kind}"));
        alert.double_ack().await.unwrap();
    }
    let mut mail: PullConsumer = alerts.get_consumer("mail").await.unwrap();
    assert_eq!(mail.info().await.unwrap().ack_floor.stream_sequence, 2);
    subscriber.nothing_denied().await;

    subscriber
        .may_not_publish(&[
            "ledger.api.CONSUMER.MSG.NEXT.TOLLBOOK_ALERTS.pager",
            "ledger.api.CONSUMER.INFO.TOLLBOOK_ALERTS.pager",
            "$JS.ACK.TOLLBOOK_ALERTS.pager.1.1.1.1.0",
            "ledger.api.CONSUMER.CREATE.TOLLBOOK_ALERTS.mine",
            "ledger.api.CONSUMER.DELETE.TOLLBOOK_ALERTS.mail",
            "tollbook.alerts.org_a.low",
            "tollbook.usage.org_a",
            "tollbook.log.0.config",
        ])
        .await;
    subscriber.may_not_subscribe(&[">", "tollbook.alerts.>"]).await;

    // A pull that finds nothing is answered with an empty message, and that is what deletes a stream where it arrives.
    for reply in [
        "$JS.API.STREAM.DELETE.TOLLBOOK_SPOOL",
        "$JS.API.STREAM.DELETE.TOLLBOOK_ALERTS",
        "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
        "tollbook.log.0.usage.x",
        "tollbook.alerts.org_a.low",
    ] {
        let nothing = r#"{"batch":1,"no_wait":true}"#;
        let next = "ledger.api.CONSUMER.MSG.NEXT.TOLLBOOK_ALERTS.mail";
        subscriber.client.publish_with_reply(next, reply, nothing.into()).await.unwrap();
    }
    let inbox = subscriber.client.new_inbox();
    let mut answers = subscriber.client.subscribe(inbox.clone()).await.unwrap();
    let nothing = r#"{"batch":1,"no_wait":true}"#;
    let next = "ledger.api.CONSUMER.MSG.NEXT.TOLLBOOK_ALERTS.mail";
    subscriber.client.publish_with_reply(next, inbox, nothing.into()).await.unwrap();
    let empty = tokio::time::timeout(DEADLINE, answers.next()).await.unwrap().unwrap();
    assert_eq!(empty.payload.len(), 0);
    assert_eq!(engine.append().await, 2);
    let mut alerts = engine.jetstream().get_stream("TOLLBOOK_ALERTS").await.unwrap();
    assert_eq!(alerts.info().await.unwrap().state.messages, 2);
    spool.jetstream().get_stream("TOLLBOOK_SPOOL").await.unwrap();
}
