//! Rows as they stand in an entry: numbers in as few bytes as each needs, with all widths in front, so that reading
//! one takes no decisions.
//!
//! ```text
//! rows     number of rows, packed bytes, extras of the rows that have some
//! packed   row … row 0 0 0 0 0 0 0 0                             the zeros let the last number be read like any other
//! row      5 bytes little-endian: nine widths of 4 bits, flags   then payer, source, model, bytes of the id, time,
//!                                                                producerseq, input, cached, output: little-endian
//! flags    1: the publisher said when   2: has producerseq   4: has extras
//! time     nanoseconds from the batch's base, times two, negative ones less one (zigzag)
//! ```

use std::fmt;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::ser::{SerializeTuple, Serializer};
use serde::{Deserialize, Serialize};

use super::{Row, RowTime};
use crate::usage::{Extras, Tokens};

/// Numbers of a row.
const NUMBERS: usize = 9;
/// Bytes of widths and flags.
const HEAD: usize = 5;
/// Zeros at the end.
const PADDING: usize = 8;
/// Most bytes of one packed row: four dictionary indexes of 4 bytes and five numbers of 8.
pub(super) const ROW_BYTES_MAX: usize = HEAD + 4 * 4 + 5 * 8;

const GIVEN: u64 = 1;
const COUNTED: u64 = 2;
const EXTRAS: u64 = 4;
/// Where flags stand in the head.
const FLAGS_AT: u32 = 36;

pub(super) fn serialize<S: Serializer>(rows: &[Row], serializer: S) -> Result<S::Ok, S::Error> {
    let mut packed = Vec::with_capacity(rows.len().saturating_mul(24).saturating_add(PADDING));
    for row in rows {
        pack(row, &mut packed);
    }
    packed.extend_from_slice(&[0; PADDING]);
    let extras: Vec<&Extras> = rows.iter().filter_map(|row| row.extras.as_deref()).collect();
    let mut tuple = serializer.serialize_tuple(3)?;
    tuple.serialize_element(&rows.len())?;
    tuple.serialize_element(&Bytes(&packed))?;
    tuple.serialize_element(&extras)?;
    tuple.end()
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Row>, D::Error> {
    struct Rows;
    impl<'de> Visitor<'de> for Rows {
        type Value = Vec<Row>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("packed rows")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Row>, A::Error> {
            let mut part = || de::Error::custom("rows are cut");
            let count: usize = seq.next_element()?.ok_or_else(&mut part)?;
            let packed: Bytes<'de> = seq.next_element()?.ok_or_else(&mut part)?;
            let extras: Vec<Extras> = seq.next_element()?.ok_or_else(&mut part)?;
            unpack(count, packed.0, extras)
                .ok_or_else(|| de::Error::custom("rows are not packed as they should be"))
        }
    }
    deserializer.deserialize_tuple(3, Rows)
}

fn pack(row: &Row, packed: &mut Vec<u8>) {
    let (given, nanos) = match row.occurred {
        RowTime::Given(nanos) => (GIVEN, nanos),
        RowTime::Assumed(nanos) => (0, nanos),
    };
    let counted = if row.producerseq.is_some() { COUNTED } else { 0 };
    let extras = if row.extras.is_some() { EXTRAS } else { 0 };
    let zigzag = (nanos << 1) ^ (nanos >> 63);
    let numbers: [u64; NUMBERS] = [
        row.payer.into(),
        row.source.into(),
        row.model.into(),
        row.id_length.into(),
        zigzag.cast_unsigned(),
        row.producerseq.unwrap_or(0),
        row.tokens.input,
        row.tokens.cached_input,
        row.tokens.output,
    ];
    let mut head = (given | counted | extras) << FLAGS_AT;
    for (place, number) in (0u32..).zip(numbers) {
        head |= u64::from(width(number)) << place.saturating_mul(4);
    }
    packed.extend(head.to_le_bytes().into_iter().take(HEAD));
    for number in numbers {
        let bytes = number.to_le_bytes();
        packed.extend(bytes.into_iter().take(usize::try_from(width(number)).unwrap_or(bytes.len())));
    }
}

/// Bytes that a number needs.
const fn width(number: u64) -> u32 {
    u64::BITS.saturating_sub(number.leading_zeros()).div_ceil(8)
}

fn unpack(count: usize, packed: &[u8], extras: Vec<Extras>) -> Option<Vec<Row>> {
    // A forged count must not allocate more than its bytes could hold.
    if count > packed.len() / HEAD {
        return None;
    }
    let mut extras = extras.into_iter();
    let mut rows = Vec::with_capacity(count);
    let mut rest = packed;
    for _ in 0..count {
        let head = next_eight(rest)?;
        rest = rest.get(HEAD..)?;
        let mut numbers = [0u64; NUMBERS];
        let mut widths = head;
        for number in &mut numbers {
            let width = usize::try_from(widths & 15).ok()?;
            *number = next_eight(rest)? & *MASKS.get(width)?;
            rest = rest.get(width..)?;
            widths >>= 4;
        }
        let [payer, source, model, id_length, zigzag, producerseq, input, cached_input, output] = numbers;
        let nanos = (zigzag >> 1).cast_signed() ^ (zigzag & 1).cast_signed().wrapping_neg();
        let flag = |flag: u64| widths & flag != 0;
        rows.push(Row {
            payer: u32::try_from(payer).ok()?,
            source: u32::try_from(source).ok()?,
            model: u32::try_from(model).ok()?,
            id_length: u32::try_from(id_length).ok()?,
            occurred: if flag(GIVEN) { RowTime::Given(nanos) } else { RowTime::Assumed(nanos) },
            producerseq: flag(COUNTED).then_some(producerseq),
            tokens: Tokens { input, cached_input, output },
            extras: if flag(EXTRAS) { Some(Box::new(extras.next()?)) } else { None },
        });
    }
    (rest == [0; PADDING] && extras.next().is_none()).then_some(rows)
}

/// What is left of eight bytes when only so many count.
const MASKS: [u64; 9] = [
    0,
    0xff,
    0xffff,
    0xff_ffff,
    0xffff_ffff,
    0xff_ffff_ffff,
    0xffff_ffff_ffff,
    0xff_ffff_ffff_ffff,
    u64::MAX,
];

fn next_eight(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|chunk| u64::from_le_bytes(*chunk))
}

/// Bytes written and read as such, where they stand.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Bytes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Bytes<'de>, E> {
                Ok(Bytes(bytes))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row() -> impl Strategy<Value = Row> {
        // Numbers of every width.
        let number =
            (any::<u64>(), 0..=64u32).prop_map(|(number, less)| number.checked_shr(less).unwrap_or(0));
        let index =
            (any::<u32>(), 0..=32u32).prop_map(|(number, less)| number.checked_shr(less).unwrap_or(0));
        (
            prop::array::uniform4(index),
            (any::<i64>(), 0..64u32).prop_map(|(nanos, less)| nanos >> less),
            prop::option::of(number.clone()),
            prop::array::uniform3(number),
            any::<bool>(),
            prop::option::of("[a-z]{0,9}"),
        )
            .prop_map(
                |([payer, source, model, id_length], nanos, producerseq, tokens, given, lease)| Row {
                    payer,
                    source,
                    model,
                    id_length,
                    occurred: if given { RowTime::Given(nanos) } else { RowTime::Assumed(nanos) },
                    producerseq,
                    tokens: Tokens { input: tokens[0], cached_input: tokens[1], output: tokens[2] },
                    extras: lease.map(|lease| Box::new(Extras { lease: Some(lease), ..Extras::default() })),
                },
            )
    }

    fn packed(rows: &[Row]) -> Vec<u8> {
        let mut packed = Vec::new();
        rows.iter().for_each(|row| pack(row, &mut packed));
        packed.extend([0; PADDING]);
        packed
    }

    proptest! {
        #[test]
        fn what_was_packed_unpacks(rows in prop::collection::vec(row(), 0..20)) {
            let packed = packed(&rows);
            prop_assert!(packed.len() <= rows.len() * ROW_BYTES_MAX + PADDING);
            let extras: Vec<_> = rows.iter().filter_map(|row| row.extras.as_deref().cloned()).collect();
            prop_assert_eq!(unpack(rows.len(), &packed, extras.clone()), Some(rows.clone()));
            prop_assert_eq!(unpack(rows.len() + 1, &packed, extras.clone()), None);
            prop_assert_eq!(unpack(rows.len(), &packed[..packed.len() - 1], extras.clone()), None);
            prop_assert_eq!(unpack(rows.len(), &[&packed[..], &[0]].concat(), extras), None);
        }

        #[test]
        fn whatever_stands_there_is_read_or_refused(count in 0..50usize, bytes: Vec<u8>) {
            let _ = unpack(count, &bytes, Vec::new());
        }
    }

    #[test]
    fn a_forged_count_allocates_nothing() {
        assert_eq!(unpack(usize::MAX, &[0; 64], Vec::new()), None);
    }
}
