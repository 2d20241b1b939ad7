//! What is told of budgets and spend notifications, once each for a period (R6.4, R7.2).

use serde::{Deserialize, Serialize};
use tollbook_schemas::alert::{AlertData, BudgetTold};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::event::Period;
use tollbook_schemas::time::Day;

use super::period::OnCalendar;
use super::{Look, Seen, Watch, is_reached};

/// Hundredths of a budget at which somebody is told, in order.
const WARNING_PERCENT: u8 = 80;
const REACHED_PERCENT: u8 = 100;

/// What was told of a period that may still run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    starts: Day,
    /// Of the budget, in hundredths.
    pub(super) percent: u8,
    amounts: Vec<Amount>,
}

impl Watch {
    /// What was told of the running period.
    pub(super) fn told(&mut self, period: Period, today: Day) -> &mut Told {
        let told = match period {
            Period::Daily => &mut self.told_daily,
            Period::Monthly => &mut self.told_monthly,
        };
        let starts = period.first_day(today);
        if told.starts != starts {
            *told = Told { starts, ..Told::default() };
        }
        told
    }

    pub(super) fn tell_percent(
        &mut self,
        period: Period,
        limit: Amount,
        spent: Amount,
        look: Look<'_>,
        seen: &mut Seen,
    ) {
        let percent = reached(limit, spent);
        let told = self.told(period, look.today);
        let before = told.percent;
        told.percent = before.max(percent);
        for step in [WARNING_PERCENT, REACHED_PERCENT] {
            if before < step && step <= percent {
                let about = BudgetTold {
                    project: look.project.clone(),
                    name: look.name.clone(),
                    period,
                    starts: period.first_day(look.today),
                    limit,
                    settled: spent,
                    resets_at: period.ends(look.calendar, look.today),
                };
                let full = step == REACHED_PERCENT;
                seen.alerts.push(if full {
                    AlertData::BudgetReached(about)
                } else {
                    AlertData::BudgetWarning(about)
                });
            }
        }
    }

    pub(super) fn tell_amounts(&mut self, period: Period, settled: Amount, look: Look<'_>, seen: &mut Seen) {
        let due: Vec<Amount> =
            self.notifications.amounts(period).iter().copied().filter(|amount| *amount <= settled).collect();
        if due.is_empty() {
            return;
        }
        let told = self.told(period, look.today);
        for amount in due {
            if let Err(place) = told.amounts.binary_search(&amount) {
                told.amounts.insert(place, amount);
                seen.alerts.push(AlertData::SpendNotification {
                    project: look.project.clone(),
                    name: look.name.clone(),
                    period,
                    starts: period.first_day(look.today),
                    amount,
                    settled,
                });
            }
        }
    }
}

/// The last step of a budget that is reached, in hundredths: exactly, without dividing.
pub(super) fn reached(limit: Amount, spent: Amount) -> u8 {
    // An amount has less than 2^97 units, so neither product saturates.
    let hundredths = |amount: Amount, count: u8| amount.units().saturating_mul(count.into());
    if is_reached(limit, spent) {
        REACHED_PERCENT
    } else if limit.is_positive() && hundredths(spent, REACHED_PERCENT) >= hundredths(limit, WARNING_PERCENT)
    {
        WARNING_PERCENT
    } else {
        0
    }
}
