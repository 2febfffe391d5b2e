//! A consistent-hash ring: which nodes hold a key, and which part of the key space a node holds.
//!
//! A [`Ring`] is an immutable snapshot of a cluster. Every node has many *vnodes*, each with a
//! *token*, a point on a circle of 2⁶⁴ points; every key has a token too. Walking clockwise from a
//! key's token meets all nodes in some order, the key's *preference list*; its first N nodes are the
//! key's *owners* (Dynamo §4.2 and §4.3). Weights give a node more or fewer vnodes, zones keep the
//! owners of a key apart.
//!
//! Two rings built from the same nodes are the same ring, on any machine, in any order of the
//! input and in any release: hash, seeds and byte layouts are documented and frozen by tests.
//! Nothing here does I/O, reads a clock or draws a random number, and a look-up allocates nothing.
//!
//! ```
//! use quorate_ring::{Ring, RingNode, token};
//!
//! let nodes = ["n1", "n2", "n3", "n4"].map(RingNode::new).to_vec();
//! let ring = Ring::new(nodes, 256, 3)?; // 256 vnodes a node, 3 owners a key
//!
//! // Where does a key live, and who stands in when an owner is away?
//! let owners: Vec<&&str> = ring.owners_of_key(b"cat").collect();
//! assert_eq!(owners.len(), 3);
//! assert_eq!(ring.primary_of_key(b"cat"), owners[0]);
//! let fallback = ring.preference(token(b"cat")).nth(3);
//! assert!(fallback.is_some_and(|node| !owners.contains(&node)));
//!
//! // What moves when a node joins? Only what the joiner takes over.
//! let nodes = ["n1", "n2", "n3", "n4", "n5"].map(RingNode::new).to_vec();
//! let next = Ring::new(nodes, 256, 3)?;
//! assert!(ring.moved_to(&next).iter().all(|moved| moved.after.contains(&"n5")));
//! # Ok::<(), quorate_ring::RingError>(())
//! ```
//!
//! # Another way to place keys
//!
//! Tokens here are random points (strategy 1 of Dynamo §6.2). Equal partitions (strategy 3: Q arcs
//! of one size, dealt out to the nodes) are not built, but have a place: they would be a second
//! constructor of [`Ring`], whose vnodes have Q evenly spaced tokens and whose top bits are the
//! index. Preference lists, ranges and moves would stay as they are, and the placement number in
//! the [fingerprint](Ring::fingerprint) would tell the two apart.

mod circle;
mod fingerprint;
mod moves;
mod node;
mod preference;
mod ranges;
mod recency;
mod ring;
mod token;

pub use fingerprint::FINGERPRINT_SEED;
pub use moves::Move;
pub use node::{MAX_ID_BYTES, MAX_WEIGHT, MAX_ZONE_BYTES, RingNode};
pub use preference::Preference;
pub use ring::{MAX_NODES, MAX_RING_VNODES, MAX_VNODES, Ring, RingError};
pub use token::{KEY_SEED, VNODE_SEED, token, vnode_token};
