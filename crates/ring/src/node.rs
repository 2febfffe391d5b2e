//! One node as the ring sees it.

/// The greatest length of a node's id, in bytes.
pub const MAX_ID_BYTES: usize = 255;

/// The greatest length of a zone's name, in bytes.
pub const MAX_ZONE_BYTES: usize = 255;

/// The greatest weight of a node.
pub const MAX_WEIGHT: f64 = 100.0;

/// A node to place on a [`Ring`](crate::Ring), with what decides how many keys it gets.
///
/// `I` is whatever names a node in the embedding program; the ring looks at its bytes only.
#[derive(Clone, Debug, PartialEq)]
pub struct RingNode<I> {
    /// Names the node; 1 to [`MAX_ID_BYTES`] bytes, and no other node's.
    pub id: I,
    /// What fails together with this node, such as a rack or a data centre; 1 to
    /// [`MAX_ZONE_BYTES`] bytes. A node without one counts as a zone of its own.
    pub zone: Option<String>,
    /// The node's share of the keys relative to the others; above 0, at most [`MAX_WEIGHT`].
    pub weight: f64,
}

impl<I> RingNode<I> {
    /// A node of weight 1 without a zone.
    pub fn new(id: I) -> Self {
        Self { id, zone: None, weight: 1.0 }
    }

    /// The same node in a zone.
    #[must_use]
    pub fn with_zone(self, zone: impl Into<String>) -> Self {
        Self { zone: Some(zone.into()), ..self }
    }

    /// The same node with another weight.
    #[must_use]
    pub fn with_weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// How many vnodes this node gets if a node of weight 1 gets `vnodes`; at least one.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a checked weight times MAX_VNODES fits in 32 bits"
    )]
    #[expect(clippy::cast_sign_loss, reason = "a checked weight is positive")]
    pub(crate) fn vnodes(&self, vnodes: u32) -> u32 {
        (f64::from(vnodes) * self.weight).round().max(1.0) as u32
    }
}
