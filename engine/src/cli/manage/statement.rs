//! Statements, and invoices over recharges (R4.10, R8.3).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::super::table::{table, text};
use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs};

/// Which statement.
#[derive(Args, Debug)]
pub(in super::super) struct StatementArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// The month, such as 2026-11, by when things were booked
    #[arg(long, value_name = "YYYY-MM")]
    month: String,
    /// The statement's canonical bytes: of a sealed one, `sha256sum` is the seal
    #[arg(long)]
    csv: bool,
}

const COLUMNS: &[&str] = &[
    "line",
    "time",
    "reference",
    "requests",
    "input_tokens",
    "output_tokens",
    "cost",
    "cash",
    "vouchers",
    "cash_after",
    "vouchers_after",
];

/// A statement's JSON as people read it.
pub fn statement_table(answer: &Value) -> String {
    let lines = lines(answer.clone());
    let items = lines.get("items").and_then(Value::as_array).into_iter().flatten().collect::<Vec<_>>();
    format!("{}\n{}", table(COLUMNS, &items), seal(answer).unwrap_or_default())
}

impl Calls for StatementArgs {
    fn call(self) -> Result<Call, ManageError> {
        let call = Call::get(self.organization.path("/statement"), COLUMNS).query("month", Some(self.month));
        Ok(if self.csv {
            call.query("format", Some("csv".to_owned())).raw()
        } else {
            call.rows(lines).note(seal)
        })
    }
}

/// One row for each line of a statement.
fn lines(answer: Value) -> Value {
    let balance = |line: &str, name: &str| {
        let funds = |purse: &str| answer.get(name).and_then(|funds| funds.get(purse)).cloned();
        json!({ "line": line, "cash_after": funds("cash"), "vouchers_after": funds("vouchers") })
    };
    let each = |name: &str| answer.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut items = vec![balance("opening", "opening")];
    items.extend(each("movements").into_iter().map(|line| with(line, "line", |line| member(line, "kind"))));
    for line in each("usage") {
        let line = with(line, "line", |line| format!("usage {}", member(line, "month")));
        items.push(with(line, "reference", |line| {
            format!("{} {}", member(line, "project"), member(line, "model"))
        }));
    }
    let used = answer.get("used").cloned().unwrap_or_default();
    items.push(with(used, "line", |_| "used".to_owned()));
    items.push(balance("closing", "closing"));
    json!({ "items": items })
}

fn with(line: Value, name: &str, make: impl FnOnce(&Value) -> String) -> Value {
    let made = make(&line);
    let mut members = if let Value::Object(members) = line { members } else { Map::new() };
    members.insert(name.to_owned(), made.into());
    members.into()
}

fn member(value: &Value, name: &str) -> String {
    value.get(name).map(text).unwrap_or_default()
}

/// How far the month is.
fn seal(answer: &Value) -> Option<String> {
    let state = member(answer, "state");
    let seal = answer.get("seal").filter(|seal| !seal.is_null());
    Some(match seal {
        Some(seal) => format!(
            "{state}: SHA-256 of the CSV is {}, by {} at {}",
            member(seal, "sha256"),
            member(seal, "position"),
            member(seal, "sealed_at"),
        ),
        None => state,
    })
}

/// Invoices.
#[derive(Debug, Subcommand)]
pub(in super::super) enum InvoiceCommand {
    /// Issue the invoice over a closed month's recharges
    Issue {
        #[command(flatten)]
        organization: OrgArg,
        /// The month, such as 2026-10
        #[arg(long, value_name = "YYYY-MM")]
        month: String,
    },
    /// List invoices and credit notes, in the order of their numbers
    List {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one, with its lines
    Show {
        #[command(flatten)]
        organization: OrgArg,
        /// The invoice or credit note, invoice_…
        invoice: Id,
    },
}

const INVOICE: &[&str] = &["number", "kind", "id", "month", "total", "currency", "issued_at", "invoice"];
const LINES: &[&str] = &["recharge", "reference", "amount"];

impl Calls for InvoiceCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Issue { organization, month } => {
                let body = json!({ "month": month });
                Call::write(Method::POST, organization.path("/invoices"), body, INVOICE)
            }
            Self::List { organization, page } => {
                Call::get(organization.path("/invoices"), INVOICE).page(page)
            }
            Self::Show { organization, invoice } => {
                Call::get(organization.path(&format!("/invoices/{invoice}")), LINES)
                    .rows(|answer| json!({ "items": answer.get("lines") }))
                    .note(|answer| {
                        let of = |name: &str| member(answer, name);
                        Some(format!("{} {}: {} {}", of("kind"), of("number"), of("total"), of("currency")))
                    })
            }
        })
    }
}
