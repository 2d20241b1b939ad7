//! What could not be booked.

use std::borrow::Cow;

use serde_json::{Value, json};
use tollbook_projections::state::{Quarantined, QuarantinedWhat};
use tollbook_schemas::cloudevent;
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::UsagePlace;
use utoipa::openapi::schema::ObjectBuilder;

use super::answer::{Json, List};
use super::auth::Caller;
use super::document::{Routes, Says};
use super::kinds::string;
use super::problem::Problem;
use super::reading::{Limit, Reading};
use super::shape::{Text, answer, request};

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Quarantine", "Usage that was accepted and could not be booked.");
    let says = Says {
        id: "listQuarantine",
        summary: "List quarantined usage",
        more: "In the order of the log. A token that is limited to organizations sees only theirs.",
    };
    routes.read("/v1/quarantine", says, list);
}

request! {
    /// A page of the quarantine.
    pub(super) struct QuarantinePage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this item: the `next_page` of the page before.
        after: Option<Place>,
    }
}

answer! {
    /// Usage that could not be booked (R8.1).
    pub(super) struct QuarantinedUsage {
        /// Its id: where it stands.
        id: Place,
        /// The entry it came in.
        position: LogPosition,
        /// Why it was not booked, for programs.
        reason: String,
        /// Why it was not booked, for people.
        detail: String,
        /// When it was recorded.
        recorded_at: Timestamp,
        /// The usage as a CloudEvent; of what nobody could read, its organization and bytes.
        event: Value,
    }
}

/// Where a record stands: `<partition>-<position>.<row>`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    partition: PartitionId,
    place: UsagePlace,
}

impl Text for Place {
    const NAME: &'static str = "QuarantineId";

    fn schema() -> ObjectBuilder {
        string("A quarantined record: partition, position and row.")
            .pattern(Some(r"^(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,9})$"))
            .examples(["0-17.3"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let wrong = || "must be an id of a quarantined record, such as `0-17.3`".to_owned();
        let (at, row) = text.split_once('.').ok_or_else(wrong)?;
        let at: LogPosition = at.parse().map_err(|_| wrong())?;
        let row = row.parse().map_err(|_| wrong())?;
        Ok(Self { partition: at.partition, place: UsagePlace { position: at.position, row } })
    }

    fn text(&self) -> Cow<'_, str> {
        let at = LogPosition { partition: self.partition, position: self.place.position };
        format!("{at}.{}", self.place.row).into()
    }
}

async fn list(
    Reading { query, at, .. }: Reading<(), QuarantinePage>,
) -> Result<Json<List<QuarantinedUsage>>, Problem> {
    let most = Limit::most(query.limit);
    let mut items = Vec::new();
    let mut more = false;
    for owner in at.node.owners() {
        let partition = owner.partition();
        let after = match query.after {
            Some(Place { partition: of, .. }) if of > partition => continue,
            Some(Place { partition: of, place }) if of == partition => Some(place),
            Some(_) | None => None,
        };
        // Rows reach the view a little after they are applied.
        let last = owner.read(|state| state.head().quarantined_at).await?;
        owner.wait_viewed(last).await?;
        let Some(view) = at.node.view(partition).cloned() else { continue };
        let mut after = after;
        // Rows of other organizations do not count, so one look may not be enough.
        loop {
            let (view, wanted) = (view.clone(), most.saturating_add(1).saturating_sub(items.len()));
            let read = tokio::task::spawn_blocking(move || view.quarantine(after, wanted)).await;
            let rows = read.map_err(|error| Problem::internal(error.to_string()))?;
            let rows = rows.map_err(|error| Problem::internal(error.to_string()))?;
            let last = rows.len() < wanted;
            after = rows.last().map(|(row, _)| row.place);
            let seen = rows.iter().filter(|(row, settled)| settled.is_none() && visible(&at.caller, row));
            items.extend(seen.map(|(row, _)| shown(partition, row)));
            if last || items.len() > most {
                break;
            }
        }
        more = items.len() > most;
        if more {
            items.truncate(most);
            break;
        }
    }
    let next_page = items.last().filter(|_| more).map(|last| last.id.text().into_owned());
    Ok(Json(List { items, next_page }))
}

/// A token that is limited to organizations sees only theirs.
fn visible(caller: &Caller, row: &Quarantined) -> bool {
    let Some(allowed) = caller.organizations() else { return true };
    match &row.what {
        QuarantinedWhat::Usage(usage) => allowed.contains(&usage.organization),
        QuarantinedWhat::Bytes(bytes) => bytes.organization.as_ref().is_some_and(|org| allowed.contains(org)),
    }
}

fn shown(partition: PartitionId, row: &Quarantined) -> QuarantinedUsage {
    let event = match &row.what {
        QuarantinedWhat::Usage(usage) => cloudevent::to_event(usage),
        QuarantinedWhat::Bytes(bytes) => json!({
            "organization": bytes.organization.as_ref().map(OrgId::as_str),
            "bytes": String::from_utf8_lossy(&bytes.bytes),
        }),
    };
    QuarantinedUsage {
        id: Place { partition, place: row.place },
        position: LogPosition { partition, position: row.place.position },
        reason: row.reason.code().to_owned(),
        detail: row.reason.to_string(),
        recorded_at: row.recorded_at,
        event,
    }
}
