//! Requests that pass.

use reqwest::Response;

use super::gateway::{BODY_BYTES, Gateway, KEY, LIMITS, MODEL, TOKEN, authorizer};

#[tokio::test]
async fn an_admitted_request_reaches_the_llm_server_and_its_answer_the_customer() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let said = gateway.ask("/v1/chat/completions", KEY).await;
    assert_eq!(said.expect(200)["choices"][0]["message"]["content"], "Hi");
    assert_eq!(said.header("content-type"), "application/json");
    // The limits are Tollbook's, once each, not the LLM server's.
    for (name, value) in LIMITS {
        let values: Vec<_> = said.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }

    let calls = tollbook.asked_often(2).await;
    assert_eq!(calls[0].line(), "HEAD /v1/authorize?style=nginx");
    for (name, value) in [
        ("tollbook-token", TOKEN),
        ("authorization", "Bearer sk-customer"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-tollbook-model", MODEL),
        ("x-tollbook-input-tokens", BODY_BYTES),
        ("x-tollbook-max-output-tokens", ""),
    ] {
        assert_eq!(calls[0].header(name), value, "{name}");
    }
    assert_eq!(calls[1].line(), "POST /v1/admissions/lease_1/settle");
    assert_eq!(calls[1].header("authorization"), format!("Bearer {TOKEN}"));
    assert_eq!(calls[1].body, "{}");

    let served = &gateway.llm.asked()[0];
    for (name, value) in [
        ("x-tollbook-lease", "lease_1"),
        ("x-tollbook-organization", "org_1"),
        ("x-tollbook-project", "proj_1"),
        ("x-tollbook-api-key-id", "key_1"),
        ("x-tollbook-tier", "Tier0"),
        ("authorization", ""),
    ] {
        assert_eq!(served.header(name), value, "{name}");
    }
    assert!(served.body.contains("Hello"));
    // One id for the customer, the lease and usage.
    let id = served.header("x-request-id");
    assert_eq!(id.len(), 32);
    assert_eq!((calls[0].header("x-request-id"), said.header("x-request-id")), (id, id));
    assert_eq!(gateway.nginx.log(), "");
}

#[tokio::test]
async fn actual_tokens_settle_the_lease_where_the_llm_server_says_them() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let said = gateway.ask("/v1/counted", KEY).await;
    assert_eq!((said.status, said.header("x-tollbook-input-tokens")), (200, ""));
    let end = &tollbook.asked_often(2).await[1];
    assert_eq!(end.line(), "POST /v1/admissions/lease_1/settle");
    assert_eq!(end.body, r#"{"input_tokens":12,"cached_input_tokens":2,"output_tokens":5}"#);
    assert_eq!(end.header("content-type"), "application/json");
}

#[tokio::test]
async fn where_nothing_is_reserved_nothing_is_ended() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    for path in ["/v1/chat/completions", "/v1/failing"] {
        gateway.ask(path, "unreserved").await;
    }
    gateway.all_ended().await;
    assert!(tollbook.asked().iter().all(|asked| asked.method == "HEAD"));
    assert_eq!((tollbook.asked().len(), gateway.llm.asked().len()), (2, 2));
}

#[tokio::test]
async fn events_arrive_before_the_stream_ends() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let mut stream = gateway.request("/v1/stream", KEY).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.headers()["x-ratelimit-limit-requests"], "3");
    assert_eq!(event(&mut stream).await, "data: 0\n\n");
    for number in 1..3 {
        // The server has not sent the next one yet.
        gateway.go_on().await;
        assert_eq!(event(&mut stream).await, format!("data: {number}\n\n"));
    }
    assert_eq!(stream.chunk().await.unwrap(), None);
}

async fn event(stream: &mut Response) -> String {
    String::from_utf8(stream.chunk().await.unwrap().expect("the stream goes on").to_vec()).unwrap()
}

#[tokio::test]
async fn decisions_do_not_cost_a_connection_each() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    for _ in 0..5 {
        gateway.ask("/v1/chat/completions", KEY).await.expect(200);
        gateway.ask("/v1/chat/completions", "refuse-429").await.expect(429);
    }
    let calls = tollbook.asked_often(15).await;
    assert!(calls.iter().all(|call| call.peer == calls[0].peer), "{calls:?}");
}
