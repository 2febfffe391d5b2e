//! Nodes of two versions, as while a cluster is upgraded.

use quorate_node::{Message, Response};
use quorate_record::{Stamp, Timestamp, Version, Writer};
use quorate_transport::{Acceptor, Identity, Protocol, StreamOptions, Trust, dial};

use crate::{
    listener::{Listener, id, identity, ping, pong, soon},
    secrets::{A, knows},
};

/// What has other bytes in each version, between what has not.
fn messages() -> Vec<Message> {
    let stamp = |bits, node| {
        let writer = Writer { node: id(node), incarnation: 1 };
        let version = Version { timestamp: Timestamp::from_bits(bits), writer };
        (bits, Stamp { version, content: 5 })
    };
    let items = vec![stamp(1, "n1"), stamp(2, "n2"), stamp(3, "n1")];
    let listed = Response::Listed { items, complete: true };
    vec![ping(1), Message::Response { id: 2, notes: 0, body: listed }, pong(3)]
}

/// Whether all messages go both ways, and in which version.
async fn talk(dialer: Protocol, acceptor: Protocol, trust: Trust) -> Protocol {
    let limited = |node, newest| Identity { newest, ..identity(node) };
    let options = StreamOptions::default();
    let n2 = Acceptor::new(limited("n2", acceptor), [id("n1")], trust.clone(), options);
    let mut listener = Listener::start(n2).await;
    let n1 = limited("n1", dialer);
    let dialled = soon(dial(listener.addr, id("n2"), &n1, &trust, options)).await.unwrap();
    let accepted = listener.stream().await;
    assert_eq!(dialled.peer().protocol, accepted.peer().protocol);
    let protocol = dialled.peer().protocol;
    let run = async |stream: quorate_transport::Stream| {
        let outbox = stream.outbox();
        messages().iter().for_each(|message| outbox.try_send(message).unwrap());
        let mut got = Vec::new();
        let end = stream
            .run(|messages| {
                got.extend(messages);
                if got.len() == 3 {
                    outbox.close();
                }
            })
            .await;
        assert_eq!(got, messages(), "{end}");
    };
    soon(async { tokio::join!(run(dialled), run(accepted)) }).await;
    protocol
}

#[tokio::test]
async fn nodes_of_any_two_versions_talk_both_ways() {
    use Protocol::{V2, V3, V4};
    for trust in [Trust::Loopback, knows(A)] {
        assert_eq!(talk(V2, V3, trust.clone()).await, V2);
        assert_eq!(talk(V3, V2, trust.clone()).await, V2);
        assert_eq!(talk(V2, V2, trust.clone()).await, V2);
        assert_eq!(talk(V3, V3, trust.clone()).await, V3);
        assert_eq!(talk(V3, V4, trust.clone()).await, V3);
        assert_eq!(talk(V4, V3, trust.clone()).await, V3);
        assert_eq!(talk(V4, V4, trust).await, V4);
    }
}
