//! Rows that finance reads, and those that decisions look up.

use tollbook_schemas::codec;
use tollbook_schemas::id::{OrgId, RechargeId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Month};
use tollbook_schemas::usage::UsagePlace;

use super::{View, ViewError, key};
use crate::books::{EndedMonth, Seal};
use crate::movement::{Movement, MovementKey};
use crate::past::{Past, Questions, Settled};
use crate::spend::OpenCells;
use crate::state::Quarantined;
use crate::statement::Booked;

impl View {
    /// Cells of one organization that were booked on a day or later, with the entry that made each a row.
    pub fn history(&self, organization: &OrgId, from: Day) -> Result<Vec<(Position, OpenCells)>, ViewError> {
        let mut closed = Vec::new();
        let rows = self.tree.range(key::history_from(organization, from)..end(b"h", organization));
        for row in rows {
            let (key, value) = row.map_err(|source| self.views.failed(source))?;
            closed.push((closed_by(&key), codec::decode_row(&value)?));
        }
        Ok(closed)
    }

    /// Cells of one organization that were booked on these days, row by row, with the entry that made each a row.
    pub fn history_within(
        &self,
        organization: &OrgId,
        booked_on: std::ops::Range<Day>,
    ) -> impl Iterator<Item = Result<(Position, OpenCells), ViewError>> + use<> {
        let (from, until) = (booked_on.start, booked_on.end.max(booked_on.start));
        let views = self.views.clone();
        let rows =
            self.tree.range(key::history_from(organization, from)..key::history_from(organization, until));
        rows.map(move |row| {
            let (key, value) = row.map_err(|source| views.failed(source))?;
            let (_, position) = key::history_at_end(&key).unwrap_or_default();
            Ok((position, codec::decode_row(&value)?))
        })
    }

    /// The day on which an entry was booked for an organization, if that day is over and anything was booked on it; it
    /// is looked for from `from` on.
    pub fn booked_on(
        &self,
        organization: &OrgId,
        position: Position,
        from: Day,
    ) -> Result<Option<Day>, ViewError> {
        for row in self.tree.range(key::history_from(organization, from)..end(b"h", organization)).keys() {
            let key = row.map_err(|source| self.views.failed(source))?;
            if let Some((day, closed_by)) = key::history_at_end(&key)
                && closed_by > position
            {
                return Ok(Some(day));
            }
        }
        Ok(None)
    }

    /// Between which entries everything of an organization stands that was booked on these days: it is after the first
    /// and before the second, which is `None` where it may be the log's last. More may stand there.
    pub fn positions_of(
        &self,
        organization: &OrgId,
        booked_on: std::ops::Range<Day>,
    ) -> Result<(Position, Option<Position>), ViewError> {
        let closed_by = |row: Option<sled::Result<sled::IVec>>| {
            let key = row.transpose().map_err(|source| self.views.failed(source))?;
            Ok::<_, ViewError>(key.and_then(|key| key::history_at_end(&key)).map(|(_, position)| position))
        };
        let (first, last) = (
            key::history_from(organization, booked_on.start),
            key::history_from(organization, booked_on.end.earlier_by(1)),
        );
        let before = self.tree.range(key::of(b"h", organization)..first).keys().next_back();
        let after = self.tree.range(last..end(b"h", organization)).keys().next();
        // The entry that closed the last day before stands in the days that are asked for itself.
        let before = closed_by(before)?.map_or(Position::ZERO, |at| Position(at.0.saturating_sub(1)));
        Ok((before, closed_by(after)?))
    }

    /// Movements of one organization that were booked in a month, in the order of the log.
    pub fn movements(&self, organization: &OrgId, month: Month) -> Result<Vec<Movement>, ViewError> {
        let rows = self.tree.scan_prefix(key::month(b"m", organization, month));
        rows.map(|row| Ok(codec::decode_row(&row.map_err(|source| self.views.failed(source))?.1)?)).collect()
    }

    /// Movements of the entry of one of them, in their order.
    pub fn movements_with(&self, organization: &OrgId, one: &Movement) -> Result<Vec<Movement>, ViewError> {
        let rows = self.tree.scan_prefix(key::movements_of_entry(organization, one));
        rows.map(|row| Ok(codec::decode_row(&row.map_err(|source| self.views.failed(source))?.1)?)).collect()
    }

    /// Recharges of one organization after one of them, in the order of ids, at most `limit`: each with whatever was
    /// paid back of it or issued about it, in the order of the log.
    pub fn recharges(
        &self,
        organization: &OrgId,
        after: Option<&RechargeId>,
        limit: usize,
    ) -> Result<Vec<(RechargeId, Vec<Movement>)>, ViewError> {
        let (from, end) = key::recharges(organization, after);
        let mut found: Vec<(RechargeId, Vec<Movement>)> = Vec::new();
        for row in self.tree.range(from..end) {
            let (key, _) = row.map_err(|source| self.views.failed(source))?;
            let Some((recharge, place)) = key::recharge_of(organization, &key) else { continue };
            if found.last().is_none_or(|(last, _)| *last != recharge) {
                if found.len() == limit {
                    break;
                }
                found.push((recharge, Vec::new()));
            }
            if let (Some((_, movements)), Some(movement)) =
                (found.last_mut(), self.row(&key::movement_at(organization, place))?)
            {
                movements.push(movement);
            }
        }
        Ok(found)
    }

    /// What the last month up to `month` came to in which anything was booked, of those that are over.
    pub fn ended_month(&self, organization: &OrgId, month: Month) -> Result<Option<EndedMonth>, ViewError> {
        let rows = key::of(b"n", organization)..=key::month(b"n", organization, month);
        match self.tree.range(rows).next_back() {
            Some(row) => {
                let (_, value) = row.map_err(|source| self.views.failed(source))?;
                Ok(Some(codec::decode_row(&value)?))
            }
            None => Ok(None),
        }
    }

    /// The seal of a month's statement, once it is sealed.
    pub fn seal(&self, organization: &OrgId, month: Month) -> Result<Option<Seal>, ViewError> {
        self.row(&key::month(b"z", organization, month))
    }

    /// What was booked in a month of an organization by entries up to `at`, as far as it became rows.
    pub fn booked(&self, organization: &OrgId, month: Month, at: Position) -> Result<Booked, ViewError> {
        let days = key::history_from(organization, month.first_day())
            ..key::history_from(organization, month.next().first_day());
        let mut cells = Vec::new();
        for row in self.tree.range(days) {
            let (key, value) = row.map_err(|source| self.views.failed(source))?;
            if closed_by(&key) <= at {
                cells.push(codec::decode_row(&value)?);
            }
        }
        let mut movements = self.movements(organization, month)?;
        movements.retain(|movement| movement.position <= at);
        Ok(Booked { ended: self.ended_month(organization, month)?, movements, cells })
    }

    /// What was quarantined at a place, and what became of it.
    pub fn quarantined(
        &self,
        place: UsagePlace,
    ) -> Result<Option<(Quarantined, Option<Settled>)>, ViewError> {
        let Some(record) = self.row(&key::quarantined(place))? else { return Ok(None) };
        Ok(Some((record, self.row(&key::settled(place))?)))
    }

    /// Quarantined records of one organization after a place, in the order of the log, at most `limit`, with what became
    /// of each.
    pub fn quarantine_of(
        &self,
        organization: &OrgId,
        after: Option<UsagePlace>,
        limit: usize,
    ) -> Result<Vec<(Quarantined, Option<Settled>)>, ViewError> {
        let from = match after {
            Some(place) => [key::quarantined_of(organization, place), vec![0]].concat(),
            None => key::of(b"u", organization),
        };
        let mut found = Vec::new();
        for key in self.tree.range(from..end(b"u", organization)).keys().take(limit) {
            let key = key.map_err(|source| self.views.failed(source))?;
            let place = key::place_at_end(&key);
            found.extend(place.map(|place| self.quarantined(place)).transpose()?.flatten());
        }
        Ok(found)
    }

    /// The reversal of a usage record, if it was reversed.
    pub fn reversal(&self, organization: &OrgId, usage: UsagePlace) -> Result<Option<Movement>, ViewError> {
        Ok(self.movements_by(organization, &MovementKey::Usage(usage))?.pop())
    }

    /// Whether a row of a usage entry came before and was not booked again.
    pub fn is_repetition(&self, place: UsagePlace) -> Result<bool, ViewError> {
        let rows: Option<Vec<u32>> = self.row(&key::repeated(place.position))?;
        Ok(rows.is_some_and(|rows| rows.contains(&place.row)))
    }

    /// Rows of a usage entry that were not booked: they came before, or are in quarantine.
    pub fn unbooked(&self, position: Position) -> Result<Vec<u32>, ViewError> {
        let mut rows: Vec<u32> = self.row(&key::repeated(position))?.unwrap_or_default();
        let place = |row| key::quarantined(UsagePlace { position, row });
        for key in self.tree.range(place(0)..=place(u32::MAX)).keys() {
            let key = key.map_err(|source| self.views.failed(source))?;
            rows.extend(key::place_at_end(&key).map(|place| place.row));
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// Why the fold skipped a message, if it did.
    pub fn skipped(&self, position: Position) -> Result<Option<String>, ViewError> {
        self.row(&key::skipped(position))
    }

    /// Answers what a decision asks of the past. `through` is a position that the view held before this was called.
    pub fn past(
        &self,
        organization: &OrgId,
        questions: &Questions,
        through: Position,
    ) -> Result<Past, ViewError> {
        let mut past = Past { through, ..Past::default() };
        if let Some(idempotency) = &questions.idempotency {
            past.idempotency = self.row(&key::idempotency(organization, idempotency))?;
        }
        for found_by in &questions.movements {
            past.movements.extend(self.movements_by(organization, found_by)?);
        }
        if let Some(month) = questions.month {
            for movement in self.movements(organization, month)? {
                if let Some(recharge) = movement.recharged() {
                    let key = MovementKey::Recharge(recharge.clone());
                    past.movements.extend(self.movements_by(organization, &key)?);
                }
                past.movements.push(movement);
            }
        }
        past.movements.sort_by_key(|movement| (movement.position, movement.number));
        past.movements.dedup_by_key(|movement| (movement.position, movement.number));
        if let Some((record, settled)) =
            questions.quarantined.map(|place| self.quarantined(place)).transpose()?.flatten()
        {
            past.quarantined = Some(Box::new(record));
            past.settled = settled;
        }
        Ok(past)
    }

    /// Movements of one organization that a key finds, in the order of the log.
    pub fn movements_by(
        &self,
        organization: &OrgId,
        found_by: &MovementKey,
    ) -> Result<Vec<Movement>, ViewError> {
        let mut found = Vec::new();
        for row in self.tree.scan_prefix(key::movements_by(organization, found_by)) {
            let (key, _) = row.map_err(|source| self.views.failed(source))?;
            if let Some(place) = key.len().checked_sub(key::PLACE_LENGTH).and_then(|start| key.get(start..))
                && let Some(movement) = self.row(&key::movement_at(organization, place))?
            {
                found.push(movement);
            }
        }
        Ok(found)
    }
}

/// The entry that made a row of cells, from its key.
fn closed_by(key: &[u8]) -> Position {
    key.last_chunk().map_or(Position::ZERO, |bytes| Position(u64::from_be_bytes(*bytes)))
}

/// The first key after all rows of a kind of one organization.
fn end(kind: &[u8], organization: &OrgId) -> Vec<u8> {
    let mut end = key::of(kind, organization);
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}
