use std::time::Duration;

use quorate_node::ClientReply;
use serde_json::json;

use super::{
    fake::{put_receipt, value_of},
    start, start_with,
};

const PUT: &str = "PUT /kv/a HTTP/1.1\r\nHost: localhost\r\n";

#[tokio::test]
async fn an_announced_length_above_the_limit_is_refused_before_a_byte_is_read() {
    let server = start_with(|settings| settings.max_value_bytes = 10).await;
    for expect in ["", "Expect: 100-continue\r\n"] {
        let mut wire = server.connect().await;
        wire.send(format!("{PUT}{expect}Content-Length: 11\r\n\r\n")).await;
        let reply = wire.reply().await; // would be 100 if the body had been asked for
        reply.assert_problem(413, &[("limit_bytes", json!(10))]);
        assert_eq!(reply.header("connection"), "close");
    }
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn a_value_of_exactly_the_limit_is_taken_however_it_is_cut() {
    let server = start_with(|settings| settings.max_value_bytes = 300_000).await;
    let value: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    assert_eq!(server.call("PUT /kv/a", "", &value).await.status, 204);
    assert!(value_of(&server.backend.only_request()) == &value);

    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Transfer-Encoding: chunked\r\n\r\n")).await;
    for chunk in value.chunks(7001) {
        wire.send([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
    }
    wire.send("0\r\n\r\n").await;
    assert_eq!(wire.reply().await.status, 204);
    assert!(value_of(&server.backend.only_request()) == &value);
}

#[tokio::test]
async fn a_chunked_value_is_cut_off_at_the_limit() {
    let server = start_with(|settings| settings.max_value_bytes = 10).await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\nghijk\r\n"))
        .await;
    wire.reply().await.assert_problem(413, &[("limit_bytes", json!(10))]);
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn a_client_that_sends_all_before_it_reads_still_sees_the_refusal() {
    let server = start_with(|settings| settings.max_value_bytes = 10).await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Content-Length: 12000000\r\n\r\n")).await;
    let piece = vec![7; 100_000];
    for _ in 0..120 {
        wire.send(&piece).await;
    }
    wire.reply().await.assert_problem(413, &[("limit_bytes", json!(10))]);
    assert!(wire.ends().await);
}

#[tokio::test]
async fn a_refused_body_is_not_read_for_ever() {
    let server = start_with(|settings| {
        settings.max_value_bytes = 10;
        settings.limits.linger = Duration::from_millis(50);
    })
    .await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Content-Length: 12000000\r\n\r\nabc")).await;
    wire.reply().await.assert_problem(413, &[("limit_bytes", json!(10))]);
    assert!(wire.ends().await);
}

#[tokio::test]
async fn a_body_is_asked_for_when_the_client_waits_for_that() {
    let server = start().await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")).await;
    assert_eq!(wire.reply_to_head().await.status, 100);
    wire.send("meow").await;
    assert_eq!(wire.reply().await.status, 204);
}

#[tokio::test]
async fn a_body_that_nobody_will_ask_for_ends_the_connection() {
    let server = start().await;
    let mut wire = server.connect().await;
    let put = PUT.replace("/kv/a", "/kv/a?w=9");
    wire.send(format!("{put}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")).await;
    let reply = wire.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (400, "close"));
    assert!(wire.ends().await);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_ends_the_connection() {
    let server = start_with(|settings| {
        settings.limits.body_grace = Duration::from_millis(30);
        settings.limits.linger = Duration::from_millis(30);
    })
    .await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Content-Length: 4\r\n\r\nme")).await;
    let reply = wire.reply().await;
    reply.assert_problem(408, &[]);
    assert_eq!(reply.header("connection"), "close");
    assert!(wire.ends().await);
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn a_body_that_ends_early_is_never_written() {
    let server = start().await;
    for rest in ["Content-Length: 4\r\n\r\nmeo", "Transfer-Encoding: chunked\r\n\r\n4\r\nmeow\r\n"]
    {
        let mut wire = server.connect().await;
        wire.send(format!("{PUT}{rest}")).await;
        wire.send_nothing_more().await;
        while !wire.ends().await {
            wire.reply().await.assert_problem(400, &[]);
        }
    }
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn a_malformed_chunk_is_never_written() {
    let server = start().await;
    let mut wire = server.connect().await;
    wire.send(format!("{PUT}Transfer-Encoding: chunked\r\n\r\nzz\r\nmeow\r\n0\r\n\r\n")).await;
    assert_eq!(wire.reply().await.status, 400);
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn bodies_share_a_limit_and_give_it_back() {
    let server = start_with(|settings| settings.limits.max_body_bytes_in_flight = 10).await;
    server.backend.says_nothing();
    let mut first = server.connect().await;
    first.send(format!("{PUT}Content-Length: 8\r\n\r\n12345678")).await;
    server.backend.asked_for(1).await;

    let rejected = [("outcome", json!("rejected")), ("needed", json!(2)), ("acked", json!(0))];
    let reply = server.call("PUT /kv/b", "", "123").await;
    reply.assert_problem(503, &rejected);
    assert_eq!(reply.header("retry-after"), "1");
    let mut asking = server.connect().await;
    asking.send(format!("{PUT}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n")).await;
    asking.reply().await.assert_problem(503, &rejected); // and not 100
    let mut chunked = server.connect().await;
    chunked.send(format!("{PUT}Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n0\r\n\r\n")).await;
    chunked.reply().await.assert_problem(503, &rejected);

    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    assert_eq!(first.reply().await.status, 204);
    server.backend.says(ClientReply::Written(Ok(put_receipt())));
    assert_eq!(server.call("PUT /kv/b", "", "123").await.status, 204);
}

#[tokio::test]
async fn what_was_only_announced_takes_no_room_from_others() {
    let server = start_with(|settings| settings.limits.max_body_bytes_in_flight = 10).await;
    let mut idle = server.connect().await;
    idle.send(format!("{PUT}Content-Length: 9\r\nExpect: 100-continue\r\n\r\n")).await;
    assert_eq!(idle.reply_to_head().await.status, 100);
    assert_eq!(server.call("PUT /kv/b", "", "123456789").await.status, 204);
}

#[tokio::test]
async fn a_body_where_none_belongs_is_passed_over_if_it_is_small() {
    let server = start().await;
    let mut wire = server.connect().await;
    assert_eq!(wire.call("DELETE /kv/a", "", "{}").await.status, 204);
    assert_eq!(wire.call("GET /health", "", "{}").await.status, 200);
    let large = vec![b'x'; 65 * 1024];
    let reply = wire.call("DELETE /kv/a", "", large).await;
    reply.assert_problem(413, &[("limit_bytes", json!(65_536))]);
    server.backend.only_request();
}

#[tokio::test]
async fn a_refused_request_leaves_the_connection_usable() {
    let server = start().await;
    let mut wire = server.connect().await;
    let body = vec![b'x'; 300_000];
    wire.call("PUT /kv/a?w=9", "", &body).await.assert_problem(400, &[("parameter", json!("w"))]);
    assert_eq!(wire.call("PUT /kv/a", "", &body).await.status, 204);
}
