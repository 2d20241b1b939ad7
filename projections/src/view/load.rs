//! State from its rows, decoded on every core: a start waits for this.
//!
//! ```text
//! scan ─┬─ chunk 0, 2, … ─> thread: decode, hash ─┬─> put back, in the order of the scan
//!       └─ chunk 1, 3, … ─> thread: decode, hash ─┘
//! ```

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, available_parallelism};

use tollbook_schemas::codec::DecodeError;

use super::{COMMON, View, ViewError};
use crate::state::{Restored, State};

/// Rows decoded at once: enough that handing them over costs nothing.
const CHUNK: usize = 256;
/// Chunks that may wait before a thread, and after it.
const AHEAD: usize = 4;

type Rows = Vec<sled::IVec>;
type Decoded = Result<Vec<Restored>, DecodeError>;

impl View {
    /// State as it was when last written; `None` when it never was.
    pub fn load(&self) -> Result<Option<State>, ViewError> {
        let Some(common) = self.tree.get(COMMON).map_err(|source| self.views.failed(source))? else {
            return Ok(None);
        };
        let mut state = State::restore_common(self.partition, &common)?;
        std::thread::scope(|scope| {
            let (mut rows, mut decoded) = (Vec::new(), Vec::new());
            for _ in 0..available_parallelism().map_or(1, NonZero::get) {
                let (to, from) = decoder(scope)?;
                rows.push(to);
                decoded.push(from);
            }
            let scan =
                Builder::new().spawn_scoped(scope, move || self.scan(&rows)).map_err(ViewError::Thread)?;
            // The first that has no more chunks is the one whose turn it would be after the last of all.
            for next in decoded.iter().cycle() {
                let Ok(chunk) = next.recv() else { break };
                chunk?.into_iter().for_each(|restored| state.put_back(restored));
            }
            // Or it panicked: nobody waits for the others then, and the panic goes on from here.
            drop(decoded);
            scan.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(Some(state))
    }

    /// Hands organizations' rows out in turn, until there are no more or nobody takes them.
    fn scan(&self, rows: &[SyncSender<Rows>]) -> Result<(), ViewError> {
        let mut scanned = self.tree.scan_prefix(b"o").values();
        for next in rows.iter().cycle() {
            let chunk = scanned.by_ref().take(CHUNK).collect::<Result<Rows, _>>();
            let chunk = chunk.map_err(|source| self.views.failed(source))?;
            if chunk.is_empty() || next.send(chunk).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// A thread that decodes chunks of rows, in order.
fn decoder<'scope>(
    scope: &'scope Scope<'scope, '_>,
) -> Result<(SyncSender<Rows>, Receiver<Decoded>), ViewError> {
    let (to, rows) = sync_channel::<Rows>(AHEAD);
    let (decoded, from) = sync_channel::<Decoded>(AHEAD);
    let run = move || {
        for chunk in rows {
            let chunk = chunk.iter().map(|row| Restored::read(row)).collect();
            if decoded.send(chunk).is_err() {
                return;
            }
        }
    };
    Builder::new().spawn_scoped(scope, run).map_err(ViewError::Thread)?;
    Ok((to, from))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tollbook_schemas::codec;
    use tollbook_schemas::entry::{Actor, Body, Cause, Decision, Entry};
    use tollbook_schemas::event::{ConfigEvent, Event, OrganizationEvent};
    use tollbook_schemas::id::{DisplayName, LedgerId, MemberId, OrgId};
    use tollbook_schemas::position::{EntryId, PartitionId, WriterId};
    use tollbook_schemas::sealed::Sealed;
    use tollbook_schemas::time::{Timestamp, Zone};
    use tollbook_schemas::topic::Topic;

    use super::*;
    use crate::record::Record;
    use crate::view::{Rows, Views};

    const PARTITION: PartitionId = PartitionId(0);

    fn apply(state: &mut State, topic: &Topic, event: Event) {
        let (position, ledger) = (state.head().position.next(), LedgerId::from_bits(1));
        let id =
            EntryId { ledger: ledger.clone(), partition: PARTITION, writer: WriterId(1), count: position.0 };
        let cause = Cause::Command { idempotency: None };
        let body = Body::Decision(Decision { term: 0, actor: Actor::Engine, cause, events: vec![event] });
        let payload = codec::encode_entry(&Entry { id, recorded_at: Timestamp::EPOCH, body }).unwrap();
        let record = Record::read(&ledger, PARTITION, position, &topic.subject(PARTITION), &payload);
        state.apply(&record, &[]).unwrap();
    }

    fn register(state: &mut State, number: u128) {
        let sealed = || Sealed { key: 0, ciphertext: Bytes::from_static(b"x") };
        let event = OrganizationEvent::Registered {
            name: DisplayName::parse("o").unwrap(),
            email: sealed(),
            creator: MemberId::from_bits(1),
            creator_name: sealed(),
            creator_email: sealed(),
            zone: Zone::utc(),
        };
        apply(state, &Topic::Organization(OrgId::from_bits(number)), Event::Organization(event));
    }

    #[test]
    fn r8_4_what_is_loaded_on_every_core_is_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let view = Views::open(directory.path()).unwrap().partition(PARTITION).unwrap();
        assert!(view.load().unwrap().is_none());
        let mut state = State::empty(PARTITION);
        let ledger = LedgerId::from_bits(1);
        let created = ConfigEvent::LedgerCreated { ledger, currency: "USD".into(), partitions: 1 };
        apply(&mut state, &Topic::Config, Event::Config(created));
        // Up to none, less than one, exactly some, and more chunks than may wait anywhere.
        let mut registered = 0u128;
        for until in [0, 1, 256, 512, 513, 256 * 40 + 7] {
            while registered < until {
                registered += 1;
                register(&mut state, registered * 7_919 % 1_000_003);
            }
            view.write(Rows::collect(&mut state, &[]).unwrap()).unwrap();
            let loaded = view.load().unwrap().unwrap();
            assert_eq!(loaded.organizations().count(), usize::try_from(until).unwrap());
            assert_eq!(loaded.digest().unwrap(), state.digest().unwrap());
        }
    }

    #[test]
    fn a_damaged_row_is_an_error_wherever_it_stands() {
        let directory = tempfile::tempdir().unwrap();
        let view = Views::open(directory.path()).unwrap().partition(PARTITION).unwrap();
        let mut state = State::empty(PARTITION);
        let ledger = LedgerId::from_bits(1);
        let created = ConfigEvent::LedgerCreated { ledger, currency: "USD".into(), partitions: 1 };
        apply(&mut state, &Topic::Config, Event::Config(created));
        (1..=5_000).for_each(|number| register(&mut state, number));
        view.write(Rows::collect(&mut state, &[]).unwrap()).unwrap();
        for damaged in ["org_", "org_00000000000000000000000002", "org_zzzz"] {
            let key = [b"o", damaged.as_bytes()].concat();
            let before = view.tree.insert(&key, b"\x01no row").unwrap();
            assert!(matches!(view.load(), Err(ViewError::Row(_))), "{damaged}");
            match before {
                Some(before) => view.tree.insert(&key, before).unwrap(),
                None => view.tree.remove(&key).unwrap(),
            };
        }
        assert!(view.load().unwrap().is_some());
    }
}
