//! A node that answers every request, but may stand still first.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

/// Whether and how a node is ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Illness {
    None,
    /// After so many requests it takes so long over the next one, and all others wait for that.
    StallsAfter(usize, Duration),
    /// It refuses every request.
    Refuses,
}

#[derive(Default)]
struct Seen {
    requests: usize,
    values: BTreeMap<String, Bytes>,
    connections: usize,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(illness: Illness) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = Arc::clone(&seen);
        let one_at_a_time = Arc::new(tokio::sync::Mutex::new(()));
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                shared.lock().unwrap().connections += 1;
                let (seen, turn) = (Arc::clone(&shared), Arc::clone(&one_at_a_time));
                let service = service_fn(move |request| {
                    answer(Arc::clone(&seen), Arc::clone(&turn), illness, request)
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
            }
        });
        Self { addr, seen, task }
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    pub(crate) fn keys(&self) -> usize {
        self.seen.lock().unwrap().values.len()
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    seen: Arc<Mutex<Seen>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    illness: Illness,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let _turn = turn.lock().await;
    let earlier = {
        let mut seen = seen.lock().unwrap();
        seen.requests += 1;
        seen.requests - 1
    };
    match illness {
        Illness::StallsAfter(requests, stall) if requests == earlier => sleep(stall).await,
        Illness::Refuses => {
            let body = Full::from(r#"{"outcome":"rejected","detail":"the disk is full"}"#);
            return Ok(Response::builder().status(503).body(body).unwrap());
        }
        Illness::None | Illness::StallsAfter(..) => {}
    }
    let mut seen = seen.lock().unwrap();
    let (status, body) = if head.method == "GET" {
        match seen.values.get(head.uri.path()) {
            Some(value) => (200, value.clone()),
            None => (404, Bytes::new()),
        }
    } else {
        seen.values.insert(head.uri.path().to_owned(), body);
        (204, Bytes::new())
    };
    let response = Response::builder()
        .status(status)
        .header("Quorate-Version", "0191f3c2a4b70003-n1.5f0c21aa")
        .header("Quorate-Receipt", "w=2/3 acks=n1,n3 quorum=strict");
    Ok(response.body(Full::from(body)).unwrap())
}
