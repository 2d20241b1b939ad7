//! Recharges, refunds, chargebacks, adjustments, credit limits, balances (R4).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs, Setting};

const RECHARGED: &[&str] = &[
    "id",
    "amount",
    "voucher.amount",
    "balance.cash",
    "balance.vouchers",
    "balance.available",
    "balance.tier",
];
const RECHARGES: &[&str] =
    &["id", "booked_at", "amount", "refunded", "reversed", "left", "reference", "invoice"];
const REVERSED: &[&str] = &[
    "id",
    "amount",
    "withdrawn_voucher.amount",
    "credit_note.number",
    "balance.cash",
    "balance.vouchers",
    "balance.available",
    "balance.tier",
];
const REFUNDED: &[&str] = &[
    "id",
    "requested",
    "paid",
    "withdrawn_voucher.amount",
    "credit_note.number",
    "balance.cash",
    "balance.vouchers",
    "balance.available",
    "balance.tier",
];
const ADJUSTED: &[&str] =
    &["id", "amount", "reason", "balance.cash", "balance.vouchers", "balance.available"];
const BALANCE: &[&str] =
    &["cash", "vouchers", "held", "available", "credit_limit", "cumulative_recharge", "tier", "currency"];

/// A recharge to book, or a command about those that are.
#[derive(Args, Debug)]
#[command(subcommand_negates_reqs = true)]
pub(in super::super) struct RechargeArgs {
    #[command(subcommand)]
    command: Option<RechargeCommand>,
    /// The organization, org_…
    #[arg(value_name = "ORG", required = true)]
    organization: Option<Id>,
    /// How much, such as 5.00
    #[arg(required = true)]
    amount: Option<String>,
    /// The payment provider's reference: booking the same again changes nothing
    #[arg(long, required = true)]
    reference: Option<String>,
}

/// About recharges that are booked.
#[derive(Debug, Subcommand)]
enum RechargeCommand {
    /// List recharges with what was paid back of each, the oldest first
    List {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Take a recharge back, whole or in part: a chargeback
    Reverse(ReverseArgs),
}

/// A recharge to take back.
#[derive(Args, Debug)]
struct ReverseArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// The recharge, rch_…
    #[arg(value_name = "RECHARGE")]
    recharge: Id,
    /// How much of it, such as 5.00 [default: what is left of it]
    #[arg(long)]
    amount: Option<String>,
    /// The payment provider's reference: booking the same again changes nothing
    #[arg(long)]
    reference: String,
    /// Why
    #[arg(long)]
    reason: String,
}

impl Calls for RechargeArgs {
    fn call(self) -> Result<Call, ManageError> {
        match (self.command, self.organization) {
            (Some(command), _) => command.call(),
            (None, Some(organization)) => {
                let body = json!({ "amount": self.amount, "reference": self.reference });
                let path = OrgArg { organization }.path("/recharges");
                Ok(Call::write(Method::POST, path, body, RECHARGED))
            }
            // clap asks for one or the other.
            (None, None) => Err(ManageError::Argument("name an organization, an amount and a --reference")),
        }
    }
}

impl Calls for RechargeCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::List { organization, page } => {
                Call::get(organization.path("/recharges"), RECHARGES).page(page)
            }
            Self::Reverse(ReverseArgs { organization, recharge, amount, reference, reason }) => {
                let path = organization.path(&format!("/recharges/{recharge}/reversals"));
                let body = json!({ "amount": amount, "reference": reference, "reason": reason });
                Call::write(Method::POST, path, body, REVERSED)
            }
        })
    }
}

/// Cash to pay back.
#[derive(Args, Debug)]
pub(in super::super) struct RefundArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// How much at most, such as 5.00: never more than the unused cash there is
    amount: String,
    /// The refund's reference: booking the same again changes nothing
    #[arg(long)]
    reference: String,
    /// The recharge it returns, rch_…
    #[arg(long)]
    recharge: Option<Id>,
}

impl Calls for RefundArgs {
    fn call(self) -> Result<Call, ManageError> {
        let recharge = self.recharge.map(|recharge| recharge.to_string());
        let body = json!({ "amount": self.amount, "reference": self.reference, "recharge": recharge });
        Ok(Call::write(Method::POST, self.organization.path("/refunds"), body, REFUNDED))
    }
}

/// A correction of cash.
#[derive(Args, Debug)]
pub(in super::super) struct AdjustArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// How much, such as 5.00, or -5.00 to take away
    #[arg(allow_negative_numbers = true)]
    amount: String,
    /// The correction's reference: booking the same again changes nothing
    #[arg(long)]
    reference: String,
    /// Why
    #[arg(long)]
    reason: String,
    /// The entry it corrects, such as 0-17
    #[arg(long, value_name = "POSITION")]
    corrects: Option<String>,
}

impl Calls for AdjustArgs {
    fn call(self) -> Result<Call, ManageError> {
        let body = json!({
            "amount": self.amount,
            "reference": self.reference,
            "reason": self.reason,
            "corrects": self.corrects,
        });
        Ok(Call::write(Method::POST, self.organization.path("/adjustments"), body, ADJUSTED))
    }
}

/// How far below zero an organization may go.
#[derive(Args, Debug)]
pub(in super::super) struct CreditLimitArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// How far, such as 100.00; `none`: not at all
    limit: Setting<String>,
}

impl Calls for CreditLimitArgs {
    fn call(self) -> Result<Call, ManageError> {
        let body = json!({ "limit": self.limit.0 });
        Ok(Call::write(Method::PUT, self.organization.path("/credit-limit"), body, BALANCE))
    }
}

/// Whose balance.
#[derive(Args, Debug)]
pub(in super::super) struct BalanceArgs {
    #[command(flatten)]
    organization: OrgArg,
}

impl Calls for BalanceArgs {
    fn call(self) -> Result<Call, ManageError> {
        Ok(Call::get(self.organization.path("/balance"), BALANCE))
    }
}

/// Which partition's trial balance.
#[derive(Args, Debug)]
pub(in super::super) struct TrialBalanceArgs {
    /// Only organizations of this partition
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
}

impl Calls for TrialBalanceArgs {
    fn call(self) -> Result<Call, ManageError> {
        let partition = self.partition.map(|number| number.to_string());
        let call = Call::get("/v1/trial-balance".to_owned(), &["account", "balance"]);
        Ok(call.query("partition", partition).rows(with_sum))
    }
}

/// One row for each account, and one for the sum of all.
fn with_sum(answer: Value) -> Value {
    let mut rows = answer.get("accounts").and_then(Value::as_array).cloned().unwrap_or_default();
    rows.push(json!({ "account": "sum", "balance": answer.get("sum") }));
    json!({ "items": rows })
}
