//! Who takes part: two organizations with projects and keys, set up over HTTP as an operator would.

use reqwest::Method;
use serde_json::{Value, json};
use tollbook_schemas::id::{KeyId, OrgId, ProjectId};
use tollbook_schemas::time::{Timestamp, Zone};

use super::DemoError;
use crate::cli::client::Caller;

/// A model and its prices per million input, cached input and output tokens.
pub(super) struct Model {
    pub(super) name: &'static str,
    pub(super) input: &'static str,
    pub(super) cached_input: &'static str,
    pub(super) output: &'static str,
}

/// What is on sale.
pub(super) const MODELS: [Model; 3] = [
    Model { name: "kimi-k2.5", input: "0.60", cached_input: "0.10", output: "3.00" },
    Model { name: "kimi-k2.6", input: "0.95", cached_input: "0.16", output: "4.00" },
    Model { name: "kimi-k3", input: "3.00", cached_input: "0.30", output: "15.00" },
];

/// Prices began so many days before the hour.
const PRICED_SINCE_DAYS: i64 = 30;

/// An organization of the cast.
pub(super) struct Role {
    pub(super) name: &'static str,
    email: &'static str,
    creator: &'static str,
    zone: &'static str,
    projects: &'static [Part],
    /// The balance below which it wants to be told; else the ledger's default.
    balance_alert: Option<&'static str>,
    /// Minute of the hour and amount.
    pub(super) recharges: &'static [(i64, &'static str)],
}

/// A project of the cast.
pub(super) struct Part {
    name: &'static str,
    keys: &'static [&'static str],
    /// Its share of all calls.
    pub(super) share: u32,
    /// Shares of its calls by model, in the order of [`MODELS`].
    pub(super) models: [u32; 3],
    /// Of a hundred calls, how many find part of their prompt in a cache.
    pub(super) cached: u32,
}

/// Who takes part. The recharges pass $5, which earns the voucher, and the tiers' $10, $20 and $100.
pub(super) const ROLES: [Role; 2] = [
    Role {
        name: "Aurora Labs",
        email: "billing@aurora.example",
        creator: "Mei Tanaka",
        zone: "Asia/Shanghai",
        projects: &[
            Part { name: "assistant", keys: &["web", "mobile"], share: 30, models: [0, 60, 40], cached: 50 },
            Part { name: "search", keys: &["query", "indexer"], share: 22, models: [90, 10, 0], cached: 10 },
            Part { name: "evals", keys: &["ci"], share: 8, models: [34, 33, 33], cached: 0 },
        ],
        balance_alert: Some("15.00"),
        recharges: &[(0, "3.00"), (9, "2.00"), (16, "5.00"), (31, "10.00")],
    },
    Role {
        name: "Boreal Games",
        email: "finance@boreal.example",
        creator: "Jonas Lind",
        zone: "Europe/Berlin",
        projects: &[
            Part {
                name: "copilot",
                keys: &["vscode", "jetbrains"],
                share: 28,
                models: [40, 60, 0],
                cached: 60,
            },
            Part { name: "npc-dialog", keys: &["eu", "us"], share: 12, models: [55, 30, 15], cached: 20 },
        ],
        balance_alert: None,
        recharges: &[(0, "10.00"), (24, "10.00"), (45, "80.00")],
    },
];

/// An organization as the ledger knows it.
#[derive(Clone, Debug)]
pub(super) struct Organization {
    pub(super) id: OrgId,
    pub(super) name: &'static str,
    pub(super) zone: Zone,
    pub(super) projects: Vec<(ProjectId, &'static str)>,
}

/// A key as the ledger knows it; `organization` and `project` are places in their lists.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) secret: String,
    pub(super) organization: usize,
    pub(super) project: usize,
}

/// Everybody, and the tokens with which usage is published for them and admission is asked.
#[derive(Clone)]
pub(super) struct Cast {
    pub(super) organizations: Vec<Organization>,
    pub(super) keys: Vec<Key>,
    pub(super) publisher: String,
    pub(super) gateway: String,
}

impl Cast {
    /// Sets everything up: prices, organizations, projects, keys, and a token that may only publish for these.
    pub(super) async fn hire(admin: &Caller, start: Timestamp) -> Result<Self, DemoError> {
        let models: Vec<Value> = MODELS
            .iter()
            .map(|model| {
                json!({
                    "model": model.name,
                    "input": model.input,
                    "cached_input": model.cached_input,
                    "output": model.output,
                })
            })
            .collect();
        let since = start.plus_seconds(PRICED_SINCE_DAYS.saturating_mul(-86_400));
        let prices = json!({ "currency": "USD", "effective_from": since.to_string(), "models": models });
        admin.write(Method::PUT, "/v1/config/prices", &prices).await?;
        let mut organizations = Vec::new();
        let mut keys = Vec::new();
        for (place, role) in ROLES.iter().enumerate() {
            let (organization, of_it) = role.hire(admin, place).await?;
            organizations.push(organization);
            keys.extend(of_it);
        }
        let ids: Vec<&str> = organizations.iter().map(|organization| organization.id.as_str()).collect();
        let token = async |name: &str, scope: &str| -> Result<String, DemoError> {
            let wanted = json!({ "name": name, "scopes": [scope], "organizations": ids });
            let token = admin.write(Method::POST, "/v1/tokens", &wanted).await?;
            Ok(text(&token, "secret")?.to_owned())
        };
        let publisher = token("gateways, to publish", "publisher").await?;
        let gateway = token("gateways, to ask", "gateway").await?;
        Ok(Self { organizations, keys, publisher, gateway })
    }
}

impl Role {
    async fn hire(&self, admin: &Caller, place: usize) -> Result<(Organization, Vec<Key>), DemoError> {
        let body = json!({
            "name": self.name,
            "email": self.email,
            "creator": { "name": self.creator, "email": self.email },
            "time_zone": self.zone,
        });
        let registered = admin.write(Method::POST, "/v1/organizations", &body).await?;
        let id = id(&registered, OrgId::parse)?;
        let zone = self.zone.parse().map_err(|_| missing(&registered, "time_zone"))?;
        if let Some(threshold) = self.balance_alert {
            let path = format!("/v1/organizations/{id}/balance-alert");
            admin.write(Method::PUT, &path, &json!({ "threshold": threshold })).await?;
        }
        let mut projects = Vec::new();
        let mut keys = Vec::new();
        for (number, part) in self.projects.iter().enumerate() {
            let path = format!("/v1/organizations/{id}/projects");
            let created = admin.write(Method::POST, &path, &json!({ "name": part.name })).await?;
            let project = self::id(&created, ProjectId::parse)?;
            let path = format!("{path}/{project}/api-keys");
            for name in part.keys {
                let issued = admin.write(Method::POST, &path, &json!({ "name": name })).await?;
                let id = self::id(&issued, KeyId::parse)?;
                let secret = text(&issued, "secret")?.to_owned();
                keys.push(Key { id, secret, organization: place, project: number });
            }
            projects.push((project, part.name));
        }
        Ok((Organization { id, name: self.name, zone, projects }, keys))
    }

    /// Its projects, with how many keys each has.
    pub(super) fn describe(&self) -> String {
        let parts = self.projects.iter().map(|part| match part.keys.len() {
            1 => format!("{} (1 key)", part.name),
            keys => format!("{} ({keys} keys)", part.name),
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// The projects as they call.
    pub(super) const fn parts(&self) -> &'static [Part] {
        self.projects
    }
}

/// The `id` of an answer.
fn id<T, E>(answer: &Value, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, DemoError> {
    parse(text(answer, "id")?).map_err(|_| missing(answer, "id"))
}

/// A member of an answer that is text. A JSON pointer's path without its first stroke reaches deeper.
pub(super) fn text<'a>(answer: &'a Value, member: &'static str) -> Result<&'a str, DemoError> {
    let found = answer.pointer(&format!("/{member}")).and_then(Value::as_str);
    found.ok_or_else(|| missing(answer, member))
}

/// What an answer lacks.
pub(super) fn missing(answer: &Value, member: &'static str) -> DemoError {
    DemoError::Answer { member, answer: answer.to_string() }
}
