//! What an organization is told of, and where (R7).

use serde::{Deserialize, Serialize};
use tollbook_schemas::alert::AlertData;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{Event, KeyEvent, WebhookEvent};
use tollbook_schemas::id::Reason;
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::Timestamp;

use super::{At, Organization};
use crate::state::Effect;

/// When somebody is told that the balance is low (R7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceAlert {
    /// Its own threshold, or none by its own wish; `None`: the ledger's default.
    pub threshold: Option<Option<Amount>>,
    /// Whether the balance was at or above the threshold since it was last told.
    pub armed: bool,
}

impl BalanceAlert {
    /// The threshold in force; `None`: nobody is told.
    pub fn in_force(&self, default: Option<Amount>) -> Option<Amount> {
        self.threshold.unwrap_or(default)
    }
}

/// An endpoint that alerts are sent to (R7.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Where to.
    pub url: Sealed,
    /// What signs them.
    pub secret: Sealed,
    /// The secret before, and until when it signs too.
    pub old: Option<(Sealed, Timestamp)>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When and why it was switched off, if it is.
    pub disabled: Option<(Timestamp, Reason)>,
}

impl Organization {
    /// Looks whether the balance is low now.
    pub(crate) fn watch_balance(&mut self, default: Option<Amount>, at: At, effects: &mut Vec<Effect>) {
        let Some(threshold) = self.balance_alert.in_force(default) else { return };
        let available = self.purse.available();
        if available >= threshold {
            self.balance_alert.armed = true;
        } else if std::mem::take(&mut self.balance_alert.armed) {
            effects.push(Effect::alert(Some(&self.id), at, AlertData::BalanceLow { threshold, available }));
        }
    }

    /// Another default threshold holds: for whoever has none of its own the same as setting it. Whether that makes a
    /// difference.
    pub(crate) fn default_threshold_changes(&self, default: Option<Amount>) -> bool {
        let alert = &self.balance_alert;
        let low = default.is_some_and(|default| self.purse.available() < default);
        let armed = default.is_some() && (!low || self.purse.highest_recharge().is_positive());
        alert.threshold.is_none() && default.is_some() && (armed != alert.armed || (armed && low))
    }

    /// Another threshold was set: who has recharged is told at once that the balance is below it already (R7.1).
    pub(crate) fn threshold_set(&mut self) {
        self.balance_alert.armed = self.purse.highest_recharge().is_positive();
    }

    pub(super) fn apply_webhook(&mut self, event: &WebhookEvent, at: At) {
        match event {
            WebhookEvent::Created { webhook, url, secret } => {
                let (url, secret) = (url.clone(), secret.clone());
                let new = Webhook { url, secret, old: None, created_at: at.recorded_at, disabled: None };
                self.webhooks.insert(webhook.clone(), new);
                self.has_contacts = true;
            }
            WebhookEvent::SecretRotated { webhook, secret, old_until } => {
                if let Some(known) = self.webhooks.get_mut(webhook) {
                    let before = std::mem::replace(&mut known.secret, secret.clone());
                    known.old = Some((before, *old_until));
                    self.has_contacts = true;
                }
            }
            WebhookEvent::Disabled { webhook, reason } => {
                if let Some(known) = self.webhooks.get_mut(webhook) {
                    known.disabled = Some((at.recorded_at, reason.clone()));
                }
            }
            WebhookEvent::Enabled { webhook } => {
                if let Some(known) = self.webhooks.get_mut(webhook) {
                    known.disabled = None;
                }
            }
            WebhookEvent::Removed { webhook } => {
                self.webhooks.remove(webhook);
            }
        }
    }

    /// Keys that events of one entry revoked, told together.
    pub(crate) fn tell_revoked(&self, events: &[Event], at: At, effects: &mut Vec<Effect>) {
        let revoked = events.iter().filter_map(|event| match event {
            Event::Key(KeyEvent::Revoked { key, why }) => {
                let known = self.keys.get(key)?;
                Some((key.clone(), known.project.clone(), known.name.clone(), *why))
            }
            Event::Key(KeyEvent::Issued { .. })
            | Event::Organization(_)
            | Event::Member(_)
            | Event::Project(_)
            | Event::Money(_)
            | Event::Quarantine(_)
            | Event::Webhook(_)
            | Event::Config(_)
            | Event::Partition(_) => None,
        });
        let keys: Vec<_> = revoked.collect();
        if !keys.is_empty() {
            effects.push(Effect::alert(Some(&self.id), at, AlertData::KeyInvalidated { keys }));
        }
    }

    /// Webhooks that the engine switched off: whoever does it by hand knows.
    pub(crate) fn tell_disabled(&self, events: &[Event], at: At, effects: &mut Vec<Effect>) {
        for event in events {
            if let Event::Webhook(WebhookEvent::Disabled { webhook, reason }) = event {
                let (webhook, reason) = (webhook.clone(), reason.clone());
                effects.push(Effect::alert(
                    Some(&self.id),
                    at,
                    AlertData::WebhookDisabled { webhook, reason },
                ));
            }
        }
    }
}
