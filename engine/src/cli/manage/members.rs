//! Members of organizations, and inviting them (R3).

use std::str::FromStr;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::super::table::text;
use super::call::each;
use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs, ROLES};

const MEMBERS: &[&str] = &["id", "name", "email", "role", "joined_at", "projects"];
const INVITATIONS: &[&str] = &["id", "email", "role", "projects", "state", "created_at", "expires_at"];
const INVITED: &[&str] = &["id", "email", "role", "projects", "expires_at", "link", "token"];
const ROLE: &[&str] = &["id", "role", "revoked_api_keys", "position"];
/// Of whoever was removed, with the API keys that stopped working.
pub(super) const REMOVED: &[&str] = &["id", "revoked_api_keys", "position"];
const ACCEPTED: &[&str] =
    &["member.id", "member.name", "member.email", "member.role", "organization", "member.projects"];

/// Members.
#[derive(Debug, Subcommand)]
pub(in super::super) enum MemberCommand {
    /// List an organization's, with their projects and roles there
    List {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Change a member's role in the organization
    Role {
        #[command(flatten)]
        member: MemberArg,
        /// The role
        #[arg(value_parser = ROLES)]
        role: String,
    },
    /// Remove one; their API keys stop working at once
    Remove(MemberArg),
    /// Invite one; the token, and the link if the server knows its console, are shown once
    Invite(InviteArgs),
    /// List an organization's invitations
    Invitations {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make an invitation useless
    RevokeInvitation {
        #[command(flatten)]
        organization: OrgArg,
        /// The invitation, inv_…
        invitation: Id,
    },
    /// Accept an invitation for somebody
    Accept {
        // Not `token`: that is the option that every client command has.
        /// The invitation's token; - reads it from standard input, where no list of processes shows it
        #[arg(value_name = "TOKEN")]
        secret: String,
        /// The new member's name
        #[arg(long)]
        name: String,
        /// The new member's e-mail address
        #[arg(long)]
        email: String,
    },
}

/// A member of an organization.
#[derive(Args, Debug)]
pub(in super::super) struct MemberArg {
    #[command(flatten)]
    organization: OrgArg,
    /// The member, mem_…
    #[arg(value_name = "MEMBER")]
    member: Id,
}

impl MemberArg {
    fn path(&self) -> String {
        self.organization.path(&format!("/members/{}", self.member))
    }
}

/// Somebody to invite.
#[derive(Args, Debug)]
pub(in super::super) struct InviteArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// Whom it is for
    #[arg(long)]
    email: Option<String>,
    /// Their role in the organization
    #[arg(long, value_parser = ROLES, default_value = "member")]
    role: String,
    /// A project that they join, and as what [default role: member]; repeatable
    #[arg(long = "project", value_name = "PROJECT[=ROLE]")]
    projects: Vec<Place>,
}

/// A place in a project.
#[derive(Clone, Debug)]
pub(in super::super) struct Place {
    project: Id,
    role: String,
}

/// Why a text names no place.
#[derive(Debug, thiserror::Error)]
#[error("must be a project's id, or one followed by =administrator or =member")]
pub(in super::super) struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (project, role) = text.split_once('=').unwrap_or((text, "member"));
        let project = project.parse().map_err(|_| NoPlace)?;
        if ROLES.contains(&role) { Ok(Self { project, role: role.to_owned() }) } else { Err(NoPlace) }
    }
}

impl Calls for MemberCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::List { organization, page } => Call::get(organization.path("/members"), MEMBERS)
                .page(page)
                .rows(|answer| each(answer, places)),
            Self::Role { member, role } => {
                let body = json!({ "role": role });
                Call::write(Method::PATCH, member.path(), body, ROLE)
            }
            Self::Remove(member) => Call::delete(member.path(), REMOVED),
            Self::Invite(args) => {
                let path = args.organization.path("/invitations");
                let projects = args.projects.iter();
                let projects: Value =
                    projects.map(|place| json!({ "project": place.project.0, "role": place.role })).collect();
                let body = json!({ "email": args.email, "role": args.role, "projects": projects });
                Call::write(Method::POST, path, body, INVITED)
                    .rows(|answer| each(answer, places))
                    .note(token_once)
            }
            Self::Invitations { organization, page } => {
                Call::get(organization.path("/invitations"), INVITATIONS)
                    .page(page)
                    .rows(|answer| each(answer, places))
            }
            Self::RevokeInvitation { organization, invitation } => {
                let path = organization.path(&format!("/invitations/{invitation}"));
                Call::delete(path, &["id", "state", "position"])
            }
            Self::Accept { secret, name, email } => {
                let secret = if secret == "-" { typed()? } else { secret };
                let body = json!({ "token": secret, "name": name, "email": email });
                Call::write(Method::POST, "/v1/invitations/accept".to_owned(), body, ACCEPTED).rows(accepted)
            }
        })
    }
}

/// The new member's projects as everybody's.
fn accepted(mut answer: Value) -> Value {
    answer.get_mut("member").into_iter().for_each(places);
    answer
}

/// A line of standard input.
fn typed() -> Result<String, ManageError> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let token = line.trim();
    if token.is_empty() {
        return Err(ManageError::Argument("there is no token on standard input"));
    }
    Ok(token.to_owned())
}

/// Somebody's projects as options of `member invite` name them, one on a line.
fn places(one: &mut Value) {
    let Some(projects) = one.get_mut("projects") else { return };
    let places = projects.as_array().into_iter().flatten().map(|place| {
        let part = |name: &str| place.get(name).map(text).unwrap_or_default();
        format!("{}={}", part("project"), part("role"))
    });
    *projects = places.collect::<Vec<_>>().join("\n").into();
}

fn token_once(answer: &Value) -> Option<String> {
    Some(match answer.get("token").filter(|token| !token.is_null()) {
        Some(_) if answer.get("link").is_none_or(Value::is_null) => {
            "the token is shown this once: pass it on now, to one person. There is no link, as the server was not told \
             where the console is (--console-url)"
                .to_owned()
        }
        Some(_) => "link and token are shown this once: pass one of them on now, to one person".to_owned(),
        None => "link and token were shown when this was done first, and cannot be shown again".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_project_and_a_role() {
        for (text, expected) in [
            ("proj_1", Some(("proj_1", "member"))),
            ("proj_1=administrator", Some(("proj_1", "administrator"))),
            ("proj_1=member", Some(("proj_1", "member"))),
            ("proj_1=", None),
            ("proj_1=owner", None),
            ("=member", None),
            ("", None),
        ] {
            let read = text.parse::<Place>().ok();
            let read = read.as_ref().map(|place| (place.project.0.as_str(), place.role.as_str()));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn projects_stand_below_each_other() {
        let projects =
            json!([{ "project": "proj_1", "role": "member" }, { "project": "proj_2", "role": "member" }]);
        let mut one = json!({ "id": "mem_1", "projects": projects });
        places(&mut one);
        assert_eq!(one["projects"], "proj_1=member\nproj_2=member");
    }
}
