//! The face as it is seen from a socket, before a backend that says what it is told to.

mod bodies;
mod clients;
mod connections;
pub(super) mod fake;
mod heads;
mod peers;
mod wire;

use std::sync::Arc;

use fake::Fake;
use quorate_quorum::Quorum;
use quorate_record::NodeId;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use wire::{Reply, Wire};

use super::{HttpSettings, serve};

struct Server {
    port: u16,
    backend: Arc<Fake>,
    stop: oneshot::Sender<()>,
    stopped: JoinHandle<()>,
}

fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}

/// n1 of n1, n2, n3, with n = 3 and r = w = 2.
pub(super) fn settings() -> HttpSettings {
    let mut settings = HttpSettings::new(id("n1"), Quorum::new(3, 2, 2, true).unwrap());
    settings.nodes = ["n1", "n2", "n3"].map(id).into();
    settings
}

async fn start() -> Server {
    start_with(|_| ()).await
}

async fn start_with(adjust: impl FnOnce(&mut HttpSettings)) -> Server {
    let mut settings = settings();
    adjust(&mut settings);
    let backend = Arc::new(Fake::new(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopping) = oneshot::channel();
    let serving = serve(listener, Arc::clone(&backend) as _, async {
        let _ = stopping.await;
    });
    Server { port, backend, stop, stopped: tokio::spawn(serving) }
}

impl Server {
    async fn connect(&self) -> Wire {
        Wire::connect(self.port).await
    }

    /// The answer to one request on a connection of its own: its first line, its headers (`Host` is
    /// added), its body (`Content-Length` is added unless it is empty).
    async fn call(&self, line: &str, headers: &str, body: impl AsRef<[u8]>) -> Reply {
        let mut wire = self.connect().await;
        wire.call(line, headers, body).await
    }
}
