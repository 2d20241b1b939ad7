//! The audit logs of organizations and of the ledger: who did what when.

use std::borrow::Cow;

use serde_json::Value;
use tollbook_projections::state::AuditRow;
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
use crate::node::Node;
use crate::permission::Action;

/// Of the family that the digest begins.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "listAuditLog",
        summary: "See who did what when",
        more: "Everything that was decided about an organization, in the order of the log, newest last.",
    };
    routes.read("/v1/organizations/{org}/log", says, list);
    let says = Says {
        id: "listLedgerLog",
        summary: "See who configured the ledger when",
        more: "Everything that was decided about the whole ledger: prices, the billing cycle, quantity limits, service tokens. \
               In the order of the log, newest last. Not for tokens that are limited to organizations.",
    };
    routes.read("/v1/config/log", says, list_of_ledger);
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

/// A position in the partition that is read: `0-17`, or its number alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    partition: Option<PartitionId>,
    position: Position,
}

impl After {
    fn of_partition(self, partition: PartitionId) -> Result<Position, Problem> {
        match self.partition {
            Some(other) if other != partition => {
                let reason = format!("must be in the log's partition, {partition}");
                Err(Problem::parameter("after", &reason))
            }
            Some(_) | None => Ok(self.position),
        }
    }
}

impl Text for After {
    const NAME: &'static str = "AuditPosition";

    fn schema() -> ObjectBuilder {
        string("A position in the partition of the log, or its number alone.")
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
    let read =
        at.organization(&org, Action::ManageOrganization, |known| (known.last_decision, known.contact_key));
    let (last, key) = read.await?;
    let wanted = Wanted { partition, organization: Some(org.clone()), last };
    let rows = wanted.rows(&at.node, query).await?;
    // What was sealed under earlier keys is erased, also while the store has not forgotten them yet.
    let opener = at.node.contacts().opener(&org, [key]).await?;
    Ok(Json(rows.map(|row| audit::item(partition, &row, &|sealed| opener.open(sealed)))))
}

async fn list_of_ledger(
    Reading { query, at, .. }: Reading<(), AuditPage>,
) -> Result<Json<List<Value>>, Problem> {
    at.caller.may_all()?;
    // The whole ledger is configured in its first partition.
    let partition = PartitionId(0);
    let last = at.node.owner(partition)?.read(|state| state.head().last_config).await?;
    let rows = Wanted { partition, organization: None, last }.rows(&at.node, query).await?;
    // Nothing of it is anybody's personal data.
    Ok(Json(rows.map(|row| audit::item(partition, &row, &|_| None))))
}

/// Whose decisions, the last of which is known.
struct Wanted {
    partition: PartitionId,
    organization: Option<OrgId>,
    last: Position,
}

impl Wanted {
    /// One page of them.
    async fn rows(self, node: &Node, page: AuditPage) -> Result<List<AuditRow>, Problem> {
        let Self { partition, organization, last } = self;
        let after = page.after.map(|after| after.of_partition(partition)).transpose()?;
        let most = Limit::most(page.limit);
        // Rows reach the view a little after they are applied.
        node.owner(partition)?.wait_viewed(last).await?;
        let view = node.view(partition).cloned();
        let view = view.ok_or_else(|| Problem::internal("this node has no view of the partition"))?;
        let read = move || view.audit(organization.as_ref(), after, most.saturating_add(1));
        let read = tokio::task::spawn_blocking(read).await;
        let rows = read.map_err(|error| Problem::internal(error.to_string()))?;
        let mut items = rows.map_err(|error| Problem::internal(error.to_string()))?;
        let more = items.len() > most;
        items.truncate(most);
        let last = items.last().filter(|_| more);
        let next_page = last.map(|last| LogPosition { partition, position: last.position }.to_string());
        Ok(List { items, next_page })
    }
}
