use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quorate_node::Message;
use quorate_record::NodeId;
use tokio::task::JoinHandle;

use crate::{
    DialError, Identity, Outbox, SendError, Stream, StreamEnd, StreamOptions, Trust,
    backoff::Backoff, dial,
};

/// How a [`Link`] connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// The limits of each connection.
    pub stream: StreamOptions,
    /// About how long to wait after the first failure. Default 50 ms.
    pub first_wait: Duration,
    /// About how long to wait at most. Default 2 s.
    pub longest_wait: Duration,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            stream: StreamOptions::default(),
            first_wait: Duration::from_millis(50),
            longest_wait: Duration::from_secs(2),
        }
    }
}

/// Told what happens on the links to peers.
///
/// Of each peer: `connected`, any number of `messages`, `lost`, and again. The calls are made on
/// the task that reads, so they should be short; they may send.
pub trait LinkHandler: Send + Sync + 'static {
    /// There is a connection to `peer`, which is in this incarnation.
    fn connected(&self, peer: NodeId, incarnation: u64);

    /// The connection has ended: what was asked on it and not answered will not be.
    fn lost(&self, peer: NodeId, reason: &StreamEnd);

    /// Messages from `peer`, in the order in which it sent them.
    fn messages(&self, peer: NodeId, messages: Vec<Message>);

    /// An attempt to connect has failed; another will follow.
    fn unreachable(&self, _peer: NodeId, _reason: &DialError) {}
}

/// Keeps one connection to a peer, and connects anew whenever it is lost.
///
/// Dropping it ends it, at once.
pub struct Link {
    peer: NodeId,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    outbox: Mutex<Option<Outbox>>,
    last_error: Mutex<Option<String>>,
}

impl Link {
    /// Starts to connect to the node `peer`, which listens at `addr`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        peer: NodeId,
        addr: SocketAddr,
        identity: Identity,
        trust: Trust,
        handler: Arc<dyn LinkHandler>,
        options: LinkOptions,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let keeper =
            Keeper { peer, addr, identity, trust, handler, options, shared: shared.clone() };
        Self { peer, shared, task: tokio::spawn(keeper.keep()) }
    }

    /// Whom it leads to.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Queues a message to the peer. It may still be lost with the connection.
    ///
    /// # Errors
    /// [`SendError`]; the message will not be sent then.
    ///
    /// # Panics
    /// As [`encode_message`](crate::encode_message) does.
    pub fn try_send(&self, message: &Message) -> Result<(), SendError> {
        let outbox = locked(&self.shared.outbox).clone().ok_or(SendError::NotConnected)?;
        outbox.try_send(message).map_err(|error| match error {
            SendError::Closed => SendError::NotConnected,
            error => error,
        })
    }

    /// How many bytes wait to be written.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        locked(&self.shared.outbox).as_ref().map_or(0, Outbox::queued_bytes)
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        locked(&self.shared.outbox).is_some()
    }

    /// Why the last connection ended or the last attempt failed; `None` before the first.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        locked(&self.shared.last_error).clone()
    }

    /// Ends the connection. When this returns, the handler is called no more.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The links to all peers of a node.
pub struct PeerLinks(BTreeMap<NodeId, Link>);

impl PeerLinks {
    /// Starts to connect to each of `peers`.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        peers: impl IntoIterator<Item = (NodeId, SocketAddr)>,
        identity: Identity,
        trust: &Trust,
        handler: &Arc<dyn LinkHandler>,
        options: LinkOptions,
    ) -> Self {
        let link = |(peer, addr)| {
            let (trust, handler) = (trust.clone(), Arc::clone(handler));
            (peer, Link::start(peer, addr, identity, trust, handler, options))
        };
        Self(peers.into_iter().map(link).collect())
    }

    /// Queues a message to one of the peers.
    ///
    /// # Errors
    /// [`SendError`]; the message will not be sent then. A node that is no peer is not connected.
    ///
    /// # Panics
    /// As [`encode_message`](crate::encode_message) does.
    pub fn try_send(&self, to: NodeId, message: &Message) -> Result<(), SendError> {
        self.0.get(&to).ok_or(SendError::NotConnected)?.try_send(message)
    }

    /// The link to one of the peers.
    #[must_use]
    pub fn get(&self, peer: NodeId) -> Option<&Link> {
        self.0.get(&peer)
    }

    /// All links, in the order of their peers' ids.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }

    /// Ends all connections. When this returns, the handler is called no more.
    pub async fn stop(self) {
        for (_, link) in self.0 {
            link.stop().await;
        }
    }
}

struct Keeper {
    peer: NodeId,
    addr: SocketAddr,
    identity: Identity,
    trust: Trust,
    handler: Arc<dyn LinkHandler>,
    options: LinkOptions,
    shared: Arc<Shared>,
}

impl Keeper {
    async fn keep(self) {
        let mut backoff = Backoff::new(self.options.first_wait, self.options.longest_wait);
        loop {
            match dial(self.addr, self.peer, &self.identity, &self.trust, self.options.stream).await
            {
                Ok(stream) => {
                    if self.serve(stream).await {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    self.failed(error.to_string(), "cannot reach a peer");
                    self.handler.unreachable(self.peer, &error);
                }
            }
            tokio::time::sleep(backoff.wait(random())).await;
        }
    }

    /// Runs a connection to its end. Says whether the peer said anything: one that takes
    /// connections only to drop them is to be called no more often than one that is gone.
    async fn serve(&self, stream: Stream) -> bool {
        let incarnation = stream.peer().incarnation;
        tracing::info!(peer = %self.peer, addr = %self.addr, "connected to a peer");
        // First, so that the handler may already send.
        *locked(&self.shared.outbox) = Some(stream.outbox());
        let disconnect = DisconnectOnDrop(&self.shared);
        self.handler.connected(self.peer, incarnation);
        let mut heard = false;
        let reason = stream
            .run(|messages| {
                heard = true;
                self.handler.messages(self.peer, messages);
            })
            .await;
        drop(disconnect);
        self.failed(reason.to_string(), "lost a peer");
        self.handler.lost(self.peer, &reason);
        heard
    }

    /// Keeps the reason, and logs it unless it is the same as before.
    fn failed(&self, reason: String, what: &'static str) {
        let mut last_error = locked(&self.shared.last_error);
        if last_error.as_ref() != Some(&reason) {
            tracing::warn!(peer = %self.peer, addr = %self.addr, %reason, "{what}");
        }
        *last_error = Some(reason);
    }
}

struct DisconnectOnDrop<'a>(&'a Shared);

impl Drop for DisconnectOnDrop<'_> {
    fn drop(&mut self) {
        *locked(&self.0.outbox) = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Good enough to spread attempts: the keys of hash maps are drawn at random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
