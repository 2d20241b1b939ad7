//! R1.2: 20 projects and 50 keys, however many ask at once.

use futures_util::future::join_all;
use serde_json::json;
use tollbook_tests::system::{Answer, System};

#[track_caller]
fn check(answers: &[Answer], made: usize, code: &str) {
    let (created, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(created.len(), made);
    for answer in refused {
        assert_eq!(answer.refused(422), code);
    }
}

#[tokio::test]
async fn r1_2_fifty_at_once_leave_exactly_twenty_projects() {
    let system = System::start().await;
    let api = &system.api;
    let (org, other) = (api.organization("Acme").await, api.organization("Other").await);
    let path = format!("/v1/organizations/{org}/projects");
    let body = json!({ "name": "chat" });
    let answers = join_all((0..50).map(|_| api.post(&path, &body))).await;
    check(&answers, 20, "project_limit");
    assert_eq!(api.all(&path).await.len(), 20);
    api.project(&other).await;
}

#[tokio::test]
async fn r1_2_eighty_at_once_leave_exactly_fifty_keys_over_all_projects() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let projects = [api.project(&org).await, api.project(&org).await];
    let paths = projects.map(|project| format!("/v1/organizations/{org}/projects/{project}/api-keys"));
    let body = json!({ "name": "production" });
    let answers = join_all((0..80).map(|index| api.post(&paths[index % 2], &body))).await;
    check(&answers, 50, "api_key_limit");
    assert_eq!(api.all(&paths[0]).await.len() + api.all(&paths[1]).await.len(), 50);
}
