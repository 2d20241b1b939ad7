//! The same promises on three nodes, with the clients on different ones.

use crate::deployment::Deployment;
use crate::{admission, auditor, engine, publisher, reply_subject, spool, subscriber};

#[tokio::test]
async fn three_nodes_keep_publishers_from_the_log() {
    let deployment = Deployment::three_nodes().await;
    reply_subject::harms_nothing(&deployment).await;
    publisher::is_answered(&deployment).await;
    publisher::is_confined(&deployment).await;
    admission::only_asks(&deployment).await;
    engine::monitors(&deployment).await;
}

#[tokio::test]
async fn three_nodes_let_engines_work_and_auditors_read() {
    let deployment = Deployment::three_nodes().await;
    auditor::reads_only(&deployment).await;
}

#[tokio::test]
async fn three_nodes_serve_subscribers_and_the_spool() {
    let deployment = Deployment::three_nodes().await;
    engine::works(&deployment).await;
    spool::survives_headers(&deployment).await;
}

#[tokio::test]
async fn three_nodes_serve_alerts() {
    let deployment = Deployment::three_nodes().await;
    subscriber::reads_its_own(&deployment).await;
}

#[tokio::test]
async fn three_nodes_open_with_the_shipped_keys() {
    let deployment = Deployment::three_nodes().await;
    engine::opens(&deployment).await;
}
