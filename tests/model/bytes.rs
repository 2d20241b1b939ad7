//! Bytes that none of our writers wrote, in the place of an entry: never a panic. What is not an entry is skipped; usage
//! is always folded, whatever it says; only decisions can be corrupt, for none of ours can say what these do.

use std::sync::LazyLock;

use proptest::prelude::*;
use tollbook_projections::first::{FirstPlacesInMemory, Lookup};
use tollbook_projections::record::{Content, Record};
use tollbook_projections::state::{Effect, State};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::batch::{RowTime, UsageBatch};
use tollbook_schemas::codec;
use tollbook_schemas::command::{Command, PartitionCommand};
use tollbook_schemas::entry::{Actor, Body, Cause, Decision};
use tollbook_schemas::event::{ConfigEvent, Event, MoneyEvent, PartitionEvent, VoucherOrigin};
use tollbook_schemas::id::{NodeName, RechargeId, Reference, VoucherId};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::topic::Topic;
use tollbook_tests::memory::{MemoryLedger, Message, PARTITION, ledger_id};
use tollbook_tests::script::{check, org};

/// A ledger in which everything stands that there is, so that there is something to mutate and to break.
static LEDGER: LazyLock<MemoryLedger> = LazyLock::new(|| {
    check(
        "
        at 2026-11-20T10:00:00Z
        organization acme zone=Europe/Berlin
        organization beta
        project acme web
        project beta web
        key acme web k1
        key beta web k1
        price m input=0.60 cached=0.10 output=3 meter.image=2 from=2026-01-01T00:00:00Z
        recharge acme 3 ref=a request=k/1                              -> ok
        recharge acme 3 ref=b                                          -> ok voucher 5
        usage acme k1 m in=1000 cached=10 out=500 id=r1                -> booked
        usage acme k1 m in=1000 out=500 id=r2 seq=1                    -> booked
        usage acme k1 m in=1000 out=500 id=r4 seq=3 meter.image=2      -> booked
        usage acme k1 m cost=0.25 id=r5                                -> booked
        batch
        usage acme k1 m in=1000 out=500 id=s1 time=2026-11-19T10:00:00Z
        usage beta k1 m in=1000 out=500 id=s1
        usage beta project:web n in=1000 out=500 id=s2
        usage beta project:web m in=1000 out=500 id=s3 source=other seq=5
        usage acme k1 m in=1000 out=500 id=s4 time=none
        end                                                            -> booked 4 quarantined 1
        unreadable acme                                                -> quarantined unreadable
        at 2026-11-20T10:10:00Z
        close                                                          -> cycles 1
        cycle 60                                                       -> ok
        takeover node2                                                 -> term 2
        ",
    )
});

/// Applies a message after everything else, and checks what is left. Whether it was an entry that was folded.
fn apply_after(message: &Message) -> bool {
    let mut state = LEDGER.state.clone();
    let position = state.head().position.next();
    let record = Record::read(&ledger_id(), PARTITION, position, &message.subject, &message.payload);
    let mut lookup = Lookup::new(&state, FirstPlacesInMemory::default());
    let sightings = lookup.sightings(&record).unwrap();
    let before = state.clone();
    match (state.apply(&record, &sightings), &record.content) {
        (Ok(effects), Content::Foreign(_)) => {
            assert!(matches!(effects[..], [Effect::Foreign { .. }]));
            assert_eq!(state.head().skipped, before.head().skipped + 1);
            assert!(state.organizations().eq(before.organizations()), "what was skipped changed something");
            false
        }
        (Ok(_), Content::Entry(..)) => {
            consistent(&state);
            true
        }
        (Err(corrupt), Content::Foreign(_)) => panic!("a foreign message is corrupt: {corrupt}"),
        (Err(corrupt), Content::Entry(_, entry)) => {
            let decided = matches!(entry.body, Body::Decision(_));
            assert!(decided, "usage is corrupt: {corrupt}: {entry:?}");
            true
        }
    }
}

fn consistent(state: &State) {
    let mut told_apart = state.head().quarantined;
    for organization in state.organizations() {
        let purse = &organization.purse;
        assert!(purse.conserves(), "{:?}", organization.purse);
        assert!(!purse.vouchers().is_negative() && !purse.spent().is_negative(), "{purse:?}");
        told_apart += organization.counts.booked + organization.counts.duplicates;
    }
    assert_eq!(told_apart, state.head().usage_records);
    // What can be folded can be kept, and is the same again.
    let mut copy = state.clone();
    let (common, digest) = (copy.common_bytes().unwrap(), copy.digest().unwrap());
    let mut all = LEDGER.state.clone();
    let mut rows: std::collections::BTreeMap<_, _> = all.take_changed().unwrap().into_iter().collect();
    rows.extend(copy.take_changed().unwrap());
    let restored = State::restore(PARTITION, &common, rows.values().map(Vec::as_slice)).unwrap();
    assert_eq!(restored.digest().unwrap(), digest);
}

/// One change of some bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    /// A run of another message.
    Splice(prop::sample::Index, prop::sample::Index, prop::sample::Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let index = any::<prop::sample::Index>;
    // Lengths and tags of bincode are small numbers, and 251 to 253 begin larger ones.
    let byte = prop_oneof![0..4u8, 250..=255u8, any::<u8>()];
    prop_oneof![
        (index(), byte.clone()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (index(), 0..8u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        (index(), byte).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        index().prop_map(Mutation::Remove),
        index().prop_map(Mutation::Cut),
        (index(), index(), index(), 1..40usize)
            .prop_map(|(at, of, from, length)| Mutation::Splice(at, of, from, length)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    if bytes.is_empty() {
        return;
    }
    match mutation {
        Mutation::Set(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Mutation::Flip(at, bit) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        Mutation::Insert(at, byte) => bytes.insert(at.index(bytes.len()), *byte),
        Mutation::Remove(at) => {
            bytes.remove(at.index(bytes.len()));
        }
        Mutation::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Mutation::Splice(at, of, from, length) => {
            let other = &of.get(&LEDGER.log).payload;
            let from = from.index(other.len());
            let run = &other[from..other.len().min(from + length)];
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + run.len());
            bytes.splice(at..end, run.iter().copied());
        }
    }
}

/// The same entry by a writer that nobody knows, so that it is not a copy.
fn fresh(message: &Message) -> Message {
    let mut entry = codec::decode_entry(&message.payload).unwrap();
    entry.id.writer.0 = 99;
    if let Body::Decision(decision) = &mut entry.body {
        decision.term = LEDGER.state.head().term;
    }
    Message { subject: message.subject.clone(), payload: codec::encode_entry(&entry).unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_entries_never_break_the_fold(
        of: prop::sample::Index, mutations in prop::collection::vec(mutation(), 1..4), subject: prop::sample::Index,
        elsewhere in 0..10u8,
    ) {
        let mut message = fresh(of.get(&LEDGER.log));
        for mutation in &mutations {
            mutate(&mut message.payload, mutation);
        }
        if elsewhere == 0 {
            message.subject = subject.get(&LEDGER.log).subject.clone();
        }
        apply_after(&message);
    }

    #[test]
    fn random_bytes_are_foreign(
        bytes in prop::collection::vec(any::<u8>(), 0..300), version: bool, subject: prop::sample::Index,
    ) {
        let mut payload = bytes;
        if version && !payload.is_empty() {
            payload[0] = codec::ENTRY_VERSION;
        }
        apply_after(&Message { subject: subject.get(&LEDGER.log).subject.clone(), payload });
    }

    /// Usage that reads well and says anything: indexes, counts, times, amounts, dictionaries.
    #[test]
    fn usage_that_says_anything_is_folded(
        of in 0..5usize, changes in prop::collection::vec((0..12u8, 0..5usize, interesting()), 1..6), recorded: i64,
        late: bool,
    ) {
        let usage: Vec<_> = LEDGER
            .log
            .iter()
            .filter(|message| matches!(codec::decode_entry(&message.payload).unwrap().body, Body::Usage(_)))
            .collect();
        let message = usage[of];
        let mut entry = codec::decode_entry(&message.payload).unwrap();
        entry.id.writer.0 = 99;
        if late {
            entry.recorded_at = Timestamp::from_nanos(recorded);
        }
        if let Body::Usage(batch) = &mut entry.body {
            for (what, row, number) in changes {
                change(batch, what, row, number);
            }
        }
        let payload = codec::encode_entry(&entry).unwrap();
        apply_after(&Message { subject: message.subject.clone(), payload });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    /// Decisions with amounts, terms, times and cycles that no rule allows: corrupt, or money is still conserved,
    /// also by what is booked after them.
    #[test]
    fn decisions_that_say_anything_lose_no_money(
        what in 0..6u8, units in prop_oneof![-3..3i128, any::<i128>(), -10i128.pow(15)..10i128.pow(15)], number: u64,
        at: i64,
    ) {
        let mut ledger = LEDGER.clone();
        let amount = codec::decode_row::<Amount>(&codec::encode_row(&units).unwrap()).unwrap();
        let at = Timestamp::from_nanos(at);
        let organization = Topic::Organization(org("acme"));
        let voucher = |origin| MoneyEvent::VoucherGranted {
            voucher: VoucherId::from_bits(number.into()), amount, expires_at: Some(at), origin,
        };
        let reference = Reference::parse("forged").unwrap();
        let (topic, event) = match what {
            0 => (organization, Event::Money(MoneyEvent::Recharged {
                recharge: RechargeId::from_bits(9), amount, reference,
            })),
            1 => (organization, Event::Money(voucher(VoucherOrigin::MovedIn))),
            2 => (organization, Event::Money(voucher(VoucherOrigin::Policy))),
            3 => (Topic::Config, Event::Partition(PartitionEvent::BillingCycleClosed { through: at, cycles: 0 })),
            4 => {
                let cycle_seconds = u32::try_from(number >> 32).unwrap();
                let lag = LagModel { cycle_seconds, delay_seconds: u32::MAX };
                (Topic::Config, Event::Config(ConfigEvent::LagModelSet(lag)))
            }
            _ => {
                let (node, zone_database) = (NodeName::parse("forged").unwrap(), String::new());
                let taken = PartitionEvent::OwnershipTaken { term: number, node, zone_database };
                (Topic::Config, Event::Partition(taken))
            }
        };
        let decision = Decision {
            term: ledger.state.head().term,
            actor: Actor::Engine,
            cause: Cause::Timer,
            events: vec![event],
        };
        let entry = ledger.entry(Body::Decision(decision));
        if ledger.append(&topic, &entry).is_ok() {
            consistent(&ledger.state);
            for message in &LEDGER.log {
                // The same records again are repetitions; so they get names of their own.
                let mut entry = codec::decode_entry(&message.payload).unwrap();
                if let Body::Usage(batch) = &mut entry.body {
                    entry.id.writer.0 = 77;
                    batch.rows.iter_mut().for_each(|row| row.producerseq = None);
                    batch.ids = batch.ids.to_uppercase();
                    let topic = Topic::of_subject(&message.subject, PARTITION).unwrap();
                    ledger.append(&topic, &entry).unwrap();
                    consistent(&ledger.state);
                }
            }
            ledger.command(&Command::Partition(PartitionCommand::CloseCycles), None).unwrap();
            consistent(&ledger.state);
        }
    }
}

fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..6u64,
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 63),
        Just((1 << 63) - 1),
        Just(1 << 20),
        Just(1_000_000_000_000),
        Just(1_000_000_000_001),
        any::<u64>(),
    ]
}

fn change(batch: &mut UsageBatch, what: u8, row: usize, number: u64) {
    let small = u32::try_from(number % 6).unwrap();
    let signed = number.cast_signed();
    let organizations = batch.organizations.len();
    let row = row % batch.rows.len().max(1);
    let Some(changed) = batch.rows.get_mut(row) else { return };
    match what {
        0 => changed.payer = small,
        1 => changed.source = small,
        2 => changed.model = small,
        3 => changed.id_length = small,
        4 => changed.occurred = RowTime::Given(signed),
        5 => changed.occurred = RowTime::Assumed(signed),
        6 => changed.producerseq = Some(number),
        7 => changed.tokens.input = number,
        8 => changed.tokens.cached_input = number,
        9 => {
            let mut extras = changed.extras.take().unwrap_or_default();
            // Any number of units there is, also such as no amount has.
            let bytes = codec::encode_row(&(i128::from(signed) << (number % 64))).unwrap();
            extras.cost = codec::decode_row::<Amount>(&bytes).ok();
            changed.extras = Some(extras);
        }
        10 => {
            // The same organization a second time.
            if let Some(first) = batch.organizations.first().cloned() {
                batch.organizations.push(first);
            }
            if let Some(payer) = batch.payers.last_mut() {
                payer.0 = u32::try_from(organizations).unwrap();
            }
            if let Some(source) = batch.sources.last_mut() {
                source.0 = u32::try_from(organizations).unwrap();
            }
        }
        _ => {
            let copy = changed.clone();
            batch.rows.push(copy);
        }
    }
}
