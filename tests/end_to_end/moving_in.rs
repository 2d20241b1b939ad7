//! R10.1: organizations that have a past elsewhere.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollbook_tests::system::{Api, System};

use super::priced;

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn acme() -> Value {
    json!({
        "name": "Acme", "email": "billing@example.com", "time_zone": "Europe/Berlin", "verification": "verified",
        "creator": { "label": "u1", "name": "Cleo", "email": "cleo@example.com" },
        "cash": "12.5", "cumulative_recharge": "140",
        "vouchers": [{ "amount": "3" }, { "amount": "2.000000000001", "expires_at": "2200-01-01T00:00:00Z" }],
        "references": ["pi_1", "pi_2"],
        "members": [{ "label": "u2", "name": "Mia", "email": "mia@example.com", "role": "administrator" },
                    { "label": "u3", "name": "Dan", "email": "dan@example.com" }],
        "projects": [
            { "name": "chat", "members": [{ "member": "u3", "role": "member" }],
              "api_keys": [{ "name": "old", "member": "u3", "secret_sha256": sha256("sk-past"), "hint": "past" }] },
            { "name": "batch" },
        ],
    })
}

async fn import(api: &Api, key: &str, body: &Value) -> tollbook_tests::system::Answer {
    let request = api.request("POST", "/v1/organizations/imports");
    api.send(request.header("idempotency-key", key).json(body)).await
}

#[tokio::test]
async fn r10_1_an_organization_brings_its_past_and_nothing_is_granted_again() {
    let mut system = System::start().await;
    priced(&system.api).await;
    let moved = import(&system.api, "a", &acme()).await.expect(201);
    let org = format!("/v1/organizations/{}", moved["id"].as_str().unwrap());
    let balance = json!({
        "cash": "12.5", "vouchers": "5.000000000001", "held": "0", "available": "17.500000000001",
        "credit_limit": null, "cumulative_recharge": "140", "tier": "Tier3", "currency": "USD",
    });
    assert_eq!(moved["balance"], balance);
    assert_eq!(moved["members"].as_array().unwrap().len(), 3);
    let key = moved["projects"][0]["api_keys"][0].as_str().unwrap();

    // Again, and again after a restart: the same organization.
    assert_eq!(import(&system.api, "a", &acme()).await.expect(201)["id"], moved["id"]);
    system.restart().await;
    let again = import(&system.api, "a", &acme()).await;
    let again = again.expect(201);
    assert_eq!(
        (&again["id"], &again["members"], &again["projects"]),
        (&moved["id"], &moved["members"], &moved["projects"])
    );
    assert_eq!(system.api.get("/v1/organizations").await.expect(200)["items"].as_array().unwrap().len(), 1);

    // It has passed the threshold: no voucher, whatever it recharges. Its references are used.
    let recharge = async |reference: &str| {
        let body = json!({ "amount": "10", "reference": reference });
        system.api.post(&format!("{org}/recharges"), &body).await
    };
    let refused = recharge("pi_2").await.expect(409);
    assert_eq!(refused["code"], "reference_conflict");
    let booked = recharge("pi_3").await.expect(201);
    assert!(booked.get("voucher").is_none(), "{booked}");
    assert_eq!(booked["balance"]["cumulative_recharge"], "150");

    // Its keys are charged, and its people are who they were.
    let event = json!({
        "specversion": "1.0", "id": "r1", "source": "gw", "type": "tollbook.usage.v1", "subject": moved["id"],
        "data": { "api_key_id": key, "model": super::MODEL, "input_tokens": 1000, "output_tokens": 0 },
    });
    system.api.post("/v1/events", &event).await.expect(204);
    let spend = system.api.get(&format!("{org}/spend?group_by=api_key")).await.expect(200);
    assert_eq!(spend["buckets"][0]["results"][0]["api_key"], key, "{spend}");
    let members = system.api.get(&format!("{org}/members")).await.expect(200);
    let names: Vec<_> = members["items"].as_array().unwrap().iter().map(|member| &member["name"]).collect();
    assert!(names.iter().any(|name| **name == "Dan") && names.len() == 3, "{members}");
}

#[tokio::test]
async fn r10_1_what_does_not_belong_together_is_refused_by_its_field() {
    let system = System::start().await;
    let inconsistent: [(&str, Value, &str); 3] = [
        ("/projects/0/members/0/member", json!("u9"), "projects[0].members[0].member"),
        ("/projects/0/api_keys/0/member", json!("u9"), "projects[0].api_keys[0].member"),
        ("/members/1/label", json!("u1"), "members[1].label"),
    ];
    for (place, value, field) in inconsistent {
        let mut body = acme();
        *body.pointer_mut(place).unwrap() = value;
        let refused = import(&system.api, field, &body).await.expect(422);
        assert_eq!(
            (&refused["errors"][0]["field"], &refused["code"]),
            (&json!(field), &json!("inconsistent_fields"))
        );
    }
    let invalid: [(&str, Value, &str); 5] = [
        ("/projects/0/api_keys/0/secret_sha256", json!("sk-past"), "projects[0].api_keys[0].secret_sha256"),
        ("/projects/0/api_keys/0/hint", json!("…past"), "projects[0].api_keys[0].hint"),
        ("/cash", json!(12.5), "cash"),
        ("/members/0/label", json!(""), "members[0].label"),
        ("/vouchers/0/amount", json!("x"), "vouchers[0].amount"),
    ];
    for (place, value, field) in invalid {
        let mut body = acme();
        *body.pointer_mut(place).unwrap() = value;
        let refused = import(&system.api, field, &body).await.expect(400);
        assert_eq!(refused["errors"][0]["field"], field, "{refused}");
    }
    let by_rule: [(&str, Value, &str); 3] = [
        ("/vouchers/0/amount", json!("0"), "amount_not_positive"),
        ("/vouchers/1/expires_at", json!("2001-01-01T00:00:00Z"), "expiry_passed"),
        ("/cumulative_recharge", json!("-1"), "amount_not_positive"),
    ];
    for (place, value, code) in by_rule {
        let mut body = acme();
        *body.pointer_mut(place).unwrap() = value;
        assert_eq!(import(&system.api, code, &body).await.expect(422)["code"], code);
    }
    assert_eq!(system.api.get("/v1/organizations").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn r10_1_a_file_moves_in_line_by_line_and_again_changes_nothing() {
    let system = System::start().await;
    let (mut other, mut bad) = (acme(), acme());
    other["name"] = json!("Beta");
    other["projects"][0]["api_keys"][0]["secret_sha256"] = json!(sha256("sk-other"));
    bad["email"] = json!("nobody");
    let file = system.scratch().join("past.jsonl");
    std::fs::write(&file, format!("{}\n\n{bad}\n{other}\n", acme())).unwrap();
    let file = file.to_str().unwrap();
    let first = system.run(&["move-in", file]).await;
    assert_eq!(first.code, Some(1), "{first:?}");
    assert!(first.out.contains("line 1: org_") && first.out.contains("line 4: org_"), "{first:?}");
    assert!(first.out.contains("line 3: refused") && first.out.contains("email"), "{first:?}");
    assert!(first.err.contains("1 of 3 organizations were refused"), "{first:?}");
    let second = system.run(&["move-in", file]).await;
    assert_eq!(second.out.matches("(was moved in before)").count(), 2, "{second:?}");
    let known = system.api.get("/v1/organizations").await.expect(200);
    assert_eq!(known["items"].as_array().unwrap().len(), 2);
}

/// A secret leads to one key: whoever moves in with a customer's would be charged for them, or cut them off.
#[tokio::test]
async fn r10_1_nobody_moves_in_with_a_key_that_somebody_has() {
    let system = System::builder().partitions(4).start().await;
    let victim = system.api.customer("Victim").await;
    let with = |secret: &str| {
        let mut body = acme();
        body["projects"][0]["api_keys"][0]["secret_sha256"] = json!(sha256(secret));
        body
    };
    // Wherever either of them is: ids follow from idempotency keys, and partitions from ids.
    for number in 0..8 {
        let refused = import(&system.api, &format!("thief {number}"), &with(&victim.secret)).await;
        assert_eq!(refused.refused(409), "api_key_secret_taken");
    }
    import(&system.api, "a", &with("sk-past")).await.expect(201);
    assert_eq!(import(&system.api, "b", &with("sk-past")).await.refused(409), "api_key_secret_taken");
    import(&system.api, "a", &with("sk-past")).await.expect(201);
    let me = system.api.with_token(&victim.secret).get("/v1/users/me/balance").await.expect(200);
    assert_eq!(me["code"], 0);
}
