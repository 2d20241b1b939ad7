//! The hot way: one pass, texts borrowed, identifiers shared with the event before. It never explains: whatever is
//! unusual gives `None`, and the way that explains decides.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::id::{KeyId, MeterName, ModelName, OrgId, ProjectId, SourceName};
use crate::policy::Meters;
use crate::usage::{Charged, Extras, Occurred, Tokens, Usage};

use super::kept::{self, Members, Text};
use super::{Context, METERS_MAX, SPEC_VERSION, USAGE_TYPE, check};

/// An object whose known members have a place and whose others are collected; a repeated member is an error.
macro_rules! object {
    ($name:ident { $($field:ident: $type:ty = $key:literal,)+ }) => {
        #[derive(Default)]
        pub(super) struct $name<'a> {
            $($field: Option<$type>,)+
            unknown: Members<'a>,
        }

        impl<'de> Deserialize<'de> for $name<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;
                impl<'de> Visitor<'de> for Object {
                    type Value = $name<'de>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                        let mut object = $name::default();
                        while let Some(Text(name)) = map.next_key()? {
                            match &*name {
                                $($key => {
                                    if object.$field.replace(map.next_value()?).is_some() {
                                        return Err(de::Error::duplicate_field($key));
                                    }
                                })+
                                _ => object.unknown.0.push((name, map.next_value()?)),
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Object)
            }
        }
    };
}

object! { Event {
    version: Text<'a> = "specversion",
    id: Text<'a> = "id",
    source: Text<'a> = "source",
    kind: Text<'a> = "type",
    subject: Text<'a> = "subject",
    time: Option<Text<'a>> = "time",
    content_type: Option<Text<'a>> = "datacontenttype",
    producerseq: Option<Text<'a>> = "producerseq",
    data: Data<'a> = "data",
    binary: IgnoredAny = "data_base64",
} }

object! { Data {
    api_key_id: Option<Text<'a>> = "api_key_id",
    project: Option<Text<'a>> = "project",
    model: Text<'a> = "model",
    input: u64 = "input_tokens",
    cached_input: Option<u64> = "cached_input_tokens",
    output: u64 = "output_tokens",
    meters: Option<MeterMap> = "meters",
    lease: Option<Text<'a>> = "lease",
    request_id: Option<Text<'a>> = "request_id",
    cost: Option<Text<'a>> = "cost",
} }

/// `meters`, each name once.
struct MeterMap(Meters);

impl<'de> Deserialize<'de> for MeterMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = MeterMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of whole numbers")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut meters = Meters::new();
                while let Some(Text(name)) = map.next_key()? {
                    let name = MeterName::parse(&name).map_err(de::Error::custom)?;
                    let units = check::quantity(map.next_value()?).map_err(de::Error::custom)?;
                    if meters.insert(name, units).is_some() {
                        return Err(de::Error::custom("a meter twice"));
                    }
                }
                Ok(MeterMap(meters))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A nullable member that has a value.
fn given<'a>(member: &'a Option<Option<Text<'_>>>) -> Option<&'a str> {
    member.as_ref().and_then(Option::as_ref).map(|text| &*text.0)
}

/// What an optional member's check says: `None` only where it failed.
fn optional<T, E>(member: Option<&str>, check: impl Fn(&str) -> Result<T, E>) -> Option<Option<T>> {
    member.map(|text| check(text).ok()).map_or(Some(None), |checked| checked.map(Some))
}

impl Event<'_> {
    /// The record, or `None` where something is wrong or unusual. `previous` lends the identifiers that it shares.
    pub(super) fn usage(self, context: &Context<'_>, previous: Option<&Usage>) -> Option<Usage> {
        check::exactly(&self.version?.0, SPEC_VERSION).ok()?;
        check::exactly(&self.kind?.0, USAGE_TYPE).ok()?;
        optional(given(&self.content_type), check::content_type)?;
        if self.binary.is_some() {
            return None;
        }
        let id = check::id(&self.id?.0).ok()?;
        let subject = self.subject?.0;
        let organization = match (context.subject, previous) {
            (Some(named), _) if named.as_str() == subject => named.clone(),
            (Some(_), _) => return None,
            (None, Some(usage)) if usage.organization.as_str() == subject => usage.organization.clone(),
            (None, _) => OrgId::parse(&subject).ok()?,
        };
        let source = self.source?.0;
        let source = match previous {
            Some(usage) if usage.source.as_str() == source => usage.source.clone(),
            Some(_) | None => SourceName::parse(&source).ok()?,
        };
        let occurred = match given(&self.time) {
            Some(text) => Occurred::Given(check::time(text, context).ok()?),
            None => Occurred::Assumed(context.arrived),
        };
        let producerseq = optional(given(&self.producerseq), check::sequence)?;
        let data = self.data?;
        let charged =
            match (given(&data.api_key_id), given(&data.project), previous.map(|usage| &usage.charged)) {
                (Some(key), None, Some(Charged::Key(before))) if before.as_str() == key => {
                    Charged::Key(before.clone())
                }
                (Some(key), None, _) => Charged::Key(KeyId::parse(key).ok()?),
                (None, Some(project), Some(Charged::Project(before))) if before.as_str() == project => {
                    Charged::Project(before.clone())
                }
                (None, Some(project), _) => Charged::Project(ProjectId::parse(project).ok()?),
                (Some(_), Some(_), _) | (None, None, _) => return None,
            };
        let model = data.model.as_ref().map(|text| &*text.0)?;
        let model = match previous {
            Some(usage) if usage.model.as_str() == model => usage.model.clone(),
            Some(_) | None => ModelName::parse(model).ok()?,
        };
        let tokens = Tokens {
            input: check::quantity(data.input?).ok()?,
            cached_input: data.cached_input.flatten().unwrap_or(0),
            output: check::quantity(data.output?).ok()?,
        };
        if tokens.cached_input > tokens.input {
            return None;
        }
        let extras = Extras {
            lease: optional(given(&data.lease), check::reference)?,
            request_id: optional(given(&data.request_id), check::reference)?,
            cost: optional(given(&data.cost), check::cost)?,
            meters: data.meters.flatten().map(|meters| meters.0).unwrap_or_default(),
            kept: kept::canonical(&self.unknown, &data.unknown).ok()?,
        };
        if extras.meters.len() > METERS_MAX {
            return None;
        }
        let extras = (!extras.is_empty()).then(|| Box::new(extras));
        Some(Usage { organization, charged, model, source, id, occurred, producerseq, tokens, extras })
    }
}
