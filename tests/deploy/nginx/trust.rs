//! What customers claim about themselves.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::gateway::{BODY_BYTES, Gateway, KEY, MODEL, TOKEN, authorizer, read};
use super::stub::{Asked, Stub};

/// Headers by which a customer would be somebody else, somewhere else, or cheaper.
const CLAIMS: [(&str, &str); 12] = [
    ("X-Request-Id", "somebody-elses"),
    ("X-Forwarded-For", "203.0.113.7"),
    ("X-Real-IP", "203.0.113.7"),
    ("X-Tollbook-Model", "cheap"),
    ("X-Tollbook-Input-Tokens", "1"),
    ("X-Tollbook-Max-Output-Tokens", "1"),
    ("X-Tollbook-Lease", "lease_other"),
    ("X-Tollbook-Organization", "org_other"),
    ("X-Tollbook-Project", "proj_other"),
    ("X-Tollbook-Api-Key-Id", "key_other"),
    ("X-Tollbook-Tier", "Tier5"),
    ("Tollbook-Token", "mine"),
];

#[tokio::test]
async fn what_a_customer_claims_is_not_believed() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    let request =
        CLAIMS.iter().fold(gateway.request("/v1/chat/completions", KEY), |request, (name, value)| {
            request.header(*name, *value).header(name.replace('-', "_"), *value)
        });
    let said = read(request).await;
    assert_eq!(said.status, 200);
    let asked = &tollbook.asked()[0];
    let served = &gateway.llm.asked()[0];
    let id = said.header("x-request-id");
    assert_ne!(id, "somebody-elses");
    for (name, at_tollbook, at_llm) in [
        ("x-request-id", id, id),
        ("x-forwarded-for", "127.0.0.1", "127.0.0.1"),
        ("x-real-ip", "", "127.0.0.1"),
        ("x-tollbook-model", MODEL, ""),
        ("x-tollbook-input-tokens", BODY_BYTES, ""),
        ("x-tollbook-max-output-tokens", "", ""),
        ("x-tollbook-lease", "", "lease_1"),
        ("x-tollbook-organization", "", "org_1"),
        ("x-tollbook-project", "", "proj_1"),
        ("x-tollbook-api-key-id", "", "key_1"),
        ("x-tollbook-tier", "", "Tier0"),
        ("tollbook-token", TOKEN, ""),
    ] {
        assert_eq!(asked.header(name), at_tollbook, "{name}");
        assert_eq!(served.header(name), at_llm, "{name}");
        let other = name.replace('-', "_");
        assert_eq!((asked.header(&other), served.header(&other)), ("", ""), "{other}");
    }
}

#[tokio::test]
async fn a_gateway_in_front_is_believed_if_it_is_named() {
    let tollbook = authorizer().await;
    let named = [
        ("# 10.0.0.5/32 1;", "127.0.0.1/32 1;"),
        ("# set_real_ip_from 10.0.0.5/32;", "set_real_ip_from 127.0.0.1/32;"),
    ];
    let gateway = Gateway::start(tollbook.port, TOKEN, &named).await;
    let request =
        CLAIMS.iter().fold(gateway.request("/v1/chat/completions", KEY), |request, (name, value)| {
            request.header(*name, *value)
        });
    assert_eq!(read(request).await.status, 200);
    let asked = &tollbook.asked()[0];
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-tollbook-model", "cheap"),
        ("x-tollbook-input-tokens", "1"),
        ("x-tollbook-max-output-tokens", "1"),
        ("tollbook-token", TOKEN),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    // What it does not say, or not in digits, is guessed.
    let odd = gateway.request("/v1/chat/completions", KEY).header("X-Tollbook-Input-Tokens", "1, 2");
    assert_eq!(read(odd).await.status, 200);
    let asked = last_question(&tollbook);
    assert_eq!(
        (asked.header("x-tollbook-model"), asked.header("x-tollbook-input-tokens")),
        (MODEL, BODY_BYTES)
    );
}

#[tokio::test]
async fn the_question_cannot_be_asked_by_customers() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    for path in ["/tollbook-authorize", "/", "/v2/models"] {
        assert_eq!(gateway.ask(path, KEY).await.status, 404, "{path}");
    }
    assert!(tollbook.asked().is_empty() && gateway.llm.asked().is_empty());
}

#[tokio::test]
async fn input_tokens_are_as_many_as_the_body_has_bytes() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    for bytes in [1, 999, 1_000, 99_999, 10_000_001, MOST] {
        assert_eq!(asked_for(&gateway, &tollbook, bytes).await, bytes);
    }
    for (method, length, tokens) in [
        ("GET", "", "0"),
        ("HEAD", "", "0"),
        ("DELETE", "", "0"),
        ("OPTIONS", "", "0"),
        ("POST", "content-length: 0\r\n", "0"),
        ("DELETE", "content-length: 2\r\n", "2"),
        // The largest that may come.
        ("POST", "transfer-encoding: chunked\r\n", "20971520"),
        ("GET", "transfer-encoding: chunked\r\n", "20971520"),
        // Whether a body follows cannot be told here.
        ("POST", "", "20971520"),
    ] {
        send(&gateway, method, length).await;
        assert_eq!(last_question(&tollbook).header("x-tollbook-input-tokens"), tokens, "{method} {length}");
    }
}

#[tokio::test]
async fn a_quarter_of_the_bytes_is_an_estimate_to_choose() {
    let tollbook = authorizer().await;
    let quarter = [("default $tollbook_bytes;", "default $tollbook_quarter_of_bytes;")];
    let gateway = Gateway::start(tollbook.port, TOKEN, &quarter).await;
    for bytes in [1, 999, 1_000, 4_999, 5_000, 49_999, 99_999, 499_999, 500_000, 4_999_999, 9_999_999, MOST] {
        let tokens = asked_for(&gateway, &tollbook, bytes).await;
        assert!(tokens * 4 >= bytes, "{tokens} of {bytes} bytes");
        assert!(tokens <= bytes * 5 / 4 || tokens == 250, "{tokens} of {bytes} bytes");
    }
    send(&gateway, "GET", "").await;
    assert_eq!(last_question(&tollbook).header("x-tollbook-input-tokens"), "0");
}

/// The largest body that the configuration lets through.
const MOST: usize = 20 << 20;

/// As how many input tokens a body of so many bytes is asked for.
async fn asked_for(gateway: &Gateway, tollbook: &Stub, bytes: usize) -> usize {
    let request = gateway.request("/v1/chat/completions", KEY).body("x".repeat(bytes));
    assert_eq!(read(request).await.status, 200);
    last_question(tollbook).header("x-tollbook-input-tokens").parse().unwrap()
}

/// A request as it is on the wire, with what it says of its body, which is empty or `{}` where two bytes are announced.
async fn send(gateway: &Gateway, method: &str, length: &str) {
    let mut nginx = TcpStream::connect(gateway.nginx.url().trim_start_matches("http://")).await.unwrap();
    let body = match length.split_once(": ") {
        Some((_, "2\r\n")) => "{}",
        Some((_, "chunked\r\n")) => "0\r\n\r\n",
        _ => "",
    };
    let head = format!("{method} /v1/models HTTP/1.1\r\nhost: llm\r\nauthorization: Bearer {KEY}\r\n");
    nginx.write_all(format!("{head}connection: close\r\n{length}\r\n{body}").as_bytes()).await.unwrap();
    let mut said = String::new();
    nginx.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200 "), "{method} {length}: {said}");
}

/// What Tollbook was asked last.
fn last_question(tollbook: &Stub) -> Asked {
    tollbook.asked().into_iter().rfind(|asked| asked.method == "HEAD").unwrap()
}
