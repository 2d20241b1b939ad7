//! Shapes that every API has: lists, maps, texts, numbers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};

use super::problem::Fault;
use super::shape::{Described, FromJson, Out, Parts, Shape, Text, ToJson};

impl<T: Shape> Shape for Vec<T> {
    fn describe(parts: &mut Parts) -> Described {
        ArrayBuilder::new().items(T::describe(parts)).into()
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let Value::Array(items) = value else {
            faults.push(Fault::at(path, Some(value), "must be a list"));
            return None;
        };
        let read = |(index, item)| T::read(&format!("{path}[{index}]"), item, faults);
        let read: Vec<Option<T>> = items.into_iter().enumerate().map(read).collect();
        read.into_iter().collect()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut seq = to.serialize_seq(Some(self.len()))?;
        self.iter().try_for_each(|item| seq.serialize_element(&Out(item)))?;
        seq.end()
    }
}

/// An object whose members' names are data.
impl<K: Text, T: Shape> Shape for BTreeMap<K, T> {
    fn describe(parts: &mut Parts) -> Described {
        ObjectBuilder::new()
            .property_names(Some(Schema::from(K::schema())))
            .additional_properties(Some(T::describe(parts)))
            .into()
    }
}

impl<K: Text + Ord, T: FromJson> FromJson for BTreeMap<K, T> {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let Value::Object(members) = value else {
            faults.push(Fault::at(path, Some(value), "must be an object"));
            return None;
        };
        let mut read = Self::new();
        for (name, value) in members {
            let path = format!("{path}.{name}");
            match K::of(&name) {
                Ok(name) => read.extend(T::read(&path, value, faults).map(|value| (name, value))),
                Err(reason) => faults.push(Fault::at(&path, None, reason)),
            }
        }
        Some(read)
    }
}

impl<K: Text, T: ToJson> ToJson for BTreeMap<K, T> {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter().map(|(name, value)| (name.text(), Out(value))))
    }
}

/// Texts that nothing more is known of.
impl Shape for String {
    fn describe(_: &mut Parts) -> Described {
        ObjectBuilder::new().schema_type(Type::String).into()
    }
}

impl FromJson for String {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        if let Value::String(text) = value {
            return Some(text);
        }
        faults.push(Fault::at(path, Some(value), "must be a string"));
        None
    }
}

impl ToJson for String {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self)
    }
}

/// A text that nobody is told back, whatever came in its place.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Shape for Secret {
    fn describe(_: &mut Parts) -> Described {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
            .into()
    }
}

impl FromJson for Secret {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        if let Value::String(text) = value {
            return Some(Self(text));
        }
        faults.push(Fault::at(path, None, "must be a string"));
        None
    }
}

impl Shape for bool {
    fn describe(_: &mut Parts) -> Described {
        ObjectBuilder::new().schema_type(Type::Boolean).into()
    }
}

impl FromJson for bool {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let read = value.as_bool();
        if read.is_none() {
            faults.push(Fault::at(path, Some(value), "must be true or false"));
        }
        read
    }
}

impl ToJson for bool {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bool(*self)
    }
}

/// A whole number from `least` to `most`, described.
pub(super) fn whole(format: KnownFormat, least: u32, most: u64) -> ObjectBuilder {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .minimum(Some(i64::from(least)))
        .maximum(Some(most))
}

/// The largest number that every JSON reader keeps exactly: 2⁵³ − 1.
pub(super) const EXACT_MAX: u64 = 9_007_199_254_740_991;

/// The largest `int64`, which numbers are described as.
const INT64_MAX: u64 = 9_223_372_036_854_775_807;

/// A whole number that is not negative, however it is written: for JSON Schema 5.0 is one as 5 is.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let text = value.as_f64()?.to_string();
        // Above, more than one text stands for the same number.
        let text = if text == "-0" { "0" } else { &text };
        text.parse().ok().filter(|number| *number <= EXACT_MAX)
    })
}

macro_rules! numbers {
    ($($number:ty: $format:ident, $most:expr;)+) => {$(
        impl Shape for $number {
            fn describe(_: &mut Parts) -> Described {
                whole(KnownFormat::$format, 0, $most.into()).into()
            }
        }

        impl FromJson for $number {
            fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
                let read = match number(&value) {
                    None => Err("must be a whole number, not negative".to_owned()),
                    Some(number) => Self::try_from(number)
                        .ok()
                        .filter(|number| *number <= $most)
                        .ok_or_else(|| format!("must be at most {}", $most)),
                };
                read.map_err(|reason| faults.push(Fault::at(path, Some(value), reason))).ok()
            }
        }

        impl ToJson for $number {
            fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                self.serialize(to)
            }
        }
    )+};
}

numbers! {
    u16: Int32, u16::MAX;
    u32: Int64, u32::MAX;
    u64: Int64, INT64_MAX;
}

/// A count that corrections may take below zero; only answered, never read.
impl Shape for i64 {
    fn describe(_: &mut Parts) -> Described {
        let format = SchemaFormat::KnownFormat(KnownFormat::Int64);
        ObjectBuilder::new().schema_type(Type::Integer).format(Some(format)).into()
    }
}

impl ToJson for i64 {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(*self)
    }
}

/// A whole number in a string.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whole(pub(super) u64);

impl Text for Whole {
    const NAME: &'static str = "WholeNumber";

    fn schema() -> ObjectBuilder {
        whole(KnownFormat::Int64, 0, INT64_MAX)
    }

    fn of(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| "must be a whole number, not negative".to_owned())
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.to_string().into()
    }
}

/// A rate limit: at least 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate(u64);

impl Rate {
    pub(super) const fn get(self) -> u64 {
        self.0
    }
}

impl Shape for Rate {
    fn describe(_: &mut Parts) -> Described {
        whole(KnownFormat::Int64, 1, EXACT_MAX).into()
    }
}

impl FromJson for Rate {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let read = number(&value).filter(|number| (1..=EXACT_MAX).contains(number));
        if read.is_none() {
            let reason = format!("must be a whole number from 1 to {EXACT_MAX}");
            faults.push(Fault::at(path, Some(value), reason));
        }
        read.map(Self)
    }
}

/// JSON of any kind.
impl Shape for Value {
    fn describe(_: &mut Parts) -> Described {
        ObjectBuilder::new().schema_type(SchemaType::AnyValue).into()
    }
}

impl ToJson for Value {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.serialize(to)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_number_may_be_written_with_a_point() {
        for (value, expected) in [
            (json!(5), Some(5)),
            (json!(5.0), Some(5)),
            (json!(-0.0), Some(0)),
            (json!(1e3), Some(1_000)),
            (json!(u64::MAX), Some(u64::MAX)),
            (json!(5.5), None),
            (json!(-5), None),
            (json!(-5.0), None),
            // What it was before it was read, nobody knows.
            (json!(9_007_199_254_740_992.0), None),
            (json!(1e300), None),
            (json!("5"), None),
        ] {
            assert_eq!(number(&value), expected, "{value}");
        }
    }
}
