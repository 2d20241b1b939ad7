//! The command line against a server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Stdio;

use clap::CommandFactory;
use serde_json::{Value, json};
use tollbook_tests::system::{DEADLINE, Ran, System};

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

/// Acme, verified as an enterprise: its id and its creator's.
async fn enterprise(system: &System) -> (String, String) {
    let create = ["org", "create", "Acme", "--email", "a@acme.example", "--creator-name", "Ada", "--json"];
    let acme = system.run(&create).await.json();
    let org = acme["id"].as_str().unwrap().to_owned();
    assert_eq!(value(&system.run(&["org", "verify", &org, "enterprise_verified"]).await, "id"), org);
    (org, acme["creator"]["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
#[ignore = "until the server has the endpoints"]
async fn an_organization_s_life_from_the_shell() {
    let system = System::start().await;
    let run = async |args: &[&str]| system.run(args).await;
    let (org, ada) = enterprise(&system).await;
    let updated = run(&["org", "update", &org, "--name", "Acme Inc", "--email", "b@acme.example"]).await;
    assert_eq!((value(&updated, "name"), value(&updated, "email")), ("Acme Inc", "b@acme.example"));
    assert_eq!(value(&updated, "verification"), "enterprise_verified");

    let limits = run(&["org", "limits", &org]).await;
    assert!(cells(&limits).contains(&vec!["projects", "50", "0", "–"]), "{}", limits.out);
    run(&["org", "override", &org, "--projects", "2", "--rpm", "7", "--json"]).await.json();
    let limits = run(&["org", "limits", &org]).await;
    assert!(cells(&limits).contains(&vec!["projects", "2", "0", "2"]), "{}", limits.out);
    let overrides = run(&["org", "limits", &org, "--json"]).await.json()["overrides"].clone();
    assert_eq!((&overrides["projects"], &overrides["rpm"]), (&json!(2), &json!(7)));
    run(&["org", "override", &org, "--projects", "none", "--rpm", "none", "--json"]).await.json();
    let limits = run(&["org", "limits", &org]).await;
    assert!(cells(&limits).contains(&vec!["projects", "50", "0", "–"]), "{}", limits.out);

    let chat = run(&["project", "create", &org, "chat", "--actor", &ada, "--json"]).await.json();
    let chat = chat["id"].as_str().unwrap();
    assert_eq!(value(&run(&["project", "rename", &org, chat, "talk"]).await, "name"), "talk");
    let tpm = run(&["project", "tpm", &org, chat, "9"]).await;
    assert_eq!(value(&tpm, "limit"), "9");
    assert_eq!(value(&run(&["project", "show", &org, chat]).await, "tpm_limit"), "9");
    assert_eq!(value(&run(&["project", "tpm", &org, chat, "none"]).await, "limit"), "–");

    let invited = run(&["member", "invite", &org, "--email", "bob@acme.example", "--project", chat]).await;
    assert!(invited.out.contains("shown this once"), "{}", invited.out);
    assert_eq!(value(&invited, "projects"), format!("{chat}=member"));
    let token = value(&invited, "token").to_owned();
    let invitations = run(&["member", "invitations", &org]).await;
    assert!(invitations.out.contains("open") && !invitations.out.contains(&token), "{}", invitations.out);
    let mut accept = System::command();
    accept
        .args(["member", "accept", "-", "--name", "Bob", "--email", "bob@acme.example", "--json"])
        .env("TOLLBOOK_SERVER", system.api.url())
        .env("TOLLBOOK_TOKEN", system.api.token());
    let accepted = with_input(accept, &format!("{token}\n")).await.json();
    let bob = accepted["member"]["id"].as_str().unwrap();
    let again = run(&["member", "accept", &token, "--name", "Eve", "--email", "e@e.example"]).await;
    assert_eq!(again.code, Some(1));
    assert!(!again.err.contains(&token), "{}", again.err);

    let other = run(&["member", "invite", &org, "--json"]).await.json();
    let other = other["id"].as_str().unwrap();
    assert_eq!(run(&["member", "revoke-invitation", &org, other]).await.code, Some(0));
    let states = run(&["member", "invitations", &org, "--json"]).await.json();
    let mut states: Vec<&str> =
        states["items"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["accepted", "revoked"]);

    let members = run(&["member", "list", &org]).await;
    let row = cells(&members).into_iter().find(|row| row[0] == bob).unwrap();
    assert_eq!(
        (row[1..4].to_vec(), row[5]),
        (vec!["Bob", "bob@acme.example", "member"], &*format!("{chat}=member"))
    );
    assert_eq!(run(&["member", "role", &org, bob, "administrator"]).await.code, Some(0));
    assert_eq!(
        value(&run(&["project", "set-role", &org, chat, bob, "administrator"]).await, "role"),
        "administrator"
    );
    assert!(run(&["project", "members", &org, chat]).await.out.contains(bob));

    let key = run(&["key", "create", &org, chat, "production", "--actor", bob]).await;
    assert!(key.out.contains("shown this once"), "{}", key.out);
    assert_eq!(value(&key, "member"), bob);
    let key_id = value(&key, "id");
    assert_eq!(run(&["key", "revoke", &org, chat, key_id]).await.code, Some(0));
    assert!(run(&["key", "list", &org, chat]).await.out.contains("revoked"));

    assert_eq!(run(&["project", "remove-member", &org, chat, bob]).await.code, Some(0));
    assert_eq!(run(&["project", "add-member", &org, chat, bob]).await.code, Some(0));
    assert_eq!(run(&["member", "remove", &org, bob]).await.code, Some(0));
    assert!(!run(&["member", "list", &org]).await.out.contains(bob));
    assert_eq!(run(&["project", "archive", &org, chat]).await.code, Some(0));
    assert_eq!(value(&run(&["project", "show", &org, chat]).await, "state"), "archived");

    let log = run(&["org", "log", &org, "--json"]).await.json();
    let entries = log["items"].as_array().unwrap();
    let by_bob = entries.iter().find(|entry| entry["actor"]["member"] == bob).unwrap();
    let shown = run(&["org", "log", &org]).await;
    let row = cells(&shown).into_iter().find(|row| row[0] == by_bob["position"].as_str().unwrap()).unwrap();
    assert!(row[2].contains(bob), "{}", shown.out);
    assert!(shown.out.contains("bob@acme.example") && !shown.out.contains(&token), "{}", shown.out);

    let refused = run(&["org", "erase-contacts", &org]).await;
    assert!(refused.code == Some(1) && refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(run(&["org", "erase-contacts", &org, "--yes"]).await.code, Some(0));
    assert_eq!(value(&run(&["org", "show", &org]).await, "email"), "–");
    assert!(!run(&["org", "log", &org]).await.out.contains("acme.example"));
}

#[tokio::test]
#[ignore = "until the server has the endpoints"]
async fn an_allowlist_from_the_shell() {
    let system = System::start().await;
    let (org, _) = enterprise(&system).await;
    let run = async |args: &[&str]| system.run(args).await;
    let nothing = run(&["allowlist", "show", &org]).await;
    assert!(nothing.out.contains("no restriction"), "{}", nothing.out);
    let set = run(&["allowlist", "set", &org, "8.8.8.8,198.51.100.0/24", "8.8.8.8"]).await;
    assert_eq!(cells(&set), [["entry"], ["8.8.8.8"], ["198.51.100.0/24"]]);
    let file = system.scratch().join("list");
    fs::write(&file, "1.1.1.1\n10.0.0.1, 52.94.76.5/22\n::1").unwrap();
    let file = file.to_str().unwrap();
    let refused = run(&["allowlist", "set", &org, "--file", file]).await;
    assert_eq!((refused.code, refused.out.as_str()), (Some(1), ""));
    for (mark, reason) in [
        ("✗ item 2  10.0.0.1       ", "private"),
        ("✗ item 3  52.94.76.5/22  ", "52.94.76.0/22"),
        ("✗ item 4  ::1            ", "IPv6"),
    ] {
        let line = refused.err.lines().find(|line| line.contains(mark));
        assert!(line.is_some_and(|line| line.contains(reason)), "{}", refused.err);
    }
    assert!(refused.err.contains("nothing was saved"), "{}", refused.err);
    let kept = run(&["allowlist", "show", &org, "--json"]).await.json();
    assert_eq!(kept["entries"], json!(["8.8.8.8", "198.51.100.0/24"]));
    assert!(run(&["allowlist", "clear", &org]).await.out.contains("no restriction"));
}

#[tokio::test]
#[ignore = "until the server has the endpoints"]
async fn quantity_limits_from_the_shell() {
    let system = System::start().await;
    let set =
        ["--projects", "1", "--api-keys", "2", "--enterprise-projects", "3", "--enterprise-api-keys", "4"];
    let set = system.run(&[&["quantity-limits", "set"], &set[..]].concat()).await;
    let expected =
        [["type", "projects", "api_keys"], ["default", "1", "2"], ["enterprise_verified", "3", "4"]];
    assert_eq!(cells(&set), expected);
    assert_eq!(cells(&system.run(&["quantity-limits", "show"]).await), expected);
    let shown = system.run(&["quantity-limits", "show", "--json"]).await.json();
    assert_eq!(shown["default"], json!({ "projects": 1, "api_keys": 2 }));
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

/// Runs a command with this on its standard input.
async fn with_input(mut command: std::process::Command, input: &str) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output());
    let output = tokio::time::timeout(DEADLINE, output).await.unwrap().unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs a reading command against something that answers with this. What it was asked, and what it did.
async fn against(args: &[&str], status: &str, body: &str) -> (String, Ran) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let asked = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut part = [0; 4096];
        while !asked.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "the request broke off");
            asked.extend_from_slice(&part[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap().to_lowercase()
    });
    let mut command = System::command();
    command.args(args).args(["--token", "t", "--server", &url]);
    let ran = System::output(command).await;
    (asked.await.unwrap(), ran)
}

#[tokio::test]
async fn what_is_asked_and_answered_goes_unchanged() {
    let json = "{\"z\":1.50,\n \"a\":\"\\u00e9\"}";
    let show = ["org", "show", "org_1", "--actor", "mem_1", "--idempotency-key", "k", "--json"];
    let (asked, ran) = against(&show, "200 OK", json).await;
    assert!(asked.starts_with("get /v1/organizations/org_1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("tollbook-actor: mem_1\r\n") && asked.contains("authorization: bearer t\r\n"));
    assert!(!asked.contains("idempotency-key"), "a read is no write: {asked}");
    assert_eq!((ran.code, ran.out.trim_end()), (Some(0), json));
}

#[tokio::test]
async fn somebody_else_s_answer_is_no_answer() {
    let page = "<html>hello</html>";
    let (_, ran) = against(&["org", "list"], "200 OK", page).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("is it a tollbook server"), "{}", ran.err);
    let (_, ran) = against(&["org", "list"], "502 Bad Gateway", page).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the server answered 502 Bad Gateway"), "{}", ran.err);
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
    for family in ["org", "allowlist", "member", "project", "key", "quantity-limits"] {
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
