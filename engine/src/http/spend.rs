//! Spend over days and months by project, model and key (R8.4).

use std::borrow::Cow;
use std::collections::BTreeMap;

use tollbook_projections::spend::{Cell, CellKey, OpenCells};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::id::{KeyId, MeterName, ModelName, OrgId, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::time::{Day, Timestamp};
use utoipa::openapi::schema::ObjectBuilder;

use super::answer::Json;
use super::document::{Routes, Says};
use super::kinds::{choices, rfc3339, string};
use super::problem::Problem;
use super::reading::{At, Paged, Reading};
use super::shape::{Text, answer, request};
use crate::permission::Action;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Spend", "What usage cost, and what budgets compare.");
    let says = Says {
        id: "getSpend",
        summary: "See spend by day or month",
        more: "Days are those of the organization's time zone, by when usage occurred. Pages are of buckets.",
    };
    routes.read("/v1/organizations/{org}/spend", says, spend);
}

request! {
    /// Which spend, and how it is told apart.
    pub(super) struct SpendQuery {
        /// The first day, or a time on it; the first of this month unless said otherwise.
        from: Option<DayOrTime>,
        /// The last day, which is included; a time counts up to its own instant's day. Tomorrow unless said otherwise.
        to: Option<DayOrTime>,
        /// How long a bucket is; a day unless said otherwise.
        bucket: Option<Bucket>,
        /// What results are told apart by; nothing unless said otherwise.
        group_by: Option<GroupBy>,
        /// A page of buckets.
        page: Paged,
    }
}

/// A day, or a time on it.
#[derive(Clone, Copy, Debug)]
pub(super) enum DayOrTime {
    Day(Day),
    Time(Timestamp),
}

impl Text for DayOrTime {
    const NAME: &'static str = "DayOrTime";

    fn schema() -> ObjectBuilder {
        let day = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])";
        string("A day, or an RFC 3339 time on it.")
            .pattern(Some(format!("^({day}|{})$", rfc3339())))
            .examples(["2026-11-20", "2026-11-20T10:00:00Z"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let time = || text.parse().map(Self::Time);
        text.parse()
            .map(Self::Day)
            .or_else(|_| time())
            .map_err(|_| "must be a day such as 2026-11-20, or an RFC 3339 time".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Day(day) => day.to_string().into(),
            Self::Time(time) => time.to_string().into(),
        }
    }
}

/// Length of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    Day,
    Month,
}

choices! {
    Bucket = "Bucket", "Length of a bucket." {
        Day = "day",
        Month = "month",
    }
}

/// What results are told apart by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupBy {
    project: bool,
    model: bool,
    api_key: bool,
}

impl Text for GroupBy {
    const NAME: &'static str = "GroupBy";

    fn schema() -> ObjectBuilder {
        string("Any of `project`, `model` and `api_key`, separated by commas.")
            .pattern(Some("^((project|model|api_key)(,(project|model|api_key))*)?$"))
            .examples(["project,model"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let mut by = Self::default();
        for part in text.split(',').map(str::trim) {
            match part {
                "" => {}
                "project" => by.project = true,
                "model" => by.model = true,
                "api_key" => by.api_key = true,
                _ => return Err("must list project, model or api_key, separated by commas".to_owned()),
            }
        }
        Ok(by)
    }

    fn text(&self) -> Cow<'_, str> {
        let named = [(self.project, "project"), (self.model, "model"), (self.api_key, "api_key")];
        let named: Vec<_> = named.iter().filter(|(named, _)| *named).map(|(_, name)| *name).collect();
        named.join(",").into()
    }
}

answer! {
    /// What usage cost.
    pub(super) struct Spend {
        /// The ledger's currency.
        currency: String,
        /// Days or months in which something was used.
        buckets: Vec<SpendBucket>,
        /// The value of `after` that gets the next page; null on the last one.
        next_page: Option<String>,
    }
}

answer! {
    /// A day or a month.
    pub(super) struct SpendBucket {
        /// Its first instant.
        start: Timestamp,
        /// The first instant after it.
        end: Timestamp,
        /// What was used, told apart as was asked.
        results: Vec<SpendResult>,
    }
}

answer! {
    /// What was used; what it is not told apart by is null.
    pub(super) struct SpendResult {
        /// Of which project.
        project: Option<ProjectId>,
        /// Which model.
        model: Option<ModelName>,
        /// With which API key.
        api_key: Option<KeyId>,
        /// Requests.
        requests: i64,
        /// Input tokens, cached ones included.
        input_tokens: i64,
        /// Input tokens read from a cache.
        cached_input_tokens: i64,
        /// Output tokens.
        output_tokens: i64,
        /// Further metered units, by name.
        meters: BTreeMap<MeterName, i64>,
        /// What it cost.
        cost: Amount,
    }
}

type Group = (Option<ProjectId>, Option<ModelName>, Option<KeyId>);

async fn spend(Reading { path: org, query, at }: Reading<OrgId, SpendQuery>) -> Result<Json<Spend>, Problem> {
    let (calendar, cells) = all_cells(&at, &org).await?;
    let range = Range::of(&query, &calendar, at.node.clock().now());
    let by = query.group_by.unwrap_or_default();
    let mut buckets: BTreeMap<Day, BTreeMap<Group, Cell>> = BTreeMap::new();
    for (key, cell) in cells {
        if key.day < range.from || key.day >= range.until {
            continue;
        }
        let group = (
            by.project.then_some(key.project),
            by.model.then_some(key.model),
            if by.api_key { key.key } else { None },
        );
        let sums = buckets.entry(range.start_of_bucket(key.day)).or_default().entry(group).or_default();
        sums.add(&cell).map_err(|error| Problem::internal(error.to_string()))?;
    }
    let named: Vec<(String, SpendBucket)> = buckets
        .into_iter()
        .map(|(start, groups)| (start.to_string(), bucket(&calendar, range.bucket, start, groups)))
        .collect();
    let page = query.page.0.cut(named, |(start, _)| start);
    Ok(Json(Spend {
        currency: at.node.ledger().currency.clone(),
        buckets: page.items.into_iter().map(|(_, bucket)| bucket).collect(),
        next_page: page.next_page,
    }))
}

/// Every cell of an organization: those of State, and those that became history.
async fn all_cells(at: &At, organization: &OrgId) -> Result<(Calendar, Vec<(CellKey, Cell)>), Problem> {
    let node = &at.node;
    let owner = node.owner_of(organization)?;
    let read = at.organization(organization, Action::SeeOrganizationFigures, |known| {
        (known.calendar.clone(), known.open.clone(), known.history_at)
    });
    let (calendar, open, history_at): (Calendar, OpenCells, Position) = read.await?;
    // What State no longer holds is in the view a little later.
    owner.wait_viewed(history_at).await?;
    let view = node.view(owner.partition()).cloned().ok_or_else(|| Problem::internal("no view"))?;
    let id = organization.clone();
    let history = tokio::task::spawn_blocking(move || view.history(&id, Day::default())).await;
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
    fn of(query: &SpendQuery, calendar: &Calendar, now: Timestamp) -> Self {
        let today = calendar.day(now);
        let from = match query.from {
            None => today.month().first_day(),
            Some(DayOrTime::Day(day)) => day,
            Some(DayOrTime::Time(at)) => calendar.day(at),
        };
        let until = match query.to {
            None => today.next().next(),
            Some(DayOrTime::Day(day)) => day.next(),
            Some(DayOrTime::Time(at)) if calendar.start_of_day(calendar.day(at)) == at => calendar.day(at),
            Some(DayOrTime::Time(at)) => calendar.day(at).next(),
        };
        Self { from, until, bucket: query.bucket.unwrap_or(Bucket::Day) }
    }

    fn start_of_bucket(&self, day: Day) -> Day {
        match self.bucket {
            Bucket::Day => day,
            Bucket::Month => day.month().first_day(),
        }
    }
}

fn bucket(calendar: &Calendar, bucket: Bucket, start: Day, groups: BTreeMap<Group, Cell>) -> SpendBucket {
    let end = match bucket {
        Bucket::Day => start.next(),
        Bucket::Month => start.month().next().first_day(),
    };
    let count = |units: i128| i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX });
    let results = groups.into_iter().map(|((project, model, api_key), cell)| SpendResult {
        project,
        model,
        api_key,
        requests: cell.requests,
        input_tokens: count(cell.input_tokens),
        cached_input_tokens: count(cell.cached_input_tokens),
        output_tokens: count(cell.output_tokens),
        meters: cell.meters.into_iter().map(|(meter, units)| (meter, count(units))).collect(),
        cost: cell.cost,
    });
    SpendBucket {
        start: calendar.start_of_day(start),
        end: calendar.start_of_day(end),
        results: results.collect(),
    }
}
