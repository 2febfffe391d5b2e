use std::time::Duration;

use quorate_node::{Message, Response};
use quorate_record::{Record, Timestamp, Version, Writer};
use quorate_transport::{Acceptor, SendError, Stream, StreamEnd, StreamOptions, Trust, dial};
use tokio::{io::BufStream, sync::mpsc};

use crate::listener::{Listener, id, identity, ping, pong, soon};

async fn pair(listener: &mut Listener, trust: &Trust, options: StreamOptions) -> (Stream, Stream) {
    let dialled =
        soon(dial(listener.addr, id("n2"), &identity("n1"), trust, options)).await.unwrap();
    (dialled, listener.stream().await)
}

/// Asks `count` questions, answers those of the other side, and reports the ids of the answers.
async fn converse(stream: Stream, count: u64, answered: mpsc::UnboundedSender<Vec<u64>>) {
    let outbox = stream.outbox();
    (0..count).for_each(|id| outbox.try_send(&ping(id)).unwrap());
    let mut answers = Vec::new();
    let end = stream
        .run(|messages| {
            for message in messages {
                match message {
                    Message::Request { id, .. } => outbox.try_send(&pong(id)).unwrap(),
                    Message::Response { id, .. } => answers.push(id),
                }
            }
            if answers.len() as u64 == count {
                answered.send(std::mem::take(&mut answers)).unwrap();
            }
        })
        .await;
    panic!("{end}");
}

pub(crate) async fn ten_thousand_go_both_ways_in_order(mut listener: Listener, trust: Trust) {
    const COUNT: u64 = 10_000;
    let (here, there) = pair(&mut listener, &trust, StreamOptions::default()).await;
    let (answered, mut answers) = mpsc::unbounded_channel();
    tokio::spawn(converse(here, COUNT, answered.clone()));
    tokio::spawn(converse(there, COUNT, answered));
    for _ in 0..2 {
        let ids = soon(answers.recv()).await.unwrap();
        assert!(ids.into_iter().eq(0..COUNT));
    }
}

#[tokio::test]
async fn ten_thousand_pipelined_messages_go_both_ways_in_order() {
    ten_thousand_go_both_ways_in_order(
        Listener::of_n2(StreamOptions::default()).await,
        Trust::default(),
    )
    .await;
}

#[tokio::test]
async fn a_socket_inside_of_something_that_buffers_serves_as_well() {
    let acceptor =
        Acceptor::new(identity("n2"), [id("n1")], Trust::default(), StreamOptions::default());
    let listener = Listener::over(acceptor, BufStream::new).await;
    ten_thousand_go_both_ways_in_order(listener, Trust::default()).await;
}

fn large(value_bytes: usize) -> Message {
    let writer = Writer { node: id("n1"), incarnation: 1 };
    let version = Version { timestamp: Timestamp::ZERO, writer };
    let body = Response::Found(Some(Record::live(version, vec![7; value_bytes])));
    Message::Response { id: 1, notes: 0, body }
}

#[tokio::test]
async fn the_largest_value_passes() {
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let (here, there) = pair(&mut listener, &Trust::default(), StreamOptions::default()).await;
    let message = large(8 * 1024 * 1024);
    let outbox = here.outbox();
    outbox.try_send(&message).unwrap();
    outbox.try_send(&pong(2)).unwrap();
    outbox.close();
    let mut got = Vec::new();
    let (sent, received) =
        soon(async { tokio::join!(here.run(|_| {}), there.run(|messages| got.extend(messages))) })
            .await;
    assert!(matches!(sent, StreamEnd::ClosedHere), "{sent}");
    assert!(matches!(received, StreamEnd::ClosedByPeer), "{received}");
    assert!(got == [message, pong(2)]);
}

#[tokio::test]
async fn a_peer_that_reads_nothing_fills_the_outbox_and_is_given_up_on() {
    let options = StreamOptions {
        queue_bytes: 64 * 1024,
        stall: Duration::from_millis(50),
        ..StreamOptions::default()
    };
    let mut listener = Listener::of_n2(StreamOptions::default()).await;
    let (here, _stalled) = pair(&mut listener, &Trust::default(), options).await;
    let outbox = here.outbox();
    let running = tokio::spawn(here.run(|_| {}));
    let message = large(16 * 1024);
    let full = soon(async {
        loop {
            match outbox.try_send(&message) {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(matches!(full, SendError::Full { .. }), "{full}");
    assert!(outbox.queued_bytes() <= 64 * 1024);
    let end = soon(running).await.unwrap();
    assert!(matches!(end, StreamEnd::Stalled { .. }), "{end}");
    assert_eq!(outbox.try_send(&message), Err(SendError::Closed));
}
