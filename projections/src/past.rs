//! What came before and State no longer remembers: looked up in the view before a decision that asks for it is made.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::id::Reason;
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Month, Timestamp};
use tollbook_schemas::usage::UsagePlace;

use crate::movement::{Movement, MovementKey, RECENT_SECONDS};
use crate::state::Quarantined;

/// What a decision asks of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The request with this key.
    pub idempotency: Option<[u8; 16]>,
    /// Movements found by any of these.
    pub movements: Vec<MovementKey>,
    /// Every movement of this month, and what was paid back of its recharges since.
    pub month: Option<Month>,
    /// What was quarantined here, and what became of it.
    pub quarantined: Option<UsagePlace>,
}

impl Questions {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the view knows of one organization's past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Everything up to here was looked at.
    pub through: Position,
    /// What the request's idempotency key led to.
    pub idempotency: Option<([u8; 16], Position)>,
    /// In the order of the log.
    pub movements: Vec<Movement>,
    /// What was quarantined.
    pub quarantined: Option<Box<Quarantined>>,
    /// What became of it.
    pub settled: Option<Settled>,
}

/// What became of a quarantined record (R8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// The entry that says so.
    pub position: Position,
    /// When.
    pub at: Timestamp,
    /// How.
    pub how: Settling,
}

/// How a quarantined record was settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settling {
    /// It was booked.
    Released,
    /// It will not be booked.
    Dismissed(Reason),
}

/// What State itself remembers of the last [`RECENT_SECONDS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// Everything after this entry is here; what stands in it and before may not be.
    dropped: Position,
    movements: VecDeque<Movement>,
    idempotency: BTreeMap<[u8; 16], (Timestamp, [u8; 16], Position)>,
    settled: BTreeMap<UsagePlace, Settled>,
}

impl Recent {
    /// Whether `past` and this together are everything.
    pub fn joins(&self, past: &Past) -> bool {
        past.through >= self.dropped
    }

    /// Everything after this entry is here.
    pub const fn dropped(&self) -> Position {
        self.dropped
    }

    /// Movements, in the order of the log.
    pub fn movements(&self) -> impl DoubleEndedIterator<Item = &Movement> {
        self.movements.iter()
    }

    /// What a request with this idempotency key led to, with the hash of its content.
    pub fn idempotency(&self, key: &[u8; 16]) -> Option<([u8; 16], Position)> {
        self.idempotency.get(key).map(|(_, content, position)| (*content, *position))
    }

    /// What became of a quarantined record.
    pub fn settled(&self, place: UsagePlace) -> Option<&Settled> {
        self.settled.get(&place)
    }

    pub(crate) fn note(&mut self, movement: Movement) {
        self.movements.push_back(movement);
    }

    /// Leaves a movement to the view from the start.
    pub(crate) fn leave(&mut self, movement: &Movement) {
        self.dropped = self.dropped.max(movement.position);
    }

    pub(crate) fn remember(&mut self, idempotency: &Idempotency, position: Position, at: Timestamp) {
        self.idempotency.insert(idempotency.key, (at, idempotency.content, position));
    }

    pub(crate) fn settle(&mut self, place: UsagePlace, settled: Settled) {
        self.settled.insert(place, settled);
    }

    /// Forgets what is older than [`RECENT_SECONDS`].
    pub(crate) fn forget(&mut self, now: Timestamp) {
        let since = now.plus_seconds(RECENT_SECONDS.wrapping_neg());
        while let Some(oldest) = self.movements.front()
            && oldest.booked_at < since
        {
            self.dropped = self.dropped.max(oldest.position);
            self.movements.pop_front();
        }
        let dropped = &mut self.dropped;
        self.idempotency.retain(|_, (at, _, position)| {
            let keep = *at >= since;
            if !keep {
                *dropped = (*dropped).max(*position);
            }
            keep
        });
        self.settled.retain(|_, settled| {
            let keep = settled.at >= since;
            if !keep {
                *dropped = (*dropped).max(settled.position);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use tollbook_schemas::id::Reference;

    use super::*;
    use crate::movement::What;
    use crate::purse::Funds;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn movement(position: u64, seconds: i64) -> Movement {
        Movement {
            position: Position(position),
            number: 0,
            booked_at: at(seconds),
            month: Month { year: 2026, month: 11 },
            reference: Some(Reference::parse("r").unwrap()),
            reason: None,
            change: Funds::default(),
            after: Funds::default(),
            what: What::MovedInReference,
        }
    }

    fn past(through: u64) -> Past {
        Past { through: Position(through), ..Past::default() }
    }

    /// The view and State together are everything, and what stands in both is told by where it was dropped.
    #[test]
    fn r4_7_what_is_forgotten_has_to_be_looked_up() {
        let mut recent = Recent::default();
        assert!(recent.joins(&past(0)), "nothing was forgotten");
        recent.note(movement(3, 100));
        recent.note(movement(3, 100));
        recent.note(movement(7, 200));
        // Exactly what is as old as that is kept.
        recent.forget(at(100 + RECENT_SECONDS));
        assert_eq!((recent.movements().count(), recent.dropped()), (3, Position(0)));
        recent.forget(at(101 + RECENT_SECONDS));
        assert_eq!((recent.movements().count(), recent.dropped()), (1, Position(3)));
        assert!(!recent.joins(&past(2)));
        assert!(recent.joins(&past(3)));
        recent.forget(at(201 + RECENT_SECONDS));
        assert_eq!((recent.movements().count(), recent.dropped()), (0, Position(7)));
        assert!(!recent.joins(&past(6)) && recent.joins(&past(7)));
    }

    #[test]
    fn r4_7_requests_and_settlements_are_forgotten_as_movements_are() {
        let mut recent = Recent::default();
        let (key, content) = ([1; 16], [2; 16]);
        recent.remember(&Idempotency { key, content }, Position(4), at(100));
        let place = UsagePlace { position: Position(2), row: 1 };
        let settled = Settled { position: Position(9), at: at(200), how: Settling::Released };
        recent.settle(place, settled.clone());
        recent.forget(at(100 + RECENT_SECONDS));
        assert_eq!(recent.idempotency(&key), Some((content, Position(4))));
        recent.forget(at(101 + RECENT_SECONDS));
        assert_eq!((recent.idempotency(&key), recent.dropped()), (None, Position(4)));
        assert_eq!(recent.settled(place), Some(&settled));
        recent.forget(at(201 + RECENT_SECONDS));
        assert_eq!((recent.settled(place), recent.dropped()), (None, Position(9)));
        assert!(!recent.joins(&past(8)) && recent.joins(&past(9)));
        assert_eq!(recent, Recent { dropped: Position(9), ..Recent::default() }, "nothing else is left");
    }
}
