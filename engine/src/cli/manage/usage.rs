//! Consumption, and usage that could not be booked (R8).

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Call, Calls, ManageError, OrgArg, PageArgs};

const SPEND: &[&str] = &[
    "start",
    "project",
    "model",
    "api_key",
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost",
];

/// Consumption.
#[derive(Args, Debug)]
pub(in super::super) struct SpendArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// First day, or a time [default: the first of this month]
    #[arg(long)]
    from: Option<String>,
    /// Last day, or a time [default: now]
    #[arg(long)]
    to: Option<String>,
    /// day or month
    #[arg(long)]
    bucket: Option<String>,
    /// project, model, api_key
    #[arg(long)]
    group_by: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Calls for SpendArgs {
    fn call(self) -> Result<Call, ManageError> {
        let call = Call::get(self.organization.path("/spend"), SPEND)
            .query("from", self.from)
            .query("to", self.to)
            .query("bucket", self.bucket)
            .query("group_by", self.group_by);
        Ok(call.page(self.page).rows(flat))
    }
}

/// One row for each result, with the begin of its bucket.
fn flat(answer: Value) -> Value {
    let buckets = answer.get("buckets").and_then(Value::as_array).into_iter().flatten();
    let rows = buckets.flat_map(|bucket| {
        let start = bucket.get("start").cloned().unwrap_or_default();
        let results = bucket.get("results").and_then(Value::as_array).into_iter().flatten();
        results.cloned().map(move |mut result| {
            if let Some(members) = result.as_object_mut() {
                members.insert("start".into(), start.clone());
            }
            result
        })
    });
    json!({ "items": rows.collect::<Vec<_>>(), "next_page": answer.get("next_page") })
}

/// Usage that could not be booked.
#[derive(Debug, Subcommand)]
pub(in super::super) enum UsageCommand {
    /// List what is in quarantine, with the reason
    Quarantine(PageArgs),
}

impl Calls for UsageCommand {
    fn call(self) -> Result<Call, ManageError> {
        match self {
            Self::Quarantine(page) => {
                let columns = &["id", "reason", "detail", "event.subject", "event.source", "event.id"];
                Ok(Call::get("/v1/quarantine".to_owned(), columns).page(page))
            }
        }
    }
}
