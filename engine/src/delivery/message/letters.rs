//! Each kind of alert in words.

use serde_json::Value;
use tollbook_schemas::alert::AlertKind;
use tollbook_schemas::amount::Amount;
use tollbook_schemas::time::{Day, Timestamp, Zone};

use super::money::{day, money, month, time};
use super::{About, Letter, Tone};
use crate::delivery::told::Told;

/// What a value is called that an alert does not have; none of ours lacks any.
pub(super) const UNKNOWN: &str = "not known";

/// The letter about an alert.
pub(super) fn letter(told: &Told, about: &About) -> Letter {
    let says = Says { data: &told.data, about, raised: time(told.raised_at, &about.zone) };
    match told.kind {
        AlertKind::BalanceLow => says.balance_low(),
        AlertKind::BudgetWarning => says.budget_warning(),
        AlertKind::BudgetReached => says.budget_reached(),
        AlertKind::SpendNotification => says.spend_notification(),
        AlertKind::TierChanged => says.tier_changed(),
        AlertKind::VoucherGranted => says.voucher_granted(),
        AlertKind::VoucherExpiring => says.voucher_expiring(),
        AlertKind::VoucherExpired => says.voucher_expired(),
        AlertKind::KeyInvalidated => says.key_invalidated(),
        AlertKind::RateLimitsScaled => says.rate_limits_scaled(),
        AlertKind::UsageQuarantined => says.usage_quarantined(),
        AlertKind::WebhookDisabled => says.webhook_disabled(),
    }
}

/// What an alert says, ready for sentences.
struct Says<'a> {
    data: &'a Value,
    about: &'a About,
    raised: String,
}

impl Says<'_> {
    fn balance_low(&self) -> Letter {
        let (name, threshold, available) = (self.name(), self.money("threshold"), self.money("available"));
        Letter {
            subject: format!("Balance below {threshold}: {name}"),
            headline: format!("The balance of {name} is below {threshold}"),
            happened: format!(
                "The available balance dropped to {available}. Once it is used up, requests are refused."
            ),
            figures: vec![
                ("Available balance", available),
                ("Threshold", threshold),
                ("When", self.raised.clone()),
            ],
            advice: "Recharge to keep requests going.".to_owned(),
            why: "You get this message once each time the balance drops below the threshold, and again only after it \
                  has been back at or above it. Administrators of the organization can set another threshold, or \
                  remove it, in the settings of the balance alert."
                .to_owned(),
            tone: Tone::Warning,
        }
    }

    fn budget_warning(&self) -> Letter {
        let (project, name) = (self.text("name"), self.name());
        let period = self.period();
        Letter {
            subject: format!("80% of the {} budget is spent: {project} ({name})", period.adjective),
            headline: format!("{project} has spent 80% of its {} budget", period.adjective),
            happened: format!(
                "Settled spend {} has reached {} of {}. At {}, requests of this project are refused until the budget \
                 resets.",
                period.within,
                self.money("settled"),
                self.money("limit"),
                self.money("limit"),
            ),
            figures: self.budget_figures(&period),
            advice: "If the project needs more, raise its budget in time: that takes effect at once.".to_owned(),
            why: BUDGET_WHY.to_owned(),
            tone: Tone::Warning,
        }
    }

    fn budget_reached(&self) -> Letter {
        let (project, name) = (self.text("name"), self.name());
        let period = self.period();
        let resets_at = self.time("resets_at");
        Letter {
            subject: format!("The {} budget is reached: {project} ({name})", period.adjective),
            headline: format!("{project} has reached its {} budget", period.adjective),
            happened: format!(
                "Settled spend {} is {}, and the budget is {}. Requests of this project are refused until {resets_at}. \
                 Requests that were let in before still count, so the final figure may be somewhat higher.",
                period.within,
                self.money("settled"),
                self.money("limit"),
            ),
            figures: self.budget_figures(&period),
            advice: "To let requests in again before that, raise or remove the budget: that takes effect at once."
                .to_owned(),
            why: BUDGET_WHY.to_owned(),
            tone: Tone::Stopped,
        }
    }

    fn budget_figures(&self, period: &Period) -> Vec<(&'static str, String)> {
        vec![
            ("Project", self.text("name")),
            (period.heading, period.shown.clone()),
            ("Budget", self.money("limit")),
            ("Settled spend", self.money("settled")),
            ("Resets", self.time("resets_at")),
            ("When", self.raised.clone()),
        ]
    }

    fn spend_notification(&self) -> Letter {
        let (project, name, amount) = (self.text("name"), self.name(), self.money("amount"));
        let period = self.period();
        Letter {
            subject: format!("Spend {} reached {amount}: {project} ({name})", period.within),
            headline: format!("{project} has spent {amount} {}", period.within),
            happened: format!(
                "Settled spend {} is {} now. Nothing stops: this is only to let you know.",
                period.within,
                self.money("settled"),
            ),
            figures: vec![
                ("Project", project),
                (period.heading, period.shown.clone()),
                ("Amount", amount),
                ("Settled spend", self.money("settled")),
                ("When", self.raised.clone()),
            ],
            advice: "To have requests stop at an amount, set a budget.".to_owned(),
            why: "You get this message once for each amount and period. Administrators of the project can change the \
                  amounts in its spend notifications."
                .to_owned(),
            tone: Tone::Plain,
        }
    }

    fn tier_changed(&self) -> Letter {
        let name = self.name();
        let tier = |field| match self.data.get(field).and_then(Value::as_str) {
            Some(tier) => tier.to_owned(),
            None => "below the first tier".to_owned(),
        };
        let (from, to) = (tier("from"), tier("to"));
        let subject = match self.data.get("to").and_then(Value::as_str) {
            Some(to) => format!("The tier is now {to}: {name}"),
            None => format!("No longer in a tier: {name}"),
        };
        Letter {
            subject,
            headline: format!("The rate limits of {name} have changed"),
            happened: "The tier follows from what was recharged in all, and the rate limits from the tier. They are in \
                       force already."
                .to_owned(),
            figures: vec![
                ("Tier before", from),
                ("Tier now", to),
                ("Recharged in all", self.money("cumulative_recharge")),
                ("When", self.raised.clone()),
            ],
            advice: "There is nothing that you have to do.".to_owned(),
            why: "You get this message whenever the organization's tier changes.".to_owned(),
            tone: Tone::Plain,
        }
    }

    fn voucher_granted(&self) -> Letter {
        let (name, amount) = (self.name(), self.money("amount"));
        let expires = self.data.get("expires_at").and_then(Value::as_str).is_some();
        let until = if expires { self.time("expires_at") } else { "never".to_owned() };
        Letter {
            subject: format!("A voucher of {amount} was granted: {name}"),
            headline: format!("{name} has a voucher of {amount}"),
            happened: "Vouchers are used up before the cash balance, those that expire first before the others."
                .to_owned(),
            figures: vec![("Amount", amount), ("Expires", until), ("When", self.raised.clone())],
            advice: "There is nothing that you have to do.".to_owned(),
            why: VOUCHER_WHY.to_owned(),
            tone: Tone::Plain,
        }
    }

    fn voucher_expiring(&self) -> Letter {
        let (name, left, expires_at) = (self.name(), self.money("left"), self.time("expires_at"));
        let on = self.day_of("expires_at");
        Letter {
            subject: format!("A voucher with {left} left expires on {on}: {name}"),
            headline: format!("{left} of a voucher will be lost soon"),
            happened: format!("What is left of this voucher of {name} is lost on {expires_at}."),
            figures: vec![("Left now", left), ("Expires", expires_at), ("Voucher", self.text("voucher"))],
            advice: "Requests use it up before anything else that lasts longer.".to_owned(),
            why: VOUCHER_WHY.to_owned(),
            tone: Tone::Warning,
        }
    }

    fn voucher_expired(&self) -> Letter {
        let (name, lost) = (self.name(), self.money("lost"));
        Letter {
            subject: format!("A voucher has expired: {name}"),
            headline: format!("A voucher of {name} has expired"),
            happened: format!("{lost} were left of it. They are not part of the balance any more."),
            figures: vec![
                ("Lost", lost),
                ("Voucher", self.text("voucher")),
                ("When", self.raised.clone()),
            ],
            advice: "There is nothing that you have to do.".to_owned(),
            why: VOUCHER_WHY.to_owned(),
            tone: Tone::Plain,
        }
    }

    fn key_invalidated(&self) -> Letter {
        let name = self.name();
        let keys = self.data.get("keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let of = |key: &Value, field: &str| key.get(field).and_then(Value::as_str).unwrap_or(UNKNOWN).to_owned();
        let (subject, headline) = match keys {
            [key] => {
                let key = of(key, "name");
                (format!("API key “{key}” no longer works: {name}"), format!("The API key “{key}” no longer works"))
            }
            many => (
                format!("{} API keys no longer work: {name}", many.len()),
                format!("{} API keys of {name} no longer work", many.len()),
            ),
        };
        let mut figures: Vec<_> = keys
            .iter()
            .take(KEYS_SHOWN)
            .map(|key| ("API key", format!("{} – {}", of(key, "name"), why_revoked(&of(key, "reason")))))
            .collect();
        if let Some(more) = keys.len().checked_sub(KEYS_SHOWN).filter(|more| *more > 0) {
            figures.push(("And", format!("{more} more")));
        }
        figures.push(("When", self.raised.clone()));
        Letter {
            subject,
            headline,
            happened: "Requests with them are refused.".to_owned(),
            figures,
            advice: "If something still uses one of them, issue another key and put it there.".to_owned(),
            why: "You get this message whenever API keys of the organization stop working.".to_owned(),
            tone: Tone::Stopped,
        }
    }

    fn rate_limits_scaled(&self) -> Letter {
        let factor = self.data.get("factor").and_then(Value::as_str).unwrap_or(UNKNOWN);
        let (subject, headline) = if factor == "1" {
            ("Rate limits are back to normal".to_owned(), "Rate limits are back to normal".to_owned())
        } else {
            let times = format!("Rate limits are multiplied by {factor}");
            (times.clone(), times)
        };
        let mut figures = vec![("Factor", factor.to_owned())];
        let reason = self.data.get("reason").and_then(Value::as_str);
        figures.extend(reason.map(|reason| ("Reason", reason.to_owned())));
        if self.data.get("until").and_then(Value::as_str).is_some() {
            figures.push(("Until", self.time("until")));
        }
        figures.push(("When", self.raised.clone()));
        Letter {
            subject,
            headline,
            happened: "The platform changed the rate limits of all organizations.".to_owned(),
            figures,
            advice: "Clients that are refused with 429 should wait as long as the answer says.".to_owned(),
            why: "You get this message whenever the platform scales rate limits.".to_owned(),
            tone: Tone::Plain,
        }
    }

    fn usage_quarantined(&self) -> Letter {
        let name = self.name();
        Letter {
            subject: format!("Usage is in quarantine: {name}"),
            headline: "Usage could not be booked".to_owned(),
            happened: "It is kept in quarantine, and nothing is lost. Once the cause is mended, it can be released."
                .to_owned(),
            figures: vec![
                ("Reason", self.text("detail")),
                ("Code", self.text("reason")),
                ("Record", self.text("id")),
                ("When", self.raised.clone()),
            ],
            advice: "Look at the quarantine, mend the cause, and release what waits there.".to_owned(),
            why: "You get this message for the first record of a day with the same reason.".to_owned(),
            tone: Tone::Warning,
        }
    }

    fn webhook_disabled(&self) -> Letter {
        let name = self.name();
        Letter {
            subject: format!("A webhook was switched off: {name}"),
            headline: format!("A webhook of {name} gets no alerts any more"),
            happened: "It was switched off because it could not be reached, or said that it is gone.".to_owned(),
            figures: vec![
                ("Webhook", self.text("webhook")),
                ("Reason", self.text("reason")),
                ("When", self.raised.clone()),
            ],
            advice: "Once the receiver works again, switch the webhook on. What it missed can be sent again by hand."
                .to_owned(),
            why: "You get this message whenever a webhook of the organization is switched off for it.".to_owned(),
            tone: Tone::Stopped,
        }
    }

    fn name(&self) -> String {
        self.about.organization.as_ref().map_or_else(|| "the platform".to_owned(), |(_, name)| name.clone())
    }

    fn text(&self, field: &str) -> String {
        self.data.get(field).and_then(Value::as_str).unwrap_or(UNKNOWN).to_owned()
    }

    fn money(&self, field: &str) -> String {
        let amount = self.data.get(field).and_then(Value::as_str).and_then(|text| text.parse::<Amount>().ok());
        amount.map_or_else(|| UNKNOWN.to_owned(), |amount| money(amount, &self.about.currency))
    }

    fn instant(&self, field: &str) -> Option<Timestamp> {
        self.data.get(field)?.as_str()?.parse().ok()
    }

    fn time(&self, field: &str) -> String {
        self.instant(field).map_or_else(|| UNKNOWN.to_owned(), |at| time(at, &self.about.zone))
    }

    fn day_of(&self, field: &str) -> String {
        let zone: &Zone = &self.about.zone;
        self.instant(field).map_or_else(|| UNKNOWN.to_owned(), |at| day(zone.day(at)))
    }

    fn period(&self) -> Period {
        let starts = self.data.get("starts").and_then(Value::as_str).and_then(|text| text.parse::<Day>().ok());
        let monthly = self.data.get("period").and_then(Value::as_str) == Some("monthly");
        if monthly {
            let shown = starts.map_or_else(|| UNKNOWN.to_owned(), |starts| month(starts.month()));
            Period { adjective: "monthly", heading: "Month", within: format!("in {shown}"), shown }
        } else {
            let shown = starts.map_or_else(|| UNKNOWN.to_owned(), day);
            Period { adjective: "daily", heading: "Day", within: format!("on {shown}"), shown }
        }
    }
}

/// A day or month in sentences.
struct Period {
    adjective: &'static str,
    heading: &'static str,
    shown: String,
    within: String,
}

/// Keys that a letter lists.
const KEYS_SHOWN: usize = 20;

const BUDGET_WHY: &str = "You get this message once at 80% and once at 100% of a budget in each period. \
                          Administrators of the project can change or remove its budgets.";
const VOUCHER_WHY: &str =
    "You get this message when a voucher is granted, a week before it expires, and when it has.";

fn why_revoked(code: &str) -> &str {
    match code {
        "requested" => "somebody revoked it",
        "member_removed" => "its creator was removed",
        "member_demoted" => "its creator's role was taken away",
        "project_archived" => "its project was archived",
        other => other,
    }
}
