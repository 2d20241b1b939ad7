//! One stream of usage, in any batches, in any order within what may be late, any record any number of times and by any
//! way in: the same balances, the same consumption, the same records booked and quarantined. Only repetitions differ.
//!
//! And whatever came when, months of booking add up to what the purse paid, and days of occurrence to what was used.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tollbook_projections::spend::{Cell, CellKey};
use tollbook_projections::state::Effect;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::{Command, OrganizationCommand, PartitionCommand};
use tollbook_schemas::id::{ModelName, MovementId, OrgId, Reason, Reference, SourceName, VoucherId};
use tollbook_schemas::price::{ModelPrice, PriceList};
use tollbook_schemas::time::{Day, Month, Timestamp};
use tollbook_schemas::usage::{Charged, Extras, Occurred, Tokens, Usage, UsagePlace};
use tollbook_tests::memory::{MemoryLedger, Outcome};
use tollbook_tests::script::{check, key, org, project};

/// Two organizations in zones whose clocks change while the records occur, and prices that do.
fn shop() -> MemoryLedger {
    let mut ledger = check(
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
    );
    // A voucher that expires after all of this, and before the other one; and prices of its own for one model.
    let voucher = OrganizationCommand::GrantVoucher {
        voucher: VoucherId::from_bits(1),
        amount: "0.7".parse().unwrap(),
        reference: Reference::parse("v").unwrap(),
        expires_at: Some("2019-06-01T00:00:00Z".parse().unwrap()),
        reason: None,
    };
    let own = |input: &str| ModelPrice {
        input: input.parse().unwrap(),
        cached_input: "0.05".parse().unwrap(),
        output: "2.5".parse().unwrap(),
        meters: BTreeMap::new(),
        max_output_tokens: None,
    };
    let list = |from: &str, input: &str| OrganizationCommand::PublishPrices {
        currency: "USD".into(),
        list: PriceList {
            effective_from: from.parse().unwrap(),
            models: BTreeMap::from([(ModelName::parse("own").unwrap(), own(input))]),
        }
        .into(),
    };
    for command in [voucher, list("2018-10-31T12:00:00Z", "0.5"), list("2018-11-06T12:00:01Z", "9")] {
        ledger.command(&Command::Organization(org("acme"), command), None).unwrap();
    }
    ledger
}

prop_compose! {
    /// A record; some of them can never be booked.
    fn record()(
        whose in 0..2usize, charged in 0..8usize, model in 0..9usize, counts: bool, input in 0..3_000_000u64,
        output in 0..100_000u64, second in 0..866_000i64, image in 0..20u64,
    ) -> Usage {
        // Over the ends of a month and of a week in which clocks change in both zones.
        let begin: Timestamp = "2018-10-27T11:00:00Z".parse().unwrap();
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
            model: ModelName::parse(["m", "m", "m", "own", "n", "n", "n", "own", "none"][model]).unwrap(),
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
                let (topic, entry) = other.pack(&entry);
                other.append(&topic, &entry).unwrap();
                if seconds % 5 == 0 {
                    // The log has it twice, and another process takes what is sent again.
                    other.append(&topic, &entry).unwrap();
                    other.change_writer(2 + seconds.unsigned_abs());
                }
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

    #[test]
    fn r8_4_months_of_booking_and_days_of_occurrence_add_up(
        records in prop::collection::vec((record(), 0..40_000i64, 0..6u8), 1..100),
    ) {
        let waits: Vec<_> = records.iter().map(|(_, wait, what)| (*wait, *what)).collect();
        let records = number(records.into_iter().map(|(record, _, _)| record).collect());
        let mut ledger = shop();
        let mut booked: Vec<(UsagePlace, Usage)> = Vec::new();
        for (usage, (wait, what)) in records.iter().zip(waits) {
            let effects = ledger.usage(std::slice::from_ref(usage));
            let place = UsagePlace { position: ledger.state.head().position, row: 0 };
            let kept_out = |effect: &Effect| matches!(effect, Effect::Quarantined(_) | Effect::Repeated { .. });
            if !effects.iter().any(kept_out) {
                booked.push((place, usage.clone()));
            }
            ledger.now = ledger.now.plus_seconds(wait);
            match what {
                0 if !booked.is_empty() => {
                    let index = usize::try_from(wait).unwrap() % booked.len();
                    let (place, usage) = booked.swap_remove(index);
                    reverse(&mut ledger, place, &usage);
                }
                1 => drop(ledger.command(&Command::Partition(PartitionCommand::CloseMonths), None).unwrap()),
                2 => ledger.restart(),
                _ => {}
            }
        }
        ledger.check();
        for known in ledger.state.organizations() {
            let rows = ledger.history.iter().filter(|(of, _)| *of == known.id).map(|(_, row)| row);
            let mut by_month: BTreeMap<Month, Amount> = BTreeMap::new();
            let mut by_day: BTreeMap<Day, (i64, i128)> = BTreeMap::new();
            for row in rows.chain([&known.open]) {
                for (key, cell) in row.cells.iter() {
                    let sum = by_month.entry(row.booked_on.month()).or_default();
                    *sum = sum.checked_add(cell.cost).unwrap();
                    let day = by_day.entry(key.day).or_default();
                    *day = (day.0 + cell.requests, day.1 + cell.input_tokens);
                }
            }
            // As statements have it.
            let ended = ledger.months.iter().filter(|(of, _)| *of == known.id);
            let mut paid: BTreeMap<Month, Amount> =
                ended.map(|(_, ended)| (ended.month, ended.usage.total().unwrap())).collect();
            paid.insert(known.month.month, known.month.usage.total().unwrap());
            by_month.retain(|_, sum| !sum.is_zero());
            paid.retain(|_, sum| !sum.is_zero());
            prop_assert_eq!(by_month, paid);
            let mut used: BTreeMap<Day, (i64, i128)> = BTreeMap::new();
            for (_, usage) in booked.iter().filter(|(_, usage)| usage.organization == known.id) {
                let day = used.entry(known.calendar.day(usage.occurred.at())).or_default();
                *day = (day.0 + 1, day.1 + i128::from(usage.tokens.input));
            }
            by_day.retain(|_, sums| *sums != (0, 0));
            prop_assert_eq!(by_day, used);
        }
    }
}

/// Takes a booked record back, as the API does.
fn reverse(ledger: &mut MemoryLedger, usage: UsagePlace, record: &Usage) {
    let known = ledger.state.organization(&record.organization).unwrap();
    let booked = ledger.state.as_booked(known, record, usage).unwrap();
    let command = OrganizationCommand::ReverseUsage {
        reversal: MovementId::from_bits(u128::from(ledger.state.head().position.0)),
        usage,
        booked: Box::new(booked),
        reason: Reason::parse("a mistake").unwrap(),
    };
    let command = Command::Organization(record.organization.clone(), command);
    assert!(matches!(ledger.command(&command, None), Ok(Outcome::Entry { .. })));
    assert!(matches!(ledger.command(&command, None), Ok(Outcome::Before(_))), "once");
}
