//! Answers as people read them: tables, and one thing as a list of its members.

use std::io::{self, ErrorKind, Write};

use comfy_table::{LineStyle, Table, TableStyle, presets};
use serde_json::Value;
use tollbook_schemas::id::turns_text;

/// A value that is not there.
pub(super) const NOTHING: &str = "–";

/// Rules around the head and below the last row.
pub(crate) const RULED: TableStyle = {
    let rule = LineStyle::none().fill('─').junction('─');
    TableStyle::new().top_border(rule).header_separator(rule).bottom_border(rule)
};

/// A table of the named members of each row; `a.b` reaches into an object.
pub(crate) fn table(columns: &[&str], rows: &[&Value]) -> Table {
    let mut table = Table::new();
    table.load_style(RULED).set_header(columns.to_vec());
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(row, column)));
    }
    table
}

/// The named members of one thing, one on a line.
pub(super) fn record(columns: &[&str], row: &Value) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for column in columns {
        table.add_row([(*column).to_owned(), cell(row, column)]);
    }
    table
}

fn cell(row: &Value, column: &str) -> String {
    let value = column.split('.').try_fold(row, |value, part| value.get(part));
    match value.map(text) {
        Some(text) if !text.is_empty() => text,
        Some(_) | None => NOTHING.to_owned(),
    }
}

/// A value as people read it; nothing where there is none.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

/// Without what would move a terminal's cursor, change its colours or turn its text, and with what has no width to be
/// seen; lines stay lines. Joiners stay, as scripts and pictures need them.
pub(super) fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control() && c != '\n' || turns_text(c) || matches!(c, '\u{200b}' | '\u{2060}' | '\u{feff}')
    };
    text.chars().map(|c| if hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Writes lines to standard output. A reader that has seen enough, such as `head`, is no fault.
pub(super) fn print(lines: &str) -> io::Result<()> {
    write(format!("{lines}\n").as_bytes())
}

/// Writes bytes to standard output as they are.
pub(super) fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_what_people_read() {
        let row = json!({
            "id": "org_1", "none": null, "empty": "", "list": ["a", 1, true], "no_items": [],
            "inner": { "name": "Ada" }, "rude": "\u{1b}[31mred\nline",
            "turned": "a\u{202e}b\u{200b}", "joined": "👩\u{200d}🚀",
        });
        for (column, expected) in [
            ("id", "org_1"),
            ("none", "–"),
            ("missing", "–"),
            ("inner.missing", "–"),
            ("empty", "–"),
            ("no_items", "–"),
            ("list", "a, 1, true"),
            ("inner.name", "Ada"),
            ("inner", r#"{"name":"Ada"}"#),
            ("rude", "\u{fffd}[31mred\nline"),
            ("turned", "a\u{fffd}b\u{fffd}"),
            ("joined", "👩\u{200d}🚀"),
        ] {
            assert_eq!(cell(&row, column), expected, "{column}");
        }
    }
}
