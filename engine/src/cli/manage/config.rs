//! What holds for the whole ledger: prices, tiers, defaults, the billing cycle, quantity limits.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Calls, Id, ManageError, Setting};

const PRICES: &[&str] = &["model", "effective_from", "input", "cached_input", "output", "max_output_tokens"];
const TIERS: &[&str] = &["name", "cumulative_recharge", "concurrency", "rpm", "tpm", "tpd"];
const SCALE: &[&str] = &["factor", "until", "reason", "tiers"];
const DEFAULTS: &[&str] = &["balance_alert_threshold", "max_output_tokens"];
const CYCLE: &[&str] = &["cycle_seconds", "delay_seconds"];
const QUANTITIES: &[&str] = &["type", "projects", "api_keys"];

/// Prices.
#[derive(Debug, Subcommand)]
pub(in super::super) enum PriceCommand {
    /// Publish one model's prices, per million units
    Set(PriceArgs),
    /// Publish a price list from a file of the API's JSON
    Publish {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        of: PricesOf,
    },
    /// Show everything published
    List {
        #[command(flatten)]
        of: PricesOf,
    },
}

/// Everybody's prices, or an organization's own.
#[derive(Args, Debug)]
pub(in super::super) struct PricesOf {
    /// The organization whose own prices these are, org_… [default: everybody's]
    #[arg(long, value_name = "ORG")]
    org: Option<Id>,
}

impl PricesOf {
    fn path(&self) -> String {
        match &self.org {
            Some(org) => format!("/v1/organizations/{org}/prices"),
            None => "/v1/config/prices".to_owned(),
        }
    }
}

/// One model's prices.
#[derive(Args, Debug)]
pub(in super::super) struct PriceArgs {
    /// The model
    model: String,
    /// Per million input tokens
    #[arg(long, value_name = "PRICE")]
    input: String,
    /// Per million input tokens read from a cache
    #[arg(long, value_name = "PRICE")]
    cached_input: String,
    /// Per million output tokens
    #[arg(long, value_name = "PRICE")]
    output: String,
    /// Per million of a further metered unit, such as image=40000.00; may stand several times
    #[arg(long, value_name = "NAME=PRICE")]
    meter: Vec<MeterPrice>,
    /// Output tokens that are assumed where a request names no maximum [default: the ledger's]
    #[arg(long, value_name = "TOKENS")]
    max_output_tokens: Option<u64>,
    /// When they begin; a model's first may begin in the past [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    #[command(flatten)]
    of: PricesOf,
}

/// A metered unit and its price.
#[derive(Clone, Debug)]
pub(in super::super) struct MeterPrice {
    meter: String,
    price: String,
}

/// Why a text is no metered unit with a price.
#[derive(Debug, thiserror::Error)]
#[error("must be a name and a price, such as image=40000.00")]
pub(in super::super) struct NoMeterPrice;

impl FromStr for MeterPrice {
    type Err = NoMeterPrice;

    fn from_str(text: &str) -> Result<Self, NoMeterPrice> {
        let (meter, price) = text.rsplit_once('=').ok_or(NoMeterPrice)?;
        Ok(Self { meter: meter.to_owned(), price: price.to_owned() })
    }
}

impl Calls for PriceCommand {
    fn call(self) -> Result<Call, ManageError> {
        let call = match self {
            Self::Set(args) => {
                let meters = args.meter.into_iter().map(|meter| (meter.meter, meter.price.into()));
                let meters: serde_json::Map<String, Value> = meters.collect();
                let price = json!({
                    "model": args.model,
                    "input": args.input,
                    "cached_input": args.cached_input,
                    "output": args.output,
                    "meters": meters,
                    "max_output_tokens": args.max_output_tokens,
                });
                let body = json!({ "effective_from": args.from, "models": [price] });
                Call::write(Method::PUT, args.of.path(), body, PRICES)
            }
            Self::Publish { file, of } => Call::write(Method::PUT, of.path(), from_file(file)?, PRICES),
            Self::List { of } => Call::get(of.path(), PRICES),
        };
        Ok(call.rows(|answer| json!({ "items": answer.get("models") })))
    }
}

/// The tier table.
#[derive(Debug, Subcommand)]
pub(in super::super) enum TierCommand {
    /// Show the table in force
    Show,
    /// Publish a table from a file of the API's JSON
    Set {
        /// The file
        #[arg(long)]
        file: PathBuf,
    },
}

impl Calls for TierCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/tiers".to_owned();
        let call = match self {
            Self::Show => Call::get(path, TIERS),
            Self::Set { file } => Call::write(Method::PUT, path, from_file(file)?, TIERS),
        };
        Ok(call.rows(unlimited).note(later))
    }
}

/// The rows of the table in force, with what is unlimited said so.
fn unlimited(mut answer: Value) -> Value {
    let mut tiers = answer.get_mut("tiers").map(Value::take).unwrap_or_default();
    for tier in tiers.as_array_mut().into_iter().flatten() {
        for limit in tier.as_object_mut().into_iter().flat_map(|tier| tier.values_mut()) {
            if limit.is_null() {
                *limit = "unlimited".into();
            }
        }
    }
    json!({ "items": tiers })
}

/// Tells of tables that are to begin.
fn later(answer: &Value) -> Option<String> {
    let in_force = answer.get("effective_from").and_then(Value::as_str)?;
    let published = answer.get("published").and_then(Value::as_array)?;
    let begins = published.iter().filter_map(|table| table.get("effective_from").and_then(Value::as_str));
    let later: Vec<&str> = begins.filter(|begins| *begins > in_force).collect();
    (!later.is_empty()).then(|| format!("other tables begin at {}; --json shows them", later.join(", ")))
}

/// Everybody's rate limits, scaled down for a time.
#[derive(Debug, Subcommand)]
pub(in super::super) enum RateScaleCommand {
    /// Show how they are scaled
    Show,
    /// Scale them down until an instant, instead of as they are scaled now
    Set(RateScaleArgs),
    /// End it now
    End,
}

/// How to scale rate limits down.
#[derive(Args, Debug)]
pub(in super::super) struct RateScaleArgs {
    /// What they are multiplied by, such as 0.5; results are rounded down, never below 1
    factor: String,
    /// When it ends by itself, such as 2026-11-20T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: String,
    /// What customers are told
    #[arg(long)]
    reason: String,
    /// Only this tier; may stand several times [default: all]
    #[arg(long, value_name = "NAME")]
    tier: Vec<String>,
}

impl Calls for RateScaleCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/rate-scale".to_owned();
        Ok(match self {
            Self::Show => Call::get(path, SCALE),
            Self::Set(RateScaleArgs { factor, until, reason, tier }) => {
                let body = json!({ "factor": factor, "until": until, "reason": reason, "tiers": tier });
                Call::write(Method::PUT, path, body, SCALE)
            }
            Self::End => Call::write(Method::PUT, path, json!({ "factor": null }), SCALE),
        })
    }
}

/// What holds where an organization or a model says nothing else.
#[derive(Debug, Subcommand)]
pub(in super::super) enum DefaultsCommand {
    /// Show it
    Show,
    /// Set it
    Set {
        /// The available balance below which organizations are told; `none`: they are not
        #[arg(long, value_name = "AMOUNT")]
        balance_alert_threshold: Setting<String>,
        /// Output tokens that are assumed where neither request nor model names a maximum
        #[arg(long, value_name = "TOKENS")]
        max_output_tokens: u64,
    },
}

impl Calls for DefaultsCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/defaults".to_owned();
        Ok(match self {
            Self::Show => Call::get(path, DEFAULTS),
            Self::Set { balance_alert_threshold, max_output_tokens } => {
                let threshold = balance_alert_threshold.0;
                let body =
                    json!({ "balance_alert_threshold": threshold, "max_output_tokens": max_output_tokens });
                Call::write(Method::PUT, path, body, DEFAULTS)
            }
        })
    }
}

fn from_file(path: PathBuf) -> Result<Value, ManageError> {
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    let parsed = read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    parsed.map_err(|reason| ManageError::File { path, reason })
}

/// The billing cycle.
#[derive(Debug, Subcommand)]
pub(in super::super) enum CycleCommand {
    /// Set it; 0 seconds settle at once
    Set {
        /// Length of a cycle
        seconds: u32,
        /// How long after its end a cycle becomes visible
        #[arg(long, default_value_t = 0)]
        delay_seconds: u32,
    },
    /// Show it
    Show,
}

impl Calls for CycleCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/billing-cycle".to_owned();
        Ok(match self {
            Self::Set { seconds, delay_seconds } => {
                let body = json!({ "cycle_seconds": seconds, "delay_seconds": delay_seconds });
                Call::write(Method::PUT, path, body, CYCLE)
            }
            Self::Show => Call::get(path, CYCLE),
        })
    }
}

/// How many projects and API keys an organization may have (R1.2).
#[derive(Debug, Subcommand)]
pub(in super::super) enum QuantityCommand {
    /// Show them, by type of organization
    Show,
    /// Set them all; nothing that is there already goes away
    Set(QuantityArgs),
}

/// Quantity limits of both types of organization.
#[derive(Args, Debug)]
pub(in super::super) struct QuantityArgs {
    /// Active projects of an organization
    #[arg(long, value_name = "N")]
    projects: u32,
    /// Active API keys of an organization
    #[arg(long, value_name = "N")]
    api_keys: u32,
    /// Active projects of an organization whose enterprise verification is completed
    #[arg(long, value_name = "N")]
    enterprise_projects: u32,
    /// Active API keys of an organization whose enterprise verification is completed
    #[arg(long, value_name = "N")]
    enterprise_api_keys: u32,
}

impl Calls for QuantityCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/quantity-limits".to_owned();
        let call = match self {
            Self::Show => Call::get(path, QUANTITIES),
            Self::Set(args) => {
                let body = json!({
                    "default": { "projects": args.projects, "api_keys": args.api_keys },
                    "enterprise_verified": {
                        "projects": args.enterprise_projects,
                        "api_keys": args.enterprise_api_keys,
                    },
                });
                Call::write(Method::PUT, path, body, QUANTITIES)
            }
        };
        Ok(call.rows(by_type))
    }
}

/// One row for each type of organization.
fn by_type(answer: Value) -> Value {
    let row = |name: &str| {
        let at = |quantity: &str| answer.pointer(&format!("/{name}/{quantity}")).cloned();
        json!({ "type": name, "projects": at("projects"), "api_keys": at("api_keys") })
    };
    json!({ "items": [row("default"), row("enterprise_verified")] })
}
