//! What the demo prints. Amounts are never rounded.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use comfy_table::CellAlignment;

use indicatif::{ProgressBar, ProgressStyle};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollbook_schemas::time::Timestamp;

use super::books::{Books, Cell, Sums};
use super::cast::{Cast, MODELS, Organization, ROLES};
use super::script::{GATEWAYS, HOUR_SECONDS, Hour};
use super::traffic::Traffic;
use crate::cli::table::{RULED, table};
use crate::config::LISTEN;
use crate::ledger::Ledger;

/// Decimal places of what a token costs at the prices of the demo.
const AMOUNT_PLACES: u32 = 8;
/// Room for an amount of less than 1,000.
const AMOUNT_WIDTH: usize = 14;

/// Colours of a terminal.
#[derive(Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
    Yellow,
    Cyan,
}

/// Where the demo is shown: lines on standard output, a bar on standard error.
#[derive(Debug)]
pub(super) struct Stage {
    bar: ProgressBar,
    colours: bool,
}

/// A project's consumption as budgets see it.
#[derive(Clone, Debug)]
pub(super) struct Settling {
    pub(super) settled: Decimal,
    pub(super) pending: Decimal,
}

/// An organization at the end of the hour.
pub(super) struct Account<'a> {
    pub(super) organization: &'a Organization,
    pub(super) balance: &'a Value,
    pub(super) spend: &'a BTreeMap<Cell, Sums>,
}

impl Stage {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(u64::try_from(HOUR_SECONDS).unwrap_or_default());
        let style = ProgressStyle::with_template("  {prefix}  {bar:48.cyan/white.dim}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        Self { bar, colours: std::io::stdout().is_terminal() }
    }

    /// One line, or several.
    #[expect(clippy::print_stdout, reason = "this is a command's output")]
    pub(super) fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn paint(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Cyan => "36",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// How far the hour is.
    pub(super) fn progress(&self, seconds: u64, at: Timestamp, sent: &Sums) {
        self.bar.set_prefix(clock_time(at));
        self.bar.set_message(format!("{} requests, {} USD", grouped(sent.requests), amount(sent.cost)));
        self.bar.set_position(seconds);
    }

    /// What is about to be played.
    pub(super) fn open(&self, hour: &Hour, ledger: &Ledger, place: &str, server: &str, traffic: &Traffic) {
        let title = format!(
            "Tollbook plays the hour from {} to {} UTC on a simulated clock",
            clock_time(hour.start),
            clock_time(hour.end)
        );
        self.say(&format!("\n{}\n", self.paint(Ink::Bold, &title)));
        self.say(&self.line("ledger", &format!("{}, {place}", ledger.id)));
        self.say(&self.line("server", server));
        let gateways: Vec<&str> = GATEWAYS.iter().map(|(name, _)| *name).collect();
        let requests = grouped(u64::try_from(traffic.requests.len()).unwrap_or(u64::MAX));
        self.say(&self.line("traffic", &format!("{requests} requests, {}", traffic.origin)));
        let how = format!("CloudEvents over HTTP from {}", gateways.join(" and "));
        self.say(&self.line("", &how));
        for (row, model) in MODELS.iter().enumerate() {
            let price = format!(
                "{:<10} {:>4} input {:>5} cached {:>6} output",
                model.name, model.input, model.cached_input, model.output
            );
            let (head, unit) = if row == 0 { ("prices", ", USD per million tokens") } else { ("", "") };
            self.say(&self.line(head, &format!("{price}{unit}")));
        }
    }

    /// Who takes part.
    pub(super) fn cast(&self, cast: &Cast) {
        for (organization, role) in cast.organizations.iter().zip(&ROLES) {
            self.say(&self.line(organization.name, &role.describe()));
        }
        self.say("");
    }

    fn line(&self, head: &str, text: &str) -> String {
        format!("  {} {text}", self.paint(Ink::Dim, &format!("{head:<13}")))
    }

    /// Something happened.
    pub(super) fn tell(&self, at: Timestamp, what: &str, text: &str) {
        let ink = match what {
            "recharge" | "voucher" | "tier" | "raised" => Ink::Green,
            "alert" => Ink::Bold,
            _ => Ink::Yellow,
        };
        let what = self.paint(ink, &format!("{what:<11}"));
        self.say(&format!("  {}  {what} {text}", self.paint(Ink::Dim, &clock_time(at))));
    }

    /// A cycle ended: what was pending before, and what is settled after.
    pub(super) fn cycle(&self, at: Timestamp, cast: &Cast, before: &[Settling], after: &[Settling]) {
        let projects = cast.organizations.iter().flat_map(|of| of.projects.iter().map(|(_, name)| *name));
        let row = |cells: Vec<String>| {
            cells.iter().map(|cell| format!("{cell:>AMOUNT_WIDTH$}")).collect::<String>()
        };
        let names = row(projects.map(str::to_owned).collect());
        let pending = row(before.iter().map(|project| amount(project.pending)).collect());
        let settled = row(after.iter().map(|project| amount(project.settled)).collect());
        let what = self.paint(Ink::Cyan, &format!("{:<11}", "cycle ends"));
        let time = self.paint(Ink::Dim, &clock_time(at));
        let still: Decimal = after.iter().map(|project| project.pending).sum();
        self.say(&format!("  {time}  {what}{}", self.paint(Ink::Dim, &format!("{:9}{names}", ""))));
        self.say(&format!("  {:21}{}{pending}", "", self.paint(Ink::Dim, "pending  ")));
        self.say(&format!("  {:19}{}{settled}", "", self.paint(Ink::Dim, "→ settled  ")));
        if !still.is_zero() {
            self.say(&format!("  {:21}{} of it came while the cycle closed and is pending", "", still));
        }
    }

    /// An organization's money and consumption.
    pub(super) fn account(&self, account: &Account<'_>) {
        let organization = account.organization;
        let figure = |member: &str| match account.balance.get(member) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))
            | None => "none".to_owned(),
        };
        self.say(&format!("\n{}  {}", self.paint(Ink::Bold, organization.name), organization.id));
        self.say(&format!(
            "available {} {} (cash {}, vouchers {}), recharged {}, {}",
            figure("available"),
            figure("currency"),
            figure("cash"),
            figure("vouchers"),
            figure("cumulative_recharge"),
            figure("tier"),
        ));
        let mut by_model: BTreeMap<(usize, &str), Sums> = BTreeMap::new();
        let mut total = Sums::default();
        for ([_, project, model, _], sums) in account.spend {
            let place = organization.projects.iter().position(|(id, _)| id.as_str() == project);
            by_model.entry((place.unwrap_or(usize::MAX), model)).or_default().add(sums);
            total.add(sums);
        }
        let rows = by_model.iter().map(|((project, model), sums)| {
            let project = organization.projects.get(*project).map_or("?", |(_, name)| *name);
            sums_row(sums, json!({ "project": project, "model": model }))
        });
        let total = sums_row(&total, json!({ "project": "all" }));
        let rows: Vec<Value> = rows.chain([total]).collect();
        self.figures(&["project", "model"], &rows);
    }

    /// A table whose columns after the named ones are sums.
    fn figures(&self, names: &[&str], rows: &[Value]) {
        let columns: Vec<&str> = names.iter().chain(&SUMS).copied().collect();
        let mut table = table(&columns, &rows.iter().collect::<Vec<_>>());
        table.load_style(RULED);
        for column in table.column_iter_mut().skip(names.len()) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.say(&table.to_string());
    }

    /// The ledger says what was sent.
    pub(super) fn equal(&self, books: &Books, booked: &Sums, cells: usize) {
        self.say(&format!(
            "\n{}",
            self.paint(Ink::Bold, "Self-check: what was sent, and what the ledger booked")
        ));
        let rows = [
            sums_row(&books.total, json!({ "counted by": "this demo, from what it sent" })),
            sums_row(booked, json!({ "counted by": "the ledger, as its API answers" })),
        ];
        self.figures(&["counted by"], &rows);
        let equal = self.paint(Ink::Green, "✓ equal to the last decimal");
        self.say(&format!(
            "{equal}, in each of {cells} sums by project, model and key, and in both balances"
        ));
        self.say(&format!(
            "{} {} records came again and were recognized, {} are in quarantine, none is missing",
            self.paint(Ink::Green, "✓"),
            grouped(books.repeated),
            grouped(books.unbookable),
        ));
    }

    /// Every alert had its one cause.
    pub(super) fn told_once(&self, alerts: u64) {
        let check = self.paint(Ink::Green, "✓");
        self.say(&format!("{check} {} alerts were raised, once each", grouped(alerts)));
    }

    /// What any other fold of the same log must come to.
    pub(super) fn digest(&self, position: &str, digest: &str) {
        self.say(&format!("{} state at {position}: {digest}", self.paint(Ink::Green, "✓")));
    }

    /// What to do now.
    pub(super) fn next(&self, server: &str, token_file: &str, cast: &Cast) {
        self.say(&format!("\n{}\n", self.paint(Ink::Bold, "Try it, in another terminal")));
        self.say(&format!("  export TOLLBOOK_TOKEN=$(cat {token_file})"));
        if server != format!("http://{LISTEN}") {
            self.say(&format!("  export TOLLBOOK_SERVER={server}"));
        }
        let run = "cargo run --release --";
        if let [first, second, ..] = cast.organizations.as_slice() {
            self.say(&format!("  {run} balance {}", first.id));
            self.say(&format!("  {run} spend {} --group-by model", second.id));
            self.say(&format!("  {run} recharge {} 80 --reference from-me", first.id));
        }
        self.say(&format!("  {run} quarantine list --limit 5"));
        self.say(&format!("  curl -s -H \"Authorization: Bearer $TOLLBOOK_TOKEN\" {server}/v1/digest"));
        self.say(&format!(
            "\nServing on {}, on the machine's time from now on",
            self.paint(Ink::Bold, server)
        ));
    }
}

/// Columns of [`Sums`].
const SUMS: [&str; 5] = ["requests", "input", "cached", "output", "cost"];

fn sums_row(sums: &Sums, mut row: Value) -> Value {
    if let Some(members) = row.as_object_mut() {
        let figures = [
            grouped(sums.requests),
            grouped(sums.input),
            grouped(sums.cached),
            grouped(sums.output),
            amount(sums.cost),
        ];
        members.extend(SUMS.iter().zip(figures).map(|(name, figure)| ((*name).to_owned(), figure.into())));
    }
    row
}

/// `12:34:56`, in UTC.
pub(super) fn clock_time(at: Timestamp) -> String {
    at.to_jiff().strftime("%H:%M:%S").to_string()
}

/// With zeros up to the places that prices with two give to amounts, so that columns stand in line. Never rounded.
fn amount(exact: Decimal) -> String {
    let mut padded = exact;
    padded.rescale(exact.scale().max(AMOUNT_PLACES));
    padded.to_string()
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && digits.len().saturating_sub(place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), text);
        }
    }
}
