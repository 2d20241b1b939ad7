//! Vouchers, and the policy that grants one for recharging (R4.2, R4.5).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::{Call, Calls, ManageError, OrgArg, PageArgs, Setting};

const GRANTED: &[&str] = &[
    "id",
    "amount",
    "expires_at",
    "reason",
    "balance.cash",
    "balance.vouchers",
    "balance.available",
    "balance.tier",
];
const LEFT: &[&str] = &["id", "amount", "left", "expires_at", "of_policy", "position"];
const POLICY: &[&str] = &["threshold", "amount", "expires_after_days"];

/// Vouchers.
#[derive(Debug, Subcommand)]
pub(in super::super) enum VoucherCommand {
    /// Grant a voucher
    Grant(GrantArgs),
    /// List vouchers that have something left, in the order in which they are spent
    List {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
}

/// A voucher to grant.
#[derive(Args, Debug)]
pub(in super::super) struct GrantArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// What it is worth, such as 5.00
    amount: String,
    /// The voucher's reference: granting the same again changes nothing
    #[arg(long)]
    reference: String,
    /// When what is left of it is lost, RFC 3339 [default: never]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

impl Calls for VoucherCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Grant(GrantArgs { organization, amount, reference, expires_at, reason }) => {
                let body = json!({
                    "amount": amount,
                    "reference": reference,
                    "expires_at": expires_at,
                    "reason": reason,
                });
                Call::write(Method::POST, organization.path("/vouchers"), body, GRANTED)
            }
            Self::List { organization, page } => Call::get(organization.path("/vouchers"), LEFT).page(page),
        })
    }
}

/// The voucher for recharging.
#[derive(Debug, Subcommand)]
pub(in super::super) enum VoucherPolicyCommand {
    /// Show it
    Show,
    /// Set it; nothing is granted backwards
    Set(VoucherPolicyArgs),
}

/// Which recharges earn a voucher.
#[derive(Args, Debug)]
pub(in super::super) struct VoucherPolicyArgs {
    /// The cumulative recharge that earns it, such as 5.00
    #[arg(long, value_name = "AMOUNT")]
    threshold: String,
    /// What it is worth, such as 5.00; 0: none is granted
    #[arg(long)]
    amount: String,
    /// Days until what is left of it is lost; `none`: never
    #[arg(long, value_name = "DAYS")]
    expires_after_days: Setting<u32>,
}

impl Calls for VoucherPolicyCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/voucher-policy".to_owned();
        Ok(match self {
            Self::Show => Call::get(path, POLICY),
            Self::Set(VoucherPolicyArgs { threshold, amount, expires_after_days }) => {
                let days = expires_after_days.0;
                let body = json!({ "threshold": threshold, "amount": amount, "expires_after_days": days });
                Call::write(Method::PUT, path, body, POLICY)
            }
        })
    }
}
