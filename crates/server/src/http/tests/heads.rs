use std::time::Duration;

use serde_json::json;

use super::{start, start_with};

/// That a request is refused for this parameter and the connection ends.
async fn assert_cut_off(raw: &str, parameter: &str) {
    let server = start().await;
    let mut wire = server.connect().await;
    wire.send(raw).await;
    let reply = wire.reply().await;
    reply.assert_problem(400, &[("parameter", json!(parameter))]);
    assert_eq!(reply.header("connection"), "close");
    assert!(wire.ends().await, "{raw}");
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn a_body_with_two_lengths_ends_the_connection() {
    for lengths in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
    ] {
        let raw = format!("PUT /kv/a HTTP/1.1\r\nHost: localhost\r\n{lengths}\r\n\r\n0\r\n\r\n");
        assert_cut_off(&raw, "content-length").await;
    }
}

#[tokio::test]
async fn a_target_that_goes_on_behind_a_fragment_is_not_cut() {
    let delete = "DELETE /kv/a#b HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_cut_off(delete, "target").await;
}

#[tokio::test]
async fn a_request_that_hides_in_trailers_ends_the_connection() {
    let server = start().await;
    let mut wire = server.connect().await;
    wire.send(
        "GET /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\nX: y\n\nGET / HTTP/1.1\n\n\r\n\r\n",
    )
    .await;
    assert!(wire.ends().await, "nobody waits for it for ever");
}

#[tokio::test]
async fn what_comes_before_an_ambiguous_request_is_answered() {
    let server = start().await;
    let mut wire = server.connect().await;
    wire.send(
        "PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc\
         PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc\
         PUT /kv/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    )
    .await;
    assert_eq!(wire.reply().await.status, 204);
    assert_eq!(wire.reply().await.status, 400);
    assert!(wire.ends().await);
    assert_eq!(server.backend.only_request().key.as_bytes(), b"a");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start().await;
    let mut wire = server.connect().await;
    let put = "PUT /kv/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    wire.send([put, health, put].concat()).await;
    for status in [204, 200, 204] {
        assert_eq!(wire.reply().await.status, status);
    }
}

#[tokio::test]
async fn a_repeated_or_missing_header_that_says_who_is_meant_ends_the_connection() {
    let get = "GET /kv/a HTTP/1.1\r\n";
    assert_cut_off(&format!("{get}\r\n"), "host").await;
    assert_cut_off(&format!("{get}Host: localhost\r\nHost: localhost\r\n\r\n"), "host").await;
    let twice = "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n";
    assert_cut_off(&format!("{get}Host: localhost\r\n{twice}\r\n"), "authorization").await;
    let elsewhere = "GET http://127.0.0.1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_cut_off(elsewhere, "host").await;
}

#[tokio::test]
async fn an_absolute_address_of_the_same_host_and_http_1_0_without_one_are_fine() {
    let server = start().await;
    let mut wire = server.connect().await;
    wire.send("GET http://localhost:1/health HTTP/1.1\r\nHost: LOCALHOST:1\r\n\r\n").await;
    assert_eq!(wire.reply().await.status, 200);
    let mut wire = server.connect().await;
    wire.send("GET /health HTTP/1.0\r\n\r\n").await;
    assert_eq!(wire.reply().await.status, 200);
    assert!(wire.ends().await);
}

#[tokio::test]
async fn a_name_of_somebody_else_is_misdirected() {
    let allowed = ["10.0.0.7:9001".into(), "store.example".into()];
    let server = start_with(|settings| settings.allowed_hosts = allowed.into()).await;
    for (host, status) in [
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("", 421),
        ("store.example:80", 200),
        ("10.0.0.7", 200),
        ("[::1]:9001", 200),
    ] {
        let mut wire = server.connect().await;
        wire.send(format!("GET /health HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(wire.reply().await.status, status, "{host}");
    }
}

#[tokio::test]
async fn a_page_from_elsewhere_changes_nothing() {
    let server = start().await;
    for header in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        for line in ["PUT /kv/a", "DELETE /kv/a", "POST /internal/put", "POST /admin/snapshot"] {
            let reply = server.call(line, &format!("{header}\r\n"), "{}").await;
            assert_eq!(reply.status, 403, "{line} {header}");
        }
    }
    server.backend.assert_not_asked();
    let reply = server.call("PUT /kv/a", "Origin: http://localhost:9001\r\n", "x").await;
    assert_eq!(reply.status, 204);
}

#[tokio::test]
async fn a_browser_has_to_say_that_it_sends_json() {
    let server = start().await;
    let origin = "Origin: http://localhost\r\n";
    let reply = server.call("POST /internal/keys", origin, "{}").await;
    reply.assert_problem(415, &[("parameter", json!("content-type"))]);
    let typed = format!("{origin}Content-Type: application/json; charset=utf-8\r\n");
    assert_eq!(server.call("POST /internal/keys", &typed, "{}").await.status, 200);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(server.call("POST /internal/keys", form, "{}").await.status, 200);
}

#[tokio::test]
async fn long_heads_are_refused() {
    let server = start().await;
    let long = format!("GET /health?{}", "a".repeat(5000));
    server.call(&long, "", "").await.assert_problem(414, &[]);
    let many = "X: y\r\n".repeat(80);
    assert_eq!(server.call("GET /health", &many, "").await.status, 431);
    let large = format!("X: {}\r\n", "y".repeat(20_000));
    assert_eq!(server.call("GET /health", &large, "").await.status, 431);
}

#[tokio::test]
async fn a_head_that_does_not_end_ends_the_connection() {
    let brief = Duration::from_millis(50);
    let server = start_with(|settings| settings.limits.head_timeout = brief).await;
    let mut wire = server.connect().await;
    wire.send("GET /health HTTP/1.1\r\nHost: loc").await;
    assert!(wire.ends().await);
}
