//! `tollbook-replay export`, and that another program comes to what the server says.

use std::collections::BTreeSet;
use std::fs;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollbook_tests::books::books;
use tollbook_tests::system::{Api, Key, System, amount};

use super::{MODEL, priced};

/// Everything that finance does by hand.
async fn correct(api: &Api, key: &Key) {
    let path = |rest: &str| format!("/v1/organizations/{}/{rest}", key.organization);
    let post = async |rest: &str, body: Value| api.post(&path(rest), &body).await.expect(201);
    post("refunds", json!({ "amount": "1", "reference": "c" })).await;
    post("adjustments", json!({ "amount": "-0.25", "reference": "d", "reason": "agreed, by \"Ann\"" })).await;
    let voucher = json!({ "amount": "2", "reference": "e", "expires_at": "2100-01-01T00:00:00Z" });
    post("vouchers", voucher).await;
    let recharge = post("recharges", json!({ "amount": "10", "reference": "f" })).await;
    let reversals = format!("recharges/{}/reversals", recharge["id"].as_str().unwrap());
    post(&reversals, json!({ "amount": "9", "reference": "g", "reason": "disputed" })).await;
    api.prices("unknown", "1", "1", "1").await;
    let mine = json!({ "usage": { "source": "test", "id": "1" }, "reason": "by mistake" });
    api.post(&path("usage-reversals"), &mine).await.expect(201);
}

#[tokio::test]
async fn r4_r8_another_program_computes_what_the_server_says() {
    let mut system = System::builder().partitions(2).start().await;
    let api = system.api.clone();
    priced(&api).await;
    let (key, other) = (api.customer("Acme").await, api.customer("Other").await);
    api.recharge(&key.organization, "4", "a").await;
    let mut first = key.event("1", MODEL);
    first["data"]["cost"] = json!("4.125");
    api.events(&[first, key.event("2", MODEL), other.event("1", MODEL)]).await;
    api.events(&[key.event("2", MODEL), key.event("3", "unknown")]).await;
    // Answered in the log's order: in both partitions everything before is folded.
    api.recharge(&key.organization, "3.5", "b").await;
    api.recharge(&other.organization, "1", "a").await;
    correct(&api, &key).await;
    let balance = api.balance(&key.organization).await;
    let trial = api.get("/v1/trial-balance").await.expect(200);
    let path = format!("/v1/organizations/{}/statement?format=csv&month=", key.organization);
    let month = api.get(&format!("/v1/organizations/{}/log", key.organization)).await.expect(200);
    let month =
        month["items"].as_array().unwrap().last().unwrap()["recorded_at"].as_str().unwrap()[..7].to_owned();
    let statement = api.get(&format!("{path}{month}")).await.text;
    let quarantined = api.quarantine().await;
    system.terminate().await;

    let exported = system.replay(&["export", "--format", "jsonl"]).await;
    assert_eq!(exported.code, Some(0), "{exported:?}");
    let file = system.scratch().join("export.jsonl");
    fs::write(&file, &exported.out).unwrap();
    let books = books(&file).await;
    assert_eq!(books["complaints"], json!([]));
    let computed = &books["organizations"][&key.organization];
    for field in ["cash", "available", "cumulative_recharge", "tier", "credit_limit"] {
        if let Some(shown) = balance.get(field) {
            assert_eq!(&computed[field], shown, "{field}");
        }
    }
    let left: Decimal =
        computed["vouchers"].as_array().unwrap().iter().map(|voucher| amount(&voucher["left"])).sum();
    assert_eq!(left, amount(&balance["vouchers"]));
    let hash: String = Sha256::digest(&statement).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(computed["statements"][&month]["sha256"], hash.as_str(), "{statement}");
    for account in trial["accounts"].as_array().unwrap() {
        assert_eq!(books["trial_balance"][account["account"].as_str().unwrap()], account["balance"]);
    }
    let held: BTreeSet<_> = quarantined.iter().map(|item| item["id"].as_str().unwrap()).collect();
    let computed = books["quarantine"].as_object().unwrap().keys().map(String::as_str);
    assert_eq!(computed.collect::<BTreeSet<_>>(), held);

    // One organization, and a part of the log.
    let lines = |args: &'static [&'static str]| {
        let args = ["export", "--format", "jsonl"].into_iter().chain(args.iter().copied());
        let args: Vec<_> = args.collect();
        let system = &system;
        async move {
            let exported = system.replay(&args).await;
            assert_eq!(exported.code, Some(0), "{exported:?}");
            let lines = exported.out.lines().map(|line| serde_json::from_str(line).unwrap());
            lines.collect::<Vec<Value>>()
        }
    };
    let position = |line: &Value| line["position"].as_str().unwrap().to_owned();
    let part = lines(&["--from", "1-2", "--to", "1-4"]).await;
    assert_eq!((&part[0]["type"], &part[0]["partition"]), (&json!("partition"), &json!(1)));
    assert_eq!(part[1..].iter().map(position).collect::<Vec<_>>(), ["1-2", "1-3"]);
    let all = lines(&[]).await;
    let acme = system.replay(&["export", "--format", "jsonl", "--org", &other.organization]).await;
    assert!(acme.out.contains(&other.organization) && !acme.out.contains(&key.organization));
    assert!(acme.out.lines().count() < all.len());
    for wrong in
        [&["export"][..], &["export", "--format", "xml"], &["export", "--format", "jsonl", "--from", "noon"]]
    {
        assert_eq!(system.replay(wrong).await.code, Some(2), "{wrong:?}");
    }
}
