//! Corrections of usage: booked records taken back, quarantined ones released or dismissed (R4.8, R8.1).

use tollbook_projections::movement::MovementKey;
use tollbook_projections::past::{Settled, Settling};
use tollbook_projections::state::{Quarantined, QuarantinedWhat};
use tollbook_projections::usage::{NotBookable, bookable};
use tollbook_schemas::event::{Event, MoneyEvent, QuarantineEvent};
use tollbook_schemas::id::{MovementId, Reason};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::usage::{BookedUsage, QuarantineReason, Usage, UsagePlace};

use super::{Case, Decided, Refusable};

/// A record is taken back once; the same again changes nothing.
pub(super) fn reverse(
    case: &Case<'_>,
    reversal: &MovementId,
    usage: UsagePlace,
    booked: &BookedUsage,
    reason: &Reason,
) -> Decided {
    if let Some(before) = case.movement(&MovementKey::Usage(usage)) {
        return Decided::Before(before.position);
    }
    Decided::of([Event::Money(MoneyEvent::UsageReversed {
        reversal: reversal.clone(),
        usage,
        booked: Box::new(booked.clone()),
        reason: reason.clone(),
    })])
}

/// A record is released once, when nothing keeps it from being booked; `mended` replaces what came.
pub(super) fn release(case: &Case<'_>, place: UsagePlace, mended: Option<&Usage>) -> Refusable {
    let quarantined = case.quarantined(place)?;
    match case.settled(place) {
        Some(Settled { how: Settling::Released, position, .. }) => return Ok(Decided::Before(*position)),
        Some(Settled { how: Settling::Dismissed(_), .. }) => return Err(Rejection::NotInQuarantine),
        None => {}
    }
    let came = match &quarantined.what {
        QuarantinedWhat::Usage(usage) => Some(usage),
        QuarantinedWhat::Bytes(_) => None,
    };
    let usage = mended.or(came).ok_or(Rejection::StillUnbookable("its bytes are not readable as usage"))?;
    if usage.organization != case.organization.id {
        return Err(Rejection::NotInQuarantine);
    }
    let uncounted = is_uncounted(&quarantined.reason);
    if came.is_some_and(|came| !is_same(came, usage, &quarantined.reason)) {
        return Err(Rejection::StillUnbookable("a mended record keeps its source, id and producerseq"));
    }
    match bookable(case.state, case.organization, usage, uncounted, case.now) {
        Ok(_) => Ok(Decided::of([Event::Quarantine(QuarantineEvent::Released {
            place,
            usage: Box::new(usage.clone()),
            uncounted,
        })])),
        Err(NotBookable::BookedSince) => {
            Err(Rejection::StillUnbookable("it came again since, and was booked"))
        }
        Err(NotBookable::Reason(reason)) => Err(Rejection::StillUnbookable(reason.code())),
    }
}

pub(super) fn dismiss(case: &Case<'_>, place: UsagePlace, reason: &Reason) -> Refusable {
    case.quarantined(place)?;
    match case.settled(place) {
        Some(Settled { how: Settling::Dismissed(before), position, .. }) if before == reason => {
            return Ok(Decided::Before(*position));
        }
        Some(_) => return Err(Rejection::NotInQuarantine),
        None => {}
    }
    Ok(Decided::of([Event::Quarantine(QuarantineEvent::Dismissed { place, reason: reason.clone() })]))
}

impl Case<'_> {
    /// What was quarantined at a place, if it was this organization's.
    fn quarantined(&self, place: UsagePlace) -> Result<&Quarantined, Rejection> {
        let found = self.past.quarantined.as_deref().filter(|quarantined| quarantined.place == place);
        let of = |quarantined: &&Quarantined| quarantined.organization() == Some(&self.organization.id);
        found.filter(of).ok_or(Rejection::NotInQuarantine)
    }

    fn settled(&self, place: UsagePlace) -> Option<&Settled> {
        self.organization.recent.settled(place).or(self.past.settled.as_ref())
    }
}

/// Whether a mended record is still the one that came, so that a repetition of it is recognized (R8.2). Only a count that
/// is itself what is wrong may be another.
fn is_same(came: &Usage, mended: &Usage, reason: &QuarantineReason) -> bool {
    let counts = match (came.producerseq, mended.producerseq) {
        (Some(_), Some(_)) if *reason == QuarantineReason::SequenceAhead => true,
        (came, mended) => came == mended,
    };
    counts && came.source == mended.source && came.id == mended.id
}

/// Whether the fold quarantined a record before it looked at its `producerseq`, or could not count it.
const fn is_uncounted(reason: &QuarantineReason) -> bool {
    match reason {
        QuarantineReason::Unreadable(_)
        | QuarantineReason::OrganizationMismatch
        | QuarantineReason::UnknownOrganization
        | QuarantineReason::SequenceAhead => true,
        // Of one that is behind nobody can tell; whoever releases it knows.
        QuarantineReason::SequenceBehind
        | QuarantineReason::UnknownProject
        | QuarantineReason::UnknownKey
        | QuarantineReason::UnknownModel
        | QuarantineReason::UnknownMeter
        | QuarantineReason::ConflictingId { .. }
        | QuarantineReason::Absurd
        | QuarantineReason::Ahead
        | QuarantineReason::TooOld => false,
    }
}
