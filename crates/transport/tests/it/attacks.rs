//! What somebody on the network may try who does not know the secret. Each is refused.

use std::net::SocketAddr;

use bytes::BytesMut;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use quorate_transport::{
    AcceptError, Acceptor, DialError, HandshakeError, Identity, Protocol, StreamEnd, StreamOptions,
    Trust, dial, encode_frame,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    handshake::{UPGRADE, answer_to, request},
    listener::{Listener, id, identity, ping, pong, soon},
    secrets::{A, B, knows},
};

const HELLO: &str = "Quorate-Node: n1\r\nQuorate-To: n2\r\nQuorate-Incarnation: 5f0c21aa\r\n\
    Quorate-Cluster: 7\r\nQuorate-Protocol: 2-4\r\n";

fn asks_for_a_proof() -> String {
    request(&format!("{UPGRADE}{HELLO}Quorate-Nonce: {}\r\n", "5a".repeat(32)))
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let line = head.lines().find(|line| line.to_lowercase().starts_with(name)).unwrap();
    line.split_once(": ").unwrap().1
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

async fn dial_n2(addr: SocketAddr, trust: &Trust) -> Result<(), DialError> {
    soon(dial(addr, id("n2"), &identity("n1"), trust, StreamOptions::default())).await.map(drop)
}

fn is_wrong_proof(error: &DialError) -> bool {
    matches!(error, DialError::Disagreed { source: HandshakeError::WrongProof { .. }, .. })
}

/// Somebody between n1 and n2, who changes what the first says in the handshake, and passes on the
/// rest both ways.
async fn between(n2: SocketAddr, change: fn(String) -> String) -> SocketAddr {
    between_both(n2, change, |answer| answer).await
}

async fn between_both(
    n2: SocketAddr,
    change: fn(String) -> String,
    change_answer: fn(String) -> String,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut n1, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(n1.read_u8().await.unwrap());
        }
        let (mut n2, answer) = answer_to(n2, &change(String::from_utf8(head).unwrap())).await;
        n1.write_all(change_answer(answer).as_bytes()).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut n1, &mut n2).await;
    });
    addr
}

#[tokio::test]
async fn the_secret_of_another_cluster_is_refused_on_both_sides() {
    let mut listener = Listener::trusting(knows(B)).await;
    let error = dial_n2(listener.addr, &knows(A)).await.unwrap_err();
    assert!(is_wrong_proof(&error), "{error}");
    assert!(error.to_string().contains("node n2 proves none of the cluster secrets of node n1"));
    let failure = listener.failure().await;
    assert!(matches!(failure, AcceptError::NoProof(_)), "{failure}");
}

#[tokio::test]
async fn a_stranger_is_not_told_the_fingerprint_of_the_cluster() {
    let listener = Listener::trusting(knows(A)).await;
    let other = Identity { fingerprint: 8, ..identity("n1") };
    let (trust, options) = (knows(B), StreamOptions::default());
    let reason = soon(dial(listener.addr, id("n2"), &other, &trust, options))
        .await
        .err()
        .expect("it is refused")
        .to_string();
    assert!(
        reason.contains("refused with 421: node n1 has another cluster fingerprint"),
        "{reason}"
    );
    assert!(!reason.contains(&format!("{:016x}", identity("n2").fingerprint)), "{reason}");
}

#[tokio::test]
async fn a_dialer_that_offers_no_proof_is_refused() {
    let listener = Listener::trusting(knows(A)).await;
    match dial_n2(listener.addr, &Trust::Anyone).await.unwrap_err() {
        DialError::Refused { status: 401, detail, .. } => {
            assert!(detail.contains("node n1 does not prove that it knows"), "{detail}");
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_acceptor_without_a_secret_says_so() {
    let listener = Listener::trusting(Trust::Anyone).await;
    match dial_n2(listener.addr, &knows(A)).await.unwrap_err() {
        DialError::Refused { status: 421, detail, .. } => {
            assert!(detail.contains("node n2 has none"), "{detail}");
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_downgrade_to_no_secret_is_refused() {
    let listener = Listener::trusting(Trust::Anyone).await;
    let without_nonce = |head: String| {
        let lines = head.split_inclusive("\r\n");
        lines.filter(|line| !line.to_lowercase().starts_with("quorate-nonce")).collect()
    };
    let error = dial_n2(between(listener.addr, without_nonce).await, &knows(A)).await.unwrap_err();
    let refused =
        matches!(error, DialError::Disagreed { source: HandshakeError::NoProof { .. }, .. });
    assert!(refused, "{error}");

    let listener = Listener::trusting(knows(A)).await;
    let (_, answer) = answer_to(listener.addr, &request(&format!("{UPGRADE}{HELLO}"))).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

#[tokio::test]
async fn a_downgrade_to_an_older_version_is_refused() {
    let mut listener = Listener::trusting(knows(A)).await;
    let older = |head: String| head.replace(": 2-4\r\n", ": 2-2\r\n");
    let error = dial_n2(between(listener.addr, older).await, &knows(A)).await.unwrap_err();
    assert!(is_wrong_proof(&error), "{error}");
    listener.failure().await;
}

#[tokio::test]
async fn a_hello_that_is_changed_on_its_way_is_refused() {
    let changes: [fn(String) -> String; 2] = [
        |head| head.replace(": 5f0c21aa\r\n", ": 5f0c21ab\r\n"),
        |head| {
            let nonce = header(&head, "quorate-nonce").to_owned();
            head.replace(&nonce, &"0".repeat(64))
        },
    ];
    for change in changes {
        let mut listener = Listener::trusting(knows(A)).await;
        let error = dial_n2(between(listener.addr, change).await, &knows(A)).await.unwrap_err();
        assert!(is_wrong_proof(&error), "{error}");
        listener.failure().await;
    }
    // Another node that knows the secret cannot be made to speak for n1.
    let options = StreamOptions::default();
    let n2 = Acceptor::new(identity("n2"), [id("n1"), id("n3")], knows(A), options);
    let listener = Listener::start(n2).await;
    let as_n1 = |head: String| head.replace(": n3\r\n", ": n1\r\n");
    let addr = between(listener.addr, as_n1).await;
    let n3 = identity("n3");
    assert!(soon(dial(addr, id("n2"), &n3, &knows(A), options)).await.is_err());
}

#[tokio::test]
async fn a_version_that_nobody_speaks_is_refused_before_any_proof() {
    let listener = Listener::trusting(knows(A)).await;
    let (_, answer) = answer_to(listener.addr, &asks_for_a_proof().replace("2-4", "8-9")).await;
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert!(!answer.to_lowercase().contains("quorate-proof"), "{answer}");
}

#[tokio::test]
async fn a_reflected_proof_is_refused() {
    let mut listener = Listener::trusting(knows(A)).await;
    let (mut socket, answer) = answer_to(listener.addr, &asks_for_a_proof()).await;
    socket.write_all(&bytes(header(&answer, "quorate-proof"))).await.unwrap();
    let failure = listener.failure().await;
    assert!(matches!(failure, AcceptError::WrongProof), "{failure}");
}

#[tokio::test]
async fn a_challenge_that_is_reflected_to_the_dialer_itself_is_refused() {
    // Whoever n1 calls lets n1 answer its own challenge, as if n2 had called it.
    let options = StreamOptions::default();
    let n1 = Acceptor::new(identity("n1"), [id("n2")], knows(A), options);
    let n1 = Listener::start(n1).await;
    let swapped = |head: String| {
        let head = head.replace(": n1\r\n", ": n9\r\n").replace(": n2\r\n", ": n1\r\n");
        head.replace(": n9\r\n", ": n2\r\n")
    };
    let addr = between_both(n1.addr, swapped, swapped).await;
    let error = dial_n2(addr, &knows(A)).await.unwrap_err();
    assert!(is_wrong_proof(&error), "{error}");
}

/// Everything that n1 sends to n2 on a good connection: the handshake's head, the proof, frames.
async fn recorded(listener: &mut Listener) -> (String, Vec<u8>) {
    let tap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, n2) = (tap.local_addr().unwrap(), listener.addr);
    let tapped = tokio::spawn(async move {
        let (mut n1, _) = tap.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(n1.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let (mut n2, answer) = answer_to(n2, &head).await;
        n1.write_all(answer.as_bytes()).await.unwrap();
        let mut sent = Vec::new();
        n1.read_to_end(&mut sent).await.unwrap();
        n2.write_all(&sent).await.unwrap();
        (head, sent, n2)
    });
    let n1 = identity("n1");
    let dialled = soon(dial(addr, id("n2"), &n1, &knows(A), StreamOptions::default())).await;
    let dialled = dialled.unwrap();
    (1..=2).for_each(|id| dialled.outbox().try_send(&ping(id)).unwrap());
    dialled.outbox().close();
    soon(dialled.run(|_| {})).await;
    let (head, sent, _n2) = soon(tapped).await.unwrap();
    let mut got = Vec::new();
    soon(listener.stream().await.run(|messages| got.extend(messages))).await;
    assert_eq!(got, [ping(1), ping(2)]);
    (head, sent)
}

#[tokio::test]
async fn a_replayed_handshake_is_refused() {
    let mut listener = Listener::trusting(knows(A)).await;
    let (head, sent) = recorded(&mut listener).await;
    let (mut socket, _) = answer_to(listener.addr, &head).await;
    let _ = socket.write_all(&sent).await; // it may be closed on the way
    let failure = listener.failure().await;
    assert!(matches!(failure, AcceptError::WrongProof), "{failure}");
}

#[tokio::test]
async fn frames_without_a_proof_are_no_messages() {
    let mut listener = Listener::trusting(knows(A)).await;
    let (mut socket, _) = answer_to(listener.addr, &asks_for_a_proof()).await;
    let mut frames = Vec::new();
    (0..8).for_each(|id| encode_frame(&pong(id), Protocol::NEWEST, &mut frames).unwrap());
    socket.write_all(&frames).await.unwrap();
    let failure = listener.failure().await;
    assert!(matches!(failure, AcceptError::WrongProof), "{failure}");
    let mut rest = BytesMut::new();
    while soon(socket.read_buf(&mut rest)).await.is_ok_and(|len| len > 0) {}
    assert!(rest.is_empty(), "a stranger is told nothing");
}

type Change = fn(Vec<u8>) -> Vec<u8>;

/// n1 and n2 with somebody between them who changes what n1 sends after the handshake.
async fn ends_after(change: Change) -> (usize, StreamEnd) {
    let mut listener = Listener::trusting(knows(A)).await;
    let tap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, n2) = (tap.local_addr().unwrap(), listener.addr);
    tokio::spawn(async move {
        let (mut n1, _) = tap.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(n1.read_u8().await.unwrap());
        }
        let (mut n2, answer) = answer_to(n2, &String::from_utf8(head).unwrap()).await;
        n1.write_all(answer.as_bytes()).await.unwrap();
        let mut proof = [0; 32];
        n1.read_exact(&mut proof).await.unwrap();
        let mut frames = Vec::new();
        n1.read_to_end(&mut frames).await.unwrap();
        n2.write_all(&[&proof[..], &change(frames)].concat()).await.unwrap();
    });
    let n1 = identity("n1");
    let dialled = soon(dial(addr, id("n2"), &n1, &knows(A), StreamOptions::default())).await;
    let dialled = dialled.unwrap();
    (1..=3).for_each(|id| dialled.outbox().try_send(&ping(id)).unwrap());
    dialled.outbox().close();
    soon(dialled.run(|_| {})).await;
    let mut got = 0;
    let end = soon(listener.stream().await.run(|messages| got += messages.len())).await;
    (got, end)
}

/// The bytes of a sealed ping.
const PING: usize = 4 + 25 + 16;

#[tokio::test]
async fn replayed_moved_left_out_and_changed_frames_end_the_stream() {
    let cases: [(&str, Change, usize); 4] = [
        ("replayed", |frames| [&frames[..PING], &frames[..PING]].concat(), 1),
        ("moved", |frames| [&frames[PING..2 * PING], &frames[..PING]].concat(), 0),
        ("left out", |frames| [&frames[..PING], &frames[2 * PING..]].concat(), 1),
        (
            "changed",
            |mut frames| {
                frames[PING + 10] ^= 1;
                frames
            },
            1,
        ),
    ];
    for (what, change, good) in cases {
        let (got, end) = ends_after(change).await;
        assert_eq!(got, good, "{what}: {end}");
        assert!(end.to_string().contains("a frame's seal is wrong"), "{what}: {end}");
    }
}

#[tokio::test]
async fn truncation_is_noticed_within_a_frame_and_between_two() {
    let (got, end) = ends_after(|frames| frames).await;
    assert!(got == 3 && matches!(end, StreamEnd::ClosedByPeer), "{end}");
    let (got, end) = ends_after(|frames| frames[..2 * PING].to_vec()).await;
    assert!(got == 2 && matches!(end, StreamEnd::NoFarewell), "{end}");
    let (got, end) = ends_after(|frames| frames[..2 * PING + 9].to_vec()).await;
    assert!(got == 2 && matches!(end, StreamEnd::CutOff), "{end}");
}

#[tokio::test]
async fn strangers_that_hold_on_to_handshakes_do_not_keep_a_peer_out() {
    let mut listener = Listener::trusting(knows(A)).await;
    let mut strangers: Vec<TcpStream> = Vec::new();
    for _ in 0..33 {
        strangers.push(answer_to(listener.addr, &asks_for_a_proof()).await.0);
    }
    let failure = listener.failure().await;
    assert!(matches!(failure, AcceptError::Crowded), "{failure}");
    dial_n2(listener.addr, &knows(A)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stranger_that_says_nothing_is_given_up_on() {
    let options = StreamOptions::default();
    let acceptor = Acceptor::new(identity("n2"), [id("n1")], knows(A), options);
    let (mut here, there): (DuplexStream, DuplexStream) = duplex(4096);
    let (ended, mut end) = mpsc::unbounded_channel();
    let service = service_fn(move |mut request| {
        let (response, accepting) = acceptor.accept(&mut request);
        let (ended, accepting) = (ended.clone(), accepting.unwrap());
        tokio::spawn(async move { ended.send(accepting.stream().await.err()).unwrap() });
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    tokio::spawn(
        http1::Builder::new().serve_connection(TokioIo::new(there), service).with_upgrades(),
    );
    here.write_all(asks_for_a_proof().as_bytes()).await.unwrap();
    here.write_all(&[0; 31]).await.unwrap();
    let end = end.recv().await.unwrap();
    assert!(matches!(end, Some(AcceptError::TimedOut { after }) if after.as_secs() == 3));
}
