//! A node's listener as the tests need it, and what else they share.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use quorate_node::{Message, Request, Response};
use quorate_record::NodeId;
use quorate_transport::{AcceptError, Acceptor, Identity, Protocol, Stream, StreamOptions, Trust};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinHandle,
};

/// Hands every accepted stream to the test.
pub(crate) struct Listener {
    pub(crate) addr: SocketAddr,
    pub(crate) streams: UnboundedReceiver<Result<Stream, AcceptError>>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(crate) async fn start(acceptor: Acceptor) -> Self {
        Self::over(acceptor, |socket| socket).await
    }

    /// Serves sockets inside of something else, as with TLS.
    pub(crate) async fn over<S>(acceptor: Acceptor, wrap: fn(TcpStream) -> S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let acceptor = Arc::new(acceptor);
        let (accepted, streams) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, accepted) = (Arc::clone(&acceptor), accepted.clone());
                let service = service_fn(move |mut request| {
                    let (response, accepting) = acceptor.accept(&mut request);
                    let accepted = accepted.clone();
                    if let Some(accepting) = accepting {
                        tokio::spawn(async move {
                            // The test may be over.
                            let _ = accepted.send(accepting.stream().await);
                        });
                    }
                    async move { Ok::<_, Infallible>(response) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(wrap(socket)), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { addr, streams, task }
    }

    /// The listener of n2, which has one peer, n1.
    pub(crate) async fn of_n2(options: StreamOptions) -> Self {
        Self::start(Acceptor::new(identity("n2"), [id("n1")], Trust::default(), options)).await
    }

    /// The listener of n2, whose peer has to prove that it knows a secret.
    pub(crate) async fn trusting(trust: Trust) -> Self {
        let options = StreamOptions::default();
        Self::start(Acceptor::new(identity("n2"), [id("n1")], trust, options)).await
    }

    pub(crate) async fn stream(&mut self) -> Stream {
        soon(self.streams.recv()).await.unwrap().unwrap()
    }

    /// Why a promised stream did not come about.
    pub(crate) async fn failure(&mut self) -> AcceptError {
        soon(self.streams.recv()).await.unwrap().err().expect("it must not be accepted")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

pub(crate) fn identity(node: &str) -> Identity {
    Identity { node: id(node), incarnation: 0x5f0c_21aa, fingerprint: 7, newest: Protocol::NEWEST }
}

pub(crate) fn ping(id: u64) -> Message {
    let time_left = Duration::from_secs(1);
    Message::Request { id, time_left, body: Request::Ping { wall_ms: 0 } }
}

pub(crate) fn pong(id: u64) -> Message {
    Message::Response { id, notes: 0, body: Response::Pong { wall_ms: 0 } }
}

/// Fails the test if what it waits for does not come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it never came")
}
