//! What files give, row by row, and what they may not.

use std::fs;
use std::io::{BufReader, Cursor, Read};
use std::path::PathBuf;

use tollbook_schemas::id::{KeyId, ModelName, OrgId};
use tollbook_schemas::usage::{Occurred, Tokens};

use super::*;

fn arrived() -> Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

fn trace(digest: [u8; 32]) -> Trace {
    Trace {
        organization: OrgId::from_bits(1),
        key: KeyId::from_bits(2),
        model: ModelName::parse("kimi-k2.5").unwrap(),
        digest,
    }
}

/// A file that arrives in small pieces.
fn pieces(text: &[u8]) -> BufReader<Cursor<Vec<u8>>> {
    BufReader::with_capacity(7, Cursor::new(text.to_vec()))
}

fn azure(text: &str) -> Vec<Result<Usage, String>> {
    rows(text.as_bytes(), Layout::AzureLlmTrace(trace([0; 32])))
}

fn rows(text: &[u8], layout: Layout) -> Vec<Result<Usage, String>> {
    let mut rows = Rows::open(pieces(text), layout, arrived()).unwrap();
    let read = rows.by_ref().map(|row| row.map_err(|error| error.to_string())).collect();
    assert_eq!(rows.bytes_read(), u64::try_from(text.len()).unwrap());
    read
}

fn header_error(text: &str, layout: Layout) -> String {
    Rows::open(text.as_bytes(), layout, arrived()).map(drop).unwrap_err().to_string()
}

#[test]
fn the_trace_in_the_dataset_gives_its_rows_and_tokens() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/azure-llm-inference-2023-code.csv");
    let Ok(text) = fs::read_to_string(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let column = |number: usize| text.lines().skip(1).filter_map(move |line| line.split(',').nth(number));
    let sum = |number: usize| column(number).map(|cell| cell.trim().parse::<u64>().unwrap()).sum::<u64>();
    let digest = file_digest(fs::File::open(&path).unwrap()).unwrap();
    let read = rows(text.as_bytes(), Layout::AzureLlmTrace(trace(digest)));
    let usages: Vec<_> = read.into_iter().map(Result::unwrap).collect();
    assert_eq!(usages.len(), column(0).count());
    assert_eq!(usages.iter().map(|usage| usage.tokens.input).sum::<u64>(), sum(1));
    assert_eq!(usages.iter().map(|usage| usage.tokens.output).sum::<u64>(), sum(2));
    for (number, (usage, time)) in usages.iter().zip(column(0)).enumerate() {
        let number = number + 1;
        assert_eq!(usage.id, format!("row-{number}"));
        assert_eq!(usage.producerseq, Some(u64::try_from(number).unwrap()));
        let written = usage.occurred.at().to_string().replace('T', " ");
        assert_eq!(written.trim_end_matches('Z'), time.trim_end_matches('0').trim_end_matches('.'));
    }
}

#[test]
fn a_trace_row_is_one_record() {
    let read = azure(
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n\
         2023-11-16 18:17:04,3180,8\r\n\r\n2024-05-10 00:00:00.009930+00:00,1,2",
    );
    let usages: Vec<_> = read.into_iter().map(Result::unwrap).collect();
    assert_eq!(usages.len(), 3);
    let at = |text: &str| Occurred::Given(text.parse().unwrap());
    assert_eq!(usages[0].occurred, at("2023-11-16T18:17:03.97996Z"));
    assert_eq!(usages[0].tokens, Tokens { input: 4808, cached_input: 0, output: 10 });
    assert_eq!(usages[1].occurred, at("2023-11-16T18:17:04Z"));
    assert_eq!(usages[2].occurred, at("2024-05-10T00:00:00.00993Z"));
    assert_eq!((usages[2].id.as_str(), usages[2].producerseq), ("row-3", Some(3)));
}

#[test]
fn r8_2_a_trace_is_told_apart_by_file_key_and_model() {
    let first = trace([1; 32]);
    let source = |trace: &Trace| trace.source().unwrap().as_str().to_owned();
    assert_eq!(source(&first).len(), "trace:".len() + 32);
    assert_eq!(source(&first), source(&first.clone()));
    let other_key = Trace { key: KeyId::from_bits(3), ..first.clone() };
    let other_model = Trace { model: ModelName::parse("kimi-k3").unwrap(), ..first.clone() };
    for other in [trace([2; 32]), other_key, other_model] {
        assert_ne!(source(&first), source(&other));
    }
    let bytes = b"TIMESTAMP".repeat(9_000);
    let whole: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&bytes).into();
    assert_eq!(file_digest(bytes.as_slice()).unwrap(), whole);
}

#[test]
fn bad_trace_rows_say_why_and_the_others_are_read() {
    let read = azure(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n\
         2023-11-16 18:17:03,1,1\n\
         yesterday,1,1\n\
         2023-11-16 18:17:03,-1,1\n\
         2023-11-16 18:17:03,1,1.5\n\
         2023-11-16 18:17:03,1000000000001,1\n\
         2023-11-16 18:17:03,1\n\
         2027-11-16 18:17:03,1,1\n\
         1969-11-16 18:17:03,1,1\n\
         2023-11-16 18:17:03,\"1\",1\n\
         2023-11-16 18:17:03,\"1,1\n\
         2023-11-16 18:17:05,7,7",
    );
    let said: Vec<_> =
        read.iter().map(|row| row.as_ref().map_or_else(Clone::clone, |usage| usage.id.clone())).collect();
    let shape = "TIMESTAMP must be a time such as 2023-11-16 18:17:03.97996";
    let expected = [
        "row-1".to_owned(),
        format!("line 3: {shape}"),
        "line 4: ContextTokens must be a whole number from 0 to 1000000000000".into(),
        "line 5: GeneratedTokens must be a whole number from 0 to 1000000000000".into(),
        "line 6: ContextTokens must be a whole number from 0 to 1000000000000".into(),
        "line 7: has 2 cells; there should be 3".into(),
        "line 8: TIMESTAMP is more than 5 minutes ahead of now".into(),
        "line 9: TIMESTAMP must not be before 1970".into(),
        "row-9".into(),
        "line 11: has an opening quote without a closing one".into(),
        "row-11".into(),
    ];
    assert_eq!(said, expected);
    let layout = || Layout::AzureLlmTrace(trace([0; 32]));
    let columns = "line 1: the columns must be TIMESTAMP,ContextTokens,GeneratedTokens";
    assert_eq!(header_error("TIMESTAMP,ContextTokens\n", layout()), columns);
    let empty = "line 1: the file is empty; it should begin with the names of its columns";
    assert_eq!(header_error("", layout()), empty);
}

const EVENT: &str = r#"{"specversion":"1.0","id":"a","source":"s","type":"tollbook.usage.v1","subject":"org_1","data":{"project":"proj_1","model":"m","input_tokens":3,"output_tokens":4}}"#;

#[test]
fn cloudevents_stand_one_per_line() {
    let text = format!("\u{feff}{EVENT}\n\n{{}}\n[{EVENT}]\nnonsense\n  {EVENT}  \r\n{EVENT}");
    let read = rows(text.as_bytes(), Layout::CloudEvents);
    let said: Vec<_> =
        read.iter().map(|row| row.as_ref().map_or_else(Clone::clone, |usage| usage.id.clone())).collect();
    let expected = [
        "a",
        "line 3: specversion is missing; type is missing; id is missing; source is missing; subject is missing; data is missing",
        "line 4: must be one JSON object",
        "line 5: not JSON: expected ident at line 1 column 2",
        "a",
        "a",
    ];
    assert_eq!(said, expected);
    assert_eq!(read[0].as_ref().unwrap().occurred, Occurred::Assumed(arrived()));
}

#[test]
fn long_and_broken_lines_take_no_memory_and_stop_nothing() {
    let mut text = b"x".repeat(1_000_000);
    text.push(b'\n');
    text.extend(b"\xff\xfe\n");
    text.extend(EVENT.as_bytes());
    let read = rows(&text, Layout::CloudEvents);
    assert_eq!(read[0], Err("line 1: is longer than 64 KiB".into()));
    assert_eq!(read[1], Err("line 2: is not UTF-8".into()));
    assert!(read[2].is_ok());
}

#[test]
fn csv_rows_are_the_events_they_stand_for() {
    let text = "id,source,subject,time,producerseq,api_key_id,project,model,input_tokens,cached_input_tokens,output_tokens,cost,lease,request_id,meter.image\n\
        a,gw,org_1,2026-11-20T09:00:00Z,7,ak_1,,kimi-k2.5,1200,800,310,0.5,lease_9,r-1,2\n\
        \"b, \"\"quoted\"\"\",gw,org_1,,,,proj_1,kimi-k2.5,1,,2,,,,\n";
    let read = rows(text.as_bytes(), Layout::Csv);
    let event = r#"{"specversion":"1.0","type":"tollbook.usage.v1","id":"a","source":"gw","subject":"org_1","time":"2026-11-20T09:00:00Z","producerseq":"7","data":{"api_key_id":"ak_1","model":"kimi-k2.5","input_tokens":1200,"cached_input_tokens":800,"output_tokens":310,"cost":"0.5","lease":"lease_9","request_id":"r-1","meters":{"image":2}}}"#;
    assert_eq!(read[0], jsonl::row(event, arrived()));
    let second = read[1].as_ref().unwrap();
    assert_eq!(second.id, "b, \"quoted\"");
    assert_eq!(second.tokens, Tokens { input: 1, cached_input: 0, output: 2 });
    assert_eq!((second.producerseq, second.extras.is_none()), (None, true));
}

#[test]
fn bad_csv_rows_and_headers_say_why() {
    let header = "id,source,subject,project,model,input_tokens,output_tokens";
    let text = format!(
        "{header}\n,gw,org_1,proj_1,m,1,2\na,gw,org_1,proj_1,m,one,2\na,gw,org_1,proj_1,m,+1,-2\na,gw\na,gw,org_1,,m,1,2\n"
    );
    let said: Vec<_> = rows(text.as_bytes(), Layout::Csv).into_iter().map(Result::unwrap_err).collect();
    let expected = [
        "line 2: id is missing",
        "line 3: data.input_tokens must be a whole number",
        "line 4: data.input_tokens must be a whole number; data.output_tokens must be a whole number",
        "line 5: has 2 cells; the header has 7",
        "line 6: data must name api_key_id or project",
    ];
    assert_eq!(said, expected);
    for (columns, expected) in [
        ("id,source", "line 1: column `subject` is missing"),
        ("id,ID", "line 1: there is no column `ID` in this format"),
        ("id,id", "line 1: column `id` stands there twice"),
        (
            "id,source,subject,model,input_tokens,output_tokens",
            "line 1: column `api_key_id` or `project` is missing",
        ),
    ] {
        assert_eq!(header_error(columns, Layout::Csv), expected);
    }
}

#[test]
fn a_file_that_fails_ends_there() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let file = BufReader::new(Cursor::new(format!("{EVENT}\n")).chain(Broken));
    let mut rows = Rows::open(file, Layout::CloudEvents, arrived()).unwrap();
    assert!(rows.next().unwrap().is_ok());
    assert!(matches!(rows.next(), Some(Err(RowError::Read { line: 1, .. }))));
    assert!(rows.next().is_none());
}
