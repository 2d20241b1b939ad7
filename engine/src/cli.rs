//! The command line: what each command takes, and a file per family for what it does.

pub(crate) mod client;
mod follow;
mod import;
mod manage;
mod move_in;
mod refusal;
mod serve;
pub(crate) mod table;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::client::{ClientArgs, http_client};
pub use self::manage::statement_table;
use crate::bench;
use crate::config::ServeArgs;
use crate::demo::{self, DemoArgs};

/// Event-sourced ledger and quota engine for prepaid, metered APIs
#[derive(Debug, Parser)]
#[command(name = "tollbook", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

/// Our own doings; of libraries only what is wrong.
const LOG_FILTER: &str = "warn,tollbook_engine=info,tollbook_projections=info";

/// What is logged, to standard error.
#[derive(Args, Debug)]
struct LogArgs {
    /// What to log: a level, or filters such as `info,tollbook_engine=debug` [default: info; of the demo: error]
    #[arg(long, env = "TOLLBOOK_LOG", global = true, value_name = "FILTER", help_heading = "Logging")]
    log: Option<String>,
    /// Log as lines of JSON
    #[arg(long, env = "TOLLBOOK_LOG_JSON", global = true, help_heading = "Logging")]
    log_json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Play an hour of traffic that ends now, then serve
    Demo(Box<DemoArgs>),
    /// Put usage files into the log; doing it again changes nothing
    Import(Box<import::ImportArgs>),
    /// Register organizations with their past from another system; doing it again changes nothing
    MoveIn(move_in::MoveInArgs),
    /// Organizations: registering, verification, limits, audit log
    Org(manage::Family<manage::OrgCommand>),
    /// The addresses that an organization's requests may come from
    Allowlist(manage::Family<manage::AllowlistCommand>),
    /// Members and invitations
    Member(manage::Family<manage::MemberCommand>),
    /// Projects, their limits and members
    Project(manage::Family<manage::ProjectCommand>),
    /// Budgets of projects, when they were reached, spend notifications
    Budget(manage::Family<manage::BudgetCommand>),
    /// API keys
    Key(manage::Family<manage::KeyCommand>),
    /// Book a recharge; list recharges, take one back
    Recharge(manage::Alone<manage::RechargeArgs>),
    /// Pay unused cash back
    Refund(manage::Alone<manage::RefundArgs>),
    /// Vouchers
    Voucher(manage::Family<manage::VoucherCommand>),
    /// Correct an organization's cash
    Adjust(manage::Alone<manage::AdjustArgs>),
    /// Set how far below zero an organization may go
    CreditLimit(manage::Alone<manage::CreditLimitArgs>),
    /// May this request pass? Ask, settle, release, renew
    Admission(manage::Family<manage::AdmissionCommand>),
    /// An organization's balance
    Balance(manage::Alone<manage::BalanceArgs>),
    /// Consumption by day or month
    Spend(manage::Alone<manage::SpendArgs>),
    /// What a month came to: balances, movements, usage
    Statement(manage::Alone<manage::StatementArgs>),
    /// Invoices and credit notes
    Invoice(manage::Family<manage::InvoiceCommand>),
    /// Usage that could not be booked: see it, release it, dismiss it
    Quarantine(manage::Family<manage::QuarantineCommand>),
    /// Single usage records: follow one, take one back
    Usage(manage::Family<manage::UsageCommand>),
    /// Prices, everybody's and organizations' own
    Price(manage::Family<manage::PriceCommand>),
    /// The tier table
    Tier(manage::Family<manage::TierCommand>),
    /// Everybody's rate limits, scaled down for a time
    RateScale(manage::Family<manage::RateScaleCommand>),
    /// Which recharges earn a voucher
    VoucherPolicy(manage::Family<manage::VoucherPolicyCommand>),
    /// What holds where an organization or a model says nothing else
    Defaults(manage::Family<manage::DefaultsCommand>),
    /// The billing cycle, by which budgets learn of consumption
    Cycle(manage::Family<manage::CycleCommand>),
    /// Who configured the whole ledger when: prices, cycle, quantity limits, tokens
    Log(manage::Alone<manage::LedgerLogArgs>),
    /// How many projects and API keys an organization may have
    QuantityLimits(manage::Family<manage::QuantityCommand>),
    /// Every account's balance, over all organizations
    TrialBalance(manage::Alone<manage::TrialBalanceArgs>),
    /// What was told to whom: list alerts, follow them
    Alerts(manage::AlertsArgs),
    /// Subscriptions to the alert stream on JetStream
    AlertSubscription(manage::Family<manage::AlertSubscriptionCommand>),
    /// Webhooks of organizations, to which their alerts are sent
    Webhook(manage::Family<manage::WebhookCommand>),
    /// What became of alerts on their way; sending them again
    Delivery(manage::Family<manage::DeliveryCommand>),
    /// Service tokens
    Token(manage::Family<manage::TokenCommand>),
    /// Measure this machine: folding, appending, ingesting
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Whatever a command can fail with, told to a person.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The server failed.
    #[error(transparent)]
    Server(#[from] crate::server::ServerError),
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] crate::node::StartError),
    /// A command of the API failed.
    #[error(transparent)]
    Manage(#[from] manage::ManageError),
    /// The demo failed.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// An import failed.
    #[error(transparent)]
    Import(#[from] import::ImportError),
    /// Moving in failed.
    #[error(transparent)]
    MoveIn(#[from] move_in::MoveInError),
    /// A benchmark failed.
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    /// The runtime could not be started.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

/// Runs a command: 0 when it did what it was asked to, 1 when not. clap itself ends with 2 for wrong usage.
pub fn main(cli: Cli) -> ExitCode {
    // The demo says itself what happens, and makes things happen that a log would warn of.
    let filter = if matches!(cli.command, Command::Demo(_)) { "error" } else { LOG_FILTER };
    start_logging(&cli.log, filter);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime);
    let result = runtime.and_then(|runtime| {
        let result = runtime.block_on(run(cli.command));
        // What still runs is only waiting for connections of others.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::serve(*args).await,
        Command::Demo(args) => Ok(demo::run(*args, serve::told_to_stop()).await?),
        Command::Import(args) => Ok(import::run(*args).await?),
        Command::MoveIn(args) => Ok(move_in::run(args).await?),
        Command::Org(command) => Ok(command.run().await?),
        Command::Allowlist(command) => Ok(command.run().await?),
        Command::Member(command) => Ok(command.run().await?),
        Command::Project(command) => Ok(command.run().await?),
        Command::Budget(command) => Ok(command.run().await?),
        Command::Key(command) => Ok(command.run().await?),
        Command::Recharge(command) => Ok(command.run().await?),
        Command::Refund(command) => Ok(command.run().await?),
        Command::Voucher(command) => Ok(command.run().await?),
        Command::Adjust(command) => Ok(command.run().await?),
        Command::CreditLimit(command) => Ok(command.run().await?),
        Command::Admission(command) => Ok(command.run().await?),
        Command::Balance(command) => Ok(command.run().await?),
        Command::Spend(command) => Ok(command.run().await?),
        Command::Statement(command) => Ok(command.run().await?),
        Command::Invoice(command) => Ok(command.run().await?),
        Command::Quarantine(command) => Ok(command.run().await?),
        Command::Usage(command) => Ok(command.run().await?),
        Command::Price(command) => Ok(command.run().await?),
        Command::Tier(command) => Ok(command.run().await?),
        Command::RateScale(command) => Ok(command.run().await?),
        Command::VoucherPolicy(command) => Ok(command.run().await?),
        Command::Defaults(command) => Ok(command.run().await?),
        Command::Cycle(command) => Ok(command.run().await?),
        Command::Log(command) => Ok(command.run().await?),
        Command::QuantityLimits(command) => Ok(command.run().await?),
        Command::TrialBalance(command) => Ok(command.run().await?),
        Command::Alerts(command) => Ok(command.run().await?),
        Command::AlertSubscription(command) => Ok(command.run().await?),
        Command::Webhook(command) => Ok(command.run().await?),
        Command::Delivery(command) => Ok(command.run().await?),
        Command::Token(command) => Ok(command.run().await?),
        Command::Bench(command) => Ok(bench::run(command).await?),
    }
}

fn start_logging(args: &LogArgs, default: &str) {
    let wanted = args.log.as_deref().unwrap_or(default);
    let (filter, bad) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(LOG_FILTER), Some(error)),
    };
    let colours = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    if args.log_json {
        registry.with(tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr)).init();
    } else {
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(colours)
            .with_target(false);
        registry.with(layer).init();
    }
    if let Some(error) = bad {
        tracing::warn!(%error, filter = wanted, "this is no log filter; logging at level info");
    }
}

#[expect(clippy::print_stderr, reason = "this is where a command tells a person why it failed")]
fn complain(error: &CliError) {
    eprintln!("tollbook: {error}");
    let mut source = std::error::Error::source(error);
    let mut told = error.to_string();
    while let Some(inner) = source {
        // Many errors already say what caused them.
        let text = inner.to_string();
        if !told.contains(&text) {
            eprintln!("  because: {text}");
        }
        told = text;
        source = inner.source();
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_command_is_well_formed() {
        Cli::command().debug_assert();
    }
}
