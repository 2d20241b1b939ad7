//! The ledger's identity: the first entry of every partition creates it, whoever comes first.

use std::sync::Arc;

use bytes::Bytes;
use tollbook_schemas::codec::{self, DecodeError, EncodeError};
use tollbook_schemas::entry::{Actor, Body, Cause, Decision};
use tollbook_schemas::event::{ConfigEvent, Event};
use tollbook_schemas::id::LedgerId;
use tollbook_schemas::position::{PartitionId, Position};

use crate::clock::{self, Clock};
use crate::log::{Append, AppendError, EventLog, ReadError, Topic};
use crate::writer::Writer;

/// Who this ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Its id.
    pub id: LedgerId,
    /// Its one currency (R1.5).
    pub currency: String,
    /// How many partitions it has.
    pub partitions: u16,
}

/// Why the ledger could not be found or created.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The first entry cannot be written.
    #[error("the first entry of partition {partition} cannot be written: {source}")]
    Append {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        source: AppendError,
    },
    /// The first entry cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The first entry is not ours.
    #[error("the first entry of partition {partition} is not readable: {source}")]
    Decode {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        source: DecodeError,
    },
    /// The log begins with something else.
    #[error("partition {0} does not begin with the creation of a ledger: it is not a log of ours")]
    NotALedger(PartitionId),
    /// Partitions of different ledgers.
    #[error("partition {partition} belongs to ledger {found}, partition 0 to {expected}")]
    Mixed {
        /// Which partition.
        partition: PartitionId,
        /// Its ledger.
        found: LedgerId,
        /// The ledger of partition 0.
        expected: LedgerId,
    },
    /// Another currency than asked for.
    #[error("the ledger's currency is {found}, not {wanted}: it cannot be changed")]
    Currency {
        /// The ledger's.
        found: String,
        /// The one asked for.
        wanted: String,
    },
}

/// Finds the ledger in a log of `partitions`, or creates it with `currency` (USD unless told). Safe to be called by
/// several processes at once: one creates, and all find the same.
pub async fn find_or_create(
    log: &Arc<dyn EventLog>,
    partitions: u16,
    currency: Option<&str>,
    clock: &Clock,
) -> Result<Ledger, LedgerError> {
    let wanted = Ledger {
        id: LedgerId::from_bits(clock::new_id_bits()),
        currency: currency.unwrap_or("USD").to_owned(),
        partitions,
    };
    let ledger = find_or_create_in(log, PartitionId(0), &wanted, clock).await?;
    if let Some(wanted) = currency
        && wanted != ledger.currency
    {
        return Err(LedgerError::Currency { found: ledger.currency, wanted: wanted.to_owned() });
    }
    for partition in (1..partitions).map(PartitionId) {
        let found = find_or_create_in(log, partition, &ledger, clock).await?;
        if found.id != ledger.id {
            return Err(LedgerError::Mixed { partition, found: found.id, expected: ledger.id });
        }
    }
    Ok(ledger)
}

async fn find_or_create_in(
    log: &Arc<dyn EventLog>,
    partition: PartitionId,
    wanted: &Ledger,
    clock: &Clock,
) -> Result<Ledger, LedgerError> {
    if let Some(found) = find(log, partition).await? {
        return Ok(found);
    }
    // A writer of its own: nothing else ever counts on after this entry.
    let writer = Writer::new(wanted.id.clone(), partition, clock::new_writer());
    let ticket = writer.begin().await;
    let decision = Decision {
        term: 0,
        actor: Actor::Engine,
        cause: Cause::Takeover,
        events: vec![Event::Config(ConfigEvent::LedgerCreated {
            ledger: wanted.id.clone(),
            currency: wanted.currency.clone(),
            partitions: wanted.partitions,
        })],
    };
    let entry = writer.entry(&ticket, clock.now(), Body::Decision(decision));
    let payload = Bytes::from(codec::encode_entry(&entry)?);
    let append = Append { id: entry.id, topic: Topic::Config, payload, expected: Some(Position::ZERO) };
    match log.append(append).await {
        Ok(_) | Err(AppendError::Conflict { .. }) => {
            find(log, partition).await?.ok_or(LedgerError::NotALedger(partition))
        }
        Err(source) => Err(LedgerError::Append { partition, source }),
    }
}

/// The ledger that a log's partition belongs to; `None` when the log is empty.
pub async fn find(log: &Arc<dyn EventLog>, partition: PartitionId) -> Result<Option<Ledger>, LedgerError> {
    let Some(first) = log.get(partition, Position(1)).await? else { return Ok(None) };
    let entry =
        codec::decode_entry(&first.payload).map_err(|source| LedgerError::Decode { partition, source })?;
    let Body::Decision(decision) = entry.body else { return Err(LedgerError::NotALedger(partition)) };
    match decision.events.into_iter().next() {
        Some(Event::Config(ConfigEvent::LedgerCreated { ledger, currency, partitions })) => {
            Ok(Some(Ledger { id: ledger, currency, partitions }))
        }
        Some(_) | None => Err(LedgerError::NotALedger(partition)),
    }
}
