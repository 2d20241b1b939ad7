//! What one message brings, for senders who wait and for those who do not.

use async_nats::HeaderMap;
use bytes::Bytes;
use futures_util::future::try_join_all;
use serde_json::value::RawValue;
use tollbook_schemas::cloudevent::{self, EVENTS_MAX, Payload, Refused};
use tollbook_schemas::id::OrgId;
use tollbook_schemas::time::Timestamp;
use tollbook_schemas::usage::{Ingress, USAGE_BYTES_MAX, Unreadable, Usage};

use super::PAYLOAD_MAX;
use super::refusal::Refusal;
use crate::ingress::IngressError;
use crate::metrics;
use crate::node::Node;

/// Headers that ask a stream for what the log cannot do for an outsider: conditions, atomic batches, expiry, removal of
/// earlier messages, delivery later, counters. Whoever set them would be promised something that does not happen.
const UNSUPPORTED: [&str; 6] =
    ["nats-expected-", "nats-batch-", "nats-ttl", "nats-rollup", "nats-schedule", "nats-incr"];

/// One message as it came.
#[derive(Debug)]
pub(super) struct Delivery {
    /// As published: `tollbook.usage.<org>` or `tollbook.spool.<org>`.
    pub(super) subject: String,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
    pub(super) arrived: Timestamp,
}

/// What becomes of a message that nobody waits for.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    pub(super) good: Vec<Usage>,
    pub(super) refused: Vec<Unreadable>,
}

impl Delivery {
    /// The usage, all of it or none. Checks in the order of their cost.
    pub(super) fn read(&self) -> Result<Vec<Usage>, Refusal> {
        self.check_headers()?;
        if self.payload.len() > PAYLOAD_MAX {
            return Err(Refusal::TooLarge { bytes: self.payload.len() });
        }
        let organization = self.organization()?;
        Ok(self.parse(&self.payload, Payload::Either, &organization)?)
    }

    /// The usage that is good, and what else there is, for quarantine. Facts are kept (R8.1): one bad event takes none of
    /// its neighbours with it where nobody would send them again.
    pub(super) fn sort(&self, ingress: &Ingress) -> Sorted {
        let organization = match self.organization() {
            Ok(organization) => organization,
            Err(refusal) => return self.all_refused(None, &refusal, ingress),
        };
        // The spool's own stream has seen to its headers.
        let headers = match ingress {
            Ingress::Nats { .. } => self.check_headers(),
            Ingress::Spool { .. } | Ingress::Http | Ingress::Import => Ok(()),
        };
        if let Err(refusal) = headers {
            return self.all_refused(Some(organization), &refusal, ingress);
        }
        match self.parse(&self.payload, Payload::Either, &organization) {
            Ok(good) => Sorted { good, refused: Vec::new() },
            Err(Refused::Unreadable(reason)) => {
                self.all_refused(Some(organization), &Refusal::Unreadable(reason), ingress)
            }
            Err(refused @ (Refused::TooMany { .. } | Refused::Bad(_))) => {
                self.sort_each(organization, refused.into(), ingress)
            }
        }
    }

    fn sort_each(&self, organization: OrgId, whole: Refusal, ingress: &Ingress) -> Sorted {
        let Some(events) = split(&self.payload) else {
            return self.all_refused(Some(organization), &whole, ingress);
        };
        let mut sorted = Sorted::default();
        let mut bad: usize = 0;
        for (index, event) in events.iter().enumerate() {
            let bytes = event.get().as_bytes();
            match self.parse(bytes, Payload::One, &organization) {
                Ok(usage) => sorted.good.extend(usage),
                Err(refused) => {
                    bad = bad.saturating_add(1);
                    if bad <= EVENTS_MAX {
                        let refusal = at_index(refused, index);
                        sorted.refused.push(kept(bytes, Some(&organization), &refusal, ingress));
                    }
                }
            }
        }
        // Small events, many of them bad: their beginning says what they are, and the log is for ever.
        if bad > EVENTS_MAX {
            sorted.refused = self.all_refused(Some(organization), &whole, ingress).refused;
        }
        sorted
    }

    fn all_refused(&self, organization: Option<OrgId>, refusal: &Refusal, ingress: &Ingress) -> Sorted {
        let refused = kept(&self.payload, organization.as_ref(), refusal, ingress);
        Sorted { good: Vec::new(), refused: vec![refused] }
    }

    fn parse(&self, bytes: &[u8], payload: Payload, organization: &OrgId) -> Result<Vec<Usage>, Refused> {
        let usage = cloudevent::parse(bytes, payload, self.arrived, Some(organization))?;
        // An acknowledgement names an entry, and there would be none.
        if usage.is_empty() { Err(Refused::Unreadable("holds no events".to_owned())) } else { Ok(usage) }
    }

    fn organization(&self) -> Result<OrgId, Refusal> {
        let last = self.subject.rsplit('.').next().unwrap_or_default();
        OrgId::parse(last).map_err(Refusal::Subject)
    }

    fn check_headers(&self) -> Result<(), Refusal> {
        let names = self.headers.iter().flat_map(HeaderMap::iter).map(|(name, _)| name.to_string());
        let mut unsupported: Vec<String> = names
            .filter(|name| {
                let name = name.to_ascii_lowercase();
                UNSUPPORTED.iter().any(|prefix| name.starts_with(prefix))
            })
            .collect();
        unsupported.sort();
        unsupported.into_iter().next().map_or(Ok(()), |name| Err(Refusal::Header(name)))
    }
}

impl Sorted {
    /// Writes all of it, and answers when it is durable. After an error all of it may be taken again: good events are
    /// recognized, refused ones stand twice in quarantine.
    pub(super) async fn take(self, node: &Node, way: &'static str) -> Result<(), IngressError> {
        let (good, refused) = (self.good.len(), self.refused.len());
        let book = async {
            if good > 0 {
                node.submit(self.good).await?;
            }
            Ok(())
        };
        let quarantine = try_join_all(self.refused.into_iter().map(|refused| node.quarantine(refused)));
        tokio::try_join!(book, quarantine)?;
        if good > 0 {
            metrics::received(way, "accepted", good);
        }
        if refused > 0 {
            metrics::received(way, "quarantined", refused);
        }
        Ok(())
    }
}

/// The events of a payload that is one or an array of them.
fn split(payload: &[u8]) -> Option<Vec<&RawValue>> {
    let start = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    if start == Some(&b'[') {
        serde_json::from_slice(payload).ok()
    } else {
        serde_json::from_slice(payload).ok().map(|event| vec![event])
    }
}

/// An event that was read alone has its place in the message again.
fn at_index(refused: Refused, index: usize) -> Refusal {
    match refused {
        Refused::Unreadable(reason) => Refusal::Unreadable(format!("event {index}: {reason}")),
        Refused::TooMany { most } => Refusal::TooMany { most },
        Refused::Bad(mut faults) => {
            for fault in &mut faults {
                fault.index = index;
            }
            Refusal::Events(faults)
        }
    }
}

fn kept(bytes: &[u8], organization: Option<&OrgId>, refusal: &Refusal, ingress: &Ingress) -> Unreadable {
    Unreadable {
        organization: organization.cloned(),
        reason: refusal.description(),
        ingress: ingress.clone(),
        // A copy, so that a small piece does not hold the whole message.
        bytes: Bytes::copy_from_slice(bytes.get(..USAGE_BYTES_MAX).unwrap_or(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event(id: usize) -> Value {
        json!({ "specversion": "1.0", "id": format!("{id}"), "source": "s", "type": "tollbook.usage.v1",
            "subject": "org_a", "data": { "project": "proj_a", "model": "m", "input_tokens": 1, "output_tokens": 1 } })
    }

    fn delivery(subject: &str, payload: impl Into<Bytes>) -> Delivery {
        let arrived = Timestamp::from_seconds(1_800_000_000);
        Delivery { subject: subject.to_owned(), headers: None, payload: payload.into(), arrived }
    }

    fn spool() -> Ingress {
        Ingress::Spool { sequence: 7, subject: "tollbook.spool.org_a".to_owned() }
    }

    fn reasons(sorted: &Sorted) -> Vec<&str> {
        sorted.refused.iter().map(|refused| refused.reason.as_str()).collect()
    }

    #[test]
    fn headers_that_cannot_be_honoured_are_refused_whatever_their_spelling() {
        for name in
            ["Nats-Expected-Last-Msg-Id", "nats-expected-stream", "Nats-Batch-Id", "Nats-TTL", "Nats-Rollup"]
        {
            let mut message = delivery("tollbook.usage.org_a", event(1).to_string());
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Msg-Id", "1");
            headers.insert(name, "x");
            message.headers = Some(headers);
            assert_eq!(message.read(), Err(Refusal::Header(name.to_owned())));
        }
    }

    #[test]
    fn checks_come_in_order() {
        let large = " ".repeat(PAYLOAD_MAX + 1);
        assert_eq!(
            delivery("tollbook.usage.acme", large).read(),
            Err(Refusal::TooLarge { bytes: PAYLOAD_MAX + 1 })
        );
        assert!(matches!(delivery("tollbook.usage.acme", "{").read(), Err(Refusal::Subject(_))));
        assert!(matches!(delivery("tollbook.usage.org_a", "{").read(), Err(Refusal::Unreadable(_))));
        assert_eq!(
            delivery("tollbook.usage.org_a", "[]").read(),
            Err(Refusal::Unreadable("holds no events".to_owned()))
        );
        assert!(matches!(
            delivery("tollbook.usage.org_b", event(1).to_string()).read(),
            Err(Refusal::Events(_))
        ));
        assert_eq!(
            delivery("tollbook.usage.org_a", event(1).to_string()).read().map(|usage| usage.len()),
            Ok(1)
        );
    }

    #[test]
    fn r8_1_where_nobody_waits_one_bad_event_takes_no_other_with_it() {
        let mut bad = event(2);
        bad["data"]["input_tokens"] = json!(-1);
        let mut foreign = event(3);
        foreign["subject"] = json!("org_b");
        let batch = json!([event(1), bad, 5, foreign, event(4)]);
        let sorted = delivery("tollbook.spool.org_a", batch.to_string()).sort(&spool());
        assert_eq!(sorted.good.iter().map(|usage| usage.id.as_str()).collect::<Vec<_>>(), ["1", "4"]);
        assert_eq!(sorted.refused.len(), 3);
        assert!(reasons(&sorted)[0].starts_with("event 1: data.input_tokens"), "{:?}", reasons(&sorted));
        assert_eq!(sorted.refused[0].bytes, bad.to_string());
        assert_eq!(sorted.refused[1].bytes, "5");
        assert_eq!(sorted.refused[2].organization, OrgId::parse("org_a").ok());
    }

    #[test]
    fn too_many_good_events_are_booked_where_nobody_waits() {
        let batch = Value::Array((0..EVENTS_MAX + 1).map(event).collect());
        let sorted = delivery("tollbook.spool.org_a", batch.to_string()).sort(&spool());
        assert_eq!((sorted.good.len(), sorted.refused.len()), (EVENTS_MAX + 1, 0));
    }

    #[test]
    fn many_bad_events_are_one_record() {
        let batch = format!("[{}1]", "1,".repeat(100_000));
        let sorted = delivery("tollbook.spool.org_a", batch.clone()).sort(&spool());
        assert_eq!(sorted.refused.len(), 1);
        assert_eq!(sorted.refused[0].bytes, batch.as_bytes()[..USAGE_BYTES_MAX]);
    }

    #[test]
    fn what_is_no_usage_at_all_is_kept_as_it_is() {
        for (subject, payload) in [
            ("tollbook.spool.org_a", "garbage"),
            ("tollbook.spool.org_a", ""),
            ("tollbook.spool.org_a", "[1,2"),
            ("tollbook.spool.acme", "{}"),
        ] {
            let sorted = delivery(subject, payload).sort(&spool());
            assert_eq!((sorted.good.len(), sorted.refused.len()), (0, 1), "{payload}");
            assert_eq!(sorted.refused[0].bytes, payload);
        }
    }
}
