//! What became of alerts on their way to people and programs, and sending them again (R7.3).

use std::borrow::Cow;

use tollbook_projections::view::View;
use tollbook_schemas::alert::{Alert, AlertKind};
use tollbook_schemas::id::{AlertId, OrgId, WebhookId};
use tollbook_schemas::position::{LogPosition, Position};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ObjectBuilder;

use super::alerts::AfterAlert;
use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::{choices, string};
use super::problem::Problem;
use super::reading::{Limit, Reading, read_organization, view_of, viewed};
use super::shape::{Text, answer, request};
use super::write::Write;
use crate::alerts::shape;
use crate::delivery::record::{Attempt, Channel, Delivery, DeliveryState, Record};
use crate::delivery::told::Told;
use crate::node::Node;
use crate::permission::Action;

/// Alerts looked through at once.
const LOOK: usize = 500;

/// Of the family that alerts begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "listAlertDeliveries",
        summary: "See what became of an alert's deliveries",
        more: "Every channel with every attempt; of deliveries that were attempted very often, the last 50. They are \
               remembered for 30 days.",
    };
    routes.read(DELIVERIES, says, list);
    let says = Says {
        id: "redeliverAlert",
        summary: "Deliver an alert again",
        more: "One attempt is made at once, with the same id, whatever became of those before; the schedule of a delivery \
               that still waits goes on as it was. It is no decision of the log, so `Idempotency-Key` has no effect: of \
               wishes that wait there is one.",
    };
    routes.write(Verb::Post, DELIVERIES, says, redeliver);
    let says = Says {
        id: "listWebhookDeliveries",
        summary: "List what became of a webhook's deliveries",
        more: "In the order in which alerts were raised. A page may be short, and even empty, before the last one: it \
               looks at as many alerts as it may have items.",
    };
    routes.read("/v1/organizations/{org}/webhooks/{webhook}/deliveries", says, list_of_webhook);
}

const DELIVERIES: &str = "/v1/organizations/{org}/alerts/{alert}/deliveries";

request! {
    /// A delivery to make again.
    pub(super) struct Redelivery {
        /// By which way.
        channel: Channel,
    }
}

request! {
    /// A page of a webhook's deliveries.
    pub(super) struct DeliveryPage {
        /// Most items of the page.
        limit: Option<Limit>,
        /// Begins after this alert.
        after: Option<AfterAlert>,
    }
}

impl Text for Channel {
    const NAME: &'static str = "DeliveryChannel";

    fn schema() -> ObjectBuilder {
        string("By which way: `email`, or a webhook's id.")
            .pattern(Some(format!("^(email|{}[A-Za-z0-9_-]{{1,61}})$", WebhookId::PREFIX)))
            .examples(["email"])
    }

    fn of(text: &str) -> Result<Self, String> {
        text.parse()
    }

    fn text(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

/// How a delivery stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum DeliveryStatus {
    Pending,
    Delivered,
    Failed,
    Cancelled,
    NotConfigured,
}

choices! {
    DeliveryStatus = "DeliveryStatus", "How a delivery stands: `pending` is attempted (again) when it is due; `failed` is \
        not attempted any more; of `cancelled` there is nobody to tell; `not_configured` would be an e-mail, and the server \
        knows no way to send any." {
        Pending = "pending",
        Delivered = "delivered",
        Failed = "failed",
        Cancelled = "cancelled",
        NotConfigured = "not_configured",
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum AttemptOutcome {
    Delivered,
    Failed,
    Unknown,
}

choices! {
    AttemptOutcome = "AttemptOutcome", "How an attempt ended: `unknown` is under way, or its process died; then it is \
        made again." {
        Delivered = "delivered",
        Failed = "failed",
        Unknown = "unknown",
    }
}

answer! {
    /// Telling somebody of an alert by one way.
    pub(super) struct AlertDelivery {
        /// The alert.
        alert: AlertId,
        /// What it is about.
        kind: AlertKind,
        /// When its cause was recorded.
        raised_at: Timestamp,
        /// By which way.
        channel: Channel,
        /// How it stands.
        status: DeliveryStatus,
        /// When it is attempted next; null: not by itself.
        next_attempt_at: Option<Timestamp>,
        /// Why there is nobody to tell; null where there is.
        reason: Option<String>,
        /// Its attempts, in order.
        attempts: Vec<DeliveryAttempt>,
    }
}

answer! {
    /// An attempt to deliver an alert.
    pub(super) struct DeliveryAttempt {
        /// When it began.
        at: Timestamp,
        /// How it ended.
        outcome: AttemptOutcome,
        /// Whether somebody asked for it.
        by_hand: bool,
        /// What the receiver answered, if it did: an HTTP status, or a reply of SMTP.
        status: Option<u16>,
        /// Why it failed, for people.
        error: Option<String>,
        /// How long it took, in milliseconds.
        took_ms: Option<u64>,
    }
}

async fn list(
    Reading { path: (org, alert), at, .. }: Reading<(OrgId, AlertId)>,
) -> Result<Json<List<AlertDelivery>>, Problem> {
    at.organization(&org, Action::ManageOrganization, |_| ()).await?;
    let record = known(&at.node, &org, &alert).await?;
    let items = record.deliveries.iter().map(|(channel, delivery)| shown(&record.told, channel, delivery));
    Ok(Json(List { items: items.collect(), next_page: None }))
}

async fn redeliver(
    Write { path: (org, alert), body, author }: Write<(OrgId, AlertId), Redelivery>,
) -> Result<Json<AlertDelivery>, Problem> {
    author.may(&org, Action::ManageOrganization).await?;
    let channel = body.channel;
    if let Channel::Webhook(id) = &channel {
        let wanted = id.clone();
        let read = read_organization(&author.node, &org, move |known| known.webhooks.contains_key(&wanted));
        if !read.await? {
            return Err(Rejection::WebhookUnknown(id.clone()).into());
        }
    }
    author.may_decide(&org)?;
    let Record { told, .. } = known(&author.node, &org, &alert).await?;
    let partition = author.node.partition_of(&org);
    let record = author.node.deliveries().redeliver(partition, told, channel.clone()).await?;
    let delivery = record.deliveries.get(&channel).map(|delivery| shown(&record.told, &channel, delivery));
    delivery.map(Json).ok_or_else(|| Problem::internal("the delivery was not recorded"))
}

async fn list_of_webhook(
    Reading { path: (org, id), query, at }: Reading<(OrgId, WebhookId), DeliveryPage>,
) -> Result<Json<List<AlertDelivery>>, Problem> {
    let wanted = id.clone();
    let read = at.organization(&org, Action::ManageOrganization, move |known| {
        known.webhooks.get(&wanted).map(|webhook| webhook.created_at)
    });
    let created_at = read.await?.ok_or_else(|| Rejection::WebhookUnknown(id.clone()))?;
    let partition = at.node.partition_of(&org);
    let first = AfterAlert::entry(LogPosition { partition, position: Position::ZERO });
    let after = query.after.unwrap_or(first).of_partition(partition, "after")?;
    let (view, of, most) = (view_of(&at.node, &org)?, org.clone(), Limit::most(query.limit));
    let mut alerts = viewed(move || after.read(&view, &of, most.saturating_add(1))).await?;
    let more = alerts.len() > most;
    alerts.truncate(most);
    let last = alerts.last().filter(|_| more).map(AfterAlert::alert);
    let channel = Channel::Webhook(id);
    let mut items = Vec::new();
    for alert in alerts.iter().filter(|alert| alert.raised_at >= created_at) {
        let record = at.node.deliveries().of(&alert.id).await?;
        let found = record.as_ref().and_then(|record| Some((record, record.deliveries.get(&channel)?)));
        items.extend(found.map(|(record, delivery)| shown(&record.told, &channel, delivery)));
    }
    Ok(Json(List { items, next_page: last.map(|last| last.text().into_owned()) }))
}

/// What is known of an alert's deliveries; none, of one that nobody was told of, or that is older than they are kept.
async fn known(node: &Node, org: &OrgId, id: &AlertId) -> Result<Record, Problem> {
    let unknown = || Problem::not_found("there is no such alert");
    if let Some(record) = node.deliveries().of(id).await? {
        return Some(record).filter(|record| record.told.organization.as_ref() == Some(org)).ok_or_else(unknown);
    }
    let (view, org, id) = (view_of(node, org)?, org.clone(), id.clone());
    let found = viewed(move || find(&view, &org, &id)).await?.ok_or_else(unknown)?;
    let told = Told {
        id: found.id.clone(),
        organization: found.organization.clone(),
        kind: found.kind(),
        position: found.position,
        number: found.number,
        raised_at: found.raised_at,
        data: shape::data(&found),
    };
    Ok(Record { told, deliveries: std::collections::BTreeMap::new() })
}

/// Looks through an organization's alerts.
fn find(
    view: &View,
    org: &OrgId,
    id: &AlertId,
) -> Result<Option<Alert>, tollbook_projections::view::ViewError> {
    let mut after = None;
    loop {
        let page = view.alerts(Some(org), after, LOOK)?;
        let Some(last) = page.last() else { return Ok(None) };
        after = Some((last.position.position, last.kind(), last.number));
        if let Some(found) = page.into_iter().find(|alert| alert.id == *id) {
            return Ok(Some(found));
        }
    }
}

fn shown(told: &Told, channel: &Channel, delivery: &Delivery) -> AlertDelivery {
    let (status, reason) = match &delivery.state {
        DeliveryState::Pending { .. } => (DeliveryStatus::Pending, None),
        DeliveryState::Delivered => (DeliveryStatus::Delivered, None),
        DeliveryState::Failed => (DeliveryStatus::Failed, None),
        DeliveryState::Cancelled { reason } => (DeliveryStatus::Cancelled, Some(reason.clone())),
        DeliveryState::NotConfigured => (DeliveryStatus::NotConfigured, None),
    };
    AlertDelivery {
        alert: told.id.clone(),
        kind: told.kind,
        raised_at: told.raised_at,
        channel: channel.clone(),
        status,
        next_attempt_at: delivery.due(),
        reason,
        attempts: delivery.attempts.iter().map(attempt).collect(),
    }
}

fn attempt(attempt: &Attempt) -> DeliveryAttempt {
    let result = attempt.result.as_ref();
    DeliveryAttempt {
        at: attempt.at,
        outcome: match result {
            Some(result) if result.delivered => AttemptOutcome::Delivered,
            Some(_) => AttemptOutcome::Failed,
            None => AttemptOutcome::Unknown,
        },
        by_hand: attempt.by_hand,
        status: result.and_then(|result| result.status),
        error: result.and_then(|result| result.error.clone()),
        took_ms: result.map(|result| result.took_ms),
    }
}
