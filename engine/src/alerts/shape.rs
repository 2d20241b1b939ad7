//! What an alert looks like outside: the same data in lists, in the feed and in webhooks.

use serde_json::{Value, json};
use tollbook_schemas::alert::{Alert, AlertData, BudgetTold};
use tollbook_schemas::event::Period;
use tollbook_schemas::id::{LedgerId, ProjectId};

use super::feed::OPERATOR;

/// What it says, by kind; amounts are decimal strings, times RFC 3339.
pub(crate) fn data(alert: &Alert) -> Value {
    match &alert.data {
        AlertData::BalanceLow { threshold, available } => {
            json!({ "threshold": threshold.to_string(), "available": available.to_string() })
        }
        AlertData::BudgetWarning(told) => budget(told, 80),
        AlertData::BudgetReached(told) => budget(told, 100),
        AlertData::SpendNotification { project, name, period, starts, amount, settled } => json!({
            "project": project.as_str(),
            "name": name.as_str(),
            "period": period_code(*period),
            "starts": starts.to_string(),
            "amount": amount.to_string(),
            "settled": settled.to_string(),
        }),
        AlertData::TierChanged { from, to, cumulative_recharge } => json!({
            "from": from.as_ref().map(|tier| tier.as_str()),
            "to": to.as_ref().map(|tier| tier.as_str()),
            "cumulative_recharge": cumulative_recharge.to_string(),
        }),
        AlertData::VoucherGranted { voucher, amount, expires_at } => json!({
            "voucher": voucher.as_str(),
            "amount": amount.to_string(),
            "expires_at": expires_at.map(|at| at.to_string()),
        }),
        AlertData::VoucherExpiring { voucher, left, expires_at } => json!({
            "voucher": voucher.as_str(),
            "left": left.to_string(),
            "expires_at": expires_at.to_string(),
        }),
        AlertData::VoucherExpired { voucher, lost } => {
            json!({ "voucher": voucher.as_str(), "lost": lost.to_string() })
        }
        AlertData::KeyInvalidated { keys } => {
            let keys = keys.iter().map(|(key, project, name, why)| {
                json!({
                    "id": key.as_str(),
                    "project": project.as_str(),
                    "name": name.as_str(),
                    "reason": why,
                })
            });
            json!({ "keys": keys.collect::<Vec<_>>() })
        }
        AlertData::RateLimitsScaled(None) => json!({ "factor": "1" }),
        AlertData::RateLimitsScaled(Some(scale)) => json!({
            "factor": scale.factor().to_string(),
            "until": scale.until.to_string(),
            "reason": scale.reason.as_str(),
        }),
        AlertData::UsageQuarantined { place, reason } => json!({
            "id": format!("{}-{place}", alert.position.partition),
            "reason": reason.code(),
            "detail": reason.to_string(),
        }),
        AlertData::WebhookDisabled { webhook, reason } => {
            json!({ "webhook": webhook.as_str(), "reason": reason.as_str() })
        }
    }
}

/// The projects that an alert is about; none: it is the whole organization's.
pub(crate) fn projects(data: &AlertData) -> Vec<&ProjectId> {
    match data {
        AlertData::BudgetWarning(told) | AlertData::BudgetReached(told) => vec![&told.project],
        AlertData::SpendNotification { project, .. } => vec![project],
        AlertData::KeyInvalidated { keys } => keys.iter().map(|(_, project, _, _)| project).collect(),
        AlertData::BalanceLow { .. }
        | AlertData::TierChanged { .. }
        | AlertData::VoucherGranted { .. }
        | AlertData::VoucherExpiring { .. }
        | AlertData::VoucherExpired { .. }
        | AlertData::RateLimitsScaled(_)
        | AlertData::UsageQuarantined { .. }
        | AlertData::WebhookDisabled { .. } => Vec::new(),
    }
}

fn budget(told: &BudgetTold, percent: u8) -> Value {
    let BudgetTold { project, name, period, starts, limit, settled, resets_at } = told;
    json!({
        "project": project.as_str(),
        "name": name.as_str(),
        "period": period_code(*period),
        "starts": starts.to_string(),
        "percent": percent,
        "limit": limit.to_string(),
        "settled": settled.to_string(),
        "resets_at": resets_at.to_string(),
    })
}

/// The code of a period.
pub(crate) const fn period_code(period: Period) -> &'static str {
    match period {
        Period::Daily => "daily",
        Period::Monthly => "monthly",
    }
}

/// What the types of alerts begin with.
pub(super) const TYPE_PREFIX: &str = "tollbook.alert.";

/// The alert as a CloudEvent 1.0 in JSON: what subscribers get. Extension attributes say where its cause stands.
pub(crate) fn cloudevent(ledger: &LedgerId, alert: &Alert) -> Value {
    json!({
        "specversion": "1.0",
        "id": alert.id.as_str(),
        "source": format!("/ledgers/{ledger}"),
        "type": format!("{TYPE_PREFIX}{}.v1", alert.kind().code()),
        "subject": alert.organization.as_ref().map_or(OPERATOR, |organization| organization.as_str()),
        "time": alert.raised_at.to_string(),
        "datacontenttype": "application/json",
        "position": alert.position.to_string(),
        "number": alert.number,
        "data": data(alert),
    })
}
