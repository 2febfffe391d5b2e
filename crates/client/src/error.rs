use std::time::Duration;

use quorate_record::KeyError;

/// Why a call got no success. Only [`Indeterminate`](Self::Indeterminate) leaves open what happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// A write that may or may not have happened, or may still happen: read before writing anew.
    #[error("the write may have happened: {detail}")]
    Indeterminate {
        /// What went wrong.
        detail: String,
        /// How many of the replicas needed were heard of.
        acks: Option<Acks>,
    },
    /// A write that happened, but that these owners were not known to hold when the time was over.
    #[error("the write is acknowledged, but not held by {}", lacking.join(", "))]
    Lacking {
        /// The ids of the owners, at least one.
        lacking: Vec<String>,
    },
    /// A write that no replica has or will have.
    #[error("the write was rejected: {detail}")]
    Rejected {
        /// What went wrong.
        detail: String,
        /// How many of the replicas needed were heard of.
        acks: Option<Acks>,
    },
    /// No node could be reached, or too few replicas for a read. Nothing has changed.
    #[error("unavailable: {detail}")]
    Unavailable {
        /// What went wrong.
        detail: String,
        /// How many of the replicas needed were heard of.
        acks: Option<Acks>,
    },
    /// The time for the call was over. Nothing has changed.
    #[error("no answer within {after:?}")]
    TimedOut {
        /// How long the call was given.
        after: Duration,
    },
    /// The value is longer than the cluster takes.
    #[error("the value is too large: {detail}")]
    TooLarge {
        /// What the node says.
        detail: String,
        /// Most bytes that a value may have, if the node says so.
        limit_bytes: Option<u64>,
    },
    /// Such keys do not exist.
    #[error(transparent)]
    BadKey(#[from] KeyError),
    /// The node does not do what it was asked. Asking again will not help.
    #[error("the node answered {status}: {detail}")]
    BadRequest {
        /// The status of its answer.
        status: u16,
        /// What the node says.
        detail: String,
    },
    /// What answered is no Quorate node, or a much newer one.
    #[error("not an answer of a Quorate node: {detail}")]
    BadAnswer {
        /// What is missing or wrong.
        detail: String,
    },
}

/// How many replicas answered, of how many that had to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acks {
    /// How many answers the quorum needs.
    pub needed: u64,
    /// How many there were.
    pub acked: u64,
}

/// Why some text is no node's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no address at all.
    #[error("a client needs the address of a node")]
    None,
    /// It is not of the form that addresses have.
    #[error("{text:?} is no address like 127.0.0.1:9001")]
    Malformed {
        /// The text.
        text: String,
    },
}
