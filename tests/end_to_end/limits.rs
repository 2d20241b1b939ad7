//! R1.2: 20 projects and 50 keys, however many ask at once.

use futures_util::future::join_all;
use serde_json::json;
use tollbook_tests::nats::NatsServer;
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
    fifty_at_once(&System::start().await).await;
    let nats = NatsServer::start().await;
    fifty_at_once(&System::builder().nats(&nats).start().await).await;
}

async fn fifty_at_once(system: &System) {
    let api = &system.api;
    let (org, other) = (api.organization("Acme").await, api.organization("Other").await);
    let path = format!("/v1/organizations/{org}/projects");
    let body = json!({ "name": "chat" });
    // Each over a connection of its own, so that they come at the same time.
    let apis: Vec<_> = (0..50).map(|_| api.reconnected()).collect();
    let answers = join_all(apis.iter().map(|api| api.post(&path, &body))).await;
    check(&answers, 20, "project_limit");
    assert_eq!(api.all(&path).await.len(), 20);
    api.project(&other).await;
}

#[tokio::test]
async fn r1_2_eighty_at_once_leave_exactly_fifty_keys_over_all_projects() {
    eighty_at_once(&System::start().await).await;
    let nats = NatsServer::start().await;
    eighty_at_once(&System::builder().nats(&nats).start().await).await;
}

async fn eighty_at_once(system: &System) {
    let api = &system.api;
    let org = api.organization("Acme").await;
    let projects = [api.project(&org).await, api.project(&org).await];
    let paths = projects.map(|project| format!("/v1/organizations/{org}/projects/{project}/api-keys"));
    let body = json!({ "name": "production" });
    let answers = join_all((0..80).map(|index| api.post(&paths[index % 2], &body))).await;
    check(&answers, 50, "api_key_limit");
    assert_eq!(api.all(&paths[0]).await.len() + api.all(&paths[1]).await.len(), 50);
}

/// No update is lost: whoever writes last wins whole, and everybody's entry is in the log.
#[tokio::test]
async fn r2_2_many_who_save_at_once_replace_each_other_whole() {
    many_save_at_once(&System::start().await).await;
    let nats = NatsServer::start().await;
    many_save_at_once(&System::builder().nats(&nats).start().await).await;
}

async fn many_save_at_once(system: &System) {
    let api = &system.api;
    let org = api.organization("Acme").await;
    let org_path = format!("/v1/organizations/{org}");
    api.post(&format!("{org_path}/verification"), &json!({ "level": "verified" })).await.expect(200);
    let path = format!("{org_path}/ip-allowlist");
    let lists: Vec<String> = (1..=30).map(|last| format!("203.0.113.{last} 198.51.100.{last}")).collect();
    let bodies: Vec<_> = lists.iter().map(|text| json!({ "text": text })).collect();
    let answers = join_all(bodies.iter().map(|body| api.put(&path, body))).await;
    let mut positions: Vec<u64> = answers
        .iter()
        .map(|answer| answer.expect(200)["position"].as_str().unwrap()[2..].parse().unwrap())
        .collect();
    let last = answers
        .iter()
        .max_by_key(|answer| answer.json()["position"].as_str().unwrap()[2..].parse::<u64>().unwrap());
    let saved = api.get(&path).await.expect(200);
    let index = answers.iter().position(|answer| answer.text == last.unwrap().text).unwrap();
    let wanted: Vec<&str> = lists[index].split(' ').collect();
    assert_eq!(saved["entries"], json!(wanted));
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), 30, "every one has an entry of its own");
    let saves = api
        .all(&format!("{org_path}/log"))
        .await
        .into_iter()
        .filter(|item| item["events"][0]["type"] == "organization.ip_allowlist_saved");
    assert_eq!(saves.count(), 30);
}
