//! Two nodes in one process: n1 keeps a link to n2 and asks it whether it is there.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use quorate_node::{Message, Request, Response};
use quorate_record::NodeId;
use quorate_transport::{
    Acceptor, Identity, Link, LinkHandler, LinkOptions, Protocol, Stream, StreamEnd, StreamOptions,
    Trust,
};
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedSender},
};

/// What n1 does about its link.
struct Print {
    connected: UnboundedSender<()>,
    answered: UnboundedSender<()>,
}

impl LinkHandler for Print {
    fn connected(&self, peer: NodeId, incarnation: u64) {
        println!("n1: connected to {peer}, incarnation {incarnation:x}");
        let _ = self.connected.send(());
    }

    fn lost(&self, peer: NodeId, reason: &StreamEnd) {
        println!("n1: lost {peer}: {reason}");
    }

    fn messages(&self, peer: NodeId, messages: Vec<Message>) {
        println!("n1: {peer} says {messages:?}");
        let _ = self.answered.send(());
    }
}

/// What n2 does with each stream that a peer opens.
async fn answer(stream: Stream) {
    let (peer, outbox) = (stream.peer().node, stream.outbox());
    let end = stream
        .run(|messages| {
            for message in messages {
                println!("n2: {peer} asks {message:?}");
                if let Message::Request { id, body: Request::Ping { wall_ms }, .. } = message {
                    let body = Response::Pong { wall_ms: wall_ms + 1 };
                    if let Err(error) = outbox.try_send(&Message::Response { id, notes: 0, body }) {
                        println!("n2: no answer: {error}");
                    }
                }
            }
        })
        .await;
    println!("n2: the stream of {peer} has ended: {end}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (n1, n2) = (NodeId::new("n1")?, NodeId::new("n2")?);
    let identity = |node| Identity {
        node,
        incarnation: 0x5f0c_21aa,
        fingerprint: 7,
        newest: Protocol::NEWEST,
    };

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    let acceptor =
        Arc::new(Acceptor::new(identity(n2), [n1], Trust::default(), StreamOptions::default()));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = Arc::clone(&acceptor);
            let service = service_fn(move |mut request| {
                let (response, accepting) = acceptor.accept(&mut request);
                tokio::spawn(async move {
                    let Some(accepting) = accepting else { return };
                    match accepting.stream().await {
                        Ok(stream) => answer(stream).await,
                        Err(error) => println!("n2: no stream: {error}"),
                    }
                });
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            tokio::spawn(connection.with_upgrades());
        }
    });

    let (connected, mut is_connected) = mpsc::unbounded_channel();
    let (answered, mut is_answered) = mpsc::unbounded_channel();
    let handler = Arc::new(Print { connected, answered });
    let link =
        Link::start(n2, addr, identity(n1), Trust::default(), handler, LinkOptions::default());
    is_connected.recv().await;
    let time_left = Duration::from_millis(800);
    link.try_send(&Message::Request { id: 1, time_left, body: Request::Ping { wall_ms: 41 } })?;
    is_answered.recv().await;
    link.stop().await;
    Ok(())
}
