//! Requests that do not pass: the customer sees what the API itself would say.

use tokio::net::TcpListener;
use tollbook_tests::nats::free_ports;
use tollbook_tests::system::Answer;

use super::gateway::{Gateway, KEY, LIMITS, PATIENCE, TOKEN, authorizer, refused_body};
use super::stub::{Stub, answer};

#[tokio::test]
async fn every_refusal_reaches_the_customer_with_its_status_body_and_headers() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    for status in [400, 401, 402, 403, 404, 409, 429, 503] {
        let said = gateway.ask("/v1/chat/completions", &format!("refuse-{status}")).await;
        assert_eq!(said.expect(status), refused_body(&status.to_string()));
        assert_eq!(said.header("content-type"), "application/json");
        assert_eq!(said.header("www-authenticate"), if status == 401 { "Bearer" } else { "" });
        let (after, after_ms) = if status == 429 { ("1", "34") } else { ("", "") };
        assert_eq!((said.header("retry-after"), said.header("retry-after-ms")), (after, after_ms));
        let should_retry = if matches!(status, 401 | 429) { "" } else { "false" };
        assert_eq!(said.header("x-should-retry"), should_retry, "{status}");
        for (name, value) in LIMITS {
            assert_eq!(said.header(name), if status == 401 { "" } else { value }, "{status} {name}");
        }
        let own: Vec<_> = said.headers.keys().filter(|name| name.as_str().contains("tollbook")).collect();
        assert!(own.is_empty(), "{own:?}");
    }
    // No lease was given, so none is ended; and the LLM server saw nothing.
    assert_eq!(tollbook.asked().len(), 8);
    assert!(gateway.llm.asked().is_empty());
}

#[tokio::test]
async fn without_tollbook_nobody_is_served() {
    let gateway = Gateway::start(free_ports(1)[0], TOKEN, &[]).await;
    unavailable(&gateway.ask("/v1/chat/completions", KEY).await);
    assert!(gateway.llm.asked().is_empty());
}

#[tokio::test]
async fn a_tollbook_that_says_nothing_is_not_waited_for() {
    // Connections are made, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = Gateway::start(silent.local_addr().unwrap().port(), TOKEN, &[PATIENCE]).await;
    unavailable(&gateway.ask("/v1/chat/completions", KEY).await);
    assert!(gateway.llm.asked().is_empty());
}

#[tokio::test]
async fn a_tollbook_that_is_behind_broken_or_late_serves_nobody() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[PATIENCE]).await;
    for key in ["behind", "broken", "late"] {
        unavailable(&gateway.ask("/v1/chat/completions", key).await);
    }
    assert!(gateway.llm.asked().is_empty());
}

#[tokio::test]
async fn an_engine_that_is_away_or_stands_by_is_passed_over() {
    let tollbook = authorizer().await;
    let standby = Stub::start(|_| async { answer(503, &[], "") }).await;
    for other in [free_ports(1)[0], standby.port] {
        let server = format!("server 127.0.0.1:{};", tollbook.port);
        // The first one in the list is asked first.
        let both = format!("server 127.0.0.1:{other}; {server}");
        let gateway = Gateway::start(tollbook.port, TOKEN, &[(&server, &both)]).await;
        gateway.ask("/v1/chat/completions", KEY).await.expect(200);
        gateway.all_ended().await;
    }
    assert_eq!((standby.asked().len(), tollbook.asked().len()), (1, 4));
}

/// The words for a server that is down, as clients of LLM APIs know them.
#[track_caller]
pub(crate) fn unavailable(said: &Answer) {
    let error = &said.expect(503)["error"];
    assert_eq!((&error["type"], &error["code"]), (&"server_unavailable".into(), &"not_ready".into()));
    assert!(error["message"].is_string() && error["param"].is_null());
    assert_eq!(said.header("content-type"), "application/json");
    assert_eq!(said.header("retry-after"), "1");
}
