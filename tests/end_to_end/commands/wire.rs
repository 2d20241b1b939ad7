//! What a command sends, and what it makes of answers that a server of ours never gives.

use std::io::{Read, Write};
use std::net::TcpListener;

use tollbook_tests::system::{Ran, System};

/// Runs a reading command against something that answers with this. What it was asked, and what it did.
async fn against(args: &[&str], status: &str, body: &str) -> (String, Ran) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let asked = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut part = [0; 4096];
        while !asked.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "the request broke off");
            asked.extend_from_slice(&part[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap().to_lowercase()
    });
    let mut command = System::command();
    command.args(args).args(["--token", "t", "--server", &url]);
    let ran = System::output(command).await;
    (asked.await.unwrap(), ran)
}

#[tokio::test]
async fn what_is_asked_and_answered_goes_unchanged() {
    let json = "{\"z\":1.50,\n \"a\":\"\\u00e9\"}";
    let show = ["org", "show", "org_1", "--actor", "mem_1", "--idempotency-key", "k", "--json"];
    let (asked, ran) = against(&show, "200 OK", json).await;
    assert!(asked.starts_with("get /v1/organizations/org_1 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("tollbook-actor: mem_1\r\n") && asked.contains("authorization: bearer t\r\n"));
    assert!(!asked.contains("idempotency-key"), "a read is no write: {asked}");
    assert_eq!((ran.code, ran.out.trim_end()), (Some(0), json));
}

#[tokio::test]
async fn somebody_else_s_answer_is_no_answer() {
    let page = "<html>hello</html>";
    let (_, ran) = against(&["org", "list"], "200 OK", page).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("is it a tollbook server"), "{}", ran.err);
    let (_, ran) = against(&["org", "list"], "502 Bad Gateway", page).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the server answered 502 Bad Gateway"), "{}", ran.err);
}
