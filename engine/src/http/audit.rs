//! The audit log of an organization: who did what when.

use axum::extract::State;
use serde_json::{Value, json};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};

use super::Api;
use super::auth::Caller;
use super::extract::{Named, Params};
use super::organizations::READERS;
use super::problem::Problem;
use super::reads::{Page, bad_query, organization_id, read_organization, wait_for};
use crate::audit;

/// Everything that was decided about an organization, in the order of the log.
pub(super) async fn audit_log(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    wait_for(&api.node, &query).await?;
    let page = Page::of(&query)?;
    let partition = api.node.partition_of(&organization);
    let after = page.after.as_deref().map(|text| position(partition, text)).transpose();
    let after = after.map_err(|reason| bad_query("after", &reason))?;
    let (last, key) =
        read_organization(&api.node, &organization, |known| (known.last_decision, known.contact_key)).await?;
    // Rows reach the view a little after they are applied.
    api.node.owner(partition)?.wait_viewed(last).await?;
    let view = api.node.view(partition).cloned();
    let view = view.ok_or_else(|| Problem::internal("this node has no view of the partition"))?;
    let (of, wanted) = (organization.clone(), page.limit.saturating_add(1));
    let read = tokio::task::spawn_blocking(move || view.audit(Some(&of), after, wanted)).await;
    let rows = read.map_err(|error| Problem::internal(error.to_string()))?;
    let mut rows = rows.map_err(|error| Problem::internal(error.to_string()))?;
    let more = rows.len() > page.limit;
    rows.truncate(page.limit);
    // What was sealed under earlier keys is erased, also while the store has not forgotten them yet.
    let opener = api.node.contacts().opener(&organization, [key]).await?;
    let open = |sealed: &_| opener.open(sealed);
    let items: Vec<Value> = rows.iter().map(|row| audit::item(partition, row, &open)).collect();
    let next = items.last().filter(|_| more).and_then(|last| last.get("position").cloned());
    Ok(axum::Json(json!({ "items": items, "next_page": next })))
}

/// A position in the organization's partition: `0-17`, or its number alone.
fn position(partition: PartitionId, text: &str) -> Result<Position, String> {
    if let Ok(number) = text.parse() {
        return Ok(Position(number));
    }
    let at: LogPosition =
        text.parse().map_err(|_| "must be a position, such as `0-17` or `17`".to_owned())?;
    if at.partition != partition {
        return Err(format!("must be in the organization's partition, {partition}"));
    }
    Ok(at.position)
}
