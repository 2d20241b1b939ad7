//! Subscriptions to the alert stream: durable consumers that the engine makes (R7.3).

use std::borrow::Cow;
use std::time::Duration;

use serde_json::Value;
use tollbook_projections::config::Subscription;
use tollbook_schemas::command::ConfigCommand;
use tollbook_schemas::id::{DisplayName, OrgId};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder};

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::{choices, string};
use super::path::PathId;
use super::problem::{Fault, Problem};
use super::reading::{Page, Reading};
use super::shape::{Described, FromJson, IfAny, Parts, Shape, Text, answer, request};
use super::write::{Changed, Created, Write};
use crate::alerts::subscribers::Subscriptions;
use crate::node::Node;

/// How long an answer waits for the consumer that is made or removed.
const CONSUMER_WAIT: Duration = Duration::from_secs(5);

/// Longest name.
const NAME_MAX: usize = 64;

/// Of the family that alerts begin.
pub(super) fn routes(routes: &mut Routes) {
    let says = Says {
        id: "createAlertSubscription",
        summary: "Subscribe to the alert stream",
        more: "Makes a durable pull consumer of this name on the JetStream stream `TOLLBOOK_ALERTS`, with explicit \
               acknowledgements. It delivers what is raised from now on, at least once each; repetitions are recognized by the \
               alert's id. With the log embedded there is no such stream: 422 `no_alert_stream`; read the feed over HTTP. The \
               same again changes nothing; a name that is taken by another one is 409.",
    };
    routes.write(Verb::Post, "/v1/alert-subscriptions", says, create);
    let says =
        Says { id: "listAlertSubscriptions", summary: "List subscriptions to the alert stream", more: "" };
    routes.read("/v1/alert-subscriptions", says, list);
    let says =
        Says { id: "getAlertSubscription", summary: "See a subscription to the alert stream", more: "" };
    routes.read("/v1/alert-subscriptions/{name}", says, show);
    let says = Says {
        id: "removeAlertSubscription",
        summary: "Remove a subscription to the alert stream",
        more: "Its consumer goes with it, and with that what was not delivered.",
    };
    routes.write(Verb::Delete, "/v1/alert-subscriptions/{name}", says, remove);
}

request! {
    /// A subscription to make.
    pub(super) struct NewAlertSubscription {
        /// Its name, and its consumer's.
        name: SubscriptionName,
        /// The organizations whose alerts it gets; all, and the platform's own, unless said otherwise.
        organizations: Option<SomeOrganizations>,
    }
}

answer! {
    /// A subscription to the alert stream.
    pub(super) struct AlertSubscription {
        /// Its name, and its consumer's.
        name: SubscriptionName,
        /// The organizations whose alerts it gets; null: all, and the platform's own alerts.
        organizations: Option<Vec<OrgId>>,
        /// When it was made.
        created_at: IfAny<Timestamp>,
    }
}

answer! {
    /// A subscription that is no more.
    pub(super) struct RemovedAlertSubscription {
        /// Its name.
        name: SubscriptionName,
        /// What became of it.
        state: SubscriptionState,
    }
}

/// What became of a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) enum SubscriptionState {
    Removed,
}

choices! {
    SubscriptionState = "AlertSubscriptionState", "What became of a subscription." {
        Removed = "removed",
    }
}

/// A name that can be a consumer's and stand in subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SubscriptionName(DisplayName);

impl Text for SubscriptionName {
    const NAME: &'static str = "AlertSubscriptionName";

    fn schema() -> ObjectBuilder {
        string("A name that can stand in subjects.").pattern(Some(format!("^[A-Za-z0-9_-]{{1,{NAME_MAX}}}$")))
    }

    fn of(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(plain) {
            return Err(format!("must be 1 to {NAME_MAX} ASCII letters, digits, `_` and `-`"));
        }
        DisplayName::parse(text).map(Self).map_err(|error| error.to_string())
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

impl PathId for SubscriptionName {
    const WHAT: &'static str = "alert subscription";
}

/// At least one organization.
#[derive(Debug)]
pub(super) struct SomeOrganizations(Vec<OrgId>);

impl Shape for SomeOrganizations {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(OrgId::describe(parts)).min_items(Some(1)).into()
    }
}

impl FromJson for SomeOrganizations {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let mut organizations = Vec::<OrgId>::read(path, value, faults)?;
        if organizations.is_empty() {
            faults.push(Fault::at(path, None, "must not be empty"));
        }
        organizations.sort_unstable();
        organizations.dedup();
        Some(Self(organizations))
    }
}

async fn create(
    Write { body, author, .. }: Write<(), NewAlertSubscription>,
) -> Result<Created<AlertSubscription>, Problem> {
    let NewAlertSubscription { name: SubscriptionName(name), organizations } = body;
    let organizations = organizations.map(|organizations| organizations.0);
    if author.node.alert_subscriptions().is_none() {
        return Err(Problem::no_alert_stream());
    }
    let command =
        ConfigCommand::CreateSubscription { name: name.clone(), organizations: organizations.clone() };
    let done = author.configure(command).await?;
    let known = subscriptions(&author.node).await?.get(&name).cloned();
    if let Some(known) = &known {
        wait_for(&author.node, |made| made.get(&name) == Some(known)).await;
    }
    let created_at = IfAny(known.map(|known| known.created_at));
    Ok(Created::new(done, AlertSubscription { name: SubscriptionName(name), organizations, created_at }))
}

async fn list(
    Reading { query: page, at, .. }: Reading<(), Page>,
) -> Result<Json<List<AlertSubscription>>, Problem> {
    at.caller.may_all()?;
    let all = subscriptions(&at.node).await?;
    Ok(Json(page.cut(all, |(name, _)| name.as_str()).map(|(name, known)| shown(name, known))))
}

async fn show(
    Reading { path: SubscriptionName(name), at, .. }: Reading<SubscriptionName>,
) -> Result<Json<AlertSubscription>, Problem> {
    at.caller.may_all()?;
    let known = subscriptions(&at.node).await?.remove(&name);
    let known = known.ok_or_else(|| Rejection::SubscriptionUnknown(name.clone()))?;
    Ok(Json(shown(name, known)))
}

async fn remove(
    Write { path: SubscriptionName(name), author, .. }: Write<SubscriptionName, ()>,
) -> Result<Changed<RemovedAlertSubscription>, Problem> {
    let done = author.configure(ConfigCommand::RemoveSubscription(name.clone())).await?;
    if !subscriptions(&author.node).await?.contains_key(&name) {
        wait_for(&author.node, |made| !made.contains_key(&name)).await;
    }
    let (name, state) = (SubscriptionName(name), SubscriptionState::Removed);
    Ok(Changed::new(done, RemovedAlertSubscription { name, state }))
}

async fn subscriptions(node: &Node) -> Result<Subscriptions, Problem> {
    Ok(node.owner(PartitionId(0))?.read(|state| state.config().subscriptions.clone()).await?)
}

fn shown(name: DisplayName, Subscription { organizations, created_at }: Subscription) -> AlertSubscription {
    AlertSubscription { name: SubscriptionName(name), organizations, created_at: IfAny(Some(created_at)) }
}

/// Waits for consumers to be as they should, for a bounded time: what is recorded will be done.
async fn wait_for(node: &Node, ready: impl Fn(&Subscriptions) -> bool) {
    let Some(mut made) = node.alert_subscriptions() else { return };
    let made = async move { made.wait_for(ready).await.is_ok() };
    if tokio::time::timeout(CONSUMER_WAIT, made).await.is_err() {
        tracing::warn!("a subscription is recorded, and its consumer is not as it should be yet");
    }
}
