//! What could not be booked, and what became of it (R8.1).

use serde_json::Value;
use tollbook_projections::past::{Settled, Settling};
use tollbook_projections::state::{Quarantined, State};
use tollbook_projections::view::View;
use tollbook_schemas::cloudevent;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, QuarantineEvent};
use tollbook_schemas::id::{OrgId, Reason};
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Occurred, Usage};

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::choices;
use super::problem::Problem;
use super::reading::{At, Limit, Reading, viewed};
use super::shape::{IfAny, Text, answer, request};
use super::usage_record::{BookedRecord, Place, SentEvent, event_of, is_of};
use super::write::{Author, Changed, Write};
use crate::node::Node;
use crate::owner::{Done, OwnerHandle};
use crate::permission::Action;
use crate::trace::{Charged, Tracer};

/// Records that one request looks at: a page may be short, and even empty, before the last one.
const LOOK_MAX: usize = 10_000;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Quarantine", "Usage that was accepted and could not be booked.");
    let says = Says {
        id: "listQuarantine",
        summary: "List quarantined usage",
        more: "In the order of the log. A token that is limited to organizations sees only theirs. A page may be short, \
               and even empty, before the last one.",
    };
    routes.read("/v1/quarantine", says, list);
    let says =
        Says { id: "getQuarantined", summary: "See a quarantined record, and what became of it", more: "" };
    routes.read("/v1/quarantine/{record}", says, show);
    let says = Says {
        id: "releaseQuarantined",
        summary: "Book a quarantined record",
        more: "As it came, once its cause is mended, or mended itself: then everything that holds for published usage \
               holds for `event`, which keeps the record's organization, `source`, `id` and `producerseq` (but that \
               a count that is too far ahead may be mended). It is charged at the price in force when it occurred and booked now. The same again \
               changes nothing. If it still cannot be booked, 422 `still_unbookable` says why.",
    };
    routes.write(Verb::Post, "/v1/quarantine/{record}/release", says, release);
    let says = Says {
        id: "dismissQuarantined",
        summary: "Say that a quarantined record will not be booked",
        more: "It stays to be seen, with the reason, and cannot be released any more.",
    };
    routes.write(Verb::Post, "/v1/quarantine/{record}/dismiss", says, dismiss);
    let says = Says {
        id: "listOrganizationQuarantine",
        summary: "List an organization's quarantined usage",
        more: "In the order of the log. For the organization's administrators.",
    };
    routes.read("/v1/organizations/{org}/quarantine", says, list_of_organization);
    let says = Says {
        id: "getOrganizationQuarantined",
        summary: "See a quarantined record of an organization, and what became of it",
        more: "For the organization's administrators.",
    };
    routes.read("/v1/organizations/{org}/quarantine/{record}", says, show_of_organization);
}

request! {
    /// A page of the quarantine.
    pub(super) struct QuarantinePage {
        /// Only of this organization.
        organization: Option<OrgId>,
        /// Only what is in this state; what is open unless said otherwise.
        state: Option<Wanted>,
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<Place>,
    }
}

request! {
    /// A page of an organization's quarantine.
    pub(super) struct OrganizationQuarantinePage {
        /// Only what is in this state; what is open unless said otherwise.
        state: Option<Wanted>,
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<Place>,
    }
}

request! {
    /// How to release a record.
    pub(super) struct NewRelease {
        /// The record as it is booked; as it came unless said otherwise.
        event: Option<SentEvent>,
    }
}

request! {
    /// Why a record will not be booked.
    pub(super) struct NewDismissal {
        /// Why.
        reason: Reason,
    }
}

/// Which records are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wanted {
    #[default]
    Open,
    Released,
    Dismissed,
    All,
}

choices! {
    Wanted = "QuarantineFilter", "Which quarantined records." {
        Open = "open",
        Released = "released",
        Dismissed = "dismissed",
        All = "all",
    }
}

/// What became of a quarantined record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QuarantineState {
    Open,
    Released,
    Dismissed,
}

choices! {
    QuarantineState = "QuarantineState", "What became of a quarantined record." {
        Open = "open",
        Released = "released",
        Dismissed = "dismissed",
    }
}

answer! {
    /// Usage that could not be booked (R8.1).
    pub(super) struct QuarantinedUsage {
        /// Its id: where it stands.
        id: Place,
        /// The entry it came in; after a write, the entry that says so instead.
        position: IfAny<LogPosition>,
        /// Whose it is, as far as it says.
        organization: Option<OrgId>,
        /// Why it was not booked, for programs.
        reason: String,
        /// Why it was not booked, for people.
        detail: String,
        /// When it was recorded.
        recorded_at: Timestamp,
        /// What became of it.
        state: QuarantineState,
        /// How it was settled, if it was.
        settled: IfAny<SettledUsage>,
        /// The usage as a CloudEvent; of what nobody could read, its organization and bytes.
        event: Value,
        /// What was booked, if it was released; not in lists.
        released: IfAny<ReleasedUsage>,
    }
}

answer! {
    /// How a quarantined record was settled.
    pub(super) struct SettledUsage {
        /// The entry that says so.
        position: LogPosition,
        /// When.
        at: Timestamp,
        /// Why it was dismissed.
        reason: IfAny<Reason>,
    }
}

answer! {
    /// What was booked of a quarantined record.
    pub(super) struct ReleasedUsage {
        /// The record as it was booked, a CloudEvent.
        event: Value,
        /// How it was charged.
        booked: BookedRecord,
    }
}

impl Wanted {
    const fn wants(self, settled: Option<&Settled>) -> bool {
        match self {
            Self::All => true,
            Self::Open => settled.is_none(),
            Self::Released => matches!(settled, Some(Settled { how: Settling::Released, .. })),
            Self::Dismissed => matches!(settled, Some(Settled { how: Settling::Dismissed(_), .. })),
        }
    }
}

/// A quarantined record, and what became of it.
type Found = (Quarantined, Option<Settled>);

async fn list(
    Reading { query, at, .. }: Reading<(), QuarantinePage>,
) -> Result<Json<List<QuarantinedUsage>>, Problem> {
    let QuarantinePage { organization, state, limit, after } = query;
    organization.as_ref().map_or(Ok(()), |organization| at.caller.may_touch(organization))?;
    let looking = Looking { organization, wanted: state.unwrap_or_default(), most: Limit::most(limit) };
    looking.page(&at, after).await
}

async fn list_of_organization(
    Reading { path: org, query, at }: Reading<OrgId, OrganizationQuarantinePage>,
) -> Result<Json<List<QuarantinedUsage>>, Problem> {
    let OrganizationQuarantinePage { state, limit, after } = query;
    at.organization(&org, Action::ManageOrganization, |_| ()).await?;
    let wanted = state.unwrap_or_default();
    Looking { organization: Some(org), wanted, most: Limit::most(limit) }.page(&at, after).await
}

/// What a page is made of.
struct Looking {
    organization: Option<OrgId>,
    wanted: Wanted,
    most: usize,
}

impl Looking {
    async fn page(self, at: &At, after: Option<Place>) -> Result<Json<List<QuarantinedUsage>>, Problem> {
        let only = self.organization.as_ref().map(|organization| at.node.partition_of(organization));
        let mut looked_at = 0;
        let mut items: Vec<QuarantinedUsage> = Vec::new();
        for owner in at.node.owners() {
            let partition = owner.partition();
            if only.is_some_and(|only| only != partition)
                || after.is_some_and(|after| after.partition > partition)
            {
                continue;
            }
            let mut after = after.filter(|after| after.partition == partition).map(|after| after.place);
            // Rows reach the view a little after they are applied.
            let last = owner.read(|state| state.head().quarantined_at).await?;
            owner.wait_viewed(last).await?;
            let view = view_of(&at.node, partition)?;
            // Rows that are not wanted do not count, so one look may not be enough.
            loop {
                let wanted = self.most.saturating_add(1).saturating_sub(items.len());
                let (view, organization) = (view.clone(), self.organization.clone());
                let rows = viewed(move || match &organization {
                    Some(organization) => view.quarantine_of(organization, after, wanted),
                    None => view.quarantine(after, wanted),
                });
                let rows = overlaid(owner, rows.await?).await?;
                let exhausted = rows.len() < wanted;
                looked_at = rows.len().saturating_add(looked_at);
                after = rows.last().map(|(row, _)| row.place).or(after);
                let allowed = at.caller.organizations();
                let seen = rows
                    .into_iter()
                    .filter(|(row, settled)| self.wanted.wants(settled.as_ref()) && is_of(row, allowed));
                items.extend(seen.map(|(row, settled)| shown(partition, &row, settled.as_ref())));
                if items.len() > self.most {
                    items.truncate(self.most);
                    let next_page = items.last().map(|last| last.id.text().into_owned());
                    return Ok(Json(List { items, next_page }));
                }
                if exhausted {
                    break;
                }
                if looked_at >= LOOK_MAX {
                    let next_page = after.map(|place| Place { partition, place }.text().into_owned());
                    return Ok(Json(List { items, next_page }));
                }
            }
        }
        Ok(Json(List { items, next_page: None }))
    }
}

/// With what State knows of their settlement that the view does not know yet.
async fn overlaid(owner: &OwnerHandle, mut rows: Vec<Found>) -> Result<Vec<Found>, Problem> {
    if rows.iter().all(|(_, settled)| settled.is_some()) {
        return Ok(rows);
    }
    let overlay = move |state: &State| {
        for (row, settled) in rows.iter_mut().filter(|(_, settled)| settled.is_none()) {
            let holder = row.organization().and_then(|holder| state.organization(holder));
            *settled = holder.and_then(|holder| holder.recent.settled(row.place).cloned());
        }
        rows
    };
    Ok(owner.read(overlay).await?)
}

async fn show(Reading { path, at, .. }: Reading<Place>) -> Result<Json<QuarantinedUsage>, Problem> {
    let (record, settled) = find(&at.node, path).await?;
    match record.organization() {
        Some(organization) => at.caller.may_touch(organization)?,
        None => at.caller.may_all()?,
    }
    Ok(Json(whole(&at.node, path.partition, record, settled).await?))
}

async fn show_of_organization(
    Reading { path: (org, path), at, .. }: Reading<(OrgId, Place)>,
) -> Result<Json<QuarantinedUsage>, Problem> {
    at.organization(&org, Action::ManageOrganization, |_| ()).await?;
    let (record, settled) = find(&at.node, path).await?;
    if record.organization() != Some(&org) {
        return Err(Rejection::NotInQuarantine.into());
    }
    Ok(Json(whole(&at.node, path.partition, record, settled).await?))
}

async fn release(
    Write { path, body, author }: Write<Place, NewRelease>,
) -> Result<Changed<QuarantinedUsage>, Problem> {
    let (record, _) = find(&author.node, path).await?;
    let now = author.node.clock().now();
    let mended = body.event.map(|event| event.usage(now)).transpose()?;
    let organization = holder(&author.node, path, &record)?;
    let usage = mended.clone().map(Box::new);
    let command = OrganizationCommand::ReleaseUsage { place: path.place, usage };
    let done = author.decide(&organization, command).await?;
    if done.before && mended.is_some_and(|mended| !released_as(&done.events, &mended)) {
        return Err(Rejection::ReleasedOtherwise(done.position).into());
    }
    let settled = settled(&author.node, &organization, path).await?;
    // Between the decision and its entry the same record may have come again, and the fold books only one of them.
    if !matches!(&settled, Some(Settled { how: Settling::Released, .. })) {
        return Err(Rejection::StillUnbookable("it came again since, and was booked").into());
    }
    answered(&author, done, path.partition, record, settled).await
}

/// Whether an entry released a record with this content; a time that nobody gave does not count.
fn released_as(events: &[Event], mended: &Usage) -> bool {
    let given = |usage: &Usage| match usage.occurred {
        Occurred::Given(at) => Some(at),
        Occurred::Assumed(_) => None,
    };
    let content = |usage: &Usage| Usage { occurred: mended.occurred, ..usage.clone() };
    events.iter().any(|event| {
        matches!(event, Event::Quarantine(QuarantineEvent::Released { usage, .. })
            if content(usage) == *mended && given(usage) == given(mended))
    })
}

async fn dismiss(
    Write { path, body, author }: Write<Place, NewDismissal>,
) -> Result<Changed<QuarantinedUsage>, Problem> {
    let (record, _) = find(&author.node, path).await?;
    let organization = holder(&author.node, path, &record)?;
    let command = OrganizationCommand::DismissUsage { place: path.place, reason: body.reason };
    let done = author.decide(&organization, command).await?;
    let settled = settled(&author.node, &organization, path).await?;
    answered(&author, done, path.partition, record, settled).await
}

async fn answered(
    author: &Author,
    done: Done,
    partition: PartitionId,
    record: Quarantined,
    settled: Option<Settled>,
) -> Result<Changed<QuarantinedUsage>, Problem> {
    let shown = whole(&author.node, partition, record, settled).await?;
    // Two members of one name are read as either.
    Ok(Changed::new(done, QuarantinedUsage { position: IfAny(None), ..shown }))
}

/// The organization that decides about a record.
fn holder(node: &Node, path: Place, record: &Quarantined) -> Result<OrgId, Problem> {
    let holder = record.organization().filter(|holder| node.partition_of(holder) == path.partition);
    holder.cloned().ok_or_else(|| {
        Rejection::StillUnbookable("it names no organization: publish it again as it should be").into()
    })
}

fn view_of(node: &Node, partition: PartitionId) -> Result<View, Problem> {
    node.view(partition).cloned().ok_or_else(|| Problem::internal("this node has no view of the partition"))
}

/// A quarantined record, and what became of it.
async fn find(node: &Node, Place { partition, place }: Place) -> Result<Found, Problem> {
    let unknown = || Problem::from(Rejection::NotInQuarantine);
    let owner = node.owner(partition).map_err(|_| unknown())?;
    let last = owner.read(|state| state.head().quarantined_at).await?;
    if place.position > last {
        return Err(unknown());
    }
    // Rows reach the view a little after they are applied.
    owner.wait_viewed(place.position).await?;
    let view = view_of(node, partition)?;
    let (record, viewed) = viewed(move || view.quarantined(place)).await?.ok_or_else(unknown)?;
    let settled = match (viewed, record.organization()) {
        (None, Some(organization)) => settled(node, organization, Place { partition, place }).await?,
        (viewed, _) => viewed,
    };
    Ok((record, settled))
}

/// What became of a record of an organization: State knows the latest, the view what is older.
async fn settled(
    node: &Node,
    organization: &OrgId,
    Place { partition, place }: Place,
) -> Result<Option<Settled>, Problem> {
    let id = organization.clone();
    let recent = node
        .owner(partition)?
        .read(move |state| state.organization(&id).and_then(|known| known.recent.settled(place).cloned()));
    let recent = recent.await?;
    if recent.is_some() {
        return Ok(recent);
    }
    let view = view_of(node, partition)?;
    Ok(viewed(move || view.quarantined(place)).await?.and_then(|(_, settled)| settled))
}

fn shown(partition: PartitionId, row: &Quarantined, settled: Option<&Settled>) -> QuarantinedUsage {
    let (state, reason) = match settled.map(|settled| &settled.how) {
        None => (QuarantineState::Open, None),
        Some(Settling::Released) => (QuarantineState::Released, None),
        Some(Settling::Dismissed(reason)) => (QuarantineState::Dismissed, Some(reason.clone())),
    };
    let settled = settled.map(|settled| SettledUsage {
        position: LogPosition { partition, position: settled.position },
        at: settled.at,
        reason: IfAny(reason),
    });
    QuarantinedUsage {
        id: Place { partition, place: row.place },
        position: IfAny(Some(LogPosition { partition, position: row.place.position })),
        organization: row.organization().cloned(),
        reason: row.reason.code().to_owned(),
        detail: row.reason.to_string(),
        recorded_at: row.recorded_at,
        state,
        settled: IfAny(settled),
        event: event_of(&row.what),
        released: IfAny(None),
    }
}

/// With what was booked, if it was released.
async fn whole(
    node: &Node,
    partition: PartitionId,
    record: Quarantined,
    settled: Option<Settled>,
) -> Result<QuarantinedUsage, Problem> {
    let mut item = shown(partition, &record, settled.as_ref());
    if let (Some(Settled { position, at, how: Settling::Released }), Some(organization)) =
        (settled, record.organization())
    {
        let released = Tracer::new(node, organization)?.released(record.place, position, at).await?;
        item.released = IfAny(released.map(|(usage, charged)| of_release(&usage, &charged)));
    }
    Ok(item)
}

/// A quarantined record and what became of it, as it was traced.
pub(super) fn traced(
    partition: PartitionId,
    record: &Quarantined,
    settled: Option<&Settled>,
    released: Option<&(Usage, Charged)>,
) -> QuarantinedUsage {
    let released = IfAny(released.map(|(usage, charged)| of_release(usage, charged)));
    QuarantinedUsage { released, ..shown(partition, record, settled) }
}

fn of_release(usage: &Usage, charged: &Charged) -> ReleasedUsage {
    ReleasedUsage { event: cloudevent::to_event(usage), booked: BookedRecord::of(charged) }
}
