//! Alerts as server-sent events: an organization's, and the whole feed; resumable by `Last-Event-ID`.
//!
//! ```text
//! Last-Event-ID, `after`, or now ─> read what is there ─> send ─> wait for more ─┐
//!                                    └──────────── still allowed to see it? <────┘
//! ```

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::position::LogPosition;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::{ContentBuilder, ResponseBuilder};

use super::Api;
use super::alerts::{AfterAlert, FeedSequence, Sees, fed};
use super::document::{Routes, Says, Verb, refused, service_token};
use super::fields::header as header_of;
use super::kinds::string;
use super::path::Ids;
use super::problem::Problem;
use super::reading::{At, Reading, read_organization, view_of, viewed};
use super::shape::{Described, Parts, Record, Text, request};
use crate::alerts::shape;
use crate::owner::told;

/// Streams open at once: each is read for on every alert of its partition.
const STREAMS_MAX: usize = 256;

/// Alerts read at once for a stream.
const READ_MAX: usize = 256;

/// How often a quiet stream says that it is still there, so that no proxy takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often a quiet stream looks whether its reader still may see it.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Names the last event that a reader has.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// What all streams share: how many there may be, and when they end.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    room: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Streams {
    /// Streams that end when told to.
    pub(crate) fn new(stop: watch::Receiver<bool>) -> Self {
        Self { room: Arc::new(Semaphore::new(STREAMS_MAX)), stop }
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let room = self.room.clone().try_acquire_owned();
        room.map_err(|_| {
            Problem::unavailable("busy", "this node serves as many streams as it can; try another")
        })
    }
}

/// Of an organization's alerts.
pub(super) fn routes_of_organizations(routes: &mut Routes) {
    let says = Says {
        id: "streamAlerts",
        summary: "Follow an organization's alerts",
        more: "Server-sent events, one for each alert that the list shows as well: `event` is the kind, `data` the alert as \
               a CloudEvent 1.0, `id` its place. Begins with what is raised from now on, or after the place that \
               `Last-Event-ID` or `after` names: a reader that reconnects misses nothing and gets nothing twice. Ends when the \
               server stops, and when the reader may not see it any more.",
    };
    let describe = |_: OperationBuilder, parts: &mut Parts| describe::<OrgId, StreamStart>(says, parts);
    routes.other(Verb::Get, "/v1/organizations/{org}/alerts/stream", describe, get(of_organization));
}

/// Of the whole feed.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "streamAlertFeed",
        summary: "Follow the alert feed",
        more: "Server-sent events, one for each alert of the feed: `event` is the kind, `data` the alert as a CloudEvent 1.0, \
               `id` its sequence. Begins with what is raised from now on, or after the sequence that `Last-Event-ID` or \
               `after` names. Not for tokens that are limited to organizations.",
    };
    let describe = |_: OperationBuilder, parts: &mut Parts| describe::<(), FeedStreamStart>(says, parts);
    routes.other(Verb::Get, "/v1/alerts/stream", describe, get(of_feed));
}

request! {
    /// Where a stream of alerts begins.
    pub(super) struct StreamStart {
        /// Begins after this alert, or after all alerts of an entry; `Last-Event-ID` goes before it.
        after: Option<AfterAlert>,
    }
}

request! {
    /// Where a stream of the feed begins.
    pub(super) struct FeedStreamStart {
        /// Begins after the alert of this sequence; `Last-Event-ID` goes before it.
        after: Option<FeedSequence>,
    }
}

fn describe<P: Ids, Q: Record>(says: Says, parts: &mut Parts) -> OperationBuilder {
    let events: Described = string("Events as the HTML standard has them.").into();
    let events = ContentBuilder::new().schema(Some(events)).build();
    let answer = ResponseBuilder::new().description("Events, until either side ends it.");
    let mut names = ["org"].into_iter();
    let mut operation = says.begin().security(service_token());
    operation = operation.parameters(Some(P::parameters(&mut names, parts)));
    for member in Q::members(parts) {
        operation = operation.parameter(member.parameter());
    }
    let last = ParameterBuilder::new()
        .name(LAST_EVENT_ID)
        .parameter_in(ParameterIn::Header)
        .description(Some("The `id` of the last event that was received."))
        .schema(Some(Described::from(string(""))));
    operation = operation.parameter(last);
    operation = operation.response("200", answer.content("text/event-stream", events));
    refused(operation, &[400, 401, 403, 404, 500, 503])
}

/// Where a stream begins: what the header says, or else the query.
fn start<T: Text>(headers: &HeaderMap, query: Option<T>) -> Result<Option<T>, Problem> {
    let Some(value) = header_of(headers, LAST_EVENT_ID)? else { return Ok(query) };
    // What a browser sends that has received nothing yet.
    if value.is_empty() {
        return Ok(query);
    }
    let text = value.to_str().map_err(|_| "must be an event's id".to_owned());
    let read = text.and_then(T::of);
    read.map(Some).map_err(|reason| Problem::malformed(format!("{LAST_EVENT_ID} {reason}")))
}

async fn of_organization(
    State(api): State<Api>,
    headers: HeaderMap,
    Reading { path: org, query, at }: Reading<OrgId, StreamStart>,
) -> Result<Response, Problem> {
    let (partition, owner) = (at.node.partition_of(&org), at.node.owner_of(&org)?);
    let now = AfterAlert::entry(LogPosition { partition, position: owner.applied() });
    let after = start(&headers, query.after)?.unwrap_or(now).of_partition(partition, LAST_EVENT_ID)?;
    sees(&at, &org).await?;
    let reader = OfOrganization { org, at, after, found: VecDeque::new() };
    Ok(sent(&api.streams, reader)?)
}

async fn of_feed(
    State(api): State<Api>,
    headers: HeaderMap,
    Reading { query, at, .. }: Reading<(), FeedStreamStart>,
) -> Result<Response, Problem> {
    at.caller.may_all()?;
    let after = match start(&headers, query.after)? {
        Some(after) => after.0,
        None => at.node.alert_feed().last().await?,
    };
    Ok(sent(&api.streams, OfFeed { at, after, found: VecDeque::new() })?)
}

/// Something that gives events one after another. Errors and `None`: there will be no more.
trait Events: Send + 'static {
    fn next(&mut self) -> impl Future<Output = Result<Option<Event>, Problem>> + Send;
}

/// The answer: events as they come, until the server stops.
fn sent(streams: &Streams, reader: impl Events) -> Result<Response, Problem> {
    let room = streams.enter()?;
    let mut stop = streams.stop.clone();
    let events = events(reader, room).take_until(async move { told(&mut stop).await });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // nginx would keep events until it has some kilobytes of them.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn events<R: Events>(
    reader: R,
    room: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold((reader, room), |(mut reader, room)| async move {
        match reader.next().await {
            Ok(Some(event)) => Some((Ok(event), (reader, room))),
            Ok(None) => None,
            Err(problem) => {
                // The reader connects again and is told then.
                tracing::debug!(detail = problem.detail(), "a stream of alerts ends");
                None
            }
        }
    })
}

/// What somebody may see of an organization's alerts now.
async fn sees(at: &At, org: &OrgId) -> Result<Sees, Problem> {
    let actor = at.caller.actor();
    Ok(read_organization(&at.node, org, move |known| Sees::of(known, &actor)).await??)
}

struct OfOrganization {
    org: OrgId,
    at: At,
    after: AfterAlert,
    found: VecDeque<Event>,
}

impl Events for OfOrganization {
    async fn next(&mut self) -> Result<Option<Event>, Problem> {
        let owner = self.at.node.owner_of(&self.org)?.clone();
        let mut alerted = owner.alerted();
        loop {
            if let Some(event) = self.found.pop_front() {
                return Ok(Some(event));
            }
            if !self.at.caller.works(&self.at.node) {
                return Ok(None);
            }
            let sees = sees(&self.at, &self.org).await?;
            // What is raised from here on wakes us.
            let last = *alerted.borrow_and_update();
            owner.wait_viewed(last).await?;
            if self.read(&sees).await? {
                continue;
            }
            let more = tokio::time::timeout(CHECK_INTERVAL, alerted.changed());
            if let Ok(Err(_)) = more.await {
                return Ok(None);
            }
        }
    }
}

impl OfOrganization {
    /// Whether there was more to read.
    async fn read(&mut self, sees: &Sees) -> Result<bool, Problem> {
        let (view, org, after) = (view_of(&self.at.node, &self.org)?, self.org.clone(), self.after);
        let rows = viewed(move || after.read(&view, &org, READ_MAX)).await?;
        let Some(last) = rows.last() else { return Ok(false) };
        self.after = AfterAlert::alert(last);
        let ledger = &self.at.node.ledger().id;
        for alert in rows.iter().filter(|alert| sees.includes(alert)) {
            let event = Event::default().id(AfterAlert::alert(alert).text()).event(alert.kind().code());
            self.found.push_back(event.data(shape::cloudevent(ledger, alert).to_string()));
        }
        Ok(true)
    }
}

struct OfFeed {
    at: At,
    after: u64,
    found: VecDeque<Event>,
}

impl Events for OfFeed {
    async fn next(&mut self) -> Result<Option<Event>, Problem> {
        loop {
            if let Some(event) = self.found.pop_front() {
                return Ok(Some(event));
            }
            if !self.at.caller.works(&self.at.node) {
                return Ok(None);
            }
            let raised = fed(&self.at, self.after, READ_MAX).await?;
            let Some(last) = raised.last() else {
                let feed = self.at.node.alert_feed();
                if let Ok(ended) = tokio::time::timeout(CHECK_INTERVAL, feed.wait(self.after)).await {
                    ended?;
                }
                continue;
            };
            self.after = last.sequence;
            for raised in raised {
                let text = String::from_utf8_lossy(&raised.event);
                let event = Event::default().id(raised.sequence.to_string()).event(raised.kind.code());
                self.found.push_back(event.data(text));
            }
        }
    }
}
