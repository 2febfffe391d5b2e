use std::fmt;

use quorate_record::{Key, NodeId, Version};

use super::history::OpId;

/// A promise that was broken: where, by which operations, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The key.
    pub key: Key,
    /// The operations that show it, in the order that the [`Fault`] names them.
    pub ops: Vec<OpId>,
    /// What went wrong; boxed, because it is large and rare.
    pub fault: Box<Fault>,
}

/// What went wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Ops: the read.
    #[error("the read found {value}, which nobody ever wrote")]
    Invented {
        /// The value.
        value: u64,
    },
    /// Ops: the read, the write.
    #[error("the read found {value}, which was written for the key {written_for}")]
    OtherKey {
        /// The value.
        value: u64,
        /// The key of its write.
        written_for: Key,
    },
    /// Ops: the read, the write.
    #[error("the read found what a rejected write carried")]
    RejectedSeen,
    /// Ops: the read, the write.
    #[error("the read returned before the write of what it found began")]
    FromTheFuture,
    /// Ops: the read, the write it found, the later write.
    #[error("the read found a write that a later write, acked before the read began, had replaced")]
    Overridden,
    /// Ops: the read, the write.
    #[error("the read found nothing, though a put was acked before it began and no delete fits")]
    MissedPut,

    /// Ops: of the one value what returned first and what began last, then of the other.
    #[error("two values each held after the other: no order of the operations explains both")]
    ZonesOverlap,
    /// Ops: of the value that held what returned first and what began last, then of the other.
    #[error("a value lived only while another one held throughout")]
    ZoneWithin,
    /// Ops: the read, the write that has this version.
    #[error("the read found a tombstone under {version}, which is no delete of this key")]
    NoSuchDelete {
        /// The version.
        version: Version,
    },
    /// Ops: a read of the tombstone.
    #[error("no delete that is left can have written the tombstone {version}")]
    UnexplainedTombstone {
        /// The version.
        version: Version,
    },

    /// Ops: the two, in the order they were invoked.
    #[error("two contents share the version {version}")]
    SharedVersion {
        /// The version.
        version: Version,
    },
    /// Ops: the earlier write, the later write.
    #[error("a write got {later}, not above {earlier} of a write acked before it began")]
    WriteOrder {
        /// Version of the earlier write.
        earlier: Version,
        /// Version of the later write.
        later: Version,
    },
    /// Ops: the write, the read.
    #[error("a read saw {}, less than {acked} that was acked before it began", shown(.seen.as_ref()))]
    StaleVersion {
        /// Version of the write.
        acked: Version,
        /// What the read saw.
        seen: Option<Version>,
    },
    /// Ops: the earlier read, the later read.
    #[error("a read saw {}, after an earlier read had seen {earlier}", shown(.later.as_ref()))]
    ReadOrder {
        /// What the earlier read saw.
        earlier: Version,
        /// What the later read saw.
        later: Option<Version>,
    },

    /// Ops: the write.
    #[error("an acked write is lost: {acked} was acked, the key ends with {}", shown(.last.as_ref()))]
    Lost {
        /// The greatest version that was acked.
        acked: Version,
        /// What the key ends with.
        last: Option<Version>,
    },
    /// Ops: the acked write, and the write of what is there instead, if any.
    #[error("the key ends with {version}, but with another content than was acked under it")]
    Altered {
        /// The version.
        version: Version,
    },
    /// Ops: the write, if there is one.
    #[error("the key ends with {value}, which no write of this key can have left")]
    InventedEnd {
        /// The value.
        value: u64,
    },
    /// Ops: the delete, then the read if it is a read that shows it, then the write of the value.
    #[error("a value came back after its key was deleted, and nobody had written it again")]
    Resurrected,
    /// Ops: the indeterminate write, the acked write that began later, and the read if it is a read
    /// that shows it.
    #[error(
        "an unacked write won over an acked one that began {later_us} µs later, limit {bound_us}"
    )]
    LateGhost {
        /// How much later.
        later_us: u64,
        /// How much is allowed.
        bound_us: u64,
    },

    /// No ops.
    #[error("{node} in its life {incarnation:x} went back from {before} to {after}")]
    WentBack {
        /// The replica.
        node: NodeId,
        /// Its incarnation.
        incarnation: u64,
        /// The version it held.
        before: Version,
        /// The lesser version that replaced it.
        after: Version,
    },
    /// No ops.
    #[error("the owners {one} and {other} hold different bytes")]
    Diverged {
        /// An owner.
        one: NodeId,
        /// Another owner.
        other: NodeId,
    },
    /// No ops.
    #[error("the owner {node} lacks what {holder} holds")]
    Missing {
        /// The owner.
        node: NodeId,
        /// Another owner.
        holder: NodeId,
    },
    /// No ops.
    #[error("{node} holds the key but does not own it")]
    Stray {
        /// The holder.
        node: NodeId,
    },

    /// Ops: the request.
    #[error("the request was answered {answers} times")]
    AnsweredAgain {
        /// How often.
        answers: usize,
    },
    /// Ops: the request.
    #[error("the request was never answered, though client and coordinator lived")]
    Unanswered,
    /// Ops: the request.
    #[error("the answer is none to such a request")]
    WrongAnswer,
    /// Ops: the request.
    #[error("success with {counted} nodes where {needed} were needed")]
    TooFew {
        /// Distinct nodes that the receipt names.
        counted: usize,
        /// How many were needed.
        needed: usize,
    },
    /// Ops: the request.
    #[error("the receipt names {node} twice")]
    CountedTwice {
        /// The node.
        node: NodeId,
    },
    /// Ops: the request.
    #[error("the receipt counts {node}, which is no owner of the key, as one")]
    NotAnOwner {
        /// The node.
        node: NodeId,
    },
    /// Ops: the request.
    #[error("the request forbade fallbacks, and the receipt is sloppy")]
    Sloppy,
}

impl Violation {
    pub(super) fn new(key: &Key, ops: impl Into<Vec<OpId>>, fault: Fault) -> Self {
        Self { key: key.clone(), ops: ops.into(), fault: Box::new(fault) }
    }
}

impl Fault {
    /// The name of the checker that finds such faults. Some faults of reads are found by two.
    #[must_use]
    pub const fn checker(&self) -> &'static str {
        match self {
            Self::Invented { .. }
            | Self::OtherKey { .. }
            | Self::RejectedSeen
            | Self::FromTheFuture
            | Self::Overridden
            | Self::MissedPut => "regular",
            Self::ZonesOverlap
            | Self::ZoneWithin
            | Self::NoSuchDelete { .. }
            | Self::UnexplainedTombstone { .. } => "atomic",
            Self::SharedVersion { .. } | Self::WriteOrder { .. } | Self::StaleVersion { .. } => {
                "order"
            }
            Self::ReadOrder { .. } => "read_order",
            Self::Lost { .. } | Self::Altered { .. } | Self::InventedEnd { .. } => "durable",
            Self::Resurrected => "resurrection",
            Self::LateGhost { .. } => "ghosts",
            Self::WentBack { .. } => "monotonic",
            Self::Diverged { .. } | Self::Missing { .. } | Self::Stray { .. } => "converged",
            Self::AnsweredAgain { .. }
            | Self::Unanswered
            | Self::WrongAnswer
            | Self::TooFew { .. }
            | Self::CountedTwice { .. }
            | Self::NotAnOwner { .. }
            | Self::Sloppy => "honest",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}: {}", self.key, self.fault)?;
        let mut before = " (";
        for op in &self.ops {
            write!(f, "{before}{op}")?;
            before = ", ";
        }
        f.write_str(if self.ops.is_empty() { "" } else { ")" })
    }
}

fn shown(version: Option<&Version>) -> String {
    version.map_or_else(|| "nothing".to_owned(), Version::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_says_which_key_why_and_where_to_look() {
        let key = Key::new("cat").unwrap();
        let fault = Fault::TooFew { counted: 1, needed: 2 };
        assert_eq!(
            Violation::new(&key, [], fault).to_string(),
            "key cat: success with 1 nodes where 2 were needed"
        );
    }
}
