//! Peers that share a secret.

use quorate_node::Message;
use quorate_transport::{Secrets, Stream, StreamEnd, StreamOptions, Trust, dial};

use crate::{
    listener::{Listener, id, identity, ping, pong, soon},
    streams::ten_thousand_go_both_ways_in_order,
};

pub(crate) const A: &[u8] = b"a secret of the cluster, 32 bytes";
pub(crate) const B: &[u8] = b"the next secret of that cluster..";

pub(crate) fn knows(first: &[u8]) -> Trust {
    Trust::Secrets(Secrets::new(first, None))
}

fn knows_both(first: &[u8], second: &[u8]) -> Trust {
    Trust::Secrets(Secrets::new(first, Some(second)))
}

async fn connects(dialer: &Trust, acceptor: Trust) -> bool {
    let listener = Listener::trusting(acceptor).await;
    let n1 = identity("n1");
    let dialled = dial(listener.addr, id("n2"), &n1, dialer, StreamOptions::default());
    soon(dialled).await.is_ok()
}

pub(crate) async fn talk(here: Stream, there: Stream) -> [(Vec<Message>, StreamEnd); 2] {
    let run = async |stream: Stream, says: Message| {
        let outbox = stream.outbox();
        outbox.try_send(&says).unwrap();
        let mut got = Vec::new();
        let end = stream
            .run(|messages| {
                got.extend(messages);
                outbox.close();
            })
            .await;
        (got, end)
    };
    let (here, there) = soon(async { tokio::join!(run(here, ping(1)), run(there, pong(2))) }).await;
    [here, there]
}

#[tokio::test]
async fn peers_that_share_a_secret_talk() {
    let mut listener = Listener::trusting(knows(A)).await;
    let n1 = identity("n1");
    let here = dial(listener.addr, id("n2"), &n1, &knows(A), StreamOptions::default()).await;
    let [(got_here, _), (got_there, _)] = talk(here.unwrap(), listener.stream().await).await;
    assert_eq!((got_here, got_there), (vec![pong(2)], vec![ping(1)]));
}

#[tokio::test]
async fn ten_thousand_sealed_messages_go_both_ways_in_order() {
    ten_thousand_go_both_ways_in_order(Listener::trusting(knows(A)).await, knows(A)).await;
}

#[tokio::test]
async fn secrets_can_be_replaced_one_node_at_a_time() {
    let steps = [
        [knows(A), knows(A)],
        [knows(A), knows_both(A, B)],
        [knows_both(A, B), knows_both(A, B)],
        [knows_both(A, B), knows_both(B, A)],
        [knows_both(B, A), knows_both(B, A)],
        [knows_both(B, A), knows(B)],
        [knows(B), knows(B)],
    ];
    for (step, [one, other]) in steps.into_iter().enumerate() {
        assert!(connects(&one, other.clone()).await, "step {step}");
        assert!(connects(&other, one).await, "step {step}, the other way");
    }
    assert!(!connects(&knows(A), knows(B)).await);
    assert!(!connects(&knows(A), knows_both(B, A)).await, "a step was left out");
}

#[tokio::test]
async fn a_stream_closed_on_purpose_ends_with_a_farewell_and_a_cut_one_without() {
    let mut listener = Listener::trusting(knows(A)).await;
    let n1 = identity("n1");
    let dialled = async |addr| {
        soon(dial(addr, id("n2"), &n1, &knows(A), StreamOptions::default())).await.unwrap()
    };
    let (closes, here) = (dialled(listener.addr).await, listener.stream().await);
    closes.outbox().close();
    let (end, _) = soon(async { tokio::join!(here.run(|_| {}), closes.run(|_| {})) }).await;
    assert!(matches!(end, StreamEnd::ClosedByPeer), "{end}");

    let (dies, here) = (dialled(listener.addr).await, listener.stream().await);
    drop(dies);
    let end = soon(here.run(|_| {})).await;
    assert!(matches!(end, StreamEnd::NoFarewell), "{end}");
}
