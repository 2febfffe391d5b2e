use std::time::Duration;

use quorate_node::ClientReply;
use quorate_record::Record;
use serde_json::json;

use super::{
    Server, Wire,
    fake::{get_receipt, put_receipt, version},
    start, start_with,
};

/// A client whose request the backend has, and does not answer yet.
async fn waiting(server: &Server) -> Wire {
    server.backend.says_nothing();
    let mut wire = server.connect().await;
    wire.send("DELETE /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    server.backend.asked_for(1).await;
    wire
}

#[tokio::test]
async fn requests_beyond_the_limit_are_told_to_come_back() {
    let server = start_with(|settings| settings.max_in_flight = 1).await;
    let mut first = waiting(&server).await;
    let reply = server.call("GET /kv/b", "", "").await;
    let nobody = [("needed", json!(2)), ("acked", json!(0))];
    reply.assert_problem(503, &nobody);
    assert_eq!(reply.header("retry-after"), "1");
    let reply = server.call("DELETE /kv/b", "", "").await;
    reply.assert_problem(503, &[&nobody[..], &[("outcome", json!("rejected"))]].concat());
    assert_eq!(server.call("GET /admin/status", "", "").await.status, 200);

    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    assert_eq!(first.reply().await.status, 204);
    server.backend.says(ClientReply::Written(Ok(put_receipt())));
    assert_eq!(server.call("DELETE /kv/b", "", "").await.status, 204);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_takes_the_place_of_the_one_idle_longest() {
    let server = start_with(|settings| settings.max_connections = 3).await;
    let mut silent = server.connect().await;
    let mut between = server.connect().await;
    assert_eq!(between.call("GET /health", "", "").await.status, 200);
    let mut working = waiting(&server).await;

    let mut newer = server.connect().await;
    assert_eq!(newer.call("GET /health", "", "").await.status, 200);
    assert!(silent.ends().await);
    let mut newest = server.connect().await;
    assert_eq!(newest.call("GET /health", "", "").await.status, 200);
    assert!(between.ends().await);
    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    assert_eq!(working.reply().await.status, 204);
    assert_eq!(newer.call("GET /health", "", "").await.status, 200);
}

#[tokio::test]
async fn many_more_idle_connections_than_there_may_be_keep_nobody_out() {
    let server = start_with(|settings| settings.max_connections = 8).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(server.connect().await);
        let mut wire = server.connect().await;
        assert_eq!(wire.call("GET /health", "", "").await.status, 200);
        idle.push(wire);
    }
    assert_eq!(server.call("GET /health", "", "").await.status, 200);
}

#[tokio::test]
async fn whoever_has_only_begun_a_request_gives_way() {
    let server = start_with(|settings| settings.max_connections = 2).await;
    let mut begun = server.connect().await;
    begun.send("GET /hea").await;
    let mut again = server.connect().await;
    assert_eq!(again.call("GET /health", "", "").await.status, 200);
    again.send("GET /hea").await;
    let mut stay = Vec::new();
    for leaves in [&mut begun, &mut again] {
        let mut wire = server.connect().await;
        assert_eq!(wire.call("GET /health", "", "").await.status, 200);
        assert!(leaves.ends().await);
        stay.push(wire);
    }
}

#[tokio::test]
async fn long_answers_share_a_limit_until_they_are_taken() {
    const LEN: usize = 16 << 20; // more than the system takes of it
    let server =
        start_with(|settings| settings.limits.max_answer_bytes_in_flight = LEN + 100).await;
    let record = Record::live(version(1), vec![b'x'; LEN]);
    server.backend.says(ClientReply::Read(Ok(get_receipt(Some(record)))));
    let mut slow = server.connect().await;
    slow.send("GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    server.backend.asked_for(1).await;
    let refused = server.call("GET /kv/b", "", "").await;
    refused.assert_problem(503, &[]);
    assert_eq!(slow.reply().await.body.len(), LEN);
    // What was written last may not have been noticed yet.
    let taken = async {
        while server.call("GET /kv/c", "", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), taken).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_closed_if_none_is_idle() {
    let server = start_with(|settings| settings.max_connections = 2).await;
    let mut first = waiting(&server).await;
    let mut other = server.connect().await;
    other.send("DELETE /kv/b HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    server.backend.asked_for(2).await;
    let mut third = server.connect().await;
    let reply = third.call("GET /health", "", "").await;
    reply.assert_problem(503, &[]);
    assert_eq!(reply.header("retry-after"), "1");
    assert!(third.ends().await);
    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    assert_eq!(first.reply().await.status, 204);
    assert_eq!(other.reply().await.status, 204);
}

#[tokio::test]
async fn connections_beyond_the_refusals_are_only_closed() {
    let server = start_with(|settings| {
        settings.max_connections = 0;
        settings.limits.max_refusals = 1;
    })
    .await;
    let mut told = server.connect().await;
    assert_eq!(told.reply().await.status, 503); // and is read from until it closes
    let mut closed = server.connect().await;
    assert!(closed.ends().await);
}

#[tokio::test]
async fn a_client_that_goes_away_harms_nobody() {
    let server = start_with(|settings| settings.max_in_flight = 1).await;
    drop(waiting(&server).await);
    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    server.backend.says(ClientReply::Written(Ok(put_receipt())));
    assert_eq!(server.call("DELETE /kv/a", "", "").await.status, 204);
}

#[tokio::test]
async fn a_node_that_stops_says_that_it_does_not_know_the_outcome() {
    let server = start().await;
    let mut wire = waiting(&server).await;
    server.backend.forget_all();
    wire.reply().await.assert_problem(503, &[("outcome", json!("indeterminate"))]);
}

#[tokio::test]
async fn stopping_waits_for_open_requests_and_for_nothing_else() {
    let server = start().await;
    let mut idle = server.connect().await;
    assert_eq!(idle.call("GET /health", "", "").await.status, 200);
    let mut open = waiting(&server).await;

    server.stop.send(()).unwrap();
    assert!(idle.ends().await);
    assert!(!server.stopped.is_finished());
    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    let reply = open.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (204, "close"));
    server.stopped.await.unwrap();
}

#[tokio::test]
async fn who_waits_for_an_answer_is_not_idle() {
    let brief = Duration::from_millis(50);
    let server = start_with(|settings| settings.limits.idle_timeout = brief).await;
    let mut wire = waiting(&server).await;
    tokio::time::sleep(8 * brief).await;
    server.backend.answer_all(&ClientReply::Written(Ok(put_receipt())));
    assert_eq!(wire.reply().await.status, 204);
    assert!(wire.ends().await);
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let brief = Duration::from_millis(50);
    let server = start_with(|settings| settings.limits.drain = brief).await;
    let mut open = waiting(&server).await;
    server.stop.send(()).unwrap();
    server.stopped.await.unwrap();
    assert!(open.ends().await);
}
