//! What usage over NATS is refused with: codes that never change their meaning, in the shape of JetStream's own errors.
//!
//! | err_code | code | what |
//! |---|---|---|
//! | 60001 | 400 | not readable: not UTF-8, not JSON, neither an object nor an array, no event in it |
//! | 60002 | 400 | events with faults, each listed in `errors` |
//! | 60003 | 413 | over 1 MiB |
//! | 60004 | 413 | over 1,000 events |
//! | 60005 | 400 | a header asks for what usage does not offer |
//! | 60006 | 400 | the subject does not name an organization |
//! | 60007 | 503 | too much is waiting |
//! | 60008 | 503 | the log could not be written |
//! | 60009 | 503 | this engine takes nothing now: stopping, or its clock is off |

use bytes::Bytes;
use serde_json::{Value, json};
use tollbook_schemas::cloudevent::{BadEvent, Refused};
use tollbook_schemas::id::IdError;

use super::PAYLOAD_MAX;
use crate::ingress::IngressError;

/// Longest description, in bytes: clients print it in one line.
const DESCRIPTION_MAX: usize = 400;
/// Most bytes of an answer's list of faults: half of the smallest message that servers usually take.
const ERRORS_MAX: usize = 512 * 1024;

/// Why usage over NATS was not taken. Nothing of the message is kept, and where waiting helps (503) the same message may
/// be sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not readable.
    #[error("{0}")]
    Unreadable(String),
    /// Readable, with these faults.
    #[error("{}", Refused::Bad(.0.clone()))]
    Events(Vec<BadEvent>),
    /// Longer than a message may be.
    #[error("{bytes} bytes; at most {PAYLOAD_MAX} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// More events than fit a message.
    #[error("more than {most} events")]
    TooMany {
        /// How many fit.
        most: usize,
    },
    /// A header that cannot be honoured.
    #[error("the header {0} is not supported here; repetitions are recognized by source and id")]
    Header(String),
    /// The subject's last part is not an organization's id.
    #[error("the last part of the subject {0}")]
    Subject(IdError),
    /// As much waits as may.
    #[error("too much usage is waiting to be written; try again shortly")]
    Busy,
    /// The log could not be written.
    #[error("the log could not be written: {0}; send the same again")]
    Log(String),
    /// This engine takes nothing now.
    #[error("this engine takes no usage now: {0}; send the same again")]
    Closed(String),
}

impl Refusal {
    /// The kind of refusal, as in HTTP.
    pub const fn code(&self) -> u16 {
        match self {
            Self::Unreadable(_) | Self::Events(_) | Self::Header(_) | Self::Subject(_) => 400,
            Self::TooLarge { .. } | Self::TooMany { .. } => 413,
            Self::Busy | Self::Log(_) | Self::Closed(_) => 503,
        }
    }

    /// The stable code; outside of those that JetStream uses.
    pub const fn err_code(&self) -> u16 {
        match self {
            Self::Unreadable(_) => 60_001,
            Self::Events(_) => 60_002,
            Self::TooLarge { .. } => 60_003,
            Self::TooMany { .. } => 60_004,
            Self::Header(_) => 60_005,
            Self::Subject(_) => 60_006,
            Self::Busy => 60_007,
            Self::Log(_) => 60_008,
            Self::Closed(_) => 60_009,
        }
    }

    /// As a label of a metric.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Unreadable(_)
            | Self::Events(_)
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Header(_)
            | Self::Subject(_) => "refused",
            Self::Busy | Self::Log(_) | Self::Closed(_) => "unavailable",
        }
    }

    /// What went wrong in one bounded line.
    pub fn description(&self) -> String {
        let mut line = self.to_string();
        line.truncate(line.floor_char_boundary(DESCRIPTION_MAX));
        line
    }

    /// The answer. `error` has exactly the members that clients know: nats-py fails on a fourth.
    pub fn to_json(&self) -> Bytes {
        let error =
            json!({ "code": self.code(), "err_code": self.err_code(), "description": self.description() });
        let (errors, left_off) = match self {
            Self::Events(faults) => listed(faults),
            Self::Unreadable(_)
            | Self::TooLarge { .. }
            | Self::TooMany { .. }
            | Self::Header(_)
            | Self::Subject(_)
            | Self::Busy
            | Self::Log(_)
            | Self::Closed(_) => (Vec::new(), 0),
        };
        let mut answer = json!({ "error": error, "errors": errors });
        if left_off > 0
            && let Some(members) = answer.as_object_mut()
        {
            members.insert("errors_left_off".to_owned(), json!(left_off));
        }
        answer.to_string().into()
    }
}

/// The faults as they are answered, and how many do not fit. What must be left off is first the second and further
/// faults of an event: senders need every bad event's place.
fn listed(faults: &[BadEvent]) -> (Vec<Value>, usize) {
    let mut later: Vec<bool> = Vec::with_capacity(faults.len());
    let mut before = None;
    for fault in faults {
        later.push(before == Some(fault.index));
        before = Some(fault.index);
    }
    let mut room = ERRORS_MAX;
    let mut kept: Vec<(usize, Value)> = Vec::with_capacity(faults.len());
    for turn in [false, true] {
        for (place, (fault, later)) in faults.iter().zip(&later).enumerate() {
            if *later != turn {
                continue;
            }
            let value = json!({ "index": fault.index, "field": fault.field, "reason": fault.reason });
            let bytes = value.to_string().len().saturating_add(1);
            if let Some(left) = room.checked_sub(bytes) {
                room = left;
                kept.push((place, value));
            }
        }
    }
    kept.sort_by_key(|(place, _)| *place);
    let left_off = faults.len().saturating_sub(kept.len());
    (kept.into_iter().map(|(_, value)| value).collect(), left_off)
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unreadable(reason) => Self::Unreadable(reason),
            Refused::TooMany { most } => Self::TooMany { most },
            Refused::Bad(faults) => Self::Events(faults),
        }
    }
}

impl From<IngressError> for Refusal {
    fn from(error: IngressError) -> Self {
        match error {
            IngressError::Busy => Self::Busy,
            IngressError::Log(reason) => Self::Log(reason),
            IngressError::Closed(reason) => Self::Closed(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(index: usize, reason: &str) -> BadEvent {
        BadEvent { index, field: "data.model".to_owned(), reason: reason.to_owned() }
    }

    fn answer(refusal: &Refusal) -> Value {
        serde_json::from_slice(&refusal.to_json()).unwrap()
    }

    #[test]
    fn every_refusal_has_the_members_that_clients_know_and_a_code_of_its_own() {
        let all = [
            Refusal::Unreadable("not JSON".into()),
            Refusal::Events(vec![fault(3, "is missing")]),
            Refusal::TooLarge { bytes: 2_000_000 },
            Refusal::TooMany { most: 1_000 },
            Refusal::Header("Nats-Expected-Stream".into()),
            Refusal::Subject(IdError::Length),
            Refusal::Busy,
            Refusal::Log("away".into()),
            Refusal::Closed("it is stopping".into()),
        ];
        for (refusal, err_code) in all.iter().zip(60_001..) {
            let answer = answer(refusal);
            let error = answer["error"].as_object().unwrap();
            assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "description", "err_code"]);
            assert_eq!(error["err_code"], err_code);
            assert_eq!(error["code"], refusal.code());
            assert!(answer.get("stream").is_none() && answer.get("seq").is_none());
        }
        assert_eq!(
            answer(&all[1])["errors"],
            json!([{ "index": 3, "field": "data.model", "reason": "is missing" }])
        );
    }

    #[test]
    fn descriptions_and_lists_are_bounded_and_every_bad_event_is_named() {
        let long = Refusal::Unreadable("ä".repeat(10_000));
        assert!(long.description().len() <= DESCRIPTION_MAX);
        let faults = (0..1_000).flat_map(|index| (0..16).map(move |_| fault(index, &"\u{1}".repeat(60))));
        let refusal = Refusal::Events(faults.collect());
        assert!(refusal.to_json().len() < ERRORS_MAX + 2_000);
        let answer = answer(&refusal);
        let listed = answer["errors"].as_array().unwrap();
        let mut indices: Vec<u64> = listed.iter().map(|error| error["index"].as_u64().unwrap()).collect();
        assert!(indices.is_sorted());
        indices.dedup();
        assert_eq!(indices, (0..1_000).collect::<Vec<_>>());
        assert_eq!(answer["errors_left_off"], 16_000 - listed.len());
    }
}
