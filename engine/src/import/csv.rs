//! CSV with a header, columns named as the members of a CloudEvent: `id`, `source`, `subject`, `time`, `producerseq`,
//! those of `data`, and `meter.<name>` for further meters. An empty cell is an absent member.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use tollbook_schemas::cloudevent::{SPEC_VERSION, USAGE_TYPE};
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::Usage;

use super::{OpenError, jsonl};

/// What begins the name of a meter's column.
const METER: &str = "meter.";

/// Where a cell goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Column {
    /// A member of the event.
    Attribute(&'static str),
    /// A text of `data`.
    Text(&'static str),
    /// A quantity of `data`.
    Quantity(&'static str),
    /// A further meter.
    Meter(String),
}

const ATTRIBUTES: [&str; 5] = ["id", "source", "subject", "time", "producerseq"];
const TEXTS: [&str; 6] = ["api_key_id", "project", "model", "cost", "lease", "request_id"];
const QUANTITIES: [&str; 3] = ["input_tokens", "cached_input_tokens", "output_tokens"];
const REQUIRED: [&str; 6] = ["id", "source", "subject", "model", "input_tokens", "output_tokens"];

impl Column {
    fn named(name: &str) -> Option<Self> {
        let known = |names: &[&'static str]| names.iter().copied().find(|known| *known == name);
        known(&ATTRIBUTES)
            .map(Self::Attribute)
            .or_else(|| known(&TEXTS).map(Self::Text))
            .or_else(|| known(&QUANTITIES).map(Self::Quantity))
            .or_else(|| name.strip_prefix(METER).map(|meter| Self::Meter(meter.to_owned())))
    }
}

/// Reads rows below a header.
#[derive(Debug)]
pub(super) struct Reader {
    columns: Vec<Column>,
}

impl Reader {
    /// Errors: unknown, repeated and missing columns. An unknown one may be a misspelt quantity, so it is not ignored.
    pub(super) fn open(header: &[String]) -> Result<Self, OpenError> {
        let mut columns: Vec<Column> = Vec::with_capacity(header.len());
        for name in header {
            let column = Column::named(name)
                .ok_or_else(|| OpenError::Header(format!("there is no column `{name}` in this format")))?;
            if columns.contains(&column) {
                return Err(OpenError::Header(format!("column `{name}` stands there twice")));
            }
            columns.push(column);
        }
        let absent = |names: &[&str]| !names.iter().any(|name| header.iter().any(|column| column == name));
        if let Some(name) = REQUIRED.iter().find(|name| absent(&[**name])) {
            return Err(OpenError::Header(format!("column `{name}` is missing")));
        }
        if absent(&["api_key_id", "project"]) {
            return Err(OpenError::Header("column `api_key_id` or `project` is missing".into()));
        }
        Ok(Self { columns })
    }

    /// The record of one row, by way of the event it stands for: what holds for events holds here.
    pub(super) fn row(&mut self, text: &str, arrived: Timestamp) -> Result<Usage, String> {
        let cells = fields(text)?;
        if cells.len() != self.columns.len() {
            return Err(format!("has {} cells; the header has {}", cells.len(), self.columns.len()));
        }
        let mut event = Map::new();
        let (mut data, mut meters) = (Map::new(), Map::new());
        for (column, cell) in self.columns.iter().zip(&cells).filter(|(_, cell)| !cell.is_empty()) {
            match column {
                Column::Attribute(name) => event.insert((*name).to_owned(), json!(cell)),
                Column::Text(name) => data.insert((*name).to_owned(), json!(cell)),
                Column::Quantity(name) => data.insert((*name).to_owned(), quantity(cell)),
                Column::Meter(name) => meters.insert(name.clone(), quantity(cell)),
            };
        }
        event.insert("specversion".to_owned(), json!(SPEC_VERSION));
        event.insert("type".to_owned(), json!(USAGE_TYPE));
        if !meters.is_empty() {
            data.insert("meters".to_owned(), Value::Object(meters));
        }
        event.insert("data".to_owned(), Value::Object(data));
        jsonl::row(&Value::Object(event).to_string(), arrived)
    }
}

/// A cell's number; anything else stays text, which the reader of events refuses with its reason.
fn quantity(cell: &str) -> Value {
    let digits = cell.bytes().all(|byte| byte.is_ascii_digit());
    cell.parse::<u64>().ok().filter(|_| digits).map_or_else(|| json!(cell), Value::from)
}

/// The cells of one line (RFC 4180). By hand, because no cell of ours may hold a line break: a reader of whole records
/// would take an unclosed quote for the rest of the file.
pub(super) fn fields(line: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let (cell, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if cell.contains('"') {
                    return Err("has a quote inside a cell without quotes around it");
                }
                (Cow::Borrowed(cell), after)
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(cells),
            None => return Err("has something between a closing quote and the next comma"),
        }
    }
}

/// The cell up to its closing quote, and what follows.
fn quoted_cell(quoted: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut cell = String::new();
    let mut rest = quoted;
    loop {
        let (piece, after) = rest.split_once('"').ok_or("has an opening quote without a closing one")?;
        match after.strip_prefix('"') {
            Some(next) => {
                cell.push_str(piece);
                cell.push('"');
                rest = next;
            }
            None if cell.is_empty() => return Ok((Cow::Borrowed(piece), after)),
            None => {
                cell.push_str(piece);
                return Ok((Cow::Owned(cell), after));
            }
        }
    }
}
