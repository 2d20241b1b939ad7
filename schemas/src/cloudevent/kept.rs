//! Members that we do not know: kept as `{"attributes":{…},"data":{…}}` in one canonical form, so that the same event
//! sent again with other spaces, escapes or order of members is the same record (R8.2).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::usage::KEPT_BYTES_MAX;

use super::check::Why;

/// Members of one object as they were sent, in order, repetitions included.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A string that is borrowed unless it holds escapes.
#[derive(Debug)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Chars;
        impl<'de> Visitor<'de> for Chars {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Chars)
    }
}

/// Deepest nesting of a kept value: each level is scanned once more.
const DEPTH_MAX: u32 = 32;

/// The canonical form of unknown extension attributes and unknown members of `data`; `None` where there are none.
/// Errors: the member that cannot be kept, and why.
pub(super) fn canonical(
    attributes: &Members<'_>,
    data: &Members<'_>,
) -> Result<Option<String>, (&'static str, Why)> {
    if attributes.0.is_empty() && data.0.is_empty() {
        return Ok(None);
    }
    let mut attributes = object(attributes, DEPTH_MAX).map_err(|why| ("event", why))?;
    let data = object(data, DEPTH_MAX).map_err(|why| ("data", why))?;
    // To CloudEvents a null attribute is an absent one.
    attributes.retain(|_, value| !value.is_null());
    let sections = [("attributes", attributes), ("data", data)];
    let kept: Map<String, Value> = sections
        .into_iter()
        .filter(|(_, members)| !members.is_empty())
        .map(|(name, members)| (name.to_owned(), Value::Object(members)))
        .collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let text = Value::Object(kept).to_string();
    if text.len() > KEPT_BYTES_MAX {
        let why = format!("holds {} bytes of unknown members; at most {KEPT_BYTES_MAX} are kept", text.len());
        return Err(("event", why.into()));
    }
    Ok(Some(text))
}

/// Kept attributes and kept members of `data`; what is not of our form gives none.
pub(super) fn restore(kept: &str) -> (Map<String, Value>, Map<String, Value>) {
    let sections: Members<'_> = serde_json::from_str(kept).unwrap_or_default();
    let section = |wanted: &str| {
        let found = sections.0.iter().find(|(name, _)| name == wanted);
        found
            .and_then(|(_, raw)| serde_json::from_str(raw.get()).ok())
            .and_then(|members| object(&members, DEPTH_MAX).ok())
            .unwrap_or_default()
    };
    (section("attributes"), section("data"))
}

fn object(members: &Members<'_>, depth: u32) -> Result<Map<String, Value>, Why> {
    // Sorted here: the order of a `Map` depends on features that any crate of a build may switch on.
    let mut sorted = BTreeMap::new();
    for (name, raw) in &members.0 {
        let value = value(raw.get(), depth)?;
        if sorted.insert(name.clone().into_owned(), value).is_some() {
            return Err(twice(name));
        }
    }
    Ok(sorted.into_iter().collect())
}

fn value(raw: &str, depth: u32) -> Result<Value, Why> {
    let deeper = depth.checked_sub(1).ok_or("holds unknown members that are nested too deeply")?;
    match raw.bytes().next() {
        Some(b'{') => {
            let members: Members<'_> = serde_json::from_str(raw).map_err(|_| BAD_TEXT)?;
            object(&members, deeper).map(Value::Object)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| BAD_TEXT)?;
            items
                .into_iter()
                .map(|item| value(item.get(), deeper))
                .collect::<Result<_, _>>()
                .map(Value::Array)
        }
        Some(b'-' | b'0'..=b'9') => number(raw).map(Value::Number),
        Some(_) | None => serde_json::from_str(raw).map_err(|_| BAD_TEXT.into()),
    }
}

/// Whole numbers of 64 bits stay exact; others become the nearest double, as everywhere in JSON. The standard library
/// rounds correctly, so that reading what was written gives the same number.
fn number(raw: &str) -> Result<Number, Why> {
    if let Ok(whole) = raw.parse::<u64>() {
        return Ok(whole.into());
    }
    if let Ok(whole) = raw.parse::<i64>() {
        return Ok(whole.into());
    }
    let double = raw.parse().ok().and_then(Number::from_f64);
    double.ok_or_else(|| "holds an unknown member with a number that is out of range".into())
}

/// Said of strings with half a surrogate pair: JSON that is no text.
pub(super) const BAD_TEXT: &str = "holds a string with an invalid escape";

/// Said of a repeated member.
pub(super) fn twice(name: &str) -> Why {
    format!("holds `{}` more than once", shortened(name)).into()
}

/// A name from outside, cut so that no answer is longer than its question.
pub(super) fn shortened(name: &str) -> &str {
    let end = name.char_indices().nth(64).map_or(name.len(), |(end, _)| end);
    name.get(..end).unwrap_or_default()
}
