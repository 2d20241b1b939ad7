//! API keys (R3.4, R3.6).

use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

use super::call::secret_once;
use super::{Call, Calls, Id, ManageError, PageArgs, ProjectArg};

const COLUMNS: &[&str] = &["id", "name", "project", "member", "hint", "state", "created_at"];

/// API keys.
#[derive(Debug, Subcommand)]
pub(in super::super) enum KeyCommand {
    /// Create one; its secret is shown once
    Create {
        #[command(flatten)]
        project: ProjectArg,
        /// What people call it
        name: String,
        /// The member whose it is [default: who asks; for the platform, the organization's creator]
        #[arg(long)]
        member: Option<Id>,
    },
    /// List a project's
    List {
        #[command(flatten)]
        project: ProjectArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make one useless, at once
    Revoke {
        #[command(flatten)]
        project: ProjectArg,
        /// The key's id, ak_…
        key: Id,
    },
}

impl Calls for KeyCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Create { project, name, member } => {
                let body = json!({ "name": name, "member": member.map(|Id(member)| member) });
                let columns = &["id", "name", "project", "member", "secret"];
                Call::write(Method::POST, project.path("/api-keys"), body, columns).note(secret_once)
            }
            Self::List { project, page } => Call::get(project.path("/api-keys"), COLUMNS).page(page),
            Self::Revoke { project, key } => {
                Call::delete(project.path(&format!("/api-keys/{key}")), &["id", "state", "position"])
            }
        })
    }
}
