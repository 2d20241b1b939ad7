//! What `open` refuses, and that it says why.

use std::time::Duration;

use async_nats::jetstream::stream::Config;
use tollbook_engine::log::jetstream::{Credentials, JetStream, JetStreamOptions, OpenError};
use tollbook_tests::nats::NatsServer;

use super::{open, options};

async fn refused(options: JetStreamOptions, partitions: u16) -> String {
    JetStream::open(options, partitions).await.expect_err("must be refused").to_string()
}

/// A stream as the log makes it, then changed, on a server of its own.
async fn altered(change: impl Fn(&mut Config)) -> String {
    let server = NatsServer::start().await;
    let mut config = open(&server)
        .await
        .context()
        .get_stream("TOLLBOOK_LOG_0_0")
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    drop(server);
    let server = NatsServer::start().await;
    let client = async_nats::connect(server.url()).await.unwrap();
    change(&mut config);
    async_nats::jetstream::new(client).create_stream(config).await.unwrap();
    refused(options(&server), 1).await
}

#[tokio::test]
async fn a_server_that_syncs_later_is_refused() {
    let server = NatsServer::builder().sync_default().start().await;
    let message = refused(options(&server), 1).await;
    assert!(message.contains("sync_interval: always"), "{message}");
    // Even if unverified durability is allowed: this is verified, and wrong.
    let mut allowed = options(&server);
    allowed.allow_unverified_durability = true;
    assert!(matches!(JetStream::open(allowed, 1).await, Err(OpenError::NotDurable { .. })));
}

#[tokio::test]
async fn durability_that_cannot_be_verified_is_refused_unless_allowed() {
    let server = NatsServer::start().await;
    let mut unknown = options(&server);
    unknown.monitor_urls = vec!["http://127.0.0.1:1".to_owned()];
    let message = refused(unknown.clone(), 1).await;
    assert!(message.contains("--allow-unverified-durability"), "{message}");
    unknown.allow_unverified_durability = true;
    JetStream::open(unknown, 1).await.unwrap();
}

#[tokio::test]
async fn the_system_account_can_verify() {
    let accounts = "accounts {
        LEDGER { jetstream: enabled, users: [ { user: engine, password: e } ] }
        SYS { users: [ { user: sys, password: s } ] }
    }
    system_account: SYS";
    let password =
        |user: &str, password: &str| Credentials::Password { user: user.into(), password: password.into() };
    for durable in [true, false] {
        let builder = NatsServer::builder().config(accounts);
        let server = if durable { builder.start().await } else { builder.sync_default().start().await };
        let mut options = JetStreamOptions::new(vec![server.url()]);
        options.credentials = password("engine", "e");
        options.system = Some(password("sys", "s"));
        let opened = JetStream::open(options, 1).await;
        assert_eq!(opened.is_ok(), durable, "{opened:?}");
    }
}

#[tokio::test]
async fn each_wrong_setting_is_named() {
    let message = altered(|config| config.allow_direct = true).await;
    assert!(message.contains("allow_direct is true, must be false"), "{message}");
    let message = altered(|config| {
        config.max_age = Duration::from_secs(3600);
        config.deny_delete = false;
    })
    .await;
    assert!(message.contains("max_age is 3600s, must be 0ns"), "{message}");
    assert!(message.contains("deny_delete is false, must be true"), "{message}");
    let message = altered(|config| config.metadata.clear()).await;
    assert!(message.contains("metadata.tollbook_partitions"), "{message}");
}

#[tokio::test]
async fn another_number_of_partitions_or_replicas_is_refused() {
    let server = NatsServer::start().await;
    JetStream::open(options(&server), 4).await.unwrap();
    JetStream::open(options(&server), 4).await.unwrap();
    for partitions in [1, 2, 8] {
        let message = refused(options(&server), partitions).await;
        assert!(message.contains("--partitions 4"), "{message}");
    }
    let mut three = options(&server);
    three.replicas = Some(3);
    let message = refused(three, 4).await;
    assert!(message.contains("num_replicas is 1, must be 3"), "{message}");
}

#[tokio::test]
async fn small_messages_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nats.conf");
    let store = directory.path().join("store");
    std::fs::write(
        &file,
        format!("jetstream {{ store_dir: \"{}\", sync_interval: always }}", store.display()),
    )
    .unwrap();
    let server = NatsServer::builder().config_file(&file).start().await;
    let message = refused(options(&server), 1).await;
    assert!(message.contains("max_payload: 2MB"), "{message}");
}

#[tokio::test]
async fn the_brokers_clock_is_compared() {
    let server = NatsServer::start().await;
    let log = open(&server).await;
    let at = log.broker_offset_ms(|| 0).await.unwrap();
    // The servers' own time of 2020 and later, in milliseconds.
    assert!(at > 1_577_836_800_000);
    assert!(log.broker_offset_ms(|| at).await.unwrap().abs() < 60_000);
}
