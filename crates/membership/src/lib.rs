//! A failure detector as a pure state machine: which peers are up, suspect or down.
//!
//! [`Membership`] is told what the connections to the peers did and what was heard on them; it says
//! when to ping whom and which peer changed its [`PeerState`]. It has no clock, no sockets and no
//! threads: time comes in as a value, and whoever drives it may be a runtime or a simulator.
//!
//! Its answers only steer: whom to ask first, whom to replace by a fallback at once. Nothing that
//! must hold may depend on them, because no detector can tell a slow peer from a dead one.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use quorate_membership::{Membership, MembershipAction, MembershipOptions, PeerState};
//!
//! let start = Instant::now();
//! let mut peers = Membership::new([2, 3], MembershipOptions::default(), start);
//!
//! peers.connected(2, start);
//! peers.lost(3, start);
//! assert_eq!(peers.state(2), Some(PeerState::Up));
//! assert_eq!(peers.state(3), Some(PeerState::Down));
//!
//! // The driver carries out what it is asked for and comes back at the time it is told.
//! let mut pinged = Vec::new();
//! while let Some(action) = peers.poll_action() {
//!     if let MembershipAction::Ping { peer } = action {
//!         pinged.push(peer);
//!     }
//! }
//! assert_eq!(pinged, [2]);
//!
//! // Peer 2 keeps its connection and says nothing: stopped, or cut off without a word.
//! let mut now = start;
//! while now < start + Duration::from_secs(2) {
//!     now = peers.next_wake().expect("a connected peer is watched");
//!     peers.tick(now);
//! }
//! assert_eq!(peers.state(2), Some(PeerState::Down));
//! peers.heard(2, now);
//! assert_eq!(peers.state(2), Some(PeerState::Up));
//! ```

mod evidence;
mod heartbeats;
mod membership;
mod options;
mod peer;
mod phi;

pub use evidence::{Evidence, Reason};
pub use membership::{Membership, MembershipAction};
pub use options::MembershipOptions;
pub use peer::PeerState;
