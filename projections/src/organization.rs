//! One organization as decisions need it: who it is, its projects and keys, its money and its open consumption.

mod alerts;
mod money;
mod people;
mod projects;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tollbook_schemas::alert::AlertData;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::codec;
use tollbook_schemas::event::{Event, OrganizationEvent, QuarantineEvent};
use tollbook_schemas::id::{
    DisplayName, InvitationId, KeyId, MemberId, OrgId, ProjectId, SourceName, WebhookId,
};
use tollbook_schemas::policy::{QuantityOverride, RateOverride};
use tollbook_schemas::position::Position;
use tollbook_schemas::role::{OrgRole, Verification};
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::{Day, Month, Timestamp};
use tollbook_schemas::usage::UsagePlace;

pub use self::alerts::{BalanceAlert, Webhook};
pub use self::people::{Invitation, InvitationEnd, Member};
pub use self::projects::{Key, Project};
use crate::books::{EndedMonth, OpenMonth};
use crate::budget::{Look, Seen, Watch};
use crate::config::PriceBook;
use crate::past::{Recent, Settled, Settling};
use crate::purse::{Funds, Purse};
use crate::record::Hash;
use crate::sequence::SequenceWindow;
use crate::sorted::SortedMap;
use crate::spend::{OpenCells, ProjectSpend};
use crate::state::{Corrupt, Effect};

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
    pub members: SortedMap<MemberId, Member>,
    /// Invitations by id, for a while after they are over.
    pub invitations: BTreeMap<InvitationId, Invitation>,
    /// Projects by id.
    pub projects: SortedMap<ProjectId, Project>,
    /// API keys by id.
    pub keys: SortedMap<KeyId, Key>,
    /// Its money.
    pub purse: Purse,
    /// How far vouchers plus cash may go below zero (R4.1).
    pub credit_limit: Option<Amount>,
    /// When somebody is told that the balance is low (R7.1).
    pub balance_alert: BalanceAlert,
    /// Where alerts are sent to (R7.3).
    pub webhooks: BTreeMap<WebhookId, Webhook>,
    /// The last local day on which quarantined usage was told, by the code of its reason (R7.2).
    pub quarantine_told: BTreeMap<String, Day>,
    /// Prices of its own, which win (R4.11).
    pub prices: PriceBook,
    /// The month that is open (R8.3).
    pub month: OpenMonth,
    /// Months that ended with something booked in them and are not sealed yet.
    pub unsealed: BTreeSet<Month>,
    /// How many invoices and credit notes were issued: the last one's number (R4.10).
    pub documents: u64,
    /// Movements and requests of late, for telling repetitions (R4.7).
    pub recent: Recent,
    /// What each publisher has counted to (R8.2).
    pub sources: SortedMap<SourceName, SequenceWindow>,
    /// Consumption booked on the latest day.
    pub open: OpenCells,
    /// What became of its usage.
    pub counts: UsageCounts,
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
    /// Of those, released or dismissed since.
    pub settled: u64,
}

/// What an entry about an organization leaves outside of State.
pub(crate) struct Writing<'a> {
    pub(crate) at: At,
    pub(crate) effects: &'a mut Vec<Effect>,
    /// How many movements of the entry came before.
    pub(crate) movements: u32,
}

impl Writing<'_> {
    /// Has somebody told of something.
    pub(crate) fn alert(&mut self, organization: &OrgId, data: AlertData) {
        self.effects.push(Effect::alert(Some(organization), self.at, data));
    }

    /// Settles a quarantined record.
    pub(crate) fn settle(&mut self, organization: &mut Organization, place: UsagePlace, how: Settling) {
        let settled = Settled { position: self.at.position, at: self.at.recorded_at, how };
        organization.recent.settle(place, settled.clone());
        organization.counts.settled = organization.counts.settled.saturating_add(1);
        self.effects.push(Effect::Settled { place, settled: Box::new(settled) });
    }
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
            members: SortedMap::from([(creator.clone(), administrator)]),
            invitations: BTreeMap::new(),
            projects: SortedMap::new(),
            keys: SortedMap::new(),
            purse: Purse::default(),
            credit_limit: None,
            balance_alert: BalanceAlert::default(),
            webhooks: BTreeMap::new(),
            quarantine_told: BTreeMap::new(),
            prices: PriceBook::default(),
            month: OpenMonth::begin(zone.day(at.recorded_at).month(), Funds::default(), at.position),
            unsealed: BTreeSet::new(),
            documents: 0,
            recent: Recent::default(),
            sources: SortedMap::new(),
            open: OpenCells::default(),
            counts: UsageCounts::default(),
            last_decision: Position::ZERO,
            history: Hash::default(),
            history_at: Position::ZERO,
        })
    }

    /// Applies one event of an entry about this organization.
    pub(crate) fn apply(&mut self, event: &Event, writing: &mut Writing<'_>) -> Result<(), Corrupt> {
        let at = writing.at;
        match event {
            Event::Organization(event) => self.apply_organization(event, writing),
            Event::Member(event) => self.apply_member(event, at),
            Event::Project(event) => self.apply_project(event, writing),
            Event::Key(event) => self.apply_key(event, at),
            Event::Money(event) => self.apply_money(event, writing),
            Event::Quarantine(QuarantineEvent::Dismissed { place, reason }) => {
                writing.settle(self, *place, Settling::Dismissed(reason.clone()));
                Ok(())
            }
            // Booking needs the ledger's prices, so State does it.
            Event::Quarantine(QuarantineEvent::Released { .. }) => Err(Corrupt::Misplaced),
            Event::Webhook(event) => {
                self.apply_webhook(event, at);
                Ok(())
            }
            Event::Config(_) | Event::Partition(_) => Err(Corrupt::Misplaced),
        }
    }

    fn apply_organization(
        &mut self,
        event: &OrganizationEvent,
        writing: &mut Writing<'_>,
    ) -> Result<(), Corrupt> {
        let at = writing.at;
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
            OrganizationEvent::CreditLimitSet { limit } => self.credit_limit = *limit,
            OrganizationEvent::PricesPublished(list) => self.prices.publish(list, at.position),
            OrganizationEvent::MovedIn { cash, cumulative_recharge, voucher_granted, references } => {
                self.move_in(*cash, *cumulative_recharge, *voucher_granted, references, writing)?;
            }
            OrganizationEvent::BalanceAlertSet { threshold } => {
                self.balance_alert.threshold = Some(*threshold);
                self.threshold_set();
            }
        }
        Ok(())
    }

    /// Brings days and months up to an instant before anything is booked there: cells of earlier days become history
    /// rows, whose hash stays, and a month that is over ends (R8.3).
    pub(crate) fn advance(&mut self, today: Day, at: At, effects: &mut Vec<Effect>) -> Result<(), Corrupt> {
        if self.open.booked_on >= today {
            return Ok(());
        }
        self.recent.forget(at.recorded_at);
        let open = OpenCells { booked_on: today, ..OpenCells::default() };
        let closed = std::mem::replace(&mut self.open, open);
        if !closed.cells.is_empty() {
            let bytes = codec::encode_row(&closed).map_err(|_| Corrupt::Unsupported("cell"))?;
            let mut chain = Sha256::new();
            chain.update(self.history);
            chain.update(at.position.0.to_be_bytes());
            chain.update(bytes);
            self.history = chain.finalize().into();
            self.history_at = at.position;
            effects.push(Effect::CellsClosed {
                organization: self.id.clone(),
                cells: closed,
                position: at.position,
            });
        }
        let month = today.month();
        if month > self.month.month {
            let funds = self.purse.funds();
            let ended = std::mem::replace(&mut self.month, OpenMonth::begin(month, funds, at.position));
            if ended.active {
                self.unsealed.insert(ended.month);
                let OpenMonth { month, opening, usage, active: _, since: _ } = ended;
                let ended = Box::new(EndedMonth { month, opening, usage, closing: funds });
                effects.push(Effect::MonthEnded { organization: self.id.clone(), ended });
            }
        }
        Ok(())
    }

    /// Months in which something was booked and whose statements are not sealed, the open one too, in order.
    pub fn waiting_for_seals(&self) -> impl Iterator<Item = Month> {
        let open = self.month.active.then_some(self.month.month);
        self.unsealed.iter().copied().chain(open)
    }

    /// Whether any consumption waits for its cycle to close.
    pub fn has_pending(&self) -> bool {
        self.projects.values().any(|project| project.spend.has_pending())
    }

    /// Whether a budget is breached, or was until everything of its period is settled.
    pub fn is_breached(&self) -> bool {
        self.projects.values().any(|project| !project.watch.breaches().is_empty())
    }

    /// Settles everything that is pending (R6.3), and looks at what that makes known.
    pub(crate) fn settle(
        &mut self,
        delay_seconds: u32,
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Corrupt> {
        let today = self.calendar.day(at.recorded_at);
        let Self { id, projects, calendar, .. } = self;
        projects.iter_mut().try_for_each(|(project, known)| {
            if !known.spend.has_pending() && known.watch.breaches().is_empty() {
                return Ok(());
            }
            let look = Look { at, today, calendar, delay_seconds, project, name: &known.name };
            settle_project(id, &mut known.spend, &mut known.watch, look, effects)
        })
    }

    /// Looks at what booking for a project came to, of a whole entry; `at_once`: without waiting for a cycle. Whether there
    /// is something for a close to do.
    pub(crate) fn consumed(
        &mut self,
        (project, today): (&ProjectId, Day),
        (at_once, delay_seconds): (bool, u32),
        at: At,
        effects: &mut Vec<Effect>,
    ) -> Result<bool, Corrupt> {
        let Some(known) = self.projects.get_mut(project) else { return Ok(false) };
        let look = Look { at, today, calendar: &self.calendar, delay_seconds, project, name: &known.name };
        if at_once {
            settle_project(&self.id, &mut known.spend, &mut known.watch, look, effects)?;
        } else if !known.watch.is_idle() {
            let mut seen = Seen::default();
            known.watch.consumed(&known.spend, look, &mut seen)?;
            seen.leave(&self.id, project, at, effects);
        }
        Ok(known.spend.has_pending() || !known.watch.breaches().is_empty())
    }
}

/// Settles what is pending of a project, and leaves what that makes known.
fn settle_project(
    organization: &OrgId,
    spend: &mut ProjectSpend,
    watch: &mut Watch,
    look: Look<'_>,
    effects: &mut Vec<Effect>,
) -> Result<(), Corrupt> {
    let mut seen = Seen::default();
    watch.settle(spend, look, &mut seen)?;
    seen.leave(organization, look.project, look.at, effects);
    Ok(())
}
