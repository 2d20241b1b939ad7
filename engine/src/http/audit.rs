//! The audit log of an organization: who did what when.

use serde_json::Value;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};

use super::answer::{Json, List};
use super::document::{Routes, Says};
use super::problem::Problem;
use super::reading::{Page, Reading};
use crate::audit;
use crate::permission::Action;

/// Of the family that the digest begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "listAuditLog",
        summary: "See who did what when",
        more: "Everything that was decided about an organization, in the order of the log, newest last.",
    };
    routes.read("/v1/organizations/{org}/log", says, list);
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<Value>>, Problem> {
    let partition = at.node.partition_of(&org);
    let after = page.after.as_deref().map(|text| position(partition, text)).transpose();
    let after = after.map_err(|reason| Problem::parameter("after", &reason))?;
    let read =
        at.organization(&org, Action::ManageOrganization, |known| (known.last_decision, known.contact_key));
    let (last, key) = read.await?;
    // Rows reach the view a little after they are applied.
    at.node.owner(partition)?.wait_viewed(last).await?;
    let view = at.node.view(partition).cloned();
    let view = view.ok_or_else(|| Problem::internal("this node has no view of the partition"))?;
    let (of, wanted) = (org.clone(), page.most().saturating_add(1));
    let read = tokio::task::spawn_blocking(move || view.audit(Some(&of), after, wanted)).await;
    let rows = read.map_err(|error| Problem::internal(error.to_string()))?;
    let mut rows = rows.map_err(|error| Problem::internal(error.to_string()))?;
    let more = rows.len() > page.most();
    rows.truncate(page.most());
    // What was sealed under earlier keys is erased, also while the store has not forgotten them yet.
    let opener = at.node.contacts().opener(&org, [key]).await?;
    let open = |sealed: &_| opener.open(sealed);
    let items: Vec<Value> = rows.iter().map(|row| audit::item(partition, row, &open)).collect();
    let next = items.last().filter(|_| more).and_then(|last| last.get("position")?.as_str());
    let next_page = next.map(str::to_owned);
    Ok(Json(List { items, next_page }))
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
