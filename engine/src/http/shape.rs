//! Shapes: the JSON that this API takes and gives. Each is told once, for reading, for writing and for its description.
//!
//! A handler's body is declared with [`request`], its answer with [`answer`]; what their fields may be is in `values`
//! and `kinds`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;
use tollbook_schemas::policy::Change;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr, Required};

use super::fields::Fields;
use super::problem::Fault;

/// A description, or the name of one.
pub(super) type Described = RefOr<Schema>;

/// Descriptions that others refer to, by name.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) schemas: BTreeMap<String, Described>,
}

impl Parts {
    /// Refers to a description by name, making it where there is none yet.
    pub(super) fn named(&mut self, name: &str, describe: impl FnOnce(&mut Self) -> Schema) -> Described {
        if !self.schemas.contains_key(name) {
            let described = describe(self);
            self.schemas.insert(name.to_owned(), described.into());
        }
        Ref::from_schema_name(name).into()
    }
}

/// A kind of JSON value.
pub(super) trait Shape {
    /// What it is.
    fn describe(parts: &mut Parts) -> Described;
}

/// A shape that requests hold.
pub(super) trait FromJson: Shape + Sized {
    /// Reads a value that stands at `path`; notes what is wrong with it.
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self>;
}

/// A shape that answers hold.
pub(super) trait ToJson: Shape {
    /// Writes it.
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error>;
}

/// What a field of a [`request`] is read from: one member of the object, or several.
pub(super) trait FromMembers: Sized {
    /// Takes it out of the object; notes what is wrong with it.
    fn take(fields: &mut Fields, name: &str) -> Option<Self>;

    /// The members.
    fn members(name: &'static str, about: &str, parts: &mut Parts) -> Vec<Member>;
}

/// What a field of an [`answer`] becomes.
pub(super) trait ToMember {
    /// Whether it is always there.
    const ALWAYS: bool = true;

    /// What it is.
    fn described(parts: &mut Parts) -> Described;

    /// Writes it; `None` leaves it out.
    fn member(&self) -> Option<impl Serialize + '_>;
}

/// An object of a request, or its query.
pub(super) trait Record: Sized + Send {
    /// Whether there is anything to send: without it an empty body will do.
    const ANY: bool = true;

    /// Reads the members; notes what is wrong with them.
    fn from_fields(fields: &mut Fields) -> Option<Self>;

    /// Its members in order.
    fn members(parts: &mut Parts) -> Vec<Member>;
}

/// One member of an object, or one parameter of a query.
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) about: String,
    pub(super) required: bool,
    pub(super) schema: Described,
}

impl Member {
    /// A member with what its comment says.
    pub(super) fn new(name: &'static str, about: &str, required: bool, schema: Described) -> Self {
        let name = name.trim_start_matches("r#");
        Self { name, about: about.trim().to_owned(), required, schema }
    }

    /// As a parameter of a query.
    pub(super) fn parameter(self) -> Parameter {
        let schema = match self.schema {
            // A parameter is there or not; there is no null.
            RefOr::T(Schema::OneOf(one)) => one.items.into_iter().next(),
            plain @ (RefOr::Ref(_) | RefOr::T(_)) => Some(plain),
        };
        ParameterBuilder::new()
            .name(self.name)
            .parameter_in(ParameterIn::Query)
            .required(if self.required { Required::True } else { Required::False })
            .description(Some(self.about))
            .schema(schema)
            .build()
    }

    /// Its description, with what it is for.
    fn described(self) -> Described {
        match self.schema {
            RefOr::Ref(mut reference) => {
                reference.description = self.about;
                reference.into()
            }
            RefOr::T(Schema::Object(mut object)) => {
                object.description = Some(self.about);
                Schema::Object(object).into()
            }
            RefOr::T(Schema::Array(mut array)) => {
                array.description = Some(self.about);
                Schema::Array(array).into()
            }
            RefOr::T(Schema::OneOf(mut one)) => {
                one.description = Some(self.about);
                Schema::OneOf(one).into()
            }
            // None of ours is any of the other kinds.
            other @ RefOr::T(_) => other,
        }
    }
}

/// An object of these members.
pub(super) fn object(about: &str, members: Vec<Member>) -> ObjectBuilder {
    let mut object = ObjectBuilder::new();
    if !about.is_empty() {
        object = object.description(Some(about.trim()));
    }
    for member in members {
        if member.required {
            object = object.required(member.name);
        }
        object = object.property(member.name, member.described());
    }
    object
}

/// Declares what a request holds: a struct whose fields are the members, read all at once. Other members are refused.
macro_rules! request {
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        $vis struct $name { $($(#[doc = $doc])+ $vis $field: $type,)+ }

        impl $crate::http::shape::Record for $name {
            fn from_fields(fields: &mut $crate::http::fields::Fields) -> Option<Self> {
                $(let $field =
                    <$type as $crate::http::shape::FromMembers>::take(fields, stringify!($field));)+
                Some(Self { $($field: $field?,)+ })
            }

            fn members(parts: &mut $crate::http::shape::Parts) -> Vec<$crate::http::shape::Member> {
                let mut members = Vec::new();
                $(members.extend(<$type as $crate::http::shape::FromMembers>::members(
                    stringify!($field), concat!($($doc),+), parts,
                ));)+
                members
            }
        }

        impl $crate::http::shape::Shape for $name {
            fn describe(parts: &mut $crate::http::shape::Parts) -> $crate::http::shape::Described {
                parts.named(stringify!($name), |parts| {
                    let members = <Self as $crate::http::shape::Record>::members(parts);
                    $crate::http::shape::closed(concat!($($about),+), members)
                })
            }
        }

        impl $crate::http::shape::FromJson for $name {
            fn read(
                path: &str,
                value: serde_json::Value,
                faults: &mut Vec<$crate::http::problem::Fault>,
            ) -> Option<Self> {
                $crate::http::fields::Fields::within(path, value, faults, <Self as $crate::http::shape::Record>::from_fields)
            }
        }
    };
}
pub(super) use request;

/// Declares what an answer holds: a struct whose fields are the members, in their order.
macro_rules! answer {
    ($(#[doc = $about:literal])+ $vis:vis struct $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        $vis struct $name { $($(#[doc = $doc])+ $vis $field: $type,)+ }

        impl $crate::http::shape::Shape for $name {
            fn describe(parts: &mut $crate::http::shape::Parts) -> $crate::http::shape::Described {
                parts.named(stringify!($name), |parts| {
                    let members = vec![$($crate::http::shape::Member::new(
                        stringify!($field),
                        concat!($($doc),+),
                        <$type as $crate::http::shape::ToMember>::ALWAYS,
                        <$type as $crate::http::shape::ToMember>::described(parts),
                    ),)+];
                    $crate::http::shape::object(concat!($($about),+), members).into()
                })
            }
        }

        impl $crate::http::shape::ToJson for $name {
            fn write<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = to.serialize_map(None)?;
                $(if let Some(member) = $crate::http::shape::ToMember::member(&self.$field) {
                    map.serialize_entry(stringify!($field).trim_start_matches("r#"), &member)?;
                })+
                map.end()
            }
        }
    };
}
pub(super) use answer;

/// An object of these members and no others.
pub(super) fn closed(about: &str, members: Vec<Member>) -> Schema {
    object(about, members).additional_properties(Some(AdditionalProperties::FreeForm(false))).into()
}

/// A value on its way out.
pub(super) struct Out<'a, T: ?Sized>(pub(super) &'a T);

impl<T: ToJson + ?Sized> Serialize for Out<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.write(to)
    }
}

/// A value or null.
pub(super) fn nullable(schema: Described) -> Described {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    OneOfBuilder::new().item(schema).item(null).into()
}

impl<T: FromJson> FromMembers for T {
    fn take(fields: &mut Fields, name: &str) -> Option<Self> {
        fields.required(name)
    }

    fn members(name: &'static str, about: &str, parts: &mut Parts) -> Vec<Member> {
        vec![Member::new(name, about, true, Self::describe(parts))]
    }
}

/// Absent and null are the same.
impl<T: FromJson> FromMembers for Option<T> {
    fn take(fields: &mut Fields, name: &str) -> Option<Self> {
        fields.optional(name)
    }

    fn members(name: &'static str, about: &str, parts: &mut Parts) -> Vec<Member> {
        vec![Member::new(name, about, false, nullable(T::describe(parts)))]
    }
}

/// A member that must be there and may be null: leaving it out must not remove anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrNull<T>(pub(super) Option<T>);

impl<T: FromJson> FromMembers for OrNull<T> {
    fn take(fields: &mut Fields, name: &str) -> Option<Self> {
        if fields.holds(name) {
            return fields.optional(name).map(Self);
        }
        fields.refuse(name, "is missing; null removes it");
        None
    }

    fn members(name: &'static str, about: &str, parts: &mut Parts) -> Vec<Member> {
        vec![Member::new(name, about, true, nullable(T::describe(parts)))]
    }
}

/// Absent keeps what is, null removes it.
impl<T: FromJson> FromMembers for Change<T> {
    fn take(fields: &mut Fields, name: &str) -> Option<Self> {
        let named = fields.holds(name);
        let value: Option<T> = fields.optional(name)?;
        Some(match value {
            Some(value) => Self::Set(value),
            None if named => Self::Remove,
            None => Self::Keep,
        })
    }

    fn members(name: &'static str, about: &str, parts: &mut Parts) -> Vec<Member> {
        vec![Member::new(name, about, false, nullable(T::describe(parts)))]
    }
}

impl<T: ToJson> ToMember for T {
    fn described(parts: &mut Parts) -> Described {
        <T as Shape>::describe(parts)
    }

    fn member(&self) -> Option<impl Serialize + '_> {
        Some(Out(self))
    }
}

/// Nothing is null.
impl<T: ToJson> ToMember for Option<T> {
    fn described(parts: &mut Parts) -> Described {
        nullable(T::describe(parts))
    }

    fn member(&self) -> Option<impl Serialize + '_> {
        Some(self.as_ref().map(Out))
    }
}

/// A member that is left out where there is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct IfAny<T>(pub(super) Option<T>);

impl<T: ToJson> ToMember for IfAny<T> {
    const ALWAYS: bool = false;

    fn described(parts: &mut Parts) -> Described {
        T::describe(parts)
    }

    fn member(&self) -> Option<impl Serialize + '_> {
        self.0.as_ref().map(Out)
    }
}

/// A value that JSON holds in a string: an id, a name, an amount, a time.
pub(super) trait Text: Sized {
    /// The name of its description.
    const NAME: &'static str;

    /// What it is.
    fn schema() -> ObjectBuilder;

    /// Reads it. Errors: why it is none.
    fn of(text: &str) -> Result<Self, String>;

    /// As text.
    fn text(&self) -> Cow<'_, str>;
}

impl<T: Text> Shape for T {
    fn describe(parts: &mut Parts) -> Described {
        parts.named(T::NAME, |_| Schema::from(T::schema()))
    }
}

impl<T: Text> FromJson for T {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let read = value.as_str().ok_or_else(|| "must be a string".to_owned()).and_then(T::of);
        read.map_err(|reason| faults.push(Fault::at(path, Some(value), reason))).ok()
    }
}

impl<T: Text> ToJson for T {
    fn write<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text())
    }
}
