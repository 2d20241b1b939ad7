//! What gateways send: read in one pass where all is well, and member by member where it is not, so that everything that
//! is wrong is named.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use axum::http::HeaderMap;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, Visitor};
use serde_json::Value;
use tollbook_schemas::cloudevent::{METERS_MAX, REFERENCE_MAX};
use tollbook_schemas::id::{LeaseId, MeterName, ModelName, OrgId};
use tollbook_schemas::policy::Meters;
use tollbook_schemas::usage::{QUANTITY_MAX, Tokens};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, Schema, SchemaFormat, Type};

use crate::admission::{AdmissionSettings, Ask, Decided};
use crate::http::fields::Fields;
use crate::http::kinds::{choices, string};
use crate::http::problem::{Fault, Problem};
use crate::http::shape::{
    Described, FromJson, FromMembers, Member, Parts, Record, Shape, Text as _, request,
};
use crate::http::values::{Secret, whole};

/// Where a lease is named.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door<'a> {
    /// In the path.
    Http(&'a str),
    /// In the body, as `lease`.
    Nats,
}

/// A request that asks whether it may pass, as it was sent.
pub(super) struct Question<'a> {
    pub(super) api_key: Cow<'a, str>,
    pub(super) ip: Option<IpAddr>,
    pub(super) model: ModelName,
    pub(super) input_tokens: u64,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) meters: Meters,
    pub(super) request_id: Option<Cow<'a, str>>,
    pub(super) lease_seconds: Option<i64>,
    pub(super) decided: Option<Decided>,
}

/// Without the customer's key, as [`Ask`], but with what that does not have.
impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question")
            .field("ask", &self.ask(None))
            .field("decided", &self.decided)
            .finish_non_exhaustive()
    }
}

impl Question<'_> {
    /// What is asked, on behalf of a token that is limited to these organizations.
    pub(super) fn ask<'a>(&'a self, organizations: Option<&'a [OrgId]>) -> Ask<'a> {
        Ask {
            api_key: &self.api_key,
            ip: self.ip,
            model: &self.model,
            input_tokens: self.input_tokens,
            max_output_tokens: self.max_output_tokens,
            meters: &self.meters,
            request_id: self.request_id.as_deref(),
            lease_seconds: self.lease_seconds,
            organizations,
        }
    }
}

request! {
    /// A request that asks whether it may pass.
    pub(super) struct NewAdmission {
        /// The customer's API key, as the customer sent it; none: the customer sent none.
        api_key: Option<Secret>,
        /// Where the request comes from. Without it nobody passes whose organization has an IP allowlist.
        ip: Option<Address>,
        /// The model, as the price book names it.
        model: ModelName,
        /// Input tokens, cached ones included.
        input_tokens: Units,
        /// Most output tokens; the model's most unless said otherwise.
        max_output_tokens: Option<Units>,
        /// Units beyond tokens, by meter; at most 32 meters.
        meters: Option<MeterUnits>,
        /// The caller's own name for the request: the same again gets the same lease.
        request_id: Option<RequestId>,
        /// What the system that is to be replaced decided. In observe mode nothing is reserved for what it refused.
        decided: Option<Decided>,
    }
}

request! {
    /// What a request used, all of it or nothing.
    pub(super) struct NewSettlement {
        /// Input tokens, cached ones included.
        input_tokens: Option<Units>,
        /// Input tokens read from a cache; 0 unless said otherwise.
        cached_input_tokens: Option<Units>,
        /// Output tokens.
        output_tokens: Option<Units>,
    }
}

request! {
    /// For how long a lease shall live on.
    pub(super) struct NewRenewal {
        /// Seconds from now; as configured unless said otherwise.
        seconds: Option<LeaseSeconds>,
    }
}

choices! {
    Decided = "Decided", "What the system that is to be replaced decided." {
        Admit = "admit",
        Refuse = "refuse",
    }
}

/// A number of tokens or of other units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units(u64);

impl Shape for Units {
    fn describe(_: &mut Parts) -> Described {
        whole(KnownFormat::Int64, 0, QUANTITY_MAX).into()
    }
}

impl FromJson for Units {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        bounded(path, value, 0..=QUANTITY_MAX, faults).map(Self)
    }
}

/// How many seconds a lease may live.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseSeconds(i64);

/// The same, as a number that is never negative.
const LEASE_SECONDS_MAX: u64 = AdmissionSettings::LEASE_SECONDS_MAX.unsigned_abs();

impl Shape for LeaseSeconds {
    fn describe(_: &mut Parts) -> Described {
        whole(KnownFormat::Int32, 1, LEASE_SECONDS_MAX).into()
    }
}

impl FromJson for LeaseSeconds {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let seconds = bounded(path, value, 1..=LEASE_SECONDS_MAX, faults)?;
        i64::try_from(seconds).ok().map(Self)
    }
}

fn bounded(
    path: &str,
    value: Value,
    range: std::ops::RangeInclusive<u64>,
    faults: &mut Vec<Fault>,
) -> Option<u64> {
    let number = u64::read(path, value, faults)?;
    if range.contains(&number) {
        return Some(number);
    }
    let reason = format!("must be from {} to {}", range.start(), range.end());
    faults.push(Fault::at(path, Some(number.into()), reason));
    None
}

/// Units by meter.
#[derive(Debug)]
pub(super) struct MeterUnits(Meters);

impl Shape for MeterUnits {
    fn describe(parts: &mut Parts) -> Described {
        ObjectBuilder::new()
            .property_names(Some(Schema::from(MeterName::schema())))
            .additional_properties(Some(Units::describe(parts)))
            .max_properties(Some(METERS_MAX))
            .into()
    }
}

impl FromJson for MeterUnits {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let units: std::collections::BTreeMap<MeterName, Units> = FromJson::read(path, value, faults)?;
        if units.len() > METERS_MAX {
            faults.push(Fault::at(path, None, format!("must hold at most {METERS_MAX} meters")));
            return None;
        }
        Some(Self(units.into_iter().map(|(meter, Units(units))| (meter, units)).collect()))
    }
}

/// The caller's own name for a request.
#[derive(Clone, Debug)]
pub(super) struct RequestId(String);

impl crate::http::shape::Text for RequestId {
    const NAME: &'static str = "RequestId";

    fn schema() -> ObjectBuilder {
        string("The caller's own name for a request, without control characters.")
            .max_length(Some(REFERENCE_MAX))
            .pattern(Some(r"^[^\u0000-\u001f\u007f-\u009f]+$"))
    }

    fn of(text: &str) -> Result<Self, String> {
        request_id(text).map(|text| Self(text.to_owned())).map_err(str::to_owned)
    }

    fn text(&self) -> Cow<'_, str> {
        self.0.as_str().into()
    }
}

/// What usage may name a request by, too.
pub(super) fn request_id(text: &str) -> Result<&str, &'static str> {
    if text.is_empty() {
        return Err("must not be empty");
    }
    if text.len() > REFERENCE_MAX {
        return Err("must be at most 128 bytes");
    }
    if text.chars().any(char::is_control) { Err("must not hold control characters") } else { Ok(text) }
}

/// An IP address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(IpAddr);

impl Shape for Address {
    fn describe(parts: &mut Parts) -> Described {
        parts.named("IpAddress", |_| {
            let about = "An IPv4 or IPv6 address, without a port; IPv4-mapped ones count as IPv4.";
            let of = |format| {
                ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
            };
            let either = OneOfBuilder::new().item(of(KnownFormat::Ipv4)).item(of(KnownFormat::Ipv6));
            either.description(Some(about)).into()
        })
    }
}

impl FromJson for Address {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        let read = value.as_str().and_then(|text| text.parse().ok()).map(Self);
        if read.is_none() {
            faults.push(Fault::at(path, Some(value), "must be an IP address, without a port"));
        }
        read
    }
}

/// A string that is borrowed unless it holds escapes.
#[derive(Debug)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
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

/// [`NewAdmission`] without anything unusual.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FastAdmission<'a> {
    #[serde(borrow)]
    api_key: Option<Text<'a>>,
    #[serde(borrow)]
    ip: Option<Text<'a>>,
    #[serde(borrow)]
    model: Text<'a>,
    input_tokens: u64,
    max_output_tokens: Option<u64>,
    meters: Option<IgnoredAny>,
    #[serde(borrow)]
    request_id: Option<Text<'a>>,
    #[serde(borrow)]
    decided: Option<Text<'a>>,
}

/// [`NewSettlement`] without anything unusual.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct FastSettlement<'a> {
    #[serde(borrow)]
    lease: Option<Text<'a>>,
    input_tokens: Option<u64>,
    cached_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// Reads a request that asks whether it may pass.
pub(super) fn question(body: &[u8]) -> Result<Question<'_>, Problem> {
    match serde_json::from_slice(body).ok().and_then(FastAdmission::question) {
        Some(question) => Ok(question),
        None => explain_question(body),
    }
}

impl<'a> FastAdmission<'a> {
    /// `None` where something is wrong or unusual: the way that explains decides.
    fn question(self) -> Option<Question<'a>> {
        if self.meters.is_some() {
            return None;
        }
        let most = |units: u64| Some(units).filter(|units| *units <= QUANTITY_MAX);
        Some(Question {
            api_key: self.api_key.map(|text| text.0).unwrap_or_default(),
            ip: self.ip.map(|text| text.0.parse().ok()).map_or(Some(None), |ip| ip.map(Some))?,
            model: ModelName::parse(&self.model.0).ok()?,
            input_tokens: most(self.input_tokens)?,
            max_output_tokens: self.max_output_tokens.map_or(Some(None), |units| most(units).map(Some))?,
            meters: Meters::new(),
            request_id: match self.request_id {
                Some(text) => Some(request_id(&text.0).is_ok().then_some(text.0)?),
                None => None,
            },
            lease_seconds: None,
            decided: match self.decided {
                Some(text) => Some(Decided::of(&text.0).ok()?),
                None => None,
            },
        })
    }
}

fn explain_question(body: &[u8]) -> Result<Question<'static>, Problem> {
    let sent: NewAdmission = read(body)?;
    Ok(Question {
        api_key: sent.api_key.map(|Secret(secret)| secret).unwrap_or_default().into(),
        ip: sent.ip.map(|Address(ip)| ip),
        model: sent.model,
        input_tokens: sent.input_tokens.0,
        max_output_tokens: sent.max_output_tokens.map(|Units(units)| units),
        meters: sent.meters.map(|MeterUnits(meters)| meters).unwrap_or_default(),
        request_id: sent.request_id.map(|RequestId(id)| id.into()),
        lease_seconds: None,
        decided: sent.decided,
    })
}

/// Reads which request is over, and what it used, if that is said.
pub(super) fn settlement(door: Door<'_>, body: &[u8]) -> Result<(LeaseId, Option<Tokens>), Problem> {
    if let Some(fast) = serde_json::from_slice(body).ok().and_then(|sent| fast_settlement(door, sent)) {
        return Ok(fast);
    }
    let (lease, sent): (_, NewSettlement) = named(door, body)?;
    let units = |units: Option<Units>| units.map(|Units(units)| units);
    let (input, cached, output) =
        (units(sent.input_tokens), units(sent.cached_input_tokens), units(sent.output_tokens));
    Ok((lease, tokens(input, cached, output).map_err(Problem::fields)?))
}

fn fast_settlement(door: Door<'_>, sent: FastSettlement<'_>) -> Option<(LeaseId, Option<Tokens>)> {
    let lease = match (door, &sent.lease) {
        (Door::Http(lease), None) => LeaseId::parse(lease),
        (Door::Nats, Some(lease)) => LeaseId::parse(&lease.0),
        (Door::Http(_), Some(_)) | (Door::Nats, None) => return None,
    };
    let given = [sent.input_tokens, sent.cached_input_tokens, sent.output_tokens];
    if given.into_iter().flatten().any(|units| units > QUANTITY_MAX) {
        return None;
    }
    let tokens = tokens(sent.input_tokens, sent.cached_input_tokens, sent.output_tokens).ok()?;
    Some((lease.ok()?, tokens))
}

/// All numbers of a request, or none.
fn tokens(
    input: Option<u64>,
    cached: Option<u64>,
    output: Option<u64>,
) -> Result<Option<Tokens>, Vec<Fault>> {
    let missing = |field| vec![Fault::at(field, None, "is missing: send all numbers, or none")];
    match (input, output) {
        (Some(input), Some(output)) => {
            let cached_input = cached.unwrap_or(0);
            if cached_input > input {
                let reason = "must not exceed input_tokens, which include them";
                return Err(vec![Fault::at("cached_input_tokens", Some(cached_input.into()), reason)]);
            }
            Ok(Some(Tokens { input, cached_input, output }))
        }
        (None, None) if cached.is_none() => Ok(None),
        (None, None) => Err([missing("input_tokens"), missing("output_tokens")].concat()),
        (None, Some(_)) => Err(missing("input_tokens")),
        (Some(_), None) => Err(missing("output_tokens")),
    }
}

/// Reads which lease is given back.
pub(super) fn release(door: Door<'_>, body: &[u8]) -> Result<LeaseId, Problem> {
    let (lease, ()) = named(door, body)?;
    Ok(lease)
}

/// Reads which lease shall live on, and for how many seconds.
pub(super) fn renewal(door: Door<'_>, body: &[u8]) -> Result<(LeaseId, Option<i64>), Problem> {
    let (lease, sent): (_, NewRenewal) = named(door, body)?;
    Ok((lease, sent.seconds.map(|LeaseSeconds(seconds)| seconds)))
}

/// What a body says of a lease. Without anything to say the body may be empty.
fn named<T: Record>(door: Door<'_>, body: &[u8]) -> Result<(LeaseId, T), Problem> {
    match door {
        Door::Http(lease) => {
            let sent = read_or_nothing(body)?;
            // No lease of ours has another form.
            let lease = LeaseId::parse(lease).map_err(|_| crate::admission::LeaseError::NotFound)?;
            Ok((lease, sent))
        }
        Door::Nats => {
            let WithLease { lease, rest } = read(body)?;
            Ok((lease, rest))
        }
    }
}

fn read<T: Record>(body: &[u8]) -> Result<T, Problem> {
    Fields::body(&HeaderMap::new(), body)
}

fn read_or_nothing<T: Record>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { read(b"{}") } else { read(body) }
}

/// A request that names the lease beside what else it says.
struct WithLease<T> {
    lease: LeaseId,
    rest: T,
}

impl<T: Record> Record for WithLease<T> {
    fn from_fields(fields: &mut Fields) -> Option<Self> {
        let lease = <LeaseId as FromMembers>::take(fields, "lease");
        let rest = T::from_fields(fields);
        Some(Self { lease: lease?, rest: rest? })
    }

    fn members(parts: &mut Parts) -> Vec<Member> {
        T::members(parts)
    }
}

#[cfg(test)]
mod tests;
