//! Requests that ask at the same time: limits and balances hold exactly, over HTTP.

use futures_util::stream::{self, StreamExt};
use serde_json::{Value, json};
use tollbook_tests::system::{Answer, Api, Key, System};

use super::admission::{ask, customer, money, used};

/// Clients with a connection each.
const CLIENTS: usize = 64;

async fn at_once(api: &Api, key: &Key, requests: usize, tokens: u64) -> Vec<Answer> {
    let clients: Vec<_> = (0..CLIENTS).map(|_| api.reconnected()).collect();
    let asked = (0..requests).map(|number| ask(&clients[number % CLIENTS], key, tokens));
    stream::iter(asked).buffer_unordered(requests).collect().await
}

/// How many passed; all others were refused for this.
#[track_caller]
fn passed(answers: &[Answer], code: &str) -> usize {
    let (passed, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    for answer in refused {
        assert_eq!(answer.expect(429)["error"]["code"], code);
    }
    passed.len()
}

async fn limited(api: &Api, recharge: &str, limits: Value) -> Key {
    let key = customer(api, recharge).await;
    let path = format!("/v1/organizations/{}/limits/override", key.organization);
    api.post(&path, &limits).await.expect(200);
    key
}

/// Limits that nobody reaches.
fn generous() -> Value {
    json!({ "concurrency": 1_000_000, "rpm": 1_000_000, "tpm": 1_000_000_000_000_u64 })
}

fn but(name: &str, limit: u64) -> Value {
    let mut limits = generous();
    limits[name] = limit.into();
    limits
}

#[tokio::test]
async fn r5_6_of_2000_requests_at_once_a_limit_of_100_lets_exactly_100_pass() {
    let system = System::start().await;
    let api = &system.api;
    for (limit, code) in [("rpm", "organization_rpm"), ("concurrency", "organization_concurrency")] {
        let key = limited(api, "10", but(limit, 100)).await;
        let answers = at_once(api, &key, 2_000, 1).await;
        assert_eq!(passed(&answers, code), 100, "{limit}");
        let now = used(api, &key).await;
        assert_eq!([&now["requests"], &now["concurrency"], &now["leases"]], [100, 100, 100], "{limit}");
    }
    let key = limited(api, "10", but("tpm", 100_000)).await;
    assert_eq!(passed(&at_once(api, &key, 2_000, 1_000).await, "organization_tpm"), 100);
}

#[tokio::test]
async fn r4_1_of_2000_requests_at_once_money_for_100_lets_exactly_100_pass() {
    let system = System::start().await;
    let api = &system.api;
    let key = limited(api, "10", generous()).await;
    let answers = at_once(api, &key, 2_000, 100_000).await;
    assert_eq!(passed(&answers, "balance_below_request"), 100);
    assert_eq!(money(api, &key).await, ["10", "10", "10"]);
}

#[tokio::test]
async fn r4_1_of_50_requests_of_100_dollars_at_once_10_pass_where_there_are_1000() {
    let system = System::start().await;
    let api = &system.api;
    let key = limited(api, "1000", generous()).await;
    assert_eq!(passed(&at_once(api, &key, 50, 100_000_000).await, "balance_below_request"), 10);
    assert_eq!(money(api, &key).await, ["1000", "1000", "1000"]);
}
