//! What State and its history rows say, in the form in which `tests/oracle/ledger.py` prints it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use tollbook_projections::movement::Movement;
use tollbook_projections::organization::Organization;
use tollbook_projections::purse::Funds;
use tollbook_projections::spend::{Cell, CellKey, OpenCells};
use tollbook_projections::statement::{Booked, Kept, Statement, UsedIn};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{OrgId, ProjectId};
use tollbook_schemas::time::Month;
use tollbook_tests::books::{books_of, export_of};
use tollbook_tests::memory::{MemoryLedger, PARTITION};

/// What the other program may complain of.
#[derive(Clone, Copy)]
pub(super) enum Allowed {
    Nothing,
    /// Statements are sealed with made-up hashes.
    Seals,
}

/// Fails with the first difference, and the first entry after which there is one.
#[track_caller]
pub(super) fn agree(place: &str, ledger: &MemoryLedger, allowed: Allowed) {
    let Some(found) = disagreement(ledger, allowed) else { return };
    let (mut good, mut bad) = (0, ledger.log.len());
    let mut first = found;
    while bad - good > 1 {
        let middle = (good + bad) / 2;
        match disagreement(&ledger.after(middle), allowed) {
            Some(found) => (bad, first) = (middle, found),
            None => good = middle,
        }
    }
    println!("{}", export_of(ledger)[bad]);
    panic!("{place}, after entry 0-{bad}: {first}");
}

fn disagreement(ledger: &MemoryLedger, allowed: Allowed) -> Option<String> {
    let mut books = books_of(ledger);
    let mut complaints = books["complaints"].take();
    complaints.as_array_mut().unwrap().retain(|complaint| match allowed {
        Allowed::Nothing => true,
        Allowed::Seals => !complaint.as_str().unwrap().ends_with("is not the one that was sealed"),
    });
    books.as_object_mut().unwrap().remove("complaints");
    for organization in books["organizations"].as_object_mut().unwrap().values_mut() {
        forget_ended_periods(organization);
    }
    if complaints != json!([]) {
        return Some(format!("complaints: {complaints:#}"));
    }
    difference("", &in_state(ledger), &books)
        .map(|(path, engine, other)| format!("{path}\nengine: {engine:#}\nother:  {other:#}"))
}

/// State keeps settled spend only of what budgets can still ask for: today and this month (R6.4).
fn forget_ended_periods(organization: &mut Value) {
    let today = organization["today"].as_str().unwrap().to_owned();
    let settled = organization["settled_spend"].take();
    let (mut days, mut months) = (BTreeMap::new(), BTreeMap::new());
    for row in settled.as_array().unwrap() {
        let (project, day) = (row["project"].as_str().unwrap(), row["day"].as_str().unwrap());
        let cost: Amount = row["cost"].as_str().unwrap().parse().unwrap();
        if day == today {
            add(&mut days, project, cost);
        }
        if day[..7] == today[..7] {
            add(&mut months, project, cost);
        }
    }
    organization["settled_spend"] = json!({ "today": days, "this_month": months });
    for amounts in ["today", "this_month"] {
        let amounts = organization["settled_spend"][amounts].as_object_mut().unwrap();
        amounts.retain(|_, amount| amount != "0");
    }
}

fn add(sums: &mut BTreeMap<String, String>, project: &str, cost: Amount) {
    let sum = sums.entry(project.to_owned()).or_insert_with(|| "0".into());
    let before: Amount = sum.parse().unwrap();
    *sum = before.checked_add(cost).unwrap().to_string();
}

/// Where two documents differ first, and what each says there.
fn difference(path: &str, one: &Value, other: &Value) -> Option<(String, Value, Value)> {
    match (one, other) {
        (Value::Object(ours), Value::Object(theirs)) => {
            let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
            let of =
                |fields: &Map<String, Value>, name: &String| fields.get(name).cloned().unwrap_or_default();
            names
                .into_iter()
                .find_map(|name| difference(&format!("{path}/{name}"), &of(ours, name), &of(theirs, name)))
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            let length = ours.len().max(theirs.len());
            let of = |items: &[Value], place: usize| items.get(place).cloned().unwrap_or_default();
            (0..length).find_map(|place| {
                difference(&format!("{path}/{place}"), &of(ours, place), &of(theirs, place))
            })
        }
        _ if one == other => None,
        _ => Some((path.to_owned(), one.clone(), other.clone())),
    }
}

fn in_state(ledger: &MemoryLedger) -> Value {
    let head = ledger.state.head();
    let quarantine: Map<String, Value> = ledger
        .quarantine
        .iter()
        .filter(|held| !ledger.settled.contains_key(&held.place))
        .map(|held| (format!("0-{}", held.place), held.reason.code().into()))
        .collect();
    let organizations: Map<String, Value> = ledger
        .state
        .organizations()
        .map(|known| (known.id.to_string(), organization(ledger, known)))
        .collect();
    let trial: Map<String, Value> = ledger
        .state
        .trial_balance()
        .unwrap()
        .iter()
        .map(|(account, balance)| (account.to_string(), text(balance)))
        .collect();
    json!({
        "partitions": { "0": {
            "recorded_at": head.recorded_at.nanos(),
            "term": head.term,
            "usage_records": head.usage_records,
        } },
        "quarantine": quarantine,
        "organizations": organizations,
        "trial_balance": trial,
    })
}

fn organization(ledger: &MemoryLedger, known: &Organization) -> Value {
    let head = ledger.state.head();
    let today = known.calendar.day(head.recorded_at);
    let purse = &known.purse;
    let tiers = ledger.state.config().tiers_at(head.recorded_at);
    let vouchers: Vec<Value> = purse
        .each_voucher()
        .iter()
        .map(|voucher| {
            let expires_at = voucher.expires_at.map(|at| at.nanos());
            json!({ "id": voucher.voucher.as_str(), "left": text(voucher.left), "expires_at": expires_at })
        })
        .collect();
    json!({
        "today": today.to_string(),
        "cash": text(purse.cash()),
        "available": text(purse.available()),
        "vouchers": vouchers,
        "cumulative_recharge": text(purse.cumulative_recharge()),
        "voucher_granted": purse.voucher_granted(),
        "tier": tiers.tier(purse.cumulative_recharge()).map(|tier| tier.name.to_string()),
        "credit_limit": known.credit_limit.map(text),
        "spent": text(purse.spent()),
        "booked": known.counts.booked,
        "duplicates": known.counts.duplicates,
        "quarantined": known.counts.quarantined,
        "settled": known.counts.settled,
        "documents": known.documents,
        "pending": pending(known),
        "settled_spend": {
            "today": spent(known, |project| known.projects[project].spend.settled_on(today)),
            "this_month": spent(known, |project| known.projects[project].spend.settled_in(today.month())),
        },
        "spend": spend(&ledger.cells(&known.id)),
        "statements": statements(ledger, known),
    })
}

fn text(amount: Amount) -> Value {
    amount.to_string().into()
}

fn pair(funds: Funds) -> Value {
    json!({ "cash": text(funds.cash), "vouchers": text(funds.vouchers) })
}

/// By project and day.
fn pending(known: &Organization) -> Value {
    let mut rows = Vec::new();
    for (project, state) in &known.projects {
        for (day, cost) in state.spend.pending() {
            if !cost.is_zero() {
                rows.push(json!({ "project": project.as_str(), "day": day.to_string(), "cost": text(cost) }));
            }
        }
    }
    rows.into()
}

fn spent(known: &Organization, of: impl Fn(&ProjectId) -> Amount) -> Value {
    let amounts = known.projects.keys().map(|project| (project, of(project)));
    let some = amounts.filter(|(_, amount)| !amount.is_zero());
    Value::Object(some.map(|(project, amount)| (project.to_string(), text(amount))).collect())
}

fn figures(cell: &Cell) -> Map<String, Value> {
    let meters: Map<String, Value> = cell
        .meters
        .iter()
        .filter(|(_, units)| **units != 0)
        .map(|(meter, units)| (meter.to_string(), number(*units)))
        .collect();
    let Value::Object(fields) = json!({
        "requests": cell.requests,
        "input_tokens": number(cell.input_tokens),
        "cached_input_tokens": number(cell.cached_input_tokens),
        "output_tokens": number(cell.output_tokens),
        "meters": meters,
        "cost": text(cell.cost),
    }) else {
        panic!("it is an object")
    };
    fields
}

fn number(number: i128) -> Value {
    i64::try_from(number).unwrap().into()
}

fn spend(cells: &BTreeMap<CellKey, Cell>) -> Value {
    let some = cells.iter().filter(|(_, cell)| !cell.is_nothing());
    some.map(|(CellKey { day, project, model, key }, cell)| {
        let mut row = figures(cell);
        row.insert("day".into(), day.to_string().into());
        row.insert("project".into(), project.as_str().into());
        row.insert("model".into(), model.as_str().into());
        row.insert("api_key".into(), key.as_ref().map(|key| key.as_str()).into());
        Value::Object(row)
    })
    .collect()
}

/// Statements by month, from everything that became rows of the view and what State still holds.
fn statements(ledger: &MemoryLedger, known: &Organization) -> Value {
    let ended = ledger.months.iter().filter(|(of, _)| *of == known.id).map(|(_, ended)| ended.month);
    let open = known.month.active.then_some(known.month.month);
    let statements = ended.chain(open).map(|month| {
        let statement = statement_of(ledger, known, month);
        let shown = json!({
            "opening": pair(statement.opening),
            "movements": statement.movements.iter().map(movement).collect::<Vec<_>>(),
            "usage": pair(statement.took),
            "usage_rows": statement.usage.iter().map(usage_row).collect::<Vec<_>>(),
            "closing": pair(statement.closing),
            "sha256": hex(statement.hash()),
        });
        (month.to_string(), shown)
    });
    Value::Object(statements.collect())
}

/// As a node makes it from its view, and State.
pub(crate) fn statement_of(ledger: &MemoryLedger, known: &Organization, month: Month) -> Statement {
    let mine = |(of, _): &&(OrgId, OpenCells)| *of == known.id;
    let cells = ledger.history.iter().filter(mine).filter(|(_, cells)| cells.booked_on.month() == month);
    let ended = ledger.months.iter().filter(|(of, ended)| *of == known.id && ended.month <= month);
    let movements = ledger.movements.iter();
    let movements = movements.filter(|(of, movement)| *of == known.id && movement.month == month);
    let booked = Booked {
        ended: ended.map(|(_, ended)| ended).next_back().cloned(),
        movements: movements.map(|(_, movement)| movement.clone()).collect(),
        cells: cells.map(|(_, cells)| cells.clone()).collect(),
    };
    Kept::of(&ledger.state, known, month, ledger.now).unwrap().with(booked).unwrap()
}

fn movement(movement: &Movement) -> Value {
    json!({
        "position": format!("0-{}", movement.position),
        "time": movement.booked_at.to_string(),
        "kind": movement.kind().code(),
        "id": movement.id(),
        "relates_to": movement.relates_to(PARTITION),
        "number": movement.document(),
        "reference": movement.reference.as_ref().map(|reference| reference.as_str()),
        "reason": movement.reason.as_ref().map(|reason| reason.as_str()),
        "memo": movement.memo().map(text),
        "cash": text(movement.change.cash),
        "vouchers": text(movement.change.vouchers),
        "after": pair(movement.after),
    })
}

fn usage_row((used_in, cell): (&UsedIn, &Cell)) -> Value {
    let mut row = figures(cell);
    row.insert("project".into(), used_in.project.as_str().into());
    row.insert("model".into(), used_in.model.as_str().into());
    row.insert("occurred_in".into(), used_in.month.to_string().into());
    Value::Object(row)
}

fn hex(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
