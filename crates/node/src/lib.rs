//! One replica and coordinator of a Quorate cluster as a pure machine: events in, actions out.
//!
//! A driver reports [`Event`]s to a [`Node`], carries out the [`Action`]s that it gives, and wakes
//! it when it asks for that. All decisions are in here or in the crates below, so a simulator with
//! this node in it runs what users run.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use quorate_node::{Action, ClientReply, ClientRequest, Event, Node, NodeOptions, Notes, Now};
//! use quorate_node::{Operation, PutOutcome, StoreReply, StoreRequest};
//! use quorate_quorum::Quorum;
//! use quorate_record::{HintSummary, Key, NodeId, Timestamp, Writer};
//! use quorate_ring::{Ring, RingNode};
//!
//! # #[expect(clippy::disallowed_methods, reason = "an example is a driver")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let id = NodeId::new("n1")?;
//! let ring = Ring::new(vec![RingNode::new(id)], 64, 1)?;
//! let now = Now { instant: Instant::now(), wall_ms: 1_700_000_000_000 };
//! let writer = Writer { node: id, incarnation: 1 };
//! let notes = Notes { counted: 1, ..Notes::default() }; // it has lost nothing
//! let options = NodeOptions::default();
//! let (ceiling, hints) = (Timestamp::ZERO, HintSummary::default()); // nothing was persisted yet
//! let mut node = Node::new(writer, ring, options, ceiling, notes, &hints, now);
//!
//! let body = ClientRequest {
//!     key: Key::new("cat")?,
//!     operation: Operation::Put("meow".into()),
//!     quorum: Quorum::new(1, 1, 1, true)?,
//!     atomic: false,
//!     wait_for_owners: false,
//!     timeout: Duration::from_millis(800),
//! };
//! node.handle(Event::Client { request: 7, body }, now);
//! let mut reply = None;
//! while let Some(action) = node.poll_action() {
//!     match action {
//!         // A real driver answers once it is on disk.
//!         Action::Store { id, request: StoreRequest::ReserveClock { .. } } => {
//!             node.handle(Event::Store { id, reply: StoreReply::Persisted(Ok(())) }, now);
//!         }
//!         Action::Store { id, request: StoreRequest::Apply { .. } } => {
//!             let reply = StoreReply::Applied(PutOutcome::Stored);
//!             node.handle(Event::Store { id, reply }, now);
//!         }
//!         Action::Reply { request: 7, reply: answer } => reply = Some(*answer),
//!         other => unreachable!("a node alone asks for nothing else: {other:?}"),
//!     }
//! }
//! assert!(matches!(reply, Some(ClientReply::Written(Ok(receipt))) if receipt.acks == [id]));
//! # Ok(())
//! # }
//! ```

/// Whether this bug is planted, for the simulator to find; always `false` without the feature.
macro_rules! planted {
    ($bug:ident) => {{
        #[cfg(feature = "planted-bugs")]
        let planted = quorate_planted::is_planted(quorate_planted::Bug::$bug);
        #[cfg(not(feature = "planted-bugs"))]
        let planted = false;
        planted
    }};
}

/// Whether what is rare at this site is to happen now; always `false` without the feature.
macro_rules! buggify {
    ($site:ident) => {{
        #[cfg(feature = "buggify")]
        let fires = quorate_planted::fires(quorate_planted::Site::$site);
        #[cfg(not(feature = "buggify"))]
        let fires = false;
        fires
    }};
}

mod admission;
mod background;
mod call;
mod client;
mod counters;
mod event;
mod handoff;
mod heal;
mod hedge;
mod horizon;
mod ids;
mod lives;
mod message;
mod node;
mod notes;
mod options;
mod owners;
mod parked;
mod peers;
mod queue;
mod ranges;
mod read;
mod rebuild;
mod reconcile;
mod serve;
#[cfg(test)]
mod testing;
mod write;

pub use client::{ClientReply, ClientRequest, Failure, Operation};
pub use counters::Counters;
pub use event::{Action, Event, Now, StoreReply, StoreRequest};
pub use horizon::HorizonStatus;
pub use message::{
    MAX_BATCH_BYTES, MAX_BUCKETS, MAX_CELLS, MAX_GROUPS, MAX_ITEMS, MAX_SPANS, Message, PutOutcome,
    Refusal, Request, Response, Standing,
};
pub use node::Node;
pub use notes::{Notes, NotesError};
pub use options::NodeOptions;
pub use peers::PeerStatus;
pub use quorate_antientropy::{Cell, GroupSketch, Overview, Sketch, Symbol};
pub use ranges::OwnedRange;
pub use rebuild::Recovery;
pub use reconcile::Comparison;
