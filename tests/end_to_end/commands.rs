//! The command line against a server.

mod people;
mod wire;

use std::fs;
use std::process::Stdio;

use clap::CommandFactory;
use serde_json::{Value, json};
use tollbook_tests::system::{Ran, System};

use super::{MODEL, calls};

#[tokio::test]
async fn the_commands_do_what_the_api_does() {
    let system = System::start().await;
    let run = async |args: &[&str]| system.run(args).await;
    let created = run(&[
        "org",
        "create",
        "Acme",
        "--email",
        "a@acme.example",
        "--creator-name",
        "Ada",
        "--time-zone",
        "Europe/Berlin",
        "--json",
    ])
    .await
    .json();
    let org = created["id"].as_str().unwrap();
    assert_eq!(created["creator"]["email"], "a@acme.example", "the registered address unless told");
    assert_eq!(run(&["org", "show", org, "--json"]).await.json()["time_zone"], "Europe/Berlin");
    let listed = run(&["org", "list"]).await;
    assert!(listed.code == Some(0) && listed.out.contains(org) && listed.out.contains("Acme"), "{listed:?}");

    let project = run(&["project", "create", org, "chat", "--json"]).await.json();
    let project = project["id"].as_str().unwrap();
    assert!(run(&["project", "list", org]).await.out.contains(project));

    let key = run(&["key", "create", org, project, "production", "--json"]).await.json();
    let (id, secret) = (key["id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    let listed = run(&["key", "list", org, project]).await;
    assert!(listed.out.contains(id) && !listed.out.contains(secret), "{}", listed.out);

    let recharged = run(&["recharge", org, "5.00", "--reference", "a", "--json"]).await.json();
    assert_eq!(recharged["voucher"]["amount"], "5");
    let table = run(&["recharge", org, "5.00", "--reference", "a"]).await;
    assert!(table.out.contains("balance.available") && table.out.contains("10"), "{}", table.out);
    let balance = run(&["balance", org]).await;
    assert!(balance.out.contains("Tier0") && balance.out.contains("USD"), "{}", balance.out);

    let set = run(&[
        "price",
        "set",
        MODEL,
        "--input",
        "0.60",
        "--cached-input",
        "0.10",
        "--output",
        "3.00",
        "--from",
        "2026-01-01T00:00:00Z",
    ])
    .await;
    assert!(set.code == Some(0) && set.out.contains("0.6"), "{set:?}");
    let file = system.scratch().join("prices.json");
    let price = json!({ "model": "other", "input": "1", "cached_input": "1", "output": "1" });
    std::fs::write(&file, json!({ "models": [price] }).to_string()).unwrap();
    run(&["price", "publish", file.to_str().unwrap(), "--json"]).await.json();
    let prices = run(&["price", "list", "--json"]).await.json();
    assert_eq!(prices["models"].as_array().unwrap().len(), 2);

    assert_eq!(run(&["cycle", "set", "60", "--delay-seconds", "5"]).await.code, Some(0));
    let shown = run(&["cycle", "show", "--json"]).await.json();
    assert_eq!(shown, json!({ "cycle_seconds": 60, "delay_seconds": 5 }));

    let scopes = ["--scope", "publisher,gateway", "--organization", org];
    let token = run(&[&["token", "create", "p", "--json"][..], &scopes].concat()).await.json();
    assert_eq!(token["scopes"], json!(["publisher", "gateway"]));
    let id_of_token = token["id"].as_str().unwrap();
    assert!(run(&["token", "list"]).await.out.contains(id_of_token));
    assert_eq!(run(&["token", "revoke", id_of_token]).await.code, Some(0));
    assert!(!run(&["token", "list"]).await.out.contains(id_of_token));

    let holder = tollbook_tests::system::Key {
        organization: org.to_owned(),
        project: project.to_owned(),
        id: id.to_owned(),
        secret: secret.to_owned(),
    };
    system.api.events(&[holder.event("1", MODEL), holder.event("2", "unknown")]).await;
    let spend = run(&["spend", org, "--group-by", "model", "--bucket", "month", "--json"]).await.json();
    assert_eq!(tollbook_tests::system::Totals::of(&spend), calls(1));
    let table =
        run(&["spend", org, "--from", "2020-01-01", "--to", "2099-12-31", "--group-by", "model"]).await;
    assert!(table.out.contains(MODEL) && table.out.contains("0.00007"), "{}", table.out);
    let quarantine = run(&["usage", "quarantine"]).await;
    assert!(quarantine.out.contains("unknown_model"), "{}", quarantine.out);
}

#[tokio::test]
async fn the_commands_move_money() {
    let system = System::start().await;
    let org = system.api.organization("Acme").await;
    let run = async |line: &str| {
        let line = line.replace("ORG", &org);
        let ran = system.run(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(ran.code, Some(0), "{line}: {}", ran.err);
        ran
    };
    let recharged = run("recharge ORG 12 --reference a --json").await.json();
    let recharge = recharged["id"].as_str().unwrap();
    let refunded = run(&format!("refund ORG 2 --reference a --recharge {recharge}")).await;
    assert_eq!((value(&refunded, "requested"), value(&refunded, "paid")), ("2", "2"));
    let again = system.run(&["refund", &org, "2", "--reference", "a", "--recharge", recharge]).await;
    assert_eq!((again.code, &again.out), (Some(0), &refunded.out));
    let reversed =
        run(&format!("recharge reverse ORG {recharge} --amount 6 --reference b --reason stolen")).await;
    assert_eq!((value(&reversed, "withdrawn_voucher.amount"), value(&reversed, "balance.cash")), ("5", "4"));
    let listed = run("recharge list ORG").await;
    assert_eq!(cells(&listed)[1][2..6], ["12", "2", "6", "4"], "{}", listed.out);
    assert_eq!(value(&run("adjust ORG -1.5 --reference c --reason twice").await, "amount"), "-1.5");
    run("voucher grant ORG 3 --reference d --expires-at 2099-01-01T00:00:00Z --reason sorry").await;
    let listed = run("voucher list ORG").await;
    assert_eq!(cells(&listed)[1][1..5], ["3", "3", "2099-01-01T00:00:00Z", "false"], "{}", listed.out);
    assert_eq!(value(&run("credit-limit ORG 100").await, "credit_limit"), "100");
    assert_eq!(value(&run("credit-limit ORG none").await, "credit_limit"), "–");
    let own = run("price set m --org ORG --input 1 --cached-input 1 --output 1 --meter image=2").await;
    assert_eq!(cells(&own).len(), 2, "{}", own.out);
    assert_eq!(cells(&run("price list").await).len(), 1, "not everybody's");
    assert!(run("price list --org ORG --json").await.out.contains("\"image\":\"2\""));
    let tiers = run("tier show").await;
    assert_eq!(cells(&tiers)[2], ["Tier1", "10", "50", "200", "2000000", "unlimited"]);
    let mut table = run("tier show --json").await.json();
    table.as_object_mut().unwrap().retain(|name, _| name == "tiers");
    table["tiers"][0]["rpm"] = json!(5);
    let file = system.scratch().join("tiers.json");
    fs::write(&file, table.to_string()).unwrap();
    let set = run(&format!("tier set --file {}", file.display())).await;
    assert_eq!(cells(&set)[1][3], "5");
    let set = "rate-scale set 0.5 --until 2099-01-01T00:00:00Z --reason crowded --tier Tier0 --tier Tier1";
    let set = run(set).await;
    assert_eq!((value(&set, "factor"), value(&set, "until")), ("0.5", "2099-01-01T00:00:00Z"));
    assert_eq!(value(&run("rate-scale show").await, "tiers"), value(&set, "tiers"));
    let limits = run("org limits ORG").await;
    let note = "rate limits are scaled by 0.5 until 2099-01-01T00:00:00Z: crowded";
    assert!(limits.out.contains(note), "{}", limits.out);
    assert_eq!(value(&run("rate-scale end").await, "factor"), "–");
    assert_eq!(value(&run("rate-scale show").await, "reason"), "–");
    assert!(!run("org limits ORG").await.out.contains("scaled"));
    let set = run("voucher-policy set --threshold 5 --amount 6 --expires-after-days 30").await;
    assert_eq!((value(&set, "amount"), value(&set, "expires_after_days")), ("6", "30"));
    let set = run("defaults set --balance-alert-threshold none --max-output-tokens 100").await;
    assert_eq!(value(&set, "balance_alert_threshold"), "–");
    let trial = run("trial-balance").await;
    let rows = cells(&trial);
    assert_eq!(
        (rows[1][..].to_vec(), rows[12][..].to_vec()),
        (vec!["assets:received", "12"], vec!["sum", "0"])
    );
}

#[tokio::test]
async fn what_the_server_refuses_ends_with_1_and_what_clap_refuses_with_2() {
    let system = System::start().await;
    let org = system.api.organization("Acme").await;
    let refused = system.run(&["recharge", &org, "five", "--reference", "a"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    assert!(refused.err.contains("amount") && refused.err.contains("invalid_fields, 400"), "{}", refused.err);
    let unknown = system.run(&["balance", "org_unknown", "--json"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("organization_not_found, 404"), "{}", unknown.err);
    for wrong in [
        &["balance"][..],
        &["recharge", &org],
        &["nonsense"],
        &["org", "create", "Acme"],
        &["serve", "--partitions", "0"],
        &["import", "--format", "xml", "file"],
    ] {
        let ran = system.run(wrong).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{wrong:?}: {}", ran.err);
    }
    assert_eq!(system.run(&["--help"]).await.code, Some(0));

    let mut nobody = System::command();
    nobody.args(["balance", &org, "--server", "http://127.0.0.1:9", "--token", "t"]);
    let nobody = System::output(nobody).await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("no answer from http://127.0.0.1:9"), "{}", nobody.err);
    let mut tokenless = System::command();
    tokenless.args(["balance", &org, "--server", &system.api.url(), "--server-data", "/nowhere"]);
    let tokenless = System::output(tokenless).await;
    assert_eq!(tokenless.code, Some(1));
    assert!(tokenless.err.contains("--token") && tokenless.err.contains("/nowhere"), "{}", tokenless.err);
    let mut wrong = System::command();
    wrong.args(["balance", &org, "--server", &system.api.url(), "--token", "tb-wrong"]);
    let wrong = System::output(wrong).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("unauthorized, 401"), "{}", wrong.err);
    assert!(!wrong.err.contains("tb-wrong"));
}

#[tokio::test]
async fn on_the_server_s_machine_the_token_is_found() {
    let system = System::start().await;
    let mut command = System::command();
    command
        .args(["org", "list", "--json", "--server", &system.api.url(), "--server-data"])
        .arg(system.data());
    let listed = System::output(command).await.json();
    assert_eq!(listed["items"], Value::Array(Vec::new()));
}

/// A table's rows as cells; continued lines stand alone, their empty cells first.
fn cells(ran: &Ran) -> Vec<Vec<&str>> {
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let rows = ran.out.lines().filter(|line| !line.starts_with('─'));
    rows.map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

/// The value beside a name in the table of one thing.
#[track_caller]
fn value<'a>(ran: &'a Ran, name: &str) -> &'a str {
    let row = cells(ran).into_iter().find(|row| row[0] == name);
    row.unwrap_or_else(|| panic!("no {name} in {}", ran.out))[1]
}

#[tokio::test]
async fn a_repeated_command_with_the_same_key_says_so() {
    let system = System::start().await;
    let org = system.api.organization("Acme").await;
    let create = ["project", "create", &org, "chat", "--idempotency-key", "k"];
    let (first, second) = (system.run(&create).await, system.run(&create).await);
    assert_eq!((first.code, second.code, &first.out), (Some(0), Some(0), &second.out));
    assert!(first.err.is_empty() && second.err.contains("done before"), "{}", second.err);
    let other = system.run(&["project", "create", &org, "mail", "--idempotency-key", "k"]).await;
    assert!(other.code == Some(1) && other.err.contains("idempotency_conflict, 409"), "{}", other.err);
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_fault() {
    let system = System::start().await;
    let mut command = System::command();
    command
        .args(["org", "list"])
        .env("TOLLBOOK_SERVER", system.api.url())
        .env("TOLLBOOK_TOKEN", system.api.token());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// What the families say of themselves, word for word: `golden/help.txt`, written with `TOLLBOOK_GOLDEN=write`.
#[test]
fn the_families_explain_themselves() {
    let mut command = tollbook_engine::cli::Cli::command().term_width(100);
    command.build();
    let mut found = String::new();
    let families = [
        "org",
        "allowlist",
        "member",
        "project",
        "budget",
        "key",
        "recharge",
        "voucher",
        "price",
        "tier",
        "rate-scale",
        "admission",
        "voucher-policy",
        "defaults",
        "quantity-limits",
    ];
    for family in families {
        let family = command.find_subcommand(family).unwrap();
        for one in family.get_subcommands().filter(|one| one.get_name() != "help") {
            // What all have is the same everywhere.
            let own = one.clone().term_width(100).mut_args(|arg| {
                let shared = arg.is_global_set() || arg.get_id() == "help";
                arg.hide(shared)
            });
            found += &format!("{}\n\n", own.clone().render_help().to_string().trim_end());
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/end_to_end/golden/help.txt");
    if std::env::var_os("TOLLBOOK_GOLDEN").is_some_and(|mode| mode == "write") {
        fs::write(path, &found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    assert!(found == expected, "expected {expected}but found {found}");
}
