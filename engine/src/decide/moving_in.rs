//! Moving in: an organization with its past, in one entry (R10.1). Nothing is granted again.

use std::collections::BTreeSet;

use tollbook_projections::state::State;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::command::MoveIn;
use tollbook_schemas::event::{
    Event, KeyEvent, MemberEvent, MoneyEvent, OrganizationEvent, ProjectEvent, VoucherOrigin,
};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::role::Verification;
use tollbook_schemas::time::Timestamp;

use super::money::within;
use super::{Decided, Refusable};

pub(super) fn move_in(state: &State, id: &OrgId, new: &MoveIn, now: Timestamp) -> Refusable {
    if state.organization(id).is_some() {
        return Err(Rejection::OrganizationExists(id.clone()));
    }
    within(Amount::ZERO, new.cash)?;
    within(Amount::ZERO, new.cash.negated())?;
    within(Amount::ZERO, new.cumulative_recharge)?;
    if new.cumulative_recharge.is_negative() {
        return Err(Rejection::AmountNotPositive);
    }
    let mut vouchers = Amount::ZERO;
    for (_, left, expires_at) in &new.vouchers {
        if !left.is_positive() {
            return Err(Rejection::AmountNotPositive);
        }
        if expires_at.is_some_and(|at| at <= now) {
            return Err(Rejection::ExpiryPassed);
        }
        within(vouchers, *left)?;
        vouchers = vouchers.checked_add(*left).ok_or(Rejection::AmountOutOfRange)?;
    }
    belongs_together(new)?;
    let taken = new.keys.iter().find(|key| state.key_by_secret(&key.secret).is_some());
    if let Some(key) = taken {
        return Err(Rejection::SecretTaken(key.name.clone()));
    }
    // Who has passed the threshold before is not at it for the first time again, whatever was granted then (R4.5).
    let passed = new.cumulative_recharge >= state.config().voucher_policy.threshold;
    Ok(Decided::of(events(new, new.voucher_granted || passed)))
}

/// Whether keys and roles name projects and members that are moved in too, and each of them stands once.
fn belongs_together(new: &MoveIn) -> Result<(), Rejection> {
    let (mut projects, mut members) = (BTreeSet::new(), BTreeSet::from([&new.creator]));
    if let Some((twice, _)) = new.projects.iter().find(|(project, _)| !projects.insert(project)) {
        return Err(Rejection::ProjectExists(twice.clone()));
    }
    if let Some(twice) = new.members.iter().find(|member| !members.insert(&member.member)) {
        return Err(Rejection::MemberExists(twice.member.clone()));
    }
    let mut keys = BTreeSet::new();
    if let Some(twice) = new.keys.iter().find(|key| !keys.insert(&key.key)) {
        return Err(Rejection::KeyExists(twice.key.clone()));
    }
    let roles = new.project_roles.iter().map(|(project, member, _)| (project, member));
    for (project, member) in roles.chain(new.keys.iter().map(|key| (&key.project, &key.member))) {
        if !projects.contains(project) {
            return Err(Rejection::ProjectUnknown(project.clone()));
        }
        if !members.contains(member) {
            return Err(Rejection::MemberUnknown(member.clone()));
        }
    }
    Ok(())
}

fn events(new: &MoveIn, voucher_granted: bool) -> Vec<Event> {
    let mut references = new.references.clone();
    references.sort();
    references.dedup();
    let mut events = vec![
        Event::Organization(OrganizationEvent::Registered {
            name: new.name.clone(),
            email: new.email.clone(),
            creator: new.creator.clone(),
            creator_name: new.creator_name.clone(),
            creator_email: new.creator_email.clone(),
            zone: new.zone.clone(),
        }),
        Event::Organization(OrganizationEvent::MovedIn {
            cash: new.cash,
            cumulative_recharge: new.cumulative_recharge,
            voucher_granted,
            references,
        }),
    ];
    if new.verification != Verification::Unverified {
        let level = new.verification;
        events.push(Event::Organization(OrganizationEvent::VerificationChanged { level }));
    }
    events.extend(new.vouchers.iter().map(|(voucher, amount, expires_at)| {
        Event::Money(MoneyEvent::VoucherGranted {
            voucher: voucher.clone(),
            amount: *amount,
            expires_at: *expires_at,
            origin: VoucherOrigin::MovedIn,
        })
    }));
    events.extend(new.members.iter().map(|member| {
        Event::Member(MemberEvent::Joined {
            member: member.member.clone(),
            invitation: None,
            name: member.name.clone(),
            email: member.email.clone(),
            role: member.role,
        })
    }));
    events.extend(new.projects.iter().map(|(project, name)| {
        Event::Project(ProjectEvent::Created { project: project.clone(), name: name.clone() })
    }));
    events.extend(new.project_roles.iter().map(|(project, member, role)| {
        let (project, member) = (project.clone(), member.clone());
        Event::Member(MemberEvent::ProjectRoleSet { project, member, role: *role })
    }));
    events.extend(new.keys.iter().map(|key| {
        Event::Key(KeyEvent::Issued {
            key: key.key.clone(),
            project: key.project.clone(),
            member: key.member.clone(),
            name: key.name.clone(),
            secret: key.secret,
            hint: key.hint.clone(),
        })
    }));
    events
}
