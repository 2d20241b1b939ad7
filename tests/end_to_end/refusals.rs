//! Every refusal of the management API, word for word: `golden/<name>.json` holds status and body, ids masked.
//!
//! With `TOLLBOOK_GOLDEN=write` in the environment the files are written instead of compared.

use std::fs;
use std::path::PathBuf;

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tollbook_tests::system::{Answer, Api, System};

use super::{MODEL, priced};

/// Prefixes of ids.
const PREFIXES: [&str; 13] =
    ["org", "proj", "mem", "ak", "tok", "rch", "mov", "vou", "invoice", "ledger", "inv", "sk", "lease"];

/// Compares an answer with its file.
fn check_golden(name: &str, answer: &Answer) -> Result<(), String> {
    check_golden_value(name, &json!({ "status": answer.status, "body": answer.json() }))
}

/// Compares anything with its file.
pub(super) fn check_golden_value(name: &str, found: &Value) -> Result<(), String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/end_to_end/golden"));
    let path = path.join(format!("{name}.json"));
    let found = masked(&format!("{found:#}\n"));
    if std::env::var_os("TOLLBOOK_GOLDEN").is_some_and(|mode| mode == "write") {
        fs::write(&path, found).unwrap();
        return Ok(());
    }
    let expected = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if found == expected { Ok(()) } else { Err(format!("{name}: expected {expected}but found {found}")) }
}

/// The text without what differs from run to run: random ids, positions, and times of today.
fn masked(text: &str) -> String {
    let mut masked = String::new();
    let mut rest = text;
    let in_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    while let Some(start) = rest.find(in_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !in_word(c)).unwrap_or(from.len()));
        masked.push_str(before);
        masked.push_str(&masked_word(word));
        rest = after;
    }
    masked + rest
}

fn masked_word(word: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((prefix, id)) = word.split_once('_')
        && PREFIXES.contains(&prefix)
        && id.len() > 20
    {
        return format!("{prefix}_…");
    }
    // `0-17` is the example that errors name.
    if word != "0-17"
        && word.split_once('-').is_some_and(|(partition, position)| digits(partition) && digits(position))
    {
        return "0-…".to_owned();
    }
    if word.len() > 20 && word.contains('T') && word.ends_with('Z') && digits(&word[..4]) {
        return "now".to_owned();
    }
    word.to_owned()
}

/// Sends all, checks all, and fails with everything that is wrong.
async fn check(api: &Api, cases: Vec<(&str, RequestBuilder, u16, &str)>) {
    let mut wrong = Vec::new();
    for (name, request, status, code) in cases {
        let answer = api.send(request).await;
        let media_type = answer.header("content-type");
        if media_type != "application/problem+json" {
            wrong.push(format!("{name}: {} {media_type:?}: {}", answer.status, answer.text));
            continue;
        }
        if answer.status != status || answer.refused(answer.status) != code {
            wrong.push(format!("{name}: expected {status} {code}, found {} {}", answer.status, answer.text));
        }
        wrong.extend(check_golden(name, &answer).err());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn with_body(api: &Api, method: &str, path: &str, media_type: &str, body: &str) -> RequestBuilder {
    api.request(method, path).header("content-type", media_type).body(body.to_owned())
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let system = System::start().await;
    let api = &system.api;
    let send = |media_type: &str, body: &str| with_body(api, "POST", "/v1/organizations", media_type, body);
    let json = "application/json";
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1024 * 1024));
    check(
        api,
        vec![
            ("body_not_json", send(json, "{\"name\":"), 400, "malformed"),
            ("body_empty", send(json, ""), 400, "malformed"),
            ("body_no_object", send(json, "[]"), 400, "malformed"),
            ("body_followed", send(json, "{} {}"), 400, "malformed"),
            ("body_media_type", send("text/plain", "{}"), 415, "media_type"),
            ("body_too_large", send(json, &large), 413, "too_large"),
        ],
    )
    .await;
    let deep = format!("{{\"name\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    assert_eq!(api.send(send(json, &deep)).await.refused(400), "malformed");
    // Parameters of a media type do not matter.
    let faults = api.send(send("application/json; charset=utf-8", "{}")).await.faults();
    assert_eq!(faults, ["name", "email", "creator"]);
}

#[tokio::test]
async fn fields_that_are_not_right_are_all_named() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let project = api.project(&org).await;
    let in_org = |path: &str| format!("/v1/organizations/{org}/{path}");
    let post = |path: &str, body: Value| api.request("POST", path).json(&body);
    let put = |path: &str, body: Value| api.request("PUT", path).json(&body);
    let in_project = |path: &str| in_org(&format!("projects/{project}/{path}"));
    let keys = in_project("api-keys");
    let many: Vec<String> = (1..=21).map(|amount| amount.to_string()).collect();
    let price = json!({ "model": "m", "input": "1", "cached_input": "1", "output": "1" });
    let wrong_price = json!({
        "model": "", "input": 1, "cached_input": "0.0000001", "output": "-1", "meters": { "": "1", "b": 2 },
        "max_output_tokens": "many", "colour": "red",
    });
    let creator = json!({ "name": "", "email": 3, "role": "owner" });
    let tier = json!({
        "name": "Tier0", "cumulative_recharge": "1", "concurrency": 1, "rpm": 1, "tpm": 1, "tpd": null,
    });
    let wrong_tier = json!({
        "name": "", "cumulative_recharge": 1, "concurrency": 0, "rpm": "3", "tpm": 1.5, "colour": "red",
    });
    let cases = vec![
        ("organization_empty", post("/v1/organizations", json!({}))),
        (
            "organization_wrong",
            post(
                "/v1/organizations",
                json!({ "name": 5, "email": "x", "creator": creator, "time_zone": "Mars/Olympus", "tier": 5 }),
            ),
        ),
        (
            "organization_creator_text",
            post("/v1/organizations", json!({ "name": "A", "email": "a@b.example", "creator": "Ada" })),
        ),
        ("project_empty", post(&in_org("projects"), json!({}))),
        ("project_unknown_field", post(&in_org("projects"), json!({ "name": "chat", "budget": "5" }))),
        ("key_wrong", post(&keys, json!({ "name": null, "member": "Ada", "secret": "sk-mine" }))),
        ("recharge_empty", post(&in_org("recharges"), json!({}))),
        ("recharge_number", post(&in_org("recharges"), json!({ "amount": 5, "reference": "a" }))),
        (
            "recharge_wrong",
            post(&in_org("recharges"), json!({ "amount": "five", "reference": "", "currency": "EUR" })),
        ),
        (
            "recharge_too_precise",
            post(&in_org("recharges"), json!({ "amount": "1.0000000000001", "reference": "a" })),
        ),
        ("refund_empty", post(&in_org("refunds"), json!({}))),
        (
            "refund_wrong",
            post(
                &in_org("refunds"),
                json!({ "amount": 5, "reference": " ", "recharge": "pay_1", "reason": "r" }),
            ),
        ),
        ("reversal_empty", post(&in_org("recharges/rch_1/reversals"), json!({}))),
        (
            "reversal_wrong",
            post(&in_org("recharges/rch_1/reversals"), json!({ "amount": 5, "reference": 1, "reason": "" })),
        ),
        ("adjustment_empty", post(&in_org("adjustments"), json!({}))),
        (
            "adjustment_wrong",
            post(
                &in_org("adjustments"),
                json!({ "amount": "-0.0000000000001", "reference": "a", "reason": 1, "corrects": "seventeen" }),
            ),
        ),
        ("voucher_empty", post(&in_org("vouchers"), json!({}))),
        (
            "voucher_wrong",
            post(
                &in_org("vouchers"),
                json!({ "amount": 5.5, "reference": "a", "expires_at": "tomorrow", "reason": "a\nb" }),
            ),
        ),
        ("subscription_empty", post("/v1/alert-subscriptions", json!({}))),
        (
            "subscription_wrong",
            post(
                "/v1/alert-subscriptions",
                json!({ "name": "a b", "organizations": [], "stream": "TOLLBOOK_ALERTS" }),
            ),
        ),
        ("credit_limit_empty", put(&in_org("credit-limit"), json!({}))),
        ("credit_limit_number", put(&in_org("credit-limit"), json!({ "limit": 5 }))),
        ("balance_alert_empty", put(&in_org("balance-alert"), json!({}))),
        ("balance_alert_number", put(&in_org("balance-alert"), json!({ "threshold": 5, "default": true }))),
        ("budgets_empty", put(&in_project("budgets"), json!({}))),
        (
            "budgets_wrong",
            put(
                &in_project("budgets"),
                json!({ "daily": "-1", "monthly": 5, "enforcement": "lenient", "weekly": "1" }),
            ),
        ),
        (
            "budgets_precise",
            put(&in_project("budgets"), json!({ "daily": "0.0000000000001", "monthly": null })),
        ),
        ("spend_notifications_empty", put(&in_project("spend-notifications"), json!({ "daily": null }))),
        (
            "spend_notifications_wrong",
            put(
                &in_project("spend-notifications"),
                json!({ "daily": ["1", 5, "five"], "monthly": ["1", "0", "-2.50"], "weekly": [] }),
            ),
        ),
        (
            "spend_notifications_many",
            put(&in_project("spend-notifications"), json!({ "daily": many, "monthly": "7" })),
        ),
        ("own_prices_wrong", put(&in_org("prices"), json!({ "models": [wrong_price] }))),
        ("tiers_empty", put("/v1/config/tiers", json!({}))),
        ("tiers_none", put("/v1/config/tiers", json!({ "tiers": [] }))),
        (
            "tiers_wrong",
            put("/v1/config/tiers", json!({ "tiers": [wrong_tier, 7], "effective_from": "soon" })),
        ),
        ("tiers_twice", put("/v1/config/tiers", json!({ "tiers": [tier, tier] }))),
        ("rate_scale_empty", put("/v1/config/rate-scale", json!({}))),
        (
            "rate_scale_wrong",
            put(
                "/v1/config/rate-scale",
                json!({ "factor": "1.5", "until": "soon", "reason": "", "tiers": ["Tier0", 7], "scale": 1 }),
            ),
        ),
        (
            "rate_scale_precise",
            put("/v1/config/rate-scale", json!({ "factor": "0.0001", "tiers": ["Tier0", "Tier0"] })),
        ),
        ("rate_scale_number", put("/v1/config/rate-scale", json!({ "factor": 0.5 }))),
        ("voucher_policy_empty", put("/v1/config/voucher-policy", json!({}))),
        (
            "voucher_policy_wrong",
            put(
                "/v1/config/voucher-policy",
                json!({ "threshold": "-1", "amount": 5, "expires_after_days": 0 }),
            ),
        ),
        ("defaults_empty", put("/v1/config/defaults", json!({}))),
        (
            "defaults_wrong",
            put("/v1/config/defaults", json!({ "balance_alert_threshold": "-1", "max_output_tokens": 0 })),
        ),
        ("prices_empty", put("/v1/config/prices", json!({}))),
        ("prices_none", put("/v1/config/prices", json!({ "models": [] }))),
        ("prices_wrong", put("/v1/config/prices", json!({ "models": [wrong_price, 7] }))),
        ("prices_twice", put("/v1/config/prices", json!({ "models": [price, price] }))),
        ("prices_when", put("/v1/config/prices", json!({ "models": [price], "effective_from": "soon" }))),
        ("cycle_empty", put("/v1/config/billing-cycle", json!({}))),
        ("cycle_long", put("/v1/config/billing-cycle", json!({ "cycle_seconds": 86_401 }))),
        (
            "cycle_wrong",
            put("/v1/config/billing-cycle", json!({ "cycle_seconds": "10m", "delay_seconds": -1 })),
        ),
        ("token_empty", post("/v1/tokens", json!({}))),
        ("token_no_scope", post("/v1/tokens", json!({ "name": "a", "scopes": [] }))),
        (
            "token_wrong",
            post("/v1/tokens", json!({ "name": "a", "scopes": ["root"], "organizations": ["acme"] })),
        ),
    ];
    let cases = cases.into_iter().map(|(name, request)| (name, request, 400, "invalid_fields"));
    check(api, cases.collect()).await;
    assert_eq!(api.all("/v1/organizations").await.len(), 1);
    assert_eq!(api.balance(&org).await["cash"], "0");
}

#[tokio::test]
async fn queries_that_are_not_right() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let in_org = |path: &str| format!("/v1/organizations/{org}/{path}");
    let cases = [
        ("query_limit_zero", in_org("projects?limit=0")),
        ("query_limit_large", in_org("projects?limit=1001")),
        ("query_limit_word", "/v1/organizations?limit=all".to_owned()),
        ("query_position_word", "/v1/organizations?min_position=17".to_owned()),
        ("query_position_partition", "/v1/organizations?min_position=9-1".to_owned()),
        ("query_bucket", in_org("spend?bucket=week")),
        ("query_from", in_org("spend?from=yesterday")),
        ("query_to", in_org("spend?to=2026-02-30")),
        ("query_group_by", in_org("spend?group_by=project,colour")),
        ("query_partition", "/v1/digest?partition=1".to_owned()),
        ("query_trial_balance", "/v1/trial-balance?partition=x".to_owned()),
        ("query_breaches", in_org("projects/proj_1/breaches?from=2026-02-30&to=x&after=2026-11-20&limit=0")),
        ("query_recharges_after", in_org("recharges?after=pay_1")),
        ("query_quarantine_after", "/v1/quarantine?after=x".to_owned()),
        ("query_alerts_after", in_org("alerts?after=0-5-low-0")),
        ("query_alerts_partition", in_org("alerts?after=7-5")),
        ("query_alert_stream_after", in_org("alerts/stream?after=0-5-balance_low")),
        ("query_alert_feed_after", "/v1/alerts?after=-1".to_owned()),
        ("query_unknown", in_org("spend?form=2026-11-20&limit=0&colour=red")),
        ("query_unknown_everywhere", in_org("balance?limit=1")),
        ("query_twice", in_org("projects?limit=1&limit=2")),
    ];
    let cases = cases.iter().map(|(name, path)| (*name, api.request("GET", path), 400, "invalid_fields"));
    check(api, cases.collect()).await;
}

#[tokio::test]
async fn members_that_are_not_right() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let projects = format!("/v1/organizations/{org}/projects");
    let console = api.with_token(&api.service_token(&["console"], None).await);
    let auditor = api.with_token(&api.service_token(&["auditor"], None).await);
    let acting = |api: &Api, method: &str, path: &str, member: &str| {
        api.request(method, path).header("tollbook-actor", member)
    };
    let ada = "mem_01h00000000000000000000000";
    check(
        api,
        vec![
            ("actor_wrong", acting(&console, "GET", &projects, "Ada"), 400, "malformed"),
            ("actor_missing", console.request("GET", &projects), 403, "actor_missing"),
            ("actor_missing_write", console.request("POST", &projects), 403, "actor_missing"),
            ("actor_of_auditor", acting(&auditor, "GET", &projects, ada), 403, "forbidden"),
            ("actor_ledger", acting(api, "GET", "/v1/tokens", ada), 403, "forbidden"),
            ("actor_ledger_write", acting(&console, "PUT", "/v1/config/prices", ada), 403, "forbidden"),
        ],
    )
    .await;
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist() {
    let system = System::start().await;
    let api = &system.api;
    let org = api.organization("Acme").await;
    let key = api.customer("Other").await;
    let none = "org_01h00000000000000000000000";
    let get = |path: &str| api.request("GET", path);
    let in_org = |path: &str| get(&format!("/v1/organizations/{org}/{path}"));
    check(
        api,
        vec![
            ("route_unknown", get("/v1/nothing"), 404, "not_found"),
            ("path_not_utf8", get("/v1/organizations/%ff"), 400, "malformed"),
            ("method_not_allowed", api.request("DELETE", "/v1/organizations"), 405, "method_not_allowed"),
            ("organization_no_id", get("/v1/organizations/acme"), 404, "not_found"),
            (
                "organization_unknown",
                get(&format!("/v1/organizations/{none}/balance")),
                404,
                "organization_not_found",
            ),
            (
                "organization_unknown_write",
                api.request("POST", &format!("/v1/organizations/{none}/projects"))
                    .json(&json!({ "name": "a" })),
                404,
                "organization_not_found",
            ),
            ("project_no_id", in_org("projects/chat/api-keys"), 404, "not_found"),
            (
                "project_unknown",
                in_org(&format!("projects/{}/budgets", key.project)),
                404,
                "project_not_found",
            ),
            (
                "project_of_another",
                in_org(&format!("projects/{}/api-keys", key.project)),
                404,
                "project_not_found",
            ),
            (
                "project_unknown_write",
                api.request("POST", &format!("/v1/organizations/{org}/projects/{}/api-keys", key.project))
                    .json(&json!({ "name": "a" })),
                404,
                "project_not_found",
            ),
            ("key_unknown", get("/v1/api-keys/ak_unknown"), 404, "not_found"),
            (
                "subscription_unknown",
                api.request("DELETE", "/v1/alert-subscriptions/mail"),
                404,
                "alert_subscription_not_found",
            ),
            ("subscription_no_name", get("/v1/alert-subscriptions/a%20b"), 404, "not_found"),
            ("token_unknown", api.request("DELETE", "/v1/tokens/tok_unknown"), 404, "token_not_found"),
        ],
    )
    .await;
}

#[tokio::test]
async fn rules_that_say_no() {
    let system = System::start().await;
    let api = &system.api;
    priced(api).await;
    let org = api.organization("Acme").await;
    let key = api.customer("Other").await;
    api.recharge(&org, "7", "taken").await;
    let recharge = |amount: &str, reference: &str| {
        let body = json!({ "amount": amount, "reference": reference });
        api.request("POST", &format!("/v1/organizations/{org}/recharges")).json(&body)
    };
    let project = api.project(&org).await;
    let keys = format!("/v1/organizations/{org}/projects/{project}/api-keys");
    let creator = api.get(&format!("/v1/organizations/{}", key.organization)).await.expect(200);
    let creator = creator["creator"]["id"].clone();
    let price = json!({ "model": MODEL, "input": "1", "cached_input": "1", "output": "1" });
    let prices = |body: Value| api.request("PUT", "/v1/config/prices").json(&body);
    let idempotency = |key: &str| recharge("1", "x").header("idempotency-key", key);
    let in_org = |method: &str, path: &str, body: Value| {
        api.request(method, &format!("/v1/organizations/{org}/{path}")).json(&body)
    };
    let taken = api.all(&format!("/v1/organizations/{org}/recharges")).await.remove(0)["id"].clone();
    let empty = api.request("POST", &format!("/v1/organizations/{}/refunds", key.organization));
    let reversals =
        |recharge: &str, body: Value| in_org("POST", &format!("recharges/{recharge}/reversals"), body);
    let tiers = |from: &str, when: Option<&str>| {
        let tier = json!({
            "name": "Tier0", "cumulative_recharge": from, "concurrency": 1, "rpm": 1, "tpm": 1, "tpd": null,
        });
        api.request("PUT", "/v1/config/tiers").json(&json!({ "tiers": [tier], "effective_from": when }))
    };
    let scale = |body: Value| api.request("PUT", "/v1/config/rate-scale").json(&body);
    let adjustment = |amount: &str, corrects: Option<&str>| {
        let body = json!({ "amount": amount, "reference": "a", "reason": "r", "corrects": corrects });
        in_org("POST", "adjustments", body)
    };
    check(
        api,
        vec![
            (
                "subscription_embedded",
                api.request("POST", "/v1/alert-subscriptions").json(&json!({ "name": "mail" })),
                422,
                "no_alert_stream",
            ),
            ("amount_zero", recharge("0", "a"), 422, "amount_not_positive"),
            ("amount_negative", recharge("-5", "a"), 422, "amount_not_positive"),
            ("amount_huge", recharge("9999999999999999", "a"), 422, "amount_out_of_range"),
            ("reference_conflict", recharge("8", "taken"), 409, "reference_conflict"),
            (
                "member_of_another",
                api.request("POST", &keys).json(&json!({ "name": "a", "member": creator })),
                404,
                "member_not_found",
            ),
            (
                "price_in_the_past",
                prices(json!({ "models": [price], "effective_from": "2026-01-01T00:00:00Z" })),
                422,
                "price_in_the_past",
            ),
            ("currency", prices(json!({ "models": [price], "currency": "EUR" })), 422, "currency_mismatch"),
            (
                "refund_zero",
                in_org("POST", "refunds", json!({ "amount": "0", "reference": "a" })),
                422,
                "amount_not_positive",
            ),
            (
                "refund_of_nothing",
                empty.json(&json!({ "amount": "1", "reference": "a" })),
                422,
                "nothing_to_refund",
            ),
            (
                "refund_too_large",
                in_org("POST", "refunds", json!({ "amount": "7.01", "reference": "a", "recharge": taken })),
                422,
                "refund_too_large",
            ),
            (
                "refund_of_unknown_recharge",
                in_org("POST", "refunds", json!({ "amount": "1", "reference": "a", "recharge": "rch_none" })),
                404,
                "recharge_not_found",
            ),
            (
                "reversal_too_large",
                reversals(
                    taken.as_str().unwrap(),
                    json!({ "amount": "7.01", "reference": "a", "reason": "r" }),
                ),
                422,
                "reversal_too_large",
            ),
            (
                "reversal_of_unknown_recharge",
                reversals("rch_none", json!({ "reference": "a", "reason": "r" })),
                404,
                "recharge_not_found",
            ),
            (
                "reversal_of_no_id",
                reversals("pay-1", json!({ "reference": "a", "reason": "r" })),
                404,
                "not_found",
            ),
            ("adjustment_zero", adjustment("0", None), 422, "amount_zero"),
            ("adjustment_huge", adjustment("-9999999999999999999", None), 400, "invalid_fields"),
            ("adjustment_of_unknown_entry", adjustment("1", Some("0-99999")), 404, "entry_not_found"),
            (
                "voucher_zero",
                in_org("POST", "vouchers", json!({ "amount": "0", "reference": "a" })),
                422,
                "amount_not_positive",
            ),
            (
                "voucher_expired",
                in_org(
                    "POST",
                    "vouchers",
                    json!({ "amount": "1", "reference": "a", "expires_at": "2026-01-01T00:00:00Z" }),
                ),
                422,
                "expiry_passed",
            ),
            (
                "credit_limit_negative",
                in_org("PUT", "credit-limit", json!({ "limit": "-1" })),
                422,
                "amount_not_positive",
            ),
            (
                "own_price_in_the_past",
                in_org(
                    "PUT",
                    "prices",
                    json!({ "models": [price], "effective_from": "2026-01-01T00:00:00Z" }),
                ),
                422,
                "price_in_the_past",
            ),
            (
                "own_currency",
                in_org("PUT", "prices", json!({ "models": [price], "currency": "EUR" })),
                422,
                "currency_mismatch",
            ),
            ("tiers_unordered", tiers("0", None), 422, "tiers_unordered"),
            ("tiers_in_the_past", tiers("1", Some("2026-01-01T00:00:00Z")), 422, "tiers_in_the_past"),
            ("rate_scale_alone", scale(json!({ "factor": "0.5" })), 422, "inconsistent_fields"),
            (
                "rate_scale_over",
                scale(json!({ "factor": "0.5", "until": "2026-01-01T00:00:00Z", "reason": "r" })),
                422,
                "rate_scale_over",
            ),
            (
                "rate_scale_of_unknown_tier",
                scale(json!({
                    "factor": "0.5", "until": "2099-01-01T00:00:00Z", "reason": "r", "tiers": ["Tier0", "Gold"],
                })),
                422,
                "tier_unknown",
            ),
            ("idempotency_key_empty", idempotency(""), 400, "malformed"),
            ("idempotency_key_long", idempotency(&"k".repeat(257)), 400, "malformed"),
        ],
    )
    .await;
    assert_eq!(api.balance(&org).await["cash"], "7");
}

#[tokio::test]
async fn usage_that_is_refused() {
    let system = System::start().await;
    let api = &system.api;
    let batch = "application/cloudevents-batch+json";
    let mut good = json!({
        "specversion": "1.0", "id": "1", "source": "test", "type": "tollbook.usage.v1", "subject": "org_1",
        "data": { "api_key_id": "ak_1", "model": "m", "input_tokens": 1, "output_tokens": 1 },
    });
    let empty = json!({});
    let mut wrong = good.clone();
    wrong["time"] = json!("2999-01-01T00:00:00Z");
    wrong["producerseq"] = json!(7);
    wrong["data"] = json!({
        "api_key_id": "sk-secret", "project": "proj_1", "model": "m", "input_tokens": "1", "output_tokens": 1.5,
        "cached_input_tokens": 5, "cost": 0.5, "meters": { "image": -1 },
    });
    let kept = json!([good.clone(), empty, wrong]).to_string();
    good["padding"] = json!("x".repeat(17 * 1024));
    let long = json!([good]).to_string();
    check(
        api,
        vec![
            ("events_bad", api.raw(kept, batch), 400, "invalid_fields"),
            ("events_long", api.raw(long, batch), 400, "invalid_fields"),
            ("events_not_json", api.raw("[{", batch), 400, "malformed"),
            ("events_not_utf8", api.raw(vec![b'[', 0xff, b']'], batch), 400, "malformed"),
            ("events_no_batch", api.raw("{}", batch), 400, "malformed"),
            ("events_media_type", api.raw("[]", "text/csv"), 415, "media_type"),
            ("events_no_media_type", api.request("POST", "/v1/events"), 415, "media_type"),
            ("events_too_many", api.raw(format!("[{}{{}}]", "{},".repeat(1_000)), batch), 413, "too_large"),
        ],
    )
    .await;
    assert!(api.quarantine().await.is_empty());
}
