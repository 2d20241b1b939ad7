//! Organizations: registering and seeing them.

use tollbook_projections::organization::Organization as Known;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::id::{DisplayName, MemberId, OrgId};
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::role::Verification;
use tollbook_schemas::time::{Timestamp, Zone};

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::Email;
use super::problem::Problem;
use super::reading::{Page, Reading, read_organization};
use super::shape::{answer, request};
use super::write::{Created, Positioned, Write};
use crate::clock;
use crate::node::Node;
use crate::permission::Action;

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
    let says = Says { id: "getOrganization", summary: "See an organization", more: "" };
    routes.read("/v1/organizations/{org}", says, show);
}

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
        /// How far it is verified.
        verification: Verification,
        /// Who created it.
        creator: Creator,
        /// When it was registered.
        created_at: Timestamp,
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
    let contacts = author.node.contacts();
    let command = OrganizationCommand::Register {
        name: body.name,
        email: contacts.seal(&organization, 0, &body.email.0).await?,
        creator: MemberId::from_bits(clock::new_id_bits()),
        creator_name: contacts.seal(&organization, 0, body.creator.name.as_str()).await?,
        creator_email: contacts.seal(&organization, 0, &body.creator.email.0).await?,
        zone: body.time_zone.unwrap_or_else(Zone::utc),
    };
    let done = author.decide(Command::Organization(organization.clone(), command)).await?;
    let known = read_organization(&author.node, &organization, Known::clone).await?;
    Ok(Created::new(done, shown(&author.node, &known).await?))
}

async fn show(
    Reading { path: org, at, .. }: Reading<OrgId>,
) -> Result<Json<Positioned<Organization>>, Problem> {
    let known = at.organization(&org, Action::SeeOrganization, Known::clone).await?;
    Ok(Json(positioned(&at.node, &known).await?))
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
        let known = at.organization(&id, Action::SeeOrganization, Known::clone).await?;
        items.push(positioned(&at.node, &known).await?);
    }
    Ok(Json(List { items, next_page }))
}

/// With the position of the entry that registered it.
async fn positioned(node: &Node, known: &Known) -> Result<Positioned<Organization>, Problem> {
    let position = LogPosition { partition: node.partition_of(&known.id), position: known.created_in };
    Ok(Positioned { body: shown(node, known).await?, position: Some(position) })
}

async fn shown(node: &Node, known: &Known) -> Result<Organization, Problem> {
    let contacts = node.contacts();
    let (creator_name, creator_email) = match known.members.get(&known.creator) {
        Some(member) => (
            contacts.open_field(&known.id, &member.name).await?,
            contacts.open_field(&known.id, &member.email).await?,
        ),
        None => (None, None),
    };
    Ok(Organization {
        id: known.id.clone(),
        name: known.name.clone(),
        email: contacts.open_field(&known.id, &known.email).await?,
        time_zone: known.calendar.zone_at(node.clock().now()).clone(),
        verification: known.verification,
        creator: Creator { id: known.creator.clone(), name: creator_name, email: creator_email },
        created_at: known.created_at,
    })
}
