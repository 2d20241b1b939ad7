//! The HTTP API as a client sees it.

use std::sync::{Arc, Mutex, Once};

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Calls one server with one token. Clones share where it is, so that they find it again after a restart.
#[derive(Clone, Debug)]
pub struct Api {
    http: Client,
    place: Arc<Mutex<Place>>,
    token: Option<String>,
    actor: Option<String>,
}

#[derive(Debug, Default)]
struct Place {
    url: String,
    admin: String,
}

/// What the server said.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

/// An API key and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its organization.
    pub organization: String,
    /// Its project.
    pub project: String,
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

/// Everything that an organization used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls.
    pub requests: u64,
    /// Input tokens.
    pub input: u64,
    /// Cached ones among them.
    pub cached: u64,
    /// Output tokens.
    pub output: u64,
    /// What it cost.
    pub cost: Decimal,
}

impl Answer {
    /// A header, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// The code of a refusal with this status, which must be a problem as RFC 9457 has it.
    #[track_caller]
    pub fn refused(&self, status: u16) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.expect(status);
        assert_eq!(body["status"], status, "{body}");
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
        }
        assert_eq!(self.status == 503, !self.header("retry-after").is_empty(), "{self:?}");
        body["code"].as_str().unwrap().to_owned()
    }

    /// The faulty fields of a 400, in order.
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        assert_eq!(self.refused(400), "invalid_fields");
        let faults = self.json()["errors"].as_array().unwrap().clone();
        assert!(faults.iter().all(|fault| fault["reason"].as_str().is_some_and(|reason| !reason.is_empty())));
        faults.iter().map(|fault| fault["field"].as_str().unwrap().to_owned()).collect()
    }
}

impl Api {
    /// Of no server yet.
    pub(super) fn nowhere() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let http = Client::builder().no_proxy().build().unwrap();
        Self { http, place: Arc::default(), token: None, actor: None }
    }

    /// The server is here now.
    pub(super) fn moved(&self, url: &str, admin: &str) {
        *self.place.lock().unwrap() = Place { url: url.to_owned(), admin: admin.to_owned() };
    }

    /// The same server, called with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same server, called on behalf of a member.
    pub fn acting(&self, member: &str) -> Self {
        Self { actor: Some(member.to_owned()), ..self.clone() }
    }

    /// The same server, over connections of its own.
    pub fn reconnected(&self) -> Self {
        Self { http: Self::nowhere().http, ..self.clone() }
    }

    /// Where the server is now.
    pub fn url(&self) -> String {
        self.place.lock().unwrap().url.clone()
    }

    /// The token that it is called with.
    pub fn token(&self) -> String {
        self.token.clone().unwrap_or_else(|| self.place.lock().unwrap().admin.clone())
    }

    /// A request with the token, on behalf of whoever it acts for.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.anonymous(method, path).bearer_auth(self.token());
        match &self.actor {
            Some(actor) => request.header("tollbook-actor", actor),
            None => request,
        }
    }

    /// A request without a token.
    pub fn anonymous(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.url()))
    }

    /// Sends it; `None` if no whole answer comes.
    pub async fn try_send(&self, request: RequestBuilder) -> Option<Answer> {
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Some(Answer { status, headers, text: response.text().await.ok()? })
    }

    /// Sends it; an answer must come.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("the server answers")
    }

    /// A GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// A write with a JSON body.
    pub async fn write(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(self.request(method, path).json(body)).await
    }

    /// A POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.write("POST", path, body).await
    }

    /// A PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.write("PUT", path, body).await
    }

    /// A new organization's id.
    pub async fn organization(&self, name: &str) -> String {
        let creator = json!({ "name": "Ada", "email": "ada@example.com" });
        let body = json!({ "name": name, "email": "billing@example.com", "creator": creator });
        id(&self.post("/v1/organizations", &body).await.expect(201))
    }

    /// A new project's id.
    pub async fn project(&self, organization: &str) -> String {
        let path = format!("/v1/organizations/{organization}/projects");
        id(&self.post(&path, &json!({ "name": "chat" })).await.expect(201))
    }

    /// A new key.
    pub async fn key(&self, organization: &str, project: &str) -> Key {
        let path = format!("/v1/organizations/{organization}/projects/{project}/api-keys");
        let body = self.post(&path, &json!({ "name": "production" })).await.expect(201);
        Key {
            organization: organization.to_owned(),
            project: project.to_owned(),
            id: id(&body),
            secret: body["secret"].as_str().unwrap().to_owned(),
        }
    }

    /// A new organization with a project and a key.
    pub async fn customer(&self, name: &str) -> Key {
        let organization = self.organization(name).await;
        let project = self.project(&organization).await;
        self.key(&organization, &project).await
    }

    /// Books a recharge.
    pub async fn recharge(&self, organization: &str, amount: &str, reference: &str) -> Value {
        let path = format!("/v1/organizations/{organization}/recharges");
        self.post(&path, &json!({ "amount": amount, "reference": reference })).await.expect(201)
    }

    /// Prices of one model since 2020, per million tokens.
    pub async fn prices(&self, model: &str, input: &str, cached_input: &str, output: &str) -> Value {
        let price = json!({ "model": model, "input": input, "cached_input": cached_input, "output": output });
        let body = json!({ "effective_from": "2020-01-01T00:00:00Z", "models": [price] });
        self.put("/v1/config/prices", &body).await.expect(200)
    }

    /// A new service token's secret.
    pub async fn service_token(&self, scopes: &[&str], organizations: Option<&[&str]>) -> String {
        let body = json!({ "name": "service", "scopes": scopes, "organizations": organizations });
        self.post("/v1/tokens", &body).await.expect(201)["secret"].as_str().unwrap().to_owned()
    }

    /// A request with a batch of usage.
    pub fn batch(&self, events: &[Value]) -> RequestBuilder {
        let body = serde_json::to_vec(events).unwrap();
        self.raw(body, "application/cloudevents-batch+json")
    }

    /// A request with whatever bytes.
    pub fn raw(&self, body: impl Into<reqwest::Body>, media_type: &str) -> RequestBuilder {
        self.request("POST", "/v1/events").header(CONTENT_TYPE, media_type).body(body)
    }

    /// Sends a batch of usage, which must be taken.
    pub async fn events(&self, events: &[Value]) {
        self.send(self.batch(events)).await.expect(204);
    }

    /// Sends these bytes over a connection of their own; everything that comes back until it is closed.
    pub async fn exchange(&self, bytes: &str) -> String {
        let url = self.url();
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        let mut answer = Vec::new();
        // A server may answer and close before it has read everything.
        let (mut reading, mut writing) = stream.split();
        let write = writing.write_all(bytes.as_bytes());
        let (written, read) = tokio::join!(write, reading.read_to_end(&mut answer));
        assert!((written.is_ok() && read.is_ok()) || !answer.is_empty(), "no answer");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// An organization's balance.
    pub async fn balance(&self, organization: &str) -> Value {
        self.get(&format!("/v1/organizations/{organization}/balance")).await.expect(200)
    }

    /// Everything that an organization ever used.
    pub async fn spend(&self, organization: &str) -> Totals {
        let path =
            format!("/v1/organizations/{organization}/spend?from=2020-01-01&to=2099-12-31&bucket=month");
        Totals::of(&self.get(&path).await.expect(200))
    }

    /// Waits until everything that partition 0 took before is folded: a decision is answered in the log's order.
    pub async fn folded(&self) {
        self.service_token(&["gateway"], None).await;
    }

    /// Position and digest of a partition's State.
    pub async fn digest(&self, partition: u16) -> (String, String) {
        let body = self.get(&format!("/v1/digest?partition={partition}")).await.expect(200);
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        (text("position"), text("digest"))
    }

    /// Everything in quarantine.
    pub async fn quarantine(&self) -> Vec<Value> {
        self.all("/v1/quarantine").await
    }

    /// Every item of a list, page by page.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=1000{after}")).await.expect(200);
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_page"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return items,
            }
        }
    }

    /// A metric's value, without labels or with exactly these, as Prometheus writes them.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let answer = self.get("/metrics").await;
        let line = answer.text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

impl Key {
    /// One call with this key: 100 input tokens, 40 of them cached, 10 output tokens.
    pub fn event(&self, id: &str, model: &str) -> Value {
        let data = json!({
            "api_key_id": self.id, "model": model,
            "input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 10,
        });
        json!({
            "specversion": "1.0", "id": id, "source": "test", "type": "tollbook.usage.v1",
            "subject": self.organization, "data": data,
        })
    }
}

impl Totals {
    /// The sum of all results of all buckets.
    pub fn of(spend: &Value) -> Self {
        assert!(spend["next_page"].is_null(), "one page");
        let buckets = spend["buckets"].as_array().unwrap().iter();
        let results = buckets.flat_map(|bucket| bucket["results"].as_array().unwrap());
        results.fold(Self::default(), |sum, result| {
            let count = |name: &str| result[name].as_u64().unwrap();
            Self {
                requests: sum.requests + count("requests"),
                input: sum.input + count("input_tokens"),
                cached: sum.cached + count("cached_input_tokens"),
                output: sum.output + count("output_tokens"),
                cost: sum.cost + amount(&result["cost"]),
            }
        })
    }
}

/// An amount, which must be a string.
#[track_caller]
pub fn amount(value: &Value) -> Decimal {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).parse().unwrap()
}

#[track_caller]
fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}
