//! A gateway that asks a real `tollbook` over NATS whether requests may pass.

use std::collections::BTreeMap;

use async_nats::{Client, Message};
use futures_util::future::join_all;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tollbook_tests::eventually;
use tollbook_tests::nats::NatsServer;
use tollbook_tests::system::{Api, Key, System, amount};

use crate::DEADLINE;
use crate::engine::publisher;

pub(crate) const ADMIT: &str = "tollbook.rpc.admit";
/// A dollar for each input token, so that money counts tokens.
pub(crate) const MODEL: &str = "m";
const PRICE: &str = "1000000";
/// The voucher that the first five dollars earn.
const VOUCHER: u64 = 5;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// 200, unless the headers say otherwise.
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
}

impl Reply {
    fn of(message: &Message) -> Self {
        let headers = message.headers.iter().flat_map(async_nats::HeaderMap::iter);
        let headers: BTreeMap<String, String> = headers
            .map(|(name, values)| {
                assert_eq!(values.len(), 1, "{name}");
                (name.to_string(), values[0].to_string())
            })
            .collect();
        let status = headers.get("Nats-Service-Error-Code").map_or(200, |status| status.parse().unwrap());
        Self { status, headers, body: serde_json::from_slice(&message.payload).unwrap() }
    }

    /// The body of what was granted: no headers come with it.
    #[track_caller]
    pub(crate) fn granted(&self) -> &Value {
        assert_eq!((self.status, self.headers.len()), (200, 0), "{self:?}");
        &self.body
    }

    #[track_caller]
    pub(crate) fn lease(&self) -> String {
        self.granted()["lease"].as_str().unwrap().to_owned()
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The code of a refusal in the words of LLM APIs, the same in body and headers.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> &str {
        let code = self.body["error"]["code"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!((self.status, self.header("Nats-Service-Error")), (status, code), "{self:?}");
        assert_eq!(self.header("Content-Type"), "application/json");
        code
    }

    /// The code of a problem (RFC 9457), the same in body and headers.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> &str {
        let code = self.body["code"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        assert_eq!((self.status, self.header("Nats-Service-Error")), (status, code), "{self:?}");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.header("Content-Type"), "application/problem+json");
        code
    }
}

/// A gateway's connection.
#[derive(Clone, Debug)]
pub(crate) struct Gate(pub(crate) Client);

impl Gate {
    pub(crate) async fn connect(server: &NatsServer) -> Self {
        Self(publisher(server).await.0)
    }

    /// Asks, and is answered.
    pub(crate) async fn call(&self, operation: &str, body: &Value) -> Reply {
        self.raw(&format!("tollbook.rpc.{operation}"), body.to_string().into_bytes()).await
    }

    pub(crate) async fn raw(&self, subject: &str, payload: Vec<u8>) -> Reply {
        Reply::of(&self.0.request(subject.to_owned(), payload.into()).await.unwrap())
    }

    pub(crate) async fn admit(&self, ask: &Value) -> Reply {
        self.call("admit", ask).await
    }

    /// Asks, and perhaps is answered.
    pub(crate) async fn try_admit(&self, ask: &Value) -> Option<Reply> {
        let request = self.0.request(ADMIT, ask.to_string().into());
        let answer = tokio::time::timeout(crate::deployment::ATTEMPT, request).await.ok()?;
        answer.ok().map(|message| Reply::of(&message))
    }

    /// Waits until somebody answers.
    pub(crate) async fn answered(&self) {
        eventually(DEADLINE, "admission is answered", || async { self.try_admit(&json!({})).await }).await;
    }
}

/// One input token, one dollar, and nothing for output.
pub(crate) fn ask(key: &Key) -> Value {
    asking(key, 1)
}

pub(crate) fn asking(key: &Key, input_tokens: u64) -> Value {
    json!({ "api_key": key.secret, "model": MODEL, "input_tokens": input_tokens, "max_output_tokens": 0 })
}

/// A server on JetStream with a price, and a gateway that it answers.
pub(crate) async fn serving(nats: &NatsServer) -> (System, Gate) {
    let system = System::builder().nats(nats).start().await;
    system.api.prices(MODEL, PRICE, PRICE, "0").await;
    let gate = Gate::connect(nats).await;
    gate.answered().await;
    (system, gate)
}

/// A customer with so many dollars, whose limits are these and beyond reach otherwise.
pub(crate) async fn customer(api: &Api, dollars: u64, limits: &Value) -> Key {
    let key = api.customer("Acme").await;
    let recharged = api.recharge(&key.organization, &(dollars - VOUCHER).to_string(), "a").await;
    assert_eq!(amount(&recharged["balance"]["available"]), Decimal::from(dollars), "{recharged}");
    limit(api, &key, limits).await;
    key
}

/// Sets limits, and all others beyond reach.
pub(crate) async fn limit(api: &Api, key: &Key, limits: &Value) {
    let mut all = json!({ "concurrency": 1_000_000, "rpm": 1_000_000, "tpm": 1_000_000_000, "tpd": 1_000_000_000_000_u64 });
    all.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    let path = format!("/v1/organizations/{}/limits/override", key.organization);
    api.post(&path, &all).await.expect(200);
}

/// What came of so many questions at once, over several connections: how many were granted, and the refusals by code.
pub(crate) async fn at_once(
    nats: &NatsServer,
    count: usize,
    ask: &Value,
) -> (usize, BTreeMap<String, usize>) {
    let gates = join_all((0..8).map(|_| Gate::connect(nats))).await;
    let answers = join_all((0..count).map(|number| gates[number % gates.len()].admit(ask))).await;
    let mut refused = BTreeMap::new();
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        *refused.entry(answer.refused(answer.status).to_owned()).or_default() += 1;
    }
    (answers.iter().filter(|answer| answer.status == 200).count(), refused)
}
