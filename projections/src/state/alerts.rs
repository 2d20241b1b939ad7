//! Alerts that need more than one organization, and which alert each one is (R7).

use std::collections::HashMap;

use tollbook_schemas::alert::{Alert, AlertData, AlertKind};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{DisplayName, OrgId};
use tollbook_schemas::policy::RateScale;
use tollbook_schemas::position::LogPosition;
use tollbook_schemas::time::{DaySpan, Timestamp, Zone};

use super::effect::{Effect, Quarantined};
use super::{At, State};

impl State {
    /// Says which alerts those of an entry are, and what else is to be told of it.
    pub(super) fn finish_alerts(&mut self, effects: &mut Vec<Effect>) {
        let tells = |effect: &Effect| matches!(effect, Effect::Alert(_) | Effect::Quarantined(_));
        if !effects.iter().any(tells) {
            return;
        }
        self.tell_quarantined(effects);
        let Some((ledger, _, _)) = &self.common.config.ledger else { return };
        let mut numbers: HashMap<(Option<OrgId>, AlertKind), u32> = HashMap::new();
        for effect in effects {
            let Effect::Alert(alert) = effect else { continue };
            let next = numbers.entry((alert.organization.clone(), alert.kind())).or_default();
            alert.number = *next;
            *next = next.saturating_add(1);
            alert.position = LogPosition { partition: self.partition, position: alert.position.position };
            let (organization, kind) = (alert.organization.as_ref(), alert.kind());
            alert.id = Alert::id_of(ledger, alert.position, organization, kind, alert.number);
        }
    }

    /// The first record that was quarantined for a reason on a day is told: of an organization on its local day, and to the
    /// platform where there is no such organization.
    fn tell_quarantined(&mut self, effects: &mut Vec<Effect>) {
        let mut told = Vec::new();
        for effect in &*effects {
            if let Effect::Quarantined(record) = effect {
                told.extend(self.tell_record(record));
            }
        }
        effects.extend(told);
    }

    fn tell_record(&mut self, record: &Quarantined) -> Option<Effect> {
        let organization = record.organization().filter(|id| self.index.contains_key(*id));
        let slot = organization.and_then(|id| self.index.get(id)).copied();
        let today = match slot {
            Some(slot) => self.day_of(slot, record.recorded_at).day,
            None => DaySpan::of(&Zone::utc(), record.recorded_at).day,
        };
        let code = record.reason.code();
        let told = match slot {
            Some(slot) => &mut self.change(slot).quarantine_told,
            None => &mut self.common.quarantine_told,
        };
        if told.get(code) == Some(&today) {
            return None;
        }
        // What was told on days before does not matter any more.
        told.retain(|_, day| *day == today);
        told.insert(code.to_owned(), today);
        let at = At { position: record.place.position, recorded_at: record.recorded_at };
        let data = AlertData::UsageQuarantined { place: record.place, reason: record.reason.clone() };
        Some(Effect::alert(organization, at, data))
    }

    /// Tells everybody whose limits were scaled, or are no longer.
    pub(super) fn tell_scaled(&self, before: Option<&RateScale>, at: At, effects: &mut Vec<Effect>) {
        let table = self.common.config.tiers_at(at.recorded_at);
        let now = self.common.config.rate_scale_at(at.recorded_at);
        let before = before.filter(|scale| at.recorded_at < scale.until);
        if now == before {
            return;
        }
        let holds = |scale: Option<&RateScale>, tier: &DisplayName| {
            scale.is_some_and(|scale| scale.tiers.is_empty() || scale.tiers.contains(tier))
        };
        for slot in &self.slots {
            let organization = &slot.organization;
            let Some(tier) = table.tier(organization.purse.cumulative_recharge()) else { continue };
            let scale = match (holds(before, &tier.name), holds(now, &tier.name)) {
                (_, true) => now.cloned(),
                (true, false) => None,
                (false, false) => continue,
            };
            effects.push(Effect::alert(Some(&organization.id), at, AlertData::RateLimitsScaled(scale)));
        }
    }

    /// Tells whose balance is below another default threshold (R7.1).
    pub(super) fn tell_default(&mut self, at: At, effects: &mut Vec<Effect>) {
        let default = self.common.config.defaults.balance_alert_threshold;
        for slot in 0..self.slots.len() {
            let Some(organization) = self.at_slot(slot) else { continue };
            if organization.default_threshold_changes(default) {
                let organization = self.change(slot);
                organization.threshold_set();
                organization.watch_balance(default, at, effects);
            }
        }
    }

    /// The tier that a cumulative recharge reaches (R5.1).
    pub(super) fn tier_of(&self, cumulative_recharge: Amount, at: Timestamp) -> Option<DisplayName> {
        let table = self.common.config.tiers_at(at);
        table.tier(cumulative_recharge).map(|tier| tier.name.clone())
    }
}
