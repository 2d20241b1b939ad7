//! A month's end as users see it: statements open, closed and sealed, invoices, and the same from the log alone.

use std::path::Path;

use rust_decimal::Decimal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{InvoiceId, MovementId, OrgId, Reason, RechargeId, Reference};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Answer, Api, DEADLINE, Key, Ran, System, Timed, amount};

use super::{MODEL, priced};

/// Two hours before the month ends.
const BEGIN: &str = "2026-10-31T22:00:00Z";

fn path(key: &Key, month: &str) -> String {
    format!("/v1/organizations/{}/statement?month={month}", key.organization)
}

async fn csv(api: &Api, key: &Key, month: &str) -> Answer {
    let answer = api.get(&format!("{}&format=csv", path(key, month))).await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, "text/csv; charset=utf-8; header=present")
    );
    answer
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The statement once it is sealed.
async fn sealed(api: &Api, key: &Key, month: &str) -> Value {
    eventually(DEADLINE, &format!("{month} is sealed"), || async move {
        let statement = api.get(&path(key, month)).await.expect(200);
        (statement["state"] == "sealed").then_some(statement)
    })
    .await
}

/// An event that occurred then.
fn event(key: &Key, id: &str, time: &str) -> Value {
    let mut event = key.event(id, MODEL);
    event["time"] = time.into();
    event
}

async fn a_month_ends(mut server: Timed, nats: Option<&NatsServer>) {
    let api = server.api.clone();
    let api = &api;
    let data = &server.data();
    priced(api).await;
    let key = api.customer("Acme").await;
    let recharge = api.recharge(&key.organization, "10", "pi_1, \"x\"").await;
    api.events(&[event(&key, "a", "2026-10-31T21:59:00Z"), event(&key, "b", "2026-10-31T22:00:00Z")]).await;
    api.folded().await;

    // Live.
    let open = api.get(&path(&key, "2026-10")).await.expect(200);
    assert_eq!((&open["state"], &open["seal"]), (&json!("open"), &Value::Null));
    assert_eq!(
        (&open["start"], &open["end"]),
        (&json!("2026-10-01T00:00:00Z"), &json!("2026-11-01T00:00:00Z"))
    );
    assert_eq!(open["opening"], json!({ "cash": "0", "vouchers": "0" }));
    assert_eq!(open["closing"], json!({ "cash": "10", "vouchers": "4.99986" }));
    let kinds: Vec<_> =
        open["movements"].as_array().unwrap().iter().map(|line| line["kind"].clone()).collect();
    assert_eq!(kinds, ["recharge", "voucher_grant"]);
    assert_eq!(open["movements"][0]["id"], recharge["id"]);
    assert_eq!(open["movements"][0]["reference"], "pi_1, \"x\"");
    let line = json!({
        "month": "2026-10", "project": key.project, "model": MODEL, "requests": 2, "input_tokens": 200,
        "cached_input_tokens": 80, "output_tokens": 20, "meters": {}, "cost": "0.00014",
    });
    assert_eq!(open["usage"], json!([line]));
    let before = csv(api, &key, "2026-10").await;
    assert_eq!(before.header("tollbook-statement-state"), "open");
    for missing in ["2026-09", "2026-11"] {
        assert_eq!(api.get(&path(&key, missing)).await.refused(404), "not_found");
    }
    for wrong in ["2026-13", "26-01", "2026", ""] {
        assert_eq!(api.get(&path(&key, wrong)).await.faults(), ["month"]);
    }
    let invoices = format!("/v1/organizations/{}/invoices", key.organization);
    let october = json!({ "month": "2026-10" });
    assert_eq!(api.post(&invoices, &october).await.refused(422), "month_open");

    // The month ends, and nothing else happens: it is closed and sealed as it was.
    server.until("2026-11-01T00:00:00Z");
    let statement = sealed(api, &key, "2026-10").await;
    let bytes = csv(api, &key, "2026-10").await;
    assert_eq!(bytes.text, before.text);
    assert_eq!(statement["seal"]["sha256"], digest(&bytes.text));
    assert_eq!(bytes.header("tollbook-statement-state"), "sealed");
    assert_eq!(bytes.header("tollbook-statement-sha256"), digest(&bytes.text));
    assert_eq!(bytes.header("tollbook-statement-sealed-by"), statement["seal"]["position"]);
    let named = api.request("GET", &path(&key, "2026-10")).header("accept", "text/csv");
    assert_eq!(api.send(named).await.text, bytes.text);
    let log = api.all(&format!("/v1/organizations/{}/log", key.organization)).await;
    let seals = log.iter().filter(|entry| entry["events"][0]["type"] == "statement.sealed");
    assert_eq!(seals.count(), 1, "{log:?}");

    // What comes late is in the open month, and says where it belongs.
    api.events(&[event(&key, "late", "2026-10-31T23:59:59Z"), event(&key, "new", "2026-11-01T00:00:00Z")])
        .await;
    api.folded().await;
    let november = api.get(&path(&key, "2026-11")).await.expect(200);
    let usage: Vec<_> =
        november["usage"].as_array().unwrap().iter().map(|line| line["month"].clone()).collect();
    assert_eq!(
        (usage, &november["opening"]),
        (vec![json!("2026-10"), json!("2026-11")], &statement["closing"])
    );
    assert_eq!(csv(api, &key, "2026-10").await.text, bytes.text);
    let cost = amount(&statement["used"]["cost"]) + amount(&november["used"]["cost"]);
    assert_eq!((api.spend(&key.organization).await.cost, cost), (cost, Decimal::new(28, 5)));

    invoiced(&server, &key, &recharge, &invoices).await;
    let november = csv(api, &key, "2026-11").await.text;
    assert_eq!(csv(api, &key, "2026-10").await.text, bytes.text);

    // From the shell.
    let mut command = System::command();
    command.args(["statement", &key.organization, "--month", "2026-10", "--csv"]);
    command.env("TOLLBOOK_SERVER", api.url()).env("TOLLBOOK_TOKEN", api.token());
    let ran = System::output(command).await;
    assert_eq!((ran.code, ran.out), (Some(0), bytes.text.clone()));
    let mut command = System::command();
    command.args(["statement", &key.organization, "--month", "2026-10"]);
    command.env("TOLLBOOK_SERVER", api.url()).env("TOLLBOOK_TOKEN", api.token());
    let ran = System::output(command).await;
    assert!(ran.out.contains("closing") && ran.out.contains(&digest(&bytes.text)), "{ran:?}");
    server.stop().await;

    // And from the log alone.
    let replay = async |month: &str, format: &str| {
        replayed(&["statement", "--org", &key.organization, "--month", month, "--format", format], data, nats)
            .await
    };
    assert_eq!(replay("2026-10", "csv").await.out, bytes.text);
    assert_eq!(replay("2026-11", "csv").await.out, november);
    assert_eq!(replay("2026-10", "json").await.json(), statement);
    let ran = replay("2026-09", "csv").await;
    assert!(ran.code == Some(2) && ran.err.contains("2026-10"), "{ran:?}");
    let ran = replayed(&["verify"], data, nats).await;
    assert!(ran.code == Some(0) && ran.out.contains("statements  1 sealed"), "{ran:?}");
}

/// What a command of `tollbook-replay` makes of a log, once a server that stopped in this process has let go of it.
async fn replayed(args: &[&str], data: &Path, nats: Option<&NatsServer>) -> Ran {
    eventually(DEADLINE, "the log is free", || async {
        let mut command = System::replay_command();
        command.args(args);
        let ran = System::output(at(command, data, nats)).await;
        (ran.code != Some(3)).then_some(ran)
    })
    .await
}

/// A command of `tollbook-replay` on a log.
fn at(mut command: std::process::Command, data: &Path, nats: Option<&NatsServer>) -> std::process::Command {
    match nats {
        Some(nats) => command.args(["--nats", &nats.url(), "--nats-monitor", &nats.monitor_url()]),
        None => command.arg("--data").arg(data),
    };
    command
}

/// The invoice of the closed month, and a chargeback's credit note.
async fn invoiced(server: &Timed, key: &Key, recharge: &Value, invoices: &str) {
    let api = &server.api;
    let october = json!({ "month": "2026-10" });
    let asked = api.request("POST", invoices).header("idempotency-key", "k").json(&october);
    let issued = api.send(asked).await.expect(201);
    assert_eq!(
        (&issued["number"], &issued["kind"], &issued["total"]),
        (&json!(1), &json!("invoice"), &json!("10"))
    );
    let line = json!({ "recharge": recharge["id"], "reference": "pi_1, \"x\"", "amount": "10" });
    assert_eq!(issued["lines"], json!([line]));
    assert_eq!(api.post(invoices, &october).await.refused(422), "nothing_to_invoice");
    // Asked for again with its key, it is the same one.
    let again = api.send(api.request("POST", invoices).header("idempotency-key", "k").json(&october)).await;
    assert_eq!((again.expect(201), again.header("idempotent-replayed")), (issued.clone(), "true"));
    assert_eq!(api.post(invoices, &json!({ "month": "2026-11" })).await.refused(422), "month_open");
    let id = |text: &Value| text.as_str().unwrap().to_owned();
    let show = format!("{invoices}/{}", id(&issued["id"]));
    assert_eq!(api.get(&show).await.expect(200), issued);
    assert_eq!(api.get(&format!("{invoices}/invoice_none")).await.refused(404), "not_found");
    let reversal = OrganizationCommand::ReverseRecharge {
        reversal: MovementId::from_bits(1),
        recharge: RechargeId::parse(&id(&recharge["id"])).unwrap(),
        amount: Some("4".parse().unwrap()),
        reference: Reference::parse("chargeback").unwrap(),
        reason: Reason::parse("stolen card").unwrap(),
        note: InvoiceId::from_bits(1),
    };
    let command = Command::Organization(OrgId::parse(&key.organization).unwrap(), reversal);
    server.node().decide(command, Actor::Operator { token: None }, None).await.unwrap();
    let all = api.all(invoices).await;
    assert_eq!((all.len(), &all[0]), (2, &issued));
    let note = &all[1];
    assert_eq!(
        (&note["kind"], &note["number"], &note["invoice"]),
        (&json!("credit_note"), &json!(2), &issued["id"])
    );
    let line = json!({ "recharge": recharge["id"], "reference": "chargeback", "amount": "4" });
    assert_eq!((&note["lines"], &note["total"]), (&json!([line]), &json!("4")));
    let page = api.get(&format!("{invoices}?limit=1")).await.expect(200);
    assert_eq!((page["items"].as_array().unwrap().len(), &page["next_page"]), (1, &json!("1")));
    let page = api.get(&format!("{invoices}?limit=1&after=1")).await.expect(200);
    assert_eq!((&page["items"][0], &page["next_page"]), (note, &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_3_a_month_ends() {
    a_month_ends(Timed::start(BEGIN).await, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_3_a_month_ends_on_jetstream() {
    let nats = NatsServer::start().await;
    a_month_ends(Timed::start_on(&nats, BEGIN).await, Some(&nats)).await;
}
