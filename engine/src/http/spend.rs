//! Spend over days and months by project, model and key (R8.4).

use std::borrow::Cow;
use std::collections::BTreeMap;

use tollbook_projections::spend::{Cell, CellKey, OpenCells};
use tollbook_projections::state::Corrupt;
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::calendar::Calendar;
use tollbook_schemas::id::{KeyId, MeterName, ModelName, OrgId, ProjectId};
use tollbook_schemas::position::Position;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::{Day, Timestamp};
use utoipa::openapi::schema::ObjectBuilder;

use super::answer::Json;
use super::document::{Routes, Says};
use super::kinds::{choices, rfc3339, string};
use super::problem::Problem;
use super::reading::{At, Page, Paged, Reading};
use super::shape::{Text, answer, request};
use crate::permission::Action;

/// Days by which usage may be booked before the day in which it occurred: it may be 5 minutes ahead (R8.1), and zones
/// may turn that into another day.
const AHEAD_DAYS: u16 = 2;
/// Results of one page, over all buckets: a few megabytes. A single bucket may have more.
const RESULTS_MAX: usize = 20_000;

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Spend", "What usage cost, and what budgets compare.");
    let says = Says {
        id: "getSpend",
        summary: "See spend by day or month",
        more: "Days are those of the organization's time zone: by when usage occurred, or with `by=booked` by when it \
               was booked, as statements have it. Counts of what was booked fall below zero where more was taken back \
               than came. Pages are of buckets; a page may have fewer than asked for, so that it stays of a sensible \
               size.",
    };
    routes.read("/v1/organizations/{org}/spend", says, spend);
    let says = Says {
        id: "getProjectSpend",
        summary: "See a project's spend by day or month",
        more: "As the organization's, for members of the project.",
    };
    routes.read("/v1/organizations/{org}/projects/{project}/spend", says, project_spend);
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
        /// Which day counts: that on which usage occurred, or was booked; occurred unless said otherwise.
        by: Option<By>,
        /// Only of this project.
        project: Option<ProjectId>,
        /// Only of this model.
        model: Option<ModelName>,
        /// Only with this API key.
        api_key: Option<KeyId>,
        /// A page of buckets.
        page: Paged,
    }
}

request! {
    /// Which spend of a project, and how it is told apart.
    pub(super) struct ProjectSpendQuery {
        /// The first day, or a time on it; the first of this month unless said otherwise.
        from: Option<DayOrTime>,
        /// The last day, which is included; a time counts up to its own instant's day. Tomorrow unless said otherwise.
        to: Option<DayOrTime>,
        /// How long a bucket is; a day unless said otherwise.
        bucket: Option<Bucket>,
        /// What results are told apart by; nothing unless said otherwise.
        group_by: Option<GroupBy>,
        /// Which day counts: that on which usage occurred, or was booked; occurred unless said otherwise.
        by: Option<By>,
        /// Only of this model.
        model: Option<ModelName>,
        /// Only with this API key.
        api_key: Option<KeyId>,
        /// A page of buckets.
        page: Paged,
    }
}

/// Which day counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum By {
    #[default]
    Occurred,
    Booked,
}

choices! {
    By = "SpendBy", "Which day counts." {
        Occurred = "occurred",
        Booked = "booked",
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
    answered(&at, &org, query, Action::SeeOrganizationFigures).await
}

async fn project_spend(
    Reading { path: (org, project), query, at }: Reading<(OrgId, ProjectId), ProjectSpendQuery>,
) -> Result<Json<Spend>, Problem> {
    let action = Action::SeeProjectFigures(project.clone());
    let wanted = project.clone();
    let known = at.organization(&org, action.clone(), move |known| known.projects.contains_key(&wanted));
    if !known.await? {
        return Err(Rejection::ProjectUnknown(project).into());
    }
    let ProjectSpendQuery { from, to, bucket, group_by, by, model, api_key, page } = query;
    let project = Some(project);
    let query = SpendQuery { from, to, bucket, group_by, by, project, model, api_key, page };
    answered(&at, &org, query, action).await
}

async fn answered(at: &At, org: &OrgId, query: SpendQuery, action: Action) -> Result<Json<Spend>, Problem> {
    let node = &at.node;
    let owner = node.owner_of(org)?;
    let read =
        at.organization(org, action, |known| (known.calendar.clone(), known.open.clone(), known.history_at));
    let (calendar, open, history_at): (Calendar, OpenCells, Position) = read.await?;
    // What State no longer holds is in the view a little later.
    owner.wait_viewed(history_at).await?;
    let view = node.view(owner.partition()).cloned().ok_or_else(|| Problem::internal("no view"))?;
    let mut sums = Sums::asked(&query, &calendar, node.clock().now());
    sums.skip_to(&query.page.0)?;
    let id = org.clone();
    let summed = tokio::task::spawn_blocking(move || {
        sums.read(&view, &id, history_at, open)?;
        Ok::<_, ReadError>(sums)
    });
    let summed = summed.await.map_err(|error| Problem::internal(error.to_string()))?;
    let sums = summed.map_err(|error| Problem::internal(error.to_string()))?;
    let next_page = sums.buckets.last_key_value().filter(|_| sums.more).map(|(start, _)| start.to_string());
    let length = sums.range.bucket;
    let buckets = sums.buckets.into_iter().map(|(start, groups)| bucket(&calendar, length, start, groups));
    Ok(Json(Spend { currency: node.ledger().currency.clone(), buckets: buckets.collect(), next_page }))
}

/// Why cells cannot be summed.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Sum(#[from] Corrupt),
}

/// Sums of one page. History is read row by row, and only the page's buckets are kept.
struct Sums {
    range: Range,
    by: By,
    group_by: GroupBy,
    only: Group,
    most: usize,
    buckets: BTreeMap<Day, BTreeMap<Group, Cell>>,
    results: usize,
    /// Whether there are buckets after these.
    more: bool,
}

impl Sums {
    fn asked(query: &SpendQuery, calendar: &Calendar, now: Timestamp) -> Self {
        Self {
            range: Range::of(query, calendar, now),
            by: query.by.unwrap_or_default(),
            group_by: query.group_by.unwrap_or_default(),
            only: (query.project.clone(), query.model.clone(), query.api_key.clone()),
            most: query.page.0.most(),
            buckets: BTreeMap::new(),
            results: 0,
            more: false,
        }
    }

    /// Leaves out what pages before had.
    fn skip_to(&mut self, page: &Page) -> Result<(), Problem> {
        let Some(after) = page.after.as_deref() else { return Ok(()) };
        let after = after.parse::<Day>().map_err(|_| Problem::parameter("after", &"is no `next_page`"))?;
        let end = end_of_bucket(self.range.bucket, self.range.start_of_bucket(after));
        self.range.from = self.range.from.max(end);
        Ok(())
    }

    /// Sums history up to an entry, and what is still open.
    fn read(
        &mut self,
        view: &View,
        organization: &OrgId,
        through: Position,
        open: OpenCells,
    ) -> Result<(), ReadError> {
        let booked_on = match self.by {
            By::Booked => self.range.from..self.range.until,
            // Late usage may be booked at any later time.
            By::Occurred => self.range.from.earlier_by(AHEAD_DAYS)..Day::of_number(i32::MAX),
        };
        for row in view.history_within(organization, booked_on) {
            let (closed_by, cells) = row?;
            if closed_by <= through {
                self.add(cells)?;
            }
        }
        Ok(self.add(open)?)
    }

    fn add(&mut self, booked: OpenCells) -> Result<(), Corrupt> {
        let booked_on = booked.booked_on;
        for (key, cell) in booked.cells {
            let day = match self.by {
                By::Occurred => key.day,
                By::Booked => booked_on,
            };
            if day < self.range.from || day >= self.range.until || !self.is_wanted(&key) {
                continue;
            }
            let by = self.group_by;
            let group = (
                by.project.then_some(key.project),
                by.model.then_some(key.model),
                if by.api_key { key.key } else { None },
            );
            let groups = self.buckets.entry(self.range.start_of_bucket(day)).or_default();
            let before = groups.len();
            groups.entry(group).or_default().add(&cell)?;
            self.results = self.results.saturating_add(groups.len().saturating_sub(before));
            self.keep_to_page();
        }
        Ok(())
    }

    /// Gives up the last bucket while there are too many: from there on, the next page goes on.
    fn keep_to_page(&mut self) {
        while self.buckets.len() > self.most || (self.results > RESULTS_MAX && self.buckets.len() > 1) {
            let Some((start, groups)) = self.buckets.pop_last() else { return };
            self.results = self.results.saturating_sub(groups.len());
            self.range.until = start;
            self.more = true;
        }
    }

    fn is_wanted(&self, key: &CellKey) -> bool {
        let (project, model, api_key) = &self.only;
        project.as_ref().is_none_or(|project| *project == key.project)
            && model.as_ref().is_none_or(|model| *model == key.model)
            && api_key.as_ref().is_none_or(|api_key| Some(api_key) == key.key.as_ref())
    }
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

/// The first day after a bucket.
fn end_of_bucket(bucket: Bucket, start: Day) -> Day {
    match bucket {
        Bucket::Day => start.next(),
        Bucket::Month => start.month().next().first_day(),
    }
}

fn bucket(calendar: &Calendar, bucket: Bucket, start: Day, groups: BTreeMap<Group, Cell>) -> SpendBucket {
    let end = end_of_bucket(bucket, start);
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
