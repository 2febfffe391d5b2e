use std::{net::SocketAddr, sync::Arc};

use quorate_node::Message;
use quorate_record::NodeId;
use quorate_transport::{
    Acceptor, DialError, Identity, Link, LinkHandler, LinkOptions, PeerLinks, SendError, StreamEnd,
    StreamOptions, Trust,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};

use crate::listener::{Listener, id, identity, ping, pong, soon};

#[derive(Debug, PartialEq)]
enum Event {
    Connected { peer: NodeId, incarnation: u64 },
    Lost { peer: NodeId, reason: String },
    Messages { peer: NodeId, messages: Vec<Message> },
    Unreachable { peer: NodeId, reason: String },
}

struct Report(UnboundedSender<Event>);

impl LinkHandler for Report {
    fn connected(&self, peer: NodeId, incarnation: u64) {
        self.0.send(Event::Connected { peer, incarnation }).unwrap();
    }

    fn lost(&self, peer: NodeId, reason: &StreamEnd) {
        self.0.send(Event::Lost { peer, reason: reason.to_string() }).unwrap();
    }

    fn messages(&self, peer: NodeId, messages: Vec<Message>) {
        self.0.send(Event::Messages { peer, messages }).unwrap();
    }

    fn unreachable(&self, peer: NodeId, reason: &DialError) {
        self.0.send(Event::Unreachable { peer, reason: reason.to_string() }).unwrap();
    }
}

fn report() -> (Arc<dyn LinkHandler>, UnboundedReceiver<Event>) {
    let (sender, events) = mpsc::unbounded_channel();
    (Arc::new(Report(sender)), events)
}

fn link_to(addr: SocketAddr) -> (Link, UnboundedReceiver<Event>) {
    let (handler, events) = report();
    (
        Link::start(
            id("n2"),
            addr,
            identity("n1"),
            Trust::default(),
            handler,
            LinkOptions::default(),
        ),
        events,
    )
}

async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
    soon(events.recv()).await.unwrap()
}

fn connected(peer: &str) -> Event {
    Event::Connected { peer: id(peer), incarnation: 0x5f0c_21aa }
}

#[tokio::test]
async fn a_peer_that_dies_is_lost_at_once_and_connected_to_again() {
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let (link, mut events) = link_to(listener.addr);
    for _ in 0..3 {
        assert_eq!(next(&mut events).await, connected("n2"));
        link.try_send(&ping(1)).unwrap();
        let dies = listener.stream().await;
        drop(dies);
        let Event::Lost { peer, reason } = next(&mut events).await else { panic!() };
        assert_eq!(peer, id("n2"));
        assert_eq!(link.try_send(&ping(2)), Err(SendError::NotConnected));
        assert_eq!(link.last_error(), Some(reason));
    }
    assert_eq!(next(&mut events).await, connected("n2"));
    assert!(link.is_connected());
}

#[tokio::test]
async fn answers_reach_the_handler() {
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let (link, mut events) = link_to(listener.addr);
    assert_eq!(next(&mut events).await, connected("n2"));
    link.try_send(&ping(7)).unwrap();
    let stream = listener.stream().await;
    let outbox = stream.outbox();
    let (asked, mut requests) = mpsc::unbounded_channel();
    tokio::spawn(stream.run(move |messages| asked.send(messages).unwrap()));
    assert_eq!(soon(requests.recv()).await, Some(vec![ping(7)]));
    outbox.try_send(&pong(7)).unwrap();
    let answer = Event::Messages { peer: id("n2"), messages: vec![pong(7)] };
    assert_eq!(next(&mut events).await, answer);
}

#[tokio::test]
async fn a_peer_that_is_not_there_fails_sends_at_once_until_it_comes() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let (link, mut events) = link_to(addr);
    assert_eq!(link.try_send(&ping(1)), Err(SendError::NotConnected));
    let Event::Unreachable { peer, reason } = next(&mut events).await else { panic!() };
    assert_eq!(peer, id("n2"));
    assert!(reason.starts_with("cannot connect to 127.0.0.1:"), "{reason}");
    assert_eq!(link.queued_bytes(), 0);
}

#[tokio::test]
async fn a_refused_link_keeps_the_reason() {
    let other = Identity { fingerprint: 8, ..identity("n2") };
    let acceptor = Acceptor::new(other, [id("n1")], Trust::default(), StreamOptions::default());
    let listener = Listener::start(acceptor).await;
    let (link, mut events) = link_to(listener.addr);
    for _ in 0..2 {
        let Event::Unreachable { reason, .. } = next(&mut events).await else { panic!() };
        assert!(reason.contains("refused with 421: node n1 has cluster fingerprint"), "{reason}");
        assert_eq!(link.last_error(), Some(reason));
    }
}

#[tokio::test]
async fn a_stopped_link_ends_its_connection_and_says_nothing_more() {
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let (link, mut events) = link_to(listener.addr);
    assert_eq!(next(&mut events).await, connected("n2"));
    let stream = listener.stream().await;
    soon(link.stop()).await;
    let end = soon(stream.run(|_| {})).await;
    assert!(matches!(end, StreamEnd::ClosedByPeer), "{end}");
    assert_eq!(soon(events.recv()).await, None);
}

#[tokio::test]
async fn each_peer_has_its_own_link() {
    let mut n2 = Listener::of_n2(StreamOptions::default()).await;
    let acceptor =
        Acceptor::new(identity("n3"), [id("n1")], Trust::default(), StreamOptions::default());
    let n3 = Listener::start(acceptor).await;
    let (handler, mut events) = report();
    let peers = [(id("n2"), n2.addr), (id("n3"), n3.addr)];
    let links = PeerLinks::start(
        peers,
        identity("n1"),
        &Trust::default(),
        &handler,
        LinkOptions::default(),
    );
    let mut up = [next(&mut events).await, next(&mut events).await];
    up.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(up, [connected("n2"), connected("n3")]);
    assert_eq!(links.try_send(id("n4"), &ping(1)), Err(SendError::NotConnected));
    links.try_send(id("n2"), &ping(1)).unwrap();
    drop(n2.stream().await);
    assert!(matches!(next(&mut events).await, Event::Lost { peer, .. } if peer == id("n2")));
    assert!(links.get(id("n3")).unwrap().is_connected());
    assert_eq!(links.iter().map(|link| link.peer()).collect::<Vec<_>>(), [id("n2"), id("n3")]);
    soon(links.stop()).await;
}
