//! Shapes that every API has: lists, maps, texts, numbers.

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

/// A whole number from 0 to `most`, described.
pub(super) fn whole(format: KnownFormat, most: Option<u32>) -> ObjectBuilder {
    let number = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .minimum(Some(0));
    match most {
        Some(most) => number.maximum(Some(i64::from(most))),
        None => number,
    }
}

macro_rules! numbers {
    ($($number:ty: $format:ident, $most:expr;)+) => {$(
        impl Shape for $number {
            fn describe(_: &mut Parts) -> Described {
                whole(KnownFormat::$format, $most).into()
            }
        }

        impl FromJson for $number {
            fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
                let read = match value.as_u64() {
                    None => Err("must be a whole number, not negative".to_owned()),
                    Some(number) => Self::try_from(number)
                        .map_err(|_| format!("must be at most {}", Self::MAX)),
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
    u16: Int32, Some(u32::from(u16::MAX));
    u32: Int64, Some(u32::MAX);
    u64: Int64, None;
}

/// A rate limit: at least 1, and as large as every JSON reader keeps exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate(u64);

impl Rate {
    /// 2⁵³ − 1.
    const MAX: i64 = 9_007_199_254_740_991;

    pub(super) const fn get(self) -> u64 {
        self.0
    }
}

impl Shape for Rate {
    fn describe(_: &mut Parts) -> Described {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
        number.minimum(Some(1)).maximum(Some(Self::MAX)).into()
    }
}

impl FromJson for Rate {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let in_range =
            |number: &u64| *number >= 1 && i64::try_from(*number).is_ok_and(|number| number <= Self::MAX);
        let read = value.as_u64().filter(in_range);
        if read.is_none() {
            faults.push(Fault::at(
                path,
                Some(value),
                format!("must be a whole number from 1 to {}", Self::MAX),
            ));
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
