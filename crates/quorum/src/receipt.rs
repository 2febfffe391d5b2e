//! What a quorum really did.

use crate::put::Round;

/// What stood behind a successful write when the client was answered.
///
/// The write goes on after it: replicas that were late may still take the record, and those that
/// missed it get a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutReceipt<I, V> {
    /// The version that was acknowledged; in the second round not the one the write began with.
    pub version: V,
    /// How many acks were needed.
    pub w: usize,
    /// How many replicas the key has.
    pub n: usize,
    /// The nodes whose acks were counted, at least `w`, each for another replica, in the order of
    /// the preference list.
    pub acks: Vec<I>,
    /// The replicas known to have missed the write, each with who holds its hint.
    pub hinted: Vec<(I, Holder<I>)>,
    /// Whether a fallback's ack was counted, or a fallback's word for what the second version must
    /// be above. Then a read need not meet this write.
    pub sloppy: bool,
    /// The replicas that were not known to hold the write or something newer, in the order of the
    /// preference list. Most of them usually do a moment later.
    pub lacking: Vec<I>,
    /// The round whose answers were counted.
    pub round: Round,
}

/// Who holds the hint for a replica that missed a write.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder<I> {
    /// A node further down the preference list, which acknowledged it.
    Fallback(I),
    /// The node that ran the request.
    Coordinator,
}

/// What stood behind a successful read when the client was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetReceipt<I, P> {
    /// The greatest payload of the answers counted; `None` if `r` replicas said that there is none.
    pub found: Option<P>,
    /// How many answers were needed.
    pub r: usize,
    /// How many replicas the key has.
    pub n: usize,
    /// The nodes whose answers were counted, at least `r`, in the order they came.
    pub from: Vec<I>,
    /// Stale replicas: with [`Repair::Blocking`](crate::Repair::Blocking) those that have taken
    /// the payload, with [`Repair::Async`](crate::Repair::Async) those that will be sent it.
    pub repaired: Vec<I>,
    /// Whether a fallback's answer was counted.
    pub sloppy: bool,
}
