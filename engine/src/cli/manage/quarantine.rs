//! Usage that could not be booked (R8.1).

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::usage::PlaceArg;
use super::{Call, Calls, Id, ManageError, PageArgs};

/// What a list shows.
pub(super) const COLUMNS: &[&str] =
    &["id", "state", "reason", "detail", "event.subject", "event.source", "event.id"];
const WHOLE: &[&str] = &[
    "id",
    "state",
    "organization",
    "reason",
    "detail",
    "recorded_at",
    "settled.position",
    "settled.reason",
    "released.booked.cost",
    "released.booked.booked_in",
    "event",
];

/// Usage that could not be booked.
#[derive(Debug, Subcommand)]
pub(in super::super) enum QuarantineCommand {
    /// List it, with the reason
    List(ListArgs),
    /// Show one record, and what became of it
    Show {
        /// Its id, such as 0-17.3
        record: PlaceArg,
    },
    /// Book a record, once the cause is mended
    Release {
        /// Its id, such as 0-17.3
        record: PlaceArg,
        /// A file with the mended record, a CloudEvent in JSON [default: as it came]
        #[arg(long, value_name = "FILE")]
        event: Option<PathBuf>,
    },
    /// Say that a record will not be booked
    Dismiss {
        /// Its id, such as 0-17.3
        record: PlaceArg,
        /// Why
        #[arg(long)]
        reason: String,
    },
}

/// Which records to list.
#[derive(Args, Debug)]
pub(in super::super) struct ListArgs {
    /// Only of this organization, org_…
    #[arg(long, value_name = "ORG")]
    organization: Option<Id>,
    /// open, released, dismissed or all
    #[arg(long)]
    state: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

impl Calls for QuarantineCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::List(ListArgs { organization: Some(organization), state, page }) => {
                let path = format!("/v1/organizations/{organization}/quarantine");
                Call::get(path, COLUMNS).query("state", state).page(page)
            }
            Self::List(ListArgs { organization: None, state, page }) => {
                Call::get("/v1/quarantine".to_owned(), COLUMNS).query("state", state).page(page)
            }
            Self::Show { record } => Call::get(format!("/v1/quarantine/{record}"), WHOLE),
            Self::Release { record, event } => {
                let body = match event {
                    Some(path) => json!({ "event": read(path)? }),
                    None => json!({}),
                };
                Call::write(Method::POST, format!("/v1/quarantine/{record}/release"), body, WHOLE)
            }
            Self::Dismiss { record, reason } => {
                let path = format!("/v1/quarantine/{record}/dismiss");
                Call::write(Method::POST, path, json!({ "reason": reason }), WHOLE)
            }
        })
    }
}

fn read(path: PathBuf) -> Result<Value, ManageError> {
    let bad = |path: PathBuf, reason: &dyn std::fmt::Display| {
        let reason = reason.to_string();
        ManageError::File { path, reason }
    };
    let bytes = std::fs::read(&path).map_err(|error| bad(path.clone(), &error))?;
    serde_json::from_slice(&bytes).map_err(|error| bad(path, &error))
}
