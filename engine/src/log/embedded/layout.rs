//! The bytes of the embedded log: keys, values, and the chain that ties each entry to all before it.
//!
//! ```text
//! key                                          value
//! e partition(2) position(8)                   1 chain(32) n(2) subject(n) id payload
//! t partition(2) subject                       position(8) of the topic's last entry
//! i partition(2) id                            position(8) of the entry with this id
//!
//! id: n(1) ledger(n) writer(8) count(8)        numbers are big-endian, so keys sort by them
//! ```
//!
//! All three live in one keyspace: fjall flushes a keyspace as a whole, so entries and indexes can never be of
//! different age.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tollbook_schemas::position::{EntryId, PartitionId, Position, WriterId};

/// SHA-256 over everything up to and with one entry.
pub type Chain = [u8; 32];

/// The chain before the first entry.
pub const GENESIS: Chain = [0; 32];

/// First byte of every entry's value; another number means another layout.
const ENTRY_FORMAT: u8 = 1;

/// The chain after an entry: SHA-256 over `previous`, the position, the length of the subject in two bytes, the
/// subject and the payload; numbers are big-endian.
pub fn chain(previous: &Chain, position: Position, subject: &str, payload: &[u8]) -> Chain {
    Sha256::new()
        .chain_update(previous)
        .chain_update(position.0.to_be_bytes())
        .chain_update(short(subject).to_be_bytes())
        .chain_update(subject)
        .chain_update(payload)
        .finalize()
        .into()
}

/// Subjects are made of ids of at most 72 bytes and cannot reach the limit.
fn short(subject: &str) -> u16 {
    u16::try_from(subject.len()).unwrap_or(u16::MAX)
}

/// The key of an entry.
pub(super) fn entry_key(partition: PartitionId, position: Position) -> Vec<u8> {
    key(b'e', partition, &[&position.0.to_be_bytes()])
}

/// The key of a topic's last position.
pub(super) fn topic_key(partition: PartitionId, subject: &str) -> Vec<u8> {
    key(b't', partition, &[subject.as_bytes()])
}

/// The key of an id's position.
pub(super) fn id_key(id: &EntryId) -> Vec<u8> {
    key(b'i', id.partition, &[&encode_id(id)])
}

fn key(kind: u8, partition: PartitionId, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&partition.0.to_be_bytes());
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

fn encode_id(id: &EntryId) -> Vec<u8> {
    let ledger = id.ledger.as_str();
    let mut bytes = vec![u8::try_from(ledger.len()).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(ledger.as_bytes());
    bytes.extend_from_slice(&id.writer.0.to_be_bytes());
    bytes.extend_from_slice(&id.count.to_be_bytes());
    bytes
}

/// The value of an index key.
pub(super) fn position_value(position: Position) -> [u8; 8] {
    position.0.to_be_bytes()
}

/// What [`position_value`] wrote, or `None`.
pub(super) fn read_position(value: &[u8]) -> Option<Position> {
    Some(Position(u64::from_be_bytes(value.try_into().ok()?)))
}

/// The position in the key of an entry.
pub(super) fn position_of_key(key: &[u8]) -> Option<Position> {
    read_position(key.get(3..)?)
}

/// One entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The chain after this entry.
    pub(super) chain: Chain,
    /// Its subject.
    pub(super) subject: String,
    /// The key of its id in the index, without the partition.
    pub(super) id: IdBytes,
    /// The exact bytes that were appended.
    pub(super) payload: Bytes,
}

/// An id as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IdBytes {
    ledger: String,
    writer: WriterId,
    count: u64,
}

impl IdBytes {
    /// The key of this id's position.
    pub(super) fn key(&self, partition: PartitionId) -> Vec<u8> {
        let length = [u8::try_from(self.ledger.len()).unwrap_or(u8::MAX)];
        let (writer, count) = (self.writer.0.to_be_bytes(), self.count.to_be_bytes());
        key(b'i', partition, &[&length, self.ledger.as_bytes(), &writer, &count])
    }
}

/// The value of an entry, and the payload as a part of it: whoever keeps the payload keeps no second copy.
pub(super) fn encode_row(chain: &Chain, subject: &str, id: &EntryId, payload: &[u8]) -> (Bytes, Bytes) {
    let id = encode_id(id);
    let mut bytes = Vec::with_capacity(1 + chain.len() + 2 + subject.len() + id.len() + payload.len());
    bytes.push(ENTRY_FORMAT);
    bytes.extend_from_slice(chain);
    bytes.extend_from_slice(&short(subject).to_be_bytes());
    bytes.extend_from_slice(subject.as_bytes());
    bytes.extend_from_slice(&id);
    let head = bytes.len();
    bytes.extend_from_slice(payload);
    let value = Bytes::from(bytes);
    let payload = value.slice(head..);
    (value, payload)
}

/// Reads what [`encode_row`] wrote. Errors: what is wrong with it.
pub(super) fn decode_row(value: &Bytes) -> Result<Row, String> {
    let (format, rest) = value.split_first().ok_or("the value is empty")?;
    if *format != ENTRY_FORMAT {
        return Err(format!("the entry has format {format}, this program knows {ENTRY_FORMAT}"));
    }
    decode_body(value, rest).ok_or_else(|| "the entry is too short or not text where it must be".to_owned())
}

fn decode_body(value: &Bytes, mut rest: &[u8]) -> Option<Row> {
    let chain = *take(&mut rest)?;
    let subject = take_text(&mut rest, |length: [u8; 2]| u16::from_be_bytes(length).into())?;
    let ledger = take_text(&mut rest, |[length]: [u8; 1]| length.into())?;
    let writer = WriterId(u64::from_be_bytes(*take(&mut rest)?));
    let count = u64::from_be_bytes(*take(&mut rest)?);
    let payload = value.slice_ref(rest);
    Some(Row { chain, subject, id: IdBytes { ledger, writer, count }, payload })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(head)
}

fn take_text<const N: usize>(rest: &mut &[u8], length: fn([u8; N]) -> usize) -> Option<String> {
    let length = length(*take(rest)?);
    let (text, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollbook_schemas::id::LedgerId;

    fn id() -> EntryId {
        EntryId {
            ledger: LedgerId::from_bits(5),
            partition: PartitionId(3),
            writer: WriterId(0x0102),
            count: 9,
        }
    }

    #[test]
    fn rows_read_back_as_written() {
        let after = chain(&GENESIS, Position(1), "tollbook.log.3.config", b"payload");
        let (value, payload) = encode_row(&after, "tollbook.log.3.config", &id(), b"payload");
        let row = decode_row(&value).unwrap();
        assert_eq!((row.chain, row.subject.as_str()), (after, "tollbook.log.3.config"));
        assert_eq!((&row.payload, payload.as_ref()), (&payload, b"payload".as_slice()));
        assert_eq!(row.id.key(PartitionId(3)), id_key(&id()));
        let head = value.len() - payload.len();
        for cut in 0..head {
            assert!(decode_row(&value.slice(..cut)).is_err(), "{cut}");
        }
    }

    /// Stored logs are read for ever: these bytes never change.
    #[test]
    fn bytes_are_what_they_always_were() {
        let (value, _) = encode_row(&[0xaa; 32], "s", &id(), b"p");
        let mut expected = vec![1];
        expected.extend([0xaa; 32]);
        expected.extend(b"\0\x01s\x21ledger_00000000000000000000000005");
        expected.extend(b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x09p");
        assert_eq!(value, expected);
        assert_eq!(entry_key(PartitionId(3), Position(258)), b"e\0\x03\0\0\0\0\0\0\x01\x02");
        assert_eq!(topic_key(PartitionId(3), "s"), b"t\0\x03s");
        let hex: String =
            chain(&GENESIS, Position(1), "s", b"p").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "3aa602210e682f9f9f5f5e3d6077fe923e1e5292892e00636450b9e9b7b165d4");
    }
}
