//! Organizations (R1).

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::super::table::text;
use super::{Call, Calls, Id, ManageError, OrgArg, PageArgs, Setting, audit, limits};

const COLUMNS: &[&str] = &["id", "name", "email", "time_zone", "verification", "created_at"];
const BALANCE_ALERT: &[&str] = &["threshold", "default", "armed"];
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
    /// Show or set the balance below which it is told; `none`: it is told nothing
    BalanceAlert {
        #[command(flatten)]
        organization: OrgArg,
        /// The threshold, such as 5.00 [default: show it]
        #[arg(value_name = "AMOUNT|none", allow_negative_numbers = true)]
        threshold: Option<Setting<String>>,
    },
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
            Self::Limits(organization) => Call::get(organization.path("/limits"), limits::COLUMNS)
                .rows(limits::rows)
                .note(limits::scaled),
            Self::Override(args) => args.call(),
            Self::BalanceAlert { organization, threshold } => {
                let path = organization.path("/balance-alert");
                match threshold {
                    Some(Setting(threshold)) => {
                        Call::write(Method::PUT, path, json!({ "threshold": threshold }), BALANCE_ALERT)
                    }
                    None => Call::get(path, BALANCE_ALERT),
                }
            }
            Self::Log { organization, page } => audit::log(organization.path("/log"), page),
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
        Call::write(Method::POST, path, body, limits::COLUMNS).rows(limits::rows).note(limits::scaled)
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
