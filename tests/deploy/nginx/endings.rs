//! However a request ends, its lease ends with it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::gateway::{Gateway, KEY, MODEL, TOKEN, authorizer, go_on};
use super::stub::Stub;

const RELEASED: &str = "DELETE /v1/admissions/lease_1";
const SETTLED: &str = "POST /v1/admissions/lease_1/settle";

/// How the only lease ended.
async fn ended(tollbook: &Stub) -> String {
    let calls = tollbook.asked_often(2).await;
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(calls[1].header("authorization"), format!("Bearer {TOKEN}"));
    calls[1].line()
}

#[tokio::test]
async fn an_llm_server_that_answers_badly_releases_the_lease() {
    for (path, status, message) in
        [("/v1/failing", 500, "out of memory"), ("/v1/refusing", 400, "no such parameter")]
    {
        let tollbook = authorizer().await;
        let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
        let said = gateway.ask(path, KEY).await;
        // Its answer goes through as it is, limits added.
        assert_eq!(said.expect(status)["error"]["message"], message);
        assert_eq!(said.header("x-ratelimit-limit-requests"), "3");
        assert_eq!(ended(&tollbook).await, RELEASED);
        assert!(gateway.all_ended().await.contains(&format!("\" {status} ")));
    }
}

#[tokio::test]
async fn an_llm_server_that_is_away_releases_the_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    gateway.llm.leave().await;
    did_not_answer(&gateway, &tollbook).await;
}

#[tokio::test]
async fn an_llm_server_that_hangs_releases_the_lease_at_the_timeout() {
    let tollbook = authorizer().await;
    let gateway =
        Gateway::start(tollbook.port, TOKEN, &[("proxy_read_timeout 300s", "proxy_read_timeout 2s")]).await;
    did_not_answer(&gateway, &tollbook).await;
}

async fn did_not_answer(gateway: &Gateway, tollbook: &Stub) {
    let said = gateway.ask("/v1/hanging", KEY).await;
    assert_eq!(said.expect(502)["error"]["code"], "upstream_failed");
    assert_eq!(said.header("content-type"), "application/json");
    assert_eq!(ended(tollbook).await, RELEASED);
    assert!(gateway.all_ended().await.contains("\" 502 "));
}

#[tokio::test]
async fn a_customer_who_goes_away_before_the_answer_releases_the_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let request = tokio::spawn(gateway.request("/v1/hanging", KEY).send());
    gateway.llm.asked_often(1).await;
    request.abort();
    assert_eq!(ended(&tollbook).await, RELEASED);
    assert!(gateway.all_ended().await.contains("\" 499 "));
}

#[tokio::test]
async fn a_customer_who_goes_away_while_tollbook_decides_releases_the_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let request = tokio::spawn(gateway.request("/v1/hanging", "soon").send());
    tollbook.asked_often(1).await;
    request.abort();
    request.await.unwrap_err();
    go_on(&tollbook).await;
    let calls = tollbook.asked_often(3).await;
    assert_eq!(calls[2].line(), RELEASED);
}

#[tokio::test]
async fn a_customer_who_goes_away_in_the_middle_of_the_answer_settles_the_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let mut stream = gateway.request("/v1/stream", KEY).send().await.unwrap();
    stream.chunk().await.unwrap().expect("an event");
    drop(stream);
    assert_eq!(ended(&tollbook).await, SETTLED);
    assert!(gateway.all_ended().await.contains("\" 200 "));
}

#[tokio::test]
async fn an_llm_server_that_dies_in_the_middle_of_the_answer_settles_the_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let mut answer = gateway.request("/v1/cut", KEY).send().await.unwrap();
    answer.chunk().await.unwrap().expect("an event");
    gateway.go_on().await;
    answer.chunk().await.unwrap_err();
    assert_eq!(ended(&tollbook).await, SETTLED);
}

#[tokio::test]
async fn a_request_that_outlives_its_nginx_worker_ends_its_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let mut stream = gateway.request("/v1/stream", KEY).send().await.unwrap();
    stream.chunk().await.unwrap().expect("an event");
    gateway.nginx.reload().await;
    for _ in 0..2 {
        gateway.go_on().await;
        stream.chunk().await.unwrap().expect("an event");
    }
    assert_eq!(stream.chunk().await.unwrap(), None);
    assert_eq!(ended(&tollbook).await, SETTLED);
}

#[tokio::test]
async fn a_customer_who_goes_away_with_half_a_body_sent_releases_the_lease() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let mut customer = connect(&gateway).await;
    let head = format!(
        "POST /v1/x HTTP/1.1\r\nHost: llm\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n"
    );
    customer.write_all(format!("{head}half").as_bytes()).await.unwrap();
    tollbook.asked_often(1).await;
    drop(customer);
    assert_eq!(ended(&tollbook).await, RELEASED);
    assert!(gateway.llm.asked().is_empty());
}

#[tokio::test]
async fn a_body_that_is_too_large_releases_the_lease() {
    let tollbook = authorizer().await;
    let gateway =
        Gateway::start(tollbook.port, TOKEN, &[("client_max_body_size 20m", "client_max_body_size 1k")])
            .await;
    let mut customer = connect(&gateway).await;
    // Its length is not known beforehand, or it would not even be asked about.
    let head = format!(
        "POST /v1/x HTTP/1.1\r\nHost: llm\r\nAuthorization: Bearer {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    customer.write_all(format!("{head}800\r\n{}\r\n", "x".repeat(0x800)).as_bytes()).await.unwrap();
    let mut said = String::new();
    customer.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 413 "), "{said}");
    assert!(said.contains(r#""code":"request_too_large""#), "{said}");
    assert_eq!(ended(&tollbook).await, RELEASED);
}

async fn connect(gateway: &Gateway) -> TcpStream {
    TcpStream::connect(gateway.nginx.url().trim_start_matches("http://")).await.unwrap()
}

#[tokio::test]
async fn the_log_says_what_the_customer_saw_and_no_key() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let id = gateway.ask("/v1/chat/completions", KEY).await.header("x-request-id").to_owned();
    let line = gateway.all_ended().await;
    for part in ["\" 200 ", &format!("request={id} "), "organization=org_1 ", "lease=lease_1 ended=POST "] {
        assert!(line.contains(part), "{part}: {line}");
    }
    for secret in [KEY, TOKEN, MODEL] {
        assert!(!line.contains(secret), "{line}");
    }
}
