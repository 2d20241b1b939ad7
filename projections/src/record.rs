//! Records: entries as they stand in the log, read and checked as far as that needs no State.

use sha2::{Digest, Sha256};
use tollbook_schemas::codec;
use tollbook_schemas::entry::{Body, Entry};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{PartitionId, Position};
use tollbook_schemas::topic::Topic;

/// SHA-256.
pub type Hash = [u8; 32];

/// One message of the log in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// Of position, subject and exact payload, each told apart by its length.
    pub hash: Hash,
    /// What it is.
    pub content: Content,
}

/// What a message of the log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An entry about a topic.
    Entry(Topic, Box<Entry>),
    /// Not an entry of this partition: skipped, counted, shown.
    Foreign(String),
}

impl Record {
    /// Reads one message of `partition` of `ledger`.
    pub fn read(
        ledger: &LedgerId,
        partition: PartitionId,
        position: Position,
        subject: &str,
        payload: &[u8],
    ) -> Self {
        let content = match read_entry(ledger, partition, subject, payload) {
            Ok((topic, entry)) => Content::Entry(topic, Box::new(entry)),
            Err(reason) => Content::Foreign(reason),
        };
        Self { position, hash: hash_of(position, subject, payload), content }
    }
}

/// What a view remembers of the last message it has applied, to recognize another history.
pub fn hash_of(position: Position, subject: &str, payload: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(position.0.to_be_bytes());
    hasher.update(u64::try_from(subject.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(subject.as_bytes());
    hasher.update(payload);
    hasher.finalize().into()
}

fn read_entry(
    ledger: &LedgerId,
    partition: PartitionId,
    subject: &str,
    payload: &[u8],
) -> Result<(Topic, Entry), String> {
    let topic =
        Topic::of_subject(subject, partition).ok_or_else(|| format!("subject {subject} is not ours"))?;
    let entry = codec::decode_entry(payload).map_err(|error| error.to_string())?;
    if entry.id.ledger != *ledger {
        return Err(format!("the entry is of ledger {}", entry.id.ledger));
    }
    if entry.id.partition != partition {
        return Err(format!("the entry is of partition {}", entry.id.partition));
    }
    match (&entry.body, &topic) {
        (Body::Usage(batch), Topic::Usage(org)) => {
            batch.check().map_err(|error| error.to_string())?;
            if batch.organizations.iter().any(|inside| inside != org) {
                return Err("usage of another organization than the subject's".into());
            }
        }
        (Body::Usage(batch), Topic::UsageMixed) => batch.check().map_err(|error| error.to_string())?,
        (Body::Unreadable(_), Topic::Usage(_) | Topic::UsageMixed) => {}
        (Body::Decision(_), Topic::Organization(_) | Topic::Config) => {}
        (Body::Usage(_) | Body::Unreadable(_), Topic::Organization(_) | Topic::Config)
        | (Body::Decision(_), Topic::Usage(_) | Topic::UsageMixed) => {
            return Err("the entry stands under a subject of another family".into());
        }
    }
    Ok((topic, entry))
}

#[cfg(test)]
mod tests {
    use tollbook_schemas::batch::BatchBuilder;
    use tollbook_schemas::id::{KeyId, ModelName, OrgId, SourceName};
    use tollbook_schemas::position::{EntryId, WriterId};
    use tollbook_schemas::time::Timestamp;
    use tollbook_schemas::usage::{Charged, Occurred, Tokens, Usage};

    use super::*;

    const PARTITION: PartitionId = PartitionId(3);

    fn ledger() -> LedgerId {
        LedgerId::from_bits(1)
    }

    fn usage_of(organizations: &[u128]) -> Entry {
        let mut builder = BatchBuilder::new(Timestamp::EPOCH);
        for organization in organizations {
            builder.push(&Usage {
                organization: OrgId::from_bits(*organization),
                charged: Charged::Key(KeyId::from_bits(1)),
                model: ModelName::parse("m").unwrap(),
                source: SourceName::parse("gw").unwrap(),
                id: "r".into(),
                occurred: Occurred::Given(Timestamp::EPOCH),
                producerseq: None,
                tokens: Tokens::default(),
                extras: None,
            });
        }
        let id = EntryId { ledger: ledger(), partition: PARTITION, writer: WriterId(1), count: 1 };
        Entry { id, recorded_at: Timestamp::EPOCH, body: Body::Usage(builder.finish()) }
    }

    fn is_entry(subject: &str, entry: &Entry) -> bool {
        let payload = codec::encode_entry(entry).unwrap();
        let record = Record::read(&ledger(), PARTITION, Position(1), subject, &payload);
        assert_eq!(record.hash, hash_of(Position(1), subject, &payload));
        matches!(record.content, Content::Entry(..))
    }

    #[test]
    fn r8_1_usage_of_another_organization_than_the_subjects_is_foreign() {
        let own = Topic::Usage(OrgId::from_bits(1)).subject(PARTITION);
        assert!(is_entry(&own, &usage_of(&[1, 1])));
        assert!(!is_entry(&own, &usage_of(&[2])));
        assert!(!is_entry(&own, &usage_of(&[1, 2])));
        assert!(is_entry(&Topic::UsageMixed.subject(PARTITION), &usage_of(&[1, 2])));
    }

    #[test]
    fn what_stands_under_another_partition_ledger_or_family_is_foreign() {
        let mixed = Topic::UsageMixed.subject(PARTITION);
        let mut entry = usage_of(&[1]);
        assert!(!is_entry(&Topic::UsageMixed.subject(PartitionId(4)), &entry));
        assert!(!is_entry(&Topic::Config.subject(PARTITION), &entry));
        assert!(!is_entry(&Topic::Organization(OrgId::from_bits(1)).subject(PARTITION), &entry));
        entry.id.partition = PartitionId(4);
        assert!(!is_entry(&mixed, &entry));
        entry.id.partition = PARTITION;
        entry.id.ledger = LedgerId::from_bits(2);
        assert!(!is_entry(&mixed, &entry));
    }

    #[test]
    fn every_part_of_a_message_changes_its_hash() {
        let hash = hash_of(Position(1), "ab", b"cd");
        for other in [
            hash_of(Position(2), "ab", b"cd"),
            hash_of(Position(1), "abc", b"d"),
            hash_of(Position(1), "a", b"bcd"),
            hash_of(Position(1), "ab", b"ce"),
        ] {
            assert_ne!(hash, other);
        }
    }
}
