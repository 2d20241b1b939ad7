//! Usage records as answers show them: where one stands, what came, and how it was charged.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use tollbook_projections::state::{Quarantined, QuarantinedWhat};
use tollbook_schemas::amount::Amount;
use tollbook_schemas::cloudevent::{self, Payload, Refused};
use tollbook_schemas::id::{KeyId, MeterName, ModelName, OrgId, ProjectId};
use tollbook_schemas::position::{LogPosition, PartitionId};
use tollbook_schemas::time::{Day, Month, Timestamp};
use tollbook_schemas::usage::{BookedUsage, Usage, UsagePlace};
use utoipa::openapi::schema::ObjectBuilder;

use super::kinds::string;
use super::path::PathId;
use super::problem::{Fault, Problem};
use super::shape::{Described, FromJson, Parts, Shape, Text, answer};
use super::usage::UsageEvent;
use crate::trace::Charged;

/// Where a record stands: `<partition>-<position>.<row>`, which is also its id in the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: PartitionId,
    pub(super) place: UsagePlace,
}

impl Place {
    /// The entry.
    pub(super) const fn position(self) -> LogPosition {
        LogPosition { partition: self.partition, position: self.place.position }
    }
}

impl Text for Place {
    const NAME: &'static str = "UsagePlace";

    fn schema() -> ObjectBuilder {
        string("A usage record: partition, position and row.")
            .pattern(Some(r"^(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,9})$"))
            .examples(["0-17.3"])
    }

    fn of(text: &str) -> Result<Self, String> {
        let wrong = || "must be the place of a usage record, such as `0-17.3`".to_owned();
        let (at, row) = text.split_once('.').ok_or_else(wrong)?;
        let at: LogPosition = at.parse().map_err(|_| wrong())?;
        let row = row.parse().map_err(|_| wrong())?;
        Ok(Self { partition: at.partition, place: UsagePlace { position: at.position, row } })
    }

    fn text(&self) -> Cow<'_, str> {
        format!("{}.{}", self.position(), self.place.row).into()
    }
}

impl PathId for Place {
    const WHAT: &'static str = "record in quarantine";
}

/// A mended event, read as ingress reads one.
#[derive(Clone, Debug)]
pub(super) struct SentEvent(Value);

impl Shape for SentEvent {
    fn describe(parts: &mut Parts) -> Described {
        UsageEvent::describe(parts)
    }
}

impl FromJson for SentEvent {
    fn read(path: &str, value: Value, faults: &mut Vec<Fault>) -> Option<Self> {
        if value.is_object() {
            return Some(Self(value));
        }
        faults.push(Fault::at(path, Some(value), "must be a CloudEvent"));
        None
    }
}

impl SentEvent {
    /// The record that it tells, at `now`. Errors: everything that ingress would refuse it for, by field.
    pub(super) fn usage(&self, now: Timestamp) -> Result<Usage, Problem> {
        let bytes = serde_json::to_vec(&self.0).map_err(|error| Problem::malformed(error.to_string()))?;
        let mut read =
            cloudevent::parse(&bytes, Payload::One, now, None).map_err(|refused| match refused {
                Refused::Unreadable(reason) => Problem::malformed(reason),
                Refused::TooMany { .. } => Problem::malformed("event must be one CloudEvent"),
                Refused::Bad(bad) => {
                    let at = |field: &str| {
                        if field == "event" { field.to_owned() } else { format!("event.{field}") }
                    };
                    let faults = bad.into_iter().map(|bad| Fault::at(&at(&bad.field), None, bad.reason));
                    Problem::fields(faults.collect())
                }
            })?;
        read.pop().ok_or_else(|| Problem::malformed("event must be one CloudEvent"))
    }
}

answer! {
    /// A usage record as it was charged.
    pub(super) struct BookedRecord {
        /// When it was booked.
        booked_at: Timestamp,
        /// The month whose statement has it.
        booked_in: Month,
        /// The local day in which it occurred, in which analysis counts it.
        day: Day,
        /// The project that was charged.
        project: ProjectId,
        /// The API key that it named.
        api_key: Option<KeyId>,
        /// The model.
        model: ModelName,
        /// Input tokens, cached ones included.
        input_tokens: u64,
        /// Input tokens read from a cache.
        cached_input_tokens: u64,
        /// Output tokens.
        output_tokens: u64,
        /// Further metered units, by name.
        meters: BTreeMap<MeterName, u64>,
        /// What it cost.
        cost: Amount,
    }
}

impl BookedRecord {
    /// As it is shown.
    pub(super) fn of(charged: &Charged) -> Self {
        let BookedUsage { day, project, key, model, tokens, meters, cost } = charged.booked.clone();
        Self {
            booked_at: charged.at,
            booked_in: charged.month,
            day,
            project,
            api_key: key,
            model,
            input_tokens: tokens.input,
            cached_input_tokens: tokens.cached_input,
            output_tokens: tokens.output,
            meters,
            cost,
        }
    }
}

/// What came, as a CloudEvent; of what nobody could read, its organization and bytes.
pub(super) fn event_of(what: &QuarantinedWhat) -> Value {
    match what {
        QuarantinedWhat::Usage(usage) => cloudevent::to_event(usage),
        QuarantinedWhat::Bytes(bytes) => json!({
            "organization": bytes.organization.as_ref().map(OrgId::as_str),
            "bytes": String::from_utf8_lossy(&bytes.bytes),
        }),
    }
}

/// Whether anybody limited to some organizations may see a quarantined record.
pub(super) fn is_of(record: &Quarantined, allowed: Option<&[OrgId]>) -> bool {
    allowed.is_none_or(|allowed| {
        record.organization().is_some_and(|organization| allowed.contains(organization))
    })
}
