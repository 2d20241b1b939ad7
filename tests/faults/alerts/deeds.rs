//! What is done to an organization so that it must be told things, by clients that repeat each write until it is
//! answered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tollbook_tests::eventually;
use tollbook_tests::system::{Answer, Api, DEADLINE};

/// An event of this costs exactly 1.
const MODEL: &str = "one-each";

/// Nobody's.
const STRANGER: &str = "org_00000000000000000000000009";

/// Alerts by id: of each its kind.
pub(super) type Alerts = BTreeMap<String, String>;

/// A client that repeats each write, at whichever server answers, until it is done.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    apis: Vec<Api>,
    /// Where webhooks of organizations go, by their names.
    hooks: String,
}

/// An organization, and what it must be told by what was done: how often, by kind.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Its webhook's, and that of its address.
    pub(super) name: String,
    pub(super) organization: String,
    pub(super) project: String,
    pub(super) expected: BTreeMap<String, usize>,
}

impl Patient {
    pub(super) fn new<'a>(apis: impl IntoIterator<Item = &'a Api>, hooks: String) -> Self {
        Self { apis: apis.into_iter().map(Api::reconnected).collect(), hooks }
    }

    /// The answer of the first server that has one.
    async fn ask(
        &self,
        what: &str,
        reads: bool,
        request: impl Fn(&Api) -> reqwest::RequestBuilder,
    ) -> Answer {
        let (request, apis) = (&request, &self.apis);
        eventually(DEADLINE, what, || async move {
            for api in apis.iter().filter(|api| !api.url().is_empty()) {
                match api.try_send(request(api)).await {
                    Some(answer) if answer.status / 100 == 2 => return Some(answer),
                    // Reads are answered from what there is, while a server still folds.
                    Some(answer) if reads && answer.status == 404 => {}
                    Some(answer) => drop(answer.refused(503)),
                    None => {}
                }
            }
            None
        })
        .await
    }

    pub(super) async fn write(&self, method: &str, path: &str, body: &Value) -> Value {
        // The same for every repetition, and for nothing else.
        let key = format!("{:032x}", rand::random::<u128>());
        let request = |api: &Api| api.request(method, path).header("idempotency-key", &key).json(body);
        let answer = self.ask(&format!("{method} {path}"), false, request).await;
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }

    /// Usage, which is booked once however often it is sent.
    async fn events(&self, events: &[Value]) {
        self.ask("usage is taken", false, |api| api.batch(events)).await;
    }

    /// Prices, a cycle of a second, and usage of nobody, which the platform is told of.
    pub(super) async fn prepare(&self) {
        let price = json!({ "model": MODEL, "input": "10000", "cached_input": "10000", "output": "0" });
        let prices = json!({ "effective_from": "2020-01-01T00:00:00Z", "models": [price] });
        self.write("PUT", "/v1/config/prices", &prices).await;
        self.cycle(1).await;
        self.events(&[event(STRANGER, "ak_00000000000000000000000009", "stray", MODEL)]).await;
    }

    pub(super) async fn cycle(&self, seconds: u32) {
        let cycle = json!({ "cycle_seconds": seconds, "delay_seconds": 0 });
        self.write("PUT", "/v1/config/billing-cycle", &cycle).await;
    }

    /// Everything that happens to an organization, and waits until its list of alerts says all of it.
    pub(super) async fn do_everything(&self, name: &str) -> Told {
        let creator = json!({ "name": "Ada", "email": "ada@example.com" });
        let body = json!({ "name": name, "email": format!("{name}@example.com"), "creator": creator });
        let organization = id_of(&self.write("POST", "/v1/organizations", &body).await);
        let path = format!("/v1/organizations/{organization}/webhooks");
        self.write("POST", &path, &json!({ "url": format!("{}{name}", self.hooks) })).await;
        let path = format!("/v1/organizations/{organization}/projects");
        let project = id_of(&self.write("POST", &path, &json!({ "name": "chat" })).await);
        let told = Told { name: name.to_owned(), organization, project, expected: BTreeMap::new() };
        self.everything(told).await
    }

    async fn everything(&self, mut told: Told) -> Told {
        let at = |path: &str| format!("/v1/organizations/{}/{path}", told.organization);
        let at_project = |path: &str| at(&format!("projects/{}/{path}", told.project));
        let key = self.write("POST", &at_project("api-keys"), &json!({ "name": "used" })).await;
        let revoked = self.write("POST", &at_project("api-keys"), &json!({ "name": "revoked" })).await;
        self.write("POST", &at("recharges"), &json!({ "amount": "10", "reference": "1" })).await;
        self.write("POST", &at("vouchers"), &json!({ "amount": "5", "reference": "1" })).await;
        // With the voucher for recharging it has 20 now.
        self.write("PUT", &at("balance-alert"), &json!({ "threshold": "17" })).await;
        // Of a month, so that midnight makes no difference.
        let budgets = json!({ "daily": null, "monthly": "5" });
        self.write("PUT", &at_project("budgets"), &budgets).await;
        let amounts = json!({ "daily": [], "monthly": ["2", "4"] });
        self.write("PUT", &at_project("spend-notifications"), &amounts).await;
        let usage = |numbers: std::ops::Range<u32>, model: &str| -> Vec<Value> {
            let id = |number| format!("{}-{number}", told.name);
            numbers.map(|number| event(&told.organization, &id_of(&key), &id(number), model)).collect()
        };
        let (first, second) = (usage(0..5, MODEL), usage(5..14, MODEL));
        let unknown = usage(14..16, "unknown");
        self.events(&first).await;
        self.write("DELETE", &at_project(&format!("api-keys/{}", id_of(&revoked))), &json!({})).await;
        let once = ["budget_warning", "budget_reached", "balance_low", "key_invalidated", "tier_changed"];
        told.expected.extend(once.map(|kind| (kind.to_owned(), 1)));
        told.expected.insert("spend_notification".to_owned(), 2);
        told.expected.insert("voucher_granted".to_owned(), 2);
        self.listed(&told).await;
        let at = |path: &str| format!("/v1/organizations/{}/{path}", told.organization);
        // Raised, the budget is reached no longer, and what was is over.
        let budgets = json!({ "daily": null, "monthly": "1000" });
        self.write("PUT", &at(&format!("projects/{}/budgets", told.project)), &budgets).await;
        // Back above the threshold, and below it once more.
        self.write("POST", &at("recharges"), &json!({ "amount": "10", "reference": "2" })).await;
        self.events(&second).await;
        self.events(&unknown).await;
        told.expected.insert("balance_low".to_owned(), 2);
        told.expected.insert("tier_changed".to_owned(), 2);
        told.expected.insert("usage_quarantined".to_owned(), 1);
        self.listed(&told).await;
        told
    }

    /// The organization's alerts, once its list says as much as it must.
    pub(super) async fn listed(&self, told: &Told) -> Alerts {
        let what = format!("{} is told {:?}", told.organization, told.expected);
        eventually(DEADLINE, &what, || async {
            let alerts = self.alerts(&told.organization).await;
            (counted(&alerts) == told.expected).then_some(alerts)
        })
        .await
    }

    async fn read(&self, path: &str) -> Value {
        self.ask(path, true, |api| api.request("GET", path)).await.json()
    }

    /// An organization's alerts, as its view has them.
    async fn alerts(&self, organization: &str) -> Alerts {
        let path = format!("/v1/organizations/{organization}/alerts?limit=1000");
        let answer = self.read(&path).await;
        let alerts = answer["items"].as_array().unwrap().iter();
        alerts.map(|alert| (id_of(alert), alert["kind"].as_str().unwrap().to_owned())).collect()
    }

    /// What became of an alert's deliveries.
    pub(super) async fn deliveries(&self, organization: &str, alert: &str) -> Value {
        self.read(&format!("/v1/organizations/{organization}/alerts/{alert}/deliveries")).await
    }

    /// The feed after a sequence, at most a page of it.
    pub(super) async fn feed(&self, after: u64) -> Vec<Value> {
        let path = format!("/v1/alerts?limit=1000&after={after}");
        let answer = self.read(&path).await;
        answer["items"].as_array().unwrap().clone()
    }
}

/// How often each kind is among alerts.
fn counted(alerts: &Alerts) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for kind in alerts.values() {
        *counts.entry(kind.clone()).or_default() += 1;
    }
    counts
}

/// All of these are different.
#[track_caller]
pub(super) fn each_once<'a>(ids: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for id in ids {
        assert!(seen.insert(id.clone()), "{id} is there twice");
    }
    seen
}

fn event(organization: &str, key: &str, id: &str, model: &str) -> Value {
    let data = json!({ "api_key_id": key, "model": model, "input_tokens": 100, "output_tokens": 10 });
    json!({
        "specversion": "1.0", "id": id, "source": "test", "type": "tollbook.usage.v1",
        "subject": organization, "data": data,
    })
}

#[track_caller]
fn id_of(body: &Value) -> String {
    body["id"].as_str().unwrap_or_else(|| panic!("no id: {body}")).to_owned()
}
