//! One request of a command, and how a person sees its answer.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::client::{Caller, ClientError};
use super::super::refusal::BadItems;
use super::super::table::{self, record, table};
use super::{AuthorArgs, ManageError, PageArgs};

/// One request of a command, and how a person sees its answer.
#[derive(Debug)]
pub(in super::super) struct Call {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Value,
    columns: &'static [&'static str],
    rows: fn(Value) -> Value,
    note: fn(&Value) -> Option<String>,
    bad_items: bool,
    raw: bool,
}

impl Call {
    /// A read.
    pub(super) fn get(path: String, columns: &'static [&'static str]) -> Self {
        Self::write(Method::GET, path, Value::Null, columns)
    }

    /// A write.
    pub(super) fn write(method: Method, path: String, body: Value, columns: &'static [&'static str]) -> Self {
        let query = Vec::new();
        Self {
            method,
            path,
            query,
            body,
            columns,
            rows: |answer| answer,
            note: |_| None,
            bad_items: false,
            raw: false,
        }
    }

    /// A write that removes what the path names.
    pub(super) fn delete(path: String, columns: &'static [&'static str]) -> Self {
        Self::write(Method::DELETE, path, json!({}), columns)
    }

    /// A parameter; none is left out.
    pub(super) fn query(mut self, name: &'static str, value: Option<String>) -> Self {
        self.query.extend(value.map(|value| (name, value)));
        self
    }

    /// One page of a list.
    pub(super) fn page(self, page: PageArgs) -> Self {
        self.query("limit", page.limit.map(|limit| limit.to_string())).query("after", page.after)
    }

    /// What the table shows of the answer: one thing, or `items`.
    pub(super) fn rows(self, rows: fn(Value) -> Value) -> Self {
        Self { rows, ..self }
    }

    /// What people are told below the table, by the answer.
    pub(super) fn note(self, note: fn(&Value) -> Option<String>) -> Self {
        Self { note, ..self }
    }

    /// The answer is shown as it comes, to the byte.
    pub(super) fn raw(self) -> Self {
        Self { raw: true, ..self }
    }

    /// Faults are bad items of a list that somebody wrote.
    pub(super) fn bad_items(self) -> Self {
        Self { bad_items: true, ..self }
    }

    /// Method and path with parameters, and the body.
    #[cfg(test)]
    pub(super) fn request(self) -> (String, Value) {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        (format!("{} {}{mark}{}", self.method, self.path, query.join("&")), self.body)
    }

    /// Sends it and shows the answer: the server's own JSON, or a table.
    pub(super) async fn perform(self, caller: &Caller, author: &AuthorArgs) -> Result<(), ManageError> {
        let reads = self.method == Method::GET;
        let mut request = caller.request(self.method, &self.path).query(&self.query);
        if let Some(actor) = &author.actor {
            request = request.header("Tollbook-Actor", actor.to_string());
        }
        if !reads {
            request = request.json(&self.body);
        }
        if let Some(key) = author.idempotency_key.as_ref().filter(|_| !reads) {
            request = request.header("Idempotency-Key", key);
        }
        let answer = match caller.exchange(request).await {
            Err(ClientError::Refused(refusal)) if self.bad_items && refusal.has_faults() => {
                return Err(BadItems(refusal).into());
            }
            other => other?,
        };
        if self.raw {
            return Ok(table::write(&answer.body)?);
        }
        let parsed = caller.parse(&answer)?;
        if answer.replayed {
            remark("this was done before, with the same idempotency key; nothing was changed");
        }
        if caller.wants_json() {
            table::print(String::from_utf8_lossy(&answer.body).trim_end())?;
            return Ok(());
        }
        let note = (self.note)(&parsed);
        table::print(&shown(self.columns, &(self.rows)(parsed)))?;
        if let Some(note) = note {
            table::print(&note)?;
        }
        Ok(())
    }
}

fn shown(columns: &[&str], answer: &Value) -> String {
    let Some(items) = answer.get("items").and_then(Value::as_array) else {
        return record(columns, answer).to_string();
    };
    let rows: Vec<&Value> = items.iter().collect();
    let shown = table(columns, &rows);
    match answer.get("next_page").map(table::text) {
        Some(next) if !next.is_empty() => format!("{shown}\nmore: --after {next}"),
        Some(_) | None => shown.to_string(),
    }
}

/// Says something that is not the answer.
#[expect(clippy::print_stderr, reason = "this is where a command speaks to a person")]
fn remark(text: &str) {
    eprintln!("{text}");
}

/// Tells that a secret is in the answer for the only time, or was in the first one.
pub(super) fn secret_once(answer: &Value) -> Option<String> {
    Some(match answer.get("secret").filter(|secret| !secret.is_null()) {
        Some(_) => "the secret is shown this once: keep it now".to_owned(),
        None => "the secret was shown when this was done first, and cannot be shown again".to_owned(),
    })
}

/// Has a function change every item of a list, or the one thing that an answer is.
pub(super) fn each(mut answer: Value, change: fn(&mut Value)) -> Value {
    match answer.get_mut("items").and_then(Value::as_array_mut) {
        Some(items) => items.iter_mut().for_each(change),
        None => change(&mut answer),
    }
    answer
}
