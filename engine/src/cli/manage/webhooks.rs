//! Webhooks, and what became of alerts on their way (R7.3).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::call::{each, secret_once};
use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs};

const COLUMNS: &[&str] = &["id", "url", "state", "disabled_reason", "created_at"];
const WITH_SECRET: &[&str] = &["id", "url", "state", "old_until", "secret"];
const DELIVERIES: &[&str] = &[
    "alert",
    "kind",
    "raised_at",
    "channel",
    "status",
    "next_attempt_at",
    "reason",
    "attempts",
    "last_error",
];

/// Webhooks of an organization.
#[derive(Debug, Subcommand)]
pub(in super::super) enum WebhookCommand {
    /// Add one; its secret is shown once
    Create {
        #[command(flatten)]
        organization: OrgArg,
        /// Where alerts are sent, https://…
        url: String,
    },
    /// List them
    List {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one
    Show(WebhookArg),
    /// Remove one
    Remove(WebhookArg),
    /// Replace its secret; the new one is shown once, and the old one signs for a day
    RotateSecret(WebhookArg),
    /// Switch one off
    Disable {
        #[command(flatten)]
        webhook: WebhookArg,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Switch one on again
    Enable(WebhookArg),
    /// List what was sent to one, and what became of it
    Deliveries {
        #[command(flatten)]
        webhook: WebhookArg,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// A webhook.
#[derive(Args, Debug)]
pub(in super::super) struct WebhookArg {
    #[command(flatten)]
    organization: OrgArg,
    /// The webhook's id, wh_…
    #[arg(value_name = "WEBHOOK")]
    webhook: Id,
}

impl WebhookArg {
    fn path(&self, rest: &str) -> String {
        self.organization.path(&format!("/webhooks/{}{rest}", self.webhook))
    }
}

/// Deliveries of an alert.
#[derive(Debug, Subcommand)]
pub(in super::super) enum DeliveryCommand {
    /// List by which ways an alert was delivered, and what became of that
    List(AlertArg),
    /// Deliver an alert again, at once
    Again {
        #[command(flatten)]
        alert: AlertArg,
        /// By which way: `email`, or a webhook's id
        channel: String,
    },
}

/// An alert of an organization.
#[derive(Args, Debug)]
pub(in super::super) struct AlertArg {
    #[command(flatten)]
    organization: OrgArg,
    /// The alert's id, alert_…
    #[arg(value_name = "ALERT")]
    alert: Id,
}

impl AlertArg {
    fn path(&self) -> String {
        self.organization.path(&format!("/alerts/{}/deliveries", self.alert))
    }
}

impl Calls for WebhookCommand {
    fn call(self) -> Result<Call, ManageError> {
        let post = |path, body, columns| Call::write(Method::POST, path, body, columns);
        Ok(match self {
            Self::Create { organization, url } => {
                post(organization.path("/webhooks"), json!({ "url": url }), WITH_SECRET).note(secret_once)
            }
            Self::List { organization, page } => {
                Call::get(organization.path("/webhooks"), COLUMNS).page(page)
            }
            Self::Show(webhook) => Call::get(webhook.path(""), COLUMNS),
            Self::Remove(webhook) => Call::delete(webhook.path(""), &["id", "position"]),
            Self::RotateSecret(webhook) => {
                post(webhook.path("/rotate-secret"), json!({}), WITH_SECRET).note(secret_once)
            }
            Self::Disable { webhook, reason } => {
                let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
                post(webhook.path("/disable"), body, COLUMNS)
            }
            Self::Enable(webhook) => post(webhook.path("/enable"), json!({}), COLUMNS),
            Self::Deliveries { webhook, page } => Call::get(webhook.path("/deliveries"), DELIVERIES)
                .page(page)
                .rows(|answer| each(answer, summed_up)),
        })
    }
}

impl Calls for DeliveryCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::List(alert) => Call::get(alert.path(), DELIVERIES).rows(|answer| each(answer, summed_up)),
            Self::Again { alert, channel } => {
                Call::write(Method::POST, alert.path(), json!({ "channel": channel }), DELIVERIES)
                    .rows(|answer| each(answer, summed_up))
            }
        })
    }
}

/// How many attempts there were, and why the last one failed.
fn summed_up(delivery: &mut Value) {
    let attempts = delivery.get("attempts").and_then(Value::as_array).cloned().unwrap_or_default();
    let error = attempts.last().and_then(|last| last.get("error")).cloned().unwrap_or_default();
    if let Some(delivery) = delivery.as_object_mut() {
        delivery.insert("attempts".to_owned(), attempts.len().into());
        delivery.insert("last_error".to_owned(), error);
    }
}
