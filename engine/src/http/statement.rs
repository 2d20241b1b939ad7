//! Statements: what moved an organization's money in a month, and what was used (R8.3).

use std::collections::BTreeMap;

use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tollbook_projections::books::Seal;
use tollbook_projections::movement::Movement;
use tollbook_projections::purse::Funds;
use tollbook_projections::spend::Cell;
use tollbook_projections::statement::{Kept, NoStatement, Statement, UsedIn};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::id::{MeterName, ModelName, OrgId, ProjectId, Reason, Reference};
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::time::{Month, Timestamp};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, ResponseBuilder};

use super::answer::{Answer, Json};
use super::document::{Routes, Says};
use super::kinds::choices;
use super::problem::Problem;
use super::reading::{Reading, view_of};
use super::shape::{IfAny, Out, Parts, Text, answer, request};
use crate::permission::Action;
use crate::statement::{StatementError, complete};

pub(super) fn routes(routes: &mut Routes) {
    routes.family("Statements", "What a month came to, and what was invoiced.");
    let says = Says {
        id: "getStatement",
        summary: "See the statement of a month",
        more: "Opening and closing balance, every movement, and usage by project and model. A month is the organization's \
               local one, by when things were booked; usage that came late names the month in which it occurred. Once the \
               month is closed and its statement sealed, its CSV never changes by a byte, and the seal is its SHA-256.",
    };
    routes.read("/v1/organizations/{org}/statement", says, statement);
}

request! {
    /// Which statement.
    pub(super) struct StatementQuery {
        /// The month.
        month: Month,
        /// JSON or CSV; without it, what `Accept` names, and else JSON.
        format: Option<Format>,
    }
}

/// How a statement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv,
}

choices! {
    Format = "Format", "How something is written." {
        Json = "json",
        Csv = "csv",
    }
}

/// How far a month is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MonthState {
    Open,
    Closed,
    Sealed,
}

choices! {
    MonthState = "MonthState", "How far a month is: `open`, more may be booked in it; `closed`, it is over; `sealed`, its \
                                statement's hash stands in the log. A month in which nothing was booked stays closed." {
        Open = "open",
        Closed = "closed",
        Sealed = "sealed",
    }
}

impl MonthState {
    const fn of(closed: bool, seal: Option<&Seal>) -> Self {
        match (seal, closed) {
            (Some(_), _) => Self::Sealed,
            (None, true) => Self::Closed,
            (None, false) => Self::Open,
        }
    }
}

answer! {
    /// The statement of a month: opening and all changes are closing, of cash and of vouchers.
    pub(super) struct MonthStatement {
        /// Whose.
        organization: OrgId,
        /// The month, by when things were booked.
        month: Month,
        /// The ledger's currency.
        currency: String,
        /// How far the month is.
        state: MonthState,
        /// The month's first instant.
        start: Timestamp,
        /// The first instant after it.
        end: Timestamp,
        /// What there was when it began.
        opening: StatementFunds,
        /// Everything but usage, in the order of the log.
        movements: Vec<StatementMovement>,
        /// Usage by month of occurrence, project and model.
        usage: Vec<StatementUsage>,
        /// All of it, and what it took of cash and vouchers.
        used: StatementUsed,
        /// What there was when it ended; of an open month, what there is.
        closing: StatementFunds,
        /// The seal of the CSV.
        seal: Option<StatementSeal>,
    }
}

answer! {
    /// Cash and vouchers.
    pub(super) struct StatementFunds {
        /// Cash, below zero when money is owed.
        cash: Amount,
        /// What is left of vouchers.
        vouchers: Amount,
    }
}

answer! {
    /// A line of a statement that is not usage.
    pub(super) struct StatementMovement {
        /// The entry that says so.
        position: LogPosition,
        /// When it was booked.
        time: Timestamp,
        /// What it was: `recharge`, `refund`, `recharge_reversal`, `adjustment`, `voucher_grant`, `voucher_expiry`,
        /// `voucher_withdrawal`, `opening_balance`; `usage_reversal`, `invoice` and `credit_note`, which change nothing
        /// here; further ones may come.
        kind: String,
        /// The movement's own id.
        id: IfAny<String>,
        /// A recharge, the entry that is corrected, the usage that is taken back, an invoice, or a month.
        relates_to: IfAny<String>,
        /// The number of an invoice or credit note.
        number: IfAny<u64>,
        /// The payment's own, or what else made it be booked once.
        reference: IfAny<Reference>,
        /// Why.
        reason: IfAny<Reason>,
        /// An amount that it tells of without moving it: what a refund was asked for, what the usage cost that was taken
        /// back, what an invoice comes to or a credit note returns, the cumulative recharge that was moved in.
        memo: IfAny<Amount>,
        /// What it changed of cash.
        cash: Amount,
        /// What it changed of vouchers.
        vouchers: Amount,
        /// Cash after it, and after all usage before it.
        cash_after: Amount,
        /// Vouchers after it, and after all usage before it.
        vouchers_after: Amount,
    }
}

answer! {
    /// Usage of a project and model, booked in a statement's month, less what was taken back in it.
    pub(super) struct StatementUsage {
        /// The month in which it occurred.
        month: Month,
        /// Of which project.
        project: ProjectId,
        /// Which model.
        model: ModelName,
        /// Requests.
        requests: i64,
        /// Input tokens, cached ones included.
        input_tokens: i64,
        /// Input tokens read from a cache.
        cached_input_tokens: i64,
        /// Output tokens.
        output_tokens: i64,
        /// Further metered units, by name.
        meters: BTreeMap<MeterName, i64>,
        /// What it cost.
        cost: Amount,
    }
}

answer! {
    /// All usage of a statement.
    pub(super) struct StatementUsed {
        /// Requests.
        requests: i64,
        /// Input tokens, cached ones included.
        input_tokens: i64,
        /// Input tokens read from a cache.
        cached_input_tokens: i64,
        /// Output tokens.
        output_tokens: i64,
        /// Further metered units, by name.
        meters: BTreeMap<MeterName, i64>,
        /// What it cost.
        cost: Amount,
        /// What it changed of cash.
        cash: Amount,
        /// What it changed of vouchers.
        vouchers: Amount,
    }
}

answer! {
    /// The seal of a closed month's statement.
    pub(super) struct StatementSeal {
        /// SHA-256 of the CSV, in hexadecimal digits.
        sha256: String,
        /// The entry that says so.
        position: LogPosition,
        /// When it was sealed.
        sealed_at: Timestamp,
    }
}

/// A statement, as it was asked for.
#[derive(Debug)]
pub(super) enum AnyFormat {
    Json(Box<MonthStatement>),
    Csv(Csv),
}

/// Canonical bytes, and what stands in headers because nothing else may stand in them.
#[derive(Debug)]
pub(super) struct Csv {
    bytes: Vec<u8>,
    name: String,
    state: MonthState,
    seal: Option<StatementSeal>,
}

/// How far the month is.
const STATE: HeaderName = HeaderName::from_static("tollbook-statement-state");
/// SHA-256 of a sealed statement.
const SHA256: HeaderName = HeaderName::from_static("tollbook-statement-sha256");
/// The entry that sealed it.
const SEALED_BY: HeaderName = HeaderName::from_static("tollbook-statement-sealed-by");

impl IntoResponse for AnyFormat {
    fn into_response(self) -> Response {
        let csv = match self {
            Self::Json(statement) => return Json(*statement).into_response(),
            Self::Csv(csv) => csv,
        };
        let seal = csv.seal.map(|seal| [(SHA256, seal.sha256), (SEALED_BY, seal.position.to_string())]);
        let fields = [
            (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
            (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}.csv\"", csv.name)),
            (STATE, csv.state.text().into_owned()),
        ];
        let mut response = csv.bytes.into_response();
        for (name, value) in fields.into_iter().chain(seal.into_iter().flatten()) {
            // All of these are of letters, digits and a few signs.
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl Answer for AnyFormat {
    fn describe(parts: &mut Parts) -> ResponseBuilder {
        let text = ObjectBuilder::new().schema_type(Type::String).description(Some(
            "RFC 4180, with a header; `docs/statements.md` explains every column. How far the month is, and the seal, \
             stand in `Tollbook-Statement-State`, `Tollbook-Statement-Sha256` and `Tollbook-Statement-Sealed-By`.",
        ));
        let csv = ContentBuilder::new().schema(Some(text)).build();
        <Json<MonthStatement> as Answer>::describe(parts).content("text/csv", csv)
    }
}

async fn statement(
    Reading { path: org, query, at }: Reading<OrgId, StatementQuery>,
) -> Result<AnyFormat, Problem> {
    let StatementQuery { month, format } = query;
    let (owner, now) = (at.node.owner_of(&org)?, at.node.clock().now());
    let read = at.state(&org, Action::ManageOrganization, move |state, known| {
        let calendar = &known.calendar;
        let bounds = (calendar.start_of_month(month), calendar.start_of_month(month.next()));
        Kept::of(state, known, month, now).map(|kept| (kept, bounds))
    });
    let (kept, (start, end)) = read.await??;
    let closed = kept.closed;
    let (statement, seal) = complete(owner, view_of(&at.node, &org)?, kept).await?;
    let state = MonthState::of(closed, seal.as_ref());
    let csv = statement.csv();
    if let Some(seal) = &seal {
        unchanged(&statement, seal, &csv)?;
    }
    let seal = seal.map(|seal| shown_seal(statement.about.partition, &seal));
    let as_csv = format.map_or(at.prefers_csv, |format| format == Format::Csv);
    Ok(if as_csv {
        AnyFormat::Csv(Csv { bytes: csv, name: format!("statement-{org}-{month}"), state, seal })
    } else {
        AnyFormat::Json(Box::new(shown(statement, state, seal, (start, end))))
    })
}

/// A statement as this API shows it in JSON, for tools that make it from the log. `bounds`: the month's first instant,
/// and the first one after it.
pub fn statement_json(
    statement: Statement,
    closed: bool,
    seal: Option<&Seal>,
    bounds: (Timestamp, Timestamp),
) -> Result<Value, serde_json::Error> {
    let state = MonthState::of(closed, seal);
    let seal = seal.map(|seal| shown_seal(statement.about.partition, seal));
    serde_json::to_value(Out(&shown(statement, state, seal, bounds)))
}

/// A sealed statement never changes (R8.3). One that did is not told as if it were the sealed one.
fn unchanged(statement: &Statement, seal: &Seal, csv: &[u8]) -> Result<(), Problem> {
    if Statement::hash_of(csv) == seal.hash {
        return Ok(());
    }
    let about = &statement.about;
    Err(Problem::internal(format!(
        "the statement of {} of {} is not the one that was sealed",
        about.month, about.organization
    )))
}

fn shown(
    statement: Statement,
    state: MonthState,
    seal: Option<StatementSeal>,
    (start, end): (Timestamp, Timestamp),
) -> MonthStatement {
    let partition = statement.about.partition;
    let change = statement.usage_change();
    let used = counted(statement.used);
    MonthStatement {
        organization: statement.about.organization,
        month: statement.about.month,
        currency: statement.about.currency,
        state,
        start,
        end,
        opening: funds(statement.opening),
        movements: statement.movements.into_iter().map(|movement| line(partition, movement)).collect(),
        usage: statement.usage.into_iter().map(|(used_in, cell)| usage(used_in, cell)).collect(),
        used: StatementUsed { cash: change.cash, vouchers: change.vouchers, ..used },
        closing: funds(statement.closing),
        seal,
    }
}

const fn funds(funds: Funds) -> StatementFunds {
    StatementFunds { cash: funds.cash, vouchers: funds.vouchers }
}

fn line(partition: PartitionId, movement: Movement) -> StatementMovement {
    StatementMovement {
        position: LogPosition { partition, position: movement.position },
        time: movement.booked_at,
        kind: movement.kind().code().to_owned(),
        id: IfAny(movement.id().map(str::to_owned)),
        relates_to: IfAny(movement.relates_to(partition)),
        number: IfAny(movement.document()),
        memo: IfAny(movement.memo()),
        reference: IfAny(movement.reference),
        reason: IfAny(movement.reason),
        cash: movement.change.cash,
        vouchers: movement.change.vouchers,
        cash_after: movement.after.cash,
        vouchers_after: movement.after.vouchers,
    }
}

fn usage(used_in: UsedIn, cell: Cell) -> StatementUsage {
    let UsedIn { month, project, model } = used_in;
    let StatementUsed {
        requests,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        meters,
        cost,
        cash: _,
        vouchers: _,
    } = counted(cell);
    StatementUsage {
        month,
        project,
        model,
        requests,
        input_tokens,
        cached_input_tokens,
        output_tokens,
        meters,
        cost,
    }
}

fn counted(cell: Cell) -> StatementUsed {
    let count = |units: i128| i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX });
    let meters = cell.meters.into_iter().filter(|(_, units)| *units != 0);
    StatementUsed {
        requests: cell.requests,
        input_tokens: count(cell.input_tokens),
        cached_input_tokens: count(cell.cached_input_tokens),
        output_tokens: count(cell.output_tokens),
        meters: meters.map(|(meter, units)| (meter, count(units))).collect(),
        cost: cell.cost,
        cash: Amount::ZERO,
        vouchers: Amount::ZERO,
    }
}

fn shown_seal(partition: PartitionId, seal: &Seal) -> StatementSeal {
    StatementSeal {
        sha256: seal.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        position: LogPosition { partition, position: seal.position },
        sealed_at: seal.sealed_at,
    }
}

impl From<NoStatement> for Problem {
    fn from(error: NoStatement) -> Self {
        Self::not_found(format!("there is no such statement: {error}"))
    }
}

impl From<StatementError> for Problem {
    fn from(error: StatementError) -> Self {
        match error {
            StatementError::Command(error) => error.into(),
            StatementError::View(_) | StatementError::Unbalanced(_) | StatementError::Panicked(_) => {
                Self::internal(error.to_string())
            }
        }
    }
}
