//! Reading: who asks, what for, and from which position on.

use std::borrow::Cow;
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use tollbook_projections::organization::Organization;
use tollbook_projections::state::State;
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::rejection::Rejection;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder};

use super::Api;
use super::accept;
use super::answer::List;
use super::auth::Caller;
use super::fields::Fields;
use super::path::{Ids, ids};
use super::problem::Problem;
use super::shape::{self, FromMembers, Member, Record, Text, request};
use super::values::whole;
use crate::node::Node;
use crate::owner::OwnerHandle;
use crate::permission::{self, Action};

/// Items of a page unless asked for fewer or more.
const LIMIT_DEFAULT: usize = 100;
/// Most items of a page.
const LIMIT_MAX: u32 = 1_000;
/// Longest that a read waits for a position.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A read: the ids of its path, its parameters, and who asks. What the reader's token may not see is refused before,
/// and everything is applied that this node answered for, and the position that `min_position` names.
#[derive(Debug)]
pub(super) struct Reading<P, Q = ()> {
    pub(super) path: P,
    pub(super) query: Q,
    pub(super) at: At,
}

/// Where things are read, and for whom.
#[derive(Debug)]
pub(super) struct At {
    pub(super) node: Node,
    pub(super) caller: Caller,
    /// Whether CSV would be rather had than JSON.
    pub(super) prefers_csv: bool,
}

impl<P: Ids, Q: Record> FromRequestParts<Api> for Reading<P, Q> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        caller.may_read(P::ABOUT)?;
        let path: P = ids(parts).await?;
        path.organization().map_or(Ok(()), |organization| caller.may_touch(organization))?;
        let (min_position, query) = Fields::query(parameters(parts)?, |fields| {
            let min_position = <Option<LogPosition> as FromMembers>::take(fields, MIN_POSITION);
            let query = Q::from_fields(fields);
            min_position.zip(query)
        })?;
        wait_for(&api.node, min_position).await?;
        let prefers_csv = accept::prefers_csv(&parts.headers);
        Ok(Self { path, query, at: At { node: api.node.clone(), caller, prefers_csv } })
    }
}

/// Names the position that a read waits for.
pub(super) const MIN_POSITION: &str = "min_position";

fn parameters(parts: &Parts) -> Result<Vec<(String, String)>, Problem> {
    match Query::try_from_uri(&parts.uri) {
        Ok(Query(parameters)) => Ok(parameters),
        Err(rejection) => Err(Problem::malformed(rejection.body_text())),
    }
}

/// Refuses parameters where there are none.
pub(super) fn no_query(parts: &Parts) -> Result<(), Problem> {
    Fields::query(parameters(parts)?, <()>::from_fields)
}

/// Waits, as long as is reasonable, until everything is applied that this node has answered for, and a position.
async fn wait_for(node: &Node, min_position: Option<LogPosition>) -> Result<(), Problem> {
    for owner in node.owners() {
        settled(node, owner).await?;
    }
    let Some(at) = min_position else { return Ok(()) };
    let owner = node
        .owner(at.partition)
        .map_err(|_| Problem::parameter(MIN_POSITION, &"names no partition of this ledger"))?;
    wait_applied(owner, at).await
}

/// Waits, as long as is reasonable, until everything is applied that this node has answered for in one partition.
pub(super) async fn settled(node: &Node, owner: &OwnerHandle) -> Result<(), Problem> {
    let partition = owner.partition();
    wait_applied(owner, LogPosition { partition, position: node.answered(partition) }).await
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

impl At {
    /// Reads one organization between two records, if the reader may see this of it (R3).
    pub(super) async fn organization<T: Send + 'static>(
        &self,
        organization: &OrgId,
        action: Action,
        read: impl FnOnce(&Organization) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.state(organization, action, move |_, known| read(known)).await
    }

    /// Reads one organization, and what else it depends on, between two records.
    pub(super) async fn state<T: Send + 'static>(
        &self,
        organization: &OrgId,
        action: Action,
        read: impl FnOnce(&State, &Organization) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let actor = self.caller.actor();
        read_state(&self.node, organization, move |state, known| {
            permission::may(known, &actor, &action)?;
            Ok(read(state, known))
        })
        .await?
    }
}

/// Reads one organization between two records, for somebody who may see it.
pub(super) async fn read_organization<T: Send + 'static>(
    node: &Node,
    organization: &OrgId,
    read: impl FnOnce(&Organization) -> T + Send + 'static,
) -> Result<T, Problem> {
    read_state(node, organization, move |_, known| read(known)).await
}

/// Reads one organization, and what else it depends on, between two records, for somebody who may see it.
pub(super) async fn read_state<T: Send + 'static>(
    node: &Node,
    organization: &OrgId,
    read: impl FnOnce(&State, &Organization) -> T + Send + 'static,
) -> Result<T, Problem> {
    let id = organization.clone();
    let owner = node.owner_of(organization)?;
    let found = owner.read(move |state| state.organization(&id).map(|known| read(state, known))).await?;
    found.ok_or_else(|| Rejection::OrganizationUnknown(organization.clone()).into())
}

/// The view of an organization's partition.
pub(super) fn view_of(node: &Node, organization: &OrgId) -> Result<View, Problem> {
    let view = node.view(node.partition_of(organization)).cloned();
    view.ok_or_else(|| Problem::internal("this node has no view of the partition"))
}

/// Reads from a view, which blocks.
pub(super) async fn viewed<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ViewError> + Send + 'static,
) -> Result<T, Problem> {
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|error| Problem::internal(error.to_string()))?;
    read.map_err(|error| Problem::internal(error.to_string()))
}

/// How many items a page may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit(usize);

impl Limit {
    /// Most items of a page.
    pub(super) fn most(limit: Option<Self>) -> usize {
        limit.map_or(LIMIT_DEFAULT, |limit| limit.0)
    }
}

impl Text for Limit {
    const NAME: &'static str = "Limit";

    fn schema() -> ObjectBuilder {
        whole(KnownFormat::Int32, 1, LIMIT_MAX.into()).default(Some(LIMIT_DEFAULT.into()))
    }

    fn of(text: &str) -> Result<Self, String> {
        let most = usize::try_from(LIMIT_MAX).unwrap_or(usize::MAX);
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(Self(limit)),
            Ok(_) | Err(_) => Err(format!("must be 1 to {LIMIT_MAX}")),
        }
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}

request! {
    /// A page of a list.
    pub(super) struct Page {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<String>,
    }
}

/// A page among other parameters: its two, whatever the field is called.
#[derive(Debug)]
pub(super) struct Paged(pub(super) Page);

impl FromMembers for Paged {
    fn take(fields: &mut Fields, _: &str) -> Option<Self> {
        Page::from_fields(fields).map(Self)
    }

    fn members(_: &'static str, _: &str, parts: &mut shape::Parts) -> Vec<Member> {
        <Page as Record>::members(parts)
    }
}

impl Page {
    /// Most items of this page.
    pub(super) fn most(&self) -> usize {
        Limit::most(self.limit)
    }

    /// The items of this page of what comes sorted, and the value of `after` that gets the next page. Of what is
    /// borrowed only the page is copied.
    pub(super) fn cut<T>(&self, sorted: impl IntoIterator<Item = T>, key: impl Fn(&T) -> &str) -> List<T> {
        let earlier = |item: &T| self.after.as_deref().is_some_and(|after| key(item) <= after);
        let mut items: Vec<T> =
            sorted.into_iter().skip_while(earlier).take(self.most().saturating_add(1)).collect();
        let more = items.len() > self.most();
        items.truncate(self.most());
        let next_page = items.last().filter(|_| more).map(|last| key(last).to_owned());
        List { items, next_page }
    }
}

/// Which partition; the first unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartitionNumber(u16);

impl PartitionNumber {
    /// The partition, if the ledger has it.
    pub(super) fn of_ledger(node: &Node, number: Option<Self>) -> Result<PartitionId, Problem> {
        let last = node.ledger().partitions.saturating_sub(1);
        match number.map_or(0, |number| number.0) {
            number if number <= last => Ok(PartitionId(number)),
            _ => Err(Problem::parameter("partition", &format!("must be 0 to {last}"))),
        }
    }
}

impl Text for PartitionNumber {
    const NAME: &'static str = "PartitionNumber";

    fn schema() -> ObjectBuilder {
        whole(KnownFormat::Int32, 0, u16::MAX.into())
    }

    fn of(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "must be the number of a partition".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}
