//! What customers claim about themselves.

use reqwest::{Method, RequestBuilder};

use super::gateway::{Gateway, KEY, MODEL, TOKEN, authorizer, read};
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
        ("x-tollbook-input-tokens", "250", ""),
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
    assert_eq!((asked.header("x-tollbook-model"), asked.header("x-tollbook-input-tokens")), (MODEL, "250"));
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
async fn input_tokens_are_guessed_from_the_size_of_the_body() {
    let tollbook = authorizer().await;
    let gateway = Gateway::start(tollbook.port, TOKEN, &[]).await;
    for (bytes, tokens) in [
        (1, "250"),
        (999, "250"),
        (1_000, "1250"),
        (4_999, "1250"),
        (5_000, "2500"),
        (10_000, "12500"),
        (49_999, "12500"),
        (99_999, "25000"),
        (100_000, "125000"),
        (500_000, "250000"),
        (1_000_000, "250000"),
    ] {
        let request = gateway.request("/v1/chat/completions", KEY).body("x".repeat(bytes));
        assert_eq!(read(request).await.status, 200);
        let asked = last_question(&tollbook);
        assert_eq!(asked.header("x-tollbook-input-tokens"), tokens, "{bytes} bytes");
    }
    let unknown = |method| {
        let (client, request) = gateway.request("/v1/models", KEY).body("").build_split();
        let mut request = request.unwrap();
        *request.method_mut() = method;
        RequestBuilder::from_parts(client, request)
    };
    for (request, tokens) in [(unknown(Method::POST), "250000"), (unknown(Method::GET), "0")] {
        assert_eq!(read(request).await.status, 200);
        assert_eq!(last_question(&tollbook).header("x-tollbook-input-tokens"), tokens);
    }
}

/// What Tollbook was asked last.
fn last_question(tollbook: &Stub) -> Asked {
    tollbook.asked().into_iter().rfind(|asked| asked.method == "HEAD").unwrap()
}
