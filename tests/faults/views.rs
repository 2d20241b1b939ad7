//! Views are disposable, logs are not: what fits is rebuilt, and what does not fit is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tollbook_engine::ledger;
use tollbook_engine::log::EventLog;
use tollbook_engine::log::embedded::Embedded;
use tollbook_projections::budget::EndedBreach;
use tollbook_projections::first::{FirstPlacesInMemory, Lookup};
use tollbook_projections::ids::Ids;
use tollbook_projections::record::Record;
use tollbook_projections::state::{AuditRow, Effect, State};
use tollbook_projections::view::Views;
use tollbook_schemas::alert::Alert;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::time::Day;
use tollbook_tests::eventually;
use tollbook_tests::system::{Api, DEADLINE, Key, System};

use super::load::{prepared, totals};

const P0: PartitionId = PartitionId(0);

/// Some usage, in several entries.
async fn used(api: &Api, key: &Key, name: &str) {
    let send = async |number: usize| api.events(&[key.event(&format!("{name}-{number}"), "kimi-k2.5")]).await;
    futures_util::future::join_all((0..20).map(send)).await;
    api.folded().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What views hold: position and digest; the audit logs, of organizations in order of their ids and then of the
/// configuration; and in the same order alerts, and breaches of budgets that are over.
type Held = (Position, [u8; 32], Vec<(Option<OrgId>, AuditRow)>, Told);

/// Alerts, and breaches that are over.
type Told = (Vec<Alert>, Vec<EndedBreach>);

/// What the log in these data says, folded from its beginning by nothing but the fold.
async fn folded(data: &Path) -> Held {
    let log: Arc<dyn EventLog> = Arc::new(Embedded::open(&data.join("log"), 1).unwrap());
    let ledger = ledger::find(&log, P0).await.unwrap().unwrap().id;
    let mut state = State::empty(P0);
    let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
    let last = log.last(P0).await.unwrap();
    let mut tail = log.tail(P0, Position::ZERO);
    let (mut audit, mut alerts, mut breaches) = (Vec::new(), Vec::new(), Vec::new());
    while state.head().position < last {
        let stored = tail.next().await.unwrap().unwrap();
        let record = Record::read(&ledger, P0, stored.position, &stored.subject, &stored.payload);
        let sightings = lookup.sightings(&record).unwrap();
        for effect in state.apply(&record, &sightings).unwrap() {
            match effect {
                Effect::Decided { organization, row } => audit.push((organization, *row)),
                Effect::Alert(alert) => alerts.push(*alert),
                Effect::BreachEnded { ended, .. } => breaches.push(*ended),
                _ => {}
            }
        }
    }
    audit.sort_by_key(|(of, row)| (of.is_none(), of.clone(), row.position));
    alerts.sort_by_key(|alert| {
        let of = alert.organization.clone();
        (of.is_none(), of, alert.position.position, alert.kind().code(), alert.number)
    });
    (last, state.digest().unwrap(), audit, (alerts, breaches))
}

/// What the views in these data hold.
fn viewed(data: &Path) -> Held {
    let view = Views::open(&data.join("views/state")).unwrap().partition(P0).unwrap();
    let state = view.load().unwrap().unwrap();
    let (mut audit, mut alerts, mut breaches) = (Vec::new(), Vec::new(), Vec::new());
    for of in state.organizations().map(|known| Some(known.id.clone())).chain([None]) {
        let rows = view.audit(of.as_ref(), None, usize::MAX).unwrap();
        audit.extend(rows.into_iter().map(|row| (of.clone(), row)));
        alerts.extend(view.alerts(of.as_ref(), None, usize::MAX).unwrap());
    }
    for organization in state.organizations() {
        for project in organization.projects.keys() {
            let days = Day::default()..Day::of_date("2100-01-01".parse().unwrap());
            breaches.extend(view.breaches(&organization.id, project, days, None, usize::MAX).unwrap());
        }
    }
    (state.head().position, state.digest().unwrap(), audit, (alerts, breaches))
}

/// A server's position and digest.
async fn served(api: &Api) -> (Position, [u8; 32]) {
    let (position, digest) = api.digest(0).await;
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(digest.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    }
    (Position(position.split_once('-').unwrap().1.parse().unwrap()), bytes)
}

/// What happens to a directory of views.
type Harm<'a> = &'a dyn Fn(&Path);

#[tokio::test]
async fn views_deleted_damaged_or_cut_are_rebuilt_to_the_same_state() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = prepared(&api).await;
    api.recharge(&key.organization, "10", "a").await;
    // A budget that is reached, and a breach that is over.
    let cycle = json!({ "cycle_seconds": 0, "delay_seconds": 0 });
    api.put("/v1/config/billing-cycle", &cycle).await.expect(200);
    let budgets = format!("/v1/organizations/{}/projects/{}/budgets", key.organization, key.project);
    api.put(&budgets, &json!({ "daily": "0.001", "monthly": null })).await.expect(200);
    used(&api, &key, "first").await;
    api.put(&budgets, &json!({ "daily": "1", "monthly": null })).await.expect(200);
    api.events(&[key.event("odd", "unknown")]).await;
    api.folded().await;
    let live = served(&api).await;
    system.terminate().await;
    let held = viewed(system.data());
    assert_eq!((held.0, held.1), live);
    assert_eq!(folded(system.data()).await, held);
    let kinds: BTreeSet<_> = held.3.0.iter().map(|alert| alert.kind().code()).collect();
    let wanted = ["budget_reached", "budget_warning", "tier_changed", "usage_quarantined", "voucher_granted"];
    assert_eq!(kinds, wanted.into());
    assert_eq!(held.3.1.len(), 1, "{:?}", held.3.1);
    let configured = held.2.iter().filter(|(of, _)| of.is_none()).count();
    assert!(configured > 1 && held.2.len() > configured + 1, "{:?}", held.2);

    let flip = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let patch = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 3;
        bytes[middle..middle + 64].fill(0xff);
    };
    let zero = |bytes: &mut Vec<u8>| bytes.iter_mut().for_each(|byte| *byte = 0);
    // Cut or patched, sled may find an older state that is whole: that is folded on, and nothing needs saying.
    let harms: [(&str, Option<bool>, Harm<'_>); 9] = [
        ("kept", Some(false), &|_| {}),
        ("deleted", Some(false), &|views| fs::remove_dir_all(views).unwrap()),
        ("flipped", Some(true), &|views| damage(&views.join("state"), flip)),
        ("cut", None, &|views| damage(&views.join("state"), cut)),
        ("patched", None, &|views| damage(&views.join("state"), patch)),
        ("zeroed", Some(true), &|views| damage(&views.join("state"), zero)),
        ("ids flipped", Some(true), &|views| damage(&views.join("ids"), flip)),
        ("ids cut", Some(true), &|views| damage(&views.join("ids"), cut)),
        ("no ids", Some(true), &|views| fs::remove_dir_all(views.join("ids")).unwrap()),
    ];
    let mut wrong = Vec::new();
    for (name, warns, harm) in harms {
        let data = system.scratch().join(name);
        copy(system.data(), &data);
        harm(&data.join("views"));
        let mut other = System::builder().data(&data).start().await;
        let api = other.api.clone();
        let warned = other.log().contains("rebuilt from the log");
        if warns.is_some_and(|warns| warns != warned) {
            wrong.push(format!("{name}: warned: {warned}: {}", other.log()));
        }
        assert_eq!(api.balance(&key.organization).await["vouchers"], "4.9986", "{name}");
        assert_eq!(api.spend(&key.organization).await, totals(20), "{name}");
        assert_eq!(api.quarantine().await.len(), 1, "{name}");
        other.terminate().await;
        // Only the takeover came after.
        let found = viewed(&data);
        assert_eq!(found.0, live.0.next(), "{name}");
        assert_eq!(found, folded(&data).await, "{name}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rounds of damage by chance; `TOLLBOOK_DAMAGES` says otherwise.
fn damages() -> u64 {
    let said = std::env::var_os("TOLLBOOK_DAMAGES").and_then(|text| text.to_str()?.parse().ok());
    said.unwrap_or(5)
}

/// Every file below.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Damages one file of the views somewhere; what was done, for whoever looks into a failure.
fn damage_by_chance(views: &Path, random: &mut StdRng) -> String {
    let files: Vec<PathBuf> =
        files(views).into_iter().filter(|path| path.metadata().unwrap().len() > 0).collect();
    let path = &files[random.random_range(0..files.len())];
    let mut bytes = fs::read(path).unwrap();
    // Where something stands: files are made longer than what is in them.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let start = random.random_range(0..used);
    let end = (start + random.random_range(1..200)).min(used);
    let how = match random.random_range(0..4) {
        0 => {
            bytes.truncate(start);
            "cut"
        }
        1 => {
            bytes[start..end].fill(0);
            "zeroed"
        }
        2 => {
            bytes[start] ^= 1 << random.random_range(0..8);
            "one bit flipped"
        }
        _ => {
            bytes[start..end].iter_mut().for_each(|byte| *byte = random.random());
            "overwritten"
        }
    };
    fs::write(path, bytes).unwrap();
    format!("{how} at {start}..{end} of {used} in {}", path.strip_prefix(views).unwrap().display())
}

#[tokio::test]
async fn whatever_happens_to_the_views_no_wrong_state_is_served() {
    let seed: u64 = rand::rng().random();
    println!("seed={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut system = System::start().await;
    let api = system.api.clone();
    let mut keys = vec![prepared(&api).await];
    for _ in 0..3 {
        keys.push(api.customer("Acme").await);
    }
    for part in ["a", "b"] {
        for key in &keys {
            used(&api, key, part).await;
        }
        // Several generations of files.
        system.terminate().await;
        system.restart().await;
    }
    system.terminate().await;
    let mut outcomes = BTreeMap::<&str, u64>::new();
    for round in 0..damages() {
        let data = system.scratch().join(format!("round-{round}"));
        copy(system.data(), &data);
        let what = damage_by_chance(&data.join("views"), &mut random);
        let mut other = System::builder().data(&data).spawn();
        let outcome = other.listening_or_ended().await;
        if let Err((code, said)) = outcome {
            assert_eq!(code, Some(1), "{what}: {said}");
            println!("refused, {what}: {}", said.lines().last().unwrap_or_default());
            *outcomes.entry("refused").or_default() += 1;
            continue;
        }
        other.ready().await;
        for key in &keys {
            used(&other.api, key, "a").await;
        }
        for key in &keys {
            assert_eq!(other.api.spend(&key.organization).await, totals(40), "{what}");
        }
        let warned = other.log().contains("\"WARN\"");
        other.terminate().await;
        assert_eq!(viewed(&data), folded(&data).await, "{what}");
        println!("warned: {warned}, {what}");
        *outcomes.entry(if warned { "rebuilt" } else { "whole" }).or_default() += 1;
        fs::remove_dir_all(&data).unwrap();
    }
    println!("{outcomes:?}");
}

/// fjall panicked where a length in the journal was zeroed, and the server ended with it.
#[tokio::test]
async fn no_damage_to_the_journal_of_ids_is_more_than_an_error() {
    let mut system = System::start().await;
    let key = prepared(&system.api).await;
    used(&system.api, &key, "first").await;
    system.terminate().await;
    let ids = system.data().join("views/ids");
    let journal = fs::read(ids.join("0.jnl")).unwrap();
    let used = journal.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let mut refused = 0;
    for start in (used.saturating_sub(700)..used).step_by(28) {
        let mut damaged = journal.clone();
        damaged[start..(start + 9).min(used)].fill(0);
        let path = system.scratch().join(format!("ids-{start}"));
        copy(&ids, &path);
        fs::write(path.join("0.jnl"), damaged).unwrap();
        refused += u32::from(Ids::open(&path).is_err());
        fs::remove_dir_all(&path).unwrap();
    }
    println!("{refused} of 25 were refused");
}

/// Damages every file of a directory that holds anything, except its lock.
fn damage(directory: &Path, harm: impl Fn(&mut Vec<u8>) + Copy) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            damage(&entry.path(), harm);
            continue;
        }
        let mut bytes = fs::read(entry.path()).unwrap();
        if bytes.len() > 256 {
            harm(&mut bytes);
            fs::write(entry.path(), bytes).unwrap();
        }
    }
}

#[tokio::test]
async fn an_older_log_put_back_under_newer_views_is_refused() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = prepared(&api).await;
    used(&api, &key, "first").await;
    system.terminate().await;
    let (log, older) = (system.data().join("log"), system.scratch().join("older"));
    copy(&log, &older);
    system.restart().await;
    used(&api, &key, "second").await;
    system.terminate().await;
    fs::remove_dir_all(&log).unwrap();
    copy(&older, &log);
    let (code, said) = System::builder().data(system.data()).start_in_vain().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("the log has lost entries, or an older copy of it was put back"), "{said}");
    // Refusing changed nothing: the message holds again, and what it advises helps.
    let (code, _) = System::builder().data(system.data()).start_in_vain().await;
    assert_eq!(code, Some(1));
    fs::remove_dir_all(system.data().join("views")).unwrap();
    system.restart().await;
    assert_eq!(api.spend(&key.organization).await, totals(20));
}

#[tokio::test]
async fn an_older_log_that_went_on_differently_is_refused() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = prepared(&api).await;
    system.terminate().await;
    let (data, fork) = (system.data().to_owned(), system.scratch().join("fork"));
    copy(&data.join("log"), &fork.join("log"));
    system.restart().await;
    used(&api, &key, "first").await;
    system.terminate().await;
    let mut other = System::builder().data(&fork).start().await;
    used(&other.api, &key, "other").await;
    used(&other.api, &key, "longer").await;
    other.terminate().await;
    fs::remove_dir_all(data.join("log")).unwrap();
    copy(&fork.join("log"), &data.join("log"));
    let (code, said) = System::builder().data(&data).start_in_vain().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("this log has another history"), "{said}");
}

#[tokio::test]
async fn views_of_another_ledger_are_refused() {
    let (mut first, mut second) = (System::start().await, System::start().await);
    for system in [&first, &second] {
        let key = prepared(&system.api).await;
        used(&system.api, &key, "first").await;
    }
    used(&second.api, &second.api.customer("Other").await, "more").await;
    first.terminate().await;
    second.terminate().await;
    let views = second.data().join("views");
    fs::remove_dir_all(&views).unwrap();
    copy(&first.data().join("views"), &views);
    let (code, said) = System::builder().data(second.data()).start_in_vain().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("use another --data directory, or delete the views"), "{said}");
}

#[tokio::test]
async fn a_damaged_log_is_never_served() {
    let mut system = System::start().await;
    let api = system.api.clone();
    let key = prepared(&api).await;
    used(&api, &key, "first").await;
    let written = eventually(DEADLINE, "usage is folded", || async {
        let totals = api.spend(&key.organization).await;
        (totals.requests == 20).then_some(totals)
    })
    .await;
    assert_eq!(written, totals(20));
    system.terminate().await;
    damage(&system.data().join("log"), |bytes| {
        let middle = bytes.iter().position(|byte| *byte != 0).unwrap_or(0) + 200;
        let end = (middle + 64).min(bytes.len());
        bytes[middle.min(end)..end].iter_mut().for_each(|byte| *byte ^= 0x55);
    });
    let (code, said) = System::builder().data(system.data()).start_in_vain().await;
    assert_eq!(code, Some(1));
    assert!(said.contains("damaged") || said.contains("cannot be"), "{said}");
}
