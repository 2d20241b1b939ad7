//! The store beside the log.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use tollbook_engine::contacts::Contacts;
use tollbook_engine::side::SideStore;
use tollbook_engine::side::kv::KvSide;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::sealed::Sealed;
use tollbook_tests::nats::NatsServer;

use super::open;

/// Whether any file below `directory` has these bytes.
fn on_disk(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return on_disk(&path, bytes);
        }
        fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

#[tokio::test]
async fn of_two_writers_one_wins_and_both_learn_which() {
    let server = NatsServer::start().await;
    let side = KvSide::open(&open(&server).await).await.unwrap();
    for round in 0..20 {
        let key = format!("mem.{round}");
        let writers = (0..8).map(|writer| side.put_new(&key, Bytes::from(format!("value {writer}"))));
        let answers: Vec<Bytes> = join_all(writers).await.into_iter().map(|answer| answer.unwrap()).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_eq!(side.get(&key).await.unwrap().as_ref(), Some(&answers[0]));
    }
    assert!(side.get("a b").await.is_err());
    assert!(side.get("a..b").await.is_err());
}

#[tokio::test]
async fn what_is_erased_is_gone_from_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = NatsServer::builder().store(directory.path()).start().await;
    let log = open(&server).await;
    let side = KvSide::open(&log).await.unwrap();
    let (gone, kept) = (b"the key to be erased", b"the key to be kept..");
    side.put_new("gone", Bytes::from_static(gone)).await.unwrap();
    side.put_new("kept", Bytes::from_static(kept)).await.unwrap();
    assert!(on_disk(directory.path(), gone) && on_disk(directory.path(), kept));
    side.erase("gone").await.unwrap();
    side.erase("gone").await.unwrap();
    assert_eq!(side.get("gone").await.unwrap(), None);
    assert!(!on_disk(directory.path(), gone), "overwritten");
    server.restart().await;
    let side = KvSide::open(&open(&server).await).await.unwrap();
    assert_eq!(side.get("gone").await.unwrap(), None);
    assert_eq!(side.get("kept").await.unwrap().as_deref(), Some(&kept[..]));
    assert_eq!(side.put_new("gone", Bytes::from_static(b"new")).await.unwrap(), Bytes::from_static(b"new"));
}

#[tokio::test]
async fn r9_2_an_erased_key_is_gone_and_the_next_one_is_another() {
    let server = NatsServer::start().await;
    let side = KvSide::open(&open(&server).await).await.unwrap();
    let contacts = Contacts::open(Arc::new(side.clone())).await.unwrap();
    let (org, other) = (OrgId::from_bits(1), OrgId::from_bits(2));
    let old = contacts.seal(&org, 0, "Ada").await.unwrap();
    let next = contacts.seal(&org, 1, "Ben").await.unwrap();
    let others = contacts.seal(&other, 0, "Cleo").await.unwrap();
    contacts.erase(&org, 1).await.unwrap();
    contacts.erase(&org, 1).await.unwrap();
    // Nobody who knows makes the key again.
    let lost = contacts.seal(&org, 0, "Dan").await.unwrap();
    assert_eq!(opened(&contacts, &org, &lost).await, None);
    // Another node sees the same; one that does not know makes another key.
    let side = KvSide::open(&open(&server).await).await.unwrap();
    let contacts = Contacts::open(Arc::new(side)).await.unwrap();
    let late = contacts.seal(&org, 0, "Eve").await.unwrap();
    let opener = contacts.opener(&org, [0, 1]).await.unwrap();
    assert_eq!([&old, &lost].map(|sealed| opener.open(sealed)), [None, None]);
    assert_eq!(opener.open(&next).as_deref(), Some("Ben"));
    assert_eq!(opener.open(&late).as_deref(), Some("Eve"));
    contacts.erase(&org, 2).await.unwrap();
    let opener = contacts.opener(&org, [0, 1]).await.unwrap();
    assert_eq!([&old, &lost, &next, &late].map(|sealed| opener.open(sealed)), [const { None }; 4]);
    assert_eq!(opened(&contacts, &other, &others).await.as_deref(), Some("Cleo"));
}

async fn opened(contacts: &Contacts, organization: &OrgId, sealed: &Sealed) -> Option<String> {
    contacts.opener(organization, [sealed.key]).await.unwrap().open(sealed)
}
