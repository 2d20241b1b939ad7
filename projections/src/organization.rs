//! One organization as decisions need it: who it is, its projects and keys, its money and its open consumption.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::entry::Idempotency;
use tollbook_schemas::event::{
    Event, KeyEvent, MemberEvent, MoneyEvent, OrganizationEvent, ProjectEvent, QuarantineEvent,
    VoucherOrigin, WebhookEvent,
};
use tollbook_schemas::id::{
    DisplayName, KeyId, MemberId, OrgId, ProjectId, RechargeId, Reference, SourceName,
};
use tollbook_schemas::position::Position;
use tollbook_schemas::role::{OrgRole, Verification};
use tollbook_schemas::sealed::{Sealed, SecretHash};
use tollbook_schemas::time::{Timestamp, Zone};

use crate::purse::{Purse, Voucher};
use crate::record::Hash;
use crate::sequence::SequenceWindow;
use crate::spend::{OpenCells, ProjectSpend};
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
    /// Billing time zone.
    pub zone: Zone,
    /// How far it is verified.
    pub verification: Verification,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The entry that registered it.
    pub created_in: Position,
    /// Members by id.
    pub members: BTreeMap<MemberId, Member>,
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

/// A member (R3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name.
    pub name: Sealed,
    /// E-mail address.
    pub email: Sealed,
    /// Role in the organization.
    pub role: OrgRole,
}

/// A project (R6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// What people call it.
    pub name: DisplayName,
    /// When it was created.
    pub created_at: Timestamp,
    /// Its consumption as budgets see it.
    pub spend: ProjectSpend,
}

/// An API key (R3.4, R3.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its project.
    pub project: ProjectId,
    /// Who created it.
    pub member: MemberId,
    /// What people call it.
    pub name: DisplayName,
    /// Of its secret.
    pub secret: SecretHash,
    /// The secret's last four characters.
    pub hint: String,
    /// When it was created.
    pub created_at: Timestamp,
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
        let administrator =
            Member { name: creator_name.clone(), email: creator_email.clone(), role: OrgRole::Administrator };
        Ok(Self {
            id: id.clone(),
            name: name.clone(),
            email: email.clone(),
            creator: creator.clone(),
            zone: zone.clone(),
            verification: Verification::Unverified,
            created_at: at.recorded_at,
            created_in: at.position,
            members: BTreeMap::from([(creator.clone(), administrator)]),
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
            Event::Organization(event) => self.apply_organization(event),
            Event::Member(event) => apply_member(event),
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

    fn apply_organization(&mut self, event: &OrganizationEvent) -> Result<(), Corrupt> {
        match event {
            OrganizationEvent::Registered { .. } => Err(Corrupt::OrganizationExists(self.id.clone())),
            OrganizationEvent::Renamed { .. }
            | OrganizationEvent::EmailChanged { .. }
            | OrganizationEvent::ZoneChanged { .. }
            | OrganizationEvent::VerificationChanged { .. }
            | OrganizationEvent::QuantityOverridden { .. }
            | OrganizationEvent::RateOverridden { .. }
            | OrganizationEvent::AllowlistSaved { .. }
            | OrganizationEvent::BalanceAlertSet { .. }
            | OrganizationEvent::CreditLimitSet { .. }
            | OrganizationEvent::PricesPublished(_)
            | OrganizationEvent::ContactsErased
            | OrganizationEvent::MovedIn { .. } => Err(Corrupt::Unsupported("organization")),
        }
    }

    fn apply_project(&mut self, event: &ProjectEvent, at: At) -> Result<(), Corrupt> {
        match event {
            ProjectEvent::Created { project, name } => {
                let new = Project {
                    name: name.clone(),
                    created_at: at.recorded_at,
                    spend: ProjectSpend::default(),
                };
                match self.projects.insert(project.clone(), new) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::ProjectExists(project.clone())),
                }
            }
            ProjectEvent::Renamed { .. }
            | ProjectEvent::Archived { .. }
            | ProjectEvent::TpmLimitSet { .. }
            | ProjectEvent::BudgetsSet { .. }
            | ProjectEvent::SpendNotificationsSet { .. }
            | ProjectEvent::BudgetRefused { .. } => Err(Corrupt::Unsupported("project")),
        }
    }

    fn apply_key(&mut self, event: &KeyEvent, at: At) -> Result<(), Corrupt> {
        match event {
            KeyEvent::Issued { key, project, member, name, secret, hint } => {
                if !self.projects.contains_key(project) {
                    return Err(Corrupt::ProjectUnknown(project.clone()));
                }
                let new = Key {
                    project: project.clone(),
                    member: member.clone(),
                    name: name.clone(),
                    secret: *secret,
                    hint: hint.clone(),
                    created_at: at.recorded_at,
                };
                match self.keys.insert(key.clone(), new) {
                    None => Ok(()),
                    Some(_) => Err(Corrupt::KeyExists(key.clone())),
                }
            }
            KeyEvent::Revoked { .. } => Err(Corrupt::Unsupported("key")),
        }
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
        let today = self.zone.day(now);
        self.projects.values_mut().try_for_each(|project| project.spend.settle(today))
    }
}

const fn apply_member(event: &MemberEvent) -> Result<(), Corrupt> {
    match event {
        MemberEvent::Invited { .. }
        | MemberEvent::InvitationRevoked { .. }
        | MemberEvent::Joined { .. }
        | MemberEvent::RoleChanged { .. }
        | MemberEvent::Removed { .. }
        | MemberEvent::ProjectRoleSet { .. }
        | MemberEvent::ProjectLeft { .. } => Err(Corrupt::Unsupported("member")),
    }
}
