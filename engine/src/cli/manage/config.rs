//! What holds for the whole ledger: prices, the billing cycle, quantity limits.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Calls, ManageError};

const PRICES: &[&str] = &["model", "effective_from", "input", "cached_input", "output", "max_output_tokens"];
const CYCLE: &[&str] = &["cycle_seconds", "delay_seconds"];
const QUANTITIES: &[&str] = &["type", "projects", "api_keys"];

/// Prices.
#[derive(Debug, Subcommand)]
pub(in super::super) enum PriceCommand {
    /// Publish one model's prices, per million tokens
    Set(PriceArgs),
    /// Publish a price list from a file of the API's JSON
    Publish {
        /// The file
        file: PathBuf,
    },
    /// Show everything published
    List,
}

/// One model's prices.
#[derive(Args, Debug)]
pub(in super::super) struct PriceArgs {
    /// The model
    model: String,
    /// Per million input tokens
    #[arg(long)]
    input: String,
    /// Per million input tokens read from a cache
    #[arg(long)]
    cached_input: String,
    /// Per million output tokens
    #[arg(long)]
    output: String,
    /// When they begin; a model's first may begin in the past [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
}

impl Calls for PriceCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/config/prices".to_owned();
        let call = match self {
            Self::Set(args) => {
                let price = json!({
                    "model": args.model,
                    "input": args.input,
                    "cached_input": args.cached_input,
                    "output": args.output,
                });
                let body = json!({ "effective_from": args.from, "models": [price] });
                Call::write(Method::PUT, path, body, PRICES)
            }
            Self::Publish { file } => Call::write(Method::PUT, path, from_file(file)?, PRICES),
            Self::List => Call::get(path, PRICES),
        };
        Ok(call.rows(|answer| json!({ "items": answer.get("models") })))
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
