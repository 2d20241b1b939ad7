//! Webhooks (R7.3).

use tollbook_projections::organization::Webhook;
use tollbook_schemas::event::{Event, WebhookEvent};
use tollbook_schemas::id::{Reason, WebhookId};
use tollbook_schemas::rejection::Rejection;
use tollbook_schemas::sealed::Sealed;

use super::{Case, Decided, Refusable};

/// Webhooks of one organization at most.
pub(crate) const WEBHOOKS_MAX: usize = 20;
/// How long a replaced secret signs beside the new one, in seconds: a day.
pub(crate) const OLD_SECRET_SECONDS: i64 = 24 * 60 * 60;

pub(super) fn create(case: &Case<'_>, webhook: &WebhookId, url: &Sealed, secret: &Sealed) -> Refusable {
    case.sealed_under_present_key([url, secret])?;
    if case.organization.webhooks.len() >= WEBHOOKS_MAX {
        return Err(Rejection::WebhookLimit { limit: WEBHOOKS_MAX });
    }
    // From here it succeeds.
    let (webhook, url, secret) = (webhook.clone(), url.clone(), secret.clone());
    Ok(Decided::of([Event::Webhook(WebhookEvent::Created { webhook, url, secret })]))
}

pub(super) fn rotate_secret(case: &Case<'_>, webhook: &WebhookId, secret: &Sealed) -> Refusable {
    find(case, webhook)?;
    case.sealed_under_present_key([secret])?;
    // From here it succeeds.
    let (webhook, secret) = (webhook.clone(), secret.clone());
    let old_until = case.now.plus_seconds(OLD_SECRET_SECONDS);
    Ok(Decided::of([Event::Webhook(WebhookEvent::SecretRotated { webhook, secret, old_until })]))
}

pub(super) fn disable(case: &Case<'_>, webhook: &WebhookId, reason: &Reason) -> Refusable {
    let works = find(case, webhook)?.disabled.is_none();
    // From here it succeeds.
    let (webhook, reason) = (webhook.clone(), reason.clone());
    Ok(Decided::of(works.then_some(Event::Webhook(WebhookEvent::Disabled { webhook, reason }))))
}

pub(super) fn enable(case: &Case<'_>, webhook: &WebhookId) -> Refusable {
    let is_off = find(case, webhook)?.disabled.is_some();
    // From here it succeeds.
    Ok(Decided::of(is_off.then_some(Event::Webhook(WebhookEvent::Enabled { webhook: webhook.clone() }))))
}

pub(super) fn remove(case: &Case<'_>, webhook: &WebhookId) -> Refusable {
    find(case, webhook)?;
    // From here it succeeds.
    Ok(Decided::of([Event::Webhook(WebhookEvent::Removed { webhook: webhook.clone() })]))
}

fn find<'a>(case: &Case<'a>, webhook: &WebhookId) -> Result<&'a Webhook, Rejection> {
    case.organization.webhooks.get(webhook).ok_or_else(|| Rejection::WebhookUnknown(webhook.clone()))
}
