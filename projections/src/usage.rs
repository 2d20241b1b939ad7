//! Booking usage: told apart from repetitions, priced, charged, and counted; or quarantined with a reason (R8).
//!
//! ```text
//! entry ─ dictionaries ─> resolved once          organization, project, price history
//!       └ rows ─> repetition? ─> lane (payer, model, day): tokens and cost summed
//!                     └─> quarantine                 └─ at the end of the entry ─> cells, pending, purse
//! ```

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::batch::{Row, UsageBatch};
use tollbook_schemas::codec;
use tollbook_schemas::id::{KeyId, ProjectId};
use tollbook_schemas::price::ModelPrice;
use tollbook_schemas::time::{Day, Timestamp, Zone};
use tollbook_schemas::usage::{
    AHEAD_MAX_SECONDS, Charged, Extras, QUANTITY_MAX, QuarantineReason, UsagePlace,
};

use crate::config::{PriceHistory, price_at};
use crate::first::Sighting;
use crate::organization::{At, Organization};
use crate::purse::sum;
use crate::sequence::{Sequence, SequenceWindow};
use crate::spend::{Cell, CellKey, OpenCells};
use crate::state::{Corrupt, Effect, Quarantined, QuarantinedWhat, State};

/// How long before its arrival a record without `producerseq` may have occurred: two months, in seconds. An older
/// one cannot be told from a repetition by any index that was ever pruned, so it is not guessed at.
pub const HORIZON_SECONDS: i64 = 62 * 24 * 60 * 60;

/// A local day on which no clocks change.
const DAY_NANOS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Whom a payer of the batch's dictionary is, or why it cannot be charged.
enum Payer {
    Known { slot: usize, project: ProjectId, key: Option<KeyId> },
    Unbookable { slot: Option<usize>, reason: QuarantineReason },
}

/// What one payer consumed of one model on one day, summed over the rows of an entry.
struct Lane {
    slot: usize,
    project: ProjectId,
    key: Option<KeyId>,
    model: usize,
    prices: Option<Arc<PriceHistory>>,
    zone: Zone,
    day: Day,
    day_start: Timestamp,
    day_end: Timestamp,
    cell: Cell,
}

/// What became of one row.
enum Fate {
    Booked,
    Duplicate,
    Quarantined(QuarantineReason),
}

/// Rows by what became of them, for one organization.
#[derive(Clone, Copy, Default)]
struct Counted {
    booked: u64,
    duplicates: u64,
    quarantined: u64,
}

impl State {
    /// Books a checked batch.
    pub(crate) fn book(
        &mut self,
        batch: &UsageBatch,
        sightings: &[Sighting],
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let mut booking = Booking::resolve(self, batch, at, effects)?;
        let mut sightings = sightings.iter();
        for (number, row) in batch.rows.iter().enumerate() {
            let sighting = match row.producerseq {
                Some(_) => None,
                None => Some(sightings.next().ok_or(Corrupt::NotLookedUp)?),
            };
            booking.row(number, row, sighting)?;
        }
        booking.finish(self, effects)
    }
}

/// One entry's usage on its way into State.
struct Booking<'a> {
    batch: &'a UsageBatch,
    at: At,
    payers: Vec<Payer>,
    windows: Vec<SequenceWindow>,
    prices: Vec<Option<Arc<PriceHistory>>>,
    /// Place in `lanes` plus one, by payer and model; 0: none yet.
    lane_of: Vec<u32>,
    lanes: Vec<Lane>,
    counted: Vec<Counted>,
    /// What each organization can still spend before its totals could leave the range of exact numbers.
    room: Vec<Amount>,
    quarantined: Vec<(usize, QuarantineReason)>,
    zones: Vec<Option<(usize, Zone)>>,
}

impl<'a> Booking<'a> {
    /// Looks every dictionary entry up once, and closes the cells of an earlier day.
    fn resolve(
        state: &mut State,
        batch: &'a UsageBatch,
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, Corrupt> {
        let mut zones = Vec::with_capacity(batch.organizations.len());
        for id in &batch.organizations {
            let slot = state.slot_of(id);
            if let Some(slot) = slot {
                close_cells(state.change(slot), at, effects)?;
            }
            zones.push(slot.and_then(|slot| Some((slot, state.at_slot(slot)?.zone.clone()))));
        }
        let slot_of =
            |index: u32| zones.get(place(index)).and_then(|known: &Option<(usize, Zone)>| known.as_ref());
        let payers = batch
            .payers
            .iter()
            .map(|(organization, charged)| {
                let slot = slot_of(*organization).map(|(slot, _)| *slot);
                let known = slot.and_then(|slot| Some((slot, state.at_slot(slot)?)));
                known.map_or(
                    Payer::Unbookable { slot: None, reason: QuarantineReason::UnknownOrganization },
                    |(slot, organization)| resolve_payer(slot, organization, charged),
                )
            })
            .collect();
        let windows = batch
            .sources
            .iter()
            .map(|(organization, source)| match slot_of(*organization) {
                // Taken out while the entry is booked, and put back by `finish`.
                Some((slot, _)) => {
                    let organization = state.change(*slot);
                    organization.sources.get_mut(source).map(std::mem::take).unwrap_or_default()
                }
                None => SequenceWindow::default(),
            })
            .collect();
        Ok(Self {
            batch,
            at,
            payers,
            windows,
            prices: batch.models.iter().map(|model| state.config().prices.history(model).cloned()).collect(),
            lane_of: vec![0; batch.payers.len().saturating_mul(batch.models.len())],
            lanes: Vec::new(),
            counted: vec![Counted::default(); batch.organizations.len()],
            room: zones
                .iter()
                .map(|known| known.as_ref().and_then(|(slot, _)| state.at_slot(*slot)))
                .map(|known| known.map_or(Amount::ZERO, |organization| organization.purse.room()))
                .collect(),
            quarantined: Vec::new(),
            zones,
        })
    }

    fn row(&mut self, number: usize, row: &Row, sighting: Option<&Sighting>) -> Result<(), Corrupt> {
        let fate = self.fate(number, row, sighting)?;
        let organization =
            self.batch.payers.get(place(row.payer)).map_or(0, |(organization, _)| place(*organization));
        let Some(counted) = self.counted.get_mut(organization) else { return Ok(()) };
        match fate {
            Fate::Booked => counted.booked = counted.booked.saturating_add(1),
            Fate::Duplicate => counted.duplicates = counted.duplicates.saturating_add(1),
            Fate::Quarantined(reason) => {
                counted.quarantined = counted.quarantined.saturating_add(1);
                self.quarantined.push((number, reason));
            }
        }
        Ok(())
    }

    /// Repetitions first, so that a record that was quarantined once is not quarantined again.
    fn fate(&mut self, number: usize, row: &Row, sighting: Option<&Sighting>) -> Result<Fate, Corrupt> {
        let Some(payer) = self.payers.get(place(row.payer)) else { return Ok(Fate::Duplicate) };
        if let Payer::Unbookable { slot: None, reason } = payer {
            return Ok(Fate::Quarantined(reason.clone()));
        }
        let occurred = self.batch.occurred(row).at();
        let at = self.at;
        match (row.producerseq, sighting) {
            (Some(sequence), _) => {
                let Some(window) = self.windows.get_mut(place(row.source)) else {
                    return Ok(Fate::Duplicate);
                };
                match window.note(sequence) {
                    Sequence::New => {}
                    Sequence::Duplicate => return Ok(Fate::Duplicate),
                    Sequence::Behind => return Ok(Fate::Quarantined(QuarantineReason::SequenceBehind)),
                    Sequence::Ahead => return Ok(Fate::Quarantined(QuarantineReason::SequenceAhead)),
                }
            }
            (None, Some(sighting)) => {
                let here = UsagePlace { position: at.position, row: row_number(number) };
                if sighting.first.place != here {
                    return Ok(if sighting.first.content == sighting.content {
                        Fate::Duplicate
                    } else {
                        Fate::Quarantined(QuarantineReason::ConflictingId { first: sighting.first.place })
                    });
                }
                if occurred < at.recorded_at.plus_seconds(HORIZON_SECONDS.wrapping_neg()) {
                    return Ok(Fate::Quarantined(QuarantineReason::TooOld));
                }
            }
            (None, None) => return Err(Corrupt::NotLookedUp),
        }
        if occurred > at.recorded_at.plus_seconds(AHEAD_MAX_SECONDS) {
            return Ok(Fate::Quarantined(QuarantineReason::Ahead));
        }
        let (slot, project, key) = match payer {
            Payer::Known { slot, project, key } => (*slot, project, key),
            Payer::Unbookable { reason, .. } => return Ok(Fate::Quarantined(reason.clone())),
        };
        let models = self.batch.models.len();
        let table = place(row.payer).saturating_mul(models).saturating_add(place(row.model));
        let lane = match self.lane_of.get(table).copied() {
            Some(known @ 1..) => place(known).saturating_sub(1),
            Some(0) | None => {
                let organization = self.batch.payers.get(place(row.payer)).map_or(0, |(org, _)| place(*org));
                let zone = match self.zones.get(organization) {
                    Some(Some((_, zone))) => zone.clone(),
                    Some(None) | None => Zone::utc(),
                };
                self.lanes.push(Lane {
                    slot,
                    project: project.clone(),
                    key: key.clone(),
                    model: place(row.model),
                    prices: self.prices.get(place(row.model)).cloned().flatten(),
                    day: Day::default(),
                    // An empty span, so that the first row sets the day.
                    day_start: Timestamp::MAX,
                    day_end: Timestamp::EPOCH,
                    zone,
                    cell: Cell::default(),
                });
                if let Some(entry) = self.lane_of.get_mut(table) {
                    *entry = u32::try_from(self.lanes.len()).unwrap_or(0);
                }
                self.lanes.len().saturating_sub(1)
            }
        };
        let Some(lane) = self.lanes.get_mut(lane) else { return Ok(Fate::Duplicate) };
        let cost = match lane.price(row, occurred) {
            Ok(cost) => cost,
            Err(reason) => return Ok(Fate::Quarantined(reason)),
        };
        let organization =
            self.batch.payers.get(place(row.payer)).map_or(0, |(organization, _)| place(*organization));
        match self.room.get_mut(organization).map(|room| (room.checked_sub(cost), room)) {
            Some((Some(left), room)) if !left.is_negative() => *room = left,
            Some(_) | None => return Ok(Fate::Quarantined(QuarantineReason::Absurd)),
        }
        if occurred < lane.day_start || occurred >= lane.day_end {
            let full = lane.turn_to_day_of(occurred);
            if let Some(full) = full {
                // The lane of the day before goes on as one that no row finds any more.
                self.lanes.push(full);
            }
        }
        let index = self.lane_of.get(table).copied().map_or(0, place).saturating_sub(1);
        let Some(lane) = self.lanes.get_mut(index) else { return Ok(Fate::Duplicate) };
        lane.cell.count(row.tokens, row.extras.as_ref().map(|extras| &extras.meters), cost)?;
        Ok(Fate::Booked)
    }

    /// Writes what was summed into State, and puts back what was taken out.
    fn finish(self, state: &mut State, effects: &mut Vec<Effect>) -> Result<(), Corrupt> {
        let at_once = state.config().lag.cycle_seconds == 0;
        let today_of = |zone: &Zone| zone.day(self.at.recorded_at);
        for ((organization, source), window) in self.batch.sources.iter().zip(self.windows) {
            if let Some(Some((slot, _))) = self.zones.get(place(*organization))
                && window != SequenceWindow::default()
            {
                state.change(*slot).sources.insert(source.clone(), window);
            }
        }
        // A window that was taken out and is still empty stands as an empty one; there is none to put back.
        let mut due: Vec<(usize, Amount)> = Vec::new();
        for lane in self.lanes {
            if lane.cell.requests == 0 {
                continue;
            }
            let cost = lane.cell.cost;
            let organization = state.change(lane.slot);
            if let Some(project) = organization.projects.get_mut(&lane.project) {
                project.spend.add_pending(lane.day, cost)?;
                if at_once {
                    project.spend.settle(today_of(&lane.zone))?;
                }
            }
            let Some(model) = self.batch.models.get(lane.model) else { continue };
            let key = CellKey { day: lane.day, project: lane.project, model: model.clone(), key: lane.key };
            organization.open.cells.entry(key).or_default().add(&lane.cell)?;
            match due.iter_mut().find(|(slot, _)| *slot == lane.slot) {
                Some((_, all)) => *all = sum(*all, cost)?,
                None => due.push((lane.slot, cost)),
            }
        }
        for (slot, cost) in due {
            state.change(slot).purse.charge(cost)?;
            if !at_once {
                state.note_pending(slot);
            }
        }
        let mut quarantined = 0u64;
        for (counted, known) in self.counted.iter().zip(&self.zones) {
            quarantined = quarantined.saturating_add(counted.quarantined);
            if let Some((slot, _)) = known {
                let counts = &mut state.change(*slot).counts;
                counts.booked = counts.booked.saturating_add(counted.booked);
                counts.duplicates = counts.duplicates.saturating_add(counted.duplicates);
                counts.quarantined = counts.quarantined.saturating_add(counted.quarantined);
            }
        }
        state.count_usage(u64::try_from(self.batch.rows.len()).unwrap_or(u64::MAX), quarantined);
        quarantine(self.batch, self.quarantined, self.at, effects);
        Ok(())
    }
}

/// Rows that were not booked, with everything they said.
fn quarantine(batch: &UsageBatch, rows: Vec<(usize, QuarantineReason)>, at: At, effects: &mut Vec<Effect>) {
    let mut rows = rows.into_iter().peekable();
    if rows.peek().is_none() {
        return;
    }
    for (number, usage) in batch.unpack().enumerate() {
        if let Some((_, reason)) = rows.next_if(|(row, _)| *row == number) {
            effects.push(Effect::Quarantined(Box::new(Quarantined {
                place: UsagePlace { position: at.position, row: row_number(number) },
                reason,
                recorded_at: at.recorded_at,
                what: QuarantinedWhat::Usage(usage),
            })));
        }
    }
}

impl Lane {
    /// What a row costs at the price in force when it occurred, or why it cannot be booked (R4.11).
    #[inline]
    fn price(&self, row: &Row, occurred: Timestamp) -> Result<Amount, QuarantineReason> {
        let tokens = row.tokens;
        let sane = tokens.input <= QUANTITY_MAX && tokens.output <= QUANTITY_MAX;
        let Some(uncached) = tokens.input.checked_sub(tokens.cached_input).filter(|_| sane) else {
            return Err(QuarantineReason::Absurd);
        };
        if let Some(extras) = &row.extras {
            if extras.meters.values().any(|units| *units > QUANTITY_MAX) {
                return Err(QuarantineReason::Absurd);
            }
            if let Some(cost) = extras.cost {
                return if cost.is_negative() { Err(QuarantineReason::Absurd) } else { Ok(cost) };
            }
        }
        let price = self.prices.as_deref().and_then(|history| price_at(history, occurred));
        let price = price.ok_or(QuarantineReason::UnknownModel)?;
        let parts = [
            price.input.charge(uncached),
            price.cached_input.charge(tokens.cached_input),
            price.output.charge(tokens.output),
        ];
        let mut cost = Amount::ZERO;
        for part in parts {
            cost = part.and_then(|part| cost.checked_add(part)).ok_or(QuarantineReason::Absurd)?;
        }
        match &row.extras {
            Some(extras) => charge_meters(cost, price, extras),
            None => Ok(cost),
        }
    }

    /// Turns to the local day of a row; what was summed of another day goes on as a lane of its own.
    fn turn_to_day_of(&mut self, occurred: Timestamp) -> Option<Self> {
        let day = self.zone.day(occurred);
        let full = (self.cell.requests > 0 && self.day != day).then(|| Self {
            project: self.project.clone(),
            key: self.key.clone(),
            prices: None,
            zone: self.zone.clone(),
            cell: std::mem::take(&mut self.cell),
            ..*self
        });
        self.day = day;
        self.day_start = self.zone.start_of_day(day);
        self.day_end = self.zone.start_of_day(day.next());
        if self.day_end.nanos_since(self.day_start) != DAY_NANOS {
            // Clocks change on this day, and could change back into the day before: each row is looked at.
            self.day_start = Timestamp::MAX;
        }
        full
    }
}

fn charge_meters(base: Amount, price: &ModelPrice, extras: &Extras) -> Result<Amount, QuarantineReason> {
    extras.meters.iter().try_fold(base, |cost, (meter, units)| {
        let price = price.meters.get(meter).ok_or(QuarantineReason::UnknownMeter)?;
        price.charge(*units).and_then(|part| cost.checked_add(part)).ok_or(QuarantineReason::Absurd)
    })
}

fn resolve_payer(slot: usize, organization: &Organization, charged: &Charged) -> Payer {
    match charged {
        Charged::Key(id) => match organization.keys.get(id) {
            Some(key) => Payer::Known { slot, project: key.project.clone(), key: Some(id.clone()) },
            None => Payer::Unbookable { slot: Some(slot), reason: QuarantineReason::UnknownKey },
        },
        Charged::Project(id) if organization.projects.contains_key(id) => {
            Payer::Known { slot, project: id.clone(), key: None }
        }
        Charged::Project(_) => {
            Payer::Unbookable { slot: Some(slot), reason: QuarantineReason::UnknownProject }
        }
    }
}

/// On the first booking of a later local day the cells of the day before become history, whose hash stays.
fn close_cells(organization: &mut Organization, at: At, effects: &mut Vec<Effect>) -> Result<(), Corrupt> {
    let today = organization.zone.day(at.recorded_at);
    if organization.open.booked_on >= today {
        return Ok(());
    }
    let closed =
        std::mem::replace(&mut organization.open, OpenCells { booked_on: today, ..OpenCells::default() });
    if closed.cells.is_empty() {
        return Ok(());
    }
    let bytes = codec::encode_row(&closed).map_err(|_| Corrupt::Unsupported("cell"))?;
    let mut chain = Sha256::new();
    chain.update(organization.history);
    chain.update(at.position.0.to_be_bytes());
    chain.update(bytes);
    organization.history = chain.finalize().into();
    organization.history_at = at.position;
    effects.push(Effect::CellsClosed {
        organization: organization.id.clone(),
        cells: closed,
        position: at.position,
    });
    Ok(())
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn row_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
