//! Service tokens.

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::call::secret_once;
use super::{Call, Calls, Id, ManageError, PageArgs};

/// Service tokens.
#[derive(Debug, Subcommand)]
pub(in super::super) enum TokenCommand {
    /// Issue one; its secret is shown once
    Create {
        /// What people call it
        name: String,
        /// operator, console, publisher, gateway, auditor
        #[arg(long = "scope", required = true, value_delimiter = ',')]
        scopes: Vec<String>,
        /// Limit it to these organizations
        #[arg(long = "organization", value_delimiter = ',')]
        organizations: Vec<String>,
    },
    /// List those that work
    List(PageArgs),
    /// Revoke one
    Revoke {
        /// The token, tok_…
        // Not `token`: that is the option that every client command has.
        #[arg(value_name = "TOKEN")]
        id: Id,
    },
}

impl Calls for TokenCommand {
    fn call(self) -> Result<Call, ManageError> {
        let path = "/v1/tokens".to_owned();
        Ok(match self {
            Self::Create { name, scopes, organizations } => {
                let limited = (!organizations.is_empty()).then_some(organizations);
                let body = json!({ "name": name, "scopes": scopes, "organizations": limited });
                let columns = &["id", "name", "scopes", "organizations", "secret"];
                Call::write(Method::POST, path, body, columns).note(secret_once)
            }
            Self::List(page) => {
                Call::get(path, &["id", "name", "scopes", "organizations", "created_at"]).page(page)
            }
            Self::Revoke { id } => Call::delete(format!("{path}/{id}"), &["id", "state"]),
        })
    }
}
