//! Recharges and balances (R4).

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::{Call, Calls, ManageError, OrgArg};

/// A recharge.
#[derive(Args, Debug)]
pub(in super::super) struct RechargeArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// How much, such as 5.00
    amount: String,
    /// The payment provider's reference: booking the same again changes nothing
    #[arg(long)]
    reference: String,
}

impl Calls for RechargeArgs {
    fn call(self) -> Result<Call, ManageError> {
        let body = json!({ "amount": self.amount, "reference": self.reference });
        let columns = &[
            "id",
            "amount",
            "voucher.amount",
            "balance.cash",
            "balance.vouchers",
            "balance.available",
            "balance.tier",
        ];
        Ok(Call::write(Method::POST, self.organization.path("/recharges"), body, columns))
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
        let columns = &["cash", "vouchers", "available", "cumulative_recharge", "tier", "currency"];
        Ok(Call::get(self.organization.path("/balance"), columns))
    }
}
