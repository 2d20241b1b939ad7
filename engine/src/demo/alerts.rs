//! What the ledger told people in the hour: every alert of the cast, in the order of the log.

use std::collections::BTreeMap;

use tollbook_projections::view::AlertCursor;
use tollbook_schemas::alert::{Alert, AlertData, AlertKind, BudgetTold};

use super::DemoError;
use super::play::Player;
use super::show::clock_time;

/// Alerts of one organization that are read at once; an hour has a dozen.
const ALERTS_MAX: usize = 1_000;

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The last alert of each organization.
    last: BTreeMap<usize, AlertCursor>,
    by_kind: BTreeMap<AlertKind, u64>,
}

impl Told {
    /// How many alerts of a kind were raised.
    pub(super) fn of(&self, kind: AlertKind) -> u64 {
        self.by_kind.get(&kind).copied().unwrap_or(0)
    }

    /// How many there were.
    pub(super) fn all(&self) -> u64 {
        self.by_kind.values().sum()
    }
}

impl Player<'_> {
    /// Shows the alerts that were raised since the last time, in the order of their instants.
    pub(super) async fn tell_alerts(&mut self) -> Result<(), DemoError> {
        let mut all: Vec<(&'static str, Alert)> = Vec::new();
        for place in 0..self.cast.organizations.len() {
            let name = self.cast.organizations.get(place).map_or("", |organization| organization.name);
            for alert in self.new_alerts(place).await? {
                let count = self.told.by_kind.entry(alert.kind()).or_default();
                *count = count.saturating_add(1);
                self.told.last.insert(place, (alert.position.position, alert.kind(), alert.number));
                all.push((name, alert));
            }
        }
        all.sort_by_key(|(_, alert)| alert.raised_at);
        for (name, alert) in all {
            self.stage.tell(alert.raised_at, "alert", &format!("{name}: {}", said(&alert)));
        }
        Ok(())
    }

    async fn new_alerts(&self, place: usize) -> Result<Vec<Alert>, DemoError> {
        let Some(organization) = self.cast.organizations.get(place) else { return Ok(Vec::new()) };
        let owner = self.node.owner_of(&organization.id)?;
        let Some(view) = self.node.view(owner.partition()).cloned() else { return Ok(Vec::new()) };
        owner.wait_viewed(owner.read(|state| state.head().position).await?).await?;
        let (id, after) = (organization.id.clone(), self.told.last.get(&place).copied());
        let read = tokio::task::spawn_blocking(move || view.alerts(Some(&id), after, ALERTS_MAX)).await;
        let failed = |error: String| DemoError::Differs(format!("the views cannot be read: {error}"));
        read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    /// Errors: something was told twice, or not at all.
    pub(super) fn check_alerts(&self) -> Result<(), DemoError> {
        let vouchers = self.told.of(AlertKind::VoucherGranted);
        let tiers = self.told.of(AlertKind::TierChanged);
        let budgets = self.told.of(AlertKind::BudgetReached);
        let expected = (self.vouchers, self.tier_changes, u64::from(self.stopped()));
        if (vouchers, tiers, budgets) == expected {
            return Ok(());
        }
        let line =
            format!("alerts of vouchers, tiers and budgets are {vouchers}, {tiers}, {budgets}: {expected:?}");
        Err(DemoError::Differs(line))
    }
}

/// What an alert says, in a few words.
fn said(alert: &Alert) -> String {
    let budget = |told: &BudgetTold, percent: &str| {
        format!("{} has {percent} of its budget of {} USD settled: {}", told.name, told.limit, told.settled)
    };
    match &alert.data {
        AlertData::BalanceLow { threshold, available } => {
            format!("{available} USD are left, less than {threshold}")
        }
        AlertData::BudgetWarning(told) => budget(told, "80 %"),
        AlertData::BudgetReached(told) => budget(told, "100 %"),
        AlertData::SpendNotification { name, amount, settled, .. } => {
            format!("{name} has {settled} USD settled, at least {amount}")
        }
        AlertData::TierChanged { from, to, .. } => {
            let tier = |tier: &Option<_>| tier.as_ref().map_or("no tier".to_owned(), ToString::to_string);
            format!("from {} to {}", tier(from), tier(to))
        }
        AlertData::VoucherGranted { amount, .. } => format!("a voucher of {amount} USD"),
        AlertData::VoucherExpiring { left, expires_at, .. } => {
            format!("a voucher with {left} USD expires at {}", clock_time(*expires_at))
        }
        AlertData::VoucherExpired { lost, .. } => format!("a voucher expired with {lost} USD"),
        AlertData::KeyInvalidated { keys } => format!("{} API keys stopped working", keys.len()),
        AlertData::RateLimitsScaled(_) => "rate limits were scaled".to_owned(),
        AlertData::UsageQuarantined { reason, .. } => format!("usage is in quarantine: {reason}"),
        AlertData::WebhookDisabled { reason, .. } => format!("a webhook is switched off: {reason}"),
    }
}
