//! Stored bytes outlive the code: every kind of entry as version 1 wrote it, byte for byte, in `golden/v1/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p tollbook-schemas --test golden` adds lines that are missing, and never changes one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use tollbook_schemas::codec::{decode_entry, decode_row, encode_entry, encode_row};

mod samples;

use samples::Sample;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Lines `name bytes` of one family.
fn read(family: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(directory().join(format!("{family}.hex"))).unwrap_or_default();
    let lines = text.lines().map(|line| line.split_once(' ').expect(line));
    let lines: Vec<_> = lines.map(|(name, hex)| (name.to_owned(), hex.to_owned())).collect();
    let map: BTreeMap<_, _> = lines.iter().cloned().collect();
    assert_eq!(map.len(), lines.len(), "a name twice in {family}.hex");
    map
}

/// Compares one kind with its stored bytes; with `UPDATE_GOLDEN` stores them if there are none.
fn compare(family: &str, name: &str, written: &[u8], decoded_equals: impl Fn(&[u8]) -> bool) {
    let mut stored = read(family);
    if !stored.contains_key(name) && std::env::var_os("UPDATE_GOLDEN").is_some() {
        stored.insert(name.to_owned(), hex(written));
        let text: String = stored.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
        fs::create_dir_all(directory()).unwrap();
        fs::write(directory().join(format!("{family}.hex")), text).unwrap();
    }
    let Some(golden) = stored.get(name) else {
        panic!("{family}/{name} has no golden bytes; run this test once with UPDATE_GOLDEN=1");
    };
    assert_eq!(&hex(written), golden, "{family}/{name} is no longer written as it was");
    assert!(decoded_equals(&bytes(golden)), "{family}/{name} no longer decodes to what it was");
}

#[test]
fn stored_entries_are_written_and_read_as_ever() {
    for Sample { family, name, value } in samples::entries() {
        let written = encode_entry(&value).unwrap();
        compare(family, name, &written, |golden| decode_entry(golden).as_ref() == Ok(&value));
    }
}

#[test]
fn stored_parts_are_written_and_read_as_ever() {
    for Sample { family, name, value } in samples::parts() {
        let written = encode_row(&value).unwrap();
        compare(family, name, &written, |golden| decode_row(golden).as_ref() == Ok(&value));
    }
}

#[test]
fn no_stored_bytes_lost_their_sample() {
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    known.extend(samples::entries().iter().map(|sample| (sample.family.to_owned(), sample.name.to_owned())));
    known.extend(samples::parts().iter().map(|sample| (sample.family.to_owned(), sample.name.to_owned())));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return;
    }
    for file in fs::read_dir(directory()).unwrap() {
        let family = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        for name in read(&family).into_keys() {
            assert!(
                known.contains(&(family.clone(), name.clone())),
                "{family}/{name} has no sample any more"
            );
        }
    }
}
