//! Why a request got no success.

/// Why a write got no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The deadline passed first. Trying again is safe.
    #[error("{acked} of {needed} replicas acknowledged in time")]
    TimedOut {
        /// How many acks were needed.
        needed: usize,
        /// How many had come.
        acked: usize,
        /// What became of the record.
        outcome: Outcome,
    },
    /// So many nodes failed that the rest cannot make a quorum. Trying again may reach others.
    #[error("{acked} of {needed} replicas acknowledged, and too few others can be reached")]
    TooFewReplicas {
        /// How many acks were needed.
        needed: usize,
        /// How many had come.
        acked: usize,
        /// What became of the record.
        outcome: Outcome,
    },
    /// The replicas hold a version so far ahead that the coordinator's clock may not pass it.
    #[error("{acked} of {needed} replicas acknowledged; others are too far ahead of this clock")]
    ClockTooFar {
        /// How many acks were needed.
        needed: usize,
        /// How many had come.
        acked: usize,
        /// What became of the record.
        outcome: Outcome,
    },
}

impl PutError {
    /// What became of the record.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut { outcome, .. }
            | Self::TooFewReplicas { outcome, .. }
            | Self::ClockTooFar { outcome, .. } => *outcome,
        }
    }
}

/// What became of a record whose write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No node holds the record and none ever will: every node that was asked said so.
    ///
    /// For the same reason no hint is kept of such a write. A hint would bring it back later, and
    /// "rejected" would have been a lie.
    Rejected,
    /// Some node holds the record or may hold it. It may appear later, or never.
    Indeterminate,
}

/// Why a read got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// The deadline passed first.
    #[error("{answered} of {needed} replicas answered in time")]
    TimedOut {
        /// How many answers were needed.
        needed: usize,
        /// How many counted. Once a blocking read has its answers, only nodes that hold what it
        /// found count.
        answered: usize,
    },
    /// So many nodes failed that the rest cannot make a quorum.
    #[error("{answered} of {needed} replicas answered, and too few others can be reached")]
    TooFewReplicas {
        /// How many answers were needed.
        needed: usize,
        /// How many counted. Once a blocking read has its answers, only nodes that hold what it
        /// found count.
        answered: usize,
    },
}
