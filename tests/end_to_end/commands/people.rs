//! Organizations, members, projects, keys, the allowlist and limits from the shell (R1, R2, R3).

use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::json;
use tollbook_tests::system::{DEADLINE, Ran, System};

use super::{cells, value};

/// Acme, verified as an enterprise: its id and its creator's.
async fn enterprise(system: &System) -> (String, String) {
    let create = ["org", "create", "Acme", "--email", "a@acme.example", "--creator-name", "Ada", "--json"];
    let acme = system.run(&create).await.json();
    let org = acme["id"].as_str().unwrap().to_owned();
    assert_eq!(value(&system.run(&["org", "verify", &org, "enterprise_verified"]).await, "id"), org);
    (org, acme["creator"]["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
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

    run(&["recharge", &org, "1", "--reference", "a", "--json"]).await.json();
    let clamped = run(&["project", "tpm", &org, chat, "500001"]).await;
    assert_eq!((value(&clamped, "limit"), value(&clamped, "effective")), ("500001", "500000"));
    assert!(clamped.out.contains("the organization's limit is lower: 500000 applies"), "{}", clamped.out);
    let zoned = run(&["org", "update", &org, "--time-zone", "Europe/Berlin"]).await;
    assert!(
        value(&zoned, "time_zone") == "UTC" && zoned.out.contains("time zone Europe/Berlin from 2"),
        "{}",
        zoned.out
    );

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
    let mail = run(&["project", "create", &org, "mail", "--actor", bob]).await;
    assert!(mail.code == Some(1) && mail.err.contains("role_missing, 403"), "{}", mail.err);
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
    assert_eq!(value(&run(&["key", "revoke", &org, chat, key_id]).await, "id"), key_id);
    assert!(run(&["key", "list", &org, chat]).await.out.contains("revoked"));
    let key = run(&["key", "create", &org, chat, "second", "--actor", bob, "--json"]).await.json();

    let removed = run(&["project", "remove-member", &org, chat, bob]).await;
    assert_eq!(value(&removed, "revoked_api_keys"), key["id"]);
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
