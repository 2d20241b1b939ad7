//! Usage packed for the log: small dictionaries, and rows that hold indexes into them. Smaller, and the only way to
//! fold millions of records a second.

mod rows;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use crate::id::{ModelName, OrgId, SourceName};
use crate::time::Timestamp;
use crate::usage::{Charged, ENTRY_BYTES_MAX, Extras, Occurred, ROWS_MAX, Tokens, Usage};

/// Usage records of one entry. [`UsageBatch::check`] says whether every index points into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageBatch {
    /// Rows tell their time from here.
    pub base: Timestamp,
    /// Organizations.
    pub organizations: Vec<OrgId>,
    /// Who is charged: an index into `organizations`, and what of it.
    pub payers: Vec<(u32, Charged)>,
    /// Who published: an index into `organizations`, because sources are told apart per organization, and the source.
    pub sources: Vec<(u32, SourceName)>,
    /// Models.
    pub models: Vec<ModelName>,
    /// The records.
    #[serde(with = "rows")]
    pub rows: Vec<Row>,
    /// The records' ids, one behind the other.
    pub ids: String,
}

/// One usage record as it is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index into `payers`.
    pub payer: u32,
    /// Index into `sources`.
    pub source: u32,
    /// Index into `models`.
    pub model: u32,
    /// Bytes of its id in `ids`.
    pub id_length: u32,
    /// Nanoseconds from `base`, and whether the publisher said so.
    pub occurred: RowTime,
    /// The source's own count.
    pub producerseq: Option<u64>,
    /// How much.
    pub tokens: Tokens,
    /// What few records carry.
    pub extras: Option<Box<Extras>>,
}

/// When a packed record occurred, in nanoseconds from the batch's base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowTime {
    /// As the publisher said.
    Given(i64),
    /// When it arrived.
    Assumed(i64),
}

/// A batch that contradicts itself, so that it cannot be one that we wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {row} points outside of its batch")]
pub struct BrokenBatch {
    /// The first bad row.
    pub row: usize,
}

impl UsageBatch {
    /// Whether every index of every dictionary and row points into this batch, and ids cover exactly `ids`.
    pub fn check(&self) -> Result<(), BrokenBatch> {
        let organizations = self.organizations.len();
        let within = |index: u32, length: usize| usize::try_from(index).is_ok_and(|index| index < length);
        let largest = organizations.max(self.payers.len()).max(self.sources.len()).max(self.models.len());
        // A source that stood twice, or whose organization did, would be counted in two windows.
        let sources: HashSet<_> = self.sources.iter().collect();
        let names: HashSet<_> = self.organizations.iter().collect();
        let dictionaries = self.payers.iter().all(|(org, _)| within(*org, organizations))
            && self.sources.iter().all(|(org, _)| within(*org, organizations))
            && sources.len() == self.sources.len()
            && names.len() == organizations
            && largest <= self.rows.len()
            && self.rows.len() <= ROWS_MAX;
        if !dictionaries {
            return Err(BrokenBatch { row: 0 });
        }
        let mut end = 0usize;
        for (number, row) in self.rows.iter().enumerate() {
            let start = end;
            end = usize::try_from(row.id_length)
                .ok()
                .and_then(|length| end.checked_add(length))
                .unwrap_or(usize::MAX);
            let agrees = || {
                let payer = self.payers.get(usize::try_from(row.payer).ok()?)?;
                let source = self.sources.get(usize::try_from(row.source).ok()?)?;
                (payer.0 == source.0).then_some(())
            };
            if agrees().is_none()
                || !within(row.model, self.models.len())
                || self.ids.get(start..end).is_none()
            {
                return Err(BrokenBatch { row: number });
            }
        }
        if end == self.ids.len() { Ok(()) } else { Err(BrokenBatch { row: self.rows.len() }) }
    }

    /// When a row of this batch occurred.
    pub const fn occurred(&self, row: &Row) -> Occurred {
        match row.occurred {
            RowTime::Given(nanos) => Occurred::Given(self.base.plus_nanos(nanos)),
            RowTime::Assumed(nanos) => Occurred::Assumed(self.base.plus_nanos(nanos)),
        }
    }

    /// The records as they were packed, in order; rows that point outside are left out.
    pub fn unpack(&self) -> impl Iterator<Item = Usage> + '_ {
        let mut end = 0usize;
        self.rows.iter().filter_map(move |row| {
            let start = end;
            end = end.checked_add(usize::try_from(row.id_length).ok()?)?;
            let (org, charged) = self.payers.get(usize::try_from(row.payer).ok()?)?;
            let (_, source) = self.sources.get(usize::try_from(row.source).ok()?)?;
            Some(Usage {
                organization: self.organizations.get(usize::try_from(*org).ok()?)?.clone(),
                charged: charged.clone(),
                model: self.models.get(usize::try_from(row.model).ok()?)?.clone(),
                source: source.clone(),
                id: self.ids.get(start..end)?.to_owned(),
                occurred: self.occurred(row),
                producerseq: row.producerseq,
                tokens: row.tokens,
                extras: row.extras.clone(),
            })
        })
    }
}

/// Packs records until the entry is full.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    batch: UsageBatch,
    bytes: usize,
    organizations: HashMap<OrgId, u32>,
    payers: HashMap<(u32, Charged), u32>,
    sources: HashMap<(u32, SourceName), u32>,
    models: HashMap<ModelName, u32>,
    last: Option<LastRow>,
}

/// Dictionary indexes of the row before: neighbours mostly share them, and comparing is cheaper than hashing.
#[derive(Clone, Copy, Debug)]
struct LastRow {
    organization: u32,
    payer: u32,
    source: u32,
    model: u32,
}

/// Most bytes of an entry beside what its records bring: ids of ledger and writer, times, lengths, padding.
const FRAME_BYTES_MAX: usize = 256;
/// Most bytes of a text's or a list's length.
const LENGTH_BYTES_MAX: usize = 5;
/// Most bytes of a number.
const NUMBER_BYTES_MAX: usize = 9;
/// Most bytes of an amount.
const AMOUNT_BYTES_MAX: usize = 17;

impl BatchBuilder {
    /// An empty batch whose rows tell their time from `base`.
    pub fn new(base: Timestamp) -> Self {
        let batch = UsageBatch { base, ..UsageBatch::default() };
        Self { batch, bytes: FRAME_BYTES_MAX, ..Self::default() }
    }

    /// No fewer bytes than the entry has once it is encoded.
    pub const fn bytes_at_most(&self) -> usize {
        self.bytes
    }

    /// How many records are in it.
    pub fn len(&self) -> usize {
        self.batch.rows.len()
    }

    /// Whether no record is in it.
    pub fn is_empty(&self) -> bool {
        self.batch.rows.is_empty()
    }

    /// Whether it takes no more.
    pub fn is_full(&self) -> bool {
        self.len() >= ROWS_MAX || self.bytes >= ENTRY_BYTES_MAX
    }

    /// The only organization in it, if there is just one.
    pub fn only_organization(&self) -> Option<&OrgId> {
        match self.batch.organizations.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Packs one more record.
    pub fn push(&mut self, usage: &Usage) {
        let hint = self.last;
        let entry = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        let organization = match hint {
            Some(last)
                if self.batch.organizations.get(entry(last.organization)) == Some(&usage.organization) =>
            {
                last.organization
            }
            Some(_) | None => intern(
                &mut self.organizations,
                &mut self.batch.organizations,
                &mut self.bytes,
                usage.organization.as_str().len(),
                usage.organization.clone(),
            ),
        };
        let payer = match hint {
            Some(last)
                if self
                    .batch
                    .payers
                    .get(entry(last.payer))
                    .is_some_and(|(org, charged)| *org == organization && *charged == usage.charged) =>
            {
                last.payer
            }
            Some(_) | None => intern(
                &mut self.payers,
                &mut self.batch.payers,
                &mut self.bytes,
                match &usage.charged {
                    Charged::Key(id) => id.as_str().len(),
                    Charged::Project(id) => id.as_str().len(),
                },
                (organization, usage.charged.clone()),
            ),
        };
        let source = match hint {
            Some(last)
                if self
                    .batch
                    .sources
                    .get(entry(last.source))
                    .is_some_and(|(org, source)| *org == organization && *source == usage.source) =>
            {
                last.source
            }
            Some(_) | None => intern(
                &mut self.sources,
                &mut self.batch.sources,
                &mut self.bytes,
                usage.source.as_str().len(),
                (organization, usage.source.clone()),
            ),
        };
        let model = match hint {
            Some(last) if self.batch.models.get(entry(last.model)) == Some(&usage.model) => last.model,
            Some(_) | None => {
                let length = usage.model.as_str().len();
                intern(&mut self.models, &mut self.batch.models, &mut self.bytes, length, usage.model.clone())
            }
        };
        self.last = Some(LastRow { organization, payer, source, model });
        let extras = usage.extras.as_deref().map_or(0, extras_bytes_at_most);
        self.bytes = self
            .bytes
            .saturating_add(rows::ROW_BYTES_MAX)
            .saturating_add(usage.id.len())
            .saturating_add(extras);
        let base = self.batch.base;
        self.batch.ids.push_str(&usage.id);
        self.batch.rows.push(Row {
            payer,
            source,
            model,
            id_length: u32::try_from(usage.id.len()).unwrap_or(u32::MAX),
            occurred: match usage.occurred {
                Occurred::Given(at) => RowTime::Given(at.nanos_since(base)),
                Occurred::Assumed(at) => RowTime::Assumed(at.nanos_since(base)),
            },
            producerseq: usage.producerseq,
            tokens: usage.tokens,
            extras: usage.extras.clone(),
        });
    }

    /// The batch.
    pub fn finish(self) -> UsageBatch {
        self.batch
    }
}

/// The index of `value` in a dictionary, which gets it if it is new.
fn intern<T: Clone + Eq + Hash>(
    index: &mut HashMap<T, u32>,
    dictionary: &mut Vec<T>,
    bytes: &mut usize,
    text_bytes: usize,
    value: T,
) -> u32 {
    if let Some(known) = index.get(&value) {
        return *known;
    }
    let place = u32::try_from(dictionary.len()).unwrap_or(u32::MAX);
    // Beside the text: its length, an organization's index, and a tag.
    *bytes =
        bytes.saturating_add(text_bytes).saturating_add(LENGTH_BYTES_MAX).saturating_add(NUMBER_BYTES_MAX);
    index.insert(value.clone(), place);
    dictionary.push(value);
    place
}

/// No fewer bytes than extras have once they are encoded.
fn extras_bytes_at_most(extras: &Extras) -> usize {
    let Extras { lease, request_id, cost, meters, kept } = extras;
    let text = |text: &Option<String>| {
        text.as_ref().map_or(1, |text| text.len().saturating_add(LENGTH_BYTES_MAX).saturating_add(1))
    };
    let cost = if cost.is_some() { AMOUNT_BYTES_MAX.saturating_add(1) } else { 1 };
    let meter = LENGTH_BYTES_MAX.saturating_add(NUMBER_BYTES_MAX);
    let meters = meters.keys().map(|name| name.as_str().len().saturating_add(meter));
    [text(lease), text(request_id), cost, text(kept), LENGTH_BYTES_MAX]
        .into_iter()
        .chain(meters)
        .fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amount::Amount;
    use crate::codec;
    use crate::entry::{Body, Entry};
    use crate::id::{KeyId, LedgerId, MeterName, ProjectId};
    use crate::position::{EntryId, PartitionId, WriterId};
    use crate::usage::{KEPT_BYTES_MAX, USAGE_ID_MAX};

    prop_compose! {
        /// Usage with few distinct names, as real traffic has.
        pub(crate) fn usage()(
            org in 0..3u128, key in 0..4u128, by_key: bool, model in 0..3u8, source in 0..3u8, id in "[a-z0-9-]{1,20}",
            at in -1_000_000_000_000_000_000..4_000_000_000_000_000_000i64, given: bool, seq: Option<u64>,
            tokens in (0..1_000_000u64, 0..1000u64, 0..100_000u64), cost: Option<u32>,
        ) -> Usage {
            let at = Timestamp::from_nanos(at);
            Usage {
                organization: OrgId::from_bits(org),
                charged: if by_key {
                    Charged::Key(KeyId::from_bits(key))
                } else {
                    Charged::Project(ProjectId::from_bits(key))
                },
                model: ModelName::parse(&format!("model-{model}")).unwrap(),
                source: SourceName::parse(&format!("//gateway/{source}")).unwrap(),
                id,
                occurred: if given { Occurred::Given(at) } else { Occurred::Assumed(at) },
                producerseq: seq,
                tokens: Tokens { input: tokens.0, cached_input: tokens.1, output: tokens.2 },
                extras: cost.map(|cost| Box::new(Extras { cost: Some(Amount::whole(cost)), ..Extras::default() })),
            }
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks(records in prop::collection::vec(usage(), 0..50), base: i32) {
            let mut builder = BatchBuilder::new(Timestamp::from_seconds(i64::from(base)));
            for record in &records {
                builder.push(record);
            }
            let batch = builder.finish();
            prop_assert_eq!(batch.check(), Ok(()));
            prop_assert_eq!(batch.unpack().collect::<Vec<_>>(), records);
        }
    }

    fn long(letter: char, most: usize) -> impl Strategy<Value = String> {
        (1..=most).prop_map(move |length| letter.to_string().repeat(length))
    }

    prop_compose! {
        /// Usage with texts as long as they may be, and hardly two the same.
        fn large()(
            mut usage in usage(), source in long('s', SourceName::MAX), model in long('m', ModelName::MAX), number: u16,
            id in long('i', USAGE_ID_MAX), kept in prop::option::of(long('k', KEPT_BYTES_MAX)),
            lease in prop::option::of(long('l', 128)), request_id in prop::option::of(long('r', 128)),
            meters in 0..=32u64, units: u64, tokens: [u64; 3], cost: Option<u64>, plain: bool,
        ) -> Usage {
            usage.organization = OrgId::parse(&format!("org_{number:05}{}", "o".repeat(63))).unwrap();
            usage.charged = Charged::Project(ProjectId::parse(&format!("proj_{number:05}{}", "p".repeat(62))).unwrap());
            usage.source = SourceName::parse(&source).unwrap();
            usage.model = ModelName::parse(&model).unwrap();
            usage.id = id;
            usage.tokens = Tokens { input: tokens[0], cached_input: tokens[1], output: tokens[2] };
            let name = |number| MeterName::parse(&format!("{number:064}")).unwrap();
            let meters = (0..meters).map(|number| (name(number), units)).collect();
            let cost = cost.and_then(|units| Amount::from_units(i128::from(units) << 32));
            usage.extras = (!plain).then(|| Box::new(Extras { lease, request_id, cost, meters, kept }));
            usage
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn an_entry_is_never_larger_than_reckoned_nor_than_a_message(
            records in prop::collection::vec(large(), 1..60), count: u64, writer: u64, ledger in "[a-z0-9]{1,65}",
        ) {
            let mut builder = BatchBuilder::new(Timestamp::MAX);
            for usage in records.iter().cycle() {
                if builder.is_full() {
                    break;
                }
                builder.push(usage);
            }
            let most = builder.bytes_at_most();
            let id = EntryId {
                ledger: LedgerId::parse(&format!("ledger_{ledger}")).unwrap(),
                partition: PartitionId(u16::MAX),
                writer: WriterId(writer),
                count,
            };
            let entry = Entry { id, recorded_at: Timestamp::MAX, body: Body::Usage(builder.finish()) };
            let bytes = codec::encode_entry(&entry).unwrap().len();
            prop_assert!(bytes <= most, "{} bytes were reckoned as {}", bytes, most);
            // `log::PAYLOAD_MAX`.
            prop_assert!(most <= 1024 * 1024);
        }
    }

    #[test]
    fn rows_that_point_outside_are_found() {
        let good = || {
            let mut builder = BatchBuilder::new(Timestamp::EPOCH);
            builder.push(&Usage {
                organization: OrgId::from_bits(1),
                charged: Charged::Key(KeyId::from_bits(1)),
                model: ModelName::parse("m").unwrap(),
                source: SourceName::parse("s").unwrap(),
                id: "ü".into(),
                occurred: Occurred::Given(Timestamp::EPOCH),
                producerseq: None,
                tokens: Tokens::default(),
                extras: None,
            });
            builder.finish()
        };
        let broken: [fn(&mut UsageBatch); 9] = [
            |batch| batch.rows[0].payer = 1,
            |batch| batch.rows[0].source = u32::MAX,
            |batch| batch.rows[0].model = 1,
            |batch| batch.rows[0].id_length = 1,
            |batch| batch.rows[0].id_length = 3,
            |batch| batch.ids.push('x'),
            |batch| batch.payers[0].0 = 1,
            |batch| batch.sources.push(batch.sources[0].clone()),
            |batch| batch.models.push(batch.models[0].clone()),
        ];
        assert_eq!(good().check(), Ok(()));
        for (number, break_it) in broken.iter().enumerate() {
            let mut batch = good();
            break_it(&mut batch);
            assert!(batch.check().is_err(), "case {number}");
        }
    }
}
