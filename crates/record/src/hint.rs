use crate::{Key, NodeId, Record};

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
