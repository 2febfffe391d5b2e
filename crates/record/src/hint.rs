use std::collections::BTreeMap;

use crate::{Key, NodeId, Record, Timestamp};

/// A record kept for a replica that missed it (Dynamo §4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The replica that is to have it.
    pub target: NodeId,
    /// The record's key.
    pub key: Key,
    /// The record.
    pub record: Record,
    /// Whether somebody may count on it.
    pub kind: HintKind,
    /// When it was taken on, in milliseconds since the Unix epoch by the holder's clock.
    pub added_ms: u64,
}

/// Whether somebody may count on a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HintKind {
    /// Held by a coordinator for a replica that missed a write. No quorum counted it, so it may
    /// expire or be dropped for space; anti-entropy then covers for it.
    Courtesy,
    /// Held by a fallback whose acknowledgement may have counted toward a quorum. It is data: it
    /// never expires and is never dropped.
    Owed,
}

/// Where a durable queue keeps a hint. What lies behind was added, or written again, later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HintPlace {
    /// The number of a file of the queue.
    pub segment: u64,
    /// Where in the file, in bytes.
    pub offset: u64,
}

/// What a durable queue holds, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintSummary {
    /// Each target that has hints.
    pub targets: BTreeMap<NodeId, HintsHeld>,
    /// No hint has a version with a lesser timestamp; it may be that none has so little a one.
    /// `None` without hints.
    pub oldest_version: Option<Timestamp>,
    /// No courtesy was taken on earlier, in milliseconds since the Unix epoch; it may be that none
    /// was so early. `None` if there is none.
    pub courtesies_from_ms: Option<u64>,
}

/// The hints for one target, counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HintsHeld {
    /// How many there are.
    pub count: u64,
    /// What they take up in the queue.
    pub bytes: u64,
    /// None was taken on earlier, in milliseconds since the Unix epoch; it may be that none was so
    /// early.
    pub oldest_added_ms: u64,
}

/// Hints read from a durable queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintsFound {
    /// The hints, in the order of the queue.
    pub hints: Vec<Hint>,
    /// Where to go on behind; `None` if there was nothing, or if that was all.
    pub last: Option<HintPlace>,
    /// Hints that were found damaged since the last call, and are gone: whom they were for, and what
    /// they took up.
    pub lost: Vec<(NodeId, u64)>,
    /// What is held.
    pub held: HintSummary,
}
