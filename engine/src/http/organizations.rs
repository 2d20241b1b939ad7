//! Organizations: registering, seeing and changing them, verification, and erasing personal data (R1, R9).

use tollbook_projections::organization::{Member, Organization as Known};
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::id::{DisplayName, MemberId, OrgId};
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::role::Verification;
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::{Month, Timestamp, Zone};

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::Email;
use super::problem::Problem;
use super::reading::{Page, Reading, read_organization};
use super::shape::{IfAny, answer, request};
use super::write::{Changed, Created, Positioned, Write};
use crate::clock;
use crate::node::Node;
use crate::permission::{self, Action};

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Organizations", "Who prepays: an organization has members, projects and a balance.");
    let says = Says {
        id: "registerOrganization",
        summary: "Register an organization",
        more: "Its creator becomes its first administrator.",
    };
    routes.write(Verb::Post, "/v1/organizations", says, register);
    let says = Says {
        id: "listOrganizations",
        summary: "List organizations",
        more: "A token that is limited to organizations sees only those.",
    };
    routes.read("/v1/organizations", says, list);
    let says = Says {
        id: "getOrganization",
        summary: "See an organization",
        more: "Addresses are shown to its administrators; to its other members they are null. `position` is that of the last \
               decision about it, whatever that changed: with it as `min_position` another node shows no less.",
    };
    routes.read(ORGANIZATION, says, show);
    let says = Says {
        id: "changeOrganization",
        summary: "Change an organization's name, address or time zone",
        more: "What is left out stays. A new time zone takes effect with the next month.",
    };
    routes.write(Verb::Patch, ORGANIZATION, says, change);
    let says = Says {
        id: "setVerification",
        summary: "Set how far an organization is verified",
        more: "Lowering the level deletes nothing; it only refuses what is new.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/verification", says, set_verification);
    let says = Says {
        id: "eraseContacts",
        summary: "Erase an organization's personal data",
        more: "Names of its members and all addresses become unreadable for ever, in the log too, which stays as it is. \
               There is no way back.",
    };
    routes.write(Verb::Delete, "/v1/organizations/{org}/contacts", says, erase_contacts);
}

const ORGANIZATION: &str = "/v1/organizations/{org}";

request! {
    /// An organization to register.
    pub(super) struct NewOrganization {
        /// What people call it.
        name: DisplayName,
        /// Its registered address.
        email: Email,
        /// Who creates it.
        creator: NewCreator,
        /// The time zone of its days and months; UTC unless said otherwise.
        time_zone: Option<Zone>,
    }
}

request! {
    /// The creator of an organization.
    pub(super) struct NewCreator {
        /// Their name.
        name: DisplayName,
        /// Their address.
        email: Email,
    }
}

request! {
    /// What to change of an organization.
    pub(super) struct OrganizationChange {
        /// What people will call it.
        name: Option<DisplayName>,
        /// Its registered address.
        email: Option<Email>,
        /// The time zone of its days and months from the next month on.
        time_zone: Option<Zone>,
    }
}

request! {
    /// How far an organization is verified.
    pub(super) struct NewVerification {
        /// The level from now on.
        level: Verification,
    }
}

answer! {
    /// An organization.
    pub(super) struct Organization {
        /// Its id.
        id: OrgId,
        /// What people call it.
        name: DisplayName,
        /// Its registered address; null once personal data is erased.
        email: Option<String>,
        /// The time zone of its days and months.
        time_zone: Zone,
        /// The time zone that takes effect with a later month, if one does.
        next_time_zone: IfAny<NextZone>,
        /// How far it is verified.
        verification: Verification,
        /// Who created it.
        creator: Creator,
        /// When it was registered.
        created_at: Timestamp,
    }
}

answer! {
    /// A time zone that takes effect later.
    pub(super) struct NextZone {
        /// The time zone.
        time_zone: Zone,
        /// The first month that it holds for.
        from: Month,
    }
}

answer! {
    /// Who created an organization; name and address are null once personal data is erased.
    pub(super) struct Creator {
        /// Their id as a member.
        id: MemberId,
        /// Their name.
        name: Option<String>,
        /// Their address.
        email: Option<String>,
    }
}

async fn register(
    Write { body, author, .. }: Write<(), NewOrganization>,
) -> Result<Created<Organization>, Problem> {
    // With an idempotency key the id follows from it, so that a repetition finds the organization, wherever it is.
    let organization = OrgId::from_bits(author.id_bits());
    author.may_decide(&organization)?;
    let contacts = author.node.contacts();
    let command = OrganizationCommand::Register {
        name: body.name,
        email: contacts.seal(&organization, 0, &body.email.0).await?,
        creator: MemberId::from_bits(clock::new_id_bits()),
        creator_name: contacts.seal(&organization, 0, body.creator.name.as_str()).await?,
        creator_email: contacts.seal(&organization, 0, &body.creator.email.0).await?,
        zone: body.time_zone.unwrap_or_else(Zone::utc),
    };
    let done = author.decide(&organization, command).await?;
    Ok(Created::new(done, present(&author.node, &organization).await?))
}

async fn change(
    Write { path: org, body, author }: Write<OrgId, OrganizationChange>,
) -> Result<Changed<Organization>, Problem> {
    let email = match &body.email {
        // No ciphertext is like another, so that the decision could not see that nothing changes.
        Some(email) if present_email(&author.node, &org).await?.as_ref() == Some(&email.0) => None,
        Some(email) => Some(author.seal(&org, &email.0).await?),
        None => None,
    };
    let command = OrganizationCommand::Change { name: body.name, email, zone: body.time_zone };
    let done = author.decide(&org, command).await?;
    Ok(Changed::new(done, present(&author.node, &org).await?))
}

async fn set_verification(
    Write { path: org, body, author }: Write<OrgId, NewVerification>,
) -> Result<Changed<Organization>, Problem> {
    let done = author.decide(&org, OrganizationCommand::SetVerification(body.level)).await?;
    Ok(Changed::new(done, present(&author.node, &org).await?))
}

async fn erase_contacts(
    Write { path: org, author, .. }: Write<OrgId, ()>,
) -> Result<Changed<Organization>, Problem> {
    let done = author.erase_contacts(&org).await?;
    Ok(Changed::new(done, present(&author.node, &org).await?))
}

async fn show(
    Reading { path: org, at, .. }: Reading<OrgId>,
) -> Result<Json<Positioned<Organization>>, Problem> {
    let now = at.node.clock().now();
    let actor = at.caller.actor();
    let read = at.organization(&org, Action::SeeOrganization, move |known| {
        let contacts = permission::may(known, &actor, &Action::SeeOrganizationFigures).is_ok();
        Found::of(known, now, contacts)
    });
    Ok(Json(read.await?.positioned(&at.node).await?))
}

async fn list(
    Reading { query: page, at, .. }: Reading<(), Page>,
) -> Result<Json<List<Positioned<Organization>>>, Problem> {
    let mut ids: Vec<OrgId> = Vec::new();
    for owner in at.node.owners() {
        let of_partition =
            owner.read(|state| state.organizations().map(|one| one.id.clone()).collect::<Vec<_>>());
        ids.extend(of_partition.await?);
    }
    ids.sort_unstable();
    ids.retain(|id| at.caller.may_touch(id).is_ok());
    let List { items: ids, next_page } = page.cut(ids, OrgId::as_str);
    let mut items = Vec::with_capacity(ids.len());
    for id in ids {
        let now = at.node.clock().now();
        let found = at.organization(&id, Action::SeeOrganization, move |known| Found::of(known, now, true));
        items.push(found.await?.positioned(&at.node).await?);
    }
    Ok(Json(List { items, next_page }))
}

/// An organization as State knows it: personal data is opened once the owner is left alone again.
struct Found {
    shown: Organization,
    last_decision: Position,
    contact_key: u32,
    /// The registered address and the creator, for somebody who may see them.
    contacts: Option<(Sealed, Option<Member>)>,
}

impl Found {
    fn of(known: &Known, now: Timestamp, contacts: bool) -> Self {
        let pending = known.calendar.pending(now);
        Self {
            shown: Organization {
                id: known.id.clone(),
                name: known.name.clone(),
                email: None,
                time_zone: known.calendar.zone_at(now).clone(),
                next_time_zone: IfAny(pending.map(|(from, zone)| NextZone { time_zone: zone.clone(), from })),
                verification: known.verification,
                creator: Creator { id: known.creator.clone(), name: None, email: None },
                created_at: known.created_at,
            },
            last_decision: known.last_decision,
            contact_key: known.contact_key,
            contacts: contacts.then(|| (known.email.clone(), known.members.get(&known.creator).cloned())),
        }
    }

    async fn open(self, node: &Node) -> Result<Organization, Problem> {
        let Self { mut shown, contact_key, contacts, .. } = self;
        if let Some((email, creator)) = contacts {
            let opener = node.contacts().opener(&shown.id, [contact_key]).await?;
            shown.email = opener.open(&email);
            shown.creator.name = creator.as_ref().and_then(|member| opener.open(&member.name));
            shown.creator.email = creator.as_ref().and_then(|member| opener.open(&member.email));
        }
        Ok(shown)
    }

    /// With the position of the last decision about it: whoever waits for that elsewhere finds no less there.
    async fn positioned(self, node: &Node) -> Result<Positioned<Organization>, Problem> {
        let position =
            LogPosition { partition: node.partition_of(&self.shown.id), position: self.last_decision };
        Ok(Positioned { body: self.open(node).await?, position: Some(position) })
    }
}

/// The registered address, if it can be read.
async fn present_email(node: &Node, org: &OrgId) -> Result<Option<String>, Problem> {
    let read = read_organization(node, org, |known| (known.contact_key, known.email.clone()));
    let (key, email) = read.await?;
    Ok(node.contacts().opener(org, [key]).await?.open(&email))
}

/// As it is now, for whoever has just written it.
async fn present(node: &Node, org: &OrgId) -> Result<Organization, Problem> {
    let now = node.clock().now();
    read_organization(node, org, move |known| Found::of(known, now, true)).await?.open(node).await
}
