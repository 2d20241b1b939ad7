//! Alerts: an organization's, as its view lists them, and the whole feed (R7).

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;
use tollbook_projections::organization::Organization;
use tollbook_projections::view::{View, ViewError};
use tollbook_schemas::alert::{Alert, AlertKind};
use tollbook_schemas::entry::Actor;
use tollbook_schemas::id::{AlertId, OrgId, ProjectId};
use tollbook_schemas::position::{LogPosition, PartitionId, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder};

use super::answer::{Json, List};
use super::document::{Routes, Says};
use super::kinds::string;
use super::problem::Problem;
use super::reading::{At, Limit, Reading, read_organization, view_of, viewed};
use super::shape::{Text, answer, request};
use super::values::whole;
use super::{alert_stream, alert_subscriptions};
use crate::alerts::feed::Raised;
use crate::alerts::shape;
use crate::permission::{self, Action};

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Alerts", "What organizations and the platform are told, each alert once.");
    let says = Says {
        id: "listAlerts",
        summary: "List an organization's alerts",
        more: "In the order of the log. Members of projects see those about their projects alone, and of revoked keys those \
               where they may see all of them; for them a page may be short, and even empty, before the last one.",
    };
    routes.read("/v1/organizations/{org}/alerts", says, list);
    alert_stream::routes_of_organizations(routes);
    let says = Says {
        id: "listAlertFeed",
        summary: "Read the alert feed",
        more: "Every alert of every organization and of the platform itself, in the order in which they were raised, each \
               once. A page begins after a `sequence`: whoever keeps the last one that was read misses nothing. Not for \
               tokens that are limited to organizations.",
    };
    routes.read("/v1/alerts", says, list_feed);
    alert_stream::routes(routes);
    alert_subscriptions::routes(routes);
}

request! {
    /// A page of alerts.
    pub(super) struct AlertPage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this alert, the `next_page` of the page before, or after all alerts of an entry, `0-17`.
        after: Option<AfterAlert>,
    }
}

request! {
    /// A page of the alert feed.
    pub(super) struct FeedPage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after the alert of this sequence.
        after: Option<FeedSequence>,
    }
}

answer! {
    /// Something that somebody is told (R7).
    pub(super) struct AlertShown {
        /// Its id: the same wherever it arrives.
        id: AlertId,
        /// What it is about.
        kind: AlertKind,
        /// The entry that caused it.
        position: LogPosition,
        /// When that was recorded.
        raised_at: Timestamp,
        /// What it says; depends on the kind.
        data: Value,
    }
}

answer! {
    /// An alert of the feed.
    pub(super) struct FedAlert {
        /// Its place in the feed, from 1 without gaps.
        sequence: u64,
        /// The alert as a CloudEvent 1.0, as subscribers get it.
        event: Value,
    }
}

impl Text for AlertKind {
    const NAME: &'static str = "AlertKind";

    fn schema() -> ObjectBuilder {
        string("What an alert is about; further kinds may come.")
            .enum_values(Some(Self::ALL.iter().map(|kind| kind.code())))
    }

    fn of(text: &str) -> Result<Self, String> {
        Self::of_code(text).ok_or_else(|| "is no kind of alert".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        self.code().into()
    }
}

/// A place among an organization's alerts: after one of them, or after all of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AfterAlert {
    at: LogPosition,
    alert: Option<(AlertKind, u32)>,
}

impl AfterAlert {
    pub(super) const fn entry(at: LogPosition) -> Self {
        Self { at, alert: None }
    }

    pub(super) const fn alert(alert: &Alert) -> Self {
        Self { at: alert.position, alert: Some((alert.kind(), alert.number)) }
    }

    /// Whether it is in a partition. Errors: `name` says something else.
    pub(super) fn of_partition(self, partition: PartitionId, name: &str) -> Result<Self, Problem> {
        if self.at.partition == partition {
            return Ok(self);
        }
        Err(Problem::parameter(name, &format!("must be in the organization's partition, {partition}")))
    }

    /// Alerts of an organization after this place.
    pub(super) fn read(self, view: &View, of: &OrgId, limit: usize) -> Result<Vec<Alert>, ViewError> {
        let position = self.at.position;
        match self.alert {
            Some((kind, number)) => view.alerts(Some(of), Some((position, kind, number)), limit),
            None => view.alerts_after(Some(of), position, limit),
        }
    }
}

impl Text for AfterAlert {
    const NAME: &'static str = "AlertPlace";

    fn schema() -> ObjectBuilder {
        string("A place among alerts: an alert's entry, kind and number, or an entry alone.")
            .pattern(Some("^(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,19})(-[a-z_]{1,32}-(0|[1-9][0-9]{0,9}))?$"))
            .examples(["0-17-balance_low-0", "0-17"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let refused = || "must be the place of an alert, such as `0-17-balance_low-0`".to_owned();
        if let Ok(at) = text.parse() {
            return Ok(Self { at, alert: None });
        }
        let mut parts = text.rsplitn(3, '-');
        let number = parts.next().and_then(|number| number.parse().ok());
        let kind = parts.next().and_then(AlertKind::of_code);
        let at = parts.next().and_then(|at| at.parse().ok());
        let alert = kind.zip(number);
        at.zip(alert).map(|(at, alert)| Self { at, alert: Some(alert) }).ok_or_else(refused)
    }

    fn text(&self) -> Cow<'_, str> {
        match self.alert {
            Some((kind, number)) => format!("{}-{}-{number}", self.at, kind.code()).into(),
            None => self.at.to_string().into(),
        }
    }
}

/// A place in the feed; 0 is before the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct FeedSequence(pub(super) u64);

impl Text for FeedSequence {
    const NAME: &'static str = "AlertSequence";

    fn schema() -> ObjectBuilder {
        whole(KnownFormat::Int64, 0, i64::MAX.unsigned_abs())
    }

    fn of(text: &str) -> Result<Self, String> {
        let number = text.parse::<u64>().ok().filter(|number| *number <= i64::MAX.unsigned_abs());
        number.map(Self).ok_or_else(|| "must be a sequence of the alert feed".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}

/// Whose alerts somebody may see of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sees {
    All,
    /// Those about these projects.
    Projects(BTreeSet<ProjectId>),
}

impl Sees {
    /// What an actor may see (R3). Errors: nothing.
    pub(super) fn of(known: &Organization, actor: &Actor) -> Result<Self, Rejection> {
        let all = permission::may(known, actor, &Action::SeeOrganizationFigures);
        let Err(refused) = all else { return Ok(Self::All) };
        let may = |project: &&ProjectId| {
            permission::may(known, actor, &Action::SeeProjectFigures((*project).clone())).is_ok()
        };
        let projects: BTreeSet<ProjectId> = known.projects.keys().filter(may).cloned().collect();
        if projects.is_empty() { Err(refused) } else { Ok(Self::Projects(projects)) }
    }

    /// Whether that is among it.
    pub(super) fn includes(&self, alert: &Alert) -> bool {
        match self {
            Self::All => true,
            Self::Projects(seen) => {
                let about = shape::projects(&alert.data);
                !about.is_empty() && about.into_iter().all(|project| seen.contains(project))
            }
        }
    }
}

async fn list(
    Reading { path: org, query, at }: Reading<OrgId, AlertPage>,
) -> Result<Json<List<AlertShown>>, Problem> {
    let actor = at.caller.actor();
    let sees = read_organization(&at.node, &org, move |known| Sees::of(known, &actor));
    let sees = sees.await??;
    let (partition, owner) = (at.node.partition_of(&org), at.node.owner_of(&org)?);
    let first = AfterAlert::entry(LogPosition { partition, position: Position::ZERO });
    let after = query.after.unwrap_or(first).of_partition(partition, "after")?;
    // Rows reach the view a little after they are applied.
    let alerted = *owner.alerted().borrow();
    owner.wait_viewed(alerted).await?;
    let (view, most) = (view_of(&at.node, &org)?, Limit::most(query.limit));
    let mut rows = viewed(move || after.read(&view, &org, most.saturating_add(1))).await?;
    let more = rows.len() > most;
    rows.truncate(most);
    let last = rows.last().filter(|_| more).map(AfterAlert::alert);
    let next_page = last.map(|last| last.text().into_owned());
    let items = rows.iter().filter(|alert| sees.includes(alert)).map(shown).collect();
    Ok(Json(List { items, next_page }))
}

fn shown(alert: &Alert) -> AlertShown {
    AlertShown {
        id: alert.id.clone(),
        kind: alert.kind(),
        position: alert.position,
        raised_at: alert.raised_at,
        data: shape::data(alert),
    }
}

async fn list_feed(
    Reading { query, at, .. }: Reading<(), FeedPage>,
) -> Result<Json<List<FedAlert>>, Problem> {
    at.caller.may_all()?;
    let (after, most) = (query.after.map_or(0, |after| after.0), Limit::most(query.limit));
    let mut rows = fed(&at, after, most.saturating_add(1)).await?;
    let more = rows.len() > most;
    rows.truncate(most);
    let next_page = rows.last().filter(|_| more).map(|last| last.sequence.to_string());
    let items: Result<_, Problem> = rows.into_iter().map(of_feed).collect();
    Ok(Json(List { items: items?, next_page }))
}

/// Alerts of the feed after a sequence.
pub(super) async fn fed(at: &At, after: u64, limit: usize) -> Result<Vec<Raised>, Problem> {
    Ok(at.node.alert_feed().after(after, limit).await?)
}

fn of_feed(raised: Raised) -> Result<FedAlert, Problem> {
    let event = serde_json::from_slice(&raised.event);
    let event = event.map_err(|error| Problem::internal(error.to_string()))?;
    Ok(FedAlert { sequence: raised.sequence, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_alerts_are_read_as_they_are_written() {
        for text in ["0-17-balance_low-0", "3-9-webhook_disabled-12", "0-17", "0-0"] {
            assert_eq!(AfterAlert::of(text).unwrap().text(), text);
        }
        for text in
            ["", "17", "0-17-", "0-17-low-0", "0-17-balance_low", "0-17-balance_low-x", "x-1-balance_low-0"]
        {
            assert!(AfterAlert::of(text).is_err(), "{text}");
        }
    }
}
