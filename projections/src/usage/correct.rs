//! Corrections of usage by decisions: quarantined records released, booked ones taken back (R4.8, R8.1).

use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Event, MoneyEvent, QuarantineEvent};
use tollbook_schemas::id::{KeyId, ProjectId};
use tollbook_schemas::policy::LagModel;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{AHEAD_MAX_SECONDS, BookedUsage, QuarantineReason, Usage, UsagePlace};

use super::{Payer, price, resolve_payer, spend};
use crate::first::{Sighting, goes_by_id};
use crate::organization::{At, Organization, Writing};
use crate::past::Settling;
use crate::purse::Funds;
use crate::sequence::Sequence;
use crate::spend::Cell;
use crate::state::{Corrupt, Effect, State};

/// Why a record that was quarantined still cannot be booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotBookable {
    /// What keeps it in quarantine.
    Reason(QuarantineReason),
    /// It came again since, and was booked.
    BookedSince,
}

/// A record as it would be booked at `now`. `uncounted`: its `producerseq` was not counted when it was quarantined.
pub fn bookable(
    state: &State,
    organization: &Organization,
    usage: &Usage,
    uncounted: bool,
    now: Timestamp,
) -> Result<BookedUsage, NotBookable> {
    let occurred = usage.occurred.at();
    if let Some(sequence) = usage.producerseq.filter(|_| uncounted) {
        let counted = organization.sources.get(&usage.source).cloned().unwrap_or_default().note(sequence);
        match counted {
            Sequence::Duplicate => return Err(NotBookable::BookedSince),
            // It could not be counted, and would be booked again when it comes within reach.
            Sequence::Ahead => return Err(NotBookable::Reason(QuarantineReason::SequenceAhead)),
            // It may have come again before it fell behind.
            Sequence::Behind => return Err(NotBookable::Reason(QuarantineReason::SequenceBehind)),
            Sequence::New => {}
        }
    }
    if occurred > now.plus_seconds(AHEAD_MAX_SECONDS) {
        return Err(NotBookable::Reason(QuarantineReason::Ahead));
    }
    let (project, key) = match resolve_payer(0, organization, &usage.charged) {
        Payer::Known { project, key, .. } => (project, key),
        Payer::Unbookable { reason, .. } => return Err(NotBookable::Reason(reason)),
    };
    let own = organization.prices.at(&usage.model, occurred);
    let in_force = own.or_else(|| state.config().prices.at(&usage.model, occurred));
    let cost = price(usage.tokens, usage.extras.as_deref(), in_force).map_err(NotBookable::Reason)?;
    if cost > organization.purse.room() {
        return Err(NotBookable::Reason(QuarantineReason::Absurd));
    }
    Ok(booked(organization, usage, project, key, cost))
}

fn booked(
    organization: &Organization,
    usage: &Usage,
    project: ProjectId,
    key: Option<KeyId>,
    cost: Amount,
) -> BookedUsage {
    BookedUsage {
        day: organization.calendar.day(usage.occurred.at()),
        project,
        key,
        model: usage.model.clone(),
        tokens: usage.tokens,
        meters: usage.extras.as_ref().map(|extras| extras.meters.clone()).unwrap_or_default(),
        cost,
    }
}

impl State {
    /// A booked record as it was charged: by prices as they were known when its entry was applied. `None` where it
    /// cannot have been booked.
    pub fn as_booked(
        &self,
        organization: &Organization,
        usage: &Usage,
        at: UsagePlace,
    ) -> Option<BookedUsage> {
        let (project, key) = match resolve_payer(0, organization, &usage.charged) {
            Payer::Known { project, key, .. } => (project, key),
            Payer::Unbookable { .. } => return None,
        };
        let occurred = usage.occurred.at();
        let own = organization.prices.known_at(&usage.model, occurred, at.position);
        let in_force = own.or_else(|| self.config().prices.known_at(&usage.model, occurred, at.position));
        let cost = price(usage.tokens, usage.extras.as_deref(), in_force).ok()?;
        Some(booked(organization, usage, project, key, cost))
    }

    /// Applies an event that needs more than its organization; `false` for all others.
    pub(crate) fn apply_correction(
        &mut self,
        slot: usize,
        event: &Event,
        sightings: &mut std::slice::Iter<'_, Sighting>,
        writing: &mut Writing<'_>,
    ) -> Result<bool, Corrupt> {
        match event {
            Event::Quarantine(QuarantineEvent::Released { place, usage, uncounted }) => {
                if goes_by_id(usage, *uncounted) {
                    let sighting = sightings.next().ok_or(Corrupt::NotLookedUp)?;
                    // The same id came by another way, and that one counts (R8.2).
                    if sighting.first.place != *place {
                        return Ok(true);
                    }
                }
                self.release(slot, *place, usage, *uncounted, writing)?;
                Ok(true)
            }
            Event::Quarantine(QuarantineEvent::Dismissed { .. }) => {
                self.count_settled();
                Ok(false)
            }
            Event::Money(MoneyEvent::UsageReversed { booked, .. }) => {
                self.consume(slot, booked, true, writing)?;
                Ok(false)
            }
            Event::Money(
                MoneyEvent::Recharged { .. }
                | MoneyEvent::RechargeReversed { .. }
                | MoneyEvent::Refunded { .. }
                | MoneyEvent::Adjusted { .. }
                | MoneyEvent::VoucherGranted { .. }
                | MoneyEvent::VoucherExpired { .. }
                | MoneyEvent::VoucherWithdrawn { .. }
                | MoneyEvent::StatementSealed { .. }
                | MoneyEvent::InvoiceIssued { .. }
                | MoneyEvent::CreditNoteIssued { .. }
                | MoneyEvent::VoucherExpiring { .. },
            )
            | Event::Organization(_)
            | Event::Member(_)
            | Event::Project(_)
            | Event::Key(_)
            | Event::Webhook(_)
            | Event::Config(_)
            | Event::Partition(_) => Ok(false),
        }
    }

    /// Books a released record as if it came now; if it has become unbookable since, it stays in quarantine.
    fn release(
        &mut self,
        slot: usize,
        place: UsagePlace,
        usage: &Usage,
        uncounted: bool,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let at = writing.at;
        let Some(organization) = self.at_slot(slot) else { return Ok(()) };
        let Ok(record) = bookable(self, organization, usage, uncounted, at.recorded_at) else {
            return Ok(());
        };
        if let Some(sequence) = usage.producerseq {
            // One that was counted before, or is too far off to be, changes nothing here.
            self.change(slot).sources.get_or_default(usage.source.clone()).note(sequence);
        }
        self.consume(slot, &record, false, writing)?;
        self.charge(slot, record.cost, at, writing.effects)?;
        writing.settle(self.change(slot), place, Settling::Released);
        self.count_settled();
        Ok(())
    }

    /// Counts one record's consumption in cells and budgets, or takes it back.
    fn consume(
        &mut self,
        slot: usize,
        record: &BookedUsage,
        back: bool,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let LagModel { cycle_seconds, delay_seconds } = self.config().lag;
        let at_once = cycle_seconds == 0;
        let mut cell = Cell::default();
        cell.count(record.tokens, Some(&record.meters), record.cost)?;
        let cell = if back { cell.taken_back() } else { cell };
        let organization = self.change(slot);
        let today = organization.open.booked_on;
        // State's own copies of the texts, by which cells are found.
        let project = organization.projects.get_key_value(&record.project).map(|(id, _)| id.clone());
        let key = record.key.as_ref().and_then(|key| organization.keys.get_key_value(key));
        let key = key.map(|(id, _)| id.clone()).or_else(|| record.key.clone());
        let project = project.ok_or_else(|| Corrupt::ProjectUnknown(record.project.clone()))?;
        let cells = &mut organization.open.cells;
        let place = cells.place(record.day, &project, &record.model, key.as_ref());
        cells.at(place).ok_or(Corrupt::CountOutOfRange)?.add(&cell)?;
        spend(organization, &project, record.day, cell.cost)?;
        let lag = (at_once, delay_seconds);
        if organization.consumed((&project, today), lag, writing.at, writing.effects)? {
            self.note_pending(slot);
        }
        Ok(())
    }

    /// Takes what usage cost out of the purse.
    pub(crate) fn charge(
        &mut self,
        slot: usize,
        cost: Amount,
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let report = self.reports_charges();
        let default = self.config().defaults.balance_alert_threshold;
        let organization = self.change(slot);
        let took = organization.purse.charge(cost)?;
        organization.month.usage = organization.month.usage.plus(took)?;
        organization.month.active = true;
        if report && took != Funds::default() {
            let (id, after) = (organization.id.clone(), organization.purse.funds());
            effects.push(Effect::Charged { organization: id, position: at.position, took, after });
        }
        organization.watch_balance(default, at, effects);
        self.note_expiry(slot);
        Ok(())
    }
}
