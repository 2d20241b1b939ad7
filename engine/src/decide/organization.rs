//! The organization itself: registration, profile, verification, limits, allowlist, personal data (R1, R2, R9).

use ipnet::Ipv4Net;
use tollbook_projections::organization::Organization;
use tollbook_schemas::event::{Event, OrganizationEvent};
use tollbook_schemas::id::{DisplayName, MemberId, OrgId};
use tollbook_schemas::policy::{Change, QuantityOverride, RateOverride};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::Verification;
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::{Timestamp, Zone};

use super::{Case, Decided, Refusable};

/// An organization that wants to be registered.
pub(super) struct NewOrganization<'a> {
    pub(super) name: &'a DisplayName,
    pub(super) email: &'a Sealed,
    pub(super) creator: &'a MemberId,
    pub(super) creator_name: &'a Sealed,
    pub(super) creator_email: &'a Sealed,
    pub(super) zone: &'a Zone,
}

pub(super) fn register(
    id: &OrgId,
    organization: Option<&Organization>,
    new: &NewOrganization<'_>,
) -> Refusable {
    if organization.is_some() {
        return Err(Rejection::OrganizationExists(id.clone()));
    }
    if [new.email, new.creator_name, new.creator_email].iter().any(|sealed| sealed.key != 0) {
        return Err(Rejection::ContactsErased);
    }
    // From here it succeeds.
    Ok(Decided::Events(vec![Event::Organization(OrganizationEvent::Registered {
        name: new.name.clone(),
        email: new.email.clone(),
        creator: new.creator.clone(),
        creator_name: new.creator_name.clone(),
        creator_email: new.creator_email.clone(),
        zone: new.zone.clone(),
    })]))
}

pub(super) fn change(
    case: &Case<'_>,
    name: Option<&DisplayName>,
    email: Option<&Sealed>,
    zone: Option<&Zone>,
) -> Refusable {
    case.sealed_under_present_key(email)?;
    // From here it succeeds.
    let known = case.organization;
    let mut events = Vec::new();
    if let Some(name) = name.filter(|name| **name != known.name) {
        events.push(OrganizationEvent::Renamed { name: name.clone() });
    }
    if let Some(email) = email {
        events.push(OrganizationEvent::EmailChanged { email: email.clone() });
    }
    if let Some(zone) = zone.filter(|zone| *zone != known.calendar.zone_at(Timestamp::MAX)) {
        let from = known.calendar.day(case.now).month().next();
        events.push(OrganizationEvent::ZoneChanged { zone: zone.clone(), from });
    }
    Ok(Decided::of(events.into_iter().map(Event::Organization)))
}

pub(super) fn set_verification(case: &Case<'_>, level: Verification) -> Refusable {
    // From here it succeeds.
    let changed = level != case.organization.verification;
    let event = OrganizationEvent::VerificationChanged { level };
    Ok(Decided::of(changed.then_some(Event::Organization(event))))
}

pub(super) fn override_limits(
    case: &Case<'_>,
    quantities: QuantityOverride<Change<u32>>,
    rates: RateOverride<Change<u64>>,
) -> Refusable {
    // From here it succeeds.
    let known = case.organization;
    let mut events = Vec::new();
    if changes(quantities.projects, known.quantities.projects)
        || changes(quantities.api_keys, known.quantities.api_keys)
    {
        events.push(OrganizationEvent::QuantityOverridden(quantities));
    }
    if changes(rates.concurrency, known.rates.concurrency)
        || changes(rates.rpm, known.rates.rpm)
        || changes(rates.tpm, known.rates.tpm)
        || changes(rates.tpd, known.rates.tpd)
    {
        events.push(OrganizationEvent::RateOverridden(rates));
    }
    Ok(Decided::of(events.into_iter().map(Event::Organization)))
}

fn changes<T: Copy + PartialEq>(change: Change<T>, before: Option<T>) -> bool {
    change.applied_to(before) != before
}

pub(super) fn save_allowlist(case: &Case<'_>, entries: &[Ipv4Net]) -> Refusable {
    // From here it succeeds.
    let changed = entries != case.organization.allowlist;
    let event = OrganizationEvent::AllowlistSaved { entries: entries.to_vec() };
    Ok(Decided::of(changed.then_some(Event::Organization(event))))
}

pub(super) fn erase_contacts(case: &Case<'_>) -> Refusable {
    // From here it succeeds.
    Ok(Decided::of(
        case.organization.has_contacts.then_some(Event::Organization(OrganizationEvent::ContactsErased)),
    ))
}
