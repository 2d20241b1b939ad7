//! Canonical bytes of a statement: CSV as RFC 4180 has it, with CRLF and quotes where they are needed and nowhere else.
//!
//! One header, then lines in this order, each with what is not its own left empty:
//!
//! ```text
//! opening    cash_after, vouchers_after: what there was
//! movement   everything but usage, in the order of the log
//! usage      by month of occurrence, project, model: counts and cost
//! used       the sum of those, and what it took of cash and vouchers
//! closing    cash_after, vouchers_after: what there is
//! ```
//!
//! So `cash` and `vouchers` added up from the first line to the last are what closing says less what opening says.
//!
//! Text stays exactly as it was given. A spreadsheet may take one that begins with `=` for a formula, but to change it
//! would be to change a payment's reference; and no text in here is a customer's: references, reasons and names of
//! models are the operator's, ids the engine's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use tollbook_schemas::id::MeterName;
use tollbook_schemas::position::LogPosition;

use super::{Statement, UsedIn};
use crate::movement::Movement;
use crate::purse::Funds;
use crate::spend::Cell;

/// Names of the columns, in their order. They stay: new ones come after the last, with statements of later months.
pub const COLUMNS: [&str; 26] = [
    "organization",
    "month",
    "currency",
    "line",
    "position",
    "time",
    "kind",
    "id",
    "relates_to",
    "number",
    "reference",
    "reason",
    "memo",
    "cash",
    "vouchers",
    "cash_after",
    "vouchers_after",
    "usage_month",
    "project",
    "model",
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "meters",
    "cost",
];

/// One line, by what its columns hold after the first three.
#[derive(Default)]
struct Line<'a> {
    line: &'static str,
    position: Option<LogPosition>,
    movement: Option<&'a Movement>,
    change: Option<Funds>,
    after: Option<Funds>,
    used_in: Option<&'a UsedIn>,
    used: Option<&'a Cell>,
}

pub(super) fn write(statement: &Statement) -> Vec<u8> {
    let about = &statement.about;
    let lead = [about.organization.to_string(), about.month.to_string(), about.currency.clone()];
    let mut text = String::new();
    record(&mut text, COLUMNS.map(Cow::Borrowed));
    let mut put = |line: Line<'_>| {
        let [organization, month, currency] = lead.each_ref().map(|field| Cow::Borrowed(field.as_str()));
        record(&mut text, [organization, month, currency].into_iter().chain(fields(&line)));
    };
    put(Line { line: "opening", after: Some(statement.opening), ..Line::default() });
    for movement in &statement.movements {
        let position = LogPosition { partition: about.partition, position: movement.position };
        put(Line {
            line: "movement",
            position: Some(position),
            movement: Some(movement),
            change: Some(movement.change),
            after: Some(movement.after),
            ..Line::default()
        });
    }
    for (used_in, used) in &statement.usage {
        put(Line { line: "usage", used_in: Some(used_in), used: Some(used), ..Line::default() });
    }
    let (change, used) = (Some(statement.usage_change()), Some(&statement.used));
    put(Line { line: "used", change, used, ..Line::default() });
    put(Line { line: "closing", after: Some(statement.closing), ..Line::default() });
    text.into_bytes()
}

/// Everything after the first three columns.
fn fields<'a>(line: &Line<'a>) -> [Cow<'a, str>; 23] {
    let movement = line.movement;
    let partition = line.position.map(|at| at.partition).unwrap_or_default();
    [
        line.line.into(),
        shown(line.position),
        shown(movement.map(|movement| movement.booked_at)),
        movement.map(|movement| movement.kind().code()).unwrap_or_default().into(),
        movement.and_then(Movement::id).unwrap_or_default().into(),
        shown(movement.and_then(|movement| movement.relates_to(partition))),
        shown(movement.and_then(Movement::document)),
        movement.and_then(|movement| movement.reference.as_ref()).map_or("", |text| text.as_str()).into(),
        movement.and_then(|movement| movement.reason.as_ref()).map_or("", |text| text.as_str()).into(),
        shown(movement.and_then(Movement::memo)),
        shown(line.change.map(|funds| funds.cash)),
        shown(line.change.map(|funds| funds.vouchers)),
        shown(line.after.map(|funds| funds.cash)),
        shown(line.after.map(|funds| funds.vouchers)),
        shown(line.used_in.map(|used_in| used_in.month)),
        line.used_in.map(|used_in| used_in.project.as_str()).unwrap_or_default().into(),
        line.used_in.map(|used_in| used_in.model.as_str()).unwrap_or_default().into(),
        shown(line.used.map(|cell| cell.requests)),
        shown(line.used.map(|cell| cell.input_tokens)),
        shown(line.used.map(|cell| cell.cached_input_tokens)),
        shown(line.used.map(|cell| cell.output_tokens)),
        line.used.map(|cell| meters(&cell.meters)).unwrap_or_default().into(),
        shown(line.used.map(|cell| cell.cost)),
    ]
}

fn shown<'a>(value: Option<impl ToString>) -> Cow<'a, str> {
    value.map(|value| value.to_string()).unwrap_or_default().into()
}

/// A JSON object in the order of names, without spaces and without zeros; nothing where nothing is left.
fn meters(meters: &BTreeMap<MeterName, i128>) -> String {
    let used: Vec<String> = meters
        .iter()
        .filter(|(_, units)| **units != 0)
        // Names hold no control characters, so these two are all that JSON asks to be escaped.
        .map(|(name, units)| {
            format!("\"{}\":{units}", name.as_str().replace('\\', "\\\\").replace('"', "\\\""))
        })
        .collect();
    if used.is_empty() { String::new() } else { format!("{{{}}}", used.join(",")) }
}

fn record<'a>(text: &mut String, fields: impl IntoIterator<Item = Cow<'a, str>>) {
    for (number, field) in fields.into_iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        if field.contains([',', '"', '\r', '\n']) {
            // Writing to a text cannot fail.
            if write!(text, "\"{}\"", field.replace('"', "\"\"")).is_err() {
                return;
            }
        } else {
            text.push_str(&field);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests;
