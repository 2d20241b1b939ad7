//! The slow way: says of an event everything that is wrong with it. What it accepts is what usage is; the fast way
//! may only be faster.

use serde_json::value::RawValue;

use crate::id::{KeyId, MeterName, ModelName, OrgId, ProjectId, SourceName};
use crate::policy::Meters;
use crate::usage::{Charged, Extras, Occurred, QUANTITY_MAX, Tokens, USAGE_BYTES_MAX, Usage};

use super::check::{self, Why};
use super::kept::{self, BAD_TEXT, Members, shortened, twice};
use super::{Context, METERS_MAX, SPEC_VERSION, USAGE_TYPE};

/// What is wrong with one member.
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) reason: Why,
}

/// Faults listed of one event; more would make answers longer than requests.
const FAULTS_MAX: usize = 16;

/// Faults found so far.
#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, field: impl Into<String>, reason: impl Into<Why>) {
        if self.0.len() < FAULTS_MAX {
            self.0.push(Fault { field: field.into(), reason: reason.into() });
        }
    }

    /// The value of what went well.
    fn note<T>(&mut self, field: &str, result: Result<T, Why>) -> Option<T> {
        result.map_err(|why| self.add(field, why)).ok()
    }
}

/// The record that an event is. Errors: everything that is wrong with it, up to [`FAULTS_MAX`].
pub(super) fn explain(raw: &str, context: &Context<'_>) -> Result<Usage, Vec<Fault>> {
    let mut faults = Faults::default();
    let usage = read(raw, context, &mut faults);
    match usage {
        Some(usage) if faults.0.is_empty() => Ok(usage),
        Some(_) | None => Err(faults.0),
    }
}

fn read(raw: &str, context: &Context<'_>, faults: &mut Faults) -> Option<Usage> {
    if raw.len() > USAGE_BYTES_MAX {
        faults.add("event", format!("has {} bytes; at most {USAGE_BYTES_MAX} are allowed", raw.len()));
        return None;
    }
    let mut event = Object::read("event", raw, faults)?;
    event.required("specversion", faults, |text| check::exactly(text, SPEC_VERSION));
    event.required("type", faults, |text| check::exactly(text, USAGE_TYPE));
    event.optional("datacontenttype", faults, check::content_type);
    if event.take("data_base64").is_some() {
        faults.add("data_base64", "is not read; send a JSON object in `data`");
    }
    let id = event.required("id", faults, check::id);
    let source = event.required("source", faults, |text| SourceName::parse(text).map_err(said));
    let organization = event.required("subject", faults, |text| {
        let organization = OrgId::parse(text).map_err(said)?;
        match context.subject {
            Some(named) if *named != organization => {
                Err(format!("must be {named}, as the subject says").into())
            }
            Some(_) | None => Ok(organization),
        }
    });
    let at = event.optional("time", faults, |text| check::time(text, context));
    let occurred = at.map_or(Occurred::Assumed(context.arrived), Occurred::Given);
    let producerseq = event.optional("producerseq", faults, check::sequence);
    let Some(data) = event.take("data") else {
        faults.add("data", "is missing");
        return None;
    };
    let mut data = Object::read("data", data, faults)?;
    let charged = charged(&mut data, faults);
    let model = data.required("model", faults, |text| ModelName::parse(text).map_err(said));
    let tokens = tokens(&mut data, faults);
    let extras = Extras {
        lease: data.optional("lease", faults, check::reference),
        request_id: data.optional("request_id", faults, check::reference),
        cost: data.optional("cost", faults, check::cost),
        meters: meters(&mut data, faults),
        kept: kept::canonical(&event.members, &data.members)
            .map_err(|(field, why)| faults.add(field, why))
            .unwrap_or_default(),
    };
    Some(Usage {
        organization: organization?,
        charged: charged?,
        model: model?,
        source: source?,
        id: id?,
        occurred,
        producerseq,
        tokens: tokens?,
        extras: (!extras.is_empty()).then(|| Box::new(extras)),
    })
}

fn charged(data: &mut Object<'_>, faults: &mut Faults) -> Option<Charged> {
    let named = (data.has("api_key_id"), data.has("project"));
    let key = data.optional("api_key_id", faults, |text| KeyId::parse(text).map_err(said));
    let project = data.optional("project", faults, |text| ProjectId::parse(text).map_err(said));
    match named {
        (true, false) => key.map(Charged::Key),
        (false, true) => project.map(Charged::Project),
        (true, true) => {
            faults.add("data", "must name either api_key_id or project, not both");
            None
        }
        (false, false) => {
            faults.add("data", "must name api_key_id or project");
            None
        }
    }
}

fn tokens(data: &mut Object<'_>, faults: &mut Faults) -> Option<Tokens> {
    let mut quantity = |name: &str, required: bool| match data.take(name) {
        Some(raw) => faults.note(&data.path(name), whole(raw)),
        None if required => {
            faults.add(data.path(name), "is missing");
            None
        }
        None => Some(0),
    };
    let input = quantity("input_tokens", true);
    let cached = quantity("cached_input_tokens", false);
    let output = quantity("output_tokens", true);
    let tokens = Tokens { input: input?, cached_input: cached?, output: output? };
    if tokens.cached_input > tokens.input {
        faults.add(data.path("cached_input_tokens"), check::CACHED_EXCEEDS);
        return None;
    }
    Some(tokens)
}

fn meters(data: &mut Object<'_>, faults: &mut Faults) -> Meters {
    let Some(object) = data.take("meters").and_then(|raw| Object::read("data.meters", raw, faults)) else {
        return Meters::new();
    };
    if object.members.0.len() > METERS_MAX {
        faults.add(object.name, format!("must hold at most {METERS_MAX} meters"));
    }
    let mut meters = Meters::new();
    for (name, raw) in &object.members.0 {
        let path = object.path(shortened(name));
        let name = faults.note(&path, MeterName::parse(name).map_err(said));
        let units = faults.note(&path, whole(raw.get()));
        meters.extend(name.zip(units));
    }
    meters
}

/// A quantity: digits, and nothing else that JSON calls a number.
fn whole(raw: &str) -> Result<u64, Why> {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("must be a whole number".into());
    }
    // Digits after a minus: a number, and not fractional, so only its sign is wrong.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    match (plain, digits.len() == raw.len()) {
        (false, _) => Err("must be a whole number, without fraction or exponent".into()),
        (true, false) => Err("must not be negative".into()),
        // What does not fit 64 bits is too large all the same.
        (true, true) => check::quantity(digits.parse().unwrap_or(QUANTITY_MAX.saturating_add(1))),
    }
}

/// The members of an object that were not taken yet.
struct Object<'a> {
    name: &'static str,
    members: Members<'a>,
}

impl<'a> Object<'a> {
    /// Notes repeated members, of which the first is taken.
    fn read(name: &'static str, raw: &'a str, faults: &mut Faults) -> Option<Self> {
        if !raw.starts_with('{') {
            faults.add(name, "must be a JSON object");
            return None;
        }
        let Members(mut members) =
            faults.note(name, serde_json::from_str(raw).map_err(|_| BAD_TEXT.into()))?;
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        members.dedup_by(|(later, _), (first, _)| {
            let same = later == first;
            if same {
                faults.add(name, twice(first));
            }
            same
        });
        Some(Self { name, members: Members(members) })
    }

    /// The name of a member in reports.
    fn path(&self, member: &str) -> String {
        if self.name == "event" { member.to_owned() } else { format!("{}.{member}", self.name) }
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.members.0.iter().position(|(member, _)| member == name)
    }

    fn has(&self, name: &str) -> bool {
        self.members.0.iter().any(|(member, raw)| member == name && raw.get() != NULL)
    }

    /// A member's JSON, which is not unknown any more; null is as good as absent.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let place = self.find(name)?;
        let (_, raw): (_, &'a RawValue) = self.members.0.remove(place);
        Some(raw.get()).filter(|raw| *raw != NULL)
    }

    fn optional<T>(
        &mut self,
        name: &str,
        faults: &mut Faults,
        check: impl FnOnce(&str) -> Result<T, Why>,
    ) -> Option<T> {
        let raw = self.take(name)?;
        let checked = if raw.starts_with('"') {
            let text: Result<String, _> = serde_json::from_str(raw);
            text.map_err(|_| BAD_TEXT.into()).and_then(|text| check(&text))
        } else {
            Err("must be a string".into())
        };
        faults.note(&self.path(name), checked)
    }

    fn required<T>(
        &mut self,
        name: &str,
        faults: &mut Faults,
        check: impl FnOnce(&str) -> Result<T, Why>,
    ) -> Option<T> {
        if !self.has(name) {
            // Taken all the same: a null is not to be kept as unknown.
            self.take(name);
            faults.add(self.path(name), "is missing");
            return None;
        }
        self.optional(name, faults, check)
    }
}

const NULL: &str = "null";

/// What an error of ours says.
fn said(error: impl std::fmt::Display) -> Why {
    error.to_string().into()
}
