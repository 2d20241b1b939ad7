//! R9, and secrets: what must not be readable, and where.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, System};

/// Names and addresses that an organization's people have.
const PERSONAL: [&str; 4] = [
    "Cleopatra-the-creator",
    "cleo@personal.example",
    "billing@personal.example",
    "invited@personal.example",
];

async fn organization(api: &Api) -> String {
    let creator = json!({ "name": PERSONAL[0], "email": PERSONAL[1] });
    let body = json!({ "name": "Acme", "email": PERSONAL[2], "creator": creator });
    let org = api.post("/v1/organizations", &body).await.expect(201)["id"].as_str().unwrap().to_owned();
    let level = json!({ "level": "enterprise_verified" });
    api.post(&format!("/v1/organizations/{org}/verification"), &level).await.expect(200);
    org
}

/// Everything that anybody can ask about an organization's people.
async fn everything(api: &Api, org: &str) -> String {
    let mut all = String::new();
    for path in ["", "/members", "/invitations", "/log"] {
        all += &api.get(&format!("/v1/organizations/{org}{path}")).await.text;
    }
    let listed = api.all("/v1/organizations").await;
    all + &listed.iter().find(|item| item["id"] == org).unwrap().to_string()
}

/// Where any of the words stands in any file below a directory.
fn found(directory: &Path, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(self::found(&path, words));
        } else if let Ok(bytes) = fs::read(&path) {
            let holds = |word: &&String| bytes.windows(word.len()).any(|window| window == word.as_bytes());
            found.extend(words.iter().filter(holds).map(|word| format!("{} in {}", word, path.display())));
        }
    }
    found
}

#[tokio::test]
async fn r9_2_erased_data_is_unreadable_and_nothing_else_changes() {
    erase(System::start().await).await;
    let nats = NatsServer::start().await;
    erase(System::builder().nats(&nats).start().await).await;
}

async fn erase(mut system: System) {
    let api = system.api.clone();
    let (org, other) = (organization(&api).await, organization(&api).await);
    let path = format!("/v1/organizations/{org}");
    let invitation = json!({ "email": PERSONAL[3], "role": "member" });
    api.post(&format!("{path}/invitations"), &invitation).await.expect(201);
    let before = everything(&api, &org).await;
    for word in PERSONAL {
        assert!(before.contains(word), "{word} is shown while it may be: {before}");
    }

    let erased = api.write("DELETE", &format!("{path}/contacts"), &json!({})).await.expect(200);
    assert_eq!((&erased["email"], &erased["creator"]["name"]), (&Value::Null, &Value::Null));
    assert_eq!(erased["name"], "Acme", "an organization's name is nobody's");
    let digest = api.digest(0).await;
    let after = everything(&api, &org).await;
    for word in PERSONAL {
        assert!(!after.contains(word), "{word} in {after}");
    }
    let other = api.get(&format!("/v1/organizations/{other}")).await.text;
    assert!(other.contains(PERSONAL[2]), "the other organization keeps its own: {other}");
    // Once more: nothing is left, nothing is recorded.
    let again = api.write("DELETE", &format!("{path}/contacts"), &json!({})).await.expect(200);
    assert_eq!(again["position"], erased["position"]);
    assert_eq!(api.digest(0).await, digest);

    // The views are what the log says, without the key too; folded from nothing it says the same.
    let embedded = system.data().join("log").exists();
    system.terminate().await;
    if embedded {
        assert_eq!(system.replay(&["verify"]).await.code, Some(0));
    }
    fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert!(api.get(&path).await.expect(200)["email"].is_null());
    let changed = api.write("PATCH", &path, &json!({ "email": "new@personal.example" })).await.expect(200);
    assert_eq!(changed["email"], "new@personal.example");
    assert!(changed["creator"]["name"].is_null(), "{changed}");
    system.terminate().await;
    if embedded {
        let verified = system.replay(&["verify"]).await;
        assert_eq!(verified.code, Some(0), "{verified:?}");
    }
}

#[tokio::test]
async fn r3_6_secrets_and_personal_data_stand_nowhere() {
    let console = || System::builder().arg("--console-url").arg("https://console.example.com");
    stand_nowhere(console().start().await, false, None).await;
    stand_nowhere(console().arg("--log").arg("debug").start().await, true, None).await;
    let store = tempfile::tempdir().unwrap();
    let nats = NatsServer::builder().store(store.path()).start().await;
    let system = console().arg("--log").arg("debug").nats(&nats).start().await;
    stand_nowhere(system, true, Some(store.path())).await;
}

/// What became known to a server stands neither in its log of lines nor in its files, nor where a nats-server keeps
/// them.
async fn stand_nowhere(mut system: System, debug: bool, store: Option<&Path>) {
    let api = system.api.clone();
    let org = organization(&api).await;
    let path = format!("/v1/organizations/{org}");
    let project = api.project(&org).await;
    let key = api.key(&org, &project).await;
    let token = api.service_token(&["console"], None).await;
    let invited =
        api.post(&format!("{path}/invitations"), &json!({ "email": PERSONAL[3], "role": "member" })).await;
    let invited = invited.expect(201)["token"].as_str().unwrap().to_owned();
    let used = api.post(&format!("{path}/invitations"), &json!({ "role": "member" })).await.expect(201);
    let used = used["token"].as_str().unwrap().to_owned();
    let accept = json!({ "token": used, "name": "Xavier-the-new", "email": "xavier@personal.example" });
    api.post("/v1/invitations/accept", &accept).await.expect(201);
    let secrets = [key.secret.clone(), token.clone(), invited.clone(), used.clone()];

    // Refusals do not tell what they were given.
    let mut said = String::new();
    for (request, secret) in [
        (api.anonymous("GET", &path).bearer_auth(format!("{token}x")), format!("{token}x")),
        (api.request("POST", "/v1/invitations/accept").json(&accept), used.clone()),
        (
            api.request("POST", "/v1/invitations/accept").json(&json!({ "token": invited, "nme": "X" })),
            invited.clone(),
        ),
        (api.request("POST", "/v1/invitations/accept").json(&json!({ "tokn": invited })), invited.clone()),
        (api.request("POST", "/v1/invitations/accept").json(&json!({ "token": [invited] })), invited.clone()),
    ] {
        let answer = api.send(request).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert!(!answer.text.contains(&secret), "{answer:?}");
        said += &answer.text;
    }
    said += &everything(&api, &org).await;
    said += &api
        .all(&format!("{path}/projects/{project}/api-keys"))
        .await
        .iter()
        .map(Value::to_string)
        .collect::<String>();
    said += &api.get("/v1/tokens").await.text;
    said += &api.get("/metrics").await.text;
    system.terminate().await;
    let log = system.log();
    assert_eq!(log.contains("\"DEBUG\""), debug, "{log}");
    for secret in &secrets {
        assert!(!said.contains(secret), "{secret} was shown a second time");
        assert!(!log.contains(secret), "{secret} was logged");
    }
    let personal: Vec<String> = PERSONAL
        .iter()
        .chain(&["Xavier-the-new", "xavier@personal.example"])
        .map(|&word| word.to_owned())
        .collect();
    for word in &personal {
        assert!(!log.contains(word), "{word} was logged");
    }
    let everything: Vec<String> = secrets.iter().chain(&personal).cloned().collect();
    let logs = store.map_or_else(|| system.data().join("log"), Path::to_path_buf);
    for directory in [&logs, &system.data().join("views")] {
        assert_eq!(found(directory, &everything), [""; 0]);
    }
    // The search finds what is there: the admin token is in its file, the organization in the log.
    assert_eq!(found(system.data(), &[api.token()]).len(), 1);
    assert!(!found(&logs, &[org]).is_empty());
}
