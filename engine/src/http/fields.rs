//! Reading an object member by member, so that every fault is reported at once, and nothing is passed over.

use std::fmt::Display;

use axum::http::{HeaderMap, HeaderValue, header};
use mediatype::MediaType;
use serde_json::{Map, Value};

use super::problem::{Fault, Problem};
use super::shape::{FromJson, Record};
use super::strict::Strict;

/// The members of an object that have not been read yet, and what was wrong with those that were.
#[derive(Debug)]
pub(super) struct Fields {
    path: String,
    rest: Map<String, Value>,
    faults: Vec<Fault>,
}

/// A header that says something only if it stands once: of two, whichever was meant, the other would be passed over.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Problem::malformed(format!("{name} stands twice"))),
    }
}

impl Fields {
    /// What a request's body holds.
    pub(super) fn body<T: Record>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        if let Some(content_type) = content_type {
            let json = MediaType::parse(content_type)
                .is_ok_and(|media| media.essence() == mediatype::media_type!(APPLICATION / JSON));
            if !json {
                return Err(Problem::media_type(format!("this takes application/json, not {content_type}")));
            }
        }
        if body.is_empty() && !T::ANY {
            return Self::read(Map::new(), "is not a field of this request", T::from_fields);
        }
        match serde_json::from_slice(body).map(|Strict(value)| value) {
            Ok(Value::Object(rest)) => Self::read(rest, "is not a field of this request", T::from_fields),
            Ok(_) => Err(Problem::malformed("the body must be a JSON object")),
            Err(error) => Err(Problem::malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// What a query holds; `read` takes the parameters out.
    pub(super) fn query<T>(
        parameters: Vec<(String, String)>,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, Problem> {
        let mut rest = Map::new();
        for (name, value) in parameters {
            if rest.contains_key(&name) {
                return Err(Problem::parameter(&name, &"stands twice"));
            }
            rest.insert(name, Value::String(value));
        }
        Self::read(rest, "is not a parameter of this request", read)
    }

    fn read<T>(
        rest: Map<String, Value>,
        unknown: &str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Result<T, Problem> {
        let mut fields = Self { path: String::new(), rest, faults: Vec::new() };
        let read = read(&mut fields);
        fields.refuse_rest(unknown);
        match read {
            Some(read) if fields.faults.is_empty() => Ok(read),
            Some(_) | None => Err(Problem::fields(fields.faults)),
        }
    }

    /// An object within another.
    pub(super) fn within<T>(
        path: &str,
        value: Value,
        faults: &mut Vec<Fault>,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let Value::Object(rest) = value else {
            faults.push(Fault::at(path, Some(value), "must be an object"));
            return None;
        };
        let mut fields = Self { path: path.to_owned(), rest, faults: Vec::new() };
        let read = read(&mut fields);
        fields.refuse_rest("is not a field of this request");
        faults.append(&mut fields.faults);
        read
    }

    fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Notes that a member is not acceptable.
    pub(super) fn refuse(&mut self, field: &str, reason: impl Display) {
        let fault = Fault::at(&self.name(field), None, reason);
        self.faults.push(fault);
    }

    /// Whether there is such a member, null or not.
    pub(super) fn holds(&self, field: &str) -> bool {
        self.rest.contains_key(field)
    }

    /// A member that may be absent or null; `None` if it is not acceptable.
    pub(super) fn optional<T: FromJson>(&mut self, field: &str) -> Option<Option<T>> {
        match self.rest.remove(field).filter(|value| !value.is_null()) {
            Some(value) => T::read(&self.name(field), value, &mut self.faults).map(Some),
            None => Some(None),
        }
    }

    /// A member that must be there.
    pub(super) fn required<T: FromJson>(&mut self, field: &str) -> Option<T> {
        let read = self.optional(field)?;
        if read.is_none() {
            self.refuse(field, "is missing");
        }
        read
    }

    fn refuse_rest(&mut self, reason: &str) {
        let rest = std::mem::take(&mut self.rest);
        for field in rest.keys() {
            self.refuse(field, reason);
        }
    }
}
