//! A ledger of three partitions.

use std::collections::BTreeSet;

use serde_json::Value;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, DEADLINE, Key, System, SystemBuilder};

use super::{MODEL, calls, priced};

/// Organizations until each of three partitions has one.
pub(super) async fn customers(system: &System) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut partitions = BTreeSet::new();
    while partitions.len() < 3 {
        assert!(keys.len() < 100, "organizations are in {partitions:?} alone");
        let key = system.api.customer("Acme").await;
        let shown = system.api.get(&format!("/v1/organizations/{}", key.organization)).await.expect(200);
        let position = shown["position"].as_str().unwrap();
        partitions.insert(position.split_once('-').unwrap().0.to_owned());
        keys.push(key);
    }
    println!("{} organizations in {partitions:?}", keys.len());
    keys
}

/// Waits until so many calls are folded.
async fn booked(api: &Api, key: &Key, requests: u64) {
    eventually(DEADLINE, "usage is folded", || async {
        (api.spend(&key.organization).await.requests >= requests).then_some(())
    })
    .await;
    assert_eq!(api.spend(&key.organization).await, calls(requests));
}

async fn three_partitions_are_one_ledger(builder: SystemBuilder) {
    let mut system = builder.partitions(3).start().await;
    let api = system.api.clone();
    priced(&api).await;
    let keys = customers(&system).await;
    let ready = api.get("/readyz").await.expect(200);
    assert_eq!(ready["partitions"].as_array().unwrap().len(), 3);

    // Prices stand in partition 0 first; the others copy them, which takes a moment.
    eventually(DEADLINE, "prices can be used everywhere", || async {
        let mut booked = 0;
        for (index, key) in keys.iter().enumerate() {
            api.events(&[key.event(&format!("first-{index}"), MODEL)]).await;
            booked += u64::from(api.spend(&key.organization).await.requests > 0);
        }
        (booked == u64::try_from(keys.len()).unwrap()).then_some(())
    })
    .await;
    assert_eq!(api.quarantine().await, Vec::<Value>::new(), "nothing came before its price");
    let mut mixed = Vec::new();
    for number in 0..20 {
        mixed.extend(keys.iter().map(|key| key.event(&number.to_string(), MODEL)));
    }
    for chunk in mixed.chunks(1_000) {
        api.events(chunk).await;
    }
    for key in &keys {
        booked(&api, key, 21).await;
        api.recharge(&key.organization, "5", "a").await;
        assert_eq!(api.balance(&key.organization).await["cash"], "4.99853");
    }
    assert_eq!(api.all("/v1/organizations").await.len(), keys.len());
    let auditor = api.with_token(&api.service_token(&["auditor"], None).await);
    auditor.get("/v1/digest?partition=2").await.expect(200);

    for kill in [true, false] {
        if !kill {
            system.terminate().await;
        }
        system.restart().await;
        for key in &keys {
            assert_eq!(api.spend(&key.organization).await, calls(21), "killed: {kill}");
            assert_eq!(api.balance(&key.organization).await["vouchers"], "5");
        }
        auditor.get("/v1/tokens").await.expect(200);
    }
    for key in &keys {
        api.events(&[key.event("19", MODEL), key.event("20", MODEL)]).await;
        booked(&api, key, 22).await;
    }
}

#[tokio::test]
async fn three_partitions_are_one_ledger_on_the_embedded_log() {
    three_partitions_are_one_ledger(System::builder()).await;
}

#[tokio::test]
async fn three_partitions_are_one_ledger_on_jetstream() {
    let nats = NatsServer::start().await;
    three_partitions_are_one_ledger(System::builder().nats(&nats)).await;
}
