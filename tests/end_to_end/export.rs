//! `tollbook-replay export`, and that another program comes to what the server says.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tollbook_tests::books::books;
use tollbook_tests::system::System;

use super::{MODEL, priced};

#[tokio::test]
async fn r4_r8_another_program_computes_what_the_server_says() {
    let mut system = System::builder().partitions(2).start().await;
    let api = system.api.clone();
    priced(&api).await;
    let (key, other) = (api.customer("Acme").await, api.customer("Other").await);
    api.recharge(&key.organization, "4", "a").await;
    api.events(&[key.event("1", MODEL), key.event("2", MODEL), other.event("1", MODEL)]).await;
    api.events(&[key.event("2", MODEL), key.event("3", "unknown")]).await;
    // Answered in the log's order: in both partitions everything before is folded.
    api.recharge(&key.organization, "3.5", "b").await;
    api.recharge(&other.organization, "1", "a").await;
    let balance = api.balance(&key.organization).await;
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
    let vouchers = computed["vouchers"].as_array().unwrap();
    assert_eq!((vouchers.len(), &vouchers[0]["left"]), (1, &balance["vouchers"]));
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
