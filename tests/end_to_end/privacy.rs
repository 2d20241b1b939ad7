//! R9, and secrets: what must not be readable, and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, System};

/// A key is erased within milliseconds, a partition taken over within seconds; a busy machine needs more.
const DEADLINE: Duration = Duration::from_secs(30);

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

/// Asks for an erasure and hangs up, after a while that `after` requests take.
async fn hang_up(api: &Api, org: &str, after: usize) {
    let url = api.url();
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!(
        "DELETE /v1/organizations/{org}/contacts HTTP/1.1\r\nhost: tollbook\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        api.token()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    for _ in 0..after {
        api.get("/healthz").await;
    }
    // A reset, as of a client that is gone.
    stream.set_zero_linger().unwrap();
}

/// Whether State says that an organization's personal data is erased.
async fn is_erased(api: &Api, org: &str) -> bool {
    api.get(&format!("/v1/organizations/{org}")).await.expect(200)["email"].is_null()
}

async fn erase_contacts(api: &Api, org: &str) -> u16 {
    api.write("DELETE", &format!("/v1/organizations/{org}/contacts"), &json!({})).await.status
}

/// The file that holds an organization's first key.
fn key_file(system: &System, org: &str) -> PathBuf {
    system.data().join("log/side").join(org)
}

#[tokio::test]
async fn r9_2_an_erasure_needs_nobody_who_waits_for_it() {
    let system = System::builder().partitions(2).start().await;
    let api = &system.api;
    let mut orgs = Vec::new();
    for _ in 0..60 {
        orgs.push(api.organization("Acme").await);
    }
    let (asked, kept) = orgs.split_at(50);
    for (number, org) in asked.iter().enumerate() {
        hang_up(api, org, number % 6).await;
    }
    let mut erased = 0;
    for org in asked {
        // What is recorded last may be applied while this looks.
        let gone = eventually(DEADLINE, "the keys of what is erased go", || async {
            let erased = is_erased(api, org).await;
            (erased != key_file(&system, org).exists()).then_some(erased)
        });
        erased += u32::from(gone.await);
    }
    println!("{erased} of {} were recorded before the server saw that nobody waits", asked.len());
    assert!(erased > 0);
    for org in kept {
        assert!(key_file(&system, org).exists() && !is_erased(api, org).await);
    }
    // Whoever asks again learns that it is done.
    for org in asked {
        assert_eq!(erase_contacts(api, org).await, 200);
        assert!(!key_file(&system, org).exists());
    }
    assert_eq!(api.metric("tollbook_erasures_pending{partition=\"0\"}").await, Some(0));
}

#[tokio::test]
async fn r9_2_a_key_that_a_crash_left_goes_with_the_next_start() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let (org, other) = (api.organization("Acme").await, api.organization("Beta").await);
    let key = fs::read(key_file(&system, &org)).unwrap();
    assert_eq!(erase_contacts(&api, &org).await, 200);
    assert!(!key_file(&system, &org).exists());
    system.kill();
    // As if it had died between the entry and the key.
    fs::write(key_file(&system, &org), key).unwrap();
    system.restart().await;
    assert!(is_erased(&api, &org).await);
    eventually(DEADLINE, "the key goes", || async { (!key_file(&system, &org).exists()).then_some(()) })
        .await;
    assert!(key_file(&system, &other).exists() && !is_erased(&api, &other).await);
}

#[tokio::test]
async fn r9_2_an_erasure_that_fails_is_tried_until_it_succeeds() {
    let system = System::start().await;
    let api = &system.api;
    let (org, other) = (api.organization("Acme").await, api.organization("Beta").await);
    // A directory where the key is put to be overwritten can neither be overwritten nor removed.
    let file = key_file(&system, &org);
    let blocked = file.with_file_name(format!(".gone-{}", file.file_name().unwrap().to_str().unwrap()));
    fs::create_dir(&blocked).unwrap();
    let path = format!("/v1/organizations/{org}/contacts");
    let answer = api.write("DELETE", &path, &json!({})).await;
    assert_eq!(answer.refused(503), "erasure_pending");
    assert_eq!(api.metric("tollbook_erasures_pending{partition=\"0\"}").await, Some(1));
    assert!(system.log().contains("still there"), "{}", system.log());
    // Others do not wait for it.
    assert_eq!(erase_contacts(api, &other).await, 200);
    assert!(!key_file(&system, &other).exists());

    fs::remove_dir(&blocked).unwrap();
    eventually(DEADLINE, "the key goes", || async { (!file.exists()).then_some(()) }).await;
    assert_eq!(erase_contacts(api, &org).await, 200);
    assert!(is_erased(api, &org).await);
}

#[tokio::test]
async fn r9_2_a_registration_that_is_repeated_brings_no_key_back() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let creator = json!({ "name": "Ada", "email": "ada@example.com" });
    let body = json!({ "name": "Acme", "email": "billing@example.com", "creator": creator });
    let request = || {
        let request = api.request("POST", "/v1/organizations").json(&body);
        api.send(request.header("idempotency-key", "registered-once"))
    };
    let org = request().await.expect(201)["id"].as_str().unwrap().to_owned();
    assert_eq!(erase_contacts(&api, &org).await, 200);
    for _ in 0..2 {
        let again = request().await.expect(201);
        assert_eq!((&again["id"], &again["email"]), (&json!(org), &Value::Null));
        eventually(DEADLINE, "there is no key", || async {
            (!key_file(&system, &org).exists()).then_some(())
        })
        .await;
        system.restart().await;
    }
}

async fn side_bucket(nats: &NatsServer) -> Store {
    let client = async_nats::connect(nats.url()).await.unwrap();
    async_nats::jetstream::new(client).get_key_value("TOLLBOOK_SIDE").await.unwrap()
}

/// Whether the bucket holds an organization's first key.
async fn is_held(side: &Store, org: &str) -> bool {
    side.entry(org).await.unwrap().is_some_and(|entry| entry.operation == Operation::Put)
}

#[tokio::test]
async fn r9_2_whoever_takes_over_erases_every_time() {
    let nats = NatsServer::start().await;
    let first = System::builder().nats(&nats).start().await;
    let mut orgs = Vec::new();
    for _ in 0..20 {
        orgs.push(first.api.organization("Acme").await);
    }
    let (asked, kept) = orgs.split_at(15);
    let mut second = System::builder().nats(&nats).start_standby().await;
    first.signal("-STOP");
    second.ready().await;
    first.signal("-CONT");
    for (number, org) in asked.iter().enumerate() {
        hang_up(&second.api, org, number % 4).await;
    }
    assert_eq!(erase_contacts(&second.api, &asked[0]).await, 200);
    let side = side_bucket(&nats).await;
    assert!(!is_held(&side, &asked[0]).await);
    // Somebody who stood still for long makes the key again.
    side.put(asked[0].as_str(), vec![7; 32].into()).await.unwrap();
    second.kill();
    first.ready().await;
    let (api, side) = (&first.api, &side);
    let mut erased = 0;
    for org in asked {
        let gone = eventually(DEADLINE, "the keys of what is erased go", || async {
            let erased = is_erased(api, org).await;
            (erased != is_held(side, org).await).then_some(erased)
        });
        erased += u32::from(gone.await);
    }
    println!("{erased} of {} were recorded", asked.len());
    for org in kept {
        assert!(is_held(side, org).await && !is_erased(api, org).await);
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
