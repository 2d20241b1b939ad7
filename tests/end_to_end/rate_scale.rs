//! R5.5: everybody's rate limits, scaled down for a time.

use serde_json::{Value, json};
use tollbook_tests::system::{Answer, System, Timed};

use super::partitions::customers;

const SCALE: &str = "/v1/config/rate-scale";

/// What nothing scaled is shown as.
fn none() -> Value {
    json!({ "factor": null, "until": null, "reason": null, "tiers": [] })
}

/// Whoever is answered finds limits scaled, and no longer scaled, in every partition.
#[tokio::test]
async fn r5_5_limits_are_scaled_in_every_partition_once_it_is_answered() {
    let mut system = System::builder().partitions(3).start().await;
    let api = system.api.clone();
    let keys = customers(&system).await;
    for key in &keys {
        api.recharge(&key.organization, "1", "a").await;
    }
    let seen = async || {
        let mut seen = Vec::new();
        for key in &keys {
            let limits = api.get(&format!("/v1/organizations/{}/limits", key.organization)).await.expect(200);
            seen.push((limits["limits"]["tpm"].clone(), limits["scaled"].clone(), limits["scale"].clone()));
        }
        seen.dedup();
        seen
    };
    assert_eq!(api.get(SCALE).await.expect(200), none());
    assert_eq!(seen().await, [(json!(500_000), json!(false), Value::Null)]);
    let scale = json!({ "factor": "0.500", "until": "2099-01-01T00:00:00Z", "reason": "crowded" });
    let shown = json!({ "factor": "0.5", "until": "2099-01-01T00:00:00Z", "reason": "crowded" });
    for _ in 0..5 {
        let set = api.put(SCALE, &scale).await.expect(200);
        assert_eq!((&set["factor"], &set["tiers"]), (&json!("0.5"), &json!([])));
        assert_eq!(seen().await, [(json!(250_000), json!(true), shown.clone())]);
        api.put(SCALE, &json!({ "factor": null })).await.expect(200);
        assert_eq!(seen().await, [(json!(500_000), json!(false), Value::Null)]);
    }
    let some =
        json!({ "factor": "0.5", "until": "2099-01-01T00:00:00Z", "reason": "crowded", "tiers": ["Tier1"] });
    api.put(SCALE, &some).await.expect(200);
    assert_eq!(seen().await, [(json!(500_000), json!(false), Value::Null)]);
    // The same again is no entry.
    let set = api.put(SCALE, &scale).await.expect(200);
    let entries = api.all("/v1/config/log").await;
    let same = api.put(SCALE, &scale).await.expect(200);
    assert_eq!((&same["factor"], &same["until"]), (&set["factor"], &set["until"]));
    assert_eq!(api.all("/v1/config/log").await, entries);
    let last = &entries[entries.len() - 1]["events"][0];
    assert_eq!((&last["type"], &last["factor"]), (&json!("config.rate_scale_set"), &json!("0.5")));

    for rebuilt in [false, true] {
        system.terminate().await;
        if rebuilt {
            std::fs::remove_dir_all(system.data().join("views")).unwrap();
        }
        system.restart().await;
        assert_eq!(seen().await, [(json!(250_000), json!(true), shown.clone())], "rebuilt: {rebuilt}");
    }
    // Ended by a factor of 1, and by the time.
    api.put(SCALE, &json!({ "factor": "1", "reason": "enough" })).await.expect(200);
    assert_eq!(api.get(SCALE).await.expect(200), none());
}

/// What a refusal says is wrong.
fn fields(refused: &Answer) -> Vec<String> {
    let faults = refused.json()["errors"].as_array().unwrap().clone();
    faults.iter().map(|fault| fault["field"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn r5_5_a_scale_ends_by_itself_and_is_shown_no_longer() {
    let mut timed = Timed::start("2026-03-01T00:00:00Z").await;
    let api = timed.api.clone();
    let org = api.organization("Acme").await;
    let limits = format!("/v1/organizations/{org}/limits");
    // Below the first tier there is nothing to scale.
    let scale =
        json!({ "factor": "0.1", "until": "2026-03-02T00:00:00Z", "reason": "crowded", "tiers": ["Tier0"] });
    let mut set = api.put(SCALE, &scale).await.expect(200);
    set.as_object_mut().unwrap().remove("position");
    assert_eq!(set, scale);
    let poor = api.get(&limits).await.expect(200);
    assert_eq!(
        (&poor["limits"], &poor["scaled"], &poor["scale"]),
        (&Value::Null, &json!(false), &Value::Null)
    );
    api.recharge(&org, "1", "a").await;
    let overrides = format!("{limits}/override");
    let overridden = api.post(&overrides, &json!({ "tpm": 1009 })).await.expect(200);
    let expected = json!({ "concurrency": 1, "rpm": 1, "tpm": 100, "tpd": 150_000 });
    assert_eq!((&overridden["limits"], &overridden["overrides"]["tpm"]), (&expected, &json!(1009)));
    timed.until("2026-03-01T23:59:59.999Z");
    let scaled = api.get(&limits).await.expect(200);
    let shown = json!({ "factor": "0.1", "until": "2026-03-02T00:00:00Z", "reason": "crowded" });
    assert_eq!((&scaled["limits"], &scaled["scaled"], &scaled["scale"]), (&expected, &json!(true), &shown));
    assert_eq!(api.get(SCALE).await.expect(200), scale);
    for restarted in [false, true] {
        if restarted {
            timed.stop().await;
            timed.go_on().await;
        }
        timed.until("2026-03-02T00:00:00Z");
        let over = api.get(&limits).await.expect(200);
        assert_eq!((&over["limits"]["tpm"], &over["scaled"]), (&json!(1009), &json!(false)));
        assert_eq!((&over["limits"]["rpm"], &over["scale"]), (&json!(3), &Value::Null));
        assert_eq!(api.get(SCALE).await.expect(200), none());
    }
    assert_eq!(api.put(SCALE, &scale).await.refused(422), "rate_scale_over");
    let refused = api.put(SCALE, &json!({ "factor": "0.5", "tiers": [] })).await;
    assert_eq!(refused.refused(422), "inconsistent_fields");
    assert_eq!(fields(&refused), ["until", "reason"]);
    let gold =
        json!({ "factor": "0.5", "until": "2026-03-03T00:00:00Z", "reason": "crowded", "tiers": ["Gold"] });
    let refused = api.put(SCALE, &gold).await;
    assert_eq!(refused.refused(422), "tier_unknown");
    assert_eq!(fields(&refused), ["tiers"]);
}
