//! The server harness itself.

use tollbook_tests::nats::{NatsCluster, NatsServer};

#[tokio::test]
async fn a_server_comes_back_on_its_port_and_store() {
    let mut server = NatsServer::start().await;
    let (url, monitor) = (server.url(), server.monitor_url());
    server.kill();
    assert!(server.monitor("varz").await.is_none());
    server.restart().await;
    assert_eq!((server.url(), server.monitor_url()), (url, monitor));
    let jsz = server.monitor("jsz").await.unwrap();
    assert_eq!(jsz["config"]["sync_always"], true);
}

#[tokio::test]
async fn a_cluster_gets_healthy() {
    let cluster = NatsCluster::start(3).await;
    let client =
        async_nats::connect(cluster.url().split(',').map(str::to_owned).collect::<Vec<_>>()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let config =
        async_nats::jetstream::stream::Config { name: "S".into(), num_replicas: 3, ..Default::default() };
    context.create_stream(config).await.unwrap();
    assert!(cluster.leader("S").await < 3);
}
