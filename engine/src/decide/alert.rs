//! The balance alert, and subscriptions to the alert stream (R7).

use tollbook_projections::config::Config;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::{ConfigEvent, Event, OrganizationEvent};
use tollbook_schemas::id::{DisplayName, OrgId};
use tollbook_schemas::rejection::Rejection;

use super::{Case, Decided, Refusable};

/// An organization that has never chosen has the ledger's default, which is another thing than the same amount.
pub(super) fn set_balance_alert(case: &Case<'_>, threshold: Option<Amount>) -> Refusable {
    if threshold.is_some_and(|threshold| !threshold.is_positive()) {
        return Err(Rejection::AmountNotPositive);
    }
    let changed = case.organization.balance_alert.threshold != Some(threshold);
    let event = OrganizationEvent::BalanceAlertSet { threshold };
    Ok(Decided::of(changed.then_some(Event::Organization(event))))
}

/// The same again changes nothing; another one of that name is refused.
pub(super) fn create_subscription(
    config: &Config,
    name: &DisplayName,
    organizations: Option<&[OrgId]>,
) -> Refusable {
    let organizations = organizations.map(|organizations| {
        let mut organizations = organizations.to_vec();
        organizations.sort_unstable();
        organizations.dedup();
        organizations
    });
    match config.subscriptions.get(name) {
        Some(known) if known.organizations == organizations => Ok(Decided::AsItIs),
        Some(_) => Err(Rejection::NameTaken(name.clone())),
        None => {
            let event = ConfigEvent::SubscriptionCreated { name: name.clone(), organizations };
            Ok(Decided::of([Event::Config(event)]))
        }
    }
}

pub(super) fn remove_subscription(config: &Config, name: &DisplayName) -> Refusable {
    if !config.subscriptions.contains_key(name) {
        return Err(Rejection::SubscriptionUnknown(name.clone()));
    }
    Ok(Decided::of([Event::Config(ConfigEvent::SubscriptionRemoved { name: name.clone() })]))
}
