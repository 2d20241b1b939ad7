//! One stream of usage, in any batches, in any order within what may be late, any record any number of times: the same
//! balances, the same consumption, the same records booked and quarantined. Only repetitions differ.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollbook_projections::spend::{Cell, CellKey};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, PartitionCommand};
use tollbook_schemas::id::{ModelName, OrgId, SourceName};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage};
use tollbook_tests::memory::MemoryLedger;
use tollbook_tests::script::{check, key, org, project};

/// Two organizations in zones whose clocks change while the records occur, and prices that do.
fn shop() -> MemoryLedger {
    check(
        "
        at 2018-11-06T12:00:00Z
        organization acme zone=America/Sao_Paulo
        organization beta zone=Europe/Berlin
        project acme web
        project beta web
        key acme web k1
        key acme web k2
        key beta web k1
        price m input=0.60 cached=0.10 output=3 from=2018-01-01T00:00:00Z
        price n input=1 output=2 meter.image=7 from=2018-11-04T00:30:00Z
        recharge acme 5 ref=a      -> ok voucher 5
        recharge beta 1 ref=a      -> ok
        ",
    )
}

prop_compose! {
    /// A record; some of them can never be booked.
    fn record()(
        whose in 0..2usize, charged in 0..8usize, model in 0..8usize, counts: bool, input in 0..3_000_000u64,
        output in 0..100_000u64, second in 0..260_000i64, image in 0..20u64,
    ) -> Usage {
        let begin: Timestamp = "2018-11-03T11:00:00Z".parse().unwrap();
        let extras = Extras {
            meters: (image < 2).then(|| ("image".parse_meter(), image)).into_iter().collect(),
            cost: (image == 19).then(|| Amount::whole(1)),
            ..Extras::default()
        };
        Usage {
            organization: org(["acme", "beta"][whose]),
            charged: match charged {
                0 => Charged::Project(project("web")),
                1 => Charged::Project(project("none")),
                2 => Charged::Key(key("none")),
                3 => Charged::Key(key("k2")),
                _ => Charged::Key(key("k1")),
            },
            model: ModelName::parse(["m", "m", "m", "m", "n", "n", "n", "none"][model]).unwrap(),
            source: SourceName::parse(if counts { "counts" } else { "names" }).unwrap(),
            id: String::new(),
            occurred: Occurred::Given(begin.plus_seconds(second)),
            // Numbered when it is known which record it is.
            producerseq: counts.then_some(0),
            tokens: Tokens { input, cached_input: input / 3, output },
            extras: (!extras.is_empty()).then(|| Box::new(extras)),
        }
    }
}

trait ParseMeter {
    fn parse_meter(&self) -> tollbook_schemas::id::MeterName;
}

impl ParseMeter for str {
    fn parse_meter(&self) -> tollbook_schemas::id::MeterName {
        tollbook_schemas::id::MeterName::parse(self).unwrap()
    }
}

/// Gives every record its id, and its number where its source counts.
fn number(mut records: Vec<Usage>) -> Vec<Usage> {
    let mut counts: BTreeMap<OrgId, u64> = BTreeMap::new();
    for (number, usage) in records.iter_mut().enumerate() {
        usage.id = format!("r{number}");
        if let Some(sequence) = &mut usage.producerseq {
            let next = counts.entry(usage.organization.clone()).or_default();
            *next += 1;
            *sequence = *next;
        }
    }
    records
}

/// Everything that must not depend on how the stream came.
type Sum = (Amount, Amount, u64, u64, BTreeMap<CellKey, Cell>);

fn sums(ledger: &MemoryLedger) -> Vec<Sum> {
    ledger.check();
    let organizations = ledger.state.organizations();
    let sum = |organization: &tollbook_projections::organization::Organization| {
        let (purse, counts) = (&organization.purse, organization.counts);
        let cells = ledger.cells(&organization.id);
        (purse.cash(), purse.vouchers(), counts.booked, counts.quarantined, cells)
    };
    organizations.map(sum).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn r8_2_batches_order_and_repetition_do_not_matter(
        records in prop::collection::vec(record(), 1..120),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 1..40usize, 0..1_500i64, any::<bool>()), 0..60),
        keys in prop::collection::vec(any::<u32>(), 120),
    ) {
        let records = number(records);
        let mut plain = shop();
        let begin = plain.state.clone();
        for usage in &records {
            plain.usage(std::slice::from_ref(usage));
        }

        let mut other = shop();
        prop_assert_eq!(begin.digest(), other.state.digest());
        let mut shuffled: Vec<_> = records.iter().zip(&keys).collect();
        shuffled.sort_by_key(|(_, key)| **key);
        let mut rest: Vec<Usage> = shuffled.into_iter().map(|(usage, _)| usage.clone()).collect();
        for (index, length, seconds, repeat) in picks {
            // Some that came or will come, and the next of the stream.
            let mut entry = Vec::new();
            if repeat {
                let from = index.index(records.len());
                entry.extend(records[from..].iter().take(length).cloned());
            }
            let next = length.min(rest.len());
            entry.extend(rest.drain(..next));
            if !entry.is_empty() {
                other.usage(&entry);
            }
            other.now = other.now.plus_seconds(seconds);
            if seconds % 3 == 0 {
                other.command(&Command::Partition(PartitionCommand::CloseCycles), None).unwrap();
            }
            if seconds % 7 == 0 {
                other.restart();
            }
        }
        if !rest.is_empty() {
            other.usage(&rest);
        }
        prop_assert_eq!(sums(&plain), sums(&other));
    }
}
