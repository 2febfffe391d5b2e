//! What a book holds and did, for a debug page.

use quorate_record::NodeId;

use crate::HandoffState;

/// All hints of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HintStats {
    /// Durable hints.
    pub count: u64,
    /// What they take, as [`hint_bytes`](crate::hint_bytes) counts.
    pub bytes: u64,
    /// What those take that are not durable yet.
    pub pending_bytes: u64,
    /// How long ago the oldest durable hint was taken on, at most, in milliseconds; 0 if there is
    /// none.
    pub oldest_age_ms: u64,
    /// Records that a target took, so far.
    pub delivered: u64,
    /// Records that a target said are dead, so far.
    pub dead: u64,
    /// Hints that the durable queue found damaged, so far.
    pub damaged: u64,
    /// Courtesy hints dropped because their time was over, so far.
    pub expired: u64,
    /// Courtesy hints dropped because their place was needed, so far.
    pub evicted: u64,
    /// Offers refused, so far.
    pub refused: u64,
}

/// The hints for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStats {
    /// The replica.
    pub target: NodeId,
    /// Durable hints.
    pub count: u64,
    /// What they take, as [`hint_bytes`](crate::hint_bytes) counts.
    pub bytes: u64,
    /// How long ago the oldest durable hint was taken on, at most, in milliseconds; 0 if there is
    /// none.
    pub oldest_age_ms: u64,
    /// What is going on.
    pub state: HandoffState,
    /// The most records that the next batch has.
    pub window: usize,
    /// Why the latest batch that failed did.
    pub last_error: Option<String>,
}
