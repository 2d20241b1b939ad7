//! Reading a JSON body field by field, so that every fault is reported at once, and no field is passed over.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use mediatype::MediaType;
use serde_json::{Map, Value};

use super::problem::{Fault, Problem};

/// Longest value that is told back in an error.
const ECHO_MAX: usize = 200;

/// The members of a JSON object that have not been read yet, and what was wrong with those that were.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    rest: Map<String, Value>,
    faults: Vec<Fault>,
}

impl Fields {
    /// The object that a request carries.
    pub(super) fn of_body(headers: &HeaderMap, body: &Bytes) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        if let Some(content_type) = content_type {
            let json = MediaType::parse(content_type)
                .is_ok_and(|media| media.essence() == mediatype::media_type!(APPLICATION / JSON));
            if !json {
                return Err(Problem::media_type(format!("this takes application/json, not {content_type}")));
            }
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(rest)) => Ok(Self { path: String::new(), rest, faults: Vec::new() }),
            Ok(_) => Err(Problem::malformed("the body must be a JSON object")),
            Err(error) => Err(Problem::malformed(format!("the body is not JSON: {error}"))),
        }
    }

    fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn fault(&mut self, field: &str, value: Option<Value>, reason: impl Display) {
        let short = |value: &Value| value.to_string().len() <= ECHO_MAX;
        let name = self.name(field);
        self.faults.push(Fault {
            field: name,
            index: None,
            value: value.filter(short),
            reason: reason.to_string(),
        });
    }

    /// Notes that a field which was read is not acceptable.
    pub(super) fn refuse(&mut self, field: &str, reason: impl Display) {
        self.fault(field, None, reason);
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.rest.remove(field).filter(|value| !value.is_null())
    }

    /// A value that may be absent or null.
    pub(super) fn optional<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.take(field)?;
        match read(&value) {
            Ok(read) => Some(read),
            Err(reason) => {
                self.fault(field, Some(value), reason);
                None
            }
        }
    }

    /// A value that must be there.
    pub(super) fn required<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        if self.rest.get(field).is_none_or(Value::is_null) {
            self.rest.remove(field);
            self.fault(field, None, "is missing");
            return None;
        }
        self.optional(field, read)
    }

    /// An object within, which must be there.
    pub(super) fn object<T>(&mut self, field: &str, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        match self.take(field) {
            Some(Value::Object(rest)) => {
                let mut inner = Self { path: self.name(field), rest, faults: Vec::new() };
                let value = read(&mut inner);
                inner.refuse_rest();
                self.faults.append(&mut inner.faults);
                value
            }
            Some(other) => {
                self.fault(field, Some(other), "must be an object");
                None
            }
            None => {
                self.fault(field, None, "is missing");
                None
            }
        }
    }

    /// A list of objects, which must be there.
    pub(super) fn objects<T>(
        &mut self,
        field: &str,
        mut read: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.take(field) else {
            self.fault(field, None, "is missing");
            return None;
        };
        let Value::Array(items) = value else {
            self.fault(field, Some(value), "must be a list");
            return None;
        };
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.name(field));
            let Value::Object(rest) = item else {
                self.faults.push(Fault {
                    field: path,
                    index: None,
                    value: None,
                    reason: "must be an object".into(),
                });
                continue;
            };
            let mut inner = Self { path, rest, faults: Vec::new() };
            all.extend(read(&mut inner));
            inner.refuse_rest();
            self.faults.append(&mut inner.faults);
        }
        Some(all)
    }

    /// The members of an object whose names are data, which may be absent.
    pub(super) fn members(&mut self, field: &str) -> Map<String, Value> {
        match self.take(field) {
            Some(Value::Object(members)) => members,
            Some(other) => {
                self.fault(field, Some(other), "must be an object");
                Map::new()
            }
            None => Map::new(),
        }
    }

    fn refuse_rest(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        for field in rest.keys() {
            self.fault(field, None, "is not a field of this request");
        }
    }

    /// What was read, or everything that is wrong.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, Problem> {
        self.refuse_rest();
        match read {
            Some(read) if self.faults.is_empty() => Ok(read),
            Some(_) | None => Err(Problem::fields(self.faults)),
        }
    }
}

/// A string that reads as a `T`: names, ids, amounts, times.
pub(super) fn text<T: FromStr>(value: &Value) -> Result<T, String>
where
    T::Err: Display,
{
    parse(value, T::from_str)
}

/// A string, read by a function.
pub(super) fn parse<T, E: Display>(
    value: &Value,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, String> {
    let text = value.as_str().ok_or_else(|| "must be a string".to_owned())?;
    read(text).map_err(|error| error.to_string())
}

/// A whole number of 32 bits.
pub(super) fn number(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().ok_or_else(|| "must be a whole number, not negative".to_owned())?;
    u32::try_from(number).map_err(|_| format!("must be at most {}", u32::MAX))
}

/// A whole number of 64 bits.
pub(super) fn long(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| "must be a whole number, not negative".to_owned())
}

/// A list of strings, each read by a function.
pub(super) fn list<T, E: Display>(
    value: &Value,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, String> {
    let items = value.as_array().ok_or_else(|| "must be a list of strings".to_owned())?;
    items.iter().map(|item| parse(item, &read)).collect()
}

/// An e-mail address, as far as a server can know: something, an @, a host with a dot or `localhost`.
pub(super) fn email(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| "must be a string".to_owned())?;
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control()) && text.len() <= 254;
    match text.rsplit_once('@') {
        Some((local, host)) if plain && !local.is_empty() && (host.contains('.') || host == "localhost") => {
            Ok(text.to_owned())
        }
        Some(_) | None => Err("must be an e-mail address".to_owned()),
    }
}
