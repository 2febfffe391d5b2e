//! A node that answers from a list.

use std::{
    collections::VecDeque,
    future::pending,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle};

pub(crate) const VERSION: &str = "0191f3c2a4b70003-n1.5f0c21aa";
pub(crate) const RECEIPT: &str = "w=2/3 acks=n1,n3 quorum=strict";

/// What to do with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answer with the headers of a quorum's decision.
    Decided(u16, &'static str),
    /// Answer with a problem.
    Problem(u16, &'static str),
    /// Answer, then close the connection.
    LastOne(u16),
    /// Close the connection instead of answering.
    Break,
    /// Never answer.
    Hang,
}

/// One request as it came: method and target, then the body.
pub(crate) type Asked = (String, Bytes);

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    asked: Vec<Asked>,
    connections: usize,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers with `replies`, one a request; further ones are answered like a lost connection.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let replies = replies.into_iter().collect();
        let script = Arc::new(Mutex::new(Script { replies, ..Script::default() }));
        let shared = Arc::clone(&script);
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().connections += 1;
                let script = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&script), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { addr, script, task }
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.script.lock().unwrap().connections
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let asked = format!("{} {}", request.method(), request.uri());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let reply = {
        let mut script = script.lock().unwrap();
        script.asked.push((asked, body));
        script.replies.pop_front().unwrap_or(Reply::Break)
    };
    let response = match reply {
        Reply::Decided(status, body) => decided(status).body(body),
        Reply::LastOne(status) => decided(status).header("connection", "close").body(""),
        Reply::Problem(status, body) => Response::builder().status(status).body(body),
        Reply::Break => return Err(io::ErrorKind::ConnectionAborted.into()),
        Reply::Hang => pending().await,
    };
    Ok(response.unwrap().map(|body| Full::from(Bytes::from_static(body.as_bytes()))))
}

fn decided(status: u16) -> hyper::http::response::Builder {
    Response::builder()
        .status(status)
        .header("Quorate-Version", VERSION)
        .header("Quorate-Receipt", RECEIPT)
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
