//! Money by hand: refunds, chargebacks, adjustments, vouchers, credit, own prices, tiers, the trial balance.

use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollbook_tests::system::{Api, System, amount};

use super::MODEL;

fn path(org: &str, rest: &str) -> String {
    format!("/v1/organizations/{org}/{rest}")
}

/// Usage of an organization that cost this much.
async fn used(api: &Api, key: &tollbook_tests::system::Key, id: &str, cost: &str) {
    let mut event = key.event(id, MODEL);
    event["data"]["cost"] = json!(cost);
    api.events(&[event]).await;
    api.folded().await;
}

async fn refund(api: &Api, org: &str, body: Value) -> Value {
    api.post(&path(org, "refunds"), &body).await.expect(201)
}

/// Every account that is not 0, and their sum, which is.
async fn trial(api: &Api) -> Vec<String> {
    let trial = api.get("/v1/trial-balance").await.expect(200);
    let accounts = trial["accounts"].as_array().unwrap();
    assert_eq!((accounts.len(), &trial["currency"], &trial["sum"]), (11, &json!("USD"), &json!("0")));
    let sum: Decimal = accounts.iter().map(|account| amount(&account["balance"])).sum();
    assert_eq!(sum, Decimal::ZERO);
    let text = |account: &Value, name: &str| account[name].as_str().unwrap().to_owned();
    let moved = accounts.iter().filter(|account| account["balance"] != "0");
    moved.map(|account| format!("{} {}", text(account, "account"), text(account, "balance"))).collect()
}

#[tokio::test]
async fn r4_8_refunds_pay_unused_cash_and_say_how_much() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let org = &key.organization;
    let nothing = json!({ "amount": "1", "reference": "n" });
    assert_eq!(api.post(&path(org, "refunds"), &nothing).await.refused(422), "nothing_to_refund");
    let first = api.recharge(org, "12", "a").await;
    let second = api.recharge(org, "8", "b").await;
    assert_eq!(first["voucher"]["amount"], "5");
    used(api, &key, "1", "9").await;

    let named = json!({ "amount": "3", "reference": "r1", "recharge": second["id"] });
    let answer = refund(api, org, named.clone()).await;
    assert!(answer["id"].as_str().unwrap().starts_with("mov_"), "{answer}");
    assert_eq!((&answer["requested"], &answer["paid"]), (&json!("3"), &json!("3")));
    assert_eq!((&answer["reference"], &answer["recharge"]), (&json!("r1"), &second["id"]));
    assert_eq!(
        (&answer["balance"]["cash"], &answer["balance"]["cumulative_recharge"]),
        (&json!("13"), &json!("17"))
    );
    assert_eq!(answer["balance"]["tier"], "Tier1");
    assert!(answer["withdrawn_voucher"].is_null() && answer["credit_note"].is_null(), "{answer}");
    assert_eq!(api.balance(org).await, answer["balance"]);

    // The same again changes nothing; another recharge or amount is other content.
    let again = api.post(&path(org, "refunds"), &named).await;
    assert_eq!((again.expect(201), again.header("idempotent-replayed")), (answer, "true"));
    for other in [
        json!({ "amount": "3", "reference": "r1" }),
        json!({ "amount": "3", "reference": "r1", "recharge": first["id"] }),
        json!({ "amount": "2", "reference": "r1", "recharge": second["id"] }),
    ] {
        assert_eq!(api.post(&path(org, "refunds"), &other).await.refused(409), "reference_conflict");
    }
    // A recharge's reference is another kind's.
    let all = refund(api, org, json!({ "amount": "1000000", "reference": "a" })).await;
    assert_eq!((&all["requested"], &all["paid"]), (&json!("1000000"), &json!("13")));
    assert_eq!((&all["recharge"], &all["balance"]["cash"]), (&Value::Null, &json!("0")));
    assert_eq!(
        (&all["balance"]["cumulative_recharge"], &all["balance"]["tier"]),
        (&json!("4"), &json!("Tier0"))
    );
    // Usage had taken all of the voucher, so there was nothing to withdraw.
    assert!(all["withdrawn_voucher"].is_null(), "{all}");
    assert_eq!(api.post(&path(org, "refunds"), &nothing).await.refused(422), "nothing_to_refund");

    let unknown = json!({ "amount": "1", "reference": "u", "recharge": "rch_unknown" });
    assert_eq!(api.post(&path(org, "refunds"), &unknown).await.refused(404), "recharge_not_found");
    let more = json!({ "amount": "5.01", "reference": "m", "recharge": second["id"] });
    assert_eq!(api.post(&path(org, "refunds"), &more).await.refused(422), "refund_too_large");
    let moved = ["assets:received 20", "assets:refunded -16", "income:usage -9", "expenses:promotion 5"];
    assert_eq!(trial(api).await, moved);
}

#[tokio::test]
async fn r4_8_chargebacks_take_tier_and_voucher_with_them() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let org = &key.organization;
    let first = api.recharge(org, "4", "a").await;
    let second = api.recharge(org, "6", "b").await;
    let voucher = second["voucher"]["id"].clone();
    used(api, &key, "1", "2").await;
    let reversals =
        |recharge: &Value| path(org, &format!("recharges/{}/reversals", recharge["id"].as_str().unwrap()));
    let part = json!({ "amount": "1", "reference": "c1", "reason": "disputed" });
    let answer = api.post(&reversals(&second), &part).await.expect(201);
    assert_eq!((&answer["recharge"], &answer["amount"]), (&second["id"], &json!("1")));
    assert_eq!((&answer["reference"], &answer["reason"]), (&json!("c1"), &json!("disputed")));
    assert!(answer["withdrawn_voucher"].is_null() && answer["credit_note"].is_null(), "{answer}");
    assert_eq!(answer["balance"]["tier"], "Tier0");

    let rest = json!({ "reference": "c2", "reason": "disputed" });
    let answer = api.post(&reversals(&second), &rest).await.expect(201);
    assert_eq!(answer["amount"], "5", "what was left of it");
    assert_eq!(answer["withdrawn_voucher"], json!({ "id": voucher, "amount": "3" }));
    assert_eq!((&answer["balance"]["cash"], &answer["balance"]["vouchers"]), (&json!("4"), &json!("0")));
    let again = api.post(&reversals(&second), &rest).await;
    assert_eq!((again.expect(201), again.header("idempotent-replayed")), (answer, "true"));
    let other = json!({ "reference": "c2", "reason": "another" });
    assert_eq!(api.post(&reversals(&second), &other).await.refused(409), "reference_conflict");
    let other = api.post(&reversals(&first), &rest).await;
    assert_eq!(other.refused(409), "reference_conflict", "of another recharge");
    let over = json!({ "reference": "c3", "reason": "again" });
    assert_eq!(api.post(&reversals(&second), &over).await.refused(422), "reversal_too_large");

    // Spent cash is owed then, and reaching the threshold again grants nothing.
    used(api, &key, "2", "3.5").await;
    let all = json!({ "reference": "c4", "reason": "stolen" });
    let answer = api.post(&reversals(&first), &all).await.expect(201);
    let balance = &answer["balance"];
    assert_eq!(
        (&balance["cash"], &balance["available"], &balance["tier"]),
        (&json!("-3.5"), &json!("0"), &Value::Null)
    );
    assert_eq!(api.recharge(org, "50", "c").await["voucher"], Value::Null);

    let listed = api.all(&path(org, "recharges")).await;
    let shown = listed.iter().map(|recharge| {
        let text = |name: &str| recharge[name].as_str().unwrap();
        format!("{} {} {} {}", text("reference"), text("amount"), text("reversed"), text("left"))
    });
    assert_eq!(shown.collect::<Vec<_>>(), ["a 4 4 0", "b 6 6 0", "c 50 0 50"]);
    assert_eq!((&listed[0]["id"], &listed[0]["position"]), (&first["id"], &first["position"]));
    assert_eq!((&listed[0]["refunded"], &listed[0]["invoice"]), (&json!("0"), &Value::Null));
    let page = api.get(&path(org, "recharges?limit=2")).await.expect(200);
    assert_eq!(page["next_page"], second["id"]);
    let after = path(org, &format!("recharges?limit=2&after={}", second["id"].as_str().unwrap()));
    let page = api.get(&after).await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_page"]), (1, &Value::Null));
    let moved = [
        "assets:received 60",
        "assets:charged_back -10",
        "liabilities:cash -46.5",
        "income:usage -5.5",
        "expenses:promotion 2",
    ];
    assert_eq!(trial(api).await, moved);
}

#[tokio::test]
async fn r4_8_a_raised_threshold_takes_no_voucher_back() {
    let system = System::start().await;
    let api = &system.api;
    let org = &api.organization("Acme").await;
    let policy =
        |threshold: &str| json!({ "threshold": threshold, "amount": "5", "expires_after_days": null });
    let set = async |threshold: &str| {
        api.put("/v1/config/voucher-policy", &policy(threshold)).await.expect(200);
    };
    api.recharge(org, "20", "a").await;
    set("50").await;
    let answer = refund(api, org, json!({ "amount": "1", "reference": "a" })).await;
    assert_eq!((&answer["withdrawn_voucher"], &answer["balance"]["vouchers"]), (&Value::Null, &json!("5")));
    set("19").await;
    let answer = refund(api, org, json!({ "amount": "0.01", "reference": "b" })).await;
    assert_eq!(answer["withdrawn_voucher"]["amount"], "5", "it was at the threshold, and is below");
    let answer = refund(api, org, json!({ "amount": "1", "reference": "c" })).await;
    assert!(answer["withdrawn_voucher"].is_null(), "{answer}");
}

#[tokio::test]
async fn everything_is_there_after_a_restart_and_after_a_rebuild() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let org = &api.organization("Acme").await;
    let recharge = api.recharge(org, "12", "a").await;
    let reversals = format!("recharges/{}/reversals", recharge["id"].as_str().unwrap());
    let price =
        json!([{ "model": "m", "input": "1", "cached_input": "1", "output": "1", "meters": { "i": "2" } }]);
    let tier = json!({
        "name": "Only", "cumulative_recharge": "1", "concurrency": 1, "rpm": 1, "tpm": null, "tpd": null,
    });
    let in_org = |rest: &str| path(org, rest);
    for (method, path, body) in [
        ("POST", in_org("refunds"), json!({ "amount": "1", "reference": "a", "recharge": recharge["id"] })),
        ("POST", in_org(&reversals), json!({ "amount": "2", "reference": "a", "reason": "r" })),
        ("POST", in_org("adjustments"), json!({ "amount": "0.25", "reference": "a", "reason": "r" })),
        (
            "POST",
            in_org("vouchers"),
            json!({ "amount": "3", "reference": "a", "expires_at": "2099-01-01T00:00:00Z" }),
        ),
        ("PUT", in_org("credit-limit"), json!({ "limit": "7" })),
        ("PUT", in_org("prices"), json!({ "models": price })),
        ("PUT", "/v1/config/tiers".to_owned(), json!({ "tiers": [tier] })),
        (
            "PUT",
            "/v1/config/rate-scale".to_owned(),
            json!({ "factor": "0.5", "until": "2099-01-01T00:00:00Z", "reason": "r" }),
        ),
        (
            "PUT",
            "/v1/config/voucher-policy".to_owned(),
            json!({ "threshold": "6", "amount": "7", "expires_after_days": 8 }),
        ),
        (
            "PUT",
            "/v1/config/defaults".to_owned(),
            json!({ "balance_alert_threshold": "1", "max_output_tokens": 2 }),
        ),
    ] {
        let status = api.write(method, &path, &body).await.status;
        assert!([200, 201].contains(&status), "{method} {path}: {status}");
    }
    let seen = async || {
        let mut seen = Vec::new();
        for path in [
            in_org("balance"),
            in_org("recharges"),
            in_org("vouchers"),
            in_org("prices"),
            in_org("log"),
            in_org("limits"),
            "/v1/config/tiers".to_owned(),
            "/v1/config/rate-scale".to_owned(),
            "/v1/config/voucher-policy".to_owned(),
            "/v1/config/defaults".to_owned(),
        ] {
            seen.push(api.get(&path).await.expect(200));
        }
        (seen, trial(&api).await)
    };
    let before = seen().await;
    assert_eq!(before.0[0]["cash"], "9.25");
    system.terminate().await;
    system.restart().await;
    assert_eq!(seen().await, before, "restarted");
    system.kill();
    std::fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert_eq!(seen().await, before, "rebuilt");
}

#[tokio::test]
async fn adjustments_vouchers_and_credit() {
    let system = System::start().await;
    let api = &system.api;
    let org = &api.organization("Acme").await;
    let body = json!({ "amount": "-2.5", "reference": "a", "reason": "booked twice", "corrects": "0-3" });
    let adjusted = api.post(&path(org, "adjustments"), &body).await.expect(201);
    assert_eq!((&adjusted["amount"], &adjusted["corrects"]), (&json!("-2.5"), &json!("0-3")));
    assert_eq!(
        (&adjusted["balance"]["cash"], &adjusted["balance"]["cumulative_recharge"]),
        (&json!("-2.5"), &json!("0"))
    );
    assert_eq!(trial(api).await, ["assets:receivable 2.5", "expenses:adjustments -2.5"]);
    let again = api.post(&path(org, "adjustments"), &body).await;
    assert_eq!((again.expect(201), again.header("idempotent-replayed")), (adjusted, "true"));
    for (amount, corrects, status, code) in [
        ("0", "0-3", 422, "amount_zero"),
        ("1", "0-999", 404, "entry_not_found"),
        ("1", "7-1", 404, "entry_not_found"),
    ] {
        let body = json!({ "amount": amount, "reference": "b", "reason": "r", "corrects": corrects });
        assert_eq!(api.post(&path(org, "adjustments"), &body).await.refused(status), code);
    }

    let body = json!({ "amount": "4", "reference": "v", "reason": "sorry" });
    let granted = api.post(&path(org, "vouchers"), &body).await.expect(201);
    assert_eq!((&granted["amount"], &granted["expires_at"]), (&json!("4"), &Value::Null));
    assert_eq!((&granted["reason"], &granted["balance"]["available"]), (&json!("sorry"), &json!("4")));
    let again = api.post(&path(org, "vouchers"), &body).await;
    assert_eq!((again.expect(201), again.header("idempotent-replayed")), (granted.clone(), "true"));
    let vouchers = api.all(&path(org, "vouchers")).await;
    let expected = json!([{
        "id": granted["id"], "amount": "4", "left": "4", "expires_at": null, "of_policy": false,
        "position": granted["position"],
    }]);
    assert_eq!(Value::from(vouchers), expected);

    let set = async |limit: Value| api.put(&path(org, "credit-limit"), &json!({ "limit": limit })).await;
    assert_eq!(set(json!("100")).await.expect(200)["credit_limit"], "100");
    assert_eq!(api.balance(org).await["credit_limit"], "100");
    assert_eq!(set(json!("0")).await.refused(422), "amount_not_positive");
    assert_eq!(set(json!(5)).await.faults(), ["limit"]);
    assert_eq!(set(Value::Null).await.expect(200)["credit_limit"], Value::Null);
    assert_eq!(api.put(&path(org, "credit-limit"), &json!({})).await.faults(), ["limit"]);
}

#[tokio::test]
async fn r4_11_prices_change_when_nobody_says_when() {
    let system = System::start().await;
    let api = &system.api;
    let key = api.customer("Acme").await;
    let org = &key.organization;
    let list = |input: &str| json!({ "models": [{ "model": MODEL, "input": input, "cached_input": "0", "output": "0" }] });
    for prices in ["/v1/config/prices".to_owned(), path(org, "prices")] {
        assert_eq!(api.get(&prices).await.expect(200)["models"], json!([]), "nothing is published yet");
        for input in ["1", "2"] {
            let answer = api.put(&prices, &list(input)).await.expect(200);
            assert_eq!(answer["models"].as_array().unwrap().last().unwrap()["input"], input);
        }
        let published = api.get(&prices).await.expect(200);
        assert_eq!(published["models"].as_array().unwrap().len(), 2);
        // What is in force already is no change.
        let same = api.put(&prices, &list("2")).await.expect(200);
        assert_eq!(same["models"], published["models"]);
        let past = json!({ "models": list("3")["models"], "effective_from": "2026-01-01T00:00:00Z" });
        assert_eq!(api.put(&prices, &past).await.refused(422), "price_in_the_past");
    }
    // A model that only this organization has.
    let own = json!({ "models": [{ "model": "own", "input": "7", "cached_input": "7", "output": "7" }],
        "effective_from": "2026-01-01T00:00:00Z" });
    api.put(&path(org, "prices"), &own).await.expect(200);
    let used = key.event("1", "own");
    api.events(&[used]).await;
    api.folded().await;
    assert_eq!(api.balance(org).await["cash"], "-0.00077");
    assert_eq!(api.get("/v1/config/prices").await.expect(200)["models"].as_array().unwrap().len(), 2);
    let other = api.customer("Other").await;
    api.events(&[other.event("1", "own")]).await;
    api.folded().await;
    assert_eq!(api.quarantine().await[0]["reason"], "unknown_model");
}

#[tokio::test]
async fn tiers_policies_and_defaults_are_set_and_seen() {
    let system = System::start().await;
    let api = &system.api;
    let org = &api.organization("Acme").await;
    let shown = api.get("/v1/config/tiers").await.expect(200);
    assert_eq!(shown["tiers"].as_array().unwrap().len(), 6);
    assert_eq!(
        shown["tiers"][0],
        json!({
            "name": "Tier0", "cumulative_recharge": "1", "concurrency": 1, "rpm": 3, "tpm": 500_000, "tpd": 1_500_000,
        })
    );
    assert_eq!((&shown["tiers"][1]["tpd"], &shown["published"]), (&Value::Null, &json!([])));
    let tier = |name: &str, from: &str| json!({ "name": name, "cumulative_recharge": from, "concurrency": 7, "rpm": null, "tpm": 9, "tpd": null });
    let table = json!({ "tiers": [tier("Low", "2"), tier("High", "3")] });
    let set = api.put("/v1/config/tiers", &table).await.expect(200);
    assert_eq!((&set["tiers"], set["published"].as_array().unwrap().len()), (&table["tiers"], 1));
    let same = api.put("/v1/config/tiers", &table).await.expect(200);
    assert_eq!(same["published"], set["published"], "nothing new");
    api.recharge(org, "2.5", "a").await;
    assert_eq!(api.balance(org).await["tier"], "Low");
    let limits = api.get(&path(org, "limits")).await.expect(200);
    assert_eq!((&limits["tier"], &limits["limits"]["rpm"]), (&json!("Low"), &Value::Null));
    let later = json!({ "tiers": [tier("Only", "1")], "effective_from": "2030-01-01T00:00:00Z" });
    let set = api.put("/v1/config/tiers", &later).await.expect(200);
    assert_eq!((&set["tiers"], set["published"].as_array().unwrap().len()), (&table["tiers"], 2));
    let past = json!({ "tiers": [tier("Only", "1")], "effective_from": "2020-01-01T00:00:00Z" });
    assert_eq!(api.put("/v1/config/tiers", &past).await.refused(422), "tiers_in_the_past");
    for wrong in [[tier("Low", "3"), tier("High", "3")], [tier("Low", "0"), tier("High", "3")]] {
        let refused = api.put("/v1/config/tiers", &json!({ "tiers": wrong })).await;
        assert_eq!(refused.refused(422), "tiers_unordered");
    }

    let expected = json!({ "threshold": "5", "amount": "5", "expires_after_days": null });
    assert_eq!(api.get("/v1/config/voucher-policy").await.expect(200), expected);
    let policy = json!({ "threshold": "3", "amount": "1.5", "expires_after_days": 10 });
    let mut set = api.put("/v1/config/voucher-policy", &policy).await.expect(200);
    set.as_object_mut().unwrap().remove("position");
    assert_eq!(set, policy);
    assert_eq!(api.recharge(org, "1", "b").await["voucher"]["amount"], "1.5");

    let expected = json!({ "balance_alert_threshold": "5", "max_output_tokens": 4096 });
    assert_eq!(api.get("/v1/config/defaults").await.expect(200), expected);
    let defaults = json!({ "balance_alert_threshold": null, "max_output_tokens": 100 });
    api.put("/v1/config/defaults", &defaults).await.expect(200);
    assert_eq!(api.get("/v1/config/defaults").await.expect(200), defaults);
}

#[tokio::test]
async fn the_trial_balance_is_over_all_partitions_or_one() {
    let system = System::builder().partitions(4).start().await;
    let api = &system.api;
    for number in 0..12 {
        let org = api.organization("Acme").await;
        api.recharge(&org, "1", &number.to_string()).await;
    }
    let all = api.get("/v1/trial-balance").await.expect(200);
    assert_eq!(all["positions"].as_array().unwrap().len(), 4);
    assert_eq!(trial(api).await, ["assets:received 12", "liabilities:cash -12"]);
    let mut sum = Decimal::ZERO;
    for partition in 0..4 {
        let one = api.get(&format!("/v1/trial-balance?partition={partition}")).await.expect(200);
        assert_eq!(one["positions"].as_array().unwrap().len(), 1);
        assert_eq!((&one["accounts"][0]["account"], &one["sum"]), (&json!("assets:received"), &json!("0")));
        sum += amount(&one["accounts"][0]["balance"]);
    }
    assert_eq!(sum, Decimal::from(12));
    assert_eq!(api.get("/v1/trial-balance?partition=4").await.faults(), ["partition"]);
}
