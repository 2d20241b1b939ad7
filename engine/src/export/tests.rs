use bytes::Bytes;
use tollbook_schemas::codec;
use tollbook_schemas::entry::{Actor, Idempotency};
use tollbook_schemas::event::OrganizationEvent;
use tollbook_schemas::event::PartitionEvent;
use tollbook_schemas::id::{DisplayName, LedgerId, MemberId, NodeName};
use tollbook_schemas::position::{EntryId, WriterId};
use tollbook_schemas::sealed::Sealed;
use tollbook_schemas::time::Zone;

use super::*;

#[path = "../../../schemas/tests/samples/mod.rs"]
mod samples;

const PARTITION: PartitionId = PartitionId(0);
const BEGIN: &str = "2026-11-20T10:00:00Z";

fn ledger() -> Ledger {
    Ledger { id: LedgerId::from_bits(7), currency: "USD".into(), partitions: 1 }
}

/// A log that is written and exported at once.
struct Log {
    ledger: Ledger,
    wanted: Wanted,
    messages: Vec<(String, Vec<u8>)>,
    count: u64,
    now: Timestamp,
}

impl Log {
    /// Begins with the ledger's creation and a node that takes over.
    fn new() -> Self {
        let now = BEGIN.parse().unwrap();
        let (ledger, wanted) = (ledger(), Wanted::default());
        let mut log = Self { ledger, wanted, messages: Vec::new(), count: 0, now };
        let Ledger { id: ledger, currency, partitions } = log.ledger.clone();
        let created = ConfigEvent::LedgerCreated { ledger, currency, partitions };
        log.decide(&Topic::Config, 0, Cause::Takeover, vec![Event::Config(created)]);
        log.take_over(1);
        log
    }

    fn append(&mut self, topic: &Topic, body: Body) {
        self.count += 1;
        let id = EntryId {
            ledger: self.ledger.id.clone(),
            partition: PARTITION,
            writer: WriterId(0xabc),
            count: self.count,
        };
        let entry = Entry { id, recorded_at: self.now, body };
        self.messages.push((topic.subject(PARTITION), codec::encode_entry(&entry).unwrap()));
    }

    fn decide(&mut self, topic: &Topic, term: u64, cause: Cause, events: Vec<Event>) {
        let decision = Decision { term, actor: Actor::Engine, cause, events };
        self.append(topic, Body::Decision(decision));
    }

    fn take_over(&mut self, term: u64) {
        let node = NodeName::parse("node1").unwrap();
        let taken = PartitionEvent::OwnershipTaken { term, node, zone_database: "2026e".into() };
        self.decide(&Topic::Config, term, Cause::Takeover, vec![Event::Partition(taken)]);
    }

    fn limit_removed(&mut self, organization: u128, term: u64) {
        let event = Event::Organization(OrganizationEvent::CreditLimitSet { limit: None });
        let idempotency = Some(Idempotency { key: [0xee; 16], content: [0xee; 16] });
        let topic = Topic::Organization(OrgId::from_bits(organization));
        self.decide(&topic, term, Cause::Command { idempotency }, vec![event]);
    }

    fn lines(&self) -> Vec<String> {
        let mut export = Export::new(&self.ledger, PARTITION, &self.wanted);
        let mut lines = vec![export.head().unwrap()];
        for (position, (subject, payload)) in (1..).zip(&self.messages) {
            lines.extend(export.line(Position(position), subject, payload).unwrap());
        }
        lines
    }

    /// Position and status of every line but the first.
    fn statuses(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let lines = self.lines().into_iter().skip(1);
        let read = lines.map(|line| serde_json::from_str(&line).unwrap());
        read.map(|line: Value| (text(&line["position"]), text(&line["status"]))).collect()
    }

    fn positions(&mut self, wanted: Wanted) -> Vec<String> {
        self.wanted = wanted;
        self.statuses().into_iter().map(|(position, _)| position).collect()
    }
}

#[test]
fn lines_are_as_documented() {
    let mut log = Log::new();
    log.limit_removed(1, 1);
    log.append(&Topic::Usage(OrgId::from_bits(1)), Body::Usage(samples::batch()));
    log.append(
        &Topic::UsageMixed,
        Body::Unreadable(vec![Unreadable {
            organization: None,
            reason: "not JSON".into(),
            ingress: Ingress::Spool { sequence: 9, subject: "tollbook.spool.org_1".into() },
            bytes: Bytes::from_static(b"{"),
        }]),
    );
    log.messages.push(("elsewhere".into(), b"anything".to_vec()));
    let golden = include_str!("golden.jsonl");
    let lines = log.lines();
    assert_eq!(lines, golden.lines().collect::<Vec<_>>(), "\n{}\n", lines.join("\n"));
}

#[test]
fn entries_are_told_apart_as_the_fold_tells_them() {
    let mut log = Log::new();
    log.limit_removed(1, 1);
    let copied = log.messages[2].clone();
    log.messages.push(copied);
    log.take_over(2);
    log.limit_removed(1, 1);
    log.take_over(2);
    log.limit_removed(1, 2);
    log.messages.push(("tollbook.log.0.config".into(), b"no entry".to_vec()));
    let expected = [
        ("0-1", "applied"),
        ("0-2", "applied"),
        ("0-3", "applied"),
        ("0-4", "copy"),
        ("0-5", "applied"),
        ("0-6", "voided"),
        ("0-7", "voided"),
        ("0-8", "applied"),
        ("0-9", "foreign"),
    ];
    assert_eq!(log.statuses(), expected.map(|(at, status)| (at.to_owned(), status.to_owned())));
}

#[test]
fn nothing_counts_before_the_ledger_is_created() {
    let mut log = Log::new();
    let created = log.messages.remove(0);
    log.messages.push(created);
    let statuses: Vec<String> = log.statuses().into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, ["foreign", "applied"]);
}

#[test]
fn only_what_is_wanted_is_written() {
    let mut log = Log::new();
    log.limit_removed(1, 1);
    log.now = log.now.plus_seconds(60);
    log.limit_removed(2, 1);
    let late: Vec<Usage> =
        [1, 2, 1].map(|org| Usage { organization: OrgId::from_bits(org), ..samples::usage() }).into();
    let mut builder = tollbook_schemas::batch::BatchBuilder::new(log.now);
    late.iter().for_each(|usage| builder.push(usage));
    log.append(&Topic::UsageMixed, Body::Usage(builder.finish()));
    // Clocks went back: the books go by the latest time so far.
    log.now = log.now.plus_seconds(-60);
    log.limit_removed(1, 1);
    let two = || Some(OrgId::from_bits(2));
    let at = |text: &str| Some(text.parse::<Point>().unwrap());
    let all = |organization, from, to| Wanted { organization, from, to };
    assert_eq!(log.positions(all(two(), None, None)), ["0-1", "0-2", "0-4", "0-5"]);
    let rows: Value = serde_json::from_str(&log.lines()[4]).unwrap();
    let rows: Vec<(u64, &str)> = rows["usage"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["row"].as_u64().unwrap(), row["organization"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [(1, "org_00000000000000000000000002")]);
    assert_eq!(log.positions(all(None, at("2026-11-20T10:01:00Z"), None)), ["0-4", "0-5", "0-6"]);
    assert_eq!(log.positions(all(None, None, at("2026-11-20T10:01:00Z"))), ["0-1", "0-2", "0-3"]);
    assert_eq!(log.positions(all(None, at("0-2"), at("0-4"))), ["0-2", "0-3"]);
}

#[test]
fn partitions_that_cannot_hold_what_is_wanted_are_left_out() {
    let which = |wanted: Wanted| {
        let concerned = (0..7).filter(|partition| wanted.concerns(PartitionId(*partition), 7));
        concerned.collect::<Vec<_>>()
    };
    let point = |text: &str| text.parse::<Point>().ok();
    assert_eq!(which(Wanted::default()), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(which(Wanted { organization: Some(OrgId::from_bits(1)), ..Wanted::default() }), [6]);
    assert_eq!(which(Wanted { from: point("3-17"), ..Wanted::default() }), [3]);
    assert_eq!(which(Wanted { from: point("3-17"), to: point("4-1"), ..Wanted::default() }), [0; 0]);
    assert_eq!(which(Wanted { from: point("2026-11-20T10:00:00Z"), ..Wanted::default() }).len(), 7);
    assert_eq!("yesterday".parse::<Point>(), Err(PointError));
}

#[test]
fn r9_1_no_personal_data_no_ciphertext_and_no_hash_of_a_secret_is_exported() {
    let mut log = Log::new();
    for samples::Sample { value, .. } in samples::entries() {
        let topic = match &value.body {
            Body::Usage(_) => Topic::Usage(OrgId::from_bits(1)),
            Body::Unreadable(_) => Topic::UsageMixed,
            Body::Decision(_) => Topic::Organization(OrgId::from_bits(1)),
        };
        log.append(&topic, value.body);
    }
    let personal = Sealed { key: 0, ciphertext: Bytes::from_static(b"ada@example.com") };
    let registered = OrganizationEvent::Registered {
        name: DisplayName::parse("Acme").unwrap(),
        email: personal.clone(),
        creator: MemberId::from_bits(1),
        creator_name: personal.clone(),
        creator_email: personal,
        zone: Zone::utc(),
    };
    let topic = Topic::Organization(OrgId::from_bits(3));
    log.decide(&topic, 1, Cause::Timer, vec![Event::Organization(registered)]);
    log.limit_removed(1, 1);
    let lines = log.lines();
    assert_eq!(lines.len(), log.messages.len() + 1);
    for line in lines {
        // Ciphertext [1, 2, 3, 255], secrets' hashes [7; 32], idempotency [0xee; 16], kept members, as the samples have.
        for secret in
            ["1,2,3,255", "010203ff", "7,7,7,7", "07070707", "238,238", "eeeeeeee", "ada@", "traceparent"]
        {
            assert!(!line.contains(secret), "{secret} in {line}");
        }
    }
}
