use std::net::SocketAddr;

use quorate_transport::{
    Accepted, DialError, Identity, Protocol, STREAM_PATH, StreamEnd, StreamOptions, Trust, dial,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::listener::{Listener, id, identity, soon};

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let dialled =
        dial(listener.addr, id("n2"), &identity("n1"), &Trust::default(), StreamOptions::default())
            .await
            .unwrap();
    let accepted = listener.stream().await;
    let peer = |node| Accepted { node: id(node), incarnation: 0x5f0c_21aa, protocol: Protocol::V4 };
    assert_eq!((dialled.peer(), accepted.peer()), (peer("n2"), peer("n1")));
}

#[tokio::test]
async fn nodes_that_differ_refuse_with_the_reason() {
    let listener = Listener::of_n2(StreamOptions::default()).await;
    let n1 = identity("n1");
    for (to, me, says) in [
        ("n3", n1, "this is node n2, not n3"),
        ("n2", identity("n9"), "node n9 is not a peer of n2"),
        ("n2", Identity { fingerprint: 8, ..n1 }, "cluster fingerprint 0000000000000008"),
    ] {
        let error =
            soon(dial(listener.addr, id(to), &me, &Trust::default(), StreamOptions::default()))
                .await;
        match error.err().expect("it must be refused") {
            DialError::Refused { status: 421, detail, .. } => {
                assert!(detail.contains(says), "{detail}");
            }
            error => panic!("{error}"),
        }
    }
}

pub(crate) async fn answer_to(addr: SocketAddr, head: &str) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(soon(socket.read_u8()).await.unwrap());
    }
    (socket, String::from_utf8(answer).unwrap())
}

pub(crate) fn request(headers: &str) -> String {
    format!("POST {STREAM_PATH} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

pub(crate) const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: quorate/1\r\n";

const PROTOCOL_8: &str = "Quorate-Node: n1\r\nQuorate-To: n2\r\nQuorate-Incarnation: 1\r\n\
    Quorate-Cluster: 7\r\nQuorate-Protocol: 8-9\r\n";

#[tokio::test]
async fn requests_for_something_else_are_told_what_to_ask_for() {
    let listener = Listener::of_n2(StreamOptions::default()).await;
    for (headers, status) in [
        (String::new(), "426 Upgrade Required"),
        (UPGRADE.into(), "400 Bad Request"),
        (format!("{UPGRADE}{PROTOCOL_8}"), "421 Misdirected Request"),
    ] {
        let (_, answer) = answer_to(listener.addr, &request(&headers)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test]
async fn garbage_after_the_upgrade_ends_the_connection_with_a_reason() {
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let headers = format!("{UPGRADE}{}", PROTOCOL_8.replace("8-9", "1-9"));
    let (mut socket, answer) = answer_to(listener.addr, &request(&headers)).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols"), "{answer}");
    assert!(answer.to_lowercase().contains("quorate-protocol: 4-4"), "{answer}");
    socket.write_all(b"GET /health HTTP/1.1\r\n\r\n").await.unwrap();
    let end = soon(listener.stream().await.run(|messages| panic!("{messages:?}"))).await;
    assert!(matches!(end, StreamEnd::BadFrame(_)), "{end}");
    assert!(end.to_string().starts_with("the peer sent garbage: a frame of"), "{end}");
    let mut rest = Vec::new();
    // Reset or closed, as what was left unread decides; either way it is over.
    let _ = soon(socket.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_listener_that_is_no_node_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let stranger = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"220 mail.example ESMTP\r\n").await.unwrap();
        socket
    };
    let me = identity("n1");
    let trust = Trust::default();
    let dialling = dial(addr, id("n2"), &me, &trust, StreamOptions::default());
    let (_, stream) = soon(async { tokio::join!(stranger, dialling) }).await;
    assert!(matches!(stream.err(), Some(DialError::Http { .. })));
}

#[tokio::test]
async fn other_machines_are_not_dialled_without_a_secret() {
    let addr = "192.0.2.1:9001".parse().unwrap();
    let refused =
        dial(addr, id("n2"), &identity("n1"), &Trust::default(), StreamOptions::default()).await;
    assert!(matches!(refused.err(), Some(DialError::NotLoopback(_))));
}
