//! Reading a JSON body field by field, so that every fault is reported at once, and no field is passed over.

use std::fmt::{self, Display};
use std::str::FromStr;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use mediatype::MediaType;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
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
        match serde_json::from_slice(body).map(|Strict(value)| value) {
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

/// An e-mail address, as far as a server can know: something, one @, and a host of labels with a dot, or `localhost`.
pub(super) fn email(value: &Value) -> Result<String, String> {
    let text = value.as_str().ok_or_else(|| "must be a string".to_owned())?;
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '<' | '>' | '"');
    let host_of = |host: &str| {
        let labels = host.split('.').all(|label| !label.is_empty());
        labels && (host.contains('.') || host == "localhost")
    };
    match text.split_once('@') {
        Some((local, host))
            if !local.is_empty()
                && !host.contains('@')
                && host_of(host)
                && text.len() <= 254
                && !text.contains(strange) =>
        {
            Ok(text.to_owned())
        }
        Some(_) | None => Err("must be an e-mail address".to_owned()),
    }
}

/// JSON in which no object names a member twice: whichever was meant, the other would be passed over.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("member `{name}` stands twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused() {
        let read = |text: &str| serde_json::from_str::<Strict>(text).map(|Strict(value)| value);
        assert_eq!(
            read(r#"{"a":[1,-2,0.5,null,true,{"b":"c"}]}"#).unwrap(),
            json!({"a":[1,-2,0.5,null,true,{"b":"c"}]})
        );
        for twice in [r#"{"amount":"1","amount":"2"}"#, r#"[{"a":{"b":1,"b":1}}]"#] {
            assert!(read(twice).unwrap_err().to_string().contains("stands twice"), "{twice}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for good in ["a@b.co", "ann+x@sub.example.org", "root@localhost"] {
            assert_eq!(email(&json!(good)).as_deref(), Ok(good));
        }
        for bad in
            ["", "a", "@b.co", "a@b", "a@b.", "a@.b", "a@b@c.d", "a,b@c.d", "a b@c.d", "a@b..c", "<a@b.co>"]
        {
            assert!(email(&json!(bad)).is_err(), "{bad}");
        }
    }
}
