//! Booking usage: told apart from repetitions, priced, charged, and counted; or quarantined with a reason (R8).
//!
//! ```text
//! entry ─ dictionaries ─> resolved once          organization, project, price history
//!       └ rows ─> repetition? ─> cell (day, project, model, key): tokens and cost
//!                     └─> quarantine    └─ summed, at the end of the entry ─> pending, purse
//! ```

mod correct;

use std::sync::Arc;

use tollbook_schemas::amount::Amount;
use tollbook_schemas::batch::{Row, UsageBatch};
use tollbook_schemas::id::{KeyId, ModelName, OrgId, ProjectId};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::price::ModelPrice;
use tollbook_schemas::time::{Day, DaySpan, Zone};
use tollbook_schemas::usage::{
    AHEAD_MAX_SECONDS, Charged, Extras, QUANTITY_MAX, QuarantineReason, Tokens, UsagePlace,
};

use crate::config::{PriceHistory, price_at};
use crate::first::Sighting;
use crate::organization::{At, Organization};
use crate::purse::sum;
use crate::sequence::{Sequence, SequenceWindow};
use crate::state::{Corrupt, Effect, Quarantined, QuarantinedWhat, State};

/// How long before its arrival a record without `producerseq` may have occurred: two months, in seconds. An older
/// one cannot be told from a repetition by any index that was ever pruned, so it is not guessed at.
pub const HORIZON_SECONDS: i64 = 62 * 24 * 60 * 60;

pub use self::correct::{NotBookable, bookable};

/// Whom a payer of the batch's dictionary is, or why it cannot be charged. Ids are State's own copies.
enum Payer {
    Known { organization: usize, project: ProjectId, key: Option<KeyId>, spent_today: Option<Amount> },
    Unbookable { organization: usize, reason: QuarantineReason },
}

/// An organization of the batch's dictionary.
struct Involved {
    /// Its slot; `None`: there is no such organization.
    slot: Option<usize>,
    /// The local day in which the entry was recorded, as most of its rows are.
    today: DaySpan,
    counted: Counted,
    /// What it could spend at first before its totals could leave the range of exact numbers.
    room_at_first: Amount,
    /// And what is left of that.
    room: Amount,
    /// Whether it has prices of its own, which win (R4.11).
    own_prices: bool,
}

/// A model of the batch's dictionary.
struct Model {
    /// The price book's own copy where there is one.
    name: ModelName,
    prices: Option<Arc<PriceHistory>>,
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
            booking.row(self, number, row, sighting)?;
        }
        booking.finish(self, effects)
    }
}

/// One entry's usage on its way into State.
struct Booking<'a> {
    batch: &'a UsageBatch,
    at: At,
    organizations: Vec<Involved>,
    payers: Vec<Payer>,
    windows: Vec<SequenceWindow>,
    models: Vec<Model>,
    /// Place of today's cell plus one, by payer and model; 0: not asked for yet.
    cell_of: Vec<u32>,
    quarantined: Vec<(usize, QuarantineReason)>,
    /// Rows that came before.
    repeated: Vec<u32>,
}

impl<'a> Booking<'a> {
    /// Looks every dictionary entry up once, and closes the cells of an earlier day.
    fn resolve(
        state: &mut State,
        batch: &'a UsageBatch,
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<Self, Corrupt> {
        let mut organizations = Vec::with_capacity(batch.organizations.len());
        for id in &batch.organizations {
            organizations.push(Involved::resolve(state, id, at, effects)?);
        }
        let slot_of = |index: u32| organizations.get(place(index)).and_then(|known: &Involved| known.slot);
        let payers = batch.payers.iter().map(|(organization, charged)| {
            let known = slot_of(*organization).and_then(|slot| state.at_slot(slot));
            match known {
                Some(known) => resolve_payer(place(*organization), known, charged),
                None => Payer::Unbookable {
                    organization: place(*organization),
                    reason: QuarantineReason::UnknownOrganization,
                },
            }
        });
        let payers = payers.collect();
        let windows = batch.sources.iter().map(|(organization, source)| {
            // Taken out while the entry is booked, and put back by `finish`.
            let slot = slot_of(*organization);
            let known = slot.and_then(|slot| state.change(slot).sources.get_mut(source));
            known.map(std::mem::take).unwrap_or_default()
        });
        let windows = windows.collect();
        let models = batch.models.iter().map(|model| match state.config().prices.listed(model) {
            Some((name, prices)) => Model { name: name.clone(), prices: Some(prices.clone()) },
            None => Model { name: model.clone(), prices: None },
        });
        Ok(Self {
            batch,
            at,
            payers,
            windows,
            models: models.collect(),
            cell_of: vec![0; batch.payers.len().saturating_mul(batch.models.len())],
            quarantined: Vec::new(),
            repeated: Vec::new(),
            organizations,
        })
    }

    fn row(
        &mut self,
        state: &mut State,
        number: usize,
        row: &Row,
        sighting: Option<&Sighting>,
    ) -> Result<(), Corrupt> {
        let fate = self.fate(state, number, row, sighting)?;
        let Some(Payer::Known { organization, .. } | Payer::Unbookable { organization, .. }) =
            self.payers.get(place(row.payer))
        else {
            return Ok(());
        };
        let Some(Involved { counted, .. }) = self.organizations.get_mut(*organization) else { return Ok(()) };
        match fate {
            Fate::Booked => counted.booked = counted.booked.saturating_add(1),
            Fate::Duplicate => {
                counted.duplicates = counted.duplicates.saturating_add(1);
                self.repeated.push(row_number(number));
            }
            Fate::Quarantined(reason) => {
                counted.quarantined = counted.quarantined.saturating_add(1);
                self.quarantined.push((number, reason));
            }
        }
        Ok(())
    }

    /// Repetitions first, so that a record that was quarantined once is not quarantined again.
    fn fate(
        &mut self,
        state: &mut State,
        number: usize,
        row: &Row,
        sighting: Option<&Sighting>,
    ) -> Result<Fate, Corrupt> {
        let Some(payer) = self.payers.get_mut(place(row.payer)) else { return Ok(Fate::Duplicate) };
        if let Payer::Unbookable { reason: reason @ QuarantineReason::UnknownOrganization, .. } = payer {
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
        let (organization, project, key, spent_today) = match payer {
            Payer::Known { organization, project, key, spent_today } => {
                (*organization, project, key, spent_today)
            }
            Payer::Unbookable { reason, .. } => return Ok(Fate::Quarantined(reason.clone())),
        };
        let Some(model) = self.models.get(place(row.model)) else { return Ok(Fate::Duplicate) };
        let Some(involved) = self.organizations.get_mut(organization) else { return Ok(Fate::Duplicate) };
        let Some(slot) = involved.slot else { return Ok(Fate::Duplicate) };
        let listed = model.prices.as_deref().and_then(|history| price_at(history, occurred));
        let in_force = if involved.own_prices {
            let own = state.at_slot(slot).and_then(|known| known.prices.at(&model.name, occurred));
            own.or(listed)
        } else {
            listed
        };
        let cost = match price(row.tokens, row.extras.as_deref(), in_force) {
            Ok(cost) => cost,
            Err(reason) => return Ok(Fate::Quarantined(reason)),
        };
        match involved.room.checked_sub(cost) {
            Some(left) if !left.is_negative() => involved.room = left,
            Some(_) | None => return Ok(Fate::Quarantined(QuarantineReason::Absurd)),
        }
        // From here it is booked.
        let is_today = involved.today.holds(occurred);
        let day = if is_today { involved.today.day } else { state.day_of(slot, occurred).day };
        let open = &mut state.change(slot).open.cells;
        let known = place(row.payer).saturating_mul(self.models.len()).saturating_add(place(row.model));
        let cell = match self.cell_of.get_mut(known) {
            Some(known) if is_today => {
                if *known == 0 {
                    let found = open.place(day, project, &model.name, key.as_ref());
                    *known = u32::try_from(found.saturating_add(1)).map_err(|_| Corrupt::CountOutOfRange)?;
                }
                open.at(place(*known).saturating_sub(1))
            }
            Some(_) | None => {
                let found = open.place(day, project, &model.name, key.as_ref());
                open.at(found)
            }
        };
        let cell = cell.ok_or(Corrupt::CountOutOfRange)?;
        cell.count(row.tokens, row.extras.as_ref().map(|extras| &extras.meters), cost)?;
        if is_today {
            *spent_today = Some(sum(spent_today.unwrap_or_default(), cost)?);
        } else {
            // So that `finish` looks at the project.
            spent_today.get_or_insert_default();
            spend(state.change(slot), project, day, cost)?;
        }
        Ok(Fate::Booked)
    }

    /// Writes what was summed into State, and puts back what was taken out.
    fn finish(mut self, state: &mut State, effects: &mut Vec<Effect>) -> Result<(), Corrupt> {
        for ((organization, source), window) in
            self.batch.sources.iter().zip(std::mem::take(&mut self.windows))
        {
            // A window that was taken out and is still empty stands as an empty one; there is none to put back.
            if let Some(slot) = self.organizations.get(place(*organization)).and_then(|known| known.slot)
                && window != SequenceWindow::default()
            {
                let sources = &mut state.change(slot).sources;
                match sources.get_mut(source) {
                    Some(known) => *known = window,
                    None => {
                        sources.insert(source.clone(), window);
                    }
                }
            }
        }
        let LagModel { cycle_seconds, delay_seconds } = state.config().lag;
        let at_once = cycle_seconds == 0;
        let mut looks = Vec::new();
        for payer in &self.payers {
            let Payer::Known { organization, project, spent_today: Some(spent), .. } = payer else {
                continue;
            };
            let Some(Involved { slot: Some(slot), today, .. }) = self.organizations.get(*organization) else {
                continue;
            };
            let watched = spend(state.change(*slot), project, today.day, *spent)?;
            if watched || at_once {
                looks.push((*slot, project, today.day));
            }
        }
        // Once everything of the entry is there, whichever of a project's keys it came by.
        for (slot, project, today) in looks {
            let lag = (at_once, delay_seconds);
            if state.change(slot).consumed((project, today), lag, self.at, effects)? {
                state.note_pending(slot);
            }
        }
        let mut quarantined = 0u64;
        for Involved { slot, counted, room_at_first, room, .. } in &self.organizations {
            quarantined = quarantined.saturating_add(counted.quarantined);
            let Some(slot) = *slot else { continue };
            let organization = state.change(slot);
            let counts = &mut organization.counts;
            counts.booked = counts.booked.saturating_add(counted.booked);
            counts.duplicates = counts.duplicates.saturating_add(counted.duplicates);
            counts.quarantined = counts.quarantined.saturating_add(counted.quarantined);
            if counted.booked > 0 {
                let spent = room_at_first.checked_sub(*room).ok_or(Corrupt::AmountOutOfRange)?;
                state.charge(slot, spent, self.at, effects)?;
                if !at_once {
                    state.note_pending(slot);
                }
            }
        }
        state.count_usage(u64::try_from(self.batch.rows.len()).unwrap_or(u64::MAX), quarantined);
        quarantine(self.batch, self.quarantined, self.at, effects);
        if !self.repeated.is_empty() {
            effects.push(Effect::Repeated { position: self.at.position, rows: self.repeated });
        }
        Ok(())
    }
}

/// What budgets see: pending until it is settled. Whether there are any.
fn spend(
    organization: &mut Organization,
    project: &ProjectId,
    day: Day,
    cost: Amount,
) -> Result<bool, Corrupt> {
    let Some(project) = organization.projects.get_mut(project) else { return Ok(false) };
    if !cost.is_zero() {
        project.spend.add_pending(day, cost)?;
    }
    Ok(!project.watch.is_idle())
}

impl Involved {
    fn resolve(state: &mut State, id: &OrgId, at: At, effects: &mut Vec<Effect>) -> Result<Self, Corrupt> {
        let slot = state.slot_of(id);
        let (today, room, own_prices) = match slot {
            Some(slot) => {
                let today = state.day_of(slot, at.recorded_at);
                let organization = state.change(slot);
                organization.advance(today.day, at, effects)?;
                (today, organization.purse.room(), !organization.prices.is_empty())
            }
            None => (DaySpan::of(&Zone::utc(), at.recorded_at), Amount::ZERO, false),
        };
        Ok(Self { slot, today, counted: Counted::default(), room_at_first: room, room, own_prices })
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

/// What a record costs at the price in force when it occurred, or why it cannot be booked (R4.11).
#[inline]
pub(crate) fn price(
    tokens: Tokens,
    extras: Option<&Extras>,
    in_force: Option<&ModelPrice>,
) -> Result<Amount, QuarantineReason> {
    let sane = tokens.input <= QUANTITY_MAX && tokens.output <= QUANTITY_MAX;
    let Some(uncached) = tokens.input.checked_sub(tokens.cached_input).filter(|_| sane) else {
        return Err(QuarantineReason::Absurd);
    };
    if let Some(extras) = extras {
        if extras.meters.values().any(|units| *units > QUANTITY_MAX) {
            return Err(QuarantineReason::Absurd);
        }
        if let Some(cost) = extras.cost {
            return if cost.is_negative() { Err(QuarantineReason::Absurd) } else { Ok(cost) };
        }
    }
    let price = in_force.ok_or(QuarantineReason::UnknownModel)?;
    let parts = [
        price.input.charge(uncached),
        price.cached_input.charge(tokens.cached_input),
        price.output.charge(tokens.output),
    ];
    let mut cost = Amount::ZERO;
    for part in parts {
        cost = part.and_then(|part| cost.checked_add(part)).ok_or(QuarantineReason::Absurd)?;
    }
    match extras {
        Some(extras) => charge_meters(cost, price, extras),
        None => Ok(cost),
    }
}

fn charge_meters(base: Amount, price: &ModelPrice, extras: &Extras) -> Result<Amount, QuarantineReason> {
    extras.meters.iter().try_fold(base, |cost, (meter, units)| {
        let price = price.meters.get(meter).ok_or(QuarantineReason::UnknownMeter)?;
        price.charge(*units).and_then(|part| cost.checked_add(part)).ok_or(QuarantineReason::Absurd)
    })
}

fn resolve_payer(place: usize, organization: &Organization, charged: &Charged) -> Payer {
    let unbookable = |reason| Payer::Unbookable { organization: place, reason };
    match charged {
        Charged::Key(id) => match organization.keys.get_key_value(id) {
            Some((id, key)) => {
                let (project, key) = (key.project.clone(), Some(id.clone()));
                Payer::Known { organization: place, project, key, spent_today: None }
            }
            None => unbookable(QuarantineReason::UnknownKey),
        },
        Charged::Project(id) => match organization.projects.get_key_value(id) {
            Some((id, _)) => {
                Payer::Known { organization: place, project: id.clone(), key: None, spent_today: None }
            }
            None => unbookable(QuarantineReason::UnknownProject),
        },
    }
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn row_number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
