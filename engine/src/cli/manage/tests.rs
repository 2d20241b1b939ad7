//! What each command asks the server for: the contract of INTERFACES, from the command line's side.

use clap::{Parser, Subcommand};
use serde_json::Value;

use super::*;

#[derive(Debug, Parser)]
struct Line<C: Subcommand> {
    #[command(flatten)]
    family: Family<C>,
}

/// The request that a line makes, such as `GET /v1/organizations`, and its body.
fn request<C: Subcommand + Calls>(line: &str) -> Result<(String, Value), String> {
    let words = std::iter::once("tollbook").chain(line.split_whitespace());
    let parsed = Line::<C>::try_parse_from(words).map_err(|error| error.to_string())?;
    parsed.family.command.call().map(Call::request).map_err(|error| error.to_string())
}

#[track_caller]
fn check<C: Subcommand + Calls>(line: &str, expected: &str, body: &str) {
    let (request, sent) = request::<C>(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    assert_eq!((request.as_str(), sent), (expected, body), "{line}");
}

#[track_caller]
fn refused<C: Subcommand + Calls>(line: &str, reason: &str) {
    let error = request::<C>(line).expect_err(line);
    assert!(error.contains(reason), "{line}: {error}");
}

#[test]
fn organizations() {
    let check = check::<OrgCommand>;
    check(
        "create Acme --email a@b.co --creator-name Ann",
        "POST /v1/organizations",
        r#"{"name":"Acme","email":"a@b.co","creator":{"name":"Ann","email":"a@b.co"},"time_zone":null}"#,
    );
    check("show org_1", "GET /v1/organizations/org_1", "");
    check("list --limit 2 --after org_1", "GET /v1/organizations?limit=2&after=org_1", "");
    check("update org_1 --name New", "PATCH /v1/organizations/org_1", r#"{"name":"New"}"#);
    check(
        "update org_1 --email a@b.co --time-zone UTC",
        "PATCH /v1/organizations/org_1",
        r#"{"email":"a@b.co","time_zone":"UTC"}"#,
    );
    check("verify org_1 verified", "POST /v1/organizations/org_1/verification", r#"{"level":"verified"}"#);
    check("limits org_1", "GET /v1/organizations/org_1/limits", "");
    // An absent field stays as it is, null takes an override away (R5.5).
    check(
        "override org_1 --projects 30 --api-keys none",
        "POST /v1/organizations/org_1/limits/override",
        r#"{"projects":30,"api_keys":null}"#,
    );
    check(
        "override org_1 --concurrency 1 --rpm 2 --tpm none --tpd 18446744073709551615",
        "POST /v1/organizations/org_1/limits/override",
        r#"{"concurrency":1,"rpm":2,"tpm":null,"tpd":18446744073709551615}"#,
    );
    check("log org_1 --after 0-7", "GET /v1/organizations/org_1/log?after=0-7", "");
    check("erase-contacts org_1 --yes", "DELETE /v1/organizations/org_1/contacts", "{}");
    for (line, reason) in [
        ("update org_1", "required"),
        ("override org_1", "required"),
        ("override org_1 --projects many", "none"),
        ("override org_1 --projects 4294967296", "none"),
        ("verify org_1 Verified", "enterprise_verified"),
        ("show org_1/projects", "letters"),
    ] {
        refused::<OrgCommand>(line, reason);
    }
}

#[test]
fn the_allowlist() {
    let check = check::<AllowlistCommand>;
    check("show org_1", "GET /v1/organizations/org_1/ip-allowlist", "");
    check(
        "set org_1 8.8.8.8,1.1.1.1 52.94.76.0/22",
        "PUT /v1/organizations/org_1/ip-allowlist",
        r#"{"text":"8.8.8.8,1.1.1.1\n52.94.76.0/22"}"#,
    );
    check("clear org_1", "PUT /v1/organizations/org_1/ip-allowlist", r#"{"text":""}"#);
    for (line, reason) in [
        ("set org_1", "required"),
        ("set org_1 ,", "allowlist clear"),
        ("set org_1 8.8.8.8 --file -", "cannot be used with"),
        ("set org_1 --file /nowhere/list", "/nowhere/list"),
        ("set org_1 --file /dev/null", "allowlist clear"),
    ] {
        refused::<AllowlistCommand>(line, reason);
    }
}

#[test]
fn members() {
    let check = check::<MemberCommand>;
    check("list org_1", "GET /v1/organizations/org_1/members", "");
    check(
        "role org_1 mem_1 administrator",
        "PATCH /v1/organizations/org_1/members/mem_1",
        r#"{"role":"administrator"}"#,
    );
    check("remove org_1 mem_1", "DELETE /v1/organizations/org_1/members/mem_1", "{}");
    check(
        "invite org_1",
        "POST /v1/organizations/org_1/invitations",
        r#"{"email":null,"role":"member","projects":[]}"#,
    );
    check(
        "invite org_1 --email b@b.co --role administrator --project proj_1 --project proj_2=administrator",
        "POST /v1/organizations/org_1/invitations",
        r#"{"email":"b@b.co","role":"administrator","projects":[
            {"project":"proj_1","role":"member"},{"project":"proj_2","role":"administrator"}]}"#,
    );
    check("invitations org_1 --limit 5", "GET /v1/organizations/org_1/invitations?limit=5", "");
    check("revoke-invitation org_1 inv_1", "DELETE /v1/organizations/org_1/invitations/inv_1", "{}");
    check(
        "accept abc --name Bob --email b@b.co",
        "POST /v1/invitations/accept",
        r#"{"token":"abc","name":"Bob","email":"b@b.co"}"#,
    );
    refused::<MemberCommand>("role org_1 mem_1 owner", "administrator, member");
    refused::<MemberCommand>("invite org_1 --project proj_1=owner", "=administrator or =member");
}

#[test]
fn projects_and_keys() {
    let check = check::<ProjectCommand>;
    check("create org_1 chat", "POST /v1/organizations/org_1/projects", r#"{"name":"chat"}"#);
    check("list org_1", "GET /v1/organizations/org_1/projects", "");
    check("show org_1 proj_1", "GET /v1/organizations/org_1/projects/proj_1", "");
    check("rename org_1 proj_1 new", "PATCH /v1/organizations/org_1/projects/proj_1", r#"{"name":"new"}"#);
    check("archive org_1 proj_1", "DELETE /v1/organizations/org_1/projects/proj_1", "{}");
    check("tpm org_1 proj_1 500", "PUT /v1/organizations/org_1/projects/proj_1/tpm", r#"{"limit":500}"#);
    check("tpm org_1 proj_1 none", "PUT /v1/organizations/org_1/projects/proj_1/tpm", r#"{"limit":null}"#);
    check("members org_1 proj_1", "GET /v1/organizations/org_1/projects/proj_1/members", "");
    check(
        "add-member org_1 proj_1 mem_1",
        "POST /v1/organizations/org_1/projects/proj_1/members",
        r#"{"member":"mem_1","role":"member"}"#,
    );
    check(
        "set-role org_1 proj_1 mem_1 administrator",
        "PATCH /v1/organizations/org_1/projects/proj_1/members/mem_1",
        r#"{"role":"administrator"}"#,
    );
    check(
        "remove-member org_1 proj_1 mem_1",
        "DELETE /v1/organizations/org_1/projects/proj_1/members/mem_1",
        "{}",
    );
    let keys = "/v1/organizations/org_1/projects/proj_1/api-keys";
    let check = self::check::<KeyCommand>;
    check("create org_1 proj_1 k", &format!("POST {keys}"), r#"{"name":"k","member":null}"#);
    check(
        "create org_1 proj_1 k --member mem_1",
        &format!("POST {keys}"),
        r#"{"name":"k","member":"mem_1"}"#,
    );
    check("list org_1 proj_1", &format!("GET {keys}"), "");
    check("revoke org_1 proj_1 ak_1", &format!("DELETE {keys}/ak_1"), "{}");
    refused::<ProjectCommand>("tpm org_1 proj_1", "required");
}

#[test]
fn statements_and_invoices() {
    let check = check::<InvoiceCommand>;
    let path = "/v1/organizations/org_1/invoices";
    check("issue org_1 --month 2026-10", &format!("POST {path}"), r#"{"month":"2026-10"}"#);
    check("list org_1 --limit 2 --after 7", &format!("GET {path}?limit=2&after=7"), "");
    check("show org_1 invoice_1", &format!("GET {path}/invoice_1"), "");
    refused::<InvoiceCommand>("issue org_1", "--month");
    for (line, expected) in [
        ("org_1 --month 2026-10", "month=2026-10"),
        ("org_1 --month 2026-10 --csv", "month=2026-10&format=csv"),
    ] {
        let words = std::iter::once("tollbook").chain(line.split_whitespace());
        let parsed = <Single as Parser>::try_parse_from(words).unwrap();
        let (request, _) = parsed.alone.command.call().unwrap().request();
        assert_eq!(request, format!("GET /v1/organizations/org_1/statement?{expected}"));
    }
}

#[derive(Debug, Parser)]
struct Single {
    #[command(flatten)]
    alone: Alone<StatementArgs>,
}

#[test]
fn configuration() {
    let path = "/v1/config/quantity-limits";
    check::<QuantityCommand>("show", &format!("GET {path}"), "");
    check::<QuantityCommand>(
        "set --projects 20 --api-keys 50 --enterprise-projects 50 --enterprise-api-keys 100",
        &format!("PUT {path}"),
        r#"{"default":{"projects":20,"api_keys":50},"enterprise_verified":{"projects":50,"api_keys":100}}"#,
    );
    refused::<QuantityCommand>("set --projects 20", "--enterprise-api-keys");
    check::<TokenCommand>("revoke tok_1", "DELETE /v1/tokens/tok_1", "{}");
    check::<UsageCommand>("quarantine --limit 7", "GET /v1/quarantine?limit=7", "");
}

#[test]
fn usage() {
    let check = self::check::<QuarantineCommand>;
    check("list", "GET /v1/quarantine", "");
    check("list --state all --limit 7", "GET /v1/quarantine?state=all&limit=7", "");
    check(
        "list --organization org_1 --state released",
        "GET /v1/organizations/org_1/quarantine?state=released",
        "",
    );
    check("show 0-17.3", "GET /v1/quarantine/0-17.3", "");
    check("release 0-17.3", "POST /v1/quarantine/0-17.3/release", "{}");
    check("dismiss 0-17.3 --reason test", "POST /v1/quarantine/0-17.3/dismiss", r#"{"reason":"test"}"#);
    refused::<QuarantineCommand>("release 0-17", "0-17.3");
    refused::<QuarantineCommand>("release 0-17.3/x", "0-17.3");
    refused::<QuarantineCommand>("release 0-17.3 --event /nowhere", "/nowhere");
    let check = self::check::<UsageCommand>;
    let records = "GET /v1/organizations/org_1/usage-records";
    check("show org_1 0-17.3", &format!("{records}?place=0-17.3"), "");
    check("trace org_1 --source gw --id r1", &format!("{records}?source=gw&id=r1"), "");
    check(
        "trace org_1 --source gw --producerseq 7 --from 2026-11-01 --to 2026-11-02",
        &format!("{records}?source=gw&producerseq=7&from=2026-11-01&to=2026-11-02"),
        "",
    );
    let reversals = "POST /v1/organizations/org_1/usage-reversals";
    check("reverse org_1 0-17.3 --reason double", reversals, r#"{"usage":"0-17.3","reason":"double"}"#);
    check(
        "reverse org_1 --source gw --id r1 --reason double",
        reversals,
        r#"{"usage":{"source":"gw","id":"r1"},"reason":"double"}"#,
    );
    refused::<UsageCommand>("reverse org_1 --reason double", "required");
    refused::<UsageCommand>("reverse org_1 0-17.3 --source gw --id r1 --reason double", "cannot be used");
    refused::<UsageCommand>("trace org_1 --source gw", "required");
}

#[test]
fn what_cannot_be_undone_is_confirmed_first() {
    // Only where standard input is no terminal: whoever runs this by hand would be asked.
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        refused::<OrgCommand>("erase-contacts org_1", "--yes");
    }
}

#[test]
fn who_asks_stands_before_or_after_the_command() {
    for line in [
        "--actor mem_1 --idempotency-key k list org_1",
        "list org_1 --actor mem_1 --idempotency-key k",
        "list --json --actor mem_1 org_1 --idempotency-key k",
    ] {
        let words = std::iter::once("tollbook").chain(line.split_whitespace());
        let author = Line::<MemberCommand>::try_parse_from(words).unwrap().family.author;
        assert_eq!(author.actor.unwrap().0, "mem_1", "{line}");
        assert_eq!(author.idempotency_key.unwrap(), "k", "{line}");
    }
    refused::<MemberCommand>("list org_1 --actor mem/1", "letters");
}

#[test]
fn an_id_can_stand_in_a_path() {
    assert_eq!("org_01-A".parse::<Id>().unwrap().to_string(), "org_01-A");
    for bad in ["", "..", "org_1/projects", "org_1?x", "örg", "org 1", "%2e"] {
        assert!(bad.parse::<Id>().is_err(), "{bad}");
    }
}

#[test]
fn a_setting_is_a_number_or_none() {
    assert_eq!("20".parse::<Setting<u32>>().unwrap(), Setting(Some(20)));
    assert_eq!("none".parse::<Setting<u32>>().unwrap(), Setting(None));
    for bad in ["", "-1", "2.5", "None", "4294967296", "null"] {
        assert!(bad.parse::<Setting<u32>>().is_err(), "{bad}");
    }
}

#[derive(Debug, Parser)]
struct Sole<A: Args> {
    #[command(flatten)]
    alone: Alone<A>,
}

#[track_caller]
fn check_alone<A: Args + Calls>(line: &str, expected: &str, body: &str) {
    let words = std::iter::once("tollbook").chain(line.split_whitespace());
    let parsed = Sole::<A>::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
    let (request, sent) = parsed.alone.command.call().unwrap().request();
    let body: Value = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    assert_eq!((request.as_str(), sent), (expected, body), "{line}");
}

#[test]
fn money() {
    let check = check_alone::<RechargeArgs>;
    let recharges = "/v1/organizations/org_1/recharges";
    let (post, body) = (format!("POST {recharges}"), r#"{"amount":"5.00","reference":"a"}"#);
    check("org_1 5.00 --reference a", &post, body);
    check("--json org_1 --reference a 5.00 --actor mem_1", &post, body);
    check("list org_1 --limit 2 --after rch_1", &format!("GET {recharges}?limit=2&after=rch_1"), "");
    check("--json list org_1", &format!("GET {recharges}"), "");
    check(
        "reverse org_1 rch_1 --reference a --reason fraud",
        &format!("POST {recharges}/rch_1/reversals"),
        r#"{"amount":null,"reference":"a","reason":"fraud"}"#,
    );
    check(
        "reverse org_1 rch_1 --amount 1 --reference a --reason fraud --idempotency-key k",
        &format!("POST {recharges}/rch_1/reversals"),
        r#"{"amount":"1","reference":"a","reason":"fraud"}"#,
    );
    for line in ["", "org_1", "org_1 5", "org_1 --reference a", "reverse org_1 rch_1 --reference a", "list"] {
        let words = std::iter::once("tollbook").chain(line.split_whitespace());
        let error = Sole::<RechargeArgs>::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains("required"), "{line}: {error}");
    }
    check_alone::<RefundArgs>(
        "org_1 5 --reference a --recharge rch_1",
        "POST /v1/organizations/org_1/refunds",
        r#"{"amount":"5","reference":"a","recharge":"rch_1"}"#,
    );
    check_alone::<AdjustArgs>(
        "org_1 -5.25 --reference a --reason mistake --corrects 0-17",
        "POST /v1/organizations/org_1/adjustments",
        r#"{"amount":"-5.25","reference":"a","reason":"mistake","corrects":"0-17"}"#,
    );
    let check = check_alone::<CreditLimitArgs>;
    check("org_1 100", "PUT /v1/organizations/org_1/credit-limit", r#"{"limit":"100"}"#);
    check("org_1 none", "PUT /v1/organizations/org_1/credit-limit", r#"{"limit":null}"#);
    check_alone::<BalanceArgs>("org_1", "GET /v1/organizations/org_1/balance", "");
    check_alone::<TrialBalanceArgs>("", "GET /v1/trial-balance", "");
    check_alone::<TrialBalanceArgs>("--partition 3", "GET /v1/trial-balance?partition=3", "");
}

#[test]
fn vouchers() {
    let check = check::<VoucherCommand>;
    check(
        "grant org_1 5 --reference a",
        "POST /v1/organizations/org_1/vouchers",
        r#"{"amount":"5","reference":"a","expires_at":null,"reason":null}"#,
    );
    check(
        "grant org_1 5 --reference a --expires-at 2027-01-01T00:00:00Z --reason sorry",
        "POST /v1/organizations/org_1/vouchers",
        r#"{"amount":"5","reference":"a","expires_at":"2027-01-01T00:00:00Z","reason":"sorry"}"#,
    );
    check("list org_1 --limit 1", "GET /v1/organizations/org_1/vouchers?limit=1", "");
    let check = self::check::<VoucherPolicyCommand>;
    check("show", "GET /v1/config/voucher-policy", "");
    check(
        "set --threshold 5 --amount 5 --expires-after-days none",
        "PUT /v1/config/voucher-policy",
        r#"{"threshold":"5","amount":"5","expires_after_days":null}"#,
    );
    refused::<VoucherPolicyCommand>("set --threshold 5 --amount 5", "required");
}

#[test]
fn prices_tiers_and_defaults() {
    let check = check::<PriceCommand>;
    let price =
        r#"{"model":"m","input":"1","cached_input":"0.1","output":"2","meters":{},"max_output_tokens":null}"#;
    let body = format!(r#"{{"effective_from":null,"models":[{price}]}}"#);
    check("set m --input 1 --cached-input 0.1 --output 2", "PUT /v1/config/prices", &body);
    check(
        "set m --org org_1 --input 1 --cached-input 0.1 --output 2",
        "PUT /v1/organizations/org_1/prices",
        &body,
    );
    check(
        "set m --input 1 --cached-input 1 --output 1 --meter image=4 --meter a=b=2 --max-output-tokens 7 --from t",
        "PUT /v1/config/prices",
        r#"{"effective_from":"t","models":[{"model":"m","input":"1","cached_input":"1","output":"1",
            "meters":{"image":"4","a=b":"2"},"max_output_tokens":7}]}"#,
    );
    check("list", "GET /v1/config/prices", "");
    check("list --org org_1", "GET /v1/organizations/org_1/prices", "");
    refused::<PriceCommand>("set m --input 1 --cached-input 1 --output 1 --meter image", "such as image=");
    self::check::<TierCommand>("show", "GET /v1/config/tiers", "");
    refused::<TierCommand>("set --file /nowhere/tiers.json", "/nowhere/tiers.json");
    let check = self::check::<RateScaleCommand>;
    check("show", "GET /v1/config/rate-scale", "");
    check(
        "set 0.5 --until 2026-11-20T18:00:00Z --reason crowded --tier Tier0 --tier Tier1",
        "PUT /v1/config/rate-scale",
        r#"{"factor":"0.5","until":"2026-11-20T18:00:00Z","reason":"crowded","tiers":["Tier0","Tier1"]}"#,
    );
    check("end", "PUT /v1/config/rate-scale", r#"{"factor":null}"#);
    refused::<RateScaleCommand>("set 0.5 --until 2026-11-20T18:00:00Z", "--reason");
    let check = self::check::<DefaultsCommand>;
    check("show", "GET /v1/config/defaults", "");
    check(
        "set --balance-alert-threshold none --max-output-tokens 100",
        "PUT /v1/config/defaults",
        r#"{"balance_alert_threshold":null,"max_output_tokens":100}"#,
    );
}

#[test]
fn budgets() {
    let check = check::<BudgetCommand>;
    let project = "/v1/organizations/org_1/projects/proj_1";
    check("show org_1 proj_1", &format!("GET {project}/budgets"), "");
    check(
        "set org_1 proj_1 --daily 5.00 --monthly none",
        &format!("PUT {project}/budgets"),
        r#"{"daily":"5.00","monthly":null}"#,
    );
    check(
        "set org_1 proj_1 --daily none --monthly 70 --enforcement strict",
        &format!("PUT {project}/budgets"),
        r#"{"daily":null,"monthly":"70","enforcement":"strict"}"#,
    );
    // The server says what is wrong with it.
    check(
        "set org_1 proj_1 --daily -1 --monthly none",
        &format!("PUT {project}/budgets"),
        r#"{"daily":"-1","monthly":null}"#,
    );
    // Leaving one out must not take it away.
    refused::<BudgetCommand>("set org_1 proj_1 --daily 5", "--monthly");
    check(
        "breaches org_1 proj_1 --from 2026-11-01 --to 2026-11-30 --limit 2 --after 2026-11-20.17.daily",
        &format!("GET {project}/breaches?from=2026-11-01&to=2026-11-30&limit=2&after=2026-11-20.17.daily"),
        "",
    );
    check("notifications org_1 proj_1", &format!("GET {project}/spend-notifications"), "");
    check(
        "notify org_1 proj_1 --daily 1,2.50 --monthly 10",
        &format!("PUT {project}/spend-notifications"),
        r#"{"daily":["1","2.50"],"monthly":["10"]}"#,
    );
    check(
        "notify org_1 proj_1",
        &format!("PUT {project}/spend-notifications"),
        r#"{"daily":[],"monthly":[]}"#,
    );
}

#[test]
fn balance_alerts() {
    let check = check::<OrgCommand>;
    check("balance-alert org_1", "GET /v1/organizations/org_1/balance-alert", "");
    check("balance-alert org_1 2.50", "PUT /v1/organizations/org_1/balance-alert", r#"{"threshold":"2.50"}"#);
    check("balance-alert org_1 none", "PUT /v1/organizations/org_1/balance-alert", r#"{"threshold":null}"#);
}

#[test]
fn alert_subscriptions() {
    let check = check::<AlertSubscriptionCommand>;
    let path = "/v1/alert-subscriptions";
    check("create mail", &format!("POST {path}"), r#"{"name":"mail","organizations":null}"#);
    check(
        "create mail --organization org_1,org_2",
        &format!("POST {path}"),
        r#"{"name":"mail","organizations":["org_1","org_2"]}"#,
    );
    check("list --limit 1 --after a", &format!("GET {path}?limit=1&after=a"), "");
    check("show mail", &format!("GET {path}/mail"), "");
    check("remove mail", &format!("DELETE {path}/mail"), "{}");
}

#[test]
fn webhooks() {
    let check = check::<WebhookCommand>;
    let webhooks = "/v1/organizations/org_1/webhooks";
    let url = "https://hooks.example.com/x";
    check(&format!("create org_1 {url}"), &format!("POST {webhooks}"), &format!(r#"{{"url":"{url}"}}"#));
    check("list org_1 --limit 2", &format!("GET {webhooks}?limit=2"), "");
    check("show org_1 wh_1", &format!("GET {webhooks}/wh_1"), "");
    check("remove org_1 wh_1", &format!("DELETE {webhooks}/wh_1"), "{}");
    check("rotate-secret org_1 wh_1", &format!("POST {webhooks}/wh_1/rotate-secret"), "{}");
    check("disable org_1 wh_1", &format!("POST {webhooks}/wh_1/disable"), "{}");
    check(
        "disable org_1 wh_1 --reason moved",
        &format!("POST {webhooks}/wh_1/disable"),
        r#"{"reason":"moved"}"#,
    );
    check("enable org_1 wh_1", &format!("POST {webhooks}/wh_1/enable"), "{}");
    check("deliveries org_1 wh_1", &format!("GET {webhooks}/wh_1/deliveries"), "");
}

#[test]
fn deliveries() {
    let check = check::<DeliveryCommand>;
    let deliveries = "/v1/organizations/org_1/alerts/alert_1/deliveries";
    check("list org_1 alert_1", &format!("GET {deliveries}"), "");
    check("again org_1 alert_1 email", &format!("POST {deliveries}"), r#"{"channel":"email"}"#);
}
