//! One attempt, off the worker's task: finds out who is to be told now, and tells them.

use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;
use tollbook_schemas::command::{Command, OrganizationCommand};
use tollbook_schemas::id::{AlertId, OrgId, Reason, WebhookId};
use tollbook_schemas::position::Position;
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::{Timestamp, Zone};

use super::Tools;
use crate::clock::Stopwatch;
use crate::delivery::message::{About, compose};
use crate::delivery::outcome::{Outcome, Verdict};
use crate::delivery::record::{Channel, kept_error};
use crate::delivery::told::Told;
use crate::owner::CommandError;

/// How often the owner is asked before an attempt gives up for now.
const READS: usize = 20;
/// Until it is asked again that was busy.
const READ_PAUSE: Duration = Duration::from_millis(100);
/// Alerts looked through at once for a success.
const LOOK: usize = 256;

const ERASED: &str = "the organization's personal data was erased";

/// An attempt that begins.
#[derive(Debug)]
pub(super) struct Attempting {
    pub(super) told: Told,
    pub(super) channel: Channel,
    pub(super) at: Timestamp,
    pub(super) by_hand: bool,
    /// Whether the schedule has no further one.
    pub(super) last: bool,
    /// When the first attempt of the delivery began.
    pub(super) began: Timestamp,
}

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: AlertId,
    pub(super) channel: Channel,
    pub(super) at: Timestamp,
    pub(super) by_hand: bool,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// Who an organization is, as far as a message needs it.
struct Recipient {
    name: String,
    email: Sealed,
    zone: Zone,
}

/// A webhook as it is now.
struct Target {
    url: Sealed,
    /// Those that sign, the newest first.
    secrets: Vec<Sealed>,
    disabled: bool,
}

impl Attempting {
    /// Makes the attempt.
    pub(super) async fn run(self, tools: Arc<Tools>) -> Finished {
        let watch = Stopwatch::start();
        let outcome = match &self.channel {
            Channel::Email => self.mail(&tools).await,
            Channel::Webhook(webhook) => self.call(&tools, webhook).await,
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome::failed(None, error));
        let took = watch.elapsed();
        if let Channel::Webhook(webhook) = &self.channel {
            self.give_up(&tools, webhook, &outcome).await;
        }
        let Self { told, channel, at, by_hand, .. } = self;
        Finished { id: told.id, channel, at, by_hand, outcome, took }
    }

    async fn mail(&self, tools: &Tools) -> Result<Outcome, String> {
        let Some(mailer) = &tools.mailer else {
            return Ok(Outcome::cancelled("the server is not configured to send mail"));
        };
        let mut about = About {
            organization: None,
            currency: tools.currency.clone(),
            zone: Zone::utc(),
            console_url: tools.settings.console_url.clone(),
        };
        let Some(organization) = &self.told.organization else {
            let Some(operator) = mailer.operator().cloned() else {
                return Ok(Outcome::cancelled("no operator is named who could be told"));
            };
            let message = compose(&self.told, &about);
            return Ok(mailer.send(operator, &self.told.id, message, self.at).await);
        };
        let Some(found) = self.recipient(tools, organization).await? else {
            return Ok(Outcome::cancelled("the organization is not there"));
        };
        let opener = tools.contacts.opener(organization, [found.email.key]).await;
        let Some(address) = opener.map_err(|error| error.to_string())?.open(&found.email) else {
            return Ok(Outcome::cancelled(ERASED));
        };
        let Ok(email) = address.parse() else {
            return Ok(Outcome::refused(
                None,
                "the registered address is none that mail can be sent to".to_owned(),
            ));
        };
        about.organization = Some((organization.clone(), found.name));
        about.zone = found.zone;
        let message = compose(&self.told, &about);
        let mut outcome = mailer.send(Mailbox::new(None, email), &self.told.id, message, self.at).await;
        // Servers say whom they do not know.
        outcome.error = outcome.error.map(|error| kept_error(&error, &[&address]));
        Ok(outcome)
    }

    async fn call(&self, tools: &Tools, webhook: &WebhookId) -> Result<Outcome, String> {
        let Some(organization) = &self.told.organization else {
            return Ok(Outcome::cancelled("the alert is not an organization's"));
        };
        let Some(target) = self.target(tools, organization, webhook).await? else {
            return Ok(Outcome::cancelled("the webhook was removed"));
        };
        if target.disabled {
            return Ok(Outcome::cancelled("the webhook is switched off"));
        }
        let keys = target.secrets.iter().chain([&target.url]).map(|sealed| sealed.key);
        let opener = tools.contacts.opener(organization, keys.collect::<Vec<_>>()).await;
        let opener = opener.map_err(|error| error.to_string())?;
        let secrets: Vec<String> = target.secrets.iter().filter_map(|secret| opener.open(secret)).collect();
        let (Some(url), [_, ..]) = (opener.open(&target.url), secrets.as_slice()) else {
            return Ok(Outcome::cancelled(ERASED));
        };
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let mut outcome = tools.caller.call(&url, &secrets, &self.told, self.at).await;
        outcome.error = outcome.error.map(|error| without_url(&error, &url));
        Ok(outcome)
    }

    async fn recipient(&self, tools: &Tools, organization: &OrgId) -> Result<Option<Recipient>, String> {
        let at = self.told.raised_at;
        let recipient = patiently(|| {
            let id = organization.clone();
            tools.owner.read(move |state| {
                let known = state.organization(&id)?;
                let zone = known.calendar.zone_at(at).clone();
                Some(Recipient { name: known.name.to_string(), email: known.email.clone(), zone })
            })
        });
        recipient.await.map_err(|error| error.to_string())
    }

    async fn target(
        &self,
        tools: &Tools,
        organization: &OrgId,
        webhook: &WebhookId,
    ) -> Result<Option<Target>, String> {
        let now = self.at;
        let target = patiently(|| {
            let (id, webhook) = (organization.clone(), webhook.clone());
            tools.owner.read(move |state| {
                let known = state.organization(&id)?.webhooks.get(&webhook)?;
                let old = known.old.iter().filter(|(_, until)| now < *until).map(|(old, _)| old);
                Some(Target {
                    url: known.url.clone(),
                    secrets: [&known.secret].into_iter().chain(old).cloned().collect(),
                    disabled: known.disabled.is_some(),
                })
            })
        });
        target.await.map_err(|error| error.to_string())
    }

    /// Has a webhook switched off that is gone, or has failed for as long as the schedule goes.
    async fn give_up(&self, tools: &Tools, webhook: &WebhookId, outcome: &Outcome) {
        let Some(organization) = &self.told.organization else { return };
        let reason = match outcome.verdict {
            Verdict::Gone => "it said that it is gone (410)",
            Verdict::Failed if self.last && !self.by_hand => {
                match self.succeeded_meanwhile(tools, organization).await {
                    Ok(false) => "it failed for too long",
                    Ok(true) => return,
                    Err(error) => {
                        tracing::warn!(%webhook, error, "nobody knows whether a webhook works");
                        return;
                    }
                }
            }
            Verdict::Delivered | Verdict::Failed | Verdict::Refused | Verdict::Cancelled => return,
        };
        let Ok(reason) = Reason::parse(reason) else { return };
        let disabled = patiently(|| {
            let command =
                OrganizationCommand::DisableWebhook { webhook: webhook.clone(), reason: reason.clone() };
            tools.owner.decide_due(Command::Organization(organization.clone(), command))
        });
        match disabled.await {
            Ok(_) => tracing::info!(%webhook, %organization, %reason, "a webhook was switched off"),
            Err(error) => tracing::warn!(%webhook, %organization, %error, "a webhook was not switched off"),
        }
    }

    /// Whether this alert or a later one reached the endpoint since the delivery began.
    async fn succeeded_meanwhile(&self, tools: &Tools, organization: &OrgId) -> Result<bool, String> {
        let before = Position(self.told.position.position.0.saturating_sub(1));
        let mut after = None;
        loop {
            let (view, id, from) = (tools.view.clone(), organization.clone(), after);
            let page = tokio::task::spawn_blocking(move || match from {
                Some(_) => view.alerts(Some(&id), from, LOOK),
                None => view.alerts_after(Some(&id), before, LOOK),
            })
            .await;
            let page = page.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            let Some(last) = page.last() else { return Ok(false) };
            after = Some((last.position.position, last.kind(), last.number));
            for alert in &page {
                let stored = tools.store.get(alert.id.clone()).await.map_err(|error| error.to_string())?;
                let delivery = stored.as_ref().and_then(|stored| stored.record.deliveries.get(&self.channel));
                if delivery.is_some_and(|delivery| delivery.succeeded_since(self.began)) {
                    return Ok(true);
                }
            }
        }
    }
}

/// Asks the owner again where it was only busy.
pub(super) async fn patiently<T, F>(ask: impl Fn() -> F) -> Result<T, CommandError>
where
    F: Future<Output = Result<T, CommandError>>,
{
    for _ in 0..READS {
        match ask().await {
            Err(CommandError::Busy) => tokio::time::sleep(READ_PAUSE).await,
            answered => return answered,
        }
    }
    Err(CommandError::Busy)
}

/// An error without where the webhook is: its URL may be a credential.
fn without_url(error: &str, url: &str) -> String {
    let parsed = reqwest::Url::parse(url).ok();
    let host = parsed.as_ref().and_then(|url| url.host_str()).unwrap_or(url);
    let path = parsed.as_ref().map_or("", |url| url.path());
    let query = parsed.as_ref().and_then(|url| url.query()).unwrap_or("");
    kept_error(error, &[url, path, query, host])
}
