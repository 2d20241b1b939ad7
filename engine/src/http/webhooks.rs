//! Webhooks: endpoints of an organization that its alerts are sent to (R7.3).

use tollbook_projections::organization::Webhook as Known;
use tollbook_schemas::command::OrganizationCommand;
use tollbook_schemas::event::{Event, WebhookEvent};
use tollbook_schemas::id::{OrgId, Reason, WebhookId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::time::Timestamp;
use utoipa::openapi::schema::ObjectBuilder;

use super::answer::{Json, List};
use super::document::{Routes, Says, Verb};
use super::kinds::{choices, string};
use super::problem::{Fault, Problem};
use super::reading::{Page, Reading, read_organization};
use super::shape::{IfAny, Text, answer, request};
use super::write::{Author, Changed, Created, Write};
use crate::clock;
use crate::contacts::Opener;
use crate::delivery::address::URL_MAX;
use crate::delivery::sign;
use crate::permission::Action;

const WEBHOOKS: &str = "/v1/organizations/{org}/webhooks";
const WEBHOOK: &str = "/v1/organizations/{org}/webhooks/{webhook}";

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Webhooks", "Where an organization's alerts are sent, as Standard Webhooks.");
    let says = Says {
        id: "createWebhook",
        summary: "Add a webhook",
        more: "Every alert that is raised from now on is sent to it, signed with its secret, which is in this answer and \
               never again, not even in that to a repetition. At most 20 for each organization.",
    };
    routes.write(Verb::Post, WEBHOOKS, says, create);
    let says = Says { id: "listWebhooks", summary: "List an organization's webhooks", more: "" };
    routes.read(WEBHOOKS, says, list);
    let says = Says { id: "getWebhook", summary: "See a webhook", more: "" };
    routes.read(WEBHOOK, says, show);
    let says = Says {
        id: "removeWebhook",
        summary: "Remove a webhook",
        more: "What waits to be sent to it is not sent any more.",
    };
    routes.write(Verb::Delete, WEBHOOK, says, remove);
    let says = Says {
        id: "rotateWebhookSecret",
        summary: "Replace a webhook's secret",
        more: "The new secret is in this answer and never again. Until `old_until`, a day from now, what is sent is signed \
               with both, the new one first.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/webhooks/{webhook}/rotate-secret", says, rotate);
    let says = Says {
        id: "disableWebhook",
        summary: "Switch a webhook off",
        more: "Nothing is sent to it until it is switched on; what is raised meanwhile, it can be sent by hand. The engine \
               does this too: at once when the endpoint answers 410, and when a delivery has failed for as long as it is \
               attempted and nothing else has arrived meanwhile.",
    };
    routes.write(Verb::Post, "/v1/organizations/{org}/webhooks/{webhook}/disable", says, disable);
    let says = Says { id: "enableWebhook", summary: "Switch a webhook on again", more: "" };
    routes.write(Verb::Post, "/v1/organizations/{org}/webhooks/{webhook}/enable", says, enable);
}

request! {
    /// A webhook to add.
    pub(super) struct NewWebhook {
        /// Where alerts are sent.
        url: WebhookUrl,
    }
}

request! {
    /// A webhook to switch off.
    pub(super) struct Disabling {
        /// Why; shown with it.
        reason: Option<Reason>,
    }
}

/// Where alerts are sent.
#[derive(Clone, Debug)]
pub(super) struct WebhookUrl(String);

impl Text for WebhookUrl {
    const NAME: &'static str = "WebhookUrl";

    fn schema() -> ObjectBuilder {
        string(
            "An https URL without user or password, on a public address unless the operator allows others. Its host is \
             looked up anew, and checked, whenever something is sent.",
        )
        .max_length(Some(URL_MAX))
        .pattern(Some("^[Hh][Tt][Tt][Pp][Ss]?://[^@]*$"))
        .examples(["https://hooks.example.com/tollbook"])
    }

    fn of(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        self.0.as_str().into()
    }
}

/// Whether alerts are sent to a webhook.
#[derive(Clone, Copy, Debug)]
pub(super) enum WebhookState {
    Enabled,
    Disabled,
}

choices! {
    WebhookState = "WebhookState", "Whether alerts are sent to a webhook." {
        Enabled = "enabled",
        Disabled = "disabled",
    }
}

answer! {
    /// A webhook.
    pub(super) struct Webhook {
        /// Its id.
        id: WebhookId,
        /// Where alerts are sent; null once personal data is erased.
        url: Option<String>,
        /// Whether they are.
        state: WebhookState,
        /// Since when they are not, if they are not.
        disabled_at: Option<Timestamp>,
        /// Why they are not.
        disabled_reason: Option<Reason>,
        /// When it was added.
        created_at: Timestamp,
        /// Until when the secret before this one signs too; null where none does.
        old_until: Option<Timestamp>,
        /// What signs. Only in the first answer to what made it.
        secret: IfAny<String>,
    }
}

answer! {
    /// A webhook that was removed.
    pub(super) struct RemovedWebhook {
        /// Its id.
        id: WebhookId,
    }
}

async fn create(
    Write { path: org, body, author }: Write<OrgId, NewWebhook>,
) -> Result<Created<Webhook>, Problem> {
    author.node.deliveries().check_url(&body.url.0).map_err(|error| {
        // What may be a credential is not told back.
        Problem::fields(vec![Fault::at("url", None, error)])
    })?;
    let secret = sign::new_secret();
    let command = OrganizationCommand::CreateWebhook {
        webhook: WebhookId::from_bits(clock::new_id_bits()),
        url: author.seal(&org, &body.url.0).await?,
        secret: author.seal(&org, &secret).await?,
    };
    let done = author.decide(&org, command).await?;
    let created = done.events.iter().find_map(|event| {
        let Event::Webhook(WebhookEvent::Created { webhook, .. }) = event else { return None };
        Some(webhook.clone())
    });
    let id = created.ok_or_else(|| Problem::internal("the entry added no webhook"))?;
    let mut shown = found(&author, &org, &id).await?;
    shown.secret = IfAny(Some(secret).filter(|_| !done.before));
    Ok(Created::new(done, shown))
}

async fn list(
    Reading { path: org, query: page, at }: Reading<OrgId, Page>,
) -> Result<Json<List<Webhook>>, Problem> {
    let now = at.node.clock().now();
    let read = at.organization(&org, Action::ManageOrganization, move |known| {
        page.cut(&known.webhooks, |(id, _)| id.as_str()).map(|(id, webhook)| (id.clone(), webhook.clone()))
    });
    let page = read.await?;
    let keys: Vec<u32> = page.items.iter().map(|(_, webhook)| webhook.url.key).collect();
    let opener = at.node.contacts().opener(&org, keys).await?;
    Ok(Json(page.map(|(id, webhook)| shown(&id, &webhook, &opener, now))))
}

async fn show(
    Reading { path: (org, id), at, .. }: Reading<(OrgId, WebhookId)>,
) -> Result<Json<Webhook>, Problem> {
    let wanted = id.clone();
    let read =
        at.organization(&org, Action::ManageOrganization, move |known| known.webhooks.get(&wanted).cloned());
    let known = read.await?.ok_or_else(|| Rejection::WebhookUnknown(id.clone()))?;
    let opener = at.node.contacts().opener(&org, [known.url.key]).await?;
    Ok(Json(shown(&id, &known, &opener, at.node.clock().now())))
}

async fn remove(
    Write { path: (org, id), author, .. }: Write<(OrgId, WebhookId), ()>,
) -> Result<Changed<RemovedWebhook>, Problem> {
    let done = author.decide(&org, OrganizationCommand::RemoveWebhook(id.clone())).await?;
    Ok(Changed::new(done, RemovedWebhook { id }))
}

async fn rotate(
    Write { path: (org, id), author, .. }: Write<(OrgId, WebhookId), ()>,
) -> Result<Changed<Webhook>, Problem> {
    let secret = sign::new_secret();
    let sealed = author.seal(&org, &secret).await?;
    let command = OrganizationCommand::RotateWebhookSecret { webhook: id.clone(), secret: sealed };
    let done = author.decide(&org, command).await?;
    let mut shown = found(&author, &org, &id).await?;
    shown.secret = IfAny(Some(secret).filter(|_| !done.before));
    Ok(Changed::new(done, shown))
}

async fn disable(
    Write { path: (org, id), body, author }: Write<(OrgId, WebhookId), Disabling>,
) -> Result<Changed<Webhook>, Problem> {
    let reason = match body.reason {
        Some(reason) => reason,
        None => Reason::parse("switched off by hand").map_err(|error| Problem::internal(error.to_string()))?,
    };
    let done = author.decide(&org, OrganizationCommand::DisableWebhook { webhook: id.clone(), reason }).await?;
    let shown = found(&author, &org, &id).await?;
    Ok(Changed::new(done, shown))
}

async fn enable(
    Write { path: (org, id), author, .. }: Write<(OrgId, WebhookId), ()>,
) -> Result<Changed<Webhook>, Problem> {
    let done = author.decide(&org, OrganizationCommand::EnableWebhook(id.clone())).await?;
    let shown = found(&author, &org, &id).await?;
    Ok(Changed::new(done, shown))
}

/// A webhook as it is now, for whoever has just changed it.
async fn found(author: &Author, org: &OrgId, id: &WebhookId) -> Result<Webhook, Problem> {
    let wanted = id.clone();
    let read = read_organization(&author.node, org, move |known| known.webhooks.get(&wanted).cloned());
    let known = read.await?.ok_or_else(|| Rejection::WebhookUnknown(id.clone()))?;
    let opener = author.node.contacts().opener(org, [known.url.key]).await?;
    Ok(shown(id, &known, &opener, author.node.clock().now()))
}

fn shown(id: &WebhookId, known: &Known, opener: &Opener, now: Timestamp) -> Webhook {
    let (disabled_at, disabled_reason) = known.disabled.clone().unzip();
    Webhook {
        id: id.clone(),
        url: opener.open(&known.url),
        state: if known.disabled.is_some() { WebhookState::Disabled } else { WebhookState::Enabled },
        disabled_at,
        disabled_reason,
        created_at: known.created_at,
        old_until: known.old.as_ref().map(|(_, until)| *until).filter(|until| now < *until),
        secret: IfAny(None),
    }
}
