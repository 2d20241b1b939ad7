//! Two servers of one ledger on one NATS: one owns, the other stands by and takes over.

use std::time::Duration;

use tollbook_engine::clock::Stopwatch;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{System, SystemBuilder};

use super::{MODEL, calls, check_spend, priced};

/// A lease lasts 2 s; a busy machine needs more to notice and to take over.
const TAKEOVER: Duration = Duration::from_secs(20);

fn on(nats: &NatsServer) -> SystemBuilder {
    System::builder().nats(nats)
}

async fn takes_over(graceful: bool) {
    let nats = NatsServer::start().await;
    let mut first = on(&nats).start().await;
    priced(&first.api).await;
    let key = first.api.customer("Acme").await;
    first.api.events(&[key.event("1", MODEL)]).await;
    let second = on(&nats).start_standby().await;
    let api = &second.api;
    assert_eq!(api.get("/readyz").await.refused(503), "standby");
    let path = format!("/v1/organizations/{}/recharges", key.organization);
    let body = serde_json::json!({ "amount": "1", "reference": "a" });
    let refused = api.post(&path, &body).await;
    assert_eq!(refused.refused(503), "not_owner");
    // Usage needs no owner.
    api.events(&[key.event("2", MODEL)]).await;
    eventually(TAKEOVER, "both have folded both", || async {
        let same = first.api.spend(&key.organization).await == calls(2)
            && api.spend(&key.organization).await == calls(2)
            && first.api.digest(0).await == api.digest(0).await;
        same.then_some(())
    })
    .await;
    if graceful {
        first.terminate().await;
    } else {
        first.kill();
    }
    let watch = Stopwatch::start();
    eventually(TAKEOVER, "the second takes over", || async {
        (api.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    println!("taken over within {:?}, graceful: {graceful}", watch.elapsed());
    api.post(&path, &body).await.expect(201);
    api.events(&[key.event("1", MODEL), key.event("3", MODEL)]).await;
    check_spend(api, &key.organization, calls(3)).await;
    // The first comes back behind the second.
    let back = on(&nats).data(first.data()).start_standby().await;
    assert_eq!(back.api.get("/readyz").await.refused(503), "standby");
    let position = api.digest(0).await.0;
    let seen = back.api.get(&format!("/v1/digest?min_position={position}")).await.expect(200);
    let seen = (seen["position"].as_str().unwrap(), seen["digest"].as_str().unwrap());
    let now = api.digest(0).await;
    assert_eq!(seen, (now.0.as_str(), now.1.as_str()));
}

#[tokio::test]
async fn the_second_takes_over_when_the_first_is_killed() {
    takes_over(false).await;
}

#[tokio::test]
async fn the_second_takes_over_when_the_first_stops() {
    takes_over(true).await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_data_directory_either() {
    let nats = NatsServer::start().await;
    let mut first = on(&nats).start().await;
    priced(&first.api).await;
    let key = first.api.customer("Acme").await;
    first.api.events(&[key.event("1", MODEL)]).await;
    let (code, said) = on(&nats).data(first.data()).start_in_vain().await;
    println!("{}", said.lines().last().unwrap_or_default());
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains("throwing"), "the other's views are not thrown away: {said}");
    // The first has noticed nothing.
    check_spend(&first.api, &key.organization, calls(1)).await;
    first.terminate().await;
    first.restart().await;
    check_spend(&first.api, &key.organization, calls(1)).await;
}

#[tokio::test]
async fn a_standby_stops_well() {
    let nats = NatsServer::start().await;
    let first = on(&nats).start().await;
    let mut second = on(&nats).start_standby().await;
    second.terminate().await;
    first.api.organization("Acme").await;
}
