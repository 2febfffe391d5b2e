//! What the HTTP face sees of the node behind it.

use std::sync::Arc;

use hyper::{Request, body::Incoming};
use quorate_node::{ClientReply, ClientRequest, Refusal, Response};
use quorate_record::{Key, NodeId};
use quorate_transport::Acceptor;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use crate::{
    clock::now,
    config::Config,
    driver::Driver,
    http::{self, Answer, Backend, DebugPage, HttpSettings, KeysPage, NoBackup},
    metrics,
    pages::View,
    run::Facts,
};

/// How much of the log one page of keys may have read, about: it is read while others wait.
const MOST_SCANNED_BYTES: u64 = 1 << 20;

/// A node with its HTTP settings.
pub(crate) struct Face {
    driver: Arc<Driver>,
    acceptor: Acceptor,
    config: Config,
    settings: HttpSettings,
    facts: Facts,
    /// There is one of each at a time: who asks again and again is not to fill the threads.
    snapshots: Arc<Semaphore>,
    backups: Arc<Semaphore>,
}

impl Face {
    pub(crate) fn new(
        driver: Arc<Driver>,
        acceptor: Acceptor,
        config: Config,
        settings: HttpSettings,
        facts: Facts,
    ) -> Self {
        let [snapshots, backups] = [(); 2].map(|()| Arc::new(Semaphore::new(1)));
        Self { driver, acceptor, config, settings, facts, snapshots, backups }
    }

    fn view<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        self.driver.look(|node| {
            look(&View {
                node,
                local: &self.driver.local,
                links: self.driver.links(),
                config: &self.config,
                facts: &self.facts,
                now: now(),
            })
        })
    }
}

impl Backend for Face {
    fn client(&self, request: ClientRequest) -> oneshot::Receiver<ClientReply> {
        self.driver.client(request)
    }

    fn local(&self, request: quorate_node::Request) -> oneshot::Receiver<Response> {
        self.driver.direct(request)
    }

    fn keys(&self, after: Option<Key>, limit: usize) -> Result<KeysPage, Refusal> {
        match self.driver.local.store.scan_keys(after.as_ref(), limit, MOST_SCANNED_BYTES) {
            Ok((scanned, may_go_on)) if scanned.damaged == 0 => {
                Ok(KeysPage { records: scanned.records, may_go_on })
            }
            // A list that leaves out what cannot be read would say that it is not there.
            Ok(_) | Err(_) => Err(Refusal::Damaged),
        }
    }

    fn debug(&self, page: DebugPage) -> Value {
        self.view(|view| view.page(&page))
    }

    fn ready(&self) -> Result<(), String> {
        self.view(|view| view.ready())
    }

    fn metrics(&self) -> String {
        self.view(metrics::text)
    }

    fn snapshot(&self) -> oneshot::Receiver<Result<Value, String>> {
        let driver = Arc::clone(&self.driver);
        let busy = Err("a snapshot is being written already".to_owned());
        in_turn(&self.snapshots, busy, async move { driver.snapshot().await })
    }

    fn declare_gone(&self, node: NodeId) {
        self.driver.declare_gone(node);
    }

    fn backup(&self, name: String) -> oneshot::Receiver<Result<Value, NoBackup>> {
        let driver = Arc::clone(&self.driver);
        let busy = Err(NoBackup::Failed("a backup is being written already".to_owned()));
        in_turn(&self.backups, busy, async move { driver.backup(name).await })
    }

    fn accept_stream(&self, mut request: Request<Incoming>) -> Answer {
        let (answer, accepting) = self.acceptor.accept(&mut request);
        if let Some(accepting) = accepting {
            let accepting = accepting.unwrapped_by(http::bare_socket);
            tokio::spawn(Arc::clone(&self.driver).serve_peer(accepting));
        }
        answer
    }

    fn settings(&self) -> &HttpSettings {
        &self.settings
    }
}

/// Does `work` to its end, whether the asker waits for it or not, unless somebody has the only turn:
/// then it is `busy`.
fn in_turn<T: Send + 'static>(
    turns: &Arc<Semaphore>,
    busy: T,
    work: impl Future<Output = T> + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, receiver) = oneshot::channel();
    let turn = Arc::clone(turns).try_acquire_owned();
    tokio::spawn(async move {
        let outcome = if turn.is_ok() { work.await } else { busy };
        drop(turn); // before the asker can ask again
        let _ = sender.send(outcome); // the asker may have gone
    });
    receiver
}
