//! The audit log of an organization: who did what when.

use std::borrow::Cow;

use serde_json::Value;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use utoipa::openapi::schema::ObjectBuilder;

use super::answer::{Json, List};
use super::document::{Routes, Says};
use super::kinds::string;
use super::problem::Problem;
use super::reading::{Limit, Reading};
use super::shape::{Text, request};
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

request! {
    /// A page of the audit log.
    pub(super) struct AuditPage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<After>,
    }
}

/// A position in the organization's partition: `0-17`, or its number alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    partition: Option<PartitionId>,
    position: Position,
}

impl After {
    fn of_partition(self, partition: PartitionId) -> Result<Position, Problem> {
        match self.partition {
            Some(other) if other != partition => {
                let reason = format!("must be in the organization's partition, {partition}");
                Err(Problem::parameter("after", &reason))
            }
            Some(_) | None => Ok(self.position),
        }
    }
}

impl Text for After {
    const NAME: &'static str = "AuditPosition";

    fn schema() -> ObjectBuilder {
        string("A position in the organization's partition, or its number alone.")
            .pattern(Some("^((0|[1-9][0-9]{0,4})-)?(0|[1-9][0-9]{0,18})$"))
            .examples(["0-17", "17"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let alone = || text.parse().map(|number| Self { partition: None, position: Position(number) });
        let whole = |at: LogPosition| Self { partition: Some(at.partition), position: at.position };
        let read = text.parse().map(whole).or_else(|_| alone());
        read.map_err(|_| "must be a position, such as `0-17` or `17`".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        match self.partition {
            Some(partition) => LogPosition { partition, position: self.position }.to_string().into(),
            None => self.position.to_string().into(),
        }
    }
}

async fn list(
    Reading { path: org, query, at }: Reading<OrgId, AuditPage>,
) -> Result<Json<List<Value>>, Problem> {
    let partition = at.node.partition_of(&org);
    let after = query.after.map(|after| after.of_partition(partition)).transpose()?;
    let most = Limit::most(query.limit);
    let read =
        at.organization(&org, Action::ManageOrganization, |known| (known.last_decision, known.contact_key));
    let (last, key) = read.await?;
    // Rows reach the view a little after they are applied.
    at.node.owner(partition)?.wait_viewed(last).await?;
    let view = at.node.view(partition).cloned();
    let view = view.ok_or_else(|| Problem::internal("this node has no view of the partition"))?;
    let (of, wanted) = (org.clone(), most.saturating_add(1));
    let read = tokio::task::spawn_blocking(move || view.audit(Some(&of), after, wanted)).await;
    let rows = read.map_err(|error| Problem::internal(error.to_string()))?;
    let mut rows = rows.map_err(|error| Problem::internal(error.to_string()))?;
    let more = rows.len() > most;
    rows.truncate(most);
    // What was sealed under earlier keys is erased, also while the store has not forgotten them yet.
    let opener = at.node.contacts().opener(&org, [key]).await?;
    let open = |sealed: &_| opener.open(sealed);
    let items: Vec<Value> = rows.iter().map(|row| audit::item(partition, row, &open)).collect();
    let next = items.last().filter(|_| more).and_then(|last| last.get("position")?.as_str());
    let next_page = next.map(str::to_owned);
    Ok(Json(List { items, next_page }))
}
