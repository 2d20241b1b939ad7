//! The server killed between the end of a month and the seals of its statements: whoever goes on seals the same.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use tollbook_engine::clock::Clock;
use tollbook_schemas::time::{Month, Zone};
use tollbook_tests::eventually;
use tollbook_tests::months::before;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, DEADLINE, Key, System, SystemBuilder, Timed};

use super::load::prepared;

/// Enough that sealing all of them takes longer than a kill takes to arrive.
const ORGANIZATIONS: usize = 120;

async fn csv(api: &Api, organization: &str, month: Month) -> (String, String) {
    let path = format!("/v1/organizations/{organization}/statement?month={month}&format=csv");
    let answer = api.get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.header("tollbook-statement-state").to_owned(), answer.text.clone())
}

fn digest(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Organizations with something booked in the month before this one, and their statements then.
async fn last_month(server: &Timed, month: Month) -> Vec<(String, String)> {
    let api = &server.api;
    let key = prepared(api).await;
    let mut organizations = vec![key.organization.clone()];
    for number in 1..ORGANIZATIONS {
        let organization = api.organization(&format!("organization {number}")).await;
        api.recharge(&organization, &format!("{number}.25"), "a").await;
        organizations.push(organization);
    }
    let events: Vec<_> = (0..20).map(|number| Key::event(&key, &format!("e{number}"), "kimi-k2.5")).collect();
    api.events(&events).await;
    api.folded().await;
    let mut statements = Vec::new();
    for organization in organizations {
        let (state, text) = csv(api, &organization, month).await;
        assert_eq!(state, "open");
        statements.push((organization, text));
    }
    statements
}

async fn kills_at_a_month_end(builder: SystemBuilder, nats: Option<&NatsServer>, kills: u32) {
    let seed: u64 = rand::rng().random();
    println!("seed={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let month = before(Zone::utc().day(Clock::System.now()).month());
    let middle = format!("{month}-15T10:00:00Z");
    let mut server = match nats {
        Some(nats) => Timed::start_on(nats, &middle).await,
        None => Timed::start(&middle).await,
    };
    let data = server.data();
    let statements = last_month(&server, month).await;
    server.stop().await;

    // The machine's clock is a month later: the first start closes the month at once.
    let builder = builder.data(&data);
    for _ in 0..kills {
        let mut killed = builder.clone().spawn();
        let (mut looks, moment) = (0, random.random_range(0..15));
        eventually(DEADLINE, "it owns the partition, and a moment passes", || {
            looks += u32::from(killed.log().contains("owns the partition"));
            std::future::ready((looks > moment).then_some(()))
        })
        .await;
        killed.kill();
        println!("killed {moment} looks after it owned the partition: {}", sealed_by_now(&data, nats).await);
    }
    let system = builder.start().await;
    for (organization, before) in &statements {
        let api = &system.api;
        let text = eventually(DEADLINE, "its statement is sealed", || async move {
            let (state, text) = csv(api, organization, month).await;
            (state == "sealed").then_some(text)
        })
        .await;
        assert_eq!(text, *before);
        let log = api.all(&format!("/v1/organizations/{organization}/log")).await;
        let seals: Vec<_> = log
            .iter()
            .flat_map(|entry| entry["events"].as_array().unwrap())
            .filter(|event| event["type"] == "statement.sealed")
            .collect();
        assert_eq!(seals.len(), 1, "{log:?}");
        let statement =
            api.get(&format!("/v1/organizations/{organization}/statement?month={month}")).await.expect(200);
        assert_eq!(statement["seal"]["sha256"], digest(before));
    }
    drop(system);
    let told = sealed_by_now(&data, nats).await;
    assert_eq!(told, format!("statements  {ORGANIZATIONS} sealed, each what its seal says"));
}

/// What the log has sealed so far, which must be what it says.
async fn sealed_by_now(data: &std::path::Path, nats: Option<&NatsServer>) -> String {
    let mut command = System::replay_command();
    command.arg("verify");
    match nats {
        Some(nats) => command.args(["--nats", &nats.url(), "--nats-monitor", &nats.monitor_url()]),
        None => command.arg("--data").arg(data),
    };
    let ran = System::output(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    ran.out.lines().find(|line| line.starts_with("statements")).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_3_statements_are_sealed_once_and_the_same_however_often_the_server_is_killed() {
    kills_at_a_month_end(System::builder(), None, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r8_3_statements_are_sealed_once_and_the_same_however_often_the_server_is_killed_on_jetstream() {
    let nats = NatsServer::start().await;
    kills_at_a_month_end(System::builder().nats(&nats), Some(&nats), 3).await;
}
