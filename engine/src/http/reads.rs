//! Reading: what all reads share, the quarantine, and the digest.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use serde_json::{Value, json};
use tollbook_projections::organization::Organization;
use tollbook_projections::state::{Quarantined, QuarantinedWhat};
use tollbook_schemas::cloudevent;
use tollbook_schemas::id::{KeyId, OrgId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::usage::UsagePlace;

use super::Api;
use super::auth::Caller;
use super::extract::{Named, Params};
use super::organizations::READERS;
use super::problem::{Fault, Problem};
use crate::node::Node;
use crate::owner::OwnerHandle;

/// Items of a page unless asked for fewer or more.
const LIMIT_DEFAULT: usize = 100;
/// Most items of a page.
const LIMIT_MAX: usize = 1_000;
/// Longest that a read waits for a position.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// An organization's id from the path, if the caller may touch it.
pub(super) fn organization_id(caller: &Caller, text: &str) -> Result<OrgId, Problem> {
    let id = OrgId::parse(text).map_err(|_| Problem::not_found("there is no such organization"))?;
    caller.may_touch(&id)?;
    Ok(id)
}

/// Reads one organization between two records.
pub(super) async fn read_organization<T: Send + 'static>(
    node: &Node,
    organization: &OrgId,
    read: impl FnOnce(&Organization) -> T + Send + 'static,
) -> Result<T, Problem> {
    let id = organization.clone();
    let found = node.owner_of(organization)?.read(move |state| state.organization(&id).map(read)).await?;
    found.ok_or_else(|| Rejection::OrganizationUnknown(organization.clone()).into())
}

/// Waits, as long as is reasonable, until everything is applied that this node has answered for, and the position that
/// `?min_position=` names.
pub(super) async fn wait_for(node: &Node, query: &HashMap<String, String>) -> Result<(), Problem> {
    for owner in node.owners() {
        let partition = owner.partition();
        wait_applied(owner, LogPosition { partition, position: node.answered(partition) }).await?;
    }
    let Some(text) = query.get("min_position") else { return Ok(()) };
    let at: LogPosition = text.parse().map_err(|error| bad_query("min_position", &error))?;
    let owner = node
        .owner(at.partition)
        .map_err(|_| bad_query("min_position", &"names no partition of this ledger"))?;
    wait_applied(owner, at).await
}

async fn wait_applied(owner: &OwnerHandle, at: LogPosition) -> Result<(), Problem> {
    match tokio::time::timeout(WAIT_MAX, owner.wait_applied(at.position)).await {
        Ok(applied) => Ok(applied?),
        Err(_) => {
            let applied = LogPosition { partition: at.partition, position: owner.applied() };
            Err(Problem::unavailable(
                "behind",
                format!("this node is at {applied}, not yet at {at}; try again"),
            ))
        }
    }
}

/// A query parameter that is not acceptable.
pub(super) fn bad_query(name: &str, reason: &impl std::fmt::Display) -> Problem {
    let fault = Fault { field: name.to_owned(), index: None, value: None, reason: reason.to_string() };
    Problem::fields(vec![fault])
}

/// A page of a list: `?limit&after`.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
}

impl Page {
    pub(super) fn of(query: &HashMap<String, String>) -> Result<Self, Problem> {
        let limit = match query.get("limit").map(|text| text.parse()) {
            None => LIMIT_DEFAULT,
            Some(Ok(limit @ 1..=LIMIT_MAX)) => limit,
            Some(Ok(_) | Err(_)) => return Err(bad_query("limit", &format!("must be 1 to {LIMIT_MAX}"))),
        };
        Ok(Self { limit, after: query.get("after").cloned() })
    }

    /// The items of this page of a sorted list, and the value of `after` that gets the next page.
    pub(super) fn cut<T>(&self, sorted: Vec<T>, key: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let later = |item: &T| self.after.as_deref().is_none_or(|after| key(item) > after);
        let mut page: Vec<T> = sorted.into_iter().filter(later).take(self.limit.saturating_add(1)).collect();
        let more = page.len() > self.limit;
        page.truncate(self.limit);
        let next = page.last().filter(|_| more).map(|last| key(last).to_owned());
        (page, next)
    }

    /// A page of items that are sorted by their names.
    pub(super) fn list(&self, sorted: Vec<(String, Value)>) -> Value {
        let (page, next) = self.cut(sorted, |(name, _)| name);
        let items: Vec<Value> = page.into_iter().map(|(_, item)| item).collect();
        json!({ "items": items, "next_page": next })
    }
}

/// Whose a key is: for tools that know a key and publish for it.
pub(super) async fn find_key(
    State(api): State<Api>,
    caller: Caller,
    Named(key): Named<String>,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let key = KeyId::parse(&key).map_err(|_| Problem::not_found("there is no such key"))?;
    for owner in api.node.owners() {
        let wanted = key.clone();
        let found = owner.read(move |state| {
            let holder = state.organizations().find(|known| known.keys.contains_key(&wanted))?;
            let project = holder.keys.get(&wanted)?.project.clone();
            Some((holder.id.clone(), project))
        });
        if let Some((organization, project)) = found.await? {
            caller.may_touch(&organization)?;
            return Ok(axum::Json(json!({
                "id": key.as_str(), "organization": organization.as_str(), "project": project.as_str(),
            })));
        }
    }
    Err(Problem::not_found("there is no such key"))
}

fn partition_of(node: &Node, query: &HashMap<String, String>) -> Result<PartitionId, Problem> {
    match query.get("partition").map(|text| text.parse()) {
        None => Ok(PartitionId(0)),
        Some(Ok(number)) if number < node.ledger().partitions => Ok(PartitionId(number)),
        Some(Ok(_) | Err(_)) => {
            let last = node.ledger().partitions.saturating_sub(1);
            Err(bad_query("partition", &format!("must be 0 to {last}")))
        }
    }
}

/// Position and state digest of a partition, which are equal wherever its log is equal.
pub(super) async fn digest(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    wait_for(&api.node, &query).await?;
    let partition = partition_of(&api.node, &query)?;
    let (position, digest) =
        api.node.owner(partition)?.read(|state| (state.head().position, state.digest())).await?;
    let digest = digest.map_err(|error| Problem::internal(error.to_string()))?;
    let at = LogPosition { partition, position };
    Ok(axum::Json(json!({ "partition": partition.0, "position": at.to_string(), "digest": hex(&digest) })))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What could not be booked, in the order of the log (R8.1).
pub(super) async fn quarantine(
    State(api): State<Api>,
    caller: Caller,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    wait_for(&api.node, &query).await?;
    let page = Page::of(&query)?;
    let after = page.after.as_deref().map(place).transpose().map_err(|error| bad_query("after", &error))?;
    let mut items = Vec::new();
    let mut more = false;
    for owner in api.node.owners() {
        let partition = owner.partition();
        let after = match after {
            Some((of, _)) if of > partition => continue,
            Some((of, place)) if of == partition => Some(place),
            Some(_) | None => None,
        };
        // Rows reach the view a little after they are applied.
        let last = owner.read(|state| state.head().quarantined_at).await?;
        owner.wait_viewed(last).await?;
        let Some(view) = api.node.view(partition).cloned() else { continue };
        let wanted = page.limit.saturating_add(1).saturating_sub(items.len());
        let read = tokio::task::spawn_blocking(move || view.quarantine(after, wanted)).await;
        let rows = read.map_err(|error| Problem::internal(error.to_string()))?;
        let rows = rows.map_err(|error| Problem::internal(error.to_string()))?;
        for row in rows {
            if !visible(&caller, &row) {
                continue;
            }
            if items.len() == page.limit {
                more = true;
                break;
            }
            items.push(quarantine_json(partition, &row));
        }
        if more {
            break;
        }
    }
    let next = items.last().filter(|_| more).and_then(|last| last.get("id").cloned());
    Ok(axum::Json(json!({ "items": items, "next_page": next })))
}

/// A token that is limited to organizations sees only theirs.
fn visible(caller: &Caller, row: &Quarantined) -> bool {
    let Some(allowed) = caller.organizations() else { return true };
    match &row.what {
        QuarantinedWhat::Usage(usage) => allowed.contains(&usage.organization),
        QuarantinedWhat::Bytes(bytes) => bytes.organization.as_ref().is_some_and(|org| allowed.contains(org)),
    }
}

fn quarantine_json(partition: PartitionId, row: &Quarantined) -> Value {
    let at = LogPosition { partition, position: row.place.position };
    let event = match &row.what {
        QuarantinedWhat::Usage(usage) => cloudevent::to_event(usage),
        QuarantinedWhat::Bytes(bytes) => json!({
            "organization": bytes.organization.as_ref().map(OrgId::as_str),
            "bytes": String::from_utf8_lossy(&bytes.bytes),
        }),
    };
    json!({
        "id": format!("{at}.{}", row.place.row),
        "position": at.to_string(),
        "reason": row.reason.code(),
        "detail": row.reason.to_string(),
        "recorded_at": row.recorded_at.to_string(),
        "event": event,
    })
}

/// `<partition>-<position>.<row>`.
fn place(text: &str) -> Result<(PartitionId, UsagePlace), String> {
    let wrong = || "must be an id of a quarantined record, such as `0-17.3`".to_owned();
    let (at, row) = text.split_once('.').ok_or_else(wrong)?;
    let at: LogPosition = at.parse().map_err(|_| wrong())?;
    let row = row.parse().map_err(|_| wrong())?;
    Ok((at.partition, UsagePlace { position: Position(at.position.0), row }))
}
