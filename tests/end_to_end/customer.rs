//! What customers ask with their own API key.

use serde_json::{Value, json};
use tollbook_tests::system::{Answer, Api, Key, System};

use super::{MODEL, priced};

const PATH: &str = "/v1/users/me/balance";

async fn ask(api: &Api, authorization: Option<&str>) -> Answer {
    let request = api.anonymous("GET", PATH);
    api.send(match authorization {
        Some(value) => request.header("authorization", value),
        None => request,
    })
    .await
}

async fn balance(api: &Api, key: &Key) -> Answer {
    ask(api, Some(&format!("Bearer {}", key.secret))).await
}

/// The code of a refusal in the body that clients of LLM APIs understand.
#[track_caller]
fn refused(answer: &Answer, kind: &str, code: &str) {
    let body = answer.expect(401);
    let error = &body["error"];
    assert_eq!((&error["type"], &error["code"]), (&json!(kind), &json!(code)), "{body}");
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    assert_eq!(error.get("param"), Some(&Value::Null), "{body}");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
}

#[track_caller]
fn shown(answer: &Answer, available: &str, vouchers: &str, cash: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let data =
        format!(r#"{{"available_balance":{available},"voucher_balance":{vouchers},"cash_balance":{cash}}}"#);
    assert_eq!(answer.text, format!(r#"{{"code":0,"data":{data},"scode":"0x0","status":true}}"#));
}

#[tokio::test]
async fn r4_1_customers_see_their_balance_as_the_platform_shows_it() {
    let mut system = System::start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    let other = api.customer("Other").await;
    shown(&balance(&api, &key).await, "0", "0", "0");
    api.recharge(&key.organization, "3.00001", "a").await;
    shown(&balance(&api, &key).await, "3.00001", "0", "3.00001");
    // The voucher of the fifth dollar comes with it, and pays first.
    api.recharge(&key.organization, "2", "b").await;
    shown(&balance(&api, &key).await, "10.00001", "5", "5.00001");
    let cost = |id: &str, cost: &str| {
        let mut event = key.event(id, MODEL);
        event["data"]["cost"] = json!(cost);
        event
    };
    // What was answered for is in it, and what is shown is never more than there is.
    api.events(&[cost("1", "0.000001")]).await;
    shown(&balance(&api, &key).await, "10", "4.99999", "5.00001");
    api.events(&[cost("2", "10.5")]).await;
    shown(&balance(&api, &key).await, "0", "0", "-0.5");
    system.terminate().await;
    system.restart().await;
    shown(&balance(&api, &key).await, "0", "0", "-0.5");
    shown(&balance(&api, &other).await, "0", "0", "0");
    // The scheme's name is written as anybody likes.
    shown(&ask(&api, Some(&format!("bearer  {}", key.secret))).await, "0", "0", "-0.5");
}

#[tokio::test]
async fn a_key_that_does_not_work_is_refused_as_llm_apis_do() {
    let mut system = System::builder().partitions(3).start().await;
    let api = system.api.clone();
    let incorrect = "incorrect_api_key_error";
    let invalid = "invalid_authentication_error";
    let key = api.customer("Acme").await;
    refused(&ask(&api, None).await, incorrect, "api_key_missing");
    refused(&ask(&api, Some("Bearer ")).await, incorrect, "api_key_missing");
    let cut = format!("Bearer {}", &key.secret[..key.secret.len() - 1]);
    refused(&ask(&api, Some(&cut)).await, incorrect, "api_key_invalid");
    for malformed in ["Basic abc", "Bearer abc", "Bearer sk-a b", &format!("Bearer sk-{}", "a".repeat(600))] {
        refused(&ask(&api, Some(malformed)).await, invalid, "api_key_malformed");
    }
    let admin = format!("Bearer {}", api.token());
    refused(&ask(&api, Some(&admin)).await, invalid, "api_key_malformed");
    let id = format!("Bearer {}", key.id);
    refused(&ask(&api, Some(&id)).await, invalid, "api_key_malformed");
    // Each organization's keys are found in its partition.
    let mut keys = vec![key];
    for name in ["Beta", "Gamma", "Delta", "Epsilon"] {
        keys.push(api.customer(name).await);
    }
    for key in &keys {
        shown(&balance(&api, key).await, "0", "0", "0");
    }
    let path = |key: &Key| format!("/v1/organizations/{}/projects/{}", key.organization, key.project);
    let revoke = format!("{}/api-keys/{}", path(&keys[0]), keys[0].id);
    api.write("DELETE", &revoke, &json!({})).await.expect(200);
    api.write("DELETE", &path(&keys[1]), &json!({})).await.expect(200);
    for restarted in [false, true] {
        if restarted {
            system.restart().await;
        }
        refused(&balance(&api, &keys[0]).await, invalid, "api_key_revoked");
        refused(&balance(&api, &keys[1]).await, invalid, "api_key_revoked");
        shown(&balance(&api, &keys[2]).await, "0", "0", "0");
    }
}
