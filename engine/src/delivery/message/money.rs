//! Money and time as people read them.

use tollbook_schemas::amount::Amount;
use tollbook_schemas::time::{Day, Month, Timestamp, Zone};

/// Digits after the point at most: what is beyond them is cut off, so that nothing looks reached that is not.
const PLACES_MAX: usize = 4;

/// An amount as it is written beside its currency: at least the currency's own digits after the point, thousands apart.
pub(super) fn money(amount: Amount, currency: &str) -> String {
    let text = amount.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let least = places(currency);
    let mut part: String = part.chars().take(PLACES_MAX.max(least)).collect();
    part.truncate(part.trim_end_matches('0').len());
    while part.len() < least {
        part.push('0');
    }
    let whole = thousands(whole);
    let number = if part.is_empty() { whole } else { format!("{whole}.{part}") };
    // Cut to nothing, it has no sign either.
    let sign = if number.bytes().any(|byte| byte.is_ascii_digit() && byte != b'0') { sign } else { "" };
    match symbol(currency) {
        Some(symbol) => format!("{sign}{symbol}{number}"),
        None => format!("{sign}{number} {currency}"),
    }
}

/// Digits after the point that people expect of a currency (ISO 4217).
fn places(currency: &str) -> usize {
    match currency {
        "JPY" | "KRW" | "VND" | "CLP" | "ISK" | "UGX" | "XAF" | "XOF" | "PYG" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// Signs that stand for one currency only, or for hardly any other.
fn symbol(currency: &str) -> Option<&'static str> {
    match currency {
        "USD" => Some("$"),
        "EUR" => Some("€"),
        "GBP" => Some("£"),
        "JPY" => Some("¥"),
        _ => None,
    }
}

fn thousands(digits: &str) -> String {
    let mut apart = String::with_capacity(digits.len().saturating_add(digits.len() / 3));
    for (index, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(index);
        if index > 0 && left.is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// An instant by the clock of a zone, which it names: `21 November 2026, 10:03 (Europe/Berlin, UTC+01:00)`.
pub(super) fn time(at: Timestamp, zone: &Zone) -> String {
    match at.to_jiff().in_tz(zone.name()) {
        Ok(local) if zone.name() == "UTC" => local.strftime("%-d %B %Y, %H:%M UTC").to_string(),
        Ok(local) => local.strftime(&format!("%-d %B %Y, %H:%M ({}, UTC%:z)", zone.name())).to_string(),
        Err(_) => at.to_string(),
    }
}

/// A day: `21 November 2026`.
pub(super) fn day(day: Day) -> String {
    day.date().strftime("%-d %B %Y").to_string()
}

/// A month: `November 2026`.
pub(super) fn month(month: Month) -> String {
    month.first_day().date().strftime("%B %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r7_1_money_is_written_as_people_write_it() {
        let shown = |text: &str, currency| money(text.parse().unwrap(), currency);
        assert_eq!(shown("5", "USD"), "$5.00");
        assert_eq!(shown("-1.2", "USD"), "-$1.20");
        assert_eq!(shown("1234567.891", "EUR"), "€1,234,567.891");
        assert_eq!(shown("4.999999", "USD"), "$4.9999", "not rounded up to what it has not reached");
        assert_eq!(shown("-0.00001", "USD"), "$0.00");
        assert_eq!(shown("100", "CHF"), "100.00 CHF");
        assert_eq!(shown("1200", "JPY"), "¥1,200");
        assert_eq!(shown("0.5", "KWD"), "0.500 KWD");
    }

    #[test]
    fn r1_1_times_are_local_and_say_so() {
        let at: Timestamp = "2026-11-21T09:03:00Z".parse().unwrap();
        let zone: Zone = "Europe/Berlin".parse().unwrap();
        assert_eq!(time(at, &zone), "21 November 2026, 10:03 (Europe/Berlin, UTC+01:00)");
        assert_eq!(time(at, &Zone::utc()), "21 November 2026, 09:03 UTC");
        assert_eq!(day("2026-11-01".parse().unwrap()), "1 November 2026");
        assert_eq!(month("2026-11".parse().unwrap()), "November 2026");
    }
}
