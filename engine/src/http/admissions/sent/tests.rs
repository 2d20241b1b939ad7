//! What gateways send, read both ways.

use super::*;

/// Both ways say the same of what is good.
#[test]
fn the_fast_way_and_the_one_that_explains_agree() {
    for body in [
        r#"{"api_key":"sk-1","model":"m","input_tokens":5}"#,
        r#"{"api_key":null,"ip":null,"model":"m","input_tokens":0,"max_output_tokens":null,"request_id":null}"#,
        r#"{"api_key":"s\u006b-1","ip":"::ffff:1.2.3.4","model":"m","input_tokens":5,"max_output_tokens":7,"request_id":"r\n"}"#,
        r#"{"api_key":"","model":"m","input_tokens":5,"decided":"refuse"}"#,
    ] {
        let fast = serde_json::from_str(body).ok().and_then(FastAdmission::question);
        let slow = explain_question(body.as_bytes());
        match (fast, slow) {
            (Some(fast), Ok(slow)) => {
                assert_eq!(fast.api_key, slow.api_key, "{body}");
                assert_eq!(format!("{fast:?}"), format!("{slow:?}"), "{body}");
            }
            (None, Err(_)) => {}
            (fast, slow) => panic!("{body}: {fast:?} but {slow:?}"),
        }
    }
}

#[test]
fn a_question_is_shown_without_its_key() {
    for body in [
        r#"{"api_key":"sk-plain","model":"kimi","input_tokens":5}"#,
        r#"{"api_key":"sk-plain","model":"kimi","input_tokens":5,"meters":{"image":1}}"#,
        r#"{"api_key":"sk-plain","model":"kimi","input_tokens":"x"}"#,
    ] {
        let asked = question(body.as_bytes());
        let own = asked.as_ref().map(|asked| format!("{:?}", asked.ask(None))).unwrap_or_default();
        let shown = format!("{asked:?} {own}");
        assert!(!shown.contains("sk-plain"), "{shown}");
        assert!(asked.is_err() || own.contains("kimi"), "{shown}");
    }
}

#[test]
fn everything_that_is_wrong_is_named() {
    let problem =
        question(br#"{"api_key":1,"ip":"x","input_tokens":-1,"oops":1,"decided":"x"}"#).unwrap_err();
    let (_, body) = problem.written();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let fields: Vec<_> =
        body["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["api_key", "ip", "model", "input_tokens", "decided", "oops"]);
}

#[test]
fn a_settlement_has_all_numbers_or_none() {
    let door = Door::Http("lease_1");
    let settled = |body: &str| settlement(door, body.as_bytes()).map(|(_, tokens)| tokens);
    assert_eq!(settled("").unwrap(), None);
    assert_eq!(settled("{}").unwrap(), None);
    let all = Tokens { input: 3, cached_input: 2, output: 1 };
    assert_eq!(
        settled(r#"{"input_tokens":3,"cached_input_tokens":2,"output_tokens":1}"#).unwrap(),
        Some(all)
    );
    assert_eq!(
        settled(r#"{"input_tokens":3.0,"output_tokens":1}"#).unwrap(),
        Some(Tokens { cached_input: 0, ..all })
    );
    for bad in [
        r#"{"input_tokens":3}"#,
        r#"{"cached_input_tokens":3}"#,
        r#"{"output_tokens":3}"#,
        r#"{"input_tokens":3,"cached_input_tokens":4,"output_tokens":1}"#,
        r#"{"input_tokens":3,"output_tokens":1,"lease":"lease_1"}"#,
        r#"{"input_tokens":3,"output_tokens":1000000000001}"#,
    ] {
        assert_eq!(settled(bad).unwrap_err().code(), "invalid_fields", "{bad}");
    }
    let by_body = settlement(Door::Nats, br#"{"lease":"lease_1"}"#).unwrap();
    assert_eq!(by_body.0.as_str(), "lease_1");
    assert_eq!(settlement(Door::Nats, b"{}").unwrap_err().code(), "invalid_fields");
    assert_eq!(settlement(Door::Http("x"), b"{}").unwrap_err().code(), "lease_not_found");
}
