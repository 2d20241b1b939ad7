//! Alerts: listed, followed, and subscriptions to their stream.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::ClientArgs;
use super::super::follow::{self, Event};
use super::super::table::text;
use super::call::each;
use super::{AuthorArgs, Call, Calls, Id, ManageError, PageArgs};

/// Alerts, of an organization or all of them.
#[derive(Args, Debug)]
pub(in super::super) struct AlertsArgs {
    #[command(subcommand)]
    command: AlertsCommand,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

#[derive(Debug, Subcommand)]
enum AlertsCommand {
    /// List them, oldest first
    List(AlertsListArgs),
    /// Show them as they come, until interrupted; what a broken connection missed is shown then
    Follow {
        /// The organization, org_…; else all alerts of the ledger
        #[arg(value_name = "ORG")]
        organization: Option<Id>,
        /// Begin after this place or, of all, this sequence, as a list has them; `0-0` and `0` show everything from the first
        #[arg(long)]
        after: Option<String>,
    },
}

/// A list of alerts.
#[derive(Args, Debug)]
pub(in super::super) struct AlertsListArgs {
    /// The organization, org_…; else all alerts of the ledger
    #[arg(value_name = "ORG")]
    organization: Option<Id>,
    #[command(flatten)]
    page: PageArgs,
}

impl AlertsArgs {
    pub(in super::super) async fn run(self) -> Result<(), ManageError> {
        let caller = self.client.caller()?;
        match self.command {
            AlertsCommand::List(list) => list.call()?.perform(&caller, &self.author).await,
            AlertsCommand::Follow { organization, after } => {
                let path = format!("{}/stream", path(organization.as_ref()));
                let request = |last: Option<&str>| {
                    let mut request = caller.request(Method::GET, &path).query(&[("after", &after)]);
                    if let Some(actor) = self.author.actor() {
                        request = request.header("Tollbook-Actor", actor.to_string());
                    }
                    match last {
                        Some(last) => request.header("Last-Event-ID", last),
                        None => request,
                    }
                };
                let json = caller.wants_json();
                follow::follow(&caller, request, |event| line(event, json)).await
            }
        }
    }
}

fn path(organization: Option<&Id>) -> String {
    organization.map_or_else(
        || "/v1/alerts".to_owned(),
        |organization| format!("/v1/organizations/{organization}/alerts"),
    )
}

impl Calls for AlertsListArgs {
    fn call(self) -> Result<Call, ManageError> {
        let path = path(self.organization.as_ref());
        Ok(match self.organization {
            Some(_) => {
                let columns = &["raised_at", "kind", "position", "data", "id"];
                Call::get(path, columns).rows(|answer| each(answer, told)).page(self.page)
            }
            None => {
                let columns = &["sequence", "event.time", "kind", "event.subject", "data", "event.id"];
                Call::get(path, columns).rows(|answer| each(answer, told_of_event)).page(self.page)
            }
        })
    }
}

/// What an alert says as words, not as JSON.
fn told(alert: &mut Value) {
    let said = alert.get("data").map(said).unwrap_or_default();
    if let Some(members) = alert.as_object_mut() {
        members.insert("data".to_owned(), said.into());
    }
}

fn told_of_event(fed: &mut Value) {
    let event = fed.get("event");
    let said = event.and_then(|event| event.get("data")).map(said).unwrap_or_default();
    let kind = event.map(kind).unwrap_or_default();
    if let Some(members) = fed.as_object_mut() {
        members.insert("data".to_owned(), said.into());
        members.insert("kind".to_owned(), kind.into());
    }
}

fn kind(event: &Value) -> String {
    let kind = event.get("type").map(text).unwrap_or_default();
    kind.trim_start_matches("tollbook.alert.").trim_end_matches(".v1").to_owned()
}

fn said(data: &Value) -> String {
    let members = data.as_object().into_iter().flatten();
    members.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
}

/// One event as a line: as JSON it is the alert itself.
fn line(event: &Event, json: bool) -> String {
    if json {
        return event.data.clone();
    }
    let parsed: Value = serde_json::from_str(&event.data).unwrap_or(Value::Null);
    let part = |name: &str| parsed.get(name).map(text).unwrap_or_default();
    let said = parsed.get("data").map(said).unwrap_or_default();
    format!("{} {} {} {said}", part("time"), part("subject"), kind(&parsed))
}

/// Subscriptions to the alert stream on JetStream.
#[derive(Debug, Subcommand)]
pub(in super::super) enum AlertSubscriptionCommand {
    /// Make one: a durable consumer of this name on the stream TOLLBOOK_ALERTS
    Create {
        /// Its name
        name: Id,
        /// Only alerts of these organizations
        #[arg(long = "organization", value_delimiter = ',')]
        organizations: Vec<String>,
    },
    /// List them
    List(PageArgs),
    /// Show one
    Show {
        /// Its name
        name: Id,
    },
    /// Remove one, and what was not delivered to it
    Remove {
        /// Its name
        name: Id,
    },
}

impl Calls for AlertSubscriptionCommand {
    fn call(self) -> Result<Call, ManageError> {
        let (path, columns) =
            ("/v1/alert-subscriptions".to_owned(), &["name", "organizations", "created_at"]);
        Ok(match self {
            Self::Create { name, organizations } => {
                let limited = (!organizations.is_empty()).then_some(organizations);
                let body = json!({ "name": name.to_string(), "organizations": limited });
                Call::write(Method::POST, path, body, columns)
            }
            Self::List(page) => Call::get(path, columns).page(page),
            Self::Show { name } => Call::get(format!("{path}/{name}"), columns),
            Self::Remove { name } => Call::delete(format!("{path}/{name}"), &["name", "state"]),
        })
    }
}
