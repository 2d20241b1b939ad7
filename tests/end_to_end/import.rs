//! A real trace imported: exact sums, twice, interrupted, by every way in.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rust_decimal::Decimal;
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{DEADLINE, Key, System, SystemBuilder, Totals};

use super::{MODEL, check_spend, priced};

/// The trace, where it is on this machine.
fn trace() -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/azure-llm-inference-2023-code.csv");
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// The trace several times over, so that an import takes long enough to be interrupted.
fn long(trace: &Path, copies: usize, directory: &Path) -> PathBuf {
    let text = std::fs::read_to_string(trace).unwrap();
    let (header, rows) = text.split_once("\r\n").unwrap();
    let rows = format!("{}\r\n", rows.trim_end());
    let path = directory.join("long.csv");
    std::fs::write(&path, format!("{header}\r\n{}", rows.repeat(copies))).unwrap();
    path
}

/// What the text says, summed in the simplest way: whole picodollars, at 600,000 an input token (nothing is cached)
/// and 3,000,000 an output token.
fn sums(path: &Path) -> Totals {
    let text = std::fs::read_to_string(path).unwrap();
    let mut rows = text.split("\r\n");
    assert_eq!(rows.next(), Some("TIMESTAMP,ContextTokens,GeneratedTokens"));
    let (mut requests, mut input, mut output) = (0, 0, 0);
    for row in rows.filter(|row| !row.is_empty()) {
        let cells: Vec<&str> = row.split(',').collect();
        requests += 1;
        input += cells[1].parse::<u64>().unwrap();
        output += cells[2].parse::<u64>().unwrap();
    }
    let picodollars = i128::from(input) * 600_000 + i128::from(output) * 3_000_000;
    let cost = Decimal::from_i128_with_scale(picodollars, 12).normalize();
    Totals { requests, input, cached: 0, output, cost }
}

/// Arguments of an import.
fn args(trace: &Path, key: &Key) -> Vec<String> {
    let args = ["import", "--format", "azure-llm-trace", "--api-key", &key.id, "--model", MODEL];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    args.push(trace.display().to_string());
    args
}

async fn import(system: &System, args: &[String]) {
    let ran = system.run(&args.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.out.contains(" rows read, "), "{}", ran.out);
}

fn begin(system: &System, args: &[String]) -> Child {
    let mut command = System::command();
    command.args(args).env("TOLLBOOK_SERVER", system.api.url()).env("TOLLBOOK_TOKEN", system.api.token());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

async fn through_a_server(builder: SystemBuilder) {
    let Some(trace) = trace() else { return };
    let expected = sums(&trace);
    println!("{expected:?}");
    let mut system = builder.start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    api.recharge(&key.organization, "100", "a").await;
    let args = args(&trace, &key);

    import(&system, &args).await;
    check_spend(&api, &key.organization, expected).await;
    let before = api.balance(&key.organization).await;
    import(&system, &args).await;
    check_spend(&api, &key.organization, expected).await;
    assert_eq!(api.balance(&key.organization).await, before);
    assert!(api.quarantine().await.is_empty());

    // Killed half way: something is there, and not all.
    let other = api.customer("Other").await;
    let long = long(&trace, 5, system.scratch());
    let expected_of_long = sums(&long);
    let args = self::args(&long, &other);
    let mut running = begin(&system, &args);
    eventually(DEADLINE, "some rows are booked", || async {
        (api.spend(&other.organization).await.requests > 0).then_some(())
    })
    .await;
    running.kill().unwrap();
    running.wait().unwrap();
    api.folded().await;
    let half = api.spend(&other.organization).await.requests;
    println!("killed after {half} of {} rows", expected_of_long.requests);
    assert!(half < expected_of_long.requests);
    import(&system, &args).await;
    check_spend(&api, &other.organization, expected_of_long).await;
    system.restart().await;
    assert_eq!(api.spend(&key.organization).await, expected);
    assert_eq!(api.spend(&other.organization).await, expected_of_long);

    // The same file for another key is other usage.
    let second = api.key(&key.organization, &key.project).await;
    import(&system, &self::args(&trace, &second)).await;
    api.folded().await;
    assert_eq!(api.spend(&key.organization).await.requests, 2 * expected.requests);
}

#[tokio::test]
async fn through_a_server_with_the_embedded_log() {
    through_a_server(System::builder()).await;
}

#[tokio::test]
async fn through_a_server_on_jetstream() {
    let nats = NatsServer::start().await;
    through_a_server(System::builder().nats(&nats)).await;
}

/// Bytes by which a log has grown when an import is killed: more than opening it takes, and some entries of 500 rows,
/// and by far not all.
const ENOUGH: u64 = 700 * 1024;

/// Into the log itself, without a server; killed half way, and again, and once more.
async fn straight(builder: SystemBuilder, watched: Option<&Path>, into: impl Fn(&System) -> Vec<String>) {
    let Some(trace) = trace() else { return };
    let mut system = builder.start().await;
    let api = system.api.clone();
    priced(&api).await;
    let key = api.customer("Acme").await;
    let long = long(&trace, 20, system.scratch());
    let expected = sums(&long);
    system.terminate().await;
    let mut args = args(&long, &key);
    args.extend(into(&system));
    let directory = watched.map_or_else(|| system.data().join("log"), Path::to_owned);
    let size = size_of(&directory);
    let mut running = begin(&system, &args);
    eventually(DEADLINE, "the import writes, or is over", || async {
        (size_of(&directory) > size + ENOUGH || running_ended(&running)).then_some(())
    })
    .await;
    running.kill().unwrap();
    running.wait().unwrap();
    system.restart().await;
    let half = api.spend(&key.organization).await.requests;
    println!("killed after {half} of {} rows", expected.requests);
    assert!(half > 0 && half < expected.requests);
    system.terminate().await;
    for _ in 0..2 {
        import(&system, &args).await;
    }
    system.restart().await;
    assert_eq!(api.spend(&key.organization).await, expected);
    assert!(api.quarantine().await.is_empty());
}

/// Whether the process is a zombie by now.
fn running_ended(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

/// Bytes of all files below.
fn size_of(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size_of(&entry.path()),
            // What a file takes, not how long it says it is: journals are made at full length.
            Ok(data) => std::os::unix::fs::MetadataExt::blocks(&data) * 512,
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn straight_into_the_embedded_log() {
    straight(System::builder(), None, |system| {
        vec!["--data".to_owned(), system.data().display().to_string()]
    })
    .await;
}

#[tokio::test]
async fn straight_into_jetstream() {
    let store = tempfile::tempdir().unwrap();
    let nats = NatsServer::builder().store(store.path()).start().await;
    let flags = ["--nats".to_owned(), nats.url(), "--nats-monitor".to_owned(), nats.monitor_url()];
    straight(System::builder().nats(&nats), Some(store.path()), |_| flags.to_vec()).await;
}

#[tokio::test]
async fn a_directory_in_use_and_a_key_that_nobody_has_are_refused() {
    let Some(trace) = trace() else { return };
    let system = System::start().await;
    let key = system.api.customer("Acme").await;
    let mut into = args(&trace, &key);
    into.extend(["--data".to_owned(), system.data().display().to_string()]);
    let ran = system.run(&into.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(ran.code == Some(1) && ran.err.contains("is in use by"), "{ran:?}");
    let nobody = Key { id: "ak_01h00000000000000000000000".to_owned(), ..key.clone() };
    let nobody = args(&trace, &nobody);
    let ran = system.run(&nobody.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(ran.code == Some(1) && ran.err.contains("no organization of this ledger has the key"), "{ran:?}");
    let file = system.scratch().join("bad.csv");
    std::fs::write(&file, "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,-1,2\r\n")
        .unwrap();
    let bad = args(&file, &key);
    let ran = system.run(&bad.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("line 2") && ran.err.contains("ContextTokens"),
        "{ran:?}"
    );
}
