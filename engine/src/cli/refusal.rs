//! What a server said no with, told to a person.

use std::fmt;

use reqwest::StatusCode;
use serde_json::Value;

use super::table::{text, visible};

/// What a server said no with.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// The problem's code, detail and faults; null where the answer was no problem report.
    pub body: Value,
}

impl Refusal {
    fn part(&self, name: &str) -> Option<String> {
        // Refusals to customers have the shape that clients of LLM APIs know.
        let customers = if name == "detail" { "/error/message" } else { "/error/code" };
        let found = self.body.get(name).or_else(|| self.body.pointer(customers));
        found.and_then(Value::as_str).map(visible)
    }

    /// Whether it names faults one by one.
    pub(super) fn has_faults(&self) -> bool {
        self.faults().next().is_some()
    }

    fn faults(&self) -> impl Iterator<Item = &Value> {
        self.body.get("errors").and_then(Value::as_array).into_iter().flatten()
    }

    /// What was refused in one sentence, with the code that programs go by.
    fn summary(&self) -> String {
        match (self.part("detail"), self.part("code")) {
            (Some(detail), Some(code)) => format!("{detail} ({code}, {})", self.status.as_u16()),
            (Some(detail), None) => format!("{detail} ({})", self.status.as_u16()),
            (None, _) => format!("the server answered {}", self.status),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        let detail = self.part("detail");
        for fault in self.faults() {
            let line = fault_line(fault);
            // One fault is often the whole story.
            if detail.as_ref() != Some(&line) {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

fn fault_line(fault: &Value) -> String {
    let part = |name: &str| fault.get(name).and_then(Value::as_str).map(visible).unwrap_or_default();
    let place = fault.get("index").map(|index| format!("event {index}: ")).unwrap_or_default();
    format!("{place}{} {}", part("field"), part("reason"))
}

/// Refused items of a list: each with its place, counted from 1, its text, and what is wrong with it.
#[derive(Clone, Debug, thiserror::Error)]
pub struct BadItems(pub Refusal);

/// Stands before what is wrong, where no colour would reach.
const MARK: &str = "✗";

impl fmt::Display for BadItems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(refusal) = self;
        f.write_str(&refusal.summary())?;
        let lines: Vec<[String; 3]> = refusal.faults().map(item).collect();
        let widest = |column: fn(&[String; 3]) -> &String| {
            lines.iter().map(|line| column(line).chars().count()).max().unwrap_or_default()
        };
        let (places, texts) = (widest(|[place, _, _]| place), widest(|[_, text, _]| text));
        for [place, text, reason] in &lines {
            write!(f, "\n  {MARK} {place:<places$}  {text:<texts$}  {reason}")?;
        }
        f.write_str("\nnothing was saved; the list is as it was")
    }
}

fn item(fault: &Value) -> [String; 3] {
    let index = fault.get("index").and_then(Value::as_u64);
    let place = match index {
        Some(index) => format!("item {}", index.saturating_add(1)),
        None => "list".to_owned(),
    };
    let part = |name: &str| fault.get(name).map(text).unwrap_or_default();
    // One line each, whatever was pasted.
    [place, part("value").replace('\n', " "), part("reason")]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(status: u16, body: Value) -> Refusal {
        Refusal { status: StatusCode::from_u16(status).unwrap(), body }
    }

    #[test]
    fn a_refusal_says_each_fault_once() {
        let one = json!({
            "detail": "name must not be blank", "code": "invalid_fields",
            "errors": [{ "field": "name", "value": " ", "reason": "must not be blank" }],
        });
        assert_eq!(refusal(400, one).to_string(), "name must not be blank (invalid_fields, 400)");
        let two = json!({
            "detail": "name must not be blank, and 1 more", "code": "invalid_fields",
            "errors": [
                { "field": "name", "reason": "must not be blank" },
                { "field": "email", "reason": "must be an e-mail address" },
            ],
        });
        assert_eq!(
            refusal(400, two).to_string(),
            "name must not be blank, and 1 more (invalid_fields, 400)\n  name must not be blank\n  \
             email must be an e-mail address"
        );
    }

    #[test]
    fn what_is_no_problem_report_is_told_by_its_status() {
        assert_eq!(refusal(502, Value::Null).to_string(), "the server answered 502 Bad Gateway");
    }

    #[test]
    fn bad_items_stand_below_each_other() {
        let body = json!({
            "detail": "item 2 `10.0.0.1` is private, and 1 more", "code": "allowlist_invalid",
            "errors": [
                { "index": 1, "value": "10.0.0.1", "reason": "is private" },
                { "index": 9, "value": "::1", "reason": "is IPv6" },
                { "field": "text", "reason": "holds 30 different items; at most 20 are allowed" },
            ],
        });
        assert_eq!(
            BadItems(refusal(422, body)).to_string(),
            "item 2 `10.0.0.1` is private, and 1 more (allowlist_invalid, 422)\n  \
             ✗ item 2   10.0.0.1  is private\n  \
             ✗ item 10  ::1       is IPv6\n  \
             ✗ list               holds 30 different items; at most 20 are allowed\n\
             nothing was saved; the list is as it was"
        );
    }
}
