use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use tollbook_schemas::alert::AlertKind;
use tollbook_schemas::id::{AlertId, OrgId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::time::Timestamp;

use super::embedded::EmbeddedDeliveries;
use super::{DeliveryStore, Record};
use crate::delivery::record::{Channel, Delivery, DeliveryState, KEPT_SECONDS};
use crate::delivery::told::Told;
use crate::log::embedded::Embedded;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

fn record(number: u128, raised_at: Timestamp) -> Record {
    let told = Told {
        id: AlertId::from_bits(number),
        organization: Some(OrgId::from_bits(1)),
        kind: AlertKind::BalanceLow,
        position: LogPosition { partition: PartitionId(0), position: Position(9) },
        number: 0,
        raised_at,
        data: json!({ "threshold": "5", "available": "4.999999999999" }),
    };
    Record { told, deliveries: BTreeMap::from([(Channel::Email, Delivery::new(raised_at))]) }
}

#[tokio::test]
async fn r7_3_records_outlive_the_process_and_are_added_once() {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<Embedded> = Arc::new(Embedded::open(&dir.path().join("log"), 1).unwrap());
    let open = || EmbeddedDeliveries::open(&dir.path().join("log/deliveries"), log.clone()).unwrap();
    let (first, second) = (record(1, NOW), record(2, NOW));
    let partition = PartitionId(0);
    {
        let store = open();
        let added = store.create(partition, vec![first.clone(), second.clone()], 7, NOW).await.unwrap();
        assert_eq!(added.len(), 2);
        let mut stored = store.get(first.told.id.clone()).await.unwrap().unwrap();
        assert_eq!(stored.record, first);
        if let Some(delivery) = stored.record.deliveries.get_mut(&Channel::Email) {
            delivery.state = DeliveryState::Delivered;
        }
        store.update(partition, vec![stored]).await.unwrap();
    }
    let store = open();
    assert_eq!(store.cursor(partition).await.unwrap(), 7);
    assert_eq!(store.cursor(PartitionId(1)).await.unwrap(), 0);
    assert_eq!(store.open_records(partition).await.unwrap(), std::slice::from_ref(&second.told.id));
    assert_eq!(store.open_records(PartitionId(1)).await.unwrap(), []);
    let added = store.create(partition, vec![first.clone(), record(3, NOW)], 9, NOW).await.unwrap();
    assert_eq!(added, [AlertId::from_bits(3)], "what is there stays as it is");
    let kept = store.get(first.told.id).await.unwrap().unwrap().record;
    assert!(!kept.is_open());
}

#[tokio::test]
async fn r7_3_records_are_forgotten_thirty_days_after_they_were_made() {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<Embedded> = Arc::new(Embedded::open(&dir.path().join("log"), 1).unwrap());
    let store = EmbeddedDeliveries::open(&dir.path().join("log/deliveries"), log).unwrap();
    let partition = PartitionId(0);
    let ended = |number, raised_at| {
        let mut record = record(number, raised_at);
        record.deliveries.values_mut().for_each(|delivery| delivery.state = DeliveryState::Failed);
        record
    };
    let old = NOW.plus_seconds(-2 * KEPT_SECONDS);
    store.create(partition, vec![ended(1, NOW), record(3, NOW)], 1, NOW).await.unwrap();
    let later = NOW.plus_seconds(3 * 24 * 3_600);
    store.create(partition, vec![ended(2, old)], 1, later).await.unwrap();
    let found = async |number| store.get(AlertId::from_bits(number)).await.unwrap();
    store.sweep(NOW.plus_seconds(KEPT_SECONDS)).await.unwrap();
    assert!(found(1).await.is_some() && found(2).await.is_some());
    let swept = NOW.plus_seconds(KEPT_SECONDS + 25 * 3_600);
    store.sweep(swept).await.unwrap();
    assert!(found(1).await.is_none() && found(2).await.is_some(), "an old alert's record may be young");
    let mut open = found(3).await.expect("what is still to be attempted stays");
    open.record.deliveries.values_mut().for_each(|delivery| delivery.state = DeliveryState::Delivered);
    store.update(partition, vec![open]).await.unwrap();
    store.sweep(swept.plus_seconds(KEPT_SECONDS + 25 * 3_600)).await.unwrap();
    assert!(found(2).await.is_none() && found(3).await.is_none());
    assert_eq!(store.open_records(partition).await.unwrap(), []);
}
