//! What is read, what is refused and in which words, and that both ways of reading agree.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::kept::{self, Members};
use super::*;
use crate::amount::Amount;
use crate::id::{KeyId, MeterName, ModelName, ProjectId, SourceName};
use crate::usage::{Extras, QUANTITY_MAX, Tokens};

fn arrived() -> Timestamp {
    "2026-11-20T10:00:05Z".parse().unwrap()
}

fn event() -> Value {
    json!({
        "specversion": "1.0", "id": "req-7f3", "source": "gateway-eu-1", "type": "tollbook.usage.v1",
        "subject": "org_acme", "time": "2026-11-20T10:00:00Z", "producerseq": "4711",
        "data": {
            "api_key_id": "ak_1", "model": "kimi-k2.5", "input_tokens": 1200, "cached_input_tokens": 800,
            "output_tokens": 310, "lease": "lease_9"
        }
    })
}

fn read(text: &str, payload: Payload) -> Result<Vec<Usage>, Refused> {
    parse(text.as_bytes(), payload, arrived(), None)
}

/// Both ways over one event.
fn both(text: &str) -> (Option<Usage>, Result<Usage, Vec<explain::Fault>>) {
    let context = Context { arrived: arrived(), latest: arrived().plus_seconds(300), subject: None };
    let quick = serde_json::from_str::<fast::Event<'_>>(text).ok();
    (quick.and_then(|event| event.usage(&context, None)), explain::explain(text, &context))
}

/// Sets a member by its path; `remove` takes it away.
#[track_caller]
fn set(event: &mut Value, path: &str, to: &str) {
    let (parent, member) = path.rsplit_once('.').map_or(("", path), |(parent, member)| (parent, member));
    let parent = if parent.is_empty() { event } else { event.get_mut(parent).unwrap() };
    match to {
        "remove" => parent.as_object_mut().unwrap().remove(member),
        to => parent.as_object_mut().unwrap().insert(member.to_owned(), serde_json::from_str(to).unwrap()),
    };
}

/// `path = JSON -> ok`, or `-> field reason`.
#[track_caller]
fn check(rows: &str) {
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (change, expected) = row.split_once(" -> ").expect(row);
        let (path, to) = change.split_once(" = ").expect(row);
        let mut event = event();
        set(&mut event, path, to.trim());
        let got = match read(&event.to_string(), Payload::One) {
            Ok(usages) if usages.len() == 1 => "ok".to_owned(),
            Ok(usages) => format!("{} records", usages.len()),
            Err(Refused::Bad(bad)) => {
                let said: Vec<_> = bad.iter().map(|bad| format!("{} {}", bad.field, bad.reason)).collect();
                said.join("; ")
            }
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(got, expected, "in row: {row}");
    }
}

#[test]
fn r8_1_a_usual_event_is_read_the_fast_way() {
    let usage = Usage {
        organization: OrgId::parse("org_acme").unwrap(),
        charged: Charged::Key(KeyId::parse("ak_1").unwrap()),
        model: ModelName::parse("kimi-k2.5").unwrap(),
        source: SourceName::parse("gateway-eu-1").unwrap(),
        id: "req-7f3".into(),
        occurred: Occurred::Given("2026-11-20T10:00:00Z".parse().unwrap()),
        producerseq: Some(4711),
        tokens: Tokens { input: 1200, cached_input: 800, output: 310 },
        extras: Some(Box::new(Extras { lease: Some("lease_9".into()), ..Extras::default() })),
    };
    let text = event().to_string();
    assert_eq!(both(&text).0.as_ref(), Some(&usage));
    assert_eq!(read(&text, Payload::Either), Ok(vec![usage.clone()]));
    // Nulls, meters, a cost and unknown members are usual too: explaining takes four times as long.
    let mut more = event();
    for (path, to) in [("datacontenttype", "null"), ("dataschema", "\"x\""), ("data.project", "null")] {
        set(&mut more, path, to);
    }
    for (path, to) in [("data.meters", r#"{"image":2}"#), ("data.cost", "\"1.5\""), ("data.seed", "1e2")] {
        set(&mut more, path, to);
    }
    assert!(both(&more.to_string()).0.is_some());
    let batch = format!(" [\n{text} ,\t{text}]\r\n");
    assert_eq!(read(&batch, Payload::Batch), Ok(vec![usage.clone(), usage]));
    assert_eq!(read("[ ]", Payload::Either), Ok(vec![]));
}

#[test]
fn r8_1_each_member_is_checked() {
    check(
        r#"
        specversion = remove -> specversion is missing
        specversion = "0.3" -> specversion must be "1.0"
        specversion = 1.0 -> specversion must be a string
        type = "com.example" -> type must be "tollbook.usage.v1"
        id = remove -> id is missing
        id = "" -> id must not be empty
        id = "a\nb" -> id must not hold control characters
        id = "a\u0085b" -> id must not hold control characters
        id = "Ünïcödé" -> ok
        source = "" -> source must not be empty
        source = null -> source is missing
        source = "//a/b?c=ü" -> ok
        subject = "acme" -> subject must begin with `org_`
        subject = "org_a.b" -> subject may hold only ASCII letters, digits, `_` and `-` after `org_`
        time = null -> ok
        time = remove -> ok
        time = "2026-11-20T11:00:00.123456789+01:00" -> ok
        time = "2026-11-20T10:05:05Z" -> ok
        time = "2026-11-20T10:05:05.000000001Z" -> time is more than 5 minutes ahead of its arrival
        time = "1969-12-31T23:59:59.999Z" -> time must not be before 1970
        time = "2026-11-20 10:00:00Z" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = "2026-11-20T10:00Z" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = "2026-11-20t10:00:00z" -> ok
        time = "2026-11-20T10:00:00.1234567891Z" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = "2026-11-20T10:00:00+99:00" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = "2026-02-30T10:00:00Z" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = "2026-11-20T10:00:00.Z" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = "2026-11-20T10:00:00+01:00[Europe/Berlin]" -> time must be an RFC 3339 time such as 2026-11-20T10:00:00Z
        time = 1763632800 -> time must be a string
        datacontenttype = null -> ok
        datacontenttype = "application/json; charset=utf-8" -> ok
        datacontenttype = "text/xml" -> datacontenttype must be application/json
        producerseq = null -> ok
        producerseq = "18446744073709551615" -> ok
        producerseq = 4711 -> producerseq must be a string
        producerseq = "0" -> producerseq must be a whole number from 1 to 18446744073709551615 in a string, such as "4711"
        producerseq = "" -> producerseq must be a whole number from 1 to 18446744073709551615 in a string, such as "4711"
        producerseq = "+1" -> producerseq must be a whole number from 1 to 18446744073709551615 in a string, such as "4711"
        producerseq = "007" -> producerseq must be a whole number from 1 to 18446744073709551615 in a string, such as "4711"
        producerseq = "18446744073709551616" -> producerseq must be a whole number from 1 to 18446744073709551615 in a string, such as "4711"
        data_base64 = "e30=" -> data_base64 is not read; send a JSON object in `data`
        data = remove -> data is missing
        data = [] -> data must be a JSON object
        data.api_key_id = remove -> data must name api_key_id or project
        data.api_key_id = "proj_1" -> data.api_key_id must begin with `ak_`
        data.project = "proj_1" -> data must name either api_key_id or project, not both
        data.project = null -> ok
        data.model = remove -> data.model is missing
        data.model = "a\tb" -> data.model must not hold control characters
        data.input_tokens = remove -> data.input_tokens is missing
        data.input_tokens = "12" -> data.input_tokens must be a whole number
        data.input_tokens = -1 -> data.input_tokens must not be negative
        data.input_tokens = 1.5 -> data.input_tokens must be a whole number, without fraction or exponent
        data.input_tokens = 1000000000000 -> ok
        data.input_tokens = 1000000000001 -> data.input_tokens must be at most 1000000000000
        data.input_tokens = 799 -> data.cached_input_tokens must be at most input_tokens, which includes the cached ones
        data.cached_input_tokens = null -> ok
        data.output_tokens = null -> data.output_tokens is missing
        data.output_tokens = true -> data.output_tokens must be a whole number
        data.meters = {"image":2,"audio":0} -> ok
        data.meters = [] -> data.meters must be a JSON object
        data.meters = {"image":-2,"":1} -> data.meters. must not be empty; data.meters.image must not be negative
        data.lease = "" -> data.lease must not be empty
        data.lease = 7 -> data.lease must be a string
        data.request_id = "r-1" -> ok
        data.cost = "0.000000000001" -> ok
        data.cost = "0.0000000000001" -> data.cost must have at most 12 decimal places
        data.cost = "-1" -> data.cost must not be negative
        data.cost = 1.5 -> data.cost must be a string
        traceparent = "00-1-2-01" -> ok
        data.temperature = 0.7 -> ok
        data.unknown = {"a":[1,{"b":null}]} -> ok
        "#,
    );
}

#[test]
fn r8_1_what_is_too_long_is_refused() {
    let long = |length: usize| format!("\"{}\"", "x".repeat(length));
    check(&format!("id = {} -> ok", long(256)));
    check(&format!("id = {} -> id must be at most 256 bytes", long(257)));
    check(&format!("source = {} -> source must be at most 256 bytes", long(257)));
    check(&format!("data.request_id = {} -> data.request_id must be at most 128 bytes", long(129)));
    check(&format!(
        "note = {} -> event holds 4119 bytes of unknown members; at most 4096 are kept",
        long(4093)
    ));
    check(&format!("note = {} -> ok", long(4070)));
    let meters: Vec<String> = (0..=METERS_MAX).map(|number| format!("\"m{number}\":1")).collect();
    check(&format!("data.meters = {{{}}} -> data.meters must hold at most 32 meters", meters.join(",")));
    // As sent: white space counts.
    let text = event().to_string();
    let padded = |spaces: usize| format!("{}{}}}", &text[..text.len() - 1], " ".repeat(spaces));
    assert!(read(&padded(USAGE_BYTES_MAX - text.len()), Payload::One).is_ok());
    let said = read(&padded(USAGE_BYTES_MAX - text.len() + 1), Payload::One).unwrap_err().to_string();
    assert_eq!(said, "event 0: event has 16385 bytes; at most 16384 are allowed");
    let around = format!("{}{text}{}", " ".repeat(20_000), " ".repeat(20_000));
    assert!(read(&around, Payload::One).is_ok(), "white space around an event is not of it");
}

#[test]
fn r8_1_absurd_numbers_are_faults_of_their_event_only() {
    for (number, reason) in [
        ("1e400", "must be a whole number, without fraction or exponent"),
        ("1e3", "must be a whole number, without fraction or exponent"),
        ("-0", "must not be negative"),
        ("99999999999999999999999999", "must be at most 1000000000000"),
        ("-99999999999999999999999999", "must not be negative"),
        ("-1e-400", "must be a whole number, without fraction or exponent"),
    ] {
        let bad = event().to_string().replace(":1200", &format!(":{number}"));
        let body = format!("[{},{bad}]", event());
        let expected = BadEvent { index: 1, field: "data.input_tokens".into(), reason: reason.into() };
        assert_eq!(read(&body, Payload::Batch), Err(Refused::Bad(vec![expected])), "{number}");
    }
    check("data.x = 123456789012345678901234567890 -> ok");
    let bad = event().to_string().replace("\"lease\":", "\"far\":1e400,\"lease\":");
    let said = read(&bad, Payload::One).unwrap_err().to_string();
    assert_eq!(said, "event 0: data holds an unknown member with a number that is out of range");
}

#[test]
fn r8_1_repeated_members_are_refused() {
    let text = event().to_string();
    for (from, to, field, reason) in [
        ("\"id\":", "\"id\":\"x\",\"id\":", "event", "holds `id` more than once"),
        ("\"id\":", "\"\\u0069d\":\"x\",\"id\":", "event", "holds `id` more than once"),
        (
            "\"id\":",
            "\"trace\":null,\"id\":\"x\",\"trace\":1,\"i\":",
            "event",
            "holds `trace` more than once",
        ),
        ("\"lease\":", "\"lease\":null,\"lease\":", "data", "holds `lease` more than once"),
        ("\"lease\":", "\"a\":{\"b\":1,\"b\":2},\"lease\":", "data", "holds `b` more than once"),
        ("\"lease\":", "\"meters\":{\"i\":1,\"i\":1},\"lease\":", "data.meters", "holds `i` more than once"),
    ] {
        let expected = BadEvent { index: 0, field: field.into(), reason: reason.into() };
        assert_eq!(read(&text.replace(from, to), Payload::One), Err(Refused::Bad(vec![expected])), "{to}");
    }
}

#[test]
fn r8_1_every_bad_event_is_named() {
    let mut first = event();
    set(&mut first, "data.output_tokens", "-1");
    set(&mut first, "subject", "\"acme\"");
    let body = format!("[{first},{},7,{{}},null]", event());
    let Err(Refused::Bad(bad)) = read(&body, Payload::Either) else { panic!("not refused") };
    let said: Vec<_> = bad.iter().map(|bad| format!("{} {} {}", bad.index, bad.field, bad.reason)).collect();
    assert_eq!(
        said,
        [
            "0 subject must begin with `org_`",
            "0 data.output_tokens must not be negative",
            "2 event must be a JSON object",
            "3 specversion is missing",
            "3 type is missing",
            "3 id is missing",
            "3 source is missing",
            "3 subject is missing",
            "3 data is missing",
            "4 event must be a JSON object",
        ]
    );
}

#[test]
fn r8_1_what_is_not_a_body_is_unreadable() {
    let text = event().to_string();
    for (body, payload, expected) in [
        (text.clone(), Payload::Batch, "must be a JSON array of events"),
        (format!("[{text}]"), Payload::One, "must be one JSON object"),
        ("7".into(), Payload::Either, "must be a JSON object or an array of them"),
        (String::new(), Payload::Either, "not JSON: EOF while parsing a value at line 1 column 0"),
        (format!("{text}x"), Payload::One, "not JSON: trailing characters at line 1 column 293"),
        (format!("[{text},]"), Payload::Batch, "not JSON: expected value at line 1 column 295"),
        (format!("[\n{text}\n,"), Payload::Batch, "not JSON: EOF while parsing a value at line 3 column 1"),
        (format!("[{text} {text}]"), Payload::Batch, "not JSON: expected `,` or `]` at line 1 column 295"),
        (text[..50].into(), Payload::One, "not JSON: EOF while parsing an object at line 1 column 50"),
    ] {
        match read(&body, payload) {
            Err(Refused::Unreadable(reason)) => assert_eq!(reason, expected, "{body}"),
            other => panic!("{body}: {other:?}"),
        }
    }
    let not_text = parse(b"{\"id\":\"\xff\"}", Payload::One, arrived(), None);
    assert_eq!(not_text, Err(Refused::Unreadable("not UTF-8 after byte 7".into())));
    let half = text.replace("req-7f3", "\\ud800");
    let said = read(&half, Payload::One).unwrap_err().to_string();
    assert_eq!(said, "event 0: id holds a string with an invalid escape");
    let deep =
        text.replace("\"lease\":", &format!("\"x\":{}{},\"lease\":", "[".repeat(3000), "]".repeat(3000)));
    let said = read(&deep, Payload::One).unwrap_err().to_string();
    assert_eq!(said, "event 0: data holds unknown members that are nested too deeply");
    assert!(matches!(read(&"[".repeat(1 << 20), Payload::Either), Err(Refused::Unreadable(_))));
}

#[test]
fn batches_end_at_a_thousand_events() {
    let text = event().to_string();
    let batch = |events: usize| format!("[{}]", vec![text.as_str(); events].join(","));
    assert_eq!(read(&batch(EVENTS_MAX), Payload::Batch).unwrap().len(), EVENTS_MAX);
    assert_eq!(read(&batch(EVENTS_MAX + 1), Payload::Batch), Err(Refused::TooMany { most: EVENTS_MAX }));
}

#[test]
fn r8_1_a_subject_must_agree_with_its_events() {
    let text = event().to_string();
    let org = |name: &str| OrgId::parse(name).unwrap();
    assert!(parse(text.as_bytes(), Payload::One, arrived(), Some(&org("org_acme"))).is_ok());
    let refused = parse(text.as_bytes(), Payload::One, arrived(), Some(&org("org_other"))).unwrap_err();
    assert_eq!(refused.to_string(), "event 0: subject must be org_other, as the subject says");
}

#[test]
fn r8_2_unknown_members_are_kept_in_one_form() {
    let text = event().to_string();
    let kept = |text: &str| read(text, Payload::One).unwrap()[0].extras.clone().unwrap().kept.unwrap();
    let first = text
        .replace("\"id\":", "\"b\":{\"y\":1.50,\"x\":[1, 2]},\"a\":\"\\u0041\",\"gone\":null,\"id\":")
        .replace("\"lease\":", "\"a\":null,\"lease\":");
    let again = text
        .replace("\"id\":", "\"a\" : \"A\" ,\"b\": {\"x\":[1,2],\"y\":15e-1},\"id\":")
        .replace("\"lease\":", "\"a\" : null,\"lease\":");
    assert_eq!(kept(&first), r#"{"attributes":{"a":"A","b":{"x":[1,2],"y":1.5}},"data":{"a":null}}"#);
    assert_eq!(kept(&first), kept(&again));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_kept() -> impl Strategy<Value = Option<String>> {
    let section = || prop::collection::btree_map("x[a-zü]{0,3}", any_json(), 0..3);
    (section(), section()).prop_map(|(attributes, data)| {
        let text = |section| serde_json::to_string(&section).unwrap();
        let (attributes, data) = (text(attributes), text(data));
        let members = |text| serde_json::from_str::<Members<'_>>(text).unwrap();
        kept::canonical(&members(&attributes), &members(&data)).unwrap_or_default()
    })
}

prop_compose! {
    fn any_extras()(
        lease in prop::option::of("[ -~]{1,128}"), request_id in prop::option::of("[a-zü]{1,40}"),
        cost in prop::option::of(0..i128::from(u64::MAX)), kept in any_kept(),
        meters in prop::collection::btree_map("[a-z_]{1,8}", 0..=QUANTITY_MAX, 0..4),
    ) -> Option<Box<Extras>> {
        let meters = meters.into_iter().map(|(name, units)| (MeterName::parse(&name).unwrap(), units)).collect();
        let cost = cost.and_then(Amount::from_units);
        let extras = Extras { lease, request_id, cost, meters, kept };
        (!extras.is_empty()).then(|| Box::new(extras))
    }
}

prop_compose! {
    fn any_usage()(
        org: u128, of: u128, by_key: bool, model in "[a-z][ -~]{0,20}", source in "[a-z:/ü\"\\\\]{1,40}",
        id in "[ -~ü€]{1,60}", at in 0..1_795_168_000_000_000_000i64, given: bool, seq in prop::option::of(1..=u64::MAX),
        input in 0..=QUANTITY_MAX, cached in 0.0..=1.0f64, output in 0..=QUANTITY_MAX, extras in any_extras(),
    ) -> Usage {
        Usage {
            organization: OrgId::from_bits(org),
            charged: if by_key {
                Charged::Key(KeyId::from_bits(of))
            } else {
                Charged::Project(ProjectId::from_bits(of))
            },
            model: ModelName::parse(&model).unwrap(),
            source: SourceName::parse(&source).unwrap(),
            id,
            occurred: if given { Occurred::Given(Timestamp::from_nanos(at)) } else { Occurred::Assumed(arrived()) },
            producerseq: seq,
            tokens: Tokens { input, cached_input: if cached < 0.5 { 0 } else { input / 2 }, output },
            extras,
        }
    }
}

proptest! {
    #[test]
    fn r8_1_what_is_written_reads_back(usages in prop::collection::vec(any_usage(), 1..4)) {
        let events: Vec<Value> = usages.iter().map(to_event).collect();
        prop_assert_eq!(read(&Value::from(events).to_string(), Payload::Batch), Ok(usages));
    }

    #[test]
    fn the_fast_way_is_only_faster(
        member in 0..30usize, inside: bool, value in any_json(), extra in any_kept(), cut in any::<prop::sample::Index>(),
    ) {
        let mut event = event();
        let names = [
            "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "producerseq", "data",
            "data_base64", "api_key_id", "project", "model", "input_tokens", "cached_input_tokens", "output_tokens",
            "meters", "lease", "request_id", "cost",
        ];
        let object = if inside { event.get_mut("data").unwrap() } else { &mut event };
        if let Some(name) = names.get(member) {
            object.as_object_mut().unwrap().insert((*name).to_owned(), value);
        }
        event["extra"] = json!(extra);
        let text = event.to_string();
        let (quick, explained) = both(&text);
        if let Some(usage) = quick {
            prop_assert_eq!(Some(usage), explained.ok());
        }
        // Whatever is cut off anywhere is refused and nothing worse.
        let bytes = text.as_bytes();
        prop_assert!(parse(&bytes[..cut.index(bytes.len())], Payload::Either, arrived(), None).is_err());
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(prop_oneof![
        any::<u8>(), prop::sample::select(b"{}[]\",:0e-\\ ".to_vec()),
    ], 0..200)) {
        let (mut first, text) = (bytes.clone(), event().to_string());
        let place = first.len() % text.len();
        first.splice(0..0, text.as_bytes()[..place].iter().copied());
        for body in [bytes, first] {
            drop(parse(&body, Payload::Either, arrived(), None));
        }
    }
}

/// `cargo test --release -p tollbook-schemas speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures")]
fn speed() {
    let batch = |extra: &str| {
        let events: Vec<String> = (0..EVENTS_MAX)
            .map(|number| {
                let text = event().to_string().replace("req-7f3", &format!("req-{number:08}"));
                text.replace("\"id\":", &format!("{extra}\"id\":"))
            })
            .collect();
        format!("[{}]", events.join(","))
    };
    let trace = "\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\",";
    let bad = batch("").replace(":1200", ":-1200");
    for (name, body) in [("usual", batch("")), ("with an unknown attribute", batch(trace)), ("all bad", bad)]
    {
        let mut best = u128::MAX;
        for _ in 0..50 {
            let start = std::time::Instant::now();
            let read = std::hint::black_box(read(std::hint::black_box(&body), Payload::Batch));
            best = best.min(start.elapsed().as_nanos());
            drop(read);
        }
        println!("{name}: {} ns per event of {} bytes", best / 1_000, body.len() / 1_000);
    }
}
