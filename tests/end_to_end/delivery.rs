//! Alerts delivered: real mail by a real server, webhooks verified by the published library (R7.3).

use std::time::Duration;

use serde_json::{Value, json};
use tollbook_engine::delivery::settings::{SmtpSettings, SmtpTls, WebhookSettings};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::receivers::Receivers;
use tollbook_tests::system::{Api, DEADLINE, System, SystemBuilder, Timed};

const START: &str = "2026-11-20T10:00:00Z";

/// Webhooks that may go to this machine, without TLS.
fn open() -> WebhookSettings {
    WebhookSettings {
        allow_http: true,
        allow_private: vec!["127.0.0.0/8".parse().unwrap()],
        timeout: Duration::from_secs(1),
        ..WebhookSettings::default()
    }
}

fn smtp(port: u16) -> SmtpSettings {
    SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port,
        tls: SmtpTls::None,
        tls_ca: None,
        credentials: None,
        from: "Tollbook <alerts@example.com>".parse().unwrap(),
        reply_to: None,
        timeout: Duration::from_secs(5),
        operator: None,
        hello: "engine.example.com".to_owned(),
    }
}

async fn timed(webhooks: WebhookSettings, smtp: Option<SmtpSettings>) -> Timed {
    let mut timed = Timed::start(START).await;
    timed.stop().await;
    timed.delivery.webhooks = webhooks;
    timed.delivery.smtp = smtp;
    timed.go_on().await;
    timed
}

/// An organization that is mailed at this address.
async fn organization(api: &Api, email: &str) -> String {
    let body = json!({ "name": "Acme", "email": email, "creator": { "name": "Ada", "email": email } });
    let made = api.post("/v1/organizations", &body).await.expect(201);
    format!("/v1/organizations/{}", made["id"].as_str().unwrap())
}

async fn webhook(api: &Api, org: &str, url: &str) -> Value {
    api.post(&format!("{org}/webhooks"), &json!({ "url": url })).await.expect(201)
}

/// Has one alert raised; its id.
async fn alert(api: &Api, org: &str, reference: &str) -> String {
    let voucher = json!({ "amount": "5", "reference": reference });
    let granted = api.post(&format!("{org}/vouchers"), &voucher).await.expect(201);
    let alerts = api.all(&format!("{org}/alerts")).await;
    let of = alerts.iter().find(|alert| alert["position"] == granted["position"]).unwrap();
    of["id"].as_str().unwrap().to_owned()
}

async fn deliveries(api: &Api, org: &str, alert: &str) -> Vec<Value> {
    let shown = api.get(&format!("{org}/alerts/{alert}/deliveries")).await.expect(200);
    shown["items"].as_array().unwrap().clone()
}

/// The delivery of an alert by one way, once it stands so after so many attempts.
async fn stands(api: &Api, org: &str, alert: &str, channel: &str, status: &str, attempts: usize) -> Value {
    let what = format!("{channel} is {status} after {attempts} attempts");
    eventually(DEADLINE, &what, || async {
        let all = deliveries(api, org, alert).await;
        let found = all.into_iter().find(|delivery| delivery["channel"] == channel)?;
        let made = found["attempts"].as_array().unwrap();
        let ended = made.iter().all(|attempt| attempt["outcome"] != "unknown");
        (found["status"] == status && made.len() == attempts && ended).then_some(found)
    })
    .await
}

fn serve(receivers: &Receivers, directory: &std::path::Path) -> SystemBuilder {
    let file = directory.join("tollbook.toml");
    let text = format!(
        "[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]\n[smtp]\nhost = \"localhost\"\nport = {}\n\
         tls = \"required\"\ntls_ca = \"{}\"\nuser = \"tollbook\"\npassword = \"secret\"\nfrom = \"alerts@example.com\"\n",
        receivers.smtp_tls,
        receivers.certificate().display(),
    );
    std::fs::write(&file, text).unwrap();
    System::builder().arg("--config").arg(file.to_string_lossy())
}

async fn signed_and_mailed(api: &Api, receivers: &Receivers) {
    let org = organization(api, "ada@example.com").await;
    let hook = webhook(api, &org, &receivers.url("/ok/a")).await;
    let (id, secret) = (hook["id"].as_str().unwrap(), hook["secret"].as_str().unwrap());
    assert!(secret.starts_with("whsec_"), "{hook}");
    let first = alert(api, &org, "first").await;
    let calls = receivers.calls("/ok/a", 1).await;
    assert!(receivers.verified(&calls[0], secret).await, "{calls:#?}");
    assert!(!receivers.verified(&calls[0], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await);
    assert_eq!(calls[0]["headers"]["webhook-id"], first.as_str());
    let body: Value = serde_json::from_str(calls[0]["body"].as_str().unwrap()).unwrap();
    let listed = &api.all(&format!("{org}/alerts")).await[0];
    assert_eq!((&body["type"], &body["id"]), (&json!("voucher_granted"), &listed["id"]));
    assert_eq!((&body["timestamp"], &body["data"]), (&listed["raised_at"], &listed["data"]));

    // By STARTTLS, with user and password.
    let mails = receivers.mails("ada@example.com", 1).await;
    let mail = mails[0]["data"].as_str().unwrap();
    assert_eq!((&mails[0]["tls"], &mails[0]["user"]), (&json!(true), &json!("tollbook")));
    for part in [
        format!("X-Tollbook-Alert: {first}"),
        format!("Message-ID: <{first}@example.com>"),
        "Auto-Submitted: auto-generated".to_owned(),
        "Subject: A voucher of $5.00 was granted: Acme".to_owned(),
        "text/plain".to_owned(),
        "text/html".to_owned(),
    ] {
        assert!(mail.contains(&part), "{part}\n{mail}");
    }

    // While a secret is replaced, both sign.
    let rotated = api.post(&format!("{org}/webhooks/{id}/rotate-secret"), &json!({})).await.expect(200);
    let new = rotated["secret"].as_str().unwrap();
    assert!(new != secret && rotated["old_until"].is_string(), "{rotated}");
    alert(api, &org, "second").await;
    let calls = receivers.calls("/ok/a", 2).await;
    for secret in [secret, new] {
        assert!(receivers.verified(&calls[1], secret).await, "{calls:#?}");
    }
    let shown = api.get(&format!("{org}/webhooks/{id}")).await.expect(200);
    assert!(shown.get("secret").is_none() && shown["state"] == "enabled", "{shown}");

    // Once more, by hand: the same id, and it says so.
    stands(api, &org, &first, id, "delivered", 1).await;
    let again = json!({ "channel": id });
    api.post(&format!("{org}/alerts/{first}/deliveries"), &again).await.expect(200);
    let calls = receivers.calls("/ok/a", 3).await;
    assert_eq!(calls[2]["headers"]["webhook-id"], first.as_str());
    let delivery = stands(api, &org, &first, id, "delivered", 2).await;
    assert_eq!(
        (&delivery["attempts"][0]["by_hand"], &delivery["attempts"][1]["by_hand"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(delivery["attempts"][1]["status"], 204);
    assert_eq!(api.all(&format!("{org}/webhooks/{id}/deliveries")).await.len(), 2);
    let unknown = json!({ "channel": "wh_none" });
    let refused = api.post(&format!("{org}/alerts/{first}/deliveries"), &unknown).await;
    assert_eq!(refused.refused(404), "webhook_not_found");
    let other = organization(api, "other@example.com").await;
    assert_eq!(api.get(&format!("{other}/alerts/{first}/deliveries")).await.refused(404), "not_found");
}

#[tokio::test]
async fn r7_3_webhooks_verify_with_the_published_library_and_mail_arrives_over_tls() {
    let receivers = Receivers::start().await;
    let directory = tempfile::tempdir().unwrap();
    let system = serve(&receivers, directory.path()).start().await;
    signed_and_mailed(&system.api, &receivers).await;
}

#[tokio::test]
async fn r7_3_the_same_with_the_log_on_nats_where_a_standby_sends_nothing() {
    let receivers = Receivers::start().await;
    let directory = tempfile::tempdir().unwrap();
    let nats = NatsServer::start().await;
    let other = tempfile::tempdir().unwrap();
    let system = serve(&receivers, directory.path()).nats(&nats).start().await;
    let standby = serve(&receivers, other.path()).nats(&nats).start_standby().await;
    signed_and_mailed(&system.api, &receivers).await;
    drop(system);
    // It takes over, and knows what was sent.
    standby.ready().await;
    let org = organization(&standby.api, "late@example.com").await;
    alert(&standby.api, &org, "late").await;
    receivers.mails("late@example.com", 1).await;
    receivers.calls("/ok/a", 3).await;
}

#[tokio::test]
async fn r7_3_a_secret_is_shown_once_and_never_to_a_repetition() {
    let system = System::start().await;
    let api = &system.api;
    let org = organization(api, "ada@example.com").await;
    let path = format!("{org}/webhooks");
    let body = json!({ "url": "https://hooks.example.com/x" });
    let send = async || {
        api.send(api.request("POST", &path).header("idempotency-key", "k").json(&body)).await.expect(201)
    };
    let (first, second) = (send().await, send().await);
    assert_eq!(first["id"], second["id"]);
    assert!(first["secret"].is_string() && second.get("secret").is_none(), "{second}");
    for url in ["http://hooks.example.com", "https://127.0.0.1/x", "https://[::ffff:10.0.0.1]/", "nonsense"] {
        let refused = api.post(&path, &json!({ "url": url })).await;
        assert_eq!(refused.refused(400), "invalid_fields", "{url}");
    }
}

#[tokio::test]
async fn r7_3_what_fails_is_attempted_again_by_the_schedule() {
    let receivers = Receivers::start().await;
    let mut timed = timed(open(), None).await;
    let api = timed.api.clone();
    let org = organization(&api, "ada@example.com").await;
    let hooks = ["/later", "/redirect", "/busy", "/gone", "/hang"];
    let mut ids = Vec::new();
    for path in hooks {
        ids.push(webhook(&api, &org, &receivers.url(path)).await["id"].as_str().unwrap().to_owned());
    }
    let first = alert(&api, &org, "first").await;
    let at = |id: usize, status: &'static str, attempts: usize| {
        let (api, org, first, id) = (api.clone(), org.clone(), first.clone(), ids[id].clone());
        async move { stands(&api, &org, &first, &id, status, attempts).await }
    };
    let later = at(0, "pending", 1).await;
    assert_eq!(
        (&later["attempts"][0]["status"], &later["attempts"][0]["outcome"]),
        (&json!(500), &json!("failed"))
    );
    assert!(!later["attempts"][0]["error"].as_str().unwrap().contains("/later"), "{later}");
    let redirect = at(1, "pending", 1).await;
    assert_eq!(redirect["attempts"][0]["status"], 307);
    let busy = at(2, "pending", 1).await;
    assert_eq!(busy["next_attempt_at"], "2026-11-20T10:01:00Z", "as Retry-After says");
    assert_eq!(at(3, "failed", 1).await["attempts"][0]["status"], 410);
    let hang = at(4, "pending", 1).await;
    assert!(hang["attempts"][0]["error"].as_str().unwrap().contains("in time"), "{hang}");
    let gone = eventually(DEADLINE, "a webhook that is gone is switched off", || async {
        let gone = api.get(&format!("{org}/webhooks/{}", ids[3])).await.expect(200);
        (gone["state"] == "disabled").then_some(gone)
    })
    .await;
    assert!(gone["disabled_reason"].as_str().unwrap().contains("410"), "{gone}");
    let kinds = api.all(&format!("{org}/alerts")).await;
    assert_eq!(kinds.last().unwrap()["kind"], "webhook_disabled");
    let email = stands(&api, &org, &first, "email", "not_configured", 0).await;
    assert!(email["next_attempt_at"].is_null());

    // With jitter the next attempt is within half a second after five.
    timed.until("2026-11-20T10:00:05.600Z");
    at(0, "pending", 2).await;
    at(2, "pending", 1).await;
    // What waits outlives the process.
    timed.stop().await;
    timed.go_on().await;
    let api = timed.api.clone();
    timed.until("2026-11-20T10:06:00Z");
    let later = stands(&api, &org, &first, &ids[0], "delivered", 3).await;
    let outcomes: Vec<&Value> =
        later["attempts"].as_array().unwrap().iter().map(|made| &made["outcome"]).collect();
    assert_eq!(outcomes, ["failed", "failed", "delivered"]);
    stands(&api, &org, &first, &ids[2], "delivered", 2).await;
    // To each receiver always with the same id.
    let calls = receivers.any_calls("/later").await;
    let same = calls.iter().filter(|call| call["headers"]["webhook-id"] == first.as_str());
    assert_eq!(same.count(), 3, "{calls:#?}");
}

#[tokio::test]
async fn r7_3_a_webhook_that_fails_for_days_is_switched_off() {
    let receivers = Receivers::start().await;
    let timed = timed(open(), None).await;
    let api = &timed.api;
    let org = organization(api, "ada@example.com").await;
    let id = webhook(api, &org, &receivers.url("/fail")).await["id"].as_str().unwrap().to_owned();
    let first = alert(api, &org, "first").await;
    for attempts in 1..10 {
        stands(api, &org, &first, &id, "pending", attempts).await;
        timed.clock.advance_to(timed.now().plus_seconds(27 * 3_600));
    }
    let failed = stands(api, &org, &first, &id, "failed", 10).await;
    assert!(failed["next_attempt_at"].is_null());
    let off = api.get(&format!("{org}/webhooks/{id}")).await.expect(200);
    assert_eq!(
        (&off["state"], &off["disabled_reason"]),
        (&json!("disabled"), &json!("it failed for too long"))
    );
    // What comes now is not sent to it.
    let second = alert(api, &org, "second").await;
    stands(api, &org, &second, "email", "not_configured", 0).await;
    assert_eq!(deliveries(api, &org, &second).await.len(), 1);
}

#[tokio::test]
async fn r7_3_names_that_lead_inside_are_refused_when_something_is_sent() {
    let receivers = Receivers::start().await;
    let timed = timed(WebhookSettings { allow_http: true, ..WebhookSettings::default() }, None).await;
    let api = &timed.api;
    let org = organization(api, "ada@example.com").await;
    let id = webhook(api, &org, &format!("http://localhost:{}/ok", receivers.http)).await;
    let first = alert(api, &org, "first").await;
    let delivery = stands(api, &org, &first, id["id"].as_str().unwrap(), "pending", 1).await;
    let error = delivery["attempts"][0]["error"].as_str().unwrap();
    assert!(error.contains("not public") && !error.contains("localhost"), "{error}");
    receivers.calls("/ok", 0).await;
}

#[tokio::test]
async fn r7_3_mail_is_tried_again_or_refused_for_good() {
    let receivers = Receivers::start().await;
    let timed = timed(WebhookSettings::default(), Some(smtp(receivers.smtp))).await;
    let api = &timed.api;
    let busy = organization(api, "busy-ada@example.com").await;
    let nobody = organization(api, "nobody-ada@example.com").await;
    let waits = alert(api, &busy, "first").await;
    let refused = alert(api, &nobody, "first").await;
    let delivery = stands(api, &busy, &waits, "email", "pending", 1).await;
    assert_eq!(delivery["attempts"][0]["status"], 451);
    let delivery = stands(api, &nobody, &refused, "email", "failed", 1).await;
    assert_eq!(delivery["attempts"][0]["status"], 550);
    let error = delivery["attempts"][0]["error"].as_str().unwrap();
    assert!(!error.contains("nobody-ada@"), "personal data would outlive its erasure: {error}");
    timed.until("2026-11-20T10:00:06Z");
    stands(api, &busy, &waits, "email", "delivered", 2).await;
    receivers.mails("busy-ada@example.com", 1).await;
}

#[tokio::test]
async fn r9_2_nobody_is_told_once_personal_data_is_erased() {
    let receivers = Receivers::start().await;
    let timed = timed(open(), Some(smtp(receivers.smtp))).await;
    let api = &timed.api;
    let org = organization(api, "busy-bea@example.com").await;
    let id = webhook(api, &org, &receivers.url("/fail")).await["id"].as_str().unwrap().to_owned();
    let first = alert(api, &org, "first").await;
    stands(api, &org, &first, "email", "pending", 1).await;
    stands(api, &org, &first, &id, "pending", 1).await;
    api.write("DELETE", &format!("{org}/contacts"), &json!({})).await.expect(200);
    timed.until("2026-11-20T10:00:06Z");
    for channel in ["email", &id] {
        let delivery = stands(api, &org, &first, channel, "cancelled", 2).await;
        assert!(delivery["reason"].as_str().unwrap().contains("erased"), "{delivery}");
    }
    receivers.mails("busy-bea@example.com", 0).await;
    receivers.calls("/fail", 1).await;
}

/// Killed after a receiver got it and before that was recorded: it gets it again, with the same id, and once only.
#[tokio::test]
async fn r7_3_an_attempt_whose_end_is_not_recorded_is_made_again() {
    let receivers = Receivers::start().await;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let builder = || serve(&receivers, directory.path()).data(&data);
    let mut system = builder().env("TOLLBOOK_FAULT", "delivery_attempted:1").start().await;
    let org = organization(&system.api, "ada@example.com").await;
    webhook(&system.api, &org, &receivers.url("/ok/b")).await;
    let voucher = json!({ "amount": "5", "reference": "first" });
    system.api.try_send(system.api.request("POST", &format!("{org}/vouchers")).json(&voucher)).await;
    system.exited().await;
    drop(system);
    let mut system = builder().start().await;
    let first = system.api.all(&format!("{org}/alerts")).await[0]["id"].as_str().unwrap().to_owned();
    let ended = async |api: &Api| {
        eventually(DEADLINE, "everything is delivered", || async {
            let all = deliveries(api, &org, &first).await;
            (all.len() == 2 && all.iter().all(|delivery| delivery["status"] == "delivered")).then_some(all)
        })
        .await
    };
    let all = ended(&system.api).await;
    let attempts: usize = all.iter().map(|delivery| delivery["attempts"].as_array().unwrap().len()).sum();
    assert_eq!(attempts, 4, "each once before and once after: {all:#?}");
    system.restart().await;
    system.ready().await;
    ended(&system.api).await;
    let calls = eventually(DEADLINE, "the webhook is called", || async {
        let calls = receivers.any_calls("/ok/b").await;
        (!calls.is_empty()).then_some(calls)
    })
    .await;
    assert!(calls.len() <= 2, "{calls:#?}");
    for call in &calls {
        assert_eq!(call["headers"]["webhook-id"], first.as_str());
    }
}
