//! Commands that talk to a running server: the HTTP API from the shell. Each makes one [`Call`]; what all of them share
//! is here.

mod admission;
mod alerts;
mod allowlist;
mod audit;
mod budgets;
mod call;
mod config;
mod keys;
mod limits;
mod members;
mod money;
mod organizations;
mod projects;
mod quarantine;
mod statement;
#[cfg(test)]
mod tests;
mod tokens;
mod usage;
mod vouchers;
mod webhooks;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use reqwest::header::HeaderValue;

pub(super) use self::admission::AdmissionCommand;
pub(super) use self::alerts::{AlertSubscriptionCommand, AlertsArgs};
pub(super) use self::allowlist::AllowlistCommand;
pub(super) use self::audit::LedgerLogArgs;
pub(super) use self::budgets::BudgetCommand;
use self::call::Call;
pub(super) use self::config::{
    CycleCommand, DefaultsCommand, PriceCommand, QuantityCommand, RateScaleCommand, TierCommand,
};
pub(super) use self::keys::KeyCommand;
pub(super) use self::members::MemberCommand;
pub(super) use self::money::{
    AdjustArgs, BalanceArgs, CreditLimitArgs, RechargeArgs, RefundArgs, TrialBalanceArgs,
};
pub(super) use self::organizations::OrgCommand;
pub(super) use self::projects::ProjectCommand;
pub(super) use self::quarantine::QuarantineCommand;
pub use self::statement::statement_table;
pub(super) use self::statement::{InvoiceCommand, StatementArgs};
pub(super) use self::tokens::TokenCommand;
pub(super) use self::usage::{SpendArgs, UsageCommand};
pub(super) use self::vouchers::{VoucherCommand, VoucherPolicyCommand};
pub(super) use self::webhooks::{DeliveryCommand, WebhookCommand};
use super::client::{ClientArgs, ClientError, SERVER};
use super::refusal::BadItems;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The server did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server said no to items of a list.
    #[error(transparent)]
    BadItems(#[from] BadItems),
    /// A file that a command names is not usable.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Standard input gave nothing, or standard output took nothing.
    #[error("standard input or output: {0}")]
    Standard(#[from] io::Error),
    /// What cannot be undone was not confirmed.
    #[error("nothing was done: {0}")]
    Unconfirmed(&'static str),
    /// An argument that only its content shows to be wrong.
    #[error("{0}")]
    Argument(&'static str),
}

/// A command of the API.
pub(super) trait Calls {
    /// The call that it makes. Errors: it was not confirmed, or what it needs to read cannot be read.
    fn call(self) -> Result<Call, ManageError>;
}

/// A family of commands, such as `project`, with the options that all commands of the API have.
#[derive(Args, Debug)]
pub(super) struct Family<C: Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

impl<C: Subcommand + Calls> Family<C> {
    pub(super) async fn run(self) -> Result<(), ManageError> {
        run(self.command, &self.client, &self.author).await
    }
}

/// A command that is no family, such as `balance`, with those options.
#[derive(Args, Debug)]
pub(super) struct Alone<A: Args> {
    #[command(flatten)]
    command: A,
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    author: AuthorArgs,
}

impl<A: Args + Calls> Alone<A> {
    pub(super) async fn run(self) -> Result<(), ManageError> {
        run(self.command, &self.client, &self.author).await
    }
}

async fn run(command: impl Calls, client: &ClientArgs, author: &AuthorArgs) -> Result<(), ManageError> {
    // A server and a token first: nobody should confirm or type what cannot be sent.
    let caller = client.caller()?;
    command.call()?.perform(&caller, author).await
}

/// On whose behalf, and whether a repetition is one.
#[derive(Args, Debug)]
pub(super) struct AuthorArgs {
    /// The member on whose behalf, mem_…; else the platform itself
    #[arg(long, env = "TOLLBOOK_ACTOR", value_name = "MEMBER", global = true, help_heading = SERVER)]
    actor: Option<Id>,
    /// Makes repeating a write harmless: the same key with the same arguments changes nothing
    #[arg(long, value_name = "KEY", global = true, help_heading = SERVER)]
    idempotency_key: Option<HeaderValue>,
}

impl AuthorArgs {
    /// The member on whose behalf.
    pub(super) const fn actor(&self) -> Option<&Id> {
        self.actor.as_ref()
    }
}

/// Which page of a list.
#[derive(Args, Debug)]
pub(super) struct PageArgs {
    /// Items of a page
    #[arg(long)]
    limit: Option<u32>,
    /// What the page before ended with
    #[arg(long)]
    after: Option<String>,
}

/// An identifier, which can stand in a path as it is.
#[derive(Clone, Debug)]
pub(super) struct Id(String);

/// Why a text is no identifier.
#[derive(Debug, thiserror::Error)]
#[error("an id holds only ASCII letters, digits, `_` and `-`")]
pub(super) struct NoId;

impl FromStr for Id {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() || !text.chars().all(plain) { Err(NoId) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An organization, which most commands name first.
#[derive(Args, Debug)]
pub(super) struct OrgArg {
    /// The organization, org_…
    #[arg(value_name = "ORG")]
    organization: Id,
}

impl OrgArg {
    /// The path of something of it; of itself, for nothing.
    fn path(&self, rest: &str) -> String {
        format!("/v1/organizations/{}{rest}", self.organization)
    }
}

/// A project of an organization.
#[derive(Args, Debug)]
pub(super) struct ProjectArg {
    #[command(flatten)]
    organization: OrgArg,
    /// The project, proj_…
    #[arg(value_name = "PROJECT")]
    project: Id,
}

impl ProjectArg {
    /// The path of something of it; of itself, for nothing.
    fn path(&self, rest: &str) -> String {
        self.organization.path(&format!("/projects/{}{rest}", self.project))
    }
}

/// Roles in an organization and in a project.
const ROLES: [&str; 2] = ["administrator", "member"];

/// A number, or `none` to take away the one there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting<T>(Option<T>);

/// Why a text is no setting.
#[derive(Debug, thiserror::Error)]
#[error("neither a whole number of a sensible size nor `none`")]
pub(super) struct NoSetting;

impl<T: FromStr> FromStr for Setting<T> {
    type Err = NoSetting;

    fn from_str(text: &str) -> Result<Self, NoSetting> {
        match text {
            "none" => Ok(Self(None)),
            number => number.parse().map(|number| Self(Some(number))).map_err(|_| NoSetting),
        }
    }
}
