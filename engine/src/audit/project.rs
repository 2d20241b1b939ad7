//! What happened to projects and what hangs on an organization beside them: API keys, webhooks, quarantined usage.

use serde_json::{Value, json};
use tollbook_schemas::cloudevent;
use tollbook_schemas::event::{KeyEvent, ProjectEvent as E, QuarantineEvent, WebhookEvent};
use tollbook_schemas::position::PartitionId;
use tollbook_schemas::sealed::Sealed;

use super::{Open, Told, place_id, text, texts};

pub(super) fn event(event: &E) -> Told {
    match event {
        E::Created { project, name } => {
            ("project.created", json!({ "project": project.as_str(), "name": name.as_str() }))
        }
        E::Renamed { project, name } => {
            ("project.renamed", json!({ "project": project.as_str(), "name": name.as_str() }))
        }
        E::Archived { project } => ("project.archived", json!({ "project": project.as_str() })),
        E::TpmLimitSet { project, limit } => {
            ("project.tpm_set", json!({ "project": project.as_str(), "limit": limit }))
        }
        E::BudgetsSet { project, daily, monthly, enforcement } => (
            "project.budgets_set",
            json!({
                "project": project.as_str(),
                "daily": text(*daily),
                "monthly": text(*monthly),
                "enforcement": enforcement,
            }),
        ),
        E::SpendNotificationsSet { project, daily, monthly } => (
            "project.spend_notifications_set",
            json!({ "project": project.as_str(), "daily": texts(daily), "monthly": texts(monthly) }),
        ),
        E::BudgetRefused { project, period, visible_from, refused_at } => (
            "project.budget_refused",
            json!({
                "project": project.as_str(),
                "period": period,
                "visible_from": visible_from.to_string(),
                "refused_at": refused_at.to_string(),
            }),
        ),
    }
}

pub(super) fn key_event(event: &KeyEvent) -> Told {
    match event {
        KeyEvent::Issued { key, project, member, name, secret: _, hint } => (
            "api_key.issued",
            json!({
                "api_key": key.as_str(),
                "project": project.as_str(),
                "member": member.as_str(),
                "name": name.as_str(),
                "hint": format!("sk-…{hint}"),
            }),
        ),
        KeyEvent::Revoked { key, why } => {
            ("api_key.revoked", json!({ "api_key": key.as_str(), "reason": why }))
        }
    }
}

pub(super) fn quarantine_event(partition: PartitionId, event: &QuarantineEvent) -> Told {
    match event {
        QuarantineEvent::Released { place, usage, uncounted: _ } => (
            "quarantine.released",
            json!({ "id": place_id(partition, *place), "event": cloudevent::to_event(usage) }),
        ),
        QuarantineEvent::Dismissed { place, reason } => {
            ("quarantine.dismissed", json!({ "id": place_id(partition, *place), "reason": reason.as_str() }))
        }
    }
}

pub(super) fn webhook_event(event: &WebhookEvent, open: Open<'_>) -> Told {
    match event {
        WebhookEvent::Created { webhook, url, secret: _ } => {
            ("webhook.created", json!({ "webhook": webhook.as_str(), "host": host(url, open) }))
        }
        WebhookEvent::SecretRotated { webhook, secret: _, old_until } => (
            "webhook.secret_rotated",
            json!({ "webhook": webhook.as_str(), "old_until": old_until.to_string() }),
        ),
        WebhookEvent::Disabled { webhook, reason } => {
            ("webhook.disabled", json!({ "webhook": webhook.as_str(), "reason": reason.as_str() }))
        }
        WebhookEvent::Enabled { webhook } => ("webhook.enabled", json!({ "webhook": webhook.as_str() })),
        WebhookEvent::Removed { webhook } => ("webhook.removed", json!({ "webhook": webhook.as_str() })),
    }
}

/// Where alerts go, without what of a URL may be a credential: user, path and query.
fn host(url: &Sealed, open: Open<'_>) -> Value {
    let url = open(url).and_then(|url| reqwest::Url::parse(&url).ok());
    text(url.as_ref().and_then(reqwest::Url::host_str))
}
