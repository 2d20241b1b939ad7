//! Organizations (R1).

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::super::table::{NOTHING, text};
use super::call::each;
use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs, Setting};

const COLUMNS: &[&str] = &["id", "name", "email", "time_zone", "verification", "created_at"];
const ONE: &[&str] = &[
    "id",
    "name",
    "email",
    "time_zone",
    "verification",
    "creator.id",
    "creator.name",
    "creator.email",
    "created_at",
];
const LIMITS: &[&str] = &["limit", "in_force", "used", "override"];
const LOG: &[&str] = &["position", "recorded_at", "actor", "events"];

/// Organizations.
#[derive(Debug, Subcommand)]
pub(in super::super) enum OrgCommand {
    /// Register one
    Create(CreateArgs),
    /// Show one
    Show(OrgArg),
    /// List them
    List(PageArgs),
    /// Change its name, registered address or time zone
    #[command(override_usage = "tollbook org update [OPTIONS] <ORG>")]
    Update(UpdateArgs),
    /// Set how far it is verified
    Verify {
        #[command(flatten)]
        organization: OrgArg,
        /// How far
        #[arg(value_parser = ["unverified", "verified", "enterprise_verified"])]
        level: String,
    },
    /// Show its tier, the limits in force, and how much of them is used
    Limits(OrgArg),
    /// Override limits for it alone; `none` takes an override away
    #[command(override_usage = "tollbook org override [OPTIONS] <ORG>")]
    Override(OverrideArgs),
    /// Show its audit log: who did what, and when
    Log {
        #[command(flatten)]
        organization: OrgArg,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Make names and e-mail addresses of it and its members unreadable, for ever
    EraseContacts {
        #[command(flatten)]
        organization: OrgArg,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// An organization to register.
#[derive(Args, Debug)]
pub(in super::super) struct CreateArgs {
    /// What people call it
    name: String,
    /// Registered e-mail address
    #[arg(long)]
    email: String,
    /// Its creator's name
    #[arg(long)]
    creator_name: String,
    /// Its creator's e-mail address [default: the registered one]
    #[arg(long)]
    creator_email: Option<String>,
    /// Billing time zone, such as Europe/Berlin [default: UTC]
    #[arg(long)]
    time_zone: Option<String>,
}

/// What to change of an organization.
#[derive(Args, Debug)]
#[group(id = "change", required = true, multiple = true, args = ["name", "email", "time_zone"])]
pub(in super::super) struct UpdateArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// What people call it
    #[arg(long)]
    name: Option<String>,
    /// Registered e-mail address
    #[arg(long)]
    email: Option<String>,
    /// Billing time zone, from the next month on
    #[arg(long)]
    time_zone: Option<String>,
}

/// Limits to override.
#[derive(Args, Debug)]
#[group(
    id = "limits",
    required = true,
    multiple = true,
    args = ["projects", "api_keys", "concurrency", "rpm", "tpm", "tpd"]
)]
pub(in super::super) struct OverrideArgs {
    #[command(flatten)]
    organization: OrgArg,
    /// Active projects
    #[arg(long, value_name = "N|none")]
    projects: Option<Setting<u32>>,
    /// Active API keys
    #[arg(long, value_name = "N|none")]
    api_keys: Option<Setting<u32>>,
    /// Requests at the same time
    #[arg(long, value_name = "N|none")]
    concurrency: Option<Setting<u64>>,
    /// Requests in any minute
    #[arg(long, value_name = "N|none")]
    rpm: Option<Setting<u64>>,
    /// Tokens in any minute
    #[arg(long, value_name = "N|none")]
    tpm: Option<Setting<u64>>,
    /// Tokens in a day
    #[arg(long, value_name = "N|none")]
    tpd: Option<Setting<u64>>,
}

impl Calls for OrgCommand {
    fn call(self) -> Result<Call, ManageError> {
        Ok(match self {
            Self::Create(args) => {
                let creator_email = args.creator_email.unwrap_or_else(|| args.email.clone());
                let body = json!({
                    "name": args.name,
                    "email": args.email,
                    "creator": { "name": args.creator_name, "email": creator_email },
                    "time_zone": args.time_zone,
                });
                Call::write(Method::POST, "/v1/organizations".to_owned(), body, ONE)
            }
            Self::Show(organization) => Call::get(organization.path(""), ONE).note(next_time_zone),
            Self::List(page) => Call::get("/v1/organizations".to_owned(), COLUMNS).page(page),
            Self::Update(args) => {
                let changes = [("name", args.name), ("email", args.email), ("time_zone", args.time_zone)];
                let given =
                    changes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
                let body = Value::Object(given.collect());
                Call::write(Method::PATCH, args.organization.path(""), body, ONE).note(next_time_zone)
            }
            Self::Verify { organization, level } => {
                let path = organization.path("/verification");
                Call::write(Method::POST, path, json!({ "level": level }), ONE)
            }
            Self::Limits(organization) => {
                Call::get(organization.path("/limits"), LIMITS).rows(limits).note(scaled)
            }
            Self::Override(args) => args.call(),
            Self::Log { organization, page } => {
                Call::get(organization.path("/log"), LOG).page(page).rows(|answer| each(answer, entry))
            }
            Self::EraseContacts { organization, yes } => {
                if !yes {
                    confirm(&organization.organization)?;
                }
                Call::delete(organization.path("/contacts"), &["position"])
            }
        })
    }
}

impl OverrideArgs {
    fn call(self) -> Call {
        let wide =
            |setting: Option<Setting<u32>>| setting.map(|Setting(number)| Setting(number.map(u64::from)));
        let settings = [
            ("projects", wide(self.projects)),
            ("api_keys", wide(self.api_keys)),
            ("concurrency", self.concurrency),
            ("rpm", self.rpm),
            ("tpm", self.tpm),
            ("tpd", self.tpd),
        ];
        // What is absent stays as it is, null takes an override away (R5.5).
        let given = settings.into_iter().filter_map(|(name, setting)| {
            let Setting(number) = setting?;
            Some((name.to_owned(), number.into()))
        });
        let body = Value::Object(given.collect::<Map<_, _>>());
        let path = self.organization.path("/limits/override");
        Call::write(Method::POST, path, body, LIMITS).rows(limits).note(scaled)
    }
}

/// Asks for the organization's id, on a terminal.
#[expect(clippy::print_stderr, reason = "this is a question to a person")]
fn confirm(organization: &Id) -> Result<(), ManageError> {
    if !std::io::stdin().is_terminal() {
        return Err(ManageError::Unconfirmed("this cannot be undone; give --yes where nobody can be asked"));
    }
    eprint!(
        "Names and e-mail addresses of {organization} and its members become unreadable, for ever.\n\
         Type the organization's id to go on: "
    );
    std::io::stderr().flush()?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed)?;
    if typed.trim() == organization.0 { Ok(()) } else { Err(ManageError::Unconfirmed("that was another id")) }
}

/// A time zone takes effect with a month (R1.4).
fn next_time_zone(answer: &Value) -> Option<String> {
    let next = answer.get("next_time_zone").filter(|next| next.is_object())?;
    let part = |name: &str| next.get(name).map(text).unwrap_or_default();
    Some(format!("time zone {} from {} on", part("time_zone"), part("from")))
}

/// Everybody's rate limits may be lowered for a time (R5.5).
fn scaled(answer: &Value) -> Option<String> {
    answer.get("scaled").and_then(Value::as_bool).filter(|scaled| *scaled)?;
    Some("rate limits are scaled down for now: the cluster is at capacity".to_owned())
}

/// Limits of requests and tokens, which the tier gives.
const RATES: [&str; 4] = ["concurrency", "rpm", "tpm", "tpd"];
/// Limits of quantities, which the type of organization gives.
const QUANTITIES: [&str; 2] = ["projects", "api_keys"];

/// The tier and one row for each limit.
fn limits(answer: Value) -> Value {
    let at = |path: &str| answer.pointer(path).cloned().unwrap_or_default();
    let in_force = |name: &str| match answer.get("limits") {
        // A row of the tier table without a limit, and no row at all, are not the same.
        Some(Value::Object(rates)) if rates.get(name).is_some_and(Value::is_null) => "unlimited".into(),
        Some(_) | None => at(&format!("/limits/{name}")),
    };
    let tier = json!({ "limit": "tier", "in_force": at("/tier") });
    let rates = RATES.iter().map(|name| {
        json!({ "limit": name, "in_force": in_force(name), "override": at(&format!("/overrides/{name}")) })
    });
    let quantities = QUANTITIES.iter().map(|name| {
        json!({
            "limit": name,
            "in_force": at(&format!("/quantities/{name}/limit")),
            "used": at(&format!("/quantities/{name}/used")),
            "override": at(&format!("/overrides/{name}")),
        })
    });
    json!({ "items": std::iter::once(tier).chain(rates).chain(quantities).collect::<Vec<_>>() })
}

/// An entry of the audit log, as people read it: who in one cell, each event on a line.
fn entry(entry: &mut Value) {
    let actor = entry.get("actor").map(actor).unwrap_or_default();
    let events = entry.get("events").and_then(Value::as_array).into_iter().flatten();
    let events = events.map(event).collect::<Vec<_>>().join("\n");
    if let Some(members) = entry.as_object_mut() {
        members.insert("actor".to_owned(), actor.into());
        members.insert("events".to_owned(), events.into());
    }
}

fn actor(actor: &Value) -> String {
    let part = |name: &str| actor.get(name).map(text).filter(|text| !text.is_empty());
    match (part("member"), part("token"), part("kind")) {
        (Some(member), Some(token), _) => format!("{member} by {token}"),
        (Some(member), None, _) => member,
        (None, Some(token), Some(kind)) => format!("{kind} {token}"),
        (None, token, kind) => kind.or(token).unwrap_or_default(),
    }
}

fn event(event: &Value) -> String {
    let kind = event.get("type").map(text).unwrap_or_default();
    let details = event.as_object().into_iter().flatten().filter(|(name, _)| *name != "type");
    details.fold(kind, |line, (name, value)| line + &detail(name, value))
}

/// ` name=value`; of an object, each member as `name.member`, and of a list of objects each as `name[0]` and so on.
fn detail(name: &str, value: &Value) -> String {
    if let Value::Array(items) = value
        && items.iter().any(Value::is_object)
    {
        let items = items.iter().enumerate();
        return items.map(|(place, item)| detail(&format!("{name}[{place}]"), item)).collect();
    }
    if let Value::Object(members) = value {
        return members.iter().map(|(member, value)| detail(&format!("{name}.{member}"), value)).collect();
    }
    let text = text(value);
    if text.is_empty() {
        format!(" {name}={NOTHING}")
    } else if text.contains(|c: char| c.is_whitespace() || c == '"') {
        format!(" {name}={text:?}")
    } else {
        format!(" {name}={text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_the_log_says_who_did_what() {
        let mut shown = json!({
            "position": "0-7",
            "actor": { "kind": "member", "token": "tok_1", "member": "mem_1" },
            "events": [
                { "type": "organization.registered", "name": "Acme Inc", "creator": { "id": "mem_1", "name": null } },
                { "type": "invitation.created", "projects": [{ "project": "proj_1", "role": "member" }] },
                { "type": "organization.contacts_erased" },
            ],
        });
        entry(&mut shown);
        assert_eq!(shown["actor"], "mem_1 by tok_1");
        assert_eq!(
            shown["events"],
            "organization.registered creator.id=mem_1 creator.name=– name=\"Acme Inc\"\n\
             invitation.created projects[0].project=proj_1 projects[0].role=member\n\
             organization.contacts_erased"
        );
        assert_eq!(actor(&json!({ "kind": "operator", "token": null, "member": null })), "operator");
        assert_eq!(actor(&json!({ "kind": "operator", "token": "tok_1" })), "operator tok_1");
        assert_eq!(actor(&json!({ "kind": "system" })), "system");
    }

    #[test]
    fn a_limit_that_is_none_is_not_one_that_is_unknown() {
        let shown = limits(json!({
            "tier": "Tier1",
            "limits": { "concurrency": 50, "rpm": 200, "tpm": 2_000_000, "tpd": null },
            "quantities": { "projects": { "limit": 20, "used": 3 }, "api_keys": { "limit": 50, "used": 0 } },
            "overrides": { "rpm": 200 },
        }));
        let row = |place: usize| shown["items"][place].clone();
        assert_eq!(row(2), json!({ "limit": "rpm", "in_force": 200, "override": 200 }));
        assert_eq!(row(4), json!({ "limit": "tpd", "in_force": "unlimited", "override": null }));
        assert_eq!(row(5), json!({ "limit": "projects", "in_force": 20, "used": 3, "override": null }));
        let poor = limits(json!({ "tier": null, "limits": null, "quantities": {}, "overrides": {} }));
        assert_eq!(poor["items"][4]["in_force"], Value::Null);
    }
}
