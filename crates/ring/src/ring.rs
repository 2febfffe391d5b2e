//! The ring: a checked, immutable placement of nodes, and the look-ups by key and token.

use crate::circle::Circle;
use crate::node::{MAX_ID_BYTES, MAX_WEIGHT, MAX_ZONE_BYTES, RingNode};
use crate::preference::Preference;
use crate::{fingerprint, token, vnode_token};
use std::collections::BTreeMap;
use std::fmt;

/// The greatest number of nodes on a ring.
pub const MAX_NODES: usize = 1_024;

/// The greatest number of vnodes of a node of weight 1.
pub const MAX_VNODES: u32 = 4_096;

/// The greatest number of vnodes of all nodes together, weights included. At 28 to 32 bytes
/// each such a ring takes 112 MiB; ten nodes of 256 take 78 KiB.
pub const MAX_RING_VNODES: u32 = 1 << 22;

/// Which node holds which part of the key space; an immutable snapshot.
///
/// # Preference order
/// From a token clockwise, that is towards greater tokens and from the greatest on to 0, the nodes
/// are taken in the order in which their vnodes come, each once, in two passes: the first takes
/// only nodes of zones not taken from yet, the second takes the rest. A node without a zone counts
/// as a zone of its own, so without zones it is plain ring order. The first `owners` nodes are the
/// token's owners; the order itself does not depend on how many those are.
///
/// A vnode's arc ends with its token: a key whose token equals a vnode's belongs to that vnode.
/// Should two vnodes have the same token, the node with the smaller id comes first.
///
/// # Identity
/// Ids are compared by their bytes, whatever their type's own order, so that all programs agree.
/// Questions about an id that is not on the ring have an empty answer, not an error.
#[derive(Clone)]
pub struct Ring<I> {
    pub(crate) nodes: Vec<RingNode<I>>, // in order of the bytes of their ids
    pub(crate) circle: Circle,
    vnodes: u32,
    owners: usize,
    fingerprint: u64,
}

/// Why there is no ring of these nodes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RingError {
    /// The list of nodes is empty.
    #[error("a ring needs at least one node")]
    NoNodes,
    /// There are more than [`MAX_NODES`].
    #[error("{nodes} nodes are more than a ring's {MAX_NODES}")]
    TooManyNodes {
        /// How many were given.
        nodes: usize,
    },
    /// An id is empty or longer than [`MAX_ID_BYTES`].
    #[error("an id of {len_bytes} bytes is not between 1 and {MAX_ID_BYTES} bytes long")]
    IdLength {
        /// The id's length.
        len_bytes: usize,
    },
    /// Two nodes have the same id.
    #[error("two nodes are called {id:?}")]
    DuplicateId {
        /// The id, with U+FFFD for what is not UTF-8.
        id: String,
    },
    /// A zone's name is empty or longer than [`MAX_ZONE_BYTES`].
    #[error(
        "the zone of node {id:?} has a name of {len_bytes} bytes, not of 1 to {MAX_ZONE_BYTES}"
    )]
    ZoneLength {
        /// The id of the node in that zone.
        id: String,
        /// The name's length.
        len_bytes: usize,
    },
    /// A weight is not a number above 0 and at most [`MAX_WEIGHT`].
    #[error("the weight {weight} of node {id:?} is not above 0 and at most {MAX_WEIGHT}")]
    Weight {
        /// The id of the node with that weight.
        id: String,
        /// The weight as given.
        weight: f64,
    },
    /// The number of vnodes is 0 or above [`MAX_VNODES`].
    #[error("{vnodes} vnodes a node are not between 1 and {MAX_VNODES}")]
    Vnodes {
        /// The number as given.
        vnodes: u32,
    },
    /// Vnodes and weights give more than [`MAX_RING_VNODES`] vnodes altogether.
    #[error("{vnodes} vnodes, weights included, are more than a ring's {MAX_RING_VNODES}")]
    TooManyVnodes {
        /// How many it would be.
        vnodes: u32,
    },
    /// The number of owners is 0 or above the number of nodes.
    #[error("{owners} owners a key are not between 1 and the number of nodes, {nodes}")]
    Owners {
        /// The number as given.
        owners: usize,
        /// How many nodes were given.
        nodes: usize,
    },
}

// The look-ups that give a list are inlined always: returned from a call the list's state would pass
// through memory, which costs more than finding it.
impl<I: AsRef<[u8]>> Ring<I> {
    /// Places `nodes`, in whatever order they come, with `vnodes` (1 to [`MAX_VNODES`]) for a node
    /// of weight 1 and `owners` (1 to the number of nodes) for each key.
    ///
    /// A node gets `vnodes` times its weight, rounded, at least one. Building takes about 0.1 µs a
    /// vnode and is done once a change of the cluster.
    ///
    /// # Errors
    /// [`RingError`] names the first thing that is wrong with the input.
    pub fn new(mut nodes: Vec<RingNode<I>>, vnodes: u32, owners: usize) -> Result<Self, RingError> {
        nodes.sort_by(|a, b| a.id.as_ref().cmp(b.id.as_ref()));
        check(&nodes, vnodes, owners)?;
        let (zone_of, zones) = number_zones(&nodes);
        let mut tokens = Vec::new();
        for (number, node) in (0_u16..).zip(&nodes) {
            let id = node.id.as_ref();
            tokens.extend((0..node.vnodes(vnodes)).map(|index| (vnode_token(id, index), number)));
        }
        let circle = Circle::new(tokens, &zone_of, zones);
        let fingerprint = fingerprint::of(&nodes, vnodes, owners);
        Ok(Self { nodes, circle, vnodes, owners, fingerprint })
    }

    /// The node that comes first for `token`.
    #[inline]
    pub fn primary(&self, token: u64) -> &I {
        let vnode = self.circle.find(token);
        &self.nodes[usize::from(vnode.near[0])].id
    }

    /// The node that comes first for the key.
    #[inline]
    pub fn primary_of_key(&self, key: &[u8]) -> &I {
        self.primary(token(key))
    }

    /// The owners of `token`, in preference order. The first four cost one look-up.
    #[inline(always)]
    pub fn owners_of(&self, token: u64) -> Preference<'_, I> {
        Preference::new(self, self.circle.find(token), self.owners)
    }

    /// The owners of the key, in preference order.
    #[inline(always)]
    pub fn owners_of_key(&self, key: &[u8]) -> Preference<'_, I> {
        self.owners_of(token(key))
    }

    /// All nodes in the preference order of `token`: its owners, then the fallbacks.
    ///
    /// The first four cost one look-up; each further node is found by walking the ring.
    #[inline(always)]
    pub fn preference(&self, token: u64) -> Preference<'_, I> {
        Preference::new(self, self.circle.find(token), self.nodes.len())
    }

    /// All nodes in the preference order of the key: its owners, then the fallbacks.
    #[inline(always)]
    pub fn preference_of_key(&self, key: &[u8]) -> Preference<'_, I> {
        self.preference(token(key))
    }

    /// Whether the node is one of the owners of `token`.
    pub fn owns(&self, id: &I, token: u64) -> bool {
        self.owners_of(token).any(|owner| owner.as_ref() == id.as_ref())
    }

    /// How many vnodes the node has, its weight included.
    pub fn vnodes_of(&self, id: &I) -> u32 {
        self.number_of(id).map_or(0, |number| self.nodes[usize::from(number)].vnodes(self.vnodes))
    }

    /// A node's place in [`nodes`](Self::nodes).
    pub(crate) fn number_of(&self, id: &I) -> Option<u16> {
        let place = self.nodes.binary_search_by(|node| node.id.as_ref().cmp(id.as_ref())).ok()?;
        Some(u16::try_from(place).expect("a ring has at most 1,024 nodes"))
    }
}

impl<I> Ring<I> {
    /// The nodes, in order of the bytes of their ids.
    pub fn nodes(&self) -> &[RingNode<I>] {
        &self.nodes
    }

    /// How many vnodes a node of weight 1 has.
    pub fn vnodes(&self) -> u32 {
        self.vnodes
    }

    /// How many owners each key has.
    pub fn owners(&self) -> usize {
        self.owners
    }

    /// A number that two rings share if they place every key alike: a hash over everything that
    /// placement depends on.
    ///
    /// XXH3 (64 bits) under [`FINGERPRINT_SEED`](crate::FINGERPRINT_SEED) of these bytes, all
    /// numbers little-endian: the placement number 1 (4 bytes), [`KEY_SEED`](crate::KEY_SEED) and
    /// [`VNODE_SEED`](crate::VNODE_SEED) (8 each), the vnodes of a node of weight 1, the owners, the
    /// number of nodes (4 each), and for each node in order of its id: the id's length (4) and
    /// bytes; a byte 0, or a byte 1, the zone's length (4) and bytes; the weight as an IEEE 754
    /// double (8). Frozen like the tokens.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

/// The inputs, which say everything; a ring has thousands of vnodes.
impl<I: fmt::Debug> fmt::Debug for Ring<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("nodes", &self.nodes)
            .field("vnodes", &self.vnodes)
            .field("owners", &self.owners)
            .field("fingerprint", &format_args!("{:#018x}", self.fingerprint))
            .finish_non_exhaustive()
    }
}

/// Checks the input; `nodes` are sorted by id.
fn check<I: AsRef<[u8]>>(
    nodes: &[RingNode<I>],
    vnodes: u32,
    owners: usize,
) -> Result<(), RingError> {
    let name = |node: &RingNode<I>| String::from_utf8_lossy(node.id.as_ref()).into_owned();
    if nodes.is_empty() {
        return Err(RingError::NoNodes);
    }
    if nodes.len() > MAX_NODES {
        return Err(RingError::TooManyNodes { nodes: nodes.len() });
    }
    if !(1..=MAX_VNODES).contains(&vnodes) {
        return Err(RingError::Vnodes { vnodes });
    }
    if !(1..=nodes.len()).contains(&owners) {
        return Err(RingError::Owners { owners, nodes: nodes.len() });
    }
    for node in nodes {
        let len_bytes = node.id.as_ref().len();
        if !(1..=MAX_ID_BYTES).contains(&len_bytes) {
            return Err(RingError::IdLength { len_bytes });
        }
        let zone_bytes = node.zone.as_ref().map_or(1, String::len);
        if !(1..=MAX_ZONE_BYTES).contains(&zone_bytes) {
            return Err(RingError::ZoneLength { id: name(node), len_bytes: zone_bytes });
        }
        // Not a number compares as false both ways, so it is refused here too.
        if !(node.weight > 0.0 && node.weight <= MAX_WEIGHT) {
            return Err(RingError::Weight { id: name(node), weight: node.weight });
        }
    }
    if let Some(pair) = nodes.windows(2).find(|pair| pair[0].id.as_ref() == pair[1].id.as_ref()) {
        return Err(RingError::DuplicateId { id: name(&pair[0]) });
    }
    // At most 1,024 nodes of at most 409,600 vnodes: the sum fits.
    let all = nodes.iter().map(|node| node.vnodes(vnodes)).sum();
    if all > MAX_RING_VNODES {
        return Err(RingError::TooManyVnodes { vnodes: all });
    }
    Ok(())
}

/// A number for each node's zone, and how many zones there are.
fn number_zones<I>(nodes: &[RingNode<I>]) -> (Vec<u16>, usize) {
    let mut known = BTreeMap::new();
    let mut zones = 0;
    let mut fresh = || {
        zones += 1;
        zones - 1
    };
    let zone_of = nodes
        .iter()
        .map(|node| match &node.zone {
            Some(zone) => *known.entry(zone.as_str()).or_insert_with(&mut fresh),
            None => fresh(),
        })
        .collect();
    (zone_of, usize::from(zones))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[&'static str]) -> Vec<RingNode<&'static str>> {
        ids.iter().map(|&id| RingNode::new(id)).collect()
    }

    #[test]
    fn bad_input_is_named() {
        let refused = |nodes, vnodes, owners| Ring::new(nodes, vnodes, owners).unwrap_err();
        let many = (0..1_025).map(|i| RingNode::new(i.to_string())).collect();
        assert_eq!(Ring::new(many, 1, 1).unwrap_err(), RingError::TooManyNodes { nodes: 1_025 });
        assert_eq!(refused(vec![], 1, 1), RingError::NoNodes);
        assert_eq!(refused(nodes(&["a"]), 0, 1), RingError::Vnodes { vnodes: 0 });
        assert_eq!(refused(nodes(&["a"]), 4_097, 1), RingError::Vnodes { vnodes: 4_097 });
        assert_eq!(refused(nodes(&["a"]), 1, 0), RingError::Owners { owners: 0, nodes: 1 });
        assert_eq!(refused(nodes(&["a"]), 1, 2), RingError::Owners { owners: 2, nodes: 1 });
        assert_eq!(refused(nodes(&["a", ""]), 1, 1), RingError::IdLength { len_bytes: 0 });
        let long = Ring::new(vec![RingNode::new("x".repeat(256))], 1, 1).unwrap_err();
        assert_eq!(long, RingError::IdLength { len_bytes: 256 });
        let twice = RingError::DuplicateId { id: "b".into() };
        assert_eq!(refused(nodes(&["b", "a", "b"]), 1, 1), twice);
        let zone = refused(vec![RingNode::new("a").with_zone("")], 1, 1);
        assert_eq!(zone, RingError::ZoneLength { id: "a".into(), len_bytes: 0 });
        for weight in [0.0, -1.0, 100.1, f64::INFINITY, f64::NAN] {
            let found = refused(vec![RingNode::new("a").with_weight(weight)], 1, 1);
            assert!(matches!(found, RingError::Weight { .. }), "{weight}: {found:?}");
        }
        let heavy = (0..11).map(|i| RingNode::new(i.to_string()).with_weight(100.0)).collect();
        let found = Ring::new(heavy, 4_096, 1).unwrap_err();
        assert_eq!(found, RingError::TooManyVnodes { vnodes: 11 * 409_600 });
    }

    #[test]
    fn a_weight_gives_that_many_vnodes_rounded_and_at_least_one() {
        let weights = [("a", 1.0), ("b", 0.001), ("c", 2.5), ("d", 0.05)];
        let nodes = weights.map(|(id, weight)| RingNode::new(id).with_weight(weight)).to_vec();
        let ring = Ring::new(nodes, 10, 1).unwrap();
        assert_eq!(weights.map(|(id, _)| ring.vnodes_of(&id)), [10, 1, 25, 1]);
        assert_eq!(ring.vnodes_of(&"e"), 0);
        assert_eq!(ring.circle.len(), 37);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter() {
        let ring = Ring::new(nodes(&["a", "b", "c"]), 16, 2).unwrap();
        let same = Ring::new(nodes(&["c", "a", "b"]), 16, 2).unwrap();
        assert_eq!(ring.fingerprint(), same.fingerprint());
        assert_eq!(ring.nodes(), same.nodes());
        assert!(ring.moved_to(&same).is_empty());
    }

    #[test]
    fn one_node_owns_everything() {
        let ring = Ring::new(nodes(&["a"]), 1, 1).unwrap();
        assert_eq!(ring.primary(0), &"a");
        assert_eq!(ring.preference(u64::MAX).collect::<Vec<_>>(), [&"a"]);
        assert_eq!(ring.owned_by(&"a"), [0..=u64::MAX]);
    }

    #[test]
    fn placement_is_frozen() {
        let ring = Ring::new(nodes(&["n1", "n2", "n3", "n4", "n5", "n6"]), 64, 3).unwrap();
        let orders = ["", "cat", "dog", "user:1"]
            .map(|key| ring.preference_of_key(key.as_bytes()).copied().collect::<String>());
        let frozen = ["n1n4n5n6n2n3", "n1n3n6n4n2n5", "n6n2n1n4n5n3", "n2n1n5n3n4n6"];
        assert_eq!(orders, frozen);
    }
}
