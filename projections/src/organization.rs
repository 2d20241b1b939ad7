//! One organization as decisions need it: who it is, its projects and keys, its money and its open consumption.

mod people;
mod projects;

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::event::{
    Event, MoneyEvent, OrganizationEvent, QuarantineEvent, VoucherOrigin, WebhookEvent,
};
use tollbook_schemas::id::{
    DisplayName, InvitationId, KeyId, MemberId, OrgId, ProjectId, RechargeId, Reference, SourceName,
};
use tollbook_schemas::policy::{QuantityOverride, RateOverride};
use tollbook_schemas::position::Position;
use tollbook_schemas::role::{OrgRole, Verification};
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::Timestamp;

pub use self::people::{Invitation, InvitationEnd, Member};
pub use self::projects::{Key, Project};
use crate::purse::{Purse, Voucher};
use crate::record::Hash;
use crate::sequence::SequenceWindow;
use crate::spend::OpenCells;
use crate::state::Corrupt;

/// Everything that decisions about one organization need.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// Its id.
    pub id: OrgId,
    /// What people call it.
    pub name: DisplayName,
    /// Registered e-mail address.
    pub email: Sealed,
    /// Who created it.
    pub creator: MemberId,
    /// How often its personal data was erased: the number of the key that new data is sealed under (R9.2).
    pub contact_key: u32,
    /// Whether anything was sealed under that key, of people who are gone too.
    pub has_contacts: bool,
    /// Its billing time zone, and those before (R1.4).
    pub calendar: Calendar,
    /// How far it is verified.
    pub verification: Verification,
    /// Quantity limits that the operator overrode (R1.2).
    pub quantities: QuantityOverride<Option<u32>>,
    /// Rate limits that the operator overrode (R5.5).
    pub rates: RateOverride<Option<u64>>,
    /// The IP allowlist; empty: no restriction (R2.1).
    pub allowlist: Vec<Ipv4Net>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The entry that registered it.
    pub created_in: Position,
    /// Members by id.
    pub members: BTreeMap<MemberId, Member>,
    /// Invitations by id, for a while after they are over.
    pub invitations: BTreeMap<InvitationId, Invitation>,
    /// Projects by id.
    pub projects: BTreeMap<ProjectId, Project>,
    /// API keys by id.
    pub keys: BTreeMap<KeyId, Key>,
    /// Its money.
    pub purse: Purse,
    /// Recharges by payment reference (R4.7).
    pub recharges: BTreeMap<Reference, Recharge>,
    /// What each publisher has counted to (R8.2).
    pub sources: BTreeMap<SourceName, SequenceWindow>,
    /// Consumption booked on the latest day.
    pub open: OpenCells,
    /// What became of its usage.
    pub counts: UsageCounts,
    /// Commands that carried an idempotency key, and the entry that each led to.
    pub idempotency: BTreeMap<[u8; 16], ([u8; 16], Position)>,
    /// The last entry on its decision subject, applied or not.
    pub last_decision: Position,
    /// Over everything of it that became history rows and is no longer here.
    pub history: Hash,
    /// The entry that made the last of those rows.
    pub history_at: Position,
}

/// What became of usage records: together they are all that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageCounts {
    /// Booked.
    pub booked: u64,
    /// Recognized as repetitions.
    pub duplicates: u64,
    /// Quarantined.
    pub quarantined: u64,
}

/// A recharge (R4.7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recharge {
    /// Its id.
    pub recharge: RechargeId,
    /// How much.
    pub amount: Amount,
    /// The entry.
    pub position: Position,
}

/// Where and when an event is applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) position: Position,
    pub(crate) recorded_at: Timestamp,
}

impl Organization {
    /// A new organization from its first event.
    pub(crate) fn register(id: &OrgId, event: &OrganizationEvent, at: At) -> Result<Self, Corrupt> {
        let OrganizationEvent::Registered { name, email, creator, creator_name, creator_email, zone } = event
        else {
            return Err(Corrupt::OrganizationUnknown(id.clone()));
        };
        let administrator = Member {
            name: creator_name.clone(),
            email: creator_email.clone(),
            role: OrgRole::Administrator,
            joined_at: at.recorded_at,
        };
        Ok(Self {
            id: id.clone(),
            name: name.clone(),
            email: email.clone(),
            creator: creator.clone(),
            contact_key: 0,
            has_contacts: true,
            calendar: Calendar::new(zone.clone()),
            verification: Verification::Unverified,
            quantities: QuantityOverride::default(),
            rates: RateOverride::default(),
            allowlist: Vec::new(),
            created_at: at.recorded_at,
            created_in: at.position,
            members: BTreeMap::from([(creator.clone(), administrator)]),
            invitations: BTreeMap::new(),
            projects: BTreeMap::new(),
            keys: BTreeMap::new(),
            purse: Purse::default(),
            recharges: BTreeMap::new(),
            sources: BTreeMap::new(),
            open: OpenCells::default(),
            counts: UsageCounts::default(),
            idempotency: BTreeMap::new(),
            last_decision: Position::ZERO,
            history: Hash::default(),
            history_at: Position::ZERO,
        })
    }

    /// Applies one event of an entry about this organization.
    pub(crate) fn apply(&mut self, event: &Event, at: At) -> Result<(), Corrupt> {
        match event {
            Event::Organization(event) => self.apply_organization(event, at),
            Event::Member(event) => self.apply_member(event, at),
            Event::Project(event) => self.apply_project(event, at),
            Event::Key(event) => self.apply_key(event, at),
            Event::Money(event) => self.apply_money(event, at),
            Event::Quarantine(QuarantineEvent::Released { .. } | QuarantineEvent::Dismissed { .. }) => {
                Err(Corrupt::Unsupported("quarantine"))
            }
            Event::Webhook(
                WebhookEvent::Created { .. }
                | WebhookEvent::SecretRotated { .. }
                | WebhookEvent::Disabled { .. }
                | WebhookEvent::Removed { .. },
            ) => Err(Corrupt::Unsupported("webhook")),
            Event::Config(_) | Event::Partition(_) => Err(Corrupt::Misplaced),
        }
    }

    fn apply_organization(&mut self, event: &OrganizationEvent, at: At) -> Result<(), Corrupt> {
        match event {
            OrganizationEvent::Registered { .. } => return Err(Corrupt::OrganizationExists(self.id.clone())),
            OrganizationEvent::Renamed { name } => self.name = name.clone(),
            OrganizationEvent::EmailChanged { email } => {
                self.email = email.clone();
                self.has_contacts = true;
            }
            OrganizationEvent::ZoneChanged { zone, from } => {
                // Months that have begun by here keep their zone.
                let next = self.calendar.day(at.recorded_at).month().next();
                self.calendar.change(zone.clone(), next.max(*from));
            }
            OrganizationEvent::VerificationChanged { level } => self.verification = *level,
            OrganizationEvent::QuantityOverridden(change) => {
                let before = self.quantities;
                self.quantities = QuantityOverride {
                    projects: change.projects.applied_to(before.projects),
                    api_keys: change.api_keys.applied_to(before.api_keys),
                };
            }
            OrganizationEvent::RateOverridden(change) => {
                let before = self.rates;
                self.rates = RateOverride {
                    concurrency: change.concurrency.applied_to(before.concurrency),
                    rpm: change.rpm.applied_to(before.rpm),
                    tpm: change.tpm.applied_to(before.tpm),
                    tpd: change.tpd.applied_to(before.tpd),
                };
            }
            OrganizationEvent::AllowlistSaved { entries } => self.allowlist.clone_from(entries),
            OrganizationEvent::ContactsErased => {
                self.contact_key = self.contact_key.saturating_add(1);
                self.has_contacts = false;
            }
            OrganizationEvent::BalanceAlertSet { .. }
            | OrganizationEvent::CreditLimitSet { .. }
            | OrganizationEvent::PricesPublished(_)
            | OrganizationEvent::MovedIn { .. } => return Err(Corrupt::Unsupported("organization")),
        }
        Ok(())
    }

    fn apply_money(&mut self, event: &MoneyEvent, at: At) -> Result<(), Corrupt> {
        match event {
            MoneyEvent::Recharged { recharge, amount, reference } => {
                self.purse.recharge(*amount)?;
                let booked = Recharge { recharge: recharge.clone(), amount: *amount, position: at.position };
                match self.recharges.insert(reference.clone(), booked) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::ReferenceUsed(reference.clone())),
                }
            }
            MoneyEvent::VoucherGranted { voucher, amount, expires_at, origin } => {
                let policy = match origin {
                    VoucherOrigin::Policy if self.purse.voucher_granted() => {
                        return Err(Corrupt::VoucherTwice(self.id.clone()));
                    }
                    VoucherOrigin::Policy => true,
                    VoucherOrigin::Operator { .. } | VoucherOrigin::MovedIn => false,
                };
                let voucher = Voucher {
                    voucher: voucher.clone(),
                    granted: *amount,
                    left: *amount,
                    expires_at: *expires_at,
                    position: at.position,
                };
                self.purse.grant(voucher, policy)
            }
            MoneyEvent::RechargeReversed { .. }
            | MoneyEvent::Refunded { .. }
            | MoneyEvent::Adjusted { .. }
            | MoneyEvent::VoucherExpired { .. }
            | MoneyEvent::VoucherWithdrawn { .. }
            | MoneyEvent::UsageReversed { .. }
            | MoneyEvent::StatementSealed { .. }
            | MoneyEvent::InvoiceIssued { .. }
            | MoneyEvent::CreditNoteIssued { .. } => Err(Corrupt::Unsupported("money")),
        }
    }

    /// Remembers what a command with an idempotency key led to.
    pub(crate) fn remember(&mut self, idempotency: Option<&Idempotency>, position: Position) {
        if let Some(idempotency) = idempotency {
            self.idempotency.insert(idempotency.key, (idempotency.content, position));
        }
    }

    /// Whether any consumption waits for its cycle to close.
    pub fn has_pending(&self) -> bool {
        self.projects.values().any(|project| project.spend.has_pending())
    }

    /// Settles everything that is pending (R6.3).
    pub(crate) fn settle(&mut self, now: Timestamp) -> Result<(), Corrupt> {
        let today = self.calendar.day(now);
        self.projects.values_mut().try_for_each(|project| project.spend.settle(today))
    }
}
