//! What is not an entry is refused: no panic, and no more memory than its bytes justify.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

use std::fs;

use proptest::prelude::*;
use proptest::sample::Index;
use tollbook_schemas::batch::UsageBatch;
use tollbook_schemas::codec::{decode_entry, encode_entry};
use tollbook_schemas::entry::{Body, Entry};

mod samples;

/// Decodes, and does with the result what a fold would do first.
fn survive(bytes: &[u8]) {
    let Ok(entry) = decode_entry(bytes) else { return };
    let written = encode_entry(&entry).unwrap();
    // Numbers have shorter forms than a forger may use, so the bytes may differ, the entry not.
    assert_eq!(decode_entry(&written).as_ref(), Ok(&entry));
    match entry.body {
        Body::Usage(batch) => unpacked(&batch),
        Body::Decision(_) | Body::Unreadable(_) => {}
    }
}

/// A batch that passes its check unpacks whole.
fn unpacked(batch: &UsageBatch) {
    let records = batch.unpack().count();
    if batch.check().is_ok() {
        assert_eq!(records, batch.rows.len());
    }
}

fn sample_bytes() -> Vec<Vec<u8>> {
    samples::entries().iter().map(|sample| encode_entry(&sample.value).unwrap()).collect()
}

/// Most memory that this process ever had mapped, in kibibytes; 0 where the system does not say.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_forged_length_allocates_next_to_nothing() {
    let before = peak_kib();
    // As bincode writes numbers of 64 bits: 253, then the number, little end first.
    let lengths = [1u64 << 62, u64::MAX, 1 << 47, 1 << 33, 1 << 30];
    for entry in sample_bytes() {
        for place in 1..entry.len() {
            for length in lengths {
                let mut forged = entry[..place].to_vec();
                forged.push(253);
                forged.extend(length.to_le_bytes());
                forged.extend(&entry[place + 1..]);
                survive(&forged);
            }
        }
    }
    // Threads of other tests map 64 MiB each for their heaps.
    let grown = peak_kib() - before;
    assert!(grown < 512 * 1024, "grew by {grown} KiB");
}

#[test]
fn every_prefix_of_an_entry_is_refused() {
    for entry in sample_bytes() {
        for end in 0..entry.len() {
            assert!(decode_entry(&entry[..end]).is_err());
        }
        let longer = [entry.as_slice(), &[0]].concat();
        assert!(decode_entry(&longer).is_err(), "something behind an entry is no part of it");
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Mutation::Flip(place, byte)),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(place, bytes)| Mutation::Insert(place, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: Mutation) {
    if bytes.is_empty() {
        return;
    }
    match mutation {
        Mutation::Flip(place, byte) => {
            let place = place.index(bytes.len());
            bytes[place] ^= byte;
        }
        Mutation::Cut(place) => {
            bytes.remove(place.index(bytes.len()));
        }
        Mutation::Insert(place, more) => {
            let place = place.index(bytes.len());
            bytes.splice(place..place, more);
        }
        Mutation::Repeat(from, to) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.extend(piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..300), versioned: bool) {
        if let Some(version) = bytes.first_mut().filter(|_| versioned) {
            *version = tollbook_schemas::codec::ENTRY_VERSION;
        }
        survive(&bytes);
    }

    #[test]
    fn mutated_entries_are_survived(which: Index, mutations in prop::collection::vec(mutation(), 1..6)) {
        let entries = sample_bytes();
        let mut bytes = which.get(&entries).clone();
        for mutation in mutations {
            mutate(&mut bytes, mutation);
        }
        survive(&bytes);
    }
}

proptest! {
    /// Indexes at random, near the bounds: whatever `check` lets pass unpacks whole, and packs into an equal batch.
    #[test]
    fn a_checked_batch_unpacks_whole(
        edits in prop::collection::vec((0..6usize, 0..3usize, 0..4u32), 0..6), more in prop::collection::vec(0..9usize, 0..4),
    ) {
        let mut batch = samples::batch();
        for row in more {
            let row = batch.rows[row % batch.rows.len()].clone();
            batch.ids.push_str("req-7f3");
            batch.rows.push(row);
        }
        for (what, place, to) in edits {
            let rows = batch.rows.len();
            let row = &mut batch.rows[place % rows];
            match what {
                0 => row.payer = to,
                1 => row.source = to,
                2 => row.model = to,
                3 => row.id_length = to + 5,
                4 => batch.payers[place % 2].0 = to,
                _ => { batch.ids.pop(); }
            }
        }
        unpacked(&batch);
        if batch.check().is_ok() {
            let mut entry: Entry = samples::entries().remove(0).value;
            entry.body = Body::Usage(batch);
            prop_assert_eq!(decode_entry(&encode_entry(&entry).unwrap()), Ok(entry));
        }
    }
}
