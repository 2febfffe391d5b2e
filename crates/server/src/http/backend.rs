use hyper::{Request, body::Incoming};
use quorate_node::{ClientReply, ClientRequest, Refusal};
use quorate_record::{Key, NodeId, Record};
use serde_json::Value;
use tokio::sync::oneshot;

use super::{Answer, HttpSettings};

/// Some of the keys of a node.
#[derive(Clone, Debug)]
pub struct KeysPage {
    /// The keys and what is held under them, perhaps without the values.
    pub records: Vec<(Key, Record)>,
    /// Whether there may be more behind them.
    pub may_go_on: bool,
}

/// What the HTTP face asks of the node behind it.
///
/// No call may block. A sender that is dropped without an answer reads as a node that is stopping.
pub trait Backend: Send + Sync + 'static {
    /// Coordinates a client's request.
    fn client(&self, request: ClientRequest) -> oneshot::Receiver<ClientReply>;

    /// Does one replica's part on this node alone.
    fn local(&self, request: quorate_node::Request) -> oneshot::Receiver<quorate_node::Response>;

    /// The first `limit` keys of this node behind `after`, or fewer, in token order, tombstones
    /// included. The values are not looked at and may be left empty.
    ///
    /// # Errors
    /// A [`Refusal`] if the node cannot list them now.
    fn keys(&self, after: Option<Key>, limit: usize) -> Result<KeysPage, Refusal>;

    /// The present state of one part, as a JSON object.
    fn debug(&self, page: DebugPage) -> Value;

    /// Whether requests should be sent here.
    ///
    /// # Errors
    /// The reason why not, for people.
    fn ready(&self) -> Result<(), String>;

    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Writes a snapshot; the answer names its path and size, the error is for people.
    fn snapshot(&self) -> oneshot::Receiver<Result<Value, String>>;

    /// Writes a backup of this name; the answer names its path, files and bytes.
    fn backup(&self, name: String) -> oneshot::Receiver<Result<Value, NoBackup>>;

    /// Notes that a node is gone for good. Whether it is one of the others is for the face to check.
    fn declare_gone(&self, node: NodeId);

    /// Answers a peer's `Upgrade` to the stream, `101` if it is let in.
    fn accept_stream(&self, request: Request<Incoming>) -> Answer;

    /// What the face is to keep to. The same all the time.
    fn settings(&self) -> &HttpSettings;
}

/// Why there is no backup; what is in it is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoBackup {
    /// There is something of that name.
    Exists(String),
    /// It could not be written.
    Failed(String),
}

/// One of the pages that show a node's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebugPage {
    /// `/debug/hints`: what is kept for whom.
    Hints,
    /// `/debug/ae`: the rounds of anti-entropy.
    AntiEntropy,
    /// `/debug/persist`: the log and its snapshots.
    Persist,
    /// `/debug/ring`: the shares of the nodes, or the preference list of one key.
    Ring {
        /// The key, if one was given.
        key: Option<Key>,
    },
    /// `/debug/peers`: what is known of each peer.
    Peers,
    /// `/admin/status`: this node and its peers in one page.
    Status,
    /// `/admin/convergence`: which owned ranges agree with which peer.
    Convergence,
}
