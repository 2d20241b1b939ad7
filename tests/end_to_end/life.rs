//! Starting, stopping, and the directory's lock.

use std::path::PathBuf;

use futures_util::future::join_all;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{DEADLINE, System, SystemBuilder};

use super::{MODEL, calls, check_spend, priced};

/// SIGTERM in the middle of 200 requests: what was answered 204 is there afterwards, and the server ends well.
async fn stops_well_under_load(builder: SystemBuilder) {
    let mut system = builder.start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    let sending = {
        let (api, key) = (api.clone(), key.clone());
        tokio::spawn(async move {
            let (api, key) = (&api, &key);
            let sent = (0..200).map(|index| async move {
                let event = key.event(&format!("{index}"), MODEL);
                let answer = api.try_send(api.batch(&[event])).await;
                answer.is_some_and(|answer| answer.status == 204)
            });
            join_all(sent).await.into_iter().filter(|taken| *taken).count()
        })
    };
    eventually(DEADLINE, "usage arrives", || async {
        (api.spend(&key.organization).await.requests > 0).then_some(())
    })
    .await;
    system.terminate().await;
    assert!(system.log().contains("\"stopped\""), "{}", system.log());
    let acknowledged = u64::try_from(sending.await.unwrap()).unwrap();
    println!("{acknowledged} of 200 were acknowledged");
    system.restart().await;
    let found = api.spend(&key.organization).await.requests;
    assert!(found >= acknowledged, "{acknowledged} were acknowledged, {found} are there");
    let all: Vec<_> = (0..200).map(|index| key.event(&format!("{index}"), MODEL)).collect();
    api.events(&all).await;
    check_spend(&api, &key.organization, calls(200)).await;
}

#[tokio::test]
async fn sigterm_loses_nothing_that_was_accepted() {
    stops_well_under_load(System::builder()).await;
}

#[tokio::test]
async fn sigterm_loses_nothing_that_was_accepted_on_jetstream() {
    let nats = NatsServer::start().await;
    stops_well_under_load(System::builder().nats(&nats)).await;
}

#[tokio::test]
async fn sigint_stops_too() {
    let mut system = System::start().await;
    system.signal("-INT");
    assert!(system.exited().await.success());
}

#[tokio::test]
async fn a_half_sent_request_does_not_hold_up_the_end() {
    use tokio::io::AsyncWriteExt;
    let mut system = System::start().await;
    let url = system.api.url();
    let address = url.strip_prefix("http://").unwrap();
    let mut idle = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost:").await.unwrap();
    idle.write_all(b"").await.unwrap();
    system.api.get("/healthz").await.expect(200);
    system.terminate().await;
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    let mut system = System::start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    api.recharge(&key.organization, "10", "a").await;
    api.events(&[key.event("1", MODEL), key.event("2", "unknown")]).await;
    let paths = [
        "/v1/organizations".to_owned(),
        format!("/v1/organizations/{}/projects/{}/api-keys", key.organization, key.project),
        format!("/v1/organizations/{}/balance", key.organization),
        "/v1/config/prices".to_owned(),
        "/v1/config/billing-cycle".to_owned(),
        "/v1/quarantine".to_owned(),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(api.get(path).await.expect(200));
    }
    for kill in [false, true] {
        if !kill {
            system.terminate().await;
        }
        system.restart().await;
        for (path, before) in paths.iter().zip(&before) {
            assert_eq!(api.get(path).await.expect(200), *before, "{path}, killed: {kill}");
        }
        check_spend(&api, &key.organization, calls(1)).await;
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_gives_up() {
    let system = System::start().await;
    let (code, log) = System::builder().data(system.data()).start_in_vain().await;
    assert_eq!(code, Some(1));
    assert!(log.contains("is in use by") && log.contains("log"), "{log}");
    system.api.organization("Acme").await;
}

#[tokio::test]
async fn what_cannot_be_used_is_said_at_the_start() {
    let system = System::start().await;
    let taken = system.api.url();
    let taken = taken.strip_prefix("http://").unwrap();
    let busy = System::builder().arg("--currency").arg("usd").start_in_vain().await;
    assert!(busy.0 == Some(1) && busy.1.contains("currency must be three letters"), "{}", busy.1);
    let mut command = System::command();
    let data: PathBuf = system.scratch().join("other");
    command.args(["serve", "--listen", taken, "--data"]).arg(data);
    let ran = System::output(command).await;
    assert!(ran.code == Some(1) && ran.err.contains("cannot listen on"), "{ran:?}");
    let mut command = System::command();
    command.args(["serve", "--nats", "nats://127.0.0.1:9", "--data"]).arg(system.scratch().join("third"));
    let ran = System::output(command).await;
    assert!(ran.code == Some(1) && ran.err.contains("the log cannot be opened"), "{ran:?}");
}

#[tokio::test]
async fn partitions_and_currency_are_fixed_for_ever() {
    let mut system = System::builder().arg("--currency").arg("EUR").partitions(2).start().await;
    assert_eq!(system.api.balance(&system.api.organization("Acme").await).await["currency"], "EUR");
    system.terminate().await;
    let again = || System::builder().data(system.data());
    let (code, log) = again().partitions(3).start_in_vain().await;
    assert!(code == Some(1) && log.contains("has 2 partitions, not 3"), "{log}");
    let (code, log) = again().arg("--currency").arg("USD").start_in_vain().await;
    assert!(code == Some(1) && log.contains("the ledger's currency is EUR"), "{log}");
    let unsaid = again().start().await;
    assert_eq!(unsaid.api.get("/v1/digest?partition=1").await.status, 200);
}
