//! Consumption, and single usage records (R8).

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs, quarantine};

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
    /// occurred, or booked as statements have it
    #[arg(long)]
    by: Option<String>,
    /// Only of this project, which its members may see
    #[arg(long)]
    project: Option<Id>,
    /// Only of this model
    #[arg(long)]
    model: Option<String>,
    /// Only with this API key, ak_…
    #[arg(long)]
    api_key: Option<Id>,
    #[command(flatten)]
    page: PageArgs,
}

impl Calls for SpendArgs {
    fn call(self) -> Result<Call, ManageError> {
        let path = match self.project {
            Some(project) => format!("/projects/{project}/spend"),
            None => "/spend".to_owned(),
        };
        let call = Call::get(self.organization.path(&path), SPEND)
            .query("from", self.from)
            .query("to", self.to)
            .query("bucket", self.bucket)
            .query("group_by", self.group_by)
            .query("by", self.by)
            .query("model", self.model)
            .query("api_key", self.api_key.map(|key| key.to_string()));
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

const WAY: &[&str] = &[
    "place",
    "outcome",
    "duplicate_of",
    "quarantine.reason",
    "quarantine.state",
    "booked.booked_in",
    "booked.day",
    "booked.project",
    "booked.cost",
    "reversed.id",
];

/// Usage records.
#[derive(Debug, Subcommand)]
pub(in super::super) enum UsageCommand {
    /// List what is in quarantine, with the reason
    Quarantine(PageArgs),
    /// Show the record at a place, and what became of it
    Show {
        #[command(flatten)]
        organization: OrgArg,
        /// Where it stands, such as 0-17.3
        place: PlaceArg,
    },
    /// Follow a record: every occurrence, with what became of it
    Trace(TraceArgs),
    /// Take a booked record back; its cost comes back to the organization
    Reverse(ReverseArgs),
}

/// Which record to follow.
#[derive(Args, Debug)]
pub(in super::super) struct TraceArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// Who published it
    #[arg(long)]
    source: String,
    /// Its id there
    #[arg(long, required_unless_present = "producerseq", conflicts_with = "producerseq")]
    id: Option<String>,
    /// Its producerseq there
    #[arg(long)]
    producerseq: Option<u64>,
    /// First day on which it may have been booked [default: that of its first occurrence, or 3 days ago]
    #[arg(long)]
    from: Option<String>,
    /// Last such day
    #[arg(long)]
    to: Option<String>,
    /// Search on after this entry
    #[arg(long)]
    after: Option<String>,
}

/// Which record to take back.
#[derive(Args, Debug)]
pub(in super::super) struct ReverseArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// Where it stands, such as 0-17.3
    #[arg(required_unless_present = "id", conflicts_with_all = ["source", "id"])]
    place: Option<PlaceArg>,
    /// Who published it
    #[arg(long, requires = "id")]
    source: Option<String>,
    /// Its id there
    #[arg(long, requires = "source")]
    id: Option<String>,
    /// Why
    #[arg(long)]
    reason: String,
}

/// The place of a usage record, which can stand in a path as it is.
#[derive(Clone, Debug)]
pub(in super::super) struct PlaceArg(String);

/// Why a text is no place.
#[derive(Debug, thiserror::Error)]
#[error("a place looks like 0-17.3: partition, position and row")]
pub(in super::super) struct NoPlace;

impl FromStr for PlaceArg {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts =
            text.split_once('-').and_then(|(partition, rest)| Some((partition, rest.split_once('.')?)));
        match parts {
            Some((partition, (position, row))) if [partition, position, row].into_iter().all(number) => {
                Ok(Self(text.to_owned()))
            }
            Some(_) | None => Err(NoPlace),
        }
    }
}

impl fmt::Display for PlaceArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Calls for UsageCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Quarantine(page) => Call::get("/v1/quarantine".to_owned(), quarantine::COLUMNS).page(page),
            Self::Show { organization, place } => {
                Call::get(organization.path("/usage-records"), WAY).query("place", Some(place.to_string()))
            }
            Self::Trace(args) => Call::get(args.organization.path("/usage-records"), WAY)
                .query("source", Some(args.source))
                .query("id", args.id)
                .query("producerseq", args.producerseq.map(|count| count.to_string()))
                .query("from", args.from)
                .query("to", args.to)
                .query("after", args.after)
                .note(searched),
            Self::Reverse(args) => {
                let usage = match args.place {
                    Some(place) => json!(place.to_string()),
                    None => json!({ "source": args.source, "id": args.id }),
                };
                let body = json!({ "usage": usage, "reason": args.reason });
                let columns = &["id", "usage", "booked.cost", "back.cash", "back.vouchers", "position"];
                Call::write(Method::POST, args.organization.path("/usage-reversals"), body, columns)
            }
        })
    }
}

/// How much of the log was looked at.
fn searched(answer: &Value) -> Option<String> {
    let searched = answer.get("searched").filter(|searched| searched.is_object())?;
    let text = |name: &str| searched.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(format!("searched: the log after {} up to {}", text("after"), text("through")))
}
