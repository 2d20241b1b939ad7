//! Projects, and their members (R3, R5.4).

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::table::text;
use super::members::REMOVED;
use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs, ProjectArg, ROLES, Setting};

const COLUMNS: &[&str] =
    &["id", "name", "state", "tpm_limit", "budgets.daily", "budgets.monthly", "created_at"];
const MEMBERS: &[&str] = &["member", "name", "email", "role"];

/// Projects.
#[derive(Debug, Subcommand)]
pub(in super::super) enum ProjectCommand {
    /// Create one
    Create {
        #[command(flatten)]
        organization: OrgArg,
        /// What people call it
        name: String,
    },
    /// List an organization's
    List {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Show one
    Show(ProjectArg),
    /// Change what people call it
    Rename {
        #[command(flatten)]
        project: ProjectArg,
        /// What people call it
        name: String,
    },
    /// Close one for ever; its API keys stop working at once
    Archive(ProjectArg),
    /// Limit its tokens in any minute
    Tpm {
        #[command(flatten)]
        project: ProjectArg,
        /// The limit; `none` leaves the organization's alone
        #[arg(value_name = "N|none")]
        limit: Setting<u64>,
    },
    /// List its members
    Members {
        #[command(flatten)]
        project: ProjectArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Bring a member of the organization into it
    AddMember {
        #[command(flatten)]
        member: PlaceArg,
        /// Their role in the project
        #[arg(long, value_parser = ROLES, default_value = "member")]
        role: String,
    },
    /// Change a member's role in it
    SetRole {
        #[command(flatten)]
        member: PlaceArg,
        /// The role
        #[arg(value_parser = ROLES)]
        role: String,
    },
    /// Take a member out of it; the API keys that they made in it stop working at once
    RemoveMember(PlaceArg),
}

/// A member in a project.
#[derive(Args, Debug)]
pub(in super::super) struct PlaceArg {
    #[command(flatten)]
    project: ProjectArg,
    /// The member, mem_…
    #[arg(value_name = "MEMBER")]
    member: Id,
}

impl PlaceArg {
    fn path(&self) -> String {
        self.project.path(&format!("/members/{}", self.member))
    }
}

impl Calls for ProjectCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Create { organization, name } => {
                Call::write(Method::POST, organization.path("/projects"), json!({ "name": name }), COLUMNS)
            }
            Self::List { organization, page } => {
                Call::get(organization.path("/projects"), COLUMNS).page(page)
            }
            Self::Show(project) => Call::get(project.path(""), COLUMNS),
            Self::Rename { project, name } => {
                Call::write(Method::PATCH, project.path(""), json!({ "name": name }), COLUMNS)
            }
            Self::Archive(project) => {
                Call::delete(project.path(""), &["id", "state", "revoked_api_keys", "position"])
            }
            Self::Tpm { project, limit: Setting(limit) } => {
                let columns = &["limit", "effective"];
                Call::write(Method::PUT, project.path("/tpm"), json!({ "limit": limit }), columns)
                    .note(clamped)
            }
            Self::Members { project, page } => Call::get(project.path("/members"), MEMBERS).page(page),
            Self::AddMember { member, role } => {
                let body = json!({ "member": member.member.0, "role": role });
                Call::write(Method::POST, member.project.path("/members"), body, MEMBERS)
            }
            Self::SetRole { member, role } => {
                Call::write(Method::PATCH, member.path(), json!({ "role": role }), MEMBERS)
            }
            Self::RemoveMember(member) => Call::delete(member.path(), REMOVED),
        })
    }
}

/// Says that the organization's limit is what applies (R5.4).
fn clamped(answer: &Value) -> Option<String> {
    answer.get("clamped").and_then(Value::as_bool).filter(|clamped| *clamped)?;
    let effective = answer.get("effective").map(text).unwrap_or_default();
    Some(format!("the organization's limit is lower: {effective} applies"))
}
