use std::time::Duration;

use quorate_node::{ClientReply, Failure, Operation, Refusal};
use quorate_quorum::{GetError, Holder, Outcome, PutError, Quorum};
use quorate_record::Record;
use serde_json::json;

use super::{
    Server,
    fake::{get_receipt, put_receipt, value_of, version},
    id, start, start_with,
};

#[tokio::test]
async fn a_put_is_acknowledged_with_its_version_and_receipt() {
    let server = start().await;
    let reply = server.call("PUT /kv/cat", "", "meow").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(reply.header("etag"), "\"0000000000000001-n1.5f\"");
    assert_eq!(reply.header("quorate-version"), "0000000000000001-n1.5f");
    assert_eq!(reply.header("quorate-receipt"), "w=2/3 acks=n1,n3 quorum=strict");
    let request = server.backend.only_request();
    assert_eq!(request.key.as_bytes(), b"cat");
    assert_eq!(&value_of(&request)[..], b"meow");
    assert_eq!(request.quorum, Quorum::new(3, 2, 2, true).unwrap());
    assert_eq!(request.timeout, Duration::from_millis(800));
}

#[tokio::test]
async fn a_receipt_names_who_holds_the_hints_and_whether_they_counted() {
    let server = start().await;
    let mut receipt = put_receipt();
    receipt.acks = vec![id("n1"), id("n4"), id("n3")];
    receipt.hinted = vec![(id("n2"), Holder::Fallback(id("n4"))), (id("n5"), Holder::Coordinator)];
    receipt.sloppy = true;
    server.backend.says(ClientReply::Written(Ok(receipt)));
    let reply = server.call("DELETE /kv/cat", "", "").await;
    assert_eq!(reply.status, 204);
    let expected = "w=3/3 acks=n1,n4,n3 hinted=n2@n4,n5@n1 quorum=sloppy";
    assert_eq!(reply.header("quorate-receipt"), expected);
    assert_eq!(server.backend.only_request().operation, Operation::Delete);
}

#[tokio::test]
async fn a_write_that_waits_for_its_owners_is_told_which_of_them_lack_it() {
    let server = start().await;
    let reply = server.call("PUT /kv/cat?wait=owners&w=1", "", "meow").await;
    assert_eq!(reply.status, 504);
    assert_eq!(reply.header("etag"), "\"0000000000000001-n1.5f\"");
    assert_eq!(reply.header("quorate-receipt"), "w=2/3 acks=n1,n3 lacking=n2 quorum=strict");
    let problem = reply.json();
    assert_eq!(problem["outcome"], "acknowledged");
    assert_eq!(problem["lacking"], json!(["n2"]));
    assert_eq!((&problem["needed"], &problem["acked"]), (&json!(2), &json!(2)));
    assert!(server.backend.only_request().wait_for_owners);

    let mut receipt = put_receipt();
    receipt.lacking.clear();
    server.backend.says(ClientReply::Written(Ok(receipt)));
    let reply = server.call("DELETE /kv/cat?wait=owners", "", "").await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("quorate-receipt"), "w=2/3 acks=n1,n3 owners=all quorum=strict");

    let reply = server.call("GET /kv/cat?wait=owners", "", "").await;
    assert_eq!((reply.status, &reply.json()["parameter"]), (400, &json!("wait")));
}

#[tokio::test]
async fn a_get_is_answered_with_the_value_and_what_a_browser_may_not_do_with_it() {
    let server = start().await;
    let mut receipt = get_receipt(Some(Record::live(version(2), "<b>meow</b>")));
    receipt.repaired = vec![id("n2")];
    server.backend.says(ClientReply::Read(Ok(receipt)));
    let mut wire = server.connect().await;
    for method in ["HEAD", "GET"] {
        let reply = wire.call(&format!("{method} /kv/cat"), "", "").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), "11");
        assert_eq!(reply.header("content-type"), "application/octet-stream");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("content-security-policy"), "sandbox");
        assert_eq!(reply.header("etag"), "\"0000000000000002-n1.5f\"");
        let receipt = "r=2/3 from=n1,n3 repaired=n2 quorum=strict";
        assert_eq!(reply.header("quorate-receipt"), receipt);
        assert_eq!(reply.body, if method == "GET" { &b"<b>meow</b>"[..] } else { b"" });
    }
}

#[tokio::test]
async fn an_absent_and_a_deleted_key_are_404_with_what_is_known() {
    let server = start().await;
    server.backend.says(ClientReply::Read(Ok(get_receipt(None))));
    let reply = server.call("GET /kv/cat", "", "").await;
    reply.assert_problem(404, &[]);
    assert_eq!(reply.header("quorate-receipt"), "r=2/3 from=n1,n3 quorum=strict");
    assert!(!reply.headers.contains_key("etag"));

    let tombstone = Record::tombstone(version(3));
    server.backend.says(ClientReply::Read(Ok(get_receipt(Some(tombstone)))));
    let reply = server.call("GET /kv/cat", "", "").await;
    reply.assert_problem(404, &[]);
    assert_eq!(reply.header("quorate-version"), "0000000000000003-n1.5f");
    assert_eq!(server.call("HEAD /kv/cat", "", "").await.status, 404);
}

#[tokio::test]
async fn an_empty_value_is_a_value() {
    let server = start().await;
    assert_eq!(server.call("PUT /kv/cat", "Content-Length: 0\r\n", "").await.status, 204);
    assert!(value_of(&server.backend.only_request()).is_empty());
    server.backend.says(ClientReply::Read(Ok(get_receipt(Some(Record::live(version(1), ""))))));
    let reply = server.call("GET /kv/cat", "", "").await;
    assert_eq!((reply.status, reply.header("content-length")), (200, "0"));
}

#[tokio::test]
async fn a_failed_write_says_how_far_it_got_and_whether_it_may_appear() {
    let server = start().await;
    for (error, status, acked, outcome) in [
        (
            PutError::TimedOut { needed: 2, acked: 1, outcome: Outcome::Indeterminate },
            504,
            1,
            "indeterminate",
        ),
        (
            PutError::TooFewReplicas { needed: 2, acked: 0, outcome: Outcome::Rejected },
            503,
            0,
            "rejected",
        ),
        (
            PutError::ClockTooFar { needed: 2, acked: 1, outcome: Outcome::Indeterminate },
            503,
            1,
            "indeterminate",
        ),
    ] {
        let failure = Failure { error, reason: Some(Refusal::DiskFull) };
        server.backend.says(ClientReply::Written(Err(failure)));
        let reply = server.call("PUT /kv/cat", "", "meow").await;
        let fields = [("needed", json!(2)), ("acked", json!(acked)), ("outcome", json!(outcome))];
        reply.assert_problem(status, &fields);
        assert!(reply.json()["detail"].as_str().unwrap().contains("the disk is full"));
        assert_eq!(reply.headers.get("retry-after").map(|_| 503).unwrap_or(504), status);
    }
}

#[tokio::test]
async fn a_failed_read_says_how_far_it_got() {
    let server = start().await;
    for (error, status) in [
        (GetError::TimedOut { needed: 2, answered: 1 }, 504),
        (GetError::TooFewReplicas { needed: 2, answered: 1 }, 503),
    ] {
        server.backend.says(ClientReply::Read(Err(Failure { error, reason: None })));
        let reply = server.call("GET /kv/cat", "", "").await;
        reply.assert_problem(status, &[("needed", json!(2)), ("acked", json!(1))]);
    }
}

#[tokio::test]
async fn what_was_not_begun_is_rejected() {
    let server = start().await;
    server.backend.says(ClientReply::Refused(Refusal::Overloaded));
    let reply = server.call("PUT /kv/cat?w=3", "", "meow").await;
    let fields = [("needed", json!(3)), ("acked", json!(0)), ("outcome", json!("rejected"))];
    reply.assert_problem(503, &fields);
    assert_eq!(reply.header("retry-after"), "1");
    let reply = server.call("GET /kv/cat", "", "").await;
    reply.assert_problem(503, &[("needed", json!(2)), ("acked", json!(0))]);
}

#[tokio::test]
async fn parameters_reach_the_node_and_bad_ones_stop_the_request() {
    let server = start().await;
    let query = "r=all&w=one&sloppy=false&timeout_ms=5";
    assert_eq!(server.call(&format!("PUT /kv/cat?{query}"), "", "x").await.status, 204);
    let request = server.backend.only_request();
    assert_eq!(request.quorum, Quorum::new(3, 3, 1, false).unwrap());
    assert_eq!(request.timeout, Duration::from_millis(5));

    let reply = server.call("PUT /kv/cat?w=4", "", "x").await;
    reply.assert_problem(400, &[("parameter", json!("w"))]);
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn an_atomic_request_goes_to_strict_majorities() {
    let server = start().await;
    assert_eq!(server.call("PUT /kv/cat?consistency=atomic", "", "x").await.status, 204);
    let request = server.backend.only_request();
    assert_eq!((request.quorum, request.atomic), (Quorum::new(3, 2, 2, false).unwrap(), true));
}

#[track_caller]
fn assert_key_asked(server: &Server, bytes: &[u8]) {
    assert_eq!(server.backend.only_request().key.as_bytes(), bytes);
}

#[tokio::test]
async fn keys_are_bytes_and_never_paths() {
    let server = start().await;
    for (path, bytes) in [
        ("/kv/a//b", &b"a//b"[..]),
        ("/kv//", b"/"),
        ("/kv/..", b".."),
        ("/kv/../health", b"../health"),
        ("/kv/..%2f..%2Fadmin", b"../../admin"),
        ("/kv/%00%ff", b"\0\xff"),
        ("/kv/a%3Fb?w=2", b"a?b"),
        ("/kv/a+b%2525", b"a+b%25"),
    ] {
        assert_eq!(server.call(&format!("PUT {path}"), "", "x").await.status, 204, "{path}");
        assert_key_asked(&server, bytes);
    }
    for path in [
        "/kv/%zz".into(),
        "/kv/a%2".into(),
        "/kv/".into(),
        format!("/kv/{:1025}", 0).replace(' ', "a"),
    ] {
        let reply = server.call(&format!("PUT {path}"), "", "x").await;
        reply.assert_problem(400, &[("parameter", json!("key"))]);
    }
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_by_name() {
    let server = start().await;
    server.call("GET /kv", "", "").await.assert_problem(404, &[]);
    server.call("GET /", "", "").await.assert_problem(404, &[]);
    for (line, allow) in [
        ("POST /kv/cat", "GET, HEAD, PUT, DELETE"),
        ("OPTIONS /kv/cat", "GET, HEAD, PUT, DELETE"),
        ("PUT /health", "GET, HEAD"),
        ("GET /internal/put", "POST"),
        ("GET /admin/snapshot", "POST"),
        ("GET /admin/backup?dir=a", "POST"),
    ] {
        let reply = server.call(line, "", "").await;
        reply.assert_problem(405, &[]);
        assert_eq!(reply.header("allow"), allow);
    }
    for line in ["POST /batch", "GET /watch", "GET /ui", "GET /ui/app.js"] {
        server.call(line, "", "").await.assert_problem(501, &[]);
    }
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn a_write_that_asks_for_more_than_a_write_is_refused() {
    let server = start().await;
    for (header, status, parameter) in [
        ("Content-Encoding: gzip", 415, "content-encoding"),
        ("Content-Range: bytes 0-3/9", 400, "content-range"),
        ("If-Match: \"x\"", 501, "if-match"),
        ("If-None-Match: *", 501, "if-none-match"),
    ] {
        let reply = server.call("PUT /kv/cat", &format!("{header}\r\n"), "meow").await;
        reply.assert_problem(status, &[("parameter", json!(parameter))]);
    }
    server.backend.assert_not_asked();
    let reply = server.call("PUT /kv/cat", "Content-Encoding: identity\r\n", "meow").await;
    assert_eq!(reply.status, 204);
}

#[tokio::test]
async fn only_a_known_token_lets_a_client_in() {
    let tokens = Some(vec!["first-token".into(), "second-token".into()]);
    let server = start_with(|settings| settings.client_tokens = tokens).await;
    let reply = server.call("PUT /kv/cat", "", "x").await;
    reply.assert_problem(401, &[]);
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    for wrong in ["Bearer ", "Bearer first-toke", "Bearer first-token2", "Basic Zmlyc3Q6", "x"] {
        let reply = server.call("PUT /kv/cat", &format!("Authorization: {wrong}\r\n"), "x").await;
        reply.assert_problem(403, &[]);
    }
    server.backend.assert_not_asked();
    for right in ["Bearer first-token", "bearer second-token"] {
        let reply = server.call("PUT /kv/cat", &format!("Authorization: {right}\r\n"), "x").await;
        assert_eq!(reply.status, 204);
    }
    assert_eq!(server.call("GET /health", "", "").await.status, 200);
    assert_eq!(server.call("GET /debug/peers", "", "").await.status, 200);
}
