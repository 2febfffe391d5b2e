//! Runs a node: carries its actions out and reports what happens.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use quorate_node::{
    Action, ClientReply, ClientRequest, Event, Message, Node, Now, Refusal, Request, Response,
};
use quorate_record::NodeId;
use quorate_storage::{BackupError, DirLock, Meta, MetaError, RealFs};
use quorate_transport::{
    Accepting, DialError, LinkHandler, Outbox, PeerLinks, SendError, StreamEnd,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use crate::{clock::now, http::NoBackup, local::Local};

/// A node at work. Everything that decides is in the node; this only carries out and reports.
pub(crate) struct Driver {
    state: Mutex<State>,
    pub(crate) local: Local,
    /// Dropped after the logs are closed: until then no other process may open them.
    _lock: DirLock,
    links: OnceLock<PeerLinks>,
    stored: Arc<Notify>,
    earlier_wake: Notify,
    /// Whether anybody is to find out how long what is ready waits for its turn.
    busy: Notify,
    renewal: OnceLock<Renewal>,
    renewed: Notify,
}

/// That the node is to begin another life.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) above: u64,
    pub(crate) why: String,
}

struct State {
    node: Node,
    clients: HashMap<u64, oneshot::Sender<ClientReply>>,
    direct: HashMap<u64, oneshot::Sender<Response>>,
    /// The streams that peers have opened, by connection number; later ones are greater.
    inbound: BTreeMap<u64, Inbound>,
    next_number: u64,
    wake_at: Option<Instant>,
}

struct Inbound {
    peer: NodeId,
    outbox: Outbox,
}

/// Most streams that one peer may have open. It needs one; a second may come while the first has
/// not been noticed to be dead.
const MOST_STREAMS: usize = 4;

impl Driver {
    /// `stored` is to be notified whenever the store has replies.
    pub(crate) fn new(node: Node, local: Local, lock: DirLock, stored: Arc<Notify>) -> Arc<Self> {
        let state = State {
            node,
            clients: HashMap::new(),
            direct: HashMap::new(),
            inbound: BTreeMap::new(),
            next_number: 0,
            wake_at: None,
        };
        let driver = Arc::new(Self {
            state: Mutex::new(state),
            local,
            _lock: lock,
            links: OnceLock::new(),
            stored,
            earlier_wake: Notify::new(),
            renewal: OnceLock::new(),
            renewed: Notify::new(),
            busy: Notify::new(),
        });
        tokio::spawn(Arc::clone(&driver).report_stored());
        tokio::spawn(Arc::clone(&driver).report_time());
        tokio::spawn(Arc::clone(&driver).report_lag());
        driver
    }

    /// Gives the node its way to its peers; requests made before find nobody connected.
    pub(crate) fn connect(&self, links: PeerLinks) {
        assert!(self.links.set(links).is_ok(), "a driver is connected once");
    }

    pub(crate) fn links(&self) -> Option<&PeerLinks> {
        self.links.get()
    }

    /// Has the node coordinate a client's request.
    pub(crate) fn client(&self, body: ClientRequest) -> oneshot::Receiver<ClientReply> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let request = state.fresh_number();
        state.clients.insert(request, sender);
        self.report(&mut state, [Event::Client { request, body }]);
        if state.node.is_busy() {
            self.busy.notify_one();
        }
        receiver
    }

    /// Asks the node itself, as a peer would.
    pub(crate) fn direct(&self, body: Request) -> oneshot::Receiver<Response> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let request = state.fresh_number();
        state.direct.insert(request, sender);
        self.report(&mut state, [Event::Direct { request, body }]);
        receiver
    }

    /// Looks at the node between two events.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Node) -> T) -> T {
        look(&self.lock().node)
    }

    /// Writes a snapshot now, on a thread where it may block.
    pub(crate) async fn snapshot(self: &Arc<Self>) -> Result<Value, String> {
        let driver = Arc::clone(self);
        let made = tokio::task::spawn_blocking(move || driver.local.store.snapshot()).await;
        let made = made.map_err(|error| error.to_string())?;
        let info = made.map_err(|error| describe(&error))?;
        Ok(json!({ "path": info.path, "bytes": info.bytes, "records": info.records }))
    }

    /// Writes a backup among those of this node, on a thread where it may block.
    pub(crate) async fn backup(self: &Arc<Self>, name: String) -> Result<Value, NoBackup> {
        let driver = Arc::clone(self);
        let failed = |error: &dyn std::error::Error| NoBackup::Failed(describe(error));
        let made = tokio::task::spawn_blocking(move || {
            let store = &driver.local.store;
            let log_dir = store.stats().log_dir;
            let data_dir = log_dir.parent().expect("a store's log lies in its folder");
            let path = data_dir.join("meta");
            let missing = || BackupError::Meta(MetaError::Missing { path });
            let meta = Meta::read(&RealFs, data_dir)?.ok_or_else(missing)?;
            store.backup(&data_dir.join("backups").join(name), meta, now().wall_ms)
        });
        match made.await.map_err(|error| failed(&error))? {
            Ok(info) => Ok(json!({ "path": info.path, "files": info.files, "bytes": info.bytes })),
            Err(BackupError::NotEmpty(path)) => {
                Err(NoBackup::Exists(format!("{} is there already", path.display())))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Tells the node of some records that it cannot read, those behind the token `after`. Returns
    /// behind which to go on; `None` for the beginning.
    pub(crate) fn report_damage(&self, after: Option<u64>) -> Option<u64> {
        /// As many as the node has room for.
        const MOST_TOKENS: usize = 1024;
        let tokens = self.local.store.damaged_tokens(after, MOST_TOKENS);
        let last = tokens.last().copied().filter(|_| tokens.len() == MOST_TOKENS);
        if !tokens.is_empty() {
            self.handle_all([Event::Damaged { tokens }]);
        }
        last
    }

    /// Gives back files of the hint queue that nobody needs.
    pub(crate) async fn maintain_hints(self: &Arc<Self>) -> Result<(), String> {
        let driver = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || driver.local.hints.maintain()).await;
        done.map_err(|error| error.to_string())?.map(drop).map_err(|error| describe(&error))
    }

    /// Comes when the node is to begin another life.
    pub(crate) async fn renewal(&self) {
        self.renewed.notified().await;
    }

    /// Why the node is to begin another life, if it is.
    pub(crate) fn why_renewed(&self) -> Option<&Renewal> {
        self.renewal.get()
    }

    /// Says that a node is gone for good.
    pub(crate) fn declare_gone(&self, node: NodeId) {
        self.handle_all([Event::Gone { node }]);
    }

    /// Takes no more part in anything: the connections of peers end.
    pub(crate) fn stop(&self) {
        for inbound in self.lock().inbound.values() {
            inbound.outbox.close();
        }
    }

    /// Serves the requests of a peer that has opened a stream, until it ends.
    pub(crate) async fn serve_peer(self: Arc<Self>, accepting: Accepting) {
        let peer = accepting.peer().node;
        let stream = match accepting.stream().await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%peer, %error, "a peer's stream did not begin"),
        };
        let via = {
            let mut state = self.lock();
            let via = state.fresh_number();
            state.open_inbound(via, Inbound { peer, outbox: stream.outbox() });
            via
        };
        let reason = stream
            .run(|messages| {
                let events = messages
                    .into_iter()
                    .filter(|message| matches!(message, Message::Request { .. }))
                    .map(|message| Event::Received { from: peer, via, message });
                self.handle_all(events);
            })
            .await;
        tracing::debug!(%peer, %reason, "a peer's stream has ended");
        self.lock().inbound.remove(&via);
    }

    fn handle_all(&self, events: impl IntoIterator<Item = Event>) {
        self.report(&mut self.lock(), events);
    }

    /// Reports what has come together, all as of one moment.
    fn report(&self, state: &mut State, events: impl IntoIterator<Item = Event>) {
        let now = now();
        for event in events {
            self.handle(state, event, now);
        }
        self.wake_earlier(state);
    }

    fn handle(&self, state: &mut State, event: Event, now: Now) {
        state.node.handle(event, now);
        while let Some(action) = state.node.poll_action() {
            match action {
                Action::Send { to, message } => self.send(state, to, &message, now),
                Action::Respond { via, message } => {
                    if let Some(inbound) = state.inbound.get(&via) {
                        respond(&inbound.outbox, &message);
                    }
                }
                Action::Store { id, request } => {
                    if let Some(reply) = self.local.submit(id, request) {
                        state.node.handle(Event::Store { id, reply }, now);
                    }
                }
                Action::ForgetHint { target, key, version } => {
                    self.local.forget_hint(target, &key, &version);
                }
                Action::Renew { above, why } => {
                    let _ = self.renewal.set(Renewal { above, why }); // once is enough
                    self.renewed.notify_one();
                }
                Action::Reply { request, reply } => {
                    if let Some(client) = state.clients.remove(&request) {
                        let _ = client.send(*reply); // the client may have gone
                    }
                }
                Action::Answer { request, response } => {
                    if let Some(asker) = state.direct.remove(&request) {
                        let _ = asker.send(response); // the same
                    }
                }
            }
        }
    }

    /// Has the node woken earlier than was last said, if it now asks for that.
    fn wake_earlier(&self, state: &mut State) {
        let wake_at = state.node.next_wake();
        let earlier = match (wake_at, state.wake_at) {
            (Some(new), Some(old)) => new < old,
            (new, old) => new.is_some() && old.is_none(),
        };
        if earlier {
            state.wake_at = wake_at;
            self.earlier_wake.notify_one();
        }
    }

    fn send(&self, state: &mut State, to: NodeId, message: &Message, now: Now) {
        let links = self.links.get();
        let sent = links.ok_or(SendError::NotConnected).and_then(|it| it.try_send(to, message));
        let (Err(error), &Message::Request { id, .. }) = (sent, message) else { return };
        let event = match error {
            SendError::Unspoken => Event::Unspoken { to, id },
            _ => Event::Unsent { to, id },
        };
        state.node.handle(event, now);
    }

    /// Reports the store's replies, all that are ready at a time.
    async fn report_stored(self: Arc<Self>) {
        loop {
            self.stored.notified().await;
            let replies = self.local.take_replies();
            self.handle_all(replies.into_iter().map(|(id, reply)| Event::Store { id, reply }));
        }
    }

    /// Wakes the node when it asked for it.
    async fn report_time(self: Arc<Self>) {
        loop {
            let wake_at = {
                let mut state = self.lock();
                state.wake_at = state.node.next_wake();
                state.wake_at
            };
            let due = async {
                match wake_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.handle_all([Event::Woken]),
                () = self.earlier_wake.notified() => {}
            }
        }
    }

    /// While the node has much to do: how late a task gets its turn, which is how late any request does.
    async fn report_lag(self: Arc<Self>) {
        const EVERY: Duration = Duration::from_millis(10);
        loop {
            self.busy.notified().await;
            let due = tokio::time::Instant::now() + EVERY;
            tokio::time::sleep_until(due).await;
            self.handle_all([Event::Lagged { by: due.elapsed() }]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends an answer or, if there is no room for it, word that there will be none, so that the asker
/// need not wait for its deadline.
fn respond(outbox: &Outbox, message: &Message) {
    let Err(error) = outbox.try_send(message) else { return };
    tracing::debug!(%error, "an answer was not sent");
    if let (SendError::Full { .. }, Message::Response { id, .. }) = (error, message) {
        let refusal = Response::Refused(Refusal::Overloaded);
        // If even that does not fit, the asker gives up at its deadline.
        let _ = outbox.try_send(&Message::Response { id: *id, notes: 0, body: refusal });
    }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl State {
    fn fresh_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Takes a peer's new stream in, and closes its oldest if it has too many.
    fn open_inbound(&mut self, via: u64, inbound: Inbound) {
        let peer = inbound.peer;
        self.inbound.insert(via, inbound);
        let mut same = self.inbound.iter().filter(|(_, other)| other.peer == peer);
        let oldest = same.next().map(|(&oldest, _)| oldest);
        if same.count() >= MOST_STREAMS
            && let Some(closed) = oldest.and_then(|oldest| self.inbound.remove(&oldest))
        {
            tracing::warn!(%peer, "closed the oldest of too many streams of a peer");
            closed.outbox.close();
        }
    }
}

impl LinkHandler for Driver {
    fn connected(&self, peer: NodeId, incarnation: u64) {
        self.handle_all([Event::Connected { peer, incarnation }]);
    }

    fn lost(&self, peer: NodeId, _reason: &StreamEnd) {
        self.handle_all([Event::Lost { peer }]);
    }

    fn unreachable(&self, peer: NodeId, _reason: &DialError) {
        self.handle_all([Event::Lost { peer }]);
    }

    /// What comes back on a connection that this node has opened: answers only.
    fn messages(&self, peer: NodeId, messages: Vec<Message>) {
        let events = messages
            .into_iter()
            .filter(|message| matches!(message, Message::Response { .. }))
            .map(|message| Event::Received { from: peer, via: 0, message });
        self.handle_all(events);
    }
}
