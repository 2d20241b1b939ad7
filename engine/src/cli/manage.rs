//! Commands that talk to a running server: the HTTP API from the shell.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Caller, ClientArgs, ClientError};

const ORGANIZATION: &[&str] = &["id", "name", "email", "time_zone", "verification", "created_at"];
const PROJECT: &[&str] = &["id", "name", "state", "created_at"];
const KEY: &[&str] = &["id", "name", "project", "member", "hint", "state", "created_at"];
const BALANCE: &[&str] = &["cash", "vouchers", "available", "cumulative_recharge", "tier", "currency"];

/// Organizations.
#[derive(Debug, Subcommand)]
pub(super) enum OrgCommand {
    /// Register one
    Create {
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
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one
    Show(OrgArgs),
    /// List them
    List(ListArgs),
}

/// One organization.
#[derive(Args, Debug)]
pub(super) struct OrgArgs {
    /// The organization, org_…
    organization: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// A page of a list.
#[derive(Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    page: PageArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// Which page.
#[derive(Args, Debug)]
struct PageArgs {
    /// Items of a page
    #[arg(long)]
    limit: Option<u32>,
    /// What the page before ended with
    #[arg(long)]
    after: Option<String>,
}

impl PageArgs {
    fn query(&self) -> [(&'static str, Option<String>); 2] {
        [("limit", self.limit.map(|limit| limit.to_string())), ("after", self.after.clone())]
    }
}

/// Projects.
#[derive(Debug, Subcommand)]
pub(super) enum ProjectCommand {
    /// Create one
    Create {
        /// Its organization
        organization: String,
        /// What people call it
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List an organization's
    List {
        /// The organization
        organization: String,
        #[command(flatten)]
        list: ListArgs,
    },
}

/// API keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Create one; its secret is shown once
    Create {
        /// Its organization
        organization: String,
        /// Its project
        project: String,
        /// What people call it
        name: String,
        /// The member whose it is [default: the organization's creator]
        #[arg(long)]
        member: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List a project's
    List {
        /// The organization
        organization: String,
        /// The project
        project: String,
        #[command(flatten)]
        list: ListArgs,
    },
}

/// A recharge.
#[derive(Args, Debug)]
pub(super) struct RechargeArgs {
    /// The organization
    organization: String,
    /// How much, such as 5.00
    amount: String,
    /// The payment provider's reference: booking the same again changes nothing
    #[arg(long)]
    reference: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// Prices.
#[derive(Debug, Subcommand)]
pub(super) enum PriceCommand {
    /// Publish one model's prices, per million tokens
    Set {
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
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Publish a price list from a file of the API's JSON
    Publish {
        /// The file
        file: PathBuf,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show everything published
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// The billing cycle.
#[derive(Debug, Subcommand)]
pub(super) enum CycleCommand {
    /// Set it; 0 seconds settle at once
    Set {
        /// Length of a cycle
        seconds: u32,
        /// How long after its end a cycle becomes visible
        #[arg(long, default_value_t = 0)]
        delay_seconds: u32,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show it
    Show {
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Service tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
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
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List those that work
    List(ListArgs),
    /// Revoke one
    Revoke {
        /// The token, tok_…
        // Not `token`: that is the option that every client command has.
        #[arg(value_name = "TOKEN")]
        id: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Consumption.
#[derive(Args, Debug)]
pub(super) struct SpendArgs {
    /// The organization
    organization: String,
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
    #[command(flatten)]
    client: ClientArgs,
}

/// Usage that could not be booked.
#[derive(Debug, Subcommand)]
pub(super) enum UsageCommand {
    /// List what is in quarantine, with the reason
    Quarantine(ListArgs),
}

pub(super) async fn organizations(command: OrgCommand) -> Result<(), ClientError> {
    match command {
        OrgCommand::Create { name, email, creator_name, creator_email, time_zone, client } => {
            let caller = client.caller()?;
            let creator =
                json!({ "name": creator_name, "email": creator_email.unwrap_or_else(|| email.clone()) });
            let body = json!({ "name": name, "email": email, "creator": creator, "time_zone": time_zone });
            let answer = caller.write(Method::POST, "/v1/organizations", &body).await?;
            caller.show(&answer, ORGANIZATION);
        }
        OrgCommand::Show(args) => {
            let caller = args.client.caller()?;
            let answer = caller.get(&format!("/v1/organizations/{}", args.organization), &[]).await?;
            caller.show(&answer, ORGANIZATION);
        }
        OrgCommand::List(args) => {
            let caller = args.client.caller()?;
            let answer = caller.get("/v1/organizations", &args.page.query()).await?;
            caller.show(&answer, ORGANIZATION);
        }
    }
    Ok(())
}

pub(super) async fn projects(command: ProjectCommand) -> Result<(), ClientError> {
    match command {
        ProjectCommand::Create { organization, name, client } => {
            let caller = client.caller()?;
            let path = format!("/v1/organizations/{organization}/projects");
            let answer = caller.write(Method::POST, &path, &json!({ "name": name })).await?;
            caller.show(&answer, PROJECT);
        }
        ProjectCommand::List { organization, list } => {
            let caller = list.client.caller()?;
            let path = format!("/v1/organizations/{organization}/projects");
            caller.show(&caller.get(&path, &list.page.query()).await?, PROJECT);
        }
    }
    Ok(())
}

pub(super) async fn keys(command: KeyCommand) -> Result<(), ClientError> {
    match command {
        KeyCommand::Create { organization, project, name, member, client } => {
            let caller = client.caller()?;
            let path = format!("/v1/organizations/{organization}/projects/{project}/api-keys");
            let body = json!({ "name": name, "member": member });
            let answer = caller.write(Method::POST, &path, &body).await?;
            caller.show(&answer, &["id", "name", "project", "secret"]);
        }
        KeyCommand::List { organization, project, list } => {
            let caller = list.client.caller()?;
            let path = format!("/v1/organizations/{organization}/projects/{project}/api-keys");
            caller.show(&caller.get(&path, &list.page.query()).await?, KEY);
        }
    }
    Ok(())
}

pub(super) async fn recharge(args: RechargeArgs) -> Result<(), ClientError> {
    let caller = args.client.caller()?;
    let path = format!("/v1/organizations/{}/recharges", args.organization);
    let body = json!({ "amount": args.amount, "reference": args.reference });
    let answer = caller.write(Method::POST, &path, &body).await?;
    let columns = [
        "id",
        "amount",
        "voucher.amount",
        "balance.cash",
        "balance.vouchers",
        "balance.available",
        "balance.tier",
    ];
    caller.show(&answer, &columns);
    Ok(())
}

pub(super) async fn prices(command: PriceCommand) -> Result<(), ClientError> {
    let (caller, answer) = match command {
        PriceCommand::Set { model, input, cached_input, output, from, client } => {
            let price =
                json!({ "model": model, "input": input, "cached_input": cached_input, "output": output });
            let body = json!({ "effective_from": from, "models": [price] });
            put_prices(&client, &body).await?
        }
        PriceCommand::Publish { file, client } => {
            let text = std::fs::read(&file)
                .map_err(|error| ClientError::File { path: file.clone(), reason: error.to_string() })?;
            let body: Value = serde_json::from_slice(&text)
                .map_err(|error| ClientError::File { path: file, reason: error.to_string() })?;
            put_prices(&client, &body).await?
        }
        PriceCommand::List { client } => {
            let caller = client.caller()?;
            let answer = caller.get("/v1/config/prices", &[]).await?;
            (caller, answer)
        }
    };
    if caller.wants_json() {
        caller.show(&answer, &[]);
    } else {
        let rows = json!({ "items": answer.get("models") });
        caller.show(
            &rows,
            &["model", "effective_from", "input", "cached_input", "output", "max_output_tokens"],
        );
    }
    Ok(())
}

async fn put_prices(client: &ClientArgs, body: &Value) -> Result<(Caller, Value), ClientError> {
    let caller = client.caller()?;
    let answer = caller.write(Method::PUT, "/v1/config/prices", body).await?;
    Ok((caller, answer))
}

pub(super) async fn cycle(command: CycleCommand) -> Result<(), ClientError> {
    let (caller, answer) = match command {
        CycleCommand::Set { seconds, delay_seconds, client } => {
            let caller = client.caller()?;
            let body = json!({ "cycle_seconds": seconds, "delay_seconds": delay_seconds });
            let answer = caller.write(Method::PUT, "/v1/config/billing-cycle", &body).await?;
            (caller, answer)
        }
        CycleCommand::Show { client } => {
            let caller = client.caller()?;
            let answer = caller.get("/v1/config/billing-cycle", &[]).await?;
            (caller, answer)
        }
    };
    caller.show(&answer, &["cycle_seconds", "delay_seconds"]);
    Ok(())
}

pub(super) async fn tokens(command: TokenCommand) -> Result<(), ClientError> {
    match command {
        TokenCommand::Create { name, scopes, organizations, client } => {
            let caller = client.caller()?;
            let limited = (!organizations.is_empty()).then_some(organizations);
            let body = json!({ "name": name, "scopes": scopes, "organizations": limited });
            let answer = caller.write(Method::POST, "/v1/tokens", &body).await?;
            caller.show(&answer, &["id", "name", "scopes", "organizations", "secret"]);
        }
        TokenCommand::List(list) => {
            let caller = list.client.caller()?;
            let answer = caller.get("/v1/tokens", &list.page.query()).await?;
            caller.show(&answer, &["id", "name", "scopes", "organizations", "created_at"]);
        }
        TokenCommand::Revoke { id, client } => {
            let caller = client.caller()?;
            let answer = caller.write(Method::DELETE, &format!("/v1/tokens/{id}"), &json!({})).await?;
            caller.show(&answer, &["id", "state"]);
        }
    }
    Ok(())
}

pub(super) async fn balance(args: OrgArgs) -> Result<(), ClientError> {
    let caller = args.client.caller()?;
    let answer = caller.get(&format!("/v1/organizations/{}/balance", args.organization), &[]).await?;
    caller.show(&answer, BALANCE);
    Ok(())
}

pub(super) async fn spend(args: SpendArgs) -> Result<(), ClientError> {
    let caller = args.client.caller()?;
    let [limit, after] = args.page.query();
    let query = [
        ("from", args.from),
        ("to", args.to),
        ("bucket", args.bucket),
        ("group_by", args.group_by),
        limit,
        after,
    ];
    let answer = caller.get(&format!("/v1/organizations/{}/spend", args.organization), &query).await?;
    if caller.wants_json() {
        caller.show(&answer, &[]);
        return Ok(());
    }
    let buckets = answer.get("buckets").and_then(Value::as_array).into_iter().flatten();
    let rows: Vec<Value> = buckets
        .flat_map(|bucket| {
            let start = bucket.get("start").cloned().unwrap_or_default();
            let results = bucket.get("results").and_then(Value::as_array).into_iter().flatten();
            results.cloned().map(move |mut result| {
                if let Some(members) = result.as_object_mut() {
                    members.insert("start".into(), start.clone());
                }
                result
            })
        })
        .collect();
    let columns = [
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
    caller.show(&json!({ "items": rows, "next_page": answer.get("next_page") }), &columns);
    Ok(())
}

pub(super) async fn usage(command: UsageCommand) -> Result<(), ClientError> {
    match command {
        UsageCommand::Quarantine(list) => {
            let caller = list.client.caller()?;
            let answer = caller.get("/v1/quarantine", &list.page.query()).await?;
            let columns = ["id", "reason", "detail", "event.subject", "event.source", "event.id"];
            caller.show(&answer, &columns);
        }
    }
    Ok(())
}
