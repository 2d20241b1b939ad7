//! Spend over days and months by project, model and key (R8.4), and what budgets compare (R6.3).

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use serde_json::{Value, json};
use tollbook_projections::spend::{Cell, CellKey, OpenCells};
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::id::{KeyId, ModelName, OrgId, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Day, Timestamp};

use super::Api;
use super::auth::Caller;
use super::extract::{Named, Params};
use super::organizations::READERS;
use super::problem::Problem;
use super::reads::{Page, bad_query, organization_id, read_organization, wait_for};
use crate::node::Node;

/// Length of a bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bucket {
    Day,
    Month,
}

/// What results are told apart by.
#[derive(Clone, Copy, Default)]
struct GroupBy {
    project: bool,
    model: bool,
    api_key: bool,
}

type Group = (Option<ProjectId>, Option<ModelName>, Option<KeyId>);

/// `?from&to&bucket=day|month&group_by=project,model,api_key`. A plain day names the whole day, so `to` includes it; a
/// time counts up to its own instant's day. Days are those of the organization's time zone.
pub(super) async fn spend(
    State(api): State<Api>,
    caller: Caller,
    Named(org): Named<String>,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    wait_for(&api.node, &query).await?;
    let (calendar, cells) = all_cells(&api.node, &organization).await?;
    let range = Range::of(&query, &calendar, api.node.clock().now())?;
    let group_by = group_by(&query)?;
    let page = Page::of(&query)?;
    let mut buckets: BTreeMap<Day, BTreeMap<Group, Cell>> = BTreeMap::new();
    for (key, cell) in cells {
        if key.day < range.from || key.day >= range.until {
            continue;
        }
        let group = (
            group_by.project.then_some(key.project),
            group_by.model.then_some(key.model),
            if group_by.api_key { key.key } else { None },
        );
        let sums = buckets.entry(range.start_of_bucket(key.day)).or_default().entry(group).or_default();
        sums.add(&cell).map_err(|error| Problem::internal(error.to_string()))?;
    }
    let named: Vec<(String, Value)> = buckets
        .into_iter()
        .map(|(start, groups)| (start.to_string(), bucket_json(&calendar, range.bucket, start, groups)))
        .collect();
    let (shown, next_page) = page.cut(named, |(start, _)| start);
    let buckets: Vec<Value> = shown.into_iter().map(|(_, bucket)| bucket).collect();
    Ok(axum::Json(
        json!({ "currency": api.node.ledger().currency, "buckets": buckets, "next_page": next_page }),
    ))
}

/// Every cell of an organization: those of State, and those that became history.
async fn all_cells(node: &Node, organization: &OrgId) -> Result<(Calendar, Vec<(CellKey, Cell)>), Problem> {
    let owner = node.owner_of(organization)?;
    let id = organization.clone();
    let read = owner.read(move |state| {
        state.organization(&id).map(|known| (known.calendar.clone(), known.open.clone(), known.history_at))
    });
    let (calendar, open, history_at): (Calendar, OpenCells, Position) =
        read.await?.ok_or_else(|| Rejection::OrganizationUnknown(organization.clone()))?;
    // What State no longer holds is in the view a little later.
    owner.wait_viewed(history_at).await?;
    let view = node.view(owner.partition()).cloned().ok_or_else(|| Problem::internal("no view"))?;
    let id = organization.clone();
    let history = tokio::task::spawn_blocking(move || view.history(&id)).await;
    let history = history
        .map_err(|error| Problem::internal(error.to_string()))?
        .map_err(|error| Problem::internal(error.to_string()))?;
    let closed = history.into_iter().filter(|(closed_by, _)| *closed_by <= history_at);
    let cells = closed.flat_map(|(_, closed)| closed.cells).chain(open.cells);
    Ok((calendar, cells.collect()))
}

struct Range {
    from: Day,
    until: Day,
    bucket: Bucket,
}

impl Range {
    fn of(query: &HashMap<String, String>, calendar: &Calendar, now: Timestamp) -> Result<Self, Problem> {
        let bucket = match query.get("bucket").map(String::as_str) {
            None | Some("day") => Bucket::Day,
            Some("month") => Bucket::Month,
            Some(_) => return Err(bad_query("bucket", &"must be day or month")),
        };
        let today = calendar.day(now);
        let wrong = |name| bad_query(name, &"must be a day such as 2026-11-20, or an RFC 3339 time");
        let from = match query.get("from") {
            None => today.month().first_day(),
            Some(text) => text
                .parse::<Day>()
                .or_else(|_| text.parse::<Timestamp>().map(|at| calendar.day(at)))
                .map_err(|_| wrong("from"))?,
        };
        let until = match query.get("to") {
            None => today.next().next(),
            Some(text) => match (text.parse::<Day>(), text.parse::<Timestamp>()) {
                (Ok(day), _) => day.next(),
                (Err(_), Ok(at)) if calendar.start_of_day(calendar.day(at)) == at => calendar.day(at),
                (Err(_), Ok(at)) => calendar.day(at).next(),
                (Err(_), Err(_)) => return Err(wrong("to")),
            },
        };
        Ok(Self { from, until, bucket })
    }

    fn start_of_bucket(&self, day: Day) -> Day {
        match self.bucket {
            Bucket::Day => day,
            Bucket::Month => day.month().first_day(),
        }
    }
}

fn group_by(query: &HashMap<String, String>) -> Result<GroupBy, Problem> {
    let mut by = GroupBy::default();
    for part in query.get("group_by").map_or("", String::as_str).split(',').map(str::trim) {
        match part {
            "" => {}
            "project" => by.project = true,
            "model" => by.model = true,
            "api_key" => by.api_key = true,
            _ => {
                return Err(bad_query(
                    "group_by",
                    &"must list project, model or api_key, separated by commas",
                ));
            }
        }
    }
    Ok(by)
}

fn bucket_json(calendar: &Calendar, bucket: Bucket, start: Day, groups: BTreeMap<Group, Cell>) -> Value {
    let end = match bucket {
        Bucket::Day => start.next(),
        Bucket::Month => start.month().next().first_day(),
    };
    let count = |units: u128| u64::try_from(units).unwrap_or(u64::MAX);
    let results: Vec<Value> = groups
        .into_iter()
        .map(|((project, model, key), cell)| {
            let meters: serde_json::Map<String, Value> =
                cell.meters.iter().map(|(meter, units)| (meter.to_string(), count(*units).into())).collect();
            json!({
                "project": project.map(|id| id.to_string()),
                "model": model.map(|name| name.to_string()),
                "api_key": key.map(|id| id.to_string()),
                "requests": cell.requests,
                "input_tokens": count(cell.input_tokens),
                "cached_input_tokens": count(cell.cached_input_tokens),
                "output_tokens": count(cell.output_tokens),
                "meters": meters,
                "cost": cell.cost.to_string(),
            })
        })
        .collect();
    json!({
        "start": calendar.start_of_day(start).to_string(),
        "end": calendar.start_of_day(end).to_string(),
        "results": results,
    })
}

/// Settled and pending consumption of a project's running day and month. Limits come with budgets themselves.
pub(super) async fn budgets(
    State(api): State<Api>,
    caller: Caller,
    Named((org, project)): Named<(String, String)>,
    Params(query): Params,
) -> Result<axum::Json<Value>, Problem> {
    caller.may(READERS)?;
    let organization = organization_id(&caller, &org)?;
    let project = ProjectId::parse(&project).map_err(|_| Problem::not_found("there is no such project"))?;
    wait_for(&api.node, &query).await?;
    let now = api.node.clock().now();
    let wanted = project.clone();
    let read = read_organization(&api.node, &organization, move |known| {
        let spend = &known.projects.get(&wanted)?.spend;
        let today = known.calendar.day(now);
        let month = today.month();
        let period = |settled: String, pending: String, ends: Timestamp| json!({ "limit": null, "settled": settled, "pending": pending, "state": "open", "resets_at": ends.to_string() });
        let pending_in_month = spend.pending_in(month).unwrap_or_default();
        Some(json!({
            "daily": period(
                spend.settled_on(today).to_string(),
                spend.pending_on(today).to_string(),
                known.calendar.start_of_day(today.next()),
            ),
            "monthly": period(
                spend.settled_in(month).to_string(),
                pending_in_month.to_string(),
                known.calendar.start_of_month(month.next()),
            ),
        }))
    });
    let mut body = read.await?.ok_or(Rejection::ProjectUnknown(project))?;
    let cycle = api.node.owner_of(&organization)?.read(|state| {
        let closes_at = crate::decide::cycle::next_close(state).map(|at| at.to_string());
        let closed = state.head().closed_at;
        let last_closed_at = (closed != Timestamp::EPOCH).then(|| closed.to_string());
        json!({ "closes_at": closes_at, "last_closed_at": last_closed_at })
    });
    if let Some(members) = body.as_object_mut() {
        members.insert("cycle".into(), cycle.await?);
    }
    Ok(axum::Json(body))
}
