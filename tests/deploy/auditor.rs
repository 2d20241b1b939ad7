//! An auditor reads the log and the seals through its own prefix, and does nothing else.

use crate::deployment::{AUDITOR, Deployment};

#[tokio::test]
async fn an_auditor_reads_the_log_and_can_do_nothing_else() {
    let deployment = Deployment::one_node().await;
    reads_only(&deployment).await;
}

pub(crate) async fn reads_only(deployment: &Deployment) {
    let engine = deployment.with_streams().await;
    engine.put("tollbook.seals.0", "a seal").await;
    let auditor = deployment.connect(AUDITOR).await;

    let mut log = auditor.ledger().get_stream("TOLLBOOK_LOG_0_0").await.unwrap();
    assert_eq!(log.info().await.unwrap().state.last_sequence, 1);
    let entry = log.get_raw_message(1).await.unwrap();
    assert_eq!((entry.subject.as_str(), &entry.payload[..]), ("tollbook.log.0.org.org_a", &b"an entry"[..]));
    let seals = auditor.ledger().get_stream("TOLLBOOK_SEALS").await.unwrap();
    assert_eq!(seals.get_raw_message(1).await.unwrap().payload, "a seal");
    auditor.nothing_denied().await;

    auditor
        .may_not_publish(&[
            "tollbook.log.0.config",
            "tollbook.usage.org_a",
            "tollbook.spool.org_a",
            "ledger.api.STREAM.CREATE.MINE",
            "ledger.api.STREAM.UPDATE.TOLLBOOK_LOG_0_0",
            "ledger.api.STREAM.PURGE.TOLLBOOK_LOG_0_0",
            "ledger.api.STREAM.DELETE.TOLLBOOK_LOG_0_0",
            "ledger.api.STREAM.MSG.DELETE.TOLLBOOK_LOG_0_0",
            "ledger.api.CONSUMER.CREATE.TOLLBOOK_LOG_0_0",
            "ledger.api.CONSUMER.MSG.NEXT.TOLLBOOK_ALERTS.mail",
            // The bucket that keeps the keys of personal data is a stream too.
            "ledger.api.STREAM.MSG.GET.KV_TOLLBOOK_SIDE",
            "$JS.API.STREAM.MSG.GET.TOLLBOOK_LOG_0_0",
            "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
            "$JS.API.CONSUMER.CREATE.TOLLBOOK_LOG_0_0",
        ])
        .await;
    auditor.may_not_subscribe(&[">", "tollbook.log.>", "_INBOX.>", "_INBOX_publisher.>"]).await;

    // The server itself answers a read, to wherever the reader says: in the reader's account.
    for reply in [
        "tollbook.log.0.usage.x",
        "$JS.API.STREAM.DELETE.TOLLBOOK_LOG_0_0",
        "$JS.API.STREAM.PURGE.TOLLBOOK_LOG_0_0",
    ] {
        for (verb, body) in [("MSG.GET", r#"{"seq":1}"#), ("INFO", "")] {
            let subject = format!("ledger.api.STREAM.{verb}.TOLLBOOK_LOG_0_0");
            auditor.client.publish_with_reply(subject, reply, body.into()).await.unwrap();
        }
    }
    log.get_raw_message(1).await.unwrap();
    assert_eq!(engine.append().await, 2);
    auditor.nothing_denied().await;
}
