//! The first place of every usage id, for records that carry no `producerseq` (R8.2).
//!
//! This index grows with usage, so it lives on disk. It is a projection of its own, filled in the log's order just
//! ahead of State: a hit at a record's own place is the record itself, so an index ahead of State harms nothing.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use tollbook_schemas::batch::UsageBatch;
use tollbook_schemas::codec::{self, EncodeError};
use tollbook_schemas::entry::Body;
use tollbook_schemas::event::{Event, QuarantineEvent};
use tollbook_schemas::id::{OrgId, SourceName};
use tollbook_schemas::usage::{Occurred, Usage, UsagePlace};

use crate::record::{Content, Record};
use crate::state::State;
use crate::writers::Writers;

/// Organization, source and id of a usage record: SHA-256 cut to 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsageKey(pub [u8; 16]);

/// Where an id came first, and what it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// Where.
    pub place: UsagePlace,
    /// Of the content as it was sent, so without a time that we assumed: SHA-256 cut to 128 bits.
    pub content: [u8; 16],
}

/// Where first places are kept.
pub trait FirstPlaces {
    /// Why they cannot be kept.
    type Error;

    /// The first place of `key`: what is known, or else `here`, which is then known.
    fn note(&mut self, key: UsageKey, here: First) -> Result<First, Self::Error>;
}

impl<P: FirstPlaces> FirstPlaces for &mut P {
    type Error = P::Error;

    fn note(&mut self, key: UsageKey, here: First) -> Result<First, Self::Error> {
        (**self).note(key, here)
    }
}

/// First places in memory, for replays that fit and for tests.
#[derive(Clone, Debug, Default)]
pub struct FirstPlacesInMemory(HashMap<UsageKey, First>);

impl FirstPlaces for FirstPlacesInMemory {
    type Error = std::convert::Infallible;

    fn note(&mut self, key: UsageKey, here: First) -> Result<First, Self::Error> {
        Ok(*self.0.entry(key).or_insert(here))
    }
}

/// What one record of the id path is, beside where its id came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Where its id came first.
    pub first: First,
    /// What it says itself.
    pub content: [u8; 16],
}

/// Looks up the ids of records on their way to State, in the log's order.
///
/// It tells copies of entries as State does, and notes nothing of them: an entry that the fold skips takes no ids, or
/// its records could never be booked when their sender sends them again.
#[derive(Clone, Debug)]
pub struct Lookup<P> {
    writers: Writers,
    /// The owner's term so far: decisions of another are void.
    term: u64,
    places: P,
}

impl<P: FirstPlaces> Lookup<P> {
    /// Begins where `state` stands.
    pub fn new(state: &State, places: P) -> Self {
        Self { writers: state.writers().clone(), term: state.head().term, places }
    }

    /// Where first places are kept.
    pub const fn places(&mut self) -> &mut P {
        &mut self.places
    }

    /// Sightings of a record's rows, and of what it releases from quarantine, that go by id ([`goes_by_id`]), in order.
    pub fn sightings(&mut self, record: &Record) -> Result<Vec<Sighting>, SightingError<P::Error>> {
        let Content::Entry(_, entry) = &record.content else { return Ok(Vec::new()) };
        if !self.writers.note(entry.id.writer, entry.id.count) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        match &entry.body {
            Body::Usage(batch) if batch.rows.iter().any(|row| row.producerseq.is_none()) => {
                for (row, usage) in (0u32..).zip(batch.unpack()) {
                    if usage.producerseq.is_none() {
                        let place = UsagePlace { position: record.position, row };
                        found.push(self.sighting(&usage, place)?);
                    }
                }
            }
            Body::Decision(decision) if decision.is_void(self.term) => {}
            Body::Decision(decision) => {
                self.term = decision.term_taken().unwrap_or(self.term);
                for event in &decision.events {
                    if let Event::Quarantine(QuarantineEvent::Released { place, usage, uncounted }) = event
                        && goes_by_id(usage, *uncounted)
                    {
                        found.push(self.sighting(usage, *place)?);
                    }
                }
            }
            Body::Usage(_) | Body::Unreadable(_) => {}
        }
        Ok(found)
    }

    fn sighting(&mut self, usage: &Usage, place: UsagePlace) -> Result<Sighting, SightingError<P::Error>> {
        let content = content_hash(usage).map_err(SightingError::Encode)?;
        let first = self.places.note(key_of(usage), First { place, content });
        Ok(Sighting { first: first.map_err(SightingError::Places)?, content })
    }
}

/// Why sightings could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SightingError<E> {
    /// A record that cannot be written.
    #[error(transparent)]
    Encode(EncodeError),
    /// First places cannot be kept.
    #[error("the index of usage ids cannot be used: {0}")]
    Places(E),
}

/// Whether a record that is released must be told from repetitions by its id: it carries no `producerseq`, and nobody
/// looked at its id when it came, or at none of several that came.
pub const fn goes_by_id(released: &Usage, uncounted: bool) -> bool {
    uncounted && released.producerseq.is_none()
}

/// How many rows of a batch go by id.
pub fn rows_by_id(batch: &UsageBatch) -> usize {
    batch.rows.iter().filter(|row| row.producerseq.is_none()).count()
}

impl UsageKey {
    /// Of the record with this id.
    pub fn of(organization: &OrgId, source: &SourceName, id: &str) -> Self {
        let mut hasher = Sha256::new();
        for part in [organization.as_str(), source.as_str(), id] {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self(cut(hasher.finalize().into()))
    }
}

fn key_of(usage: &Usage) -> UsageKey {
    UsageKey::of(&usage.organization, &usage.source, &usage.id)
}

fn content_hash(usage: &Usage) -> Result<[u8; 16], EncodeError> {
    let given = match usage.occurred {
        Occurred::Given(at) => Some(at),
        Occurred::Assumed(_) => None,
    };
    let content = (&usage.charged, &usage.model, given, usage.tokens, &usage.extras);
    Ok(cut(Sha256::digest(codec::encode_row(&content)?).into()))
}

fn cut(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    half
}

#[cfg(test)]
mod tests {
    use tollbook_schemas::amount::Amount;
    use tollbook_schemas::id::{KeyId, ModelName, OrgId, ProjectId, SourceName};
    use tollbook_schemas::time::Timestamp;
    use tollbook_schemas::usage::{Charged, Extras, Tokens};

    use super::*;

    fn usage() -> Usage {
        Usage {
            organization: OrgId::from_bits(1),
            charged: Charged::Key(KeyId::from_bits(1)),
            model: ModelName::parse("m").unwrap(),
            source: SourceName::parse("gw").unwrap(),
            id: "r1".into(),
            occurred: Occurred::Given(Timestamp::from_seconds(1)),
            producerseq: None,
            tokens: Tokens { input: 1, cached_input: 0, output: 1 },
            extras: None,
        }
    }

    #[test]
    fn r8_2_a_record_is_named_by_organization_source_and_id_alone() {
        let known = key_of(&usage());
        let same: [fn(&mut Usage); 3] = [
            |usage| usage.tokens.input = 9,
            |usage| usage.occurred = Occurred::Assumed(Timestamp::EPOCH),
            |usage| usage.charged = Charged::Project(ProjectId::from_bits(1)),
        ];
        for change in same {
            let mut usage = usage();
            change(&mut usage);
            assert_eq!(key_of(&usage), known);
        }
        let other: [fn(&mut Usage); 4] = [
            |usage| usage.organization = OrgId::from_bits(2),
            |usage| usage.source = SourceName::parse("gw2").unwrap(),
            |usage| usage.id = "r2".into(),
            // The same bytes, cut at another place.
            |usage| (usage.source, usage.id) = (SourceName::parse("gwr").unwrap(), "1".into()),
        ];
        for change in other {
            let mut usage = usage();
            change(&mut usage);
            assert_ne!(key_of(&usage), known);
        }
    }

    #[test]
    fn r8_2_content_is_what_was_sent_without_an_assumed_time() {
        let said = |change: fn(&mut Usage)| {
            let mut usage = usage();
            change(&mut usage);
            content_hash(&usage).unwrap()
        };
        let known = said(|_| {});
        let assumed = said(|usage| usage.occurred = Occurred::Assumed(Timestamp::from_seconds(1)));
        assert_eq!(assumed, said(|usage| usage.occurred = Occurred::Assumed(Timestamp::from_seconds(2))));
        let changes: [fn(&mut Usage); 6] = [
            |usage| usage.occurred = Occurred::Given(Timestamp::from_seconds(2)),
            |usage| usage.occurred = Occurred::Assumed(Timestamp::from_seconds(1)),
            |usage| usage.model = ModelName::parse("n").unwrap(),
            |usage| usage.charged = Charged::Project(ProjectId::from_bits(1)),
            |usage| usage.tokens.cached_input = 1,
            |usage| usage.extras = Some(Box::new(Extras { cost: Some(Amount::ZERO), ..Extras::default() })),
        ];
        for change in changes {
            assert_ne!(said(change), known);
        }
    }

    #[test]
    fn r8_2_the_first_place_stays_the_first() {
        let mut places = FirstPlacesInMemory::default();
        let first = |position, content| First {
            place: UsagePlace { position: tollbook_schemas::position::Position(position), row: 0 },
            content: [content; 16],
        };
        let key = UsageKey([1; 16]);
        assert_eq!(places.note(key, first(1, 1)), Ok(first(1, 1)));
        assert_eq!(places.note(key, first(2, 2)), Ok(first(1, 1)));
        assert_eq!(places.note(UsageKey([2; 16]), first(2, 2)), Ok(first(2, 2)));
    }
}
